//! Walks: iteration over a snapshot, SCAN, and the choice of a random item.
//!
//! All go by hash order. A position is the upper 48 bits of a hash; no segment is deeper than 40
//! bits, so the items of one position are always in one segment. A cursor is the number of a cell,
//! which is all positions that begin with the same bits, and a page of a SCAN ends between two
//! cells. How many bits those are is the hash's to say, since clients keep cursors in small numbers
//! ([`super::ItemHash::cursor_bits`]). Since a cell means the same whatever splits and joins happen
//! between two calls, an item that is there throughout a SCAN is seen exactly once. The alternative
//! refused is a cursor made of a bucket number, which a resize either repeats or loses.

use super::inner::{Inner, LEVEL_BITS, LEVELS, Node, cell_of};
use super::segment::{CAPACITY, View};
use super::{Item, ItemHash as _, Prefix, Trie};
use std::ops::Range;

pub(super) const POSITION_BITS: u32 = 48;
const POSITIONS: u64 = 1 << POSITION_BITS;

/// How often a random choice is drawn again before it falls back on counting, which only a hash
/// function that does not spread makes necessary.
const MAX_DRAWS: usize = 128;

fn position_of(hash: u64) -> u64 {
    hash >> (64 - POSITION_BITS)
}

/// An iterator over all items, segment by segment in hash order.
pub struct Iter<'a, T> {
    /// The kids that are still to come, of each node on the way.
    kids: Vec<std::slice::Iter<'a, Node<T>>>,
    slots: std::slice::Iter<'a, Option<T>>,
    overflow: std::slice::Iter<'a, (u8, T)>,
}

impl<'a, T: Item> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(item) = self.slots.by_ref().flatten().next() {
                return Some(item);
            }
            if let Some((_, item)) = self.overflow.next() {
                return Some(item);
            }
            match self.kids.last_mut()?.next() {
                None => drop(self.kids.pop()),
                Some(Node::Inner(child)) => self.kids.push(child.kids.iter()),
                Some(Node::Leaf(leaf)) => {
                    if let Some(next) = self.kids.last().and_then(|kids| kids.as_slice().first()) {
                        next.prefetch_count();
                    }
                    let view = leaf.view();
                    view.prefetch_items();
                    self.slots = view.slots().iter();
                    self.overflow = view.overflow().iter();
                }
            }
        }
    }
}

impl<T: Item> Trie<T> {
    pub fn iter(&self) -> Iter<'_, T> {
        let kids = vec![self.root.kids.iter()];
        Iter { kids, slots: [].iter(), overflow: [].iter() }
    }

    /// Visits about `budget` items in hash order, from a cursor on, and returns the cursor to go on
    /// from, or 0 after the last. It may be called with long pauses: what is there from the first
    /// call to the last is visited exactly once, whatever changes between.
    pub fn scan(&self, from: u64, budget: usize, visit: impl FnMut(&T)) -> u64 {
        self.scan_positions(0..POSITIONS, from, budget, visit)
    }

    /// The same with the items whose hashes begin with a prefix. A cursor before them is one at
    /// their begin.
    pub fn scan_prefix(
        &self,
        prefix: Prefix,
        from: u64,
        budget: usize,
        visit: impl FnMut(&T),
    ) -> u64 {
        let first = position_of(prefix.hash_at(0));
        let last = position_of(prefix.hash_at(u64::MAX));
        self.scan_positions(first..last + 1, from, budget, visit)
    }

    fn scan_positions(
        &self,
        range: Range<u64>,
        from: u64,
        budget: usize,
        mut visit: impl FnMut(&T),
    ) -> u64 {
        let below_cell = POSITION_BITS - T::Hash::cursor_bits(self.secret);
        let cell_of = |position: u64| position >> below_cell;
        let from = from.min(cell_of(POSITIONS)) << below_cell;
        let mut position = from.max(range.start);
        let mut left = budget.max(1);
        // The cell that has been begun; it is seen to its end, whatever is left.
        let mut begun = None;
        let mut sorted: Vec<(u64, &T)> = Vec::with_capacity(CAPACITY);
        while position < range.end {
            let (view, end) = self.segment_at(position);
            view.prefetch_items();
            let hashed = view.items().map(|item| (position_of(self.hash(item.key()).bits()), item));
            sorted.extend(hashed.filter(|(at, _)| (position..range.end).contains(at)));
            if sorted.len() > left {
                sorted.sort_unstable_by_key(|(at, _)| *at);
            }
            // An empty segment uses budget too, so that a sparse trie cannot hold the caller up.
            left = left.saturating_sub(usize::from(sorted.is_empty()));
            for (at, item) in sorted.drain(..) {
                if left == 0 && begun != Some(cell_of(at)) {
                    return cell_of(at);
                }
                visit(item);
                begun = Some(cell_of(at));
                left = left.saturating_sub(1);
            }
            position = end;
            if left == 0 && cell_of(position) << below_cell == position {
                break;
            }
            begun = Some(cell_of(position - 1));
        }
        if position >= range.end { 0 } else { cell_of(position) }
    }

    /// An item chosen with the same probability as any other. `random` draws a number below its
    /// argument.
    pub fn random(&self, random: &mut impl FnMut(u64) -> u64) -> Option<&T> {
        if self.is_empty() {
            return None;
        }
        let depth = self.stats().depth as u32;
        for _ in 0..MAX_DRAWS {
            // Space is cut into cells as small as the deepest segment's. A segment is chosen if its
            // first cell is drawn, and then a slot, so all slots have the same chance.
            let hash = if depth == 0 { 0 } else { random(1 << depth) << (64 - depth) };
            if let Some(view) = self.segment_starting_at(hash) {
                if !view.overflow().is_empty() {
                    break;
                }
                if let Some(item) = view.item(random(CAPACITY as u64) as usize) {
                    return Some(item);
                }
            }
        }
        self.nth(random(self.len as u64) as usize)
    }

    /// The same among the items whose hashes begin with a prefix, of which there are so many.
    pub fn random_in(
        &self,
        prefix: Prefix,
        len: usize,
        random: &mut impl FnMut(u64) -> u64,
    ) -> Option<&T> {
        if len > 2 * CAPACITY {
            // As deep as they are, or deeper by one, if they fill their segments to a quarter.
            let deepest = prefix.len() + (len / (CAPACITY / 4)).ilog2();
            for _ in 0..MAX_DRAWS {
                let position = position_of(prefix.hash_at(random(u64::MAX)));
                let (view, _) = self.segment_at(position);
                // A segment is drawn the more often the more of the space it covers.
                let too_often = deepest.saturating_sub(u32::from(view.depth()));
                if random(1 << too_often) > 0 {
                    continue;
                }
                if let Some(item) = view.item(random(CAPACITY as u64) as usize) {
                    return Some(item);
                }
            }
        }
        self.iter_prefix(prefix).nth(random(len.max(1) as u64) as usize)
    }

    /// The item at a place in the order of iteration; reads each segment's length.
    fn nth(&self, mut n: usize) -> Option<&T> {
        let mut position = 0;
        while position < POSITIONS {
            let (view, end) = self.segment_at(position);
            if n < view.len() {
                return view.items().nth(n);
            }
            n -= view.len();
            position = end;
        }
        None
    }

    /// The segment that covers a position, and the position where the next one starts.
    pub(super) fn segment_at(&self, position: u64) -> (View<'_, T>, u64) {
        let hash = position << (64 - POSITION_BITS);
        let mut inner: &Inner<T> = &self.root;
        let mut level = 0;
        loop {
            match inner.kid(cell_of(hash, level)) {
                Node::Inner(child) => inner = child,
                Node::Leaf(leaf) => {
                    let view = leaf.view();
                    let run = 1 << (POSITION_BITS - u32::from(view.depth()));
                    return (view, (position & !(run - 1)) + run);
                }
            }
            level += 1;
        }
    }

    /// The segment whose first hash is this one, found without reading the segment's own memory if
    /// there is none.
    fn segment_starting_at(&self, hash: u64) -> Option<View<'_, T>> {
        let mut inner: &Inner<T> = &self.root;
        for level in 0..LEVELS {
            let cell = cell_of(hash, level);
            match inner.kid(cell) {
                Node::Inner(child) => inner = child,
                Node::Leaf(leaf) => {
                    let below = hash << (LEVEL_BITS * (level as u32 + 1));
                    return (inner.run_start(cell) == cell && below == 0).then(|| leaf.view());
                }
            }
        }
        None
    }
}
