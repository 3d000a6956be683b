//! Sessions that clients may take up again, so that they need not shake hands in full.
//!
//! They outlive a reload of certificates, unless what is asked of clients has changed: a session
//! stands for a certificate that was checked. One that cannot be taken up costs its client a full
//! handshake, and is no failure.

use rustls::server::StoresServerSessions;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many sessions are kept, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// 0 sets no limit.
    pub count: usize,
    pub lifetime: Duration,
}

#[derive(Debug)]
pub struct Sessions(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    limits: Limits,
    by_key: HashMap<Vec<u8>, (Instant, Vec<u8>)>,
    /// The keys with the moments at which they came, oldest first; some may be gone already.
    order: VecDeque<(Instant, Vec<u8>)>,
}

impl Sessions {
    pub fn new(limits: Limits) -> Sessions {
        let (by_key, order) = Default::default();
        Sessions(Mutex::new(Kept { limits, by_key, order }))
    }

    /// Has other limits hold from now on.
    pub fn limit(&self, limits: Limits) {
        let mut kept = self.kept();
        kept.limits = limits;
        kept.tidy(Instant::now());
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>, now: Instant) {
        self.by_key.insert(key.clone(), (now, value));
        self.order.push_back((now, key));
        self.tidy(now);
    }

    /// Drops what is too old, and the oldest of what is too much.
    fn tidy(&mut self, now: Instant) {
        while let Some((came, key)) = self.order.front() {
            let is_there = self.by_key.get(key).is_some_and(|(own, _)| own == came);
            let is_old = now.duration_since(*came) >= self.limits.lifetime;
            let is_too_much = self.limits.count > 0 && self.by_key.len() > self.limits.count;
            if is_there && !is_old && !is_too_much {
                break;
            }
            if is_there {
                self.by_key.remove(key);
            }
            self.order.pop_front();
        }
        // Sessions that were taken up leave their keys behind, which may be in the middle.
        if self.order.len() > 2 * self.by_key.len() + 16 {
            let by_key = &self.by_key;
            self.order.retain(|(came, key)| by_key.get(key).is_some_and(|(own, _)| own == came));
        }
    }

    fn get(&self, key: &[u8], now: Instant) -> Option<&Vec<u8>> {
        let (came, value) = self.by_key.get(key)?;
        (now.duration_since(*came) < self.limits.lifetime).then_some(value)
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.kept().put(key, value, Instant::now());
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept().get(key, Instant::now()).cloned()
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut kept = self.kept();
        let value = kept.get(key, Instant::now()).cloned();
        kept.by_key.remove(key);
        value
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(count: usize) -> Kept {
        let limits = Limits { count, lifetime: Duration::from_secs(10) };
        Kept { limits, by_key: HashMap::new(), order: VecDeque::new() }
    }

    #[test]
    fn sessions_end_by_age_and_by_number() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut kept = kept(2);
        for (key, seconds) in [(1u8, 0), (2, 1), (3, 2)] {
            kept.put(vec![key], vec![key], at(seconds));
        }
        assert_eq!(kept.get(&[1], at(2)), None, "the oldest made room");
        assert_eq!(kept.get(&[2], at(10)), Some(&vec![2]));
        assert_eq!(kept.get(&[2], at(11)), None);
        kept.put(vec![3], vec![4], at(13));
        assert_eq!(kept.get(&[3], at(13)), Some(&vec![4]), "put again, it is new");
        assert_eq!((kept.by_key.len(), kept.order.len()), (1, 1));
    }

    #[test]
    fn what_was_taken_leaves_nothing_behind() {
        let mut kept = kept(0);
        let now = Instant::now();
        kept.put(vec![0], vec![0], now);
        for number in 1..10_000u32 {
            kept.put(number.to_le_bytes().to_vec(), Vec::new(), now);
            kept.by_key.remove(&number.to_le_bytes()[..]);
        }
        assert_eq!(kept.by_key.len(), 1);
        assert!(kept.order.len() < 50, "{}", kept.order.len());
    }
}
