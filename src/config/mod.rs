//! Configuration: one row a directive.
//!
//! The tour: `table` holds the rows; `directive` is what a row becomes and the macro that makes
//! [`Config`] out of rows; `value`, `choice`, `special` and `events` are the types fields can
//! have; `check` what some texts must look like; `words` splits and quotes lines; `file` reads
//! configuration files and `argv` the command line; `rewrite` is CONFIG REWRITE; `example`
//! generates `redis.conf.example`.
//!
//! [`Config`] is plain data: every room reads its fields, only the engine calls [`Config::set`].
//! Nothing here acts on the server. A change is described (which directives changed, what
//! [`Apply`] they ask for, what the configuration was before), and the engine carries it out or
//! puts the old configuration back. The alternative, rows with callbacks into the server, would
//! turn the dependency arrow round and could not be tested without a server.

mod argv;
mod check;
mod choice;
mod directive;
mod events;
mod example;
mod file;
mod glob;
mod rewrite;
mod special;
mod table;
mod value;
mod words;

use std::fmt;
use std::sync::LazyLock;

pub use choice::{
    AppendFsync, Choice, DisklessLoad, EndpointType, EvictionPolicy, LogFormat, LogLevel,
    LogTimestamp, OomScoreAdj, PropagationError, ProtectedAction, PubsubDefault, SanitizeDump,
    ShutdownOptions, Supervised, SyslogFacility, TlsAuthClients,
};
pub use directive::{Apply, Directive, Flags};
pub use events::EventClasses;
pub use example::example;
pub use file::{Disk, FileOnly, Host, LoadError, Loaded, Origin, Statement, load, os_reason};
pub use rewrite::Extent;
pub use special::{
    BindAddresses, OomScores, OutputLimit, OutputLimits, Percentiles, PrimaryAddress, SavePoint,
    SavePoints, WorkingDirectory,
};
pub use table::{Config, DIRECTIVES};
pub use value::{Budget, Kind, Reason, Source, Text};

/// The Redis version whose configuration this is, as shown in error messages.
pub const REDIS_VERSION: &str = "7.2.4";

static DEFAULTS: LazyLock<Config> = LazyLock::new(Config::default);

impl Directive {
    /// Looks a directive up by name or alias, whatever the case.
    pub fn find(name: &[u8]) -> Option<&'static Directive> {
        find(name).map(|(directive, _)| directive)
    }

    /// The default as CONFIG GET shows it.
    pub fn default_text(&self) -> Vec<u8> {
        self.print(&DEFAULTS)
    }
}

/// The directive and that one of its names that was asked for.
fn find(name: &[u8]) -> Option<(&'static Directive, &'static str)> {
    DIRECTIVES.iter().find_map(|directive| {
        let names = [Some(directive.name), directive.alias];
        let mut names = names.into_iter().flatten();
        let found = names.find(|known| name.eq_ignore_ascii_case(known.as_bytes()))?;
        Some((directive, found))
    })
}

/// Who asks for a change, as far as permission is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetBy {
    /// A data set is being loaded.
    pub loading: bool,
    /// The client is connected over loopback or a Unix socket.
    pub local: bool,
}

/// What CONFIG SET changed.
#[derive(Debug)]
pub struct Changed {
    /// The directives to apply, in the order they were given.
    pub directives: Vec<&'static Directive>,
    /// What to go back to if applying fails.
    pub previous: Config,
}

/// Why CONFIG SET changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// There is no such directive; the name as it was written.
    Unknown(Vec<u8>),
    /// The directive cannot take the value, or cannot change at all.
    Refused { name: Vec<u8>, reason: Reason },
    /// It cannot change while a data set is being loaded.
    Loading,
}

impl SetError {
    /// What the engine answers when applying a directive failed.
    pub fn not_applied(directive: &Directive, reason: impl Into<Reason>) -> Self {
        Self::Refused { name: directive.name.into(), reason: reason.into() }
    }

    /// The error line with its code, without the dash and the line end of the protocol.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut line = match self {
            Self::Unknown(name) => [
                b"ERR Unknown option or number of arguments for CONFIG SET - '".as_slice(),
                name,
                b"'",
            ]
            .concat(),
            Self::Refused { name, reason } => [
                b"ERR CONFIG SET failed (possibly related to argument '".as_slice(),
                name,
                b"') - ",
                reason.as_bytes(),
            ]
            .concat(),
            Self::Loading => b"LOADING Redis is loading the dataset in memory".to_vec(),
        };
        for byte in &mut line {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        line
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_wire()))
    }
}

impl std::error::Error for SetError {}

impl Config {
    /// CONFIG GET: names and values of what the patterns match, each once. A plain name is
    /// answered under the spelling it was asked by, also if it is an alias or hidden; a pattern
    /// matches names and aliases, but nothing hidden.
    pub fn matching(&self, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |name: &[u8], directive: &Directive| {
            if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                found.push((name.to_vec(), directive.print(self)));
            }
        };
        for pattern in patterns {
            if !pattern.iter().any(|byte| b"[*?".contains(byte)) {
                if let Some(directive) = Directive::find(pattern) {
                    add(pattern, directive);
                }
                continue;
            }
            for directive in DIRECTIVES.iter().filter(|directive| !directive.is_hidden()) {
                for name in [Some(directive.name), directive.alias].into_iter().flatten() {
                    if glob::matches(pattern, name.as_bytes()) {
                        add(name.as_bytes(), directive);
                    }
                }
            }
        }
        found
    }

    /// CONFIG SET: all of the pairs or none.
    pub fn set(&mut self, pairs: &[(&[u8], &[u8])], by: SetBy) -> Result<Changed, SetError> {
        let targets = self.targets(pairs, by)?;
        let mut next = self.clone();
        let mut directives = Vec::new();
        for ((directive, name), (_, value)) in targets.into_iter().zip(pairs) {
            let args = if directive.multi { spaced(value) } else { vec![*value] };
            (directive.assign)(&mut next, &args, Source::Command)
                .map_err(|reason| SetError::Refused { name: name.into(), reason })?;
            if directive.is_volatile() || !(directive.equal)(self, &next) {
                directives.push(directive);
            }
        }
        let previous = std::mem::replace(self, next);
        Ok(Changed { directives, previous })
    }

    /// The directives that are to change, if all of them exist and may change.
    fn targets(
        &self,
        pairs: &[(&[u8], &[u8])],
        by: SetBy,
    ) -> Result<Vec<(&'static Directive, &'static str)>, SetError> {
        let mut targets: Vec<(&'static Directive, &'static str)> = Vec::new();
        for (written, _) in pairs {
            let refused = |reason: &'static str| {
                Err(SetError::Refused { name: written.to_vec(), reason: reason.into() })
            };
            let Some((directive, name)) = find(written) else {
                return Err(SetError::Unknown(written.to_vec()));
            };
            if directive.is_fixed() {
                return refused("can't set immutable config");
            }
            if directive.is_protected() && !self.enable_protected_configs.allows(by.local) {
                return refused("can't set protected config");
            }
            if by.loading && directive.is_denied_while_loading() {
                return Err(SetError::Loading);
            }
            if targets.iter().any(|(_, known)| *known == name) {
                return refused("duplicate parameter");
            }
            targets.push((directive, name));
        }
        Ok(targets)
    }
}

/// A value split at each single space, as CONFIG SET does it: no quotes, and two spaces make an
/// empty argument.
fn spaced(value: &[u8]) -> Vec<&[u8]> {
    if value.is_empty() { Vec::new() } else { value.split(|byte| *byte == b' ').collect() }
}
