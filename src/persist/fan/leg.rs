//! One who is sent a snapshot: how far it has come, and what becomes of it.

use super::ring::Ring;
use super::{Fate, Outlet, Recipient};
use crate::config::os_reason;
use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Most pieces that are offered at once.
const SLICES: usize = 64;

pub struct Leg<K, O> {
    pub recipient: Recipient<K, O>,
    /// How much of what goes before the snapshot has been taken.
    head_taken: usize,
    /// How much of the snapshot has been.
    pub at: u64,
    /// Since when it has taken nothing of what it was offered.
    stuck_since: Option<Duration>,
}

impl<K, O: Outlet> Leg<K, O> {
    pub fn new(recipient: Recipient<K, O>) -> Leg<K, O> {
        Leg { recipient, head_taken: 0, at: 0, stuck_since: None }
    }

    /// It is told this before the snapshot.
    pub fn tell(&mut self, bytes: &[u8]) {
        self.recipient.head.extend_from_slice(bytes);
    }

    pub fn has_taken_head(&self) -> bool {
        self.head_taken == self.recipient.head.len()
    }

    /// Whether there is something for it.
    pub fn is_waiting(&self, ring: &Ring) -> bool {
        !self.has_taken_head() || self.at < ring.end()
    }

    /// Gives it what it takes; what has become of it, if it is to be sent nothing more.
    pub fn go_on(&mut self, ring: &Ring, now: Duration, timeout: Duration) -> Option<Fate> {
        if self.recipient.is_gone.load(Ordering::Relaxed) {
            return Some(Fate::Lost("its connection has ended".to_owned()));
        }
        while self.is_waiting(ring) {
            match self.offer(ring) {
                Ok(0) => return Some(Fate::Lost("it takes nothing any more".to_owned())),
                Ok(taken) => self.pass(taken),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let since = *self.stuck_since.get_or_insert(now);
                    return (now.saturating_sub(since) >= timeout).then_some(Fate::TimedOut);
                }
                Err(error) => return Some(Fate::Lost(os_reason(&error))),
            }
        }
        self.stuck_since = None;
        None
    }

    fn offer(&mut self, ring: &Ring) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let head = &self.recipient.head[self.head_taken..];
        slices[0] = IoSlice::new(head);
        let first = usize::from(!head.is_empty());
        let filled =
            if self.at < ring.end() { ring.fill(self.at, &mut slices[first..]) } else { 0 };
        self.recipient.outlet.try_write(&slices[..first + filled])
    }

    fn pass(&mut self, taken: usize) {
        let of_head = taken.min(self.recipient.head.len() - self.head_taken);
        self.head_taken += of_head;
        self.at += (taken - of_head) as u64;
        self.stuck_since = None;
    }
}
