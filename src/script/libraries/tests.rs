//! The libraries as scripts see them.

use crate::resp::{Protocol, ReplyBuf};
use crate::script::codec::tests::unescape;
use crate::script::convert::Failure;
use crate::script::run::{Answer, Asked, Killer, Run};
use crate::script::vm::{Compiled, Role, Vm};

fn vm() -> Vm {
    Vm::new(Role::Scripts, 7, &[]).expect("it is right")
}

/// What a script comes to, as its reply in RESP2 with bars for line ends; an error with its place.
fn run_with(vm: &Vm, script: &Compiled, args: &[Vec<u8>]) -> String {
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let mut run = Run::new(vm, script, [], args, Protocol::Resp2).expect("there is memory");
    while run.resume(Answer::Go) != Asked::Done {}
    shown(&mut run)
}

fn shown(run: &mut Run) -> String {
    let mut out = ReplyBuf::new();
    match run.write_result(&mut out.writer(Protocol::Resp2)) {
        Ok(()) => String::from_utf8_lossy(&out.to_vec()).replace("\r\n", "|"),
        Err(Failure { text, .. }) => format!("!{}", String::from_utf8_lossy(&text)),
    }
}

fn run(body: &str) -> String {
    let vm = vm();
    let script = vm.compile(body.as_bytes()).expect("it is a script");
    run_with(&vm, &script, &[])
}

/// The bits of numbers, which the script cannot always tell.
fn without_bits(shown: &str) -> String {
    let mut parts = shown.split('#');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_bits = part.len() >= 16 && part.as_bytes()[..16].iter().all(u8::is_ascii_hexdigit);
        out.push('#');
        out.push_str(if is_bits { &part[16..] } else { part });
    }
    out
}

/// The very script that has asked Redis, and the same answers.
#[test]
fn scripts_get_the_answers_of_redis() {
    let vm = vm();
    let script = vm.compile(include_bytes!("../codec/answers.lua")).expect("it is a script");
    let mut faults = Vec::new();
    for row in include_str!("../codec/answers.tsv").lines() {
        let mut fields: Vec<&str> = row.split('\t').collect();
        let expected = without_bits(fields.pop().expect("a row has an answer"));
        let args: Vec<Vec<u8>> = fields.iter().map(|field| unescape(field)).collect();
        let reply = run_with(&vm, &script, &args);
        let own = reply.split_once('|').map_or(&*reply, |(_, rest)| rest.trim_end_matches('|'));
        if without_bits(own) != expected {
            faults.push(format!("{fields:?}: {own}, not {expected}"));
        }
    }
    assert!(faults.is_empty(), "{} answers differ:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn libraries_have_these_fields_and_no_others() {
    let names = |library: &str| {
        run(&format!(
            "local o = {{}} for k in pairs({library}) do o[#o+1] = k end table.sort(o) \
             return table.concat(o, ' ')"
        ))
    };
    let json = "_NAME _VERSION decode decode_array_with_array_mt decode_invalid_numbers \
                decode_max_depth encode encode_invalid_numbers encode_keep_buffer \
                encode_max_depth encode_number_precision encode_sparse_array new null";
    assert_eq!(names("cjson"), format!("${}|{json}|", json.len()));
    assert_eq!(names("cjson.new()"), format!("${}|{json}|", json.len()));
    let pack = "_COPYRIGHT _DESCRIPTION _NAME _VERSION pack unpack unpack_limit unpack_one";
    assert_eq!(names("cmsgpack"), format!("${}|{pack}|", pack.len()));
    let facts = run("return {cjson._NAME, cjson._VERSION, cmsgpack._NAME, cmsgpack._VERSION}");
    assert_eq!(facts, "*4|$5|cjson|$5|2.1.0|$8|cmsgpack|$18|lua-cmsgpack 0.4.0|");
}

#[test]
fn arguments_are_checked() {
    for (body, text) in [
        ("cjson.encode()", "bad argument #1 to 'encode' (expected 1 argument)"),
        ("cjson.encode(1, 2)", "bad argument #1 to 'encode' (expected 1 argument)"),
        ("cjson.decode()", "bad argument #1 to 'decode' (expected 1 argument)"),
        ("cjson.decode({})", "bad argument #1 to 'decode' (string expected, got table)"),
        (
            "cjson.encode_max_depth(0)",
            "bad argument #1 to 'encode_max_depth' (expected integer between 1 and 2147483647)",
        ),
        (
            "cjson.encode_sparse_array(1, 2, 3, 4)",
            "bad argument #4 to 'encode_sparse_array' (found too many arguments)",
        ),
        (
            "cjson.encode_sparse_array('maybe')",
            "bad argument #1 to 'encode_sparse_array' (invalid option 'maybe')",
        ),
        ("cmsgpack.pack()", "bad argument #0 to 'pack' (MessagePack pack needs input.)"),
        ("cmsgpack.unpack()", "bad argument #1 to 'unpack' (string expected, got no value)"),
        (
            "cmsgpack.unpack_one()",
            "bad argument #1 to 'unpack_one' (string expected, got no value)",
        ),
        (
            "cmsgpack.unpack_limit('a')",
            "bad argument #2 to 'unpack_limit' (number expected, got no value)",
        ),
        (
            "cmsgpack.unpack_one('a', {})",
            "bad argument #2 to 'unpack_one' (number expected, got table)",
        ),
        ("cmsgpack.unpack_one('a', 5)", "Start offset 5 greater than input length 1."),
    ] {
        assert_eq!(
            run(&format!("local r = {body} return r")),
            format!("!ERR user_script:1: {text}")
        );
    }
    assert_eq!(run("return cjson.decode(1)"), ":1|");
    assert_eq!(run("return cmsgpack.unpack('\\129\\192\\1')"), "!ERR table index is nil");
}

#[test]
fn many_values_are_packed_as_far_as_the_stack_goes() {
    let packed = |count: usize| {
        run(&format!(
            "local t = {{}} for i = 1, {count} do t[i] = i % 2 end return #cmsgpack.pack(unpack(t))"
        ))
    };
    assert_eq!(packed(3900), ":3900|");
    let text = "bad argument #0 to 'pack' (Too many arguments for MessagePack pack.)";
    assert_eq!(packed(4100), format!("!ERR user_script:1: {text}"));
}

#[test]
fn null_is_one_value_everywhere() {
    assert_eq!(
        run("return {cjson.null == cjson.decode('null'), type(cjson.null)}"),
        "*2|:1|$8|userdata|"
    );
    assert_eq!(
        run("return cjson.encode({cjson.null, cjson.decode('[null]')})"),
        "$13|[null,[null]]|"
    );
    assert_eq!(run("return cjson.null"), "$-1|");
}

#[test]
fn settings_outlive_a_run_and_belong_to_one_library() {
    let vm = vm();
    let run =
        |body: &str| run_with(&vm, &vm.compile(body.as_bytes()).expect("it is a script"), &[]);
    assert_eq!(run("return cjson.encode_number_precision(3)"), ":3|");
    assert_eq!(run("return cjson.encode(1.23456)"), "$4|1.23|");
    assert_eq!(run("return cjson.new().encode(1.23456)"), "$7|1.23456|");
    assert_eq!(
        run("local a, b = cjson.new(), cjson.new() a.encode_number_precision(2) \
             return {a.encode(1.23456), b.encode(1.23456), cjson.encode(1.23456)}"),
        "*3|$3|1.2|$7|1.23456|$4|1.23|"
    );
    // Nobody keeps these, and their settings go with them.
    let before = vm.memory_bytes();
    assert_eq!(run("for i = 1, 5000 do cjson.new() end collectgarbage() return 1"), ":1|");
    assert!(vm.memory_bytes() < before + (1 << 20));
}

#[test]
fn empty_arrays_stay_arrays_if_asked_to() {
    let kept = "cjson.decode_array_with_array_mt(true) local t = cjson.decode('{\"a\":[]}') ";
    let body = |end: &str| format!("local cjson = cjson.new() {kept}{end}");
    assert_eq!(run(&body("return cjson.encode(t)")), "$8|{\"a\":[]}|");
    assert_eq!(run(&body("t.a[1] = 7 return cjson.encode(t)")), "$9|{\"a\":[7]}|");
    assert_eq!(run(&body("return getmetatable(t.a).__is_cjson_array")), ":1|");
    assert_eq!(run("return cjson.encode(setmetatable({}, {}))"), "$2|{}|");
}

#[test]
fn no_metamethod_is_run() {
    let body = "local never = function() error('it ran') end \
        local t = setmetatable({1, 2}, {__index = never, __newindex = never, __len = never, \
        __call = never, __pairs = never, __tostring = never}) \
        return {cjson.encode(t), #cmsgpack.pack(t)}";
    assert_eq!(run(body), "*2|$5|[1,2]|:3|");
}

/// A native at work can be put aside and killed as a script can, also within a single value.
#[test]
fn natives_can_be_killed() {
    let bodies = [
        "local t = {} for i = 1, 60 do t = {t, t} end return cjson.encode(t)",
        "local t = {} for i = 1, 15 do t = {t, t, t, t, t, t, t, t} end return cmsgpack.pack(t)",
        "return pcall(cjson.decode, '[' .. ('1,'):rep(5e6) .. '1]')",
        "return pcall(cmsgpack.unpack_limit, '\\221\\0\\64\\0\\0' .. ('\\1'):rep(5e6), 1, 0)",
        "return cjson.encode(('\\1'):rep(4e6))",
        "return cjson.encode({[('\\n'):rep(1e7)] = 1})",
        "return pcall(cjson.decode, '\"' .. ('x'):rep(2e7) .. '\"')",
        "return pcall(cjson.decode, '\"' .. ('\\\\n'):rep(1e7) .. '\"')",
        "return pcall(cjson.decode, (' '):rep(2e7))",
        "return struct.pack(('x'):rep(5e6))",
        "return struct.size((' '):rep(5e6))",
        "return struct.unpack(('<'):rep(5e6), '')",
        "return redis.sha1hex(('x'):rep(2e7))",
    ];
    for body in bodies {
        let vm = vm();
        let script = vm.compile(body.as_bytes()).expect("it is a script");
        let mut run = Run::new(&vm, &script, [], [], Protocol::Resp2).expect("there is memory");
        for _ in 0..3 {
            assert_eq!(run.resume(Answer::Go), Asked::Slice, "{body}");
        }
        assert_eq!(run.resume(Answer::Kill(Killer::ScriptKill)), Asked::Done, "{body}");
        assert_eq!(shown(&mut run), "!ERR Script killed by user with SCRIPT KILL...");
    }
}

#[test]
fn natives_keep_to_the_memory_there_is() {
    for body in [
        "local t = {} for i = 1, 60 do t = {t, t} end return pcall(cjson.encode, t)",
        "local t = {('x'):rep(1e6)} for i = 1, 9 do t = {t, t} end return pcall(cmsgpack.pack, t)",
        "local s = ('\\1'):rep(3e6) return pcall(cjson.encode, s)",
        "return pcall(cjson.decode, '[' .. ('[],'):rep(1e6) .. '1]')",
        "return pcall(cmsgpack.unpack, '\\221\\255\\255\\255\\255' .. ('\\144'):rep(1e6))",
    ] {
        let vm = vm();
        vm.set_memory_max(8 << 20, 16 << 20);
        let script = vm.compile(body.as_bytes()).expect("it is a script");
        assert_eq!(run_with(&vm, &script, &[]), "!ERR not enough memory", "{body}");
    }
}

/// What a native makes lies outside the interpreter's memory, and counts as if it did not: here
/// the state holds a text, and has no room for what is made of it and for the string of that.
#[test]
fn what_natives_make_counts_against_the_memory_of_their_state() {
    for body in [
        "local s = ('x'):rep(6e6) return #cjson.encode(s)",
        "local s = ('x'):rep(6e6) return #cjson.encode({[s] = 1})",
        "local s = ('x'):rep(6e6) return #cmsgpack.pack(s)",
        "local s = ('x'):rep(6e6) return #struct.pack('s', s)",
        "return #struct.pack(('x'):rep(6e6))",
        "local s = ('x'):rep(6e6) return #s:gsub('^x', 'y')",
        "return #cjson.decode('\"\\\\n' .. ('x'):rep(4e6) .. '\"')",
        "local s = ('x'):rep(6e6) redis.log(redis.LOG_DEBUG, s, s, s) return 1",
    ] {
        let vm = vm();
        let fresh = vm.memory_bytes();
        vm.set_memory_max(14 << 20, 16 << 20);
        let script = vm.compile(body.as_bytes()).expect("it is a script");
        assert!(run_with(&vm, &script, &[]).contains("not enough memory"), "{body}");
        // The interpreter's own buffer is halved each time.
        (0..12).for_each(|_| vm.collect());
        assert!(vm.memory_bytes() < 2 * fresh, "{body}");
    }
}
