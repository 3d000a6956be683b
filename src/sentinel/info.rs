//! What an instance says of itself by INFO, and what is done about what is not as it should be.

use super::instances::{Flags, Id, Kind, Role, State};
use super::names::{Unresolved, is_host};
use super::{Level, Sentinel, leading_number};

/// A master has no more replicas than that; more names than that are somebody's joke.
const REPLICAS_MAX: usize = 1024;

/// What is kept of an answer for SENTINEL INFO-CACHE.
const INFO_BYTES_MAX: usize = 1024 * 1024;

/// A role that differs from ours is corrected when it has lasted so many periods of hellos: whoever
/// knows better has told us by then.
const CORRECT_AFTER_PERIODS: u64 = 4;

impl Sentinel {
    pub(super) fn take_info(&mut self, id: Id, text: Vec<u8>) {
        let lossy = String::from_utf8_lossy(&text).into_owned();
        let mut role = Role::Unknown;
        self.instances[id].replica.link_down_ms = 0;
        for line in lossy.split("\r\n") {
            match line {
                line if line.starts_with("role:master") => role = Role::Master,
                line if line.starts_with("role:slave") => role = Role::Replica,
                line if role == Role::Replica && self.take_replica_line(id, line) => {}
                line => self.take_line(id, line),
            }
        }
        let instance = &mut self.instances[id];
        instance.info = (text.len() <= INFO_BYTES_MAX).then_some(text);
        instance.info_ms = Some(self.now.mono_ms);
        self.note_role(id, role);
        if self.tilt_since_ms.is_none() && self.instances[id].kind == Kind::Replica {
            match role {
                Role::Master => self.take_promotion(id),
                Role::Replica => self.follow_replica(id),
                Role::Unknown => {}
            }
        }
    }

    fn take_line(&mut self, id: Id, line: &str) {
        let is_master = self.instances[id].kind == Kind::Master;
        if let Some(run_id) = line.strip_prefix("run_id:").and_then(|rest| rest.get(..40)) {
            self.note_run_id(id, run_id);
        } else if let Some(seconds) = line.strip_prefix("master_link_down_since_seconds:") {
            // A link that never was up has no such time, and is called -1 here and there.
            let seconds = u64::try_from(leading_number(seconds)).unwrap_or(0);
            self.instances[id].replica.link_down_ms = seconds.saturating_mul(1000);
        } else if let Some(rest) = line.strip_prefix("slave").filter(|_| is_master) {
            let numbered = rest.starts_with(|first: char| first.is_ascii_digit());
            if let Some((host, port)) = replica_in(rest).filter(|_| numbered) {
                self.note_replica(id, &host, port);
            }
        }
    }

    fn note_run_id(&mut self, id: Id, run_id: &str) {
        let known = self.instances[id].run_id.replace(run_id.to_owned());
        if known.is_none_or(|known| known == run_id) {
            return;
        }
        self.event(Level::Notice, "+reboot", id, "");
        let now_ms = self.now.mono_ms;
        let instance = &mut self.instances[id];
        if instance.kind == Kind::Master && instance.group.reboot_down_after_ms != 0 {
            instance.flags.add(Flags::REBOOTED);
            instance.group.rebooted_ms = Some(now_ms);
        }
    }

    /// A master names a replica.
    fn note_replica(&mut self, master: Id, host: &str, port: i64) {
        if !is_host(host) || self.instances[master].group.replicas.len() >= REPLICAS_MAX {
            return;
        }
        // A name that is not known yet is met again with the next answer.
        let Ok(address) = self.address(host, port, Unresolved::Refuse) else { return };
        if let Some(id) = self.add_replica(master, address) {
            self.event(Level::Notice, "+slave", id, "");
            self.persist();
        }
    }

    /// A line that only a replica's account has; false if it is none.
    fn take_replica_line(&mut self, id: Id, line: &str) -> bool {
        let Some((name, value)) = line.split_once(':') else { return false };
        let now_ms = self.now.mono_ms;
        let replica = &mut self.instances[id].replica;
        match name {
            "master_host" => {
                let known = replica.master_host.as_deref().unwrap_or_default();
                if !known.eq_ignore_ascii_case(value) {
                    replica.master_host = Some(value.to_owned());
                    replica.changed_ms = now_ms;
                }
            }
            "master_port" => {
                let port = u16::try_from(leading_number(value)).unwrap_or(0);
                if replica.master_port != port {
                    replica.master_port = port;
                    replica.changed_ms = now_ms;
                }
            }
            "master_link_status" => replica.is_link_up = value.eq_ignore_ascii_case("up"),
            "slave_priority" => replica.priority = leading_number(value),
            "slave_repl_offset" => {
                replica.offset = u64::try_from(leading_number(value)).unwrap_or(0);
            }
            "replica_announced" => replica.is_announced = leading_number(value) != 0,
            _ => return false,
        }
        true
    }

    fn note_role(&mut self, id: Id, role: Role) {
        let now_ms = self.now.mono_ms;
        let instance = &mut self.instances[id];
        if instance.role_reported == role {
            return;
        }
        instance.role_reported = role;
        instance.role_reported_ms = now_ms;
        if role == Role::Replica {
            instance.replica.changed_ms = now_ms;
        }
        let (word, expected) = match role {
            Role::Master => ("master", instance.kind == Kind::Master),
            Role::Replica => ("slave", instance.kind == Kind::Replica),
            Role::Unknown => ("slave", false),
        };
        let kind = if expected { "+role-change" } else { "-role-change" };
        self.event(Level::Verbose, kind, id, &format!(" new reported role is {word}"));
    }

    /// A replica says that it is a master: the one we are promoting has done it; any other is told
    /// what it is, when it is clear that no Sentinel has promoted it.
    fn take_promotion(&mut self, id: Id) {
        let master = self.instances.master_of(id);
        let instance = &self.instances[id];
        let waits = self.instances[master].flags.has(Flags::FAILOVER)
            && self.instances[master].group.state == State::WaitPromotion;
        let is_promoted = instance.flags.has(Flags::PROMOTED);
        if is_promoted && waits {
            return self.finish_promotion(master, id);
        }
        let patience_ms = self.periods.publish_ms * CORRECT_AFTER_PERIODS;
        let is_lasting = self.since(Some(instance.role_reported_ms)) > patience_ms;
        if !is_promoted && is_lasting && self.may_correct(master, id, patience_ms) {
            let address = self.instances[master].address.clone();
            if self.send_slaveof(id, Some(&address)) {
                self.event(Level::Notice, "+convert-to-slave", id, "");
            }
        }
    }

    /// A replica says whose replica it is, and how that goes.
    fn follow_replica(&mut self, id: Id) {
        let master = self.instances.master_of(id);
        let address = self.instances[master].address.clone();
        let replica = &self.instances[id].replica;
        let (host, port) = (replica.master_host.clone().unwrap_or_default(), replica.master_port);
        let is_elsewhere = port != address.port || !self.is_at(&address, &host);
        let patience_ms = self.instances[master].group.failover_timeout_ms;
        let is_lasting = self.since(Some(self.instances[id].replica.changed_ms)) > patience_ms;
        if is_elsewhere
            && is_lasting
            && self.may_correct(master, id, patience_ms)
            && self.send_slaveof(id, Some(&address))
        {
            self.event(Level::Notice, "+fix-slave-config", id, "");
        }
        self.follow_reconfiguration(master, id, &host, port);
    }

    /// Whether a replica may be told where it belongs: the master is there, and the replica has
    /// not been down of late.
    fn may_correct(&self, master: Id, id: Id, patience_ms: u64) -> bool {
        let (owner, instance) = (&self.instances[master], &self.instances[id]);
        let is_sane = owner.role_reported == Role::Master
            && !owner.is_down()
            && self.since(owner.info_ms) < self.periods.info_ms * 2;
        let last_down = instance.s_down_since_ms.max(instance.o_down_since_ms);
        is_sane && last_down.is_none_or(|since| self.since(Some(since)) > patience_ms)
    }
}

/// `0:ip=<ip>,port=<port>,...` as it is now, or `0:<ip>,<port>,<state>` as it once was.
fn replica_in(rest: &str) -> Option<(String, i64)> {
    let (_, rest) = rest.split_once(':')?;
    let fields: Vec<&str> = rest.split(',').collect();
    let named = |name: &str| fields.iter().find_map(|field| field.strip_prefix(name));
    let (host, port) = match named("ip=") {
        Some(host) => (host, named("port=")?),
        None if fields.len() > 2 => (fields[0], fields[1]),
        None => return None,
    };
    Some((host.to_owned(), leading_number(port)))
}
