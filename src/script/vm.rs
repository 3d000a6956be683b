//! The Lua state: made once, with a sandbox in it that `prelude.lua` builds.
//!
//! The interpreter is LuaJIT's without its compiler, which is off as long as the library `jit` is
//! not opened: the reference implementation of 5.1 is not maintained any more and has known holes,
//! and hooks do not fire in compiled code.

use super::api;
use super::bytecode;
use super::cast;
use super::dialect::{self, Joins};
use super::libraries;
use super::lua::{Call, Collection, Kind, Native, Pin, Raised, Stack, State, UNGUARDED};
use super::random::{self, Rand48};
use super::run::{HOOK_INSTRUCTIONS, Host, body, on_error};
use super::shebang::Flags;
use std::ffi::{CStr, CString};
use std::rc::Rc;

/// What runs in a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Scripts of EVAL, which find their arguments among the globals.
    Scripts,
    /// Functions of libraries, which are given them.
    Functions,
}

/// A field of the tables `redis` and `server`.
#[derive(Clone, Copy, Debug)]
pub enum Fact<'a> {
    Text(&'a str),
    Number(f64),
}

/// What of the writes is to go where.
pub mod target {
    pub const NONE: u8 = 0;
    pub const AOF: u8 = 1;
    pub const REPLICAS: u8 = 2;
    pub const ALL: u8 = 3;
}

/// Names that are looked up all the time, and the globals.
pub(super) struct Names {
    pub ok: Pin,
    pub err: Pin,
    pub double: Pin,
    pub big_number: Pin,
    pub verbatim_string: Pin,
    pub map: Pin,
    pub set: Pin,
    pub string: Pin,
    pub format: Pin,
    pub is_counted: Pin,
    pub keys: Pin,
    pub argv: Pin,
    pub globals: Pin,
}

/// A function that was compiled, which is kept as long as this is.
#[derive(Clone)]
pub struct Compiled(Rc<Kept>);

struct Kept {
    state: Rc<State>,
    function: Pin,
    looks_for: Arguments,
    /// What shows a library all globals once it is loaded.
    open: Option<Pin>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.state.unpin(self.function);
        if let Some(open) = self.open {
            self.state.unpin(open);
        }
    }
}

impl Compiled {
    pub(super) fn new(state: &Rc<State>, function: Pin) -> Compiled {
        let state = Rc::clone(state);
        Compiled(Rc::new(Kept { state, function, looks_for: Arguments::NONE, open: None }))
    }

    pub(super) fn pin(&self) -> Pin {
        self.0.function
    }

    /// Which tables of its arguments it may look for.
    pub(super) fn looks_for(&self) -> Arguments {
        self.0.looks_for
    }

    /// Shows a library that has been loaded what its functions may use.
    pub(super) fn open_environment(&self) {
        if let Some(open) = self.0.open {
            _ = self.0.state.protect(|stack| {
                stack.push_pinned(open);
                stack.call(0, 0);
                Ok(())
            });
        }
    }
}

/// A function that a library has registered.
pub struct Registered<F = Compiled> {
    pub name: Vec<u8>,
    pub description: Option<Vec<u8>>,
    pub flags: Flags,
    pub callback: F,
}

/// Why a script was not compiled, as the interpreter says it.
#[derive(Debug)]
pub struct NotCompiled(pub String);

/// A state and what is in it.
pub struct Vm {
    pub(super) state: Rc<State>,
    pub(super) body: Pin,
    pub(super) handler: Pin,
    /// What scripts see of the globals.
    environment: Pin,
    /// Makes that of a library.
    library_environment: Pin,
}

impl Vm {
    /// A fresh state; `seed` is that of its random numbers. It fails if there is no memory for it.
    pub fn new(role: Role, seed: u32, facts: &[(&str, Fact<'_>)]) -> Result<Vm, NotCompiled> {
        let state = State::new(Host::new(Rand48::seeded(seed)));
        let state = Rc::new(state.ok_or_else(|| NotCompiled("not enough memory".to_owned()))?);
        let built = state.protect(|stack| build(&state, stack, role, facts));
        let [body, handler, environment, library_environment] =
            built.map_err(|text| not_compiled(&text))?;
        state.watch(HOOK_INSTRUCTIONS);
        let vm = Vm { state, body, handler, environment, library_environment };
        // What has built it is of no use any more.
        vm.collect();
        Ok(vm)
    }

    /// Compiles a script. What stands in its first line may be cut off by the caller, its newline
    /// may not. No script may be running in this state.
    ///
    /// Scripts see the globals through a guard, by which each look at one takes a detour. One that
    /// assigns to no global, and has no name for all of them, needs no guard: it has them as they
    /// are, and with them the functions that are called most under names of one word.
    pub fn compile(&self, script: &[u8]) -> Result<Compiled, NotCompiled> {
        const NAME: &CStr = c"@user_script";
        let bare = if names_all_globals(script) { None } else { self.compile_bare(script, NAME) };
        let function = bare.map_or_else(|| self.compile_named(script, NAME), Ok)?;
        let (state, looks_for) = (Rc::clone(&self.state), Arguments::named_in(script));
        Ok(Compiled(Rc::new(Kept { state, function, looks_for, open: None })))
    }

    /// Compiles a script that needs no guard; none if it does, or is wrong.
    fn compile_bare(&self, text: &[u8], name: &CStr) -> Option<Pin> {
        let function = self.state.protect(|stack| {
            if text.len() > SOURCE_BYTES_MAX || dialect::foreign_mark(text).is_some() {
                return Ok(None);
            }
            let text = dialect::translate(text, Joins::Made);
            if !stack.compile(&text, name) || bytecode::assigns_globals(&stack.dump()) {
                return Ok(None);
            }
            stack.push_pinned(self.state.host().names().globals);
            stack.set_environment();
            Ok(Some(stack.pin()))
        });
        function.ok().flatten()
    }

    fn compile_named(&self, text: &[u8], name: &CStr) -> Result<Pin, NotCompiled> {
        let function = self.state.protect(|stack| {
            compile(stack, text, name)?;
            stack.push_pinned(self.environment);
            stack.set_environment();
            Ok(stack.pin())
        });
        function.map_err(|text| not_compiled(&text))
    }

    /// Compiles what somebody who debugs a script wants to know: an expression, or statements.
    pub fn compile_evaluation(&self, code: &[u8]) -> Result<Compiled, NotCompiled> {
        const NAME: &CStr = c"@ldb_eval";
        let function = self
            .compile_named(&[b"return ", code].concat(), NAME)
            .or_else(|_| self.compile_named(code, NAME))?;
        Ok(Compiled::new(&self.state, function))
    }

    /// Has scripts of this state be told to the debugger line by line.
    pub fn watch_lines(&self) {
        self.state.watch_lines(HOOK_INSTRUCTIONS);
    }

    /// Compiles a library, with globals of its own; what [`Self::compile`] says holds here, too.
    pub fn compile_library(&self, code: &[u8]) -> Result<Compiled, NotCompiled> {
        let pins = self.state.protect(|stack| {
            compile(stack, code, c"@user_function")?;
            stack.push_pinned(self.library_environment);
            stack.call(0, 2);
            let open = stack.pin();
            stack.set_environment();
            Ok((stack.pin(), open))
        });
        let (function, open) = pins.map_err(|text| not_compiled(&text))?;
        let state = Rc::clone(&self.state);
        let open = Some(open);
        Ok(Compiled(Rc::new(Kept { state, function, looks_for: Arguments::NONE, open })))
    }

    /// Memory that the state holds.
    pub fn memory_bytes(&self) -> usize {
        self.state.host().memory.used_bytes()
    }

    /// How much it may hold: of `soft` a script ends that goes on to grow, `hard` is never passed.
    pub fn set_memory_max(&self, soft: usize, hard: usize) {
        self.state.host().set_memory_max(soft, hard);
    }

    /// By what the time is measured that scripts take, in nanoseconds; without it instructions are
    /// counted only.
    pub fn set_ticks(&self, ticks: fn() -> u64) {
        self.state.host().set_ticks(ticks);
    }

    /// Collects some garbage, when there is time for it; whether all is collected. No script may be
    /// running.
    pub fn collect_some(&self) -> bool {
        self.state.protect(|stack| Ok(stack.collect(Collection::Step))).unwrap_or(true)
    }

    /// Collects all garbage, which takes as long as there are things in the state. No script may be
    /// running.
    pub fn collect(&self) {
        _ = self.state.protect(|stack| {
            self.state.host().set_collection_pause(stack);
            Ok(stack.collect(Collection::Whole))
        });
    }
}

fn not_compiled(text: &[u8]) -> NotCompiled {
    NotCompiled(String::from_utf8_lossy(text).into_owned())
}

/// Longer texts are not compiled: nothing can interrupt that.
const SOURCE_BYTES_MAX: usize = 32 << 20;

/// What compiled code begins with.
const ESCAPE: u8 = 0x1b;

/// Which of the tables KEYS and ARGV are made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Arguments {
    pub keys: bool,
    pub args: bool,
}

impl Arguments {
    const NONE: Arguments = Arguments { keys: false, args: false };
    pub(super) const BOTH: Arguments = Arguments { keys: true, args: true };

    /// Those that a text may come by: by their names, or by ways that lead to all names.
    fn named_in(script: &[u8]) -> Arguments {
        let any = names_all_globals(script);
        let has = |name| any || dialect::has_name(script, name);
        Arguments { keys: has(b"KEYS"), args: has(b"ARGV") }
    }
}

/// Whether a text has a name that leads to all globals, be it by their table or by a text that is
/// compiled when it runs.
fn names_all_globals(script: &[u8]) -> bool {
    const NAMES: [&[u8]; 3] = [b"_G", b"load", b"loadstring"];
    NAMES.iter().any(|name| dialect::has_name(script, name))
}

/// Pushes the function that a text is. The text is changed so that errors know their lines; what is
/// wrong with it is said of the text as it came.
fn compile(stack: Stack, text: &[u8], name: &CStr) -> Result<(), Raised> {
    if text.len() > SOURCE_BYTES_MAX {
        return Err(Raised::text("not enough memory"));
    }
    if text.first() == Some(&ESCAPE) {
        // As it is said of any other text.
        stack.push_bytes(&name.to_bytes()[1..]);
        stack.push_bytes(b":1: unexpected symbol near 'char(27)'");
        stack.concat(2);
        return Err(Raised::Top);
    }
    if compile_named(stack, text, name) { Ok(()) } else { Err(Raised::Top) }
}

fn compile_named(stack: Stack, text: &[u8], name: &CStr) -> bool {
    if let Some((line, mark)) = dialect::foreign_mark(text) {
        stack.push_bytes(name.to_bytes().strip_prefix(b"@").unwrap_or(b"[string]"));
        stack.push_bytes(format!(":{line}: unexpected symbol near '{mark}'").as_bytes());
        stack.concat(2);
        return false;
    }
    if stack.compile(&dialect::translate(text, Joins::None), name) {
        return true;
    }
    stack.pop(1);
    stack.compile(text, name)
}

fn pin_names(stack: Stack) -> Names {
    let name = |text: &str| stack.pin_name(text);
    Names {
        ok: name("ok"),
        err: name("err"),
        double: name("double"),
        big_number: name("big_number"),
        verbatim_string: name("verbatim_string"),
        map: name("map"),
        set: name("set"),
        string: name("string"),
        format: name("format"),
        is_counted: name("ignore_error_stats_update"),
        keys: name("KEYS"),
        argv: name("ARGV"),
        globals: {
            stack.push_table(0, 64);
            stack.pin()
        },
    }
}

/// Takes those functions of the table on top that are called by one name, too, into the table below
/// it, under that name.
fn join_names(stack: Stack, table: &str) {
    for (_, function) in dialect::JOINED.iter().filter(|(of, _)| *of == table.as_bytes()) {
        stack.push_bytes(&dialect::join(table.as_bytes(), function));
        stack.push_bytes(function);
        stack.raw_get(-3);
        stack.raw_set(-4);
    }
}

/// Pushes a table that says how the null of formats behaves.
fn push_null_metatable(stack: Stack) {
    stack.push_null();
    stack.push_table(0, 1);
    stack.push_copy(-1);
    stack.insert(-3);
    stack.set_metatable(-2);
    stack.pop(1);
}

/// What the prelude is given of ours.
const OF_PRELUDE: [(&str, Native); 5] = [
    ("compile", load_text),
    ("error", error),
    ("is_less", is_less),
    ("narrowed", narrowed),
    ("spend", spend),
];

/// The chunk of which no script knows.
const PRELUDE: &CStr = c"=prelude";

/// Runs the prelude, and gives what a [`Vm`] keeps.
fn build(
    state: &State,
    stack: Stack,
    role: Role,
    facts: &[(&str, Fact<'_>)],
) -> Result<[Pin; 4], Raised> {
    state.host().set_names(pin_names(stack));
    if !stack.compile(include_bytes!("prelude.lua"), PRELUDE) {
        return Err(Raised::Top);
    }
    stack.push_table(0, 8);
    stack.push_pinned(state.host().names().globals);
    stack.raw_set_name(-2, "globals");
    stack.push_end();
    stack.raw_set_name(-2, "ENDED");
    for (name, native) in OF_PRELUDE {
        stack.push_native(native, 0);
        stack.raw_set_name(-2, name);
    }
    stack.push_bytes(dialect::ANSWER);
    stack.raw_set_name(-2, "answer");
    stack.push_library(random::LIBRARY, 0);
    stack.raw_set_name(-2, "random");
    stack.push_library(libraries::STRING_FUNCTIONS, 0);
    stack.raw_set_name(-2, "strings");
    stack.push_table(0, dialect::JOINED.len());
    for (tag, name) in api::TABLES.iter().enumerate() {
        api::push_table(stack, role, tag, facts);
        join_names(stack, name);
        stack.raw_set_name(-3, name);
        api::push_loading_table(stack, tag, facts);
        stack.raw_set_name(-3, api::LOADING_TABLES[tag]);
    }
    stack.raw_set_name(-2, "joined");
    libraries::push(stack);
    stack.raw_set_name(-2, "libraries");
    push_null_metatable(stack);
    stack.raw_set_name(-2, "null_meta");
    stack.call(1, 2);
    let library_environment = stack.pin();
    let environment = stack.pin();
    stack.push_native(body, UNGUARDED);
    let body = stack.pin();
    stack.push_native(on_error, UNGUARDED);
    Ok([body, stack.pin(), environment, library_environment])
}

/// Counts what is as much work as so many instructions.
fn spend(call: &Call<'_>) -> Result<usize, Raised> {
    call.host.spend(call.check_number(1) as u64)?;
    Ok(0)
}

/// `error`: raises its first argument; in front of a text it says where the function of a level is.
fn error(call: &Call<'_>) -> Result<usize, Raised> {
    let level = call.check_option(2).map_or(1, |level| cast::to_i64(level) as i32);
    call.stack.set_top(1);
    if level > 0 && matches!(call.stack.kind(1), Kind::String | Kind::Number) {
        call.stack.push_where(level_for_scripts(call.stack, level));
        call.stack.insert(1);
        call.stack.concat(2);
    }
    Err(Raised::Top)
}

/// The level that a script means, to which what the prelude puts around functions is not there.
fn level_for_scripts(stack: Stack, level: i32) -> i32 {
    const LEVELS_MAX: i32 = 200;
    let is_hidden =
        |own: i32| stack.activation(own).is_some_and(|call| call.is_of(PRELUDE.to_bytes()));
    let mut own = 1;
    let mut left = level - 1;
    while left > 0 && own < LEVELS_MAX {
        own += 1;
        left -= i32::from(!is_hidden(own));
    }
    own.saturating_add(left)
}

/// `<`, which is counted, and tells of no place where it fails.
fn is_less(call: &Call<'_>) -> Result<usize, Raised> {
    const INSTRUCTIONS: u64 = 10;
    call.host.spend(INSTRUCTIONS)?;
    call.stack.set_top(2);
    call.stack.push_boolean(call.stack.is_less(1, 2));
    Ok(1)
}

/// The lower 32 bits of a number as an integer of C, which is what most functions of Lua 5.1 take.
fn narrowed(call: &Call<'_>) -> Result<usize, Raised> {
    let number = cast::to_i64(call.check_number(1)) as i32;
    call.stack.push_number(f64::from(number));
    Ok(1)
}

/// `load` and `loadstring`: a text and its name to a function, or to nothing and a message. What
/// looks like compiled code is no text.
fn load_text(call: &Call<'_>) -> Result<usize, Raised> {
    let text = call.check_bytes(1);
    let name = match call.stack.kind(2) {
        Kind::String => call.check_bytes(2),
        _ => text,
    };
    // Only its beginning is ever shown.
    let name = &name[..name.len().min(200)];
    let end = memchr::memchr(0, name).unwrap_or(name.len());
    let name = CString::new(&name[..end]).unwrap_or_default();
    call.host.spend(text.len() as u64 / 4)?;
    if text.len() > SOURCE_BYTES_MAX {
        call.stack.push_bytes(b"not enough memory");
    } else if compile_named(call.stack, text, &name) {
        return Ok(1);
    }
    call.stack.push_nil();
    call.stack.insert(-2);
    Ok(2)
}
