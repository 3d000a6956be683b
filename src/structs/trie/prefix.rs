//! Parts of a trie: all items whose hashes begin with the same bits, taken out and put in whole.
//!
//! In a cluster the first bits of a key's hash are its slot: this is how a slot leaves and comes.
//! The kids of such a part lie side by side in one inner node and are moved as they are, whatever
//! is below them; only their lengths are read, for the figures of both tries. A part that fills
//! less than a segment shares one with others, and its items are moved one by one. The alternative
//! refused is a trie for each slot: every lookup would follow one more pointer, and what samples,
//! scans or seeks deadlines would have to choose among 16384 of them.

use triomphe::Arc;

use super::inner::{CELLS, Inner, LEVEL_BITS, Node, Shape, cell_of, inner_mut};
use super::segment::{CAPACITY, Leaf};
use super::walk::POSITION_BITS;
use super::{Item, ItemHash as _, Trie};

/// The first bits that hashes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    hash: u64,
    len: u32,
}

impl Prefix {
    /// The first `len` bits of a hash: at least one, and no more than a leaf's depth may be.
    pub fn of(hash: u64, len: u32) -> Prefix {
        debug_assert!((1..=u32::from(super::segment::MAX_DEPTH)).contains(&len));
        Prefix { hash: hash & !(u64::MAX >> len), len }
    }

    pub(super) fn len(self) -> u32 {
        self.len
    }

    /// A hash that begins so, and goes on with these bits.
    pub(super) fn hash_at(self, bits: u64) -> u64 {
        self.hash | bits >> self.len
    }

    fn holds(self, hash: u64) -> bool {
        (hash ^ self.hash) >> (64 - self.len) == 0
    }

    /// Whether it ends below the inner nodes of a level.
    fn ends_below(self, level: usize) -> bool {
        self.len > LEVEL_BITS * (level as u32 + 1)
    }

    /// Its cells in the inner node of the level where it ends: the first, and how many.
    fn run(self, level: usize) -> (usize, usize) {
        (cell_of(self.hash, level), CELLS >> (self.len - LEVEL_BITS * level as u32))
    }
}

/// A kid with its first cell and its bound.
type Placed<T> = (usize, Node<T>, u64);

/// What was found below a prefix.
enum Part<T> {
    /// The kids of an inner node of the level where the prefix ends.
    Kids(Vec<Placed<T>>),
    Items(Vec<T>),
}

impl<T: Item> Trie<T> {
    /// Takes out the items whose hashes begin with a prefix. It takes as long as to look at the
    /// lengths of their segments.
    pub fn take_prefix(&mut self, prefix: Prefix) -> Trie<T> {
        let mut part = Trie::new(self.secret);
        let hash_of = |item: &T| T::Hash::of(part.secret, item.key()).bits();
        match take_below(&mut self.root, &mut self.shape, prefix, 0, &hash_of) {
            Part::Items(items) => {
                self.len -= items.len();
                for item in items {
                    part.insert(part.hash(item.key()), item);
                }
            }
            Part::Kids(kids) => {
                let mut figures = Figures::of(&kids);
                self.len -= figures.items;
                figures.leave(&mut self.shape);
                part.len = figures.items;
                part.earliest_ms = figures.earliest_ms;
                part.shape = Shape::new();
                part.root = Arc::new(way_to(kids, prefix, &mut figures.shape));
                part.shape = figures.shape;
            }
        }
        part
    }

    /// Puts in a part that [`Trie::take_prefix`] has taken out of a trie with the same secret, or
    /// that holds nothing else. What was there in its place is returned.
    pub fn put_prefix(&mut self, prefix: Prefix, mut part: Trie<T>) -> Trie<T> {
        let replaced = self.take_prefix(prefix);
        let hash_of = |item: &T| T::Hash::of(part.secret, item.key()).bits();
        match take_below(&mut part.root, &mut part.shape, prefix, 0, &hash_of) {
            Part::Items(items) => {
                for item in items {
                    self.insert(self.hash(item.key()), item);
                }
            }
            Part::Kids(kids) => {
                let figures = Figures::of(&kids);
                self.len += figures.items;
                self.earliest_ms = self.earliest_ms.min(figures.earliest_ms);
                let secret = self.secret;
                let bits_of = |key: &[u8]| T::Hash::of(secret, key).bits();
                put_below(&mut self.root, &mut self.shape, prefix, kids, &bits_of);
                figures.enter(&mut self.shape);
            }
        }
        replaced
    }

    /// All items whose hashes begin with a prefix, in hash order but for those of one segment.
    pub fn iter_prefix(&self, prefix: Prefix) -> impl Iterator<Item = &T> {
        let mut position = prefix.hash >> (64 - POSITION_BITS);
        let end = position + (1 << (POSITION_BITS - prefix.len));
        let segments = std::iter::from_fn(move || {
            let (view, next) = (position < end).then(|| self.segment_at(position))?;
            view.prefetch_items();
            position = next;
            Some(view)
        });
        let items = segments.flat_map(|view| view.items());
        items.filter(move |item| prefix.holds(self.hash(item.key()).bits()))
    }
}

/// What kids hold, for the figures of a trie.
struct Figures {
    items: usize,
    earliest_ms: u64,
    shape: Shape,
}

impl Figures {
    fn of<T: Item>(kids: &[Placed<T>]) -> Figures {
        let mut figures = Figures { items: 0, earliest_ms: u64::MAX, shape: Shape::new() };
        for (_, kid, bound_ms) in kids {
            figures.earliest_ms = figures.earliest_ms.min(*bound_ms);
            figures.count(kid);
        }
        figures
    }

    /// Recursion ends at the leaves, after at most `LEVELS` levels.
    fn count<T: Item>(&mut self, node: &Node<T>) {
        match node {
            Node::Leaf(leaf) => {
                self.items += leaf.view().len();
                self.shape.count(leaf);
            }
            Node::Inner(inner) => {
                self.shape.inner_nodes += 1;
                inner.kids.iter().for_each(Node::prefetch_count);
                inner.kids.iter().for_each(|kid| self.count(kid));
            }
        }
    }

    fn leave(&self, shape: &mut Shape) {
        let depths = shape.depths.iter_mut().zip(&self.shape.depths);
        depths.for_each(|(count, gone)| *count -= gone);
        shape.inner_nodes -= self.shape.inner_nodes;
        shape.segment_bytes -= self.shape.segment_bytes;
    }

    fn enter(&self, shape: &mut Shape) {
        let depths = shape.depths.iter_mut().zip(&self.shape.depths);
        depths.for_each(|(count, come)| *count += come);
        shape.inner_nodes += self.shape.inner_nodes;
        shape.segment_bytes += self.shape.segment_bytes;
    }
}

/// Takes what a prefix holds out of a node. What is left in its place is empty. The figures of kids
/// are left to the caller. Recursion ends at the leaves, after at most `LEVELS` levels.
fn take_below<T: Item>(
    node: &mut Arc<Inner<T>>,
    shape: &mut Shape,
    prefix: Prefix,
    level: usize,
    hash_of: &impl Fn(&T) -> u64,
) -> Part<T> {
    let inner = inner_mut(node);
    let (cell, part);
    if prefix.ends_below(level) {
        cell = cell_of(prefix.hash, level);
        let at = inner.rank(cell);
        part = match &mut inner.kids[at] {
            Node::Inner(child) => take_below(child, shape, prefix, level + 1, hash_of),
            Node::Leaf(leaf) => Part::Items(take_items(leaf, prefix, hash_of)),
        };
        inner.collapse(cell, shape);
    } else {
        let run;
        (cell, run) = prefix.run(level);
        let at = inner.rank(cell);
        let covered = inner.next_start(cell + 1) - inner.run_start(cell);
        part = match &mut inner.kids[at] {
            Node::Leaf(leaf) if covered > run => Part::Items(take_items(leaf, prefix, hash_of)),
            _ => {
                let nothing = Leaf::empty(0, prefix.len as u8);
                shape.count(&nothing);
                let nothing = vec![(cell, Node::Leaf(nothing), u64::MAX)];
                Part::Kids(inner.replace_run(cell, run, nothing))
            }
        };
    }
    inner.compact(cell, level, shape);
    part
}

fn take_items<T: Item>(leaf: &mut Leaf<T>, prefix: Prefix, hash_of: &impl Fn(&T) -> u64) -> Vec<T> {
    let is_wanted = |item: &T| prefix.holds(hash_of(item));
    let mut items = Vec::new();
    if !leaf.view().items().any(is_wanted) {
        return items;
    }
    let last = CAPACITY + leaf.view().overflow().len();
    let mut view = leaf.view_mut();
    // From the last to the first, because a removal may move an overflow item to the gap.
    for at in (0..last).rev() {
        if view.as_view().item(at).is_some_and(is_wanted) {
            items.push(view.remove(at));
        }
    }
    items
}

/// The root of a trie that holds these kids of a prefix and nothing else.
fn way_to<T: Item>(kids: Vec<Placed<T>>, prefix: Prefix, shape: &mut Shape) -> Inner<T> {
    let last = ((prefix.len - 1) / LEVEL_BITS) as usize;
    let (cell, run) = prefix.run(last);
    let mut inner = Inner::narrow(cell, run, kids, last, shape);
    for level in (0..last).rev() {
        let (cell, bound_ms) = (cell_of(prefix.hash, level), inner.least_bound());
        let kid = (cell, Node::Inner(Arc::new(inner)), bound_ms);
        inner = Inner::narrow(cell, 1, vec![kid], level, shape);
    }
    inner
}

/// Puts kids in where nothing of their prefix is.
fn put_below<T: Item>(
    root: &mut Arc<Inner<T>>,
    shape: &mut Shape,
    prefix: Prefix,
    kids: Vec<Placed<T>>,
    bits_of: &impl Fn(&[u8]) -> u64,
) {
    let bound_ms = kids.iter().map(|(_, _, bound_ms)| *bound_ms).min().unwrap_or(u64::MAX);
    let mut inner = inner_mut(root);
    let mut level = 0;
    while prefix.ends_below(level) {
        let at = inner.rank_of_child(cell_of(prefix.hash, level), level, shape, bits_of);
        inner.lower_bound(at, bound_ms);
        let Node::Inner(child) = &mut inner.kids[at] else { unreachable!("it was just made") };
        inner = inner_mut(child);
        level += 1;
    }
    let (cell, run) = prefix.run(level);
    inner.narrow_leaf(cell, prefix.len as u8, level, shape, bits_of);
    for (_, nothing, _) in inner.replace_run(cell, run, kids) {
        let Node::Leaf(nothing) = nothing else { unreachable!("an empty node has been collapsed") };
        shape.discount(&nothing);
    }
}
