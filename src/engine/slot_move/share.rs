//! What of the write stream concerns some slots.
//!
//! The stream is cut up into its commands again, and what names keys of these slots is kept, in the
//! bytes in which it stands there. Transactions are kept whole: all that concerns the slots of one
//! turn is carried out in one step by whoever gets it, so their MULTI and EXEC go. That is work for
//! each write while a move is under way, and none for anybody otherwise.

use crate::cluster::slot_set::SlotBits;
use crate::command::{Categories, Flags, KeyFlags, Lookup, Table, find_keys};
use crate::keyspace::slot::Slot;
use crate::resp::request::{Limits, RequestReader};

/// Why a part of the stream cannot be told from the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unshareable {
    /// A command changes what no key of it names.
    AllKeys,
    /// A command names keys of the slots and others.
    Torn,
}

impl Unshareable {
    pub fn text(self) -> &'static str {
        match self {
            Unshareable::AllKeys => "A command has changed all keys, as FLUSHALL does",
            Unshareable::Torn => "A script has written to slots that move and others at once",
        }
    }
}

/// What of these commands concerns the slots.
pub fn share(stream: &[u8], table: &Table, slots: SlotBits<'_>) -> Result<Vec<u8>, Unshareable> {
    const OWN: Limits = Limits { bulk_len_max: u64::MAX, authenticated: true };
    let mut reader = RequestReader::new();
    reader.feed(stream);
    let _ = reader.parse(&OWN);
    let mut kept = Vec::new();
    let mut start = 0;
    while reader.pending() > 0 {
        let end = usize::try_from(reader.stream_end(0)).expect("it is in memory");
        if is_of(&reader, table, slots)? {
            kept.extend_from_slice(&stream[start..end]);
        }
        start = end;
        reader.pop_front();
    }
    debug_assert_eq!(start, stream.len(), "we wrote whole commands");
    Ok(kept)
}

/// Whether the next command concerns the slots.
fn is_of(reader: &RequestReader, table: &Table, slots: SlotBits<'_>) -> Result<bool, Unshareable> {
    let request = reader.request(0);
    let Lookup::Found(id) = table.lookup_in_aof(&request) else { return Ok(false) };
    let command = table.row(id).command;
    let names_none = command.keys.is_empty() && command.key_finder.is_none();
    let empties_databases =
        names_none && command.flags.has(Flags::WRITE) && command.acl.has(Categories::KEYSPACE);
    let (mut any, mut all) = (false, true);
    for key in find_keys(command, &request).iter().flat_map(|found| found.keys()) {
        if !key.flags.has(KeyFlags::NOT_KEY) {
            let is_in = slots.has(Slot::of(request.arg(key.index)));
            any |= is_in;
            all &= is_in;
        }
    }
    match (any, all) {
        (true, true) => Ok(true),
        (true, false) => Err(Unshareable::Torn),
        _ if empties_databases => Err(Unshareable::AllKeys),
        _ => Ok(false),
    }
}
