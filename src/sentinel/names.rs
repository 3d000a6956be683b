//! Addresses, and the names that stand for them.
//!
//! Looking a name up takes time that a timer does not have: what is known of names is kept here,
//! and whoever meets an unknown one asks for it and does without until the answer has come. Redis
//! looks names up in the middle of its timer, and stands still when a name server does.

use super::instances::Id;
use super::{Action, Sentinel};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Names that are remembered: they come from configurations, clients and peers.
const NAMES_MAX: usize = 1024;

/// A host name is no longer than that.
const HOST_BYTES_MAX: usize = 255;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// As it was given: a name or an address.
    pub host: String,
    /// Empty while the name could not be resolved.
    pub ip: String,
    pub port: u16,
}

impl Address {
    /// Whether both are one place, by address or by name.
    pub fn is(&self, other: &Address) -> bool {
        let is_ip = !self.ip.is_empty() && self.ip == other.ip;
        self.port == other.port && (is_ip || self.host.eq_ignore_ascii_case(&other.host))
    }
}

/// Why there is no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressError {
    InvalidPort,
    Unresolvable,
    /// The name is being looked up.
    NotYet,
}

/// What becomes of an address whose name is not known (yet).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unresolved {
    Accept,
    Refuse,
}

struct Known {
    ip: Option<String>,
    asked_ms: u64,
    /// The answer is still to come.
    is_asked: bool,
}

#[derive(Default)]
pub struct Names {
    all: BTreeMap<String, Known>,
}

/// Whether a text can be a host: nothing else may come into a configuration file or a message.
pub fn is_host(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    !text.is_empty() && text.len() <= HOST_BYTES_MAX && text.bytes().all(is_part)
}

impl Sentinel {
    /// The address of a host, if it is known.
    pub(super) fn lookup(&mut self, host: &str) -> Result<String, AddressError> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(ip.to_string());
        }
        if !self.globals.resolve_hostnames || !is_host(host) {
            return Err(AddressError::Unresolvable);
        }
        let now_ms = self.now.mono_ms;
        match self.names.all.get(host) {
            Some(Known { ip: Some(ip), .. }) => Ok(ip.clone()),
            Some(known) if known.is_asked => Err(AddressError::NotYet),
            Some(known) if now_ms < known.asked_ms + self.periods.ping_ms => {
                Err(AddressError::Unresolvable)
            }
            _ => {
                self.ask_for(host);
                Err(AddressError::NotYet)
            }
        }
    }

    fn ask_for(&mut self, host: &str) {
        if self.names.all.len() >= NAMES_MAX {
            self.names.all.clear();
        }
        let ip = self.names.all.get_mut(host).and_then(|known| known.ip.take());
        let known = Known { ip, asked_ms: self.now.mono_ms, is_asked: true };
        self.names.all.insert(host.to_owned(), known);
        self.actions.push(Action::Resolve { host: host.to_owned() });
    }

    pub(super) fn note_resolved(&mut self, host: &str, ip: Option<String>) {
        let Some(known) = self.names.all.get_mut(host) else { return };
        known.is_asked = false;
        let Some(ip) = ip else {
            let text = format!("Failed to resolve hostname '{host}'");
            return self.log(super::Level::Warning, text);
        };
        known.ip = Some(ip.clone());
        for id in self.instances.ids() {
            let instance = &mut self.instances[id];
            if instance.address.host.eq_ignore_ascii_case(host) {
                instance.address.ip.clone_from(&ip);
            }
        }
    }

    /// Has the name of an instance looked up again, since its address may be another by now.
    pub(super) fn refresh_address(&mut self, id: Id) {
        let host = self.instances[id].address.host.clone();
        if !self.globals.resolve_hostnames || host.parse::<IpAddr>().is_ok() || !is_host(&host) {
            return;
        }
        let known = self.names.all.get(&host);
        let period_ms = self.periods.ping_ms;
        let is_old =
            |known: &Known| !known.is_asked && self.now.mono_ms >= known.asked_ms + period_ms;
        if known.is_none_or(is_old) {
            self.ask_for(&host);
        }
    }

    pub(super) fn address(
        &mut self,
        host: &str,
        port: i64,
        unresolved: Unresolved,
    ) -> Result<Address, AddressError> {
        let port = u16::try_from(port).map_err(|_| AddressError::InvalidPort)?;
        let ip = match self.lookup(host) {
            Ok(ip) => ip,
            Err(_) if self.globals.resolve_hostnames && unresolved == Unresolved::Accept => {
                String::new()
            }
            Err(error) => return Err(error),
        };
        Ok(Address { host: host.to_owned(), ip, port })
    }

    /// Whether an address is that of a host.
    pub(super) fn is_at(&mut self, address: &Address, host: &str) -> bool {
        match self.lookup(host) {
            Ok(ip) => address.ip.eq_ignore_ascii_case(&ip),
            Err(_) if self.globals.resolve_hostnames => address.host.eq_ignore_ascii_case(host),
            Err(_) => address.ip.eq_ignore_ascii_case(host),
        }
    }

    /// What others are told of an address.
    pub(super) fn told<'a>(&self, address: &'a Address) -> &'a str {
        let is_named = self.globals.announce_hostnames || address.ip.is_empty();
        if is_named { &address.host } else { &address.ip }
    }

    /// The name of a replica: its address and port.
    pub(super) fn name_of_replica(&self, address: &Address) -> String {
        let host = self.told(address);
        match host.contains(':') {
            true => format!("[{host}]:{}", address.port),
            false => format!("{host}:{}", address.port),
        }
    }
}
