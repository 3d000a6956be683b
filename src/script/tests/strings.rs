//! Patterns and the library struct, as scripts call them.

use super::{finish, run, shown, vm};
use crate::resp::Protocol;
use crate::script::run::{Answer, Asked, Killer, Run};

#[test]
fn patterns_are_those_of_lua() {
    for (body, reply) in [
        ("return {('hello'):find('l+')}", "*2|:3|:4|"),
        ("return {('hello'):find('(l)(.)', -3)}", "*4|:3|:4|$1|l|$1|l|"),
        ("return {string.find('a.b', '.', 2, true)}", "*2|:2|:2|"),
        ("return {('a)'):find(')')}", "*2|:2|:2|"),
        ("return ('x'):find('y')", "$-1|"),
        ("return {('k=v'):match('(%w)=(%w)()')}", "*3|$1|k|$1|v|:4|"),
        ("return ('abc'):match('b', 3)", "$-1|"),
        ("return {('abc'):match(('()'):rep(32))}", &format!("*32|{}", ":1|".repeat(32))),
        (
            "local r = {} for w in ('a bc d'):gmatch('%a+') do r[#r+1] = w end return r",
            "*3|$1|a|$2|bc|$1|d|",
        ),
        (
            "local r = {} for k, v in string.gfind('a=1 b=2', '(%w)=(%w)') do r[#r+1] = v .. k end \
          return r",
            "*2|$2|1a|$2|2b|",
        ),
        (
            "local f = ('ab'):gmatch('') f() f() f() return {f() == nil, select('#', f())}",
            "*2|:1|:0|",
        ),
        ("return {('hello'):gsub('l', 'L')}", "*2|$5|heLLo|:2|"),
        ("return {('hello'):gsub('l', '<%0%0>', 1)}", "*2|$8|he<ll>lo|:1|"),
        ("return {('abc'):gsub('%w', {a = 1, b = true and 'x', c = false})}", "*2|$3|1xc|:3|"),
        ("return {('abc'):gsub('(%w)(%w)', function(a, b) return b .. a end)}", "*2|$3|bac|:1|"),
        ("return {('abc'):gsub('', '-')}", "*2|$7|-a-b-c-|:4|"),
        (
            "local t = setmetatable({}, {__index = function(_, k) return k .. k end}) \
             return {('abc'):gsub('b', t)}",
            "*2|$4|abbc|:1|",
        ),
        ("return {('a b'):gsub('%w', string)}", "*2|$3|a b|:2|"),
        ("return {string.gsub(123, 2, 4)}", "*2|$3|143|:1|"),
        (
            "return {('abc'):gsub('%w', function(c) return (c:gsub('%w', '%0%0')) end)}",
            "*2|$6|aabbcc|:3|",
        ),
        ("return {pcall(string.gsub, 'a', 'a', function() error('no', 0) end)}", "*2|$-1|$2|no|"),
    ] {
        assert_eq!(run(body), reply, "{body}");
    }
}

#[test]
fn what_is_wrong_with_a_pattern_is_said_with_its_line() {
    for (body, text) in [
        ("r = ('a'):find('%')", "malformed pattern (ends with '%')"),
        ("r = ('a'):match('[a')", "malformed pattern (missing ']')"),
        ("r = ('a'):match('%f')", "missing '[' after '%f' in pattern"),
        ("r = ('a'):gsub('a', '%2')", "invalid capture index"),
        ("r = ('a'):find('(a')", "unfinished capture"),
        ("for w in ('a'):gmatch('%1') do end", "invalid capture index"),
        ("r = ('a'):match(('()'):rep(33))", "too many captures"),
        ("r = ('a'):gsub('a', function() return {} end)", "invalid replacement value (a table)"),
        ("r = string.gsub('a', 'a')", "bad argument #3 to 'gsub' (string/function/table expected)"),
        ("r = string.find('a')", "bad argument #2 to 'find' (string expected, got no value)"),
    ] {
        let expected = format!("!ERR user_script:1: {text} on @user_script:1");
        assert_eq!(run(&format!("local r {body} return r")), expected, "{body}");
    }
}

#[test]
fn bytes_are_packed_and_unpacked() {
    for (body, reply) in [
        ("return struct.pack('>I2Bs', 258, 3, 'ab')", "$6|\u{1}\u{2}\u{3}ab\0|"),
        ("return {struct.unpack('>I2Bs', '\\1\\2\\3ab\\0')}", "*4|:258|:3|$2|ab|:7|"),
        ("return {struct.unpack('bc0', '\\2abc')}", "*2|$2|ab|:4|"),
        ("return {struct.unpack('b', 'ab', 2)}", "*2|:98|:3|"),
        ("return struct.size('!8bd')", ":16|"),
        ("return struct.size('i') + struct.size('')", ":4|"),
        ("return select('#', struct.unpack(('b'):rep(7997), ('a'):rep(9000)))", ":7998|"),
    ] {
        assert_eq!(run(body), reply, "{body}");
    }
}

#[test]
fn what_is_wrong_with_a_format_is_said_with_its_line() {
    for (body, text) in [
        ("struct.pack('i')", "bad argument #2 to 'pack' (number expected, got nil)"),
        ("struct.pack('s', {})", "bad argument #2 to 'pack' (string expected, got table)"),
        ("struct.pack('c3', 'ab')", "bad argument #3 to 'pack' (string too short)"),
        ("struct.pack('y')", "bad argument #1 to 'pack' (invalid format option 'y')"),
        ("struct.unpack('i', 'ab')", "bad argument #2 to 'unpack' (data string too short)"),
        (
            "struct.unpack('b', 'ab', 0)",
            "bad argument #3 to 'unpack' (offset must be 1 or greater)",
        ),
        ("struct.unpack(('b'):rep(7998), ('a'):rep(9000))", "stack overflow (too many results)"),
        ("struct.size('i99')", "integral size 99 is larger than limit of 32"),
        ("struct.size('!3')", "alignment 3 is not a power of 2"),
        ("struct.size('s')", "bad argument #1 to 'size' (option 's' has no fixed size)"),
    ] {
        let expected = format!("!ERR user_script:1: {text} on @user_script:1");
        assert_eq!(run(&format!("local r = {body} return r")), expected, "{body}");
    }
}

/// How often a script lets others in until it is killed, and what it comes to.
fn kill_after(slices: usize, body: &str) -> (usize, String) {
    let vm = vm();
    let script = vm.compile(body.as_bytes()).expect("it is right");
    let no: [&[u8]; 0] = [];
    let mut run = Run::new(&vm, &script, no, no, Protocol::Resp2).expect("there is memory");
    let mut seen = 0;
    while seen < slices {
        match run.resume(Answer::Go) {
            Asked::Slice => seen += 1,
            Asked::Done => return (seen, shown(&mut run)),
            asked => panic!("{asked:?} was not expected"),
        }
    }
    let ended = run.resume(Answer::Kill(Killer::ScriptKill));
    assert_eq!(ended, Asked::Done);
    (seen, shown(&mut run))
}

#[test]
fn a_search_that_would_take_for_ever_is_put_aside_and_killed() {
    for search in [
        "s:find('.-.-.-b')",
        "s:match('a*a*a*a*%d')",
        "s:gsub('.-.-.-b', '')",
        "s:gmatch('.-.-.-b')()",
        "pcall(string.find, s, '.-.-.-b')",
        "s:gsub('a', function() return s:find('.-.-.-b') end)",
        "(function() while true do ('aaaa'):find('.-b') end end)()",
        "(function() while true do struct.unpack('bbbb', 'aaaa') end end)()",
    ] {
        let body = format!("local s = ('a'):rep(1e5) local r = {search} return r");
        let (slices, answer) = kill_after(3, &body);
        assert_eq!(slices, 3, "{search}");
        assert!(answer.starts_with("!ERR Script killed by user with SCRIPT KILL..."), "{answer}");
    }
}

#[test]
fn a_search_that_was_put_aside_finds_what_it_would_have_found() {
    let vm = vm();
    let body = "local s = ('a'):rep(300) .. 'b' return {s:find('.-.-%d') or 0, (s:find('b'))}";
    let script = vm.compile(body.as_bytes()).expect("it is right");
    let no: [&[u8]; 0] = [];
    let mut run = Run::new(&vm, &script, no, no, Protocol::Resp2).expect("there is memory");
    finish(&mut run, &mut |words| panic!("{words:?} was not expected"));
    assert_eq!(shown(&mut run), "*2|:0|:301|");
}
