//! The section about replication: what we follow, and who follows us.

use super::{Field, View, field, optional};
use crate::engine::replication::feeders::Feeder;
use crate::repl::link::{Link, Primary, Progress};

pub static REPLICATION: &[Field] = &[
    field("role", |view| role(view).to_owned()),
    optional("master_host", |view| of_primary(view, |primary| primary.host.clone())),
    optional("master_port", |view| of_primary(view, |primary| primary.port.to_string())),
    optional("master_link_status", |view| {
        of_link(view, |link| if link.is_connected() { "up" } else { "down" }.to_owned())
    }),
    optional("master_last_io_seconds_ago", |view| of_link(view, |link| last_io(view, link)))
        .gauge("master_last_io_seconds_ago"),
    optional("master_sync_in_progress", |view| {
        of_link(view, |link| u8::from(link.progress().is_some()).to_string())
    })
    .gauge("master_sync_in_progress"),
    optional("slave_read_repl_offset", |view| {
        of_link(view, |link| link.read_offset().unwrap_or(1).to_string())
    })
    .gauge("slave_repl_read_offset"),
    optional("slave_repl_offset", |view| {
        of_link(view, |link| link.applied_offset().unwrap_or(1).to_string())
    })
    .gauge("slave_repl_offset"),
    optional("master_sync_total_bytes", |view| {
        of_sync(view, |sync| sync.bytes_total.unwrap_or(0).to_string())
    }),
    optional("master_sync_read_bytes", |view| of_sync(view, |sync| sync.bytes_read.to_string())),
    optional("master_sync_left_bytes", |view| {
        of_sync(view, |sync| {
            (sync.bytes_total.unwrap_or(0).cast_signed() - sync.bytes_read.cast_signed())
                .to_string()
        })
    }),
    optional("master_sync_perc", |view| {
        of_sync(view, |sync| match sync.bytes_total {
            Some(total) if total > 0 => {
                format!("{:.2}", sync.bytes_read as f64 * 100.0 / total as f64)
            }
            _ => "0.00".to_owned(),
        })
    }),
    optional("master_sync_last_io_seconds_ago", |view| {
        let last = of_link(view, |link| last_io(view, link))?;
        of_sync(view, |_| last)
    }),
    optional("master_link_down_since_seconds", down_since).gauge("master_link_down_since_seconds"),
    optional("slave_priority", |view| {
        of_link(view, |_| view.server.config.replica_priority.to_string())
    })
    .gauge("slave_priority"),
    optional("slave_read_only", |view| {
        of_link(view, |_| u8::from(view.server.config.replica_read_only).to_string())
    })
    .gauge("slave_read_only"),
    optional("replica_announced", |view| {
        of_link(view, |_| u8::from(view.server.config.replica_announced).to_string())
    })
    .gauge("replica_announced"),
    field("connected_slaves", |view| view.server.replication.feeders.len().to_string())
        .gauge("connected_slaves"),
    optional("min_slaves_good_slaves", |view| {
        let config = &view.server.config;
        let is_asked = config.min_replicas_to_write > 0 && config.min_replicas_max_lag > 0;
        is_asked.then(|| view.server.good_replicas().to_string())
    })
    .gauge("connected_slaves_good"),
    // The lines of all others stand behind this one's value.
    optional("slave0", feeders),
    field("master_failover_state", |view| view.server.replication.failover.word().to_owned()),
    field("master_replid", |view| view.server.replication.history().id().to_string()),
    field("master_replid2", |view| view.server.replication.history().second_id().to_string()),
    field("master_repl_offset", |view| view.server.replication_offset().to_string())
        .gauge("master_repl_offset"),
    field("second_repl_offset", |view| {
        view.server.replication.history().second_offset_end().to_string()
    })
    .gauge("second_repl_offset"),
    field("repl_backlog_active", |view| {
        u8::from(view.server.replication.backlog.is_some()).to_string()
    })
    .gauge("repl_backlog_is_active"),
    field("repl_backlog_size", |view| view.server.config.repl_backlog_size.to_string())
        .gauge("replication_backlog_bytes"),
    field("repl_backlog_first_byte_offset", |view| {
        let backlog = view.server.replication.backlog.as_ref();
        backlog.map_or(0, |backlog| backlog.start() + 1).to_string()
    })
    .gauge("repl_backlog_first_byte_offset"),
    field("repl_backlog_histlen", |view| {
        let backlog = view.server.replication.backlog.as_ref();
        backlog.map_or(0, crate::repl::backlog::Backlog::len).to_string()
    })
    .gauge("repl_backlog_history_bytes"),
];

/// In the word of INFO.
pub fn role(view: &View<'_>) -> &'static str {
    if view.server.is_replica() { "slave" } else { "master" }
}

fn of_primary(view: &View<'_>, print: impl FnOnce(&Primary) -> String) -> Option<String> {
    view.server.replication.link.primary().map(print)
}

fn of_link(view: &View<'_>, print: impl FnOnce(&Link) -> String) -> Option<String> {
    view.server.is_replica().then(|| print(&view.server.replication.link))
}

fn of_sync(view: &View<'_>, print: impl FnOnce(Progress) -> String) -> Option<String> {
    view.server.replication.link.progress().map(print)
}

fn seconds_since(view: &View<'_>, then_ms: u64) -> String {
    (view.server.clock.mono_ms().saturating_sub(then_ms) / 1000).to_string()
}

/// Seconds since the primary was heard of, -1 while there is no link.
fn last_io(view: &View<'_>, link: &Link) -> String {
    let is_live = link.is_connected() || link.progress().is_some();
    match link.io_ms().filter(|_| is_live) {
        Some(then_ms) => seconds_since(view, then_ms),
        None => "-1".to_owned(),
    }
}

/// Seconds since the link was lost, -1 if it was never up.
fn down_since(view: &View<'_>) -> Option<String> {
    let link = &view.server.replication.link;
    let is_down = view.server.is_replica() && !link.is_connected();
    let since = |then_ms| seconds_since(view, then_ms);
    is_down.then(|| link.down_ms().map_or_else(|| "-1".to_owned(), since))
}

fn feeders(view: &View<'_>) -> Option<String> {
    let now_ms = view.server.clock.mono_ms();
    let line = |feeder: &Feeder| {
        format!(
            "ip={},port={},state={},offset={},lag={}",
            feeder.ip(),
            feeder.announced.port,
            feeder.word(),
            feeder.shown_ack(),
            feeder.lag_seconds(now_ms)
        )
    };
    let mut lines = view.server.replication.feeders.iter().map(line);
    let mut text = lines.next()?;
    for (at, line) in lines.enumerate() {
        text.push_str(&format!("\r\nslave{}:{line}", at + 1));
    }
    Some(text)
}
