//! The sections about the process and its relations: server, persistence, replication, CPU,
//! cluster.

use super::{Field, field, zero};
use crate::config::REDIS_VERSION;

pub static SERVER: &[Field] = &[
    field("redis_version", |_| REDIS_VERSION.to_owned()),
    field("redis_git_sha1", |_| "00000000".to_owned()),
    field("redis_git_dirty", |_| "0".to_owned()),
    field("redis_build_id", |_| format!("rufous-{}", env!("CARGO_PKG_VERSION"))),
    field("redis_mode", |_| "standalone".to_owned()),
    field("os", |view| view.process.os.clone()),
    field("arch_bits", |_| usize::BITS.to_string()),
    field("monotonic_clock", |_| "POSIX clock_gettime".to_owned()),
    field("multiplexing_api", |_| "epoll".to_owned()),
    field("atomicvar_api", |_| "rust".to_owned()),
    field("gcc_version", |_| "0.0.0".to_owned()),
    field("process_id", |view| view.server.parts.process_id.to_string()),
    field("process_supervised", |_| "no".to_owned()),
    field("run_id", |view| view.server.run_id.clone()),
    field("tcp_port", |view| view.server.config.port.to_string()),
    field("server_time_usec", |view| view.server.clock.now().unix_us.to_string()),
    field("uptime_in_seconds", |view| view.server.clock.uptime_seconds().to_string()),
    field("uptime_in_days", |view| (view.server.clock.uptime_seconds() / 86_400).to_string()),
    field("hz", |view| view.server.config.hz.to_string()),
    field("configured_hz", |view| view.server.config.hz.to_string()),
    field("lru_clock", |view| view.keyspace.access.seconds().to_string()),
    field("executable", |view| view.server.parts.executable.clone()),
    field("config_file", |view| {
        let path = view.server.parts.config_path.as_ref();
        path.map_or_else(String::new, |path| path.display().to_string())
    }),
    field("io_threads_active", |_| "0".to_owned()),
    field("listener0", |view| {
        let addresses: Vec<_> =
            view.server.config.bind.0.iter().map(|text| text.to_string_lossy()).collect();
        let bound = addresses.iter().map(|a| format!("bind={a}")).collect::<Vec<_>>().join(",");
        format!("name=tcp,{bound},port={}", view.server.config.port)
    }),
    field("rufous_version", |_| env!("CARGO_PKG_VERSION").to_owned()),
];

pub static PERSISTENCE: &[Field] = &[
    field("loading", |view| flag(view.server.loading.is_some())),
    zero("async_loading"),
    zero("current_cow_peak"),
    zero("current_cow_size"),
    zero("current_cow_size_age"),
    field("current_fork_perc", |_| "0.00".to_owned()),
    zero("current_save_keys_processed"),
    zero("current_save_keys_total"),
    field("rdb_changes_since_last_save", |view| {
        (view.keyspace.changes.dirty - view.server.dirty_at_save).to_string()
    }),
    zero("rdb_bgsave_in_progress"),
    field("rdb_last_save_time", |view| view.server.last_save_unix_seconds.to_string()),
    field("rdb_last_bgsave_status", |_| "ok".to_owned()),
    field("rdb_last_bgsave_time_sec", |_| "-1".to_owned()),
    field("rdb_current_bgsave_time_sec", |_| "-1".to_owned()),
    zero("rdb_saves"),
    zero("rdb_last_cow_size"),
    zero("rdb_last_load_keys_expired"),
    zero("rdb_last_load_keys_loaded"),
    field("aof_enabled", |view| flag(view.server.aof.is_on())),
    field("aof_rewrite_in_progress", |view| flag(view.server.aof.is_rewriting())),
    field("aof_rewrite_scheduled", |view| flag(view.server.rewrites.is_scheduled)),
    field("aof_last_rewrite_time_sec", |view| maybe(view.server.rewrites.last_seconds)),
    field("aof_current_rewrite_time_sec", |view| maybe(view.server.rewrite_seconds())),
    field("aof_last_bgrewrite_status", |view| status(!view.server.rewrites.last_failed)),
    field("aof_rewrites", |view| view.server.rewrites.total.to_string()),
    field("aof_rewrites_consecutive_failures", |view| {
        view.server.rewrites.consecutive_failures.to_string()
    }),
    field("aof_last_write_status", |view| status(!view.server.aof.has_fault())),
    zero("aof_last_cow_size"),
    zero("module_fork_in_progress"),
    zero("module_fork_last_cow_size"),
    field("aof_current_size", |view| view.server.aof.size_bytes().to_string()),
    field("aof_base_size", |view| view.server.rewrites.base_size_bytes.to_string()),
    field("aof_pending_rewrite", |view| flag(view.server.rewrites.is_scheduled)),
    field("aof_buffer_length", |view| view.server.aof.buffered_bytes().to_string()),
    field("aof_pending_bio_fsync", |view| flag(view.server.aof.is_syncing())),
    field("aof_delayed_fsync", |view| view.server.aof.delayed_syncs.to_string()),
    // Ours: how much a loss of power would cost now.
    field("aof_unsynced_ms", |view| {
        (view.server.aof.unsynced_us(view.server.moment()) / 1000).to_string()
    }),
];

fn flag(is_set: bool) -> String {
    u8::from(is_set).to_string()
}

fn status(is_good: bool) -> String {
    if is_good { "ok" } else { "err" }.to_owned()
}

/// Seconds, or what Redis prints where there are none.
fn maybe(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "-1".to_owned(), |seconds| seconds.to_string())
}

pub static REPLICATION: &[Field] = &[
    field("role", |_| "master".to_owned()),
    zero("connected_slaves"),
    field("master_failover_state", |_| "no-failover".to_owned()),
    field("master_replid", |view| view.server.replication_id.clone()),
    field("master_replid2", |_| "0".repeat(40)),
    zero("master_repl_offset"),
    field("second_repl_offset", |_| "-1".to_owned()),
    zero("repl_backlog_active"),
    field("repl_backlog_size", |view| view.server.config.repl_backlog_size.to_string()),
    zero("repl_backlog_first_byte_offset"),
    zero("repl_backlog_histlen"),
];

pub static CPU: &[Field] = &[
    field("used_cpu_sys", |view| seconds(view.process.system_us)),
    field("used_cpu_user", |view| seconds(view.process.user_us)),
    field("used_cpu_sys_children", |_| seconds(0)),
    field("used_cpu_user_children", |_| seconds(0)),
    field("used_cpu_sys_main_thread", |view| seconds(view.process.main_system_us)),
    field("used_cpu_user_main_thread", |view| seconds(view.process.main_user_us)),
];

pub static CLUSTER: &[Field] = &[zero("cluster_enabled")];

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}
