//! The nodes of the cluster and who has which slot, as this node sees it.
//!
//! Nodes lie in a list, by numbers that slots and other nodes refer to them with; a number is used
//! again only when nothing refers to it any more ([`Table::remove`] sees to that). Who has a slot
//! is kept twice, by slot for requests and by node for packets, and changed in one place.
//!
//! What may be asked for is a primitive change that leaves the table whole; whether it should
//! happen is for the rules that use it. Invariants, which [`Table::check`] checks:
//! - a slot has one owner, and that is a primary, which counts it among its own;
//! - a replica has no slots, is not its own primary, and is in the shard of its primary;
//! - this node is in the table, alone has the flag for it, and stays;
//! - no epoch of a node is above the current one;
//! - a slot whose owner was seen not to claim it has an owner;
//! - whoever is referred to is in the table.

mod node;
#[cfg(test)]
mod tests;

pub use self::node::{Health, Names, Node, Place};

use super::flags::Flags;
use super::id::{NodeId, ShardId};
use super::slot_set::SlotSet;
use crate::keyspace::slot::{SLOTS, Slot};
use std::collections::{BTreeMap, HashMap};

/// More nodes than can have slots are of no use to a cluster.
pub const NODES_MAX: usize = SLOTS;

/// In the place of an owner: there is none.
const NOBODY: u16 = u16::MAX;

/// The number of a node in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct NodeKey(u16);

impl NodeKey {
    pub fn number(self) -> usize {
        usize::from(self.0)
    }
}

/// On which way a slot is, as this node was told (SETSLOT).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    LeavesTo(NodeKey),
    ComesFrom(NodeKey),
}

impl Way {
    pub fn comes(self) -> bool {
        matches!(self, Way::ComesFrom(_))
    }

    pub fn other(self) -> NodeKey {
        match self {
            Way::LeavesTo(other) | Way::ComesFrom(other) => other,
        }
    }
}

pub struct Table {
    nodes: Vec<Option<Node>>,
    free: Vec<u16>,
    by_id: HashMap<NodeId, NodeKey>,
    /// By id.
    order: Vec<NodeKey>,
    me: NodeKey,
    owners: Box<[u16; SLOTS]>,
    /// Those that their owners no longer claim: anybody may take them.
    unclaimed: SlotSet,
    unclaimed_count: usize,
    /// How many nodes do not answer us.
    failing_count: usize,
    ways: BTreeMap<Slot, Way>,
    current_epoch: u64,
    last_vote_epoch: u64,
    generation: u64,
}

impl Table {
    /// That of a node that is alone.
    pub fn new(id: NodeId, shard: ShardId) -> Table {
        let me = NodeKey(0);
        Table {
            nodes: vec![Some(Node::new(id, shard, Flags::MYSELF.or(Flags::PRIMARY)))],
            free: Vec::new(),
            by_id: HashMap::from([(id, me)]),
            order: vec![me],
            me,
            owners: Box::new([NOBODY; SLOTS]),
            unclaimed: SlotSet::new(),
            unclaimed_count: 0,
            failing_count: 0,
            ways: BTreeMap::new(),
            current_epoch: 0,
            last_vote_epoch: 0,
            generation: 0,
        }
    }

    pub fn me(&self) -> NodeKey {
        self.me
    }

    pub fn myself(&self) -> &Node {
        self.node(self.me)
    }

    pub fn node(&self, key: NodeKey) -> &Node {
        self.nodes[usize::from(key.0)].as_ref().expect("what is referred to is in the table")
    }

    fn node_mut(&mut self, key: NodeKey) -> &mut Node {
        self.nodes[usize::from(key.0)].as_mut().expect("what is referred to is in the table")
    }

    pub fn find(&self, id: NodeId) -> Option<NodeKey> {
        self.by_id.get(&id).copied()
    }

    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// All nodes, by id.
    pub fn iter(&self) -> impl Iterator<Item = (NodeKey, &Node)> {
        self.order.iter().map(|key| (*key, self.node(*key)))
    }

    pub fn keys(&self) -> Vec<NodeKey> {
        self.order.clone()
    }

    /// Those that do not answer us, by id.
    pub fn failing(&self) -> impl Iterator<Item = (NodeKey, &Node)> {
        let all = self.iter().filter(|(_, node)| node.has(Flags::PFAIL));
        all.take(self.failing_count)
    }

    /// Nodes in any order, for those who draw: which has the number, if any has.
    pub fn nth(&self, number: usize) -> Option<NodeKey> {
        let key = NodeKey(u16::try_from(number).ok()?);
        self.nodes.get(number)?.as_ref().map(|_| key)
    }

    /// One more than the greatest number of a node.
    pub fn numbers(&self) -> usize {
        self.nodes.len()
    }

    /// It changes with whatever clients are told of nodes and slots, but for times.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn changed(&mut self) {
        self.generation += 1;
    }

    /// A node that was not known; none if it is, or if there are too many.
    pub fn add(&mut self, id: NodeId, shard: ShardId, flags: Flags) -> Option<NodeKey> {
        if self.by_id.contains_key(&id) || self.count() >= NODES_MAX {
            return None;
        }
        let node = Some(Node::new(id, shard, flags.without(Flags::MYSELF)));
        self.failing_count += usize::from(flags.has(Flags::PFAIL));
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.nodes.push(None);
                u16::try_from(self.nodes.len() - 1).expect("there are not too many")
            }
        };
        self.nodes[usize::from(number)] = node;
        self.name(NodeKey(number), id);
        self.changed();
        Some(NodeKey(number))
    }

    /// Gives a node that was met its real name; false if that is another one's.
    pub fn rename(&mut self, key: NodeKey, id: NodeId) -> bool {
        if self.by_id.contains_key(&id) {
            return false;
        }
        self.unname(key);
        self.node_mut(key).id = id;
        self.name(key, id);
        self.changed();
        true
    }

    fn name(&mut self, key: NodeKey, id: NodeId) {
        let at = self.order.partition_point(|other| self.node(*other).id < id);
        self.order.insert(at, key);
        self.by_id.insert(id, key);
    }

    fn unname(&mut self, key: NodeKey) {
        let id = self.node(key).id;
        self.by_id.remove(&id);
        self.order.retain(|other| *other != key);
    }

    /// Forgets a node, and whatever refers to it. Its slots are nobody's then.
    pub fn remove(&mut self, key: NodeKey) -> Node {
        assert!(key != self.me, "a node cannot forget itself");
        self.leave_primary(key);
        self.unassign_all(key);
        self.ways.retain(|_, way| way.other() != key);
        for node in self.nodes.iter_mut().flatten() {
            node.health.reports.remove(&key);
            if node.primary == Some(key) {
                node.primary = None;
            }
        }
        self.unmark(key, Flags::PFAIL);
        self.unname(key);
        let node = self.nodes[usize::from(key.0)].take().expect("it was referred to");
        self.free.push(key.0);
        self.changed();
        node
    }

    /// Sets flags that are no role.
    pub fn mark(&mut self, key: NodeKey, flags: Flags) {
        self.set_flags(key, self.node(key).flags.or(flags));
    }

    pub fn unmark(&mut self, key: NodeKey, flags: Flags) {
        self.set_flags(key, self.node(key).flags.without(flags));
    }

    fn set_flags(&mut self, key: NodeKey, flags: Flags) {
        let fixed = Flags::ROLE.or(Flags::MYSELF);
        let old = self.node(key).flags;
        assert!(
            (old.bits() ^ flags.bits()) & fixed.bits() == 0,
            "roles are changed by what changes them"
        );
        if old != flags {
            self.failing_count -= usize::from(old.has(Flags::PFAIL));
            self.failing_count += usize::from(flags.has(Flags::PFAIL));
            self.node_mut(key).flags = flags;
            self.changed();
        }
    }

    pub fn health_mut(&mut self, key: NodeKey) -> &mut Health {
        &mut self.node_mut(key).health
    }

    /// Whether it was somewhere else before.
    pub fn set_place(&mut self, key: NodeKey, place: Place) -> bool {
        let is_new = self.node(key).place != place;
        if is_new {
            self.node_mut(key).place = place;
            self.changed();
        }
        is_new
    }

    pub fn set_names(&mut self, key: NodeKey, names: Names) -> bool {
        let is_new = self.node(key).names != names;
        if is_new {
            self.node_mut(key).names = names;
            self.changed();
        }
        is_new
    }

    pub fn set_offset(&mut self, key: NodeKey, offset: u64) {
        let old = std::mem::replace(&mut self.node_mut(key).offset, offset);
        // One that has nothing yet is not shown to clients.
        if (old == 0) != (offset == 0) {
            self.changed();
        }
    }
}

/// Roles and shards.
impl Table {
    /// It keeps its shard. Slots it has none; they are assigned.
    pub fn make_primary(&mut self, key: NodeKey) {
        self.leave_primary(key);
        let node = self.node_mut(key);
        node.flags = node.flags.without(Flags::REPLICA).or(Flags::PRIMARY);
        self.spread_shard(key);
        self.changed();
    }

    /// A replica of `primary`, if that is known. What slots it had must have gone to somebody, or
    /// to nobody, before.
    pub fn make_replica(&mut self, key: NodeKey, primary: Option<NodeKey>) {
        assert!(self.node(key).slot_count == 0, "a replica has no slots");
        assert!(primary != Some(key), "nobody is a replica of itself");
        self.leave_primary(key);
        let node = self.node_mut(key);
        node.flags = node.flags.without(Flags::PRIMARY.or(Flags::MIGRATE_TO)).or(Flags::REPLICA);
        node.primary = primary;
        if let Some(primary) = primary {
            self.node_mut(primary).flags = self.node(primary).flags.or(Flags::MIGRATE_TO);
            self.spread_shard(primary);
            // Those who still follow this one are of the same shard then.
            self.spread_shard(key);
        }
        self.changed();
    }

    fn leave_primary(&mut self, key: NodeKey) {
        let Some(primary) = self.node_mut(key).primary.take() else { return };
        if self.replicas(primary).next().is_none() {
            self.node_mut(primary).flags = self.node(primary).flags.without(Flags::MIGRATE_TO);
        }
    }

    /// The replicas of a node, by id.
    pub fn replicas(&self, of: NodeKey) -> impl Iterator<Item = NodeKey> {
        self.iter().filter(move |(_, node)| node.primary == Some(of)).map(|(key, _)| key)
    }

    /// Of a replica its primary, if that is known; else the node itself.
    pub fn primary_of(&self, key: NodeKey) -> NodeKey {
        self.node(key).primary.unwrap_or(key)
    }

    /// The shard of a primary, and so of its replicas. What a replica says is nothing, as long as
    /// its primary is known.
    pub fn set_shard(&mut self, key: NodeKey, shard: ShardId) {
        if self.node(key).primary.is_some() || self.node(key).shard == shard {
            return;
        }
        self.node_mut(key).shard = shard;
        self.spread_shard(key);
        self.changed();
    }

    fn spread_shard(&mut self, from: NodeKey) {
        let shard = self.node(from).shard;
        let followers = self.nodes.iter_mut().flatten().filter(|node| node.primary == Some(from));
        followers.for_each(|node| node.shard = shard);
    }

    pub fn are_in_one_shard(&self, a: NodeKey, b: NodeKey) -> bool {
        self.node(a).shard == self.node(b).shard
    }

    /// The nodes by shard, without those whose names are made up.
    pub fn shards(&self) -> BTreeMap<ShardId, Vec<NodeKey>> {
        let mut shards: BTreeMap<ShardId, Vec<NodeKey>> = BTreeMap::new();
        for (key, node) in self.iter().filter(|(_, node)| !node.has(Flags::HANDSHAKE)) {
            shards.entry(node.shard).or_default().push(key);
        }
        shards
    }

    /// How many primaries vote.
    pub fn size(&self) -> usize {
        self.iter().filter(|(_, node)| node.votes()).count()
    }

    /// How many of them are the majority.
    pub fn quorum(&self) -> usize {
        self.size() / 2 + 1
    }
}

/// Slots.
impl Table {
    pub fn owner(&self, slot: Slot) -> Option<NodeKey> {
        let owner = self.owners[usize::from(slot.number())];
        (owner != NOBODY).then_some(NodeKey(owner))
    }

    /// Gives a slot to a primary, whoever had it.
    pub fn assign(&mut self, slot: Slot, to: NodeKey) {
        assert!(self.node(to).is_primary(), "only primaries have slots");
        if self.owner(slot) != Some(to) {
            self.unassign(slot);
            if self.node(to).slot_count == 0 && self.replicas_exist() {
                self.node_mut(to).flags = self.node(to).flags.or(Flags::MIGRATE_TO);
            }
            self.owners[usize::from(slot.number())] = to.0;
            let node = self.node_mut(to);
            node.slots.insert(slot);
            node.slot_count += 1;
            self.changed();
        }
        self.mark_claimed(slot);
    }

    fn replicas_exist(&self) -> bool {
        self.nodes.iter().flatten().any(|node| node.is_replica() && node.primary.is_some())
    }

    pub fn unassign(&mut self, slot: Slot) {
        let Some(owner) = self.owner(slot) else { return };
        self.owners[usize::from(slot.number())] = NOBODY;
        self.mark_claimed(slot);
        let node = self.node_mut(owner);
        node.slots.remove(slot);
        node.slot_count -= 1;
        self.changed();
    }

    pub fn unassign_all(&mut self, from: NodeKey) {
        let slots: Vec<Slot> = self.node(from).slots().iter().collect();
        slots.into_iter().for_each(|slot| self.unassign(slot));
    }

    pub fn move_all(&mut self, from: NodeKey, to: NodeKey) {
        let slots: Vec<Slot> = self.node(from).slots().iter().collect();
        slots.into_iter().for_each(|slot| self.assign(slot, to));
    }

    pub fn assigned_count(&self) -> usize {
        self.iter().map(|(_, node)| node.slot_count).sum()
    }

    /// The owner of a slot was heard without it. A slot that is nobody's is not marked.
    pub fn mark_unclaimed(&mut self, slot: Slot) {
        if self.owner(slot).is_some() && !self.unclaimed.has(slot) {
            self.unclaimed.insert(slot);
            self.unclaimed_count += 1;
        }
    }

    pub fn mark_claimed(&mut self, slot: Slot) {
        if self.unclaimed.has(slot) {
            self.unclaimed.remove(slot);
            self.unclaimed_count -= 1;
        }
    }

    pub fn is_unclaimed(&self, slot: Slot) -> bool {
        self.unclaimed.has(slot)
    }

    pub fn has_unclaimed(&self, key: NodeKey) -> bool {
        self.unclaimed_count > 0 && self.claimed_by(key) != self.node(key).slots
    }

    /// The slots of a node that it still claims, as others may be told of them.
    pub fn claimed_by(&self, key: NodeKey) -> SlotSet {
        let mut slots = self.node(key).slots.clone();
        slots.remove_all(self.unclaimed.bits());
        slots
    }

    /// Whether a slot is this node's, and on its way nowhere.
    #[inline]
    pub fn serves(&self, slot: Slot) -> bool {
        self.owner(slot) == Some(self.me()) && (self.ways.is_empty() || self.way(slot).is_none())
    }

    pub fn way(&self, slot: Slot) -> Option<Way> {
        self.ways.get(&slot).copied()
    }

    /// The slots that are on their way, in order.
    pub fn ways(&self) -> impl Iterator<Item = (Slot, Way)> {
        self.ways.iter().map(|(slot, way)| (*slot, *way))
    }

    pub fn set_way(&mut self, slot: Slot, way: Option<Way>) {
        let old = match way {
            Some(way) => self.ways.insert(slot, way),
            None => self.ways.remove(&slot),
        };
        if old != way {
            self.changed();
        }
    }

    pub fn close_all_ways(&mut self) {
        if !std::mem::take(&mut self.ways).is_empty() {
            self.changed();
        }
    }
}

/// Epochs.
impl Table {
    pub fn current_epoch(&self) -> u64 {
        self.current_epoch
    }

    pub fn raise_current_epoch(&mut self, epoch: u64) {
        self.current_epoch = self.current_epoch.max(epoch);
    }

    pub fn last_vote_epoch(&self) -> u64 {
        self.last_vote_epoch
    }

    /// Forgets all but this node, and all slots.
    pub fn forget_all(&mut self) {
        self.close_all_ways();
        let others = self.keys().into_iter().filter(|key| *key != self.me);
        others.collect::<Vec<_>>().into_iter().for_each(|key| drop(self.remove(key)));
        self.unassign_all(self.me);
        self.unmark(self.me, Flags::MIGRATE_TO);
    }

    /// Another node from now on, that has seen nothing yet. It must be alone.
    pub fn begin_anew(&mut self, id: NodeId, shard: ShardId) {
        assert!(self.count() == 1, "others know it by its name");
        self.rename(self.me, id);
        self.set_shard(self.me, shard);
        self.set_config_epoch(self.me, 0);
        (self.current_epoch, self.last_vote_epoch) = (0, 0);
    }

    pub fn set_last_vote_epoch(&mut self, epoch: u64) {
        self.last_vote_epoch = epoch;
        self.raise_current_epoch(epoch);
    }

    pub fn set_config_epoch(&mut self, key: NodeKey, epoch: u64) {
        self.raise_current_epoch(epoch);
        if self.node(key).config_epoch != epoch {
            self.node_mut(key).config_epoch = epoch;
            self.changed();
        }
    }

    /// The epoch of its shard, as this node knows it: of a replica that of its primary.
    pub fn epoch_of(&self, key: NodeKey) -> u64 {
        self.node(self.primary_of(key)).config_epoch
    }

    pub fn greatest_config_epoch(&self) -> u64 {
        self.iter().map(|(_, node)| node.config_epoch).max().unwrap_or(0)
    }
}

impl Table {
    /// What is not as it must be, if anything is. For tests and simulations.
    pub fn check(&self) -> Result<(), String> {
        let fail = |what: String| Err(what);
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            let key = NodeKey(number as u16);
            if self.find(node.id) != Some(key) {
                return fail(format!("{} is not found", node.id));
            }
            self.check_node(key, node).map_err(|what| format!("{}: {what}", node.id))?;
        }
        let count = self.nodes.iter().flatten().count();
        let ids = self.iter().map(|(_, node)| node.id);
        if !ids.is_sorted() || self.order.len() != count {
            return fail("nodes are not in order".into());
        }
        let failing = self.iter().filter(|(_, node)| node.has(Flags::PFAIL)).count();
        let unclaimed = self.unclaimed.bits().len();
        if (failing, unclaimed) != (self.failing_count, self.unclaimed_count) {
            return fail("a wrong count of nodes that fail, or of slots that nobody claims".into());
        }
        if count != self.by_id.len() || count + self.free.len() != self.nodes.len() {
            return fail("nodes are found that are not there, or the other way round".into());
        }
        for slot in Slot::all() {
            match self.owner(slot) {
                None if self.is_unclaimed(slot) => return fail(format!("{slot}: nobody's mark")),
                Some(owner) if !self.has_key(owner) => {
                    return fail(format!("{slot}: owner is gone"));
                }
                Some(owner) if !self.node(owner).slots.has(slot) => {
                    return fail(format!("{slot}: its owner does not know"));
                }
                _ => {}
            }
        }
        match self.ways.iter().find(|(_, way)| !self.has_key(way.other())) {
            Some((slot, _)) => fail(format!("{slot}: on its way to or from one that is gone")),
            None => Ok(()),
        }
    }

    fn check_node(&self, key: NodeKey, node: &Node) -> Result<(), &'static str> {
        let is_mine = |slot: Slot| self.owner(slot) == Some(key);
        let primary = node.primary.map(|primary| (primary, self.has_key(primary)));
        let rules = [
            (node.has(Flags::MYSELF) != (key == self.me), "who this node is"),
            (node.flags.or(Flags::ROLE) == node.flags, "two roles"),
            (node.slots().len() != node.slot_count, "a wrong count of slots"),
            (!node.slots().iter().all(is_mine), "a slot of somebody else"),
            (node.slot_count > 0 && !node.is_primary(), "no primary and has slots"),
            (node.primary.is_some() && !node.is_replica(), "no replica and has a primary"),
            (matches!(primary, Some((_, false))), "its primary is gone"),
            (node.primary == Some(key), "its own primary"),
            (node.config_epoch > self.current_epoch, "an epoch to come"),
            (!node.health.reports.keys().all(|from| self.has_key(*from)), "a report of nobody"),
        ];
        if let Some((_, what)) = rules.into_iter().find(|(is_broken, _)| *is_broken) {
            return Err(what);
        }
        match node.primary.map(|primary| self.node(primary)) {
            Some(primary) if primary.is_primary() && primary.shard != node.shard => {
                Err("another shard than its primary's")
            }
            _ => Ok(()),
        }
    }

    /// Whether there is a node with the number.
    pub fn has_key(&self, key: NodeKey) -> bool {
        self.nodes.get(usize::from(key.0)).is_some_and(Option::is_some)
    }
}
