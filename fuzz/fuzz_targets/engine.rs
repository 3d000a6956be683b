//! Requests made of the argument trees of the command table, one after the other: none panics, and
//! each that need not wait is answered.
//!
//! Some are made by a script, and scripts may take as long as they like.
//!
//! What stands for an argument is drawn from few words, so that keys collide and numbers reach
//! their edges. Left out is what stops the process or may rightly take for ever.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use rufous::command::table::Row;
use rufous::command::{Arg, ArgKind, Flags, Table};
use rufous::config::{self, Disk};
use rufous::engine::hold::Told;
use rufous::engine::{ClientId, Driver, Engine, Now, Peer, Seed, ServerParts, Verdict};
use rufous::resp::{Limits, ReplyBuf, RequestReader};
use std::sync::LazyLock;
use std::time::Duration;

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);
static ROWS: LazyLock<Vec<&Row>> = LazyLock::new(|| {
    let left_out = ["debug", "shutdown", "client|kill", "client|pause", "client|reply", "quit"];
    let rows = TABLE.rows().iter();
    rows.filter(|row| !row.command.is_container() && !left_out.contains(&row.full_name)).collect()
});

const KEYS: &[&str] = &["a", "b", "c", "{a}d"];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "-2",
    "-5",
    "10",
    "100",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "4294967296",
    "x",
    "",
];
const DOUBLES: &[&str] =
    &["0", "1.5", "-1.5", "inf", "-inf", "nan", "1e300", "-0", "(1", "180", ""];
const TEXTS: &[&str] =
    &["m", "n", "o", "1", "22", "-3", "1.5", "[a", "(b", "-", "+", "u8", "i64", "", "*"];
const PATTERNS: &[&str] = &["*", "a*", "[a-b]", "#", "a->b", "b_*", "?"];
const SCRIPTS: &[&str] = &[
    "return redis.pcall(unpack(ARGV))",
    "redis.setresp(3) return redis.call(unpack(ARGV))",
    "#!lua flags=no-writes\nreturn {redis.call(unpack(ARGV))}",
    "redis.set_repl(redis.REPL_NONE) local t = {} for i = 1, 3 do t[i] = redis.pcall(unpack(ARGV)) \
     end return t",
    "redis.pcall(unpack(ARGV)) for _ = 1, 1100000 do end \
     return cjson.encode(redis.pcall(unpack(ARGV)))",
];
/// Strings are held to this, so that no offset makes them huge.
const BULK_MAX: &str = "1mb";

struct Writer<'a, 'b> {
    data: &'a mut Unstructured<'b>,
    words: Vec<Vec<u8>>,
}

impl Writer<'_, '_> {
    fn pick(&mut self, of: &[&str]) -> Result<()> {
        let word = *self.data.choose(of)?;
        self.words.push(word.as_bytes().to_vec());
        Ok(())
    }

    fn args(&mut self, args: &[Arg]) -> Result<()> {
        args.iter().try_for_each(|arg| self.arg(arg))
    }

    fn arg(&mut self, arg: &Arg) -> Result<()> {
        if arg.optional && !self.data.ratio(1u8, 3u8)? {
            return Ok(());
        }
        let times = if arg.multiple { self.data.int_in_range(1..=4)? } else { 1 };
        for time in 0..times {
            if time == 0 || arg.multiple_token {
                self.words.extend(arg.token.map(|token| token.as_bytes().to_vec()));
            }
            self.value(arg)?;
        }
        Ok(())
    }

    fn value(&mut self, arg: &Arg) -> Result<()> {
        // Now and then what does not belong there.
        if self.data.ratio(1u8, 40u8)? {
            return self.pick(TEXTS);
        }
        match arg.kind {
            ArgKind::PureToken => Ok(()),
            ArgKind::Block(parts) => self.args(parts),
            ArgKind::OneOf(choices) => {
                let choice = self.data.choose(choices)?;
                self.arg(choice)
            }
            ArgKind::Key => self.pick(KEYS),
            ArgKind::Integer | ArgKind::UnixTime => self.pick(NUMBERS),
            ArgKind::Double => self.pick(DOUBLES),
            ArgKind::Pattern => self.pick(PATTERNS),
            ArgKind::String if self.data.ratio(1u8, 8u8)? => {
                let len = self.data.int_in_range(0..=200)?;
                self.words.push(self.data.bytes(len)?.to_vec());
                Ok(())
            }
            ArgKind::String => self.pick(TEXTS),
        }
    }
}

struct World {
    engine: Engine,
    client: ClientId,
    now: Now,
}

/// Sees whether a client is answered.
struct Outputs {
    client: ClientId,
    answered: bool,
    now: Now,
}

impl Driver for Outputs {
    fn send(&mut self, _engine: &mut Engine, client: ClientId, _bytes: ReplyBuf, _told: Told) {
        self.answered |= client == self.client;
    }

    fn wake(&mut self, _engine: &mut Engine, _client: ClientId) {}

    fn close(&mut self, _engine: &mut Engine, _client: ClientId) {}

    fn sleep(&mut self, _duration: Duration) -> Now {
        self.now
    }
}

impl World {
    fn new() -> World {
        let small = ["--hash-max-listpack-entries", "4", "--set-max-intset-entries", "4"];
        let more = ["--zset-max-listpack-entries", "4", "--list-max-listpack-size", "3"];
        let rest = ["--proto-max-bulk-len", BULK_MAX, "--set-max-listpack-entries", "4"];
        let args =
            [small, more, rest].concat().iter().map(|a| a.as_bytes().to_vec()).collect::<Vec<_>>();
        let config =
            config::load(&args, &mut Disk::default()).expect("the directives are good").config;
        let seed = Seed { hash_key: [7; 16], prng: 7 };
        let mut engine = Engine::new(config, ServerParts::default(), seed);
        let now = Now { unix_us: 1_700_000_000_000_000, mono_us: 1_000_000 };
        engine.tick(now);
        let client = engine.connect(Peer::internal());
        World { engine, client, now }
    }

    fn run(&mut self, words: &[Vec<u8>], may_wait: bool) {
        let mut wire = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            wire.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            wire.extend_from_slice(word);
            wire.extend_from_slice(b"\r\n");
        }
        let mut reader = RequestReader::new();
        reader.feed(&wire);
        let limits = Limits { bulk_len_max: 1 << 20, authenticated: true };
        assert_eq!(reader.parse(&limits), Ok(1));
        let mut out = ReplyBuf::new();
        let verdict = self.engine.run(self.client, reader.request(0), &mut out);
        let mut outputs = Outputs { client: self.client, answered: !out.is_empty(), now: self.now };
        outputs.carry_out(&mut self.engine);
        while self.engine.is_under_way() {
            outputs.end_turn(&mut self.engine);
        }
        let answered = outputs.answered;
        assert!(answered || may_wait, "{words:?} is not answered");
        if verdict != Verdict::Done || self.engine.clients.get(self.client).is_none() {
            // It waits, or is to be closed: let another go on.
            self.engine.disconnect(self.client);
            self.client = self.engine.connect(Peer::internal());
        }
    }
}

fn play(data: &mut Unstructured<'_>) -> Result<()> {
    let mut world = World::new();
    for _ in 0..60 {
        if data.is_empty() {
            break;
        }
        let row = *data.choose(&ROWS)?;
        let words = row.full_name.split('|').map(|word| word.as_bytes().to_vec()).collect();
        let mut writer = Writer { data, words };
        writer.args(row.command.args)?;
        let mut words = writer.words;
        let by_script = data.ratio(1u8, 6u8)?;
        if by_script {
            let body = data.choose(SCRIPTS)?;
            let own = ["EVAL", body, "0"].map(|word| word.as_bytes().to_vec());
            words.splice(0..0, own);
        }
        // Who watches already is not told so again.
        let may_wait = row.command.flags.has(Flags::BLOCKING) || row.full_name == "monitor";
        world.run(&words, may_wait && !by_script);
        if data.ratio(1u8, 10u8)? {
            world.now.unix_us += 700_000;
            world.now.mono_us += 700_000;
            world.engine.tick(world.now);
            world.engine.cron();
        }
    }
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    // Data that ends early ends the play.
    let _ = play(&mut Unstructured::new(input));
});
