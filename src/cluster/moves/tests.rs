//! The machine of a move alone, and with a target on a line that delays, loses and ends.

use super::*;
use crate::structs::prng::Prng;

const BOUNDS: Bounds = Bounds { pause_ms: 1000, lag_bytes: 100, claim_ms: 500 };

fn export() -> Export {
    Export::new(NodeId::from_random([1; 20]), vec![Slot::new(7).expect("it is one")])
}

fn tell(export: &mut Export, at_ms: u64, event: Event<'_>) -> Option<Action> {
    export.handle(event, at_ms, &BOUNDS)
}

/// A move that has come to where writes wait, at 10 ms.
fn paused() -> Export {
    let mut export = export();
    assert_eq!(tell(&mut export, 0, Event::Turn), Some(Action::Dial));
    assert_eq!(tell(&mut export, 0, Event::Connected), Some(Action::Offer));
    assert_eq!(tell(&mut export, 0, Event::Accepted), None);
    assert_eq!(tell(&mut export, 0, Event::Kept), None);
    assert_eq!(tell(&mut export, 5, Event::Said(500)), None);
    assert_eq!(tell(&mut export, 6, Event::Poured), None, "too much is on its way");
    assert_eq!(tell(&mut export, 10, Event::Acked(400)), Some(Action::Pause));
    export
}

/// One whose target was asked to take the slots, at 20 ms.
fn taking() -> Export {
    let mut export = paused();
    assert_eq!(tell(&mut export, 11, Event::Said(520)), None);
    assert_eq!(tell(&mut export, 11, Event::Still), None);
    assert_eq!(tell(&mut export, 15, Event::Acked(500)), None);
    let take = Action::Take { valid_ms: 10 + 250 - 20 };
    assert_eq!(tell(&mut export, 20, Event::Acked(520)), Some(take));
    export
}

#[test]
fn a_move_ends_with_the_claim() {
    let mut export = taking();
    assert_eq!(tell(&mut export, 30, Event::Taken), None);
    assert!(export.is_paused(), "whoever wrote now would write to the old owner");
    assert_eq!(tell(&mut export, 31, Event::Claimed), Some(Action::End));
    assert_eq!((export.state, export.paused_for_ms), (State::Success, 21));
    assert_eq!(tell(&mut export, 32, Event::Lost("closed")), None);
    assert_eq!(export.state, State::Success);
}

#[test]
fn the_claim_may_be_heard_before_the_answer_or_without_it() {
    let mut export = taking();
    assert_eq!(tell(&mut export, 21, Event::Lost("closed")), None);
    assert!(export.is_paused());
    assert_eq!(tell(&mut export, 900, Event::Tick), None);
    assert_eq!(tell(&mut export, 1000, Event::Claimed), Some(Action::End));
    assert_eq!(export.state, State::Success);
}

#[test]
fn writes_go_on_when_no_claim_can_come_any_more() {
    let mut export = taking();
    tell(&mut export, 21, Event::Lost("closed"));
    assert_eq!(tell(&mut export, 1009, Event::Tick), None);
    assert_eq!(tell(&mut export, 1010, Event::Tick), Some(Action::End));
    assert_eq!((export.state, &*export.message), (State::Failed, "closed"));
    assert!(!export.is_paused());
}

#[test]
fn what_ends_before_the_slots_are_offered_for_taking_ends_at_once() {
    for event in [Event::Lost("x"), Event::Spoilt("x"), Event::Cancel] {
        let mut export = paused();
        assert_eq!(tell(&mut export, 12, event), Some(Action::End));
        assert!(export.state.is_over() && !export.is_paused());
    }
    for event in [Event::Lost("x"), Event::Spoilt("x"), Event::Cancel] {
        let mut export = taking();
        assert_eq!(tell(&mut export, 22, event), None, "it may be done already");
        assert!(export.state == State::Taking && export.is_paused());
    }
}

#[test]
fn a_busy_target_is_asked_again() {
    let mut export = export();
    tell(&mut export, 0, Event::Turn);
    tell(&mut export, 0, Event::Connected);
    let busy = Event::Refused { reason: "later", is_busy: true };
    assert_eq!(tell(&mut export, 1, busy), Some(Action::End));
    assert_eq!(export.state, State::Waiting);
    assert!(!export.wants_turn(100) && export.wants_turn(201));
    tell(&mut export, 201, Event::Turn);
    tell(&mut export, 201, Event::Connected);
    let no = Event::Refused { reason: "no", is_busy: false };
    assert_eq!(tell(&mut export, 202, no), Some(Action::End));
    assert_eq!((export.state, &*export.message), (State::Failed, "no"));
}

/// A target as it is told of and answers, by a clock of its own that runs a little wrong.
#[derive(Default)]
struct Target {
    answered_ms: Option<u64>,
    claimed_ms: Option<u64>,
}

/// What is on the line: when it comes, and what it is.
type Mail = (u64, Letter);

#[derive(Clone, PartialEq, Debug)]
enum Letter {
    Piece(u64),
    Ack(u64),
    Take(u64),
    Taken,
    Claim,
}

/// Whatever comes late or never, writes do not go on while the target may still claim: if it has
/// claimed, no write was taken at its source after that.
#[test]
fn there_are_never_two_owners() {
    let (mut moved, mut failed) = (0, 0);
    for seed in 0..20_000 {
        let mut prng = Prng::seeded(seed);
        let mut export = paused();
        let mut target = Target::default();
        let mut mail: Vec<Mail> = Vec::new();
        let (mut cut_ms, mut went_on_ms) = (u64::MAX, None);
        if prng.below(3) == 0 {
            cut_ms = 10 + prng.below(1200);
        }
        let longest = [5, 200, 1500][prng.below(3) as usize];
        let post = |prng: &mut Prng, mail: &mut Vec<Mail>, now: u64, letter: Letter| {
            // On one connection nothing overtakes; a claim comes by another one.
            let mut at = now + prng.below(longest);
            if letter != Letter::Claim {
                let last = mail.iter().filter(|(_, other)| *other != Letter::Claim).map(|m| m.0);
                at = at.max(last.max().unwrap_or(0));
            }
            if at < cut_ms || letter == Letter::Claim {
                mail.push((at, letter));
            }
        };
        tell(&mut export, 11, Event::Said(520));
        post(&mut prng, &mut mail, 11, Letter::Piece(520));
        tell(&mut export, 11, Event::Still);
        for now in 11..4000 {
            let due: Vec<Mail> = mail.extract_if(.., |(at, _)| *at <= now).collect();
            for (_, letter) in due {
                let mut action = None;
                match letter {
                    Letter::Piece(upto) => {
                        target.answered_ms = Some(now);
                        post(&mut prng, &mut mail, now, Letter::Ack(upto));
                    }
                    Letter::Take(valid_ms) => {
                        let since_ms = target.answered_ms.expect("it has answered");
                        if now <= since_ms + valid_ms {
                            target.claimed_ms = Some(now);
                            post(&mut prng, &mut mail, now, Letter::Taken);
                            post(&mut prng, &mut mail, now, Letter::Claim);
                        }
                    }
                    Letter::Ack(upto) => action = tell(&mut export, now, Event::Acked(upto)),
                    Letter::Taken => action = tell(&mut export, now, Event::Taken),
                    Letter::Claim => action = tell(&mut export, now, Event::Claimed),
                }
                if let Some(Action::Take { valid_ms }) = action {
                    post(&mut prng, &mut mail, now, Letter::Take(valid_ms));
                }
            }
            if now == cut_ms {
                tell(&mut export, now, Event::Lost("cut"));
            }
            tell(&mut export, now, Event::Tick);
            if export.state.is_over() && went_on_ms.is_none() {
                went_on_ms = Some(now);
            }
        }
        let went_on_ms = went_on_ms.expect("every move ends");
        if let Some(claimed_ms) = target.claimed_ms {
            assert!(claimed_ms <= went_on_ms, "seed {seed}: {claimed_ms} {went_on_ms}");
        }
        match export.state {
            State::Success => moved += 1,
            _ => failed += 1,
        }
    }
    assert!(moved > 5_000 && failed > 1_000, "{moved} {failed}");
}
