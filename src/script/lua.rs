//! The door to the interpreter: the only file that calls its C interface.
//!
//! [`State`] owns a state; [`Stack`] is what a function called by Lua works on; [`Native`] is such
//! a function, written as a safe Rust function over a [`Call`]. A library for scripts is a list of
//! names and natives ([`Stack::push_library`]).
//!
//! Errors of Lua unwind. What is called through a [`Stack`] may end in one, since whatever
//! allocates may be refused memory: Rust's frames in between are unwound and their values dropped,
//! which the `C-unwind` interfaces allow. So a `Stack` is only handed out where a protected call
//! lies below: in [`State::protect`] and in natives. Higher-level bindings were refused: they
//! protect each operation by itself, which costs more than the operation, and wrap errors in
//! objects of theirs.
//!
//! What callers owe: indices name values that are there, no more than [`ROOM`] values are pushed
//! without [`Stack::make_room`], and bytes are used while their string is on the stack.
#![allow(unsafe_code)]

use super::debugger::{self, Event};
use super::memory;
use super::run::Host;
use mlua_sys as ffi;
use std::any::TypeId;
use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr;

pub type Text = Cow<'static, [u8]>;

/// A function of ours that Lua calls: how many values on top of the stack it answers.
pub type Native = fn(&Call<'_>) -> Result<usize, Raised>;

/// The number of natives that run on what is left of a stack: those that see an error.
pub const UNGUARDED: usize = 1 << 40;

/// So many values may be pushed in a native without asking for room.
pub const ROOM: usize = ffi::LUA_MINSTACK as usize;

/// How an error leaves a native.
#[derive(Debug)]
pub enum Raised {
    /// The value on top of the stack is the error.
    Top,
    /// The script is at its end, whatever it does about it; [`Host`] knows why.
    Ended,
    /// A text, which gets the place in front that called the native.
    Text(Text),
    /// An error object as `redis.call` raises it, of this text with its code.
    Object(Text),
}

impl Raised {
    pub fn text(text: &'static str) -> Raised {
        Raised::Text(Cow::Borrowed(text.as_bytes()))
    }

    pub fn object(text: String) -> Raised {
        Raised::Object(Cow::Owned(text.into_bytes()))
    }
}

/// What a native is called with: its arguments are the stack's values from 1 on.
pub struct Call<'a> {
    pub stack: Stack,
    pub host: &'a Host,
}

impl Call<'_> {
    /// The number that the native was made with.
    pub fn tag(&self) -> usize {
        self.stack.number(ffi::lua_upvalueindex(2)) as usize
    }

    /// The index of a value that the native keeps, counted from 0.
    pub fn kept(&self, own: c_int) -> c_int {
        ffi::lua_upvalueindex(3 + own)
    }

    /// Has the native keep the value on top instead of another.
    pub fn keep(&self, own: c_int) {
        // SAFETY: a native's stack; the index is that of a value which the native was made with.
        unsafe { ffi::lua_replace(self.stack.0, self.kept(own)) }
    }

    /// An argument that has to be a number if it is there.
    pub fn check_option(&self, argument: c_int) -> Option<f64> {
        let is_there = !matches!(self.stack.kind(argument), Kind::Absent | Kind::Nil);
        is_there.then(|| self.check_number(argument))
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        self.stack.top() as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the library has of its own that the native belongs to.
    pub fn cell<T: Copy + 'static>(&self) -> &Cell<T> {
        let cell = self.stack.cell(ffi::lua_upvalueindex(3));
        cell.expect("the native was pushed with such a cell")
    }

    /// An argument that has to be a number, or a text of one.
    pub fn check_number(&self, argument: c_int) -> f64 {
        // SAFETY: a native's stack; what is no number ends in an error.
        unsafe { ffi::luaL_checknumber(self.stack.0, argument) }
    }

    /// An argument that has to be a string, or a number, which becomes its text.
    pub fn check_bytes(&self, argument: c_int) -> &[u8] {
        let mut len = 0;
        // SAFETY: a native's stack; the string stays where it is as long as the native runs.
        unsafe {
            let start = ffi::luaL_checklstring(self.stack.0, argument, &mut len);
            std::slice::from_raw_parts(start.cast(), len)
        }
    }

    /// Says of an argument what is wrong with it, as the interpreter says it of its own.
    pub fn refuse_argument(&self, argument: c_int, text: &str) -> Raised {
        let text = CString::new(text).unwrap_or_default();
        // SAFETY: a native's stack. This unwinds, and the text is dropped by that.
        unsafe { ffi::luaL_argerror(self.stack.0, argument, text.as_ptr()) };
        Raised::Top
    }
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// There is no value.
    Absent,
    Nil,
    Boolean,
    /// A bare address, such as cjson's null.
    Light,
    Number,
    String,
    Table,
    Function,
    /// Nothing that scripts can make, but for the 64-bit integers of LuaJIT's literals.
    Other,
}

/// A value that is kept from being collected, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pin(c_int);

/// A function that runs, as long as it does.
pub struct Activation {
    frame: ffi::lua_Debug,
    source: Vec<u8>,
    name: Option<Vec<u8>>,
}

impl Activation {
    /// Whether it comes from a chunk whose name begins so.
    pub fn is_of(&self, chunk: &[u8]) -> bool {
        self.source.starts_with(chunk)
    }

    pub fn line(&self) -> i64 {
        i64::from(self.frame.currentline)
    }

    /// What it was called as, if that is known.
    pub fn name(&self) -> Option<&[u8]> {
        self.name.as_deref()
    }
}

/// The values of a function that runs.
#[derive(Clone, Copy)]
pub struct Stack(*mut ffi::lua_State);

// SAFETY, of all blocks of this implementation: the pointer is that of a live state (it is handed
// out only while Lua runs in it), and callers keep to what the head of this file asks of them.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Stack {
    pub fn top(self) -> c_int {
        unsafe { ffi::lua_gettop(self.0) }
    }

    pub fn set_top(self, top: c_int) {
        unsafe { ffi::lua_settop(self.0, top) }
    }

    pub fn pop(self, count: c_int) {
        self.set_top(-count - 1);
    }

    /// Makes room for so many values, if the stack may be so long.
    pub fn try_make_room(self, count: usize) -> bool {
        let count = c_int::try_from(count).unwrap_or(c_int::MAX);
        unsafe { ffi::lua_checkstack(self.0, count) != 0 }
    }

    /// Makes room for more values than [`ROOM`].
    pub fn make_room(self, count: usize) {
        let count = c_int::try_from(count).unwrap_or(c_int::MAX);
        unsafe { ffi::luaL_checkstack_(self.0, count, c"too many values".as_ptr()) }
    }

    pub fn kind(self, index: c_int) -> Kind {
        match unsafe { ffi::lua_type(self.0, index) } {
            ffi::LUA_TNONE => Kind::Absent,
            ffi::LUA_TNIL => Kind::Nil,
            ffi::LUA_TBOOLEAN => Kind::Boolean,
            ffi::LUA_TLIGHTUSERDATA => Kind::Light,
            ffi::LUA_TNUMBER => Kind::Number,
            ffi::LUA_TSTRING => Kind::String,
            ffi::LUA_TTABLE => Kind::Table,
            ffi::LUA_TFUNCTION => Kind::Function,
            _ => Kind::Other,
        }
    }

    /// What the interpreter calls it in its error texts.
    pub fn kind_name(self, index: c_int) -> &'static str {
        // The names are constants of the interpreter.
        let name =
            unsafe { CStr::from_ptr(ffi::lua_typename(self.0, ffi::lua_type(self.0, index))) };
        name.to_str().unwrap_or("value")
    }

    pub fn boolean(self, index: c_int) -> bool {
        unsafe { ffi::lua_toboolean(self.0, index) != 0 }
    }

    /// A number, or what a text says as one, or 0.
    pub fn number(self, index: c_int) -> f64 {
        unsafe { ffi::lua_tonumber(self.0, index) }
    }

    /// The number that a value is, or that it says as a text.
    pub fn to_number(self, index: c_int) -> Option<f64> {
        let is_number = unsafe { ffi::lua_isnumber(self.0, index) } != 0;
        is_number.then(|| self.number(index))
    }

    /// The bytes of a string, and of nothing else.
    pub fn bytes(&self, index: c_int) -> Option<&[u8]> {
        if self.kind(index) == Kind::String { self.to_bytes(index) } else { None }
    }

    /// The bytes of a string, or of a number, which becomes one where it stands.
    pub fn to_bytes(&self, index: c_int) -> Option<&[u8]> {
        let mut len = 0;
        let start = unsafe { ffi::lua_tolstring(self.0, index, &mut len) };
        (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), len) })
    }

    /// A bare address as a number, or 0.
    pub fn light(self, index: c_int) -> usize {
        unsafe { ffi::lua_touserdata(self.0, index).expose_provenance() }
    }

    /// Whether a bare address is none, which is how formats have their null.
    pub fn is_null(self, index: c_int) -> bool {
        self.kind(index) == Kind::Light && unsafe { ffi::lua_touserdata(self.0, index).is_null() }
    }

    pub fn push_null(self) {
        unsafe { ffi::lua_pushlightuserdata(self.0, ptr::null_mut()) }
    }

    pub fn push_nil(self) {
        unsafe { ffi::lua_pushnil(self.0) }
    }

    pub fn push_boolean(self, value: bool) {
        unsafe { ffi::lua_pushboolean(self.0, c_int::from(value)) }
    }

    pub fn push_number(self, value: f64) {
        unsafe { ffi::lua_pushnumber(self.0, value) }
    }

    pub fn push_bytes(self, bytes: &[u8]) {
        unsafe { ffi::lua_pushlstring_(self.0, bytes.as_ptr().cast(), bytes.len()) }
    }

    /// A bare address, which is compared and never followed.
    pub fn push_light(self, address: usize) {
        unsafe { ffi::lua_pushlightuserdata(self.0, ptr::without_provenance_mut(address)) }
    }

    /// What ends a script when it is raised.
    pub fn push_end(self) {
        self.push_light((&raw const END).addr());
    }

    pub fn is_end(self, index: c_int) -> bool {
        self.kind(index) == Kind::Light && self.light(index) == (&raw const END).addr()
    }

    /// Pushes a copy of a value.
    pub fn push_copy(self, index: c_int) {
        unsafe { ffi::lua_pushvalue(self.0, index) }
    }

    pub fn insert(self, index: c_int) {
        unsafe { ffi::lua_insert(self.0, index) }
    }

    pub fn remove(self, index: c_int) {
        unsafe { ffi::lua_remove(self.0, index) }
    }

    pub fn push_table(self, elements: usize, fields: usize) {
        // A size is a hint, and one that was declared by nobody who has to be believed.
        let hint = |count: usize| count.min(1 << 16) as c_int;
        unsafe { ffi::lua_createtable(self.0, hint(elements), hint(fields)) }
    }

    /// Replaces the key on top by what the table has for it.
    pub fn raw_get(self, table: c_int) {
        unsafe { ffi::lua_rawget_(self.0, table) }
    }

    /// The same, as scripts see it: with what its metatable says.
    pub fn get(self, table: c_int) {
        unsafe { _ = ffi::lua_gettable(self.0, table) }
    }

    pub fn raw_get_index(self, table: c_int, index: c_int) {
        unsafe { ffi::lua_rawgeti_(self.0, table, index) }
    }

    /// Pushes a field of a table.
    pub fn raw_get_field(self, table: c_int, name: Pin) {
        let table = self.absolute(table);
        self.push_pinned(name);
        self.raw_get(table);
    }

    /// Takes a key and above it its value off the stack and into the table.
    pub fn raw_set(self, table: c_int) {
        unsafe { ffi::lua_rawset(self.0, table) }
    }

    pub fn raw_set_index(self, table: c_int, index: c_int) {
        unsafe { ffi::lua_rawseti_(self.0, table, index) }
    }

    /// Takes the value on top into a table, under a name.
    pub fn raw_set_name(self, table: c_int, name: &str) {
        let table = self.absolute(table);
        self.push_bytes(name.as_bytes());
        self.insert(-2);
        self.raw_set(table);
    }

    pub fn raw_len(self, table: c_int) -> usize {
        unsafe { ffi::lua_objlen(self.0, table) }
    }

    /// Replaces the key on top by the next one of the table and its value; by nothing at the end.
    pub fn next(self, table: c_int) -> bool {
        unsafe { ffi::lua_next(self.0, table) != 0 }
    }

    /// Whether a value comes before another one, as scripts compare them.
    pub fn is_less(self, value: c_int, other: c_int) -> bool {
        unsafe { ffi::lua_lessthan(self.0, value, other) != 0 }
    }

    pub fn set_metatable(self, table: c_int) {
        unsafe { _ = ffi::lua_setmetatable(self.0, table) }
    }

    /// The value of an index as one that stays right when values are pushed.
    pub fn absolute(self, index: c_int) -> c_int {
        if index > 0 || index <= ffi::LUA_REGISTRYINDEX { index } else { self.top() + index + 1 }
    }

    /// Pushes the metatable of a value, if it has one.
    pub fn push_metatable(self, index: c_int) -> bool {
        unsafe { ffi::lua_getmetatable(self.0, index) != 0 }
    }

    /// Pushes a value of ours, which lives as long as something of Lua's knows it.
    pub fn push_cell<T: Copy + 'static>(self, value: T) {
        const { assert!(align_of::<Content<T>>() <= ALIGNMENT) };
        let content = Content { kind: TypeId::of::<T>(), value: Cell::new(value) };
        // The block is as long as what is written to it, and aligned as all that Lua keeps.
        unsafe {
            let block = ffi::lua_newuserdata(self.0, size_of::<Content<T>>());
            block.cast::<Content<T>>().write(content);
        }
    }

    fn cell<'s, T: Copy + 'static>(self, index: c_int) -> Option<&'s Cell<T>> {
        // Nothing but `push_cell` makes such values here, and what it makes begins with the type.
        unsafe {
            if ffi::lua_type(self.0, index) != ffi::LUA_TUSERDATA {
                return None;
            }
            let block = ffi::lua_touserdata(self.0, index);
            let is_it = *block.cast::<TypeId>() == TypeId::of::<T>();
            is_it.then(|| &(*block.cast::<Content<T>>()).value)
        }
    }

    /// Calls the function below so many arguments, and leaves so many results.
    pub fn call(self, arguments: c_int, results: c_int) {
        unsafe { ffi::lua_call(self.0, arguments, results) }
    }

    /// The same, and leaves all results; answers how many.
    pub fn call_all(self, arguments: c_int) -> usize {
        let below = self.top() - arguments - 1;
        self.call(arguments, ffi::LUA_MULTRET);
        (self.top() - below) as usize
    }

    /// Takes the value on top and keeps it.
    pub fn pin(self) -> Pin {
        Pin(unsafe { ffi::luaL_ref(self.0, ffi::LUA_REGISTRYINDEX) })
    }

    pub fn pin_name(self, name: &str) -> Pin {
        self.push_bytes(name.as_bytes());
        self.pin()
    }

    pub fn push_pinned(self, pin: Pin) {
        self.raw_get_index(ffi::LUA_REGISTRYINDEX, pin.0);
    }

    pub fn push_native(self, native: Native, tag: usize) {
        unsafe { ffi::lua_pushlightuserdata(self.0, native as *mut c_void) };
        self.push_number(tag as f64);
        unsafe { ffi::lua_pushcclosure(self.0, enter, 2) }
    }

    /// The same, with the cell on top, which stays there.
    pub fn push_native_with_cell(self, native: Native, tag: usize) {
        let cell = self.top();
        unsafe { ffi::lua_pushlightuserdata(self.0, native as *mut c_void) };
        self.push_number(tag as f64);
        self.push_copy(cell);
        unsafe { ffi::lua_pushcclosure(self.0, enter, 3) }
    }

    /// A native that keeps so many values of the top of the stack, which it finds by
    /// [`Call::kept`].
    pub fn push_keeping_native(self, native: Native, values: c_int) {
        unsafe { ffi::lua_pushlightuserdata(self.0, native as *mut c_void) };
        self.insert(-values - 1);
        self.push_number(0.0);
        self.insert(-values - 1);
        unsafe { ffi::lua_pushcclosure(self.0, enter, values + 2) }
    }

    /// A table of functions; each is told the tag.
    pub fn push_library(self, functions: &[(&str, Native)], tag: usize) {
        self.push_table(0, functions.len());
        for (name, native) in functions {
            self.push_native(*native, tag);
            self.raw_set_name(-2, name);
        }
    }

    /// A library of the interpreter's own, which puts itself among the globals.
    fn open(self, library: ffi::lua_CFunction, name: &str) {
        unsafe { ffi::lua_pushcclosure(self.0, library, 0) };
        self.push_bytes(name.as_bytes());
        self.call(1, 0);
    }

    pub fn push_globals(self) {
        self.push_copy(ffi::LUA_GLOBALSINDEX);
    }

    /// Compiles a text to a function on top of the stack, or says on top of it why not.
    pub fn compile(self, text: &[u8], name: &CStr) -> bool {
        let (start, len) = (text.as_ptr().cast(), text.len());
        let mode = c"t".as_ptr();
        unsafe { ffi::luaL_loadbufferx(self.0, start, len, name.as_ptr(), mode) == ffi::LUA_OK }
    }

    /// The code of the function on top, as the interpreter writes it down; empty if it does not.
    pub fn dump(self) -> Vec<u8> {
        let mut code: Vec<u8> = Vec::new();
        // The vector is there until the call has returned, and knows nothing of this state.
        let status = unsafe { ffi::lua_dump(self.0, write_down, (&raw mut code).cast(), 0) };
        if status == 0 { code } else { Vec::new() }
    }

    /// Gives the function below the top the table on top as its globals.
    pub fn set_environment(self) {
        unsafe { _ = ffi::lua_setfenv(self.0, -2) }
    }

    /// Pushes where the function of a level is, as `name:line: ` or as nothing.
    pub fn push_where(self, level: c_int) {
        unsafe { ffi::luaL_where(self.0, level) }
    }

    pub fn concat(self, count: c_int) {
        unsafe { ffi::lua_concat(self.0, count) }
    }

    /// The innermost function that runs and comes from a chunk whose name begins so: the chunk's
    /// name, and the line.
    pub fn place(self, chunk: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        /// What lies between a script and its error is little: functions of the prelude.
        const LEVELS_MAX: c_int = 200;
        let mut calls = (0..LEVELS_MAX).map_while(|level| self.activation(level));
        let found = calls.find(|call| call.is_of(chunk))?;
        Some((found.source.clone(), found.line().to_string().into_bytes()))
    }

    /// A function that runs, or has called one that does: the innermost one is at level 0.
    pub fn activation(self, level: c_int) -> Option<Activation> {
        let mut frame = std::mem::MaybeUninit::<ffi::lua_Debug>::zeroed();
        // The frame is all zeros, which its fields can be, and is filled by the two calls.
        unsafe {
            if ffi::lua_getstack(self.0, level, frame.as_mut_ptr()) == 0 {
                return None;
            }
            ffi::lua_getinfo(self.0, c"Snl".as_ptr(), frame.as_mut_ptr());
            let frame = frame.assume_init();
            let source = CStr::from_ptr(frame.source).to_bytes().to_vec();
            let name = (!frame.name.is_null()).then(|| CStr::from_ptr(frame.name).to_bytes());
            let name = name.map(<[u8]>::to_vec);
            Some(Activation { frame, source, name })
        }
    }

    /// Pushes a local variable of a function that still runs, and says what it is called.
    pub fn push_local(self, of: &Activation, index: c_int) -> Option<Vec<u8>> {
        let mut frame = std::mem::MaybeUninit::<ffi::lua_Debug>::uninit();
        unsafe {
            frame.as_mut_ptr().copy_from_nonoverlapping(&raw const of.frame, 1);
            let name = ffi::lua_getlocal(self.0, frame.as_mut_ptr(), index);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_bytes().to_vec())
        }
    }

    /// Where a value is that has a place in memory.
    pub fn address(self, index: c_int) -> usize {
        unsafe { ffi::lua_topointer(self.0, index).addr() }
    }

    /// Has the host look at all that runs each time after so many instructions, from now on; what
    /// else it looks at stays as it is.
    pub fn watch_each(self, instructions: u32) {
        unsafe {
            let (hook, mask) = (ffi::lua_gethook(self.0), ffi::lua_gethookmask(self.0));
            _ = ffi::lua_sethook(self.0, hook, mask, instructions as c_int);
        }
    }

    /// Collects garbage; whether all is collected.
    pub fn collect(self, how: Collection) -> bool {
        let what = match how {
            Collection::Whole => ffi::LUA_GCCOLLECT,
            Collection::Step => ffi::LUA_GCSTEP,
        };
        let is_done = unsafe { ffi::lua_gc(self.0, what, 0) } != 0;
        how == Collection::Whole || is_done
    }

    /// Has garbage collected anew when there is so much of what was left, in percent.
    pub fn set_collection_pause(self, percent: c_int) {
        unsafe { _ = ffi::lua_gc(self.0, ffi::LUA_GCSETPAUSE, percent) }
    }

    fn host<'h>(self) -> &'h Host {
        let mut host = ptr::null_mut();
        // The allocator is given the host of its state, which outlives it: [`State`] owns both.
        unsafe {
            ffi::lua_getallocf(self.0, &mut host);
            &*host.cast_const().cast()
        }
    }

    /// Leaves as an error does. Nothing that has to be dropped is left in this frame by then.
    fn raise(self, raised: Raised, level: c_int) -> c_int {
        match raised {
            Raised::Top => {}
            Raised::Ended => self.push_end(),
            Raised::Text(text) => {
                self.push_where(level);
                self.push_bytes(&text);
                drop(text);
                self.concat(2);
            }
            Raised::Object(text) => {
                self.push_error(&text);
                drop(text);
            }
        }
        unsafe { ffi::lua_error(self.0) }
    }

    /// A table that stands for an error of this text.
    pub fn push_error(self, text: &[u8]) {
        self.push_table(0, 2);
        self.push_pinned(self.host().names().err);
        self.push_bytes(text);
        self.raw_set(-3);
    }
}

/// What a value of ours is: first its type, so that it is not taken for another.
#[repr(C)]
struct Content<T> {
    kind: TypeId,
    value: Cell<T>,
}

/// How much garbage is collected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    Whole,
    Step,
}

/// Its address is the value that ends scripts.
static END: u64 = 0;

/// What Lua calls for a native.
unsafe extern "C-unwind" fn enter(raw: *mut ffi::lua_State) -> c_int {
    let stack = Stack(raw);
    let call = Call { stack, host: stack.host() };
    // SAFETY: `push_native` made the first upvalue from such a function, and nothing changes it.
    let native: Native = unsafe {
        let address = ffi::lua_touserdata(raw, ffi::lua_upvalueindex(1));
        std::mem::transmute::<*mut c_void, Native>(address)
    };
    let is_low = call.host.is_stack_low() && call.tag() != UNGUARDED;
    let answer = if is_low { Err(stack_is_low()) } else { native(&call) };
    match answer {
        Ok(count) => count as c_int,
        Err(raised) => stack.raise(raised, 1),
    }
}

#[cold]
fn stack_is_low() -> Raised {
    Raised::text("C stack overflow")
}

/// What Lua calls with each part of a function's code that is written down.
unsafe extern "C-unwind" fn write_down(
    _: *mut ffi::lua_State,
    part: *const c_void,
    len: usize,
    code: *mut c_void,
) -> c_int {
    // SAFETY: `dump` gave the vector's address and is waiting, and the part is that long.
    unsafe {
        let part = std::slice::from_raw_parts(part.cast(), len);
        (*code.cast::<Vec<u8>>()).extend_from_slice(part);
    }
    0
}

/// What Lua calls while it runs, after so many instructions.
unsafe extern "C-unwind" fn watch(raw: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    let stack = Stack(raw);
    let host = stack.host();
    let looked = if host.is_stack_low() { Err(stack_is_low()) } else { host.pass(stack) };
    if let Err(raised) = looked {
        stack.raise(raised, 0);
    }
}

/// The same in a script that is debugged, which is also looked at when a line begins.
unsafe extern "C-unwind" fn watch_lines(raw: *mut ffi::lua_State, event: *mut ffi::lua_Debug) {
    let stack = Stack(raw);
    let host = stack.host();
    // SAFETY: the interpreter says why it calls.
    let is_line = unsafe { (*event).event } == ffi::LUA_HOOKLINE;
    let looked = match (host.is_stack_low(), is_line) {
        (true, _) => Err(stack_is_low()),
        (false, true) => debugger::look(host, stack, Event::Line),
        (false, false) => host.pass(stack).and_then(|()| debugger::look(host, stack, Event::While)),
    };
    if let Err(raised) = looked {
        stack.raise(raised, 0);
    }
}

/// What all that Lua keeps is aligned to.
const ALIGNMENT: usize = memory::ALIGNMENT;

/// The allocator of a state.
unsafe extern "C" fn allocate(
    host: *mut c_void,
    block: *mut c_void,
    old: usize,
    new: usize,
) -> *mut c_void {
    // SAFETY: `State::new` gave the host, which outlives the state. The interpreter says of a block
    // how long it asked for it to be, and gives back none twice.
    unsafe {
        let memory = &(*host.cast_const().cast::<Host>()).memory;
        let old = if block.is_null() { 0 } else { old };
        memory.allocate(block.cast(), old, new).cast()
    }
}

/// How a protected call ended.
#[derive(PartialEq, Eq, Debug)]
pub enum Status {
    Fine,
    /// Its handler has seen the error.
    Failed,
    OutOfMemory,
    /// There was no way to call the handler, such as at the end of the interpreter's stack; the
    /// error says so.
    Unseen(Vec<u8>),
}

/// A state of the interpreter, with the libraries that can be given to scripts.
pub struct State {
    raw: *mut ffi::lua_State,
    host: Box<Host>,
}

impl State {
    /// None if there is no memory for it.
    pub fn new(host: Host) -> Option<State> {
        let host = Box::new(host);
        let address = (&raw const *host).cast_mut().cast();
        // SAFETY: the host outlives the state, and stays where it is.
        let raw = unsafe { ffi::lua_newstate(allocate, address) };
        if raw.is_null() {
            return None;
        }
        host.memory.set_stack(Stack(raw));
        let state = State { raw, host };
        state.protect(open_libraries).ok()?;
        Some(state)
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Runs something that may end in an error, and says which. No script may be running.
    pub fn protect<R, F>(&self, job: F) -> Result<R, Vec<u8>>
    where
        F: FnOnce(Stack) -> Result<R, Raised>,
    {
        let mut task = Task { job: Some(job), answer: None };
        let address = (&raw mut task).cast();
        // SAFETY: the state is live and the task is there until the call has returned.
        unsafe {
            let top = ffi::lua_gettop(self.raw);
            let status = ffi::lua_cpcall(self.raw, run_task::<R, F>, address);
            let problem = match status {
                ffi::LUA_OK => None,
                _ => Stack(self.raw).bytes(-1).map(<[u8]>::to_vec),
            };
            ffi::lua_settop(self.raw, top);
            task.answer.ok_or_else(|| problem.unwrap_or_else(|| b"unknown error".to_vec()))
        }
    }

    /// Calls a function without arguments; an error goes to the handler where it is raised.
    pub fn call(&self, function: Pin, handler: Pin) -> Status {
        // SAFETY: the state is live. Nothing here allocates before the call is protected.
        unsafe {
            let top = ffi::lua_gettop(self.raw);
            let stack = Stack(self.raw);
            stack.push_pinned(handler);
            stack.push_pinned(function);
            let status = match ffi::lua_pcall(self.raw, 0, 0, top + 1) {
                ffi::LUA_OK => Status::Fine,
                ffi::LUA_ERRRUN => Status::Failed,
                ffi::LUA_ERRMEM => Status::OutOfMemory,
                _ => Status::Unseen(stack.bytes(-1).unwrap_or_default().to_vec()),
            };
            ffi::lua_settop(self.raw, top);
            status
        }
    }

    /// Lets go of a value that was kept.
    pub fn unpin(&self, pin: Pin) {
        // SAFETY: the state is live; the list of what is free has its place since `new`, so that
        // nothing is allocated.
        unsafe { ffi::luaL_unref(self.raw, ffi::LUA_REGISTRYINDEX, pin.0) }
    }

    /// Has the host look at all that runs, each time after so many instructions.
    pub fn watch(&self, instructions: u32) {
        let count = instructions as c_int;
        // SAFETY: the state is live.
        unsafe { _ = ffi::lua_sethook(self.raw, Some(watch), ffi::LUA_MASKCOUNT, count) }
    }

    /// The same, and at each line for the debugger.
    pub fn watch_lines(&self, instructions: u32) {
        let count = instructions as c_int;
        let mask = ffi::LUA_MASKCOUNT | ffi::LUA_MASKLINE;
        // SAFETY: the state is live.
        unsafe { _ = ffi::lua_sethook(self.raw, Some(watch_lines), mask, count) }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: the state is live and nothing runs in it: whoever runs in it keeps it.
        unsafe { ffi::lua_close(self.raw) }
    }
}

struct Task<R, F> {
    job: Option<F>,
    answer: Option<R>,
}

unsafe extern "C-unwind" fn run_task<R, F>(raw: *mut ffi::lua_State) -> c_int
where
    F: FnOnce(Stack) -> Result<R, Raised>,
{
    let stack = Stack(raw);
    // SAFETY: `protect` gave this address and is waiting for this function.
    let done = unsafe {
        let task: *mut Task<R, F> = ffi::lua_touserdata(raw, 1).cast();
        let Some(job) = (*task).job.take() else { return 0 };
        job(stack).map(|answer| (*task).answer = Some(answer))
    };
    match done {
        Ok(()) => 0,
        Err(raised) => stack.raise(raised, 1),
    }
}

/// Opens what scripts may have functions of; and not `debug`, `ffi`, `io`, `jit` and `package`.
fn open_libraries(stack: Stack) -> Result<(), Raised> {
    stack.push_boolean(true);
    let pin = stack.pin();
    let mode = ffi::LUA_REGISTRYINDEX;
    // SAFETY: the pin was just made. Taking it back makes the list of what is free.
    unsafe { ffi::luaL_unref(stack.0, mode, pin.0) };
    stack.open(ffi::luaopen_base, "");
    stack.open(ffi::luaopen_table, "table");
    stack.open(ffi::luaopen_os, "os");
    stack.open(ffi::luaopen_string, "string");
    stack.open(ffi::luaopen_math, "math");
    stack.open(ffi::luaopen_bit, "bit");
    Ok(())
}
