//! The sections about what is going on: clients, counters, commands, errors, databases.

use super::{Field, View, field, zero};
use crate::engine::Session;
use crate::engine::pause::{PauseMode, PauseOwner};
use crate::engine::session::ClientKind;
use crate::observe::traffic::Totals;
use std::fmt::Write;
use std::sync::atomic::Ordering;

pub static CLIENTS: &[Field] = &[
    // Replicas are counted apart.
    field("connected_clients", |view| {
        (view.clients.len() - view.server.replication.feeders.len()).to_string()
    })
    .gauge("connected_clients"),
    field("cluster_connections", |view| view.server.cluster_connections().to_string())
        .gauge("cluster_connections"),
    field("maxclients", |view| view.server.config.maxclients.to_string()).gauge("max_clients"),
    field("client_recent_max_input_buffer", |view| {
        let sizes = view.clients.iter().map(|session| session.io.query_bytes);
        sizes.max().unwrap_or(0).to_string()
    })
    .gauge("client_recent_max_input_buffer_bytes"),
    field("client_recent_max_output_buffer", |view| {
        let sizes = view.clients.iter().map(|session| session.io.output_bytes);
        sizes.max().unwrap_or(0).to_string()
    })
    .gauge("client_recent_max_output_buffer_bytes"),
    field("blocked_clients", |view| {
        view.clients.iter().filter(|session| session.is_blocked()).count().to_string()
    })
    .gauge("blocked_clients"),
    field("tracking_clients", |view| view.server.tracking.clients().to_string())
        .gauge("tracking_clients"),
    field("pubsub_clients", |view| {
        let is_listening = |session: &&Session| session.kind == ClientKind::Pubsub;
        view.clients.iter().filter(is_listening).count().to_string()
    })
    .gauge("pubsub_clients"),
    field("watching_clients", |view| {
        view.clients.iter().filter(|session| !session.watched.is_empty()).count().to_string()
    })
    .gauge("watching_clients"),
    field("clients_in_timeout_table", |view| view.server.waiting.timeouts().to_string())
        .gauge("clients_in_timeout_table"),
    field("total_watched_keys", |view| view.server.watched.len().to_string())
        .gauge("total_watched_keys"),
    field("total_blocking_keys", |view| view.server.waiting.keys().to_string())
        .gauge("total_blocking_keys"),
    field("total_blocking_keys_on_nokey", |view| {
        view.server.waiting.keys_watched_for_absence().to_string()
    })
    .gauge("total_blocking_keys_on_nokey"),
    field("paused_reason", |view| {
        let name = match pause(view) {
            None => "none",
            Some((_, PauseOwner::Client, _)) => "client_pause",
            Some((_, PauseOwner::Shutdown, _)) => "shutdown_in_progress",
            Some((_, PauseOwner::Failover | PauseOwner::Cluster, _)) => "failover_in_progress",
        };
        name.to_owned()
    }),
    field("paused_actions", |view| {
        let name = match pause(view) {
            None => "none",
            Some((PauseMode::All, ..)) => "all",
            Some((PauseMode::Writes, ..)) => "write",
        };
        name.to_owned()
    }),
    field("paused_timeout_milliseconds", |view| {
        let now_ms = view.server.clock.mono_ms();
        let left = |(_, _, until_ms): (PauseMode, PauseOwner, u64)| {
            until_ms.min(i64::MAX.unsigned_abs()) - now_ms
        };
        pause(view).map_or(0, left).to_string()
    }),
];

fn pause(view: &View<'_>) -> Option<(PauseMode, PauseOwner, u64)> {
    view.server.pause.in_force(view.server.clock.mono_ms())
}

/// What threads beside the executor's have done.
fn threaded(view: &View<'_>) -> Totals {
    view.server.traffic.totals_beside()
}

/// Which thread has how much to do; the executor's is the first.
pub fn threads(view: &View<'_>, text: &mut String) {
    let threads = view.server.traffic.threads();
    let beside: u64 = threads.iter().skip(1).map(|thread| thread.clients()).sum();
    for (index, thread) in threads.iter().enumerate() {
        let all = view.clients.len() as u64;
        let clients = if index == 0 { all.saturating_sub(beside) } else { thread.clients() };
        let Totals { reads, writes, .. } = thread.totals();
        let line = format_args!("clients={clients},reads={reads},writes={writes}");
        write!(text, "io_thread_{index}:{line}\r\n").expect("writing to a string cannot fail");
    }
}

pub static STATS: &[Field] = &[
    field("total_connections_received", |view| view.server.stats.connections_total.to_string())
        .counter("connections_received_total"),
    field("total_commands_processed", |view| view.server.stats.commands_total.to_string())
        .counter("commands_processed_total"),
    field("instantaneous_ops_per_sec", |view| {
        view.server.stats.operations.per_second().to_string()
    }),
    field("total_net_input_bytes", |view| view.server.traffic.totals().read_bytes.to_string())
        .counter("net_input_bytes_total"),
    field("total_net_output_bytes", |view| view.server.traffic.totals().written_bytes.to_string())
        .counter("net_output_bytes_total"),
    field("total_net_repl_input_bytes", |view| {
        view.server.stats.replication_input_bytes.to_string()
    })
    .counter("net_repl_input_bytes_total"),
    field("total_net_repl_output_bytes", |view| {
        view.server.stats.replication_output_bytes.to_string()
    })
    .counter("net_repl_output_bytes_total"),
    field("instantaneous_input_kbps", |view| kilobytes(view.server.stats.input.per_second())),
    field("instantaneous_output_kbps", |view| kilobytes(view.server.stats.output.per_second())),
    field("instantaneous_input_repl_kbps", |_| kilobytes(0)),
    field("instantaneous_output_repl_kbps", |_| kilobytes(0)),
    field("rejected_connections", |view| view.server.stats.connections_rejected.to_string())
        .counter("rejected_connections_total"),
    field("sync_full", |view| view.server.stats.sync_full.to_string())
        .gauge("replica_resyncs_full"),
    field("sync_partial_ok", |view| view.server.stats.sync_partial_ok.to_string())
        .gauge("replica_partial_resync_accepted"),
    field("sync_partial_err", |view| view.server.stats.sync_partial_err.to_string())
        .gauge("replica_partial_resync_denied"),
    field("expired_subkeys", |view| view.keyspace.stats.expired_fields.to_string())
        .counter("expired_subkeys_total"),
    field("expired_keys", |view| view.keyspace.stats.expired.to_string())
        .counter("expired_keys_total"),
    field("expired_stale_perc", |_| "0.00".to_owned()).gauge("expired_stale_percentage"),
    zero("expired_time_cap_reached_count").counter("expired_time_cap_reached_total"),
    field("expire_cycle_cpu_milliseconds", |view| {
        (view.server.stats.expire_cycle_us / 1000).to_string()
    })
    .counter("expire_cycle_cpu_time_ms_total"),
    field("evicted_keys", |view| view.keyspace.stats.evicted.to_string())
        .counter("evicted_keys_total"),
    field("evicted_clients", |view| view.server.stats.evicted_clients.to_string())
        .counter("evicted_clients_total"),
    field("evicted_scripts", |view| view.server.scripting.cache.evicted_total.to_string())
        .counter("evicted_scripts_total"),
    field("total_eviction_exceeded_time", |view| {
        let mono_us = view.server.clock.now().mono_us;
        let eviction = &view.server.eviction;
        (eviction.exceeded_total_ms() + eviction.exceeded_now_ms(mono_us)).to_string()
    })
    .counter("eviction_exceeded_time_ms_total"),
    field("current_eviction_exceeded_time", |view| {
        view.server.eviction.exceeded_now_ms(view.server.clock.now().mono_us).to_string()
    })
    .gauge("current_eviction_exceeded_time_ms"),
    field("keyspace_hits", |view| view.keyspace.stats.hits.get().to_string())
        .counter("keyspace_hits_total"),
    field("keyspace_misses", |view| view.keyspace.stats.misses.get().to_string())
        .counter("keyspace_misses_total"),
    field("pubsub_channels", |view| view.server.pubsub.counts().channels.to_string())
        .gauge("pubsub_channels"),
    field("pubsub_patterns", |view| view.server.pubsub.counts().patterns.to_string())
        .gauge("pubsub_patterns"),
    field("pubsubshard_channels", |view| view.server.pubsub.counts().shard_channels.to_string())
        .gauge("pubsubshard_channels"),
    zero("latest_fork_usec"),
    zero("total_forks"),
    field("migrate_cached_sockets", |view| {
        view.server.moves.cached_sockets.load(Ordering::Relaxed).to_string()
    })
    .gauge("migrate_cached_sockets_total"),
    field("slave_expires_tracked_keys", |view| {
        view.server.replication.own_expiries.len().to_string()
    })
    .gauge("slave_expires_tracked_keys"),
    zero("active_defrag_hits").gauge("defrag_hits"),
    zero("active_defrag_misses").gauge("defrag_misses"),
    zero("active_defrag_key_hits").gauge("defrag_key_hits"),
    zero("active_defrag_key_misses").gauge("defrag_key_misses"),
    zero("total_active_defrag_time"),
    zero("current_active_defrag_time"),
    field("tracking_total_keys", |view| view.server.tracking.keys().to_string())
        .gauge("tracking_total_keys"),
    field("tracking_total_items", |view| view.server.tracking.items().to_string())
        .gauge("tracking_total_items"),
    field("tracking_total_prefixes", |view| view.server.tracking.prefixes().to_string())
        .gauge("tracking_total_prefixes"),
    field("unexpected_error_replies", |view| {
        view.server.stats.unexpected_error_replies.to_string()
    })
    .counter("unexpected_error_replies"),
    field("total_error_replies", |view| view.server.stats.errors_total.to_string())
        .counter("total_error_replies"),
    zero("dump_payload_sanitizations").counter("dump_payload_sanitizations"),
    field("total_reads_processed", |view| view.server.traffic.totals().reads.to_string())
        .counter("total_reads_processed"),
    field("total_writes_processed", |view| view.server.traffic.totals().writes.to_string())
        .counter("total_writes_processed"),
    field("io_threaded_reads_processed", |view| threaded(view).reads.to_string())
        .counter("io_threaded_reads_processed"),
    field("io_threaded_writes_processed", |view| threaded(view).writes.to_string())
        .counter("io_threaded_writes_processed"),
    field("client_query_buffer_limit_disconnections", |view| {
        view.server.stats.query_limit_disconnections.to_string()
    })
    .counter("client_query_buffer_limit_disconnections_total"),
    field("client_output_buffer_limit_disconnections", |view| {
        view.server.stats.output_limit_disconnections.to_string()
    })
    .counter("client_output_buffer_limit_disconnections_total"),
    zero("reply_buffer_shrinks").counter("reply_buffer_shrinks_total"),
    zero("reply_buffer_expands").counter("reply_buffer_expands_total"),
    field("eventloop_cycles", |view| view.server.stats.turns_total.to_string())
        .counter("eventloop_cycles_total"),
    field("eventloop_duration_sum", |view| view.server.stats.turn_us_total.to_string())
        .counter("eventloop_duration_sum_usec_total"),
    field("eventloop_duration_cmd_sum", |view| {
        (view.server.stats.command_ns_total / 1000).to_string()
    })
    .counter("eventloop_duration_cmd_sum_usec_total"),
    field("instantaneous_eventloop_cycles_per_sec", |view| {
        view.server.stats.turns.per_second().to_string()
    })
    .gauge("instantaneous_eventloop_cycles_per_sec"),
    field("instantaneous_eventloop_duration_usec", |view| {
        let (time, turns) = (&view.server.stats.turn_time, &view.server.stats.turns);
        time.per_second().checked_div(turns.per_second()).unwrap_or(0).to_string()
    })
    .gauge("instantaneous_eventloop_duration_usec"),
    field("acl_access_denied_auth", |view| view.server.stats.access_denied_auth.to_string())
        .counter("acl_access_denied_auth_total"),
    field("acl_access_denied_cmd", |view| view.server.stats.access_denied_command.to_string())
        .counter("acl_access_denied_cmd_total"),
    field("acl_access_denied_key", |view| view.server.stats.access_denied_key.to_string())
        .counter("acl_access_denied_key_total"),
    field("acl_access_denied_channel", |view| view.server.stats.access_denied_channel.to_string())
        .counter("acl_access_denied_channel_total"),
    field("acl_access_denied_tls_cert", |view| {
        view.server.stats.access_denied_certificate.to_string()
    })
    .counter("acl_access_denied_tls_cert_total"),
    field("acl_access_denied_db", |view| view.server.stats.access_denied_database.to_string())
        .counter("acl_access_denied_db_total"),
];

/// What tells developers where a turn's time goes.
pub static DEBUG: &[Field] = &[
    zero("eventloop_duration_aof_sum"),
    field("eventloop_duration_cron_sum", |view| view.server.stats.cron_us_total.to_string()),
    field("eventloop_duration_max", |view| view.server.stats.turn_us_max.to_string()),
    field("eventloop_cmd_per_cycle_max", |view| view.server.stats.turn_commands_max.to_string()),
];

fn kilobytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1024.0)
}

/// One line for each command that was called or refused.
pub fn commands(view: &View<'_>, text: &mut String) {
    for row in view.server.table.rows() {
        let stats = view.server.stats.command(row.id);
        if stats.calls == 0 && stats.rejected == 0 && stats.failed == 0 {
            continue;
        }
        let us = stats.elapsed_ns / 1000;
        let mean = if stats.calls == 0 { 0.0 } else { us as f64 / stats.calls as f64 };
        let written = write!(
            text,
            "cmdstat_{}:calls={},usec={us},usec_per_call={mean:.2},rejected_calls={},\
             failed_calls={}\r\n",
            row.full_name, stats.calls, stats.rejected, stats.failed
        );
        written.expect("writing to a string cannot fail");
    }
}

/// One line for each command that was called, with percentiles of its time.
pub fn latencies(view: &View<'_>, text: &mut String) {
    let server = view.server;
    if !server.config.latency_tracking {
        return;
    }
    for row in server.table.rows() {
        let Some(histogram) = server.stats.histograms.get(row.id) else { continue };
        let percentile = |percentile: &f64| {
            let ns = histogram.value_at_percentile(*percentile);
            format!("p{percentile}={:.3}", ns as f64 / 1000.0)
        };
        let percentiles = &server.config.latency_tracking_info_percentiles.0;
        let shown = percentiles.iter().map(percentile).collect::<Vec<_>>().join(",");
        write!(text, "latency_percentiles_usec_{}:{shown}\r\n", row.full_name)
            .expect("writing to a string cannot fail");
    }
}

/// One line for each error code that was answered.
pub fn errors(view: &View<'_>, text: &mut String) {
    for (code, count) in view.server.stats.errors() {
        // A colon or a line end would break the line's format.
        let code: String = (String::from_utf8_lossy(code).chars())
            .map(|c| if matches!(c, ':' | '\r' | '\n' | '#') { '_' } else { c })
            .collect();
        write!(text, "errorstat_{code}:count={count}\r\n").expect("writing to a string");
    }
}

/// One line for each database that has keys.
pub fn databases(view: &View<'_>, text: &mut String) {
    let now_ms = view.keyspace.now_ms;
    for (index, db) in view.keyspace.dbs().iter().enumerate().filter(|(_, db)| !db.is_empty()) {
        let written = write!(
            text,
            "db{index}:keys={},expires={},avg_ttl={},subexpiry={}\r\n",
            db.len(),
            db.expiring(),
            db.average_ttl_ms(now_ms),
            db.hashes_with_deadlines()
        );
        written.expect("writing to a string cannot fail");
    }
}
