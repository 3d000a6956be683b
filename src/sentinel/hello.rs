//! Hellos: how Sentinels find each other, and learn of newer epochs and configurations.
//!
//!     ip,port,run id,current epoch,master name,master ip,master port,config epoch
//!
//! They come from anybody who may publish, so what cannot be true is not believed: other forms of
//! names and addresses than there are, epochs that no group has come to.

use super::instances::Id;
use super::names::{Address, AddressError, Unresolved, is_host};
use super::{Level, Sentinel, leading_number};

/// More Sentinels watch no master.
const SENTINELS_MAX: usize = 1024;

struct Hello<'a> {
    ip: &'a str,
    port: u16,
    run_id: &'a str,
    current_epoch: u64,
    master_host: &'a str,
    master_port: u16,
    config_epoch: u64,
}

/// An epoch as a message has it. One behind what replies can hold as an integer is a lie.
fn epoch(text: &str) -> Option<u64> {
    let epoch: i64 = text.parse().ok()?;
    u64::try_from(epoch).ok()
}

pub(super) fn is_run_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl<'a> Hello<'a> {
    /// The hello and the name of the master that it is about.
    fn read(text: &'a str) -> Option<(Hello<'a>, &'a str)> {
        let tokens: Vec<&str> = text.split(',').collect();
        let [ip, port, run_id, current_epoch, name, master_host, master_port, config_epoch] =
            tokens.as_slice()
        else {
            return None;
        };
        let port_of = |text: &str| u16::try_from(leading_number(text)).ok();
        let hello = Hello {
            ip,
            port: port_of(port)?,
            run_id,
            current_epoch: epoch(current_epoch)?,
            master_host,
            master_port: port_of(master_port)?,
            config_epoch: epoch(config_epoch)?,
        };
        let is_sound = is_host(ip) && is_host(master_host) && is_run_id(run_id);
        is_sound.then_some((hello, name))
    }
}

impl Sentinel {
    pub(super) fn take_hello(&mut self, text: &str) {
        let Some((hello, name)) = Hello::read(text) else { return };
        let Some(master) = self.master_by_name(name.as_bytes()) else { return };
        if hello.run_id == self.my_id {
            return;
        }
        let sender = self.meet(master, &hello);
        if hello.current_epoch > self.current_epoch {
            self.current_epoch = hello.current_epoch;
            self.persist();
            self.tell_new_epoch(master);
        }
        let Some(sender) = sender else { return };
        self.follow_configuration(master, sender, &hello);
        self.instances[sender].voter.hello_ms = self.now.mono_ms;
    }

    /// The Sentinel that says hello, which may be new, or at another address than before.
    fn meet(&mut self, master: Id, hello: &Hello<'_>) -> Option<Id> {
        let address = self.address(hello.ip, i64::from(hello.port), Unresolved::Accept).ok()?;
        let known = self.instances.sentinel_of(master, hello.run_id);
        if let Some(id) = known.filter(|id| self.instances[*id].address.is(&address)) {
            return Some(id);
        }
        if known.is_none() && self.instances[master].group.sentinels.len() >= SENTINELS_MAX {
            return None;
        }
        if let Some(id) = known {
            self.remove(id);
            let extra = format!(" ip {} port {} for {}", hello.ip, hello.port, hello.run_id);
            self.event(Level::Notice, "+sentinel-address-switch", master, &extra);
        } else {
            self.forget_predecessor(master, &address);
        }
        let id = self.add_sentinel(master, hello.run_id, address)?;
        match known {
            None => self.event(Level::Notice, "+sentinel", id, ""),
            Some(_) => self.move_everywhere(id),
        }
        self.persist();
        Some(id)
    }

    /// Somebody else was known at the address of a new Sentinel: that one is gone, everywhere.
    fn forget_predecessor(&mut self, master: Id, address: &Address) {
        let sentinels = self.instances[master].group.sentinels.iter();
        let Some(other) = sentinels.copied().find(|id| self.instances[*id].address.is(address))
        else {
            return;
        };
        self.event(Level::Notice, "+sentinel-invalid-addr", other, "");
        let Some(run_id) = self.instances[other].run_id.clone() else { return };
        for master in self.instances.masters().to_vec() {
            if let Some(id) = self.instances.sentinel_of(master, &run_id) {
                self.remove(id);
            }
        }
    }

    /// A Sentinel has moved: its other instances follow, over new connections.
    fn move_everywhere(&mut self, id: Id) {
        let run_id = self.instances[id].run_id.clone().unwrap_or_default();
        let address = self.instances[id].address.clone();
        let mut moved = 0;
        for master in self.instances.masters().to_vec() {
            let Some(twin) = self.instances.sentinel_of(master, &run_id) else { continue };
            self.close_link(self.instances[twin].link);
            if twin != id {
                self.instances[twin].address = address.clone();
                moved += 1;
            }
        }
        if moved > 0 {
            let extra = format!(" {moved} additional matching instances");
            self.event(Level::Notice, "+sentinel-address-update", id, &extra);
        }
    }

    /// Takes over a configuration that is newer than ours.
    fn follow_configuration(&mut self, master: Id, sender: Id, hello: &Hello<'_>) {
        if self.instances[master].group.config_epoch >= hello.config_epoch {
            return;
        }
        let old = self.instances[master].address.clone();
        let is_same = hello.master_port == old.port && self.is_at(&old, hello.master_host);
        if is_same {
            self.instances[master].group.config_epoch = hello.config_epoch;
            return;
        }
        let port = i64::from(hello.master_port);
        let new = match self.address(hello.master_host, port, Unresolved::Refuse) {
            Ok(new) => new,
            // What it says is taken in with its next hello, when the name is known.
            Err(AddressError::NotYet) => return,
            Err(_) => {
                self.instances[master].group.config_epoch = hello.config_epoch;
                return;
            }
        };
        self.instances[master].group.config_epoch = hello.config_epoch;
        self.event(Level::Warning, "+config-update-from", sender, "");
        let name = self.instances[master].name.clone();
        let from = self.place(&old);
        let text = format!("{name} {from} {} {}", hello.master_host, hello.master_port);
        self.tell(Level::Warning, "+switch-master", Some(master), text);
        self.reset_to(master, new.clone());
        self.call_reconfiguration_script(master, "observer", &old, &new);
    }

    pub(super) fn tell_new_epoch(&mut self, master: Id) {
        let epoch = self.current_epoch.to_string();
        self.tell(Level::Warning, "+new-epoch", Some(master), epoch);
    }
}
