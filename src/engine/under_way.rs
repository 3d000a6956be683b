//! A command that has run for a while and is put aside, so that others are looked after before it
//! goes on.
//!
//! While it is under way nobody else sees or changes the data: the gates let nothing pass that
//! would, and [`super::standstill`] names what does not happen by itself. What it has done is not
//! told before it ends, neither to other clients (its effects are kept back) nor to the AOF (the
//! write stream is closed no further than to its begin). For the command itself time stands still.

use super::call::{Frame, Progress};
use super::dispatch::Verdict;
use super::waiting::{Line, Reason, Wait};
use super::{Caller, ClientId, Cx, Effect, Engine, Now, Server};
use crate::config::ShutdownOptions;
use crate::resp::{OwnedRequest, ReplyBuf, Request};

/// The one command that is under way.
pub struct UnderWay {
    client: ClientId,
    request: OwnedRequest,
    frame: Box<Frame>,
    reply: ReplyBuf,
    /// What it has brought about.
    effects: Vec<Effect>,
    /// The time at which it began, which is its time until it ends.
    began: Now,
    /// It has run for longer than others are to wait without an answer.
    is_late: bool,
    /// Its client has left.
    is_alone: bool,
    /// The server is to end when it has.
    pub(super) shutdown_behind: Option<ShutdownOptions>,
}

/// Runs a command that has left a program, to its end or for a while.
pub(super) fn run(cx: &mut Cx<'_>, mut frame: Box<Frame>, request: &Request<'_>) -> Verdict {
    match frame.drive(cx) {
        Progress::Ended(result) => {
            frame.end(cx, request, result);
            Verdict::Done
        }
        Progress::Yielded => {
            put_aside(cx, frame, request);
            Verdict::Suspended
        }
    }
}

fn put_aside(cx: &mut Cx<'_>, mut frame: Box<Frame>, request: &Request<'_>) {
    frame.stop_clock(cx.server);
    let reply = cx.reply.buffer().split_off(frame.reply_start());
    frame.has_own_buffer();
    let mut under_way = Box::new(UnderWay {
        client: cx.client,
        request: OwnedRequest::new(request),
        frame,
        reply,
        effects: Vec::new(),
        began: cx.server.clock.now(),
        is_late: false,
        is_alone: false,
        shutdown_behind: None,
    });
    under_way.keep_back(cx.server, 0);
    cx.server.propagation.keep_open(under_way.frame.stream_start());
    cx.server.under_way = Some(under_way);
    cx.wait(Wait::for_ever(Reason::Answer));
}

impl UnderWay {
    /// Keeps back what it has brought about behind the first `count` effects.
    fn keep_back(&mut self, server: &mut Server, count: usize) {
        for effect in server.effects.take_behind(count) {
            match effect {
                // Memory is nobody's to see.
                Effect::Free(_) => server.effects.push(effect),
                _ => self.effects.push(effect),
            }
        }
    }

    pub fn request(&self) -> Request<'_> {
        self.request.as_request()
    }

    pub fn is_late(&self) -> bool {
        self.is_late
    }

    /// How long it has been under way.
    pub fn elapsed_ms(&self, now: Now) -> u64 {
        now.mono_us.saturating_sub(self.began.mono_us) / 1000
    }
}

impl Engine {
    /// Whether a command is under way: the driver then calls [`Engine::go_on`] once a turn, without
    /// delay.
    pub fn is_under_way(&self) -> bool {
        self.server.under_way.is_some()
    }

    /// Goes on for a while with the command that is under way.
    pub fn go_on(&mut self) {
        let Some(mut under_way) = self.server.under_way.take() else { return };
        let now = self.server.clock.now();
        self.note_late(&mut under_way, now);
        let count = self.server.effects.len();
        self.set_now(under_way.began);
        self.server.clock.restart();
        under_way.frame.start_clock(&self.server);
        let UnderWay { client, request, frame, reply, .. } = &mut *under_way;
        let mut cx = Cx::new(self, *client, Caller::Client, reply);
        let progress = frame.drive(&mut cx);
        let has_ended = match progress {
            Progress::Yielded => {
                frame.stop_clock(cx.server);
                false
            }
            Progress::Ended(result) => {
                frame.end(&mut cx, &request.as_request(), result);
                true
            }
        };
        self.set_now(now);
        under_way.keep_back(&mut self.server, count);
        match has_ended {
            true => self.leave_under_way(*under_way),
            false => self.server.under_way = Some(under_way),
        }
    }

    /// It has ended: everybody may know of it, and goes on.
    fn leave_under_way(&mut self, under_way: UnderWay) {
        let UnderWay { client, reply, effects, is_alone, shutdown_behind, .. } = under_way;
        let place = self.server.effects.reserve_answer(client);
        for effect in effects {
            self.server.effects.push(effect);
        }
        self.server.propagation.let_go();
        self.answer_late(client, place, reply);
        if is_alone {
            self.disconnect(client);
        }
        self.serve_waits();
        self.server.wake_line(&mut self.clients, Line::Script);
        if let Some(options) = shutdown_behind {
            self.shut_down_by_signal(options);
        }
    }

    fn note_late(&mut self, under_way: &mut UnderWay, now: Now) {
        let threshold_ms = self.server.config.busy_reply_threshold;
        let elapsed_ms = under_way.elapsed_ms(now);
        if under_way.is_late || threshold_ms == 0 || elapsed_ms < threshold_ms {
            return;
        }
        under_way.is_late = true;
        self.server.warn_of_slow_script(elapsed_ms);
        // Who waits is told that it will take longer.
        self.server.wake_line(&mut self.clients, Line::Script);
    }

    /// Whether the session of a client is still needed that has left: it is, for a command that is
    /// under way.
    pub(super) fn is_needed(&mut self, client: ClientId) -> bool {
        let own = self.server.under_way.as_mut().filter(|under_way| under_way.client == client);
        if let Some(under_way) = own {
            under_way.is_alone = true;
            return true;
        }
        false
    }

    fn set_now(&mut self, now: Now) {
        self.server.clock.set_now(now);
        self.keyspace.now_ms = now.unix_us / 1000;
        self.keyspace.access.set_now(self.keyspace.now_ms);
    }
}
