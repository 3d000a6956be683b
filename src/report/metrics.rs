//! The text that Prometheus scrapes, with the metric names of redis_exporter, so that its
//! dashboards and alerts work without it.
//!
//! Most metrics are INFO fields under other names, which stand in the rows of the fields. Those
//! with labels are written by hand below.
//!
//! Invariant: every metric is announced once, by its HELP and TYPE lines, before its samples.

use super::info::{self, View};
use crate::config::{Choice as _, OutputLimit, REDIS_VERSION};
use crate::engine::replication::feeders::Feeder;
use crate::observe::latency;
use crate::observe::stats::CommandStats;
use std::fmt::Write;

/// What Prometheus is told of the values of a metric.
#[derive(Clone, Copy)]
pub enum Type {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    Histogram,
    Summary,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
            Type::Summary => "summary",
        }
    }
}

/// The text being written.
struct Page {
    text: String,
}

impl Page {
    /// Announces a metric.
    fn metric(&mut self, name: &str, kind: Type, help: &str) {
        let kind = kind.name();
        self.line(format_args!("# HELP redis_{name} {help}"));
        self.line(format_args!("# TYPE redis_{name} {kind}"));
    }

    /// One sample of the metric announced last.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str("redis_");
        self.text.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            let written = write!(self.text, "{label}=\"{}\"", escaped(text));
            written.expect("writing to a string cannot fail");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.line(format_args!(" {value}"));
    }

    /// A metric with one sample.
    fn single(&mut self, name: &str, kind: Type, help: &str, value: f64) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.write_fmt(line).expect("writing to a string cannot fail");
        self.text.push('\n');
    }
}

/// A label's value: what the format sets apart is escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The whole page.
pub fn page(view: &View<'_>) -> String {
    let mut page = Page { text: String::with_capacity(64 * 1024) };
    page.single("up", Type::Gauge, "Whether the server answers", 1.0);
    fields(view, &mut page);
    instance(view, &mut page);
    limits(view, &mut page);
    replication(view, &mut page);
    databases(view, &mut page);
    errors(view, &mut page);
    commands(view, &mut page);
    latencies(view, &mut page);
    slow_log(view, &mut page);
    spikes(view, &mut page);
    page.text
}

/// The INFO fields that are metrics.
fn fields(view: &View<'_>, page: &mut Page) {
    for field in info::fields() {
        let Some(metric) = field.metric() else { continue };
        let Some(text) = field.print(view) else { continue };
        let value = match text.as_str() {
            "ok" => 1.0,
            "err" => 0.0,
            text => match text.parse() {
                Ok(number) => number,
                Err(_) => continue,
            },
        };
        page.single(metric.name, metric.kind, &format!("INFO field {}", field.name()), value);
    }
}

fn instance(view: &View<'_>, page: &mut Page) {
    let server = view.server;
    let started = server.clock.started().unix_us as f64 / 1e6;
    page.single("start_time_seconds", Type::Gauge, "Unix time of the start", started.floor());
    let info = |name: &str| info::value(view, name).unwrap_or_default();
    let build = format!("rufous-{}", env!("CARGO_PKG_VERSION"));
    page.metric("instance_info", Type::Gauge, "What this instance is");
    let labels: [(&str, &str); 10] = [
        ("role", &info("role")),
        ("redis_version", REDIS_VERSION),
        ("redis_build_id", &build),
        ("redis_mode", &info("redis_mode")),
        ("os", &view.process.os),
        ("maxmemory_policy", server.config.maxmemory_policy.word()),
        ("tcp_port", &server.config.port.to_string()),
        ("run_id", &server.run_id),
        ("process_id", &server.parts.process_id.to_string()),
        ("master_replid", &info("master_replid")),
    ];
    page.sample("instance_info", &labels, 1.0);
}

/// Directives that alerts compare with.
fn limits(view: &View<'_>, page: &mut Page) {
    let config = &view.server.config;
    let help = "Configured limit";
    page.single("config_maxmemory", Type::Gauge, help, config.maxmemory as f64);
    page.single("config_maxclients", Type::Gauge, help, f64::from(config.maxclients));
    let limits = &config.client_output_buffer_limit;
    let classes: [(&str, OutputLimit); 3] =
        [("normal", limits.normal), ("slave", limits.replica), ("pubsub", limits.pubsub)];
    let name = "config_client_output_buffer_limit_bytes";
    page.metric(name, Type::Gauge, help);
    for (class, limit) in &classes {
        page.sample(name, &[("class", class), ("limit", "hard")], limit.hard_bytes as f64);
        page.sample(name, &[("class", class), ("limit", "soft")], limit.soft_bytes as f64);
    }
    let name = "config_client_output_buffer_limit_overcome_seconds";
    page.metric(name, Type::Gauge, help);
    for (class, limit) in &classes {
        page.sample(name, &[("class", class), ("limit", "soft")], limit.soft_seconds as f64);
    }
}

/// Our replicas, and the primary that we follow, by their addresses.
fn replication(view: &View<'_>, page: &mut Page) {
    let replication = &view.server.replication;
    let now_ms = view.server.clock.mono_ms();
    type Value = fn(&Feeder, u64) -> f64;
    let rows: [(&str, &str, Value); 2] = [
        ("connected_slave_offset_bytes", "What a replica has acknowledged", |own, _| {
            own.ack as f64
        }),
        ("connected_slave_lag_seconds", "Since a replica was heard of", |own, now_ms| {
            own.lag_seconds(now_ms) as f64
        }),
    ];
    for (name, help, value) in rows {
        page.metric(name, Type::Gauge, help);
        for feeder in replication.feeders.iter() {
            let port = feeder.announced.port.to_string();
            let labels =
                [("slave_ip", feeder.ip()), ("slave_port", &port), ("slave_state", feeder.word())];
            page.sample(name, &labels, value(feeder, now_ms));
        }
    }
    let Some(primary) = replication.link.primary() else { return };
    let port = primary.port.to_string();
    let read_only = u8::from(view.server.config.replica_read_only).to_string();
    let address = [("master_host", primary.host.as_str()), ("master_port", port.as_str())];
    page.metric("slave_info", Type::Gauge, "Whom this replica follows");
    let info = [address[0], address[1], ("read_only", &read_only)];
    page.sample("slave_info", &info, 1.0);
    page.metric("master_link_up", Type::Gauge, "Whether the link to the primary is up");
    page.sample("master_link_up", &address, f64::from(u8::from(replication.link.is_connected())));
}

fn databases(view: &View<'_>, page: &mut Page) {
    type Value = fn(&crate::keyspace::Db, u64) -> f64;
    let rows: [(&str, &str, Value); 4] = [
        ("db_keys", "Keys", |db, _| db.len() as f64),
        ("db_keys_expiring", "Keys that expire", |db, _| db.expiring() as f64),
        ("db_avg_ttl_seconds", "Average time to live", |db, now_ms| {
            db.average_ttl_ms(now_ms) as f64 / 1000.0
        }),
        ("db_keys_with_expiring_items", "Keys whose fields expire", |db, _| {
            db.hashes_with_deadlines() as f64
        }),
    ];
    for (name, help, value) in rows {
        page.metric(name, Type::Gauge, help);
        for (index, db) in view.keyspace.dbs().iter().enumerate() {
            page.sample(name, &[("db", &format!("db{index}"))], value(db, view.keyspace.now_ms));
        }
    }
}

fn errors(view: &View<'_>, page: &mut Page) {
    page.metric("errors_total", Type::Counter, "Error replies by code");
    for (code, count) in view.server.stats.errors() {
        let code = String::from_utf8_lossy(code);
        page.sample("errors_total", &[("err", &code)], count as f64);
    }
}

fn commands(view: &View<'_>, page: &mut Page) {
    type Value = fn(CommandStats) -> f64;
    let rows: [(&str, &str, Value); 4] = [
        ("commands_total", "Calls by command", |stats| stats.calls as f64),
        ("commands_duration_seconds_total", "Time by command", |stats| {
            stats.elapsed_ns as f64 / 1e9
        }),
        ("commands_rejected_calls_total", "Calls refused before they ran", |stats| {
            stats.rejected as f64
        }),
        ("commands_failed_calls_total", "Calls that failed", |stats| stats.failed as f64),
    ];
    let used: Vec<_> = (view.server.table.rows().iter())
        .map(|row| (row.full_name, view.server.stats.command(row.id)))
        .filter(|(_, stats)| *stats != CommandStats::default())
        .collect();
    for (name, help, value) in rows {
        page.metric(name, Type::Counter, help);
        for (command, stats) in &used {
            page.sample(name, &[("cmd", command)], value(*stats));
        }
    }
}

/// How long commands take, as percentiles and as histograms.
fn latencies(view: &View<'_>, page: &mut Page) {
    let server = view.server;
    if !server.config.latency_tracking {
        return;
    }
    let rows = server.table.rows().iter();
    let of_commands: Vec<_> = rows
        .filter_map(|row| {
            let histogram = server.stats.histograms.get(row.id)?;
            let us = server.stats.command(row.id).elapsed_ns as f64 / 1000.0;
            Some((row.full_name, histogram, us))
        })
        .collect();
    let name = "latency_percentiles_usec";
    page.metric(name, Type::Summary, "Percentiles of the time of a command");
    for (command, histogram, us) in &of_commands {
        for percentile in &server.config.latency_tracking_info_percentiles.0 {
            let ns = histogram.value_at_percentile(*percentile);
            let labels = [("cmd", *command), ("quantile", &percentile.to_string())];
            page.sample(name, &labels, ns as f64 / 1000.0);
        }
        page.sample("latency_percentiles_usec_sum", &[("cmd", command)], *us);
        let count = histogram.len() as f64;
        page.sample("latency_percentiles_usec_count", &[("cmd", command)], count);
    }
    let name = "commands_latencies_usec";
    page.metric(name, Type::Histogram, "Histogram of the time of a command");
    for (command, histogram, us) in &of_commands {
        let count = histogram.len() as f64;
        for (bound_us, below) in latency::buckets(histogram) {
            let labels = [("cmd", *command), ("le", &bound_us.to_string())];
            page.sample("commands_latencies_usec_bucket", &labels, below as f64);
        }
        let last = [("cmd", *command), ("le", "+Inf")];
        page.sample("commands_latencies_usec_bucket", &last, count);
        page.sample("commands_latencies_usec_sum", &[("cmd", command)], *us);
        page.sample("commands_latencies_usec_count", &[("cmd", command)], count);
    }
}

fn slow_log(view: &View<'_>, page: &mut Page) {
    let slow_log = &view.server.slow_log;
    page.single("slowlog_length", Type::Gauge, "Slow commands remembered", slow_log.len() as f64);
    let last = slow_log.iter().next();
    let id = last.map_or(0.0, |last| last.id as f64);
    page.single("slowlog_last_id", Type::Gauge, "Number of the last slow command", id);
    let seconds = last.map_or(0.0, |last| last.entry.elapsed_us as f64 / 1e6);
    let name = "last_slow_execution_duration_seconds";
    page.single(name, Type::Gauge, "Time of the last slow command", seconds);
}

fn spikes(view: &View<'_>, page: &mut Page) {
    let events: Vec<_> = view.server.latency.events().collect();
    page.metric("latency_spike_last", Type::Gauge, "Unix time of an event's last spike");
    for (event, series) in &events {
        let at = series.last().unix_seconds as f64;
        page.sample("latency_spike_last", &[("event_name", event)], at);
    }
    let name = "latency_spike_duration_seconds";
    page.metric(name, Type::Gauge, "Time of an event's last spike");
    for (event, series) in &events {
        page.sample(name, &[("event_name", event)], series.last().ms as f64 / 1000.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Bench;
    use std::collections::HashSet;

    fn page_after(lines: &[&str]) -> String {
        let mut bench = Bench::new();
        for line in lines {
            bench.ask(line);
        }
        let engine = &bench.engine;
        page(&View::new(&engine.server, &engine.keyspace, &engine.clients))
    }

    #[test]
    fn what_dashboards_ask_for_is_there() {
        let page = page_after(&["SET k v EX 100", "GET k", "GET none", "LPOP k", "CLIENT ID"]);
        for line in [
            "redis_up 1",
            "redis_uptime_in_seconds 0",
            "redis_connected_clients 1",
            "redis_keyspace_hits_total 1",
            "redis_keyspace_misses_total 1",
            "redis_commands_processed_total 5",
            "redis_commands_total{cmd=\"get\"} 2",
            "redis_commands_total{cmd=\"client|id\"} 1",
            "redis_commands_failed_calls_total{cmd=\"lpop\"} 1",
            "redis_commands_duration_seconds_total{cmd=\"set\"} 0",
            "redis_db_keys{db=\"db0\"} 1",
            "redis_db_keys_expiring{db=\"db0\"} 1",
            "redis_db_avg_ttl_seconds{db=\"db0\"} 100",
            "redis_db_keys{db=\"db15\"} 0",
            "redis_errors_total{err=\"WRONGTYPE\"} 1",
            "redis_memory_max_bytes 0",
            "redis_config_maxclients 10000",
            "redis_slowlog_length 0",
            "redis_rdb_last_bgsave_status 1",
            "redis_cluster_enabled 0",
            "redis_latency_percentiles_usec_count{cmd=\"get\"} 2",
            "redis_commands_latencies_usec_bucket{cmd=\"get\",le=\"+Inf\"} 2",
            "redis_start_time_seconds 1700000000",
        ] {
            assert!(page.lines().any(|own| own == line), "{line} is not in\n{page}");
        }
        assert!(page.contains("redis_instance_info{role=\"master\",redis_version=\"7.2"));
    }

    /// The rules of the text format that a parser depends on.
    #[test]
    fn the_page_is_well_formed() {
        let page = page_after(&["SET k v", "EVIL\"\\\n", "CONFIG GET x"]);
        let (mut announced, mut current) = (HashSet::new(), String::new());
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                current = rest.split(' ').next().expect("a name").to_owned();
                assert!(announced.insert(current.clone()), "{current} twice");
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&current), "{line} under {current}");
                let (_, value) = line.rsplit_once(' ').expect("a value");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }
}
