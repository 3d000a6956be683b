//! A pattern of Lua is refused, or all that uses it agrees on what it finds. Left out of that is a
//! zero byte, which by Lua 5.1 ends a pattern but not one that is looked for as it stands; and what
//! only some of them refuse, as a parenthesis that closes nothing.
#![no_main]

mod lua;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8], &[u8])| {
    let (pattern, text, replacement) = input;
    lua::holds(
        "local p, t = ARGV[1], ARGV[2] pcall(string.gsub, t, p, ARGV[3]) \
         local ok, from, to = pcall(string.find, t, p) \
         if not ok or p:find('%z') or not pcall(string.match, t, p) \
         or not pcall(string.gsub, t, p, '') then return end \
         assert((from == nil) == (string.match(t, p) == nil)) \
         assert(not from or from >= 1 and to <= #t and from <= to + 1) \
         local same, count = string.gsub(t, p, '%0') assert(same == t) \
         assert((count > 0) == (from ~= nil)) \
         local calls = 0 assert(string.gsub(t, p, function() calls = calls + 1 end) == t) \
         assert(calls == count) \
         if p:sub(1, 1) ~= '^' then \
         for _ in string.gmatch(t, p) do count = count - 1 end assert(count == 0) end",
        &[pattern, text, replacement],
    );
});
