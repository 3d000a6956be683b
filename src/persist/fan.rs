//! One snapshot that is encoded once and sent to many, each as fast as it takes it.
//!
//! ```text
//!                     the ring: so many of the newest bytes
//!  snapshot ...------|=====^==========^==========^^===|------> made later
//!                          |          |          ||   encoder: waits when it leads by too much
//!                          slow     others       fastest
//! ```
//!
//! The encoder waits for the fastest and never for the slowest. Who is about to fall out of the
//! ring goes apart, with a copy of the ring and with those that are nearly as far behind: they are
//! served by a pass of their own over the same dataset, which passes over the bytes that the copy
//! holds already. That the passes fit together is what [`rdb::write_repeatably`] is for.
//!
//! Sockets, threads and the clock belong to the [`World`], so all of this runs in a test.

mod leg;
mod ring;
#[cfg(test)]
mod tests;

use super::rdb::{self, Dataset, SaveOptions};
use super::snapshot::{self, KeyDelay, Progress};
use leg::Leg;
use ring::Ring;
use std::cell::RefCell;
use std::io::{self, IoSlice, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Nobody waits longer before all is looked at: who is gone, who has taken nothing for too long,
/// and whether the snapshot is wanted at all.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who waits for the snapshot to be counted is sent an empty line so often.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(1);

/// Where the bytes for one recipient go.
pub trait Outlet {
    /// Writes what is taken now of these pieces; the error `WouldBlock` if that is nothing.
    fn try_write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// What a fan needs of its surroundings.
pub trait World<K, O> {
    /// The time since some moment in the past.
    fn now(&self) -> Duration;
    /// Waits until one of these may take more, at most so long.
    fn wait(&mut self, outlets: &[&O], at_most: Duration);
    /// Nothing more is sent to this one.
    fn report(&mut self, key: K, outlet: O, fate: Fate);
    /// Has [`Fan::go_on`] called on another thread.
    fn go_apart(&mut self, fan: Fan<K, O>);
}

/// What has become of a recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    Sent,
    /// It cannot be sent anything; the text says why.
    Lost(String),
    TimedOut,
}

/// How a recipient knows where the snapshot ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// `$EOF:` and a mark, which follows the snapshot once more.
    EndMark([u8; 40]),
    /// `$` and the length, and nothing behind the snapshot.
    Length,
}

pub struct Recipient<K, O> {
    pub key: K,
    pub outlet: O,
    /// What it is sent before the snapshot.
    pub head: Vec<u8>,
    /// Set when nothing needs to be sent to it any more.
    pub is_gone: Arc<AtomicBool>,
}

/// How long one may take nothing, as the directive says it now: it may change meanwhile.
#[derive(Clone, Default)]
pub struct Timeout(Arc<AtomicU64>);

impl Timeout {
    pub fn of(time: Duration) -> Timeout {
        let timeout = Timeout::default();
        timeout.set(time);
        timeout
    }

    pub fn set(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.0.store(ms, Ordering::Relaxed);
    }

    pub fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// What is sent, and how.
#[derive(Clone)]
pub struct Content {
    pub dataset: Dataset,
    pub options: SaveOptions,
    pub framing: Framing,
    /// Who takes no byte for so long is given up.
    pub timeout: Timeout,
    /// As `rdb-key-save-delay` is now: it may change meanwhile.
    pub key_delay: KeyDelay,
    pub progress: Arc<Progress>,
}

/// How much is kept in memory.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub piece_bytes: usize,
    /// Who is further behind than this goes apart.
    pub ring_bytes: u64,
    /// The encoder is ahead of the fastest by no more; the rest of the ring is for the others.
    pub lead_bytes: u64,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { piece_bytes: 64 << 10, ring_bytes: 16 << 20, lead_bytes: 2 << 20 }
    }
}

/// Recipients that are served by one pass.
pub struct Fan<K, O> {
    legs: Vec<Leg<K, O>>,
    ring: Ring,
    sizes: Sizes,
    /// This is not a pass for those that have fallen behind.
    is_first: bool,
    /// The length that recipients have been told.
    told_len: Option<u64>,
    /// The ring ends where the snapshot does.
    is_whole: bool,
}

impl<K, O: Outlet> Fan<K, O> {
    pub fn new(recipients: Vec<Recipient<K, O>>, sizes: Sizes) -> Fan<K, O> {
        let legs = recipients.into_iter().map(Leg::new).collect();
        let ring = Ring::default();
        Fan { legs, ring, sizes, is_first: true, told_len: None, is_whole: false }
    }

    /// Sends all of it to all; when this returns each was reported, or has gone apart.
    pub fn send(mut self, content: &Content, world: &mut dyn World<K, O>) {
        let frame = match &content.framing {
            Framing::EndMark(mark) => [b"$EOF:", &mark[..], b"\r\n"].concat(),
            Framing::Length => {
                let len;
                (self, len) = Pass::new(self, content, world).count();
                self.told_len = Some(len);
                format!("${len}\r\n").into_bytes()
            }
        };
        self.legs.iter_mut().for_each(|leg| leg.tell(&frame));
        self.go_on(content, world);
    }

    /// Goes through the dataset, and sends what the ring has not had yet.
    pub fn go_on(self, content: &Content, world: &mut dyn World<K, O>) {
        Pass::new(self, content, world).run();
    }

    /// Sends nothing more to anybody.
    pub fn give_up(self, reason: &str, world: &mut dyn World<K, O>) {
        for Leg { recipient, .. } in self.legs {
            world.report(recipient.key, recipient.outlet, Fate::Lost(reason.to_owned()));
        }
    }

    /// Takes those off who are about to fall out, and drops what then nobody needs.
    fn make_room(&mut self, world: &mut dyn World<K, O>) {
        while self.ring.len() > self.sizes.ring_bytes {
            let oldest_end = self.ring.oldest_end();
            if self.legs.iter().any(|leg| leg.at < oldest_end) {
                world.go_apart(self.split());
            }
            self.ring.drop_oldest();
        }
    }

    /// Those in the older half of the ring.
    fn split(&mut self) -> Fan<K, O> {
        let middle = self.ring.end() - self.sizes.ring_bytes / 2;
        let legs = self.legs.extract_if(.., |leg| leg.at < middle).collect();
        let Fan { sizes, told_len, .. } = *self;
        Fan { legs, ring: self.ring.clone(), sizes, is_first: false, told_len, is_whole: false }
    }

    /// By how much the encoder leads.
    fn lead(&self) -> u64 {
        let fastest = self.legs.iter().map(|leg| leg.at).max();
        fastest.map_or(0, |at| self.ring.end() - at)
    }
}

/// One way through the dataset, for all of a fan.
struct Pass<'p, K, O> {
    fan: Fan<K, O>,
    content: &'p Content,
    world: &'p mut dyn World<K, O>,
    /// How much of the snapshot this pass has made.
    made: u64,
    is_counting: bool,
    /// When those who wait were last sent a sign of life.
    signed: Duration,
}

impl<'p, K, O: Outlet> Pass<'p, K, O> {
    fn new(fan: Fan<K, O>, content: &'p Content, world: &'p mut dyn World<K, O>) -> Pass<'p, K, O> {
        let signed = world.now();
        Pass { fan, content, world, made: 0, is_counting: false, signed }
    }

    /// How long the snapshot is. Meanwhile those who wait for it are sent what goes before it.
    fn count(mut self) -> (Fan<K, O>, u64) {
        self.is_counting = true;
        let pass = self.encode(|pass, bytes| {
            pass.serve();
            pass.give_signs_of_life();
            pass.made += bytes.len() as u64;
        });
        (pass.fan, pass.made)
    }

    fn run(self) {
        let mut pass = self.encode(Pass::take);
        if !pass.is_over() {
            pass.finish();
        }
        while !pass.is_over() {
            pass.wait(LOOK_EVERY);
            pass.serve();
        }
        pass.fan.give_up("the transfer was called off", pass.world);
    }

    /// All of the snapshot has been made.
    fn finish(&mut self) {
        let told_len = self.fan.told_len.unwrap_or(self.made);
        assert_eq!(self.made, told_len, "a snapshot has another length than was told");
        if let Framing::EndMark(mark) = &self.content.framing {
            self.take(mark);
        }
        self.fan.is_whole = true;
        self.serve();
    }

    /// Goes through the dataset, as long as somebody is left. Each piece goes to `take`.
    fn encode(mut self, take: impl Fn(&mut Self, &[u8])) -> Self {
        let (content, is_to_tell) = (self.content, self.fan.is_first && !self.is_counting);
        self.serve();
        let pass = RefCell::new(self);
        let mut out = Encoded { pass: &pass, take };
        let mut watch = |keys| pass.borrow_mut().before_key(keys);
        // It ends early only if nobody is left.
        match rdb::write_repeatably(&content.dataset, &content.options, &mut out, &mut watch) {
            Ok(written) if is_to_tell => snapshot::tell_losses(&written),
            _ => {}
        }
        pass.into_inner()
    }

    /// Nobody is left to be served.
    fn is_over(&self) -> bool {
        self.fan.legs.is_empty() || self.content.progress.is_cancelled()
    }

    /// Takes a piece in; what is in the ring already is passed over.
    fn take(&mut self, bytes: &[u8]) {
        let known = (self.fan.ring.end() - self.made).min(bytes.len() as u64);
        self.made += bytes.len() as u64;
        let fresh = &bytes[known as usize..];
        self.fan.ring.push(fresh);
        self.serve();
        if fresh.is_empty() {
            return;
        }
        while self.fan.lead() > self.fan.sizes.lead_bytes && !self.is_over() {
            self.wait(LOOK_EVERY);
            self.serve();
        }
        if !self.is_over() {
            self.fan.make_room(self.world);
        }
    }

    /// Gives everybody what it takes, and takes leave of those who have it all or are gone.
    fn serve(&mut self) {
        let Pass { fan, content, world, .. } = self;
        let now = world.now();
        let (ring, is_whole) = (&fan.ring, fan.is_whole);
        let mut index = 0;
        while let Some(leg) = fan.legs.get_mut(index) {
            let fate = leg.go_on(ring, now, content.timeout.get());
            let is_sent = is_whole && !leg.is_waiting(ring);
            if let Some(fate) = fate.or(is_sent.then_some(Fate::Sent)) {
                let recipient = fan.legs.swap_remove(index).recipient;
                world.report(recipient.key, recipient.outlet, fate);
            } else {
                index += 1;
            }
        }
    }

    /// Waits until somebody takes more for whom there is something.
    fn wait(&mut self, at_most: Duration) {
        let Fan { legs, ring, .. } = &self.fan;
        let waiting = legs.iter().filter(|leg| leg.is_waiting(ring));
        let outlets: Vec<&O> = waiting.map(|leg| &leg.recipient.outlet).collect();
        self.world.wait(&outlets, at_most.min(LOOK_EVERY));
    }

    fn give_signs_of_life(&mut self) {
        let now = self.world.now();
        if now.saturating_sub(self.signed) >= SIGN_OF_LIFE_EVERY {
            self.signed = now;
            let idle = self.fan.legs.iter_mut().filter(|leg| leg.has_taken_head());
            idle.for_each(|leg| leg.tell(b"\n"));
        }
    }

    fn before_key(&mut self, keys: u64) -> ControlFlow<()> {
        if !self.is_counting && self.fan.is_first {
            self.content.progress.set_keys(keys);
        }
        let is_new = self.made >= self.fan.ring.end();
        if !self.is_counting && is_new && !self.delay(keys).is_zero() {
            self.linger(keys);
        }
        if self.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// How long the directive wants to stay at a key, as it is now.
    fn delay(&self, keys: u64) -> Duration {
        self.content.key_delay.after(keys)
    }

    /// Stays at a key. What is ready goes out meanwhile.
    fn linger(&mut self, keys: u64) {
        let begun = self.world.now();
        loop {
            self.serve();
            let elapsed = self.world.now().saturating_sub(begun);
            let left = self.delay(keys).saturating_sub(elapsed);
            if left.is_zero() || self.is_over() {
                return;
            }
            self.wait(left);
        }
    }
}

/// Where the encoder writes to.
struct Encoded<'e, 'p, K, O, F> {
    pass: &'e RefCell<Pass<'p, K, O>>,
    take: F,
}

impl<'p, K, O: Outlet, F: Fn(&mut Pass<'p, K, O>, &[u8])> Write for Encoded<'_, 'p, K, O, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pass = self.pass.borrow_mut();
        let piece = &bytes[..bytes.len().min(pass.fan.sizes.piece_bytes)];
        (self.take)(&mut pass, piece);
        match pass.is_over() {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(piece.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
