//! MIGRATE: what it asks for. How keys go is the engine's (`engine/migrate`).

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Find, Flags, FoundKeys,
    Group, KeyFlags, KeySpec, Shape, Traits,
};
use crate::engine::Cx;
use crate::engine::migrate::{Auth, Target, Wish, begin};
use crate::keyspace::Key;
use crate::resp::Request;
use std::time::Duration;

/// Where options begin.
const OPTIONS_AT: usize = 6;

/// What stands for no timeout, or a negative one.
const TIMEOUT_DEFAULT_MS: u64 = 1000;

const MOVED: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE);

pub(super) static MIGRATE: Command = Command {
    name: "migrate",
    since: "2.6.0",
    group: Group::Generic,
    summary: "Moves keys to another server.",
    complexity: "O(N) with N bytes, on another thread; it waits for the other server",
    arity: Arity::at_least(6),
    flags: Flags::WRITE,
    traits: Traits::MOVES_KEYS,
    acl: Categories::KEYSPACE.or(Categories::DANGEROUS),
    tips: &["nondeterministic_output"],
    history: &[
        ("3.0.0", "Took COPY and REPLACE."),
        ("3.0.6", "Took KEYS."),
        ("4.0.7", "Took AUTH."),
        ("6.0.0", "Took AUTH2."),
    ],
    keys: &[
        KeySpec::one(3, MOVED),
        KeySpec::after("KEYS", -2, MOVED.or(KeyFlags::INCOMPLETE)).find(Find::Range {
            last: -1,
            step: 1,
            limit: 0,
        }),
    ],
    key_finder: Some(find_moved),
    secrets: is_credential,
    args: &[
        Arg::string("host"),
        Arg::integer("port"),
        Arg::one_of("key-selector", &[Arg::key("key"), Arg::flag("empty-string", "")]),
        Arg::integer("destination-db"),
        Arg::integer("timeout"),
        Arg::flag("copy", "COPY").since("3.0.0").optional(),
        Arg::flag("replace", "REPLACE").since("3.0.0").optional(),
        Arg::one_of(
            "authentication",
            &[
                Arg::string("auth").display("password").token("AUTH").since("4.0.7"),
                Arg::block("auth2", &[Arg::string("username"), Arg::string("password")])
                    .token("AUTH2")
                    .since("6.0.0"),
            ],
        )
        .optional(),
        Arg::key("keys")
            .display("key")
            .key_spec(1)
            .token("KEYS")
            .since("3.0.6")
            .optional()
            .multiple(),
    ],
    reply: Shape::Simple,
    example: "> MIGRATE 127.0.0.1 6380 nothing 0 1000\nNOKEY",
    run: migrate,
    ..Command::BASE
};

/// The option that stands at a place, with how many words belong to it.
fn option_at(request: &Request<'_>, at: usize) -> (&'static str, usize) {
    const OPTIONS: [(&str, usize); 5] =
        [("COPY", 1), ("REPLACE", 1), ("AUTH", 2), ("AUTH2", 3), ("KEYS", 1)];
    let is_it = |(name, _): &(&str, usize)| request.arg(at).eq_ignore_ascii_case(name.as_bytes());
    OPTIONS.into_iter().find(is_it).unwrap_or(("", 1))
}

/// The keys behind KEYS, or else the one in front. A password may be the word KEYS.
fn find_moved(request: &Request<'_>) -> Option<FoundKeys> {
    let mut at = OPTIONS_AT;
    while at < request.len() {
        match option_at(request, at) {
            // It is wrong with a key in front.
            ("KEYS", _) if !request.arg(3).is_empty() => return None,
            ("KEYS", _) => return Some(FoundKeys::rest(at + 1, request, MOVED)),
            (_, words) => at += words,
        }
    }
    Some(FoundKeys::one(3, MOVED))
}

/// Whether a word is one that AUTH or AUTH2 takes.
fn is_credential(request: &Request<'_>, place: usize) -> bool {
    let mut at = OPTIONS_AT;
    while at < place.min(request.len()) {
        let (name, words) = option_at(request, at);
        if name == "KEYS" {
            return false;
        }
        if place < at + words {
            return true;
        }
        at += words;
    }
    false
}

#[derive(Default)]
struct Options<'a> {
    copies: bool,
    replaces: bool,
    auth: Option<Auth>,
    keys: Option<Vec<Key<'a>>>,
}

impl<'a> Options<'a> {
    fn read(args: &mut Args<'a>, has_key_in_front: bool) -> Result<Options<'a>, CommandError> {
        let mut options = Options::default();
        while !args.is_empty() {
            if args.option("copy") {
                options.copies = true;
            } else if args.option("replace") {
                options.replaces = true;
            } else if args.option_with_value("auth") {
                options.auth = Some(Auth { user: None, password: args.bytes().into() });
            } else if args.remaining() >= 3 && args.option("auth2") {
                let user = Some(args.bytes().into());
                options.auth = Some(Auth { user, password: args.bytes().into() });
            } else if args.option("keys") {
                if has_key_in_front {
                    return Err(CommandError::Fixed(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the \
                         empty string",
                    ));
                }
                let count = args.remaining();
                options.keys = Some((0..count).map(|_| args.key()).collect());
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }
}

fn migrate(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (host, port) = (args.bytes(), args.bytes());
    let key = args.key();
    // What is wrong with the options is told first.
    let mut behind = args.clone();
    let _ = [behind.bytes(), behind.bytes()];
    let options = Options::read(&mut behind, !key.bytes.is_empty())?;
    let (db, timeout_ms) = (args.integer(), args.integer());
    args.check()?;
    let keys = options.keys.unwrap_or_else(|| vec![key]);
    let entries = keys.iter().filter_map(|key| cx.keys.read(key).cloned()).collect::<Vec<_>>();
    if entries.is_empty() {
        cx.reply.simple(b"NOKEY");
        return Ok(());
    }
    let text = |bytes| Box::from(String::from_utf8_lossy(bytes));
    let is_secure = cx.server.config.tls_cluster;
    let timeout_ms = u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0);
    let wish = Wish {
        target: Target { host: text(host), port: text(port), auth: options.auth, is_secure },
        db,
        timeout: Duration::from_millis(timeout_ms.unwrap_or(TIMEOUT_DEFAULT_MS)),
        copies: options.copies,
        replaces: options.replaces,
    };
    begin(cx, entries, wish)
}
