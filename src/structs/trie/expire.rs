//! Deadlines: for each of its kids an inner node keeps a lower bound of the deadlines below.
//!
//! That is an index over segments, not over keys: it costs 8 bytes a segment, only where there
//! are deadlines, and one comparison a level on insertion. Bounds are only lowered by writers, so
//! they may become stale (too low) when a deadline is removed or moved out; the active cycle,
//! which is the only reader, puts the bounds it passes right. An ordered index over keys is
//! refused: it costs memory for each volatile key and a second structure to keep in step on each
//! SET EX.

use triomphe::Arc;

use super::inner::{Inner, LEVELS, Node, Shape, cell_of, inner_mut};
use super::segment::{CAPACITY, Leaf};
use super::{Item, ItemHash as _, Trie};

/// What looking through a segment costs, in items, if nothing is taken from it: bounds that have
/// become stale must not make a run long.
const BARREN_COST: usize = 8;

/// One run of the active cycle.
struct Sweep<'a, T> {
    now_ms: u64,
    /// How many more items may be taken, or the like of it in work.
    left: usize,
    out: &'a mut Vec<T>,
    shape: &'a mut Shape,
}

impl<T: Item> Trie<T> {
    /// A time before which nothing expires; `u64::MAX` when there are no deadlines.
    pub fn earliest_deadline(&self) -> u64 {
        self.earliest_ms
    }

    /// Makes known that an item of this hash has been given a deadline through [`Trie::get_mut`] or
    /// [`Trie::slot`]. Insertions do it themselves.
    pub fn lower_deadline(&mut self, hash: T::Hash, at_ms: u64) {
        let hash = hash.bits();
        if at_ms == u64::MAX {
            return;
        }
        self.earliest_ms = self.earliest_ms.min(at_ms);
        let mut inner = inner_mut(&mut self.root);
        for level in 0..LEVELS {
            let at = inner.rank(cell_of(hash, level));
            inner.lower_bound(at, at_ms);
            match &mut inner.kids[at] {
                Node::Inner(child) => inner = inner_mut(child),
                Node::Leaf(_) => return,
            }
        }
    }

    /// Moves up to `max` items whose deadline is `now_ms` or earlier to `out`. The answer is
    /// whether there are, or may be, more of them; then each call takes some or comes nearer to
    /// them.
    pub fn take_expired(&mut self, now_ms: u64, max: usize, out: &mut Vec<T>) -> bool {
        self.take_expired_within(now_ms, &mut { max }, out)
    }

    /// The same within a budget, from which what was taken, or the like of it in work, is
    /// subtracted.
    pub fn take_expired_within(
        &mut self,
        now_ms: u64,
        budget: &mut usize,
        out: &mut Vec<T>,
    ) -> bool {
        if self.earliest_ms > now_ms || *budget == 0 {
            return self.earliest_ms <= now_ms;
        }
        let before = out.len();
        let mut sweep = Sweep { now_ms, left: *budget, out, shape: &mut self.shape };
        self.earliest_ms = sweep.inner(&mut self.root, 0);
        *budget = sweep.left;
        self.len -= out.len() - before;
        self.earliest_ms <= now_ms
    }

    /// How many items have a deadline of `now_ms` or earlier. Only segments that may have some are
    /// visited.
    pub fn count_due(&self, now_ms: u64) -> usize {
        if self.earliest_ms > now_ms { 0 } else { count_due(&self.root, now_ms) }
    }
}

/// Recursion ends at the leaves, after at most `LEVELS` levels.
fn count_due<T: Item>(inner: &Inner<T>, now_ms: u64) -> usize {
    let due = |at: &usize| inner.bound(*at) <= now_ms;
    let counts = (0..inner.kids.len()).filter(due).map(|at| match &inner.kids[at] {
        Node::Inner(child) => count_due(child, now_ms),
        Node::Leaf(leaf) => {
            let view = leaf.view();
            view.prefetch_items();
            view.items().filter(|item| item.deadline_ms() <= now_ms).count()
        }
    });
    counts.sum()
}

impl<T: Item> Sweep<'_, T> {
    /// Sweeps a node and returns its new bound. Recursion ends at the leaves, after at most
    /// `LEVELS` levels.
    fn inner(&mut self, node: &mut Arc<Inner<T>>, level: usize) -> u64 {
        let inner = inner_mut(node);
        // Joining moves kids about, so it is done after the pass, for these cells.
        let mut sparse = Vec::new();
        let mut cell = 0;
        for at in 0..inner.kids.len() {
            let next_cell = inner.next_start(cell + 1);
            if inner.bound(at) <= self.now_ms && self.left > 0 {
                let taken_before = self.out.len();
                let bound_ms = match &mut inner.kids[at] {
                    Node::Inner(child) => self.inner(child, level + 1),
                    Node::Leaf(leaf) => self.leaf(leaf),
                };
                inner.set_bound(at, bound_ms);
                if self.out.len() > taken_before {
                    sparse.push(cell);
                }
            }
            cell = next_cell;
        }
        for cell in sparse {
            inner.collapse(cell, self.shape);
            inner.compact(cell, level, self.shape);
        }
        inner.least_bound()
    }

    /// Sweeps a segment, without copying it if nothing in it has expired, and returns its new
    /// bound.
    fn leaf(&mut self, leaf: &mut Leaf<T>) -> u64 {
        let view = leaf.view();
        view.prefetch_items();
        let earliest_ms = view.items().map(T::deadline_ms).min().unwrap_or(u64::MAX);
        if earliest_ms > self.now_ms {
            self.left = self.left.saturating_sub(BARREN_COST);
            return earliest_ms;
        }
        let last = CAPACITY + view.overflow().len();
        let mut view = leaf.view_mut();
        // From the last to the first, because a removal may move an overflow item to the gap.
        for at in (0..last).rev() {
            let due = view.as_view().item(at).is_some_and(|item| item.deadline_ms() <= self.now_ms);
            if due && self.left > 0 {
                self.out.push(view.remove(at));
                self.left -= 1;
            }
        }
        view.as_view().items().map(T::deadline_ms).min().unwrap_or(u64::MAX)
    }
}
