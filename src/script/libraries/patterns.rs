//! The functions of the library `string` that take patterns, as scripts call them, and `char`.
//!
//! The bytes of subject and pattern are those of Lua's strings, which stay where they are as long
//! as they are arguments, or are kept by the function that `gmatch` answers.

use crate::script::cast;
use crate::script::lua::{Call, Kind, Native, Raised, Stack};
use crate::script::output::Output;
use crate::script::pattern::matcher::{Capture, Matcher, Meter, PAUSE_STEPS, Stopped, find_plain};
use crate::script::pattern::search::{Gmatch, Gsub, start_of};
use crate::script::pattern::{CAPTURES_MAX, Caret, PatternError, is_plain};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::ops::Range;

pub const FUNCTIONS: &[(&str, Native)] =
    &[("char", char), ("find", find), ("gmatch", gmatch), ("gsub", gsub), ("match", first_match)];

/// A step takes about half as long as an instruction of a script.
const STEPS_PER_INSTRUCTION: u64 = 2;

/// Runs a matcher, whose steps count as instructions of the script.
fn metered<T>(
    call: &Call<'_>,
    run: impl FnOnce(&mut Meter<'_>) -> Result<T, PatternError>,
) -> Result<T, Raised> {
    let mut ended = None;
    let mut pause = || {
        let spent = call.host.spend(u64::from(PAUSE_STEPS) / STEPS_PER_INSTRUCTION);
        spent.map_err(|raised| {
            ended = Some(raised);
            Stopped
        })
    };
    let mut meter = Meter::new(&mut pause);
    let found = run(&mut meter);
    let steps = meter.steps();
    match (found, ended) {
        (Ok(found), _) => {
            call.host.spend(u64::from(steps) / STEPS_PER_INSTRUCTION)?;
            Ok(found)
        }
        (Err(_), Some(raised)) => Err(raised),
        (Err(error), None) => Err(raised(error)),
    }
}

fn raised(error: PatternError) -> Raised {
    Raised::Text(Cow::Owned(error.to_string().into_bytes()))
}

fn find(call: &Call<'_>) -> Result<usize, Raised> {
    let (subject, text) = (call.check_bytes(1), call.check_bytes(2));
    let start = start(call, subject);
    if !call.stack.boolean(4) && !is_plain(text) {
        return search(call, subject, text, start, Wanted::Place);
    }
    match metered(call, |meter| find_plain(subject, text, start, meter))? {
        Some(found) => Ok(push_place(call.stack, &found)),
        None => Ok(push_nothing(call.stack)),
    }
}

fn first_match(call: &Call<'_>) -> Result<usize, Raised> {
    let (subject, text) = (call.check_bytes(1), call.check_bytes(2));
    let start = start(call, subject);
    search(call, subject, text, start, Wanted::Values)
}

fn start(call: &Call<'_>, subject: &[u8]) -> usize {
    let init = call.check_option(3).map_or(1, cast::to_i64);
    start_of(init, subject.len())
}

/// What is answered of a match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Where it is, and its captures.
    Place,
    /// Its captures, or all of it.
    Values,
}

fn search(
    call: &Call<'_>,
    subject: &[u8],
    text: &[u8],
    start: usize,
    wanted: Wanted,
) -> Result<usize, Raised> {
    let pattern = call.host.patterns.borrow_mut().compiled(text, Caret::Anchor);
    let mut matcher = Matcher::new(&pattern, subject);
    let Some(found) = metered(call, |meter| matcher.find(start, meter))? else {
        return Ok(push_nothing(call.stack));
    };
    call.stack.make_room(CAPTURES_MAX + 2);
    match wanted {
        Wanted::Place => {
            let place = push_place(call.stack, &found);
            Ok(place + push_captures(call.stack, &matcher, &found, matcher.captures())?)
        }
        Wanted::Values => push_captures(call.stack, &matcher, &found, matcher.values()),
    }
}

fn push_nothing(stack: Stack) -> usize {
    stack.push_nil();
    1
}

fn push_place(stack: Stack, found: &Range<usize>) -> usize {
    stack.push_number((found.start + 1) as f64);
    stack.push_number(found.end as f64);
    2
}

fn push_captures(
    stack: Stack,
    matcher: &Matcher<'_, '_>,
    found: &Range<usize>,
    count: usize,
) -> Result<usize, Raised> {
    for own in 0..count {
        push_capture(stack, matcher.value(own, found).map_err(raised)?);
    }
    Ok(count)
}

fn push_capture(stack: Stack, capture: Capture<'_>) {
    match capture {
        Capture::Text(text) => stack.push_bytes(text),
        Capture::Position(position) => stack.push_number(position as f64),
    }
}

/// The interpreter's own takes what has no place in 32 bits for another number than Lua 5.1 does.
fn char(call: &Call<'_>) -> Result<usize, Raised> {
    let mut text: SmallVec<[u8; 64]> = SmallVec::new();
    for argument in 1..=call.stack.top() {
        let code = cast::to_i64(call.check_number(argument)) as i32;
        let byte = u8::try_from(code);
        text.push(byte.map_err(|_| call.refuse_argument(argument, "invalid value"))?);
    }
    call.stack.push_bytes(&text);
    Ok(1)
}

/// Answers a function that keeps the subject, the pattern, and where the next match is sought.
fn gmatch(call: &Call<'_>) -> Result<usize, Raised> {
    _ = (call.check_bytes(1), call.check_bytes(2));
    call.stack.set_top(2);
    call.stack.push_number(0.0);
    call.stack.push_keeping_native(next_match, 3);
    Ok(1)
}

fn next_match(call: &Call<'_>) -> Result<usize, Raised> {
    let stack = call.stack;
    let kept = |own| stack.to_bytes(call.kept(own)).unwrap_or_default();
    let (subject, text) = (kept(0), kept(1));
    let pattern = call.host.patterns.borrow_mut().compiled(text, Caret::Byte);
    let mut matcher = Matcher::new(&pattern, subject);
    let mut state = Gmatch { at: stack.number(call.kept(2)) as usize };
    let Some(found) = metered(call, |meter| state.next(&mut matcher, meter))? else {
        return Ok(0);
    };
    stack.push_number(state.at as f64);
    call.keep(2);
    stack.make_room(CAPTURES_MAX);
    push_captures(stack, &matcher, &found, matcher.values())
}

fn gsub(call: &Call<'_>) -> Result<usize, Raised> {
    let (subject, text) = (call.check_bytes(1), call.check_bytes(2));
    let replacement = call.stack.kind(3);
    let count_max = call.check_option(4).map_or(i32::MAX, |count| cast::to_i64(count) as i32);
    let template = match replacement {
        Kind::Number | Kind::String => call.check_bytes(3),
        Kind::Function | Kind::Table => b"",
        _ => return Err(call.refuse_argument(3, "string/function/table expected")),
    };
    let pattern = call.host.patterns.borrow_mut().compiled(text, Caret::Anchor);
    let count_max = usize::try_from(count_max).unwrap_or(0);
    let out = Output::new(&call.host.memory);
    let mut gsub = Gsub::new(&pattern, subject, count_max, out);
    call.stack.make_room(CAPTURES_MAX + 1);
    while metered(call, |meter| gsub.next(meter))? {
        match replacement {
            Kind::Function => {
                call.stack.push_copy(3);
                for own in 0..gsub.values() {
                    push_capture(call.stack, gsub.value(own).map_err(raised)?);
                }
                call.stack.call(gsub.values() as i32, 1);
                put_value(call.stack, &mut gsub)?;
            }
            Kind::Table => {
                push_capture(call.stack, gsub.value(0).map_err(raised)?);
                call.stack.get(3);
                put_value(call.stack, &mut gsub)?;
            }
            _ => gsub.expand(template).map_err(raised)?,
        }
    }
    let (text, count) = gsub.finish().map_err(raised)?;
    call.stack.push_bytes(text.as_slice());
    call.stack.push_number(count as f64);
    Ok(2)
}

/// Puts the value on top in the place of the match, which stays where there is none.
fn put_value(stack: Stack, gsub: &mut Gsub<'_, '_, '_>) -> Result<(), Raised> {
    let put = match stack.kind(-1) {
        Kind::Nil => gsub.keep(),
        Kind::Boolean if !stack.boolean(-1) => gsub.keep(),
        Kind::Number | Kind::String => gsub.put(stack.to_bytes(-1).unwrap_or_default()),
        _ => {
            let text = format!("invalid replacement value (a {})", stack.kind_name(-1));
            return Err(Raised::Text(Cow::Owned(text.into_bytes())));
        }
    };
    stack.pop(1);
    put.map_err(raised)
}
