//! The calling end of a link to a primary, and the thread that decodes a snapshot.

use rufous::engine::Engine;
use rufous::engine::replication::LinkOrder;
use rufous::engine::replication::inlet::{Flow, Inlet};
use rufous::persist::load::{Batch, LoadError, Reading};
use rufous::repl::link::{Attempt, Closed, LinkEvent, Wants};
use rufous::structs::prng::Prng;
use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::ControlFlow;

#[derive(Default)]
pub struct Port {
    pub attempt: Option<Attempt>,
    /// Whom to call, which nobody has done yet.
    pub dial: Option<(Attempt, String, u16)>,
    pub outgoing: VecDeque<u8>,
    /// How the connection has ended, which is told when all before it was looked at.
    pub ended: Option<String>,
    /// How many snapshots have been taken in.
    pub loads: u64,
    inlet: Inlet,
    /// All that has arrived was looked at, as far as it is whole.
    is_dry: bool,
    loading: Option<Loading>,
    /// What the threads of loads that nobody wants any more still have to say.
    late: Vec<Decoded>,
}

struct Loading {
    attempt: Attempt,
    reading: Reading,
    bytes: Vec<u8>,
    /// How many batches were handed over.
    taken: usize,
    has_news: bool,
    /// It was read to its end.
    is_read: bool,
}

/// What a thread has made of the bytes that there are.
struct Decoded {
    attempt: Attempt,
    batches: VecDeque<Batch>,
    end: Result<(), LoadError>,
}

impl Loading {
    /// Decodes from the beginning, and leaves out what was handed over: the same bytes make the
    /// same batches.
    fn decode(&self) -> Decoded {
        let Reading { options, delay } = &self.reading;
        let reading = Reading { options: options.clone(), delay: delay.clone() };
        let mut batches = VecDeque::new();
        let end = reading.read(&self.bytes[..], &mut |batch| {
            batches.push_back(batch);
            ControlFlow::Continue(())
        });
        batches.drain(..self.taken.min(batches.len()));
        Decoded { attempt: self.attempt, batches, end }
    }
}

fn is_cut(end: &Result<(), LoadError>) -> bool {
    use rufous::persist::rdb::RdbError;
    matches!(end, Err(LoadError::Rdb { error: RdbError::Truncated, .. }))
}

impl Port {
    pub fn carry_out(&mut self, _engine: &mut Engine, order: LinkOrder) {
        match order {
            LinkOrder::Dial { attempt, host, port } => {
                self.end();
                self.attempt = Some(attempt);
                self.inlet.begin(attempt);
                self.dial = Some((attempt, host, port));
            }
            LinkOrder::Send(bytes) => self.outgoing.extend(bytes),
            LinkOrder::Read { attempt, reading } => {
                self.loading = Some(Loading {
                    attempt,
                    reading: *reading,
                    bytes: Vec::new(),
                    taken: 0,
                    has_news: false,
                    is_read: false,
                });
            }
            LinkOrder::Close => self.end(),
            LinkOrder::StopReading => self.stop_reading(),
        }
    }

    fn end(&mut self) {
        self.attempt = None;
        self.dial = None;
        self.inlet.end();
        self.outgoing.clear();
        self.ended = None;
        self.stop_reading();
    }

    fn stop_reading(&mut self) {
        if let Some(loading) = self.loading.take() {
            self.late.push(loading.decode());
        }
    }

    pub fn is_full(&self) -> bool {
        self.inlet.is_full()
    }

    pub fn receive(&mut self, engine: &mut Engine, bytes: &[u8]) {
        self.inlet.receive(bytes);
        self.is_dry = false;
        engine.count_link_input(bytes.len());
    }

    /// Looks at what has arrived, for so many windows of commands.
    pub fn look(&mut self, engine: &mut Engine, windows: u64) -> Flow {
        if self.attempt.is_none() {
            return Flow::Dry;
        }
        let left = Cell::new(windows);
        let is_over = |_: &Engine| {
            left.set(left.get().saturating_sub(1));
            left.get() == 0
        };
        self.inlet.drive(engine, &is_over)
    }

    /// Does what that has come to, when what it has left was carried out; whether to look again.
    pub fn follow(&mut self, engine: &mut Engine, flow: Flow) -> bool {
        self.is_dry = matches!(flow, Flow::Dry);
        let Flow::Snapshot(piece) = flow else {
            self.note_load(engine);
            return false;
        };
        if let Some(loading) = &mut self.loading {
            loading.bytes.extend_from_slice(&piece);
            loading.has_news = true;
        }
        true
    }

    fn note_load(&mut self, engine: &Engine) {
        // One that is given up is taken away before.
        let has_ended = engine.server.replication.fetch.is_none();
        if let Some(loading) = self.loading.take_if(|_| has_ended) {
            self.loads += u64::from(loading.is_read);
        }
    }

    /// The thread hands over some of what it has decoded.
    pub fn load_some(&mut self, engine: &mut Engine, prng: &mut Prng) {
        if prng.below(3) == 0 {
            for Decoded { attempt, batches, end } in std::mem::take(&mut self.late) {
                for batch in batches {
                    if engine.take_in_snapshot(attempt, batch).is_break() {
                        break;
                    }
                }
                engine.end_snapshot(attempt, end);
            }
        }
        let Some(loading) = &mut self.loading else { return };
        if prng.below(2) == 0 || !loading.has_news {
            return;
        }
        let mut decoded = loading.decode();
        let most = prng.below(3) as usize;
        let will_take_all = decoded.batches.len() <= most;
        for batch in decoded.batches.drain(..most.min(decoded.batches.len())) {
            loading.taken += 1;
            if engine.take_in_snapshot(decoded.attempt, batch).is_break() {
                return self.loading = None;
            }
        }
        if !will_take_all {
            return;
        }
        // The thread waits for more as long as there may be more.
        let is_whole = engine.link_wants() != Wants::Snapshot;
        if is_cut(&decoded.end) && !is_whole {
            return loading.has_news = false;
        }
        loading.has_news = false;
        loading.is_read = decoded.end.is_ok();
        engine.end_snapshot(decoded.attempt, decoded.end);
        self.note_load(engine);
    }

    /// Says that the connection has ended, if it has and all before that was looked at.
    pub fn tell_end(&mut self, engine: &mut Engine) {
        let Some(attempt) = self.attempt else { return };
        if !self.is_dry {
            return;
        }
        if let Some(reason) = self.ended.take() {
            let closed = if reason.is_empty() { Closed::ByPeer } else { Closed::Error(&reason) };
            engine.tell_link_of(attempt, LinkEvent::Closed(closed));
        }
    }
}
