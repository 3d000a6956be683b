//! Fields that expire, against an engine in process with a clock of the test.

use std::collections::{BTreeMap, BTreeSet};

use super::tests::{bench, items, told};
use crate::engine::testing::{Bench, START_MS};
use crate::keyspace::{Db, Snapshot, ValueRef, digest};
use crate::structs::prng::Prng;

fn tick(bench: &mut Bench, at_ms: u64) {
    bench.move_to(at_ms - START_MS);
}

/// The clock moves, and what is due is taken away.
fn tick_and_expire(bench: &mut Bench, at_ms: u64) {
    tick(bench, at_ms);
    bench.expire_all();
}

#[test]
fn what_is_done_to_times_is_told() {
    let mut bench = bench();
    let cases: [(&str, &str, &[&str], &str); 16] = [
        ("HSET h a 1 b 2 c 3", ":3|", &["new", "hset"], "HSET h a 1 b 2 c 3"),
        (
            "HEXPIRE h 10 FIELDS 2 a x",
            "*2|:1|:-2|",
            &["hexpire"],
            "HPEXPIREAT h 1700000010000 FIELDS 1 a",
        ),
        ("HEXPIRE h 5 GT FIELDS 2 a b", "*2|:0|:0|", &[], ""),
        ("HEXPIRE h 20 NX FIELDS 1 a", "*1|:0|", &[], ""),
        ("HTTL h FIELDS 3 a b x", "*3|:10|:-1|:-2|", &[], ""),
        ("HINCRBYFLOAT h a 1", "$1|2|", &["hincrbyfloat"], "HSETEX h KEEPTTL FIELDS 1 a 2"),
        ("HINCRBY h a 1", ":3|", &["hincrby"], "HINCRBY h a 1"),
        ("HPTTL h FIELDS 1 a", "*1|:10000|", &[], ""),
        ("HPERSIST h FIELDS 2 a b", "*2|:1|:-1|", &["hpersist"], "HPERSIST h FIELDS 1 a"),
        ("HPEXPIRE h 0 FIELDS 1 b", "*1|:2|", &["hdel"], "HDEL h b"),
        (
            "HGETEX h PX 7 FIELDS 2 a b",
            "*2|$1|3|$-1|",
            &["hexpire"],
            "HPEXPIREAT h 1700000000007 FIELDS 1 a",
        ),
        ("HSET h a 4", ":0|", &["hset"], "HSET h a 4"),
        ("HTTL h FIELDS 1 a", "*1|:-1|", &[], ""),
        (
            "HSETEX h FXX EX 3 FIELDS 1 a 5",
            ":1|",
            &["hset", "hexpire"],
            "HSETEX h PXAT 1700000003000 FIELDS 1 a 5",
        ),
        ("HSETEX h FNX EX 3 FIELDS 1 a 5", ":0|", &[], ""),
        ("HGETDEL h FIELDS 2 a c", "*2|$1|5|$1|3|", &["hdel", "del"], "HDEL h a c"),
    ];
    for (line, reply, events, replayed) in cases {
        assert_eq!(bench.ask(line), reply, "{line}");
        let (told, commands, _) = told(&mut bench);
        let told: Vec<_> = told.iter().filter(|name| *name != "new").collect();
        let events: Vec<_> = events.iter().filter(|name| **name != "new").collect();
        assert_eq!(
            (format!("{told:?}"), commands.join(";")),
            (format!("{events:?}"), replayed.to_owned()),
            "{line}"
        );
    }
    assert_eq!(bench.ask("EXISTS h"), ":0|");
    assert_eq!(bench.engine.keyspace.db(0).hashes_with_deadlines(), 0);
}

#[test]
fn a_key_goes_with_its_last_field() {
    let mut bench = bench();
    bench.ask("HSETEX h PX 10 FIELDS 2 a 1 b 2");
    bench.ask("HPEXPIRE h 20 FIELDS 1 b");
    assert_eq!(bench.ask("OBJECT ENCODING h"), "$10|listpackex|");
    bench.ask("COPY h copy");
    bench.ask("RENAME h g");
    told(&mut bench);
    tick(&mut bench, START_MS + 10);
    assert_eq!(bench.ask("HLEN g"), ":2|");
    tick(&mut bench, START_MS + 11);
    assert_eq!(bench.ask("HGETALL g"), "*2|$1|b|$1|2|");
    assert_eq!(told(&mut bench).0, ["hexpired", "hexpired"]);
    bench.ask("HPERSIST copy FIELDS 1 b");
    told(&mut bench);
    tick(&mut bench, START_MS + 21);
    assert_eq!(bench.ask("EXISTS g copy"), ":1|");
    let (events, commands, _) = told(&mut bench);
    assert_eq!(
        (events, commands),
        (vec!["hexpired".to_owned(), "del".to_owned()], vec!["HDEL g b".to_owned()])
    );
    assert_eq!(bench.engine.keyspace.earliest_deadline_ms(), u64::MAX);
    bench.ask("HEXPIRE copy 10 FIELDS 1 b");
    assert_eq!(bench.engine.keyspace.db(0).hashes_with_deadlines(), 1);
    bench.ask("SET copy text");
    assert_eq!(bench.engine.keyspace.db(0).hashes_with_deadlines(), 0);
}

/// A command that writes to a field whose time has come tells of its end first.
#[test]
fn expired_fields_in_the_way_are_told_of_first() {
    let mut bench = bench();
    bench.engine.keyspace.expires_actively = false;
    bench.ask("HSETEX h PX 5 FIELDS 4 a 1 b 2 c 3 d 4");
    bench.ask("HSET h stays 1");
    tick(&mut bench, START_MS + 6);
    told(&mut bench);
    let cases: [(&str, &str, &[&str], &str); 9] = [
        ("HGET h a", "$-1|", &[], ""),
        ("HINCRBY h a 4", ":4|", &["hexpired", "hincrby"], "MULTI;HDEL h a;HINCRBY h a 4;EXEC"),
        ("HDEL h b stays", ":1|", &["hexpired", "hdel"], "MULTI;HDEL h b;HDEL h b stays;EXEC"),
        ("HGETDEL h FIELDS 1 c", "*1|$-1|", &["hexpired"], "HDEL h c"),
        ("HPEXPIRE h 0 FIELDS 2 a d", "*2|:2|:-2|", &["hdel"], "HDEL h a"),
        ("HLEN h", ":0|", &[], ""),
        ("EXISTS h", ":1|", &[], ""),
        ("HDEL h d", ":0|", &["hexpired", "del"], "HDEL h d"),
        ("EXISTS h", ":0|", &[], ""),
    ];
    for (line, reply, events, replayed) in cases {
        assert_eq!(bench.ask(line), reply, "{line}");
        let (told, commands, _) = told(&mut bench);
        let told: Vec<_> = told.iter().filter(|name| *name != "keymiss").collect();
        assert_eq!(format!("{told:?}"), format!("{events:?}"), "{line}");
        assert_eq!(commands.join(";"), replayed, "{line}");
    }
}

/// A hash whose fields have all expired is no key any more, taken away or not: the next field makes
/// another, which does not die with the old one.
#[test]
fn a_field_that_comes_after_all_have_expired_makes_another_key() {
    for line in [
        "HSET h c 1",
        "HSETNX h a 1",
        "HMSET h a 1",
        "HINCRBY h a 1",
        "HINCRBYFLOAT h a 1",
        "HSETEX h KEEPTTL FIELDS 1 a 1",
        "HSETEX h FNX FIELDS 1 a 1",
    ] {
        let mut bench = bench();
        bench.engine.keyspace.expires_actively = false;
        bench.ask("HSETEX h PX 5 FIELDS 2 a 1 b 2");
        bench.ask("EXPIRE h 100");
        tick(&mut bench, START_MS + 6);
        told(&mut bench);
        assert!(!bench.ask(line).starts_with('-'), "{line}");
        let (events, replayed, _) = told(&mut bench);
        assert_eq!(events[..2], ["hexpired", "del"], "{line}");
        assert_eq!(replayed[..2], ["MULTI", "DEL h"], "{line}: {replayed:?}");
        assert_eq!(bench.ask("TTL h"), ":-1|", "{line}");
        assert_eq!(bench.ask("HLEN h"), ":1|", "{line}");
        assert_eq!(bench.engine.keyspace.stats.expired_fields, 2, "{line}");
    }
}

#[test]
fn bad_words_are_named() {
    let mut bench = bench();
    let cases = [
        ("HEXPIRE h x FIELDS 1 a", "-ERR value is not an integer or out of range|"),
        ("HEXPIRE h -1 FIELDS 1 a", "-ERR invalid expire time, must be >= 0|"),
        (
            "HEXPIRE h 9223372036854775807 FIELDS 1 a",
            "-ERR invalid expire time in 'hexpire' command|",
        ),
        ("HEXPIRE h 1 FIELDS 0 a", "-ERR Parameter `numFields` should be greater than 0|"),
        (
            "HEXPIRE h 1 FIELDS 9223372036854775807 a",
            "-ERR The `numfields` parameter must match the number of arguments|",
        ),
        (
            "HEXPIRE h 1 NX NX 1 a",
            "-ERR Mandatory argument FIELDS is missing or not at the right position|",
        ),
        (
            "HGETEX h EX 1 PX 1 FIELDS 1 a",
            "-ERR Mandatory argument FIELDS is missing or not at the right position|",
        ),
        ("HGETEX h EX -1 FIELDS 1 a", "-ERR invalid expire time, must be >= 0|"),
        (
            "HSETEX h FNX FXX FIELDS 1 a 1",
            "-ERR Only one of FXX or FNX arguments can be specified|",
        ),
        ("HSETEX h FIELDS 2 a 1 b", "-ERR wrong number of arguments for 'hsetex' command|"),
    ];
    for (line, reply) in cases {
        assert_eq!(bench.ask(line), reply, "{line}");
    }
    bench.ask("SET h text");
    assert!(bench.ask("HEXPIRE h 1 FIELDS 1 a").starts_with("-WRONGTYPE"));
    assert_eq!(bench.ask("HTTL none FIELDS 2 a b"), "*2|:-2|:-2|");
}

/// Random commands and a clock that moves, against a map; what is replayed makes the same data.
#[test]
fn hashes_with_times_do_as_a_map() {
    for (seed, entries) in [(1, 0), (2, 8), (3, 512)] {
        let mut prng = Prng::seeded(seed);
        let (mut bench, mut replica) = (bench(), bench());
        bench.ask(&format!("CONFIG SET hash-max-listpack-entries {entries}"));
        let mut model = Fields::new();
        let mut now_ms = START_MS;
        for step in 0..6000 {
            let line = if prng.below(9) == 0 {
                now_ms += prng.below(12);
                bench.engine.keyspace.expires_actively = prng.below(2) == 0;
                tick(&mut bench, now_ms);
                model.retain(|_, field| field.1.is_none_or(|at_ms| at_ms >= now_ms));
                "PING".to_owned()
            } else {
                play_on_fields(&mut model, &mut prng, now_ms)
            };
            bench.ask(&line);
            assert_eq!(bench.ask("HLEN h"), format!(":{}|", model.len()), "{step} {line}");
            assert_reads_agree(&mut bench, &model);
            for command in bench.engine.server.propagation.drain() {
                let words: Vec<&[u8]> = command.words.iter().map(|word| &**word).collect();
                replica.run(&words);
            }
            for (name, (value, expiry_ms)) in &model {
                let value = format!("${}|{value}|", value.to_string().len());
                let answer = expiry_ms.map_or(-1, u64::cast_signed);
                for bench in [&mut bench, &mut replica] {
                    assert_eq!(bench.ask(&format!("HGET h {name}")), value, "{step} {line}");
                    let at = bench.ask(&format!("HPEXPIRETIME h FIELDS 1 {name}"));
                    assert_eq!(at, format!("*1|:{answer}|"), "{step} {line}");
                }
            }
            let digests = [&bench, &replica].map(|b| digest::of_dataset(&b.engine.keyspace));
            assert_eq!(digests[0], digests[1], "{step} {line}");
        }
        bench.engine.keyspace.expires_actively = true;
        tick(&mut bench, now_ms);
        assert_eq!(bench.ask("EXISTS h"), format!(":{}|", u8::from(!model.is_empty())));
    }
}

/// The values of fields, and until when they live.
type Fields = BTreeMap<u64, (u64, Option<u64>)>;

/// Does something to the model and says it as a command.
fn play_on_fields(model: &mut Fields, prng: &mut Prng, now_ms: u64) -> String {
    let (name, value, at_ms) = (prng.below(30), prng.below(1000), now_ms + prng.below(40));
    match prng.below(8) {
        0 | 1 => {
            model.insert(name, (value, None));
            format!("HSET h {name} {value}")
        }
        2 => {
            model.entry(name).or_insert((0, None)).0 += value;
            format!("HINCRBY h {name} {value}")
        }
        3 => {
            model.remove(&name);
            format!("HDEL h {name}")
        }
        4 => {
            if let Some(field) = model.get_mut(&name) {
                field.1 = None;
            }
            format!("HPERSIST h FIELDS 1 {name}")
        }
        5 if at_ms > now_ms => {
            model.insert(name, (value, Some(at_ms)));
            format!("HSETEX h PXAT {at_ms} FIELDS 1 {name} {value}")
        }
        _ => {
            if at_ms <= now_ms {
                model.remove(&name);
            } else if let Some(field) = model.get_mut(&name) {
                field.1 = Some(at_ms);
            }
            format!("HPEXPIRE h {} FIELDS 1 {name}", at_ms - now_ms)
        }
    }
}

/// What lists many fields lists those of the model, whatever still lies in the hash.
fn assert_reads_agree(bench: &mut Bench, model: &Fields) {
    let names: BTreeSet<String> = model.keys().map(u64::to_string).collect();
    for line in ["HKEYS h", "HRANDFIELD h 1000", "HSCAN h 0 COUNT 1000 NOVALUES"] {
        let items = items(bench, line);
        // The cursor of HSCAN comes first.
        let skipped = usize::from(line.starts_with("HSCAN"));
        assert_eq!(items.len() - skipped, names.len(), "{line}");
        assert_eq!(items.into_iter().skip(skipped).collect::<BTreeSet<_>>(), names, "{line}");
    }
    let draws = ["HRANDFIELD h", "HRANDFIELD h -20"].iter();
    let drawn: Vec<String> = draws.flat_map(|line| items(bench, line)).collect();
    assert!(drawn.iter().all(|name| names.contains(name) || name == "_"), "{drawn:?}");
    assert_eq!(drawn.len(), if names.is_empty() { 0 } else { 21 });
    assert_eq!(items(bench, "HGETALL h").len(), names.len() * 2);
}

#[test]
fn the_server_shows_what_expires() {
    let mut bench = bench();
    bench.ask("HSET h a 1 b 2");
    bench.ask("HSETEX g PX 20 FIELDS 1 a 1");
    assert!(bench.ask("INFO keyspace").contains("db0:keys=2,expires=0,avg_ttl=0,subexpiry=1|"));
    bench.ask("HPEXPIRE h 10 FIELDS 2 a b");
    assert!(bench.ask("INFO keyspace").contains("db0:keys=2,expires=0,avg_ttl=0,subexpiry=2|"));
    bench.ask("HPERSIST h FIELDS 1 a");
    tick(&mut bench, START_MS + 21);
    assert!(bench.ask("INFO keyspace").contains("db0:keys=1,expires=0,avg_ttl=0,subexpiry=0|"));
    let stats = bench.ask("INFO stats");
    assert!(stats.contains("|expired_subkeys:2|"), "{stats}");
    assert!(stats.contains("|expired_keys:1|"), "{stats}");
    bench.ask("CONFIG RESETSTAT");
    assert!(bench.ask("INFO stats").contains("|expired_subkeys:0|"));

    // A digest tells whether fields expire, but not when.
    let mut digest = |line: &str| {
        bench.ask(line);
        digest::of_dataset(&bench.engine.keyspace)
    };
    let timed = digest("HPEXPIRE h 50 FIELDS 1 a");
    assert_eq!(digest("HPEXPIRE h 60 FIELDS 1 a"), timed);
    assert_ne!(digest("HPERSIST h FIELDS 1 a"), timed);

    // The place in the index is counted, too.
    let mut usage = |line: &str| {
        bench.ask(line);
        let reply = bench.ask("MEMORY USAGE h");
        reply[1..reply.len() - 1].parse::<u64>().expect("an integer")
    };
    let timed = usage("HPEXPIRE h 10 FIELDS 1 a");
    assert!(timed > usage("HPERSIST h FIELDS 1 a") + 8);
}

/// A hash: until when it lives, and its fields, and until when those do.
#[derive(Clone, Default)]
struct Model {
    expiry_ms: Option<u64>,
    fields: BTreeMap<u64, Option<u64>>,
}

/// The hashes of two databases.
type Keyspaces = [BTreeMap<String, Model>; 2];

/// Whole keys come and go in all ways there are; the index has just the hashes whose fields
/// expire, and in the end each field has gone at its time.
#[test]
fn the_index_follows_keys_wherever_they_go() {
    for seed in 1..=6 {
        let mut prng = Prng::seeded(seed);
        let mut bench = bench();
        let entries = [0, 4, 512][seed as usize % 3];
        bench.ask(&format!("CONFIG SET hash-max-listpack-entries {entries}"));
        let mut model = Keyspaces::default();
        let mut now_ms = START_MS;
        for step in 0..4000 {
            let db = prng.below(2) as usize;
            assert_eq!(bench.ask(&format!("SELECT {db}")), "+OK|");
            if prng.below(8) == 0 {
                now_ms += prng.below(15);
                tick_and_expire(&mut bench, now_ms);
                for keys in &mut model {
                    let is_live = |at_ms: &Option<u64>| at_ms.is_none_or(|at_ms| at_ms >= now_ms);
                    keys.values_mut().for_each(|key| key.fields.retain(|_, at_ms| is_live(at_ms)));
                    keys.retain(|_, key| is_live(&key.expiry_ms) && !key.fields.is_empty());
                }
            } else {
                let line = play(&mut model, db, &mut prng, now_ms);
                let reply = bench.ask(&line);
                assert!(!reply.starts_with('-'), "{line}: {reply}");
            }
            assert_index(&bench, &model, step);
        }
        now_ms += 1000;
        tick_and_expire(&mut bench, now_ms);
        assert!(bench.engine.keyspace.dbs().iter().all(|db| db.hashes_with_deadlines() == 0));
        let earliest_ms = |db: &Db| db.earliest_field_deadline_ms();
        assert!(bench.engine.keyspace.dbs().iter().all(|db| earliest_ms(db) == u64::MAX));
    }
}

/// Does something to the model and says it as a command.
fn play(model: &mut Keyspaces, db: usize, prng: &mut Prng, now_ms: u64) -> String {
    let [key, to] = [prng.below(4), prng.below(4)].map(|number| format!("k{number}"));
    let (name, at_ms) = (prng.below(6), now_ms + 1 + prng.below(60));
    let is_there = model[db].contains_key(&key);
    match prng.below(16) {
        0..=4 => {
            model[db].entry(key.clone()).or_default().fields.insert(name, Some(at_ms));
            format!("HSETEX {key} PXAT {at_ms} FIELDS 1 {name} v")
        }
        5 => {
            model[db].entry(key.clone()).or_default().fields.insert(name, None);
            format!("HSET {key} {name} v")
        }
        6 | 7 => {
            if let Some(at) = model[db].get_mut(&key).and_then(|hash| hash.fields.get_mut(&name)) {
                *at = None;
            }
            format!("HPERSIST {key} FIELDS 1 {name}")
        }
        8 => {
            if let Some(hash) = model[db].get_mut(&key) {
                hash.fields.remove(&name);
            }
            model[db].retain(|_, hash| !hash.fields.is_empty());
            format!("HDEL {key} {name}")
        }
        9 if is_there => {
            let hash = model[db].remove(&key).expect("the key is there");
            model[db].insert(to.clone(), hash);
            format!("RENAME {key} {to}")
        }
        10 if is_there && key != to => {
            let hash = model[db][&key].clone();
            model[1 - db].insert(to.clone(), hash);
            format!("COPY {key} {to} DB {} REPLACE", 1 - db)
        }
        11 => {
            if is_there && !model[1 - db].contains_key(&key) {
                let hash = model[db].remove(&key).expect("the key is there");
                model[1 - db].insert(key.clone(), hash);
            }
            format!("MOVE {key} {}", 1 - db)
        }
        12 => {
            model.swap(0, 1);
            "SWAPDB 0 1".to_owned()
        }
        13 => {
            model[db].remove(&key);
            format!("{} {key}", ["DEL", "UNLINK"][prng.below(2) as usize])
        }
        14 => {
            model[db].remove(&key);
            format!("SORT none STORE {key}")
        }
        _ if prng.below(10) == 0 => {
            model[db].clear();
            format!("FLUSHDB {}", ["SYNC", "ASYNC"][prng.below(2) as usize])
        }
        _ => {
            if let Some(hash) = model[db].get_mut(&key) {
                hash.expiry_ms = Some(at_ms);
            }
            format!("PEXPIREAT {key} {at_ms}")
        }
    }
}

fn assert_index(bench: &Bench, model: &Keyspaces, step: usize) {
    for (db, keys) in bench.engine.keyspace.dbs().iter().zip(model) {
        assert_eq!(db.len(), keys.len(), "{step}");
        let timed = keys.values().filter(|hash| hash.fields.values().any(Option::is_some));
        assert_eq!(db.hashes_with_deadlines(), timed.count(), "{step}");
        let earliest_ms = keys.values().flat_map(|hash| hash.fields.values().flatten()).min();
        assert!(db.earliest_field_deadline_ms() <= earliest_ms.map_or(u64::MAX, |at| *at));
    }
}

/// A slice takes no more than its share, whether the fields lie in one hash or in many, and the
/// slices after it take the rest.
#[test]
fn what_is_due_at_once_goes_in_slices() {
    const SLICE: usize = 1000;
    for (hashes, fields) in [(1, 20_000), (20, 1000), (5000, 1)] {
        let mut bench = bench();
        let mut words: Vec<Vec<u8>> =
            ["HSETEX", "h", "PX", "5", "FIELDS", &fields.to_string()].map(Vec::from).into();
        for field in 0..fields {
            words.extend([format!("f{field}").into_bytes(), b"v".to_vec()]);
        }
        for hash in 0..hashes {
            words[1] = format!("h{hash}").into_bytes();
            bench.run(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        bench.ask("HSET stays a 1");
        tick(&mut bench, START_MS + 5);
        assert!(!bench.engine.expire_due());
        tick(&mut bench, START_MS + 6);
        let few = bench.engine.keyspace.stats.expired_fields;
        assert!(few > 0 && few <= 200, "{few} by a tick");
        let mut slices = 0;
        loop {
            assert!(slices < 10_000, "what is due does not come to an end");
            let before = bench.engine.keyspace.stats.expired_fields;
            assert_eq!(bench.ask("HLEN h0"), ":0|");
            assert_eq!(bench.ask("HGETALL h0"), "*0|");
            let more = bench.engine.expire_due();
            let taken = bench.engine.keyspace.stats.expired_fields - before;
            assert!(taken <= SLICE as u64, "{taken} at once");
            slices += 1;
            if !more {
                break;
            }
        }
        assert!(slices >= hashes * fields / SLICE);
        assert_eq!(bench.engine.keyspace.stats.expired_fields, (hashes * fields) as u64);
        assert_eq!(bench.engine.keyspace.stats.expired, hashes as u64);
        assert_eq!(bench.ask("DBSIZE"), ":1|");
    }
}

/// Bounds that are too low because times were changed do not make a slice long either, be it in
/// one hash or in many: a segment of some tens of fields counts as much as 8 that are taken.
#[test]
fn times_that_were_changed_cost_no_long_slice() {
    for (hashes, fields) in [(1, 40_000), (40, 1000)] {
        let mut bench = bench();
        for hash in 0..hashes {
            for field in 0..fields {
                bench.ask(&format!("HSETEX h{hash} PX 5 FIELDS 1 f{field} v"));
                bench.ask(&format!("HPEXPIRE h{hash} 500 FIELDS 1 f{field}"));
            }
        }
        tick(&mut bench, START_MS + 6);
        let slices = bench.expire_all();
        assert!((5..20).contains(&slices), "{slices}");
        assert_eq!(bench.ask("HLEN h0"), format!(":{fields}|"));
        assert!(bench.engine.keyspace.earliest_deadline_ms() >= START_MS + 500);
    }
}

/// Snapshots taken at any moment stay as they were while fields come, change, and go.
#[test]
fn snapshots_keep_their_fields() {
    let mut bench = bench();
    let mut prng = Prng::seeded(9);
    let mut kept = Vec::new();
    for step in 0..3000 {
        let (key, name) = (prng.below(3), prng.below(200));
        match prng.below(5) {
            0 => bench.ask(&format!("HSET h{key} {name} {step}")),
            1 => bench.ask(&format!("HDEL h{key} {name}")),
            2 => bench.ask(&format!("HPERSIST h{key} FIELDS 1 {name}")),
            _ => bench.ask(&format!("HSETEX h{key} PX 90 FIELDS 1 {name} {step}")),
        };
        if step % 10 == 0 {
            tick(&mut bench, START_MS + step);
        }
        if step % 50 == 0 {
            let snapshot = bench.engine.keyspace.db(0).snapshot(START_MS + step);
            let listed = listed(&snapshot);
            kept.push((snapshot, listed));
        }
    }
    for (snapshot, before) in &kept {
        assert_eq!(&listed(snapshot), before);
    }
    assert!(kept.iter().any(|(_, fields)| fields.iter().any(|field| field.3.is_some())));
}

/// A field: its key, name, value and time.
type Listed = (Vec<u8>, Vec<u8>, Vec<u8>, Option<u64>);

fn listed(snapshot: &Snapshot) -> Vec<Listed> {
    let mut listed = Vec::new();
    for entry in snapshot.live() {
        let ValueRef::Hash(hash) = entry.value() else { panic!("it is a hash") };
        let hash = hash.at(snapshot.now_ms);
        for (name, value) in hash.iter() {
            let name = name.to_vec();
            let at_ms = hash.expiry_of(&name).expect("the field was just seen");
            listed.push((entry.key().to_vec(), name, value.to_vec(), at_ms));
        }
    }
    listed
}
