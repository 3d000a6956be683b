//! Libraries of functions: what they see while they load, what they register, and how it runs.

use super::{finish, shown};
use crate::resp::Protocol;
use crate::script::run::{Answer, Asked, Killer, Run};
use crate::script::shebang::Flags;
use crate::script::vm::{Fact, Registered, Role, Vm};

fn vm() -> Vm {
    let facts = [("REDIS_VERSION", Fact::Text("7.2.4")), ("REDIS_VERSION_NUM", Fact::Number(7.0))];
    Vm::new(Role::Functions, 7, &facts).expect("it is right")
}

/// What a library registers, or the text of its error.
fn load(vm: &Vm, code: &str) -> Result<Vec<Registered>, String> {
    let library = vm.compile_library(code.as_bytes()).map_err(|problem| problem.0)?;
    let mut run = Run::of_library(vm, &library).expect("there is memory");
    finish(&mut run, &mut |words| panic!("{words:?} was not expected"));
    run.registered().map_err(|failure| String::from_utf8_lossy(&failure.text).into_owned())
}

/// What a function of that name comes to.
fn call(vm: &Vm, library: &[Registered], name: &str) -> String {
    let function = library.iter().find(|function| function.name == name.as_bytes());
    let callback = &function.expect("it is registered").callback;
    let (keys, args): ([&[u8]; 1], [&[u8]; 2]) = ([b"key"], [b"one", b"two"]);
    let mut run =
        Run::of_function(vm, callback, keys, args, Protocol::Resp2).expect("there is memory");
    finish(&mut run, &mut |_| "+OK|");
    shown(&mut run)
}

#[test]
fn functions_are_given_their_keys_and_arguments() {
    let vm = vm();
    let code = "
        local count = 0
        local register = redis.register_function
        local early = redis
        redis.register_function('f', function(keys, args)
            count = count + 1
            keys[1] = keys[1] .. '!'
            return {keys[1], args[2], count, type(math), type(redis.register_function)}
        end)
        server.register_function{function_name = 'g', callback = function() x = 1 end,
            description = 'what it is', flags = {'no-writes', 'allow-oom', 'no-writes'}}
        redis.register_function('call', function() return redis.call('x') end)
        redis.register_function('late', function() return register('x', register) end)
        redis.register_function('early', function() return early.call('x') end)
        redis.register_function('keys', function() return KEYS end)
        redis.register_function('all', function()
            local n = {} for k in pairs(redis) do n[#n + 1] = k end table.sort(n)
            return table.concat(n, ' ')
        end)
        redis.register_function('globals', function()
            local n = {} for k in pairs(_G) do n[#n + 1] = k end table.sort(n)
            return table.concat(n, ' ')
        end)";
    let library = load(&vm, code).expect("it is right");
    let function = &library[1];
    assert_eq!(function.description.as_deref(), Some(&b"what it is"[..]));
    assert_eq!(function.flags, Flags::NO_WRITES.with(Flags::ALLOW_OOM));
    assert_eq!(call(&vm, &library, "f"), "*5|$4|key!|$3|two|:1|$5|table|$3|nil|");
    assert_eq!(call(&vm, &library, "f"), "*5|$4|key!|$3|two|:2|$5|table|$3|nil|");
    for (name, reply) in [
        ("g", "!ERR user_function:10: Attempt to modify a readonly table on @user_function:10"),
        ("call", "+OK|"),
        (
            "late",
            "!ERR redis.register_function can only be called on FUNCTION LOAD command on \
             @user_function:13",
        ),
        (
            "early",
            "!ERR user_function:14: Script attempted to access nonexistent global variable 'call' \
             on @user_function:14",
        ),
        (
            "keys",
            "!ERR user_function:15: Script attempted to access nonexistent global variable 'KEYS' \
             on @user_function:15",
        ),
        (
            "all",
            "$207|LOG_DEBUG LOG_NOTICE LOG_VERBOSE LOG_WARNING REDIS_VERSION REDIS_VERSION_NUM \
             REPL_ALL REPL_AOF REPL_NONE REPL_REPLICA REPL_SLAVE acl_check_cmd call error_reply \
             log pcall set_repl setresp sha1hex status_reply|",
        ),
    ] {
        assert_eq!(call(&vm, &library, name), reply, "{name}");
    }
    assert!(!call(&vm, &library, "globals").contains("KEYS"));
}

#[test]
fn what_is_wrong_with_a_registration_is_said() {
    let vm = vm();
    for (code, text) in [
        ("redis.register_function()", "ERR wrong number of arguments to redis.register_function"),
        (
            "server.register_function('a')",
            "ERR calling server.register_function with a single argument is only applicable to Lua \
             table (representing named arguments).",
        ),
        (
            "redis.register_function('a', 1)",
            "ERR second argument to redis.register_function must be a function",
        ),
        (
            "redis.register_function({}, redis.log)",
            "ERR first argument to redis.register_function must be a string",
        ),
        (
            "redis.register_function{[{}] = 1}",
            "ERR named argument key given to redis.register_function is not a string",
        ),
        (
            "redis.register_function{foo = 1}",
            "ERR unknown argument given to redis.register_function",
        ),
        (
            "redis.register_function{function_name = 'x'}",
            "ERR redis.register_function must get a callback argument",
        ),
        (
            "redis.register_function{callback = redis.log}",
            "ERR redis.register_function must get a function name argument",
        ),
        (
            "redis.register_function{function_name = {}}",
            "ERR function_name argument given to redis.register_function must be a string",
        ),
        (
            "redis.register_function{description = {}}",
            "ERR description argument given to redis.register_function must be a string",
        ),
        (
            "redis.register_function{flags = 1}",
            "ERR flags argument to redis.register_function must be a table representing function \
             flags",
        ),
        ("redis.register_function{flags = {'no'}}", "ERR unknown flag given"),
    ] {
        assert_eq!(load(&vm, code).err().as_deref(), Some(text), "{code}");
    }
    let callback = "redis.register_function{callback = 1}";
    let text = "ERR callback argument given to redis.register_function must be a function";
    assert_eq!(load(&vm, callback).err().as_deref(), Some(text));
}

#[test]
fn a_library_that_fails_leaves_nothing_behind() {
    let vm = vm();
    let missing = "ERR user_function:1: Script attempted to access nonexistent global variable";
    for (code, text) in [
        (
            "redis.register_function('x y', redis.log)",
            "ERR Library names can only contain letters, numbers, or underscores(_) and must be at \
             least one character long",
        ),
        (
            "redis.register_function('x', redis.log) redis.register_function('x', redis.log)",
            "ERR Function already exists in the library",
        ),
        ("redis.call('x')", &format!("{missing} 'call'")),
        ("math.abs(1)", &format!("{missing} 'math'")),
        ("local x = redis.x", &format!("{missing} 'x'")),
        ("x = 1", "ERR user_function:1: Attempt to modify a readonly table"),
        ("redis.x = 1", "ERR user_function:1: Attempt to modify a readonly table"),
        ("((", "user_function:1: unexpected symbol near '<eof>'"),
    ] {
        assert_eq!(load(&vm, code).err().as_deref(), Some(text), "{code}");
    }
    // None of them has left anything behind.
    let library = load(&vm, "redis.register_function('x', function() return 1 end)");
    assert_eq!(call(&vm, &library.expect("it is right"), "x"), ":1|");
}

#[test]
fn a_library_that_takes_too_long_ends() {
    let vm = vm();
    let library = vm.compile_library(b"while true do end").expect("it is right");
    let mut run = Run::of_library(&vm, &library).expect("there is memory");
    assert_eq!(run.resume(Answer::Go), Asked::Slice);
    assert_eq!(run.resume(Answer::Kill(Killer::LoadTimeout)), Asked::Done);
    let failure = run.registered().err().expect("it was ended");
    assert_eq!(failure.text, b"ERR FUNCTION LOAD timeout");
}
