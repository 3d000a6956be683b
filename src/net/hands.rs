//! The net as the engine's driver: output goes to sockets, long work to the plain threads.

use super::connection::Place;
use super::shared::{Moving, Net, SlotOrder};
use super::threads::letters::Order;
use super::{bus, fatal, holds, link, logging, output_limits, transfer};
use crate::engine::hold::Told;
use crate::engine::migrate::Order as Migration;
use crate::engine::replication::LinkOrder;
use crate::engine::slot_move;
use crate::engine::transfer::Transfer;
use crate::engine::{
    BusErrand, ClientId, Driver, Engine, Errand, Job, ListenChange, Now, SaveJob, Standing,
};
use crate::keyspace::Garbage;
use crate::persist::aof::SyncRequest;
use crate::resp::ReplyBuf;
use crate::structs::SharedBytes;
use std::rc::Rc;
use std::time::Duration;

/// Carries out what the engine wants done in the world.
pub fn carry_out(net: &Rc<Net>, engine: &mut Engine) {
    Hands(net).carry_out(engine);
}

/// The net as it carries out effects.
struct Hands<'n>(&'n Rc<Net>);

impl Driver for Hands<'_> {
    fn send(&mut self, engine: &mut Engine, client: ClientId, bytes: ReplyBuf, told: Told) {
        let Some(connection) = self.0.connection(client) else { return };
        let outbox = &mut *connection.outbox.borrow_mut();
        outbox.out.append(bytes);
        holds::mark(&connection, outbox, told, engine.release());
        self.0.mark_dirty(&connection);
    }

    /// A client that does not read is closed as soon as it is over its limit, and not only at the
    /// end of the turn.
    fn broadcast(
        &mut self,
        engine: &mut Engine,
        clients: Vec<ClientId>,
        bytes: SharedBytes,
        told: Told,
    ) {
        let release = engine.release();
        let mut away: Vec<Vec<ClientId>> = vec![Vec::new(); self.0.fleet.threads()];
        for client in clients {
            let Some(connection) = self.0.connection(client) else { continue };
            if connection.is_closed.get() {
                continue;
            }
            let outbox = &mut *connection.outbox.borrow_mut();
            if outbox.is_closing {
                continue;
            }
            let is_free = outbox.out.is_empty() && !holds::would_hold(&connection, told, release);
            match *connection.place.borrow() {
                // Its thread has the message once, for all to whom it goes there.
                Place::There(thread) if is_free => {
                    outbox.pass(bytes.len());
                    away[thread].push(client);
                    // Its thread reports only that the socket takes no more, or does again.
                    engine.note_output(client, outbox.figures());
                }
                _ => {
                    if outbox.out.is_empty() {
                        outbox.out = ReplyBuf::with_bytes(self.0.buffers.output());
                    }
                    outbox.out.append_shared(&bytes);
                    outbox.out.set_aside_if_full();
                    holds::mark(&connection, outbox, told, release);
                    self.0.mark_dirty(&connection);
                }
            }
            if outbox.waiting(output_limits::FREE_BYTES) > output_limits::FREE_BYTES {
                output_limits::check(self.0, engine, &connection, outbox);
            }
        }
        for (thread, clients) in away.into_iter().enumerate().filter(|(_, all)| !all.is_empty()) {
            self.0.order(thread, Order::Broadcast { clients, bytes: bytes.clone() });
        }
    }

    fn wake(&mut self, _engine: &mut Engine, client: ClientId) {
        if let Some(connection) = self.0.connection(client) {
            connection.is_suspended.set(false);
            match *connection.place.borrow() {
                Place::There(thread) if connection.inbox.borrow().is_none() => {
                    self.0.order(thread, Order::Wake { client });
                }
                // One that is on its way is looked at when it arrives.
                _ => self.0.mark_ready(&connection),
            }
        }
    }

    fn close(&mut self, engine: &mut Engine, client: ClientId) {
        engine.count_out(client);
        if let Some(connection) = self.0.connection(client) {
            self.0.close(&connection);
        }
    }

    fn close_when_sent(&mut self, _engine: &mut Engine, client: ClientId) {
        if let Some(connection) = self.0.connection(client) {
            connection.outbox.borrow_mut().is_closing = true;
            self.0.mark_dirty(&connection);
        }
    }

    fn sleep(&mut self, duration: Duration) -> Now {
        std::thread::sleep(duration);
        self.0.now()
    }

    fn wake_timer(&mut self) {
        self.0.deadline_moved.notify_one();
    }

    fn run(&mut self, _engine: &mut Engine, client: ClientId, job: Job) {
        self.0.jobs.run(client, job);
    }

    fn sync(&mut self, _engine: &mut Engine, request: SyncRequest) {
        self.0.syncer.sync(request);
    }

    fn save(&mut self, _engine: &mut Engine, job: SaveJob) {
        self.0.jobs.save(job);
    }

    fn run_errand(&mut self, _engine: &mut Engine, errand: Errand) {
        // Who takes them lives as long as the process.
        let _ = self.0.errands.send(errand);
    }

    fn run_bus_errand(&mut self, engine: &mut Engine, errand: BusErrand) {
        bus::carry_out(self.0, engine, errand);
    }

    fn free(&mut self, garbage: Garbage) {
        self.0.jobs.free(garbage);
    }

    fn listen(&mut self, _engine: &mut Engine, change: ListenChange) {
        self.0.listen_changes.borrow_mut().push_back(change);
        self.0.listeners_changed.notify_one();
    }

    fn link(&mut self, engine: &mut Engine, order: LinkOrder) {
        link::carry_out(self.0, engine, order);
    }

    fn delay(&mut self, client: ClientId, delays: bool) {
        let Some(connection) = self.0.connection(client) else { return };
        if let Place::Here(stream) = &*connection.place.borrow() {
            stream.set_delay(delays);
        }
    }

    fn transfer(&mut self, engine: &mut Engine, snapshot: Transfer) {
        transfer::begin(self.0, engine, snapshot);
    }

    fn migrate(&mut self, _engine: &mut Engine, order: Migration) {
        let contexts = order.target.is_secure.then(|| self.0.tls.contexts()).flatten();
        // Who takes them lives as long as the process.
        let _ = self.0.moves.send(Moving { order: Box::new(order), contexts });
    }

    fn slot_move(&mut self, _engine: &mut Engine, order: slot_move::Order) {
        let is_secure = matches!(&order, slot_move::Order::Open { target, .. } if target.is_secure);
        let contexts = is_secure.then(|| self.0.tls.contexts()).flatten();
        // Who takes them lives as long as the process.
        let _ = self.0.slot_orders.send(SlotOrder { order, contexts });
    }

    fn follow_logging(&mut self, engine: &Engine) {
        logging::reconfigure(engine.config());
        logging::set_role(engine.is_replica());
        fatal::follow(engine.config());
    }

    fn stand(&mut self, standing: Standing) {
        self.0.service.tell(standing);
    }

    fn exit(&mut self, code: i32) {
        self.0.exit_code.set(Some(code));
        self.0.exit.notify_one();
    }
}
