//! Payloads of libraries that are not what FUNCTION DUMP has written: all of one is taken in, or
//! nothing.

use super::*;

/// What there is of libraries, and what their functions answer.
fn state(bench: &mut Bench) -> (String, String, String) {
    let list = bench.ask("FUNCTION LIST WITHCODE");
    (list, bench.ask("FCALL kept 0"), bench.ask("FCALL other 0"))
}

fn code(name: &str, function: &str, value: u32) -> String {
    format!(
        "#!lua name={name}\nredis.register_function('{function}', function() return {value} end)"
    )
}

/// A server with a library, and a payload of that one, changed, and two others.
fn scene() -> (Bench, Vec<u8>) {
    let mut bench = bench();
    for code in [code("kept", "kept", 2), code("a", "f", 3), code("b", "g", 4)] {
        assert!(bench.run(&[b"FUNCTION", b"LOAD", code.as_bytes()]).starts_with(b"$"));
    }
    let dumped = bench.run(&[b"FUNCTION", b"DUMP"]);
    let head = dumped.iter().position(|byte| *byte == b'\n').expect("it is a bulk string") + 1;
    let payload = dumped[head..dumped.len() - 2].to_vec();
    bench.expect("FUNCTION FLUSH", "+OK|");
    for code in [code("kept", "kept", 1), code("other", "other", 5)] {
        assert!(bench.run(&[b"FUNCTION", b"LOAD", code.as_bytes()]).starts_with(b"$"));
    }
    (bench, payload)
}

const POLICIES: [&[u8]; 3] = [b"FLUSH", b"APPEND", b"REPLACE"];

/// Each byte with other bits, and each beginning.
fn damaged(payload: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let flipped = (0..payload.len()).flat_map(move |at| {
        [0x01, 0x20, 0x80, 0xff].map(|bits| {
            let mut payload = payload.to_vec();
            payload[at] ^= bits;
            payload
        })
    });
    flipped.chain((0..payload.len()).map(|len| payload[..len].to_vec()))
}

#[test]
fn a_damaged_payload_is_refused() {
    let (mut bench, payload) = scene();
    let before = state(&mut bench);
    for payload in damaged(&payload) {
        for policy in POLICIES {
            let reply = testing::text(&bench.run(&[b"FUNCTION", b"RESTORE", &payload, policy]));
            assert_eq!(reply, "-ERR DUMP payload version or checksum are wrong|");
        }
    }
    assert_eq!(state(&mut bench), before);
}

/// Damage that nothing shows may still be refused, but never halfway.
#[test]
fn a_wrong_payload_is_taken_in_as_a_whole_or_not_at_all() {
    let (mut bench, payload) = scene();
    bench.expect("DEBUG SET-SKIP-CHECKSUM-VALIDATION 1", "+OK|");
    let before = state(&mut bench);
    let ours = testing::text(&bench.run(&[b"FUNCTION", b"DUMP"]));
    let own = bench.run(&[b"FUNCTION", b"DUMP"]);
    let head = own.iter().position(|byte| *byte == b'\n').expect("it is a bulk string") + 1;
    let own = own[head..own.len() - 2].to_vec();
    let (mut taken, mut refused) = (0, 0);
    for payload in damaged(&payload) {
        for policy in POLICIES {
            let reply = testing::text(&bench.run(&[b"FUNCTION", b"RESTORE", &payload, policy]));
            if reply != "+OK|" {
                refused += 1;
                assert!(reply.starts_with("-ERR "), "{reply}");
                assert_eq!(state(&mut bench), before, "{} {reply}", payload.escape_ascii());
                continue;
            }
            taken += 1;
            // What was restored is all that there is, or stands beside what was there.
            let is_kept = bench.ask("FCALL other 0") == ":5|";
            assert_eq!(is_kept, policy != b"FLUSH", "{}", payload.escape_ascii());
            assert_eq!(bench.run(&[b"FUNCTION", b"RESTORE", &own, b"FLUSH"]), b"+OK\r\n");
            assert_eq!(testing::text(&bench.run(&[b"FUNCTION", b"DUMP"])), ours);
        }
    }
    assert_eq!(state(&mut bench), before);
    assert!(taken > 100 && refused > 100, "{taken} {refused}");
}
