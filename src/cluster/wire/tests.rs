//! Packets there and back, what is refused of them, and packets of real nodes.

use super::*;
use crate::cluster::id::ShardId;
use crate::cluster::slot_set::SlotSet;
use crate::keyspace::slot::Slot;
use crate::structs::prng::Prng;

const MESSAGE_BYTES_MAX: usize = 1 << 20;

fn id(prng: &mut Prng) -> NodeId {
    NodeId::from_random(std::array::from_fn(|_| prng.next_u64() as u8))
}

fn slots(prng: &mut Prng) -> SlotSet {
    let share = prng.below(4);
    Slot::all().filter(|_| prng.below(4) < share).collect()
}

fn text<'t>(prng: &mut Prng, texts: &[&'t str]) -> &'t str {
    texts[prng.below(texts.len() as u64) as usize]
}

fn ports(prng: &mut Prng) -> Ports {
    let mut port = || prng.next_u64() as u16;
    Ports { client: port(), other: port(), bus: port() }
}

fn ip(prng: &mut Prng) -> Option<&'static str> {
    let ips = ["", "10.0.0.1", "2001:db8::1", "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"];
    Some(text(prng, &ips)).filter(|ip| !ip.is_empty())
}

fn header<'p>(prng: &mut Prng, slots: &'p SlotSet) -> Header<'p> {
    let flips = prng.next_u64();
    Header {
        sender: id(prng),
        flags: Flags::from_bits(prng.next_u64() as u16),
        current_epoch: prng.below(1 << 63),
        config_epoch: prng.below(1 << 63),
        slots: slots.bits(),
        offset: prng.below(1 << 63),
        primary: Some(id(prng)).filter(|_| flips & 1 != 0),
        ip: ip(prng),
        ports: ports(prng),
        is_down: flips & 2 != 0,
        is_paused: flips & 4 != 0,
        forces_ack: flips & 8 != 0,
    }
}

fn gossip(prng: &mut Prng) -> Vec<Gossip<'static>> {
    let count = prng.below(5);
    let entry = |prng: &mut Prng| Gossip {
        node: id(prng),
        ping_sent_s: prng.next_u64() as u32,
        pong_received_s: prng.next_u64() as u32,
        ip: IpText::of(ip(prng).unwrap_or_default()),
        ports: ports(prng),
        flags: Flags::from_bits(prng.next_u64() as u16),
    };
    (0..count).map(|_| entry(prng)).collect()
}

fn extensions(prng: &mut Prng) -> Vec<Extension<'static>> {
    let all = [
        Extension::Hostname(text(prng, &["a", "seven77", "eight888", "host.example"])),
        Extension::Nodename(text(prng, &["node-1", "n"])),
        Extension::ClientIpv4(text(prng, &["1.2.3.4", "255.255.255.255"])),
        Extension::ClientIpv6(text(prng, &["::1", "2001:db8::1"])),
        Extension::Forgotten { node: id(prng), ttl_s: prng.next_u64() },
        Extension::Shard(ShardId::from_random(std::array::from_fn(|at| at as u8))),
        Extension::Unknown(77),
    ];
    all.into_iter().filter(|_| prng.below(2) == 0).collect()
}

/// A random packet of each kind, the last two with light headers.
fn packets(prng: &mut Prng) -> Vec<Vec<u8>> {
    let own = slots(prng);
    let header = header(prng, &own);
    let others = slots(prng);
    let update = Update { config_epoch: prng.below(1 << 63), node: id(prng), slots: others.bits() };
    let text = vec![b'm'; prng.below(300) as usize];
    let publish =
        |is_sharded| Publish { channel: &text[..text.len() / 3], message: &text, is_sharded };
    let pings = [Kind::Ping, Kind::Pong, Kind::Meet];
    let mut packets: Vec<Vec<u8>> =
        pings.map(|kind| header.ping(kind, &gossip(prng), &extensions(prng))).into();
    let bare = [Kind::AuthRequest, Kind::AuthAck, Kind::ManualFailoverStart];
    packets.extend(bare.map(|kind| header.bare(kind)));
    packets.push(header.fail(id(prng)));
    packets.push(header.update(&update));
    packets.extend([false, true].map(|is_sharded| header.publish(&publish(is_sharded))));
    packets.extend([false, true].map(|is_sharded| light(&publish(is_sharded))));
    packets
}

/// What was read, written again.
fn write(packet: &Packet) -> Vec<u8> {
    let (header, body) = match packet {
        Packet::Full(header, body) => (header, body),
        Packet::Light(message) => return light(message),
        Packet::Unknown(number) => panic!("type {number} cannot be written"),
    };
    match body {
        Body::Ping(ping) | Body::Pong(ping) | Body::Meet(ping) => {
            let gossip: Vec<Gossip> = ping.gossip().collect();
            let extensions: Vec<Extension> = ping.extensions().collect();
            header.ping(body.kind(), &gossip, &extensions)
        }
        Body::Fail(node) => header.fail(*node),
        Body::Publish(message) => header.publish(message),
        Body::Update(update) => header.update(update),
        Body::AuthRequest | Body::AuthAck | Body::ManualFailoverStart => header.bare(body.kind()),
        Body::Module => panic!("it is not written"),
    }
}

#[test]
fn a_packet_is_read_as_it_was_written() {
    let mut prng = Prng::seeded(1);
    let mut kinds = std::collections::BTreeSet::new();
    for _ in 0..200 {
        for bytes in packets(&mut prng) {
            let head = bytes.first_chunk().expect("it is longer");
            assert_eq!(length(head, MESSAGE_BYTES_MAX), Ok(bytes.len()));
            let packet = Packet::parse(&bytes).expect("it is well-formed");
            kinds.extend(packet.kind());
            assert_eq!(write(&packet), bytes, "{packet:?}");
        }
    }
    let all = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Module);
    assert!(all.eq(kinds));
}

#[test]
fn every_field_comes_back() {
    let mut prng = Prng::seeded(2);
    for _ in 0..200 {
        let slots = slots(&mut prng);
        let header = header(&mut prng, &slots);
        let (gossip, extensions) = (gossip(&mut prng), extensions(&mut prng));
        let bytes = header.ping(Kind::Meet, &gossip, &extensions);
        let Ok(Packet::Full(read, Body::Meet(ping))) = Packet::parse(&bytes) else {
            panic!("{header:?}");
        };
        assert_eq!(read, header);
        assert_eq!(ping.gossip().collect::<Vec<_>>(), gossip);
        assert_eq!(ping.extensions().collect::<Vec<_>>(), extensions);
        assert!(ping.knows_extensions && ping.malformed_count() == 0);
    }
}

/// Each field has its own bytes, at the offset that real nodes have it at.
#[test]
fn fields_lie_where_real_nodes_have_them() {
    let slots: SlotSet = Slot::all().filter(|slot| slot.number() % 8 == 1).collect();
    let header = Header {
        sender: NodeId::parse(&[b's'; 40]).expect("an id"),
        flags: Flags::from_bits(0x0102),
        current_epoch: 0x0304_0506,
        config_epoch: 0x0708,
        slots: slots.bits(),
        offset: 0x090a,
        primary: NodeId::parse(&[b'p'; 40]),
        ip: Some("1.2.3.4"),
        ports: Ports { client: 0x0b0c, other: 0x0d0e, bus: 0x0f10 },
        is_down: true,
        is_paused: true,
        forces_ack: true,
    };
    let bytes =
        header.update(&Update { config_epoch: 0x1112, node: header.sender, slots: slots.bits() });
    let mut expected = vec![0; 4352];
    let mut put = |at: usize, bytes: &[u8]| expected[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"RCmb\x00\x00\x11\x00\x00\x01\x0b\x0c\x00\x07");
    put(20, b"\x03\x04\x05\x06");
    put(30, b"\x07\x08");
    put(38, b"\x09\x0a");
    put(40, &[b's'; 40]);
    put(80, &[2; 2048]);
    put(2128, &[b'p'; 40]);
    put(2168, b"1.2.3.4");
    put(2246, b"\x0d\x0e\x0f\x10\x01\x02\x01\x03");
    put(2262, b"\x11\x12");
    put(2264, &[b's'; 40]);
    put(2304, &[2; 2048]);
    assert_eq!(bytes, expected);
}

#[test]
fn data_lies_where_real_nodes_have_it() {
    let slots = SlotSet::new();
    let header = header(&mut Prng::seeded(3), &slots);
    let entry = Gossip {
        node: NodeId::parse(&[b'g'; 40]).expect("an id"),
        ping_sent_s: 0x0102,
        pong_received_s: 0x0304,
        ip: IpText::of("::1"),
        ports: Ports { client: 0x0506, other: 0x0708, bus: 0x090a },
        flags: Flags::from_bits(0x0b0c),
    };
    let extensions =
        [Extension::Hostname("eight888"), Extension::Forgotten { node: entry.node, ttl_s: 60 }];
    let ping = header.ping(Kind::Ping, &[entry], &extensions);
    let mut expected = [b'g'; 40].to_vec();
    expected.extend(b"\0\0\x01\x02\0\0\x03\x04::1");
    expected.resize(94, 0);
    expected.extend(b"\x05\x06\x09\x0a\x0b\x0c\x07\x08\0\0");
    expected.extend(b"\0\0\0\x18\0\0\0\0eight888\0\0\0\0\0\0\0\0");
    expected.extend(b"\0\0\0\x38\0\x02\0\0");
    expected.extend([b'g'; 40]);
    expected.extend(b"\0\0\0\0\0\0\0\x3c");
    assert_eq!(ping[2256..], expected);
    assert_eq!((&ping[14..16], &ping[2214..2216], ping[2253] & 4), (&[0, 1][..], &[0, 2][..], 4));
    let message = Publish { channel: b"ch", message: b"hello", is_sharded: true };
    assert_eq!(light(&message), b"RCmb\0\0\0\x1f\0\x01\0\0\x80\x0a\0\0\0\0\0\x02\0\0\0\x05chhello");
    assert_eq!(header.publish(&message)[2256..], light(&message)[16..]);
}

#[test]
fn what_is_cut_off_is_refused() {
    let mut prng = Prng::seeded(4);
    for bytes in packets(&mut prng) {
        for len in 0..bytes.len() {
            assert!(Packet::parse(&bytes[..len]).is_err(), "{len} of {}", bytes.len());
            // The same where the header agrees with what has arrived.
            let mut short = bytes[..len].to_vec();
            if len >= 8 {
                short[4..8].copy_from_slice(&(len as u32).to_be_bytes());
                assert!(Packet::parse(&short).is_err(), "{len} of {}", bytes.len());
            }
        }
        let mut long = bytes.clone();
        long.push(0);
        assert!(Packet::parse(&long).is_err());
        long[4..8].copy_from_slice(&(bytes.len() as u32 + 1).to_be_bytes());
        assert!(Packet::parse(&long).is_err());
    }
}

/// Where the lengths and counts of a packet lie.
fn lengths(bytes: &[u8]) -> Vec<usize> {
    let mut found = vec![4, 5, 6, 7];
    match Packet::parse(bytes).expect("it is well-formed") {
        Packet::Light(_) => found.extend(16..24),
        Packet::Full(_, Body::Publish(_)) => found.extend(2256..2264),
        Packet::Full(_, Body::Ping(_) | Body::Pong(_) | Body::Meet(_)) => {
            found.extend([14, 15, 2214, 2215]);
            let mut at = HEADER_LEN + usize::from(Fields(bytes).u16(14)) * 104;
            while at < bytes.len() {
                found.extend(at..at + 4);
                at += Fields(bytes).u32(at) as usize;
            }
        }
        _ => {}
    }
    found
}

#[test]
fn a_length_that_is_not_right_is_refused() {
    let mut prng = Prng::seeded(5);
    for _ in 0..20 {
        for bytes in packets(&mut prng) {
            for at in lengths(&bytes) {
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 1 << bit;
                    let packet = Packet::parse(&flipped);
                    // One extension may end where two did; then the count of them is wrong.
                    assert!(packet.is_err(), "bit {bit} of byte {at}: {packet:?}");
                }
            }
        }
    }
}

#[test]
fn noise_is_refused_or_read_without_harm() {
    let mut prng = Prng::seeded(6);
    for _ in 0..300 {
        for mut bytes in packets(&mut prng) {
            for _ in 0..1 + prng.below(8) {
                let at = prng.below(bytes.len() as u64) as usize;
                bytes[at] = prng.next_u64() as u8;
            }
            let Ok(Packet::Full(_, Body::Ping(ping) | Body::Pong(ping) | Body::Meet(ping))) =
                Packet::parse(&bytes)
            else {
                continue;
            };
            assert!(ping.gossip().count() <= ping.gossip_count());
            assert!(ping.extensions().count() * 8 <= bytes.len());
        }
    }
}

#[test]
fn nobody_declares_more_than_his_type_has() {
    let head = |number: u16, count: u16, len: u32| {
        let mut head = [0; HEAD_LEN];
        head[..4].copy_from_slice(SIGNATURE);
        head[4..8].copy_from_slice(&len.to_be_bytes());
        head[12..14].copy_from_slice(&number.to_be_bytes());
        head[14..16].copy_from_slice(&count.to_be_bytes());
        length(&head, 1000)
    };
    let (mib, least) = (1 << 20, 2256);
    let limits = [
        (0, 0, least + mib),
        (1, 10, least + 1040 + mib),
        (3, 0, least + 40),
        (4, 0, least + 1008),
        (5, 0, least),
        (7, 0, 4352),
        (8, 0, least),
        (10 | LIGHT, 0, 1024),
        (11, 0, least + mib),
    ];
    for (number, count, max) in limits {
        assert_eq!(head(number, count, max), Ok(max as usize), "type {number}");
        let refused = head(number, count, max + 1).expect_err("it is too long");
        assert!(refused.ends_link() && matches!(refused, Fault::TooLong { .. }), "type {number}");
    }
    assert_eq!(head(0, 0, least - 1), Err(Fault::Frame));
    assert_eq!(head(LIGHT | 4, 0, 15), Err(Fault::Frame));
    assert_eq!(length(b"RCmx\0\0\x10\0\0\0\0\0\0\0\0\0", 1000), Err(Fault::Frame));
}

#[test]
fn what_is_unknown_or_malformed_is_told_apart() {
    let mut prng = Prng::seeded(7);
    let slots = slots(&mut prng);
    let bytes = header(&mut prng, &slots).bare(Kind::AuthAck);
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(Packet::parse(&with(13, 11)), Ok(Packet::Unknown(11)));
    assert_eq!(Packet::parse(&with(9, 2)), Err(Fault::Version(2)));
    assert_eq!(Packet::parse(&with(0, b'r')), Err(Fault::Frame));
    for (what, at) in [("epoch", 16), ("epoch", 24), ("offset", 32), ("id", 40), ("ip", 2168)] {
        let bytes = with(at, 0xff);
        assert_eq!(Packet::parse(&bytes), Err(Fault::Content(Kind::AuthAck)), "{what}");
    }
    let mut ping = light(&Publish { channel: b"", message: b"", is_sharded: false });
    ping[13] = 0;
    assert_eq!(Packet::parse(&ping), Err(Fault::LightHeader(0)));
}

#[test]
fn an_entry_without_a_name_is_counted() {
    let mut prng = Prng::seeded(8);
    let slots = SlotSet::new();
    let entries: Vec<Gossip> =
        std::iter::repeat_with(|| gossip(&mut prng)).take(20).flatten().collect();
    let mut bytes = header(&mut Prng::seeded(9), &slots).ping(Kind::Ping, &entries, &[]);
    bytes[2256 + 104] = b'A';
    let Ok(Packet::Full(_, Body::Ping(ping))) = Packet::parse(&bytes) else {
        panic!("it is whole")
    };
    assert_eq!((ping.gossip_count(), ping.malformed_count()), (entries.len(), 1));
}

#[test]
fn packets_of_real_nodes_are_read_and_written_to_the_byte() {
    let redis_7_0 = include_bytes!("../../../tests/fixtures/cluster/redis-7.0-meet.bin");
    let packet = Packet::parse(redis_7_0).expect("a real node sent it");
    assert_eq!(write(&packet), redis_7_0);
    let Packet::Full(header, Body::Meet(ping)) = packet else { panic!("{packet:?}") };
    assert_eq!(header.ip, Some("127.0.0.1"));
    assert_eq!(header.ports, Ports { client: 31701, other: 0, bus: 41701 });
    assert_eq!(header.slots.runs().len(), 2);
    assert_eq!(header.slots.len(), 5462);
    let extensions: Vec<Extension> = ping.extensions().collect();
    assert_eq!(extensions, [Extension::Hostname("host-1.example.org")]);

    let redis_8_2 = include_bytes!("../../../tests/fixtures/cluster/redis-8.2-ping.bin");
    let packet = Packet::parse(redis_8_2).expect("a real node sent it");
    let Packet::Full(header, Body::Ping(ping)) = packet else { panic!("{packet:?}") };
    let extensions: Vec<Extension> = ping.extensions().collect();
    let shard = ShardId::parse(b"601a3da43b539a217ec87372f42fb2955462c371").expect("an id");
    let known = [
        Extension::Hostname("host-1.example.org"),
        Extension::Nodename("node-one"),
        Extension::Shard(shard),
    ];
    assert_eq!(extensions[..3], known);
    assert_eq!(extensions[3..], [Extension::Unknown(4)]);
    let gossip: Vec<Gossip> = ping.gossip().collect();
    assert_eq!(gossip.len(), 1);
    assert_eq!((gossip[0].ip.text(), gossip[0].ports.bus), (Some("127.0.0.1"), 41703));
    let again = header.ping(Kind::Ping, &gossip, &known);
    let head = redis_8_2.len() - 48;
    assert_eq!(again[16..2214], redis_8_2[16..2214]);
    assert_eq!(again[2216..], redis_8_2[2216..head]);
}
