//! The memory section.

use super::{Field, View, field, human, ratio, zero};
use crate::config::Choice as _;
use crate::engine::eviction;
use crate::engine::scripting::ScriptFigures;
use crate::engine::session::ClientKind;
use crate::structs::pins;

pub static MEMORY: &[Field] = &[
    field("used_memory", |view| used(view).to_string()).gauge("memory_used_bytes"),
    field("used_memory_human", |view| human(used(view))),
    field("used_memory_rss", |view| view.process.resident_bytes.to_string())
        .gauge("memory_used_rss_bytes"),
    field("used_memory_rss_human", |view| human(view.process.resident_bytes)),
    field("used_memory_peak", |view| peak(view).to_string()).gauge("memory_used_peak_bytes"),
    field("used_memory_peak_human", |view| human(peak(view))),
    field("used_memory_peak_perc", |view| percent(used(view), peak(view))),
    field("used_memory_overhead", |view| overhead(view).to_string())
        .gauge("memory_used_overhead_bytes"),
    field("used_memory_startup", |view| startup(view).to_string())
        .gauge("memory_used_startup_bytes"),
    field("used_memory_dataset", |view| dataset(view).to_string())
        .gauge("memory_used_dataset_bytes"),
    field("used_memory_dataset_perc", |view| {
        percent(dataset(view), used(view).saturating_sub(startup(view)))
    }),
    field("allocator_allocated", |view| used(view).to_string()).gauge("allocator_allocated_bytes"),
    field("allocator_active", |view| view.memory.active_bytes.to_string())
        .gauge("allocator_active_bytes"),
    field("allocator_resident", |view| view.memory.resident_bytes.to_string())
        .gauge("allocator_resident_bytes"),
    zero("allocator_muzzy").gauge("allocator_muzzy_bytes"),
    field("total_system_memory", |view| view.process.system_memory_bytes.to_string())
        .gauge("total_system_memory_bytes"),
    field("total_system_memory_human", |view| human(view.process.system_memory_bytes)),
    field("used_memory_lua", |view| scripts(view).vm_eval.to_string())
        .gauge("memory_used_lua_bytes"),
    field("used_memory_vm_eval", |view| scripts(view).vm_eval.to_string())
        .gauge("memory_used_vm_eval_bytes"),
    field("used_memory_lua_human", |view| human(scripts(view).vm_eval as u64)),
    field("used_memory_scripts_eval", |view| scripts(view).eval.to_string())
        .gauge("memory_used_scripts_eval_bytes"),
    field("number_of_cached_scripts", |view| scripts(view).cached.to_string())
        .gauge("number_of_cached_scripts"),
    field("number_of_functions", |view| scripts(view).functions.to_string())
        .gauge("number_of_functions"),
    field("number_of_libraries", |view| scripts(view).libraries.to_string())
        .gauge("number_of_libraries"),
    field("used_memory_vm_functions", |view| scripts(view).vm_functions.to_string())
        .gauge("memory_used_vm_functions_bytes"),
    field("used_memory_vm_total", |view| scripts(view).vm_total().to_string())
        .gauge("memory_used_vm_total"),
    field("used_memory_vm_total_human", |view| human(scripts(view).vm_total() as u64)),
    field("used_memory_functions", |view| scripts(view).library_bytes.to_string())
        .gauge("memory_used_functions_bytes"),
    field("used_memory_scripts", |view| scripts(view).total().to_string())
        .gauge("memory_used_scripts_bytes"),
    field("used_memory_scripts_human", |view| human(scripts(view).total() as u64)),
    field("maxmemory", |view| view.server.config.maxmemory.to_string()).gauge("memory_max_bytes"),
    field("maxmemory_human", |view| human(view.server.config.maxmemory)),
    field("maxmemory_policy", |view| view.server.config.maxmemory_policy.word().to_owned()),
    field("allocator_frag_ratio", |view| ratio(view.memory.active_bytes as u64, used(view)))
        .gauge("allocator_frag_ratio"),
    field("allocator_frag_bytes", |view| {
        (view.memory.active_bytes as u64).saturating_sub(used(view)).to_string()
    })
    .gauge("allocator_frag_bytes"),
    field("allocator_rss_ratio", |view| {
        ratio(view.memory.resident_bytes as u64, view.memory.active_bytes as u64)
    })
    .gauge("allocator_rss_ratio"),
    field("allocator_rss_bytes", |view| {
        view.memory.resident_bytes.saturating_sub(view.memory.active_bytes).to_string()
    })
    .gauge("allocator_rss_bytes"),
    field("rss_overhead_ratio", |view| {
        ratio(view.process.resident_bytes, view.memory.resident_bytes as u64)
    }),
    field("rss_overhead_bytes", |view| {
        view.process.resident_bytes.saturating_sub(view.memory.resident_bytes as u64).to_string()
    }),
    field("mem_fragmentation_ratio", |view| ratio(view.process.resident_bytes, used(view)))
        .gauge("mem_fragmentation_ratio"),
    field("mem_fragmentation_bytes", |view| {
        view.process.resident_bytes.saturating_sub(used(view)).to_string()
    })
    .gauge("mem_fragmentation_bytes"),
    field("mem_not_counted_for_evict", |view| not_counted(view).to_string())
        .gauge("mem_not_counted_for_eviction_bytes"),
    // Ours: what only snapshots keep.
    field("mem_snapshot_pinned", |_| pins::bytes().to_string()).gauge("mem_snapshot_pinned_bytes"),
    field("mem_replication_backlog", |view| (stream_bytes(view) - unread_bytes(view)).to_string())
        .gauge("mem_replication_backlog_bytes"),
    field("mem_total_replication_buffers", |view| stream_bytes(view).to_string())
        .gauge("mem_total_replication_buffers_bytes"),
    field("mem_clients_slaves", |view| {
        let own = view.clients.memory().of(ClientKind::Replica) as u64;
        (own + unread_bytes(view)).to_string()
    })
    .gauge("mem_clients_slaves"),
    field("mem_clients_normal", |view| clients(view).to_string()).gauge("mem_clients_normal"),
    field("mem_cluster_links", |view| view.server.bus_bytes().to_string())
        .gauge("mem_cluster_links_bytes"),
    zero("mem_aof_buffer").gauge("mem_aof_buffer_bytes"),
    field("mem_allocator", |_| "jemalloc-5.3.1".to_owned()),
    zero("mem_overhead_db_hashtable_rehashing").gauge("mem_overhead_db_hashtable_rehashing_bytes"),
    zero("active_defrag_running").gauge("active_defrag_running"),
    field("lazyfree_pending_objects", |view| {
        let done = view.server.stats.lazy_freed_objects;
        view.server.lazy_free_total.saturating_sub(done).to_string()
    })
    .gauge("lazyfree_pending_objects"),
    field("lazyfreed_objects", |view| {
        let done = view.server.stats.lazy_freed_objects;
        done.saturating_sub(view.server.lazy_freed_at_reset).to_string()
    })
    .gauge("lazyfreed_objects"),
];

pub fn used(view: &View<'_>) -> u64 {
    view.memory.used_bytes as u64
}

pub fn peak(view: &View<'_>) -> u64 {
    (view.server.memory_peak as u64).max(used(view))
}

pub fn startup(view: &View<'_>) -> u64 {
    view.server.memory_at_start as u64
}

fn not_counted(view: &View<'_>) -> u64 {
    eviction::not_counted_bytes(view.keyspace, view.clients, view.server)
}

pub fn clients(view: &View<'_>) -> u64 {
    let memory = view.clients.memory();
    let kinds = [ClientKind::Normal, ClientKind::Pubsub, ClientKind::Primary];
    kinds.iter().map(|kind| memory.of(*kind) as u64).sum()
}

/// What is not data: the server itself, its clients and scripts, the nodes of the keyspace, and
/// what only snapshots keep.
pub fn overhead(view: &View<'_>) -> u64 {
    let nodes: usize = view.keyspace.dbs().iter().map(|db| db.overhead_bytes()).sum();
    let scripts = scripts(view);
    let scripts = scripts.vm_total() + scripts.total();
    let parts = startup(view) + clients(view) + (nodes + scripts) as u64 + pins::bytes();
    parts.min(used(view))
}

pub fn dataset(view: &View<'_>) -> u64 {
    used(view) - overhead(view)
}

/// What is kept of the write stream for replicas.
fn stream_bytes(view: &View<'_>) -> u64 {
    let backlog = view.server.replication.backlog.as_ref();
    backlog.map_or(0, |backlog| backlog.memory() as u64)
}

/// The part of it that only slow replicas need.
fn unread_bytes(view: &View<'_>) -> u64 {
    view.server.replication.unread_bytes(view.server.config.repl_backlog_size)
}

fn percent(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    format!("{share:.2}%")
}

pub fn scripts(view: &View<'_>) -> ScriptFigures {
    view.server.scripting.figures()
}
