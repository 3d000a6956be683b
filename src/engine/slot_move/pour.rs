//! The keys of slots, as the commands that make them, in pieces.
//!
//! A key goes as its payload, so it has the encoding that it has here. A large one goes in commands
//! of a few items, so that no piece takes the target long; its encoding is what these make.

use super::export::request;
use crate::keyspace::slot::Slot;
use crate::keyspace::{Entry, Snapshot, ValueRef};
use crate::persist::aof;
use crate::persist::rdb::SaveVersion;
use crate::resp::command::put;
use crate::resp::request::{Limits, RequestReader};
use crate::types::Kind;
use bytes::Bytes;

/// Commands of one piece: a fraction of a millisecond of the target's executor.
const PIECE_BYTES: usize = 8 * 1024;
/// A value with more heap bytes goes in the commands that make it.
const WHOLE_BYTES_MAX: usize = 64 * 1024;
/// A long string goes in so many bytes each.
const STRING_PIECE_BYTES: usize = 256 * 1024;

/// Keys that are to be sent.
pub struct Pour {
    pub job: Box<str>,
    pub keys: Snapshot,
    pub slots: Vec<Slot>,
    pub version: SaveVersion,
    pub compresses: bool,
}

impl Pour {
    /// The requests that take the keys there, one after the other.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> {
        let entries = self.slots.iter().flat_map(|slot| self.keys.live_in(*slot));
        Pieces { pour: self, entries, piece: Vec::new(), large: None }
    }

    /// What is said behind the last of them, and changes nothing: its answer says that all are
    /// there.
    pub fn end(&self) -> Bytes {
        request(&[b"APPLY", self.job.as_bytes(), b""])
    }
}

/// Whether a value goes in the commands that make it. A stream does not: they cannot say all of it,
/// as that somebody has yet to acknowledge what was deleted.
fn goes_in_commands(entry: &Entry) -> bool {
    entry.heap_bytes() > WHOLE_BYTES_MAX && entry.kind() != Kind::Stream
}

/// Appends commands that make a key, none of which is long.
fn put_large(out: &mut Vec<u8>, entry: &Entry, now_ms: u64) {
    let ValueRef::String(bytes) = entry.value() else {
        return aof::commands::put_entry(out, entry, now_ms);
    };
    put_string(out, entry.key(), bytes);
    if let Some(at_ms) = entry.expiry_ms() {
        put(out, [&b"PEXPIREAT"[..], entry.key(), at_ms.to_string().as_bytes()].into_iter());
    }
}

/// A long string in pieces. Its last byte comes first, so that all of it is allocated once.
fn put_string(out: &mut Vec<u8>, key: &[u8], bytes: &[u8]) {
    let Some((last, _)) = bytes.split_last() else { return };
    let end = (bytes.len() - 1).to_string();
    put(out, [&b"DEL"[..], key].into_iter());
    put(out, [&b"SETRANGE"[..], key, end.as_bytes(), &[*last]].into_iter());
    for (number, piece) in bytes.chunks(STRING_PIECE_BYTES).enumerate() {
        let at = (number * STRING_PIECE_BYTES).to_string();
        put(out, [&b"SETRANGE"[..], key, at.as_bytes(), piece].into_iter());
    }
}

/// The commands of a large value that have not gone yet.
struct Large {
    commands: Vec<u8>,
    reader: RequestReader,
    start: usize,
}

impl Large {
    fn new(entry: &Entry, now_ms: u64) -> Large {
        const OWN: Limits = Limits { bulk_len_max: u64::MAX, authenticated: true };
        let (mut commands, mut reader) = (Vec::new(), RequestReader::new());
        put_large(&mut commands, entry, now_ms);
        reader.feed(&commands);
        reader.parse(&OWN).expect("we wrote the commands");
        Large { commands, reader, start: 0 }
    }

    /// Moves commands to a piece until it is full; false if there are no more.
    fn take(&mut self, piece: &mut Vec<u8>) -> bool {
        while self.reader.pending() > 0 && piece.len() < PIECE_BYTES {
            let end = usize::try_from(self.reader.stream_end(0)).expect("it is in memory");
            piece.extend_from_slice(&self.commands[self.start..end]);
            self.reader.pop_front();
            self.start = end;
        }
        self.reader.pending() > 0
    }
}

struct Pieces<'p, I> {
    pour: &'p Pour,
    entries: I,
    piece: Vec<u8>,
    large: Option<Box<Large>>,
}

impl<'p, I: Iterator<Item = &'p Entry>> Iterator for Pieces<'p, I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while self.piece.len() < PIECE_BYTES {
            if let Some(large) = &mut self.large {
                if !large.take(&mut self.piece) {
                    self.large = None;
                }
                continue;
            }
            let Some(entry) = self.entries.next() else { break };
            match goes_in_commands(entry) {
                false => {
                    let Pour { version, compresses, .. } = *self.pour;
                    aof::commands::put_restore(&mut self.piece, entry, version, compresses);
                }
                true => self.large = Some(Box::new(Large::new(entry, self.pour.keys.now_ms))),
            }
        }
        if self.piece.is_empty() {
            return None;
        }
        let words = [&b"APPLY"[..], self.pour.job.as_bytes(), &self.piece];
        let bytes = request(&words);
        self.piece.clear();
        Some(bytes)
    }
}
