//! What a node is told to do.

use super::{member, slot, unknown_node};
use crate::cluster::admin::{Done, Request};
use crate::cluster::file::BUS_PORT_OFFSET;
use crate::cluster::id::NodeId;
use crate::cluster::table::Table;
use crate::command::{Args, CommandError, CommandResult};
use crate::engine::Cx;
use crate::keyspace::slot::{SLOTS, Slot};
use crate::structs::number::parse_i64;
use std::net::IpAddr;

/// Has the machine do it, and answers.
fn administrate(cx: &mut Cx<'_>, request: Request) -> CommandResult {
    match cx.administrate(request)? {
        Done::Ok => cx.reply.ok(),
        Done::Bumped(epoch) => cx.reply.simple(format!("BUMPED {epoch}").as_bytes()),
        Done::Still(epoch) => cx.reply.simple(format!("STILL {epoch}").as_bytes()),
    }
    Ok(())
}

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
            return Err(CommandError::err(format_args!("Slot {slot} specified multiple times")));
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
    administrate(cx, request)
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
        let (first, last) = (slot(args)?, slot(args)?);
        if first > last {
            return Err(CommandError::err(format_args!(
                "start slot number {first} is greater than end slot number {last}"
            )));
        }
        for number in first.number()..=last.number() {
            chosen.add(Slot::new(number.into()).expect("it lies between two slots"))?;
        }
    }
    let request = chosen.into_request();
    administrate(cx, request)
}

pub(super) fn flush_slots(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    member(cx)?;
    if !cx.keys.db().is_empty() {
        return Err(CommandError::Fixed("ERR DB must be empty to perform CLUSTER FLUSHSLOTS."));
    }
    administrate(cx, Request::FlushSlots)
}

pub(super) fn bump_epoch(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    administrate(cx, Request::BumpEpoch)
}

pub(super) fn set_config_epoch(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    member(cx)?;
    let epoch = args.integer();
    args.done()?;
    let epoch = u64::try_from(epoch)
        .map_err(|_| CommandError::err(format_args!("Invalid config epoch specified: {epoch}")))?;
    administrate(cx, Request::SetConfigEpoch(epoch))
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
    administrate(cx, Request::Meet { ip: ip.to_string(), port, bus_port })
}

fn invalid(what: &str, word: &[u8]) -> CommandError {
    let text = [b"ERR Invalid ", what.as_bytes(), b" specified: ", word];
    CommandError::Bytes(text.concat().into_boxed_slice())
}

pub(super) fn forget(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let id = id(cx, args)?;
    administrate(cx, Request::Forget(id))
}

pub(super) fn replicate(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let id = id(cx, args)?;
    administrate(cx, Request::Replicate(id))
}

/// The next argument as an id, which only the machine knows to be a node's.
fn id(cx: &Cx<'_>, args: &mut Args<'_>) -> Result<NodeId, CommandError> {
    member(cx)?;
    let word = args.bytes();
    NodeId::parse(word).ok_or_else(|| unknown_node(word))
}
