//! What clients are shown, to the byte.

use super::*;
use crate::cluster::id::ShardId;
use crate::cluster::table::{Names, Place};

const NOW: Now = Now { ms: 100_000, unix_ms: 1_700_000_100_000 };
const PLAIN: Asking = Asking { is_tls: false, is_ipv6: false, prefers: Endpoint::Ip };

fn id(letter: char) -> NodeId {
    NodeId::parse(letter.to_string().repeat(40).as_bytes()).expect("an id")
}

fn shard(letter: char) -> ShardId {
    ShardId::parse(letter.to_string().repeat(40).as_bytes()).expect("an id")
}

fn slot(number: u64) -> Slot {
    Slot::new(number).expect("in range")
}

fn place(number: u16) -> Place {
    let ip = format!("10.0.0.{number}");
    Place { ip, port: 7000 + number, tls_port: 8000 + number, bus_port: 17000 + number }
}

/// Myself `a` with slots and a replica `b`; `c`, which fails, with the other slots; `d`, just met.
fn table() -> (Table, [NodeKey; 4]) {
    let mut table = Table::new(id('a'), shard('1'));
    let a = table.me();
    let mut add = |letter, own, flags| table.add(id(letter), shard(own), flags).expect("it is new");
    let b = add('b', '2', Flags::NONE);
    let c = add('c', '3', Flags::PRIMARY);
    let d = add('d', '4', Flags::HANDSHAKE);
    for (number, key) in (1..).zip([a, b, c, d]) {
        table.set_place(key, place(number));
    }
    table.make_replica(b, Some(a));
    [0, 1, 2, 5].into_iter().for_each(|number| table.assign(slot(number), a));
    [3, 4].into_iter().for_each(|number| table.assign(slot(number), c));
    table.set_config_epoch(a, 7);
    table.set_config_epoch(c, 9);
    table.mark(c, Flags::FAIL);
    table.set_names(c, Names { hostname: "c.example".into(), ..Names::default() });
    table.set_way(slot(1), Some(Way::LeavesTo(c)));
    table.set_way(slot(3), Some(Way::ComesFrom(c)));
    table.health_mut(b).pong_received_ms = Some(99_000);
    table.health_mut(b).is_linked = true;
    table.health_mut(c).ping_sent_ms = Some(90_000);
    (table, [a, b, c, d])
}

#[test]
fn nodes_are_shown_as_clients_take_them_apart() {
    let (table, [a, ..]) = table();
    let (a_id, b_id, c_id, d_id) = (id('a'), id('b'), id('c'), id('d'));
    let expected = format!(
        "{a_id} 10.0.0.1:7001@17001 myself,master - 0 0 7 connected 0-2 5 \
         [1->-{c_id}] [3-<-{c_id}]\n\
         {b_id} 10.0.0.2:7002@17002 slave {a_id} 0 1700000099000 7 connected\n\
         {c_id} 10.0.0.3:7003@17003,c.example master,fail - 1700000090000 0 9 disconnected 3-4\n\
         {d_id} 10.0.0.4:7004@17004 handshake - 0 0 0 disconnected\n"
    );
    assert_eq!(nodes(&table, NOW, &PLAIN), expected);
    let line = format!("{b_id} 10.0.0.2:7002@17002 slave {a_id} 0 1700000099000 7 connected");
    assert_eq!(replicas(&table, a, NOW, &PLAIN), [line]);
}

#[test]
fn addresses_are_those_of_the_asking_connection() {
    let (mut table, [_, b, c, _]) = table();
    let names = Names {
        client_ipv4: "192.0.2.1".into(),
        client_ipv6: "2001:db8::1".into(),
        hostname: "b.example".into(),
        ..Names::default()
    };
    table.set_names(b, names);
    let of = |is_tls, is_ipv6, prefers, key| {
        Asking { is_tls, is_ipv6, prefers }.redirection(table.node(key))
    };
    assert_eq!(of(false, false, Endpoint::Ip, b), "192.0.2.1:7002");
    assert_eq!(of(true, false, Endpoint::Ip, b), "192.0.2.1:8002");
    assert_eq!(of(true, true, Endpoint::Ip, b), "2001:db8::1:8002");
    assert_eq!(of(false, true, Endpoint::Ip, c), "10.0.0.3:7003");
    assert_eq!(of(false, true, Endpoint::Hostname, c), "c.example:7003");
    assert_eq!(of(false, true, Endpoint::Hostname, table.me()), "?:7001");
    assert_eq!(of(false, true, Endpoint::Unknown, c), ":7003");
    let tls = Asking { is_tls: true, ..PLAIN };
    assert!(nodes(&table, NOW, &tls).contains(" 192.0.2.1:8002@17002,b.example slave "));
}

#[test]
fn ranges_name_their_primary_and_those_replicas_that_can_serve() {
    let (mut table, [a, b, _, _]) = table();
    let second = table.add(id('9'), shard('9'), Flags::NONE).expect("it is new");
    table.make_replica(second, Some(a));
    let shown = |table: &Table| {
        let ranges = slots(table, &PLAIN);
        let shown = |range: &Range| {
            let ids: String = range.nodes.iter().map(|node| &node.id.as_str()[..1]).collect();
            (range.first.number(), range.last.number(), ids)
        };
        ranges.iter().map(shown).collect::<Vec<_>>()
    };
    let range = |first, last, ids: &str| (first, last, ids.to_owned());
    assert_eq!(shown(&table), [range(0, 2, "a"), range(3, 4, "c"), range(5, 5, "a")]);
    table.set_offset(b, 10);
    table.set_offset(second, 10);
    assert_eq!(shown(&table), [range(0, 2, "a9b"), range(3, 4, "c"), range(5, 5, "a9b")]);
    table.mark(second, Flags::FAIL);
    assert_eq!(shown(&table), [range(0, 2, "ab"), range(3, 4, "c"), range(5, 5, "ab")]);
}

#[test]
fn a_server_goes_by_its_other_names_too() {
    let (table, _) = table();
    let of = |prefers| {
        let mut ranges = slots(&table, &Asking { prefers, ..PLAIN });
        let server = ranges.remove(1).nodes.remove(0);
        (server.endpoint.map(str::to_owned), format!("{:?}", server.others))
    };
    let ip = Some("10.0.0.3".to_owned());
    let host = Some("c.example".to_owned());
    assert_eq!(of(Endpoint::Ip), (ip, r#"[("hostname", "c.example")]"#.to_owned()));
    assert_eq!(of(Endpoint::Hostname), (host, r#"[("ip", "10.0.0.3")]"#.to_owned()));
    let both = r#"[("ip", "10.0.0.3"), ("hostname", "c.example")]"#.to_owned();
    assert_eq!(of(Endpoint::Unknown), (None, both));
}

#[test]
fn shards_have_their_nodes_and_keep_their_slots_when_these_fail() {
    let (table, _) = table();
    let shown = shards(&table, &PLAIN);
    let runs: Vec<Vec<(u16, u16)>> = shown
        .iter()
        .map(|shard| shard.runs.iter().map(|(a, b)| (a.number(), b.number())).collect())
        .collect();
    assert_eq!(runs, [vec![(0, 2), (5, 5)], vec![(3, 4)]]);
    let states: Vec<(&str, &str)> =
        shown.iter().flat_map(|s| s.nodes.iter().map(|n| (n.role, n.health))).collect();
    assert_eq!(states, [("master", "online"), ("replica", "loading"), ("master", "fail")]);
    assert_eq!((shown[1].nodes[0].hostname, shown[1].nodes[0].tls_port), ("c.example", 8003));
}

#[test]
fn info_counts_slots_nodes_and_packets() {
    let (table, _) = table();
    let mut traffic = Traffic::default();
    let sent = [Kind::Ping, Kind::Ping, Kind::AuthRequest];
    sent.into_iter().for_each(|kind| traffic.count_sent(kind));
    traffic.count_received(Kind::PublishShard);
    let expected = "cluster_state:fail\r\ncluster_slots_assigned:6\r\ncluster_slots_ok:4\r\n\
        cluster_slots_pfail:0\r\ncluster_slots_fail:2\r\ncluster_known_nodes:4\r\n\
        cluster_size:2\r\ncluster_current_epoch:9\r\ncluster_my_epoch:7\r\n\
        cluster_stats_messages_ping_sent:2\r\ncluster_stats_messages_auth-req_sent:1\r\n\
        cluster_stats_messages_sent:3\r\n\
        cluster_stats_messages_publishshard_received:1\r\n\
        cluster_stats_messages_received:1\r\ntotal_cluster_links_buffer_limit_exceeded:0\r\n";
    assert_eq!(info(&table, false, &traffic), expected);
}

#[test]
fn answers_are_kept_until_what_they_show_changes() {
    let (mut table, [_, b, ..]) = table();
    let mut cached: Cached<Asking, usize> = Cached::default();
    let mut made = 0;
    let mut ask = |table: &Table, asking: Asking| {
        *cached.of(table, asking, || {
            made += 1;
            made
        })
    };
    let tls = Asking { is_tls: true, ..PLAIN };
    assert_eq!([PLAIN, tls, PLAIN, tls].map(|asking| ask(&table, asking)), [1, 2, 1, 2]);
    table.health_mut(b).pong_received_ms = Some(NOW.ms);
    assert_eq!(ask(&table, PLAIN), 1);
    table.set_offset(b, 1);
    assert_eq!([PLAIN, tls].map(|asking| ask(&table, asking)), [3, 4]);
}
