//! A node: a run of entries as one listpack, laid out as Redis lays it out.
//!
//! ```text
//! live | deleted | N | field ... (N) | 0 | entry ...
//! entry: flags | ms - master | seq - master | value ... (N)            | elements before it
//!    or: flags | ms - master | seq - master | n | field | value | ...  | elements before it
//! ```
//! The master ID is that of the first entry, whose fields stand once before all entries; an entry
//! with the same fields has only its values. The last element of an entry lets readers go
//! backwards. A deleted entry is only flagged, so that nothing moves; RDB files and DUMP take the
//! bytes as they are, which is why the layout is not ours to better.
//!
//! Invariants: the listpack is well-formed and laid out as above; IDs ascend; `last` is the ID of
//! the last entry, deleted or not.

use super::StreamId;
use crate::structs::counted_tree::{Keyed, Leaf};
use crate::structs::listpack::{self, Element, Listpack, TooLong};
use crate::structs::number::parse_i64;

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// The elements of an entry besides its fields and values: flags and the two parts of the ID.
const FIXED_ELEMENTS: usize = 3;

const FITS: &str = "counts are a few bytes, and a node is far from its largest size";

/// When a node is full.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    /// 0 sets no limit but the listpack's own.
    pub max_bytes: usize,
    /// 0 sets no limit.
    pub max_entries: u64,
}

impl NodeLimits {
    fn max_bytes(self) -> usize {
        if self.max_bytes == 0 { listpack::BYTES_MAX } else { self.max_bytes }
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    master: StreamId,
    last: StreamId,
    header: Header,
    bytes: Vec<u8>,
}

/// Whether the counts that foreign bytes hold are those of their elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    Right,
    Mended,
}

/// What stands before the entries, read once. Numbers of elements fit 32 bits, as positions do:
/// a listpack is no longer.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    live: u32,
    deleted: u32,
    field_count: u32,
    fields_at: u32,
}

impl Header {
    fn read(listpack: Listpack<'_>) -> Header {
        let mut elements = listpack.iter();
        let mut number = || count_of(elements.next().expect("a node has a header").1) as u32;
        let (live, deleted, field_count) = (number(), number(), number());
        let fields_at = elements.next().expect("the header ends with a zero").0 as u32;
        Header { live, deleted, field_count, fields_at }
    }
}

impl Node {
    /// A node with one entry, of which the fields and values take turns, and with room for so many
    /// bytes.
    pub fn new(id: StreamId, pairs: &[&[u8]], capacity: usize) -> Result<Node, TooLong> {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend_from_slice(&listpack::new_empty());
        let count = Element::Int((pairs.len() / 2) as i64);
        let fields = pairs.iter().step_by(2).map(|field| Element::of(field));
        let head = [Element::Int(1), Element::Int(0), count].into_iter();
        listpack::extend(&mut bytes, head.chain(fields).chain([Element::Int(0)]))?;
        extend_by_entry(&mut bytes, StreamId::MIN, pairs, true)?;
        let header = Header::read(Listpack::trusted(&bytes));
        Ok(Node { master: id, last: id, header, bytes })
    }

    /// A node of foreign bytes, with the counts that its elements say; `None` if they are none.
    pub fn of_listpack(master: StreamId, mut bytes: Vec<u8>) -> Option<(Node, Counts)> {
        let form = listpack::form(&bytes);
        if form == listpack::Form::Malformed {
            return None;
        }
        let layout = Layout::read(master, Listpack::trusted(&bytes))?;
        let is_right = layout.is_counted && layout.wrong.is_empty();
        let counts = match form {
            listpack::Form::Sound if is_right => Counts::Right,
            _ => Counts::Mended,
        };
        if counts == Counts::Mended {
            bytes = layout.mended(Listpack::trusted(&bytes)).ok()?;
        }
        let header = Header::read(Listpack::trusted(&bytes));
        Some((Node { master, last: layout.last, header, bytes }, counts))
    }

    pub fn master(&self) -> StreamId {
        self.master
    }

    /// The ID of its last entry, deleted or not.
    pub fn last(&self) -> StreamId {
        self.last
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn listpack(&self) -> Listpack<'_> {
        Listpack::trusted(&self.bytes)
    }

    /// How many entries are not deleted.
    pub fn live(&self) -> usize {
        self.header.live as usize
    }

    /// Whether an entry with so many bytes of fields and values still goes here.
    pub fn has_room(&self, bytes: usize, limits: NodeLimits) -> bool {
        if self.bytes.len().saturating_add(bytes) >= limits.max_bytes() {
            return false;
        }
        let entries = u64::from(self.header.live) + u64::from(self.header.deleted);
        limits.max_entries == 0 || entries < limits.max_entries
    }

    /// Adds an entry with an ID beyond the last one.
    pub fn append(&mut self, id: StreamId, pairs: &[&[u8]]) -> Result<(), TooLong> {
        let header = self.header;
        let is_same = header.field_count as usize == pairs.len() / 2 && {
            let own = self.listpack().iter_from(header.fields_at as usize);
            own.zip(pairs.iter().step_by(2)).all(|((_, own), field)| own.is(field))
        };
        let delta = StreamId {
            ms: id.ms.wrapping_sub(self.master.ms),
            seq: id.seq.wrapping_sub(self.master.seq),
        };
        extend_by_entry(&mut self.bytes, delta, pairs, is_same)?;
        self.last = id;
        self.set_counts(header.live + 1, header.deleted);
        Ok(())
    }

    /// Gives back the room kept for further entries.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// About how many bytes a node after this one will take.
    pub fn next_capacity(&self, limits: NodeLimits) -> usize {
        const CAPACITY_MAX: usize = 4096;
        self.bytes.len().min(limits.max_bytes()).min(CAPACITY_MAX)
    }

    /// Deletes an entry; false if it is not there.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Some(entry) = self.entries().find(|entry| entry.id >= id) else { return false };
        let is_it = entry.id == id;
        if is_it {
            let flags_at = entry.flags_at;
            self.flag_deleted(&[flags_at]);
        }
        is_it
    }

    /// Deletes the first entries, as long as they are wanted, and says how many they were.
    pub fn delete_first(&mut self, mut wants: impl FnMut(StreamId) -> bool) -> usize {
        let doomed = self.entries().take_while(|entry| wants(entry.id));
        let doomed: Vec<usize> = doomed.map(|entry| entry.flags_at).collect();
        self.flag_deleted(&doomed);
        doomed.len()
    }

    /// Flags live entries as deleted. Flags are small, so that nothing moves.
    fn flag_deleted(&mut self, flags_at: &[usize]) {
        for &at in flags_at {
            let flags = int(self.listpack().at(at));
            listpack::replace_element(&mut self.bytes, at, Element::Int(flags | DELETED))
                .expect(FITS);
        }
        let (Header { live, deleted, .. }, count) = (self.header, flags_at.len() as u32);
        self.set_counts(live - count, deleted + count);
    }

    fn set_counts(&mut self, live: u32, deleted: u32) {
        let len = self.bytes.len();
        let live_at = self.listpack().start();
        if deleted != self.header.deleted {
            let at = self.listpack().next(live_at);
            let deleted = Element::Int(i64::from(deleted));
            listpack::replace_element(&mut self.bytes, at, deleted).expect(FITS);
        }
        let element = Element::Int(i64::from(live));
        listpack::replace_element(&mut self.bytes, live_at, element).expect(FITS);
        if self.bytes.len() == len {
            (self.header.live, self.header.deleted) = (live, deleted);
        } else {
            self.header = Header::read(self.listpack());
        }
    }

    /// The live entries, from both ends.
    pub fn entries(&self) -> NodeEntries<'_> {
        let header = self.header;
        let (fields_at, field_count) = (header.fields_at as usize, header.field_count as usize);
        let front = self.listpack().skip(fields_at, field_count + 1);
        NodeEntries {
            listpack: self.listpack(),
            master: self.master,
            fields_at,
            field_count,
            front,
            back: self.listpack().end(),
        }
    }

    /// The ID of the first entry, deleted or not.
    pub fn first(&self) -> StreamId {
        let mut entries = self.entries();
        entries.read_front().map_or(self.master, |(entry, _)| entry.id)
    }
}

impl Leaf for Node {
    fn count(&self) -> usize {
        self.live()
    }

    fn bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Keyed<StreamId> for Node {
    fn key(&self) -> StreamId {
        self.last
    }

    fn has_key(&self, key: &StreamId) -> bool {
        self.last == *key
    }
}

/// An entry of a stream, to be read where it lies.
#[derive(Clone, Copy)]
pub struct EntryRef<'a> {
    pub id: StreamId,
    listpack: Listpack<'a>,
    flags_at: usize,
    /// Where the fields are if they do not stand with the values.
    fields_at: Option<usize>,
    pairs_at: usize,
    field_count: usize,
}

impl<'a> EntryRef<'a> {
    pub fn field_count(&self) -> usize {
        self.field_count
    }

    /// Fields and values.
    pub fn pairs(&self) -> Pairs<'a> {
        let EntryRef { listpack, fields_at, pairs_at: values_at, field_count: left, .. } = *self;
        Pairs { listpack, fields_at, values_at, left }
    }
}

#[derive(Clone)]
pub struct Pairs<'a> {
    listpack: Listpack<'a>,
    /// Where the next field is if it does not stand before its value.
    fields_at: Option<usize>,
    values_at: usize,
    left: usize,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Element<'a>, Element<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let field_at = self.fields_at.as_mut().unwrap_or(&mut self.values_at);
        let (field, next) = self.listpack.read(*field_at);
        *field_at = next;
        let (value, next) = self.listpack.read(self.values_at);
        self.values_at = next;
        Some((field, value))
    }
}

/// The live entries of a node, from both ends.
#[derive(Clone)]
pub struct NodeEntries<'a> {
    listpack: Listpack<'a>,
    master: StreamId,
    fields_at: usize,
    field_count: usize,
    front: usize,
    back: usize,
}

impl<'a> NodeEntries<'a> {
    /// The entry at a position, and whether it is deleted.
    #[inline]
    fn read(&self, flags_at: usize) -> (EntryRef<'a>, bool) {
        let number = |position: usize| {
            let (element, next) = self.listpack.read(position);
            (int(element), next)
        };
        let (flags, position) = number(flags_at);
        let (ms, position) = number(position);
        let (seq, position) = number(position);
        let id = StreamId {
            ms: self.master.ms.wrapping_add(ms.cast_unsigned()),
            seq: self.master.seq.wrapping_add(seq.cast_unsigned()),
        };
        let is_same = flags & SAME_FIELDS != 0;
        let (field_count, pairs_at) = if is_same {
            (self.field_count, position)
        } else {
            let (count, position) = number(position);
            (usize::try_from(count).expect("it was written or checked"), position)
        };
        let entry = EntryRef {
            id,
            listpack: self.listpack,
            flags_at,
            fields_at: is_same.then_some(self.fields_at),
            pairs_at,
            field_count,
        };
        (entry, flags & DELETED != 0)
    }

    /// Reads the entry at the front and steps over it.
    #[inline]
    fn read_front(&mut self) -> Option<(EntryRef<'a>, bool)> {
        if self.front >= self.back {
            return None;
        }
        let (entry, is_deleted) = self.read(self.front);
        let elements = if entry.fields_at.is_some() { 1 } else { 2 } * entry.field_count;
        self.front = self.listpack.skip(entry.pairs_at, elements + 1);
        Some((entry, is_deleted))
    }

    /// Steps back over the entry at the end and reads it.
    fn read_back(&mut self) -> Option<(EntryRef<'a>, bool)> {
        if self.front >= self.back {
            return None;
        }
        let mut position = self.listpack.previous(self.back)?;
        for _ in 0..count_of(self.listpack.at(position)) {
            position = self.listpack.previous(position)?;
        }
        self.back = position;
        Some(self.read(position))
    }
}

impl<'a> Iterator for NodeEntries<'a> {
    type Item = EntryRef<'a>;

    fn next(&mut self) -> Option<EntryRef<'a>> {
        loop {
            let (entry, is_deleted) = self.read_front()?;
            if !is_deleted {
                return Some(entry);
            }
        }
    }
}

impl DoubleEndedIterator for NodeEntries<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            let (entry, is_deleted) = self.read_back()?;
            if !is_deleted {
                return Some(entry);
            }
        }
    }
}

/// Adds an entry to the elements; its ID is given as the distance from the master's.
fn extend_by_entry(
    bytes: &mut Vec<u8>,
    delta: StreamId,
    pairs: &[&[u8]],
    is_same: bool,
) -> Result<(), TooLong> {
    let fields = pairs.len() / 2;
    let flags = if is_same { SAME_FIELDS } else { 0 };
    let fixed = [flags, delta.ms.cast_signed(), delta.seq.cast_signed()].map(Element::Int);
    if is_same {
        let count = Element::Int((FIXED_ELEMENTS + fields) as i64);
        let values = pairs.iter().skip(1).step_by(2).map(|value| Element::of(value));
        return listpack::extend(bytes, fixed.into_iter().chain(values).chain([count]));
    }
    let count = Element::Int((FIXED_ELEMENTS + 1 + 2 * fields) as i64);
    let pairs = pairs.iter().map(|text| Element::of(text));
    let fixed = fixed.into_iter().chain([Element::Int(fields as i64)]);
    listpack::extend(bytes, fixed.chain(pairs).chain([count]))
}

/// An element that the layout says is an integer.
#[inline]
fn int(element: Element<'_>) -> i64 {
    checked_int(element).expect("it was written or checked")
}

#[inline]
fn checked_int(element: Element<'_>) -> Option<i64> {
    match element {
        Element::Int(value) => Some(value),
        Element::Str(text) => parse_i64(text),
    }
}

fn count_of(element: Element<'_>) -> usize {
    usize::try_from(int(element)).expect("it was written or checked")
}

/// What a walk through the elements of a node finds.
struct Layout {
    /// The ID of the last entry; the master's if there is none.
    last: StreamId,
    /// How many entries there are that are live, and deleted.
    counts: [i64; 2],
    /// Whether the header says so.
    is_counted: bool,
    /// The numbers of the elements that lead back wrongly, with what they should be, in order.
    wrong: Vec<(usize, i64)>,
}

/// The elements of a node from the first to the last, as numbers or to be passed over.
struct Walk<'a> {
    elements: listpack::Iter<'a>,
    /// How many there were before.
    passed: usize,
}

impl Walk<'_> {
    fn number(&mut self) -> Option<i64> {
        self.passed += 1;
        self.elements.next().and_then(|(_, element)| checked_int(element))
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.passed = self.passed.checked_add(count)?;
        count.checked_sub(1).is_none_or(|last| self.elements.nth(last).is_some()).then_some(())
    }

    fn is_at_end(&self) -> bool {
        self.elements.clone().next().is_none()
    }
}

impl Layout {
    /// What the elements are laid out as; `None` if it is not a node.
    fn read(master: StreamId, listpack: Listpack<'_>) -> Option<Layout> {
        let mut walk = Walk { elements: listpack.iter(), passed: 0 };
        let stored = [walk.number()?, walk.number()?];
        let field_count = usize::try_from(walk.number()?).ok()?;
        walk.skip(field_count)?;
        if walk.number()? != 0 {
            return None;
        }
        let (mut last, mut wrong) = (None, Vec::new());
        let mut counts = [0, 0];
        while !walk.is_at_end() {
            let (flags, ms, seq) = (walk.number()?, walk.number()?, walk.number()?);
            if !(0..=DELETED | SAME_FIELDS).contains(&flags) {
                return None;
            }
            counts[usize::from(flags & DELETED != 0)] += 1;
            let id = StreamId {
                ms: master.ms.wrapping_add(ms.cast_unsigned()),
                seq: master.seq.wrapping_add(seq.cast_unsigned()),
            };
            if id < master || last.is_some_and(|last| id <= last) {
                return None;
            }
            last = Some(id);
            let (rest, fixed) = match flags & SAME_FIELDS {
                0 => (usize::try_from(walk.number()?).ok()?.checked_mul(2)?, FIXED_ELEMENTS + 1),
                _ => (field_count, FIXED_ELEMENTS),
            };
            walk.skip(rest)?;
            let (at, elements) = (walk.passed, i64::try_from(rest + fixed).ok()?);
            if walk.number()? != elements {
                wrong.push((at, elements));
            }
        }
        let is_counted = stored == counts && last.is_some();
        Some(Layout { last: last.unwrap_or(master), counts, is_counted, wrong })
    }

    /// The same elements with the right counts.
    fn mended(&self, listpack: Listpack<'_>) -> Result<Vec<u8>, TooLong> {
        let mut bytes = listpack::new_empty();
        let mut wrong = self.wrong.iter().peekable();
        let elements = listpack.iter().enumerate().skip(self.counts.len());
        let elements = elements.map(|(number, (_, element))| {
            let right = wrong.next_if(|(place, _)| *place == number);
            right.map_or(element, |(_, count)| Element::Int(*count))
        });
        listpack::extend(&mut bytes, self.counts.map(Element::Int).into_iter().chain(elements))?;
        Ok(bytes)
    }
}
