//! docs/compatibility.md: which commands of the mirrored Redis there are, from the table itself.
//!
//! `UPDATE=1 cargo test compatibility` writes the generated part anew; without it, the test says
//! when it is stale. What stands between the markers is written by hand and kept.

use rufous::command::Table;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

const BEGIN: &str = "<!-- written by hand: begin -->";
const END: &str = "<!-- written by hand: end -->";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md")
}

/// The commands of Redis 7.2 by group, as `group name` lines; subcommands as `container|name`.
const REDIS_7_2: &str = include_str!("redis-7.2-commands.txt");

fn by_group() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (group, name) in REDIS_7_2.lines().filter_map(|line| line.split_once(' ')) {
        groups.entry(group).or_default().push(name);
    }
    groups
}

fn generated(by_hand: &str) -> String {
    let table = Table::new();
    let is_there = |name: &&&str| table.by_full_name(name.as_bytes()).is_some();
    let groups = by_group();
    let total: usize = groups.values().map(Vec::len).sum();
    let done: usize = groups.values().map(|names| names.iter().filter(is_there).count()).sum();
    let mut text = format!(
        "# Compatibility\n\nRufous mirrors Redis 7.2 first: commands, replies, error texts, \
         directives.\n\n{done} of its {total} commands and subcommands are there (SENTINEL and \
         its\nsubcommands, which only Sentinels have, are not counted; all of them are \
         there).\n\nGenerated from the \
         command table by `UPDATE=1 cargo test compatibility`.\n\n"
    );
    for (group, names) in &groups {
        let (there, missing): (Vec<&str>, Vec<&str>) =
            names.iter().copied().partition(|name| is_there(&name));
        writeln!(text, "## {} ({} of {})\n", group.replace('_', "-"), there.len(), names.len())
            .expect("it is memory");
        put_list(&mut text, "Implemented", &there);
        put_list(&mut text, "Missing", &missing);
    }
    let of_group = |name: &str| groups.values().any(|names| names.contains(&name));
    let others: Vec<&str> =
        (table.rows().iter().map(|row| row.full_name)).filter(|name| !of_group(name)).collect();
    if !others.is_empty() {
        text.push_str("## Not in Redis 7.2\n\n");
        put_list(&mut text, "Implemented", &others);
    }
    write!(text, "{BEGIN}\n{by_hand}{END}\n").expect("it is memory");
    text
}

fn put_list(text: &mut String, title: &str, names: &[&str]) {
    if names.is_empty() {
        return;
    }
    let mut line = format!("{title}:");
    for name in names {
        let word = format!(" {}", name.replace('|', " ").to_ascii_uppercase());
        let word = format!("{word}{}", if names.last() == Some(name) { "." } else { "," });
        if line.len() + word.len() > 100 {
            text.push_str(&line);
            text.push('\n');
            line = word.trim_start().to_owned();
        } else {
            line.push_str(&word);
        }
    }
    text.push_str(&line);
    text.push_str("\n\n");
}

#[test]
fn compatibility_document_is_fresh() {
    let present = std::fs::read_to_string(path()).unwrap_or_default();
    let by_hand = (present.split_once(BEGIN))
        .and_then(|(_, rest)| rest.split_once(END))
        .map_or("\n", |(by_hand, _)| by_hand);
    let fresh = generated(by_hand.trim_start_matches('\n'));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path(), &fresh).expect("docs are writable");
    } else {
        assert!(
            present == fresh,
            "docs/compatibility.md is stale: UPDATE=1 cargo test compatibility"
        );
    }
}
