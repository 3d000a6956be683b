//! Slots that go whole from node to node while replicas take over from both.
//!
//! Of the engine there is what matters here: what the source sends lies aside at its target, whose
//! replicas have it before it is claimed; who has lost slots tells its replicas so by its stream,
//! and then has no key of them; and who becomes a primary keeps what is its own.

use super::seeds::Named;
use super::slot;
use super::world::{Peer, TIMEOUT_MS, World};
use crate::cluster::admin::{Done, Request};
use crate::cluster::id::NodeId;
use crate::cluster::manual::Failover;
use crate::cluster::setslot::{By, SetSlot};
use crate::keyspace::slot::Slot;

const CLAIM_MS: u64 = 2500;
const PAUSE_MS: u64 = 10_000;
const ASK_AGAIN_MS: u64 = 10;

/// What a node has to do with moves.
#[derive(Clone, Default)]
pub struct Moving {
    /// What its stream has said of slots that others have got.
    lost: Vec<(Slot, NodeId)>,
    /// What lies aside: of which move, its slots and what was written to them.
    aside: Option<Aside>,
    /// The slots that it hands over.
    handing: Option<(u64, Vec<Slot>)>,
}

#[derive(Clone, PartialEq)]
struct Aside {
    id: u64,
    slots: Vec<Slot>,
    writes: Vec<(Slot, u64)>,
}

impl Moving {
    pub fn is_handing(&self, slot: Slot) -> bool {
        self.handing.as_ref().is_some_and(|(_, slots)| slots.contains(&slot))
    }
}

#[derive(Clone)]
pub struct Move {
    id: u64,
    from: usize,
    to: usize,
    slots: Vec<Slot>,
    until_ms: u64,
    epoch: u64,
}

pub enum Delivered {
    /// All of it, and the wish that it be taken.
    Take(Move, Vec<(Slot, u64)>),
    /// The target looks whether its replicas have it.
    Look(Move),
    /// What the target has said: its epoch, if it has taken them.
    Answer(Move, Option<u64>),
    /// Writes have waited for as long as they may.
    Over(Move),
}

impl Peer {
    fn owns_all(&self, slots: &[Slot]) -> bool {
        let table = self.cluster.table();
        let ours = Some(table.primary_of(table.me()));
        slots.iter().all(|slot| table.owner(*slot) == ours)
    }

    pub fn lose(&mut self, slots: &[Slot], to: NodeId) {
        self.moving.lost.extend(slots.iter().map(|slot| (*slot, to)));
        self.offset += 1;
    }

    pub fn merge_moved(&mut self) {
        if let Some(aside) = self.moving.aside.take() {
            self.writes.retain(|(slot, _)| !aside.slots.contains(slot));
            self.writes.extend(aside.writes);
            self.offset += 1;
        }
    }

    /// It is a primary now.
    pub fn settle_moving(&mut self) {
        let aside = self.moving.aside.as_ref();
        match aside.is_some_and(|aside| self.owns_all(&aside.slots)) {
            true => self.merge_moved(),
            false => self.moving.aside = None,
        }
        let table = self.cluster.table();
        self.writes.retain(|(slot, _)| table.owner(*slot).is_none_or(|owner| owner == table.me()));
    }

    /// Who has which slot may have changed.
    pub fn follow_moves(&mut self) {
        // All of them: the target may have handed some on already, and says nothing of these.
        let table = self.cluster.table();
        let ours = Some(table.primary_of(table.me()));
        let has_any = |(_, slots): &(u64, Vec<Slot>)| slots.iter().any(|s| table.owner(*s) == ours);
        if self.moving.handing.as_ref().is_some_and(|handing| !has_any(handing)) {
            self.let_go();
        }
        let aside = self.moving.aside.as_ref();
        if !self.is_primary() && aside.is_some_and(|aside| self.owns_all(&aside.slots)) {
            self.merge_moved();
        }
    }

    fn let_go(&mut self) {
        self.moving.handing = None;
        self.cluster.end_hand_over();
    }
}

impl World {
    /// A node hands slots that it has over to another one.
    fn move_slots(&mut self, from: usize, to: usize, slots: Vec<Slot>) {
        let (target, now_ms) = (self.id(to), self.now_ms);
        let id = self.draw(usize::MAX) as u64;
        let source = &mut self.peers[from];
        if source.moving.handing.is_some() || source.cluster.is_failing_over() {
            return;
        }
        let writes = source.writes.iter().filter(|(slot, _)| slots.contains(slot));
        let writes = writes.copied().collect();
        let epoch = source.cluster.hand_over(target, slots.iter().copied().collect());
        source.moving.handing = Some((id, slots.clone()));
        let until_ms = now_ms + CLAIM_MS;
        let whole = Move { id, from, to, slots, until_ms, epoch };
        let at_ms = self.arrival(0);
        self.schedule_move(at_ms, Delivered::Take(whole.clone(), writes));
        self.schedule_move(now_ms + PAUSE_MS, Delivered::Over(whole));
    }

    pub fn go_on_with_move(&mut self, delivered: Delivered) {
        match delivered {
            Delivered::Take(whole, writes) => self.put_aside(whole, writes),
            Delivered::Look(whole) => self.take_when_replicas_have(whole),
            Delivered::Answer(whole, epoch) => {
                if self.is_handing_over(&whole) {
                    if let Some(epoch) = epoch {
                        let (slots, to) = (whole.slots.clone(), self.id(whole.to));
                        let request = Request::ConcedeSlots { slots, to, epoch };
                        // If it cannot be, the claim is still to come by the bus.
                        _ = self.ask(whole.from, request);
                    } else {
                        self.peers[whole.from].let_go();
                    }
                }
            }
            Delivered::Over(whole) => {
                if self.is_handing_over(&whole) {
                    self.peers[whole.from].let_go();
                }
            }
        }
    }

    fn is_handing_over(&self, whole: &Move) -> bool {
        let handing = self.peers[whole.from].moving.handing.as_ref();
        handing.is_some_and(|(id, _)| *id == whole.id)
    }

    fn put_aside(&mut self, whole: Move, writes: Vec<(Slot, u64)>) {
        let target = &mut self.peers[whole.to];
        if target.moving.aside.is_some() || !target.is_primary() {
            return self.answer(whole, None);
        }
        let (id, slots) = (whole.id, whole.slots.clone());
        target.moving.aside = Some(Aside { id, slots, writes });
        target.offset += 1;
        self.take_when_replicas_have(whole);
    }

    fn take_when_replicas_have(&mut self, whole: Move) {
        let target = &self.peers[whole.to];
        let aside = target.moving.aside.as_ref();
        if !target.is_primary() || aside.is_none_or(|aside| aside.id != whole.id) {
            return self.answer(whole, None);
        }
        let follows =
            |peer: &&Peer| peer.replicates.as_ref().is_some_and(|(ip, _)| *ip == target.ip);
        let mut replicas = self.peers.iter().filter(follows);
        if !replicas.all(|peer| peer.moving.aside.as_ref() == aside) {
            return self.schedule_move(self.now_ms + ASK_AGAIN_MS, Delivered::Look(whole));
        }
        let (slots, from) = (whole.slots.clone(), self.id(whole.from));
        let Move { until_ms, epoch, to, .. } = whole;
        let taken = match self.ask(to, Request::TakeSlots { slots, from, until_ms, epoch }) {
            Ok(Done::Taken(epoch)) => Some(epoch),
            _ => {
                self.peers[to].moving.aside = None;
                None
            }
        };
        self.answer(whole, taken);
    }

    /// The answer leaves when the file is safe.
    fn answer(&mut self, whole: Move, epoch: Option<u64>) {
        let at_ms = self.arrival(self.peers[whole.to].disk_free_ms + 1);
        self.schedule_move(at_ms, Delivered::Answer(whole, epoch));
    }

    /// What the stream says of moves, in its order: who has slots now, and then what is there.
    pub fn take_moving(&mut self, number: usize, told: Moving) {
        let known = std::mem::take(&mut self.peers[number].moving.lost);
        for (slot, to) in told.lost.iter().skip(known.len()) {
            let (slot, how) = (*slot, SetSlot::Node(*to));
            _ = self.ask(number, Request::SetSlot { slot, how, by: By::Stream });
        }
        let moving = &mut self.peers[number].moving;
        (moving.lost, moving.aside) = (told.lost, told.aside);
        self.peers[number].follow_moves();
    }

    fn move_something(&mut self) {
        let (from, to) = (self.draw(self.peers.len()), self.draw(self.peers.len()));
        let served =
            |peer: &Peer| (0..SLOTS).map(slot).filter(|s| peer.serves(*s, self.now_ms)).collect();
        let mut slots: Vec<Slot> = served(&self.peers[from]);
        let count = 1 + self.draw(3);
        while slots.len() > count {
            let at = self.draw(slots.len());
            slots.remove(at);
        }
        if from != to && self.peers[to].is_primary() && !slots.is_empty() {
            self.move_slots(from, to, slots);
        }
    }
}

/// The slots that are written to, and move.
const SLOTS: u64 = 12;

/// Whoever takes over from whom while slots go to and fro, by hand and so without loss, every write
/// that was accepted is where its slot is.
#[test]
fn no_write_is_lost_where_slots_move_and_replicas_take_over() {
    let mut moved = 0;
    for seed in 0..300 {
        let _named = Named(seed);
        let mut world = World::with_replicas(3, 1, seed);
        world.delay_ms = [5, 30, 100][seed as usize % 3];
        world.disk_ms = [5, 50, 300][seed as usize / 3 % 3];
        let mut written = vec![0; SLOTS as usize];
        for _ in 0..60 {
            for number in 0..SLOTS {
                written[number as usize] += usize::from(world.write(slot(number)).is_some());
            }
            (0..2).for_each(|_| world.move_something());
            if world.draw(3) == 0 {
                let number = world.draw(6);
                let how = Failover::Plain;
                _ = world.ask(number, Request::Failover { how, user: String::new() });
            }
            let ms = world.draw(300) as u64;
            world.run_for(ms);
        }
        world.run_for(2 * PAUSE_MS);
        world.run_until(TIMEOUT_MS * 10, World::agrees);
        for number in 0..SLOTS {
            let serving = |peer: &Peer| peer.serves(slot(number), world.now_ms);
            let owner = world.peers.iter().position(serving).expect("somebody has it");
            let kept = world.writes_of(owner, slot(number)).len();
            assert_eq!(kept, written[number as usize], "slot {number} of seed {seed}");
            moved += usize::from(owner % 3 != 0);
        }
    }
    assert!(moved > 100, "slots have moved: {moved}");
}

/// Who takes over is to know by the stream how that has ended.
#[test]
fn who_hands_slots_over_is_replaced_behind_that() {
    let mut world = World::with_replicas(3, 1, 1);
    let target = world.id(1);
    world.peers[0].cluster.hand_over(target, [slot(1)].into_iter().collect());
    let failover = || Request::Failover { how: Failover::Plain, user: String::new() };
    world.ask(3, failover()).expect("it is a replica");
    world.run_for(TIMEOUT_MS);
    assert!(world.peers[0].cluster.is_failing_over());
    assert_eq!(world.peers[0].writes_paused_until_ms, 0);
    world.peers[0].let_go();
    world.run_until(TIMEOUT_MS, |world| world.peers[3].is_primary());
    world.run_until(TIMEOUT_MS * 8, World::agrees);
}

/// Nor does it come to an epoch greater than that under which its replica is elected.
#[test]
fn who_is_being_replaced_takes_no_slots() {
    let mut world = World::with_replicas(3, 1, 1);
    let from = world.id(1);
    let failover = Request::Failover { how: Failover::Plain, user: String::new() };
    world.ask(3, failover).expect("it is a replica");
    let is_held = |world: &mut World| {
        world.run_for(1);
        world.peers[0].writes_paused_until_ms > 0
    };
    assert!((0..TIMEOUT_MS).any(|_| is_held(&mut world)));
    let refused = "A failover of this node is under way";
    let set = world.set_slot(0, 1, SetSlot::Node(from), By::Client);
    assert_eq!(set.map(|_| ()).map_err(|refusal| refusal.to_string()), Err(refused.to_owned()));
    let slots = vec![slot(16_383 / 2)];
    let take = Request::TakeSlots { slots, from, until_ms: u64::MAX, epoch: 9 };
    let taken = world.ask(0, take).map(|_| ()).map_err(|refusal| refusal.to_string());
    assert_eq!(taken, Err(refused.to_owned()));
    world.run_until(TIMEOUT_MS, |world| world.peers[3].is_primary());
    world.run_until(TIMEOUT_MS * 8, World::agrees);
}
