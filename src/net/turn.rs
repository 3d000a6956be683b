//! The executor's turn: prepare, prefetch, execute, then write.
//!
//! Requests of all ready connections are taken in windows. A window's commands are looked up and
//! its keys hashed first, then the keyspace is walked for all of them in stages with prefetches,
//! then they run, each client's in order. Replies leave at the end of the turn, one write a
//! client. A turn ends when nothing is ready or its time is over; the rest waits for the next
//! turn, after new input has been looked for, so that no client's pipeline keeps others out.

use super::connection::{Connection, Io};
use super::hands::carry_out;
use super::shared::Net;
use super::{holds, output_limits};
use crate::engine::{Engine, Verdict};
use crate::keyspace::KeyHash;
use crate::resp::ReplyBuf;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Requests that are prefetched together: enough to hide the memory's latency, few enough that
/// what was fetched is still in the first caches when it is used.
const WINDOW: usize = 64;
/// How long a turn may run before new input is looked for.
const TURN_MAX: Duration = Duration::from_millis(1);

pub async fn executor(net: Rc<Net>) {
    loop {
        net.executor.notified().await;
        loop {
            let is_left = turn(&net) || !net.heavy.borrow().is_empty();
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

/// Runs what is ready before all connections that have input were read: so many have been that
/// their buffers would add up. The executor's own turn follows.
pub fn run_early(net: &Rc<Net>) {
    turn(net);
    net.executor.notify_one();
}

/// Runs what is ready; true if some of it is left.
fn turn(net: &Rc<Net>) -> bool {
    let started = Instant::now();
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    engine.server.eviction.freed_garbage_bytes = net.jobs.freed_bytes();
    engine.evict_clients();
    carry_out(net, &mut engine);
    if engine.is_ending() {
        return false;
    }
    net.let_tired_in();
    let mut window = Window::default();
    let mut out_of_time = false;
    let commands_before = engine.server.stats.commands_total;
    while !out_of_time && window.fill(net, &engine) {
        window.execute(net, &mut engine);
        out_of_time = started.elapsed() > TURN_MAX;
    }
    engine.go_on();
    carry_out(net, &mut engine);
    engine.end_turn();
    carry_out(net, &mut engine);
    let left =
        engine.is_under_way() || !net.ready.borrow().is_empty() || !net.tired.borrow().is_empty();
    holds::mark_output(net, &mut engine);
    holds::release_held(net, &engine);
    flush_dirty(net, &mut engine, FLUSH_BYTES_MAX);
    engine.evict_clients();
    carry_out(net, &mut engine);
    let left = left || !net.dirty.borrow().is_empty();
    let elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(0);
    engine.server.stats.turn_ended(elapsed_us, commands_before);
    left
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
            let count = self.prepare(&connection, engine, WINDOW - taken, &mut db);
            taken += count;
            self.members.push((connection, count));
        }
        if let Some(db) = db {
            engine.keyspace.db(db).prefetch(&self.hashes);
            self.prefetch_members(engine);
        }
        !self.members.is_empty()
    }

    fn prefetch_members(&self, engine: &Engine) {
        for (connection, count) in &self.members {
            let io = connection.io.borrow();
            let requests = io.prepared.iter().enumerate().take(*count);
            let requests = requests.map(|(i, prepared)| (prepared, io.reader.request(i)));
            engine.prefetch_members(connection.client, requests, &io.hashes);
        }
    }

    /// Looks up commands and hashes keys of the connection's first requests.
    fn prepare(
        &mut self,
        connection: &Connection,
        engine: &Engine,
        max: usize,
        db: &mut Option<usize>,
    ) -> usize {
        let io = &mut *connection.io.borrow_mut();
        let count = io.reader.pending().min(max);
        io.prepared.clear();
        io.hashes.clear();
        for i in 0..count {
            let prepared = engine.prepare(&io.reader.request(i), &mut io.hashes);
            io.prepared.push(prepared);
        }
        if io.hashes.is_empty() {
            return count;
        }
        let own = engine.clients.get(connection.client).map_or(0, |session| session.db);
        if db.is_some_and(|other| other != own) {
            engine.keyspace.db(db.unwrap_or(own)).prefetch(&self.hashes);
            self.hashes.clear();
        }
        *db = Some(own);
        self.hashes.extend_from_slice(&io.hashes);
        count
    }

    fn execute(&mut self, net: &Rc<Net>, engine: &mut Engine) {
        engine.server.clock.restart();
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

/// Whether the turn has lasted long enough, as of the end of the last command.
fn is_out_of_time(engine: &Engine) -> bool {
    u128::from(engine.server.clock.since_tick_ns()) > TURN_MAX.as_nanos()
}

/// Runs the prepared requests of one connection, then sees what is next for it.
fn run_batch(net: &Rc<Net>, engine: &mut Engine, connection: &Rc<Connection>, count: usize) {
    let mono_ms = engine.server.clock.mono_ms();
    if let Some(session) = engine.clients.get_mut(connection.client) {
        session.last_active_ms = mono_ms;
        session.io.read_bytes_total = connection.io.borrow().read_bytes;
    }
    let recorded = engine.server.propagation.offset();
    let mut at = 0;
    while at < count && !connection.is_closed.get() && !(at > 0 && is_out_of_time(engine)) {
        let verdict = run_until_effect(net, engine, connection, &mut at, count);
        carry_out(net, engine);
        match verdict {
            Verdict::Done => {}
            Verdict::Suspended | Verdict::Postponed => {
                // An effect may have ended the wait already.
                let session = engine.clients.get(connection.client);
                let waits = session.is_some_and(|s| s.wait.is_some());
                connection.is_suspended.set(waits);
                break;
            }
            Verdict::Closing => {
                connection.io.borrow_mut().is_closing = true;
                break;
            }
            Verdict::Dropped => connection.close(),
        }
    }
    if engine.server.propagation.offset() != recorded {
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
    let io = &mut *connection.io.borrow_mut();
    if io.out.is_empty() {
        io.out = ReplyBuf::with_bytes(net.buffers.output());
    }
    while *at < count {
        let prepared = io.prepared[*at].clone();
        let hashed = prepared.hashed(&engine.server.table, &io.hashes);
        let request = io.reader.request(0);
        let verdict = engine.execute(connection.client, prepared, request, hashed, &mut io.out);
        io.out.set_aside_if_full();
        if verdict != Verdict::Postponed {
            io.reader.pop_front();
            *at += 1;
        }
        if verdict != Verdict::Done || engine.has_effects() || is_out_of_time(engine) {
            return verdict;
        }
    }
    Verdict::Done
}

/// Parses on, reports a broken protocol, requeues what is left and leaves the figures that
/// CLIENT LIST shows.
fn finish_batch(net: &Rc<Net>, engine: &mut Engine, connection: &Rc<Connection>) {
    let mut io = connection.io.borrow_mut();
    let io = &mut *io;
    let runs_on = !io.is_closing && !connection.is_suspended.get() && !connection.is_closed.get();
    if runs_on && io.reader.pending() == 0 && io.failure.is_none() {
        // While a client is not authenticated, requests are parsed one at a time.
        if let Err(failure) = io.reader.parse(&engine.request_limits(connection.client)) {
            io.failure = Some(failure);
        }
    }
    if runs_on
        && io.reader.pending() == 0
        && let Some(failure) = io.failure.take()
    {
        report_failure(engine, io, connection, &failure);
    }
    if runs_on && !io.is_closing && io.reader.pending() > 0 {
        if is_out_of_time(engine) {
            net.mark_tired(connection);
        } else {
            net.mark_ready(connection);
        }
    } else if connection.has_paused_reading.take() {
        if is_out_of_time(engine) {
            net.resting.borrow_mut().push(Rc::clone(connection));
        } else {
            connection.wake();
        }
    }
    if !io.out.is_empty() || io.is_closing {
        net.mark_dirty(connection);
    } else if let Some(buffer) = io.reader.detach_buffer() {
        net.buffers.give_input(buffer);
    }
    io.leave_figures(engine, connection.client);
}

fn report_failure(
    engine: &mut Engine,
    io: &mut Io,
    connection: &Connection,
    failure: &crate::resp::ProtocolError,
) {
    if let Some(session) = engine.clients.get(connection.client) {
        tracing::debug!("Protocol error ({failure}) from client: addr={}", session.peer.address);
    }
    let text = failure.reply_text();
    engine.server.stats.error(&text);
    io.out.writer(crate::resp::Protocol::Resp2).error(&text);
    io.is_closing = true;
}

fn flush_dirty(net: &Rc<Net>, engine: &mut Engine, share: usize) {
    let mut dirty = std::mem::take(&mut *net.dirty.borrow_mut());
    let most = (share as u64).saturating_mul(FLUSHES_MAX);
    let enough = engine.server.stats.net_output_bytes.saturating_add(most);
    let mut served = 0;
    for connection in &dirty {
        if engine.server.stats.net_output_bytes >= enough {
            break;
        }
        connection.is_dirty.set(false);
        flush(net, engine, connection, share);
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
    flush_dirty(net, &mut engine, usize::MAX);
}

/// Most pieces one write hands to the kernel.
const SLICES: usize = 64;

/// What one connection may write in a turn: a reader that keeps up with a huge reply would keep
/// everybody else out. About what the kernel copies in a tenth of a millisecond.
const FLUSH_BYTES_MAX: usize = 256 * 1024;

/// So many connections may write as much in one turn; the others come first in the next.
const FLUSHES_MAX: u64 = 16;

/// Writes a connection's output as far as the socket takes it and its share goes.
fn flush(net: &Rc<Net>, engine: &mut Engine, connection: &Rc<Connection>, mut share: usize) {
    if connection.is_closed.get() {
        return;
    }
    let mut io = connection.io.borrow_mut();
    let io = &mut *io;
    if io.out.len() > output_limits::FREE_BYTES {
        output_limits::check(engine, connection, io);
    }
    let free = holds::free_output(engine, io);
    share = share.min(free);
    let before = io.written_bytes;
    while !io.out.is_empty() && share > 0 && !connection.is_closed.get() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = io.out.slices(&mut slices, share);
        match io.stream.try_write(&slices[..filled]) {
            Ok(written) => {
                io.out.advance(written);
                share = share.saturating_sub(written);
                io.written_bytes += written as u64;
                engine.server.stats.net_output_bytes += written as u64;
                engine.server.stats.writes_total += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => return connection.close(),
        }
    }
    let is_left = !io.out.is_empty();
    if let Some(session) = engine.clients.get_mut(connection.client) {
        session.io.written_bytes_total = io.written_bytes;
    }
    let is_held = is_left && io.written_bytes - before == free as u64;
    connection.wants_write.set(is_left && !is_held);
    if is_held {
        io.leave_figures(engine, connection.client);
        return holds::hold(net, connection);
    }
    if is_left {
        io.leave_figures(engine, connection.client);
        // Always, not only the first time: the task asks for the next writability when it is
        // polled, and its last poll ended with this one.
        connection.wake();
        return;
    }
    io.over_soft_limit = None;
    net.buffers.give_output(io.out.take_bytes());
    if io.is_closing {
        connection.close();
    } else if io.reader.pending() == 0
        && let Some(buffer) = io.reader.detach_buffer()
    {
        net.buffers.give_input(buffer);
    }
    io.leave_figures(engine, connection.client);
}
