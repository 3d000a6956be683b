//! The name of a history of writes, how far it has come, and who may continue it.
//!
//! A history is a stream of bytes, and an offset counts the bytes since its beginning: the first
//! byte has the offset 1. Two servers with the same id and the same offset have the same dataset;
//! everything else follows from that. A server that is promoted writes on alone, so its history
//! gets a new name, while the old name stays good for what was written until then (the second id).
//! Only one step back is kept, as in Redis.
//!
//! Invariant: the offset never decreases while the id stays, unless a full sync brings a dataset
//! that is another moment of the same history (`adopt`).

use crate::structs::number::parse_i64;
use std::fmt;

pub const ID_LEN: usize = 40;

/// Offsets above this are refused where they come from outside, so that sums of them are numbers.
pub const OFFSET_MAX: i64 = i64::MAX / 2;

/// The name of a history: 40 hex digits when we drew it. What other makes of primaries call theirs
/// is kept as it came.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplicationId([u8; ID_LEN]);

impl ReplicationId {
    /// What is shown for a second id that there is not.
    pub const NONE: ReplicationId = ReplicationId([b'0'; ID_LEN]);

    pub fn from_random(bytes: [u8; ID_LEN / 2]) -> ReplicationId {
        let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
        let halves = |at: usize| (bytes[at / 2] >> 4, bytes[at / 2] & 15);
        ReplicationId(std::array::from_fn(|at| {
            let (high, low) = halves(at);
            digit(if at % 2 == 0 { high } else { low })
        }))
    }

    /// An id that a peer sent. It will stand in commands, files and lines of INFO, so it is one
    /// word.
    pub fn parse(text: &[u8]) -> Option<ReplicationId> {
        let id: [u8; ID_LEN] = text.try_into().ok()?;
        id.iter().all(u8::is_ascii_alphanumeric).then_some(ReplicationId(id))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a primary compares: a replica may have been told the id by a person.
    fn is(&self, asked: &[u8]) -> bool {
        *self != ReplicationId::NONE && self.0.eq_ignore_ascii_case(asked)
    }
}

impl fmt::Display for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a file says of the history that its dataset is a moment of.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Origin {
    pub id: Option<ReplicationId>,
    pub offset: Option<i64>,
    /// The database in which the stream goes on.
    pub stream_db: Option<u32>,
}

impl Origin {
    /// As the end of an append-only file says it.
    pub fn print(&self) -> Option<String> {
        let (id, offset) = (self.id?, self.offset?);
        Some(format!("{id}:{offset}:{}", self.stream_db.unwrap_or(0)))
    }

    pub fn parse(text: &[u8]) -> Option<Origin> {
        let mut parts = text.split(|byte| *byte == b':');
        let id = ReplicationId::parse(parts.next()?)?;
        let offset = parse_i64(parts.next()?).filter(|offset| (0..=OFFSET_MAX).contains(offset))?;
        let db = parse_i64(parts.next()?).and_then(|db| u32::try_from(db).ok())?;
        let is_whole = parts.next().is_none();
        let origin = Origin { id: Some(id), offset: Some(offset), stream_db: Some(db) };
        is_whole.then_some(origin)
    }
}

/// Why a replica cannot continue where it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It was in another history.
    OtherHistory,
    /// It was in ours under the second id, but further than the one that we continue.
    PastSwitch { up_to: i64 },
    /// The bytes that it lacks are no longer kept, or were never written.
    OutOfRange,
}

/// The history that a server's dataset is a moment of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    id: ReplicationId,
    second_id: ReplicationId,
    second_offset_end: i64,
    offset: i64,
}

impl History {
    /// A history of which a dataset is the given moment.
    pub fn new(id: ReplicationId, offset: i64) -> History {
        History { id, second_id: ReplicationId::NONE, second_offset_end: -1, offset }
    }

    pub fn id(&self) -> ReplicationId {
        self.id
    }

    pub fn second_id(&self) -> ReplicationId {
        self.second_id
    }

    /// The first offset that is not shared with the second id, which is the last one that may be
    /// asked for under it; -1 without one.
    pub fn second_offset_end(&self) -> i64 {
        self.second_offset_end
    }

    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The first byte that is not there yet, which is what a replica asks for.
    pub fn next(&self) -> i64 {
        self.offset.saturating_add(1)
    }

    pub fn advance(&mut self, bytes: u64) {
        self.offset = self.offset.saturating_add_unsigned(bytes);
    }

    /// At a promotion: what is written from now on has a name of its own.
    pub fn shift(&mut self, fresh: ReplicationId) {
        self.take_over(fresh);
    }

    /// The primary has said that the history goes on under a new name.
    pub fn take_over(&mut self, new: ReplicationId) {
        self.second_id = self.id;
        self.second_offset_end = self.next();
        self.id = new;
    }

    /// After a full sync the dataset is a moment of that history, and of no other.
    pub fn adopt(&mut self, id: ReplicationId, offset: i64) {
        *self = History::new(id, offset);
    }

    /// The dataset is no longer what the id and the offset say, be it emptied or damaged: nobody
    /// may continue from it.
    pub fn forget(&mut self, fresh: ReplicationId) {
        self.adopt(fresh, self.offset);
    }

    /// Whether one that was at `from - 1` of the history `id` can have the bytes from `from` on,
    /// where those from `first` on are kept. Both ends belong to the range: who lacks nothing may
    /// continue even if nothing is kept.
    pub fn may_continue(&self, id: &[u8], from: i64, first: Option<i64>) -> Result<(), Refusal> {
        if !self.id.is(id) {
            if !self.second_id.is(id) {
                return Err(Refusal::OtherHistory);
            }
            if from > self.second_offset_end {
                return Err(Refusal::PastSwitch { up_to: self.second_offset_end });
            }
        }
        let first = first.unwrap_or(self.next());
        if from < first || from > self.next() { Err(Refusal::OutOfRange) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{History, ID_LEN, Refusal, ReplicationId};

    fn id(digit: u8) -> ReplicationId {
        ReplicationId::parse(&[digit; ID_LEN]).expect("it is one")
    }

    #[test]
    fn ids_are_forty_hex_digits() {
        let mut bytes = [0u8; 20];
        bytes[..4].copy_from_slice(&[0x00, 0x9f, 0xf0, 0xff]);
        let drawn = ReplicationId::from_random(bytes);
        assert_eq!(drawn.to_string(), format!("009ff0ff{}", "0".repeat(32)));
        assert_eq!(ReplicationId::parse(drawn.as_bytes()), Some(drawn));
    }

    #[test]
    fn an_id_of_a_peer_is_one_word_of_its_length() {
        let table: &[(&[u8], bool)] = &[
            (&[b'a'; 40], true),
            (&[b'Z'; 40], true),
            (&[b'a'; 39], false),
            (&[b'a'; 41], false),
            (&[b' '; 40], false),
            (&[b'\n'; 40], false),
            (&[0xff; 40], false),
            (b"?", false),
            (b"", false),
        ];
        for (text, is_id) in table {
            assert_eq!(ReplicationId::parse(text).is_some(), *is_id, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_promotion_keeps_the_old_name_up_to_its_end() {
        let mut history = History::new(id(b'a'), 100);
        history.shift(id(b'b'));
        assert_eq!((history.id(), history.second_id()), (id(b'b'), id(b'a')));
        assert_eq!((history.offset(), history.second_offset_end()), (100, 101));
        history.advance(50);
        history.take_over(id(b'c'));
        assert_eq!((history.id(), history.second_id()), (id(b'c'), id(b'b')));
        assert_eq!((history.offset(), history.second_offset_end()), (150, 151));
    }

    #[test]
    fn a_full_sync_leaves_no_second_name() {
        let mut history = History::new(id(b'a'), 100);
        history.shift(id(b'b'));
        history.adopt(id(b'c'), 7);
        assert_eq!(history, History::new(id(b'c'), 7));
        assert_eq!((history.second_id(), history.second_offset_end()), (ReplicationId::NONE, -1));
    }

    #[test]
    fn what_lost_its_dataset_continues_nobody() {
        let mut history = History::new(id(b'a'), 100);
        history.forget(id(b'b'));
        let asked = history.may_continue(id(b'a').as_bytes(), 101, Some(1));
        assert_eq!((history.offset(), asked), (100, Err(Refusal::OtherHistory)));
    }

    /// Id `a` up to 100, then `b` up to 150; the bytes from 50 on are kept.
    #[test]
    fn the_range_that_can_be_continued_has_both_its_ends() {
        let mut history = History::new(id(b'a'), 100);
        history.shift(id(b'b'));
        history.advance(50);
        let past = Err(Refusal::PastSwitch { up_to: 101 });
        let (other, range) = (Err(Refusal::OtherHistory), Err(Refusal::OutOfRange));
        let table = [
            (b'b', 151, Some(50), Ok(())),
            (b'B', 151, Some(50), Ok(())),
            (b'b', 152, Some(50), range),
            (b'b', 50, Some(50), Ok(())),
            (b'b', 49, Some(50), range),
            (b'b', i64::MAX, Some(50), range),
            (b'b', i64::MIN, Some(50), range),
            (b'a', 101, Some(50), Ok(())),
            (b'a', 102, Some(50), past),
            (b'a', i64::MAX, Some(50), past),
            (b'a', 50, Some(50), Ok(())),
            (b'a', 49, Some(50), range),
            (b'b', 151, None, Ok(())),
            (b'b', 150, None, range),
            (b'a', 101, None, range),
            (b'c', 101, Some(50), other),
            (b'0', -1, Some(50), other),
        ];
        for (name, from, first, expected) in table {
            let asked = [name; ID_LEN];
            let found = history.may_continue(&asked, from, first);
            assert_eq!(found, expected, "{} {from} {first:?}", name as char);
        }
        assert_eq!(history.may_continue(b"?", -1, Some(50)), Err(Refusal::OtherHistory));
        let none = ReplicationId::NONE;
        let fresh = History::new(id(b'a'), 0);
        assert_eq!(fresh.may_continue(none.as_bytes(), -1, None), Err(Refusal::OtherHistory));
    }

    #[test]
    fn offsets_end_where_numbers_do() {
        let mut history = History::new(id(b'a'), i64::MAX - 1);
        history.advance(u64::MAX);
        assert_eq!((history.offset(), history.next()), (i64::MAX, i64::MAX));
        history.shift(id(b'b'));
    }
}
