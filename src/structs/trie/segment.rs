//! Segments, the leaves of the trie: up to 48 items whose hashes share their first bits.
//!
//! A lookup compares 8 bits of the hash with all the tags at once, then follows a slot pointer. The
//! tags lie on one cache line with the reference count and the length, so that line, one line of
//! slots and the item are all that a lookup or an overwrite touches. An item prefers a line of
//! slots that its tag names, so a lookup may fetch that line before it has seen the tags: one cache
//! miss less in the chain. The tag of an empty slot is 0 and no item's tag is 0.
//!
//! The allocation comes in steps of eight slots, which keeps the memory per key flat whatever the
//! table's size. The steps are variants of an enum over a const-generic struct, which is safe code;
//! a header with a hand-made tail of slots is refused, because it is not.
//!
//! The tail remembers the next few hash bits of the items (`planes`), so that only one split in
//! five has to hash the keys again, with the cache miss per item that costs.
//!
//! ```text
//! byte 0      8     16    64        64 + 8 * slots
//!      count  head  tags  slots ..  tail               (count: triomphe's reference count)
//! ```
//! With a size class that is a multiple of 64, jemalloc places segments on cache lines. Invariants:
//! a slot is filled exactly if its tag is not 0; `len` slots are; only a full segment of
//! `MAX_DEPTH` has overflow items.

use triomphe::Arc;

use super::Item;
use super::bits::matching;
use super::tags::line_of;
use crate::structs::pins;
use crate::structs::prefetch;

/// The most items a segment holds before it splits.
pub(super) const CAPACITY: usize = 48;

/// How many slots there are on a cache line.
pub(super) const LINE: usize = 8;

/// How many hash bits may be used up on the way to a segment. Items that share them all go to the
/// segment's overflow list; with a keyed hash that never happens, but it must not break anything.
pub(super) const MAX_DEPTH: u8 = 40;

/// How many hash bits after the segment's depth are remembered for each item.
const PLANES: usize = 5;

/// The 8 bits of a hash that a slot's tag keeps. Zero marks an empty slot.
#[inline(always)]
pub(super) fn tag_of(hash: u64) -> u8 {
    (hash as u8).max(1)
}

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Head {
    /// Filled slots.
    len: u8,
    /// How many hash bits all the items share.
    depth: u8,
    /// How many of the planes are right.
    known: u8,
}

#[derive(Clone)]
struct Tail<T> {
    overflow: Option<Box<Overflow<T>>>,
    /// Bit i of plane p is the hash bit number `depth + p`, from the top, of the item in slot i.
    planes: [u64; PLANES],
}

/// Tags with their items.
#[derive(Clone)]
struct Overflow<T> {
    items: Vec<(u8, T)>,
}

#[repr(C)]
pub(super) struct Segment<T, const N: usize> {
    head: Head,
    tags: [u8; CAPACITY],
    slots: [Option<T>; N],
    tail: Tail<T>,
}

/// A shared segment of any capacity.
pub(super) enum Leaf<T> {
    C8(Arc<Segment<T, 8>>),
    C16(Arc<Segment<T, 16>>),
    C24(Arc<Segment<T, 24>>),
    C32(Arc<Segment<T, 32>>),
    C40(Arc<Segment<T, 40>>),
    C48(Arc<Segment<T, 48>>),
}

/// Does the same with a segment of whichever capacity.
macro_rules! with_segment {
    ($leaf:expr, $segment:ident => $body:expr) => {
        match $leaf {
            Leaf::C8($segment) => $body,
            Leaf::C16($segment) => $body,
            Leaf::C24($segment) => $body,
            Leaf::C32($segment) => $body,
            Leaf::C40($segment) => $body,
            Leaf::C48($segment) => $body,
        }
    };
}

/// A segment to read from, its capacity forgotten.
pub(super) struct View<'a, T> {
    head: &'a Head,
    tags: &'a [u8; CAPACITY],
    slots: &'a [Option<T>],
    tail: &'a Tail<T>,
}

/// A segment to write to, its capacity forgotten.
pub(super) struct ViewMut<'a, T> {
    head: &'a mut Head,
    tags: &'a mut [u8; CAPACITY],
    slots: &'a mut [Option<T>],
    tail: &'a mut Tail<T>,
}

impl<T: Item> Leaf<T> {
    /// An empty segment with room for `len` items.
    pub(super) fn empty(len: usize, depth: u8) -> Leaf<T> {
        match len {
            0..=8 => Leaf::C8(Segment::shared(depth)),
            9..=16 => Leaf::C16(Segment::shared(depth)),
            17..=24 => Leaf::C24(Segment::shared(depth)),
            25..=32 => Leaf::C32(Segment::shared(depth)),
            33..=40 => Leaf::C40(Segment::shared(depth)),
            _ => Leaf::C48(Segment::shared(depth)),
        }
    }

    #[inline(always)]
    pub(super) fn view(&self) -> View<'_, T> {
        with_segment!(self, segment => View {
            head: &segment.head,
            tags: &segment.tags,
            slots: &segment.slots,
            tail: &segment.tail,
        })
    }

    /// Write access; copies the segment first if a snapshot shares it.
    #[inline]
    pub(super) fn view_mut(&mut self) -> ViewMut<'_, T> {
        with_segment!(self, segment => {
            let segment = pins::make_mut(segment, size_of_val);
            ViewMut {
                head: &mut segment.head,
                tags: &mut segment.tags,
                slots: &mut segment.slots,
                tail: &mut segment.tail,
            }
        })
    }

    pub(super) fn is_unique(&self) -> bool {
        with_segment!(self, segment => Arc::is_unique(segment))
    }

    pub(super) fn capacity(&self) -> usize {
        self.view().slots.len()
    }

    /// The size of the allocation.
    pub(super) fn bytes(&self) -> usize {
        (64 + size_of::<Tail<T>>() + 8 * self.capacity()).next_multiple_of(64)
    }

    /// Whether another item does not fit without growing or splitting. The deepest segments always
    /// have room, in their overflow list.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        let view = self.view();
        let len = view.head.len as usize;
        len == view.slots.len() && (len < CAPACITY || view.head.depth < MAX_DEPTH)
    }

    /// Fetches the tags, and the slots where the item of a tag is likely to be.
    #[inline(always)]
    pub(super) fn prefetch(&self, tag: u8) {
        let view = self.view();
        prefetch::value(view.head);
        view.prefetch_slots(tag);
    }

    /// Fetches the reference count, which has a line with the tags.
    pub(super) fn prefetch_count(&self) {
        prefetch::value(self.view().head);
    }

    /// Adds a line of slots to a full segment.
    pub(super) fn grow(&mut self) {
        let capacity = self.capacity();
        let mut fresh = Leaf::empty(capacity + 1, 0);
        let mut new = fresh.view_mut();
        let unique = self.is_unique();
        let old = self.view();
        *new.head = *old.head;
        *new.tags = *old.tags;
        new.tail.planes = old.tail.planes;
        if unique {
            let old = self.view_mut();
            for (to, from) in new.slots.iter_mut().zip(old.slots) {
                *to = from.take();
            }
        } else {
            pins::report(self.bytes());
            old.prefetch_items();
            for (to, from) in new.slots.iter_mut().zip(old.slots) {
                to.clone_from(from);
            }
        }
        new.fill_last_line(capacity);
        *self = fresh;
    }

    /// Makes the allocation smaller if the items have become much fewer than the slots.
    pub(super) fn shrink(&mut self) {
        let len = self.view().head.len as usize;
        if len + LINE + 4 > self.capacity() || len == 0 {
            return;
        }
        let mut fresh = Leaf::empty(len, self.view().head.depth);
        fresh.view_mut().take_all(self.view_mut());
        *self = fresh;
    }

    /// Splits a segment by the next hash bit; the upper half is returned.
    pub(super) fn split(&mut self, hash: impl Fn(&[u8]) -> u64) -> Leaf<T> {
        let mut old = self.view_mut();
        old.know_planes(hash);
        let depth = old.head.depth + 1;
        let ones = old.tail.planes[0] & !matching(old.tags, 0);
        let upper_len = ones.count_ones() as usize;
        let len = old.head.len as usize;
        let mut lower = Leaf::empty(len - upper_len + 1, depth);
        let mut upper = Leaf::empty(upper_len + 1, depth);
        let mut halves = [lower.view_mut(), upper.view_mut()];
        let known = old.head.known - 1;
        for half in &mut halves {
            half.head.known = known;
        }
        for (from, slot) in old.slots.iter_mut().enumerate() {
            let half = &mut halves[(ones >> from & 1) as usize];
            let Some(item) = slot.take() else { continue };
            let at = half.place(item, old.tags[from]);
            for plane in 0..known as usize {
                half.tail.planes[plane] |= (old.tail.planes[plane + 1] >> from & 1) << at;
            }
        }
        *self = lower;
        upper
    }

    /// Takes in the items of a segment whose hashes differ from this one's in the last bit that
    /// each shares. Both are sparse, so neither has an overflow list.
    pub(super) fn join(&mut self, mut upper: Leaf<T>) {
        let len = self.view().len() + upper.view().len();
        let mut joined = Leaf::empty(len, self.view().depth() - 1);
        let mut to = joined.view_mut();
        to.take_all(self.view_mut());
        to.take_all(upper.view_mut());
        *self = joined;
    }
}

impl<T> Clone for Leaf<T> {
    #[inline]
    fn clone(&self) -> Leaf<T> {
        match self {
            Leaf::C8(segment) => Leaf::C8(segment.clone()),
            Leaf::C16(segment) => Leaf::C16(segment.clone()),
            Leaf::C24(segment) => Leaf::C24(segment.clone()),
            Leaf::C32(segment) => Leaf::C32(segment.clone()),
            Leaf::C40(segment) => Leaf::C40(segment.clone()),
            Leaf::C48(segment) => Leaf::C48(segment.clone()),
        }
    }
}

impl<T, const N: usize> Segment<T, N> {
    fn shared(depth: u8) -> Arc<Segment<T, N>> {
        Arc::new(Segment {
            head: Head { len: 0, depth, known: PLANES as u8 },
            tags: [0; CAPACITY],
            slots: [const { None }; N],
            tail: Tail { overflow: None, planes: [0; PLANES] },
        })
    }
}

impl<T: Item, const N: usize> Clone for Segment<T, N> {
    fn clone(&self) -> Segment<T, N> {
        self.slots.iter().flatten().for_each(Item::prefetch);
        Segment {
            head: self.head,
            tags: self.tags,
            slots: std::array::from_fn(|at| self.slots[at].clone()),
            tail: self.tail.clone(),
        }
    }
}

impl<'a, T: Item> View<'a, T> {
    pub(super) fn len(&self) -> usize {
        self.head.len as usize + self.overflow().len()
    }

    pub(super) fn depth(&self) -> u8 {
        self.head.depth
    }

    pub(super) fn slots(&self) -> &'a [Option<T>] {
        self.slots
    }

    pub(super) fn overflow(&self) -> &'a [(u8, T)] {
        self.tail.overflow.as_deref().map_or(&[], |list| &list.items)
    }

    /// Fetches the slots where the item of a tag is likely to be.
    #[inline(always)]
    fn prefetch_slots(&self, tag: u8) {
        if let Some(slot) = self.slots.get(LINE * line_of(tag, self.slots.len() / LINE)) {
            prefetch::value(slot);
        }
    }

    /// Where a key's item is, if it is in a slot.
    #[inline(always)]
    pub(super) fn find(&self, tag: u8, key: &[u8]) -> Option<usize> {
        // The slots are fetched along with the tags, not after them.
        self.prefetch_slots(tag);
        let mut candidates = matching(self.tags, tag);
        while candidates != 0 {
            let at = candidates.trailing_zeros() as usize;
            if let Some(Some(item)) = self.slots.get(at)
                && item.key() == key
            {
                return Some(at);
            }
            candidates &= candidates - 1;
        }
        None
    }

    /// Where a key's item is, if it is in the overflow list: positions from `CAPACITY` on.
    #[cold]
    pub(super) fn find_overflow(&self, key: &[u8]) -> Option<usize> {
        self.overflow().iter().position(|(_, item)| item.key() == key).map(|at| at + CAPACITY)
    }

    /// The item at a position.
    #[inline(always)]
    pub(super) fn item(&self, at: usize) -> Option<&'a T> {
        match self.slots.get(at) {
            Some(slot) => slot.as_ref(),
            None => self.overflow().get(at.checked_sub(CAPACITY)?).map(|(_, item)| item),
        }
    }

    /// The first slot whose tag matches.
    #[inline(always)]
    pub(super) fn candidate(&self, tag: u8) -> Option<&'a Option<T>> {
        self.slots.get(matching(self.tags, tag).trailing_zeros() as usize)
    }

    /// All items, in no order.
    #[inline]
    pub(super) fn items(&self) -> impl Iterator<Item = &'a T> + use<'a, T> {
        self.slots.iter().flatten().chain(self.overflow().iter().map(|(_, item)| item))
    }

    /// Starts fetching all the items, for a caller that is about to read or clone each.
    pub(super) fn prefetch_items(&self) {
        self.items().for_each(Item::prefetch);
    }
}

impl<'a, T: Item> ViewMut<'a, T> {
    pub(super) fn as_view(&self) -> View<'_, T> {
        View { head: self.head, tags: self.tags, slots: self.slots, tail: self.tail }
    }

    /// Adds an item; the caller has seen to it that there is room.
    #[inline]
    pub(super) fn push(mut self, item: T, hash: u64) -> &'a mut T {
        if self.head.len as usize == CAPACITY {
            return self.push_overflow(item, tag_of(hash));
        }
        let next_bits = hash << self.head.depth;
        let at = self.place(item, tag_of(hash));
        for plane in 0..PLANES {
            let word = &mut self.tail.planes[plane];
            *word = *word & !(1 << at) | (next_bits << plane >> 63) << at;
        }
        self.slots[at].as_mut().expect("an item was just placed")
    }

    #[cold]
    fn push_overflow(self, item: T, tag: u8) -> &'a mut T {
        let list = self.tail.overflow.get_or_insert_with(|| Box::new(Overflow { items: vec![] }));
        list.items.push((tag, item));
        &mut list.items.last_mut().expect("an item was just pushed").1
    }

    /// Puts an item in a free slot, in the line its tag prefers if there is one, and returns where.
    /// What the planes say of the slot is left to the caller.
    #[inline]
    fn place(&mut self, item: T, tag: u8) -> usize {
        let free = matching(self.tags, 0) & u64::MAX >> (64 - self.slots.len());
        let preferred = free & 0xff << (LINE * line_of(tag, self.slots.len() / LINE));
        let at = if preferred != 0 { preferred } else { free }.trailing_zeros() as usize;
        self.head.len += 1;
        self.tags[at] = tag;
        self.slots[at] = Some(item);
        at
    }

    /// Takes all the items of a segment, whose hashes are not at hand.
    fn take_all(&mut self, from: ViewMut<'_, T>) {
        self.head.known = 0;
        for (slot, tag) in from.slots.iter_mut().zip(from.tags.iter()) {
            if let Some(item) = slot.take() {
                self.place(item, *tag);
            }
        }
    }

    /// After growth from `capacity`: moves the items there that prefer the new line.
    fn fill_last_line(&mut self, capacity: usize) {
        let lines = self.slots.len() / LINE;
        let mut to = capacity;
        for from in 0..capacity {
            if to < self.slots.len() && line_of(self.tags[from], lines) == lines - 1 {
                self.slots.swap(from, to);
                self.tags.swap(from, to);
                for plane in &mut self.tail.planes {
                    *plane = *plane & !(1 << to) | (*plane >> from & 1) << to;
                }
                to += 1;
            }
        }
    }

    #[inline]
    pub(super) fn into_item(self, at: usize) -> Option<&'a mut T> {
        if at < CAPACITY {
            return self.slots.get_mut(at)?.as_mut();
        }
        self.tail.overflow.as_mut()?.items.get_mut(at - CAPACITY).map(|(_, item)| item)
    }

    /// Takes the item at a position that a find gave; one of the overflow list may move there.
    pub(super) fn remove(&mut self, at: usize) -> T {
        if at >= CAPACITY {
            return self.pop_overflow(Some(at - CAPACITY)).expect("a found item is there").1;
        }
        let (tag, successor) =
            self.pop_overflow(None).map_or((0, None), |(t, item)| (t, Some(item)));
        self.head.len -= u8::from(successor.is_none());
        self.tags[at] = tag;
        std::mem::replace(&mut self.slots[at], successor).expect("a found slot is filled")
    }

    /// Takes the overflow item at a position, or the last one.
    fn pop_overflow(&mut self, at: Option<usize>) -> Option<(u8, T)> {
        let list = self.tail.overflow.as_mut()?;
        let taken = match at {
            Some(at) => Some(list.items.swap_remove(at)),
            None => list.items.pop(),
        };
        if list.items.is_empty() {
            self.tail.overflow = None;
        }
        taken
    }

    /// Hashes the items again if the next hash bit of each is not known.
    fn know_planes(&mut self, hash: impl Fn(&[u8]) -> u64) {
        if self.head.known > 0 {
            return;
        }
        self.as_view().prefetch_items();
        self.tail.planes = [0; PLANES];
        self.head.known = PLANES as u8;
        for (at, slot) in self.slots.iter().enumerate() {
            let Some(item) = slot else { continue };
            let next_bits = hash(item.key()) << self.head.depth;
            for plane in 0..PLANES {
                self.tail.planes[plane] |= (next_bits << plane >> 63) << at;
            }
        }
    }
}
