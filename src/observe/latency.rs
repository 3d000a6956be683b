//! Latency: spikes of named events over time, and how long each command takes.
//!
//! A spike is one that lasted `latency-monitor-threshold` milliseconds or more. Of each event the
//! last ones are kept, one a second. Histograms are made for a command when it is first called;
//! they tell times apart to two digits, up to a second.

use crate::command::CommandId;
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

/// So many spikes of an event are kept.
const SAMPLES_MAX: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spike {
    pub unix_seconds: u64,
    pub ms: u64,
}

/// The spikes of one event.
#[derive(Default)]
pub struct Series {
    spikes: VecDeque<Spike>,
    /// The longest one ever.
    pub max_ms: u64,
}

impl Series {
    fn add(&mut self, spike: Spike) {
        self.max_ms = self.max_ms.max(spike.ms);
        match self.spikes.back_mut() {
            Some(last) if last.unix_seconds == spike.unix_seconds => {
                last.ms = last.ms.max(spike.ms);
            }
            _ => {
                if self.spikes.len() == SAMPLES_MAX {
                    self.spikes.pop_front();
                }
                self.spikes.push_back(spike);
            }
        }
    }

    /// The oldest first.
    pub fn spikes(&self) -> impl DoubleEndedIterator<Item = Spike> + ExactSizeIterator {
        self.spikes.iter().copied()
    }

    /// The last spike.
    pub fn last(&self) -> Spike {
        *self.spikes.back().expect("a series begins with a spike")
    }
}

/// The spikes of all events.
#[derive(Default)]
pub struct LatencyMonitor {
    events: BTreeMap<&'static str, Series>,
}

impl LatencyMonitor {
    pub fn add(&mut self, event: &'static str, spike: Spike) {
        self.events.entry(event).or_default().add(spike);
    }

    pub fn events(&self) -> impl ExactSizeIterator<Item = (&'static str, &Series)> {
        self.events.iter().map(|(name, series)| (*name, series))
    }

    pub fn event(&self, name: &[u8]) -> Option<&Series> {
        self.events.get(std::str::from_utf8(name).ok()?)
    }

    /// Forgets an event; false if there is none.
    pub fn forget(&mut self, name: &[u8]) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| self.events.remove(name).is_some())
    }

    /// Forgets all events, and says how many there were.
    pub fn forget_all(&mut self) -> usize {
        std::mem::take(&mut self.events).len()
    }
}

/// How wide and how high a graph is.
const GRAPH_COLUMNS: usize = 80;
const GRAPH_ROWS: u64 = 4;

/// Draws the last spikes of an event as columns, each with its age below.
pub fn graph(name: &str, series: &Series, unix_seconds: u64) -> String {
    let skipped = series.spikes.len().saturating_sub(GRAPH_COLUMNS);
    let shown: Vec<Spike> = series.spikes().skip(skipped).collect();
    let high = shown.iter().map(|spike| spike.ms).max().unwrap_or(0);
    let low = shown.iter().map(|spike| spike.ms).min().unwrap_or(0);
    let mut text = format!(
        "{name} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        series.max_ms,
        "-".repeat(GRAPH_COLUMNS)
    );
    let span = (high - low).max(1);
    for row in (0..GRAPH_ROWS).rev() {
        for spike in &shown {
            let height = (spike.ms - low) * (GRAPH_ROWS - 1) / span;
            text.push(if row <= height { '#' } else { ' ' });
        }
        text.push('\n');
    }
    let ages: Vec<String> =
        shown.iter().map(|spike| age(unix_seconds.saturating_sub(spike.unix_seconds))).collect();
    let tallest = ages.iter().map(String::len).max().unwrap_or(0);
    for row in 0..tallest {
        for age in &ages {
            text.push(age.as_bytes().get(row).map_or(' ', |byte| char::from(*byte)));
        }
        text.push('\n');
    }
    text
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What is to be said about the spikes seen, and what helps against them.
pub fn report(monitor: &LatencyMonitor, threshold_ms: u64) -> String {
    if threshold_ms == 0 {
        return "Latency monitoring is off. Turn it on by CONFIG SET latency-monitor-threshold \
                with the milliseconds from which an event is worth remembering.\n"
            .to_owned();
    }
    let mut text = String::new();
    for (number, (name, series)) in monitor.events().enumerate() {
        let count = series.spikes.len() as u64;
        let sum: u64 = series.spikes().map(|spike| spike.ms).sum();
        let mean = sum / count;
        let deviation = series.spikes().map(|spike| spike.ms.abs_diff(mean)).sum::<u64>() / count;
        let first = series.spikes[0].unix_seconds;
        let span = series.last().unix_seconds.saturating_sub(first);
        let advice = match name {
            "command" => {
                "Look at SLOWLOG GET for the commands, and use those that do less at once."
            }
            "fast-command" => {
                "Commands that should be fast were not: the machine may be busy or out of memory."
            }
            "expire-cycle" => "Many keys expire at one time: spread their times.",
            "eviction-cycle" => "Much is evicted at once: raise maxmemory or write less.",
            _ => "See the log for that time.",
        };
        writeln!(
            text,
            "{}. {name}: {count} latency spikes (average {mean}ms, mean deviation {deviation}ms, \
             period {:.2} sec). Worst all time event {}ms.\n   {advice}",
            number + 1,
            span as f64 / count as f64,
            series.max_ms,
        )
        .expect("writing to a string cannot fail");
    }
    if text.is_empty() {
        return format!("No event has taken {threshold_ms} ms or more.\n");
    }
    text
}

/// Bounds of a histogram, in nanoseconds.
const SHORTEST_NS: u64 = 1;
const LONGEST_NS: u64 = 1_000_000_000;
const DIGITS: u8 = 2;

/// The first bucket of a report ends here; each next one is twice as wide.
const FIRST_BUCKET_NS: u64 = 1024;

/// How long the calls of each command took.
#[derive(Default)]
pub struct Histograms {
    of_commands: Vec<Option<Box<Histogram<u64>>>>,
}

impl Histograms {
    #[inline]
    pub fn record(&mut self, id: CommandId, elapsed_ns: u64) {
        match self.of_commands.get_mut(id.index()) {
            Some(Some(histogram)) => histogram.saturating_record(elapsed_ns.max(SHORTEST_NS)),
            _ => self.record_first(id, elapsed_ns),
        }
    }

    #[cold]
    fn record_first(&mut self, id: CommandId, elapsed_ns: u64) {
        let fresh = Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, DIGITS);
        let mut fresh = fresh.expect("the bounds are those of a histogram");
        fresh.saturating_record(elapsed_ns.max(SHORTEST_NS));
        if self.of_commands.len() <= id.index() {
            self.of_commands.resize_with(id.index() + 1, || None);
        }
        self.of_commands[id.index()] = Some(Box::new(fresh));
    }

    pub fn get(&self, id: CommandId) -> Option<&Histogram<u64>> {
        self.of_commands.get(id.index())?.as_deref()
    }
}

/// Pairs of microseconds and of how many calls took at most so long, for those bounds below which
/// there are more calls than below the one before.
pub fn buckets(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let mut buckets = Vec::new();
    let (mut level, mut counted) = (FIRST_BUCKET_NS, 0);
    while counted < histogram.len() {
        let bound = histogram.highest_equivalent(level);
        let below = histogram.count_between(0, bound);
        if below > counted {
            buckets.push((bound / 1000, below));
            counted = below;
        }
        level = level.saturating_mul(2);
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spike_a_second_is_kept_and_the_oldest_go() {
        let mut monitor = LatencyMonitor::default();
        for second in 0..200 {
            monitor.add("command", Spike { unix_seconds: second, ms: second });
            monitor.add("command", Spike { unix_seconds: second, ms: 1 });
        }
        let series = monitor.event(b"command").expect("it was added");
        assert_eq!((series.spikes.len(), series.max_ms), (SAMPLES_MAX, 199));
        assert_eq!(series.last(), Spike { unix_seconds: 199, ms: 199 });
        let drawn = graph("command", series, 200);
        assert!(drawn.starts_with("command - high 199 ms, low 120 ms (all time high 199 ms)\n---"));
        assert!(report(&monitor, 1).contains("160 latency spikes"));
        assert!(!monitor.forget(b"other") && monitor.forget(b"command"));
        assert_eq!(monitor.forget_all(), 0);
    }

    #[test]
    fn buckets_are_bounds_that_double() {
        let mut histogram = Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, DIGITS).unwrap();
        for ns in [500, 1_000, 1_500, 40_000, 40_000, 900_000_000] {
            histogram.saturating_record(ns);
        }
        assert_eq!(buckets(&histogram), [(1, 2), (2, 3), (66, 5), (1_082_130, 6)]);
    }
}
