//! Whether the cluster is up, as this node sees it: it answers clients only then.
//!
//! It is down while slots are served by nobody, unless that is allowed, or while we do not see the
//! majority of those who vote: then others may have decided something that we do not know of. A
//! primary comes back late, when it has had time to hear of that.

use super::flags::Flags;
use super::machine::{Action, Cluster, Cx, Level};
use crate::keyspace::slot::SLOTS;

/// After its start a primary waits for what others have decided.
const START_MS: u64 = 2000;
const REJOIN_MS_MIN: u64 = 500;
const REJOIN_MS_MAX: u64 = 5000;

#[derive(Default)]
pub(super) struct State {
    is_up: bool,
    began_ms: Option<u64>,
    in_minority_ms: Option<u64>,
}

impl State {
    pub fn is_up(&self) -> bool {
        self.is_up
    }
}

impl Cluster {
    pub(super) fn update_state(&mut self, cx: &mut Cx) {
        let now_ms = cx.now.ms;
        let began_ms = *self.state.began_ms.get_or_insert(now_ms);
        let is_primary = self.table.myself().is_primary();
        if is_primary && !self.state.is_up && now_ms.saturating_sub(began_ms) < START_MS {
            return;
        }
        let sees_majority = self.sees_majority();
        if !sees_majority {
            self.state.in_minority_ms = Some(now_ms);
        }
        let is_up = sees_majority && (self.is_covered() || !self.settings.requires_full_coverage);
        if is_up == self.state.is_up || (is_up && is_primary && !self.may_rejoin(now_ms)) {
            return;
        }
        self.state.is_up = is_up;
        let (level, word) = if is_up { (Level::Notice, "ok") } else { (Level::Warning, "fail") };
        cx.log(level, format!("Cluster state changed: {word}"));
        cx.actions.push(Action::StateChanged { is_up });
    }

    fn is_covered(&self) -> bool {
        let served = self.table.iter().filter(|(_, node)| !node.has(Flags::FAIL));
        served.map(|(_, node)| node.slot_count()).sum::<usize>() == SLOTS
    }

    fn sees_majority(&self) -> bool {
        // Who is nowhere is not asked, and so never found not to answer.
        let down = Flags::PFAIL.or(Flags::FAIL).or(Flags::NOADDR);
        let voters = self.table.iter().filter(|(_, node)| node.votes());
        voters.filter(|(_, node)| !node.has(down)).count() >= self.table.quorum()
    }

    fn may_rejoin(&self, now_ms: u64) -> bool {
        let wait_ms = self.settings.node_timeout_ms.clamp(REJOIN_MS_MIN, REJOIN_MS_MAX);
        let left = self.state.in_minority_ms;
        left.is_none_or(|left_ms| now_ms.saturating_sub(left_ms) >= wait_ms)
    }
}
