//! Output that waits until the AOF holds what it tells of.
//!
//! Every output, be it a reply, a message or the answer of a timer, tells of the write stream up to
//! some offset ([`Told`]); it may leave when the AOF has come there ([`Release`]). A connection
//! remembers this by marks: up to this place of the output, that offset. One mark stands for all of
//! a turn, so a client that pipelines has a few. Output that answers no write is held only under
//! `always`, where it must not tell of a write that a loss of power would undo, and not while the
//! disk fails: reads go on.
//!
//! The alternative refused is to mark output when it is about to be written: by then nobody knows
//! which of it was caused by a write, and what timers cause has been overlooked.

use super::Engine;
use std::collections::VecDeque;

/// What an output tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// The end of the write stream at that time.
    pub offset: u64,
    /// It was caused by something that was written, or may have been.
    pub of_writes: bool,
}

impl Told {
    /// The same of output that is known to answer a write.
    pub fn of_writes_if(self, is_so: bool) -> Told {
        Told { of_writes: self.of_writes || is_so, ..self }
    }
}

/// What the AOF releases now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Release {
    /// Up to this offset of the write stream.
    upto: u64,
    /// Output that answers no write waits, too.
    holds_all: bool,
    /// The disk fails: only writers wait.
    fails: bool,
}

impl Release {
    fn frees(self, mark: &Mark) -> bool {
        mark.offset <= self.upto || (self.fails && !mark.has_writes)
    }

    /// Whether output that tells of this must wait.
    pub fn holds(self, told: Told) -> bool {
        told.offset > self.upto && (told.of_writes || (self.holds_all && !self.fails))
    }
}

impl Engine {
    /// What output tells of that is handed out now: effects that are about to be taken, or the
    /// replies of a turn.
    pub fn told(&mut self) -> Told {
        let offset = self.server.propagation.told_offset();
        let before = std::mem::replace(&mut self.told_upto, offset);
        Told { offset, of_writes: offset > before }
    }

    pub fn release(&self) -> Release {
        let aof = &self.server.aof;
        Release { upto: aof.released(), holds_all: aof.syncs_always(), fails: aof.has_fault() }
    }
}

/// A connection has at most so many marks; more are joined with the last.
const MARKS_MAX: usize = 16;

/// The output up to `end` may leave when the AOF has come to `offset`.
struct Mark {
    offset: u64,
    end: u64,
    /// Some of it answers writes.
    has_writes: bool,
}

/// What of a connection's output must wait. Places are counted in bytes since the connection's
/// start.
#[derive(Default)]
pub struct Holds {
    marks: VecDeque<Mark>,
    /// Where the output ended when it was last looked at.
    seen_end: u64,
    /// Output before this is free, if there are marks.
    free_end: u64,
}

impl Holds {
    /// Output has been added that ends at `end`, of which `written` bytes have left, and it tells
    /// of this.
    pub fn tell(&mut self, told: Told, release: Release, written: u64, end: u64) {
        if end > self.seen_end && release.holds(told) {
            self.add(told, written, end);
        }
        self.seen_end = end;
    }

    /// How many bytes may leave now, given that `written` have.
    pub fn free(&mut self, written: u64, release: Release) -> usize {
        while let Some(mark) = self.marks.pop_front_if(|mark| release.frees(mark)) {
            self.free_end = mark.end;
        }
        if self.marks.is_empty() {
            return usize::MAX;
        }
        usize::try_from(self.free_end.saturating_sub(written)).unwrap_or(usize::MAX)
    }

    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Whether some of what waits may leave now.
    pub fn may_go_on(&self, release: Release) -> bool {
        self.marks.front().is_none_or(|mark| release.frees(mark))
    }

    fn add(&mut self, told: Told, written: u64, end: u64) {
        let Told { offset, of_writes } = told;
        if self.marks.is_empty() {
            // What was not held before is free.
            self.free_end = self.seen_end.max(written);
        }
        let is_full = self.marks.len() >= MARKS_MAX;
        match self.marks.back_mut() {
            Some(last) if last.offset == offset || is_full => {
                *last = Mark { offset, end, has_writes: last.has_writes || of_writes };
            }
            _ => self.marks.push_back(Mark { offset, end, has_writes: of_writes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: usize = usize::MAX;

    fn upto(upto: u64) -> Release {
        Release { upto, holds_all: true, fails: false }
    }

    fn write_at(offset: u64) -> Told {
        Told { offset, of_writes: true }
    }

    fn read_at(offset: u64) -> Told {
        Told { offset, of_writes: false }
    }

    #[test]
    fn output_leaves_as_far_as_the_aof_has_come() {
        let mut holds = Holds::default();
        assert_eq!(holds.free(0, upto(0)), EVERYTHING);
        holds.tell(write_at(10), upto(0), 100, 150);
        holds.tell(write_at(20), upto(0), 100, 180);
        holds.tell(read_at(20), upto(0), 100, 190);
        assert_eq!(holds.free(100, upto(9)), 0);
        assert_eq!(holds.free(100, upto(19)), 50);
        assert_eq!(holds.free(120, upto(19)), 30, "some of it has left");
        assert_eq!(holds.free(120, upto(20)), EVERYTHING);
        assert!(holds.is_empty());
    }

    #[test]
    fn what_came_before_the_first_held_output_is_free() {
        let mut holds = Holds::default();
        holds.tell(read_at(0), upto(0), 0, 50);
        holds.tell(write_at(10), upto(0), 20, 80);
        assert_eq!(holds.free(20, upto(0)), 30);
    }

    #[test]
    fn many_marks_become_few_and_hold_no_less() {
        let mut holds = Holds::default();
        for turn in 1..=100 {
            holds.tell(write_at(turn * 10), upto(0), 0, turn);
        }
        assert_eq!(holds.marks.len(), MARKS_MAX);
        assert_eq!(holds.free(0, upto(20)), 2);
        assert_eq!(holds.free(0, upto(999)), 15);
        assert_eq!(holds.free(0, upto(1000)), EVERYTHING);
    }

    #[test]
    fn readers_do_not_wait_for_a_disk_that_fails() {
        let fails = Release { upto: 0, holds_all: true, fails: true };
        let mut reader = Holds::default();
        reader.tell(read_at(10), upto(0), 0, 5);
        assert_eq!(reader.free(0, upto(0)), 0);
        assert_eq!(reader.free(0, fails), EVERYTHING);
        reader.tell(read_at(10), fails, 0, 9);
        assert!(reader.is_empty());
        let mut writer = Holds::default();
        writer.tell(write_at(10), upto(0), 0, 5);
        writer.tell(read_at(20), upto(0), 0, 9);
        assert_eq!(writer.free(0, fails), 0, "replies keep their order");
    }

    #[test]
    fn only_writers_wait_unless_every_write_is_synced() {
        let release = Release { upto: 0, holds_all: false, fails: false };
        let mut holds = Holds::default();
        holds.tell(read_at(10), release, 0, 5);
        assert_eq!(holds.free(0, release), EVERYTHING);
        holds.tell(write_at(10), release, 0, 9);
        assert_eq!(holds.free(0, release), 5);
    }
}
