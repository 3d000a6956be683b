//! How much of a processor the saving thread asks for.
//!
//! Where a save and the executor want the same processor, the executor must have it at once: with
//! equal rights, and even with the lowest niceness, it waits for the end of the other's time slice,
//! which is milliseconds. Linux's idle policy has no such slices. What it has is hunger: beside an
//! executor that never rests, on a single processor, the thread gets next to nothing. Who drives
//! the executor has it rest for a twentieth of the time then (see [`REST`]).
#![allow(unsafe_code)]

use std::thread;
use std::time::Duration;

/// A save that shares the only processor and has lasted for so long has the executor rest.
pub const REST_AFTER: Duration = Duration::from_secs(10);
/// How long the executor rests then, each time that the cron runs.
pub const REST: Duration = Duration::from_millis(5);

/// Lets all other threads go first. Where the system refuses it, this thread is as good as others.
pub fn yield_to_others() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: process 0 is the calling thread, and the call reads the parameters it is given a
    // pointer to, which live until it returns.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
}

/// Whether all threads share one processor.
pub fn has_one_processor() -> bool {
    thread::available_parallelism().is_ok_and(|count| count.get() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scheduling policy of this thread, as the system prints it.
    fn policy() -> Option<String> {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        // The third field comes behind the name, the policy is the forty-first.
        fields.split_whitespace().nth(41 - 3).map(str::to_owned)
    }

    #[test]
    fn only_the_thread_that_asks_for_it_yields() {
        let before = policy();
        let other = thread::spawn(|| {
            yield_to_others();
            policy()
        });
        let inside = other.join().expect("the thread ends");
        assert_eq!(inside, before.as_ref().map(|_| libc::SCHED_IDLE.to_string()));
        assert_eq!(policy(), before);
    }
}
