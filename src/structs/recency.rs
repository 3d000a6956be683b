//! Items in the order in which they were last used: using one, adding one and dropping the one that
//! has not been used for longest take constant time.
//!
//! The items lie in one vector, linked by their places, so that a use moves no item and allocates
//! nothing. The place of an item is its user's to keep.

/// Where an item is, until it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(u32);

const NOWHERE: u32 = u32::MAX;

struct Node<T> {
    /// None if the place is free; `newer` then is the next free one.
    item: Option<T>,
    older: u32,
    newer: u32,
}

pub struct Recency<T> {
    nodes: Vec<Node<T>>,
    oldest: u32,
    newest: u32,
    free: u32,
    len: usize,
}

impl<T> Default for Recency<T> {
    fn default() -> Self {
        Recency { nodes: Vec::new(), oldest: NOWHERE, newest: NOWHERE, free: NOWHERE, len: 0 }
    }
}

impl<T> Recency<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item, which has just been used.
    pub fn add(&mut self, item: T) -> Place {
        let node = Node { item: Some(item), older: NOWHERE, newer: NOWHERE };
        let place = match self.nodes.get_mut(self.free as usize) {
            Some(vacant) => {
                let place = self.free;
                self.free = std::mem::replace(vacant, node).newer;
                place
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("there are fewer items than that")
            }
        };
        self.len += 1;
        self.link(place);
        Place(place)
    }

    /// The item of this place has been used.
    #[inline]
    pub fn touch(&mut self, place: Place) {
        if place.0 != self.newest {
            self.unlink(place.0);
            self.link(place.0);
        }
    }

    pub fn remove(&mut self, place: Place) -> T {
        self.unlink(place.0);
        self.len -= 1;
        let free = std::mem::replace(&mut self.free, place.0);
        let node = self.node(place.0);
        node.newer = free;
        node.item.take().expect("a place is given up once")
    }

    /// Removes the item that has not been used for longest.
    pub fn remove_oldest(&mut self) -> Option<T> {
        (!self.is_empty()).then(|| self.remove(Place(self.oldest)))
    }

    fn node(&mut self, place: u32) -> &mut Node<T> {
        &mut self.nodes[place as usize]
    }

    /// Makes a node the newest one.
    fn link(&mut self, place: u32) {
        let older = std::mem::replace(&mut self.newest, place);
        let node = self.node(place);
        (node.older, node.newer) = (older, NOWHERE);
        match older {
            NOWHERE => self.oldest = place,
            _ => self.node(older).newer = place,
        }
    }

    fn unlink(&mut self, place: u32) {
        let Node { older, newer, .. } = *self.node(place);
        match older {
            NOWHERE => self.oldest = newer,
            _ => self.node(older).newer = newer,
        }
        match newer {
            NOWHERE => self.newest = older,
            _ => self.node(newer).older = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    /// A list, whose first item is the oldest, says the same.
    #[test]
    fn items_leave_in_the_order_in_which_they_were_used() {
        for seed in 0..50 {
            let mut prng = Prng::seeded(seed);
            let (mut recency, mut model) = (Recency::default(), Vec::<(Place, u64)>::new());
            for item in 0..400 {
                let chosen = prng.below(model.len().max(1) as u64) as usize;
                match prng.below(6) {
                    0 if !model.is_empty() => {
                        let (place, item) = model.remove(chosen);
                        assert_eq!(recency.remove(place), item);
                    }
                    1 => {
                        let oldest = (!model.is_empty()).then(|| model.remove(0).1);
                        assert_eq!(recency.remove_oldest(), oldest);
                    }
                    2 | 3 if !model.is_empty() => {
                        let used = model.remove(chosen);
                        recency.touch(used.0);
                        model.push(used);
                    }
                    _ => model.push((recency.add(item), item)),
                }
                assert_eq!((recency.len(), recency.is_empty()), (model.len(), model.is_empty()));
            }
            let left = std::iter::from_fn(|| recency.remove_oldest());
            assert!(left.eq(model.into_iter().map(|(_, item)| item)), "seed {seed}");
        }
    }
}
