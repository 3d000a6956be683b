//! Configuration: one row a directive.
//!
//! The tour: `table` holds the rows; `directive` is what a row becomes and the macro that makes
//! [`Config`] out of rows; `value`, `choice`, `special` and `events` are the types fields can
//! have; `check` what some texts must look like; `file` reads configuration files, `argv` the
//! command line, and `host` is what they need of the system; `rewrite` is CONFIG REWRITE, with
//! `quote` for its words; `example` generates `redis.conf.example`.
//!
//! [`Config`] is plain data: every room reads its fields, only the engine calls [`Config::set`].
//! Nothing here acts on the server. A change is described (which directives changed, what
//! [`Apply`] they ask for, what the configuration was before), and CONFIG SET carries it out or
//! puts the old configuration back: it matches on every `Apply`, so that none can be named that
//! nobody does. The alternative, rows with callbacks into the server, would turn the dependency
//! arrow round and could not be tested without a server.

mod argv;
mod check;
mod choice;
pub mod commands;
mod directive;
mod events;
mod example;
mod file;
mod host;
pub mod quote;
mod rewrite;
mod special;
mod table;
mod value;

use std::fmt;
use std::sync::LazyLock;

use crate::structs::glob::{self, Case};

pub use choice::{
    AppendFsync, Choice, DisklessLoad, EndpointType, EvictionPolicy, LogFormat, LogLevel,
    LogTimestamp, OomScoreAdj, PropagationError, ProtectedAction, PubsubDefault, SanitizeDump,
    ShutdownOptions, Supervised, SyslogFacility, TlsAuthClients, TlsUser,
};
pub use directive::{Apply, Directive, Flags};
pub use events::EventClasses;
pub use example::example;
pub use file::{FileOnly, LoadError, Loaded, Mode, Origin, Statement, load, load_as};
pub use host::{Disk, Host, os_reason};
pub use rewrite::{Extent, Sentences};
pub use special::{
    BindAddresses, OomScores, OutputLimit, OutputLimits, Percentiles, PrimaryAddress, SavePoint,
    SavePoints, ThreadCount, WorkingDirectory,
};
pub use table::{Config, DIRECTIVES};
pub use value::bytes as parse_size;
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
    /// Whether TLS is spoken anywhere, so that certificates and keys are needed.
    pub fn uses_tls(&self) -> bool {
        let is_linked = self.tls_replication || self.tls_cluster;
        self.tls_port != 0 || is_linked || (self.metrics_tls && self.metrics_port != 0)
    }

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
                    if glob::matches(pattern, name.as_bytes(), Case::Insensitive) {
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const BY: SetBy = SetBy { loading: false, local: false };

    fn set(config: &mut Config, pairs: &[(&str, &str)]) -> Result<Changed, String> {
        let pairs: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        config.set(&pairs, BY).map_err(|error| error.to_string())
    }

    fn names(config: &Config, patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<&[u8]> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
        let found = config.matching(&patterns).into_iter();
        found.map(|(name, _)| String::from_utf8(name).expect("names are ASCII")).collect()
    }

    #[test]
    fn names_are_unique_lower_case_and_name_their_field() {
        let mut known = HashSet::new();
        for directive in DIRECTIVES {
            for name in [Some(directive.name), directive.alias].into_iter().flatten() {
                assert!(known.insert(name), "{name} twice");
                assert!(name.bytes().all(|byte| b"-_".contains(&byte)
                    || byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()));
            }
            assert_eq!(directive.field, directive.name.replace('-', "_"));
        }
    }

    #[test]
    fn every_row_has_a_sentence() {
        for directive in DIRECTIVES {
            let doc = directive.doc;
            assert!(doc.ends_with('.') && doc.len() <= 95, "{}: {doc}", directive.name);
            assert!(doc.starts_with(|first: char| first.is_ascii_uppercase()), "{doc}");
        }
    }

    #[test]
    fn bounds_fit_their_fields() {
        for directive in DIRECTIVES {
            let (min, max) = match directive.kind() {
                Kind::Integer { min, max } | Kind::Memory { min, max } => (min, max),
                _ => continue,
            };
            let mut config = Config::default();
            for bound in [min, max] {
                let text = bound.to_string();
                // Integers are read as 64-bit signed ones; a bound beyond is never reached.
                let reached =
                    bound <= i128::from(i64::MAX) || directive.kind() == Kind::Memory { min, max };
                let done = (directive.assign)(&mut config, &[text.as_bytes()], Source::Command);
                assert_eq!(done.is_ok(), reached, "{}", directive.name);
            }
        }
    }

    #[test]
    fn setting_what_was_got_changes_nothing() {
        let mut config = Config::default();
        for directive in DIRECTIVES.iter().filter(|directive| !directive.is_fixed()) {
            let by = SetBy { local: true, ..BY };
            config.enable_protected_configs = ProtectedAction::Yes;
            let before = config.clone();
            let text = directive.print(&config);
            let changed = config.set(&[(directive.name.as_bytes(), &text)], by);
            let changed = changed.expect("a printed value is accepted");
            assert_eq!(changed.directives.is_empty(), !directive.is_volatile());
            assert_eq!(config, before, "{}", directive.name);
        }
    }

    /// A host whose only file is the text to load.
    struct OneFile(Vec<u8>);

    impl Host for OneFile {
        fn read(&mut self, _: &std::path::Path) -> std::io::Result<Vec<u8>> {
            Ok(self.0.clone())
        }
        fn read_stdin(&mut self) -> std::io::Result<Vec<u8>> {
            Ok(Vec::new())
        }
        fn expand(&mut self, _: &std::path::Path) -> Vec<std::path::PathBuf> {
            Vec::new()
        }
        fn directory(&mut self) -> std::io::Result<std::path::PathBuf> {
            Ok("/data".into())
        }
        fn change_directory(&mut self, _: &std::path::Path) -> std::io::Result<()> {
            Ok(())
        }
        fn try_log(&mut self, _: &std::path::Path) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn loaded(text: Vec<u8>) -> Config {
        load(&[b"redis.conf".to_vec()], &mut OneFile(text)).expect("the text is valid").config
    }

    /// A configuration in which as much as possible differs from the default.
    fn unusual() -> Config {
        let mut config = loaded(Vec::new());
        for directive in DIRECTIVES {
            let value = match directive.kind() {
                Kind::Bool => ["yes", "no"][usize::from(directive.print(&config) == b"yes")].into(),
                Kind::Integer { min, .. }
                    if directive.print(&config) != min.to_string().as_bytes() =>
                {
                    min.to_string()
                }
                Kind::Integer { max, .. } => max.to_string(),
                Kind::Memory { .. } => "7mb".into(),
                Kind::MemoryOrPercent => "7%".into(),
                Kind::Octal { .. } => "700".into(),
                Kind::OneOf(words) => words[words.len() - 1].into(),
                Kind::SomeOf(words) => words[words.len() - 1].into(),
                Kind::Text if directive.name.contains("ipv4") => "1.2.3.4".into(),
                Kind::Text if directive.name.contains("ipv6") => "::1".into(),
                Kind::Text if directive.name.contains("-hostname") => "a.b".into(),
                Kind::Text if directive.name.contains("-nodename") => "a'b".into(),
                Kind::Text => "a \"b\" '\u{7}\u{fc}".into(),
                Kind::Special(_) => continue,
            };
            let source = Source::File { repeated: false };
            let done = (directive.assign)(&mut config, &[value.as_bytes()], source);
            assert!(done.is_ok(), "{} {value} {done:?}", directive.name);
        }
        config.cluster_enabled = false;
        config
    }

    #[test]
    fn what_was_rewritten_loads_as_it_was() {
        let mut config = unusual();
        config.replicaof = Some(PrimaryAddress { host: "h".into(), port: 7 });
        config.save.0.clear();
        config.notify_keyspace_events = EventClasses::ALL.or(EventClasses::NEW);
        config.client_output_buffer_limit.pubsub.hard_bytes = 7 << 20;
        config.bind.0.clear();
        for config in [config, loaded(Vec::new())] {
            for extent in [Extent::Changed, Extent::Everything] {
                let text = config.rewrite(b"port 1\nsave 1 1\nsave 2 2\n", None, extent);
                assert_eq!(loaded(text.clone()), config);
                assert!(config.rewrite(&text, None, extent) == text, "the second time it changes");
            }
        }
    }

    #[test]
    fn the_example_changes_nothing() {
        assert_eq!(loaded(example().into_bytes()), loaded(Vec::new()));
    }

    #[test]
    fn get_answers_under_the_names_that_were_asked() {
        let config = Config::default();
        let found = config.matching(&[b"MAXMemory", b"slave-priority", b"replica-priority"]);
        assert_eq!(found[0], (b"MAXMemory".to_vec(), b"0".to_vec()));
        assert_eq!(found[1].0, b"slave-priority");
        assert_eq!(found[2].0, b"replica-priority");
        assert_eq!(names(&config, &["nosuch", ""]), [""; 0]);
    }

    #[test]
    fn get_matches_patterns_once_each_and_nothing_hidden() {
        let config = Config::default();
        let found = names(&config, &["maxmemory", "MAXMEMORY*", "bind", "*of", "maxmemory"]);
        let unique: HashSet<&String> = found.iter().collect();
        assert_eq!(unique.len(), found.len());
        for name in ["maxmemory", "maxmemory-samples", "bind", "replicaof", "slaveof"] {
            assert!(found.iter().any(|known| known == name), "{name}");
        }
        assert_eq!(names(&config, &["key-load-*"]), [""; 0]);
        assert_eq!(names(&config, &["key-load-delay"]), ["key-load-delay"]);
        let visible = DIRECTIVES.iter().filter(|directive| !directive.is_hidden());
        let visible = visible.map(|directive| 1 + usize::from(directive.alias.is_some()));
        assert_eq!(names(&config, &["*"]).len(), visible.sum::<usize>());
    }

    #[test]
    fn set_names_what_changed_and_keeps_the_past() {
        let mut config = Config::default();
        let changed = set(&mut config, &[("hz", "20"), ("PORT", "7"), ("maxclients", "10000")]);
        let changed = changed.expect("the values are valid");
        let applies: Vec<Apply> =
            changed.directives.iter().map(|directive| directive.apply).collect();
        assert_eq!(applies, [Apply::Nothing, Apply::Listen]);
        assert_eq!((config.hz, config.port, config.maxclients), (20, 7, 10_000));
        assert_eq!(changed.previous, Config::default());
        let same = set(&mut config, &[("tls-cert-file", ""), ("tls-protocols", "")]);
        assert_eq!(same.expect("the values are valid").directives.len(), 1);
    }

    #[test]
    fn set_does_all_or_nothing() {
        let mut config = Config::default();
        let pairs = [("maxmemory", "1"), ("maxmemory-clients", "200%"), ("hz", "x")];
        assert_eq!(
            set(&mut config, &pairs).unwrap_err(),
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - \
             percentage argument must be less or equal to 100"
        );
        assert_eq!(config, Config::default());
    }

    #[test]
    fn set_refuses_in_redis_words() {
        for (pairs, expected) in [
            (
                &[("hz", "1"), ("No Such\r\n", "1")][..],
                "ERR Unknown option or number of arguments for CONFIG SET - 'No Such  '",
            ),
            (&[("Daemonize", "yes")], "'Daemonize') - can't set immutable config"),
            (&[("dir", "/")], "'dir') - can't set protected config"),
            (&[("hz", "1"), ("HZ", "2")], "'HZ') - duplicate parameter"),
            (&[("HZ", "x")], "'hz') - argument couldn't be parsed into an integer"),
            (
                &[("slave-priority", "-1")],
                "'slave-priority') - argument must be between 0 and 2147483647 inclusive",
            ),
            (&[("save", "1  2")], "'save') - Invalid save parameters"),
            (&[("appendfsync", "a b")], "must be one of the following: everysec, always, no"),
            (
                &[("activedefrag", "yes")],
                "Active defragmentation cannot be enabled: it requires a \
                Redis server compiled with a modified Jemalloc like the one shipped by default \
                with the Redis source distribution",
            ),
        ] {
            let error = set(&mut Config::default(), pairs).unwrap_err();
            assert!(error.ends_with(expected), "{error}");
            let known = ["ERR CONFIG SET failed (possibly related to argument '", "ERR Unknown"];
            assert!(known.iter().any(|start| error.starts_with(start)), "{error}");
        }
    }

    #[test]
    fn names_of_the_same_directive_may_be_set_together() {
        let mut config = Config::default();
        let pairs = [("replica-priority", "1"), ("slave-priority", "2")];
        set(&mut config, &pairs).expect("Redis allows it too");
        assert_eq!(config.replica_priority, 2);
    }

    #[test]
    fn some_changes_depend_on_who_asks_and_when() {
        let mut config =
            Config { enable_protected_configs: ProtectedAction::Local, ..Config::default() };
        let pairs: [(&[u8], &[u8]); 1] = [(b"dir", b"/x")];
        let local = SetBy { local: true, ..BY };
        assert!(config.set(&pairs, BY).is_err());
        let loading = SetBy { loading: true, ..local };
        assert_eq!(config.set(&pairs, loading).unwrap_err(), SetError::Loading);
        assert!(SetError::Loading.to_string().starts_with("LOADING Redis is loading"));
        let changed = config.set(&pairs, local).expect("a local client may");
        assert_eq!(changed.directives[0].apply, Apply::Directory);
        let error = SetError::not_applied(changed.directives[0], "No such file or directory");
        assert_eq!(
            error.to_string(),
            "ERR CONFIG SET failed (possibly related to argument 'dir') - \
             No such file or directory"
        );
    }
}
