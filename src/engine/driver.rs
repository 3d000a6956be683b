//! Who carries out what an engine wants done in the world.
//!
//! The net is one driver; tests, simulations and the fuzz target are others. They differ in what a
//! connection is and on which thread something runs, not in the order in which things are done, so
//! that order is here, once. What a driver does not say for itself is done at once on its own
//! thread, as if another one had been very fast.

use super::hold::Told;
use super::loading::reload::Reload;
use super::migrate::{self, Failure};
use super::replication::LinkOrder;
use super::saving::SaveJob;
use super::slot_move::{self, News};
use super::transfer::{Recipient, Transfer, TransferReport};
use super::{BusErrand, ClientId, Effect, Engine, Errand, Job, ListenChange, Now, Standing};
use crate::keyspace::Garbage;
use crate::persist::aof::SyncRequest;
use crate::persist::fan::Framing;
use crate::persist::rdb;
use crate::resp::ReplyBuf;
use crate::sentinel::Event;
use crate::structs::SharedBytes;
use std::ops::ControlFlow;
use std::time::Duration;

pub trait Driver {
    /// Appends to a client's output what tells of this.
    fn send(&mut self, engine: &mut Engine, client: ClientId, bytes: ReplyBuf, told: Told);

    /// The same for several clients.
    fn broadcast(
        &mut self,
        engine: &mut Engine,
        clients: Vec<ClientId>,
        bytes: SharedBytes,
        told: Told,
    ) {
        for client in clients {
            let mut own = ReplyBuf::new();
            own.append_shared(&bytes);
            self.send(engine, client, own, told);
        }
    }

    /// A client that waited may go on: its next request is tried.
    fn wake(&mut self, engine: &mut Engine, client: ClientId);

    /// Drops a connection at once.
    fn close(&mut self, engine: &mut Engine, client: ClientId);

    /// Drops a connection when its output has left.
    fn close_when_sent(&mut self, engine: &mut Engine, client: ClientId) {
        self.close(engine, client);
    }

    /// The time after standing still for so long.
    fn sleep(&mut self, duration: Duration) -> Now;

    /// A deadline was set that comes before all others.
    fn wake_timer(&mut self) {}

    fn run(&mut self, engine: &mut Engine, client: ClientId, job: Job) {
        engine.finish_job(client, job());
    }

    fn sync(&mut self, engine: &mut Engine, request: SyncRequest) {
        engine.finish_sync(request.run());
    }

    fn save(&mut self, engine: &mut Engine, job: SaveJob) {
        engine.finish_save(job());
    }

    fn reload(&mut self, engine: &mut Engine, client: ClientId, reload: Reload) {
        let outcome = reload.run(engine);
        engine.finish_reload(client, outcome);
    }

    /// A Sentinel's errands lead out of the process: but for its file nothing is there at once.
    fn run_errand(&mut self, engine: &mut Engine, errand: Errand) {
        if let Errand::Save { generation, saving } = errand {
            engine.tell_sentinel(Event::Saved { generation, result: saving() });
        }
    }

    /// Does something on the bus of the cluster. Who has none keeps what is to be kept, and leaves
    /// the rest.
    fn run_bus_errand(&mut self, engine: &mut Engine, errand: BusErrand) {
        if let BusErrand::Save { saver, .. } = errand {
            engine.finish_saving_nodes(saver, Ok(()));
        }
    }

    fn free(&mut self, garbage: Garbage) {
        drop(garbage);
    }

    fn listen(&mut self, engine: &mut Engine, change: ListenChange) {
        engine.finish_listening(change, Ok(()));
    }

    /// Does something with the connection to our primary. Who has none leaves it.
    fn link(&mut self, _engine: &mut Engine, _order: LinkOrder) {}

    /// Lets small packets to a client wait, or not.
    fn delay(&mut self, _client: ClientId, _delays: bool) {}

    /// Sends a snapshot to replicas.
    fn transfer(&mut self, engine: &mut Engine, transfer: Transfer) {
        let told = engine.told();
        let mut snapshot = Vec::new();
        let mut all = |_| ControlFlow::Continue(());
        rdb::write(&transfer.content.dataset, &transfer.content.options, &mut snapshot, &mut all)
            .expect("memory takes all");
        let (header, mark) = match transfer.content.framing {
            Framing::EndMark(mark) => ([b"$EOF:", &mark[..], b"\r\n"].concat(), mark.to_vec()),
            Framing::Length => (format!("${}\r\n", snapshot.len()).into_bytes(), Vec::new()),
        };
        for Recipient { client, prelude, .. } in transfer.recipients {
            let bytes = [&prelude[..], &header, &snapshot, &mark].concat();
            self.send(engine, client, ReplyBuf::with_written(bytes), told);
            engine.finish_transfer(TransferReport::Sent { client });
        }
        let number = transfer.number;
        engine.finish_transfer(TransferReport::Ended { number, failure: None });
    }

    /// Sends keys to another server. Who has no way to any reaches none.
    fn migrate(&mut self, engine: &mut Engine, order: migrate::Order) {
        engine.finish_migration(order.failed(Failure::Writing));
    }

    /// Does something with a connection for a move of slots. Who has no way to other nodes reaches
    /// none.
    fn slot_move(&mut self, engine: &mut Engine, order: slot_move::Order) {
        if let slot_move::Order::Open { link, .. } = order {
            engine.tell_slot_link(link, News::Closed("There is no way to other nodes".into()));
        }
    }

    /// The level or the file of the server's log changed.
    fn follow_logging(&mut self, _engine: &Engine) {}

    fn stand(&mut self, _standing: Standing) {}

    /// All is done that had to be done before the end.
    fn exit(&mut self, _code: i32) {}

    /// Does all that the engine wants done, in order, and what comes of it.
    fn carry_out(&mut self, engine: &mut Engine) {
        while engine.has_effects() {
            let told = engine.told();
            for effect in engine.take_effects() {
                self.carry_out_one(engine, effect, told);
            }
        }
    }

    fn carry_out_one(&mut self, engine: &mut Engine, effect: Effect, told: Told) {
        match effect {
            Effect::Push { client, bytes } => self.send(engine, client, bytes, told),
            Effect::Broadcast { clients, bytes } => self.broadcast(engine, clients, bytes, told),
            Effect::Wake { client } => self.wake(engine, client),
            Effect::WakeTimer => self.wake_timer(),
            // Our primary has a session and no connection of the driver's.
            Effect::Close { client } if engine.end_link_of(client) => {}
            Effect::Close { client } => {
                // What a replica has not read need not be kept from now on.
                engine.forget_replica(client);
                self.close(engine, client);
            }
            Effect::CloseWhenSent { client } => self.close_when_sent(engine, client),
            Effect::Run { client, job } => self.run(engine, client, job),
            Effect::Sync(request) => self.sync(engine, request),
            Effect::Save(job) => self.save(engine, job),
            Effect::Reload { client, reload } => self.reload(engine, client, reload),
            Effect::Sentinel(errand) => self.run_errand(engine, errand),
            Effect::Bus(errand) => self.run_bus_errand(engine, errand),
            Effect::Free(garbage) => self.free(garbage),
            Effect::Sleep(duration) => {
                let now = self.sleep(duration);
                engine.end_sleep(now);
            }
            Effect::Listen(change) => self.listen(engine, *change),
            Effect::Delay { client, delays } => self.delay(client, delays),
            Effect::Link(order) => self.link(engine, order),
            Effect::Transfer(transfer) => self.transfer(engine, *transfer),
            Effect::Migrate(order) => self.migrate(engine, *order),
            Effect::SlotMove(order) => self.slot_move(engine, *order),
            Effect::Log => self.follow_logging(engine),
            Effect::Stand(standing) => self.stand(standing),
            Effect::Exit(code) => self.exit(code),
        }
    }

    /// Ends a turn: what is under way goes on, what is told once a turn is told, what was written
    /// goes to the AOF.
    fn end_turn(&mut self, engine: &mut Engine) {
        engine.go_on();
        self.carry_out(engine);
        engine.end_turn();
        self.carry_out(engine);
    }
}
