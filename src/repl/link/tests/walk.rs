//! Random walks over all events in all states, by seed, beside the simplest model of who carries
//! out what the machine says.

use super::{id, settings};
use crate::repl::ids::{History, ReplicationId};
use crate::repl::link::{
    Action, Attempt, Closed, Event, Link, LinkEvent, LoadFailure, NewIds, Purpose, Wants,
};
use crate::structs::prng::Prng;

const WALKS: u64 = 200;
const STEPS: u64 = 2000;

const LINES: [&str; 18] = [
    "+PONG",
    "+OK",
    "+OK",
    "+OK",
    "-ERR no",
    "-NOAUTH no",
    "",
    "+CONTINUE",
    "+CONTINUE cccccccccccccccccccccccccccccccccccccccc",
    "+CONTINUE dddddddddddddddddddddddddddddddddddddddd",
    "+FULLRESYNC eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee 1000",
    "+FULLRESYNC ffffffffffffffffffffffffffffffffffffffff 4611686018427387903",
    "+FULLRESYNC bad",
    "-LOADING no",
    "$100",
    "$EOF:mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm",
    "$-5",
    "\u{fffd}\r",
];

/// What the machine's orders have come to.
#[derive(Default)]
struct World {
    last: u64,
    is_dialling: bool,
    is_open: bool,
    is_loading: bool,
    is_stream: bool,
}

impl World {
    /// What the event itself does to the world, before the machine hears of it.
    fn meet(&mut self, link: &Link, event: &Event) {
        let Event::Of(attempt, event) = event else { return };
        if link.attempt() != Some(*attempt) {
            return;
        }
        let was_dialling = self.is_dialling;
        match event {
            LinkEvent::Connected => {
                self.is_open |= was_dialling;
                self.is_dialling = false;
            }
            LinkEvent::DialFailed(_) | LinkEvent::ConnectFailed(_) => self.is_dialling = false,
            LinkEvent::Closed(_) => {
                (self.is_dialling, self.is_open, self.is_stream) = (false, false, false);
            }
            LinkEvent::Loaded { .. } | LinkEvent::LoadFailed(_) => self.is_loading = false,
            _ => {}
        }
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Dial { attempt: Attempt(number), .. } => {
                assert!(!self.is_dialling && !self.is_open, "one link at a time");
                assert!(!self.is_loading, "the load of the last one was ended");
                assert_eq!(*number, self.last + 1);
                self.last = *number;
                self.is_dialling = true;
            }
            Action::Send(bytes) => assert!(self.is_open && !bytes.is_empty(), "to nobody"),
            Action::BeginLoad { .. } => {
                assert!(self.is_open && !self.is_loading && !self.is_stream);
                self.is_loading = true;
            }
            Action::BeginStream { .. } => {
                assert!(self.is_open && !self.is_loading && !self.is_stream);
                self.is_stream = true;
            }
            Action::CloseLink => {
                (self.is_dialling, self.is_open, self.is_stream) = (false, false, false);
            }
            Action::AbortLoad => assert!(std::mem::take(&mut self.is_loading), "there is none"),
            Action::CutReplicas
            | Action::NewIds(_)
            | Action::FailoverDone
            | Action::FailoverFailed(_) => {}
            Action::Log(_, text) => assert!(!text.contains(char::is_control), "{text:?}"),
        }
    }
}

fn draw_id(prng: &mut Prng) -> ReplicationId {
    ReplicationId::from_random(std::array::from_fn(|_| prng.below(256) as u8))
}

fn draw_link_event(prng: &mut Prng) -> LinkEvent<'static> {
    let closed = [
        Closed::ByPeer,
        Closed::Error("x"),
        Closed::WriteFailed("x"),
        Closed::Protocol,
        Closed::Inline,
    ];
    let failures = [
        LoadFailure::ShortRead,
        LoadFailure::EndMark,
        LoadFailure::Corrupt,
        LoadFailure::Ours("x"),
    ];
    match prng.below(40) {
        0 => LinkEvent::DialFailed("x"),
        1 => LinkEvent::ConnectFailed("x"),
        2..=6 => LinkEvent::Connected,
        7 => LinkEvent::Bytes(prng.below(1000)),
        8 => LinkEvent::Bytes(u64::MAX),
        9 => LinkEvent::LineTooLong,
        10 => LinkEvent::Closed(closed[prng.below(5) as usize]),
        11 => LinkEvent::Flushed { fresh: draw_id(prng) },
        12..=14 => LinkEvent::Received,
        15..=18 => LinkEvent::Loaded { db: prng.below(16) as u32, fresh: draw_id(prng) },
        19 => LinkEvent::LoadFailed(failures[prng.below(4) as usize]),
        20 => LinkEvent::GetAck,
        21..=22 => LinkEvent::Applied { bytes: prng.below(1000), db: prng.below(16) as u32 },
        _ => LinkEvent::Line(LINES[prng.below(LINES.len() as u64) as usize].as_bytes()),
    }
}

/// What an honest peer and a careful caller might bring next, so that walks come anywhere.
fn draw_fitting(prng: &mut Prng, link: &Link) -> LinkEvent<'static> {
    let answers = ["+OK", LINES[7], LINES[8], LINES[10]];
    let line = |line: &'static str| LinkEvent::Line(line.as_bytes());
    match link.wants() {
        Wants::Lines { .. } if link.word() == "sync" => line(LINES[14 + prng.below(2) as usize]),
        Wants::Lines { .. } => line(answers[prng.below(4) as usize]),
        Wants::Snapshot if prng.below(2) == 0 => LinkEvent::Received,
        Wants::Snapshot => LinkEvent::Loaded { db: 1, fresh: draw_id(prng) },
        Wants::Nothing if link.word() == "sync" => {
            LinkEvent::Loaded { db: 1, fresh: draw_id(prng) }
        }
        Wants::Nothing => LinkEvent::Connected,
        Wants::Stream => LinkEvent::Applied { bytes: prng.below(1000), db: 0 },
    }
}

fn draw(prng: &mut Prng, link: &Link) -> Event<'static> {
    let hosts = ["h", "i", "j"];
    match prng.below(100) {
        0 => Event::NoOne { fresh: draw_id(prng) },
        1..=3 => Event::SetPrimary {
            host: hosts[prng.below(3) as usize],
            port: 1,
            purpose: match prng.below(4) {
                0 => Purpose::Failover,
                1 => Purpose::Copy,
                _ => Purpose::Follow,
            },
        },
        4..=5 => Event::Written(prng.below(1000)),
        6 => Event::Synced((prng.below(2) == 0).then_some(5)),
        7..=20 => Event::Tick,
        21 => Event::Of(Attempt(prng.below(50)), draw_link_event(prng)),
        _ => match link.attempt() {
            Some(attempt) if prng.below(2) == 0 => Event::Of(attempt, draw_link_event(prng)),
            Some(attempt) => Event::Of(attempt, draw_fitting(prng, link)),
            None => Event::Tick,
        },
    }
}

/// What must hold between two moments of the machine.
fn compare(before: &Link, event: &Event, after: &Link, actions: &[Action]) {
    let (old, new) = (before.history(), after.history());
    let has = |wanted: &Action| actions.contains(wanted);
    let is_replaced = has(&Action::NewIds(NewIds::Replaced));
    if old.id() == new.id() && !is_replaced {
        assert!(new.offset() >= old.offset(), "offsets do not go back");
    }
    if old.id() != new.id() || old.second_id() != new.second_id() {
        assert!(is_replaced || has(&Action::NewIds(NewIds::Renamed)), "whoever keeps it is told");
        assert!(has(&Action::CutReplicas), "whoever follows is told");
    }
    assert_eq!(after.word() == "none", after.primary().is_none());
    if matches!(event, Event::NoOne { .. }) {
        assert_eq!((after.word(), after.attempt()), ("none", None));
    }
    if after.word() == "none" {
        assert_eq!((after.attempt(), after.wants()), (None, Wants::Nothing));
    }
}

fn walk(seed: u64) -> u64 {
    let mut prng = Prng::seeded(seed);
    let mut link = Link::new(History::new(id(b'a'), 0));
    let (settings, mut world, mut now_ms, mut streams) = (settings(), World::default(), 0, 0);
    for _ in 0..STEPS {
        now_ms += [0, 1, 150, 1000, 70_000][prng.below(5) as usize];
        let event = draw(&mut prng, &link);
        let before = link.clone();
        let mut actions = Vec::new();
        world.meet(&link, &event);
        link.on(event, now_ms, &settings, &mut actions);
        actions.iter().for_each(|action| world.carry_out(action));
        compare(&before, &event, &link, &actions);
        let is_stream = |action: &&Action| matches!(action, Action::BeginStream { .. });
        streams += actions.iter().filter(is_stream).count() as u64;
        assert_eq!(world.is_stream, link.is_connected());
        if !world.is_loading {
            assert_ne!(link.wants(), Wants::Snapshot);
        }
    }
    streams
}

#[test]
fn every_event_is_legal_in_every_state() {
    let mut streams = 0;
    for seed in 0..WALKS {
        let walked = std::panic::catch_unwind(|| walk(seed));
        streams += walked.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(streams > 10 * WALKS, "the walks come to streams: {streams}");
}
