//! The gate of slots: whether a request belongs to this node of the cluster, or to another one.
//!
//! What decides is [`route`], the table of rules; here is found out what it asks. A server without
//! a cluster pays a load and a branch.

use super::{Asked, Passed};
use crate::cluster::route::{Here, Keys, Owner, Refusal, Route, View, Wanted, Way, route};
use crate::cluster::table::{self, NodeKey};
use crate::command::{
    Categories, Command, CommandError, Flags, Group, Hashed, KeyFlags, Traits, find_keys,
};
use crate::engine::cluster::Member;
use crate::engine::session::Asking;
use crate::engine::{Caller, Cx};
use crate::keyspace::slot::Slot;
use crate::resp::Request;

/// A client that asks the wrong node is sent to the right one.
#[inline]
pub(super) fn is_for_this_node(cx: &mut Cx<'_>, asked: &Asked<'_>, flags: Flags) -> Passed {
    match cx.server.cluster {
        None => Ok(()),
        Some(_) => client_asks_right_node(cx, asked, flags),
    }
}

/// The slot of a request with one key that was hashed ahead, as most are, if it is ours and neither
/// it nor the cluster is anything but as usual: then it is served, whatever else there is to know.
#[inline]
fn usual_slot(cx: &Cx<'_>, asked: &Asked<'_>) -> Option<Slot> {
    let at = cx.server.table.row(asked.id).only_key?;
    let slot = asked.hashed.get(usize::from(at))?.slot();
    let machine = &cx.server.cluster.as_deref()?.machine;
    (machine.is_up() && machine.table().serves(slot)).then_some(slot)
}

#[inline(never)]
fn client_asks_right_node(cx: &mut Cx<'_>, asked: &Asked<'_>, flags: Flags) -> Passed {
    if let Some(slot) = usual_slot(cx, asked) {
        cx.server.note_slot(slot);
        return Ok(());
    }
    let Some(found) = look(cx, asked, flags) else { return Ok(()) };
    match found.route {
        Route::Serve => {
            cx.server.note_slot(found.slot);
            Ok(())
        }
        other => Err(redirection(cx, found.slot, other)),
    }
}

/// What a client is told whose request is not served.
fn redirection(cx: &Cx<'_>, slot: Slot, route: Route) -> CommandError {
    let member = cx.server.cluster.as_deref().expect("only nodes of a cluster redirect");
    let to = |node: Option<NodeKey>| {
        let table = member.machine.table();
        let asking = cx.server.asking_of(cx.session());
        node.map(|key| asking.redirection(table.node(key))).unwrap_or_default()
    };
    let text = match route {
        Route::Serve => unreachable!("what is served is not redirected"),
        Route::Moved => format!("MOVED {slot} {}", to(member.machine.table().owner(slot))),
        Route::Ask => {
            let way = member.machine.table().way(slot);
            format!("ASK {slot} {}", to(way.map(table::Way::other)))
        }
        Route::Refuse(refusal) => return CommandError::Redirect(refusal.text().into()),
    };
    CommandError::Redirect(text.into())
}

/// Whether a request would write to a slot that is about to be another node's. What names no key
/// may write anywhere.
pub(super) fn waits_for_owner(cx: &Cx<'_>, asked: &Asked<'_>, flags: Flags) -> bool {
    let Some(paused) = cx.server.slot_moves.paused_slots() else { return false };
    let is_no_write = asked.command.flags.has(Flags::ADMIN) || asked.command.group == Group::Pubsub;
    if is_no_write || !flags.intersects(Flags::WRITE.or(Flags::MAY_REPLICATE)) {
        return false;
    }
    let transaction = cx.session().transaction.as_deref();
    let mut queued = transaction.into_iter().flat_map(|transaction| transaction.queued().iter());
    asked.command.traits.has(Traits::RUNS_THE_QUEUE)
        && queued.any(|queued| empties_databases(cx.server.table.row(queued.id).command))
        || names_of(cx, asked).is_none_or(|names| !names.are_channels && paused.has(names.slot))
}

/// Whether a command removes keys that it does not name.
fn empties_databases(command: &Command) -> bool {
    let names_none = command.keys.is_empty() && command.key_finder.is_none();
    names_none && command.flags.has(Flags::WRITE) && command.acl.has(Categories::KEYSPACE)
}

/// What our primary has sent is counted for its slot, wherever that belongs.
pub(in crate::engine) fn begin_usage_of_applied(cx: &mut Cx<'_>, asked: &Asked<'_>) {
    if cx.server.slot_usage.is_none() {
        return;
    }
    let session = cx.clients.get(cx.client).expect("the running client is connected");
    let runs_the_queue = asked.command.traits.has(Traits::RUNS_THE_QUEUE);
    let transaction = session.transaction.as_deref().filter(|_| runs_the_queue);
    cx.server.begin_usage(&asked.request, transaction);
    let names = names_of(cx, asked).filter(|names| names.keys != Keys::OfSeveralSlots);
    if let Some(slot) = names.map(|names| names.slot) {
        cx.server.note_slot(slot);
    }
}

/// What a script asks for is asked again: it may name keys that it did not declare.
#[inline]
pub(super) fn script_asks_right_node(cx: &mut Cx<'_>, asked: &Asked<'_>, flags: Flags) -> Passed {
    match cx.server.cluster {
        None => Ok(()),
        Some(_) => script_stays_on_node(cx, asked, flags),
    }
}

#[inline(never)]
fn script_stays_on_node(cx: &mut Cx<'_>, asked: &Asked<'_>, flags: Flags) -> Passed {
    if cx.server.slot_moves.are_paused() && empties_databases(asked.command) {
        return Err(CommandError::Redirect(Refusal::TryAgain.text().into()));
    }
    let Some(found) = look(cx, asked, flags) else { return Ok(()) };
    let name = cx.server.table.row(asked.id).full_name;
    let text = match found.route {
        Route::Serve if is_about_to_leave(cx, found.slot, flags) => {
            return Err(CommandError::Redirect(Refusal::TryAgain.text().into()));
        }
        Route::Serve => return script_stays_in_slot(cx, found.slot),
        Route::Moved | Route::Ask => "Script attempted to access a non local key in a cluster node",
        Route::Refuse(Refusal::SlotNotServed) => "Script attempted to access a slot not served",
        Route::Refuse(Refusal::Down) => {
            "Script attempted to execute a command while the cluster is down"
        }
        Route::Refuse(Refusal::DownForWrites) => {
            "Script attempted to execute a write command while the cluster is down and readonly"
        }
        Route::Refuse(Refusal::CrossSlot) => {
            return Err(CommandError::err(format_args!(
                "Command '{name}' in script attempted to access keys that don't hash to the same \
                 slot"
            )));
        }
        Route::Refuse(Refusal::TryAgain) => {
            return Err(CommandError::err(format_args!(
                "Unable to execute command '{name}' in script because undeclared keys were \
                 accessed during rehashing of the slot"
            )));
        }
    };
    Err(CommandError::err(format_args!("{text}")))
}

/// Whether a script would write to a slot that is about to be another node's, which it has not
/// named before.
fn is_about_to_leave(cx: &Cx<'_>, slot: Slot, flags: Flags) -> bool {
    let paused = cx.server.slot_moves.paused_slots();
    flags.has(Flags::WRITE) && paused.is_some_and(|paused| paused.has(slot))
}

/// A script that declares what it does works in one slot, unless it says otherwise.
fn script_stays_in_slot(cx: &mut Cx<'_>, slot: Slot) -> Passed {
    let Some(running) = &mut cx.server.scripting.running else { return Ok(()) };
    if running.may_cross_slots {
        return Ok(());
    }
    if *running.slot.get_or_insert(slot) == slot {
        cx.server.note_slot(slot);
        return Ok(());
    }
    Err(CommandError::Fixed(
        "ERR Script attempted to access keys that do not hash to the same slot",
    ))
}

/// Where a request belongs.
struct Found {
    slot: Slot,
    route: Route,
}

/// Looks where a request belongs; none if it has no keys.
fn look(cx: &mut Cx<'_>, asked: &Asked<'_>, flags: Flags) -> Option<Found> {
    let names = names_of(cx, asked)?;
    let member = cx.server.cluster.as_deref()?;
    let session = cx.session();
    let wanted = Wanted {
        keys: names.keys,
        writes: flags.has(Flags::WRITE),
        is_for_channels: names.are_channels,
        moves_keys: asked.command.traits.has(Traits::MOVES_KEYS),
        is_asking: session.asking == Asking::Now || asked.command.flags.has(Flags::ASKING),
        reads_replicas: session.reads_from_replica,
    };
    let view = view_of(cx, member, names.slot);
    let route = route(view, wanted, || here(cx, asked));
    Some(Found { slot: names.slot, route })
}

fn view_of(cx: &Cx<'_>, member: &Member, slot: Slot) -> View {
    let config = &cx.server.config;
    View {
        owner: owner_of(member, slot),
        way: match member.machine.table().way(slot) {
            None => Way::Stays,
            Some(table::Way::LeavesTo(_)) => Way::Leaves,
            Some(table::Way::ComesFrom(_)) => Way::Comes,
        },
        is_up: member.machine.is_up(),
        is_primary: member.machine.table().myself().is_primary(),
        allows_reads_when_down: config.cluster_allow_reads_when_down,
        allows_channels_when_down: config.cluster_allow_pubsubshard_when_down,
    }
}

pub(in crate::engine) fn owner_of(member: &Member, slot: Slot) -> Owner {
    let table = member.machine.table();
    match table.owner(slot) {
        None => Owner::Nobody,
        Some(key) if key == table.me() => Owner::Myself,
        Some(key) if table.myself().primary() == Some(key) => Owner::MyPrimary,
        Some(_) => Owner::Other,
    }
}

/// What a request, or all that a transaction has queued, names.
struct Names<'a> {
    slot: Slot,
    first: &'a [u8],
    keys: Keys,
    are_channels: bool,
}

impl<'a> Names<'a> {
    fn add(names: &mut Option<Names<'a>>, name: &'a [u8], slot: Slot, is_channel: bool) {
        let Some(names) = names else {
            let keys = Keys::One;
            *names = Some(Names { slot, first: name, keys, are_channels: is_channel });
            return;
        };
        names.are_channels &= is_channel;
        if names.slot != slot {
            names.keys = Keys::OfSeveralSlots;
        } else if names.keys == Keys::One && name != names.first {
            names.keys = Keys::Several;
        }
    }
}

fn names_of<'a>(cx: &'a Cx<'_>, asked: &Asked<'a>) -> Option<Names<'a>> {
    let mut names = None;
    each_name(cx, asked, |name, slot, is_channel| Names::add(&mut names, name, slot, is_channel));
    names
}

/// All keys and channels of shards that a request names; of EXEC those of what is queued.
fn each_name<'a>(cx: &'a Cx<'_>, asked: &Asked<'a>, mut take: impl FnMut(&'a [u8], Slot, bool)) {
    let transaction = cx.session().transaction.as_deref();
    if asked.command.traits.has(Traits::RUNS_THE_QUEUE)
        && let Some(transaction) = transaction.filter(|_| cx.caller != Caller::Script)
    {
        for queued in transaction.queued() {
            let command = cx.server.table.row(queued.id).command;
            each_of_one(command, queued.request.as_request(), Hashed::default(), &mut take);
        }
    }
    each_of_one(asked.command, asked.request, asked.hashed, &mut take);
}

fn each_of_one<'a>(
    command: &Command,
    request: Request<'a>,
    hashed: Hashed<'_>,
    take: &mut impl FnMut(&'a [u8], Slot, bool),
) {
    if command.keys.is_empty() && command.key_finder.is_none() {
        return;
    }
    // Where the keys cannot be told the command will say so.
    let Some(found) = find_keys(command, &request) else { return };
    for key in found.keys_and_channels() {
        let name = request.arg(key.index);
        let slot = hashed.get(key.index).map_or_else(|| Slot::of(name), |hash| hash.slot());
        take(name, slot, key.flags.has(KeyFlags::NOT_KEY));
    }
}

/// Which of the keys are here. One whose time has come counts as gone; looking at it changes
/// nothing.
fn here(cx: &Cx<'_>, asked: &Asked<'_>) -> Here {
    let (mut any, mut all) = (false, true);
    each_name(cx, asked, |name, _, is_channel| {
        if !is_channel {
            let is_there = cx.keys.is_there(name);
            any |= is_there;
            all &= is_there;
        }
    });
    match (all, any) {
        (true, _) => Here::All,
        (false, true) => Here::Some,
        (false, false) => Here::None,
    }
}
