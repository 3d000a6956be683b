//! What the tools for operators show of a server that did something.

use crate::config::{Config, ProtectedAction};
use crate::engine::ServerParts;
use crate::engine::testing::{Bench, START_MS, config};
use std::cell::Cell;

thread_local! {
    static TICKS_NS: Cell<u64> = const { Cell::new(0) };
}

/// The clock that commands are measured with: each reading is a microsecond later.
fn ticks_ns() -> u64 {
    TICKS_NS.set(TICKS_NS.get() + 1000);
    TICKS_NS.get()
}

const START_SECONDS: u64 = START_MS / 1000;

/// A server that measures with that clock.
fn bench(directives: &[(&str, &str)]) -> Bench {
    let config = Config { enable_debug_command: ProtectedAction::Yes, ..config(directives) };
    Bench::over(config, ServerParts { ticks: ticks_ns, ..ServerParts::default() })
}

#[test]
fn latencystats_has_a_line_for_each_command_with_its_percentiles() {
    let mut bench = bench(&[]);
    bench.ask("SET k v");
    bench.ask("CONFIG GET port");
    let lines = bench.info_lines("latencystats", "latency_percentiles_usec_");
    let names: Vec<&str> = lines.iter().map(|line| line.split(':').next().unwrap_or("")).collect();
    assert_eq!(names, ["latency_percentiles_usec_config|get", "latency_percentiles_usec_set"]);
    assert_eq!(lines[1].split(':').nth(1), Some("p50=1.003,p99=1.003,p99.9=1.003"));
    bench.ask("CONFIG SET latency-tracking-info-percentiles 50");
    let lines = bench.info_lines("latencystats", "latency_percentiles_usec_set");
    assert_eq!(lines, ["latency_percentiles_usec_set:p50=1.003"]);
    bench.ask("CONFIG RESETSTAT");
    assert!(bench.info_lines("latencystats", "latency_percentiles_usec_set").is_empty());
    bench.ask("CONFIG SET latency-tracking no");
    bench.ask("SET k v");
    assert!(bench.info_lines("latencystats", "latency_percentiles_usec_set").is_empty());
}

#[test]
fn a_spike_is_shown_by_all_views_of_latency() {
    let mut bench = bench(&[("latency-monitor-threshold", "100")]);
    assert_eq!(bench.ask("LATENCY LATEST"), "*0|");
    bench.ask("DEBUG SLEEP 0.3");
    bench.advance(10000);
    bench.ask("DEBUG SLEEP 0.2");
    bench.ask("DEBUG SLEEP 0.05");
    let first = START_SECONDS;
    let second = START_SECONDS + 10;
    let latest = bench.ask("LATENCY LATEST");
    assert_eq!(latest, format!("*1|*4|$7|command|:{second}|:200|:300|"));
    let history = bench.ask("LATENCY HISTORY command");
    assert_eq!(history, format!("*2|*2|:{first}|:300|*2|:{second}|:200|"));
    bench.advance(5000);
    let graph = bench.ask("LATENCY GRAPH command");
    assert!(graph.contains("command - high 300 ms, low 200 ms (all time high 300 ms)"), "{graph}");
    assert!(graph.contains("#_") || graph.contains('#'), "{graph}");
    assert!(bench.ask("LATENCY DOCTOR").contains("command: 2 latency spikes (average 250ms"));
    assert_eq!(bench.ask("LATENCY RESET other"), ":0|");
    assert_eq!(bench.ask("LATENCY RESET command other"), ":1|");
    assert_eq!(bench.ask("LATENCY LATEST"), "*0|");
    assert_eq!(bench.ask("LATENCY HISTORY command"), "*0|");
}

#[test]
fn a_slow_command_is_logged_with_its_time() {
    let mut bench = bench(&[]);
    bench.ask("CLIENT SETNAME me");
    bench.ask("DEBUG SLEEP 0.25");
    let log = bench.ask("SLOWLOG GET");
    assert!(log.starts_with(&format!("*1|*6|:0|:{START_SECONDS}|:25000")), "{log}");
    assert!(log.contains("|*3|$5|DEBUG|$5|SLEEP|$4|0.25|"), "{log}");
    assert!(log.ends_with("|$2|me|"), "{log}");
    bench.ask("DEBUG SLEEP 0.25");
    assert!(bench.ask("SLOWLOG GET 1").starts_with("*1|*6|:1|"), "the newest first");
    bench.ask("SLOWLOG RESET");
    bench.ask("DEBUG SLEEP 0.25");
    assert!(bench.ask("SLOWLOG GET").starts_with("*1|*6|:2|"), "numbers are never given again");
}

#[test]
fn hot_and_large_keys_are_shown() {
    let mut bench = bench(&[]);
    for n in 0..3000 {
        bench.ask("GET hot");
        bench.ask(&format!("SET cold:{n} v"));
    }
    bench.ask(&format!("SET large {}", "x".repeat(100_000)));
    for _ in 0..200 {
        bench.ask("APPEND large y");
    }
    bench.ask("SELECT 3");
    for _ in 0..300 {
        bench.ask("SADD other a\nb");
    }
    let hot = bench.info_lines("hotkeys", "hot_by_calls_0");
    assert!(hot[0].starts_with("hot_by_calls_0:db=0,per_sec="), "{hot:?}");
    assert!(hot[0].ends_with(",key=\"hot\""), "{hot:?}");
    let others = bench.info_lines("hotkeys", "hot_by_calls_");
    assert!(others.iter().any(|line| line.contains("db=3,") && line.ends_with("key=\"other\"")));
    let large = bench.info_lines("hotkeys", "largest_string_0:db=0,bytes=");
    assert!(large[0].ends_with(",key=\"large\""), "{large:?}");
    assert!(
        bench.info_lines("all", "hot").is_empty()
            && !bench.info_lines("everything", "hot").is_empty()
    );
    let answer = bench.ask("HOTKEYS GET");
    assert!(answer.starts_with("*1|*30|$15|tracking-active|:0|$12|sample-ratio|:32|"), "{answer}");
    assert!(answer.contains("|$12|largest-keys|*1|*4|$5|large|:0|$6|string|:"), "{answer}");
    bench.ask("SELECT 0");
    bench.ask("DEL large");
    assert!(bench.ask("HOTKEYS GET").ends_with("|$12|largest-keys|*0|"));
}

#[test]
fn a_measurement_shows_what_it_was_asked_for() {
    let mut bench = bench(&[]);
    for (line, reply) in [
        ("HOTKEYS START NET 1", "-ERR METRICS parameter is required|"),
        (
            "HOTKEYS START METRICS 2 CPU",
            "-ERR METRICS count does not match number of metric types \
                                         provided|",
        ),
        ("HOTKEYS START METRICS 3 CPU NET", "-ERR METRICS count must be 1 or 2|"),
        ("HOTKEYS START METRICS 1 CPU COUNT 65", "-ERR COUNT must be between 1 and 64|"),
        ("HOTKEYS START METRICS 1 CPU SAMPLE 0", "-ERR SAMPLE must be positive|"),
        ("HOTKEYS START METRICS 1 CPU CPU", "-ERR syntax error|"),
        ("HOTKEYS STOP", "$-1|"),
        ("HOTKEYS START METRICS 1 CPU COUNT 2 DURATION 30", "+OK|"),
        ("HOTKEYS START METRICS 1 CPU", "-ERR hotkeys collection is already in progress|"),
        ("HOTKEYS RESET", "-ERR hotkeys tracking is in progress, stop it first|"),
    ] {
        assert_eq!(bench.ask(line), reply, "{line}");
    }
    for _ in 0..10 {
        bench.ask("SET a 1");
        bench.ask("MSET b 1 c 1");
    }
    let answer = bench.ask("HOTKEYS GET");
    assert!(answer.contains("|$15|tracking-active|:1|$12|sample-ratio|:1|"), "{answer}");
    assert!(answer.contains("|$14|by-cpu-time-us|*4|$1|a|:"), "{answer}");
    assert!(!answer.contains("by-net-bytes"), "{answer}");
    bench.advance(31000);
    bench.engine.cron();
    let answer = bench.ask("HOTKEYS GET");
    assert!(answer.contains("|$15|tracking-active|:0|"), "its time is over: {answer}");
    assert!(answer.contains("|$22|collection-duration-ms|:31000|"), "{answer}");
    assert_eq!(
        (bench.ask("HOTKEYS STOP").as_str(), bench.ask("HOTKEYS RESET").as_str()),
        ("$-1|", "+OK|")
    );
}

/// The record keeps names, so it keeps no long ones: one for which there was no memory ended
/// the process here.
#[test]
fn keys_with_long_names_are_not_recorded() {
    let mut bench = bench(&[]);
    bench.ask("HOTKEYS START METRICS 1 CPU SAMPLE 1");
    let (long, short) = ("l".repeat((16 << 10) + 1), "s".repeat(16 << 10));
    bench.ask(&format!("SET {long} v"));
    bench.ask(&format!("SET {short} v"));
    let answer = bench.ask("HOTKEYS GET");
    assert!(answer.contains(&short) && !answer.contains(&long));
}

#[test]
fn all_keys_of_a_command_are_recorded_and_channels_are_none() {
    let mut bench = bench(&[]);
    bench.ask("SET source v");
    bench.ask("HOTKEYS START METRICS 1 CPU SAMPLE 1");
    bench.expect("RENAME source target", "+OK|");
    bench.expect("SPUBLISH channel message", ":0|");
    let answer = bench.ask("HOTKEYS GET");
    for (name, is_there) in [("source", true), ("target", true), ("channel", false)] {
        assert_eq!(answer.contains(&format!("|{name}|")), is_there, "{name}: {answer}");
    }
}

#[test]
fn a_big_database_is_flushed_by_another_thread() {
    const KEYS: usize = 10_001;
    let fill = |bench: &mut Bench| {
        for n in 0..KEYS {
            bench.ask(&format!("SET key:{n} v"));
        }
    };
    // With save points a save would be a job too.
    let mut bench = bench(&[("save", "")]);
    fill(&mut bench);
    bench.expect("FLUSHALL", "+OK|");
    assert_eq!(bench.jobs(), 1);
    assert_eq!(bench.ask("DBSIZE"), ":0|");
    bench.ask("SET few v");
    bench.expect("FLUSHALL", "+OK|");
    assert_eq!(bench.jobs(), 1, "few keys go at once");
    // In a transaction nothing waits: what comes behind it meets an empty database.
    fill(&mut bench);
    for line in ["MULTI", "FLUSHALL", "SET k v", "DBSIZE"] {
        bench.ask(line);
    }
    assert_eq!(bench.ask("EXEC"), "*3|+OK|+OK|:1|");
    assert_eq!(bench.ask("DBSIZE"), ":1|");
}

#[test]
fn a_transaction_takes_as_long_as_its_commands_together() {
    let mut bench = bench(&[]);
    for line in ["MULTI", "SET a 1", "DEBUG SLEEP 1", "SET b 1", "EXEC"] {
        bench.ask(line);
    }
    let exec = bench.info_lines("commandstats", "cmdstat_exec:");
    // One reading ends each of the three and one EXEC itself; sleeping is part of both.
    assert!(exec[0].starts_with("cmdstat_exec:calls=1,usec=1000004,"), "{exec:?}");
    let set = bench.info_lines("commandstats", "cmdstat_set:");
    assert!(set[0].starts_with("cmdstat_set:calls=2,usec=2,"), "{set:?}");
}
