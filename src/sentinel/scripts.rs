//! Notification and reconfiguration scripts: a short queue, a few at once, tried again when they
//! fail for a reason that may pass.

use super::{Action, Level, Sentinel};
use std::collections::VecDeque;

const QUEUE_MAX: usize = 256;
const RUNNING_MAX: usize = 16;
const TRIES_MAX: u32 = 10;

/// How a script has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScriptEnd {
    Exit(i32),
    Signal(i32),
}

pub struct Script {
    pub job: u64,
    pub argv: Vec<String>,
    pub is_running: bool,
    pub pid: u32,
    /// When it started, or before which it is not tried again.
    pub at_ms: Option<u64>,
    pub tries: u32,
    is_killed: bool,
}

#[derive(Default)]
pub struct Scripts {
    pub queue: VecDeque<Script>,
    next: u64,
}

impl Scripts {
    pub fn running(&self) -> usize {
        self.queue.iter().filter(|script| script.is_running).count()
    }

    fn find(&mut self, job: u64) -> Option<&mut Script> {
        self.queue.iter_mut().find(|script| script.job == job)
    }
}

impl Sentinel {
    /// Has a script run. Where too many wait the oldest of them is dropped.
    pub(super) fn schedule(&mut self, argv: Vec<String>) {
        let queue = &mut self.scripts.queue;
        if queue.len() >= QUEUE_MAX
            && let Some(oldest) = queue.iter().position(|script| !script.is_running)
        {
            queue.remove(oldest);
        }
        self.scripts.next += 1;
        self.scripts.queue.push_back(Script {
            job: self.scripts.next,
            argv,
            is_running: false,
            pid: 0,
            at_ms: None,
            tries: 0,
            is_killed: false,
        });
    }

    /// Starts scripts that are due, and ends those that take too long.
    pub(super) fn run_scripts(&mut self) {
        let now_ms = self.now.mono_ms;
        let mut running = self.scripts.running();
        let mut late = Vec::new();
        for script in &mut self.scripts.queue {
            let has_come = script.at_ms.is_none_or(|at_ms| at_ms <= now_ms);
            if !script.is_running && has_come && running < RUNNING_MAX {
                running += 1;
                script.is_running = true;
                script.is_killed = false;
                script.at_ms = Some(now_ms);
                script.tries += 1;
                self.actions.push(Action::Run { job: script.job, argv: script.argv.clone() });
            }
            let elapsed_ms = now_ms.saturating_sub(script.at_ms.unwrap_or(now_ms));
            let is_late = script.is_running && elapsed_ms > self.periods.script_runtime_ms;
            if is_late && !script.is_killed {
                script.is_killed = true;
                late.push((script.job, format!("{} {}", script.argv[0], script.pid)));
            }
        }
        for (job, text) in late {
            self.tell(Level::Warning, "-script-timeout", None, text);
            self.actions.push(Action::Kill { job });
        }
    }

    pub(super) fn note_script(&mut self, job: u64, pid: u32) {
        if let Some(script) = self.scripts.find(job) {
            script.pid = pid;
            self.tell(Level::Debug, "+script-child", None, pid.to_string());
        }
    }

    pub(super) fn end_script(&mut self, job: u64, end: ScriptEnd) {
        let retry_ms = self.periods.script_retry_ms;
        let now_ms = self.now.mono_ms;
        let running = self.scripts.find(job).filter(|script| script.is_running);
        let Some(script) = running else { return };
        let (code, signal) = match end {
            ScriptEnd::Exit(code) => (code, 0),
            ScriptEnd::Signal(signal) => (0, signal),
        };
        let (pid, name) = (script.pid, script.argv[0].clone());
        let may_pass = (signal != 0 || code == 1) && script.tries < TRIES_MAX;
        if may_pass {
            script.is_running = false;
            script.pid = 0;
            let delay_ms = retry_ms.saturating_mul(1 << (script.tries - 1));
            script.at_ms = Some(now_ms.saturating_add(delay_ms));
        } else {
            self.scripts.queue.retain(|script| script.job != job);
        }
        self.tell(Level::Debug, "-script-child", None, format!("{pid} {code} {signal}"));
        if !may_pass && (signal != 0 || code != 0) {
            self.tell(Level::Warning, "-script-error", None, format!("{name} {signal} {code}"));
        }
    }
}
