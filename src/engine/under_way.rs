//! A command that has run for a while and is put aside, so that others are looked after before it
//! goes on.
//!
//! While it is under way nobody else sees or changes the data: the gates let nothing pass that
//! would, and [`super::standstill`] names what does not happen by itself. What it has done is not
//! told before it ends, neither to other clients (its effects are kept back) nor to the AOF (the
//! write stream is closed no further than to its begin). For the command itself time stands still.
//!
//! A script in the debugger is such a command, too, which stands most of the time and goes on when
//! its client says so ([`converse`]). One that runs over a copy of the data holds nobody up.

use super::call::{Frame, Progress};
use super::cluster::usage::Counted;
use super::dispatch::Verdict;
use super::scripting::debugged::{Aside, Talk};
use super::waiting::{Line, Reason, Wait};
use super::{Caller, ClientId, Cx, Effect, Engine, Now, Server};
use crate::config::ShutdownOptions;
use crate::resp::{Mark, OwnedRequest, ReplyBuf, Request};

/// A command that is under way.
pub struct UnderWay {
    client: ClientId,
    request: OwnedRequest,
    frame: Box<Frame>,
    reply: ReplyBuf,
    /// What it has brought about.
    effects: Vec<Effect>,
    /// The time at which it began, which is its time until it ends.
    began: Now,
    /// Since when it has run, if it stood in between.
    resumed: Now,
    /// It has run for longer than others are to wait without an answer.
    is_late: bool,
    /// Its client has left.
    is_alone: bool,
    /// The server is to end when it has.
    pub(super) shutdown_behind: Option<ShutdownOptions>,
    /// It runs over a copy of the data, and holds nobody up.
    aside: Option<Box<Aside>>,
    /// What it costs its slot so far, if that is counted.
    usage: Option<Counted>,
}

/// Runs a command that has left a program, to its end or for a while.
pub(super) fn run(cx: &mut Cx<'_>, mut frame: Box<Frame>, request: &Request<'_>) -> Verdict {
    let runs_aside = cx.server.scripting.is_to_run_aside();
    let mut aside = runs_aside.then(|| Aside::begin(cx.keys.space(), cx.server));
    if drive(cx, &mut frame, request, aside.as_deref_mut()) {
        let start = frame.reply_start();
        let talk = talk_of(&mut aside, cx.server).take();
        if let Some(aside) = aside {
            aside.end(cx.server);
        }
        if let Some(talk) = talk {
            end_talk(cx, *talk, start);
        }
        return Verdict::Done;
    }
    let reply = cx.reply.buffer().split_off(frame.reply_start());
    frame.has_own_buffer();
    let now = cx.server.clock.now();
    let mut under_way = Box::new(UnderWay {
        client: cx.client,
        request: OwnedRequest::new(request),
        frame,
        reply,
        effects: Vec::new(),
        began: now,
        resumed: now,
        is_late: false,
        is_alone: false,
        shutdown_behind: None,
        aside,
        usage: cx.server.put_usage_aside(),
    });
    if under_way.aside.is_none() {
        under_way.keep_back(cx.server, 0);
        cx.server.propagation.keep_open(under_way.frame.stream_start());
    }
    let verdict = match under_way.standing_talk(cx.server) {
        Some(talk) => {
            talk.write(cx.reply.buffer());
            Verdict::Done
        }
        None => Verdict::Suspended,
    };
    cx.session_mut().is_debugging = talk_of(&mut under_way.aside, cx.server).is_some();
    put_aside(cx.server, under_way);
    if verdict == Verdict::Suspended {
        cx.wait(Wait::for_ever(Reason::Answer));
    }
    verdict
}

fn put_aside(server: &mut Server, under_way: Box<UnderWay>) {
    match under_way.aside {
        Some(_) => server.asides.push(under_way),
        None => server.under_way = Some(under_way),
    }
}

/// Has a frame go on for a while, over the data or over a copy; whether it has ended.
fn drive(
    cx: &mut Cx<'_>,
    frame: &mut Frame,
    request: &Request<'_>,
    mut aside: Option<&mut Aside>,
) -> bool {
    let count = cx.server.effects.len();
    if let Some(aside) = &mut aside {
        aside.exchange(cx.keys.space(), cx.server);
    }
    let has_ended = match frame.drive(cx) {
        Progress::Ended(result) => {
            frame.end(cx, request, result);
            true
        }
        Progress::Yielded => {
            frame.stop_clock(cx.server);
            false
        }
    };
    if let Some(aside) = &mut aside {
        aside.exchange(cx.keys.space(), cx.server);
        for effect in cx.server.effects.take_behind(count) {
            match effect {
                Effect::Free(_) => cx.server.effects.push(effect),
                // What is sent would be gone here, though it is not.
                Effect::Migrate(order) => cx.server.moves.refuse(&order),
                _ => {}
            }
        }
    }
    has_ended
}

/// The conversation of what is under way, if it is a script that is debugged.
fn talk_of<'t>(
    aside: &'t mut Option<Box<Aside>>,
    server: &'t mut Server,
) -> &'t mut Option<Box<Talk>> {
    match aside {
        Some(aside) => &mut aside.talk,
        None => &mut server.scripting.talk,
    }
}

/// A script that was debugged has ended: what it has said stands in front of its reply, and the
/// connection ends behind that.
fn end_talk(cx: &mut Cx<'_>, mut talk: Talk, reply_start: Mark) {
    let reply = cx.reply.buffer().split_off(reply_start);
    talk.write(cx.reply.buffer());
    cx.reply.buffer().append(reply);
    let session = cx.session_mut();
    session.is_debugging = false;
    session.closes_after_reply = true;
}

/// A request of a client whose script stands in the debugger: it is for that.
pub(super) fn converse(
    engine: &mut Engine,
    client: ClientId,
    request: &Request<'_>,
    out: &mut ReplyBuf,
) -> Verdict {
    let Some(mut under_way) = engine.take_of(client) else {
        if let Some(session) = engine.clients.get_mut(client) {
            session.is_debugging = false;
        }
        return Verdict::Closing;
    };
    under_way.resumed = engine.server.clock.now();
    if let Some(talk) = talk_of(&mut under_way.aside, &mut engine.server) {
        talk.tell(request);
    }
    if engine.drive_on(&mut under_way) {
        engine.end_under_way(*under_way, Some(out));
        return Verdict::Closing;
    }
    let stands = under_way.standing_talk(&mut engine.server).map(|talk| talk.write(out)).is_some();
    put_aside(&mut engine.server, under_way);
    if stands {
        return Verdict::Done;
    }
    Cx::new(engine, client, Caller::Client, out).wait(Wait::for_ever(Reason::Answer));
    Verdict::Suspended
}

impl UnderWay {
    /// Keeps back what it has brought about behind the first `count` effects.
    fn keep_back(&mut self, server: &mut Server, count: usize) {
        for effect in server.effects.take_behind(count) {
            match effect {
                // Memory is nobody's to see, and what it waits for itself must be done.
                Effect::Free(_) | Effect::Migrate(_) => server.effects.push(effect),
                _ => self.effects.push(effect),
            }
        }
    }

    /// The conversation of a script that stands and waits for its client.
    fn standing_talk<'t>(&'t mut self, server: &'t mut Server) -> Option<&'t mut Talk> {
        talk_of(&mut self.aside, server).as_deref_mut().filter(|talk| talk.is_waiting())
    }

    /// Whether it stands, so that nothing is to be done for it.
    fn stands(&self, server: &Server) -> bool {
        if self.frame.stands(server) {
            return true;
        }
        let (talk, running) = match &self.aside {
            Some(aside) => (&aside.talk, None),
            None => (&server.scripting.talk, server.scripting.running.as_ref()),
        };
        let is_killed = running.is_some_and(|running| running.is_killed);
        !is_killed && talk.as_ref().is_some_and(|talk| talk.is_waiting())
    }

    /// What is run: of a transaction the command that it has come to.
    pub fn request(&mut self) -> Request<'_> {
        let own = self.request.as_request();
        self.frame.called().unwrap_or(own)
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
    /// Whether a command is under way that has something to do: the driver then calls
    /// [`Engine::go_on`] once a turn, without delay.
    pub fn is_under_way(&self) -> bool {
        let mut all = self.server.under_way.iter().chain(&self.server.asides);
        all.any(|under_way| !under_way.stands(&self.server))
    }

    /// Goes on for a while with what is under way.
    pub fn go_on(&mut self) {
        if let Some(mut under_way) = self.server.under_way.take() {
            let now = self.server.clock.now();
            self.note_late(&mut under_way, now);
            self.server.under_way = self.go_on_with(under_way);
        }
        for under_way in std::mem::take(&mut self.server.asides) {
            if let Some(under_way) = self.go_on_with(under_way) {
                self.server.asides.push(under_way);
            }
        }
    }

    /// Goes on for a while with one of them, unless it stands; what is left of it.
    fn go_on_with(&mut self, mut under_way: Box<UnderWay>) -> Option<Box<UnderWay>> {
        if under_way.stands(&self.server) {
            return Some(under_way);
        }
        if self.drive_on(&mut under_way) {
            self.end_under_way(*under_way, None);
            return None;
        }
        let client = under_way.client;
        if let Some(talk) = under_way.standing_talk(&mut self.server) {
            let mut lines = ReplyBuf::new();
            talk.write(&mut lines);
            let place = self.server.effects.reserve_answer(client);
            self.answer_late(client, place, lines);
        }
        Some(under_way)
    }

    /// Has it go on for a while; whether it has ended.
    fn drive_on(&mut self, under_way: &mut UnderWay) -> bool {
        let now = self.server.clock.now();
        self.note_overdue(under_way, now);
        let count = self.server.effects.len();
        self.set_now(under_way.began);
        self.server.clock.restart();
        under_way.frame.start_clock(&self.server);
        let UnderWay { client, request, frame, reply, aside, usage, .. } = under_way;
        self.server.resume_usage(usage.take());
        let mut cx = Cx::new(self, *client, Caller::Client, reply);
        let has_ended = drive(&mut cx, frame, &request.as_request(), aside.as_deref_mut());
        if has_ended && let Some(talk) = talk_of(aside, cx.server).take() {
            end_talk(&mut cx, *talk, Mark::default());
        }
        match has_ended {
            true => self.server.end_usage(Caller::Client, reply.len()),
            false => *usage = self.server.put_usage_aside(),
        }
        self.set_now(now);
        if under_way.aside.is_none() {
            under_way.keep_back(&mut self.server, count);
        }
        has_ended
    }

    /// It has ended: everybody may know of it, and goes on. Its reply goes to the end of this
    /// buffer, or to the client by itself.
    fn end_under_way(&mut self, under_way: UnderWay, out: Option<&mut ReplyBuf>) {
        let UnderWay { client, reply, effects, is_alone, shutdown_behind, aside, .. } = under_way;
        let is_aside = aside.is_some();
        if let Some(aside) = aside {
            aside.end(&mut self.server);
        }
        let place = match out {
            Some(out) => {
                out.append(reply);
                None
            }
            None => Some((self.server.effects.reserve_answer(client), reply)),
        };
        for effect in effects {
            self.server.effects.push(effect);
        }
        if !is_aside {
            self.server.propagation.let_go();
        }
        if let Some((place, reply)) = place {
            self.answer_late(client, place, reply);
            let session = self.clients.get(client);
            if session.is_some_and(|session| session.closes_after_reply) {
                self.server.effects.push(Effect::CloseWhenSent { client });
            }
        }
        if is_alone {
            self.disconnect(client);
        }
        if is_aside {
            return;
        }
        self.serve_waits();
        // Those who have waited too long meanwhile, and were not served.
        self.server.effects.push(Effect::WakeTimer);
        self.server.wake_line(&mut self.clients, Line::Script);
        if let Some(options) = shutdown_behind {
            self.shut_down_by_signal(options);
        }
    }

    /// What is under way of a client.
    fn take_of(&mut self, client: ClientId) -> Option<Box<UnderWay>> {
        let own = |under_way: &mut Box<UnderWay>| under_way.client == client;
        let held = self.server.under_way.take_if(own);
        held.or_else(|| {
            let all = &mut self.server.asides;
            let place = all.iter().position(|under_way| under_way.client == client)?;
            Some(all.swap_remove(place))
        })
    }

    /// A script in the debugger that has not stopped for long is stopped.
    fn note_overdue(&mut self, under_way: &mut UnderWay, now: Now) {
        const UNLESS_CONFIGURED_MS: u64 = 5000;
        let threshold_ms = match self.server.config.busy_reply_threshold {
            0 => UNLESS_CONFIGURED_MS,
            threshold_ms => threshold_ms,
        };
        let elapsed_ms = now.mono_us.saturating_sub(under_way.resumed.mono_us) / 1000;
        if elapsed_ms < threshold_ms {
            return;
        }
        if let Some(talk) = talk_of(&mut under_way.aside, &mut self.server) {
            talk.interrupt();
            under_way.resumed = now;
        }
    }

    /// A script that stands in the debugger does nothing, and is late all the same.
    pub(super) fn note_late_debugging(&mut self) {
        if let Some(mut under_way) = self.server.under_way.take() {
            let now = self.server.clock.now();
            self.note_late(&mut under_way, now);
            self.server.under_way = Some(under_way);
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
            self.server.scripting.let_alone();
            return true;
        }
        // What it has debugged aside is of no use to anybody.
        if let Some(under_way) = self.take_of(client)
            && let Some(aside) = under_way.aside
        {
            aside.end(&mut self.server);
        }
        false
    }

    fn set_now(&mut self, now: Now) {
        self.server.clock.set_now(now);
        self.keyspace.now_ms = now.unix_us / 1000;
        self.keyspace.access.set_now(self.keyspace.now_ms);
    }
}
