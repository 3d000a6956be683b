//! Scripts that are written to bring the process down, each in a process of its own.
//!
//! Each has to end in an error, or be one that can be killed, whatever it does; and the state goes
//! on to work. A child that dies is seen by its parent.

use super::{answer_with, finish, run_with, shown};
use crate::resp::Protocol;
use crate::script::run::{Answer, Asked, Killer, Run};
use crate::script::vm::{Role, Vm};
use std::process::Command;

/// The child is told by this which of them is its own.
const WHICH: &str = "RUFOUS_ATTACK";

const LOW_ON_STACK: &str = "C stack overflow";
const OVERFLOW: &str = "stack overflow";
const MEMORY: &str = "not enough memory";
const KILLED: &str = "Script killed";
/// It comes to an end by itself, and how is of no consequence.
const ENDS: &str = "";

/// Scripts, and what their error says.
const ATTACKS: &[(&str, &str)] = &[
    ("local function f() coroutine.wrap(f)() end f()", LOW_ON_STACK),
    ("local function f() local _, e = coroutine.resume(coroutine.create(f)) error(e, 0) end f()",
      LOW_ON_STACK),
    ("local function f() coroutine.resume(coroutine.create(f)) end f()", ENDS),
    ("local function f() string.gsub('x', 'x', f) end f()", LOW_ON_STACK),
    ("local function f() string.gsub('x', 'x', function() pcall(f) end) end f()", ENDS),
    ("local function f() table.sort({1, 2, 3}, f) end f()", OVERFLOW),
    ("local t = {} local m = {} for i = 1, 3 do t[i] = setmetatable({}, m) end
      m.__lt = function() table.sort(t) end table.sort(t)", OVERFLOW),
    ("local function f() load(f) end f()", OVERFLOW),
    ("local function f() pcall(f) end f() return 1", ENDS),
    ("local function f() xpcall(f, f) end f() return 1", ENDS),
    ("local function f() return 1 + f() end f()", OVERFLOW),
    ("local function f() return f() end f()", KILLED),
    ("local t = setmetatable({}, {}) getmetatable(t).__tostring = function() return tostring(t) end
      tostring(t)", OVERFLOW),
    ("local t = setmetatable({}, {}) getmetatable(t).__index = function(_, k) return t[k] end
      return t.x", OVERFLOW),
    ("local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x", "loop"),
    ("local t = setmetatable({}, {}) getmetatable(t).__call = t t()", "attempt to call"),
    ("local t = setmetatable({}, {}) getmetatable(t).__concat = function() return t .. t end
      return t .. t", OVERFLOW),
    ("local t = setmetatable({}, {}) getmetatable(t).__eq = function() return t == {} end
      return t == setmetatable({}, getmetatable(t))", ENDS),
    ("local f = function() end for i = 1, 1e6 do f = coroutine.wrap(f) end f()", MEMORY),
    ("local f = function() end for i = 1, 3e4 do f = coroutine.wrap(f) end f()", ENDS),
    ("local f = function() end for i = 1, 1e3 do f = coroutine.wrap(f) end f()", LOW_ON_STACK),
    ("local f, e = loadstring('return ' .. string.rep('a?1:', 1e6) .. '1') error(e, 0)",
      "unexpected symbol near '?'"),
    ("return unpack({}, 1, 2^31 - 1)", "too many results"),
    ("return unpack({}, -2^31, 2^31 - 1)", "too many results"),
    ("return select('#', unpack({}, 1, 7999))", ENDS),
    ("return ('x'):byte(1, -1) .. ('x'):rep(1e7):byte(1, -1)", "string slice too long"),
    ("return string.rep('x', 2^31 - 1)", MEMORY),
    ("return #string.rep('', 2^31 - 1)", ENDS),
    ("return string.rep('x', 1e9, 'y')", MEMORY),
    ("while true do pcall(string.rep, 'x', 1e9) end", MEMORY),
    ("local s = 'x' while true do s = s .. s end", MEMORY),
    ("local s = 'x' while true do s = table.concat({s, s}) end", MEMORY),
    ("local s = 'x' while true do s = s:gsub('x', 'xx') end", MEMORY),
    ("local t = {} while true do t[#t + 1] = {t} end", MEMORY),
    ("local t = {} while true do pcall(function() while true do t[{}] = {} end end) end", MEMORY),
    ("local t = {} for i = 1, 1e9 do t[i] = tostring(i) end", MEMORY),
    ("local t = {} t[2^53] = 1 t[-2^53] = 1 t[0/1] = 1 return #t", ENDS),
    ("table.insert({}, -2147483648, 1)", KILLED),
    ("table.insert({}, 2^31, 1)", KILLED),
    ("table.insert({}, '2147483648', 1)", KILLED),
    ("table.insert({}, 1767225600000, 1) return 1", ENDS),
    ("table.insert({}, 1e12, 1) return 1", ENDS),
    ("table.insert({}, '1e12', 1) return 1", ENDS),
    ("table.insert({}, math.huge, 1) return 1", ENDS),
    ("table.insert({}, 0/0, 1) return 1", ENDS),
    ("local t = {} for k = 2, 29 do t[2^k] = k end t[1] = 1 t[2] = 2
      table.insert(t, 1, 'x')", KILLED),
    ("local t = {} for k = 2, 29 do t[2^k] = k end t[1] = 1 t[2] = 2
      while true do table.remove(t, 1) end", KILLED),
    ("local t = {} for k = 2, 29 do t[2^k] = k end t[1] = 1 t[2] = 2
      table.sort(t)", "attempt to compare"),
    ("local t = {} for k = 2, 29 do t[2^k] = k end t[1] = 1 t[2] = 2
      return table.concat(t)", "invalid value"),
    ("local t = {} for k = 2, 29 do t[2^k] = k end t[1] = 1 t[2] = 2
      return unpack(t)", "too many results"),
    ("return string.rep('', 1e9) .. string.rep('x', 2^32 + 1)", ENDS),
    ("return bit.tohex(1, 2^31) .. bit.tohex(1, -2^31)", ENDS),
    ("return string.format('%2147483648d', 1)", "invalid"),
    ("table.insert({}, 2147483647, 1) return 1", ENDS),
    ("return table.concat({}, 'x', 1, 2147483647)", "invalid value"),
    ("local t = {} for i = 1, 1e6 do t[i] = -i end while true do table.sort(t)
      for i = 1, 1e6 do t[i] = -i end end", KILLED),
    ("local s = ('x'):rep(1e6) local t = {} for i = 1, 1e6 do t[i] = s end return t", MEMORY),
    ("local s = ('x'):rep(1e6) local t = {} for i = 1, 7000 do t[i] = s end
      return redis.call('x', unpack(t))", MEMORY),
    ("local t = {} for i = 1, 1e5 do t = {t} end return t", ENDS),
    ("local t = {} t.map = {[t] = t} return t", ENDS),
    ("local t = {} t.set = {[t] = t, [{}] = t} return {t, t}", ENDS),
    ("local t = {} t.verbatim_string = t t.err = t t.ok = t return t", ENDS),
    ("return ('('):rep(1e5)", ENDS),
    ("return loadstring('return ' .. ('('):rep(1e5))()", "attempt to call"),
    ("return loadstring('return ' .. ('{'):rep(1e5))()", "attempt to call"),
    ("return loadstring('return ' .. ('not '):rep(1e5) .. '1')()", "attempt to call"),
    ("return loadstring('return ' .. ('2^'):rep(1e5) .. '1')()", "attempt to call"),
    ("return loadstring('return ' .. ('a..'):rep(1e5) .. '1')()", "attempt to call"),
    ("return loadstring(('do '):rep(1e5))()", "attempt to call"),
    ("return loadstring(('x=function() '):rep(1e5))()", "attempt to call"),
    ("while true do loadstring(('x=1 '):rep(1e6)) end", KILLED),
    ("local s = ('x=1 '):rep(1e7) return loadstring(s)()", ENDS),
    ("error(nil)", "ERR nil"),
    ("error(function() end)", "ERR function"),
    ("error(coroutine.create(function() end))", "ERR thread"),
    ("error(1LL)", "ERR cdata"),
    ("error(redis)", "unknown error"),
    ("error(setmetatable({}, {__index = error, __tostring = error}))", "unknown error"),
    ("return {1LL, 2i, tostring, coroutine.create(tostring)}", ENDS),
    ("redis.call('x', 1LL)", "arguments must be strings"),
    ("redis.call('x', setmetatable({}, {__tostring = function() return 'x' end}))", "must be"),
    ("coroutine.yield(1)", "yield"),
    ("return coroutine.wrap(function() return ('x'):gsub('x', coroutine.yield) end)()", "yield"),
    ("coroutine.wrap(function() table.sort({1, 2, 3}, coroutine.yield) end)()", "yield"),
    ("return string.format(('%99.99f'):rep(1e4), 1)", "bad argument"),
    ("return string.format('%1000d', 1)", "invalid"),
    ("return tonumber('1e' .. ('9'):rep(1e6))", ENDS),
    ("return ('x'):rep(1e6):find(('x?'):rep(1e4))", ENDS),
    ("collectgarbage('step', -1) collectgarbage('step', 2^40) return 1", ENDS),
    ("setmetatable({}, {__gc = function() while true do end end}) collectgarbage() return 1", ENDS),
    ("getmetatable('').__index = nil", "readonly"),
    ("return getfenv(0)", "nonexistent global"),
    ("return loadstring('return _G')()", ENDS),
    ("for k in pairs(setmetatable({}, {__pairs = error})) do end return 1", ENDS),
    ("xpcall(function() error('x') end, function() while true do end end)", KILLED),
    ("local t = setmetatable({}, {__newindex = function() while true do end end}) t.x = 1", KILLED),
    ("local function f() pcall(coroutine.wrap(f)) pcall(coroutine.wrap(f)) end f()", ENDS),
    ("while true do pcall(error, 'x') end", KILLED),
    ("while true do xpcall(error, error) end", KILLED),
    ("while true do coroutine.resume(coroutine.create(function() while true do end end))
      end", KILLED),
    ("local function f() local ok = pcall(f) while true do end end f()", KILLED),
];

/// Slices that each is given until it is killed.
const SLICES_MAX: usize = 40;

fn attack(body: &str, expected: &str) {
    let vm = Vm::new(Role::Scripts, 7, &[]).expect("it is right");
    vm.set_memory_max(16 << 20, 32 << 20);
    let script = vm.compile(body.as_bytes()).expect("it is right");
    let mut run = Run::new(&vm, &script, [], [], Protocol::Resp3).expect("there is memory");
    let mut steps = 0;
    loop {
        steps += 1;
        assert!(steps < 2 * SLICES_MAX, "it does not end");
        let answer = match steps > SLICES_MAX {
            false => Answer::Go,
            true => Answer::Kill(Killer::ScriptKill),
        };
        if run.resume(answer) == Asked::Done {
            break;
        }
        let mut reply = run.reply();
        reply.clear();
        reply.append_raw(b"+OK\r\n");
    }
    let text = shown(&mut run);
    assert!(text.contains(expected), "{}", &text[..text.len().min(300)]);
    assert!(!text.contains("error in error handling"), "{text}");
    drop(run);
    assert!(vm.memory_bytes() < 33 << 20);
    assert_eq!(run_with(&vm, "return 1", |_| ""), ":1|");
}

#[test]
fn no_script_brings_the_process_down() {
    if let Ok(which) = std::env::var(WHICH) {
        let (body, expected) = ATTACKS[which.parse::<usize>().expect("a number")];
        return attack(body, expected);
    }
    let executable = std::env::current_exe().expect("it runs");
    let name = format!("{}::no_script_brings_the_process_down", module_path!());
    let name = name.split_once("::").expect("the crate is named first").1;
    let mut faults = Vec::new();
    for (which, (body, _)) in ATTACKS.iter().enumerate() {
        let mut child = Command::new(&executable);
        child.args(["--exact", name, "--nocapture", "--test-threads=1"]);
        child.env(WHICH, which.to_string()).env("RUST_BACKTRACE", "0");
        let output = child.output().expect("it starts");
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            faults.push(format!("{body}: {}: {text}", output.status));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn sources_without_end_do_not_compile() {
    let vm = Vm::new(Role::Scripts, 7, &[]).expect("it is right");
    for (body, expected) in [
        ("\x1bLJ\x02".to_owned(), "unexpected symbol"),
        ("x".repeat(33 << 20), MEMORY),
        (format!("return {}", "(".repeat(100_000)), "too many"),
        (format!("return '{}", "x".repeat(1 << 20)), "unfinished string"),
        ("return \0".to_owned(), "unexpected symbol"),
        ("goto x".to_owned(), "label"),
    ] {
        let problem = vm.compile(body.as_bytes()).err().expect("it is wrong").0;
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn a_run_that_is_dropped_midway_is_brought_to_its_end() {
    let vm = Vm::new(Role::Scripts, 7, &[]).expect("it is right");
    let script = vm.compile(b"while true do pcall(redis.call, 'x') end").expect("it is right");
    for client in [Protocol::Resp2, Protocol::Resp3] {
        let mut run = Run::new(&vm, &script, [], [], client).expect("there is memory");
        assert_eq!(run.resume(Answer::Go), Asked::Call);
        drop(run);
        drop(Run::new(&vm, &script, [], [], client));
    }
    let script = vm.compile(b"return redis.call('x')").expect("it is right");
    let mut run = Run::new(&vm, &script, [], [], Protocol::Resp2).expect("there is memory");
    finish(&mut run, &mut |_| ":5|");
    assert_eq!(shown(&mut run), ":5|");
}

#[test]
fn a_reply_that_there_is_no_memory_for_is_an_error_of_its_call() {
    let vm = Vm::new(Role::Scripts, 7, &[]).expect("it is right");
    vm.set_memory_max(1 << 20, 2 << 20);
    let body = b"local ok, problem = pcall(redis.call, 'x') return {problem, redis.call('y')}";
    let script = vm.compile(body).expect("it is right");
    let mut run = Run::new(&vm, &script, [], [], Protocol::Resp2).expect("there is memory");
    assert_eq!(run.resume(Answer::Go), Asked::Call);
    // What the reply was lent to was left by unwinding, and it can be written again.
    run.reply().writer(Protocol::Resp2).bulk(&vec![b'x'; 4 << 20]);
    assert_eq!(run.resume(Answer::Go), Asked::Call);
    answer_with(&run, ":5|");
    assert_eq!(run.resume(Answer::Go), Asked::Done);
    assert_eq!(shown(&mut run), "*2|$17|not enough memory|:5|");
    drop(run);
    assert_eq!(run_with(&vm, "return 1", |_| ""), ":1|");
}
