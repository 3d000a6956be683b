//! The round that is made about ten times a second: connections, periodic commands, and, unless
//! time went strangely, what follows from what is known.

use super::instances::{Flags, Id, Kind, State};
use super::links::{Awaited, PENDING_MAX};
use super::{HELLO_CHANNEL, Level, Sentinel};

/// How often and how long: SENTINEL DEBUG shows and changes these, all in milliseconds.
#[derive(Clone, Debug)]
pub struct Periods {
    pub info_ms: u64,
    pub ping_ms: u64,
    pub ask_ms: u64,
    pub publish_ms: u64,
    pub down_after_ms: u64,
    pub failover_timeout_ms: u64,
    pub tilt_trigger_ms: u64,
    pub tilt_ms: u64,
    pub reconf_timeout_ms: u64,
    pub reconnect_ms: u64,
    pub election_timeout_ms: u64,
    pub script_runtime_ms: u64,
    pub script_retry_ms: u64,
}

impl Default for Periods {
    fn default() -> Self {
        Periods {
            info_ms: 10_000,
            ping_ms: 1000,
            ask_ms: 1000,
            publish_ms: 2000,
            down_after_ms: 30_000,
            failover_timeout_ms: 180_000,
            tilt_trigger_ms: 2000,
            tilt_ms: 30_000,
            reconf_timeout_ms: 10_000,
            reconnect_ms: 15_000,
            election_timeout_ms: 10_000,
            script_runtime_ms: 60_000,
            script_retry_ms: 30_000,
        }
    }
}

impl Periods {
    /// All of them by name, in the order in which they are shown.
    pub fn all(&mut self) -> [(&'static str, &mut u64); 13] {
        [
            ("INFO-PERIOD", &mut self.info_ms),
            ("PING-PERIOD", &mut self.ping_ms),
            ("ASK-PERIOD", &mut self.ask_ms),
            ("PUBLISH-PERIOD", &mut self.publish_ms),
            ("DEFAULT-DOWN-AFTER", &mut self.down_after_ms),
            ("DEFAULT-FAILOVER-TIMEOUT", &mut self.failover_timeout_ms),
            ("TILT-TRIGGER", &mut self.tilt_trigger_ms),
            ("TILT-PERIOD", &mut self.tilt_ms),
            ("SLAVE-RECONF-TIMEOUT", &mut self.reconf_timeout_ms),
            ("MIN-LINK-RECONNECT-PERIOD", &mut self.reconnect_ms),
            ("ELECTION-TIMEOUT", &mut self.election_timeout_ms),
            ("SCRIPT-MAX-RUNTIME", &mut self.script_runtime_ms),
            ("SCRIPT-RETRY-DELAY", &mut self.script_retry_ms),
        ]
    }
}

/// INFO is asked for so often of replicas whose master is failing.
const INFO_HURRY_MS: u64 = 1000;

impl Sentinel {
    pub(super) fn tick(&mut self) {
        if self.last_tick_ms.is_none() {
            self.begin();
        }
        self.watch_time();
        self.retry_save();
        for master in self.instances.masters().to_vec() {
            self.handle(master);
            let group = &self.instances[master].group;
            for member in [group.replicas.clone(), group.sentinels.clone()].concat() {
                if self.instances.get(member).is_some() {
                    self.handle(member);
                }
            }
            if self.instances[master].group.state == State::UpdateConfig {
                self.switch_to_promoted(master);
            }
        }
        self.run_scripts();
    }

    /// The first round: who we are, and whom we watch.
    fn begin(&mut self) {
        self.links.begin(self.now.mono_ms);
        self.instances.begin(self.now.mono_ms);
        if !self.is_id_kept {
            self.persist();
        }
        self.log(Level::Notice, format!("Sentinel ID is {}", self.my_id));
        for master in self.instances.masters().to_vec() {
            let quorum = self.instances[master].group.quorum;
            self.event(Level::Warning, "+monitor", master, &format!(" quorum {quorum}"));
        }
    }

    /// A round that comes much too late says that this process, or the machine, stood still: what
    /// is known of others is then too old to act on.
    fn watch_time(&mut self) {
        let now_ms = self.now.mono_ms;
        let last_ms = self.last_tick_ms.replace(now_ms).unwrap_or(now_ms);
        if now_ms.saturating_sub(last_ms) > self.periods.tilt_trigger_ms {
            self.tilt_since_ms = Some(now_ms);
            self.tell(Level::Warning, "+tilt", None, "#tilt mode entered".to_owned());
        }
    }

    /// Whether nothing is done but watching; ends it when it has lasted long enough.
    fn is_tilted(&mut self) -> bool {
        if self.tilt_since_ms.is_none() {
            return false;
        }
        if self.since(self.tilt_since_ms) < self.periods.tilt_ms {
            return true;
        }
        self.tilt_since_ms = None;
        self.tell(Level::Warning, "-tilt", None, "#tilt mode exited".to_owned());
        false
    }

    fn handle(&mut self, id: Id) {
        self.reconnect(id);
        self.send_periodically(id);
        if self.is_tilted() {
            return;
        }
        self.check_subjectively_down(id);
        if self.instances[id].kind == Kind::Master {
            self.check_objectively_down(id);
            if self.start_failover_if_needed(id) {
                self.ask_others(id, true);
            }
            self.go_on_with_failover(id);
            self.ask_others(id, false);
        }
    }

    fn send_periodically(&mut self, id: Id) {
        let instance = &self.instances[id];
        let link = self.links.get(instance.link);
        if link.is_disconnected || link.pending() >= PENDING_MAX * link.owners {
            return;
        }
        let ping_ms = instance.down_after_ms.min(self.periods.ping_ms);
        let is_info_due = instance.kind != Kind::Sentinel
            && self.since(instance.info_ms) > self.info_period_ms(id)
            && !link.awaits(Awaited::Info(id));
        let is_ping_due = self.since(Some(link.last_pong_ms)) > ping_ms
            && self.since(link.last_ping_ms) > ping_ms / 2;
        let is_hello_due = self.since(Some(instance.published_ms)) > self.periods.publish_ms
            && !link.awaits(Awaited::Publish(id));
        if is_info_due {
            self.send(id, &[b"INFO"], Awaited::Info(id));
        }
        if is_ping_due {
            self.send_ping(id);
        }
        if is_hello_due {
            self.send_hello(id);
        }
    }

    /// A replica is asked more often while its master fails, or its link to it is down.
    fn info_period_ms(&self, id: Id) -> u64 {
        let instance = &self.instances[id];
        let Some(master) = instance.master else { return self.periods.info_ms };
        let flags = self.instances[master].flags;
        let is_failing = flags.has(Flags::O_DOWN.or(Flags::FAILOVER));
        let is_urgent = is_failing || instance.replica.link_down_ms != 0;
        if is_urgent { INFO_HURRY_MS } else { self.periods.info_ms }
    }

    fn send_hello(&mut self, id: Id) {
        let link = self.links.get(self.instances[id].link);
        let local_ip = link.commands.as_ref().and_then(|wire| wire.local_ip.clone());
        let Some(ip) = self.globals.announce_ip.clone().or(local_ip) else { return };
        let port = match self.globals.announce_port {
            0 => self.surroundings.port,
            port => port,
        };
        let master = self.instances.master_of(id);
        let address = self.current_address(master);
        let group = &self.instances[master];
        let text = format!(
            "{ip},{port},{},{},{},{},{},{}",
            self.my_id,
            self.current_epoch,
            group.name,
            self.told(&address),
            address.port,
            group.group.config_epoch
        );
        let words: &[&[u8]] = &[b"PUBLISH", HELLO_CHANNEL.as_bytes(), text.as_bytes()];
        self.send(id, words, Awaited::Publish(id));
    }

    /// Has all who have to do with a master told of it at once.
    pub(super) fn hurry_hello(&mut self, master: Id) {
        let back_ms = self.periods.publish_ms + 1;
        let group = &self.instances[master].group;
        let members = [vec![master], group.replicas.clone(), group.sentinels.clone()].concat();
        for id in members {
            let published_ms = &mut self.instances[id].published_ms;
            *published_ms = published_ms.saturating_sub(back_ms);
        }
    }
}
