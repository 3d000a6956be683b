//! Who comes to a group and who goes, with their links.

use super::Sentinel;
use super::instances::{Birth, Id, Kind};
use super::names::Address;

impl Sentinel {
    /// Adds an instance with a link of its own.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        name: String,
        master: Option<Id>,
        address: Address,
    ) -> Id {
        let link = self.links.add(self.now.mono_ms);
        let owner = master.map(|master| &self.instances[master]);
        self.instances.add(Birth {
            kind,
            name,
            master,
            address,
            link,
            quorum: owner.map_or(0, |owner| owner.group.quorum),
            down_after_ms: owner.map_or(self.periods.down_after_ms, |owner| owner.down_after_ms),
            failover_timeout_ms: self.periods.failover_timeout_ms,
            now_ms: self.now.mono_ms,
        })
    }

    /// Adds a replica unless it is there.
    pub(super) fn add_replica(&mut self, master: Id, address: Address) -> Option<Id> {
        let name = self.name_of_replica(&address);
        let replicas = &self.instances[master].group.replicas;
        let is_there = replicas.iter().any(|id| self.instances[*id].name == name);
        (!is_there).then(|| self.add(Kind::Replica, name, Some(master), address))
    }

    pub(super) fn remove(&mut self, id: Id) {
        for link in self.instances.remove(id) {
            self.release_link(link);
        }
    }

    /// Adds another Sentinel unless it is there.
    pub(super) fn add_sentinel(
        &mut self,
        master: Id,
        run_id: &str,
        address: Address,
    ) -> Option<Id> {
        if self.instances.sentinel_of(master, run_id).is_some() {
            return None;
        }
        let id = self.add(Kind::Sentinel, run_id.to_owned(), Some(master), address);
        self.instances[id].run_id = Some(run_id.to_owned());
        self.share_link(id, run_id);
        Some(id)
    }

    /// One Sentinel that watches several masters with us needs one link.
    fn share_link(&mut self, id: Id, run_id: &str) {
        let own = self.instances.master_of(id);
        let masters = self.instances.masters().to_vec();
        let mut others = masters.into_iter().filter(|master| *master != own);
        let Some(twin) = others.find_map(|master| self.instances.sentinel_of(master, run_id))
        else {
            return;
        };
        let (old, shared) = (self.instances[id].link, self.instances[twin].link);
        self.release_link(old);
        self.links.get_mut(shared).owners += 1;
        self.instances[id].link = shared;
    }
}
