//! How much of a processor the saving thread gets.
//!
//! Where a save and the executor want the same processor, the executor must have it at once: with
//! equal rights, and even with the lowest niceness, it waits for the end of the other's time slice,
//! which is milliseconds. Linux's idle policy has no such slices. What it has is hunger: beside
//! threads that never rest the saving thread gets next to nothing, and a snapshot that is held long
//! holds much memory. So the executor looks whether the thread starves ([`Hunger`]) and rests for a
//! tenth of the time if it does.
#![allow(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the executor rests for a starving thread, each time that the cron runs.
pub const REST: Duration = Duration::from_millis(10);

/// A thread is watched for so long before it is said to starve.
const WATCH: Duration = Duration::from_secs(1);
/// It starves if it has had a smaller part of that time, in percent, though it could run.
const FED_PERCENT: u128 = 30;

/// Lets all other threads go first. Where the system refuses it, this thread is as good as others.
pub fn yield_to_others() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: process 0 is the calling thread, and the call reads the parameters it is given a
    // pointer to, which live until it returns.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
}

/// Where the system tells of the calling thread.
pub fn own_directory() -> Option<PathBuf> {
    // The link leads to the thread that reads it, so it is followed here.
    Some(PathBuf::from("/proc").join(fs::read_link("/proc/thread-self").ok()?))
}

/// Whether a thread gets too little of the processors.
pub struct Hunger {
    directory: PathBuf,
    /// Since when it is watched, and the time on a processor that it had had then.
    watched: Option<(Instant, u128)>,
    starves: bool,
}

impl Hunger {
    pub fn new(directory: PathBuf) -> Hunger {
        Hunger { directory, watched: None, starves: false }
    }

    /// The thread has nothing to do.
    pub fn rest(&mut self) {
        self.watched = None;
        self.starves = false;
    }

    /// Whether the thread starves as of the last full watch.
    pub fn starves(&mut self) -> bool {
        let Some((ran_ns, is_runnable)) = self.figures() else { return false };
        let (since, ran_before_ns) = *self.watched.get_or_insert((Instant::now(), ran_ns));
        let watched_ns = since.elapsed().as_nanos();
        if watched_ns >= WATCH.as_nanos() {
            let had_ns = ran_ns.saturating_sub(ran_before_ns);
            self.starves = is_runnable && had_ns * 100 < watched_ns * FED_PERCENT;
            self.watched = Some((Instant::now(), ran_ns));
        }
        self.starves
    }

    /// The thread's time on a processor, and whether it runs or would.
    fn figures(&self) -> Option<(u128, bool)> {
        let schedule = fs::read_to_string(self.directory.join("schedstat")).ok()?;
        let stat = fs::read_to_string(self.directory.join("stat")).ok()?;
        let ran_ns = schedule.split_whitespace().next()?.parse().ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        Some((ran_ns, fields.trim_start().starts_with('R')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// The scheduling policy of this thread, as the system prints it.
    fn policy() -> Option<String> {
        let stat = fs::read_to_string("/proc/thread-self/stat").ok()?;
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

    #[test]
    fn who_has_just_begun_does_not_starve() {
        let Some(directory) = own_directory() else { return };
        let mut hunger = Hunger::new(directory);
        // Who has just been born may not have been counted a nanosecond yet, but runs.
        assert!(hunger.figures().is_some_and(|(_, is_runnable)| is_runnable));
        assert!(!hunger.starves());
        hunger.rest();
        assert!(!hunger.starves());
    }
}
