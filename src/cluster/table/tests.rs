//! The table under random changes, and what single ones do.

use super::*;
use crate::structs::prng::Prng;

fn id(number: u64) -> NodeId {
    NodeId::parse(format!("{number:040x}").as_bytes()).expect("an id")
}

fn shard(number: u64) -> ShardId {
    ShardId::parse(format!("{number:040x}").as_bytes()).expect("an id")
}

fn slot(number: u64) -> Slot {
    Slot::new(number).expect("in range")
}

fn three() -> (Table, NodeKey, NodeKey, NodeKey) {
    let mut table = Table::new(id(1), shard(1));
    let primary = table.add(id(2), shard(2), Flags::PRIMARY).expect("it is new");
    let other = table.add(id(3), shard(3), Flags::PRIMARY).expect("it is new");
    let me = table.me();
    (table, me, primary, other)
}

/// One of the changes that rules may ask for, if it may be asked for just now.
fn change(table: &mut Table, prng: &mut Prng) {
    let keys = table.keys();
    let mut draw = || keys[prng.below(keys.len() as u64) as usize];
    let (key, other) = (draw(), draw());
    let slot = slot(prng.below(64));
    match prng.below(16) {
        0 | 1 => _ = table.add(id(prng.below(24)), shard(prng.below(8)), Flags::PRIMARY),
        2 => _ = table.add(id(prng.below(24)), shard(prng.below(8)), Flags::HANDSHAKE),
        3 if key != table.me() => _ = table.remove(key),
        4 => _ = table.rename(key, id(prng.below(24))),
        5 => table.make_primary(key),
        6 if key != other && table.node(key).slot_count() == 0 => {
            table.make_replica(key, Some(other));
        }
        7 if key != other && table.node(other).is_primary() => {
            table.move_all(key, other);
            table.make_replica(key, Some(other));
        }
        8 if table.node(key).slot_count() == 0 => table.make_replica(key, None),
        9 | 10 if table.node(key).is_primary() => table.assign(slot, key),
        11 => table.unassign(slot),
        12 => table.mark_unclaimed(slot),
        13 => table.set_way(slot, Some(Way::ComesFrom(other)).filter(|_| prng.below(2) == 0)),
        14 => table.set_shard(key, shard(prng.below(8))),
        15 => {
            table.set_config_epoch(key, prng.below(100));
            table.health_mut(key).reports.insert(other, 0);
        }
        _ => {}
    }
}

#[test]
fn it_stays_whole_under_any_changes() {
    for seed in 0..20 {
        let mut prng = Prng::seeded(seed);
        let mut table = Table::new(id(0), shard(0));
        for step in 0..500 {
            change(&mut table, &mut prng);
            if let Err(what) = table.check() {
                panic!("seed {seed}, step {step}: {what}");
            }
        }
        assert!(table.count() > 1, "seed {seed}: nothing happened");
    }
}

#[test]
fn what_refers_to_a_node_goes_with_it() {
    let (mut table, me, primary, other) = three();
    table.make_replica(other, Some(primary));
    table.assign(slot(7), primary);
    table.mark_unclaimed(slot(7));
    table.set_way(slot(8), Some(Way::LeavesTo(primary)));
    table.health_mut(me).reports.insert(primary, 5);
    table.remove(primary);
    assert_eq!(table.check(), Ok(()));
    assert_eq!((table.owner(slot(7)), table.way(slot(8))), (None, None));
    assert!(table.node(other).is_replica() && table.node(other).primary().is_none());
    assert!(table.myself().health.reports.is_empty() && !table.is_unclaimed(slot(7)));
    let again = table.add(id(9), shard(9), Flags::PRIMARY).expect("it is new");
    assert_eq!((table.node(again).slot_count(), table.replicas(again).count()), (0, 0));
}

#[test]
fn a_mark_goes_with_every_change_of_owner() {
    let (mut table, me, primary, _) = three();
    table.assign(slot(1), primary);
    table.mark_unclaimed(slot(1));
    assert!(!table.claimed_by(primary).has(slot(1)) && table.node(primary).slots().has(slot(1)));
    table.assign(slot(1), me);
    assert!(!table.is_unclaimed(slot(1)));
    table.mark_unclaimed(slot(1));
    table.assign(slot(1), me);
    assert!(table.claimed_by(me).has(slot(1)), "its owner has it again");
    table.unassign(slot(1));
    table.mark_unclaimed(slot(1));
    assert!(!table.is_unclaimed(slot(1)));
}

#[test]
fn a_shard_is_what_its_primary_says() {
    let (mut table, me, primary, other) = three();
    table.make_replica(me, Some(primary));
    assert_eq!(table.myself().shard(), shard(2));
    table.set_shard(me, shard(5));
    assert_eq!(table.myself().shard(), shard(2));
    table.set_shard(primary, shard(6));
    assert_eq!(table.myself().shard(), shard(6));
    // A chain, as there is for a moment after a failover: it comes to one shard.
    table.make_replica(primary, Some(other));
    assert_eq!(table.node(primary).shard(), shard(3));
    assert_eq!(table.myself().shard(), shard(3));
    assert_eq!(table.check(), Ok(()));
}

#[test]
fn who_votes_and_how_many_decide() {
    let (mut table, me, primary, other) = three();
    assert_eq!((table.size(), table.quorum()), (0, 1));
    for (number, key) in (0..).zip([me, primary, other]) {
        table.assign(slot(number), key);
        assert_eq!(table.size(), number as usize + 1);
    }
    assert_eq!((table.quorum(), table.assigned_count()), (2, 3));
    table.move_all(other, primary);
    table.make_replica(other, Some(primary));
    assert_eq!((table.size(), table.quorum()), (2, 2));
    assert!(table.node(primary).has(Flags::MIGRATE_TO) && !table.myself().has(Flags::MIGRATE_TO));
    table.make_primary(other);
    assert!(!table.node(primary).has(Flags::MIGRATE_TO));
}

#[test]
fn the_generation_tells_of_what_clients_see() {
    let (mut table, me, primary, _) = three();
    let mut last = table.generation();
    let mut step = |table: &Table, is_seen: bool, what: &str| {
        assert_eq!(table.generation() != last, is_seen, "{what}");
        last = table.generation();
    };
    table.assign(slot(1), me);
    step(&table, true, "a slot");
    table.assign(slot(1), me);
    step(&table, false, "the same slot");
    table.health_mut(primary).pong_received_ms = Some(1);
    step(&table, false, "a pong");
    table.set_offset(primary, 5);
    step(&table, true, "the first data");
    table.set_offset(primary, 6);
    step(&table, false, "more data");
    table.set_place(primary, Place { ip: "1.2.3.4".into(), ..Place::default() });
    step(&table, true, "a place");
    table.mark(primary, Flags::FAIL);
    step(&table, true, "a flag");
    table.mark(primary, Flags::FAIL);
    step(&table, false, "the same flag");
}
