//! Messages for subscribers of other nodes: to all of them, or to those of our shard.

use super::flags::Flags;
use super::links::LinkId;
use super::machine::{Cluster, Cx, Level};
use super::table::NodeKey;
use super::wire::{self, Publish};

impl Cluster {
    pub(super) fn publish(&mut self, message: &Publish, cx: &mut Cx) {
        self.follow_handed();
        let (mut light, mut full) = (None, None);
        for (key, link) in self.links.all_connected() {
            if !self.is_to_hear(key, message) {
                continue;
            }
            // What was first sent on a connection has said who we are.
            let bytes = match self.table.node(key).has(Flags::LIGHT_HEADER) {
                true => light.get_or_insert_with(|| wire::light(message)),
                false => full.get_or_insert_with(|| self.header().publish(message)),
            };
            self.traffic.count_sent(message.kind());
            cx.send(link, bytes.clone());
        }
    }

    fn is_to_hear(&self, key: NodeKey, message: &Publish) -> bool {
        let is_met = !self.table.node(key).has(Flags::HANDSHAKE);
        is_met && (!message.is_sharded || self.table.are_in_one_shard(key, self.table.me()))
    }

    /// How much waits to be sent on a connection.
    pub fn set_queued(&mut self, link: LinkId, bytes: usize) {
        if let Some(link) = self.links.find_mut(link) {
            link.queued_bytes = bytes;
        }
    }

    /// Closes what nobody reads, before it takes all memory.
    pub(super) fn limit_queues(&mut self, cx: &mut Cx) {
        let most = self.settings.link_bytes_max;
        if most == 0 {
            return;
        }
        let is_over = |queued_bytes: usize| queued_bytes > most;
        let over: Vec<LinkId> =
            self.links.iter().filter(|(_, l)| is_over(l.queued_bytes)).map(|(id, _)| id).collect();
        for id in over {
            self.give_up_slow(id, cx);
        }
    }

    fn give_up_slow(&mut self, id: LinkId, cx: &mut Cx) {
        let Some(link) = self.links.find(id) else { return };
        let node = link.node.map(|key| self.table.node(key).id().to_string()).unwrap_or_default();
        let (to_or_from, used) = (link.direction.word(), link.queued_bytes);
        cx.log(
            Level::Warning,
            format!(
                "Freeing cluster link({to_or_from} node {node}, used memory: {used}) due to \
                 exceeding send buffer memory limit."
            ),
        );
        self.traffic.limit_exceeded += 1;
        self.close(id, cx);
    }
}
