//! Segments, the leaves of the trie: up to 64 items whose hashes share their first bits.
//!
//! A lookup compares 8 bits of the hash with one cache line of tags, then follows a slot pointer.
//! Items lie densely from slot 0, so there is no bitmap of used slots; the tag of an empty slot is
//! 0 and no item's tag is 0, so a lookup needs neither the length nor any other part of the head.
//! The allocation comes in steps (16, 32, 40, 48, 64 slots), which keeps the memory per key flat
//! whatever the table's size. The steps are variants of an enum over a const-generic struct, which
//! is safe code; a header with a hand-made tail of slots is refused, because it is not.
//!
//! The head remembers the next few hash bits of its items (`planes`), so that only one split in
//! five has to hash the keys again, with the cache miss per item that costs.
//!
//! ```text
//! byte 0      8        64        128
//!      count  head     tags      slots ..          (count: triomphe's reference count)
//! ```
//! With a size that is a multiple of 64 jemalloc places segments on cache lines, so tags are one
//! line. Invariants: slots `..len` are filled and the others empty; `tags[i]` is the tag of slot i
//! and 0 from `len` on; only a full segment of `MAX_DEPTH` has overflow items.

use triomphe::Arc;

use super::Item;
use super::tags::matching;
use crate::structs::prefetch;

/// The most items a segment holds before it splits.
pub(super) const CAPACITY: usize = 64;

/// How many hash bits may be used up on the way to a segment. Items that share them all go to the
/// segment's overflow list; with a keyed hash that never happens, but it must not break anything.
pub(super) const MAX_DEPTH: u8 = 45;

/// How many hash bits after the segment's depth the head remembers for each item.
const PLANES: usize = 5;

/// The 8 bits of a hash that a slot's tag keeps. Zero marks an empty slot.
#[inline(always)]
pub(super) fn tag_of(hash: u64) -> u8 {
    (hash as u8).max(1)
}

#[repr(C)]
pub(super) struct Head<T> {
    /// Filled slots.
    len: u8,
    /// How many hash bits all the items share.
    depth: u8,
    /// How many of the planes are right.
    known: u8,
    overflow: Option<Box<Overflow<T>>>,
    /// Bit i of plane p is the hash bit number `depth + p`, from the top, of the item in slot i.
    planes: [u64; PLANES],
}

#[derive(Clone)]
struct Overflow<T> {
    items: Vec<(u8, T)>,
}

#[repr(C)]
pub(super) struct Segment<T, const N: usize> {
    head: Head<T>,
    tags: [u8; CAPACITY],
    slots: [Option<T>; N],
}

/// A shared segment of any capacity.
pub(super) enum Leaf<T> {
    C16(Arc<Segment<T, 16>>),
    C32(Arc<Segment<T, 32>>),
    C40(Arc<Segment<T, 40>>),
    C48(Arc<Segment<T, 48>>),
    C64(Arc<Segment<T, 64>>),
}

/// Does the same with a segment of whichever capacity.
macro_rules! with_segment {
    ($leaf:expr, $segment:ident => $body:expr) => {
        match $leaf {
            Leaf::C16($segment) => $body,
            Leaf::C32($segment) => $body,
            Leaf::C40($segment) => $body,
            Leaf::C48($segment) => $body,
            Leaf::C64($segment) => $body,
        }
    };
}

/// A segment to read from, its capacity forgotten.
pub(super) struct View<'a, T> {
    head: &'a Head<T>,
    tags: &'a [u8; CAPACITY],
    slots: &'a [Option<T>],
}

/// A segment to write to, its capacity forgotten.
pub(super) struct ViewMut<'a, T> {
    head: &'a mut Head<T>,
    tags: &'a mut [u8; CAPACITY],
    slots: &'a mut [Option<T>],
}

impl<T: Item> Leaf<T> {
    /// An empty segment with room for `len` items.
    pub(super) fn empty(len: usize, depth: u8) -> Leaf<T> {
        match len {
            0..=16 => Leaf::C16(Segment::shared(depth)),
            17..=32 => Leaf::C32(Segment::shared(depth)),
            33..=40 => Leaf::C40(Segment::shared(depth)),
            41..=48 => Leaf::C48(Segment::shared(depth)),
            _ => Leaf::C64(Segment::shared(depth)),
        }
    }

    #[inline(always)]
    pub(super) fn view(&self) -> View<'_, T> {
        with_segment!(self, segment => View {
            head: &segment.head,
            tags: &segment.tags,
            slots: &segment.slots,
        })
    }

    /// Write access; copies the segment first if a snapshot shares it.
    #[inline]
    pub(super) fn view_mut(&mut self) -> ViewMut<'_, T> {
        with_segment!(self, segment => {
            let segment = Arc::make_mut(segment);
            ViewMut {
                head: &mut segment.head,
                tags: &mut segment.tags,
                slots: &mut segment.slots,
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
        128 + 8 * self.capacity()
    }

    /// Whether another item does not fit without growing or splitting. The deepest segments always
    /// have room, in their overflow list.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        let view = self.view();
        let len = view.head.len as usize;
        len == view.slots.len() && (len < CAPACITY || view.head.depth < MAX_DEPTH)
    }

    /// Fetches what a lookup reads first.
    #[inline(always)]
    pub(super) fn prefetch(&self) {
        let view = self.view();
        prefetch::value(view.head);
        prefetch::value(view.tags);
    }

    /// Moves the items to a segment of another capacity, which must hold them.
    pub(super) fn resize(&mut self, len: usize) {
        let old = self.view();
        debug_assert!(old.head.len as usize <= len && old.head.overflow.is_none());
        let mut fresh = Leaf::empty(len, old.head.depth);
        let new = fresh.view_mut();
        new.head.len = old.head.len;
        new.head.known = old.head.known;
        new.head.planes = old.head.planes;
        *new.tags = *old.tags;
        if self.is_unique() {
            let old = self.view_mut();
            for (to, from) in new.slots.iter_mut().zip(old.slots.iter_mut()) {
                *to = from.take();
            }
        } else {
            old.prefetch_items();
            for (to, from) in new.slots.iter_mut().zip(old.slots) {
                to.clone_from(from);
            }
        }
        *self = fresh;
    }

    /// Makes the allocation smaller if the items have become much fewer than the slots.
    pub(super) fn shrink(&mut self) {
        let view = self.view();
        let (len, capacity) = (view.head.len as usize, view.slots.len());
        let smaller = match capacity {
            64 => 48,
            48 => 40,
            40 => 32,
            _ => 16,
        };
        if capacity > 16 && len + 4 <= smaller {
            self.resize(len);
        }
    }

    /// Splits a full segment by the next hash bit; the upper half is returned.
    pub(super) fn split(&mut self, hash: impl Fn(&[u8]) -> u64) -> Leaf<T> {
        let mut old = self.view_mut();
        old.know_planes(hash);
        let depth = old.head.depth + 1;
        let ones = old.head.planes[0];
        let upper_len = ones.count_ones() as usize;
        let len = old.head.len as usize;
        let mut lower = Leaf::empty(len - upper_len + 1, depth);
        let mut upper = Leaf::empty(upper_len + 1, depth);
        {
            let mut halves = [lower.view_mut(), upper.view_mut()];
            let known = old.head.known - 1;
            for half in &mut halves {
                half.head.known = known;
            }
            for at in 0..len {
                let half = &mut halves[(ones >> at & 1) as usize];
                let to = half.head.len as usize;
                half.head.len += 1;
                half.tags[to] = old.tags[at];
                half.slots[to] = old.slots[at].take();
                for plane in 0..known as usize {
                    half.head.planes[plane] |= (old.head.planes[plane + 1] >> at & 1) << to;
                }
            }
        }
        old.head.len = 0;
        *self = lower;
        upper
    }

    /// Takes in the items of a segment whose hashes differ in the last bit both segments share
    /// with nobody else. Both are sparse, so neither has an overflow list.
    pub(super) fn join(&mut self, mut upper: Leaf<T>) {
        let len = self.view().len() + upper.view().len();
        let mut joined = Leaf::empty(len, self.view().depth() - 1);
        let mut to = joined.view_mut();
        for half in [&mut *self, &mut upper] {
            let from = half.view_mut();
            for (slot, tag) in from.slots.iter_mut().zip(from.tags.iter()) {
                if let Some(item) = slot.take() {
                    to.push_tagged(item, *tag);
                }
            }
            from.head.len = 0;
        }
        *self = joined;
    }
}

impl<T> Clone for Leaf<T> {
    #[inline]
    fn clone(&self) -> Leaf<T> {
        match self {
            Leaf::C16(segment) => Leaf::C16(segment.clone()),
            Leaf::C32(segment) => Leaf::C32(segment.clone()),
            Leaf::C40(segment) => Leaf::C40(segment.clone()),
            Leaf::C48(segment) => Leaf::C48(segment.clone()),
            Leaf::C64(segment) => Leaf::C64(segment.clone()),
        }
    }
}

impl<T, const N: usize> Segment<T, N> {
    fn shared(depth: u8) -> Arc<Segment<T, N>> {
        let head = Head { len: 0, depth, known: PLANES as u8, overflow: None, planes: [0; PLANES] };
        Arc::new(Segment { head, tags: [0; CAPACITY], slots: [const { None }; N] })
    }
}

impl<T: Item, const N: usize> Clone for Segment<T, N> {
    fn clone(&self) -> Segment<T, N> {
        View { head: &self.head, tags: &self.tags, slots: &self.slots }.prefetch_items();
        let head = Head {
            len: self.head.len,
            depth: self.head.depth,
            known: self.head.known,
            overflow: self.head.overflow.clone(),
            planes: self.head.planes,
        };
        Segment { head, tags: self.tags, slots: std::array::from_fn(|at| self.slots[at].clone()) }
    }
}

impl<'a, T: Item> View<'a, T> {
    pub(super) fn len(&self) -> usize {
        self.head.len as usize + self.overflow().len()
    }

    pub(super) fn depth(&self) -> u8 {
        self.head.depth
    }

    pub(super) fn overflow(&self) -> &'a [(u8, T)] {
        self.head.overflow.as_deref().map_or(&[], |list| &list.items)
    }

    pub(super) fn slots(&self) -> &'a [Option<T>] {
        &self.slots[..self.head.len as usize]
    }

    /// Where a key's item is, if it is in a slot.
    #[inline(always)]
    pub(super) fn find(&self, tag: u8, key: &[u8]) -> Option<usize> {
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

    /// The item at a position that `find` or `find_overflow` gave.
    #[inline(always)]
    pub(super) fn item(&self, at: usize) -> Option<&'a T> {
        match self.slots.get(at) {
            Some(slot) if at < CAPACITY => slot.as_ref(),
            _ => self.overflow().get(at.checked_sub(CAPACITY)?).map(|(_, item)| item),
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
        self.slots().iter().flatten().chain(self.overflow().iter().map(|(_, item)| item))
    }

    /// Starts fetching all the items, for a caller that is about to read or clone each.
    pub(super) fn prefetch_items(&self) {
        self.items().for_each(Item::prefetch);
    }
}

impl<'a, T: Item> ViewMut<'a, T> {
    pub(super) fn as_view(&self) -> View<'_, T> {
        View { head: self.head, tags: self.tags, slots: self.slots }
    }

    /// Adds an item; the caller has seen to it that there is room.
    #[inline]
    pub(super) fn push(self, item: T, hash: u64) -> &'a mut T {
        let at = self.head.len as usize;
        if at == CAPACITY {
            return self.push_overflow(item, tag_of(hash));
        }
        let next_bits = hash << self.head.depth;
        for plane in 0..PLANES {
            let bit = next_bits << plane >> 63;
            let word = &mut self.head.planes[plane];
            *word = *word & !(1 << at) | bit << at;
        }
        self.head.len += 1;
        self.tags[at] = tag_of(hash);
        self.slots[at].insert(item)
    }

    #[cold]
    fn push_overflow(self, item: T, tag: u8) -> &'a mut T {
        let list = self.head.overflow.get_or_insert_with(|| Box::new(Overflow { items: vec![] }));
        list.items.push((tag, item));
        &mut list.items.last_mut().expect("an item was just pushed").1
    }

    /// Adds an item whose hash is not at hand.
    fn push_tagged(&mut self, item: T, tag: u8) {
        let at = self.head.len as usize;
        self.head.known = 0;
        self.head.len += 1;
        self.tags[at] = tag;
        self.slots[at] = Some(item);
    }

    #[inline]
    pub(super) fn into_item(self, at: usize) -> Option<&'a mut T> {
        if at < CAPACITY {
            return self.slots.get_mut(at)?.as_mut();
        }
        self.head.overflow.as_mut()?.items.get_mut(at - CAPACITY).map(|(_, item)| item)
    }

    /// Takes the item at a position that a find gave; another item moves to its place.
    pub(super) fn swap_remove(&mut self, at: usize) -> T {
        if at >= CAPACITY {
            return self.pop_overflow(Some(at - CAPACITY)).expect("a found item is there").1;
        }
        if let Some((tag, item)) = self.pop_overflow(None) {
            self.tags[at] = tag;
            return self.slots[at].replace(item).expect("a found slot is filled");
        }
        let last = self.head.len as usize - 1;
        self.head.len -= 1;
        self.tags[at] = self.tags[last];
        self.tags[last] = 0;
        for plane in &mut self.head.planes {
            *plane = *plane & !(1 << at) | (*plane >> last & 1) << at;
        }
        let moved = self.slots[last].take();
        if at == last {
            return moved.expect("a found slot is filled");
        }
        std::mem::replace(&mut self.slots[at], moved).expect("a found slot is filled")
    }

    /// Takes the overflow item at a position, or the last one.
    fn pop_overflow(&mut self, at: Option<usize>) -> Option<(u8, T)> {
        let list = self.head.overflow.as_mut()?;
        let taken = match at {
            Some(at) => Some(list.items.swap_remove(at)),
            None => list.items.pop(),
        };
        if list.items.is_empty() {
            self.head.overflow = None;
        }
        taken
    }

    /// Hashes the items again if the next hash bit of each is not known.
    fn know_planes(&mut self, hash: impl Fn(&[u8]) -> u64) {
        if self.head.known > 0 {
            return;
        }
        self.as_view().prefetch_items();
        self.head.planes = [0; PLANES];
        self.head.known = PLANES as u8;
        for (at, item) in self.slots.iter().flatten().enumerate() {
            let next_bits = hash(item.key()) << self.head.depth;
            for plane in 0..PLANES {
                self.head.planes[plane] |= (next_bits << plane >> 63) << at;
            }
        }
    }
}
