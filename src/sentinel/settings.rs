//! SENTINEL SET: what is set of one master.

use super::answers::{Error, Outcome, shown};
use super::globals::positive;
use super::instances::Id;
use super::{Level, MS_MAX, Sentinel};
use crate::resp::Reply;
use crate::structs::number::parse_i64;

const DENIED: &str = "ERR Reconfiguration of scripts path is denied for security reasons. Check \
                      the deny-scripts-reconfig configuration directive in your Sentinel \
                      configuration";

impl Sentinel {
    /// Sets options one by one; those before one that is refused stay set, as with Redis.
    pub(super) fn set(&mut self, reply: &mut Reply<'_>, master: Id, words: &[&[u8]]) -> Outcome {
        let mut rest = words;
        let mut changes = 0;
        while let [option, others @ ..] = rest {
            let name = shown(option).to_ascii_lowercase();
            let wanted = if name == "rename-command" { 2 } else { 1 };
            let outcome = match others.split_at_checked(wanted) {
                Some((values, behind)) => {
                    rest = behind;
                    self.set_one(master, &name, &shown(option), values)
                        .map(|()| self.tell_set(master, &shown(option), &name, values))
                }
                None => Err(unknown(option)),
            };
            match outcome {
                Ok(()) => changes += 1,
                Err(error) => {
                    if changes > 0 {
                        self.persist();
                    }
                    return Err(error);
                }
            }
        }
        Ok(self.ok_when_saved(reply))
    }

    fn set_one(
        &mut self,
        master: Id,
        name: &str,
        option: &str,
        values: &[&[u8]],
    ) -> Result<(), Error> {
        let invalid = |value: &[u8]| -> Error {
            let value = shown(value);
            format!("ERR Invalid argument '{value}' for SENTINEL SET '{option}'").into()
        };
        let value = values[0];
        let number = || positive(value).ok_or_else(|| invalid(value));
        let is_sound = |text: &&str| !text.contains(char::is_control);
        let text =
            || std::str::from_utf8(value).ok().filter(is_sound).ok_or_else(|| invalid(value));
        match name {
            "down-after-milliseconds" => {
                let ms = number()?;
                self.set_down_after(master, ms).map_err(Error::from)?;
            }
            "failover-timeout" => self.instances[master].group.failover_timeout_ms = number()?,
            "parallel-syncs" => self.instances[master].group.parallel_syncs = number()?,
            "quorum" => {
                let quorum = u32::try_from(number()?).map_err(|_| invalid(value))?;
                self.instances[master].group.quorum = quorum;
            }
            "notification-script" | "client-reconfig-script" => {
                self.set_script(master, name, text()?)?;
            }
            "auth-pass" | "auth-user" => {
                let text = text()?;
                let text = (!text.is_empty()).then(|| text.to_owned());
                let group = &mut self.instances[master].group;
                match name {
                    "auth-pass" => group.auth_pass = text,
                    _ => group.auth_user = text,
                }
                self.drop_connections(master);
            }
            "rename-command" => self.set_name(master, values, invalid)?,
            "master-reboot-down-after-period" | "primary-reboot-down-after-period" => {
                let ms = parse_i64(value).and_then(|ms| u64::try_from(ms).ok());
                let ms = ms.filter(|ms| *ms <= MS_MAX).ok_or_else(|| invalid(value))?;
                self.instances[master].group.reboot_down_after_ms = ms;
            }
            _ => return Err(unknown(option.as_bytes())),
        }
        Ok(())
    }

    fn set_script(&mut self, master: Id, name: &str, path: &str) -> Result<(), Error> {
        if self.globals.deny_scripts_reconfig {
            return Err(DENIED.into());
        }
        let is_notification = name == "notification-script";
        if !path.is_empty() && !(self.surroundings.is_executable)(path) {
            let what = if is_notification { "Notification" } else { "Client reconfiguration" };
            return Err(format!("ERR {what} script seems non existing or non executable").into());
        }
        let path = (!path.is_empty()).then(|| path.to_owned());
        let group = &mut self.instances[master].group;
        match is_notification {
            true => group.notification_script = path,
            false => group.client_reconfig_script = path,
        }
        Ok(())
    }

    fn set_name(
        &mut self,
        master: Id,
        values: &[&[u8]],
        invalid: impl Fn(&[u8]) -> Error,
    ) -> Result<(), Error> {
        let mut words = Vec::new();
        for value in values {
            let is_sound = |text: &&str| !text.is_empty() && !text.contains(char::is_control);
            words.push(
                std::str::from_utf8(value).ok().filter(is_sound).ok_or_else(|| invalid(value))?,
            );
        }
        let renamed = &mut self.instances[master].group.renamed;
        renamed.remove(&words[0].to_ascii_lowercase());
        if !words[0].eq_ignore_ascii_case(words[1]) {
            renamed.insert(words[0].to_ascii_lowercase(), words[1].to_owned());
        }
        Ok(())
    }

    /// Has the connections of a master and its replicas made anew, with other credentials.
    fn drop_connections(&mut self, master: Id) {
        self.close_link(self.instances[master].link);
        for id in self.instances[master].group.replicas.clone() {
            self.close_link(self.instances[id].link);
        }
    }

    fn tell_set(&mut self, master: Id, option: &str, name: &str, values: &[&[u8]]) {
        let told: Vec<_> = match name {
            "auth-pass" => vec!["******".into()],
            _ => values.iter().map(|value| shown(value)).collect(),
        };
        let extra = format!(" {option} {}", told.join(" "));
        self.event(Level::Warning, "+set", master, &extra);
    }
}

fn unknown(option: &[u8]) -> Error {
    let option = shown(option);
    format!("ERR Unknown option or number of arguments for SENTINEL SET '{option}'").into()
}
