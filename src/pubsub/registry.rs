//! Who listens to which channel, in the order in which they came.
//!
//! Each subscription has a number, which is drawn once and kept on both sides: a channel's
//! listeners stand in the order of their numbers, so one that leaves is found by bisection, however
//! many there are, and a listener's own subscriptions can be listed in the order in which it made
//! them. To find a leaver by looking through the channel was refused: ten thousand clients that
//! leave one channel would take a second. Patterns are tried one by one in the order in which they
//! were first subscribed to, which is the same in every run with the same seed.
//!
//! Invariant: a client is among a topic's listeners, under some number, if and only if the topic is
//! among its subscriptions under that number; no list of listeners is empty.

use super::names::Names;
use crate::structs::glob;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What can be listened to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    Channel,
    Pattern,
    ShardChannel,
}

const TOPICS: usize = 3;

/// How many names of each kind are listened to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TopicCounts {
    pub channels: usize,
    pub patterns: usize,
    pub shard_channels: usize,
}

impl TopicCounts {
    fn of(count: impl Fn(Topic) -> usize) -> TopicCounts {
        TopicCounts {
            channels: count(Topic::Channel),
            patterns: count(Topic::Pattern),
            shard_channels: count(Topic::ShardChannel),
        }
    }
}

/// What one client listens to, each with the number of the subscription.
#[derive(Default)]
pub struct Subscriptions {
    names: [Names<u64>; TOPICS],
}

impl Subscriptions {
    pub fn count(&self, topic: Topic) -> usize {
        self.names[topic as usize].len()
    }

    pub fn counts(&self) -> TopicCounts {
        TopicCounts::of(|topic| self.count(topic))
    }

    pub fn is_empty(&self) -> bool {
        self.names.iter().all(Names::is_empty)
    }

    /// The names, in the order in which they were subscribed to.
    pub fn in_order(&self, topic: Topic) -> Vec<Rc<[u8]>> {
        let names = &self.names[topic as usize];
        let mut all: Vec<(u64, Rc<[u8]>)> =
            names.iter().map(|(name, number)| (*number, Rc::clone(name))).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, name)| name).collect()
    }

    /// What the tables take, without the names, which the registry shares.
    pub fn memory_bytes(&self) -> usize {
        let entry = size_of::<(Rc<[u8]>, u64)>() + 1;
        self.names.iter().map(|names| names.capacity() * entry).sum()
    }
}

/// The listeners of one name.
struct Listeners<C> {
    /// The number of the first subscription: the place of a pattern among the patterns.
    born: u64,
    /// By number.
    clients: Vec<(u64, C)>,
}

pub struct Registry<C> {
    names: [Names<Listeners<C>>; TOPICS],
    patterns: BTreeMap<u64, Rc<[u8]>>,
    next_number: u64,
}

impl<C> Default for Registry<C> {
    fn default() -> Self {
        Registry { names: Default::default(), patterns: BTreeMap::new(), next_number: 0 }
    }
}

impl<C: Copy> Registry<C> {
    /// The number of names of this kind that somebody listens to.
    pub fn count(&self, topic: Topic) -> usize {
        self.names[topic as usize].len()
    }

    pub fn counts(&self) -> TopicCounts {
        TopicCounts::of(|topic| self.count(topic))
    }

    /// Whether nobody listens to anything.
    pub fn is_empty(&self) -> bool {
        self.names.iter().all(Names::is_empty)
    }

    /// All names of this kind, in no order.
    pub fn names(&self, topic: Topic) -> impl Iterator<Item = &[u8]> {
        self.names[topic as usize].iter().map(|(name, _)| &**name)
    }

    pub fn listener_count(&self, topic: Topic, name: &[u8]) -> usize {
        self.names[topic as usize].get(name).map_or(0, |found| found.clients.len())
    }

    /// Who listens to exactly this name, first come first.
    pub fn listeners(&self, topic: Topic, name: &[u8]) -> impl Iterator<Item = C> + use<'_, C> {
        let found = self.names[topic as usize].get(name);
        let clients = found.map_or(&[][..], |found| &found.clients);
        clients.iter().map(|(_, client)| *client)
    }

    /// The patterns that match a channel, oldest first.
    pub fn matching<'a>(
        &'a self,
        channel: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, C> {
        let fits = |p: &&Rc<[u8]>| glob::matches(p, channel, glob::Case::Sensitive);
        self.patterns.values().filter(fits).map(|pattern| &**pattern)
    }

    /// False if the client listens to this already.
    pub fn subscribe(
        &mut self,
        own: &mut Subscriptions,
        topic: Topic,
        name: &[u8],
        client: C,
    ) -> bool {
        if own.names[topic as usize].contains(name) {
            return false;
        }
        let number = self.next_number;
        self.next_number += 1;
        let names = &mut self.names[topic as usize];
        let shared = match names.find_mut(name) {
            Some((shared, found)) => {
                found.clients.push((number, client));
                Rc::clone(shared)
            }
            None => {
                let shared: Rc<[u8]> = name.into();
                let listeners = Listeners { born: number, clients: vec![(number, client)] };
                names.insert(Rc::clone(&shared), listeners);
                if topic == Topic::Pattern {
                    self.patterns.insert(number, Rc::clone(&shared));
                }
                shared
            }
        };
        own.names[topic as usize].insert(shared, number);
        true
    }

    /// False if the client does not listen to this.
    pub fn unsubscribe(&mut self, own: &mut Subscriptions, topic: Topic, name: &[u8]) -> bool {
        let Some(number) = own.names[topic as usize].remove(name) else { return false };
        self.take_out(topic, name, number);
        true
    }

    /// Ends all that a client listens to.
    pub fn forget(&mut self, own: Subscriptions) {
        let topics = [Topic::Channel, Topic::Pattern, Topic::ShardChannel];
        for (topic, names) in topics.into_iter().zip(own.names) {
            for (name, number) in names.into_entries() {
                self.take_out(topic, &name, number);
            }
        }
    }

    fn take_out(&mut self, topic: Topic, name: &[u8], number: u64) {
        let names = &mut self.names[topic as usize];
        let found = names.get_mut(name).expect("what a client listens to has listeners");
        let at = found.clients.binary_search_by_key(&number, |(number, _)| *number);
        found.clients.remove(at.expect("the client is among them"));
        if found.clients.is_empty() {
            self.patterns.remove(&found.born).filter(|_| topic == Topic::Pattern);
            names.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    #[test]
    fn listeners_stand_in_the_order_they_came() {
        let mut registry = Registry::default();
        let mut own: [Subscriptions; 3] = Default::default();
        for client in [2usize, 0, 1] {
            assert!(registry.subscribe(&mut own[client], Topic::Channel, b"c", client));
            assert!(!registry.subscribe(&mut own[client], Topic::Channel, b"c", client));
        }
        let listening = |r: &Registry<usize>| r.listeners(Topic::Channel, b"c").collect::<Vec<_>>();
        assert_eq!(listening(&registry), [2, 0, 1]);
        assert!(registry.unsubscribe(&mut own[0], Topic::Channel, b"c"));
        assert!(!registry.unsubscribe(&mut own[0], Topic::Channel, b"c"));
        assert_eq!(listening(&registry), [2, 1]);
        for subscriptions in own {
            registry.forget(subscriptions);
        }
        assert!(registry.is_empty());
    }

    #[test]
    fn patterns_match_in_the_order_they_came() {
        let mut registry = Registry::default();
        let mut own = Subscriptions::default();
        for pattern in ["z*", "a*", "*"] {
            registry.subscribe(&mut own, Topic::Pattern, pattern.as_bytes(), 1);
        }
        let matching = |r: &Registry<i32>, channel: &[u8]| -> Vec<String> {
            r.matching(channel).map(|p| String::from_utf8_lossy(p).into_owned()).collect()
        };
        assert_eq!(matching(&registry, b"zoo"), ["z*", "*"]);
        registry.unsubscribe(&mut own, Topic::Pattern, b"z*");
        assert_eq!(matching(&registry, b"zoo"), ["*"]);
        assert_eq!(own.in_order(Topic::Pattern).len(), 2);
        registry.forget(own);
        assert!(registry.is_empty() && registry.patterns.is_empty());
    }

    /// Both sides agree whatever is done, and nothing is left at the end.
    #[test]
    fn random_subscriptions_agree_with_a_set_of_pairs() {
        let mut prng = Prng::seeded(11);
        let mut registry = Registry::default();
        let mut own: Vec<Subscriptions> = (0..5).map(|_| Subscriptions::default()).collect();
        let mut model = std::collections::BTreeSet::new();
        let topics = [Topic::Channel, Topic::Pattern, Topic::ShardChannel];
        for _ in 0..4000 {
            let client = prng.below(5) as usize;
            let topic = topics[prng.below(3) as usize];
            let name = [b'a' + prng.below(6) as u8];
            let key = (topic as usize, name, client);
            if prng.below(2) == 0 {
                let is_new = registry.subscribe(&mut own[client], topic, &name, client);
                assert_eq!(is_new, model.insert(key));
            } else {
                assert_eq!(
                    registry.unsubscribe(&mut own[client], topic, &name),
                    model.remove(&key)
                );
            }
            let count = model.iter().filter(|(t, n, _)| (*t, *n) == (key.0, key.1)).count();
            assert_eq!(registry.listener_count(topic, &name), count);
            let mine = model.iter().filter(|(t, _, c)| (*t, *c) == (key.0, client)).count();
            assert_eq!(own[client].count(topic), mine);
        }
        own.into_iter().for_each(|subscriptions| registry.forget(subscriptions));
        assert!(registry.is_empty() && registry.patterns.is_empty());
    }
}
