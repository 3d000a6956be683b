//! Votes: who of the Sentinels may carry out a failover.
//!
//! Each has one vote an epoch and master, and gives it to whoever asks first. A vote counts, ours
//! for ourselves too, only when the file holds it: one that comes back from a crash must not vote
//! a second time.

use super::instances::{Flags, Id, State};
use super::{Level, Sentinel};
use std::collections::BTreeMap;

/// Failovers start so much apart by chance, so that not all Sentinels ask for votes at once.
const DESYNC_MS: u64 = 1000;

/// For whom this Sentinel has voted.
pub(super) struct Vote {
    pub leader: Option<String>,
    pub epoch: u64,
    /// The file must hold this before anybody is told.
    pub generation: u64,
}

impl Sentinel {
    /// Gives our vote of an epoch, unless it is given; what it is.
    pub(super) fn vote(&mut self, master: Id, epoch: u64, run_id: &str) -> Vote {
        if epoch > self.current_epoch {
            self.current_epoch = epoch;
            self.persist();
            self.tell_new_epoch(master);
        }
        if self.instances[master].group.leader_epoch < epoch && self.current_epoch <= epoch {
            let group = &mut self.instances[master].group;
            group.leader = Some(run_id.to_owned());
            group.leader_epoch = epoch;
            self.persist();
            self.instances[master].group.vote_generation = self.generation;
            let text = format!("{run_id} {epoch}");
            self.tell(Level::Warning, "+vote-for-leader", Some(master), text);
            if run_id != self.my_id {
                // Whoever has our vote is to have time, before we try ourselves.
                let start_ms = self.now.mono_ms + self.prng.below(DESYNC_MS);
                self.instances[master].group.failover_start_ms = Some(start_ms);
            }
        }
        let group = &self.instances[master].group;
        Vote {
            leader: group.leader.clone(),
            epoch: group.leader_epoch,
            generation: group.vote_generation,
        }
    }

    /// Who has won the votes of an epoch, as far as we have heard. Our own vote goes to whoever is
    /// in front.
    pub(super) fn leader_of(&mut self, master: Id, epoch: u64) -> Option<String> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        // Once there is a newer epoch nobody can win an older one.
        let current = self.current_epoch;
        let sentinels = self.instances[master].group.sentinels.clone();
        for id in &sentinels {
            let voter = &self.instances[*id].voter;
            if let Some(leader) = voter.leader.as_ref().filter(|_| voter.leader_epoch == current) {
                *counts.entry(leader.clone()).or_default() += 1;
            }
        }
        let front = counts.iter().max_by_key(|(_, votes)| **votes);
        let choice = front.map_or_else(|| self.my_id.clone(), |(leader, _)| leader.clone());
        let own = self.vote(master, epoch, &choice);
        if own.epoch == epoch
            && self.is_saved(own.generation)
            && let Some(leader) = own.leader
        {
            *counts.entry(leader).or_default() += 1;
        }
        let voters = sentinels.len() + 1;
        let majority = voters / 2 + 1;
        let needed = majority.max(self.instances[master].group.quorum as usize);
        let winner = counts.into_iter().max_by_key(|(_, votes)| *votes);
        winner.filter(|(_, votes)| *votes >= needed).map(|(leader, _)| leader)
    }

    /// Begins to ask for votes.
    pub(super) fn start_failover(&mut self, master: Id) {
        self.current_epoch += 1;
        let (epoch, now_ms) = (self.current_epoch, self.now.mono_ms);
        let start_ms = now_ms + self.prng.below(DESYNC_MS);
        let instance = &mut self.instances[master];
        instance.flags.add(Flags::FAILOVER);
        instance.group.state = State::WaitStart;
        instance.group.state_changed_ms = now_ms;
        instance.group.failover_epoch = epoch;
        instance.group.failover_start_ms = Some(start_ms);
        // The epoch is ours alone only if we never begin it again.
        self.persist();
        self.tell_new_epoch(master);
        self.event(Level::Warning, "+try-failover", master, "");
    }

    /// Starts a failover if the master is down for enough of us and no other is under way or has
    /// just been tried.
    pub(super) fn start_failover_if_needed(&mut self, master: Id) -> bool {
        let instance = &self.instances[master];
        if !instance.flags.has(Flags::O_DOWN) || instance.flags.has(Flags::FAILOVER) {
            return false;
        }
        let pause_ms = instance.group.failover_timeout_ms.saturating_mul(2);
        let Some(last_ms) = instance.group.failover_start_ms else {
            self.start_failover(master);
            return true;
        };
        let next_ms = last_ms.saturating_add(pause_ms);
        if self.now.mono_ms >= next_ms {
            self.start_failover(master);
            return true;
        }
        if instance.group.delay_logged_ms != Some(last_ms) {
            let date = (self.surroundings.date)(self.now.unix_ms + next_ms - self.now.mono_ms);
            self.instances[master].group.delay_logged_ms = Some(last_ms);
            let text = format!("Next failover delay: I will not start a failover before {date}");
            self.log(Level::Notice, text);
        }
        false
    }
}
