//! Values as bytes: in which form a value is written, and how.
//!
//! Packed collections are written as they lie in memory, the others element by element, in the
//! forms that Redis chooses for its encodings of the same names.

use super::sink::Sink;
use super::version::SaveVersion;
use super::{container, form};
use crate::keyspace::{Entry, ValueRef};
use crate::structs::listpack::{self, Element, TooLong};
use crate::structs::number::I64Buf;
use crate::types::hash::{HashRef, LiveTable, elements};
use crate::types::list::{LeafRef, ListRef};
use crate::types::set::SetRef;
use crate::types::stream::{Group, Stream, StreamId};
use crate::types::zset::ZSetRef;
use crate::types::{Encoding, Kind, Object};

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub number: u8,
    /// It cannot say when the fields of the hash expire.
    pub loses_expiry: bool,
}

/// A hash that takes more is not packed, whatever the limits say.
const PACKED_BYTES_MAX: usize = listpack::BYTES_MAX / 4;

/// In which form a value is written for a version.
pub fn form_of(entry: &Entry, version: SaveVersion) -> Form {
    let mut loses_expiry = false;
    let number = match (entry.kind(), entry.encoding()) {
        (Kind::String, _) => form::STRING,
        (Kind::List, _) => form::LIST_QUICKLIST_2,
        (Kind::Set, Encoding::Intset) => form::SET_INTSET,
        (Kind::Set, Encoding::Listpack) if version > SaveVersion::V10 => form::SET_LISTPACK,
        (Kind::Set, _) => form::SET,
        (Kind::ZSet, Encoding::Listpack) => form::ZSET_LISTPACK,
        (Kind::ZSet, _) => form::ZSET_2,
        (Kind::Hash, encoding) => {
            let is_timed = has_timed_fields(entry);
            loses_expiry = is_timed && version < SaveVersion::V12;
            let is_small = encoding == Encoding::Listpack
                || encoding == Encoding::Listpackex && entry.heap_bytes() < PACKED_BYTES_MAX;
            match (is_small, is_timed && !loses_expiry) {
                (true, true) => form::HASH_LISTPACK_TIMED,
                (true, false) => form::HASH_LISTPACK,
                (false, true) => form::HASH_TIMED,
                (false, false) => form::HASH,
            }
        }
        (Kind::Stream, _) if version > SaveVersion::V10 => form::STREAM_3,
        (Kind::Stream, _) => form::STREAM_2,
    };
    Form { number, loses_expiry }
}

pub fn has_timed_fields(entry: &Entry) -> bool {
    match entry.object() {
        Some(Object::Hash(table)) => table.earliest_deadline_ms() != u64::MAX,
        _ => false,
    }
}

/// Writes a value in a form that [`form_of`] has chosen for it.
pub fn write_value(entry: &Entry, number: u8, sink: &mut Sink<'_>) {
    match entry.value() {
        ValueRef::String(bytes) => sink.string(bytes),
        ValueRef::List(list) => write_list(list, sink),
        ValueRef::Set(set) => match entry.packed() {
            Some(bytes) if number != form::SET => sink.string(bytes),
            _ => write_set(set, sink),
        },
        ValueRef::ZSet(ZSetRef::Listpack(packed)) => sink.string(packed.as_bytes()),
        ValueRef::ZSet(zset) => write_zset(zset, sink),
        ValueRef::Hash(HashRef::Listpack(packed)) => sink.string(packed.as_bytes()),
        ValueRef::Hash(HashRef::Table(live)) => write_hash(live, number, sink),
        ValueRef::Stream(stream) => write_stream(stream, number == form::STREAM_3, sink),
    }
}

fn write_list(list: ListRef<'_>, sink: &mut Sink<'_>) {
    let list = match list {
        ListRef::Packed(packed) => {
            sink.len(1);
            sink.len(container::PACKED);
            return sink.string(packed.as_bytes());
        }
        ListRef::Tree(list) => list,
    };
    sink.len(list.leaf_count() as u64);
    for leaf in list.leaves() {
        let (container, bytes) = match leaf {
            LeafRef::Packed(bytes) => (container::PACKED, bytes),
            LeafRef::Plain(bytes) => (container::PLAIN, bytes),
        };
        sink.len(container);
        sink.string(bytes);
    }
}

fn write_set(set: SetRef<'_>, sink: &mut Sink<'_>) {
    sink.len(set.len() as u64);
    for member in set.iter() {
        sink.string(member.bytes(&mut I64Buf::new()));
    }
}

/// The highest score comes first, as Redis has it: its loader then inserts at the head.
fn write_zset(zset: ZSetRef<'_>, sink: &mut Sink<'_>) {
    sink.len(zset.len() as u64);
    for (member, score) in zset.range(0..zset.len()).rev() {
        sink.string(member.bytes(&mut I64Buf::new()));
        sink.bytes(&score.to_le_bytes());
    }
}

/// Writes all fields, those whose time has come included.
fn write_hash(hash: LiveTable<'_>, number: u8, sink: &mut Sink<'_>) {
    match number {
        form::HASH_LISTPACK => {
            let pairs = HashRef::Table(hash).iter();
            let texts = pairs.flat_map(|(name, value)| [name, value]).map(as_held);
            match packed(texts) {
                Ok(bytes) => sink.string(&bytes),
                Err(TooLong) => unreachable!("it is checked to be small"),
            }
        }
        form::HASH_LISTPACK_TIMED => write_timed_listpack(hash, sink),
        form::HASH_TIMED => write_timed_hash(hash, sink),
        _ => {
            sink.len(hash.len() as u64);
            for field in hash.iter() {
                let (name, value) = field.parts();
                sink.string(name);
                sink.string(value);
            }
        }
    }
}

/// The elements of a table are texts, those of a listpack integers where they can be.
fn as_held(element: Element<'_>) -> Element<'_> {
    match element {
        Element::Str(text) => Element::of(text),
        number => number,
    }
}

fn packed<'e>(elements: impl Iterator<Item = Element<'e>>) -> Result<Vec<u8>, TooLong> {
    let mut bytes = listpack::new_empty();
    listpack::extend(&mut bytes, elements)?;
    Ok(bytes)
}

/// The first of the times, to which the others refer.
fn first_expiry_ms(hash: LiveTable<'_>) -> u64 {
    hash.iter().filter_map(|field| field.expiry_ms()).min().unwrap_or(0)
}

/// Fields, values and times (0 for none), the first to expire first.
fn write_timed_listpack(hash: LiveTable<'_>, sink: &mut Sink<'_>) {
    let mut fields: Vec<_> = hash.iter().collect();
    fields.sort_by_key(|field| field.expiry_ms().unwrap_or(u64::MAX));
    let triples = fields.iter().flat_map(|field| {
        let (name, value) = elements(field);
        let at_ms = field.expiry_ms().unwrap_or(0).cast_signed();
        [as_held(name), as_held(value), Element::Int(at_ms)]
    });
    match packed(triples) {
        Ok(bytes) => {
            sink.bytes(&first_expiry_ms(hash).to_le_bytes());
            sink.string(&bytes);
        }
        Err(TooLong) => unreachable!("it is checked to be small"),
    }
}

/// A time is written as its distance from the first one plus one, 0 for none.
fn write_timed_hash(hash: LiveTable<'_>, sink: &mut Sink<'_>) {
    let first_ms = first_expiry_ms(hash);
    sink.bytes(&first_ms.to_le_bytes());
    sink.len(hash.len() as u64);
    for field in hash.iter() {
        sink.len(field.expiry_ms().map_or(0, |at_ms| (at_ms - first_ms).saturating_add(1)));
        let (name, value) = field.parts();
        sink.string(name);
        sink.string(value);
    }
}

fn write_stream(stream: &Stream, has_active_times: bool, sink: &mut Sink<'_>) {
    let entries = &stream.entries;
    sink.len(entries.node_count() as u64);
    for node in entries.nodes() {
        sink.string(&id_bytes(node.master()));
        sink.string(node.as_bytes());
    }
    sink.len(entries.len() as u64);
    for id in [entries.last_id, entries.first_id().unwrap_or_default(), entries.max_deleted_id] {
        write_id(id, sink);
    }
    sink.len(entries.entries_added);
    sink.len(stream.groups.len() as u64);
    for (name, group) in stream.groups.iter() {
        sink.string(name);
        write_group(group, has_active_times, sink);
    }
}

fn write_group(group: &Group, has_active_times: bool, sink: &mut Sink<'_>) {
    write_id(group.last_id, sink);
    sink.len(group.entries_read.unwrap_or(-1).cast_unsigned());
    sink.len(group.pending().len() as u64);
    for (id, pending) in group.pending().iter() {
        sink.bytes(&id_bytes(id));
        sink.bytes(&pending.delivered_ms.to_le_bytes());
        sink.len(pending.deliveries);
    }
    sink.len(group.consumer_count() as u64);
    for consumer in group.consumers() {
        sink.string(consumer.name());
        sink.bytes(&consumer.seen_ms.to_le_bytes());
        if has_active_times {
            sink.bytes(&consumer.active_ms.unwrap_or(-1).to_le_bytes());
        }
        sink.len(consumer.pending().len() as u64);
        for (id, ()) in consumer.pending().iter() {
            sink.bytes(&id_bytes(id));
        }
    }
}

fn write_id(id: StreamId, sink: &mut Sink<'_>) {
    sink.len(id.ms);
    sink.len(id.seq);
}

/// An ID in the form of a radix tree's key.
fn id_bytes(id: StreamId) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.ms.to_be_bytes());
    bytes[8..].copy_from_slice(&id.seq.to_be_bytes());
    bytes
}
