//! Counters of the server: per command, per error code, per connection event, and the samples
//! from which INFO's instantaneous rates come.

use super::latency::Histograms;
use super::tls::Handshakes;
use super::traffic::Totals;
use crate::command::CommandId;
use hashbrown::HashMap;
use std::hash::RandomState;

/// What INFO commandstats shows of one command.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct CommandStats {
    pub calls: u64,
    pub elapsed_ns: u64,
    /// Refused before they ran.
    pub rejected: u64,
    /// Ran and answered with an error.
    pub failed: u64,
}

/// Distinct error codes are counted up to this many: the codes of scripts come from strangers.
const ERROR_CODES_MAX: usize = 128;
/// All others.
const OTHER_CODES: &[u8] = b"ERRORSTATS_OVERFLOW";
const SAMPLES: usize = 16;

/// A rate over the last samples of a growing counter.
#[derive(Clone, Copy, Default)]
pub struct Rate {
    last_total: u64,
    last_ms: u64,
    per_second: [u64; SAMPLES],
    next: usize,
}

impl Rate {
    pub fn sample(&mut self, total: u64, mono_ms: u64) {
        let elapsed_ms = mono_ms.saturating_sub(self.last_ms);
        if elapsed_ms > 0 && self.last_ms > 0 {
            let grown = u128::from(total.saturating_sub(self.last_total)) * 1000;
            let rate = u64::try_from(grown / u128::from(elapsed_ms)).unwrap_or(u64::MAX);
            self.per_second[self.next % SAMPLES] = rate;
            self.next += 1;
        }
        self.last_total = total;
        self.last_ms = mono_ms;
    }

    pub fn per_second(&self) -> u64 {
        let sum: u128 = self.per_second.iter().map(|rate| u128::from(*rate)).sum();
        u64::try_from(sum / SAMPLES as u128).unwrap_or(u64::MAX)
    }
}

/// Everything CONFIG RESETSTAT sets back.
#[derive(Default)]
pub struct Stats {
    commands: Vec<CommandStats>,
    pub histograms: Histograms,
    errors: HashMap<Box<[u8]>, u64, RandomState>,
    pub commands_total: u64,
    pub errors_total: u64,
    pub connections_total: u64,
    pub connections_rejected: u64,
    pub handshakes: Handshakes,
    pub query_limit_disconnections: u64,
    pub output_limit_disconnections: u64,
    pub evicted_clients: u64,
    pub sync_full: u64,
    pub sync_partial_ok: u64,
    pub sync_partial_err: u64,
    /// What came from the primary, and what went to replicas.
    pub replication_input_bytes: u64,
    pub replication_output_bytes: u64,
    /// Errors that commands of the primary or of the AOF ended with.
    pub unexpected_error_replies: u64,
    /// What users were refused, by the reason.
    pub access_denied_auth: u64,
    pub access_denied_command: u64,
    pub access_denied_key: u64,
    pub access_denied_channel: u64,
    pub access_denied_database: u64,
    pub access_denied_certificate: u64,
    pub expire_cycle_us: u64,
    pub lazy_freed_objects: u64,
    pub turns_total: u64,
    pub turn_us_total: u64,
    pub command_ns_total: u64,
    pub cron_us_total: u64,
    pub turn_us_max: u64,
    pub turn_commands_max: u64,
    pub operations: Rate,
    pub input: Rate,
    pub output: Rate,
    pub turns: Rate,
    pub turn_time: Rate,
}

impl Stats {
    /// Back to zero, but for what goes on counting.
    pub fn reset(&mut self) {
        let freed = self.lazy_freed_objects;
        *self = Stats::new(self.commands.len());
        self.lazy_freed_objects = freed;
    }

    pub fn new(commands: usize) -> Stats {
        Stats { commands: vec![CommandStats::default(); commands], ..Stats::default() }
    }

    pub fn called(&mut self, id: CommandId, elapsed_ns: u64, failed: bool) {
        self.commands_total += 1;
        self.command_ns_total += elapsed_ns;
        let row = &mut self.commands[id.index()];
        row.calls += 1;
        row.elapsed_ns += elapsed_ns;
        row.failed += u64::from(failed);
    }

    /// A call that has been counted failed after all.
    pub fn failed(&mut self, id: CommandId) {
        self.commands[id.index()].failed += 1;
    }

    pub fn rejected(&mut self, id: CommandId) {
        self.commands[id.index()].rejected += 1;
    }

    /// Counts an error reply by its code, the first word of its text.
    pub fn error(&mut self, text: &[u8]) {
        self.count_error(text, usize::MAX);
    }

    /// The same with an error whose text a script has made: when there are many codes already, new
    /// ones count as one.
    pub fn script_error(&mut self, text: &[u8]) {
        self.count_error(text, ERROR_CODES_MAX);
    }

    fn count_error(&mut self, text: &[u8], codes_max: usize) {
        self.errors_total += 1;
        let code = text.split(|b| *b == b' ').next().unwrap_or(text);
        let is_known = self.errors.contains_key(code);
        let code = if is_known || self.errors.len() < codes_max { code } else { OTHER_CODES };
        match self.errors.get_mut(code) {
            Some(count) => *count += 1,
            None => _ = self.errors.insert(code.into(), 1),
        }
    }

    pub fn command(&self, id: CommandId) -> CommandStats {
        self.commands[id.index()]
    }

    /// The error codes seen, in alphabetical order, with their counts.
    pub fn errors(&self) -> Vec<(&[u8], u64)> {
        let mut all: Vec<_> = self.errors.iter().map(|(code, n)| (&**code, *n)).collect();
        all.sort_unstable();
        all
    }

    /// A turn ended that took so long; `commands_before` had run before it.
    pub fn turn_ended(&mut self, elapsed_us: u64, commands_before: u64) {
        self.turns_total += 1;
        self.turn_us_total += elapsed_us;
        self.turn_us_max = self.turn_us_max.max(elapsed_us);
        // CONFIG RESETSTAT may have been among them.
        let commands = self.commands_total.saturating_sub(commands_before);
        self.turn_commands_max = self.turn_commands_max.max(commands);
    }

    /// Takes the samples from which the rates are computed.
    pub fn sample(&mut self, traffic: Totals, mono_ms: u64) {
        self.operations.sample(self.commands_total, mono_ms);
        self.input.sample(traffic.read_bytes, mono_ms);
        self.output.sample(traffic.written_bytes, mono_ms);
        self.turns.sample(self.turns_total, mono_ms);
        self.turn_time.sample(self.turn_us_total, mono_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_code_up_to_a_limit() {
        let mut stats = Stats::new(0);
        stats.error(b"ERR one");
        stats.error(b"ERR two");
        stats.error(b"WRONGTYPE no");
        assert_eq!(stats.errors(), vec![(&b"ERR"[..], 2), (&b"WRONGTYPE"[..], 1)]);
        for n in 0..1000 {
            stats.script_error(format!("E{n} x").as_bytes());
        }
        assert_eq!(stats.errors().len(), ERROR_CODES_MAX + 1);
        stats.error(b"NEW one");
        stats.script_error(b"E5 y");
        let counts = stats.errors();
        let count = |code: &[u8]| counts.iter().find(|(own, _)| *own == code).map(|(_, n)| *n);
        let others = 1000 - (ERROR_CODES_MAX as u64 - 2);
        let found = [count(OTHER_CODES), count(b"NEW"), count(b"E5"), count(b"E999")];
        assert_eq!(found, [Some(others), Some(1), Some(2), None]);
    }

    #[test]
    fn a_rate_is_the_mean_of_its_samples() {
        let mut rate = Rate::default();
        for n in 0..=16u64 {
            rate.sample(n * 100, 1 + n * 100);
        }
        assert_eq!(rate.per_second(), 1000);
    }
}
