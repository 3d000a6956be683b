//! No source text harms the server: it is refused, or its script ends or can be ended; what it
//! returns is one whole reply, and the next script finds the state as it was.
#![no_main]

mod lua;

use libfuzzer_sys::fuzz_target;
use rufous::resp::{Protocol, frame};

/// What a script may see or have changed that the next one must find as it was.
const PROBE: &str = "local n = 0 for _ in pairs(_G) do n = n + 1 end \
                     for _ in pairs(redis) do n = n + 1 end \
                     for _ in pairs(string) do n = n + 1 end \
                     return {n, KEYS[1], ARGV[1], ('x'):rep(3), tostring(rawget(_G, 'a')), \
                     type(getmetatable(''))}";

const ANSWERS: &[&[u8]] = &[
    b"+OK\r\n",
    b"-ERR no\r\n",
    b":7\r\n",
    b"$5\r\nhello\r\n",
    b"_\r\n",
    b"*2\r\n:1\r\n*1\r\n$-1\r\n",
    b"%1\r\n+k\r\n,1.5\r\n",
    b"~2\r\n#t\r\n(123\r\n",
];

fuzz_target!(|input: (u8, &[u8])| {
    let (number, source) = input;
    let vm = lua::state();
    let probe = |vm| lua::run(vm, PROBE.as_bytes(), &[b"arg"], b"").map_err(|failure| failure.text);
    let before = probe(&vm);
    let answer = ANSWERS[usize::from(number) % ANSWERS.len()];
    if let Ok(reply) = lua::run(&vm, source, &[b"arg", b"7"], answer) {
        let whole = frame::decode(&reply, Protocol::Resp3);
        assert!(
            matches!(whole, Ok(Some((_, len))) if len == reply.len()),
            "{}",
            reply.escape_ascii()
        );
    }
    assert_eq!(probe(&vm), before, "a script has left something behind");
});
