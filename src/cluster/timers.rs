//! What time brings: connections are dialled and given up, pings go out, and who does not answer is
//! judged.

use super::flags::Flags;
use super::machine::{Cluster, Cx};
use super::table::NodeKey;
use super::wire::Kind;
use std::collections::BTreeSet;

/// Each so many ticks somebody is pinged who may need it: about once a second.
const TICKS_A_DRAW: u64 = 10;
/// Each so many ticks a replica asks about a primary that does not answer.
const TICKS_A_QUESTION: u64 = 2;
/// Of so many that are drawn the one that was heard of least lately.
const DRAWS: usize = 5;

/// When which node has to be looked at next. It may be too early, and never too late: whatever
/// brings that forward calls for a look.
#[derive(Default)]
pub(super) struct Looks {
    queue: BTreeSet<(u64, NodeKey)>,
    /// By the number of a node.
    at_ms: Vec<Option<u64>>,
}

impl Looks {
    pub fn call(&mut self, at_ms: u64, key: NodeKey) {
        if self.at_ms.len() <= key.number() {
            self.at_ms.resize(key.number() + 1, None);
        }
        match self.at_ms[key.number()] {
            Some(known_ms) if known_ms <= at_ms => return,
            Some(later_ms) => _ = self.queue.remove(&(later_ms, key)),
            None => {}
        }
        self.at_ms[key.number()] = Some(at_ms);
        self.queue.insert((at_ms, key));
    }

    fn due(&mut self, now_ms: u64) -> Vec<NodeKey> {
        let mut due = Vec::new();
        while let Some((_, key)) = self.queue.first().filter(|(at_ms, _)| *at_ms <= now_ms) {
            self.at_ms[key.number()] = None;
            due.push(*key);
            self.queue.pop_first();
        }
        due
    }
}

impl Cluster {
    pub(super) fn tick(&mut self, cx: &mut Cx) {
        self.tick_count += 1;
        self.blacklist.clean(cx.now.ms);
        let others = self.looks.due(cx.now.ms);
        for key in &others {
            if self.is_another(*key) {
                self.keep_connected(*key, cx);
            }
        }
        if self.tick_count.is_multiple_of(TICKS_A_DRAW) {
            self.ping_somebody(cx);
            self.migrate_if_missed(cx);
        }
        for key in others {
            if self.is_another(key) {
                self.look_after(key, cx);
                self.look_again(key, cx.now.ms);
            }
        }
        if self.tick_count.is_multiple_of(TICKS_A_QUESTION) {
            self.ask_about_primary(cx);
        }
        self.limit_queues(cx);
        self.turn_to_new_owner(cx);
        self.tend_manual(cx);
        self.follow_no_replica(false, cx);
        self.due.election = self.table.myself().is_replica();
        self.due.flush = self.due.save;
        if !self.is_up() {
            self.due.state = true;
        }
    }

    fn is_another(&self, key: NodeKey) -> bool {
        self.table.has_key(key) && key != self.table.me()
    }

    /// All are looked at with the next tick.
    pub(super) fn look_at_all(&mut self) {
        self.table.keys().into_iter().for_each(|key| self.looks.call(0, key));
    }

    /// The next time at which anything may have to be done about a node, if nothing comes of it.
    fn look_again(&mut self, key: NodeKey, now_ms: u64) {
        let (node, half_ms) = (self.table.node(key), self.settings.node_timeout_ms / 2);
        let after_ms = match (node.health.ping_sent_ms, node.health.pong_received_ms) {
            _ if node.has(Flags::HANDSHAKE) => 0,
            (Some(sent_ms), _) => {
                let heard_ms = node.health.data_received_ms.unwrap_or(0).max(sent_ms);
                let age_ms = now_ms.saturating_sub(heard_ms);
                // A dead connection first, then a dead node.
                half_ms.saturating_sub(age_ms)
            }
            (None, pong_ms) => {
                let age_ms = now_ms.saturating_sub(pong_ms.unwrap_or(0));
                self.ping_interval_ms().saturating_sub(age_ms).min(half_ms)
            }
        };
        self.looks.call(now_ms + after_ms.max(1), key);
    }

    fn ping_interval_ms(&self) -> u64 {
        self.settings.ping_interval_ms.unwrap_or(self.settings.node_timeout_ms / 2)
    }

    fn keep_connected(&mut self, key: NodeKey, cx: &mut Cx) {
        let node = self.table.node(key);
        if node.has(Flags::NOADDR) {
            return;
        }
        let age_ms = cx.now.age_ms(node.health.known_since_ms);
        if node.has(Flags::HANDSHAKE) && age_ms > self.handshake_ms() {
            return self.remove_node(key, cx);
        }
        if self.links.to(key).is_some() {
            return;
        }
        self.dial(key, cx);
        // A ping that cannot be sent is open all the same: nobody answers.
        let health = self.table.health_mut(key);
        health.ping_sent_ms = health.ping_sent_ms.or(Some(cx.now.ms));
    }

    fn ping_somebody(&mut self, cx: &mut Cx) {
        let mut oldest = None;
        for _ in 0..DRAWS {
            let number = cx.prng.below(self.table.numbers() as u64);
            let Some(key) = self.table.nth(number as usize) else { continue };
            let node = self.table.node(key);
            let is_met = !node.has(Flags::HANDSHAKE.or(Flags::MYSELF));
            if is_met && node.health.ping_sent_ms.is_none() && self.links.connected(key).is_some() {
                let drawn = (node.health.pong_received_ms, key);
                oldest = Some(oldest.map_or(drawn, |oldest| drawn.min(oldest)));
            }
        }
        if let Some((_, key)) = oldest {
            self.ping(key, cx);
        }
    }

    fn ping(&mut self, key: NodeKey, cx: &mut Cx) {
        if let Some(link) = self.links.connected(key) {
            self.send_ping(link, Kind::Ping, cx);
        }
    }

    fn look_after(&mut self, key: NodeKey, cx: &mut Cx) {
        if self.table.node(key).has(Flags::NOADDR.or(Flags::HANDSHAKE)) {
            return;
        }
        self.meet_again(key, cx);
        self.give_up_dead_link(key, cx);
        let health = &self.table.node(key).health;
        let interval_ms = self.ping_interval_ms();
        let pong_age_ms = cx.now.age_ms(health.pong_received_ms.unwrap_or(0));
        if health.ping_sent_ms.is_none() && pong_age_ms > interval_ms {
            return self.ping(key, cx);
        }
        self.judge(key, cx);
    }

    /// Who was met and answered, and does not dial us, may have had too many to meet at a time, or
    /// have begun again since. One that has dialled us once and does so no more has its reasons.
    fn meet_again(&mut self, key: NodeKey, cx: &mut Cx) {
        let Some(sent_ms) = self.table.node(key).health.meet_sent_ms else { return };
        if cx.now.age_ms(sent_ms) <= self.handshake_ms() {
            return;
        }
        let Some(link) = self.links.connected(key) else { return };
        self.table.health_mut(key).meet_sent_ms = Some(cx.now.ms);
        let named = self.named(key);
        cx.notice(format!(
            "Sending MEET message to node {named} because there is no inbound link for it"
        ));
        self.send_ping(link, Kind::Meet, cx);
    }

    /// A connection on which a ping has been open for long, and nothing came: perhaps a new one is
    /// better. What comes on the other one says nothing for one that was never connected.
    fn give_up_dead_link(&mut self, key: NodeKey, cx: &mut Cx) {
        let Some(id) = self.links.to(key) else { return };
        let Some(link) = self.links.find(id) else { return };
        let (created_ms, is_connected) = (link.created_ms, link.is_connected);
        let (health, timeout_ms) = (&self.table.node(key).health, self.settings.node_timeout_ms);
        let Some(sent_ms) = health.ping_sent_ms else { return };
        let heard_ms = health.data_received_ms.unwrap_or(0).max(sent_ms);
        let is_silent = !is_connected || cx.now.age_ms(heard_ms) > timeout_ms / 2;
        if cx.now.age_ms(created_ms) > timeout_ms && is_silent {
            self.close(id, cx);
        }
    }
}
