//! What SENTINEL answers.
//!
//! A command is its words behind SENTINEL; their number has been checked by the command table. An
//! answer that tells of something the file must hold is written and kept back until it does.

use super::instances::{Flags, Id, Instance, Kind, Role};
use super::names::Unresolved;
use super::{Level, Moment, Sentinel};
use crate::resp::Reply;
use crate::structs::glob::{self, Case};
use crate::structs::number::parse_i64;
use std::borrow::Cow;

/// A text of an error, with its code.
pub type Error = Cow<'static, str>;

/// When the client gets what was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Now,
    /// When the file holds this generation; if it cannot, it gets the other answer.
    WhenSaved {
        generation: u64,
        otherwise: Failure,
    },
    /// When a name has been looked up, the command is to be run again; nothing was written.
    WhenResolved,
}

/// What a client gets when the file could not be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    Told,
    /// We do not give a vote that we might give again.
    NoVote {
        is_down: bool,
    },
}

impl Failure {
    /// Writes it, or says that it is an error.
    pub fn write(self, reply: &mut Reply<'_>) -> Result<(), &'static str> {
        match self {
            Failure::Told => Err("ERR Failed to save config file. Check server logs."),
            Failure::NoVote { is_down } => {
                put_opinion(reply, is_down, None, 0);
                Ok(())
            }
        }
    }
}

pub(super) type Outcome = Result<Answer, Error>;

const NO_MASTER: &str = "ERR No such master with that name";
const NOT_INTEGER: &str = "ERR value is not an integer or out of range";

fn put_opinion(reply: &mut Reply<'_>, is_down: bool, leader: Option<&str>, epoch: u64) {
    reply.array(3);
    reply.integer(i64::from(is_down));
    reply.bulk(leader.unwrap_or("*").as_bytes());
    reply.integer(i64::try_from(epoch).unwrap_or(i64::MAX));
}

/// A text of a request as an error shows it.
pub(super) fn shown(word: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(word)
}

impl Sentinel {
    /// Runs SENTINEL with these words.
    pub fn command(&mut self, words: &[&[u8]], reply: &mut Reply<'_>, now: Moment) -> Outcome {
        self.now = now;
        let name = words[0].to_ascii_lowercase();
        let args = &words[1..];
        match (name.as_slice(), args) {
            (b"masters" | b"primaries", []) => self.put_all(reply, self.instances.masters()),
            (b"master" | b"primary", [name]) => self.put_instance(reply, self.named(name)?),
            (b"slaves" | b"replicas", [name]) => {
                let master = self.named(name)?;
                self.put_all(reply, &self.instances[master].group.replicas);
            }
            (b"sentinels", [name]) => {
                let master = self.named(name)?;
                self.put_all(reply, &self.instances[master].group.sentinels);
            }
            (b"myid", []) => reply.bulk(self.my_id.as_bytes()),
            (b"get-master-addr-by-name" | b"get-primary-addr-by-name", [name]) => {
                self.put_address(reply, name);
            }
            (
                b"is-master-down-by-addr" | b"is-primary-down-by-addr",
                [host, port, epoch, run_id],
            ) => return self.tell_opinion(reply, host, port, epoch, run_id),
            (b"reset", [pattern]) => reply.integer(self.reset_matching(pattern)),
            (b"failover", [name]) => return self.force_failover(reply, name),
            (b"ckquorum", [name]) => self.check_quorum(reply, name)?,
            (b"monitor", [name, host, port, quorum]) => {
                return self.add_master(reply, name, host, port, quorum);
            }
            (b"remove", [name]) => {
                let master = self.named(name)?;
                self.event(Level::Warning, "-monitor", master, "");
                self.remove(master);
                return Ok(self.ok_when_saved(reply));
            }
            (b"flushconfig", []) => return Ok(self.ok_when_saved(reply)),
            (b"set", [name, options @ ..]) => {
                let master = self.named(name)?;
                return self.set(reply, master, options);
            }
            (b"config", [what, rest @ ..]) if what.eq_ignore_ascii_case(b"get") => {
                self.config_get(reply, rest);
            }
            (b"config", [what, rest @ ..])
                if what.eq_ignore_ascii_case(b"set") && rest.len() > 1 =>
            {
                return self.config_set(reply, rest);
            }
            (b"config", _) => return Err(CONFIG_FORMS.into()),
            (b"info-cache", names) => self.put_info_cache(reply, names),
            (b"pending-scripts", []) => self.put_scripts(reply),
            (b"simulate-failure", what) => self.simulate(reply, what)?,
            (b"debug", []) => self.put_periods(reply),
            (b"debug", options) => self.set_periods(reply, options)?,
            _ => return Err("ERR wrong number of arguments for 'sentinel' command".into()),
        }
        Ok(Answer::Now)
    }

    fn named(&self, name: &[u8]) -> Result<Id, Error> {
        self.master_by_name(name).ok_or(Cow::Borrowed(NO_MASTER))
    }

    /// OK when the file has been written.
    pub(super) fn ok_when_saved(&mut self, reply: &mut Reply<'_>) -> Answer {
        self.persist();
        reply.ok();
        Answer::WhenSaved { generation: self.generation, otherwise: Failure::Told }
    }

    /// All instances, but for replicas that do not want to be named.
    fn put_all(&self, reply: &mut Reply<'_>, ids: &[Id]) {
        let is_told = |id: &&Id| {
            let instance = &self.instances[**id];
            instance.kind != Kind::Replica || instance.replica.is_announced
        };
        let ids: Vec<Id> = ids.iter().filter(is_told).copied().collect();
        reply.array(ids.len());
        for id in ids {
            self.put_instance(reply, id);
        }
    }

    fn put_address(&self, reply: &mut Reply<'_>, name: &[u8]) {
        let Some(master) = self.master_by_name(name) else { return reply.null_array() };
        let address = self.current_address(master);
        reply.array(2);
        reply.bulk(self.told(&address).as_bytes());
        reply.bulk_i64(i64::from(address.port));
    }

    /// Another Sentinel asks whether a master is down, and perhaps for our vote.
    fn tell_opinion(
        &mut self,
        reply: &mut Reply<'_>,
        host: &[u8],
        port: &[u8],
        epoch: &[u8],
        run_id: &[u8],
    ) -> Outcome {
        let port = parse_i64(port).ok_or(NOT_INTEGER)?;
        let epoch = parse_i64(epoch).ok_or(NOT_INTEGER)?;
        let address = self.address(&shown(host), port, Unresolved::Accept).ok();
        let mut masters = self.instances.masters().iter();
        let master = address
            .and_then(|address| masters.find(|id| self.instances[**id].address.is(&address)))
            .copied();
        let is_down = self.tilt_since_ms.is_none()
            && master.is_some_and(|id| self.instances[id].flags.has(Flags::S_DOWN));
        let Some(master) = master.filter(|_| run_id != b"*") else {
            put_opinion(reply, is_down, None, 0);
            return Ok(Answer::Now);
        };
        let epoch = u64::try_from(epoch).map_err(|_| NOT_INTEGER)?;
        let vote = self.vote(master, epoch, &shown(run_id));
        put_opinion(reply, is_down, vote.leader.as_deref(), vote.epoch);
        if self.is_saved(vote.generation) {
            return Ok(Answer::Now);
        }
        if self.failed.is_some_and(|(failed, _)| failed >= vote.generation) {
            self.failed = None;
            self.persist();
        }
        let generation = vote.generation;
        Ok(Answer::WhenSaved { generation, otherwise: Failure::NoVote { is_down } })
    }

    fn reset_matching(&mut self, pattern: &[u8]) -> i64 {
        let mut count = 0;
        for id in self.instances.masters().to_vec() {
            let name = self.instances[id].name.clone();
            if glob::matches(pattern, name.as_bytes(), Case::Sensitive) {
                self.reset(id, super::failover::Keep::Nothing);
                self.event(Level::Warning, "+reset-master", id, "");
                count += 1;
            }
        }
        if count > 0 {
            self.persist();
        }
        count
    }

    fn force_failover(&mut self, reply: &mut Reply<'_>, name: &[u8]) -> Outcome {
        let master = self.named(name)?;
        if self.instances[master].flags.has(Flags::FAILOVER) {
            return Err("INPROG Failover already in progress".into());
        }
        if self.best_replica(master).is_none() {
            return Err("NOGOODSLAVE No suitable replica to promote".into());
        }
        let name = self.instances[master].name.clone();
        self.log(Level::Notice, format!("Executing user requested FAILOVER of '{name}'"));
        self.start_failover(master);
        self.instances[master].flags.add(Flags::FORCED);
        reply.ok();
        Ok(Answer::Now)
    }

    fn check_quorum(&self, reply: &mut Reply<'_>, name: &[u8]) -> Result<(), Error> {
        let group = &self.instances[self.named(name)?].group;
        let voters = group.sentinels.len() + 1;
        let is_usable = |id: &&Id| !self.instances[**id].is_down();
        let usable = 1 + group.sentinels.iter().filter(is_usable).count();
        let mut lacks = Vec::new();
        if usable < group.quorum as usize {
            lacks.push(
                "Not enough available Sentinels to reach the specified quorum for this master",
            );
        }
        if usable < voters / 2 + 1 {
            lacks.push(
                "Not enough available Sentinels to reach the majority and authorize a failover",
            );
        }
        if lacks.is_empty() {
            let text = format!(
                "OK {usable} usable Sentinels. Quorum and failover authorization can be reached"
            );
            reply.simple(text.as_bytes());
            return Ok(());
        }
        Err(format!("NOQUORUM {usable} usable Sentinels. {}", lacks.join(". ")).into())
    }

    fn add_master(
        &mut self,
        reply: &mut Reply<'_>,
        name: &[u8],
        host: &[u8],
        port: &[u8],
        quorum: &[u8],
    ) -> Outcome {
        let quorum = parse_i64(quorum).ok_or("ERR Invalid quorum")?;
        let port = parse_i64(port).ok_or("ERR Invalid port")?;
        let quorum = u32::try_from(quorum).ok().filter(|quorum| *quorum > 0);
        let quorum = quorum.ok_or("ERR Quorum must be 1 or greater.")?;
        let host = shown(host);
        match self.lookup(&host) {
            Err(super::names::AddressError::NotYet) => return Ok(Answer::WhenResolved),
            Err(_) => return Err("ERR Invalid IP address or hostname specified".into()),
            Ok(_) => {}
        }
        let added = self.monitor(&shown(name), &host, port, quorum, Unresolved::Refuse);
        let id = added.map_err(|reason| format!("ERR {reason}"))?;
        let answer = self.ok_when_saved(reply);
        self.event(Level::Warning, "+monitor", id, &format!(" quorum {quorum}"));
        Ok(answer)
    }

    fn put_info_cache(&self, reply: &mut Reply<'_>, names: &[&[u8]]) {
        let masters = self.instances.masters().iter().copied();
        let is_asked =
            |id: &Id| names.is_empty() || names.contains(&self.instances[*id].name.as_bytes());
        let masters: Vec<Id> = masters.filter(is_asked).collect();
        reply.array(masters.len() * 2);
        for id in masters {
            let master = &self.instances[id];
            reply.bulk(master.name.as_bytes());
            reply.array(1 + master.group.replicas.len());
            self.put_info(reply, master);
            for replica in &master.group.replicas {
                self.put_info(reply, &self.instances[*replica]);
            }
        }
    }

    fn put_info(&self, reply: &mut Reply<'_>, instance: &Instance) {
        reply.array(2);
        reply.integer(instance.info_ms.map_or(0, |at| self.age(at)));
        match &instance.info {
            Some(text) => reply.bulk(text),
            None => reply.null(),
        }
    }

    /// For how long something has been so.
    fn age(&self, began_ms: u64) -> i64 {
        i64::try_from(self.since(Some(began_ms))).unwrap_or(i64::MAX)
    }

    fn put_instance(&self, reply: &mut Reply<'_>, id: Id) {
        let instance = &self.instances[id];
        let map = reply.begin_deferred();
        let mut fields = Fields { reply, count: 0 };
        self.put_common(&mut fields, instance);
        match instance.kind {
            Kind::Master => self.put_master_fields(&mut fields, instance),
            Kind::Replica => self.put_replica_fields(&mut fields, instance),
            Kind::Sentinel => {
                let voter = &instance.voter;
                fields.integer("last-hello-message", self.age(voter.hello_ms));
                fields.text("voted-leader", voter.leader.as_deref().unwrap_or("?"));
                fields.number("voted-leader-epoch", voter.leader_epoch);
            }
        }
        let count = fields.count;
        reply.end_map(map, count);
    }

    fn put_common(&self, fields: &mut Fields<'_, '_>, instance: &Instance) {
        let link = self.links.get(instance.link);
        fields.text("name", &instance.name);
        fields.text("ip", self.told(&instance.address));
        fields.number("port", u64::from(instance.address.port));
        fields.text("runid", instance.run_id.as_deref().unwrap_or_default());
        fields.text("flags", &flags_of(instance, link.is_disconnected));
        fields.number("link-pending-commands", link.pending() as u64);
        fields.number("link-refcount", link.owners as u64);
        if instance.flags.has(Flags::FAILOVER) {
            fields.text("failover-state", instance.group.state.word());
        }
        fields.integer("last-ping-sent", link.ping_since_ms.map_or(0, |at| self.age(at)));
        fields.integer("last-ok-ping-reply", self.age(link.last_ok_ms));
        fields.integer("last-ping-reply", self.age(link.last_pong_ms));
        if let Some(since) = instance.s_down_since_ms.filter(|_| instance.flags.has(Flags::S_DOWN))
        {
            fields.integer("s-down-time", self.age(since));
        }
        if let Some(since) = instance.o_down_since_ms.filter(|_| instance.flags.has(Flags::O_DOWN))
        {
            fields.integer("o-down-time", self.age(since));
        }
        fields.number("down-after-milliseconds", instance.down_after_ms);
        if instance.kind != Kind::Sentinel {
            let role = if instance.role_reported == Role::Master { "master" } else { "slave" };
            fields.integer("info-refresh", instance.info_ms.map_or(0, |at| self.age(at)));
            fields.text("role-reported", role);
            fields.integer("role-reported-time", self.age(instance.role_reported_ms));
        }
    }

    fn put_master_fields(&self, fields: &mut Fields<'_, '_>, instance: &Instance) {
        let group = &instance.group;
        fields.number("config-epoch", group.config_epoch);
        fields.number("num-slaves", group.replicas.len() as u64);
        fields.number("num-other-sentinels", group.sentinels.len() as u64);
        fields.number("quorum", u64::from(group.quorum));
        fields.number("failover-timeout", group.failover_timeout_ms);
        fields.number("parallel-syncs", group.parallel_syncs);
        if let Some(script) = &group.notification_script {
            fields.text("notification-script", script);
        }
        if let Some(script) = &group.client_reconfig_script {
            fields.text("client-reconfig-script", script);
        }
    }

    fn put_replica_fields(&self, fields: &mut Fields<'_, '_>, instance: &Instance) {
        let replica = &instance.replica;
        fields.number("master-link-down-time", replica.link_down_ms);
        fields.text("master-link-status", if replica.is_link_up { "ok" } else { "err" });
        fields.text("master-host", replica.master_host.as_deref().unwrap_or("?"));
        fields.number("master-port", u64::from(replica.master_port));
        fields.integer("slave-priority", replica.priority);
        fields.number("slave-repl-offset", replica.offset);
        fields.number("replica-announced", u64::from(replica.is_announced));
    }

    fn put_scripts(&self, reply: &mut Reply<'_>) {
        let queue = &self.scripts.queue;
        reply.array(queue.len());
        for script in queue {
            reply.map(5);
            reply.bulk(b"argv");
            reply.array(script.argv.len());
            script.argv.iter().for_each(|word| reply.bulk(word.as_bytes()));
            let mut fields = Fields { reply, count: 0 };
            fields.text("flags", if script.is_running { "running" } else { "scheduled" });
            fields.number("pid", u64::from(script.pid));
            let at_ms = script.at_ms.unwrap_or(self.now.mono_ms);
            if script.is_running {
                fields.integer("run-time", self.age(at_ms));
            } else {
                fields.number("run-delay", at_ms.saturating_sub(self.now.mono_ms));
            }
            fields.number("retry-num", u64::from(script.tries));
        }
    }

    /// The lines of INFO's own section.
    pub fn info(&self, now: Moment) -> String {
        let tilt = self.tilt_since_ms.map(|at| now.mono_ms.saturating_sub(at) / 1000);
        let mut text = format!(
            "# Sentinel\r\nsentinel_masters:{}\r\nsentinel_tilt:{}\r\n\
             sentinel_tilt_since_seconds:{}\r\nsentinel_running_scripts:{}\r\n\
             sentinel_scripts_queue_length:{}\r\nsentinel_simulate_failure_flags:{}\r\n",
            self.instances.masters().len(),
            u8::from(tilt.is_some()),
            tilt.map_or("-1".to_owned(), |seconds| seconds.to_string()),
            self.scripts.running(),
            self.scripts.queue.len(),
            self.simulated.bits()
        );
        for (at, id) in self.instances.masters().iter().enumerate() {
            let master = &self.instances[*id];
            let status = match master.flags {
                flags if flags.has(Flags::O_DOWN) => "odown",
                flags if flags.has(Flags::S_DOWN) => "sdown",
                _ => "ok",
            };
            text.push_str(&format!(
                "master{at}:name={},status={status},address={}:{},slaves={},sentinels={}\r\n",
                master.name,
                self.told(&master.address),
                master.address.port,
                master.group.replicas.len(),
                master.group.sentinels.len() + 1
            ));
        }
        text
    }

    /// The names of the masters that are watched (ROLE).
    pub fn master_names(&self) -> Vec<String> {
        let masters = self.instances.masters().iter();
        masters.map(|id| self.instances[*id].name.clone()).collect()
    }

    /// A hello that came by PUBLISH.
    pub fn hear(&mut self, text: &[u8], now: Moment) {
        self.now = now;
        if let Ok(text) = std::str::from_utf8(text) {
            self.take_hello(text);
        }
    }
}

const CONFIG_FORMS: &str = "ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...] / SET \
                            <param> <value> [<param> <value> ...] are supported.";

/// The flags of an instance as one word.
fn flags_of(instance: &Instance, is_disconnected: bool) -> String {
    let mut words = Vec::new();
    for (flag, word) in [(Flags::S_DOWN, "s_down"), (Flags::O_DOWN, "o_down")] {
        words.extend(instance.flags.has(flag).then_some(word));
    }
    words.push(instance.kind.word());
    words.extend(is_disconnected.then_some("disconnected"));
    let others = Flags::WORDS.iter().filter(|(flag, _)| instance.flags.has(*flag));
    words.extend(others.map(|(_, word)| *word));
    words.join(",")
}

/// Fields of a map, all of them texts.
struct Fields<'r, 'b> {
    reply: &'r mut Reply<'b>,
    count: usize,
}

impl Fields<'_, '_> {
    fn text(&mut self, name: &str, value: &str) {
        self.reply.bulk(name.as_bytes());
        self.reply.bulk(value.as_bytes());
        self.count += 1;
    }

    fn integer(&mut self, name: &str, value: i64) {
        self.reply.bulk(name.as_bytes());
        self.reply.bulk_i64(value);
        self.count += 1;
    }

    fn number(&mut self, name: &str, value: u64) {
        self.integer(name, i64::try_from(value).unwrap_or(i64::MAX));
    }
}
