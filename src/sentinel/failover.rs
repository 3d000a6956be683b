//! A failover, from its start to the switch of the master's address.
//!
//!     WaitStart -> SelectSlave -> SendSlaveofNoOne -> WaitPromotion -> ReconfSlaves
//!         |             |                |                  |              |
//!         +-------------+----------------+------------------+--> aborted   +-> UpdateConfig
//!
//! A step that fails before a replica is promoted gives the failover up; behind that there is no
//! way back, and what cannot be done in time is left to whoever corrects replicas later.

use super::instances::{Flags, Id, Kind, Role, State};
use super::links::Awaited;
use super::names::Address;
use super::{Level, Sentinel};

/// Without a ping answered for so many periods, or INFO for as many, nobody is promoted.
const FRESH_PERIODS: u64 = 5;
const FRESH_INFO_PERIODS: u64 = 3;
/// A replica may have lost its master for so many times the time in which that is found down.
const LINK_DOWN_PERIODS: u64 = 10;

impl Sentinel {
    pub(super) fn go_on_with_failover(&mut self, master: Id) {
        if !self.instances[master].flags.has(Flags::FAILOVER) {
            return;
        }
        match self.instances[master].group.state {
            State::WaitStart => self.wait_for_start(master),
            State::SelectSlave => self.select_slave(master),
            State::SendSlaveofNoOne => self.send_promotion(master),
            State::WaitPromotion => self.wait_for_promotion(master),
            State::ReconfSlaves => self.reconfigure_slaves(master),
            State::None | State::UpdateConfig => {}
        }
    }

    fn enter(&mut self, master: Id, state: State) {
        let group = &mut self.instances[master].group;
        group.state = state;
        group.state_changed_ms = self.now.mono_ms;
    }

    fn is_state_too_old(&self, master: Id) -> bool {
        let group = &self.instances[master].group;
        self.since(Some(group.state_changed_ms)) > group.failover_timeout_ms
    }

    fn wait_for_start(&mut self, master: Id) {
        let epoch = self.instances[master].group.failover_epoch;
        let leader = self.leader_of(master, epoch);
        let is_leader = leader.is_some_and(|leader| leader == self.my_id);
        if !is_leader && !self.instances[master].flags.has(Flags::FORCED) {
            let group = &self.instances[master].group;
            let limit_ms = self.periods.election_timeout_ms.min(group.failover_timeout_ms);
            if self.since(group.failover_start_ms) > limit_ms {
                self.abort(master, "-failover-abort-not-elected");
            }
            return;
        }
        self.event(Level::Warning, "+elected-leader", master, "");
        if self.simulated.after_election {
            return self.crash();
        }
        self.enter(master, State::SelectSlave);
        self.event(Level::Warning, "+failover-state-select-slave", master, "");
    }

    fn select_slave(&mut self, master: Id) {
        let Some(id) = self.best_replica(master) else {
            self.log_unfit(master);
            return self.abort(master, "-failover-abort-no-good-slave");
        };
        self.event(Level::Warning, "+selected-slave", id, "");
        self.instances[id].flags.add(Flags::PROMOTED);
        self.instances[master].group.promoted = Some(id);
        self.enter(master, State::SendSlaveofNoOne);
        self.event(Level::Notice, "+failover-state-send-slaveof-noone", id, "");
    }

    fn send_promotion(&mut self, master: Id) {
        let promoted = self.instances[master].group.promoted;
        let Some(id) = promoted else {
            return self.abort(master, "-failover-abort-no-good-slave");
        };
        if self.links.get(self.instances[id].link).is_disconnected {
            if self.is_state_too_old(master) {
                self.abort(master, "-failover-abort-slave-timeout");
            }
            return;
        }
        if self.send_slaveof(id, None) {
            self.event(Level::Notice, "+failover-state-wait-promotion", id, "");
            self.enter(master, State::WaitPromotion);
        }
    }

    fn wait_for_promotion(&mut self, master: Id) {
        if self.is_state_too_old(master) {
            self.abort(master, "-failover-abort-slave-timeout");
        }
    }

    /// The chosen replica says that it is a master.
    pub(super) fn finish_promotion(&mut self, master: Id, id: Id) {
        let epoch = self.instances[master].group.failover_epoch;
        self.instances[master].group.config_epoch = epoch;
        self.enter(master, State::ReconfSlaves);
        self.persist();
        self.event(Level::Warning, "+promoted-slave", id, "");
        if self.simulated.after_promotion {
            return self.crash();
        }
        self.event(Level::Warning, "+failover-state-reconf-slaves", master, "");
        let old = self.instances[master].address.clone();
        let new = self.instances[id].address.clone();
        self.call_reconfiguration_script(master, "leader", &old, &new);
        self.hurry_hello(master);
    }

    fn abort(&mut self, master: Id, kind: &'static str) {
        self.event(Level::Warning, kind, master, "");
        self.instances[master].flags.remove(Flags::FAILOVER.or(Flags::FORCED));
        self.enter(master, State::None);
        if let Some(id) = self.instances[master].group.promoted.take() {
            self.instances[id].flags.remove(Flags::PROMOTED);
        }
    }

    /// Tells the other replicas of their new master, a few at a time.
    fn reconfigure_slaves(&mut self, master: Id) {
        let replicas = self.instances[master].group.replicas.clone();
        let is_busy = |flags: Flags| flags.has(Flags::RECONF_SENT.or(Flags::RECONF_INPROG));
        let mut busy =
            replicas.iter().filter(|id| is_busy(self.instances[**id].flags)).count() as u64;
        for id in replicas {
            if busy >= self.instances[master].group.parallel_syncs {
                break;
            }
            if self.reconfigure(master, id) {
                busy += 1;
            }
        }
        self.detect_end(master);
    }

    fn reconfigure(&mut self, master: Id, id: Id) -> bool {
        let flags = self.instances[id].flags;
        if flags.has(Flags::PROMOTED.or(Flags::RECONF_DONE)) {
            return false;
        }
        let sent_ms = self.since(self.instances[id].replica.reconf_sent_ms);
        if flags.has(Flags::RECONF_SENT) && sent_ms > self.periods.reconf_timeout_ms {
            self.event(Level::Notice, "-slave-reconf-sent-timeout", id, "");
            let flags = &mut self.instances[id].flags;
            flags.remove(Flags::RECONF_SENT);
            flags.add(Flags::RECONF_DONE);
            return false;
        }
        if flags.has(Flags::RECONF_SENT.or(Flags::RECONF_INPROG)) {
            return false;
        }
        let is_sent = self.send_new_master(master, id, "+slave-reconf-sent");
        if is_sent {
            self.instances[id].replica.reconf_sent_ms = Some(self.now.mono_ms);
        }
        is_sent
    }

    fn send_new_master(&mut self, master: Id, id: Id, kind: &'static str) -> bool {
        let Some(promoted) = self.instances[master].group.promoted else { return false };
        if self.links.get(self.instances[id].link).is_disconnected {
            return false;
        }
        let address = self.instances[promoted].address.clone();
        let is_sent = self.send_slaveof(id, Some(&address));
        if is_sent {
            self.instances[id].flags.add(Flags::RECONF_SENT);
            self.event(Level::Notice, kind, id, "");
        }
        is_sent
    }

    fn detect_end(&mut self, master: Id) {
        let group = &self.instances[master].group;
        let Some(promoted) = group.promoted else { return };
        if self.instances[promoted].flags.has(Flags::S_DOWN) {
            return;
        }
        let is_settled = Flags::PROMOTED.or(Flags::RECONF_DONE).or(Flags::S_DOWN);
        let mut replicas = group.replicas.iter();
        let is_done = replicas.all(|id| self.instances[*id].flags.has(is_settled));
        let is_late = self.is_state_too_old(master);
        if is_late {
            self.event(Level::Warning, "+failover-end-for-timeout", master, "");
        }
        if is_done || is_late {
            self.event(Level::Warning, "+failover-end", master, "");
            self.enter(master, State::UpdateConfig);
        }
        if is_late {
            let told = Flags::PROMOTED.or(Flags::RECONF_DONE).or(Flags::RECONF_SENT);
            for id in self.instances[master].group.replicas.clone() {
                if !self.instances[id].flags.has(told) {
                    self.send_new_master(master, id, "+slave-reconf-sent-be");
                }
            }
        }
    }

    /// A replica's account shows how far it has followed its new master.
    pub(super) fn follow_reconfiguration(&mut self, master: Id, id: Id, host: &str, port: u16) {
        let Some(promoted) = self.instances[master].group.promoted else { return };
        let address = self.instances[promoted].address.clone();
        let is_there = port == address.port && self.is_at(&address, host);
        let flags = &mut self.instances[id].flags;
        if flags.has(Flags::RECONF_SENT) && is_there {
            flags.remove(Flags::RECONF_SENT);
            flags.add(Flags::RECONF_INPROG);
            self.event(Level::Notice, "+slave-reconf-inprog", id, "");
        }
        let instance = &mut self.instances[id];
        if instance.flags.has(Flags::RECONF_INPROG) && instance.replica.is_link_up {
            instance.flags.remove(Flags::RECONF_INPROG);
            instance.flags.add(Flags::RECONF_DONE);
            self.event(Level::Notice, "+slave-reconf-done", id, "");
        }
    }

    /// The failover is over: the promoted replica is the master that is watched from now on.
    pub(super) fn switch_to_promoted(&mut self, master: Id) {
        let promoted = self.instances[master].group.promoted.unwrap_or(master);
        let (old, new) =
            (self.instances[master].address.clone(), self.instances[promoted].address.clone());
        let name = self.instances[master].name.clone();
        let text = format!("{name} {} {}", self.place(&old), self.place(&new));
        self.tell(Level::Warning, "+switch-master", Some(master), text);
        self.reset_to(master, new);
    }

    /// Watches a master at another address; the old one is a replica of it, as the others are.
    pub(super) fn reset_to(&mut self, master: Id, new: Address) {
        let old = self.instances[master].address.clone();
        let replicas = self.instances[master].group.replicas.iter();
        let mut addresses: Vec<Address> =
            replicas.map(|id| self.instances[*id].address.clone()).collect();
        addresses.push(old);
        addresses.retain(|address| !address.is(&new));
        self.reset(master, Keep::Sentinels);
        let instance = &mut self.instances[master];
        instance.address = new;
        instance.s_down_since_ms = None;
        instance.o_down_since_ms = None;
        for address in addresses {
            if let Some(id) = self.add_replica(master, address) {
                self.event(Level::Notice, "+slave", id, "");
            }
        }
        self.persist();
    }

    /// Forgets what has been found out about a master.
    pub(super) fn reset(&mut self, master: Id, keep: Keep) {
        let group = &self.instances[master].group;
        let mut gone = group.replicas.clone();
        if keep == Keep::Nothing {
            gone.extend(&group.sentinels);
        }
        gone.into_iter().for_each(|id| self.remove(id));
        let (key, now_ms) = (self.instances[master].link, self.now.mono_ms);
        self.close_link(key);
        let link = self.links.get_mut(key);
        link.ping_since_ms = Some(now_ms);
        link.last_ping_ms = None;
        link.last_ok_ms = now_ms;
        link.last_pong_ms = now_ms;
        let instance = &mut self.instances[master];
        instance.flags = Flags::default();
        instance.run_id = None;
        instance.role_reported = Role::Master;
        instance.role_reported_ms = now_ms;
        instance.group.leader = None;
        instance.group.state = State::None;
        instance.group.failover_start_ms = None;
        instance.group.promoted = None;
    }

    /// Where clients find the master: the promoted replica, as soon as it is a master.
    pub(super) fn current_address(&self, master: Id) -> Address {
        let instance = &self.instances[master];
        let is_switching =
            instance.flags.has(Flags::FAILOVER) && instance.group.state >= State::ReconfSlaves;
        let promoted = instance.group.promoted.filter(|_| is_switching);
        promoted.map_or(&instance.address, |id| &self.instances[id].address).clone()
    }

    /// Why a replica cannot be promoted now.
    fn unfit(&self, master: Id, id: Id) -> Option<&'static str> {
        let (owner, instance) = (&self.instances[master], &self.instances[id]);
        let link = self.links.get(instance.link);
        let is_master_down = owner.flags.has(Flags::S_DOWN);
        let down_ms = if is_master_down { self.since(owner.s_down_since_ms) } else { 0 };
        let link_down_max_ms =
            down_ms.saturating_add(owner.down_after_ms.saturating_mul(LINK_DOWN_PERIODS));
        let info_max_ms = match is_master_down {
            true => self.periods.ping_ms * FRESH_PERIODS,
            false => self.periods.info_ms * FRESH_INFO_PERIODS,
        };
        let reasons = [
            (instance.is_down(), "it is down"),
            (link.is_disconnected, "it is not connected"),
            (
                self.since(Some(link.last_ok_ms)) > self.periods.ping_ms * FRESH_PERIODS,
                "it has not answered a PING of late",
            ),
            (instance.replica.priority == 0, "its priority is 0"),
            (self.since(instance.info_ms) > info_max_ms, "its last INFO is too old"),
            (
                instance.replica.link_down_ms > link_down_max_ms,
                "it has been without its master for too long",
            ),
        ];
        reasons.into_iter().find(|(is_so, _)| *is_so).map(|(_, reason)| reason)
    }

    pub(super) fn best_replica(&self, master: Id) -> Option<Id> {
        let replicas = self.instances[master].group.replicas.iter().copied();
        let rank = |id: &Id| {
            let instance = &self.instances[*id];
            let run_id = instance.run_id.as_ref().map(|id| id.to_ascii_lowercase());
            let priority = instance.replica.priority;
            (priority, std::cmp::Reverse(instance.replica.offset), run_id.is_none(), run_id)
        };
        replicas.filter(|id| self.unfit(master, *id).is_none()).min_by_key(rank)
    }

    /// Says of each replica why it cannot be promoted.
    fn log_unfit(&mut self, master: Id) {
        for id in self.instances[master].group.replicas.clone() {
            if let Some(reason) = self.unfit(master, id) {
                let name = &self.instances[id].name;
                self.log(Level::Notice, format!("The replica {name} is not promoted: {reason}"));
            }
        }
    }

    /// Tells an instance whose replica it is, or that it is a master. Its other clients are
    /// closed, so that they ask a Sentinel where to go.
    pub(super) fn send_slaveof(&mut self, id: Id, master: Option<&Address>) -> bool {
        debug_assert_ne!(self.instances[id].kind, Kind::Sentinel, "servers have masters");
        let (host, port) = match master {
            Some(address) => (self.told(address).to_owned(), address.port.to_string()),
            None => ("NO".to_owned(), "ONE".to_owned()),
        };
        let commands: &[&[&[u8]]] = &[
            &[b"MULTI"],
            &[b"SLAVEOF", host.as_bytes(), port.as_bytes()],
            &[b"CONFIG", b"REWRITE"],
            &[b"CLIENT", b"KILL", b"TYPE", b"normal"],
            &[b"CLIENT", b"KILL", b"TYPE", b"pubsub"],
            &[b"EXEC"],
        ];
        commands.iter().all(|words| self.send(id, words, Awaited::Nothing))
    }

    /// Has the script called by which clients are told of a switch.
    pub(super) fn call_reconfiguration_script(
        &mut self,
        master: Id,
        role: &str,
        from: &Address,
        to: &Address,
    ) {
        let instance = &self.instances[master];
        let Some(script) = instance.group.client_reconfig_script.clone() else { return };
        let mut argv = vec![script, instance.name.clone(), role.to_owned(), "start".to_owned()];
        for address in [from, to] {
            argv.push(self.told(address).to_owned());
            argv.push(address.port.to_string());
        }
        self.schedule(argv);
    }
}

/// What a reset leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keep {
    Sentinels,
    Nothing,
}
