//! Directives that take one word out of a list, and one that takes several.
//!
//! Each list is an enum whose variants carry the words users write; a variant may have several
//! words (`yes` and `relative` mean the same to `oom-score-adj`), of which the first is printed.
//! Words are matched without regard to case. The order of the words is the order in which a
//! refusal lists them, so it is Redis's order.

use super::value::{Kind, Reason, Setting, Source, only};

/// An enum made of words.
pub trait Choice: Sized + Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];

    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, choice)| *choice == self);
        found.expect("every variant has a word").0
    }
}

fn not_one_of<'a>(words: impl Iterator<Item = &'a str>) -> Reason {
    let words: Vec<&str> = words.collect();
    format!("argument(s) must be one of the following: {}", words.join(", ")).into()
}

/// The rule of a row whose field is a [`Choice`]: the type says it all.
pub const ONE_WORD: () = ();

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $($word:literal)|+),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($variant),+ }

        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] =
                &[$($(($word, Self::$variant)),+),+];
        }

        impl Setting for $name {
            type Rule = ();

            fn parse((): &(), args: &[&[u8]], _: &Self, _: Source) -> Result<Self, Reason> {
                let text = only(args)?;
                let found = Self::WORDS.iter().find(|(word, _)| {
                    text.eq_ignore_ascii_case(word.as_bytes())
                });
                match found {
                    Some((_, choice)) => Ok(*choice),
                    None => Err(not_one_of(Self::WORDS.iter().map(|(word, _)| *word))),
                }
            }

            fn print(&self, (): &()) -> Vec<u8> {
                self.word().as_bytes().to_vec()
            }

            fn kind((): &()) -> Kind {
                Kind::OneOf(Self::WORDS.iter().map(|(word, _)| *word).collect())
            }
        }
    )+};
}

choices! {
    EvictionPolicy {
        VolatileLru = "volatile-lru",
        VolatileLfu = "volatile-lfu",
        VolatileRandom = "volatile-random",
        VolatileTtl = "volatile-ttl",
        AllkeysLru = "allkeys-lru",
        AllkeysLfu = "allkeys-lfu",
        AllkeysRandom = "allkeys-random",
        NoEviction = "noeviction",
    }
    SyslogFacility {
        User = "user", Local0 = "local0", Local1 = "local1", Local2 = "local2", Local3 = "local3",
        Local4 = "local4", Local5 = "local5", Local6 = "local6", Local7 = "local7",
    }
    LogLevel {
        Debug = "debug", Verbose = "verbose", Notice = "notice", Warning = "warning",
        Nothing = "nothing",
    }
    Supervised { Upstart = "upstart", Systemd = "systemd", Auto = "auto", No = "no" }
    AppendFsync { EverySecond = "everysec", Always = "always", No = "no" }
    DisklessLoad {
        Disabled = "disabled", OnEmptyDb = "on-empty-db", SwapDb = "swapdb",
        FlushBeforeLoad = "flush-before-load",
    }
    TlsAuthClients { No = "no", Yes = "yes", Optional = "optional" }
    TlsUser { Off = "off", CommonName = "CN", Uri = "URI" }
    OomScoreAdj { No = "no", Relative = "yes" | "relative", Absolute = "absolute" }
    PubsubDefault { AllChannels = "allchannels", ResetChannels = "resetchannels" }
    SanitizeDump { No = "no", Yes = "yes", Clients = "clients" }
    /// Who may use a guarded command or directive.
    ProtectedAction { No = "no", Yes = "yes", Local = "local" }
    EndpointType { Ip = "ip", Hostname = "hostname", Unknown = "unknown-endpoint" }
    PropagationError {
        Ignore = "ignore", Panic = "panic", PanicOnReplicas = "panic-on-replicas",
    }
    LogFormat { Legacy = "legacy", Logfmt = "logfmt" }
    LogTimestamp { Legacy = "legacy", Iso8601 = "iso8601", Milliseconds = "milliseconds" }
}

impl EvictionPolicy {
    /// Whether it goes by how often keys are used: entries then keep a count, not a time.
    pub fn is_lfu(self) -> bool {
        matches!(self, Self::VolatileLfu | Self::AllkeysLfu)
    }

    /// Whether it goes by how recently keys were used.
    pub fn is_lru(self) -> bool {
        matches!(self, Self::VolatileLru | Self::AllkeysLru)
    }

    /// Whether it leaves keys without an expiry alone.
    pub fn is_volatile(self) -> bool {
        use EvictionPolicy::{VolatileLfu, VolatileLru, VolatileRandom, VolatileTtl};
        matches!(self, VolatileLru | VolatileLfu | VolatileRandom | VolatileTtl)
    }

    /// Whether eviction goes by the access clocks of entries.
    pub fn reads_clocks(self) -> bool {
        self.is_lfu() || matches!(self, Self::VolatileLru | Self::AllkeysLru)
    }
}

impl ProtectedAction {
    /// Whether a client may; `local` tells that it is connected over loopback or a Unix socket.
    pub fn allows(self, local: bool) -> bool {
        match self {
            Self::No => false,
            Self::Yes => true,
            Self::Local => local,
        }
    }
}

/// What SIGINT or SIGTERM asks of the shutdown. All false is the default behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ShutdownOptions {
    pub save: bool,
    pub nosave: bool,
    pub now: bool,
    pub force: bool,
}

pub const SOME_WORDS: () = ();

impl ShutdownOptions {
    const WORDS: [&str; 5] = ["default", "save", "nosave", "now", "force"];
}

impl Setting for ShutdownOptions {
    type Rule = ();
    const MULTI: bool = true;

    fn parse((): &(), args: &[&[u8]], _: &Self, _: Source) -> Result<Self, Reason> {
        let mut options = Self::default();
        for arg in args {
            match arg.to_ascii_lowercase().as_slice() {
                b"default" => {}
                b"save" => options.save = true,
                b"nosave" => options.nosave = true,
                b"now" => options.now = true,
                b"force" => options.force = true,
                _ => return Err(not_one_of(Self::WORDS.into_iter())),
            }
        }
        if args.is_empty() {
            return Err(not_one_of(Self::WORDS.into_iter()));
        }
        if options.save && options.nosave {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
        }
        Ok(options)
    }

    fn print(&self, (): &()) -> Vec<u8> {
        let set = [(*self == Self::default()), self.save, self.nosave, self.now, self.force];
        let words: Vec<&str> =
            Self::WORDS.into_iter().zip(set).filter_map(|(word, on)| on.then_some(word)).collect();
        words.join(" ").into_bytes()
    }

    fn kind((): &()) -> Kind {
        Kind::SomeOf(Self::WORDS.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Result<String, String> {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let none = ShutdownOptions::default();
        let options = ShutdownOptions::parse(&(), &args, &none, Source::Command);
        let options = options.map_err(|reason| reason.into_owned())?;
        Ok(String::from_utf8(options.print(&())).expect("words are ASCII"))
    }

    #[test]
    fn one_word_in_any_case_and_the_first_of_its_names_is_printed() {
        let parse =
            |args: &[&[u8]]| OomScoreAdj::parse(&(), args, &OomScoreAdj::No, Source::Command);
        assert_eq!(parse(&[b"RELATIVE"]), Ok(OomScoreAdj::Relative));
        assert_eq!(OomScoreAdj::Relative.print(&()), b"yes");
        let expected = "argument(s) must be one of the following: no, yes, relative, absolute";
        assert_eq!(parse(&[b"x"]).unwrap_err(), expected);
        assert_eq!(parse(&[b""]).unwrap_err(), expected);
    }

    #[test]
    fn shutdown_options_combine() {
        assert_eq!(options(&["default"]).unwrap(), "default");
        assert_eq!(options(&["FORCE", "now", "nosave"]).unwrap(), "nosave now force");
        assert_eq!(options(&["default", "save"]).unwrap(), "save");
        let one_of = "argument(s) must be one of the following: default, save, nosave, now, force";
        for args in [&[][..], &["x"], &["now", ""]] {
            assert_eq!(options(args).unwrap_err(), one_of);
        }
        assert_eq!(
            options(&["save", "nosave"]).unwrap_err(),
            "shutdown options SAVE and NOSAVE can't be used simultaneously"
        );
    }

    #[test]
    fn eviction_policies_tell_what_they_look_at() {
        let words = |what: fn(EvictionPolicy) -> bool| {
            let fits = EvictionPolicy::WORDS.iter().filter(move |(_, policy)| what(*policy));
            fits.map(|(word, _)| *word).collect::<Vec<_>>()
        };
        assert_eq!(words(EvictionPolicy::is_lru), ["volatile-lru", "allkeys-lru"]);
        assert_eq!(words(EvictionPolicy::is_lfu), ["volatile-lfu", "allkeys-lfu"]);
        assert_eq!(words(EvictionPolicy::is_volatile).len(), 4);
    }

    #[test]
    fn protected_actions_depend_on_where_the_client_is() {
        assert!(!ProtectedAction::No.allows(true));
        assert!(ProtectedAction::Yes.allows(false));
        assert!(ProtectedAction::Local.allows(true) && !ProtectedAction::Local.allows(false));
    }
}
