//! The shape of the source: what reviewers would otherwise have to say again and again.
//!
//! The checks read text, not syntax. The source is formatted, so lines and indentation can be
//! relied on, and a check that is easy to read is worth more than one that cannot be fooled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const WIDTH_MAX: usize = 100;
const FILE_LINES_MAX: usize = 1000;
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that are longer, with their length: it may shrink, and no entry may be added.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[("benches/trie.rs", "print_figures", 80)];

/// The only files in which something is written that the compiler cannot check.
const UNSAFE_FILES: &[&str] = &[
    "src/keyspace/entry.rs",
    "src/net/fatal.rs",
    "src/observe/memory.rs",
    "src/script/lua.rs",
    "src/script/memory.rs",
    "src/script/run.rs",
    "src/structs/blob.rs",
    "src/structs/filling.rs",
    "src/structs/prefetch.rs",
    "src/structs/trie/bits.rs",
];

/// Who may name a crate: the crate, and what the paths begin or end with.
const CRATE_USERS: &[(&str, &[&str])] = &[
    ("tokio", &["src/net/", "src/main.rs", "/task.rs"]),
    (
        "hashbrown",
        &[
            "src/structs/",
            "src/keyspace/",
            "src/pubsub/",
            "src/engine/",
            "src/command/table.rs",
            "src/observe/stats.rs",
            "src/script/",
        ],
    ),
    ("crc16", &["src/keyspace/slot.rs"]),
    ("subtle", &["src/acl/secret.rs"]),
    ("sha2", &["src/acl/secret.rs"]),
    ("redis_protocol", &["src/resp/frame.rs", "tests/"]),
    ("mlua_sys", &["src/script/lua.rs"]),
    ("corosensei", &["src/script/run.rs"]),
    ("rtrb", &["src/net/threads/mail.rs", "proofs/"]),
    ("rustls", &["src/net/tls/", "tests/suite/tls_client.rs"]),
    ("x509_cert", &["src/net/tls/certificate.rs"]),
    ("pkcs8", &["src/net/tls/keys.rs"]),
    ("md5", &["src/net/tls/keys.rs"]),
    ("aes", &["src/net/tls/keys.rs"]),
    ("cbc", &["src/net/tls/keys.rs"]),
    ("des", &["src/net/tls/keys.rs"]),
    ("base64ct", &["src/net/tls/pem.rs"]),
];

/// Which rooms stand on which: a room names rooms of lower levels, and itself. Its tests may name
/// any, since they drive what they test through an engine.
const LEVELS: &[&[&str]] = &[
    &["structs"],
    &["resp", "config"],
    &["types"],
    &["keyspace"],
    &["command"],
    &["repl"],
    &["acl", "cluster", "pubsub", "script", "persist", "observe", "sentinel"],
    &["engine"],
    &["report"],
    &["net"],
];

/// Files that name a room above theirs, with the reason.
const ARROW_EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("src/command/help.rs", "engine", "HELP is a handler that many rooms share"),
    ("src/command/spec.rs", "engine", "a record names the type of its handler"),
];

/// Where hashes are made: those of keys at one door, those of members at the other.
const HASHING_FILES: &[&str] = &[
    "src/keyspace/key.rs",
    "src/structs/trie/hash.rs",
    "src/structs/trie/tests.rs",
    "src/types/member.rs",
];

struct Source {
    /// From the root of the repository, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// Numbered lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| {
            let is_comment = line.trim_start().starts_with("//");
            let end = if is_comment { 0 } else { line.find(" // ").unwrap_or(line.len()) };
            (index + 1, &line[..end])
        })
    }

    /// The same without what is only compiled for tests, be it a module or a single field.
    fn code_without_tests(&self) -> Vec<(usize, &str)> {
        let mut kept = Vec::new();
        let mut lines = self.code().filter(|_| !self.is_test());
        while let Some((number, line)) = lines.next() {
            if line.trim() == "#[cfg(test)]" {
                skip_item(&mut lines);
            } else {
                kept.push((number, line));
            }
        }
        kept
    }

    /// Whether the whole file is tests: by its name, or by the file that names it.
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let is_module = name.starts_with("tests") || self.path == "src/engine/testing.rs";
        is_module || self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    fn is_ours_to_serve(&self) -> bool {
        self.path.starts_with("src/")
    }
}

/// Passes over what an attribute stands before: up to its last line, which is indented as its
/// first one is.
fn skip_item<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) {
    let is_before = |line: &str| line.trim().is_empty() || line.trim_start().starts_with("#[");
    let Some((_, first)) = lines.find(|(_, line)| !is_before(line)) else { return };
    if first.trim_end().ends_with([';', ',', '}']) {
        return;
    }
    let indent_of = |line: &str| line.len() - line.trim_start().len();
    let is_last = |line: &str| {
        let is_end = line.trim_start().starts_with(['}', ']']) || line.trim_end().ends_with(';');
        indent_of(line) == indent_of(first) && is_end
    };
    lines.find(|(_, line)| is_last(line));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of the repository, sorted.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut directories: Vec<PathBuf> =
        ["src", "tests", "benches", "fuzz/fuzz_targets", "proofs/src", "proofs/tests"]
            .map(|name| root().join(name))
            .into();
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for path in entries.map(|entry| entry.expect("it can be listed").path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("source is text");
                let path = path.strip_prefix(root()).expect("it is below");
                found.push(Source { path: path.to_string_lossy().into_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Collects what `find` says of each file and fails if it says anything.
fn check(find: impl Fn(&Source) -> Vec<String>) {
    let faults: Vec<String> = sources().iter().flat_map(find).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The lines that hold `is_fault`, as `file:line: what`.
fn lines<'a>(
    source: &'a Source,
    code: impl Iterator<Item = (usize, &'a str)>,
    what: &str,
    is_fault: impl Fn(&str) -> bool,
) -> Vec<String> {
    let faults = code.filter(|(_, line)| is_fault(line));
    faults.map(|(number, _)| format!("{}:{number}: {what}", source.path)).collect()
}

/// Whether `word` stands in the line by itself.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part)
    })
}

#[test]
fn lines_are_not_too_wide() {
    check(|source| {
        let all = source.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines(source, all, "the line is too wide", |line| line.chars().count() > WIDTH_MAX)
    });
}

#[test]
fn files_are_not_too_long_and_say_what_they_are() {
    check(|source| {
        let mut faults = Vec::new();
        let count = source.text.lines().count();
        if count > FILE_LINES_MAX {
            faults.push(format!("{}: {count} lines: split it by theme", source.path));
        }
        let opens = source.text.starts_with("//!");
        if !opens && !source.path.ends_with("/tests.rs") && !source.path.starts_with("fuzz/") {
            faults.push(format!("{}: no head comment", source.path));
        }
        faults
    });
}

/// The functions of a file with their lengths, by indentation.
fn functions(source: &Source) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, usize, String)> = Vec::new();
    for (number, line) in source.code() {
        let indent = line.len() - line.trim_start().len();
        if let Some(name) = function_name(line)
            && !line.trim_end().ends_with([';', '}'])
        {
            open.push((indent, number, name.to_owned()));
        }
        let ends = |(at, ..): &(usize, usize, String)| *at == indent && line.trim() == "}";
        if open.last().is_some_and(ends) {
            let (_, start, name) = open.pop().expect("it was just seen");
            found.push((name, number - start + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let words = line.trim_start();
    let (before, after) = words.split_once("fn ")?;
    let qualifiers = ["pub", "const", "async", "unsafe", "extern"];
    let is_qualifier = |word: &str| qualifiers.iter().any(|q| word.starts_with(q));
    if !before.split_whitespace().all(is_qualifier) {
        return None;
    }
    after.split(['(', '<']).next()
}

#[test]
fn functions_are_not_too_long() {
    let mut faults = Vec::new();
    let mut long = BTreeSet::new();
    for source in sources() {
        for (name, length) in functions(&source) {
            if length <= FUNCTION_LINES_MAX {
                continue;
            }
            let is_it = |entry: &&(&str, &str, usize)| entry.0 == source.path && entry.1 == name;
            match LONG_FUNCTIONS.iter().find(is_it) {
                Some((_, _, listed)) if length <= *listed => {
                    long.insert((source.path.clone(), name));
                }
                _ => faults.push(format!("{}: {name} has {length} lines", source.path)),
            }
        }
    }
    for (path, name, _) in LONG_FUNCTIONS {
        if !long.contains(&((*path).to_owned(), (*name).to_owned())) {
            faults.push(format!("{path}: {name} is listed as long and is not"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn unsafe_stays_in_its_files() {
    let word = concat!("un", "safe");
    let users: Vec<String> = (sources().into_iter())
        .filter(Source::is_ours_to_serve)
        .filter(|source| source.code().any(|(_, line)| has_word(line, word)))
        .map(|source| source.path)
        .collect();
    assert_eq!(users, UNSAFE_FILES);
}

#[test]
fn hashes_are_made_at_their_doors() {
    let word = concat!("sip", "13");
    let users: Vec<String> = (sources().into_iter())
        .filter(Source::is_ours_to_serve)
        .filter(|source| source.code().any(|(_, line)| has_word(line, word)))
        .map(|source| source.path)
        .collect();
    assert_eq!(users, HASHING_FILES);
}

#[test]
fn crates_are_named_where_they_belong() {
    check(|source| {
        let mut faults = Vec::new();
        for (name, homes) in CRATE_USERS {
            let is_home =
                |home: &&str| source.path.starts_with(*home) || source.path.ends_with(*home);
            let is_list = source.path == "tests/suite/tidy.rs";
            if homes.iter().any(is_home) || is_list {
                continue;
            }
            let what = format!("{name} is not for this file");
            faults.extend(lines(source, source.code(), &what, |line| has_word(line, name)));
        }
        faults
    });
}

fn level(room: &str) -> Option<usize> {
    LEVELS.iter().position(|rooms| rooms.contains(&room))
}

/// The rooms that a line names as `crate::room`.
fn rooms_in(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").map(|(at, found)| {
        let rest = &line[at + found.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let mut used = BTreeSet::new();
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.is_ours_to_serve()) {
        let parts: Vec<&str> = source.path.split('/').collect();
        // Commands stand on top of everything but the net; the table joins them.
        let is_top = parts.iter().any(|part| part.trim_end_matches(".rs") == "commands")
            || source.path == "src/command/table.rs";
        let own = parts[1];
        let Some(own_level) = (if is_top { level("report") } else { level(own) }) else { continue };
        for (number, line) in source.code_without_tests() {
            for room in rooms_in(line).filter(|room| *room != own) {
                let is_above = level(room).is_some_and(|other| match is_top {
                    true => other > own_level,
                    false => other >= own_level,
                });
                let path = source.path.as_str();
                if is_above && ARROW_EXCEPTIONS.iter().any(|(p, r, _)| *p == path && *r == room) {
                    used.insert((path.to_owned(), room.to_owned()));
                } else if is_above {
                    faults.push(format!("{path}:{number}: {own} does not stand on {room}"));
                }
            }
        }
    }
    for (path, room, _) in ARROW_EXCEPTIONS {
        if !used.contains(&((*path).to_owned(), (*room).to_owned())) {
            faults.push(format!("{path}: does not name {room}, and need not be excused"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The files beside it that a file of a room names, as `super::name` or in a list behind it.
fn files_named(source: &Source, stems: &BTreeSet<String>) -> BTreeSet<String> {
    let lines = source.code_without_tests().into_iter();
    let behind = lines.filter_map(|(_, line)| line.split_once("super::").map(|(_, rest)| rest));
    let words = behind.flat_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| stems.contains(*word)).map(str::to_owned).collect()
}

#[test]
fn files_of_the_net_name_each_other_in_no_circle() {
    let stem = |path: &str| Some(path.strip_prefix("src/net/")?.strip_suffix(".rs")?.to_owned());
    let stems: BTreeSet<String> = sources().iter().filter_map(|s| stem(&s.path)).collect();
    let mut named: BTreeMap<String, BTreeSet<String>> = sources()
        .iter()
        .filter_map(|source| Some((stem(&source.path)?, files_named(source, &stems))))
        .collect();
    assert!(named["turn"].contains("connection"), "they are seen at all");
    // What stands only on what was taken away is taken away, until nothing is left.
    while let Some(free) = named.iter().find(|(_, on)| on.is_empty()).map(|(own, _)| own.clone()) {
        named.remove(&free);
        named.values_mut().for_each(|on| _ = on.remove(&free));
    }
    assert!(named.is_empty(), "a circle: {named:?}");
}

/// What a driver says to an engine and asks it has names (`engine/turn.rs`).
#[test]
fn the_net_names_no_part_of_the_engine() {
    const PARTS: &[&str] = &["engine.server", "engine.keyspace", "engine.clients"];
    let names = |line: &str| {
        PARTS
            .iter()
            .any(|part| line.replace("borrow_mut().", "").replace("borrow().", "").contains(part))
    };
    assert!(names("net.engine.borrow_mut().server.config"));
    check(|source| {
        let is_net = source.path.starts_with("src/net/");
        let code = source.code().filter(|_| is_net);
        lines(source, code, "the net names a part of the engine", names)
    });
}

#[test]
fn nothing_is_left_for_later() {
    let markers = [
        concat!("to", "do!("),
        concat!("unim", "plemented!("),
        concat!("db", "g!("),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
        concat!("TO", "DO"),
        concat!("#[ig", "nore"),
    ];
    check(|source| {
        let all = source.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines(source, all, "a stale marker", |line| markers.iter().any(|m| line.contains(m)))
    });
}

#[test]
fn tests_do_not_sleep() {
    let sleeps = [concat!("thread::", "sleep"), concat!("time::", "sleep")];
    check(|source| {
        let mut in_tests = !source.is_ours_to_serve() || source.path.ends_with("/tests.rs");
        let mut faults = Vec::new();
        for (number, line) in source.code() {
            in_tests |= line == "#[cfg(test)]";
            if in_tests && sleeps.iter().any(|sleep| line.contains(sleep)) {
                faults.push(format!("{}:{number}: a test that sleeps", source.path));
            }
        }
        faults
    });
}

#[test]
fn imports_name_what_they_import() {
    check(|source| {
        let is_glob = |line: &str| line.trim_start().starts_with("use ") && line.contains("::*");
        let what = "a glob import";
        lines(source, source.code_without_tests().into_iter(), what, is_glob)
    });
}

/// The files that a file's `mod` lines name, as far as they exist.
fn modules_of(path: &Path, text: &str) -> Vec<PathBuf> {
    let stem = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
    let directory = path.parent().expect("it is in a directory");
    let is_root = matches!(&*stem, "mod" | "lib" | "main");
    let base = if is_root { directory.to_owned() } else { directory.join(stem) };
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            found.push(base.join(format!("{name}.rs")));
            found.push(base.join(name).join("mod.rs"));
        }
    }
    found
}

#[test]
fn every_file_belongs_to_the_tree() {
    let all: BTreeMap<PathBuf, String> =
        sources().into_iter().map(|s| (PathBuf::from(s.path), s.text)).collect();
    let roots = ["src/lib.rs", "src/main.rs", "tests/suite/main.rs"];
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    let mut queue: Vec<PathBuf> = roots.iter().map(PathBuf::from).collect();
    while let Some(path) = queue.pop() {
        if let Some(text) = all.get(&path)
            && reached.insert(path.clone())
        {
            queue.extend(modules_of(&path, text));
        }
    }
    let targets = ["benches", "fuzz", "proofs"];
    let is_target = |path: &Path| targets.iter().any(|target| path.starts_with(target));
    let orphans: Vec<&PathBuf> =
        all.keys().filter(|path| !reached.contains(*path) && !is_target(path)).collect();
    assert!(orphans.is_empty(), "no mod line names {orphans:?}");
}

/// The names in `COMMANDS: &[&Command] = &[...]` lists.
fn listed_commands(text: &str) -> Vec<Vec<String>> {
    let lists = text.split("COMMANDS: &[&Command] =").skip(1);
    let bodies = lists.filter_map(|rest| rest.split_once(';')).map(|(body, _)| body);
    let names = |body: &str| {
        let body = body.trim().trim_start_matches("&[").trim_end_matches(']');
        let names = body.split(',').map(|name| name.trim().trim_start_matches('&'));
        let last = names.filter_map(|name| name.rsplit("::").next()).filter(|n| !n.is_empty());
        last.map(str::to_owned).collect()
    };
    bodies.map(names).collect()
}

#[test]
fn rooms_list_their_commands_in_order() {
    check(|source| {
        let unsorted = listed_commands(&source.text).into_iter().filter(|names| !names.is_sorted());
        unsorted.map(|names| format!("{}: {names:?} is not sorted", source.path)).collect()
    });
}

#[test]
fn only_tests_are_left_out() {
    let text = "struct A {\n    #[cfg(test)]\n    b: u8,\n    c: u8,\n}\n\n\
                #[cfg(test)]\nmod tests {\n    fn d() {\n    }\n}\n\n\
                #[cfg(test)]\n#[inline]\nfn e(\n    f: u8,\n) {\n}\n\n\
                #[cfg(test)]\nmod g;\nfn h() {}\n";
    let source = Source { path: "src/x.rs".to_owned(), text: text.to_owned() };
    let kept: Vec<&str> = source.code_without_tests().into_iter().map(|(_, line)| line).collect();
    assert_eq!(kept, ["struct A {", "    c: u8,", "}", "", "", "", "fn h() {}"]);
}

#[test]
fn lengths_are_counted_by_indentation() {
    let text = "fn a() {\n    b();\n}\n\nimpl X {\n    pub fn b(\n    ) {\n    }\n}\n";
    let source = Source { path: "src/x.rs".to_owned(), text: text.to_owned() };
    assert_eq!(functions(&source), [("a".to_owned(), 3), ("b".to_owned(), 3)]);
}
