//! A copy-on-write hash trie: the keyspace, and the inside of big hashes, sets and sorted sets.
//!
//! Inner nodes and segments are reference counted. Cloning a trie clones its root pointer, which is
//! a snapshot in constant time; a writer copies a node only if a snapshot shares it. Segments hold
//! up to 48 items, split when full and join when sparse, so growth never touches more than one
//! node. Items lie in the order of their keyed 64-bit hash, down to the segment, so a SCAN cursor
//! is a position in hash space and survives any splitting and joining.
//!
//! The alternative refused is one flat open-addressing table: single lookups are faster, but it
//! doubles all at once (600 ms at 10 M keys), cannot be snapshotted without a fork, and its cursor
//! dies with a resize. Batched lookups hide the trie's extra misses; see [`Trie::prefetch`].
//!
//! Reading order: [`segment`] (leaves), [`inner`] (nodes), this file (lookup and change), [`walk`]
//! (iteration, SCAN, random choice), [`sample`] (a segment's worth of items at once), [`expire`]
//! (deadlines), [`prefix`] (parts that leave and come whole).

mod bits;
mod expire;
mod hash;
mod inner;
mod prefix;
mod sample;
mod segment;
mod tags;
#[cfg(test)]
mod tests;
mod walk;

use triomphe::Arc;

pub use hash::{HashSecret, ItemHash};
use inner::{Inner, LEVELS, Node, Shape, cell_of, inner_mut};
pub use prefix::Prefix;
use segment::{CAPACITY, tag_of};
pub use walk::Iter;

use crate::structs::{pins, prefetch};

/// What a trie holds. Meant for types that are one pointer wide and cheap to clone, since copying a
/// shared segment clones its items.
pub trait Item: Clone + Send + Sync {
    type Hash: ItemHash;

    fn key(&self) -> &[u8];

    /// When the item expires, in Unix milliseconds; `u64::MAX` when never.
    fn deadline_ms(&self) -> u64;

    /// Starts fetching what `key` reads.
    fn prefetch(&self);
}

/// How many keys are prefetched together. More would overflow the line fill buffers and the first
/// level cache's ways; fewer would leave misses unoverlapped.
const BATCH: usize = 32;

/// A map from keys to items, with snapshots. Functions that take a hash expect that of the key, by
/// [`Trie::hash`].
pub struct Trie<T: Item> {
    root: Arc<Inner<T>>,
    len: usize,
    /// A lower bound of all deadlines.
    earliest_ms: u64,
    secret: HashSecret,
    shape: Shape,
}

/// Figures for DEBUG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    pub segments: usize,
    pub inner_nodes: usize,
    /// The most hash bits used up on the way to a segment.
    pub depth: usize,
}

/// A key's place in a trie, for code that looks and then writes.
pub enum Slot<'a, T: Item> {
    Occupied(&'a mut T),
    Vacant(Vacant<'a, T>),
}

/// The place of a key that is not there.
pub struct Vacant<'a, T: Item> {
    trie: &'a mut Trie<T>,
    hash: u64,
}

/// The way to an item: the kids on the way, and the position in the segment.
struct Place {
    kids: [u16; LEVELS],
    at: usize,
}

impl<T: Item> Trie<T> {
    pub fn new(secret: HashSecret) -> Trie<T> {
        let mut shape = Shape::new();
        let root = Arc::new(Inner::root(&mut shape));
        Trie { root, len: 0, earliest_ms: u64::MAX, secret, shape }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub fn hash(&self, key: &[u8]) -> T::Hash {
        T::Hash::of(self.secret, key)
    }

    pub fn secret(&self) -> HashSecret {
        self.secret
    }

    #[inline]
    pub fn get(&self, hash: T::Hash, key: &[u8]) -> Option<&T> {
        let hash = hash.bits();
        let mut inner = &*self.root;
        for level in 0..LEVELS {
            match inner.kid(cell_of(hash, level)) {
                Node::Inner(child) => inner = child,
                Node::Leaf(leaf) => {
                    let view = leaf.view();
                    let at = view.find(tag_of(hash), key);
                    if at.is_none() && level == LEVELS - 1 {
                        return view.item(view.find_overflow(key)?);
                    }
                    return view.item(at?);
                }
            }
        }
        None
    }

    /// The item of a key, to change it in place. It must keep its key, and a nearer deadline must
    /// be told to [`Trie::lower_deadline`].
    #[inline]
    pub fn get_mut(&mut self, hash: T::Hash, key: &[u8]) -> Option<&mut T> {
        let place = self.locate(hash.bits(), key)?;
        Some(self.item_mut(&place))
    }

    /// The place of a key, found once for code that looks and then writes.
    #[inline]
    pub fn slot(&mut self, hash: T::Hash, key: &[u8]) -> Slot<'_, T> {
        match self.locate(hash.bits(), key) {
            Some(place) => Slot::Occupied(self.item_mut(&place)),
            None => Slot::Vacant(Vacant { trie: self, hash: hash.bits() }),
        }
    }

    /// Puts an item in; the item it replaces is returned.
    pub fn insert(&mut self, hash: T::Hash, item: T) -> Option<T> {
        let Some(place) = self.locate(hash.bits(), item.key()) else {
            self.insert_new(hash.bits(), item);
            return None;
        };
        let deadline_ms = item.deadline_ms();
        let old = std::mem::replace(self.item_mut(&place), item);
        self.lower_deadline(hash, deadline_ms);
        Some(old)
    }

    pub fn remove(&mut self, hash: T::Hash, key: &[u8]) -> Option<T> {
        let hash = hash.bits();
        let place = self.locate(hash, key)?;
        self.len -= 1;
        Some(remove_below(&mut self.root, &mut self.shape, hash, &place, 0))
    }

    /// An estimate of the memory of the nodes; the items' own is not counted.
    pub fn memory_bytes(&self) -> usize {
        let nodes = self.shape.inner_nodes as usize * (size_of::<Inner<T>>() + size_of::<usize>());
        let kids = self.stats().segments + self.shape.inner_nodes as usize;
        self.shape.segment_bytes + nodes + kids * size_of::<Node<T>>()
    }

    /// About which part of it snapshots share, from 0 to 1.
    pub fn shared_share(&self) -> f64 {
        if self.is_shared() { 1.0 } else { pins::shared_share(&self.root.kids, &Node::share) }
    }

    /// Whether nothing has been written since the last snapshot, which is still there.
    pub fn is_shared(&self) -> bool {
        !self.root.is_unique()
    }

    pub fn stats(&self) -> Stats {
        let depths = &self.shape.depths;
        Stats {
            segments: depths.iter().map(|count| *count as usize).sum(),
            inner_nodes: self.shape.inner_nodes as usize,
            depth: depths.iter().rposition(|count| *count > 0).unwrap_or(0),
        }
    }

    /// Fetches what lookups of these hashes will read, in stages, so that the cache misses of a
    /// batch overlap: inner node, kid, tags, slot, item.
    pub fn prefetch(&self, hashes: &[T::Hash]) {
        for chunk in hashes.chunks(BATCH) {
            self.prefetch_chunk(chunk);
        }
    }

    fn prefetch_chunk(&self, hashes: &[T::Hash]) {
        let mut kids = [&self.root.kids[0]; BATCH];
        for (kid, hash) in kids.iter_mut().zip(hashes) {
            *kid = self.root.kid(cell_of(hash.bits(), 0));
            prefetch::value(*kid);
        }
        let kids = &mut kids[..hashes.len()];
        for level in 1..LEVELS {
            let mut deeper = false;
            for (kid, hash) in kids.iter().zip(hashes) {
                kid.prefetch(hash.bits(), level);
                deeper |= matches!(kid, Node::Inner(_));
            }
            if !deeper {
                break;
            }
            for (kid, hash) in kids.iter_mut().zip(hashes) {
                if let Node::Inner(child) = kid {
                    *kid = child.kid(cell_of(hash.bits(), level));
                    prefetch::value(*kid);
                }
            }
        }
        let mut slots = [None; BATCH];
        for ((slot, kid), hash) in slots.iter_mut().zip(kids).zip(hashes) {
            if let Node::Leaf(leaf) = kid {
                *slot = leaf.view().candidate(tag_of(hash.bits()));
                if let Some(slot) = slot {
                    prefetch::value(*slot);
                }
            }
        }
        slots.iter().flatten().filter_map(|slot| slot.as_ref()).for_each(T::prefetch);
    }

    #[inline(always)]
    fn locate(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let mut kids = [0; LEVELS];
        let mut inner = &*self.root;
        for level in 0..LEVELS {
            let at = inner.rank(cell_of(hash, level));
            kids[level] = at as u16;
            match &inner.kids[at] {
                Node::Inner(child) => inner = child,
                Node::Leaf(leaf) => {
                    let view = leaf.view();
                    let mut at = view.find(tag_of(hash), key);
                    if at.is_none() && level == LEVELS - 1 {
                        at = view.find_overflow(key);
                    }
                    return at.map(|at| Place { kids, at });
                }
            }
        }
        None
    }

    /// The item at a place just found; copies what snapshots share on the way.
    #[inline]
    fn item_mut(&mut self, place: &Place) -> &mut T {
        let mut inner = inner_mut(&mut self.root);
        for at in place.kids {
            match &mut inner.kids[at as usize] {
                Node::Inner(child) => inner = inner_mut(child),
                Node::Leaf(leaf) => {
                    return leaf.view_mut().into_item(place.at).expect("a found item is there");
                }
            }
        }
        unreachable!("the way to an item ends in a leaf")
    }

    /// Adds an item whose key is not there.
    fn insert_new(&mut self, hash: u64, item: T) -> &mut T {
        let Trie { root, shape, secret, .. } = self;
        let bits_of = |key: &[u8]| T::Hash::of(*secret, key).bits();
        let deadline_ms = item.deadline_ms();
        self.len += 1;
        self.earliest_ms = self.earliest_ms.min(deadline_ms);
        let mut inner = inner_mut(root);
        for level in 0..LEVELS {
            let cell = cell_of(hash, level);
            let at = inner.rank_with_room(cell, level, shape, bits_of);
            inner.lower_bound(at, deadline_ms);
            match &mut inner.kids[at] {
                Node::Inner(child) => inner = inner_mut(child),
                Node::Leaf(leaf) => return leaf.view_mut().push(item, hash),
            }
        }
        unreachable!("the deepest inner nodes have only leaves")
    }
}

impl<T: Item> Clone for Trie<T> {
    /// A snapshot, in constant time.
    fn clone(&self) -> Trie<T> {
        Trie { root: self.root.clone(), shape: self.shape.clone(), ..*self }
    }
}

impl<'a, T: Item> Vacant<'a, T> {
    /// Puts in an item with the key that was looked for.
    pub fn insert(self, item: T) -> &'a mut T {
        self.trie.insert_new(self.hash, item)
    }
}

/// Removes the item at a place and joins what has become sparse on the way back. The recursion is
/// as deep as the trie, which is at most `LEVELS`.
fn remove_below<T: Item>(
    node: &mut Arc<Inner<T>>,
    shape: &mut Shape,
    hash: u64,
    place: &Place,
    level: usize,
) -> T {
    let inner = inner_mut(node);
    let cell = cell_of(hash, level);
    match &mut inner.kids[place.kids[level] as usize] {
        Node::Inner(child) => {
            let item = remove_below(child, shape, hash, place, level + 1);
            if child.kids.len() == 1 && inner.collapse(cell, shape) {
                inner.compact(cell, level, shape);
            }
            item
        }
        Node::Leaf(leaf) => {
            let mut view = leaf.view_mut();
            let item = view.remove(place.at);
            let len = view.as_view().len();
            // Looking at the neighbour costs a cache miss, so not every removal does it.
            if len < CAPACITY && len.is_multiple_of(4) {
                inner.compact(cell, level, shape);
            }
            item
        }
    }
}
