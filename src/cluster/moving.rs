//! Replicas that move to primaries that have lost theirs.
//!
//! Of the primaries that have most replicas one gives one away, if enough are left; of all their
//! replicas the one with the smallest name goes. Each replica comes to that by itself, so two may
//! go at a time if they see things differently; that does no harm.

use super::flags::Flags;
use super::machine::{Cluster, Cx};
use super::table::NodeKey;

/// The own replicas of a primary that took over need some time to follow it.
const DELAY_MS: u64 = 5000;

const DOWN: Flags = Flags::PFAIL.or(Flags::FAIL);

impl Cluster {
    pub(super) fn migrate_if_missed(&mut self, cx: &mut Cx) {
        let Some(primary) = self.table.myself().primary() else { return };
        if !self.settings.allows_replica_migration || !self.is_up() {
            return;
        }
        let counts = self.able_replica_counts();
        let target = self.note_orphans(&counts, cx);
        let Some(target) = target else { return };
        let count_of = |key: NodeKey| counts[key.number()];
        let most = counts.iter().copied().max().unwrap_or(0);
        let has_enough = count_of(primary) > self.settings.migration_barrier;
        if most < 2 || count_of(primary) != most || !has_enough || !self.is_first(&counts, most) {
            return;
        }
        let since_ms = self.table.node(target).health.orphaned_since_ms;
        if since_ms.is_some_and(|since_ms| cx.now.age_ms(since_ms) > DELAY_MS) {
            let (named, shard) = (self.named(target), self.table.node(target).shard());
            cx.notice(format!("Migrating to orphaned primary {named} in shard {shard}"));
            self.become_replica(target, false, cx);
        }
    }

    /// By the number of a primary, how many of its replicas are up.
    fn able_replica_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.table.numbers()];
        let able = self.table.iter().filter(|(_, node)| !node.has(DOWN));
        able.filter_map(|(_, node)| node.primary()).for_each(|key| counts[key.number()] += 1);
        counts
    }

    /// Writes down since when primaries have no replicas that are up; the first of them that has
    /// slots.
    fn note_orphans(&mut self, counts: &[usize], cx: &Cx) -> Option<NodeKey> {
        let mut target = None;
        for key in self.table.keys() {
            let node = self.table.node(key);
            let is_missed = node.is_primary() && node.has(Flags::MIGRATE_TO);
            let is_orphaned = is_missed && !node.has(Flags::FAIL) && counts[key.number()] == 0;
            if is_orphaned && node.slot_count() > 0 {
                target = target.or(Some(key));
            }
            let since = &mut self.table.health_mut(key).orphaned_since_ms;
            *since = since.or(Some(cx.now.ms)).filter(|_| is_orphaned);
        }
        target
    }

    /// Of the replicas of those who have most we have the smallest name.
    fn is_first(&self, counts: &[usize], most: usize) -> bool {
        let of_most = |key: NodeKey| counts[key.number()] == most;
        let mut replicas =
            self.table.iter().filter(|(_, node)| node.primary().is_some_and(of_most));
        let able = replicas.find(|(_, node)| !node.has(DOWN));
        able.is_some_and(|(key, _)| key == self.table.me())
    }
}
