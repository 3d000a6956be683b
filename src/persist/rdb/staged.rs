//! Slots that are on their way here ([`crate::keyspace::Staging`]), in a snapshot file: fields that
//! other servers pass over.
//!
//! ```text
//! slot-move      job name, then the numbers of its slots, with spaces between
//! slot-move-key  expiry in unix ms u64, 0 for none | length of the key u32 | key | payload of DUMP
//! ```

use super::decode::Limits;
use super::payload::{dump, restore, verify};
use super::sink::Sink;
use super::write::SaveOptions;
use super::{SaveVersion, opcode};
use crate::keyspace::slot::Slot;
use crate::keyspace::{Entry, StagedSnapshot};
use std::ops::ControlFlow;

pub const HEAD_FIELD: &str = "slot-move";
pub const KEY_FIELD: &str = "slot-move-key";

/// What a field says.
pub enum Staged {
    Begin { job: Box<str>, slots: Vec<Slot> },
    Key(Entry),
}

pub(super) fn write(
    staged: &StagedSnapshot,
    version: SaveVersion,
    options: &SaveOptions,
    sink: &mut Sink<'_>,
    watch: &mut dyn FnMut() -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut head = staged.job.to_string();
    staged.slots.iter().for_each(|slot| head.push_str(&format!(" {slot}")));
    put(sink, HEAD_FIELD, head.as_bytes());
    for entry in staged.keys.entries.iter() {
        watch()?;
        let mut field = entry.expiry_ms().unwrap_or(0).to_le_bytes().to_vec();
        field.extend_from_slice(&(entry.key().len() as u32).to_le_bytes());
        field.extend_from_slice(entry.key());
        field.extend_from_slice(&dump(entry, version, options.compresses));
        put(sink, KEY_FIELD, &field);
    }
    ControlFlow::Continue(())
}

fn put(sink: &mut Sink<'_>, name: &str, value: &[u8]) {
    sink.byte(opcode::AUX);
    sink.string(name.as_bytes());
    sink.string(value);
}

/// What a field of these names says; none if it is no such field, or says nothing that can be read.
pub fn read(name: &[u8], value: &[u8], limits: &Limits) -> Option<Staged> {
    if name == HEAD_FIELD.as_bytes() {
        let mut words = str::from_utf8(value).ok()?.split(' ');
        let job = words.next()?.into();
        let slots: Option<Vec<Slot>> =
            words.map(|word| word.parse().ok().and_then(Slot::new)).collect();
        return Some(Staged::Begin { job, slots: slots? });
    }
    if name != KEY_FIELD.as_bytes() {
        return None;
    }
    let (expiry_ms, rest) = value.split_first_chunk::<8>()?;
    let (key_len, rest) = rest.split_first_chunk::<4>()?;
    let (key, payload) = rest.split_at_checked(u32::from_le_bytes(*key_len) as usize)?;
    let expiry_ms = Some(u64::from_le_bytes(*expiry_ms)).filter(|at_ms| *at_ms > 0);
    restore(verify(payload, false)?, key, expiry_ms, limits).ok().map(Staged::Key)
}
