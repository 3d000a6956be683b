//! Samples for eviction: whole segments, found by chance or by their deadlines.
//!
//! The items of a segment have nothing in common but some bits of a keyed hash, so they are as good
//! a sample as any, and their memory is fetched together: a segment costs little more than a few
//! items drawn one by one. Items with a deadline are found by the bounds that inner nodes keep for
//! each kid, however few they are. A bound that promised something and did not hold it is put
//! right, so what a search costs in vain is never paid twice.

use triomphe::Arc;

use super::inner::{Inner, LEVEL_BITS, LEVELS, Node, cell_of, inner_mut};
use super::walk::POSITION_BITS;
use super::{Item, Trie};

/// How many bounds a call may find stale before it gives up; the next call gets further.
const STALE_MAX: usize = 64;

impl<T: Item> Trie<T> {
    /// Visits the items of the segment that covers a hash, and of those after it until `wanted`
    /// have been visited or as many segments; goes on from the start behind the end.
    pub fn sample(&self, hash: u64, wanted: usize, mut visit: impl FnMut(&T)) {
        let mut position = hash >> (64 - POSITION_BITS);
        let mut left = wanted;
        for _ in 0..wanted {
            let (view, end) = self.segment_at(position);
            view.prefetch_items();
            view.items().for_each(&mut visit);
            left = left.saturating_sub(view.len());
            position = if end >> POSITION_BITS == 0 { end } else { 0 };
            if left == 0 {
                return;
            }
        }
    }

    /// Visits the items that have a deadline in the first segments with such items from a hash on,
    /// until `wanted` have been visited, or as many segments. Goes on from the start behind the
    /// end.
    pub fn sample_with_deadlines(&mut self, hash: u64, wanted: usize, mut visit: impl FnMut(&T)) {
        let (mut left, mut stale) = (wanted, 0);
        let mut from = Some(hash);
        for _ in 0..wanted.saturating_add(STALE_MAX) {
            let found = from.and_then(|from| next_bounded(&self.root, from, 0));
            let Some(start) = found.or_else(|| next_bounded(&self.root, 0, 0)) else { return };
            let (view, end) = self.segment_at(start >> (64 - POSITION_BITS));
            view.prefetch_items();
            let mut count = 0;
            for item in view.items().filter(|item| item.deadline_ms() != u64::MAX) {
                visit(item);
                count += 1;
            }
            if count == 0 {
                self.mend_bounds(start);
                stale += 1;
            }
            left = left.saturating_sub(count);
            if left == 0 || stale == STALE_MAX {
                return;
            }
            from = (end >> POSITION_BITS == 0).then_some(end << (64 - POSITION_BITS));
        }
    }

    /// The item with the nearest deadline. `None` if there is none, or if too many bounds were out
    /// of date: then [`Trie::earliest_deadline`] has come nearer to the truth.
    pub fn earliest(&mut self) -> Option<&T> {
        for _ in 0..STALE_MAX {
            let (start, bound_ms) = least_bounded(&self.root)?;
            let (view, _) = self.segment_at(start >> (64 - POSITION_BITS));
            view.prefetch_items();
            let earliest_ms = view.items().map(T::deadline_ms).min().unwrap_or(u64::MAX);
            if earliest_ms <= bound_ms {
                let (view, _) = self.segment_at(start >> (64 - POSITION_BITS));
                return view.items().min_by_key(|item| item.deadline_ms());
            }
            self.mend_bounds(start);
        }
        None
    }

    /// Puts right the bounds on the way to the segment that covers a hash.
    fn mend_bounds(&mut self, hash: u64) {
        self.earliest_ms = mend_bounds(&mut self.root, hash, 0);
    }
}

/// The first hash of a kid's cell, below a node that covers `hash`.
fn start_of(cell: usize, hash: u64, level: usize) -> u64 {
    let used_bits = LEVEL_BITS * level as u32;
    let prefix = hash & !(u64::MAX >> used_bits);
    prefix | (cell as u64) << (64 - LEVEL_BITS - used_bits)
}

/// The first hash of the first segment from a hash on in which there may be deadlines. Recursion
/// ends at the leaves, after at most `LEVELS` levels.
fn next_bounded<T: Item>(inner: &Inner<T>, from: u64, level: usize) -> Option<u64> {
    let first = inner.rank(cell_of(from, level));
    let mut at = first;
    loop {
        at = inner.next_bounded(at)?;
        let start = start_of(inner.cell_of_kid(at), from, level);
        match &inner.kids[at] {
            Node::Leaf(_) => return Some(start),
            Node::Inner(child) if at == first => {
                if let Some(found) = next_bounded(child, from, level + 1) {
                    return Some(found);
                }
            }
            // A child that knows of none makes a bound here stale: any segment of it will do.
            Node::Inner(child) => {
                return Some(next_bounded(child, start, level + 1).unwrap_or(start));
            }
        }
        at += 1;
    }
}

/// The first hash of the segment with the least bound, and that bound; of any segment below the
/// least bound where that is stale.
fn least_bounded<T: Item>(root: &Inner<T>) -> Option<(u64, u64)> {
    let (mut inner, mut found) = (root, None);
    for level in 0..LEVELS {
        let Some((at, bound_ms)) = inner.least_bounded() else { break };
        let above = found.map_or(0, |(hash, _)| hash);
        found = Some((start_of(inner.cell_of_kid(at), above, level), bound_ms));
        match &inner.kids[at] {
            Node::Inner(child) => inner = child,
            Node::Leaf(_) => break,
        }
    }
    found
}

/// Puts right the bounds on the way to a hash and returns that of the node. Recursion ends at the
/// leaves, after at most `LEVELS` levels.
fn mend_bounds<T: Item>(node: &mut Arc<Inner<T>>, hash: u64, level: usize) -> u64 {
    let inner = inner_mut(node);
    let at = inner.rank(cell_of(hash, level));
    let bound_ms = match &mut inner.kids[at] {
        Node::Inner(child) => mend_bounds(child, hash, level + 1),
        Node::Leaf(leaf) => leaf.view().items().map(T::deadline_ms).min().unwrap_or(u64::MAX),
    };
    inner.set_bound(at, bound_ms);
    inner.least_bound()
}
