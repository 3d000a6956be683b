//! The executor's turn: prepare, prefetch, execute, then write.
//!
//! Requests of all ready connections are taken in windows. A window's commands are looked up and
//! its keys hashed first, then the keyspace is walked for all of them in stages with prefetches,
//! then they run, each client's in order. Replies leave at the end of the turn, one write a
//! client. A turn ends when nothing is ready or its time is over; the rest waits for the next
//! turn, after new input has been looked for, so that no client's pipeline keeps others out.

use super::connection::{Connection, Place};
use super::hands::carry_out;
use super::outbox::Outbox;
use super::shared::Net;
use super::{holds, inflow, output_limits, relay};
use crate::engine::{Engine, Verdict};
use crate::keyspace::KeyHash;
use crate::resp::ReplyBuf;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Requests that are prefetched together: enough to hide the memory's latency, few enough that
/// what was fetched is still in the first caches when it is used.
const WINDOW: usize = 64;
/// How long a turn may run before new input is looked for.
const TURN_MAX: Duration = Duration::from_millis(1);

/// So many turns may follow each other for what other threads bring, before the runtime looks for
/// input and timers of this one.
const TURNS_AT_A_STRETCH: u32 = 16;

pub async fn executor(net: Rc<Net>) {
    loop {
        net.executor.notified().await;
        loop {
            let is_left = turns(&net) || !net.heavy.borrow().is_empty();
            if !is_left && net.resting.borrow().is_empty() {
                break;
            }
            // The runtime looks for new input before it comes back here. Otherwise it would do so
            // only once in sixty tasks, as long as a connection with long commands and this task
            // make each other ready.
            tokio::task::yield_now().await;
            for connection in net.resting.borrow_mut().drain(..) {
                connection.wake();
            }
            net.let_heavy_read();
            if !is_left {
                break;
            }
        }
    }
}

/// A turn, and those that follow for what other threads have brought meanwhile; true if something
/// is left.
fn turns(net: &Rc<Net>) -> bool {
    for _ in 0..TURNS_AT_A_STRETCH {
        if turn(net) {
            return true;
        }
        if !net.fleet.has_mail() {
            return false;
        }
    }
    true
}

/// Runs what is ready before all connections that have input were read: so many have been that
/// their buffers would add up. The executor's own turn follows.
pub fn run_early(net: &Rc<Net>) {
    turn(net);
    net.executor.notify_one();
}

/// Runs what is ready; true if some of it is left.
fn turn(net: &Rc<Net>) -> bool {
    net.is_in_turn.set(true);
    let is_left = take_turn(net);
    net.is_in_turn.set(false);
    is_left
}

fn take_turn(net: &Rc<Net>) -> bool {
    let started = Instant::now();
    let mut engine = net.engine.borrow_mut();
    engine.begin_turn(net.now(), net.jobs.freed_bytes());
    carry_out(net, &mut engine);
    if engine.is_ending() {
        return false;
    }
    relay::collect(net, &mut engine);
    net.let_tired_in();
    net.fleet.note_turn(net.ready.borrow().len());
    let mut window = Window::default();
    let mut out_of_time = false;
    while !out_of_time && window.fill(net, &engine) {
        window.execute(net, &mut engine);
        out_of_time = started.elapsed() > TURN_MAX;
    }
    let stream_is_left = inflow::drive(net, &mut engine);
    engine.go_on();
    carry_out(net, &mut engine);
    engine.end_turn();
    carry_out(net, &mut engine);
    holds::mark_output(net, &mut engine);
    holds::release_held(net, &engine);
    flush_dirty(net, &mut engine, FLUSH_BYTES_MAX);
    engine.evict_clients();
    carry_out(net, &mut engine);
    net.fleet.send();
    engine.count_turn(u64::try_from(started.elapsed().as_micros()).unwrap_or(0));
    let lists = [&net.ready, &net.tired];
    let is_left = lists.iter().any(|list| !list.borrow().is_empty());
    is_left
        || stream_is_left
        || engine.is_under_way()
        || engine.has_left_slots()
        || !net.dirty.borrow().is_empty()
}

/// The requests that are prefetched and run together: so many of each of these connections.
#[derive(Default)]
struct Window {
    members: Vec<(Rc<Connection>, usize)>,
    hashes: Vec<KeyHash>,
}

impl Window {
    /// Takes requests from the ready connections in turn; false if there are none.
    fn fill(&mut self, net: &Net, engine: &Engine) -> bool {
        self.members.clear();
        self.hashes.clear();
        let mut taken = 0;
        let mut db = None;
        while taken < WINDOW {
            let Some(connection) = net.ready.borrow_mut().pop_front() else { break };
            connection.is_ready.set(false);
            let count = prepare(net, &connection, WINDOW - taken);
            self.take_hashes(&connection, engine, count, &mut db);
            taken += count;
            self.members.push((connection, count));
        }
        if let Some(db) = db {
            engine.prefetch(db, &self.hashes);
            self.prefetch_members(engine);
        }
        !self.members.is_empty()
    }

    /// Adds the hashes of the connection's first requests. Those of one database are prefetched
    /// together.
    fn take_hashes(
        &mut self,
        connection: &Connection,
        engine: &Engine,
        count: usize,
        db: &mut Option<usize>,
    ) {
        let inbox = connection.inbox.borrow();
        let hashes = inbox.as_ref().map_or(&[][..], |inbox| inbox.hashes_of_first(count));
        if hashes.is_empty() {
            return;
        }
        let own = engine.database_of(connection.client);
        if let Some(other) = db.replace(own).filter(|other| *other != own) {
            engine.prefetch(other, &self.hashes);
            self.hashes.clear();
        }
        self.hashes.extend_from_slice(hashes);
    }

    fn prefetch_members(&self, engine: &Engine) {
        for (connection, count) in &self.members {
            let inbox = connection.inbox.borrow();
            if let Some(intake) = inbox.as_ref().and_then(|inbox| inbox.intake()) {
                engine.prefetch_members(connection.client, intake.first(*count), intake.hashes());
            }
        }
    }

    fn execute(&mut self, net: &Rc<Net>, engine: &mut Engine) {
        engine.begin_commands();
        let mut members = self.members.drain(..);
        for (connection, count) in members.by_ref() {
            run_batch(net, engine, &connection, count);
            if is_out_of_time(engine) {
                break;
            }
        }
        // Those who had no turn come first in the next one.
        let mut ready = net.ready.borrow_mut();
        for (connection, _) in members.rev() {
            if !connection.is_ready.replace(true) {
                ready.push_front(connection);
            }
        }
    }
}

/// Looks up commands and hashes keys of the first requests; how many of at most `max` there are.
fn prepare(net: &Net, connection: &Connection, max: usize) -> usize {
    let mut inbox = connection.inbox.borrow_mut();
    inbox.as_mut().map_or(0, |inbox| inbox.prepare(&net.reading, max))
}

/// Whether the turn has lasted long enough, as of the end of the last command.
fn is_out_of_time(engine: &Engine) -> bool {
    u128::from(engine.turn_ns()) > TURN_MAX.as_nanos()
}

/// Runs the prepared requests of one connection, then sees what is next for it.
fn run_batch(net: &Rc<Net>, engine: &mut Engine, connection: &Rc<Connection>, count: usize) {
    let Some(input) = connection.inbox.borrow().as_ref().map(|inbox| inbox.figures()) else {
        return;
    };
    engine.begin_batch(connection.client, input);
    let recorded = engine.stream_end();
    let mut at = 0;
    // Somebody else may have had it closed since this was queued.
    let has_ended = || connection.is_closed.get() || connection.outbox.borrow().is_closing;
    while at < count && !has_ended() && !(at > 0 && is_out_of_time(engine)) {
        let verdict = run_until_effect(net, engine, connection, &mut at, count);
        carry_out(net, engine);
        match verdict {
            Verdict::Done => {}
            Verdict::Suspended | Verdict::Postponed => {
                // An effect may have ended the wait already.
                connection.is_suspended.set(engine.is_waiting(connection.client));
                break;
            }
            Verdict::Closing => {
                connection.outbox.borrow_mut().is_closing = true;
                break;
            }
            Verdict::Dropped => net.close(connection),
        }
    }
    if engine.stream_end() != recorded {
        connection.has_written.set(true);
    }
    finish_batch(net, engine, connection);
}

/// Runs requests until one leaves effects or does not simply end.
fn run_until_effect(
    net: &Net,
    engine: &mut Engine,
    connection: &Connection,
    at: &mut usize,
    count: usize,
) -> Verdict {
    let mut inbox = connection.inbox.borrow_mut();
    let inbox = inbox.as_mut().expect("whose requests run has it here");
    let out = &mut connection.outbox.borrow_mut().out;
    if out.is_empty() {
        // One that comes with the inbox is its thread's, and goes back there.
        let own = std::mem::take(&mut inbox.reply);
        let bytes = if own.capacity() > 0 { own } else { net.buffers.output() };
        *out = ReplyBuf::with_bytes(bytes);
    }
    while *at < count {
        let verdict = inbox.run_first(engine, connection.client, out);
        *at += usize::from(verdict != Verdict::Postponed);
        if verdict != Verdict::Done || engine.has_effects() || is_out_of_time(engine) {
            return verdict;
        }
    }
    Verdict::Done
}

/// Parses on, reports a broken protocol, requeues what is left and has the output written.
fn finish_batch(net: &Rc<Net>, engine: &mut Engine, connection: &Rc<Connection>) {
    let mut inbox = connection.inbox.borrow_mut();
    let Some(inbox) = inbox.as_mut() else { return };
    let outbox = &mut *connection.outbox.borrow_mut();
    let runs_on =
        !outbox.is_closing && !connection.is_suspended.get() && !connection.is_closed.get();
    inbox.is_authenticated = engine.is_authenticated(connection.client);
    if runs_on && !inbox.has_work() {
        // While a client is not authenticated, requests are parsed one at a time.
        inbox.parse(&net.reading);
    }
    if runs_on && let Some(failure) = inbox.take_failure() {
        engine.refuse_input(connection.client, failure, &mut outbox.out);
        outbox.is_closing = true;
    }
    if runs_on && !outbox.is_closing && inbox.has_work() {
        if is_out_of_time(engine) {
            net.mark_tired(connection);
        } else {
            net.mark_ready(connection);
        }
    } else if connection.is_hungry.take() {
        if is_out_of_time(engine) {
            net.resting.borrow_mut().push(Rc::clone(connection));
        } else {
            connection.wake();
        }
    }
    // An inbox that came from another thread goes back in any case.
    if !outbox.out.is_empty() || outbox.is_closing || connection.thread().is_some() {
        return net.mark_dirty(connection);
    }
    inbox.give_back(&net.buffers);
    engine.end_batch(connection.client, inbox.figures(), outbox.figures());
}

fn flush_dirty(net: &Rc<Net>, engine: &mut Engine, share: usize) {
    let mut dirty = std::mem::take(&mut *net.dirty.borrow_mut());
    let most = (share as u64).saturating_mul(FLUSHES_MAX);
    let written = || net.traffic().totals().written_bytes;
    let enough = written().saturating_add(most);
    let mut served = 0;
    for connection in &dirty {
        if written() >= enough {
            break;
        }
        connection.is_dirty.set(false);
        flush(net, engine, connection, share);
        if let Some(thread) = net.fleet.next_thread().filter(|_| connection.thread().is_none()) {
            relay::leave(net, engine, connection, thread);
        }
        served += 1;
    }
    dirty.drain(..served);
    // Whoever came late in this turn comes first in the next; the list's memory is used again.
    let mut list = net.dirty.borrow_mut();
    dirty.append(&mut list);
    *list = dirty;
}

/// Writes out all that sockets take, before the process ends.
pub fn flush_everything(net: &Rc<Net>) {
    let mut engine = net.engine.borrow_mut();
    // Those, too, whose task was about to say that the socket takes more.
    for connection in net.connections.borrow().iter().flatten() {
        if !connection.outbox.borrow().out.is_empty() {
            net.mark_dirty(connection);
        }
    }
    flush_dirty(net, &mut engine, usize::MAX);
    net.fleet.finish();
    relay::collect(net, &mut engine);
    flush_dirty(net, &mut engine, usize::MAX);
}

/// What one connection may write in a turn: a reader that keeps up with a huge reply would keep
/// everybody else out. About what the kernel copies in a tenth of a millisecond.
const FLUSH_BYTES_MAX: usize = 256 * 1024;

/// So many connections may write as much in one turn; the others come first in the next.
const FLUSHES_MAX: u64 = 16;

/// Has a connection's output leave as far as it may and its share goes.
fn flush(net: &Rc<Net>, engine: &mut Engine, connection: &Rc<Connection>, share: usize) {
    if connection.is_closed.get() {
        return;
    }
    let outbox = &mut *connection.outbox.borrow_mut();
    if outbox.waiting(output_limits::FREE_BYTES) > output_limits::FREE_BYTES {
        output_limits::check(net, engine, connection, outbox);
    }
    let free = outbox.free(engine.release());
    if connection.thread().is_some() {
        let input = connection.inbox.borrow().as_ref().map(|inbox| inbox.figures_at_rest());
        relay::send_off(net, engine, connection, outbox, free);
        if free < usize::MAX && !outbox.out.is_empty() {
            holds::hold(net, connection);
        }
        return match input {
            Some(input) => engine.end_batch(connection.client, input, outbox.figures()),
            None => engine.note_output(connection.client, outbox.figures()),
        };
    }
    if connection.is_lent.get() {
        return note_batch(net, engine, connection, outbox);
    }
    let Ok((written, has_unsent)) = write(net, connection, outbox, share.min(free)) else {
        return net.close(connection);
    };
    let is_left = !outbox.out.is_empty() || has_unsent;
    let is_held = is_left && written == free;
    connection.wants_write.set(is_left && !is_held);
    if is_held {
        holds::hold(net, connection);
    } else if is_left {
        // Always, not only the first time: the task asks for the next writability when it is
        // polled, and its last poll ended with this one.
        connection.wake();
    } else {
        outbox.over_soft_limit = None;
        net.buffers.give_output(outbox.out.take_bytes());
        if outbox.is_closing {
            net.close(connection);
        }
    }
    note_batch(net, engine, connection, outbox);
}

/// What the connection has run and written is told to the engine.
fn note_batch(net: &Net, engine: &mut Engine, connection: &Connection, outbox: &Outbox) {
    let mut inbox = connection.inbox.borrow_mut();
    let Some(inbox) = inbox.as_mut() else { return };
    if outbox.out.is_empty() {
        inbox.give_back(&net.buffers);
    }
    engine.end_batch(connection.client, inbox.figures(), outbox.figures());
}

/// Writes at most so much; how much the socket has taken, and whether it has yet to take what is no
/// part of the output any more.
fn write(
    net: &Net,
    connection: &Connection,
    outbox: &mut Outbox,
    most: usize,
) -> io::Result<(usize, bool)> {
    let Place::Here(stream) = &mut *connection.place.borrow_mut() else { return Ok((0, false)) };
    let count = |bytes| net.traffic().count_write(bytes);
    let written = stream.write_some(&mut outbox.out, most, count)?;
    outbox.pass(written);
    Ok((written, stream.has_unsent()))
}
