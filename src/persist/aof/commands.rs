//! A dataset as the commands that make it: a base in the form of commands.
//!
//! Collections are written in commands of at most 64 items, so that no reader has to hold a huge
//! command, and each key's commands stand together with its expiry last. A stream is written with
//! its groups and what they have not acknowledged, as Redis writes it.

use crate::keyspace::{Entry, Snapshot, StagedSnapshot, ValueRef};
use crate::persist::rdb::{self, SaveVersion};
use crate::resp::command::{put, put_bulk, put_header};
use crate::structs::number::{F64Buf, I64Buf, format_f64, format_i64};
use crate::types::hash::HashRef;
use crate::types::list::ListRef;
use crate::types::stream::{Group, Stream, StreamId};
use std::io::{self, Write};
use std::ops::ControlFlow;

/// What a base is written from.
pub struct Dataset {
    /// Databases with their numbers.
    pub dbs: Vec<(usize, Snapshot)>,
    /// The time to note in front, if times are noted.
    pub timestamp: Option<u64>,
    /// The code of libraries of functions.
    pub functions: Vec<Vec<u8>>,
    /// Slots that are on their way here.
    pub staged: Option<StagedSnapshot>,
}

/// Items of one command.
const ITEMS_MAX: usize = 64;
/// What is collected before it is handed on.
const BLOCK_BYTES: usize = 64 * 1024;

/// Writes the whole dataset; `watch` is told of progress in keys and may stop it.
pub fn write(
    dataset: &Dataset,
    out: &mut dyn Write,
    watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut block = Vec::with_capacity(BLOCK_BYTES * 2);
    if let Some(seconds) = dataset.timestamp {
        block.extend(format!("#TS:{seconds}\r\n").into_bytes());
    }
    for code in &dataset.functions {
        put(&mut block, [&b"FUNCTION"[..], b"LOAD", code].into_iter());
    }
    let mut keys = 0;
    if let Some(staged) = &dataset.staged {
        put_staged(staged, out, &mut || {
            keys += 1;
            go_on(watch(keys))
        })?;
    }
    for (number, snapshot) in &dataset.dbs {
        put(&mut block, [&b"SELECT"[..], number.to_string().as_bytes()].into_iter());
        for entry in snapshot.live() {
            put_entry(&mut block, entry, snapshot.now_ms);
            keys += 1;
            if block.len() >= BLOCK_BYTES {
                out.write_all(&block)?;
                block.clear();
            }
            go_on(watch(keys))?;
        }
    }
    out.write_all(&block)?;
    go_on(watch(keys))
}

fn go_on(flow: ControlFlow<()>) -> io::Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(io::Error::other("cancelled")),
    }
}

/// Appends what has come of slots that are on their way, as the node has been told of it.
fn put_staged(
    staged: &StagedSnapshot,
    out: &mut dyn Write,
    watch: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let job = staged.job.as_bytes();
    let numbers: Vec<String> = staged.slots.iter().map(ToString::to_string).collect();
    let pairs = numbers.iter().flat_map(|number| [number.as_bytes(); 2]);
    let words = [&b"CLUSTER"[..], b"SLOTMOVE", b"STAGE", job].into_iter().chain(pairs);
    let mut block = Vec::new();
    put(&mut block, words.collect::<Vec<_>>().into_iter());
    for entry in staged.keys.entries.iter() {
        let mut commands = Vec::new();
        put_restore(&mut commands, entry, SaveVersion::default(), true);
        let words = [&b"CLUSTER"[..], b"SLOTMOVE", b"APPLY", job, &commands];
        put(&mut block, words.into_iter());
        if block.len() >= BLOCK_BYTES {
            out.write_all(&block)?;
            block.clear();
        }
        watch()?;
    }
    out.write_all(&block)
}

/// Appends the command that makes one key as it is. Only servers that know this form of its value
/// can run it, so it is for our own.
pub fn put_restore(out: &mut Vec<u8>, entry: &Entry, version: SaveVersion, compresses: bool) {
    let payload = rdb::dump(entry, version, compresses);
    let expiry = entry.expiry_ms().unwrap_or(0);
    let (mut buffer, expiry) = (I64Buf::new(), i64::try_from(expiry).unwrap_or(i64::MAX));
    let expiry = format_i64(expiry, &mut buffer);
    let words = [&b"RESTORE"[..], entry.key(), expiry, &payload, b"REPLACE", b"ABSTTL"];
    put(out, words.into_iter());
}

/// Appends the commands that make one key.
pub fn put_entry(out: &mut Vec<u8>, entry: &Entry, now_ms: u64) {
    let key = entry.key();
    match entry.value() {
        ValueRef::String(bytes) => put(out, [&b"SET"[..], key, bytes].into_iter()),
        ValueRef::List(list) => put_list(out, key, list),
        ValueRef::Set(set) => {
            let mut chunks = Chunks::new(b"SADD", key, set.len(), 1);
            for member in set.iter() {
                chunks.item(out);
                put_bulk(out, member.bytes(&mut I64Buf::new()));
            }
        }
        ValueRef::ZSet(zset) => {
            let mut chunks = Chunks::new(b"ZADD", key, zset.len(), 2);
            for (member, score) in zset.range(0..zset.len()) {
                chunks.item(out);
                put_bulk(out, format_f64(score, &mut F64Buf::new()));
                put_bulk(out, member.bytes(&mut I64Buf::new()));
            }
        }
        ValueRef::Hash(hash) => put_hash(out, key, hash.at(now_ms)),
        ValueRef::Stream(stream) => put_stream(out, key, stream),
    }
    if let Some(at_ms) = entry.expiry_ms() {
        put_number_after(out, [&b"PEXPIREAT"[..], key], at_ms);
    }
}

/// Appends a command of two words and a number.
fn put_number_after(out: &mut Vec<u8>, words: [&[u8]; 2], number: u64) {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    put(out, [words[0], words[1], format_i64(number, &mut I64Buf::new())].into_iter());
}

/// The headers of commands that share a collection's items among them.
struct Chunks<'a> {
    verb: &'static [u8],
    key: &'a [u8],
    left: usize,
    words_each: usize,
    in_command: usize,
}

impl<'a> Chunks<'a> {
    fn new(verb: &'static [u8], key: &'a [u8], items: usize, words_each: usize) -> Chunks<'a> {
        Chunks { verb, key, left: items, words_each, in_command: 0 }
    }

    /// Before each item: begins the next command where one ends.
    fn item(&mut self, out: &mut Vec<u8>) {
        if self.in_command == 0 {
            self.in_command = self.left.min(ITEMS_MAX);
            put_header(out, b'*', 2 + self.in_command * self.words_each);
            put_bulk(out, self.verb);
            put_bulk(out, self.key);
        }
        self.in_command -= 1;
        self.left -= 1;
    }
}

fn put_list(out: &mut Vec<u8>, key: &[u8], list: ListRef<'_>) {
    let mut chunks = Chunks::new(b"RPUSH", key, list.len(), 1);
    let _ = list.walk(0..list.len(), false, |_, value| {
        chunks.item(out);
        put_bulk(out, &value.to_vec());
        ControlFlow::Continue(())
    });
}

fn put_hash(out: &mut Vec<u8>, key: &[u8], hash: HashRef<'_>) {
    let fields: Vec<_> = hash.iter().collect();
    let mut chunks = Chunks::new(b"HMSET", key, fields.len(), 2);
    for (name, value) in &fields {
        chunks.item(out);
        put_bulk(out, name.bytes(&mut I64Buf::new()));
        put_bulk(out, value.bytes(&mut I64Buf::new()));
    }
    let HashRef::Table(live) = hash else { return };
    for field in live.iter() {
        if let Some(at_ms) = field.expiry_ms() {
            let at_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
            let mut number = I64Buf::new();
            let at = format_i64(at_ms, &mut number);
            let words = [&b"HPEXPIREAT"[..], key, at, b"FIELDS", b"1", field.name()];
            put(out, words.into_iter());
        }
    }
}

fn put_stream(out: &mut Vec<u8>, key: &[u8], stream: &Stream) {
    let entries = &stream.entries;
    for entry in entries.all() {
        put_header(out, b'*', 3 + 2 * entry.field_count());
        put_bulk(out, b"XADD");
        put_bulk(out, key);
        put_bulk(out, &entry.id.to_vec());
        for (field, value) in entry.pairs() {
            put_bulk(out, field.bytes(&mut I64Buf::new()));
            put_bulk(out, value.bytes(&mut I64Buf::new()));
        }
    }
    if entries.is_empty() {
        // A stream is made with an entry, which its length of zero takes away again. Its number
        // must not be the smallest, which nothing may precede.
        let id = entries.last_id.max(StreamId { ms: 0, seq: 1 }).to_vec();
        put(out, [&b"XADD"[..], key, b"MAXLEN", b"0", &id, b"x", b"y"].into_iter());
    }
    let added = entries.entries_added.to_string();
    let (last, deleted) = (entries.last_id.to_vec(), entries.max_deleted_id.to_vec());
    let words: [&[u8]; 7] =
        [b"XSETID", key, &last, b"ENTRIESADDED", added.as_bytes(), b"MAXDELETEDID", &deleted];
    put(out, words.into_iter());
    for (name, group) in stream.groups.iter() {
        put_group(out, key, name, group);
    }
}

fn put_group(out: &mut Vec<u8>, key: &[u8], name: &[u8], group: &Group) {
    let last = group.last_id.to_vec();
    let read = group.entries_read.unwrap_or(-1).to_string();
    let words: [&[u8]; 7] =
        [b"XGROUP", b"CREATE", key, name, &last, b"ENTRIESREAD", read.as_bytes()];
    put(out, words.into_iter());
    for consumer in group.consumers() {
        let words = [&b"XGROUP"[..], b"CREATECONSUMER", key, name, consumer.name()];
        put(out, words.into_iter());
        for (id, ()) in consumer.pending().iter() {
            let Some(pending) = group.pending().get(id) else { continue };
            let id = id.to_vec();
            let time = pending.delivered_ms.to_string();
            let count = pending.deliveries.to_string();
            let words: [&[u8]; 12] = [
                b"XCLAIM",
                key,
                name,
                consumer.name(),
                b"0",
                &id,
                b"TIME",
                time.as_bytes(),
                b"RETRYCOUNT",
                count.as_bytes(),
                b"JUSTID",
                b"FORCE",
            ];
            put(out, words.into_iter());
        }
    }
}
