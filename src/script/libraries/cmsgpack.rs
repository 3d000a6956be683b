//! The library `cmsgpack`.

use super::values::Values;
use crate::script::cmsgpack::{self, Fault, NO_INPUT, TOO_MANY_ARGUMENTS};
use crate::script::codec::Failed;
use crate::script::lua::{Call, Kind, Native, Raised, Stack};
use crate::script::output::Output;
use std::borrow::Cow;
use std::ffi::c_int;

const FUNCTIONS: &[(&str, Native)] = &[
    ("pack", pack),
    ("unpack", unpack),
    ("unpack_limit", unpack_limit),
    ("unpack_one", unpack_one),
];

const FACTS: [(&str, &str); 4] = [
    ("_NAME", cmsgpack::NAME),
    ("_VERSION", cmsgpack::VERSION),
    ("_COPYRIGHT", cmsgpack::COPYRIGHT),
    ("_DESCRIPTION", cmsgpack::DESCRIPTION),
];

pub fn push_library(stack: Stack) {
    stack.push_library(FUNCTIONS, 0);
    for (name, text) in FACTS {
        stack.push_bytes(text.as_bytes());
        stack.raw_set_name(-2, name);
    }
}

fn pack(call: &Call<'_>) -> Result<usize, Raised> {
    let count = call.len();
    if count == 0 {
        return Err(call.refuse_argument(0, NO_INPUT));
    }
    if !call.stack.try_make_room(count) {
        return Err(call.refuse_argument(0, TOO_MANY_ARGUMENTS));
    }
    let mut packed = Output::new(&call.host.memory);
    for argument in 1..=count {
        call.stack.push_copy(argument as c_int);
        let done = cmsgpack::pack(&mut Values::of(call), &mut packed);
        done.map_err(|failed| raised(call, failed))?;
        call.stack.pop(1);
    }
    call.stack.push_bytes(packed.as_slice());
    Ok(1)
}

fn unpack(call: &Call<'_>) -> Result<usize, Raised> {
    unpack_some(call, 0, 0)
}

fn unpack_one(call: &Call<'_>) -> Result<usize, Raised> {
    let offset = integer_or_zero(call, 2);
    unpack_some(call, 1, offset)
}

fn unpack_limit(call: &Call<'_>) -> Result<usize, Raised> {
    let limit = to_integer(call.check_number(2));
    let offset = integer_or_zero(call, 3);
    unpack_some(call, limit, offset)
}

/// Pushes what the first argument holds from an offset on, so many values at most; before them
/// where to go on, unless it was to be all.
fn unpack_some(call: &Call<'_>, limit: i64, offset: i64) -> Result<usize, Raised> {
    // What is left is the input, so that as many values have room as in Redis.
    if call.len() > 1 {
        call.stack.set_top(1);
    }
    let input = call.check_bytes(1);
    let unpacked = cmsgpack::unpack(input, limit, offset, &mut Values::of(call));
    let unpacked = unpacked.map_err(|failed| raised(call, failed))?;
    call.host.spend_on(input.len())?;
    let Some(next_offset) = unpacked.next_offset else { return Ok(unpacked.values) };
    if !call.stack.try_make_room(1) {
        return Err(Raised::text("stack overflow (in function mp_unpack_full)"));
    }
    call.stack.push_number(next_offset as f64);
    call.stack.insert(2);
    Ok(unpacked.values + 1)
}

fn integer_or_zero(call: &Call<'_>, argument: c_int) -> i64 {
    match call.stack.kind(argument) {
        Kind::Absent | Kind::Nil => 0,
        _ => to_integer(call.check_number(argument)),
    }
}

/// What C makes of a number that is to be an integer.
fn to_integer(value: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&value) { value as i64 } else { i64::MIN }
}

#[cold]
fn raised(call: &Call<'_>, failed: Failed<Fault, Raised>) -> Raised {
    match failed {
        Failed::Host(raised) => raised,
        Failed::Full => call.host.end_for_memory(),
        Failed::Input(fault) if fault.has_place() => {
            Raised::Text(Cow::Owned(fault.to_string().into_bytes()))
        }
        Failed::Input(fault) => {
            call.stack.push_bytes(fault.to_string().as_bytes());
            Raised::Top
        }
    }
}
