//! Values across the border: replies become Lua values, a script's value becomes a reply.
//!
//! Neither way runs any Lua: tables are looked into raw, so that a metatable that raises errors, or
//! never ends, is of no consequence here. Neither recurses on what it is given, and both count what
//! they do, so that a reply of millions of elements lets others in and can be killed.

use super::lua::{Call, Kind, Raised, Stack};
use crate::resp::{Protocol, Reply};
use crate::structs::number::{F64Buf, I64Buf, format_f64, format_i64};
use smallvec::SmallVec;

/// What an element of a reply counts for.
const ELEMENT_INSTRUCTIONS: u64 = 10;
/// And each so many bytes.
const BYTES_PER_INSTRUCTION: usize = 64;

/// By which error a script ended.
#[derive(PartialEq, Eq, Debug)]
pub struct Failure {
    /// With its code.
    pub text: Vec<u8>,
    /// The script's name and the line, if it was raised and not returned.
    pub place: Option<(Vec<u8>, Vec<u8>)>,
    /// The command that failed has been counted for it.
    pub is_counted: bool,
    /// Its state has had no more memory, and is best made anew.
    pub is_out_of_memory: bool,
}

impl Failure {
    pub fn of_text(text: impl Into<Vec<u8>>) -> Failure {
        Failure { text: text.into(), place: None, is_counted: false, is_out_of_memory: false }
    }
}

/// By which error a script ends that returns the table on top of the stack, if that stands for one.
pub(super) fn returned_failure(call: &Call<'_>) -> Option<Failure> {
    let stack = call.stack;
    stack.raw_get_field(-1, call.host.names().err);
    let text = stack.bytes(-1).map(|text| until_zero(text).to_vec());
    stack.pop(1);
    text.map(|text| Failure { is_counted: is_counted(call, -1), ..Failure::of_text(text) })
}

/// What of a text is an error or a status: it ends as a string of C does.
fn until_zero(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr(0, text).unwrap_or(text.len())]
}

/// By which error a script ends that has raised the only argument.
pub(super) fn raised_failure(call: &Call<'_>) -> Failure {
    let stack = call.stack;
    let text = match stack.kind(1) {
        Kind::Table => {
            let is_counted = is_counted(call, 1);
            stack.raw_get_field(1, call.host.names().err);
            let text = until_zero(stack.to_bytes(-1).unwrap_or(b"ERR unknown error"));
            return Failure { is_counted, ..Failure::of_text(text) };
        }
        Kind::String | Kind::Number => until_zero(stack.to_bytes(1).unwrap_or_default()).to_vec(),
        Kind::Boolean => stack.boolean(1).to_string().into_bytes(),
        _ => stack.kind_name(1).as_bytes().to_vec(),
    };
    Failure::of_text([b"ERR ", &*text].concat())
}

fn is_counted(call: &Call<'_>, table: i32) -> bool {
    call.stack.raw_get_field(table, call.host.names().is_counted);
    let is_counted = call.stack.boolean(-1);
    call.stack.pop(1);
    is_counted
}

/// Numbers from here on are written as such, and no longer as integers.
const INTEGER_MAX: f64 = (1u64 << 62) as f64;

/// Calls `take` with a number as it goes into a command: an integer as one, anything else in the
/// shortest form that reads back as the same number.
pub(super) fn with_number_text<R>(number: f64, take: impl FnOnce(&[u8]) -> R) -> R {
    if number.abs() <= INTEGER_MAX && number.trunc() == number {
        return take(format_i64(number as i64, &mut I64Buf::new()));
    }
    if number.is_nan() && number.is_sign_negative() {
        return take(b"-nan");
    }
    take(format_f64(number, &mut F64Buf::new()))
}

/// An aggregate of a reply whose elements are being read: its table is on the stack, and above it
/// the key whose value comes next.
struct Open {
    table: i32,
    kind: Aggregate,
    left: usize,
    next_index: i32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Array,
    Map,
    Set,
    /// What is said about the value behind it, which nobody hears.
    Attribute,
}

/// Pushes a whole reply as a Lua value.
pub(super) fn push(call: &Call<'_>, reply: &[u8]) -> Result<(), Raised> {
    let mut at = 0;
    match read_one(call, reply, &mut at)? {
        None => Ok(()),
        Some((kind, left)) => push_aggregate(call, reply, at, begin(call, kind, left, reply.len())),
    }
}

/// Pushes a reply that is an aggregate whose head has been read.
fn push_aggregate(
    call: &Call<'_>,
    reply: &[u8],
    mut at: usize,
    outermost: Open,
) -> Result<(), Raised> {
    let mut open: SmallVec<[Open; 4]> = SmallVec::new();
    let is_empty = outermost.left == 0;
    open.push(outermost);
    if is_empty && close_complete(call, &mut open, false) {
        return Ok(());
    }
    loop {
        let has_value = match read_one(call, reply, &mut at)? {
            None => true,
            Some((kind, left)) => {
                open.push(begin(call, kind, left, reply.len() - at));
                false
            }
        };
        call.host.spend(ELEMENT_INSTRUCTIONS)?;
        // Values close the aggregates that they complete, innermost first.
        if close_complete(call, &mut open, has_value) {
            return Ok(());
        }
    }
}

/// Takes a value, if one has come, into the innermost aggregate, and what that completes into the
/// one around it; whether all is complete.
fn close_complete(call: &Call<'_>, open: &mut SmallVec<[Open; 4]>, mut has_value: bool) -> bool {
    while let Some(last) = open.last_mut() {
        if has_value {
            put(call, last);
        }
        if last.left > 0 {
            return false;
        }
        has_value = close(call, last.kind);
        open.pop();
    }
    has_value
}

fn begin(call: &Call<'_>, kind: Aggregate, left: usize, bytes_left: usize) -> Open {
    let stack = call.stack;
    stack.make_room(8);
    // No element is shorter than three bytes.
    let hint = left.min(bytes_left / 3);
    match kind {
        Aggregate::Array => stack.push_table(hint, 0),
        Aggregate::Map => stack.push_table(0, hint / 2),
        Aggregate::Set => stack.push_table(0, hint),
        Aggregate::Attribute => stack.push_nil(),
    }
    Open { table: stack.top(), kind, left, next_index: 1 }
}

/// Takes the value on top of the stack into an aggregate.
fn put(call: &Call<'_>, open: &mut Open) {
    let stack = call.stack;
    open.left -= 1;
    match open.kind {
        Aggregate::Attribute => stack.pop(1),
        Aggregate::Array => {
            stack.raw_set_index(open.table, open.next_index);
            open.next_index += 1;
        }
        Aggregate::Set if stack.kind(-1) == Kind::Nil => stack.pop(1),
        Aggregate::Set => {
            stack.push_boolean(true);
            stack.raw_set(open.table);
        }
        // A key stays until its value has come.
        Aggregate::Map if open.left % 2 == 1 => {}
        // What is no key of a table is left out.
        Aggregate::Map if stack.kind(-2) == Kind::Nil => stack.pop(2),
        Aggregate::Map => stack.raw_set(open.table),
    }
}

/// Ends an aggregate: whether it is a value, which then is on top of the stack.
fn close(call: &Call<'_>, kind: Aggregate) -> bool {
    let names = call.host.names();
    match kind {
        Aggregate::Array => {}
        Aggregate::Attribute => call.stack.pop(1),
        Aggregate::Map => wrap(call.stack, names.map),
        Aggregate::Set => wrap(call.stack, names.set),
    }
    kind != Aggregate::Attribute
}

/// Puts the value on top of the stack into a table, under a name.
fn wrap(stack: Stack, name: super::lua::Pin) {
    stack.push_table(0, 1);
    stack.push_pinned(name);
    stack.push_copy(-3);
    stack.raw_set(-3);
    stack.remove(-2);
}

#[cold]
fn malformed() -> Raised {
    Raised::text("the reply is malformed")
}

/// Pushes one value that is no aggregate, or reads the head of one.
fn read_one(
    call: &Call<'_>,
    reply: &[u8],
    at: &mut usize,
) -> Result<Option<(Aggregate, usize)>, Raised> {
    let (stack, names) = (call.stack, call.host.names());
    let rest = reply.get(*at..).ok_or_else(malformed)?;
    if let [b'$', digits @ ..] = rest
        && let Some((len, digits_len)) = short_integer(digits)
    {
        let start = 1 + digits_len + 2;
        stack.push_bytes(rest.get(start..start + len).ok_or_else(malformed)?);
        *at += start + len + 2;
        return Ok(None);
    }
    let end = memchr::memchr(b'\r', rest).ok_or_else(malformed)?;
    let (prefix, line) = rest[..end].split_first().ok_or_else(malformed)?;
    *at += end + 2;
    match prefix {
        b':' => stack.push_number(integer(line)? as f64),
        b'$' => match take_bytes(reply, at, line)? {
            Some(bytes) => stack.push_bytes(bytes),
            None => stack.push_boolean(false),
        },
        b'+' => {
            stack.push_table(0, 1);
            stack.push_pinned(names.ok);
            stack.push_bytes(line);
            stack.raw_set(-3);
        }
        b'-' => {
            stack.push_error(line);
            stack.push_pinned(names.is_counted);
            stack.push_boolean(true);
            stack.raw_set(-3);
        }
        b'_' => stack.push_nil(),
        b'#' => stack.push_boolean(line == b"t"),
        b',' => {
            let number = std::str::from_utf8(line).ok().and_then(|text| text.parse::<f64>().ok());
            stack.push_number(number.ok_or_else(malformed)?);
            wrap(stack, names.double);
        }
        b'(' => {
            stack.push_bytes(line);
            wrap(stack, names.big_number);
        }
        b'=' => push_verbatim(call, take_bytes(reply, at, line)?.ok_or_else(malformed)?)?,
        b'*' | b'>' | b'%' | b'~' | b'|' => return push_head(stack, *prefix, integer(line)?),
        _ => return Err(malformed()),
    }
    Ok(None)
}

/// A number of a few digits at the begin of a line, as most are, and how many digits it has.
#[inline]
fn short_integer(line: &[u8]) -> Option<(usize, usize)> {
    const DIGITS_MAX: usize = 6;
    let mut number = 0;
    for (len, byte) in line.iter().take(DIGITS_MAX + 1).enumerate() {
        match byte {
            b'0'..=b'9' => number = 10 * number + usize::from(byte - b'0'),
            b'\r' if len > 0 => return Some((number, len)),
            _ => return None,
        }
    }
    None
}

fn integer(line: &[u8]) -> Result<i64, Raised> {
    crate::structs::number::parse_i64(line).ok_or_else(malformed)
}

/// The bytes of a string whose head has been read; none for null.
fn take_bytes<'r>(
    reply: &'r [u8],
    at: &mut usize,
    line: &[u8],
) -> Result<Option<&'r [u8]>, Raised> {
    let Ok(len) = usize::try_from(integer(line)?) else { return Ok(None) };
    let bytes = reply.get(*at..*at + len).ok_or_else(malformed)?;
    *at += len + 2;
    Ok(Some(bytes))
}

fn push_verbatim(call: &Call<'_>, bytes: &[u8]) -> Result<(), Raised> {
    let (stack, names) = (call.stack, call.host.names());
    let (format, body) = bytes.split_at_checked(4).ok_or_else(malformed)?;
    stack.push_table(0, 2);
    for (name, value) in [(names.string, body), (names.format, &format[..3])] {
        stack.push_pinned(name);
        stack.push_bytes(value);
        stack.raw_set(-3);
    }
    wrap(stack, names.verbatim_string);
    Ok(())
}

/// What begins with such a head, and how many values it has; a null array is a value.
fn push_head(stack: Stack, prefix: u8, len: i64) -> Result<Option<(Aggregate, usize)>, Raised> {
    let Ok(len) = usize::try_from(len) else {
        stack.push_boolean(false);
        return Ok(None);
    };
    let double = || len.checked_mul(2).ok_or_else(malformed);
    Ok(Some(match prefix {
        b'%' => (Aggregate::Map, double()?),
        b'|' => (Aggregate::Attribute, double()?),
        b'~' => (Aggregate::Set, len),
        _ => (Aggregate::Array, len),
    }))
}

/// How deep a script's value may be nested.
const DEPTH_MAX: usize = 1000;

/// An aggregate whose elements are being written. Its table is on the stack, and above it the key
/// of a map or set that comes before what is next.
enum Writing {
    Array {
        next: i32,
        len: i32,
    },
    /// A key is next.
    Map,
    /// A value is next, which is on the stack above its key.
    Value,
    Set,
}

/// Writes the value on top of the stack.
pub(super) fn write(call: &Call<'_>, out: &mut Reply<'_>) -> Result<(), Raised> {
    if let Some(outermost) = write_one(call, out)? {
        write_elements(call, out, outermost)?;
    }
    check_length(call, out)
}

/// Whether there was memory for all that is written, and is to be.
fn check_length(call: &Call<'_>, out: &mut Reply<'_>) -> Result<(), Raised> {
    if out.buffer().len() > call.host.memory.max_bytes() || out.buffer().is_refused() {
        return Err(call.host.end_for_memory());
    }
    Ok(())
}

/// Writes what is in the aggregate on top of the stack.
fn write_elements(call: &Call<'_>, out: &mut Reply<'_>, outermost: Writing) -> Result<(), Raised> {
    let stack = call.stack;
    let mut open: SmallVec<[Writing; 4]> = SmallVec::new();
    open.push(outermost);
    let mut written = 0;
    loop {
        check_length(call, out)?;
        let len = out.buffer().len();
        let bytes = len.saturating_sub(std::mem::replace(&mut written, len));
        call.host.spend(ELEMENT_INSTRUCTIONS + (bytes / BYTES_PER_INSTRUCTION) as u64)?;
        while let Some(last) = open.last_mut() {
            if push_next(stack, last) {
                break;
            }
            stack.pop(1);
            open.pop();
        }
        if open.is_empty() {
            return Ok(());
        }
        if open.len() >= DEPTH_MAX {
            out.error(b"ERR reached lua stack limit");
            stack.pop(1);
        } else if let Some(aggregate) = write_one(call, out)? {
            open.push(aggregate);
        }
    }
}

/// Pushes what is next of an aggregate; false at its end.
fn push_next(stack: Stack, writing: &mut Writing) -> bool {
    match writing {
        Writing::Array { next, len } => {
            *next += 1;
            if *next <= *len {
                stack.raw_get_index(-1, *next);
            }
            *next <= *len
        }
        Writing::Map => {
            if !stack.next(-2) {
                return false;
            }
            stack.push_copy(-2);
            *writing = Writing::Value;
            true
        }
        Writing::Value => {
            *writing = Writing::Map;
            true
        }
        Writing::Set => {
            if !stack.next(-2) {
                return false;
            }
            stack.pop(1);
            stack.push_copy(-1);
            true
        }
    }
}

/// Writes the value on top of the stack and takes it off; or writes the head of an aggregate, which
/// stays.
fn write_one(call: &Call<'_>, out: &mut Reply<'_>) -> Result<Option<Writing>, Raised> {
    let stack = call.stack;
    match stack.kind(-1) {
        Kind::String => out.bulk(stack.bytes(-1).unwrap_or_default()),
        Kind::Number => out.integer(whole_part(stack.number(-1))),
        Kind::Boolean => match (call.host.protocol.get(), stack.boolean(-1)) {
            (Protocol::Resp3, value) => out.boolean(value),
            (Protocol::Resp2, true) => out.integer(1),
            (Protocol::Resp2, false) => out.null(),
        },
        Kind::Table => return write_table(call, out),
        _ => out.null(),
    }
    stack.pop(1);
    Ok(None)
}

/// Cut towards zero; what is no integer of 64 bits is what processors make of it.
fn whole_part(number: f64) -> i64 {
    const LIMIT: f64 = (1u64 << 63) as f64;
    if (-LIMIT..LIMIT).contains(&number) { number as i64 } else { i64::MIN }
}

fn write_table(call: &Call<'_>, out: &mut Reply<'_>) -> Result<Option<Writing>, Raised> {
    let (stack, names) = (call.stack, call.host.names());
    stack.make_room(8);
    if let Some(len) = short_list_len(stack) {
        out.array(len as usize);
        return Ok(Some(Writing::Array { next: 0, len }));
    }
    let table = stack.top();
    let fields = [
        (names.err, Kind::String),
        (names.ok, Kind::String),
        (names.double, Kind::Number),
        (names.big_number, Kind::String),
        (names.verbatim_string, Kind::Table),
        (names.map, Kind::Table),
        (names.set, Kind::Table),
    ];
    for (place, (name, kind)) in fields.into_iter().enumerate() {
        stack.raw_get_field(table, name);
        if stack.kind(-1) != kind {
            stack.pop(1);
            continue;
        }
        let text = || stack.bytes(-1).unwrap_or_default();
        match place {
            0 => out.error(until_zero(text())),
            1 => out.simple(until_zero(text())),
            2 => out.double(stack.number(-1)),
            3 => out.big_number(&one_line(text())),
            4 if write_verbatim(call, out) => {}
            4 => {
                stack.pop(1);
                continue;
            }
            _ => {
                stack.remove(table);
                return write_pairs(call, out, place == 5).map(Some);
            }
        }
        stack.set_top(table - 1);
        return Ok(None);
    }
    let len = count_elements(call)?;
    out.array(len as usize);
    Ok(Some(Writing::Array { next: 0, len }))
}

/// How many elements the table on top has, if these are few and it has nothing else: then it has
/// none of the names by which a table stands for something.
fn short_list_len(stack: Stack) -> Option<i32> {
    const LEN_MAX: i32 = 4;
    stack.push_nil();
    for len in 0..=LEN_MAX {
        if !stack.next(-2) {
            return Some(len);
        }
        stack.pop(1);
        if stack.kind(-1) != Kind::Number || stack.number(-1) != f64::from(len + 1) {
            break;
        }
    }
    stack.pop(1);
    None
}

/// What a line of a reply may hold.
fn one_line(text: &[u8]) -> Vec<u8> {
    text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}

/// How many elements a table has before the first that is nil.
fn count_elements(call: &Call<'_>) -> Result<i32, Raised> {
    let mut len = 0;
    loop {
        call.stack.raw_get_index(-1, len + 1);
        let is_nil = call.stack.kind(-1) == Kind::Nil;
        call.stack.pop(1);
        if is_nil {
            return Ok(len);
        }
        len += 1;
        call.host.spend(1)?;
    }
}

/// Writes the head of the map or set that is on top of the stack.
fn write_pairs(call: &Call<'_>, out: &mut Reply<'_>, is_map: bool) -> Result<Writing, Raised> {
    let stack = call.stack;
    let mut len = 0;
    stack.push_nil();
    while stack.next(-2) {
        stack.pop(1);
        len += 1;
        call.host.spend(1)?;
    }
    if is_map {
        out.map(len)
    } else {
        out.set(len)
    }
    // The key before the first one.
    stack.push_nil();
    Ok(if is_map { Writing::Map } else { Writing::Set })
}

/// Writes the verbatim string that a table on top of the stack says, if it says one.
fn write_verbatim(call: &Call<'_>, out: &mut Reply<'_>) -> bool {
    let (stack, names) = (call.stack, call.host.names());
    stack.raw_get_field(-1, names.string);
    stack.raw_get_field(-2, names.format);
    let is_one = match (stack.bytes(-2), stack.bytes(-1)) {
        (Some(text), Some(format)) => {
            let mut name = *b"   ";
            name.iter_mut().zip(format).for_each(|(to, from)| *to = *from);
            out.verbatim(&name, text);
            true
        }
        _ => false,
    };
    stack.pop(2);
    is_one
}
