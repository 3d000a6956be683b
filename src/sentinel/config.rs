//! The lines `sentinel ...` of the configuration file, read and written.
//!
//! They are read in three passes, so that their order is free: what holds for all, then the
//! masters, then what is said of masters. Written is what a line can say and is not the default;
//! where in the file it goes is the business of the one who writes it, by the line's key.

use super::hello::is_run_id;
use super::instances::{Id, Kind, PARALLEL_SYNCS};
use super::names::{Address, AddressError, Unresolved};
use super::{MS_MAX, Sentinel, leading_number};

/// The keys of the lines, in the order in which they are written.
pub const KEYS: &[&str] = &[
    "sentinel myid",
    "sentinel deny-scripts-reconfig",
    "sentinel resolve-hostnames",
    "sentinel announce-hostnames",
    "sentinel monitor",
    "sentinel down-after-milliseconds",
    "sentinel failover-timeout",
    "sentinel parallel-syncs",
    "sentinel notification-script",
    "sentinel client-reconfig-script",
    "sentinel auth-pass",
    "sentinel auth-user",
    "sentinel master-reboot-down-after-period",
    "sentinel config-epoch",
    "sentinel leader-epoch",
    "sentinel known-replica",
    "sentinel known-sentinel",
    "sentinel rename-command",
    "sentinel current-epoch",
    "sentinel announce-ip",
    "sentinel announce-port",
    "sentinel sentinel-user",
    "sentinel sentinel-pass",
];

/// Names that lines may have instead of those that are written.
const ALIASES: &[(&str, &str)] = &[
    ("known-slave", "known-replica"),
    ("primary-reboot-down-after-period", "master-reboot-down-after-period"),
];

/// The key of a line whose second word is this.
pub fn key_of(word: &[u8]) -> Option<&'static str> {
    let word = std::str::from_utf8(word).ok()?.to_ascii_lowercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == word);
    let word = alias.map_or(word.as_str(), |(_, name)| name);
    KEYS.iter().copied().find(|key| key.strip_prefix("sentinel ") == Some(word))
}

/// Directives that hold for all masters.
const GLOBALS: &[&str] = &[
    "announce-ip",
    "announce-port",
    "deny-scripts-reconfig",
    "sentinel-user",
    "sentinel-pass",
    "current-epoch",
    "myid",
    "resolve-hostnames",
    "announce-hostnames",
];

const NO_MASTER: &str = "No such master with specified name.";
const NO_TIME: &str = "negative or zero time parameter.";

/// A line that cannot be followed: which of them, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    pub line: usize,
    pub reason: &'static str,
}

type Outcome = Result<(), &'static str>;

pub(super) fn reason_of(error: AddressError) -> &'static str {
    match error {
        AddressError::InvalidPort => "Invalid port number.",
        AddressError::Unresolvable | AddressError::NotYet => "Can't resolve instance hostname.",
    }
}

pub(super) fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Whether a text can stand in a line of the file and in a message.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_control() || c.is_whitespace() || c == ',')
}

/// A positive number of milliseconds.
fn time(text: &str) -> Result<u64, &'static str> {
    let ms = u64::try_from(leading_number(text)).ok().filter(|ms| *ms > 0);
    ms.map(|ms| ms.min(MS_MAX)).ok_or(NO_TIME)
}

fn number(text: &str) -> u64 {
    u64::try_from(leading_number(text)).unwrap_or(0)
}

impl Sentinel {
    /// Reads lines, each as its words behind `sentinel`.
    pub fn read(&mut self, lines: &[Vec<Vec<u8>>]) -> Result<(), Refused> {
        let pass_of = |words: &[String]| match words[0].to_ascii_lowercase().as_str() {
            "monitor" => 1,
            name if GLOBALS.contains(&name) => 0,
            _ => 2,
        };
        let mut read = Vec::with_capacity(lines.len());
        for (line, words) in lines.iter().enumerate() {
            let words = words.iter().map(|word| String::from_utf8(word.clone()).ok());
            let words: Option<Vec<String>> = words.collect();
            let words = words.filter(|words| !words.is_empty());
            read.push(words.ok_or(Refused { line, reason: UNKNOWN })?);
        }
        for pass in 0..=2 {
            for (line, words) in read.iter().enumerate().filter(|(_, w)| pass_of(w) == pass) {
                self.read_line(words).map_err(|reason| Refused { line, reason })?;
            }
        }
        Ok(())
    }

    fn read_line(&mut self, words: &[String]) -> Outcome {
        let name = words[0].to_ascii_lowercase();
        let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        match (name.as_str(), args.as_slice()) {
            ("monitor", [name, host, port, quorum]) => {
                let quorum = u32::try_from(leading_number(quorum)).unwrap_or(0);
                if quorum == 0 {
                    return Err("Quorum must be 1 or greater.");
                }
                self.monitor(name, host, leading_number(port), quorum, Unresolved::Accept)
                    .map(|_| ())
            }
            (_, [value]) if GLOBALS.contains(&name.as_str()) => self.read_global(&name, value),
            (_, [master, rest @ ..])
                if key_of(name.as_bytes()).is_some() && !GLOBALS.contains(&name.as_str()) =>
            {
                let known = key_of(name.as_bytes()).and_then(|key| key.strip_prefix("sentinel "));
                let id = self.master_by_name(master.as_bytes()).ok_or(NO_MASTER);
                match rest {
                    [value] => self.read_of_master(id, known.unwrap_or_default(), value),
                    _ => self.read_members(id, known.unwrap_or_default(), rest),
                }
            }
            _ => Err(UNKNOWN),
        }
    }

    fn read_global(&mut self, name: &str, value: &str) -> Outcome {
        let text = (!value.is_empty()).then(|| value.to_owned());
        let globals = &mut self.globals;
        match name {
            "announce-ip" => globals.announce_ip = text,
            "announce-port" => {
                globals.announce_port = u16::try_from(leading_number(value)).unwrap_or(0);
            }
            "deny-scripts-reconfig" => {
                globals.deny_scripts_reconfig = yes_or_no(value)
                    .ok_or("Please specify yes or no for the deny-scripts-reconfig options.")?;
            }
            "sentinel-user" => globals.user = text,
            "sentinel-pass" => globals.password = text,
            "current-epoch" => self.current_epoch = self.current_epoch.max(number(value)),
            "myid" if is_run_id(value) => {
                value.clone_into(&mut self.my_id);
                self.is_id_kept = true;
            }
            "myid" => return Err("Malformed Sentinel id in myid option."),
            "resolve-hostnames" => {
                globals.resolve_hostnames = yes_or_no(value)
                    .ok_or("Please specify yes or no for the resolve-hostnames option.")?;
            }
            _ => {
                globals.announce_hostnames = yes_or_no(value)
                    .ok_or("Please specify yes or no for the announce-hostnames option.")?;
            }
        }
        Ok(())
    }

    fn read_of_master(&mut self, id: Result<Id, &'static str>, name: &str, value: &str) -> Outcome {
        let is_executable = self.surroundings.is_executable;
        match name {
            "down-after-milliseconds" => return self.set_down_after(id?, time(value)?),
            "config-epoch" => {
                let epoch = number(value);
                self.instances[id?].group.config_epoch = epoch;
                self.current_epoch = self.current_epoch.max(epoch);
                return Ok(());
            }
            _ => {}
        }
        let group = &mut self.instances[id?].group;
        match name {
            "failover-timeout" => group.failover_timeout_ms = time(value)?,
            "parallel-syncs" => group.parallel_syncs = number(value),
            "notification-script" if !is_executable(value) => {
                return Err("Notification script seems non existing or non executable.");
            }
            "notification-script" => group.notification_script = Some(value.to_owned()),
            "client-reconfig-script" if !is_executable(value) => {
                return Err("Client reconfiguration script seems non existing or non executable.");
            }
            "client-reconfig-script" => group.client_reconfig_script = Some(value.to_owned()),
            "auth-pass" => group.auth_pass = Some(value.to_owned()),
            "auth-user" => group.auth_user = Some(value.to_owned()),
            "leader-epoch" => group.leader_epoch = number(value),
            "master-reboot-down-after-period" => {
                let ms = u64::try_from(leading_number(value));
                let ms = ms.map_err(|_| "negative time parameter.")?;
                group.reboot_down_after_ms = ms.min(MS_MAX);
            }
            _ => return Err(UNKNOWN),
        }
        Ok(())
    }

    fn read_members(&mut self, id: Result<Id, &'static str>, name: &str, args: &[&str]) -> Outcome {
        match (name, args) {
            ("known-replica", [host, port]) => {
                let address = self.address(host, leading_number(port), Unresolved::Accept);
                // What is listed twice is there once: old versions have written such files.
                self.add_replica(id?, address.map_err(reason_of)?);
            }
            // A Sentinel without a run id was written by versions that did not know it yet.
            ("known-sentinel", [_, _]) => {}
            ("known-sentinel", [host, port, run_id]) => {
                let address = self.address(host, leading_number(port), Unresolved::Accept);
                self.add_sentinel(id?, run_id, address.map_err(reason_of)?);
            }
            ("rename-command", [from, to]) => {
                let renamed = &mut self.instances[id?].group.renamed;
                if renamed.insert(from.to_ascii_lowercase(), (*to).to_owned()).is_some() {
                    return Err("Same command renamed multiple times with rename-command.");
                }
            }
            _ => return Err(UNKNOWN),
        }
        Ok(())
    }

    /// Begins to watch a master.
    pub(super) fn monitor(
        &mut self,
        name: &str,
        host: &str,
        port: i64,
        quorum: u32,
        unresolved: Unresolved,
    ) -> Result<Id, &'static str> {
        if !is_name(name) {
            return Err("Invalid master name.");
        }
        let address = self.address(host, port, unresolved).map_err(reason_of)?;
        if self.master_by_name(name.as_bytes()).is_some() {
            return Err("Duplicate master name.");
        }
        let id = self.add(Kind::Master, name.to_owned(), None, address);
        self.instances[id].group.quorum = quorum;
        Ok(id)
    }

    /// When a master, and all that belongs to it, are taken for down.
    pub(super) fn set_down_after(&mut self, master: Id, ms: u64) -> Outcome {
        let group = &self.instances[master].group;
        let members = [vec![master], group.replicas.clone(), group.sentinels.clone()].concat();
        for id in members {
            self.instances[id].down_after_ms = ms;
        }
        Ok(())
    }

    /// The lines as things are now: the key of each, and what follows it.
    pub fn lines(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut lines = Lines(Vec::new());
        let globals = &self.globals;
        lines.put("myid", &[&self.my_id]);
        lines.put_if("deny-scripts-reconfig", &["no"], !globals.deny_scripts_reconfig);
        lines.put_if("resolve-hostnames", &["yes"], globals.resolve_hostnames);
        lines.put_if("announce-hostnames", &["yes"], globals.announce_hostnames);
        for master in self.instances.masters() {
            self.put_master(&mut lines, *master);
            self.put_members(&mut lines, *master);
        }
        lines.put("current-epoch", &[&self.current_epoch.to_string()]);
        if let Some(ip) = &globals.announce_ip {
            lines.put("announce-ip", &[&quoted(ip)]);
        }
        let port = globals.announce_port.to_string();
        lines.put_if("announce-port", &[&port], globals.announce_port != 0);
        lines.put_some("sentinel-user", &[], globals.user.as_ref());
        lines.put_some("sentinel-pass", &[], globals.password.as_ref());
        lines.0
    }

    fn put_master(&self, lines: &mut Lines, id: Id) {
        let (master, group) = (&self.instances[id], &self.instances[id].group);
        let name = master.name.as_str();
        let address = self.current_address(id);
        let (host, port) = (self.told(&address), address.port.to_string());
        lines.put("monitor", &[name, host, &port, &group.quorum.to_string()]);
        let mut put = |key, value: u64, default| {
            lines.put_if(key, &[name, &value.to_string()], value != default);
        };
        put("down-after-milliseconds", master.down_after_ms, self.periods.down_after_ms);
        put("failover-timeout", group.failover_timeout_ms, self.periods.failover_timeout_ms);
        put("parallel-syncs", group.parallel_syncs, PARALLEL_SYNCS);
        lines.put_some("notification-script", &[name], group.notification_script.as_ref());
        lines.put_some("client-reconfig-script", &[name], group.client_reconfig_script.as_ref());
        lines.put_some("auth-pass", &[name], group.auth_pass.as_ref());
        lines.put_some("auth-user", &[name], group.auth_user.as_ref());
        let reboot = group.reboot_down_after_ms;
        let words = [name, &reboot.to_string()];
        lines.put_if("master-reboot-down-after-period", &words, reboot != 0);
        lines.put("config-epoch", &[name, &group.config_epoch.to_string()]);
        lines.put("leader-epoch", &[name, &group.leader_epoch.to_string()]);
    }

    fn put_members(&self, lines: &mut Lines, id: Id) {
        let (master, group) = (&self.instances[id], &self.instances[id].group);
        let current = self.current_address(id);
        for replica in &group.replicas {
            let address = &self.instances[*replica].address;
            // While the promoted replica is written as the master, that one is its replica.
            let address = if address.is(&current) { &master.address } else { address };
            let (host, port) = (self.told(address), address.port.to_string());
            lines.put("known-replica", &[&master.name, host, &port]);
        }
        for sentinel in &group.sentinels {
            let sentinel = &self.instances[*sentinel];
            let Address { port, .. } = sentinel.address;
            let (host, run_id) = (self.told(&sentinel.address), &sentinel.name);
            lines.put("known-sentinel", &[&master.name, host, &port.to_string(), run_id]);
        }
        for (from, to) in &group.renamed {
            lines.put("rename-command", &[&master.name, &quoted(from), &quoted(to)]);
        }
    }
}

const UNKNOWN: &str = "Unrecognized sentinel configuration statement.";

struct Lines(Vec<(&'static str, Vec<u8>)>);

impl Lines {
    fn put(&mut self, word: &str, rest: &[&str]) {
        let key = key_of(word.as_bytes()).expect("only listed lines are written");
        self.0.push((key, rest.join(" ").into_bytes()));
    }

    fn put_if(&mut self, word: &str, rest: &[&str], is_so: bool) {
        if is_so {
            self.put(word, rest);
        }
    }

    /// A line with a free text at its end.
    fn put_some(&mut self, word: &str, rest: &[&str], text: Option<&String>) {
        if let Some(text) = text {
            let text = quoted(text);
            self.put(word, &[rest, &[&text]].concat());
        }
    }
}

/// A word as it can stand in the file: in quotes only if it needs them, as Redis leaves them out.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'\\#".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    let quoted = crate::config::quote::quote(text.as_bytes());
    String::from_utf8(quoted).expect("what is quoted is ASCII")
}
