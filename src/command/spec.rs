//! The record that declares a command, and the small vocabularies it is written in.
//!
//! Records are plain `static` data built by `const fn`s: no macro and no registration at link
//! time, so that rustfmt and grep work on them and a record nobody lists is an unused item.

use super::{Args, Categories, CommandResult, Flags, FoundKeys, KeyFlags, KeySpec, Traits};
use crate::config::{Config, ProtectedAction};
use crate::engine::Cx;
use crate::resp::Request;
use crate::structs::number::parse_i64;

/// What runs when the gates have let a request through.
pub type Handler = fn(&mut Cx<'_>, &mut Args<'_>) -> CommandResult;

/// Finds the keys of a request where the specs alone cannot tell them, or not how they are used.
pub type KeyFinder = fn(&Request<'_>) -> Option<FoundKeys>;

/// Which arguments of a command are channels that its user must be allowed to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChannelUse {
    None,
    /// The first one.
    First,
    /// All.
    Names,
    /// All, and they are patterns.
    Patterns,
}

/// Finds the databases that a request names; where it names none that are numbers, it fails.
pub type DatabaseFinder = fn(&Request<'_>) -> [Option<usize>; 2];

/// The database whose number an argument is.
pub fn database_at(request: &Request<'_>, at: usize) -> Option<usize> {
    let word = (at < request.len()).then(|| request.arg(at))?;
    usize::try_from(parse_i64(word)?).ok()
}

/// Which databases a command has to do with.
#[derive(Clone, Copy)]
pub enum DatabaseUse {
    /// At most that of its client.
    Own,
    /// Besides that, those that its arguments name.
    Named(DatabaseFinder),
    All,
}

/// Whether a word of a request, by its place, is a secret that no log may show.
pub type SecretFinder = fn(&Request<'_>, usize) -> bool;

/// A directive says who may run a command, since it could harm.
#[derive(Clone, Copy)]
pub struct Guard {
    /// The directive's name.
    pub option: &'static str,
    pub action: fn(&Config) -> ProtectedAction,
}

/// Everything that is known about a command without running it.
pub struct Command {
    /// Lower case; for a subcommand the last word only.
    pub name: &'static str,
    pub since: &'static str,
    pub group: Group,
    pub summary: &'static str,
    pub complexity: &'static str,
    pub arity: Arity,
    pub flags: Flags,
    pub traits: Traits,
    /// The categories that do not follow from the flags.
    pub acl: Categories,
    pub tips: &'static [&'static str],
    /// What changed when: pairs of version and change.
    pub history: &'static [(&'static str, &'static str)],
    pub deprecated: Option<Deprecated>,
    /// Made for the server's own use: COMMAND DOCS says so.
    pub is_internal: bool,
    pub keys: &'static [KeySpec],
    pub key_finder: Option<KeyFinder>,
    pub channels: ChannelUse,
    pub databases: DatabaseUse,
    /// Where the first member or field stands that is looked up in the value of the first key; 0
    /// if there is none. Only the prefetch relies on it, so options may push it further.
    pub member_at: u8,
    pub secrets: SecretFinder,
    /// Who may run it, if not everybody; it has the flag `PROTECTED` then.
    pub guard: Option<Guard>,
    pub args: &'static [Arg],
    pub subcommands: &'static [&'static Command],
    pub reply: Shape,
    /// A transcript in redis-cli notation that a test plays on a fresh server.
    pub example: &'static str,
    pub run: Handler,
}

impl Command {
    /// What a record leaves out: a container that is never run by itself, for instance, writes
    /// `..Command::BASE` after what it does say.
    pub const BASE: Command = Command {
        name: "",
        since: "1.0.0",
        group: Group::Generic,
        summary: "",
        complexity: "O(1)",
        arity: Arity::at_least(1),
        flags: Flags::NONE,
        traits: Traits::NONE,
        acl: Categories::NONE,
        tips: &[],
        history: &[],
        deprecated: None,
        is_internal: false,
        keys: &[],
        key_finder: None,
        channels: ChannelUse::None,
        databases: DatabaseUse::Own,
        member_at: 0,
        secrets: |_, _| false,
        guard: None,
        args: &[],
        subcommands: &[],
        reply: Shape::Any,
        example: "",
        run: container,
    };

    /// All categories: the declared ones and those that follow from the flags.
    pub fn categories(&self) -> Categories {
        let mut all = self.acl;
        let implied = [
            (Flags::WRITE, Categories::WRITE),
            (Flags::ADMIN, Categories::ADMIN.or(Categories::DANGEROUS)),
            (Flags::PUBSUB, Categories::PUBSUB),
            (Flags::FAST, Categories::FAST),
            (Flags::BLOCKING, Categories::BLOCKING),
        ];
        for (flag, category) in implied {
            if self.flags.has(flag) {
                all = all.or(category);
            }
        }
        if self.flags.has(Flags::READONLY) && !all.has(Categories::SCRIPTING) {
            all = all.or(Categories::READ);
        }
        if all.has(Categories::FAST) { all } else { all.or(Categories::SLOW) }
    }

    /// Whether its requests may name keys.
    #[inline]
    pub fn has_keys(&self) -> bool {
        self.keys.iter().any(|spec| !spec.flags.has(KeyFlags::NOT_KEY))
    }

    /// True if the command only makes sense with a subcommand.
    pub fn is_container(&self) -> bool {
        !self.subcommands.is_empty()
    }
}

/// The handler of a record that only holds subcommands; lookup never yields it.
fn container(_: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    Err(super::CommandError::Syntax)
}

/// How many words a request must have, the command's name included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arity(i16);

impl Arity {
    pub const fn exactly(words: i16) -> Arity {
        Arity(words)
    }

    pub const fn at_least(words: i16) -> Arity {
        Arity(-words)
    }

    pub fn accepts(self, words: usize) -> bool {
        let bound = usize::from(self.0.unsigned_abs());
        if self.0 < 0 { words >= bound } else { words == bound }
    }

    /// The form COMMAND prints: negative for a minimum.
    pub fn as_i64(self) -> i64 {
        i64::from(self.0)
    }
}

/// The group a command's documentation stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Pubsub,
    Transactions,
    Connection,
    Server,
    Scripting,
    Hyperloglog,
    Cluster,
    Sentinel,
    Geo,
    Stream,
    Bitmap,
}

impl Group {
    pub const fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::Pubsub => "pubsub",
            Group::Transactions => "transactions",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Scripting => "scripting",
            Group::Hyperloglog => "hyperloglog",
            Group::Cluster => "cluster",
            Group::Sentinel => "sentinel",
            Group::Geo => "geo",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
        }
    }
}

/// Since when a command is not the one to use, and which one is.
#[derive(Clone, Copy)]
pub struct Deprecated {
    pub since: &'static str,
    pub replaced_by: &'static str,
}

/// The shape of a successful reply, checked by the tests on every reply they see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    Any,
    Ok,
    Simple,
    Integer,
    Bulk,
    BulkOrNull,
    /// `OK`, or null when a condition was not met.
    OkOrNull,
    IntegerOrNull,
    Double,
    Array,
    Map,
    Set,
}

/// One node of the argument tree that COMMAND DOCS prints and the fuzz grammar walks.
#[derive(Clone, Copy)]
pub struct Arg {
    pub name: &'static str,
    pub kind: ArgKind,
    /// The word that stands before the value (or, for a pure token, instead of it).
    pub token: Option<&'static str>,
    pub since: Option<&'static str>,
    pub optional: bool,
    pub multiple: bool,
    /// The token is repeated with each value.
    pub multiple_token: bool,
    pub deprecated_since: Option<&'static str>,
    /// What stands for the argument in a syntax line, if that is not its name.
    pub display: Option<&'static str>,
    /// Which of the command's key specs finds this key, or the keys this pattern makes.
    pub key_spec: Option<u8>,
}

#[derive(Clone, Copy)]
pub enum ArgKind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf(&'static [Arg]),
    Block(&'static [Arg]),
}

impl ArgKind {
    pub const fn name(self) -> &'static str {
        match self {
            ArgKind::String => "string",
            ArgKind::Integer => "integer",
            ArgKind::Double => "double",
            ArgKind::Key => "key",
            ArgKind::Pattern => "pattern",
            ArgKind::UnixTime => "unix-time",
            ArgKind::PureToken => "pure-token",
            ArgKind::OneOf(_) => "oneof",
            ArgKind::Block(_) => "block",
        }
    }
}

impl Arg {
    const fn new(name: &'static str, kind: ArgKind) -> Arg {
        Arg {
            name,
            kind,
            token: None,
            since: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            deprecated_since: None,
            display: None,
            key_spec: None,
        }
    }

    pub const fn string(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::String)
    }

    pub const fn integer(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Integer)
    }

    pub const fn double(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Double)
    }

    pub const fn key(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Key).key_spec(0)
    }

    pub const fn pattern(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Pattern)
    }

    pub const fn unix_time(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::UnixTime)
    }

    /// A word that stands for itself.
    pub const fn flag(name: &'static str, token: &'static str) -> Arg {
        let mut arg = Arg::new(name, ArgKind::PureToken);
        arg.token = Some(token);
        arg
    }

    pub const fn one_of(name: &'static str, choices: &'static [Arg]) -> Arg {
        Arg::new(name, ArgKind::OneOf(choices))
    }

    pub const fn block(name: &'static str, parts: &'static [Arg]) -> Arg {
        Arg::new(name, ArgKind::Block(parts))
    }

    pub const fn token(mut self, token: &'static str) -> Arg {
        self.token = Some(token);
        self
    }

    pub const fn since(mut self, version: &'static str) -> Arg {
        self.since = Some(version);
        self
    }

    pub const fn optional(mut self) -> Arg {
        self.optional = true;
        self
    }

    pub const fn multiple(mut self) -> Arg {
        self.multiple = true;
        self
    }

    pub const fn multiple_token(mut self) -> Arg {
        self.multiple = true;
        self.multiple_token = true;
        self
    }

    pub const fn key_spec(mut self, index: u8) -> Arg {
        self.key_spec = Some(index);
        self
    }

    pub const fn deprecated_since(mut self, version: &'static str) -> Arg {
        self.deprecated_since = Some(version);
        self
    }

    pub const fn display(mut self, text: &'static str) -> Arg {
        self.display = Some(text);
        self
    }
}
