//! What becomes of clients and keys when slots change hands, or the cluster goes down.
//!
//! Whoever waits for a key, or listens to a channel of a shard, was let through when it asked. What
//! was right then is looked at again whenever the machine has changed who has which slot, which is
//! seldom, so all of them are gone through.

use super::Member;
use crate::cluster::route::Owner;
use crate::command::{CommandError, Flags};
use crate::engine::gates::owner_of;
use crate::engine::waiting::{KeyWait, Release};
use crate::engine::{Caller, ClientId, Core, Cx, Server, call, eviction, transaction};
use crate::keyspace::slot::Slot;
use crate::resp::ReplyBuf;

/// What was so when clients were last looked at.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    generation: u64,
    is_up: bool,
}

impl Seen {
    pub fn of(member: &Member) -> Seen {
        let machine = &member.machine;
        Seen { generation: machine.table().generation(), is_up: machine.is_up() }
    }
}

impl Core<'_> {
    /// Sends on their way those who wait or listen here and belong elsewhere now.
    pub fn follow_slots(&mut self) {
        let Some(member) = self.server.cluster.as_deref_mut() else { return };
        let now = Seen::of(member);
        if std::mem::replace(&mut member.seen, now) == now {
            return;
        }
        if let Some(usage) = &mut self.server.slot_usage {
            usage.follow_owners(member);
        }
        self.send_lost_waiters_away();
        self.server.end_lost_channels(self.clients);
        self.follow_slot_moves();
    }

    fn send_lost_waiters_away(&mut self) {
        if self.server.waiting.keys() == 0 {
            return;
        }
        let waits = self.clients.iter().filter_map(|session| {
            let wait = session.wait.as_deref()?.key()?;
            let error = self.server.error_for_waiter(wait, session.reads_from_replica, session)?;
            Some((session.id, error))
        });
        let lost: Vec<(ClientId, CommandError)> = waits.collect();
        for (client, error) in lost {
            let mut nothing = ReplyBuf::new();
            let Core { space, clients, server } = self;
            Cx::of(space, clients, server, client, Caller::Client, &mut nothing)
                .send_away(client, Release::Redirected(error));
        }
    }

    /// No key is ours any more, and nobody is told: what there was is another one's data.
    pub(super) fn drop_all(&mut self) {
        let Core { space, clients, server } = self;
        transaction::touch_watched_keys(space, clients, &server.watched, 0, None);
        let db = space.take_db(0);
        let bytes = db.len() * eviction::bytes_a_key(space, clients, server, db.len() as u64);
        space.changes.discard_db(db, bytes);
        server.offer_awaited_keys(space, 0);
        server.invalidate_everything(clients);
        call::settle(space, clients, server, None);
    }
}

impl Server {
    /// What a client is told that waits for a key, if it waits in vain.
    fn error_for_waiter(
        &self,
        wait: &KeyWait,
        reads_replicas: bool,
        session: &crate::engine::Session,
    ) -> Option<CommandError> {
        let member = self.cluster.as_deref()?;
        if !member.machine.is_up() {
            return Some(CommandError::Redirect("CLUSTERDOWN The cluster is down".into()));
        }
        let slot = Slot::of(wait.keys.first()?);
        let table = member.machine.table();
        let is_read = self.table.row(wait.id).flags.has(Flags::READONLY);
        match owner_of(member, slot) {
            Owner::Myself => None,
            Owner::MyPrimary if reads_replicas && is_read => None,
            _ if table.way(slot).is_some_and(|way| way.comes()) => None,
            Owner::Nobody => {
                Some(CommandError::Redirect("CLUSTERDOWN Hash slot not served".into()))
            }
            Owner::MyPrimary | Owner::Other => {
                let owner = table.node(table.owner(slot)?);
                let to = self.asking_of(session).redirection(owner);
                Some(CommandError::Redirect(format!("MOVED {slot} {to}").into()))
            }
        }
    }

    fn end_lost_channels(&mut self, clients: &mut crate::engine::Clients) {
        let Some(member) = self.cluster.as_deref() else { return };
        let is_lost = |name: &[u8]| {
            let slot = Slot::of(name);
            let is_here = matches!(owner_of(member, slot), Owner::Myself | Owner::MyPrimary);
            !is_here && !member.machine.table().way(slot).is_some_and(|way| way.comes())
        };
        let all = self.pubsub.names(crate::pubsub::Topic::ShardChannel);
        let lost: Vec<Box<[u8]>> = all.filter(|name| is_lost(name)).map(Into::into).collect();
        for name in lost {
            self.end_shard_channel(clients, &name);
        }
    }
}
