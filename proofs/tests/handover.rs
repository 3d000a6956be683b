//! Nothing that is handed over is left lying while the one for whom it is sleeps.
//!
//! loom runs each model through all orders that scheduler and memory allow, within a bound on how
//! often a thread is interrupted. A thread that sleeps for good is a deadlock, which loom reports.
//! The models after the sound ones run on ground that lacks something, and must fail.

#![cfg(loom)]

use loom::model::Builder;
use loom::sync::Notify;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::sync::Arc;

/// So often a thread may be interrupted where it does not wait.
const INTERRUPTIONS_MAX: usize = 3;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(INTERRUPTIONS_MAX);
    builder.check(model);
}

/// The models on one ground: they differ in nothing but the atomics of `bell` and `mail`.
macro_rules! bell_models {
    ($ground:ident) => {
        use super::*;
        use rufous_proofs::$ground::bell::Bell;

        pub type Wake = Box<dyn Fn() + Send + Sync>;

        /// A bell, and what its thread sleeps on, as its runtime does.
        pub fn bell() -> (Arc<Bell<Wake>>, Arc<Notify>) {
            let notify = Arc::new(Notify::new());
            let woken = Arc::clone(&notify);
            (Arc::new(Bell::new(Box::new(move || woken.notify()) as Wake)), notify)
        }

        pub fn sleep(bell: &Bell<Wake>, notify: &Notify) {
            bell.fall_asleep();
            notify.wait();
            bell.get_up();
        }

        /// Each ringer puts something down and rings; the thread looks when it was rung for, and
        /// sleeps otherwise.
        pub fn ringers(count: usize) {
            check(move || {
                let (bell, notify) = bell();
                let things: Vec<_> = (0..count).map(|_| Arc::new(AtomicBool::new(false))).collect();
                for thing in &things {
                    let (bell, thing) = (Arc::clone(&bell), Arc::clone(thing));
                    thread::spawn(move || {
                        thing.store(true, Ordering::Relaxed);
                        bell.ring();
                    });
                }
                let mut found = 0;
                while found < count {
                    if bell.answer() {
                        let is_there = |thing: &&Arc<AtomicBool>| thing.load(Ordering::Relaxed);
                        found = things.iter().filter(is_there).count();
                    } else {
                        sleep(&bell, &notify);
                    }
                }
            });
        }
    };
}

macro_rules! mail_models {
    ($ground:ident) => {
        bell_models!($ground);
        use rufous_proofs::$ground::mail::pair_for;

        /// The sender hands over batches of this length through a ring of `capacity`, and then
        /// waits until all has gone; the receiver takes them.
        pub fn batches(capacity: usize, lengths: &'static [usize]) {
            check(move || {
                let ((here, sender_sleeps), (there, receiver_sleeps)) = (bell(), bell());
                let (mut sender, mut receiver) = pair_for(capacity, &here, &there);
                let total: usize = lengths.iter().sum();
                let own = Arc::clone(&here);
                thread::spawn(move || {
                    let mut things = 0..total;
                    for length in lengths {
                        things.by_ref().take(*length).for_each(|thing| sender.push(thing));
                        sender.send();
                    }
                    while !sender.is_empty() {
                        if own.answer() {
                            sender.send();
                        } else {
                            sleep(&own, &sender_sleeps);
                        }
                    }
                });
                let mut taken = Vec::new();
                while taken.len() < total {
                    if there.answer() {
                        receiver.take(&mut taken);
                    } else {
                        sleep(&there, &receiver_sleeps);
                    }
                }
                assert!(taken.into_iter().eq(0..total));
            });
        }

        /// Both sides send and receive, each with the one bell that it has, as the executor and a
        /// thread do.
        pub fn to_and_fro(capacity: usize, count: usize) {
            check(move || {
                let ((here, here_sleeps), (there, there_sleeps)) = (bell(), bell());
                let (mut orders, mut ordered) = pair_for(capacity, &here, &there);
                let (mut reports, mut reported) = pair_for(capacity, &there, &here);
                let bell = Arc::clone(&there);
                thread::spawn(move || {
                    let (mut taken, mut answered) = (Vec::new(), 0);
                    while answered < count || !reports.is_empty() {
                        if !bell.answer() {
                            sleep(&bell, &there_sleeps);
                            continue;
                        }
                        ordered.take(&mut taken);
                        answered += taken.len();
                        taken.drain(..).for_each(|order: usize| reports.push(order));
                        reports.send();
                    }
                });
                (0..count).for_each(|order| orders.push(order));
                orders.send();
                let mut taken = Vec::new();
                while taken.len() < count {
                    if here.answer() {
                        reported.take(&mut taken);
                        orders.send();
                    } else {
                        sleep(&here, &here_sleeps);
                    }
                }
                assert!(taken.into_iter().eq(0..count));
            });
        }
    };
}

mod sound {
    mail_models!(sound);

    #[test]
    fn no_ring_is_lost() {
        ringers(1);
        ringers(2);
    }

    #[test]
    fn what_fits_arrives() {
        batches(2, &[1, 1]);
    }

    #[test]
    fn what_does_not_fit_arrives_when_there_is_room() {
        batches(1, &[2]);
        batches(1, &[1, 1]);
        batches(1, &[1, 2]);
        batches(2, &[3, 1]);
    }

    #[test]
    fn two_sides_of_which_none_has_room_wake_each_other() {
        to_and_fro(1, 2);
    }
}

#[expect(dead_code, reason = "what needs no fence is not asked again")]
mod unfenced {
    mail_models!(unfenced);

    #[test]
    #[should_panic(expected = "deadlock")]
    fn the_models_find_that_room_is_not_seen() {
        batches(1, &[1, 1]);
    }
}

mod unexchanged {
    bell_models!(unexchanged);

    #[test]
    #[should_panic(expected = "deadlock")]
    fn the_models_find_a_lost_ring() {
        ringers(2);
    }
}

mod relaxed {
    bell_models!(relaxed);

    #[test]
    #[should_panic(expected = "deadlock")]
    fn the_models_find_that_something_is_not_seen() {
        ringers(1);
    }
}
