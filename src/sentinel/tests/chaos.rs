//! Anything may come in at any time: replies that nobody asked for, commands that make no sense,
//! hellos of liars, connections that end twice. Nothing of it ends the process, and what the
//! machine would write can be read again.

use super::{Alone, OTHER_ID, bulk, lines_of, simple};
use crate::resp::frame::Frame;
use crate::sentinel::{Event, ScriptEnd, Sentinel, Surroundings, WireId};
use crate::structs::prng::Prng;

const WORDS: &[&str] = &[
    "m",
    "n",
    "x",
    "*",
    "",
    "0",
    "1",
    "-1",
    "26379",
    "65535",
    "65536",
    "9223372036854775807",
    "18446744073709551615",
    "10.0.0.1",
    "10.0.0.2",
    "::1",
    "some.host",
    "no host",
    OTHER_ID,
    "yes",
    "no",
    "quorum",
    "down-after-milliseconds",
    "failover-timeout",
    "parallel-syncs",
    "auth-pass",
    "auth-user",
    "rename-command",
    "notification-script",
    "client-reconfig-script",
    "master-reboot-down-after-period",
    "PING",
    "INFO",
    "get",
    "set",
    "announce-ip",
    "announce-port",
    "announce-hostnames",
    "resolve-hostnames",
    "sentinel-user",
    "sentinel-pass",
    "loglevel",
    "debug",
    "info-period",
    "ping-period",
    "tilt-trigger",
    "tilt-period",
    "script-retry-delay",
    "min-link-reconnect-period",
    "\u{fc}",
    "\u{7}",
    "a,b",
];

const COMMANDS: &[&str] = &[
    "masters",
    "master",
    "replicas",
    "slaves",
    "sentinels",
    "myid",
    "get-master-addr-by-name",
    "is-master-down-by-addr",
    "reset",
    "failover",
    "ckquorum",
    "monitor",
    "remove",
    "flushconfig",
    "set",
    "config",
    "info-cache",
    "pending-scripts",
    "simulate-failure",
    "debug",
    "nosuch",
];

/// Lines of INFO, and what looks like them.
const LINES: &[&str] = &[
    "role:master",
    "role:slave",
    "run_id:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "run_id:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "slave0:ip=10.0.0.2,port=6380,state=online",
    "slave1:10.0.0.3,6381,online",
    "slave2:ip=some.host,port=99999",
    "slave3:",
    "slave",
    "master_host:10.0.0.2",
    "master_port:6380",
    "master_port:-1",
    "master_link_status:up",
    "master_link_down_since_seconds:-1",
    "master_link_down_since_seconds:99999999999999999999",
    "slave_priority:0",
    "slave_priority:x",
    "slave_repl_offset:18446744073709551615",
    "replica_announced:0",
    "\u{0}\u{1}",
];

fn pick<'a>(prng: &mut Prng, from: &[&'a str]) -> &'a str {
    from[prng.below(from.len() as u64) as usize]
}

fn frame(prng: &mut Prng) -> Frame {
    match prng.below(10) {
        0 => simple("PONG"),
        1 => simple("OK"),
        2 => Frame::Error(b"BUSY x".to_vec()),
        3 => Frame::Error(pick(prng, WORDS).as_bytes().to_vec()),
        4 => Frame::Integer(prng.next_u64() as i64),
        5 => Frame::Null,
        6 => {
            let leader = pick(prng, WORDS);
            let parts = [Frame::Integer(prng.below(3) as i64), bulk(leader), Frame::Integer(-1)];
            Frame::Array(parts.into())
        }
        7 => {
            let text = hello(prng);
            Frame::Array(vec![bulk("message"), bulk("__sentinel__:hello"), bulk(&text)])
        }
        _ => {
            let lines: Vec<&str> = (0..prng.below(9)).map(|_| pick(prng, LINES)).collect();
            bulk(&lines.join("\r\n"))
        }
    }
}

fn hello(prng: &mut Prng) -> String {
    let id = ["2", "3", "4"][prng.below(3) as usize].repeat(40);
    let tokens = match prng.below(3) {
        0 => (0..8).map(|_| pick(prng, WORDS).to_owned()).collect(),
        _ => {
            let host = format!("10.0.0.{}", prng.below(4));
            let epoch = prng.below(20).to_string();
            let name = pick(prng, &["m", "n"]).to_owned();
            let port = (6379 + prng.below(3)).to_string();
            vec![host.clone(), "26379".into(), id, epoch.clone(), name, host, port, epoch]
        }
    };
    tokens.join(",")
}

fn disturb(alone: &mut Alone, prng: &mut Prng) {
    let wire = WireId(prng.below(200));
    match prng.below(12) {
        0..=3 => {
            let frame = frame(prng);
            alone.reply(wire, frame);
        }
        4 => alone.tell(Event::WireUp { wire, local_ip: "10.0.0.9".to_owned() }),
        5 => alone.tell(Event::WireDown { wire, reason: "cut".to_owned() }),
        6 => {
            let text = hello(prng);
            alone.hear(&text);
        }
        7 => {
            let ip = (prng.below(2) == 0).then(|| "10.9.9.9".to_owned());
            alone.tell(Event::Resolved { host: "some.host".to_owned(), ip });
        }
        8 => {
            let end = [ScriptEnd::Exit(1), ScriptEnd::Exit(0), ScriptEnd::Signal(9)];
            let end = end[prng.below(3) as usize];
            alone.tell(Event::ScriptEnded { job: prng.below(50), end });
        }
        9 => alone.can_save = !alone.can_save,
        _ => {
            let count = prng.below(6);
            let words: Vec<String> =
                (0..count).map(|_| format!("\"{}\"", pick(prng, WORDS))).collect();
            alone.ask(&format!("{} {}", pick(prng, COMMANDS), words.join(" ")));
        }
    }
}

#[test]
fn nothing_that_comes_in_ends_a_sentinel() {
    for seed in 0..60 {
        let mut prng = Prng::seeded(seed);
        let mut alone = Alone::new(
            "deny-scripts-reconfig no\nmonitor m 10.0.0.1 6379 1\nmonitor n ::1 6379 2\n\
             down-after-milliseconds m 1000\nnotification-script m /n\n\
             known-replica m 10.0.0.2 6380",
        );
        for _ in 0..300 {
            disturb(&mut alone, &mut prng);
            let ms = if prng.below(50) == 0 { prng.below(60_000) } else { prng.below(300) };
            alone.now_ms += ms;
            alone.tell(Event::Tick);
            alone.actions.clear();
        }
        let lines = alone.file();
        let text: Vec<&str> = lines.iter().map(|line| &line["sentinel ".len()..]).collect();
        let mut again = Sentinel::new(Surroundings::default(), Prng::seeded(1));
        let read = again.read(&lines_of(&text.join("\n")));
        assert_eq!(read, Ok(()), "seed {seed}: {text:#?}");
    }
}
