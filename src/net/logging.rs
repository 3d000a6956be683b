//! Log lines in Redis's format: `pid:role date level message`.
//!
//! The lines go through `tracing`, so that the rest of the crate only names a level and a text.
//! Redis's four levels map onto five of tracing's: debug is TRACE, verbose is DEBUG, notice is
//! INFO, and warning is WARN and ERROR.

use crate::config::{Config, LogLevel};
use jiff::ZonedDateTime;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};

static SETTINGS: Mutex<Settings> =
    Mutex::new(Settings { role: 'M', level: LevelFilter::INFO, file: None });

struct Settings {
    /// The letter behind the process id: M, S of a replica, or X of a Sentinel.
    role: char,
    level: LevelFilter,
    file: Option<PathBuf>,
}

/// Makes this the process's log; called once, before anything is logged.
pub fn start(config: &Config) -> io::Result<()> {
    reconfigure(config);
    if let Some(path) = &settings().file {
        // A log file that cannot be written is known at the start, not at the first line.
        OpenOptions::new().append(true).create(true).open(path)?;
    }
    tracing::subscriber::set_global_default(Log).map_err(io::Error::other)
}

/// The lines are a Sentinel's from here on.
pub fn be_sentinel() {
    settings().role = 'X';
}

/// Follows a change of `loglevel` or `logfile`.
pub fn reconfigure(config: &Config) {
    let level = match config.loglevel {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Nothing => LevelFilter::OFF,
    };
    let file = (!config.logfile.is_empty()).then(|| config.logfile.as_path().to_owned());
    let mut settings = settings();
    let role = settings.role;
    *settings = Settings { role, level, file };
    drop(settings);
    tracing::callsite::rebuild_interest_cache();
}

fn settings() -> std::sync::MutexGuard<'static, Settings> {
    SETTINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a line of the log whatever the level, for the panic hook.
pub fn write_line(level: Level, message: &str) {
    let line = format_line(level, message);
    let file = settings().file.clone();
    // There is nowhere to report that the log itself cannot be written.
    let _ = match file {
        None => io::stdout().lock().write_all(line.as_bytes()),
        Some(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes())),
    };
}

/// The server is another one's replica from now on, or nobody's.
pub fn set_role(is_replica: bool) {
    let role = &mut settings().role;
    if *role != 'X' {
        *role = if is_replica { 'S' } else { 'M' };
    }
}

fn format_line(level: Level, message: &str) -> String {
    let mark = match level {
        Level::TRACE => '.',
        Level::DEBUG => '-',
        Level::INFO => '*',
        Level::WARN | Level::ERROR => '#',
    };
    let date = ZonedDateTime::now().strftime(DATE_FORMAT);
    format!("{}:{} {date} {mark} {message}\n", std::process::id(), settings().role)
}

/// `Sat Nov 21 10:04:54 2026`, as C's ctime has it.
pub fn date_of(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(moment) => {
            let here = moment.to_zoned_datetime(jiff::tz::TimeZone::system());
            here.strftime("%a %b %e %H:%M:%S %Y").to_string()
        }
        Err(_) => unix_ms.to_string(),
    }
}

/// `21 Nov 2026 10:04:54.123`, in the time zone of the system (TZ, /etc/localtime).
const DATE_FORMAT: &str = "%d %b %Y %H:%M:%S.%3f";

struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= settings().level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(settings().level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        write_line(*event.metadata().level(), &message.0);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_printed_as_redis_does() {
        let moment = jiff::Timestamp::from_millisecond(1_795_255_494_007).expect("in range");
        let there = moment.to_zoned_datetime(jiff::tz::TimeZone::fixed(jiff::tz::offset(-3)));
        assert_eq!(there.strftime(DATE_FORMAT).to_string(), "21 Nov 2026 07:04:54.007");
    }
}
