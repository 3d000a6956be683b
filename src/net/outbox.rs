//! The second half of a connection: what has to go out to a client.
//!
//! It stays with the executor, who alone knows what may leave: as much of it as the append-only
//! file holds what it tells of.

use crate::engine::hold::{Holds, Release, Told};
use crate::engine::turn::OutputFigures;
use crate::resp::ReplyBuf;
use std::time::Instant;

#[derive(Default)]
pub struct Outbox {
    pub out: ReplyBuf,
    /// What of it must wait for the append-only file.
    holds: Holds,
    /// No more requests are run; the connection ends when the output has left.
    pub is_closing: bool,
    /// How much has left, all in all.
    left_total: u64,
    /// Since when the output has been over the soft limit.
    pub over_soft_limit: Option<Instant>,
}

impl Outbox {
    /// What has been added tells of this.
    pub fn mark(&mut self, told: Told, release: Release) {
        let end = self.left_total + self.out.len() as u64;
        self.holds.tell(told, release, self.left_total, end);
    }

    /// How many bytes may leave now.
    pub fn free(&mut self, release: Release) -> usize {
        if self.holds.is_empty() {
            return usize::MAX;
        }
        self.holds.free(self.left_total, release)
    }

    /// Whether some of what waits for the append-only file may leave now.
    pub fn may_go_on(&self, release: Release) -> bool {
        self.holds.may_go_on(release)
    }

    /// So many bytes have left.
    pub fn advance(&mut self, count: usize) {
        self.out.advance(count);
        self.left_total += count as u64;
    }

    pub fn figures(&self) -> OutputFigures {
        OutputFigures {
            bytes: self.out.len(),
            own_bytes: self.out.own_memory(),
            written_bytes_total: self.left_total,
        }
    }
}
