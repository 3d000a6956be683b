//! The section about files: loading, snapshots, the append-only file.

use super::{Field, View, field, optional, zero};
use crate::engine::Server;
use crate::engine::loading::Loading;
use crate::structs::pins;

pub static PERSISTENCE: &[Field] = &[
    field("loading", |view| u8::from(view.server.loading.is_some()).to_string())
        .gauge("loading_dump_file"),
    field("async_loading", |view| u8::from(view.server.is_loading_aside()).to_string())
        .gauge("async_loading"),
    field("current_cow_peak", |view| {
        let server = view.server;
        server.saving.pinned_peak_bytes().max(server.rewrites.pinned_peak_bytes()).to_string()
    }),
    field("current_cow_size", |view| pinned_by_save(view).to_string()),
    zero("current_cow_size_age"),
    field("current_fork_perc", |view| {
        let (done, total) = view.server.saving.keys();
        format!("{:.2}", done as f64 * 100.0 / total.max(1) as f64)
    }),
    field("current_save_keys_processed", |view| view.server.saving.keys().0.to_string()),
    field("current_save_keys_total", |view| view.server.saving.keys().1.to_string()),
    field("rdb_changes_since_last_save", |view| {
        (view.keyspace.changes.dirty - view.server.saving.dirty_at_save).to_string()
    })
    .gauge("rdb_changes_since_last_save"),
    // A snapshot that replicas are sent counts, as it does where a child makes it.
    field("rdb_bgsave_in_progress", |view| {
        let sends = view.server.replication.transfers.are_running();
        u8::from(sends || view.server.saving.is_running()).to_string()
    })
    .gauge("rdb_bgsave_in_progress"),
    field("rdb_last_save_time", |view| view.server.saving.last_save_unix_seconds().to_string())
        .gauge("rdb_last_save_timestamp_seconds"),
    field("rdb_last_bgsave_status", |view| status(view.server.saving.last_succeeded))
        .gauge("rdb_last_bgsave_status"),
    field("rdb_last_bgsave_time_sec", |view| {
        or_minus_one(view.server.saving.last_duration_seconds)
    })
    .gauge("rdb_last_bgsave_duration_sec"),
    field("rdb_current_bgsave_time_sec", |view| {
        or_minus_one(view.server.saving.current_seconds(view.server.clock.now()))
    })
    .gauge("rdb_current_bgsave_duration_sec"),
    field("rdb_saves", |view| view.server.saving.saves_total.to_string()).gauge("rdb_saves_total"),
    field("rdb_last_cow_size", |view| view.server.saving.last_pinned_bytes.to_string())
        .gauge("rdb_last_cow_size_bytes"),
    field("rdb_last_load_keys_expired", |view| view.server.last_load.keys_expired.to_string())
        .gauge("rdb_last_load_expired_keys"),
    field("rdb_last_load_keys_loaded", |view| view.server.last_load.keys_loaded.to_string())
        .gauge("rdb_last_load_loaded_keys"),
    field("aof_enabled", |view| flag(view.server.aof.is_on())).gauge("aof_enabled"),
    field("aof_rewrite_in_progress", |view| flag(view.server.is_rewriting()))
        .gauge("aof_rewrite_in_progress"),
    field("aof_rewrite_scheduled", |view| flag(view.server.rewrites.is_scheduled))
        .gauge("aof_rewrite_scheduled"),
    field("aof_last_rewrite_time_sec", |view| or_minus_one(view.server.rewrites.last_seconds))
        .gauge("aof_last_rewrite_duration_sec"),
    field("aof_current_rewrite_time_sec", |view| or_minus_one(view.server.rewrite_seconds()))
        .gauge("aof_current_rewrite_duration_sec"),
    field("aof_last_bgrewrite_status", |view| status(!view.server.rewrites.last_failed))
        .gauge("aof_last_bgrewrite_status"),
    field("aof_rewrites", |view| view.server.rewrites.total.to_string()),
    field("aof_rewrites_consecutive_failures", |view| {
        view.server.rewrites.consecutive_failures.to_string()
    }),
    field("aof_last_write_status", |view| status(!view.server.aof.has_fault()))
        .gauge("aof_last_write_status"),
    field("aof_last_cow_size", |view| view.server.rewrites.last_pinned_bytes.to_string())
        .gauge("aof_last_cow_size_bytes"),
    zero("module_fork_in_progress").gauge("module_fork_in_progress"),
    zero("module_fork_last_cow_size").gauge("module_fork_last_cow_size"),
    optional("aof_current_size", |view| if_on(view, |server| server.aof.size_bytes()))
        .gauge("aof_current_size_bytes"),
    optional("aof_base_size", |view| if_on(view, |server| server.rewrites.base_size_bytes))
        .gauge("aof_base_size_bytes"),
    optional("aof_pending_rewrite", |view| {
        if_on(view, |server| u64::from(server.rewrites.is_scheduled))
    })
    .gauge("aof_pending_rewrite"),
    optional("aof_buffer_length", |view| if_on(view, |server| server.aof.buffered_bytes() as u64))
        .gauge("aof_buffer_length"),
    optional("aof_pending_bio_fsync", |view| {
        if_on(view, |server| u64::from(server.aof.is_syncing()))
    })
    .gauge("aof_pending_bio_fsync"),
    optional("aof_delayed_fsync", |view| if_on(view, |server| server.aof.delayed_syncs))
        .gauge("aof_delayed_fsync"),
    // Ours: how much a loss of power would cost now.
    optional("aof_unsynced_ms", |view| {
        if_on(view, |server| server.aof.unsynced_us(server.moment()) / 1000)
    }),
    optional("loading_start_time", |view| {
        loading(view, |loading| (loading.started.unix_us / 1_000_000).to_string())
    }),
    optional("loading_total_bytes", |view| {
        loading(view, |loading| loading.total_bytes.to_string())
    }),
    optional("loading_rdb_used_mem", |view| {
        loading(view, |loading| loading.used_memory_then.to_string())
    }),
    optional("loading_loaded_bytes", |view| {
        loading(view, |loading| loading.loaded_bytes.to_string())
    }),
    optional("loading_loaded_perc", |view| {
        loading(view, |loading| format!("{:.2}", loading.percent()))
    }),
    optional("loading_eta_seconds", |view| {
        let now = view.server.clock.now();
        loading(view, |loading| loading.eta_seconds(now).to_string())
    }),
];

/// What the running save or rewrite keeps in memory that is not data any more.
fn pinned_by_save(view: &View<'_>) -> u64 {
    let is_writing = view.server.saving.is_running() || view.server.is_rewriting();
    if is_writing { pins::bytes() } else { 0 }
}

fn flag(is_set: bool) -> String {
    u8::from(is_set).to_string()
}

fn if_on(view: &View<'_>, print: impl Fn(&Server) -> u64) -> Option<String> {
    view.server.aof.is_on().then(|| print(view.server).to_string())
}

fn status(is_good: bool) -> String {
    if is_good { "ok" } else { "err" }.to_owned()
}

fn or_minus_one(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "-1".to_owned(), |seconds| seconds.to_string())
}

fn loading(view: &View<'_>, print: impl Fn(&Loading) -> String) -> Option<String> {
    view.server.loading.as_ref().map(print)
}
