//! The tables `redis` and `server`: what a script has of the server.
//!
//! Both have the same functions, which call themselves in their texts as their table is called:
//! each is told the number of its table. Their errors are objects with a code, as those of commands
//! are, and say nothing of a place, which is added when nobody catches them.

use super::convert::with_number_text;
use super::debugger;
use super::functions::is_name;
use super::library_error::LibraryError;
use super::lua::{Call, Kind, Native, Raised, Stack};
use super::output::{Full, Output};
use super::run::Asked;
use super::shebang::Flags;
use super::vm::{Fact, Registered, Role, target};
use crate::resp::Protocol;

/// By their numbers.
pub(super) const TABLES: [&str; 2] = ["redis", "server"];
/// Under which names the prelude is given those that a library sees while it loads.
pub(super) const LOADING_TABLES: [&str; 2] = ["redis_while_loading", "server_while_loading"];

const FUNCTIONS: &[(&str, Native)] = &[
    ("acl_check_cmd", acl_check_cmd),
    ("call", call),
    ("error_reply", error_reply),
    ("log", log),
    ("pcall", pcall),
    ("set_repl", set_repl),
    ("setresp", setresp),
    ("sha1hex", sha1hex),
    ("status_reply", status_reply),
];

/// What only scripts of EVAL have.
const SCRIPT_FUNCTIONS: &[(&str, Native)] =
    &[("breakpoint", breakpoint), ("debug", debug), ("replicate_commands", replicate_commands)];

const LOADING_FUNCTIONS: &[(&str, Native)] =
    &[("log", log), ("register_function", register_function)];

const LOG_LEVELS: [&str; 4] = ["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"];

const TARGETS: [(&str, u8); 5] = [
    ("REPL_NONE", target::NONE),
    ("REPL_AOF", target::AOF),
    ("REPL_SLAVE", target::REPLICAS),
    ("REPL_REPLICA", target::REPLICAS),
    ("REPL_ALL", target::ALL),
];

/// Pushes the table of a number.
pub(super) fn push_table(stack: Stack, role: Role, tag: usize, facts: &[(&str, Fact<'_>)]) {
    stack.push_library(FUNCTIONS, tag);
    if role == Role::Scripts {
        add_functions(stack, SCRIPT_FUNCTIONS, tag);
    }
    for (name, mask) in TARGETS {
        stack.push_number(f64::from(mask));
        stack.raw_set_name(-2, name);
    }
    add_constants(stack, facts);
}

/// Pushes what a library sees of it while it loads.
pub(super) fn push_loading_table(stack: Stack, tag: usize, facts: &[(&str, Fact<'_>)]) {
    stack.push_library(LOADING_FUNCTIONS, tag);
    add_constants(stack, facts);
}

fn add_functions(stack: Stack, functions: &[(&str, Native)], tag: usize) {
    for (name, native) in functions {
        stack.push_native(*native, tag);
        stack.raw_set_name(-2, name);
    }
}

fn add_constants(stack: Stack, facts: &[(&str, Fact<'_>)]) {
    for (level, name) in LOG_LEVELS.iter().enumerate() {
        stack.push_number(level as f64);
        stack.raw_set_name(-2, name);
    }
    for (name, fact) in facts {
        match fact {
            Fact::Text(text) => stack.push_bytes(text.as_bytes()),
            Fact::Number(number) => stack.push_number(*number),
        }
        stack.raw_set_name(-2, name);
    }
}

/// How a function calls itself.
fn own_name(call: &Call<'_>, function: &str) -> String {
    format!("{}.{function}", TABLES.get(call.tag()).unwrap_or(&TABLES[0]))
}

fn call(call: &Call<'_>) -> Result<usize, Raised> {
    match ask(call, Asked::Call)? {
        true => Err(Raised::Top),
        false => Ok(1),
    }
}

fn pcall(call: &Call<'_>) -> Result<usize, Raised> {
    ask(call, Asked::Call)?;
    Ok(1)
}

fn acl_check_cmd(call: &Call<'_>) -> Result<usize, Raised> {
    if ask(call, Asked::MayCall)? {
        return Err(Raised::Top);
    }
    let may = call.stack.number(-1) == 1.0;
    call.stack.push_boolean(may);
    Ok(1)
}

/// Has the arguments run as a command, and pushes what is answered: whether that is an error.
fn ask(call: &Call<'_>, asked: Asked) -> Result<bool, Raised> {
    match take_request(call)? {
        None => call.host.ask_for_reply(call, asked),
        Some(problem) => {
            call.stack.push_error(problem.as_bytes());
            Ok(true)
        }
    }
}

/// Makes the arguments the words of the request, or says what is wrong with them.
fn take_request(call: &Call<'_>) -> Result<Option<&'static str>, Raised> {
    if call.is_empty() {
        return Ok(Some("ERR Please specify at least one argument for this redis lib call"));
    }
    let mut request = call.host.request();
    request.clear();
    let mut bytes = 0;
    for argument in 1..=call.stack.top() {
        match call.stack.kind(argument) {
            Kind::String => {
                let text = call.stack.to_bytes(argument).unwrap_or_default();
                bytes += text.len();
                // The same string may stand there many times.
                if bytes > call.host.memory.max_bytes() {
                    request.clear();
                    return Err(call.host.end_for_memory());
                }
                request.push(text);
            }
            Kind::Number => {
                with_number_text(call.stack.number(argument), |text| request.push(text));
            }
            _ => {
                return Ok(Some("ERR Lua redis lib command arguments must be strings or integers"));
            }
        }
    }
    Ok(None)
}

/// The only argument, if it is the only one and a string.
fn only_text<'c>(call: &'c Call<'_>) -> Option<&'c [u8]> {
    if call.len() == 1 { call.stack.bytes(1) } else { None }
}

fn error_reply(call: &Call<'_>) -> Result<usize, Raised> {
    let Some(text) = only_text(call) else { return wrong_reply(call) };
    let text = trim_line_breaks(text.strip_prefix(b"-").unwrap_or(text));
    if memchr::memchr(b' ', text).is_some() {
        call.stack.push_error(text);
    } else {
        call.stack.push_error(&[b"ERR ", text].concat());
    }
    Ok(1)
}

fn trim_line_breaks(text: &[u8]) -> &[u8] {
    let is_inner = |byte: &u8| !matches!(byte, b'\r' | b'\n');
    let Some(start) = text.iter().position(is_inner) else { return &[] };
    let end = text.iter().rposition(is_inner).map_or(start, |last| last + 1);
    &text[start..end]
}

fn status_reply(call: &Call<'_>) -> Result<usize, Raised> {
    let Some(text) = only_text(call) else { return wrong_reply(call) };
    call.stack.push_table(0, 1);
    call.stack.push_pinned(call.host.names().ok);
    call.stack.push_bytes(text);
    call.stack.raw_set(-3);
    Ok(1)
}

fn wrong_reply(call: &Call<'_>) -> Result<usize, Raised> {
    call.stack.push_error(b"ERR wrong number or type of arguments");
    Ok(1)
}

fn sha1hex(call: &Call<'_>) -> Result<usize, Raised> {
    if call.len() != 1 {
        return Err(Raised::object("ERR wrong number of arguments".to_owned()));
    }
    let text = call.stack.to_bytes(1).unwrap_or_default();
    let digest = super::cache::digest_by_pieces(text, |bytes| call.host.spend_on(bytes))?;
    call.stack.push_bytes(super::cache::print_digest(&digest).as_bytes());
    Ok(1)
}

fn log(call: &Call<'_>) -> Result<usize, Raised> {
    if call.len() < 2 {
        let own = own_name(call, "log()");
        return Err(Raised::object(format!("ERR {own} requires two arguments or more.")));
    }
    let Some(level) = call.stack.to_number(1) else {
        return Err(Raised::object("ERR First argument must be a number (log level).".to_owned()));
    };
    let level = level as i64;
    if !(0..LOG_LEVELS.len() as i64).contains(&level) {
        return Err(Raised::object("ERR Invalid log level.".to_owned()));
    }
    // The same string may stand there many times.
    let mut line = Output::new(&call.host.memory);
    for argument in 2..=call.stack.top() {
        let Some(word) = call.stack.to_bytes(argument) else { continue };
        let gap: &[u8] = if line.is_empty() { b"" } else { b" " };
        let written = line.append(gap).and_then(|()| line.append(word));
        written.map_err(|Full| call.host.end_for_memory())?;
    }
    let text = String::from_utf8_lossy(line.as_slice());
    match level {
        0 => tracing::trace!("{text}"),
        1 => tracing::debug!("{text}"),
        2 => tracing::info!("{text}"),
        _ => tracing::warn!("{text}"),
    }
    Ok(0)
}

fn setresp(call: &Call<'_>) -> Result<usize, Raised> {
    if call.len() != 1 {
        let own = own_name(call, "setresp()");
        return Err(Raised::object(format!("ERR {own} requires one argument.")));
    }
    let protocol = match call.stack.number(1) as i64 {
        2 => Protocol::Resp2,
        3 => Protocol::Resp3,
        _ => return Err(Raised::object("ERR RESP version must be 2 or 3.".to_owned())),
    };
    call.host.protocol.set(protocol);
    Ok(0)
}

fn set_repl(call: &Call<'_>) -> Result<usize, Raised> {
    if call.len() != 1 {
        let own = own_name(call, "set_repl()");
        return Err(Raised::object(format!("ERR {own} requires one argument.")));
    }
    let mask = call.stack.number(1) as i64;
    match u8::try_from(mask) {
        Ok(mask) if mask <= target::ALL => call.host.targets.set(mask),
        _ => {
            let text = "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or \
                        REPL_NONE.";
            return Err(Raised::object(text.to_owned()));
        }
    }
    Ok(0)
}

fn replicate_commands(call: &Call<'_>) -> Result<usize, Raised> {
    call.stack.push_boolean(true);
    Ok(1)
}

/// Stops a script that is debugged; whether it is.
fn breakpoint(call: &Call<'_>) -> Result<usize, Raised> {
    let mut debugger = call.host.debugger();
    if let Some(debugger) = debugger.as_mut() {
        debugger.ask_to_stop();
    }
    call.stack.push_boolean(debugger.is_some());
    Ok(1)
}

/// Shows the arguments to whoever debugs the script.
fn debug(call: &Call<'_>) -> Result<usize, Raised> {
    if call.host.debugger().is_some() {
        debugger::say_values(call.host, call.stack, call.len())?;
    }
    Ok(0)
}

fn register_function(call: &Call<'_>) -> Result<usize, Raised> {
    let own = own_name(call, "register_function");
    if call.host.registered.borrow().is_none() {
        return Err(fault(format!("{own} can only be called on FUNCTION LOAD command")));
    }
    let mut given = Given::default();
    match call.len() {
        1 => given.read_table(call, &own)?,
        2 => given.read_two(call, &own)?,
        _ => return Err(fault(format!("wrong number of arguments to {own}"))),
    }
    let Some(name) = given.name else {
        return Err(fault(format!("{own} must get a function name argument")));
    };
    let Some(callback) = given.callback else {
        return Err(fault(format!("{own} must get a callback argument")));
    };
    if !is_name(&name) {
        return Err(refused(LibraryError::BadName));
    }
    let mut registered = call.host.registered.borrow_mut();
    let Some(list) = &mut *registered else { return Ok(0) };
    if list.iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
        return Err(refused(LibraryError::FunctionTwice));
    }
    call.stack.push_copy(callback);
    let callback = call.stack.pin();
    let (description, flags) = (given.description, given.flags);
    list.push(Registered { name, description, flags, callback });
    Ok(0)
}

fn refused(error: LibraryError) -> Raised {
    fault(String::from_utf8_lossy(&error.text()).into_owned())
}

fn fault(text: String) -> Raised {
    Raised::object(format!("ERR {text}"))
}

/// What is said of a function.
#[derive(Default)]
struct Given {
    name: Option<Vec<u8>>,
    /// At which index of the stack it is.
    callback: Option<i32>,
    description: Option<Vec<u8>>,
    flags: Flags,
}

impl Given {
    fn read_two(&mut self, call: &Call<'_>, own: &str) -> Result<(), Raised> {
        let stack = call.stack;
        let Some(name) = stack.to_bytes(1) else {
            return Err(fault(format!("first argument to {own} must be a string")));
        };
        self.name = Some(name.to_vec());
        if stack.kind(2) != Kind::Function {
            return Err(fault(format!("second argument to {own} must be a function")));
        }
        self.callback = Some(2);
        Ok(())
    }

    fn read_table(&mut self, call: &Call<'_>, own: &str) -> Result<(), Raised> {
        let stack = call.stack;
        if stack.kind(1) != Kind::Table {
            let text = "with a single argument is only applicable to Lua table (representing \
                        named arguments).";
            return Err(fault(format!("calling {own} {text}")));
        }
        stack.push_nil();
        // The function, once it is found, stands below the key.
        stack.push_nil();
        while stack.next(1) {
            call.host.spend(10)?;
            self.read_field(call, own)?;
            stack.pop(1);
        }
        Ok(())
    }

    /// Reads the field whose key and value are on top of the stack.
    fn read_field(&mut self, call: &Call<'_>, own: &str) -> Result<(), Raised> {
        let stack = call.stack;
        let unknown = || Err(fault(format!("unknown argument given to {own}")));
        let Some(key) = stack.bytes(-2) else {
            // A number is a text, too.
            if stack.kind(-2) == Kind::Number {
                return unknown();
            }
            return Err(fault(format!("named argument key given to {own} is not a string")));
        };
        let key = key.to_ascii_lowercase();
        // A number is a text, too; the copy is what becomes one.
        stack.push_copy(-1);
        let text = stack.to_bytes(-1).map(<[u8]>::to_vec);
        stack.pop(1);
        let must = |what: &str| {
            let name = String::from_utf8_lossy(&key);
            Err(fault(format!("{name} argument given to {own} must be {what}")))
        };
        match &*key {
            b"function_name" if text.is_none() => return must("a string"),
            b"description" if text.is_none() => return must("a string"),
            b"function_name" => self.name = text,
            b"description" => self.description = text,
            b"callback" if stack.kind(-1) != Kind::Function => return must("a function"),
            b"callback" => {
                stack.push_copy(-1);
                stack.insert(2);
                stack.remove(3);
                self.callback = Some(2);
            }
            b"flags" if stack.kind(-1) != Kind::Table => {
                let text = "must be a table representing function flags";
                return Err(fault(format!("flags argument to {own} {text}")));
            }
            b"flags" => self.flags = read_flags(call)?,
            _ => return unknown(),
        }
        Ok(())
    }
}

/// The flags in the list on top of the stack.
fn read_flags(call: &Call<'_>) -> Result<Flags, Raised> {
    let stack = call.stack;
    let mut flags = Flags::NONE;
    for index in 1.. {
        call.host.spend(10)?;
        stack.raw_get_index(-1, index);
        let kind = stack.kind(-1);
        let flag = stack.bytes(-1).and_then(Flags::named);
        stack.pop(1);
        match flag {
            _ if kind == Kind::Nil => break,
            Some(flag) => flags = flags.with(flag),
            None => return Err(fault("unknown flag given".to_owned())),
        }
    }
    Ok(flags)
}
