//! What strange peers do to replication: those that are many, come again and again, or speak as
//! other servers do.

use crate::answer::Answer;
use crate::client::Client;
use crate::replication::{number, start};
use crate::server::wait_for;

/// What a server sends to who asks for a snapshot in the way of old, up to its end.
fn take_snapshot(client: &mut Client) -> Vec<u8> {
    client.send(b"SYNC\r\n");
    let (bytes, has_ended) = client.receive_raw(|bytes| snapshot_len(bytes).is_some());
    assert!(!has_ended, "{}", bytes.escape_ascii());
    bytes
}

/// How long the snapshot at the begin of these bytes is, if all of it is there.
fn snapshot_len(bytes: &[u8]) -> Option<usize> {
    let header = bytes.iter().position(|byte| *byte == b'$')?;
    let line_len = bytes[header..].windows(2).position(|pair| pair == b"\r\n")?;
    let digits = std::str::from_utf8(&bytes[header + 1..header + line_len]).ok()?;
    let len: usize = digits.parse().expect("it is a length");
    (bytes.len() >= header + line_len + 2 + len).then_some(len)
}

#[test]
fn a_primary_sends_as_many_snapshots_as_are_asked_for() {
    let primary = start(&[]);
    let mut client = primary.connect();
    client.run("SET k v");
    let used_before = number(&mut client, "used_memory");
    for _ in 0..200 {
        assert!(!take_snapshot(&mut primary.connect()).is_empty());
    }
    assert_eq!(client.run("GET k"), Answer::Bulk(b"v".to_vec()));
    wait_for("their memory to be given back", || {
        (number(&mut client, "used_memory") < used_before + (8 << 20)).then_some(())
    });
}
