//! What holds for every command record, whoever wrote it.

use crate::answer::Answer;
use crate::local::Local;
use crate::play;
use crate::shape;
use crate::transcript::{Action, Transcript};
use rufous::command::table::Row;
use rufous::command::{Arg, ArgKind, Begin, Find, Flags, KeyFlags, Shape, Table};
use std::collections::BTreeSet;

fn complain(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn faults_of(find: impl Fn(&Table, &Row) -> Option<String>) {
    let table = Table::new();
    let rows = table.rows().iter();
    let faults: Vec<String> = rows
        .filter_map(|row| find(&table, row).map(|fault| format!("{}: {fault}", row.full_name)))
        .collect();
    complain(&faults);
}

#[test]
fn names_are_lower_case_and_unique() {
    let mut seen = BTreeSet::new();
    let table = Table::new();
    for row in table.rows() {
        assert!(seen.insert(row.full_name), "{} is there twice", row.full_name);
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        assert!(row.command.name.bytes().all(is_plain), "{}", row.full_name);
    }
}

#[test]
fn records_say_what_they_are() {
    faults_of(|_, row| {
        let command = row.command;
        let is_sentence = command.summary.ends_with('.')
            && command.summary.starts_with(|c: char| c.is_ascii_uppercase());
        let is_version =
            |v: &str| v.split('.').count() == 3 && v.split('.').all(|n| n.parse::<u8>().is_ok());
        let versions = command.history.iter().map(|(version, _)| *version).chain([command.since]);
        let faults = [
            (!is_sentence, "the summary is not a sentence"),
            (command.complexity.is_empty(), "no complexity"),
            (versions.into_iter().any(|v| !is_version(v)), "a version is not three numbers"),
            (command.arity.as_i64() == 0, "an arity of nothing"),
        ];
        faults.iter().find(|(is_one, _)| *is_one).map(|(_, text)| (*text).to_owned())
    });
}

#[test]
fn subcommands_are_listed_in_order() {
    faults_of(|_, row| {
        let names: Vec<&str> = row.command.subcommands.iter().map(|sub| sub.name).collect();
        (!names.is_sorted()).then(|| format!("{names:?}"))
    });
}

/// The words an argument takes: at least, and at most unless there is no limit.
fn words_of(arg: &Arg) -> (usize, Option<usize>) {
    let token = usize::from(arg.token.is_some());
    let (mut least, mut most) = match arg.kind {
        ArgKind::PureToken => (1, Some(1)),
        ArgKind::Block(parts) => {
            let (least, most) = words_of_all(parts);
            (least + token, most.map(|most| most + token))
        }
        ArgKind::OneOf(choices) => {
            let choices = choices.iter().map(words_of);
            let least = choices.clone().map(|(least, _)| least).min().unwrap_or(0);
            let most = choices.map(|(_, most)| most).try_fold(0, |a, b| b.map(|b| a.max(b)));
            (least + token, most.map(|most| most + token))
        }
        _ => (1 + token, Some(1 + token)),
    };
    if arg.optional {
        least = 0;
    }
    if arg.multiple {
        most = None;
    }
    (least, most)
}

fn words_of_all(args: &[Arg]) -> (usize, Option<usize>) {
    args.iter().map(words_of).fold((0, Some(0)), |(least, most), (l, m)| {
        (least + l, most.zip(m).map(|(most, m)| most + m))
    })
}

/// Commands whose arity, which clients see, does not follow from their arguments.
const ODD_ARITIES: &[(&str, &str)] = &[
    ("client|kill", "every filter is optional, but one must be there"),
    ("psync", "a third word says that the replica is to take over"),
    ("quit", "what follows the word has always been ignored"),
    ("replconf", "takes pairs that are nobody's but servers'"),
];

#[test]
fn arities_follow_from_the_arguments() {
    faults_of(|_, row| {
        let command = row.command;
        if command.is_container() || ODD_ARITIES.iter().any(|(name, _)| *name == row.full_name) {
            return None;
        }
        let name_words = 1 + usize::from(row.parent.is_some());
        let (least, most) = words_of_all(command.args);
        let (least, most) = (least + name_words, most.map(|most| most + name_words));
        let arity = command.arity.as_i64();
        let bound = usize::try_from(arity.unsigned_abs()).expect("a few words");
        let agrees = match arity {
            1.. => least == bound && most == Some(bound),
            _ => least == bound && most != Some(bound),
        };
        (!agrees).then(|| format!("arity {arity}, but the arguments take {least} to {most:?}"))
    });
}

#[test]
fn keys_are_where_the_arity_puts_them() {
    faults_of(|_, row| {
        let bound = usize::try_from(row.command.arity.as_i64().unsigned_abs()).expect("small");
        row.command.keys.iter().enumerate().find_map(|(index, spec)| {
            let Begin::Index(first) = spec.begin else { return None };
            let first = usize::from(first);
            let last = match spec.find {
                Find::Range { last, .. } if last > 0 => first + usize::from(last.unsigned_abs()),
                Find::Counted { count, .. } => first + usize::from(count),
                _ => first,
            };
            let may_be_absent = row.command.flags.has(Flags::NO_MANDATORY_KEYS)
                || spec.flags.has(KeyFlags::NOT_KEY)
                || spec.flags.has(KeyFlags::INCOMPLETE)
                || (index > 0 && spec.is_rest());
            let fits = first > 0 && (last < bound || may_be_absent);
            (!fits).then(|| format!("keys from {first} to {last} in {bound} words"))
        })
    });
}

#[test]
fn nothing_both_writes_and_only_reads() {
    faults_of(|_, row| {
        let flags = row.command.flags;
        let both = flags.has(Flags::WRITE) && flags.has(Flags::READONLY);
        let changes = |flags: KeyFlags| {
            [KeyFlags::RW, KeyFlags::OW, KeyFlags::RM].iter().any(|kind| flags.has(*kind))
        };
        let keys = row.command.keys;
        let is_quiet_write = keys.iter().any(|spec| changes(spec.flags))
            && !flags.intersects(Flags::WRITE.or(Flags::MAY_REPLICATE));
        match (both, is_quiet_write) {
            (true, _) => Some("write and readonly".to_owned()),
            (_, true) => Some("changes keys without being a write".to_owned()),
            _ => None,
        }
    });
}

#[test]
fn who_may_run_what_is_protected_is_said() {
    faults_of(|_, row| {
        let is_protected = row.command.flags.has(Flags::PROTECTED);
        let differs = is_protected != row.command.guard.is_some();
        differs.then(|| "PROTECTED, and no guard; or the other way round".to_owned())
    });
}

#[test]
fn every_container_has_a_help_that_works() {
    let mut local = Local::start(&[]);
    let client = local.connect();
    let table = Table::new();
    for row in table.rows().iter().filter(|row| row.command.is_container()) {
        if !table.children(row.id).any(|child| child.command.name == "help") {
            panic!("{} has no HELP", row.full_name);
        }
        let reply = local.call(client, &[row.full_name, "help"]);
        if row.full_name == "cluster" {
            // A server alone says that of all its subcommands, as in Redis.
            let alone = b"ERR This instance has cluster support disabled".to_vec();
            assert_eq!(reply, Some(Answer::Error(alone)));
            continue;
        }
        let Some(Answer::Array(lines)) = reply else { panic!("{}: {reply:?}", row.full_name) };
        let subcommands = row.command.subcommands.len();
        assert!(lines.len() > 2 * subcommands, "{}: {lines:?}", row.full_name);
    }
}

/// Commands that no transcript shows, and why.
const NOT_SHOWN: &[(&str, &str)] =
    &[("sync", "what follows is no reply, and a connection that does nothing else")];

#[test]
fn every_command_is_shown_by_an_example_or_a_transcript() {
    let table = Table::new();
    let examples = table.rows().iter().map(|row| play::example(row.full_name, row.command.example));
    let files = play::files();
    let transcripts = files.iter().map(|file| Transcript::load(file)).chain(examples);
    let mut shown = BTreeSet::new();
    for transcript in transcripts {
        for step in &transcript.steps {
            if let Action::Call(words) = &step.action
                && let Some(command) = shape::row(&table, words)
            {
                shown.insert(command.full_name);
            }
        }
    }
    let is_excused = |name: &str| NOT_SHOWN.iter().any(|(excused, _)| *excused == name);
    let missing: Vec<String> = (table.rows().iter())
        .filter(|row| !row.command.is_container() && row.command.name != "help")
        .filter(|row| !shown.contains(row.full_name) && !is_excused(row.full_name))
        .map(|row| format!("{} is shown nowhere", row.full_name))
        .collect();
    complain(&missing);
}

/// A declared shape is checked wherever a reply is seen; a command that declares none is not.
#[test]
fn replies_have_a_declared_shape() {
    let table = Table::new();
    let rows = table.rows().iter().filter(|row| !row.command.is_container());
    let (any, declared): (Vec<&Row>, Vec<&Row>) =
        rows.partition(|row| row.command.reply == Shape::Any);
    let names: Vec<&str> = any.iter().map(|row| row.full_name).collect();
    assert!(any.len() * 3 < declared.len(), "too many commands declare no shape: {names:?}");
}
