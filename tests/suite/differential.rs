//! Random commands against our binary and a real redis-server: the same requests, the same
//! replies, and now and then the same digest of all data.
//!
//! The commands are drawn from templates over few keys, so that types collide, collections cross
//! their encodings' thresholds and indexes end up on both sides of every end. Left out is what two
//! right servers answer differently: random choices, cursors, clocks and memory. The templates are
//! written down, not derived from the command table: what a random word must look like to get
//! past an argument check is the part that a derivation would not know.
//!
//! `RUFOUS_DIFFERENTIAL` sets the number of commands, `RUFOUS_SEED` the seed.

use crate::answer::{Answer, encode};
use crate::client::Client;
use crate::interop::is_there;
use crate::server::{RUFOUS, Server};
use rufous::structs::prng::Prng;

/// Placeholders: K a key, V a value, M a member or field, I an integer or what looks like one,
/// N a small integer, F a float, E an entry's ID, G a group, C a consumer; `A|B` is one of these
/// words.
const TEMPLATES: &[&str] = &[
    "APPEND K V",
    "COPY K K",
    "COPY K K REPLACE",
    "DBSIZE",
    "DECR K",
    "DECRBY K I",
    "DEL K",
    "DEL K K",
    "EXISTS K K K",
    "EXPIREAT K 99999999999",
    "EXPIREAT K 9999999999 NX|XX|GT|LT",
    "EXPIRETIME K",
    "GET K",
    "GETDEL K",
    "GETEX K PERSIST",
    "GETEX K EXAT I",
    "GETRANGE K I I",
    "GETSET K V",
    "HDEL K M M",
    "HEXISTS K M",
    "HGET K M",
    "HGETALL K",
    "HINCRBY K M I",
    "HINCRBYFLOAT K M F",
    "HKEYS K",
    "HLEN K",
    "HMGET K M M M",
    "HMSET K M V M V",
    "HRANDFIELD K I",
    "HSET K M V",
    "HSET K M V M V M V",
    "HSET K M V M",
    "HSETNX K M V",
    "HSTRLEN K M",
    "HVALS K",
    "INCR K",
    "INCRBY K I",
    "INCRBYFLOAT K F",
    "KEYS *",
    "KEYS k[0-3]",
    "LCS K K",
    "LCS K K LEN|IDX",
    "LINDEX K I",
    "LINSERT K BEFORE|AFTER|BESIDE M V",
    "LLEN K",
    "LPOP K",
    "LPOP K I",
    "LPUSH K M V M",
    "LPUSH K M",
    "LPUSHX K M",
    "LRANGE K I I",
    "LRANGE K 0 -1",
    "LREM K N M",
    "LSET K I V",
    "LTRIM K N N",
    "LTRIM K 0 I",
    "MGET K K K",
    "MOVE K I",
    "MSET K V K V",
    "MSETNX K V K V",
    "OBJECT REFCOUNT none",
    "PERSIST K",
    "PEXPIREAT K 99999999999999",
    "PEXPIRETIME K",
    "RENAME K K",
    "RENAMENX K K",
    "RPOP K",
    "RPOP K N",
    "RPUSH K M M M V",
    "RPUSH K M",
    "RPUSHX K M M",
    "SADD K M M M",
    "SADD K I M",
    "SCARD K",
    "SDIFF K K",
    "SDIFFSTORE K K K",
    "SELECT 0",
    "SET K V",
    "SET K V NX|XX|GET|KEEPTTL",
    "SET K V EXAT|PXAT 9999999999999",
    "SETNX K V",
    "SETRANGE K N V",
    "SINTER K K",
    "SINTERCARD I K K",
    "SINTERCARD 2 K K LIMIT I",
    "SINTERSTORE K K K",
    "SISMEMBER K M",
    "SMEMBERS K",
    "SMISMEMBER K M M",
    "SMOVE K K M",
    "SREM K M M",
    "STRLEN K",
    "SUBSTR K I I",
    "SUNION K K K",
    "SUNIONSTORE K K K",
    "TOUCH K K",
    "TTL none",
    "TYPE K",
    "UNLINK K K",
    "XACK K G E E",
    "XADD K E M V",
    "XADD K E M V M V",
    "XADD K MAXLEN I E M V",
    "XADD K MAXLEN|MINID ~ N E M V",
    "XADD K NOMKSTREAM MINID N E M V",
    "XADD K N-* M V",
    "XAUTOCLAIM K G C 0 - COUNT I",
    "XAUTOCLAIM K G C 0 E JUSTID",
    "XCLAIM K G C 0 E E E",
    "XCLAIM K G C 0 E E FORCE JUSTID|LASTID E",
    "XDEL K E E E",
    "XGROUP CREATE K G $|0|E MKSTREAM",
    "XGROUP CREATE K G E ENTRIESREAD I",
    "XGROUP DELCONSUMER K G C",
    "XGROUP DESTROY K G",
    "XGROUP SETID K G $|0|E",
    "XLEN K",
    "XPENDING K G",
    "XRANGE K - +",
    "XRANGE K E E COUNT I",
    "XREAD COUNT I STREAMS K K 0 E",
    "XREAD STREAMS K $|0",
    "XREADGROUP GROUP G C COUNT I STREAMS K >|0|E",
    "XREADGROUP GROUP G C STREAMS K >",
    "XREADGROUP GROUP G C NOACK STREAMS K K > >",
    "XREVRANGE K + - COUNT N",
    "XREVRANGE K E -",
    "XTRIM K MAXLEN|MINID ~|= N",
    "XTRIM K MAXLEN ~ 3 LIMIT I",
];

/// Commands whose elements come in no order that two servers share.
const UNORDERED: &[&str] =
    &["HGETALL", "HKEYS", "HVALS", "KEYS", "SDIFF", "SINTER", "SMEMBERS", "SUNION"];

const INTEGERS: &[&str] = &[
    "x",
    "",
    "1.5",
    " 1",
    "2147483647",
    "-2147483648",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
];

const FLOATS: &[&str] = &["0.1", "-2.5", "3", "1e3", "1e-5", "inf", "nan", "x", "123456789.125"];

/// How many requests are on their way at once.
const BATCH: usize = 50;
/// The digests are compared after so many batches.
const DIGEST_EVERY: usize = 10;

struct Generator {
    prng: Prng,
    /// How many IDs were drawn: they rise slowly, so that most can be added.
    ids: u64,
}

impl Generator {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.prng.below(bound as u64)).expect("it is below an usize")
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn request(&mut self) -> Vec<String> {
        let template = self.pick(TEMPLATES);
        let mut words: Vec<String> = template.split(' ').map(|word| self.word(word)).collect();
        // The one command whose reply is drawn by chance is asked for errors and for nothing.
        if words[0] == "HRANDFIELD" && words[2].parse::<i64>().is_ok() {
            words[2] = "0".to_owned();
        }
        words
    }

    fn word(&mut self, word: &str) -> String {
        match word {
            "K" => format!("k{}", self.below(8)),
            "G" => self.pick(&["g", "h"]).to_owned(),
            "C" => self.pick(&["a", "b", "c"]).to_owned(),
            "E" => self.entry_id(),
            "N-*" => format!("{}-*", self.ids / 16),
            "M" => self.member(),
            "V" => self.value(),
            "I" if self.below(8) == 0 => self.pick(INTEGERS).to_owned(),
            "I" => (self.below(25) as i64 - 12).to_string(),
            "N" => (self.below(30) as i64 - 8).to_string(),
            "F" => self.pick(FLOATS).to_owned(),
            _ if word.contains('|') => {
                let words: Vec<&str> = word.split('|').collect();
                self.pick(&words).to_owned()
            }
            _ => word.to_owned(),
        }
    }

    fn entry_id(&mut self) -> String {
        self.ids += 1;
        let back = if self.below(3) == 0 { 0 } else { self.below(12) as u64 };
        let ms = (self.ids / 16).saturating_sub(back);
        if self.below(4) == 0 { ms.to_string() } else { format!("{ms}-{}", self.below(4)) }
    }

    fn member(&mut self) -> String {
        match self.below(4) {
            0 => format!("m{}", self.below(20)),
            1 => (self.below(1 << 20) as i64 - (1 << 19)).to_string(),
            _ => self.below(20).to_string(),
        }
    }

    fn value(&mut self) -> String {
        match self.below(6) {
            0 => "v".repeat(self.below(200)),
            1 => self.pick(FLOATS).to_owned(),
            2 => self.pick(INTEGERS).to_owned(),
            _ => self.member(),
        }
    }
}

/// Sorts what is unordered.
fn settled(command: &str, answer: Option<Answer>) -> String {
    match answer {
        Some(Answer::Array(mut elements)) if UNORDERED.contains(&command) => {
            elements.sort_by_cached_key(|element| format!("{element:?}"));
            format!("{elements:?}")
        }
        other => format!("{other:?}"),
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn compare_digests(clients: &mut [Client; 2], seed: u64, at: usize) {
    let [ours, theirs] = clients.each_mut().map(|client| client.run("DEBUG DIGEST"));
    if ours == theirs {
        return;
    }
    for key in (0..8).map(|index| format!("k{index}")) {
        let line = format!("DEBUG DIGEST-VALUE {key}");
        let [ours, theirs] = clients.each_mut().map(|client| client.run(&line));
        if ours != theirs {
            let asked =
                ["OBJECT ENCODING", "PEXPIRETIME", "GET", "HGETALL", "SMEMBERS", "XINFO STREAM"];
            let both = clients.each_mut().map(|client| {
                let mut answers = asked.map(|ask| client.run(&format!("{ask} {key}"))).to_vec();
                answers.push(client.run(&format!("LRANGE {key} 0 -1")));
                answers
            });
            panic!("seed {seed}, by command {at}: {key} differs: {both:?}");
        }
    }
    panic!("seed {seed}, by command {at}: digests differ, those of the values do not");
}

#[test]
fn random_commands_are_answered_as_redis_answers() {
    if !is_there("redis-server") {
        return;
    }
    let commands = usize::try_from(setting("RUFOUS_DIFFERENTIAL", 10_000)).expect("it fits");
    let seed = setting("RUFOUS_SEED", 1);
    let small = [
        ("hash-max-listpack-entries", "6"),
        ("set-max-intset-entries", "6"),
        ("list-max-listpack-size", "5"),
        ("stream-node-max-entries", "5"),
    ];
    let small = small.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let servers = [Server::start(RUFOUS, &small), Server::start("redis-server", &small)];
    let mut clients = servers.each_ref().map(Server::connect);
    let mut generator = Generator { prng: Prng::seeded(seed), ids: 0 };
    for batch in 0..commands.div_ceil(BATCH) {
        let requests: Vec<Vec<String>> = (0..BATCH).map(|_| generator.request()).collect();
        let bytes: Vec<u8> = requests.iter().flat_map(|words| encode(words)).collect();
        clients.iter_mut().for_each(|client| client.send(&bytes));
        for (index, words) in requests.iter().enumerate() {
            let [ours, theirs] =
                clients.each_mut().map(|client| settled(&words[0], client.receive()));
            assert_eq!(ours, theirs, "seed {seed}, command {}: {words:?}", batch * BATCH + index);
        }
        if batch % DIGEST_EVERY == 0 {
            compare_digests(&mut clients, seed, batch * BATCH);
        }
    }
    compare_digests(&mut clients, seed, commands);
}
