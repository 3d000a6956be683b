//! Events: what is logged, published to clients, and handed to notification scripts.

use super::instances::{Id, Kind};
use super::names::Address;
use super::{Action, Level, Sentinel};

/// Whom an event is about, for its script: nobody is somebody of no master.
pub type About = Option<Id>;

impl Sentinel {
    pub(super) fn log(&mut self, level: Level, text: String) {
        self.actions.push(Action::Log(level, text));
    }

    /// An event about an instance, which its text names first; `extra` follows as it is.
    pub(super) fn event(&mut self, level: Level, kind: &'static str, id: Id, extra: &str) {
        let text = format!("{}{extra}", self.describe(id));
        self.tell(level, kind, Some(id), text);
    }

    /// An event with a text of its own.
    pub(super) fn tell(&mut self, level: Level, kind: &'static str, about: About, text: String) {
        self.log(level, format!("{kind} {text}"));
        if level != Level::Debug {
            self.actions.push(Action::Publish { channel: kind, text: text.clone() });
        }
        let Some(id) = about.filter(|_| level == Level::Warning) else { return };
        let master = self.instances.master_of(id);
        if let Some(script) = self.instances[master].group.notification_script.clone() {
            self.schedule(vec![script, kind.to_owned(), text]);
        }
    }

    /// `slave <name> <ip> <port> @ <master> <ip> <port>`.
    fn describe(&self, id: Id) -> String {
        let instance = &self.instances[id];
        let own =
            format!("{} {} {}", instance.kind.word(), instance.name, self.place(&instance.address));
        match instance.master.filter(|_| instance.kind != Kind::Master) {
            None => own,
            Some(master) => {
                let master = &self.instances[master];
                format!("{own} @ {} {}", master.name, self.place(&master.address))
            }
        }
    }

    /// An address as events have it: `<ip> <port>`.
    pub(super) fn place(&self, address: &Address) -> String {
        format!("{} {}", self.told(address), address.port)
    }
}
