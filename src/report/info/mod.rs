//! INFO: sections of fields, one row a field.
//!
//! A field is a name, a function that prints its value, and, if the page for Prometheus shows it,
//! the name it has there; a section is a list of fields, or a function for lines whose number
//! varies. Names, order and section titles are Redis's, since tools find fields by substring and
//! sections by their title. Fields for features that do not exist yet print what a Redis that does
//! not use the feature prints.

mod activity;
mod hot_keys;
pub mod memory;
mod persistence;
mod replication;
mod server;

use super::metrics::Type;
use crate::engine::{Clients, Engine, Server};
use crate::keyspace::Keyspace;
use crate::observe::memory::MemoryFigures;
use crate::observe::process::ProcessFigures;
use crate::structs::glob;
use std::fmt::Write;

/// What the fields are read from.
pub struct View<'a> {
    pub server: &'a Server,
    pub keyspace: &'a Keyspace,
    pub clients: &'a Clients,
    pub memory: MemoryFigures,
    pub process: ProcessFigures,
}

impl<'a> View<'a> {
    /// The same of an engine.
    pub fn of(engine: &'a Engine) -> View<'a> {
        View::new(&engine.server, &engine.keyspace, &engine.clients)
    }

    /// The state of the server, as it is now.
    pub fn new(server: &'a Server, keyspace: &'a Keyspace, clients: &'a Clients) -> View<'a> {
        let (memory, process) = ((server.parts.memory)(), (server.parts.process)());
        View { server, keyspace, clients, memory, process }
    }
}

/// One line `name:value`.
pub struct Field {
    name: &'static str,
    value: Value,
    metric: Option<Metric>,
}

/// What a field is on the page for Prometheus.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Without what all names begin with.
    pub name: &'static str,
    pub kind: Type,
}

#[derive(Clone, Copy)]
enum Value {
    Always(fn(&View<'_>) -> String),
    /// The line is only there when there is something to tell.
    Sometimes(fn(&View<'_>) -> Option<String>),
}

impl Field {
    /// The field is a metric that only grows.
    const fn counter(self, name: &'static str) -> Field {
        Field { metric: Some(Metric { name, kind: Type::Counter }), ..self }
    }

    /// The field is a metric that goes up and down.
    const fn gauge(self, name: &'static str) -> Field {
        Field { metric: Some(Metric { name, kind: Type::Gauge }), ..self }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn metric(&self) -> Option<Metric> {
        self.metric
    }

    /// The value, if it has one now.
    pub fn print(&self, view: &View<'_>) -> Option<String> {
        match self.value {
            Value::Always(value) => Some(value(view)),
            Value::Sometimes(value) => value(view),
        }
    }
}

const fn field(name: &'static str, value: fn(&View<'_>) -> String) -> Field {
    Field { name, value: Value::Always(value), metric: None }
}

/// A field that is not always there.
const fn optional(name: &'static str, value: fn(&View<'_>) -> Option<String>) -> Field {
    Field { name, value: Value::Sometimes(value), metric: None }
}

/// A field that is zero until its feature exists.
const fn zero(name: &'static str) -> Field {
    field(name, |_| "0".to_owned())
}

enum Lines {
    Fields(&'static [Field]),
    /// Whole lines, each with its end.
    Listed(fn(&View<'_>, &mut String)),
}

/// Unless it is asked for by its name, a section is shown...
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    /// when no section is asked for, and by `all` and `everything`.
    Usually,
    /// by `all` and `everything`.
    InAll,
    /// by `everything`: Redis has no such section.
    InEverything,
    /// by nothing else.
    IfNamed,
}

pub struct Section {
    title: &'static str,
    shown: Shown,
    lines: Lines,
}

const fn section(title: &'static str, shown: Shown, lines: Lines) -> Section {
    Section { title, shown, lines }
}

static SECTIONS: &[Section] = &[
    section("Server", Shown::Usually, Lines::Fields(server::SERVER)),
    section("Clients", Shown::Usually, Lines::Fields(activity::CLIENTS)),
    section("Memory", Shown::Usually, Lines::Fields(memory::MEMORY)),
    section("Persistence", Shown::Usually, Lines::Fields(persistence::PERSISTENCE)),
    section("Stats", Shown::Usually, Lines::Fields(activity::STATS)),
    section("Replication", Shown::Usually, Lines::Fields(replication::REPLICATION)),
    section("CPU", Shown::Usually, Lines::Fields(server::CPU)),
    section("TLS", Shown::InEverything, Lines::Fields(server::TLS)),
    section("Modules", Shown::Usually, Lines::Fields(&[])),
    section("Threads", Shown::InAll, Lines::Listed(activity::threads)),
    section("Commandstats", Shown::InAll, Lines::Listed(activity::commands)),
    section("Errorstats", Shown::Usually, Lines::Listed(activity::errors)),
    section("Latencystats", Shown::InAll, Lines::Listed(activity::latencies)),
    section("Cluster", Shown::Usually, Lines::Fields(server::CLUSTER)),
    section("Keyspace", Shown::Usually, Lines::Listed(activity::databases)),
    section("Debug", Shown::IfNamed, Lines::Fields(activity::DEBUG)),
    section("Hotkeys", Shown::InEverything, Lines::Listed(hot_keys::lines)),
];

/// What a Sentinel tells of itself, beside its own section.
const OF_SENTINELS: &[&str] = &["Server", "Clients", "Stats", "CPU"];

/// The sections that were asked for, in their own order; none means the default ones.
pub fn report(view: &View<'_>, asked: &[&[u8]]) -> String {
    let names = |word: &str| asked.iter().any(|name| name.eq_ignore_ascii_case(word.as_bytes()));
    let widest = if names("everything") {
        Some(Shown::InEverything)
    } else if names("all") {
        Some(Shown::InAll)
    } else {
        (asked.is_empty() || names("default")).then_some(Shown::Usually)
    };
    let mut text = String::with_capacity(8 * 1024);
    let sentinel = view.server.sentinel.as_ref();
    for section in SECTIONS {
        if sentinel.is_some() && !OF_SENTINELS.contains(&section.title) {
            continue;
        }
        if widest.is_some_and(|widest| section.shown <= widest) || names(section.title) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            put_section(view, section, &mut text);
        }
    }
    if let Some(watch) = sentinel.filter(|_| widest.is_some() || names("sentinel")) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str(&watch.machine.info(view.server.sentinel_moment()));
    }
    text
}

fn put_section(view: &View<'_>, section: &Section, text: &mut String) {
    let mut put = |line: std::fmt::Arguments<'_>| {
        text.write_fmt(line).expect("writing to a string cannot fail");
    };
    put(format_args!("# {}\r\n", section.title));
    match section.lines {
        Lines::Fields(fields) => {
            for field in fields {
                if let Some(value) = field.print(view) {
                    put(format_args!("{}:{value}\r\n", field.name));
                }
            }
        }
        Lines::Listed(list) => list(view, text),
    }
}

/// All fields, in order.
pub fn fields() -> impl Iterator<Item = &'static Field> {
    SECTIONS.iter().flat_map(|section| match section.lines {
        Lines::Fields(fields) => fields,
        Lines::Listed(_) => &[],
    })
}

/// The value of one field.
pub fn value(view: &View<'_>, name: &str) -> Option<String> {
    fields().find(|field| field.name == name).and_then(|field| field.print(view))
}

/// Whether a pattern names some section or field: for tests that walk the registry.
pub fn knows(pattern: &str) -> bool {
    let fits =
        |name: &str| glob::matches(pattern.as_bytes(), name.as_bytes(), glob::Case::Insensitive);
    SECTIONS.iter().any(|section| {
        let has_field = match section.lines {
            Lines::Fields(fields) => fields.iter().any(|field| fits(field.name)),
            Lines::Listed(_) => false,
        };
        has_field || fits(section.title)
    })
}

/// `1.50M`: a number of bytes for people.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2}{}", UNITS[unit])
}

/// A quotient for people, 0.00 where there is nothing to divide by.
fn ratio(part: u64, whole: u64) -> String {
    if whole == 0 { "0.00".to_owned() } else { format!("{:.2}", part as f64 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn bytes_for_people() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(1023), "1023B");
        assert_eq!(human(1536), "1.50K");
        assert_eq!(human(25_276_502_016), "23.54G");
    }

    /// redis-cli finds these by their first occurrence in the whole text, so that no earlier field
    /// may contain them.
    #[test]
    fn the_fields_that_are_found_by_substring_come_first() {
        let wanted = [
            "used_memory",
            "connected_clients",
            "blocked_clients",
            "total_commands_processed",
            "total_connections_received",
            "bgsave_in_progress",
            "aof_rewrite_in_progress",
            "loading",
            "cluster_enabled",
        ];
        let fields: Vec<&str> = fields().map(Field::name).collect();
        for name in wanted {
            let first = fields.iter().find(|field| field.contains(name));
            let exact = *first.expect("the field exists");
            assert!(exact == name || exact.ends_with(name), "{name} is found in {exact}");
        }
    }

    #[test]
    fn names_are_unique() {
        let (mut names, mut metrics) = (HashSet::new(), HashSet::new());
        for field in fields() {
            assert!(names.insert(field.name), "{} twice", field.name);
            let is_new = |metric: Metric| metrics.insert(metric.name);
            assert!(field.metric.is_none_or(is_new), "the metric of {} twice", field.name);
        }
    }
}
