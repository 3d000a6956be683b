//! Waking a thread only when it sleeps.
//!
//! To wake a sleeping thread is a system call, and more than all the rest of handing something
//! over. So whoever has put something where another thread looks rings its bell, which wakes the
//! thread only if it had gone to sleep; one that is awake looks before it does. A single word says
//! how things stand, and it is only ever exchanged, so that no ring is lost: either the ringer
//! finds the sleeper, or who is about to sleep finds the ring.
//!
//! ```text
//! awake --ring--> rung --answer--> awake
//! awake --fall_asleep--> asleep --ring--> rung, and the thread is woken
//! ```

use super::sync::atomic::{AtomicU8, Ordering};

const AWAKE: u8 = 0;
const RUNG: u8 = 1;
const ASLEEP: u8 = 2;

/// The bell of one thread. Anybody rings it; the other methods are for the thread itself.
pub struct Bell<W> {
    state: AtomicU8,
    wake: W,
}

impl<W: Fn()> Bell<W> {
    /// `wake` has the thread look; it is called on the thread of the ringer.
    pub fn new(wake: W) -> Bell<W> {
        Bell { state: AtomicU8::new(AWAKE), wake }
    }

    /// Something has been put where the thread looks.
    pub fn ring(&self) {
        // An exchange even if it has been rung already: what was put there now must be seen by
        // whoever answers.
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            (self.wake)();
        }
    }

    /// Takes the ring, if there was one: the thread looks now.
    pub fn answer(&self) -> bool {
        self.has_rung() && self.state.swap(AWAKE, Ordering::AcqRel) == RUNG
    }

    /// Whether there was a ring that nobody has answered.
    pub fn has_rung(&self) -> bool {
        self.state.load(Ordering::Relaxed) == RUNG
    }

    /// The thread is about to sleep. If there was a ring it is woken at once.
    pub fn fall_asleep(&self) {
        let slept = self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
        if slept.is_err() {
            (self.wake)();
        }
    }

    /// The thread has woken up, whoever has woken it.
    pub fn get_up(&self) {
        let _ = self.state.compare_exchange(ASLEEP, AWAKE, Ordering::AcqRel, Ordering::Relaxed);
    }
}
