//! Who is down: for us (PFAIL), and for the majority of those who vote (FAIL).
//!
//! A node that leaves a ping open for too long is down for us. What voters say of it in gossip
//! counts for a while; once the majority says so within that, whoever notices tells everybody. That
//! is a weak agreement, and enough: what follows from it needs votes. So that it is come to soon, a
//! voter tells the others at once of one that it does not reach, and replicas whose primary does
//! not answer ask the voters about it.

use super::flags::Flags;
use super::id::NodeId;
use super::links::LinkId;
use super::machine::{Cluster, Cx, Level};
use super::table::NodeKey;
use super::wire::Kind;

/// How many node timeouts a report counts for, and a primary with slots stays down for at least.
const REPORT_TIMEOUTS: u64 = 2;
const FAIL_TIMEOUTS: u64 = 2;
/// For so many node timeouts since it was last heard of a replica asks about its primary.
const ASK_TIMEOUTS: u64 = 2;

impl Cluster {
    /// Somebody who votes says whether he reaches a node.
    pub(super) fn take_report(
        &mut self,
        sender: NodeKey,
        key: NodeKey,
        is_down: bool,
        cx: &mut Cx,
    ) {
        let reports = &mut self.table.health_mut(key).reports;
        let is_news = match is_down {
            true => reports.insert(sender, cx.now.ms).is_none(),
            false => reports.remove(&sender).is_some(),
        };
        if is_news {
            let (by, of) = (self.named(sender), self.named(key));
            let what = if is_down { "as not reachable" } else { "is back online" };
            cx.notice(format!("Node {by} reported node {of} {what}."));
        }
        if is_down {
            self.fail_if_agreed(key, cx);
        }
    }

    pub(super) fn fail_if_agreed(&mut self, key: NodeKey, cx: &mut Cx) {
        let node = self.table.node(key);
        if !node.has(Flags::PFAIL) || node.has(Flags::FAIL) {
            return;
        }
        let own = usize::from(self.table.myself().votes());
        if self.report_count(key, cx.now.ms) + own < self.table.quorum() {
            return;
        }
        let line = format!("Marking node {} as failing (quorum reached).", self.named(key));
        cx.notice(line);
        self.set_fail(key, cx);
        let id = self.table.node(key).id();
        self.broadcast(Kind::Fail, |header| header.fail(id), cx);
    }

    /// How many say that it is down, after those who have not said so lately are left out.
    pub(super) fn report_count(&mut self, key: NodeKey, now_ms: u64) -> usize {
        let valid_ms = self.settings.node_timeout_ms * REPORT_TIMEOUTS;
        let reports = &mut self.table.health_mut(key).reports;
        reports.retain(|_, told_ms| now_ms.saturating_sub(*told_ms) <= valid_ms);
        reports.len()
    }

    fn set_fail(&mut self, key: NodeKey, cx: &Cx) {
        self.due.election |= self.table.myself().primary() == Some(key);
        self.table.unmark(key, Flags::PFAIL);
        self.table.mark(key, Flags::FAIL);
        self.table.health_mut(key).fail_since_ms = Some(cx.now.ms);
        self.due.save = true;
        self.due.state = true;
    }

    /// The majority was heard by somebody else.
    pub(super) fn take_fail(
        &mut self,
        sender: Option<NodeKey>,
        from: NodeId,
        id: NodeId,
        cx: &mut Cx,
    ) {
        let Some(sender) = sender else {
            let line = format!("Ignoring FAIL message from unknown node {from} about {id}");
            return cx.notice(line);
        };
        let Some(key) = self.table.find(id) else { return };
        if self.table.node(key).has(Flags::FAIL.or(Flags::MYSELF)) {
            return;
        }
        let (by, of) = (self.named(sender), self.named(key));
        cx.notice(format!("FAIL message received from {by} about {of}"));
        self.set_fail(key, cx);
    }

    /// A node that we pinged has answered.
    pub(super) fn take_answer(&mut self, id: LinkId, cx: &mut Cx) {
        let Some(key) = self.links.find(id).and_then(|link| link.node) else { return };
        if self.links.to(key) != Some(id) {
            return;
        }
        let health = self.table.health_mut(key);
        health.pong_received_ms = Some(cx.now.ms);
        health.ping_sent_ms = None;
        let node = self.table.node(key);
        if node.has(Flags::PFAIL) {
            self.table.unmark(key, Flags::PFAIL);
            self.due.save = true;
            self.due.state = true;
        } else if node.has(Flags::FAIL) {
            self.clear_fail(key, cx);
        }
    }

    /// Nobody takes over from one who does not vote. From one who does somebody may, so it stays
    /// down until that should have happened.
    fn clear_fail(&mut self, key: NodeKey, cx: &mut Cx) {
        let node = self.table.node(key);
        let since_ms = node.health.fail_since_ms.unwrap_or(cx.now.ms);
        let wait_ms = self.settings.node_timeout_ms * FAIL_TIMEOUTS;
        let why = match node {
            node if node.is_replica() => "replica is reachable again",
            node if !node.votes() => "primary without slots is reachable again",
            _ if cx.now.age_ms(since_ms) > wait_ms => {
                "is reachable again and nobody is serving its slots after some time"
            }
            _ => return,
        };
        cx.notice(format!("Clear FAIL state for node {}: {why}.", self.named(key)));
        self.table.unmark(key, Flags::FAIL);
        self.table.health_mut(key).fail_since_ms = None;
        self.due.save = true;
        self.due.state = true;
    }

    /// Whether a ping has been open for too long, with nothing else heard meanwhile.
    pub(super) fn judge(&mut self, key: NodeKey, cx: &mut Cx) {
        let node = self.table.node(key);
        let Some(sent_ms) = node.health.ping_sent_ms else { return };
        let heard_ms = node.health.data_received_ms.unwrap_or(0).max(sent_ms);
        if cx.now.age_ms(heard_ms) <= self.settings.node_timeout_ms
            || node.has(Flags::PFAIL.or(Flags::FAIL))
        {
            return;
        }
        self.table.mark(key, Flags::PFAIL);
        self.due.state = true;
        // Others may have said so before.
        self.fail_if_agreed(key, cx);
        if self.table.node(key).has(Flags::FAIL) {
            return;
        }
        cx.log(Level::Notice, format!("NODE {} possibly failing.", self.named(key)));
        self.due.report |= self.table.node(key).votes() && self.table.myself().votes();
    }

    /// What we do not reach voters hear at once, and not when their turn comes to be pinged.
    pub(super) fn report_to_voters(&mut self, cx: &mut Cx) {
        for (key, link) in self.links.all_connected() {
            if self.table.node(key).votes() {
                self.speak_to(key, link, cx);
            }
        }
    }

    /// Our primary has begun not to answer: what the voters think of it is in their answers. Real
    /// ones tell of it only when they say something anyway.
    pub(super) fn ask_about_primary(&mut self, cx: &mut Cx) {
        let Some(primary) = self.table.myself().primary().map(|key| self.table.node(key)) else {
            return;
        };
        let open_since_ms = primary.health.ping_sent_ms.unwrap_or(0);
        let is_new = cx.now.age_ms(open_since_ms) <= self.settings.node_timeout_ms * ASK_TIMEOUTS;
        if primary.has(Flags::PFAIL) && primary.votes() && is_new {
            self.report_to_voters(cx);
        }
    }
}
