//! Trimming: old entries go, down to a length or up to an ID, exactly or by whole nodes.
//!
//! What goes as whole nodes is cut off the tree at once. With regard to groups, the entries that
//! would go are looked at one by one, which only a stream with groups pays for.

use super::{Entries, Stream, StreamId};

/// So many nodes are worth being freed by another thread.
const FREE_INLINE_NODES_MAX: usize = 64;

/// Up to where a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// So many entries stay.
    Length(u64),
    /// Entries before this ID go.
    Id(StreamId),
}

/// A trimming: where to, and how exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    pub threshold: Threshold,
    /// Only whole nodes go.
    pub is_approximate: bool,
    /// At most so many entries go, in whole nodes; `None` sets no limit.
    pub limit: Option<u64>,
}

/// What becomes of groups in which a deleted entry is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum References {
    Keep,
    Delete,
    /// Only what every group is done with is deleted.
    Acknowledged,
}

/// What a trimming did.
#[derive(Default)]
pub struct Trimmed {
    pub count: usize,
    /// What was there before, if that is much and should be freed elsewhere.
    pub old: Option<Entries>,
}

/// Which entries may go, if not all.
type MayGo<'a> = Option<&'a dyn Fn(StreamId) -> bool>;

impl Entries {
    /// How many of the first nodes go as a whole in a trimming, with how many entries. One with an
    /// entry that may not go ends them.
    fn doomed_nodes(&self, trim: &Trim, may_go: MayGo<'_>) -> (usize, usize) {
        let (mut nodes, mut entries) = (0, 0);
        for node in self.nodes() {
            let (live, left) = (node.live(), self.len() - entries);
            let goes = match trim.threshold {
                Threshold::Length(max) => left as u64 > max && (left - live) as u64 >= max,
                Threshold::Id(min) => node.last() < min,
            };
            let is_beyond = trim.limit.is_some_and(|limit| (entries + live) as u64 > limit);
            let may_go = may_go.is_none_or(|may_go| node.entries().all(|entry| may_go(entry.id)));
            if !goes || is_beyond || !may_go {
                break;
            }
            nodes += 1;
            entries += live;
        }
        (nodes, entries)
    }

    /// Deletes entries from the start on.
    pub fn trim(&mut self, trim: &Trim) -> Trimmed {
        self.trim_while(trim, None)
    }

    /// The same, up to the first node that holds an entry which may not go.
    fn trim_while(&mut self, trim: &Trim, may_go: MayGo<'_>) -> Trimmed {
        let (nodes, mut count) = self.doomed_nodes(trim, may_go);
        let old = (nodes > FREE_INLINE_NODES_MAX).then(|| self.clone());
        self.nodes.remove(0..nodes);
        if !trim.is_approximate {
            count += self.trim_first_node(trim.threshold);
        }
        Trimmed { count, old }
    }

    /// Deletes the first entries of the first node, which does not go as a whole.
    fn trim_first_node(&mut self, threshold: Threshold) -> usize {
        let goes = |left: u64, id: StreamId| match threshold {
            Threshold::Length(max) => left > max,
            Threshold::Id(min) => id < min,
        };
        let mut left = self.len() as u64;
        // Asked before anything is changed, so that a snapshot's node is not copied for nothing.
        if !self.first_id().is_some_and(|first| goes(left, first)) {
            return 0;
        }
        let wants = |id: StreamId| {
            let goes = goes(left, id);
            left = left.saturating_sub(1);
            goes
        };
        let deleted = self.nodes.update(|_| false, |node| (node.delete_first(wants), None));
        deleted.unwrap_or(0)
    }
}

impl Stream {
    /// Deletes entries from the start on, with regard to groups.
    pub fn trim(&mut self, trim: &Trim, references: References) -> Trimmed {
        match references {
            _ if self.groups.is_empty() => self.entries.trim(trim),
            References::Keep => self.entries.trim(trim),
            References::Delete => {
                let old = self.entries.clone();
                let trimmed = self.entries.trim(trim);
                for entry in old.all().take(trimmed.count) {
                    self.groups.release(entry.id);
                }
                trimmed
            }
            References::Acknowledged if trim.is_approximate => {
                let Stream { entries, groups } = self;
                entries.trim_while(trim, Some(&|id| groups.are_done_with(id)))
            }
            References::Acknowledged => self.trim_acknowledged(trim),
        }
    }

    /// Deletes what every group is done with: the oldest of it until the stream is short enough, or
    /// all of it before an ID. The gaps that this leaves need no record: who comes later counts
    /// from the entries that are there, and all others are beyond them.
    fn trim_acknowledged(&mut self, trim: &Trim) -> Trimmed {
        let old = self.entries.clone();
        let mut count = 0;
        for entry in old.all() {
            let goes = match trim.threshold {
                Threshold::Length(max) => self.entries.len() as u64 > max,
                Threshold::Id(min) => entry.id < min,
            };
            if !goes {
                break;
            }
            if self.groups.are_done_with(entry.id) {
                self.entries.remove(entry.id);
                count += 1;
            }
        }
        Trimmed { count, old: Some(old) }
    }
}
