//! COMMAND: what clients learn about commands, read off the records.

use super::keys::legacy_range;
use super::spec::{Arg, ArgKind};
use super::table::Row;
use super::{
    Args, Arity, Begin, Categories, Command, CommandError, CommandResult, Find, Flags, Group,
    KeySpec, Lookup, Shape, Table, find_keys, help,
};
use crate::engine::Cx;
use crate::resp::Reply;
use crate::structs::glob;

pub static COMMANDS: &[&Command] = &[&COMMAND];

const COMMON: Flags = Flags::LOADING.or(Flags::STALE).or(Flags::SENTINEL);

static COMMAND: Command = Command {
    name: "command",
    since: "2.8.13",
    group: Group::Server,
    summary: "Describes all commands.",
    complexity: "O(N) with N commands",
    arity: Arity::at_least(1),
    flags: COMMON,
    acl: Categories::CONNECTION,
    tips: &["nondeterministic_output_order"],
    subcommands: &[&COUNT, &DOCS, &GETKEYS, &GETKEYSANDFLAGS, &HELP, &INFO, &LIST],
    reply: Shape::Array,
    run: info,
    ..Command::BASE
};

static HELP: Command = Command {
    name: "help",
    since: "5.0.0",
    group: Group::Server,
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: COMMON,
    acl: Categories::CONNECTION,
    reply: Shape::Array,
    run: help::subcommands,
    ..Command::BASE
};

static COUNT: Command = Command {
    name: "count",
    since: "2.8.13",
    group: Group::Server,
    summary: "Returns how many commands there are, subcommands not counted.",
    arity: Arity::exactly(2),
    flags: COMMON,
    acl: Categories::CONNECTION,
    reply: Shape::Integer,
    run: count,
    ..Command::BASE
};

fn count(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    cx.reply.integer(top_level(&cx.server.table).count() as i64);
    Ok(())
}

fn top_level(table: &Table) -> impl Iterator<Item = &Row> {
    table.rows().iter().filter(|row| row.parent.is_none())
}

static INFO: Command = Command {
    name: "info",
    since: "2.8.13",
    group: Group::Server,
    summary: "Describes some commands, or all, for machines.",
    complexity: "O(N) with N commands",
    arity: Arity::at_least(2),
    flags: COMMON,
    acl: Categories::CONNECTION,
    tips: &["nondeterministic_output_order"],
    history: &[("7.0.0", "Described all commands when none is named.")],
    args: &[Arg::string("command-name").optional().multiple()],
    reply: Shape::Array,
    example: "> COMMAND INFO nothing\n1) (nil)",
    run: info,
    ..Command::BASE
};

fn info(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let table = &cx.server.table;
    if args.is_empty() {
        cx.reply.array(top_level(table).count());
        for row in top_level(table) {
            put_info(&mut cx.reply, table, row);
        }
        return Ok(());
    }
    cx.reply.array(args.remaining());
    while !args.is_empty() {
        match table.by_full_name(args.bytes()) {
            Some(id) => put_info(&mut cx.reply, table, table.row(id)),
            None => cx.reply.null(),
        }
    }
    Ok(())
}

fn put_info(reply: &mut Reply<'_>, table: &Table, row: &Row) {
    let command = row.command;
    let (first, last, step) = legacy_range(command);
    reply.array(10);
    reply.bulk(row.full_name.as_bytes());
    reply.integer(command.arity.as_i64());
    put_names(reply, row.flags.without(HIDDEN).names());
    reply.integer(first);
    reply.integer(last);
    reply.integer(step);
    let categories: Vec<String> = command.categories().names().map(|c| format!("@{c}")).collect();
    put_names(reply, categories.iter().map(String::as_str));
    reply.set(command.tips.len());
    for tip in command.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(command.keys.len());
    for spec in command.keys {
        put_key_spec(reply, spec);
    }
    if command.subcommands.is_empty() {
        // An empty set, where others than leaves have an array: so Redis does it.
        reply.set(0);
        return;
    }
    reply.array(command.subcommands.len());
    for child in table.children(row.id) {
        put_info(reply, table, child);
    }
}

/// Flags that are the server's own business.
const HIDDEN: Flags = Flags::MAY_REPLICATE
    .or(Flags::SENTINEL)
    .or(Flags::ONLY_SENTINEL)
    .or(Flags::PROTECTED)
    .or(Flags::TOUCHES_ARBITRARY_KEYS);

/// A set of simple strings.
fn put_names<'n>(reply: &mut Reply<'_>, names: impl Iterator<Item = &'n str>) {
    let names: Vec<&str> = names.collect();
    reply.set(names.len());
    for name in names {
        reply.simple(name.as_bytes());
    }
}

fn put_key_spec(reply: &mut Reply<'_>, spec: &KeySpec) {
    reply.map(if spec.notes.is_empty() { 3 } else { 4 });
    if !spec.notes.is_empty() {
        reply.bulk(b"notes");
        reply.bulk(spec.notes.as_bytes());
    }
    reply.bulk(b"flags");
    put_names(reply, spec.flags.names());
    reply.bulk(b"begin_search");
    match spec.begin {
        Begin::Index(index) => put_search(reply, "index", &[("index", i64::from(index))]),
        Begin::Keyword { keyword, start } => {
            put_search_head(reply, "keyword", 2);
            reply.bulk(b"keyword");
            reply.bulk(keyword.as_bytes());
            reply.bulk(b"startfrom");
            reply.integer(i64::from(start));
        }
        Begin::Unknown => put_search(reply, "unknown", &[]),
    }
    reply.bulk(b"find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            let spec =
                [("lastkey", last.into()), ("keystep", step.into()), ("limit", limit.into())];
            put_search(reply, "range", &spec);
        }
        Find::Counted { count, first, step } => {
            let spec =
                [("keynumidx", count.into()), ("firstkey", first.into()), ("keystep", step.into())];
            put_search(reply, "keynum", &spec);
        }
        Find::Unknown => put_search(reply, "unknown", &[]),
    }
}

fn put_search_head(reply: &mut Reply<'_>, kind: &str, fields: usize) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(fields);
}

fn put_search(reply: &mut Reply<'_>, kind: &str, fields: &[(&str, i64)]) {
    put_search_head(reply, kind, fields.len());
    for (name, value) in fields {
        reply.bulk(name.as_bytes());
        reply.integer(*value);
    }
}

static DOCS: Command = Command {
    name: "docs",
    since: "7.0.0",
    group: Group::Server,
    summary: "Documents some commands, or all, for people.",
    complexity: "O(N) with N commands",
    arity: Arity::at_least(2),
    flags: COMMON,
    acl: Categories::CONNECTION,
    tips: &["nondeterministic_output_order"],
    args: &[Arg::string("command-name").optional().multiple()],
    reply: Shape::Map,
    example: "> COMMAND DOCS nothing\n(empty array)",
    run: docs,
    ..Command::BASE
};

fn docs(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let table = &cx.server.table;
    let mut rows: Vec<&Row> = Vec::new();
    if args.is_empty() {
        rows.extend(top_level(table));
    }
    while !args.is_empty() {
        rows.extend(table.by_full_name(args.bytes()).map(|id| table.row(id)));
    }
    cx.reply.map(rows.len());
    for row in rows {
        cx.reply.bulk(row.full_name.as_bytes());
        put_docs(&mut cx.reply, table, row);
    }
    Ok(())
}

fn put_docs(reply: &mut Reply<'_>, table: &Table, row: &Row) {
    let command = row.command;
    let marks: Vec<&str> =
        [(command.deprecated.is_some(), "deprecated"), (command.is_internal, "syscmd")]
            .into_iter()
            .filter_map(|(is_set, name)| is_set.then_some(name))
            .collect();
    let optional = [
        !marks.is_empty(),
        command.deprecated.is_some(),
        command.deprecated.is_some(),
        !command.history.is_empty(),
        !command.args.is_empty(),
        command.is_container(),
    ];
    reply.map(4 + optional.iter().filter(|is_there| **is_there).count());
    let mut put = |name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    put("summary", command.summary);
    put("since", command.since);
    put("group", command.group.name());
    put("complexity", command.complexity);
    if !marks.is_empty() {
        reply.bulk(b"doc_flags");
        put_names(reply, marks.into_iter());
    }
    if let Some(deprecated) = command.deprecated {
        reply.bulk(b"deprecated_since");
        reply.bulk(deprecated.since.as_bytes());
        reply.bulk(b"replaced_by");
        reply.bulk(deprecated.replaced_by.as_bytes());
    }
    if !command.history.is_empty() {
        reply.bulk(b"history");
        reply.set(command.history.len());
        for (version, change) in command.history {
            reply.array(2);
            reply.bulk(version.as_bytes());
            reply.bulk(change.as_bytes());
        }
    }
    if !command.args.is_empty() {
        reply.bulk(b"arguments");
        put_args(reply, command.args);
    }
    if command.is_container() {
        reply.bulk(b"subcommands");
        reply.map(command.subcommands.len());
        for child in table.children(row.id) {
            reply.bulk(child.full_name.as_bytes());
            put_docs(reply, table, child);
        }
    }
}

fn put_args(reply: &mut Reply<'_>, args: &[Arg]) {
    reply.array(args.len());
    for arg in args {
        put_arg(reply, arg);
    }
}

fn put_arg(reply: &mut Reply<'_>, arg: &Arg) {
    let parts = match arg.kind {
        ArgKind::OneOf(parts) | ArgKind::Block(parts) => Some(parts),
        _ => None,
    };
    let flags: Vec<&str> = [
        (arg.optional, "optional"),
        (arg.multiple, "multiple"),
        (arg.multiple_token, "multiple_token"),
    ]
    .into_iter()
    .filter_map(|(is_set, name)| is_set.then_some(name))
    .collect();
    let optional = [
        arg.key_spec.is_some(),
        arg.token.is_some(),
        arg.since.is_some(),
        arg.deprecated_since.is_some(),
        !flags.is_empty(),
    ];
    // Either the parts or the text to display.
    reply.map(3 + optional.iter().filter(|is_there| **is_there).count());
    let mut put = |name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    put("name", arg.name);
    put("type", arg.kind.name());
    if parts.is_none() {
        put("display_text", arg.display.unwrap_or(arg.name));
    }
    if let Some(index) = arg.key_spec {
        reply.bulk(b"key_spec_index");
        reply.integer(i64::from(index));
    }
    let mut put = |name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    if let Some(token) = arg.token {
        put("token", token);
    }
    if let Some(since) = arg.since {
        put("since", since);
    }
    if let Some(version) = arg.deprecated_since {
        put("deprecated_since", version);
    }
    if !flags.is_empty() {
        reply.bulk(b"flags");
        put_names(reply, flags.into_iter());
    }
    if let Some(parts) = parts {
        reply.bulk(b"arguments");
        put_args(reply, parts);
    }
}

static LIST: Command = Command {
    name: "list",
    since: "7.0.0",
    group: Group::Server,
    summary: "Lists the names of all commands, or of those that pass a filter.",
    complexity: "O(N) with N commands",
    arity: Arity::at_least(2),
    flags: COMMON,
    acl: Categories::CONNECTION,
    tips: &["nondeterministic_output_order"],
    args: &[Arg::one_of(
        "filterby",
        &[
            Arg::string("module-name").token("MODULE"),
            Arg::string("category").token("ACLCAT"),
            Arg::pattern("pattern").token("PATTERN"),
        ],
    )
    .token("FILTERBY")
    .optional()],
    reply: Shape::Array,
    example: "> COMMAND LIST FILTERBY PATTERN ech*\n1) \"echo\"",
    run: list,
    ..Command::BASE
};

fn list(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut filter: Box<dyn Fn(&Row) -> bool> = Box::new(|_| true);
    if !args.is_empty() {
        if args.remaining() != 3 || !args.option("filterby") {
            return Err(CommandError::Syntax);
        }
        let (kind, text) = (args.bytes(), args.bytes());
        if kind.eq_ignore_ascii_case(b"module") {
            filter = Box::new(|_| false);
        } else if kind.eq_ignore_ascii_case(b"aclcat") {
            let category = Categories::by_name(text);
            filter = Box::new(move |row| category.is_some_and(|c| row.command.categories().has(c)));
        } else if kind.eq_ignore_ascii_case(b"pattern") {
            let matches =
                |row: &Row| glob::matches(text, row.full_name.as_bytes(), glob::Case::Insensitive);
            filter = Box::new(matches);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let names: Vec<&str> = (cx.server.table.rows().iter())
        .filter(|row| filter(row))
        .map(|row| row.full_name)
        .collect();
    cx.reply.array(names.len());
    for name in names {
        cx.reply.bulk(name.as_bytes());
    }
    Ok(())
}

static GETKEYS: Command = Command {
    name: "getkeys",
    since: "2.8.13",
    group: Group::Server,
    summary: "Finds the keys in a whole command line.",
    complexity: "O(N) with N arguments",
    arity: Arity::at_least(3),
    flags: COMMON,
    acl: Categories::CONNECTION,
    args: &[Arg::string("command"), Arg::string("arg").optional().multiple()],
    reply: Shape::Array,
    example: "> COMMAND GETKEYS SET k v\n1) \"k\"\n\
              > COMMAND GETKEYS PING\n(error) ERR The command has no key arguments",
    run: getkeys,
    ..Command::BASE
};

static GETKEYSANDFLAGS: Command = Command {
    name: "getkeysandflags",
    since: "7.0.0",
    group: Group::Server,
    summary: "Finds the keys in a whole command line, and how the command treats them.",
    complexity: "O(N) with N arguments",
    arity: Arity::at_least(3),
    flags: COMMON,
    acl: Categories::CONNECTION,
    args: &[Arg::string("command"), Arg::string("arg").optional().multiple()],
    reply: Shape::Array,
    example: "> COMMAND GETKEYSANDFLAGS GET k\n1) 1) \"k\"\n   2) 1) RO\n      2) access",
    run: getkeysandflags,
    ..Command::BASE
};

fn getkeys(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    put_keys(cx, args, false)
}

fn getkeysandflags(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    put_keys(cx, args, true)
}

fn put_keys(cx: &mut Cx<'_>, args: &mut Args<'_>, with_flags: bool) -> CommandResult {
    let request = args.request().skip(2);
    let table = &cx.server.table;
    let Lookup::Found(id) = table.lookup(&request) else {
        return Err(CommandError::Fixed("ERR Invalid command specified"));
    };
    let row = table.row(id);
    let command = row.command;
    if !command.has_keys() {
        return Err(CommandError::Fixed("ERR The command has no key arguments"));
    }
    if !command.arity.accepts(request.len()) {
        return Err(CommandError::Fixed("ERR Invalid number of arguments specified for command"));
    }
    let found = find_keys(command, &request).filter(|found| !found.is_empty());
    let Some(found) = found else {
        if row.flags.has(Flags::NO_MANDATORY_KEYS) {
            cx.reply.array(0);
            return Ok(());
        }
        return Err(CommandError::Fixed("ERR Invalid arguments specified for command"));
    };
    cx.reply.array(found.len());
    for key in found.keys() {
        if with_flags {
            cx.reply.array(2);
        }
        cx.reply.bulk(request.arg(key.index));
        if with_flags {
            put_names(&mut cx.reply, key.flags.names());
        }
    }
    Ok(())
}
