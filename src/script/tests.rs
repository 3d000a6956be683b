//! Scripts against a server of the test's own.

mod attacks;
mod functions;
mod strings;

use super::convert::Failure;
use super::run::{Answer, Asked, Killer, Run};
use super::vm::{Role, Vm};
use crate::resp::{Protocol, ReplyBuf};
use std::cell::Cell;

fn vm() -> Vm {
    Vm::new(Role::Scripts, 7, &[]).expect("it is right")
}

/// What a script comes to, with line ends as bars, when calls are answered so; an error with its
/// place behind it.
fn run_with(vm: &Vm, body: &str, mut answer: impl FnMut(Vec<String>) -> &'static str) -> String {
    let script = match vm.compile(body.as_bytes()) {
        Ok(script) => script,
        Err(error) => return format!("not compiled: {}", error.0),
    };
    let words: [&[u8]; 2] = [b"one", b"two"];
    let client = Protocol::Resp2;
    let mut run = Run::new(vm, &script, words, words, client).expect("there is memory");
    finish(&mut run, &mut answer);
    shown(&mut run)
}

/// Lets a run come to its end.
fn finish(run: &mut Run, answer: &mut dyn FnMut(Vec<String>) -> &'static str) {
    for steps in 0.. {
        assert!(steps < 1000, "the script does not end");
        match run.resume(Answer::Go) {
            Asked::Done => break,
            Asked::Slice => {}
            Asked::Stopped | Asked::Evaluate => panic!("nobody debugs it"),
            Asked::Call | Asked::MayCall => {
                let request = run.request();
                let words = request.as_request();
                let words = words.iter().map(|word| String::from_utf8_lossy(word).into_owned());
                let bytes = answer(words.collect());
                drop(request);
                answer_with(run, bytes);
            }
        }
    }
}

/// Answers a call, with bars for line ends and what stands for a bar.
fn answer_with(run: &Run, reply: &str) {
    let mut buffer = run.reply();
    buffer.clear();
    buffer.append_raw(reply.replace('|', "\r\n").replace('`', "|").as_bytes());
}

fn shown(run: &mut Run) -> String {
    let mut out = ReplyBuf::new();
    match run.write_result(&mut out.writer(Protocol::Resp2)) {
        Ok(()) => String::from_utf8_lossy(&out.to_vec()).replace("\r\n", "|"),
        Err(Failure { text, place, .. }) => {
            let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let place =
                place.map(|(source, line)| format!(" on {}:{}", text_of(&source), text_of(&line)));
            format!("!{}{}", text_of(&text), place.unwrap_or_default())
        }
    }
}

fn run(body: &str) -> String {
    run_with(&vm(), body, |words| panic!("{words:?} was not expected"))
}

#[test]
fn values_become_replies() {
    for (body, reply) in [
        ("return 3.99", ":3|"),
        ("return -0.5", ":0|"),
        ("return 1e300", ":-9223372036854775808|"),
        ("return 0/0", ":-9223372036854775808|"),
        ("return 'a\\r\\nb'", "$4|a|b|"),
        ("return true", ":1|"),
        ("return false", "$-1|"),
        ("return nil", "$-1|"),
        ("return", "$-1|"),
        (
            "return print == nil",
            "!ERR user_script:1: Script attempted to access nonexistent global \
          variable 'print' on @user_script:1",
        ),
        ("return {1,2,{3,'x'},nil,5}", "*3|:1|:2|*2|:3|$1|x|"),
        ("return {}", "*0|"),
        ("return {1,2,3,4}", "*4|:1|:2|:3|:4|"),
        ("return {1,[3]=2}", "*1|:1|"),
        ("return {[2]=1,[1]=2}", "*2|:2|:1|"),
        ("return {[1.5]=1}", "*0|"),
        ("return {1,2,ok='fine'}", "+fine|"),
        ("return {1,2,3,4,5,err='A b'}", "!A b"),
        ("return {err='MY_ERR text'}", "!MY_ERR text"),
        ("return {ok='fine\\r\\n'}", "+fine|"),
        ("return {double=1.5}", "$3|1.5|"),
        ("return {map={a=1}}", "*2|$1|a|:1|"),
        ("return {set={a=true}}", "*1|$1|a|"),
        ("return {big_number='123'}", "$3|123|"),
        ("return {verbatim_string={string='hi',format='txt'}}", "$2|hi|"),
        ("return KEYS[1] .. ARGV[2] .. #KEYS", "$7|onetwo2|"),
        ("return redis.status_reply('YES')", "+YES|"),
        ("return redis.error_reply('oops')", "!ERR oops"),
        ("return redis.error_reply('-CODE oops')", "!CODE oops"),
        ("return redis.error_reply('-oops')", "!ERR oops"),
        ("return {{err='A b'}}", "*1|-A b|"),
        ("return redis.error_reply()", "!ERR wrong number or type of arguments"),
        ("return {err='A b\\0c'}", "!A b"),
        ("return {ok='a\\0b'}", "+a|"),
        ("return {{err='A b\\0c'}}", "*1|-A b|"),
        ("error('a\\0b', 0)", "!ERR a on @user_script:1"),
        ("error({err='A b\\0c'})", "!A b on @user_script:1"),
        ("return redis.sha1hex('return 1')", "$40|e0e1f9fabfc9d4800c877a703b823ac0578ff8db|"),
        ("return coroutine.wrap(function() coroutine.yield(5) end)()", ":5|"),
    ] {
        assert_eq!(run(body), reply, "{body}");
    }
}

#[test]
fn nested_and_cyclic_values_end() {
    let cyclic = run("local t = {} t[1] = t return t");
    assert!(cyclic.starts_with("*1|*1|*1|") && cyclic.ends_with("-ERR reached lua stack limit|"));
    assert_eq!(cyclic.matches("*1|").count(), 1000);
    assert_eq!(run("return setmetatable({}, {__index=function() error('no') end})"), "*0|");
}

#[test]
fn errors_say_where_they_were_raised() {
    for (body, reply) in [
        ("error('oops')", "!ERR user_script:1: oops on @user_script:1"),
        ("\n\nerror({err='MY oops'})", "!MY oops on @user_script:3"),
        ("error({})", "!ERR unknown error on @user_script:1"),
        (
            "local f = function()\nlocal x = nil + 1\nend\nf()",
            "!ERR user_script:2: attempt to perform arithmetic on a nil value on @user_script:2",
        ),
        (
            "return redis.call()",
            "!ERR Please specify at least one argument for this redis lib call on @user_script:1",
        ),
        (
            "return redis.pcall({})",
            "!ERR Lua redis lib command arguments must be strings or integers",
        ),
        ("x = 1", "!ERR user_script:1: Attempt to modify a readonly table on @user_script:1"),
        ("return ((", "not compiled: user_script:1: unexpected symbol near '<eof>'"),
        ("return {pcall(function() error('x', 0) end)}", "*2|$-1|$1|x|"),
    ] {
        assert_eq!(run(body), reply, "{body}");
    }
}

/// A call that is returned takes the place of its caller, and with it the line.
#[test]
fn errors_of_returned_calls_say_where_they_were_raised() {
    for (call, text) in [
        ("assert(false, 'no key')", "no key"),
        ("('x'):find('%')", "malformed pattern (ends with '%')"),
        ("string.gmatch('x', '%')()", "malformed pattern (ends with '%')"),
        ("tostring()", "bad argument #1 to 'tostring' (value expected)"),
        ("select(0)", "bad argument #1 to 'select' (index out of range)"),
        ("next()", "bad argument #1 to 'next' (table expected, got no value)"),
        ("pairs(nil)", "bad argument #1 to 'pairs' (table expected, got nil)"),
        ("pairs()", "bad argument #1 to 'pairs' (table expected, got no value)"),
        ("ipairs(nil)", "bad argument #1 to 'ipairs' (table expected, got nil)"),
        ("unpack(nil)", "bad argument #1 to 'unpack' (table expected, got nil)"),
        ("xpcall(1)", "bad argument #2 to 'xpcall' (value expected)"),
        ("load()", "bad argument #1 to 'load' (function expected, got no value)"),
        ("loadstring(nil)", "bad argument #1 to 'loadstring' (string expected, got nil)"),
        ("loadstring('error(5, 2)')()", "5"),
        ("table.sort()", "bad argument #1 to 'sort' (table expected, got no value)"),
        ("table.insert({}, 1, 2, 3)", "wrong number of arguments to 'insert'"),
        ("table.setn({}, 1)", "'setn' is obsolete"),
        ("table.foreach({1}, 1)", "bad argument #2 to 'foreach' (function expected, got number)"),
        ("collectgarbage('x')", "bad argument #1 to 'collectgarbage' (invalid option 'x')"),
        ("coroutine.wrap(function() error('x', 0) end)()", "x"),
        ("coroutine.create(1)", "bad argument #1 to 'create' (Lua function expected)"),
        ("coroutine.wrap(1)", "bad argument #1 to 'wrap' (Lua function expected)"),
        ("coroutine.resume(1)", "bad argument #1 to 'resume' (coroutine expected)"),
        ("struct.unpack('i', 'x')", "bad argument #2 to 'unpack' (data string too short)"),
        (
            "cmsgpack.unpack_limit('x')",
            "bad argument #2 to 'unpack_limit' (number expected, got no value)",
        ),
        ("math.modf()", "bad argument #1 to 'modf' (number expected, got no value)"),
        ("rawget({})", "bad argument #2 to 'rawget' (value expected)"),
        ("rawset({}, 1)", "bad argument #3 to 'rawset' (value expected)"),
        ("getmetatable()", "bad argument #1 to 'getmetatable' (value expected)"),
        ("setmetatable({})", "bad argument #2 to 'setmetatable' (nil or table expected)"),
        ("tonumber()", "bad argument #1 to 'tonumber' (value expected)"),
        ("tonumber('f', 2^31)", "bad argument #2 to 'tonumber' (base out of range)"),
        ("string.sub('x')", "bad argument #2 to 'sub' (number expected, got no value)"),
        ("string.sub('x', nil)", "bad argument #2 to 'sub' (number expected, got nil)"),
        ("string.char(2^31)", "bad argument #1 to 'char' (invalid value)"),
    ] {
        let place = "on @user_script:2";
        let expected = format!("!ERR user_script:2: {text} {place}");
        assert_eq!(run(&format!("\nreturn {call}")), expected, "{call}");
        let within = format!("local function f()\nreturn {call}\nend\nlocal r = f() return r");
        assert_eq!(run(&within), expected, "{call}");
    }
    for call in ["redis.call{}", "redis.call{'ping'}"] {
        let text = "ERR Lua redis lib command arguments must be strings or integers";
        assert_eq!(run(&format!("return {call}")), format!("!{text} on @user_script:1"));
    }
    let vm = vm();
    let answer = |body: &str| run_with(&vm, body, |_| "-ERR no|");
    for body in ["return redis.call'x'", "return redis.call[[x]]", "return redis.call\"x\""] {
        assert_eq!(answer(body), "!ERR no on @user_script:1", "{body}");
    }
}

#[test]
fn returned_calls_lose_no_value_and_functions_of_scripts_return_as_deep_as_they_like() {
    for (body, reply) in [
        ("local function f() return unpack({1, nil, 3}, 1, 3) end return select('#', f())", ":3|"),
        ("local function f() return redis.log(1, 'x') end return select('#', f())", ":0|"),
        ("local function f() return redis.setresp(2) end return select('#', f())", ":0|"),
        ("local function f() return assert(1, 2, 3) end return {f()}", "*3|:1|:2|:3|"),
        ("local function f() return ('x'):gsub('x', 'y') end return {f()}", "*2|$1|y|:1|"),
        ("local function f() return math.modf(1.5) end return select('#', f())", ":2|"),
        (
            "local call = math.floor and function() return 1, 2 end \
             local function f() return call() end return {f()}",
            "*2|:1|:2|",
        ),
        (
            "local call = redis.call and function() return 1, 2 end \
             local function f() return call() end return {f()}",
            "*2|:1|:2|",
        ),
        (
            "local function f(n) if n == 0 then return 7 end return f(n - 1) end return f(1e5)",
            ":7|",
        ),
        (
            "local t = {} function t:find(n) if n == 0 then return 7 end return self:find(n - 1) \
             end return t:find(1e5)",
            ":7|",
        ),
        ("return loadstring('return ...', 'x')(8)", ":8|"),
        ("return coroutine.wrap(function(...) return ... end)(9)", ":9|"),
    ] {
        assert_eq!(run(body), reply, "{body}");
    }
}

#[test]
fn no_error_tells_of_a_file_of_ours() {
    for (body, reply) in [
        ("return select(2, pcall(error, 'a', 2))", "$16|user_script:1: a|"),
        ("return select(2, pcall(error, 'a', 1))", "$1|a|"),
        ("return select(2, pcall(error, 'a', 3))", "$1|a|"),
        ("return select(2, pcall(function() error('a', 2) end))", "$1|a|"),
        (
            "return select(2, xpcall(function() error('a', 2) end, function(e) return e end))",
            "$1|a|",
        ),
        (
            "local function f() error('a', 2) end\nlocal function g()\nf()\nend\ng()",
            "!ERR user_script:3: a on @user_script:1",
        ),
        ("error('a', 1e9)", "!ERR a on @user_script:1"),
        (
            "local t = {} for i = 1, 10001 do t[i] = 'x' end t[5] = 1 table.sort(t)",
            "!ERR attempt to compare number with string on @user_script:1",
        ),
    ] {
        assert_eq!(run(body), reply, "{body}");
    }
    for body in [
        "local function f() return 1 + select(2, pcall(f)) end f()",
        "local function f() return (pcall(f)) end f() return 1",
        "local t = {} t[1] = setmetatable({}, {__tostring = function() return t end}) \
         return {pcall(collectgarbage, t[1])}",
        "return {pcall(coroutine.wrap(function() return nil + 1 end))}",
        "return {pcall(coroutine.resume)}",
        "return {pcall(xpcall)}",
        "return {pcall(load, function() return nil + 1 end)}",
        "return {pcall(string.gsub, 'x', 'x', function() return nil + 1 end)}",
        "return {pcall(table.foreach, {1}, function() return nil + 1 end)}",
        "return {pcall(tonumber, {}, 5)}",
        "return {pcall(tonumber, '5', {})}",
        "return {pcall(string.rep, 'x', {})}",
        "return {pcall(string.sub, 'x', 1, {})}",
        "return {pcall(table.insert, {}, {}, 1)}",
        "return {pcall(table.remove, {1}, {})}",
        "return {pcall(table.concat, {1}, '', {})}",
        "return {pcall(unpack, {1}, {})}",
        "return {pcall(select, {})}",
        "return {pcall(bit.tohex, 1, {})}",
        "return {pcall(math.ldexp, 1, {})}",
        "local function f() return f() + 1 end return {pcall(f)}",
        "local function f(...) return unpack({f(...)}) end return {pcall(f)}",
        "local function f() return select('#', tostring(tonumber('1' .. f()))) end \
         return {pcall(f)}",
    ] {
        let reply = run(body);
        assert!(!reply.contains("prelude"), "{body}: {reply}");
    }
}

#[test]
fn calls_are_asked_for_and_answered() {
    let vm = vm();
    let ask = |body: &str, reply: &'static str, expected: &[&str]| {
        let mut asked = Vec::new();
        let result = run_with(&vm, body, |words| {
            asked = words;
            reply
        });
        assert_eq!(asked, expected, "{body}");
        result
    };
    assert_eq!(ask("return redis.call('get', KEYS[1])", "$1|v|", &["get", "one"]), "$1|v|");
    assert_eq!(ask("return redis.call('x', 1, 2.5, -0)", "+OK|", &["x", "1", "2.5", "0"]), "+OK|");
    assert_eq!(ask("return redis.call('x') == false", "$-1|", &["x"]), ":1|");
    assert_eq!(ask("return redis.call('x')[2][1]", "*2|:1|*1|:7|", &["x"]), ":7|");
    let failing = "-WRONGTYPE no|";
    assert_eq!(ask("return redis.call('x')", failing, &["x"]), "!WRONGTYPE no on @user_script:1");
    assert_eq!(ask("return redis.pcall('x')", failing, &["x"]), "!WRONGTYPE no");
    assert_eq!(ask("return redis.pcall('x').err", failing, &["x"]), "$12|WRONGTYPE no|");
    assert_eq!(ask("return {pcall(redis.call, 'x')}", failing, &["x"]), "*2|$-1|$12|WRONGTYPE no|");
    let map = "%1|$1|k|~2|:1|#t|";
    assert_eq!(ask("redis.setresp(3) return redis.call('x').map.k.set[1]", map, &["x"]), ":1|");
    assert_eq!(ask("return redis.call('x')", "`1|+a|:1|:5|", &["x"]), ":5|", "an attribute");
    assert_eq!(ask("return redis.call('x').double", ",1.5|", &["x"]), ":1|");
}

#[test]
fn nothing_that_is_shared_can_be_changed() {
    let readonly = "Attempt to modify a readonly table";
    for body in [
        "_G.x = 1",
        "redis.call = nil",
        "string.rep = nil",
        "rawset(_G, 'x', 1)",
        "rawset(redis, 'x', 1)",
        "setmetatable(_G, {})",
        "setmetatable(math, {})",
        "getmetatable('').__index = nil",
        "getmetatable(redis).__index = nil",
        "rawset(getmetatable(''), '__index', nil)",
        "table.insert(redis, 1)",
        "table.sort(bit)",
        "getmetatable(redis).__index.call = nil",
        "getmetatable(_G).__newindex = nil",
    ] {
        let reply = run(body);
        assert!(reply.contains(readonly), "{body}: {reply}");
    }
    let hidden = "return {rawget(redis, 'call') ~= nil, next(os), getmetatable('').__index ~= nil, \
                  rawequal(_G._G, _G)}";
    assert_eq!(run(hidden), "*4|:1|$5|clock|:1|:1|");
    assert_eq!(run("local n = 0 for k in pairs(os) do n = n + 1 end return n"), ":1|");
}

#[test]
fn what_scripts_reach_is_what_is_listed() {
    let list = |of: &str| {
        let body = format!(
            "local n = {{}} for k in pairs({of}) do n[#n+1] = tostring(k) end table.sort(n) \
             return table.concat(n, ' ')"
        );
        run(&body).split('|').nth(1).expect("a bulk string").to_owned()
    };
    assert_eq!(
        list("_G"),
        "ARGV KEYS _G _VERSION assert bit cjson cmsgpack collectgarbage coroutine error gcinfo \
         getmetatable ipairs load loadstring math next os pairs pcall rawequal rawget rawset redis \
         select server setmetatable string struct table tonumber tostring type unpack xpcall"
    );
    assert_eq!(list("coroutine"), "create resume running status wrap yield");
    assert_eq!(
        list("string"),
        "byte char dump find format gfind gmatch gsub len lower match rep reverse sub upper"
    );
    assert_eq!(
        list("redis"),
        "LOG_DEBUG LOG_NOTICE LOG_VERBOSE LOG_WARNING REPL_ALL REPL_AOF REPL_NONE REPL_REPLICA \
         REPL_SLAVE acl_check_cmd breakpoint call debug error_reply log pcall replicate_commands \
         set_repl setresp sha1hex status_reply"
    );
}

#[test]
fn compiled_code_is_not_loaded() {
    for body in [
        "return loadstring('\\27LJ\\2')",
        "return {load(function() return nil end)}",
        "return loadstring(string.dump(function() return 1 end))()",
        "return loadstring('return x')()",
        "return loadstring('return 7')()",
    ] {
        let reply = run(body);
        let is_right = match body {
            body if body.contains("27LJ") => reply == "$-1|",
            body if body.contains("dump") => reply.contains("attempt to call a nil value"),
            body if body.contains("return x") => reply.contains("nonexistent global"),
            body if body.contains("return 7") => reply == ":7|",
            _ => reply.starts_with('*'),
        };
        assert!(is_right, "{body}: {reply}");
    }
}

#[test]
fn a_script_that_never_ends_lets_others_in_and_can_be_killed_wherever_it_is() {
    for body in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local f = coroutine.wrap(function() while true do end end) f()",
        "local t = {} for i = 1, 1e5 do t[i] = i % 977 end \
         while true do table.sort(t, function(a, b) \
         return a < b end) end",
        "while true do string.gsub(('x'):rep(1000), '.', function() end) end",
        "while true do xpcall(function() error('x') end, function() while true do end end) end",
        "while true do pcall(redis.call, 'x') end",
    ] {
        let vm = vm();
        let script = vm.compile(body.as_bytes()).expect("it is right");
        let mut run = Run::new(&vm, &script, [], [], Protocol::Resp2).expect("there is memory");
        let mut slices = 0;
        while slices < 3 {
            match run.resume(Answer::Go) {
                Asked::Slice => slices += 1,
                Asked::Call | Asked::MayCall => {
                    let mut reply = run.reply();
                    reply.clear();
                    reply.append_raw(b"+OK\r\n");
                }
                _ => panic!("{body}: it has ended: {}", shown(&mut run)),
            }
        }
        let mut steps = 0;
        while run.resume(Answer::Kill(Killer::ScriptKill)) != Asked::Done {
            steps += 1;
            assert!(steps < 1000, "{body}: it does not end");
        }
        let text = shown(&mut run);
        assert!(
            text.starts_with("!ERR Script killed by user with SCRIPT KILL..."),
            "{body}: {text}"
        );
        // The state is as good as before.
        drop(run);
        assert_eq!(run_with(&vm, "return 1", |_| "+OK|"), ":1|", "{body}");
    }
}

#[test]
fn a_long_value_lets_others_in_and_can_be_killed_while_it_is_written() {
    let vm = vm();
    let values = [
        "local t = {} for i = 1, 1e6 do t[i] = i end return t",
        "local t = {} for i = 1, 5e5 do t[i] = 'x' end return {map = t}",
        "return redis.call('x')",
    ];
    let reply = format!("*1000000|{}", ":1|".repeat(1_000_000));
    let slices_of = |body: &str, slices_max: usize| {
        let script = vm.compile(body.as_bytes()).expect("it is right");
        let mut run = Run::new(&vm, &script, [], [], Protocol::Resp2).expect("there is memory");
        for slices in 0..slices_max {
            let mut asked = run.resume(Answer::Go);
            if asked == Asked::Call {
                answer_with(&run, &reply);
                asked = run.resume(Answer::Go);
            }
            if asked == Asked::Done {
                return (slices, shown(&mut run).len());
            }
        }
        assert_eq!(run.resume(Answer::Kill(Killer::FunctionKill)), Asked::Done);
        assert!(shown(&mut run).starts_with("!ERR Script killed by user with FUNCTION KILL..."));
        (slices_max, 0)
    };
    for body in values {
        // Most of its slices are those of what it comes to.
        let (slices, len) = slices_of(body, 100);
        assert!(slices > 10 && len > 1_000_000, "{body}: {slices} slices, {len} bytes");
        slices_of(body, slices - 1);
        slices_of(body, slices / 2);
    }
}

#[test]
fn what_is_wrong_with_a_call_of_the_api_is_said() {
    for (body, reply) in [
        ("redis.setresp()", "ERR redis.setresp() requires one argument."),
        ("return server.setresp()", "ERR server.setresp() requires one argument."),
        ("redis.setresp(4)", "ERR RESP version must be 2 or 3."),
        ("redis.log()", "ERR redis.log() requires two arguments or more."),
        ("redis.log('a', 'b')", "ERR First argument must be a number (log level)."),
        ("redis.log(10, 'b')", "ERR Invalid log level."),
        ("redis.log(-1, 'b')", "ERR Invalid log level."),
        ("server.set_repl()", "ERR server.set_repl() requires one argument."),
        (
            "redis.set_repl(7)",
            "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        ),
        ("redis.sha1hex()", "ERR wrong number of arguments"),
        ("return redis.sha1hex(1, 2)", "ERR wrong number of arguments"),
        (
            "redis.acl_check_cmd()",
            "ERR Please specify at least one argument for this redis lib call",
        ),
        (
            "redis.acl_check_cmd({})",
            "ERR Lua redis lib command arguments must be strings or integers",
        ),
        (
            "string.rep('x')",
            "ERR user_script:1: bad argument #2 to 'rep' (number expected, got no \
          value)",
        ),
        ("math.random(2^31)", "ERR user_script:1: bad argument #1 to 'random' (interval is empty)"),
        ("math.random(0)", "ERR user_script:1: bad argument #1 to 'random' (interval is empty)"),
        (
            "math.random('a')",
            "ERR user_script:1: bad argument #1 to 'random' (number expected, got \
          string)",
        ),
        ("math.random(1, 2, 3)", "ERR user_script:1: wrong number of arguments"),
        (
            "collectgarbage('foo')",
            "ERR user_script:1: bad argument #1 to 'collectgarbage' (invalid \
          option 'foo')",
        ),
        ("local t = {} t.x.y = 1", "ERR user_script:1: attempt to index field 'x' (a nil value)"),
        ("redis.foo()", "ERR user_script:1: attempt to call field 'foo' (a nil value)"),
        ("os.execute()", "ERR user_script:1: attempt to call field 'execute' (a nil value)"),
        ("error()", "ERR nil"),
        ("error(true)", "ERR true"),
        ("error({err = 5})", "5"),
        ("error('oops', 0)", "ERR oops"),
        (
            "return coroutine.wrap(function() error('oops') end)(), 1",
            "ERR user_script:1: \
          user_script:1: oops",
        ),
        ("coroutine.wrap(function() error({err = 'A b'}) end)()", "A b"),
        ("local f = loadstring('error(1)') f()", "ERR [string \"error(1)\"]:1: 1"),
    ] {
        assert_eq!(run(body), format!("!{reply} on @user_script:1"), "{body}");
    }
}

#[test]
fn functions_of_the_sandbox_do_what_they_did_in_5_1() {
    for (body, reply) in [
        ("redis.log(redis.LOG_NOTICE, 'a', 1) return 1", ":1|"),
        ("return redis.replicate_commands()", ":1|"),
        ("return {redis.breakpoint(), redis.debug('x')}", "*1|$-1|"),
        ("return select('#', pcall(error))", ":2|"),
        ("return {pcall(error, {err = 'A b'})}", "*2|$-1|$3|A b|"),
        ("return {pcall(error, {err = 5})}", "*2|$-1|:5|"),
        ("local n = 0 table.foreach(os, function() n = n + 1 end) return n", ":1|"),
        ("return {math.random(2^32 + 1), math.random(-2^31, 2^31 - 1)}", "*2|:1|:-2147483648|"),
        ("return tostring(tonumber('-z', 36))", "$18|1.844674407371e+19|"),
        ("return {tonumber('-8', 10), tonumber('z', 36)}", "*2|:-8|:35|"),
        ("#junk\nreturn 1", "not compiled: user_script:1: unexpected symbol near '#'"),
        (
            "return {xpcall(function() error({err = 'A b'}) end, function(e) return e.err end)}",
            "*2|$-1|$3|A b|",
        ),
        (
            "return {xpcall(function() error('x') end, error)}",
            "*2|$-1|$23|error in error handling|",
        ),
        ("local t = {} for i = 1, 20000 do t[i] = -i end table.sort(t) return t[1]", ":-20000|"),
        ("local t = {1, 2} table.insert(t, 0, 0) return {t[0], t[2], t[3]}", "*3|:0|:1|:2|"),
        (
            "local f, e = loadstring('x x x') return e",
            "$41|[string \"x x x\"]:1: '=' expected near 'x'|",
        ),
        ("return table.concat({'a', 'b'}, ',')", "$3|a,b|"),
        ("return tostring(1e15) .. tostring(0.1)", "$8|1e+150.1|"),
        ("return {bit.band(6, 3), bit.tohex(255)}", "*2|:2|$8|000000ff|"),
        ("return bit.tohex(65535, -2147483648)", "$8|0000FFFF|"),
    ] {
        assert_eq!(run(body), reply, "{body}");
    }
}

#[test]
fn the_engine_is_asked_for_rights_and_told_of_settings() {
    let vm = vm();
    let asked = |body: &str, reply: &'static str| {
        let script = vm.compile(body.as_bytes()).expect("it is right");
        let mut run = Run::new(&vm, &script, [], [], Protocol::Resp3).expect("there is memory");
        assert_eq!(run.resume(Answer::Go), Asked::MayCall, "{body}");
        answer_with(&run, reply);
        finish(&mut run, &mut |words| panic!("{words:?} was not expected"));
        let settings = (run.protocol(), run.targets());
        (shown(&mut run), settings)
    };
    let check = "redis.setresp(3) redis.set_repl(1) return redis.acl_check_cmd('set', 'k')";
    assert_eq!(asked(check, ":1|"), ("#t|".to_owned(), (Protocol::Resp3, 1)));
    assert_eq!(asked(check, ":0|").0, "#f|");
    let plain = "return redis.acl_check_cmd('set', 'k')";
    assert_eq!(asked(plain, ":0|"), ("_|".to_owned(), (Protocol::Resp2, 3)));
    let wrong = "-ERR Invalid command passed to redis.acl_check_cmd()|";
    let text = "!ERR Invalid command passed to redis.acl_check_cmd() on @user_script:1";
    assert_eq!(asked(plain, wrong).0, text);
}

#[test]
fn nothing_of_a_script_is_there_for_the_next() {
    let vm = vm();
    let first = "KEYS[1] = 'mine' KEYS.x = 1 local s = KEYS redis.setresp(3) return KEYS[1]";
    assert_eq!(run_with(&vm, first, |_| ""), "$4|mine|");
    assert_eq!(
        run_with(&vm, "return {KEYS[1], tostring(KEYS.x), true}", |_| ""),
        "*3|$3|one|$3|nil|:1|"
    );
}

#[test]
fn numbers_go_into_commands_as_they_read() {
    let vm = vm();
    for (number, text) in [
        ("2^60", "1152921504606846976"),
        ("2^62", "4611686018427387904"),
        ("-2^62", "-4611686018427387904"),
        ("2^53 + 2", "9007199254740994"),
        ("2^63", "9223372036854776000"),
        ("-0.0", "0"),
        ("0.1", "0.1"),
        ("1e-7", "1e-7"),
        ("1e100", "1e+100"),
        ("1/0", "inf"),
        ("-1/0", "-inf"),
        ("1/3", "0.3333333333333333"),
    ] {
        let mut asked = Vec::new();
        run_with(&vm, &format!("redis.call({number})"), |words| {
            asked = words;
            "+OK|"
        });
        assert_eq!(asked, [text], "{number}");
    }
}

/// Whoever assigns to no global has the globals without a guard, so nothing may pass for that.
#[test]
fn no_script_changes_a_global() {
    let vm = vm();
    const REFUSED: &str = "Attempt to modify a readonly table";
    for body in [
        "x = 1",
        "KEYS = {}",
        "redis = {call = 1}",
        "local a a, tonumber = 1, 2",
        "function tonumber() end",
        "function redis.call() end",
        "redis.call = 1",
        "redis.call, redis.pcall = 1, 2",
        "local function f() return function() type = 1 end end f()()",
        "for i = 1, 2 do if i == 2 then type = i end end",
        "_G.x = 1",
        "local g = _G g.type = 1",
        "rawset(_G, 'type', 1)",
        "loadstring('type = 1')()",
        "loadstring('local r = ... r.call = 1')(redis)",
        "loadstring('return function() type = 1 end')()()",
        "local t = redis t.call = 1",
        "redis['call'] = 1",
        "string.len = 1",
        "table.insert(redis, 1)",
        "setmetatable(redis, {})",
    ] {
        let reply = run_with(&vm, body, |_| "+OK|");
        assert!(reply.contains(REFUSED), "{body}: {reply}");
        let after = "return {type(redis.call), type(tonumber), type(type), type(KEYS), #KEYS, \
                     string.len('ab'), (pcall(function() return _G.x end))}";
        let expected = "*7|$8|function|$8|function|$8|function|$5|table|:2|:2|$-1|";
        assert_eq!(run_with(&vm, after, |_| "+OK|"), expected, "{body}");
    }
}

#[test]
fn both_ways_to_see_the_globals_show_the_same() {
    let vm = vm();
    let guarded = "local seen = _G ";
    for body in [
        "return type(redis.call) .. type(redis.pcall) .. tostring(redis.call == redis['call'])",
        "return redis.call('x', KEYS[2], ARGV[1])",
        "return redis.pcall('x')",
        "local call = redis.call return call('x')",
        "local server = {call = 5} return server.call",
        "return ({redis = {call = 6}}).redis.call",
        "return nothing",
        "return redis.call.x",
        "return redis.call + 1",
        "return redis.call .. 'x'",
        "return redis.call:x()",
        "return redis.nothing",
        "return pcall(function() return redis.nothing() end)",
        "return {pcall(math.floor, 'x')}",
        "return math.floor('x')",
        "return {pcall(function() return math.floor('x') end)}",
        "return #KEYS + #ARGV",
    ] {
        let answer = |words: Vec<String>| if words.len() > 1 { "$1|a|" } else { "-ERR no|" };
        let expected = run_with(&vm, &format!("{guarded}{body}"), answer);
        assert_eq!(run_with(&vm, body, answer), expected, "{body}");
    }
    let names = "local names = {} for name in pairs(_G) do names[#names + 1] = name end \
                 local name = next(_G) while name do \
                 if not name:match('^[%w_]+$') then return name end name = next(_G, name) end \
                 for _, name in ipairs(names) do \
                 if not name:match('^[%w_]+$') then return name end end return #names > 20";
    assert_eq!(run_with(&vm, names, |_| ""), ":1|");
}

#[test]
fn a_fresh_state_is_small() {
    // The tests of Redis want less than 100 KB after many scripts; its own state holds about 40 KB.
    let vm = vm();
    let fresh = vm.memory_bytes();
    assert!(fresh < 90 << 10, "{fresh}");
    for n in 0..2000 {
        assert_eq!(run_with(&vm, &format!("return {n}"), |_| ""), format!(":{n}|"));
    }
    while !vm.collect_some() {}
    assert!(vm.memory_bytes() < fresh + fresh / 8, "{} of {fresh}", vm.memory_bytes());
}

thread_local! {
    static READINGS: Cell<u64> = const { Cell::new(0) };
}

/// How often a script of some 200,000 instructions is put aside, and how often it is looked at, if
/// so much time passes between two looks.
fn slices_and_looks(ns_a_look: fn(u64) -> u64) -> (usize, u64) {
    thread_local! {
        static NS_A_LOOK: Cell<fn(u64) -> u64> = const { Cell::new(|_| 0) };
    }
    NS_A_LOOK.set(ns_a_look);
    READINGS.set(0);
    let vm = vm();
    vm.set_ticks(|| {
        READINGS.set(READINGS.get() + 1);
        NS_A_LOOK.get()(READINGS.get())
    });
    let script = vm.compile(b"for i = 1, 200000 do end").expect("it is right");
    let nothing = || std::iter::empty::<&[u8]>();
    let mut run = Run::new(&vm, &script, nothing(), nothing(), Protocol::Resp2).expect("a stack");
    let slices = std::iter::from_fn(|| (run.resume(Answer::Go) == Asked::Slice).then_some(()));
    let slices = slices.count();
    assert_eq!(shown(&mut run), "$-1|");
    (slices, READINGS.get())
}

#[test]
fn what_takes_long_is_put_aside_and_looked_at_more_often() {
    let (slices, looks) = slices_and_looks(|_| 0);
    assert_eq!(slices, 0, "it is short, and nobody measures");
    assert!((100..1000).contains(&looks), "{looks}");
    // As long as a look at each thousand of instructions is often enough.
    let (slices, same_looks) = slices_and_looks(|reading| reading * 100_000);
    assert!((2..50).contains(&slices), "{slices}");
    assert_eq!(same_looks, looks);
    let (slices, more_looks) = slices_and_looks(|reading| reading * 2_000_000);
    assert!(slices > 1000 && more_looks > 50 * looks, "{slices} {more_looks}");
    // Only the beginning took long.
    let (slices, looks_again) = slices_and_looks(|reading| reading.min(5) * 2_000_000);
    assert!(slices < 10 && looks_again < 2 * looks, "{slices} {looks_again}");
}

/// How often a script is put aside, if no time passes.
fn slices_of(body: &str) -> usize {
    let vm = vm();
    let script = vm.compile(body.as_bytes()).expect("it is right");
    let nothing = || std::iter::empty::<&[u8]>();
    let mut run = Run::new(&vm, &script, nothing(), nothing(), Protocol::Resp2).expect("a stack");
    let slices = std::iter::from_fn(|| (run.resume(Answer::Go) == Asked::Slice).then_some(()));
    let slices = slices.count();
    assert_eq!(shown(&mut run), "$-1|", "{body}");
    slices
}

/// An instruction may take as long as a million others. A script of less than a thousand of them is
/// looked at as soon as one has made something large, or may go through it.
#[test]
fn a_costly_instruction_is_followed_by_a_look() {
    assert_eq!(slices_of("local s = ('x'):rep(1e4) for i = 1, 50 do local t = s .. i end"), 0);
    for (body, expected) in [
        ("local s = ('x'):rep(2e7) for i = 1, 50 do local t = s .. i end", 50),
        ("local s = ('x'):rep(2e7) for i = 1, 50 do s = s:sub(2) end", 50),
        ("local t = {} for i = 1, 2e5 do t[i] = {} end for i = 1, 50 do collectgarbage() end", 25),
    ] {
        let slices = slices_of(body);
        assert!((expected..4 * expected).contains(&slices), "{body}: {slices}");
    }
}

#[test]
fn a_script_is_looked_at_more_often_while_there_is_something_large() {
    let looks = |body: &str| {
        READINGS.set(0);
        let vm = vm();
        vm.set_ticks(|| {
            READINGS.set(READINGS.get() + 1);
            0
        });
        assert_eq!(run_with(&vm, body, |_| ""), "$-1|", "{body}");
        READINGS.get()
    };
    let counting = "for i = 1, 20000 do end";
    let large = format!("local s = ('x'):rep(4e7) {counting} local t = s:len()");
    let (few, many) = (looks(counting), looks(&large));
    assert!(many > 8 * few, "{few} {many}");
    let again = format!("do {large} end for i = 1, 9 do collectgarbage() end {counting}");
    let after = looks(&again);
    assert!(after < many + 3 * few, "{few} {many} {after}");
}

#[test]
fn random_numbers_repeat_with_their_seed() {
    let vm = vm();
    let draw = "math.randomseed(9) local t = {} for i = 1, 5 do t[i] = math.random(100) end \
                return table.concat(t, ' ')";
    let first = run_with(&vm, draw, |_| "");
    assert_eq!(run_with(&vm, draw, |_| ""), first);
    assert_ne!(
        run_with(&vm, "return tostring(math.random())", |_| ""),
        run_with(&vm, "return tostring(math.random())", |_| "")
    );
    assert!(run("return math.random(2, 1)").contains("interval is empty"));
}
