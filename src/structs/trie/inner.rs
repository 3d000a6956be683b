//! Inner nodes: 1024 cells, one for each value of the next ten hash bits, shared among few kids.
//!
//! A kid covers a run of cells, so its hashes share as many bits as the run is short. Which cells
//! start a run is a bitmap, and a kid's place in the list is the number of starts up to its cell:
//! two cache lines answer it. Kids lie in hash order, which SCAN and the walks want anyway, and
//! each is referenced once, which the uniqueness check of copy-on-write wants. The alternative
//! refused is a directory of 2^n indices: it has to double and halve, adds a dependent miss, and
//! takes more memory; what it saves is moving the later kids when a segment splits, some 100 ns in
//! 2 us.
//!
//! Invariants: cell 0 is a start; `kids` has one kid per start; a leaf's run is `CELLS >> (depth -
//! LEVEL_BITS * level)` cells, aligned to its length; an inner kid's run is one cell; the bound of
//! a kid is no later than any deadline below it.

use triomphe::Arc;

use super::Item;
use super::bits::ones;
use super::segment::{CAPACITY, Leaf, MAX_DEPTH, tag_of};
use crate::structs::pins::{self, Share};
use crate::structs::prefetch;

/// The hash bits that one level uses up.
pub(super) const LEVEL_BITS: u32 = 10;

/// The most levels of inner nodes; a leaf's depth is bounded by `MAX_DEPTH`.
pub(super) const LEVELS: usize = (MAX_DEPTH as u32 / LEVEL_BITS) as usize;

pub(super) const CELLS: usize = 1 << LEVEL_BITS;

/// Two sparse segments are joined when they hold no more items than this together. Far below half
/// of `CAPACITY`, so that a segment does not split and join in turns.
const JOIN_MAX: usize = 18;

pub(super) enum Node<T> {
    Leaf(Leaf<T>),
    Inner(Arc<Inner<T>>),
}

/// The order of the fields puts the starts on cache lines of their own.
#[repr(C)]
pub(super) struct Inner<T> {
    /// How many starts there are before each word of `starts`.
    ranks: [u16; CELLS / 64],
    pub(super) kids: Vec<Node<T>>,
    starts: [u64; CELLS / 64],
    /// A lower bound of the deadlines below each kid; not there while there are none, which saves
    /// memory, and lookups never read it.
    bounds: Option<Box<Bounds>>,
    /// Makes the allocation a multiple of cache lines.
    _pad: [u64; 7],
}

#[derive(Clone)]
struct Bounds {
    of_kids: Vec<u64>,
}

/// What a trie is built of, kept up to date by those who change it.
#[derive(Clone)]
pub(super) struct Shape {
    /// The number of segments of each depth.
    pub(super) depths: [u32; MAX_DEPTH as usize + 1],
    pub(super) inner_nodes: u32,
    pub(super) segment_bytes: usize,
}

/// The cell of a hash in the inner nodes of a level.
#[inline(always)]
pub(super) fn cell_of(hash: u64, level: usize) -> usize {
    (hash << (LEVEL_BITS * level as u32) >> (64 - LEVEL_BITS)) as usize
}

impl Shape {
    pub(super) fn new() -> Shape {
        Shape { depths: [0; MAX_DEPTH as usize + 1], inner_nodes: 0, segment_bytes: 0 }
    }

    pub(super) fn count<T: Item>(&mut self, leaf: &Leaf<T>) {
        self.depths[leaf.view().depth() as usize] += 1;
        self.segment_bytes += leaf.bytes();
    }

    pub(super) fn discount<T: Item>(&mut self, leaf: &Leaf<T>) {
        self.depths[leaf.view().depth() as usize] -= 1;
        self.segment_bytes -= leaf.bytes();
    }
}

/// Write access to a node; copies it first if a snapshot shares it.
#[inline]
pub(super) fn inner_mut<T: Item>(node: &mut Arc<Inner<T>>) -> &mut Inner<T> {
    pins::make_mut(node, Inner::bytes)
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Node<T> {
        match self {
            Node::Leaf(leaf) => Node::Leaf(leaf.clone()),
            Node::Inner(inner) => Node::Inner(inner.clone()),
        }
    }
}

impl<T: Item> Clone for Inner<T> {
    fn clone(&self) -> Inner<T> {
        self.kids.iter().for_each(Node::prefetch_count);
        Inner { kids: self.kids.clone(), bounds: self.bounds.clone(), ..*self }
    }
}

impl<T: Item> Node<T> {
    /// Fetches what the descent of a hash reads next.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64, level: usize) {
        match self {
            Node::Leaf(leaf) => leaf.prefetch(tag_of(hash)),
            Node::Inner(inner) => inner.prefetch(cell_of(hash, level)),
        }
    }

    /// Fetches the reference count.
    pub(super) fn prefetch_count(&self) {
        match self {
            Node::Leaf(leaf) => leaf.prefetch_count(),
            Node::Inner(inner) => prefetch::value(&inner.kids),
        }
    }

    /// Whether a snapshot shares the node itself, or may share what is below it.
    pub(super) fn share(&self) -> Share<'_, Node<T>> {
        match self {
            Node::Leaf(leaf) if leaf.is_unique() => Share::None,
            Node::Inner(inner) if inner.is_unique() => Share::Of(&inner.kids),
            _ => Share::All,
        }
    }

    #[inline(always)]
    fn is_full_leaf(&self) -> bool {
        matches!(self, Node::Leaf(leaf) if leaf.is_full())
    }
}

impl<T: Item> Inner<T> {
    /// A node with one kid, which covers all the cells.
    fn around(kid: Node<T>, bound_ms: u64) -> Inner<T> {
        let mut starts = [0; CELLS / 64];
        starts[0] = 1;
        let mut ranks = [1; CELLS / 64];
        ranks[0] = 0;
        let mut inner = Inner { ranks, kids: vec![kid], bounds: None, _pad: [0; 7], starts };
        inner.lower_bound(0, bound_ms);
        inner
    }

    /// A node with these kids, in the order of their first cells.
    fn of(kids: Vec<(usize, Node<T>, u64)>) -> Inner<T> {
        let mut inner = Inner {
            ranks: [0; CELLS / 64],
            kids: Vec::with_capacity(kids.len()),
            bounds: None,
            _pad: [0; 7],
            starts: [0; CELLS / 64],
        };
        for (cell, kid, bound_ms) in kids {
            inner.insert_start(cell);
            inner.insert_kid(inner.kids.len(), kid, bound_ms);
            inner.lower_bound(inner.kids.len() - 1, bound_ms);
        }
        inner
    }

    /// A node of a level that has kids in one run of its cells, and nothing in the others.
    pub(super) fn narrow(
        cell: usize,
        run: usize,
        kids: Vec<(usize, Node<T>, u64)>,
        level: usize,
        shape: &mut Shape,
    ) -> Inner<T> {
        let mut all = kids;
        let mut half = CELLS / 2;
        while half >= run {
            let depth = LEVEL_BITS * level as u32 + (CELLS / half).trailing_zeros();
            let nothing = Leaf::empty(0, depth as u8);
            shape.count(&nothing);
            all.push(((cell & !(half - 1)) ^ half, Node::Leaf(nothing), u64::MAX));
            half /= 2;
        }
        all.sort_by_key(|(start, ..)| *start);
        shape.inner_nodes += 1;
        Inner::of(all)
    }

    /// Puts other kids in the place of those that cover exactly a run of cells.
    pub(super) fn replace_run(
        &mut self,
        cell: usize,
        run: usize,
        kids: Vec<(usize, Node<T>, u64)>,
    ) -> Vec<(usize, Node<T>, u64)> {
        debug_assert!(self.is_start(cell) && self.next_start(cell + run) == cell + run);
        let (first, mut start) = (self.rank(cell), cell);
        let mut replaced = Vec::new();
        while start < cell + run {
            let bound_ms = self.bound(first);
            let next = self.next_start(start + 1);
            self.remove_start(start);
            replaced.push((start, self.remove_kid(first), bound_ms));
            start = next;
        }
        for (at, (start, kid, bound_ms)) in kids.into_iter().enumerate() {
            self.insert_start(start);
            self.insert_kid(first + at, kid, u64::MAX);
            self.lower_bound(first + at, bound_ms);
        }
        replaced
    }

    /// The size of the allocations, about.
    fn bytes(&self) -> usize {
        let bounds = self.bounds.as_ref().map_or(0, |bounds| bounds.of_kids.capacity() * 8);
        size_of::<Inner<T>>() + self.kids.capacity() * size_of::<Node<T>>() + bounds
    }

    /// The root of an empty trie.
    pub(super) fn root(shape: &mut Shape) -> Inner<T> {
        let leaf = Leaf::empty(0, 0);
        shape.count(&leaf);
        shape.inner_nodes += 1;
        Inner::around(Node::Leaf(leaf), u64::MAX)
    }

    /// The place of the kid that covers a cell.
    #[inline(always)]
    pub(super) fn rank(&self, cell: usize) -> usize {
        if self.kids.len() == CELLS {
            // Every cell is a start, as in the root of any big table.
            return cell;
        }
        let up_to = u64::MAX >> (63 - (cell & 63));
        let within = ones(self.starts[cell >> 6] & up_to);
        self.ranks[cell >> 6] as usize + within - 1
    }

    #[inline(always)]
    pub(super) fn kid(&self, cell: usize) -> &Node<T> {
        &self.kids[self.rank(cell)]
    }

    /// A time before which nothing below a kid expires; `u64::MAX` when there are no deadlines.
    pub(super) fn bound(&self, at: usize) -> u64 {
        self.bounds.as_ref().map_or(u64::MAX, |bounds| bounds.of_kids[at])
    }

    /// A time before which nothing below this node expires.
    pub(super) fn least_bound(&self) -> u64 {
        let bounds = self.bounds.as_ref();
        bounds.and_then(|bounds| bounds.of_kids.iter().min().copied()).unwrap_or(u64::MAX)
    }

    #[inline]
    pub(super) fn lower_bound(&mut self, at: usize, at_ms: u64) {
        if at_ms < self.bound(at) {
            self.set_bound(at, at_ms);
        }
    }

    pub(super) fn set_bound(&mut self, at: usize, at_ms: u64) {
        let len = self.kids.len();
        let none = || Box::new(Bounds { of_kids: vec![u64::MAX; len] });
        self.bounds.get_or_insert_with(none).of_kids[at] = at_ms;
    }

    /// The first kid from a place on below which there may be deadlines.
    pub(super) fn next_bounded(&self, at: usize) -> Option<usize> {
        let bounds = &self.bounds.as_ref()?.of_kids;
        Some(at + bounds.get(at..)?.iter().position(|bound| *bound != u64::MAX)?)
    }

    /// The kid with the least bound, and that bound.
    pub(super) fn least_bounded(&self) -> Option<(usize, u64)> {
        let bounds = &self.bounds.as_ref()?.of_kids;
        let least_ms = self.least_bound();
        let at = bounds.iter().position(|bound| *bound == least_ms)?;
        (least_ms != u64::MAX).then_some((at, least_ms))
    }

    /// The first cell of a kid: what `rank` undoes.
    pub(super) fn cell_of_kid(&self, at: usize) -> usize {
        if self.kids.len() == CELLS {
            return at;
        }
        let word = self.ranks.partition_point(|rank| *rank as usize <= at) - 1;
        let mut starts = self.starts[word];
        for _ in self.ranks[word] as usize..at {
            starts &= starts - 1;
        }
        word * 64 + starts.trailing_zeros() as usize
    }

    fn insert_kid(&mut self, at: usize, kid: Node<T>, bound_ms: u64) {
        self.kids.insert(at, kid);
        if let Some(bounds) = &mut self.bounds {
            bounds.of_kids.insert(at, bound_ms);
        }
    }

    fn remove_kid(&mut self, at: usize) -> Node<T> {
        if let Some(bounds) = &mut self.bounds {
            bounds.of_kids.remove(at);
        }
        self.kids.remove(at)
    }

    #[inline(always)]
    fn prefetch(&self, cell: usize) {
        prefetch::value(&self.kids);
        prefetch::value(&self.starts[cell >> 6]);
    }

    fn is_start(&self, cell: usize) -> bool {
        self.starts[cell >> 6] >> (cell & 63) & 1 == 1
    }

    /// The first start from a cell on, or the number of cells.
    pub(super) fn next_start(&self, cell: usize) -> usize {
        let Some(first) = self.starts.get(cell >> 6) else { return CELLS };
        let rest = first & u64::MAX << (cell & 63);
        if rest != 0 {
            return cell & !63 | rest.trailing_zeros() as usize;
        }
        let later = (cell >> 6) + 1;
        match self.starts[later..].iter().position(|word| *word != 0) {
            Some(word) => (later + word) * 64 + self.starts[later + word].trailing_zeros() as usize,
            None => CELLS,
        }
    }

    /// The first cell of the run that covers a cell.
    pub(super) fn run_start(&self, cell: usize) -> usize {
        let within = self.starts[cell >> 6] & u64::MAX >> (63 - (cell & 63));
        if within != 0 {
            return cell & !63 | (63 - within.leading_zeros() as usize);
        }
        let word = self.starts[..cell >> 6].iter().rposition(|word| *word != 0);
        let word = word.expect("cell 0 is always a start");
        word * 64 + (63 - self.starts[word].leading_zeros() as usize)
    }

    fn insert_start(&mut self, cell: usize) {
        self.starts[cell >> 6] |= 1 << (cell & 63);
        self.ranks[(cell >> 6) + 1..].iter_mut().for_each(|rank| *rank += 1);
    }

    fn remove_start(&mut self, cell: usize) {
        self.starts[cell >> 6] &= !(1 << (cell & 63));
        self.ranks[(cell >> 6) + 1..].iter_mut().for_each(|rank| *rank -= 1);
    }

    /// The place of the kid that covers a cell, after whatever it takes to make room for one more
    /// item there.
    #[inline(always)]
    pub(super) fn rank_with_room(
        &mut self,
        cell: usize,
        level: usize,
        shape: &mut Shape,
        hash: impl Fn(&[u8]) -> u64,
    ) -> usize {
        let mut at = self.rank(cell);
        while self.kids[at].is_full_leaf() {
            self.make_room(at, cell, level, shape, &hash);
            at = self.rank(cell);
        }
        at
    }

    /// Grows, splits or pushes down a full segment, one step.
    #[cold]
    fn make_room(
        &mut self,
        at: usize,
        cell: usize,
        level: usize,
        shape: &mut Shape,
        hash: impl Fn(&[u8]) -> u64,
    ) {
        let Node::Leaf(leaf) = &mut self.kids[at] else { return };
        if leaf.capacity() < CAPACITY {
            shape.discount(leaf);
            leaf.grow();
            shape.count(leaf);
        } else {
            self.divide(at, cell, level, shape, hash);
        }
    }

    /// Splits a segment, or pushes it down if it covers a single cell.
    fn divide(
        &mut self,
        at: usize,
        cell: usize,
        level: usize,
        shape: &mut Shape,
        hash: impl Fn(&[u8]) -> u64,
    ) {
        let bound_ms = self.bound(at);
        let Node::Leaf(leaf) = &mut self.kids[at] else { return };
        let depth_here = leaf.view().depth() as usize - LEVEL_BITS as usize * level;
        if depth_here == LEVEL_BITS as usize {
            shape.inner_nodes += 1;
            let child = Inner::around(self.kids[at].clone(), bound_ms);
            self.kids[at] = Node::Inner(Arc::new(child));
            return;
        }
        shape.discount(leaf);
        let upper = leaf.split(hash);
        shape.count(leaf);
        shape.count(&upper);
        let run = CELLS >> depth_here;
        self.insert_start((cell & !(run - 1)) + run / 2);
        self.insert_kid(at + 1, Node::Leaf(upper), bound_ms);
    }

    /// Splits the segment that covers a cell until it is as deep as this or deeper.
    pub(super) fn narrow_leaf(
        &mut self,
        cell: usize,
        depth: u8,
        level: usize,
        shape: &mut Shape,
        hash: impl Fn(&[u8]) -> u64,
    ) {
        loop {
            let at = self.rank(cell);
            match &self.kids[at] {
                Node::Leaf(leaf) if leaf.view().depth() < depth => {
                    self.divide(at, cell, level, shape, &hash);
                }
                _ => return,
            }
        }
    }

    /// The place of the inner node below a cell, which is made if there is none.
    pub(super) fn rank_of_child(
        &mut self,
        cell: usize,
        level: usize,
        shape: &mut Shape,
        hash: impl Fn(&[u8]) -> u64,
    ) -> usize {
        let depth = LEVEL_BITS * (level as u32 + 1);
        self.narrow_leaf(cell, depth as u8, level, shape, &hash);
        let at = self.rank(cell);
        if matches!(self.kids[at], Node::Leaf(_)) {
            self.divide(at, cell, level, shape, &hash);
        }
        at
    }

    /// After removals from the segment that covers a cell: joins it with its neighbour as long as
    /// the two are sparse, or else gives back slots it no longer needs.
    pub(super) fn compact(&mut self, cell: usize, level: usize, shape: &mut Shape) {
        while self.join_sparse(cell, level, shape) {}
        let at = self.rank(cell);
        if let Node::Leaf(leaf) = &mut self.kids[at] {
            shape.segment_bytes -= leaf.bytes();
            leaf.shrink();
            shape.segment_bytes += leaf.bytes();
        }
    }

    /// Joins the segment that covers a cell with its neighbour, if both are sparse.
    fn join_sparse(&mut self, cell: usize, level: usize, shape: &mut Shape) -> bool {
        let Node::Leaf(leaf) = self.kid(cell) else { return false };
        let view = leaf.view();
        let depth_here = view.depth() as usize - LEVEL_BITS as usize * level;
        if view.len() > JOIN_MAX || depth_here == 0 {
            return false;
        }
        let run = CELLS >> depth_here;
        let start = cell & !(run - 1);
        if !self.is_start(start ^ run) {
            return false;
        }
        let Node::Leaf(buddy) = self.kid(start ^ run) else { return false };
        if buddy.view().depth() != view.depth() || buddy.view().len() + view.len() > JOIN_MAX {
            return false;
        }
        let start = start & !run;
        let at = self.rank(start);
        self.remove_start(start + run);
        let bound_ms = self.bound(at).min(self.bound(at + 1));
        let upper = self.remove_kid(at + 1);
        self.lower_bound(at, bound_ms);
        let (Node::Leaf(leaf), Node::Leaf(upper)) = (&mut self.kids[at], upper) else {
            unreachable!("both were just seen to be leaves");
        };
        shape.discount(leaf);
        shape.discount(&upper);
        leaf.join(upper);
        shape.count(leaf);
        true
    }

    /// Replaces the child that covers a cell by its only segment, if that is all it has left.
    pub(super) fn collapse(&mut self, cell: usize, shape: &mut Shape) -> bool {
        let at = self.rank(cell);
        let Node::Inner(child) = &self.kids[at] else { return false };
        let [leaf @ Node::Leaf(_)] = child.kids.as_slice() else { return false };
        self.kids[at] = leaf.clone();
        shape.inner_nodes -= 1;
        true
    }
}
