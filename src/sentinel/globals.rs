//! SENTINEL CONFIG, DEBUG and SIMULATE-FAILURE: what holds for all masters.

use super::answers::{Error, Outcome, shown};
use super::config::yes_or_no;
use super::instances::Kind;
use super::{Action, Level, MS_MAX, Sentinel, Simulated};
use crate::resp::Reply;
use crate::structs::glob::{self, Case};
use crate::structs::number::parse_i64;

/// What can be asked for and set, in the order in which it is told.
const OPTIONS: &[&str] = &[
    "resolve-hostnames",
    "announce-hostnames",
    "announce-ip",
    "announce-port",
    "sentinel-user",
    "sentinel-pass",
    "loglevel",
];

const LOG_LEVELS: &[&str] = &["debug", "verbose", "notice", "warning", "nothing"];

impl Sentinel {
    pub(super) fn config_get(&self, reply: &mut Reply<'_>, patterns: &[&[u8]]) {
        let fits = |name: &&&str| {
            let is_it =
                |pattern: &&[u8]| glob::matches(pattern, name.as_bytes(), Case::Insensitive);
            patterns.iter().any(is_it)
        };
        let found: Vec<&str> = OPTIONS.iter().filter(fits).copied().collect();
        reply.map(found.len());
        for name in found {
            reply.bulk(name.as_bytes());
            reply.bulk(self.option(name).as_bytes());
        }
    }

    fn option(&self, name: &str) -> String {
        let globals = &self.globals;
        let word = |is_so| if is_so { "yes" } else { "no" }.to_owned();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        match name {
            "resolve-hostnames" => word(globals.resolve_hostnames),
            "announce-hostnames" => word(globals.announce_hostnames),
            "announce-ip" => text(&globals.announce_ip),
            "announce-port" => globals.announce_port.to_string(),
            "sentinel-user" => text(&globals.user),
            "sentinel-pass" => text(&globals.password),
            _ => self.surroundings.log_level.to_owned(),
        }
    }

    /// Sets options, all of them or none.
    pub(super) fn config_set(&mut self, reply: &mut Reply<'_>, words: &[&[u8]]) -> Outcome {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        for pair in words.chunks(2) {
            let option = shown(pair[0]);
            let known = OPTIONS.iter().find(|name| name.eq_ignore_ascii_case(&option));
            let Some(name) = known else {
                return Err(
                    format!("ERR Invalid argument '{option}' to SENTINEL CONFIG SET").into()
                );
            };
            if pairs.iter().any(|(other, _)| other == name) {
                return Err(
                    format!("ERR Duplicate argument '{option}' to SENTINEL CONFIG SET").into()
                );
            }
            let Some(value) = pair.get(1) else {
                return Err(format!("ERR Missing argument '{option}' value").into());
            };
            let text = std::str::from_utf8(value).ok().filter(|text| is_option(name, text));
            let Some(text) = text else {
                let value = shown(value);
                return Err(format!(
                    "ERR Invalid value '{value}' to SENTINEL CONFIG SET '{option}'"
                )
                .into());
            };
            pairs.push((name, text.to_owned()));
        }
        for (name, value) in pairs {
            self.set_option(name, value);
        }
        Ok(self.ok_when_saved(reply))
    }

    fn set_option(&mut self, name: &str, value: String) {
        let is_yes = yes_or_no(&value) == Some(true);
        let text = (!value.is_empty()).then(|| value.clone());
        let globals = &mut self.globals;
        match name {
            "resolve-hostnames" => globals.resolve_hostnames = is_yes,
            "announce-hostnames" => globals.announce_hostnames = is_yes,
            "announce-ip" => globals.announce_ip = text,
            "announce-port" => globals.announce_port = value.parse().unwrap_or(0),
            "sentinel-user" => globals.user = text,
            "sentinel-pass" => globals.password = text,
            _ => return self.set_log_level(&value),
        }
        if name.starts_with("sentinel-") {
            self.reconnect_sentinels();
        }
    }

    fn set_log_level(&mut self, value: &str) {
        let level = LOG_LEVELS.iter().find(|level| level.eq_ignore_ascii_case(value));
        if let Some(level) = level {
            self.surroundings.log_level = level;
            self.actions.push(Action::SetLogLevel((*level).to_owned()));
        }
    }

    /// Has connections to other Sentinels made anew, with the new password.
    fn reconnect_sentinels(&mut self) {
        for id in self.instances.ids() {
            if self.instances[id].kind == Kind::Sentinel {
                self.close_link(self.instances[id].link);
            }
        }
    }

    pub(super) fn put_periods(&self, reply: &mut Reply<'_>) {
        let mut periods = self.periods.clone();
        let all = periods.all();
        reply.map(all.len());
        for (name, ms) in all {
            reply.bulk(name.as_bytes());
            reply.bulk_i64(i64::try_from(*ms).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn set_periods(
        &mut self,
        reply: &mut Reply<'_>,
        words: &[&[u8]],
    ) -> Result<(), Error> {
        for pair in words.chunks(2) {
            let option = shown(pair[0]);
            let all = self.periods.all();
            let known = all.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(&option));
            let (Some((_, ms)), Some(value)) = (known, pair.get(1)) else {
                return Err(format!(
                    "ERR Unknown option or number of arguments for SENTINEL DEBUG '{option}'"
                )
                .into());
            };
            let Some(value_ms) = positive(value) else {
                let value = shown(value);
                return Err(format!(
                    "ERR Invalid argument '{value}' for SENTINEL DEBUG '{option}'"
                )
                .into());
            };
            *ms = value_ms;
        }
        reply.ok();
        Ok(())
    }

    pub(super) fn simulate(&mut self, reply: &mut Reply<'_>, words: &[&[u8]]) -> Result<(), Error> {
        self.simulated = Simulated::default();
        for word in words {
            let when = match word.to_ascii_lowercase().as_slice() {
                b"crash-after-election" => {
                    self.simulated.after_election = true;
                    "being successfully elected as failover leader"
                }
                b"crash-after-promotion" => {
                    self.simulated.after_promotion = true;
                    "promoting the selected replica to master"
                }
                b"help" => {
                    reply.array(2);
                    reply.bulk(b"crash-after-election");
                    reply.bulk(b"crash-after-promotion");
                    return Ok(());
                }
                _ => return Err("ERR Unknown failure simulation specified".into()),
            };
            let text = format!("Failure simulation: this Sentinel will crash after {when}");
            self.log(Level::Warning, text);
        }
        reply.ok();
        Ok(())
    }
}

/// Whether a value is one of an option.
fn is_option(name: &str, text: &str) -> bool {
    match name {
        "resolve-hostnames" | "announce-hostnames" => yes_or_no(text).is_some(),
        "announce-port" => text.parse::<u16>().is_ok(),
        "loglevel" => LOG_LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text)),
        "announce-ip" => text.is_empty() || super::names::is_host(text),
        _ => !text.contains(char::is_control),
    }
}

/// A positive number of a command, such as a time.
pub(super) fn positive(word: &[u8]) -> Option<u64> {
    let number = parse_i64(word).and_then(|number| u64::try_from(number).ok());
    number.filter(|number| (1..=MS_MAX).contains(number))
}
