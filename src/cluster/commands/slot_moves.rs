//! Moves of whole slots: as Valkey 9 has them at their source (CLUSTER MIGRATESLOTS), as Redis 8.4
//! has them at their target (CLUSTER MIGRATION), and what nodes say to each other for both
//! (CLUSTER SLOTMOVE).

use super::{member, named_twice, slot_range, unknown_node};
use crate::cluster::id::NodeId;
use crate::cluster::moves::State;
use crate::cluster::slot_set::SlotSet;
use crate::command::{Args, CommandError, CommandResult};
use crate::engine::slot_move::{ExportJob, ImportJob, ImportState, Wish, runs};
use crate::engine::{Caller, Cx};
use crate::keyspace::slot::Slot;
use crate::structs::number::parse_u64;

/// Ranges of slots up to an argument that begins no number, or to the end.
fn slot_ranges(args: &mut Args<'_>) -> Result<Vec<Slot>, CommandError> {
    let (mut named, mut slots) = (SlotSet::new(), Vec::new());
    while args.peek().is_some_and(|word| word.first().is_some_and(u8::is_ascii_digit)) {
        if args.remaining() == 1 {
            return Err(CommandError::Fixed("ERR A range of slots lacks its end"));
        }
        for slot in slot_range(args)? {
            if named.has(slot) {
                return Err(named_twice(slot));
            }
            named.insert(slot);
            slots.push(slot);
        }
    }
    match (slots.is_empty(), args.is_empty()) {
        (false, _) => Ok(slots),
        (true, true) => Err(CommandError::Syntax),
        (true, false) => Err(CommandError::Fixed("ERR Invalid or out of range slot")),
    }
}

fn id(args: &mut Args<'_>) -> Result<NodeId, CommandError> {
    NodeId::parse(args.bytes()).ok_or(CommandError::Fixed("ERR Invalid id of a move"))
}

fn node_id(args: &mut Args<'_>) -> Result<NodeId, CommandError> {
    let word = args.bytes();
    NodeId::parse(word).ok_or_else(|| unknown_node(word))
}

/// CLUSTER MIGRATESLOTS: all that is asked for begins, or nothing.
pub(super) fn migrate_slots(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    member(cx)?;
    let mut wanted: Vec<(NodeId, Vec<Slot>)> = Vec::new();
    let mut named = SlotSet::new();
    while !args.is_empty() {
        if !args.option("slotsrange") {
            return Err(CommandError::Syntax);
        }
        let slots = slot_ranges(args)?;
        if !args.option_with_value("node") {
            return Err(CommandError::Syntax);
        }
        let target = node_id(args)?;
        cx.server.may_export(&slots, target)?;
        if let Some(slot) = slots.iter().find(|slot| named.has(**slot)) {
            return Err(named_twice(*slot));
        }
        slots.iter().for_each(|slot| named.insert(*slot));
        wanted.push((target, slots));
    }
    args.done()?;
    for (target, slots) in wanted {
        let id = cx.fresh_move_id();
        cx.core().begin_export(id, target, slots);
    }
    cx.reply.ok();
    Ok(())
}

pub(super) fn cancel_slot_migrations(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    member(cx)?;
    if cx.core().cancel_exports(|_| true) == 0 {
        return Err(CommandError::Fixed("ERR No migrations ongoing"));
    }
    cx.reply.ok();
    Ok(())
}

/// A move in either direction, as it is shown.
enum Shown<'j> {
    Export(&'j ExportJob),
    Import(&'j ImportJob),
}

impl Shown<'_> {
    fn created_ms(&self) -> u64 {
        match self {
            Shown::Export(job) => job.times.created_ms,
            Shown::Import(job) => job.times.created_ms,
        }
    }
}

/// The moves of this node, the newest first.
fn all<'c>(cx: &'c Cx<'_>) -> Vec<Shown<'c>> {
    let moves = &cx.server.slot_moves;
    let exports = moves.exports.iter().rev().map(Shown::Export);
    let mut all: Vec<Shown<'c>> =
        exports.chain(moves.imports.iter().rev().map(Shown::Import)).collect();
    all.sort_by_key(|shown| std::cmp::Reverse(shown.created_ms()));
    all
}

fn ranges_text(slots: &[Slot], between: &str) -> String {
    let texts: Vec<String> = runs(slots)
        .into_iter()
        .map(|(first, last)| match first == last && between == "," {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    texts.join(between)
}

/// CLUSTER GETSLOTMIGRATIONS.
pub(super) fn get_slot_migrations(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let own = member(cx)?.machine.table().myself().id();
    let rows: Vec<Vec<(&str, Value)>> =
        all(cx).iter().map(|shown| valkey_row(shown, own)).collect();
    write_rows(cx, rows);
    Ok(())
}

enum Value {
    Text(String),
    Number(u64),
}

fn write_rows(cx: &mut Cx<'_>, rows: Vec<Vec<(&str, Value)>>) {
    cx.reply.array(rows.len());
    for row in rows {
        cx.reply.map(row.len());
        for (name, value) in row {
            cx.reply.bulk(name.as_bytes());
            match value {
                Value::Text(text) => cx.reply.bulk(text.as_bytes()),
                Value::Number(number) => cx.reply.integer(number as i64),
            }
        }
    }
}

fn valkey_row(shown: &Shown<'_>, own: NodeId) -> Vec<(&'static str, Value)> {
    let (id, operation, slots, source, target, times, word, message, left) = match shown {
        Shown::Export(job) => {
            let left = job.export.said - job.export.acked;
            let (state, message) = (job.export.state.word(), &job.export.message);
            let (slots, target) = (&job.export.slots, job.export.target);
            (job.id, "EXPORT", slots, own, target, &job.times, state, message, left)
        }
        Shown::Import(job) => {
            let (state, message) = (job.state.word(), &job.message);
            (job.id, "IMPORT", &job.slots, job.source, own, &job.times, state, message, 0)
        }
    };
    vec![
        ("name", Value::Text(id.to_string())),
        ("operation", Value::Text(operation.to_owned())),
        ("slot_ranges", Value::Text(ranges_text(slots, " "))),
        ("target_node", Value::Text(target.to_string())),
        ("source_node", Value::Text(source.to_string())),
        ("create_time", Value::Number(times.created_ms / 1000)),
        ("last_update_time", Value::Number(times.updated_ms / 1000)),
        ("last_ack_time", Value::Number(times.acked_ms / 1000)),
        ("state", Value::Text(word.to_owned())),
        ("message", Value::Text(message.clone())),
        // Nothing is copied for a move but what is written meanwhile, which all snapshots share.
        ("cow_size", Value::Number(0)),
        ("remaining_repl_size", Value::Number(left)),
    ]
}

/// CLUSTER MIGRATION IMPORT, CANCEL and STATUS.
pub(super) fn migration(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    member(cx)?;
    if args.option("import") {
        return import(cx, args);
    }
    if args.option("cancel") {
        let wanted = which(args)?;
        let is_wanted = |id| wanted.is_none_or(|wanted| wanted == id);
        let imports = cx.core().cancel_imports(|job| is_wanted(job.id));
        let exports = cx.core().cancel_exports(|job| is_wanted(job.id));
        cx.reply.integer((imports + exports) as i64);
        return Ok(());
    }
    if args.option("status") {
        let wanted = if args.is_empty() { None } else { which(args)? };
        return status(cx, wanted);
    }
    Err(CommandError::subcommand_syntax("CLUSTER", args.request().arg(1)))
}

/// `ID id` or `ALL`.
fn which(args: &mut Args<'_>) -> Result<Option<NodeId>, CommandError> {
    let wanted = if args.option("all") {
        None
    } else if args.option_with_value("id") {
        Some(id(args)?)
    } else {
        return Err(CommandError::Syntax);
    };
    args.done()?;
    Ok(wanted)
}

fn import(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let slots = slot_ranges(args)?;
    args.done()?;
    let machine = &member(cx)?.machine;
    let table = machine.table();
    let owner = table.owner(slots[0]);
    let Some(owner) = owner else {
        return Err(CommandError::err(format_args!("Slot {} is not assigned", slots[0])));
    };
    if owner == table.me() {
        return Err(CommandError::err(format_args!("Slot {} is served by this node", slots[0])));
    }
    let source = table.node(owner).id();
    machine
        .may_take_slots(&slots, source)
        .map_err(|refusal| CommandError::err(format_args!("{refusal}")))?;
    let open = cx.server.slot_moves.imports.iter().filter(|job| !job.state.is_over());
    let coming: SlotSet = open.flat_map(|job| job.slots.iter().copied()).collect();
    if slots.iter().any(|slot| coming.has(*slot)) {
        return Err(CommandError::Fixed("ERR Some of the slots are being moved already"));
    }
    let id = cx.fresh_move_id();
    cx.core().begin_import(Wish { id, source, slots });
    cx.reply.bulk(id.to_string().as_bytes());
    Ok(())
}

fn status(cx: &mut Cx<'_>, wanted: Option<NodeId>) -> CommandResult {
    let own = member(cx)?.machine.table().myself().id();
    let is_wanted = |id| wanted.is_none_or(|wanted| wanted == id);
    let rows = all(cx).into_iter().filter_map(|shown| match &shown {
        Shown::Export(job) => is_wanted(job.id).then(|| redis_row(&shown, own)),
        Shown::Import(job) => is_wanted(job.id).then(|| redis_row(&shown, own)),
    });
    let rows = rows.collect();
    write_rows(cx, rows);
    Ok(())
}

fn redis_row(shown: &Shown<'_>, own: NodeId) -> Vec<(&'static str, Value)> {
    let (id, operation, slots, source, target, times, word, message, paused_ms) = match shown {
        Shown::Export(job) => {
            let (export, paused) = (&job.export, job.export.paused_for_ms);
            let word = match export.state {
                State::Success => "completed",
                State::Cancelled => "canceled",
                other => other.word(),
            };
            let (target, message) = (export.target, &export.message);
            (job.id, "migrate", &export.slots, own, target, &job.times, word, message, paused)
        }
        Shown::Import(job) => {
            let word = match job.state {
                ImportState::Success => "completed",
                ImportState::Cancelled => "canceled",
                other => other.word(),
            };
            (job.id, "import", &job.slots, job.source, own, &job.times, word, &job.message, 0)
        }
    };
    vec![
        ("id", Value::Text(id.to_string())),
        ("slots", Value::Text(ranges_text(slots, ","))),
        ("source", Value::Text(source.to_string())),
        ("dest", Value::Text(target.to_string())),
        ("operation", Value::Text(operation.to_owned())),
        ("state", Value::Text(word.to_owned())),
        ("last_error", Value::Text(message.clone())),
        ("retries", Value::Number(0)),
        ("create_time", Value::Number(times.created_ms)),
        ("start_time", Value::Number(times.created_ms)),
        ("end_time", Value::Number(times.ended_ms)),
        ("write_pause_ms", Value::Number(paused_ms)),
    ]
}

/// CLUSTER SLOTMOVE: nodes say this to each other, and it stands in write streams.
pub(super) fn slot_move(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let is_replayed = matches!(cx.caller, Caller::Primary | Caller::Aof);
    let word = args.bytes().to_ascii_lowercase();
    if is_replayed {
        return replay(cx, &word, args);
    }
    member(cx)?;
    if cx.caller != Caller::Client {
        return Err(CommandError::Fixed("ERR CLUSTER SLOTMOVE is for nodes of the cluster"));
    }
    let id = id(args)?;
    match &word[..] {
        b"offer" => offer(cx, id, args),
        b"apply" => {
            let commands = args.bytes();
            args.done()?;
            cx.note_slot_piece(id)?;
            cx.apply_to_staging(id.to_string().as_bytes(), commands)
        }
        b"take" => {
            let valid_ms = parse_u64(args.bytes()).ok_or(CommandError::NotInteger)?;
            let epoch = parse_u64(args.bytes()).ok_or(CommandError::NotInteger)?;
            args.done()?;
            cx.take_slots(id, valid_ms, epoch)
        }
        b"want" => want(cx, id, args),
        b"state" => state(cx, id, args),
        b"forget" => {
            args.done()?;
            cx.core().cancel_exports(|job| job.id == id);
            cx.reply.ok();
            Ok(())
        }
        _ => Err(CommandError::Syntax),
    }
}

/// What others have done, in their stream or in the append-only file.
fn replay(cx: &mut Cx<'_>, word: &[u8], args: &mut Args<'_>) -> CommandResult {
    let job = args.bytes();
    let is_it = |cx: &mut Cx<'_>| {
        let staging = cx.keys.space().staging();
        staging.is_some_and(|staging| staging.job().as_bytes() == job)
    };
    match word {
        b"stage" => {
            let slots = slot_ranges(args)?;
            let job = String::from_utf8_lossy(job).into_owned();
            cx.keys.space().stage(&job, slots);
        }
        b"apply" => return cx.apply_to_staging(job, args.bytes()),
        b"end" if is_it(cx) => _ = cx.keys.space().merge_staging(),
        b"drop" if is_it(cx) => cx.keys.space().unstage(),
        b"end" | b"drop" => {}
        _ => return Err(CommandError::Syntax),
    }
    cx.reply.ok();
    Ok(())
}

fn offer(cx: &mut Cx<'_>, id: NodeId, args: &mut Args<'_>) -> CommandResult {
    let source = node_id(args)?;
    let slots = slot_ranges(args)?;
    args.done()?;
    cx.accept_slots(id, source, slots)?;
    // Others need not know whence they come.
    let words: Vec<&[u8]> = args.request().iter().collect();
    let (head, ranges) = (&words[..2], &words[5..]);
    let staged = [head, &[&b"STAGE"[..], words[3]], ranges].concat();
    cx.propagate_as(&staged);
    cx.reply.ok();
    Ok(())
}

fn want(cx: &mut Cx<'_>, id: NodeId, args: &mut Args<'_>) -> CommandResult {
    let target = node_id(args)?;
    let slots = slot_ranges(args)?;
    args.done()?;
    cx.server.may_export(&slots, target)?;
    cx.core().begin_export(id, target, slots);
    cx.reply.ok();
    Ok(())
}

/// How far a move is that another node has asked for.
fn state(cx: &mut Cx<'_>, id: NodeId, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let job = cx.server.slot_moves.exports.iter().find(|job| job.id == id);
    let text = match job {
        None => "over the source does not know of it".to_owned(),
        Some(job) if matches!(job.export.state, State::Failed | State::Cancelled) => {
            format!("over {}", job.export.message)
        }
        Some(job) => job.export.state.word().to_owned(),
    };
    cx.reply.simple(text.replace(['\r', '\n'], " ").as_bytes());
    Ok(())
}
