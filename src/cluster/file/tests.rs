//! Files of ours and of real nodes, and what is made of bad ones.

use super::*;
use crate::structs::prng::Prng;

const NOW: Now = Now { ms: 50_000, unix_ms: 1_700_000_000_000 };

fn id(letter: char) -> NodeId {
    NodeId::parse(letter.to_string().repeat(40).as_bytes()).expect("an id")
}

fn read(text: &str) -> Result<Loaded, Corrupt> {
    let shard = ShardId::parse(&[b'f'; 40]).expect("an id");
    let loaded = parse(text.as_bytes(), NOW, false, &mut || shard)?;
    assert_eq!(loaded.table.check(), Ok(()), "{text}");
    Ok(loaded)
}

fn load(text: &str) -> Loaded {
    read(text).unwrap_or_else(|corrupt| panic!("{corrupt}"))
}

fn table_of(text: &str) -> Table {
    let loaded = load(text);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    loaded.table
}

/// The lines sorted, with the times that are loaded as the present.
fn normal(text: &str) -> String {
    let present = NOW.unix_ms.to_string();
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut words: Vec<&str> = line.split(' ').collect();
        if words[0] != "vars" {
            for at in [4, 5] {
                if words[at] != "0" {
                    words[at] = &present;
                }
            }
        }
        lines.push(words.join(" ") + "\n");
    }
    lines.sort();
    lines.concat()
}

fn with_links(mut table: Table) -> Table {
    for key in table.keys() {
        table.health_mut(key).is_linked = true;
    }
    table
}

#[test]
fn files_of_real_nodes_are_written_again_to_the_byte() {
    let files = [
        include_str!("../../../tests/fixtures/cluster/redis-8.2-nodes.conf"),
        include_str!("../../../tests/fixtures/cluster/redis-8.2-replica-nodes.conf"),
    ];
    for file in files {
        assert_eq!(print(&with_links(table_of(file)), NOW), normal(file));
    }
}

#[test]
fn a_file_without_newer_fields_is_read() {
    let file = include_str!("../../../tests/fixtures/cluster/redis-7.0-nodes.conf");
    let table = table_of(file);
    let me = table.myself();
    assert_eq!(me.names().hostname, "host-1.example.org");
    assert_eq!((me.place().port, me.place().tls_port, me.place().bus_port), (31701, 0, 41701));
    assert_eq!((me.slot_count(), table.count(), table.current_epoch()), (5462, 2, 1));
    let fields = ",tls-port=0,shard-id=ffffffffffffffffffffffffffffffffffffffff ";
    let written = print(&with_links(table), NOW);
    assert_eq!(written.matches(fields).count(), 2);
    assert_eq!(written.replace(fields, " ").replace(", ", " "), normal(file));
}

/// Everything that a line can have, in the order in which Valkey writes it.
fn full() -> String {
    let (a, b, c) = (id('a'), id('b'), id('c'));
    format!(
        "{a} 127.0.0.1:7000@17000,host.example,client-ipv6=::1,client-ipv4=10.0.0.1,tls-port=7100,\
         nodename=node-1,shard-id={b} myself,master - 0 0 5 connected 0-100 200 \
         [93->-{b}] [300-<-{b}]\n\
         {b} 127.0.0.2:7001@17001,,tls-port=0,shard-id={c} master,fail? - 1700000000000 0 6 \
         disconnected 300\n\
         {c} :0@0,,tls-port=0,shard-id={b} slave,noaddr,nofailover {a} 0 0 5 disconnected\n\
         vars currentEpoch 8 lastVoteEpoch 7\n"
    )
}

#[test]
fn everything_that_a_line_can_have_comes_back() {
    let table = table_of(&full());
    assert_eq!(print(&table, NOW), full());
    let [b, c] = ['b', 'c'].map(|letter| table.find(id(letter)).expect("it is there"));
    assert_eq!(table.way(Slot::new(93).expect("in range")), Some(Way::LeavesTo(b)));
    assert_eq!(table.way(Slot::new(300).expect("in range")), Some(Way::ComesFrom(b)));
    assert_eq!((table.node(c).primary(), table.node(c).config_epoch()), (Some(table.me()), 0));
    assert_eq!((table.current_epoch(), table.last_vote_epoch()), (8, 7));
    assert_eq!(table.node(b).health.ping_sent_ms, Some(NOW.ms));
}

#[test]
fn a_node_whose_name_is_made_up_is_not_written() {
    let mut table = table_of(&full());
    let shard = table.myself().shard();
    table.add(id('d'), shard, Flags::HANDSHAKE.or(Flags::MEET)).expect("it is new");
    assert_eq!(print(&table, NOW), full());
}

#[test]
fn ports_are_of_the_kind_that_the_line_says() {
    let ports = |address: &str, is_tls| {
        let text = format!("{} {address} myself,master - 0 0 0 connected\nvars\n", id('a'));
        let shard = ShardId::parse(&[b'f'; 40]).expect("an id");
        let loaded = parse(text.as_bytes(), NOW, is_tls, &mut || shard).expect("it is a file");
        let place = loaded.table.myself().place().clone();
        (place.port, place.tls_port, place.bus_port)
    };
    assert_eq!(ports("1.2.3.4:7000", false), (7000, 0, 17000));
    assert_eq!(ports("1.2.3.4:7000@7", true), (0, 7000, 7));
    assert_eq!(ports("::1:7000@7,,tls-port=9", true), (7000, 9, 7));
    assert_eq!(ports("::1:7000@7,,tcp-port=9", false), (9, 7000, 7));
}

#[test]
fn what_newer_nodes_may_know_is_passed_over() {
    let file = full()
        .replace(",nodename=node-1", ",nodename=node-1,colour=blue")
        .replace("vars currentEpoch", "vars shiny 3 currentEpoch");
    let loaded = load(&file);
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("colour=blue"));
    assert_eq!(loaded.warnings[1], "Skipping unknown cluster config variable 'shiny'");
    assert_eq!(print(&loaded.table, NOW), full());
    assert_eq!(print(&load(&full().replace("master,fail?", "primary,fail?")).table, NOW), full());
}

#[test]
fn lines_that_disagree_are_no_reason_not_to_start() {
    let (a, b) = (id('a'), id('b'));
    // Another shard than the primary's, slots of two nodes, slots of a replica.
    let file = full()
        .replace(&format!("shard-id={b} slave"), &format!("shard-id={a} slave"))
        .replace("disconnected 300", "disconnected 100-101 300")
        .replace(&format!("{a} 0 0 5 disconnected"), &format!("{a} 0 0 5 disconnected 7000-7001"));
    let loaded = load(&file);
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    let table = loaded.table;
    let [b, c] = ['b', 'c'].map(|letter| table.find(id(letter)).expect("it is there"));
    assert!(table.are_in_one_shard(c, table.me()));
    assert_eq!(table.owner(Slot::new(100).expect("in range")), Some(table.me()));
    assert_eq!(table.owner(Slot::new(101).expect("in range")), Some(b));
    assert_eq!(table.owner(Slot::new(7000).expect("in range")), None);
    // Somebody who is not there.
    let loaded =
        load(&full().replace(&format!("nofailover {a}"), &format!("nofailover {}", id('x'))));
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    let loaded =
        load(&full().replace(&format!("[93->-{}]", id('b')), &format!("[93->-{}]", id('x'))));
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_line() {
    let a = id('a');
    let changes = [
        ("myself,master", "master"),
        ("master,fail?", "myself,master,fail?"),
        ("myself,master", "myself,master,slave"),
        ("myself,master", "myself,master,great"),
        ("127.0.0.1:7000@17000", "127.0.0.1"),
        ("127.0.0.1:7000@17000", "127.0.0.1:70000@17000"),
        ("127.0.0.1:7000@17000", "127.0.0.1:7000@"),
        (" connected 0-100", ""),
        ("0-100", "100-0"),
        ("0-100", "0-16384"),
        ("0-100", "0-"),
        ("0-100", "x"),
        ("[93->-", "[93->>"),
        ("[93->-", "[16384->-"),
        ("[300-<-", "300-<-"),
        (" 0 0 5 connected", " 0 x 5 connected"),
        (" 0 0 5 connected", " 0 0 9223372036854775808 connected"),
        ("currentEpoch 8", "currentEpoch x"),
        (" lastVoteEpoch 7", " lastVoteEpoch"),
        ("shard-id=b", "shard-id=B"),
        ("tls-port=7100", "tls-port"),
        ("client-ipv4=10.0.0.1", "client-ipv4=10.0.0"),
        ("host.example", "\"host"),
    ];
    for (old, new) in changes {
        let file = full();
        assert!(file.contains(old), "{old}");
        let corrupt = read(&file.replacen(old, new, 1)).err();
        let corrupt = corrupt.unwrap_or_else(|| panic!("{old} -> {new}")).to_string();
        let start = "Unrecoverable error: corrupted cluster config file \"";
        assert!(corrupt.starts_with(start) && corrupt.ends_with("\"."), "{corrupt}");
    }
    assert!(read("").is_err() && read("vars currentEpoch 1 lastVoteEpoch 0\n").is_err());
    let twice = format!("{}{a} 1.2.3.4:1@2 master - 0 0 0 connected\n", full());
    assert!(read(&twice).is_err());
}

#[test]
fn noise_in_a_file_is_refused_or_leaves_a_table_that_is_whole() {
    let mut prng = Prng::seeded(1);
    let mut read_count = 0;
    for _ in 0..3000 {
        let mut bytes = full().into_bytes();
        for _ in 0..1 + prng.below(3) {
            let at = prng.below(bytes.len() as u64) as usize;
            match prng.below(3) {
                0 => bytes[at] = prng.next_u64() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes[at] = b"0 -[],:@\n"[prng.below(9) as usize],
            }
        }
        let shard = ShardId::parse(&[b'f'; 40]).expect("an id");
        if let Ok(loaded) = parse(&bytes, NOW, false, &mut || shard) {
            assert_eq!(loaded.table.check(), Ok(()));
            let again = print(&loaded.table, NOW);
            assert_eq!(print(&load(&again).table, NOW), again);
            read_count += 1;
        }
    }
    assert!(read_count > 0);
}
