//! What holds at all times, of every node.

use super::node::Node;
use rufous::keyspace::digest::{self, Digest};
use rufous::repl::ids::ReplicationId;
use std::collections::HashMap;

/// Blocks of a backlog, and what is kept to find them.
const BLOCK_BYTES: u64 = 64 << 10;

#[derive(Default)]
pub struct Watch {
    /// What the dataset of a moment of a history is, as the first one had it that was seen there.
    moments: HashMap<(ReplicationId, i64), (usize, Digest)>,
    /// Where each node was when it was last seen: in which life, after how many loads.
    last: HashMap<usize, (u64, u64, ReplicationId, i64)>,
}

impl Watch {
    /// Looks at a node between its turns; at the dataset only now and then.
    pub fn look(&mut self, number: usize, life: u64, node: &Node, looks_at_data: bool) {
        let history = *node.engine.server.replication.history();
        let (id, offset) = (history.id(), history.offset());
        let loads = node.world.port.loads;
        let now = (life, loads, id, offset);
        let before = self.last.insert(number, now);
        let is_new = before != Some(now);
        if let Some((old_life, old_loads, old_id, old_offset)) = before
            && (old_life, old_loads, old_id) == (life, loads, id)
        {
            assert!(offset >= old_offset, "n{number} went back from {old_offset} to {offset}");
        }
        check_backlog(number, node);
        if looks_at_data || (is_new && self.moments.contains_key(&(id, offset))) {
            self.compare(number, node);
        }
    }

    /// Two that are at the same moment of a history have the same data.
    fn compare(&mut self, number: usize, node: &Node) {
        let server = &node.engine.server;
        // Whoever keeps no backlog counts nothing, and half a script is no moment.
        if server.replication.backlog.is_none() || node.engine.is_under_way() {
            return;
        }
        let history = server.replication.history();
        let own = digest::of_dataset(&node.engine.keyspace);
        let mut names = vec![history.id()];
        if history.next() == history.second_offset_end() {
            names.push(history.second_id());
        }
        for id in names {
            let offset = history.offset();
            let (other, theirs) = *self.moments.entry((id, offset)).or_insert((number, own));
            assert_eq!(
                own,
                theirs,
                "n{number} and n{other} are both at {id}:{offset}; n{number} follows {:?}, {}",
                server.replication.link.primary(),
                server.replication.link.word(),
            );
        }
    }
}

fn check_backlog(number: usize, node: &Node) {
    let replication = &node.engine.server.replication;
    let Some(backlog) = &replication.backlog else { return };
    let size = node.engine.config().repl_backlog_size;
    let lag = replication.feeders.slowest().map_or(0, |from| backlog.end().saturating_sub(from));
    let most = size.max(lag) + 4 * BLOCK_BYTES;
    let held = backlog.memory() as u64;
    assert!(held <= most, "n{number} keeps {held} bytes for {size} and a lag of {lag}");
    let offset = replication.history().offset().unsigned_abs();
    assert_eq!(backlog.end(), offset, "the backlog of n{number} ends where its history does");
}
