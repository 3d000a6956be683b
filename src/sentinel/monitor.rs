//! Who is down: subjectively, by what we see ourselves, and a master objectively, if enough other
//! Sentinels see the same.

use super::instances::{Flags, Id, Kind, Role, State};
use super::links::{Awaited, Purpose};
use super::{Level, Sentinel};
use crate::resp::frame::Frame;

/// What another Sentinel said of a master holds for so many periods of asking.
const OPINION_PERIODS: u64 = 5;

impl Sentinel {
    pub(super) fn check_subjectively_down(&mut self, id: Id) {
        self.renew_stale_wires(id);
        let instance = &self.instances[id];
        let link = self.links.get(instance.link);
        let silent_ms = match link.ping_since_ms {
            Some(since) => self.since(Some(since)),
            None if link.is_disconnected => self.since(Some(link.last_ok_ms)),
            None => 0,
        };
        let is_down = silent_ms > instance.down_after_ms
            || self.is_demoted_master(id)
            || self.is_rebooted_too_long(id);
        match (is_down, instance.flags.has(Flags::S_DOWN)) {
            (true, false) => {
                self.event(Level::Warning, "+sdown", id, "");
                let instance = &mut self.instances[id];
                instance.s_down_since_ms = Some(self.now.mono_ms);
                instance.flags.add(Flags::S_DOWN);
            }
            (false, true) => {
                self.event(Level::Warning, "-sdown", id, "");
                self.instances[id].flags.remove(Flags::S_DOWN.or(Flags::SCRIPT_KILL_SENT));
            }
            _ => {}
        }
    }

    /// A master that has said for long that it is a replica is none.
    fn is_demoted_master(&self, id: Id) -> bool {
        let instance = &self.instances[id];
        let patience_ms = instance.down_after_ms.saturating_add(self.periods.info_ms * 2);
        instance.kind == Kind::Master
            && instance.role_reported == Role::Replica
            && self.since(Some(instance.role_reported_ms)) > patience_ms
    }

    fn is_rebooted_too_long(&self, id: Id) -> bool {
        let instance = &self.instances[id];
        instance.flags.has(Flags::REBOOTED)
            && self.since(instance.group.rebooted_ms) > instance.group.reboot_down_after_ms
    }

    /// Makes connections anew over which nothing comes, though they seem to be there.
    fn renew_stale_wires(&mut self, id: Id) {
        let instance = &self.instances[id];
        let (key, half_ms) = (instance.link, instance.down_after_ms / 2);
        let link = self.links.get(key);
        let is_old = |since_ms: u64| self.since(Some(since_ms)) > self.periods.reconnect_ms;
        let commands_stall = link.commands.as_ref().is_some_and(|wire| is_old(wire.since_ms))
            && link.ping_since_ms.is_some_and(|since| self.since(Some(since)) > half_ms)
            && self.since(Some(link.last_pong_ms)) > half_ms;
        let messages_stall = link.messages.as_ref().is_some_and(|wire| is_old(wire.since_ms))
            && self.since(Some(link.last_message_ms)) > self.periods.publish_ms * 3;
        if commands_stall {
            self.close_wire(key, Purpose::Commands);
        }
        if messages_stall {
            self.close_wire(key, Purpose::Messages);
        }
    }

    pub(super) fn check_objectively_down(&mut self, master: Id) {
        let instance = &self.instances[master];
        let sentinels = &instance.group.sentinels;
        let agree = |id: &&Id| self.instances[**id].flags.has(Flags::MASTER_DOWN);
        let votes = 1 + sentinels.iter().filter(agree).count();
        let quorum = instance.group.quorum;
        let is_down = instance.flags.has(Flags::S_DOWN) && votes >= quorum as usize;
        match (is_down, instance.flags.has(Flags::O_DOWN)) {
            (true, false) => {
                let extra = format!(" #quorum {votes}/{quorum}");
                self.event(Level::Warning, "+odown", master, &extra);
                let instance = &mut self.instances[master];
                instance.o_down_since_ms = Some(self.now.mono_ms);
                instance.flags.add(Flags::O_DOWN);
            }
            (false, true) => {
                self.event(Level::Warning, "-odown", master, "");
                self.instances[master].flags.remove(Flags::O_DOWN);
            }
            _ => {}
        }
    }

    /// Asks the other Sentinels whether the master is down for them, too, and for their votes if a
    /// failover of ours has begun. What they said before expires.
    pub(super) fn ask_others(&mut self, master: Id, is_forced: bool) {
        for id in self.instances[master].group.sentinels.clone() {
            let elapsed_ms = self.since(Some(self.instances[id].voter.answered_ms));
            if elapsed_ms > self.periods.ask_ms * OPINION_PERIODS {
                let other = &mut self.instances[id];
                other.flags.remove(Flags::MASTER_DOWN);
                other.voter.leader = None;
            }
            let link = self.links.get(self.instances[id].link);
            // Who has not answered yet is not asked again, unless it is for a vote.
            let is_asked = link.awaits(Awaited::MasterDown(id));
            let is_due = is_forced || (elapsed_ms >= self.periods.ask_ms && !is_asked);
            let is_linked = !link.is_disconnected;
            if self.instances[master].flags.has(Flags::S_DOWN) && is_linked && is_due {
                self.ask_other(master, id);
            }
        }
    }

    fn ask_other(&mut self, master: Id, id: Id) {
        let instance = &self.instances[master];
        let host = self.told(&instance.address).to_owned();
        let port = instance.address.port.to_string();
        let epoch = self.current_epoch.to_string();
        let wants_vote = instance.group.state > State::None;
        let run_id = if wants_vote { self.my_id.clone() } else { "*".to_owned() };
        let words: &[&[u8]] = &[
            b"SENTINEL",
            b"is-master-down-by-addr",
            host.as_bytes(),
            port.as_bytes(),
            epoch.as_bytes(),
            run_id.as_bytes(),
        ];
        self.send(id, words, Awaited::MasterDown(id));
    }

    /// What another Sentinel says of our master.
    pub(super) fn take_opinion(&mut self, id: Id, frame: &Frame) {
        let Frame::Array(parts) = frame else { return };
        let [Frame::Integer(is_down), Frame::Bulk(leader), Frame::Integer(epoch)] =
            parts.as_slice()
        else {
            return;
        };
        let now_ms = self.now.mono_ms;
        let other = &mut self.instances[id];
        other.voter.answered_ms = now_ms;
        match is_down {
            1 => other.flags.add(Flags::MASTER_DOWN),
            _ => other.flags.remove(Flags::MASTER_DOWN),
        }
        let (Ok(leader), Ok(epoch)) = (std::str::from_utf8(leader), u64::try_from(*epoch)) else {
            return;
        };
        if leader == "*" {
            return;
        }
        let is_news = other.voter.leader_epoch != epoch;
        other.voter.leader = Some(leader.to_owned());
        other.voter.leader_epoch = epoch;
        let name = other.name.clone();
        if is_news {
            self.log(Level::Notice, format!("{name} voted for {leader} {epoch}"));
        }
    }
}
