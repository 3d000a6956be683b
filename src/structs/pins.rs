//! How much memory only snapshots keep: nodes that a writer has copied and values that it has
//! replaced or removed while a snapshot still shares them.
//!
//! Such memory is not data, and taking data away frees none of it, so whoever bounds the data has
//! to know its amount. Nobody can ask the allocator for it, and to pass a counter to every node
//! that may be copied would put it into each signature down to the leaves; so this is a count of
//! the thread. It means something on the thread that writes, the executor's, and every place that
//! copies because something is shared reports here. The way there is cold: what is not shared is
//! not counted.
//!
//! What was pinned at some time is held by the snapshots that were alive then and goes with the
//! last of them. So the amount is what was reported since the oldest living snapshot was taken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use triomphe::Arc as Shared;

thread_local! {
    /// Bytes reported so far.
    static REPORTED: Cell<u64> = const { Cell::new(0) };
    /// The snapshots that may be alive, oldest first, each with what had been reported before it.
    static SNAPSHOTS: RefCell<VecDeque<(u64, Weak<()>)>> = const { RefCell::new(VecDeque::new()) };
}

/// What a snapshot holds on to as long as it lives; any thread may drop it.
#[derive(Clone, Debug)]
pub struct Pin(#[expect(dead_code, reason = "it is there to be dropped")] Arc<()>);

/// A snapshot is taken of what this thread writes.
pub fn hold() -> Pin {
    let alive = Arc::new(());
    let entry = (REPORTED.get(), Arc::downgrade(&alive));
    SNAPSHOTS.with_borrow_mut(|snapshots| {
        forget_dead(snapshots);
        snapshots.push_back(entry);
    });
    Pin(alive)
}

/// Bytes that only snapshots keep now.
pub fn bytes() -> u64 {
    SNAPSHOTS.with_borrow_mut(|snapshots| {
        forget_dead(snapshots);
        snapshots.front().map_or(0, |(before, _)| REPORTED.get() - before)
    })
}

/// Whether any snapshot is alive.
#[cfg(test)]
fn is_any() -> bool {
    SNAPSHOTS.with_borrow_mut(|snapshots| {
        forget_dead(snapshots);
        !snapshots.is_empty()
    })
}

/// Those behind the oldest do not matter before it is gone.
fn forget_dead(snapshots: &mut VecDeque<(u64, Weak<()>)>) {
    while snapshots.pop_front_if(|(_, alive)| alive.strong_count() == 0).is_some() {}
}

/// So many bytes are out of use but for snapshots.
#[cold]
pub fn report(bytes: usize) {
    REPORTED.set(REPORTED.get() + bytes as u64);
}

/// `Arc::make_mut`, which reports the size of what it had to copy.
#[inline]
pub fn make_mut<T: Clone>(shared: &mut Shared<T>, bytes: impl FnOnce(&T) -> usize) -> &mut T {
    if !shared.is_unique() {
        report(bytes(shared));
    }
    Shared::make_mut(shared)
}

/// About which part of a tree's bytes snapshots share: 0 is none, 1 all. The parts that belong to
/// this tree alone are looked into, a few of them where there are many.
pub fn shared_share<N>(kids: &[N], look: &impl Fn(&N) -> Share<'_, N>) -> f64 {
    const LOOKED_INTO_MAX: usize = 8;
    let mut shared = 0.0;
    let mut inner = Vec::new();
    for kid in kids {
        match look(kid) {
            Share::All => shared += 1.0,
            Share::None => {}
            Share::Of(below) => inner.push(below),
        }
    }
    let step = inner.len().div_ceil(LOOKED_INTO_MAX).max(1);
    let seen: Vec<f64> =
        inner.iter().step_by(step).map(|below| shared_share(below, look)).collect();
    let mean = seen.iter().sum::<f64>() / seen.len().max(1) as f64;
    (shared + mean * inner.len() as f64) / kids.len().max(1) as f64
}

/// How much of a node is shared.
pub enum Share<'a, N> {
    All,
    None,
    /// It is not, but of what is below it some may be.
    Of(&'a [N]),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pinned_goes_with_the_last_snapshot_that_was_alive() {
        report(5);
        assert_eq!((bytes(), is_any()), (0, false), "nobody keeps it");
        let first = hold();
        report(10);
        let second = hold();
        report(100);
        assert_eq!(bytes(), 110);
        drop(second);
        assert_eq!(bytes(), 110, "the first one keeps all of it");
        let third = hold();
        report(1000);
        drop(first);
        assert_eq!((bytes(), is_any()), (1000, true));
        let copy = third.clone();
        drop(third);
        assert_eq!(bytes(), 1000);
        drop(copy);
        assert_eq!((bytes(), is_any()), (0, false));
    }

    #[test]
    fn only_what_is_shared_is_reported() {
        let _pin = hold();
        let mut value = Shared::new(vec![1u8; 100]);
        make_mut(&mut value, Vec::len).push(1);
        assert_eq!(bytes(), 0);
        let snapshot = value.clone();
        make_mut(&mut value, Vec::len).push(2);
        make_mut(&mut value, Vec::len).push(3);
        assert_eq!((bytes(), snapshot.len(), value.len()), (101, 101, 103));
    }

    enum Tree {
        Leaf(bool),
        Inner(Vec<Tree>),
    }

    #[test]
    fn the_share_is_that_of_the_kids() {
        let tree = [
            Tree::Leaf(true),
            Tree::Leaf(false),
            Tree::Inner(vec![
                Tree::Leaf(true),
                Tree::Leaf(true),
                Tree::Leaf(false),
                Tree::Leaf(true),
            ]),
            Tree::Inner(vec![
                Tree::Leaf(false),
                Tree::Leaf(true),
                Tree::Leaf(false),
                Tree::Leaf(false),
            ]),
        ];
        assert!((shared_share(&tree, &look) - 0.5).abs() < 1e-9);
        assert!(shared_share::<Tree>(&[], &look).abs() < 1e-9);
    }

    fn look(tree: &Tree) -> Share<'_, Tree> {
        match tree {
            Tree::Leaf(true) => Share::All,
            Tree::Leaf(false) => Share::None,
            Tree::Inner(below) => Share::Of(below),
        }
    }
}
