//! What a node is told to do.

use super::{member, named_twice, slot, slot_range, unknown_node};
use crate::cluster::admin::{Request, Reset};
use crate::cluster::file::BUS_PORT_OFFSET;
use crate::cluster::id::NodeId;
use crate::cluster::manual::Failover;
use crate::cluster::setslot::{By, SetSlot};
use crate::cluster::table::Table;
use crate::command::{Args, CommandError, CommandResult};
use crate::engine::replication::set_slot;
use crate::engine::{Caller, Cx};
use crate::keyspace::slot::{SLOTS, Slot};
use crate::structs::number::parse_i64;
use std::net::IpAddr;

/// Slots that are all to be assigned, or all to be given up, each of which is looked at as it is
/// named.
struct Chosen<'t> {
    table: &'t Table,
    assigns: bool,
    slots: Vec<Slot>,
    is_in: Vec<bool>,
}

impl<'t> Chosen<'t> {
    fn new(table: &'t Table, assigns: bool) -> Chosen<'t> {
        Chosen { table, assigns, slots: Vec::new(), is_in: vec![false; SLOTS] }
    }

    fn add(&mut self, slot: Slot) -> CommandResult {
        let has_owner = self.table.owner(slot).is_some();
        match (self.assigns, has_owner) {
            (true, true) => {
                return Err(CommandError::err(format_args!("Slot {slot} is already busy")));
            }
            (false, false) => {
                return Err(CommandError::err(format_args!("Slot {slot} is already unassigned")));
            }
            _ => {}
        }
        if std::mem::replace(&mut self.is_in[usize::from(slot.number())], true) {
            return Err(named_twice(slot));
        }
        self.slots.push(slot);
        Ok(())
    }

    fn into_request(self) -> Request {
        match self.assigns {
            true => Request::AddSlots(self.slots),
            false => Request::DelSlots(self.slots),
        }
    }
}

pub(super) fn add_slots(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    update_slots(cx, args, true)
}

pub(super) fn del_slots(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    update_slots(cx, args, false)
}

fn update_slots(cx: &mut Cx<'_>, args: &mut Args<'_>, assigns: bool) -> CommandResult {
    let mut chosen = Chosen::new(member(cx)?.machine.table(), assigns);
    while !args.is_empty() {
        chosen.add(slot(args)?)?;
    }
    let request = chosen.into_request();
    cx.administrate_and_answer(request)
}

pub(super) fn add_slot_ranges(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    update_ranges(cx, args, true, "cluster|addslotsrange")
}

pub(super) fn del_slot_ranges(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    update_ranges(cx, args, false, "cluster|delslotsrange")
}

fn update_ranges(
    cx: &mut Cx<'_>,
    args: &mut Args<'_>,
    assigns: bool,
    name: &'static str,
) -> CommandResult {
    let mut chosen = Chosen::new(member(cx)?.machine.table(), assigns);
    if args.remaining() % 2 == 1 {
        return Err(CommandError::WrongArity(name));
    }
    while !args.is_empty() {
        for slot in slot_range(args)? {
            chosen.add(slot)?;
        }
    }
    let request = chosen.into_request();
    cx.administrate_and_answer(request)
}

pub(super) fn flush_slots(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    member(cx)?;
    if !cx.keys.db().is_empty() {
        return Err(CommandError::Fixed("ERR DB must be empty to perform CLUSTER FLUSHSLOTS."));
    }
    cx.administrate_and_answer(Request::FlushSlots)
}

pub(super) fn bump_epoch(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    cx.administrate_and_answer(Request::BumpEpoch)
}

pub(super) fn set_config_epoch(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    member(cx)?;
    let epoch = args.integer();
    args.done()?;
    let epoch = u64::try_from(epoch)
        .map_err(|_| CommandError::err(format_args!("Invalid config epoch specified: {epoch}")))?;
    cx.administrate_and_answer(Request::SetConfigEpoch(epoch))
}

pub(super) fn meet(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    member(cx)?;
    if args.remaining() > 3 {
        return Err(CommandError::subcommand_syntax("CLUSTER", args.request().arg(1)));
    }
    let (ip, port_word) = (args.bytes(), args.bytes());
    let port = parse_i64(port_word).ok_or_else(|| invalid("base port", port_word))?;
    let bus_port = match args.is_empty() {
        true => port.saturating_add(BUS_PORT_OFFSET.into()),
        false => {
            let word = args.bytes();
            parse_i64(word).ok_or_else(|| invalid("bus port", word))?
        }
    };
    let is_port = |number: i64| u16::try_from(number).ok().filter(|port| *port != 0);
    let address = str::from_utf8(ip).ok().and_then(|ip| ip.parse::<IpAddr>().ok());
    let (Some(ip), Some(port), Some(bus_port)) = (address, is_port(port), is_port(bus_port)) else {
        let shown = [ip, b":", port_word].concat();
        return Err(invalid("node address", &shown));
    };
    cx.administrate_and_answer(Request::Meet { ip: ip.to_string(), port, bus_port })
}

fn invalid(what: &str, word: &[u8]) -> CommandError {
    let text = [b"ERR Invalid ", what.as_bytes(), b" specified: ", word];
    CommandError::Bytes(text.concat().into_boxed_slice())
}

pub(super) fn forget(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let id = id(cx, args)?;
    cx.administrate_and_answer(Request::Forget(id))
}

pub(super) fn replicate(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let id = id(cx, args)?;
    cx.administrate_and_answer(Request::Replicate(id))
}

/// The next argument as an id, which only the machine knows to be a node's.
fn id(cx: &Cx<'_>, args: &mut Args<'_>) -> Result<NodeId, CommandError> {
    member(cx)?;
    let word = args.bytes();
    NodeId::parse(word).ok_or_else(|| unknown_node(word))
}

/// How long the replicas have to keep what becomes of a slot, unless the client says otherwise.
const SET_SLOT_TIMEOUT_MS: u64 = 2000;

/// A primary has its replicas know of it before it does it: who takes over then goes on with it.
pub(super) fn set_slot(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let machine = &member(cx)?.machine;
    let is_replica = machine.table().myself().is_replica();
    let by = if cx.caller == Caller::Primary { By::Stream } else { By::Client };
    if is_replica && by == By::Client {
        return Err(CommandError::Fixed("ERR Please use SETSLOT only with masters."));
    }
    let slot = slot(args)?;
    let how = set_slot_action(args)?;
    let timeout_ms = set_slot_timeout_ms(args)?;
    let has_keys = |slot: Slot| cx.keys.db().slot_len(slot) > 0;
    machine
        .may_set_slot(slot, how, by, &has_keys)
        .map_err(|refusal| CommandError::err(format_args!("{refusal}")))?;
    if is_replica {
        return cx.administrate_and_answer(Request::SetSlot { slot, how, by });
    }
    let words: Vec<&[u8]> = args.request().iter().collect();
    set_slot::do_behind_replicas(cx, &words, (slot, how), timeout_ms)
}

fn set_slot_action(args: &mut Args<'_>) -> Result<SetSlot, CommandError> {
    if args.option_with_value("migrating") {
        return other_node(args.bytes()).map(SetSlot::Migrating);
    }
    if args.option_with_value("importing") {
        return other_node(args.bytes()).map(SetSlot::Importing);
    }
    if args.option_with_value("node") {
        let word = args.bytes();
        return NodeId::parse(word).map(SetSlot::Node).ok_or_else(|| unknown_node(word));
    }
    match args.option("stable") {
        true => Ok(SetSlot::Stable),
        false => Err(INVALID_SET_SLOT),
    }
}

/// The node to which a slot goes, or from which it comes.
fn other_node(word: &[u8]) -> Result<NodeId, CommandError> {
    NodeId::parse(word).ok_or_else(|| {
        let text = [b"ERR I don't know about node ", word].concat();
        CommandError::Bytes(text.into_boxed_slice())
    })
}

const INVALID_SET_SLOT: CommandError = CommandError::Fixed(
    "ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP",
);

fn set_slot_timeout_ms(args: &mut Args<'_>) -> Result<u64, CommandError> {
    if args.is_empty() {
        return Ok(SET_SLOT_TIMEOUT_MS);
    }
    if !args.option("timeout") {
        return Err(INVALID_SET_SLOT);
    }
    if args.is_empty() {
        return Err(CommandError::Fixed("ERR Missing timeout value"));
    }
    let out_of_range = CommandError::Fixed("ERR timeout is not an integer or out of range");
    let ms = args.integer_or(out_of_range);
    args.done()?;
    u64::try_from(ms).map_err(|_| CommandError::Fixed("ERR timeout is negative"))
}

pub(super) fn fail_over(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    member(cx)?;
    let how = match args.remaining() {
        0 => Failover::Plain,
        1 if args.option("force") => Failover::Force,
        1 if args.option("takeover") => Failover::Takeover,
        1 => return Err(CommandError::Syntax),
        _ => return Err(CommandError::subcommand_syntax("CLUSTER", args.request().arg(1))),
    };
    let user = cx.description();
    cx.administrate_and_answer(Request::Failover { how, user })
}

pub(super) fn reset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    member(cx)?;
    let how = match args.remaining() {
        0 => Reset::Soft,
        1 if args.option("soft") => Reset::Soft,
        1 if args.option("hard") => Reset::Hard,
        1 => return Err(CommandError::Syntax),
        _ => return Err(CommandError::subcommand_syntax("CLUSTER", args.request().arg(1))),
    };
    cx.administrate_and_answer(Request::Reset(how))
}

pub(super) fn save_config(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    member(cx)?;
    cx.save_nodes_and_answer();
    Ok(())
}
