//! The library `cjson`. Its settings are one cell that its functions share, so that they outlive
//! the run that changes them; what `new` makes has a cell of its own.

use super::values::{Values, seen};
use crate::script::cjson::{self, Fault, Setting, Settings};
use crate::script::codec::{Failed, Seen};
use crate::script::lua::{Call, Native, Raised, Stack};
use crate::script::output::Output;
use std::borrow::Cow;
use std::ffi::c_int;

const FUNCTIONS: [(&str, Native); 3] = [("decode", decode), ("encode", encode), ("new", new)];

/// Pushes a new library, with settings of its own.
pub fn push_library(stack: Stack) {
    stack.push_table(0, FUNCTIONS.len() + Setting::ALL.len() + 3);
    let library = stack.top();
    stack.push_cell(Settings::default());
    for (name, native) in FUNCTIONS {
        stack.push_native_with_cell(native, 0);
        stack.raw_set_name(library, name);
    }
    for (tag, setting) in Setting::ALL.iter().enumerate() {
        stack.push_native_with_cell(set, tag);
        stack.raw_set_name(library, setting.name());
    }
    stack.pop(1);
    stack.push_null();
    stack.raw_set_name(library, "null");
    for (name, text) in [("_NAME", cjson::NAME), ("_VERSION", cjson::VERSION)] {
        stack.push_bytes(text.as_bytes());
        stack.raw_set_name(library, name);
    }
}

fn new(call: &Call<'_>) -> Result<usize, Raised> {
    push_library(call.stack);
    Ok(1)
}

fn encode(call: &Call<'_>) -> Result<usize, Raised> {
    if call.len() != 1 {
        return Err(call.refuse_argument(1, "expected 1 argument"));
    }
    let settings = call.cell::<Settings>().get();
    let mut document = Output::new(&call.host.memory);
    let encoded = cjson::encode(&mut Values::of(call), &settings, &mut document);
    encoded.map_err(|failed| raised(call, failed))?;
    call.stack.push_bytes(document.as_slice());
    Ok(1)
}

fn decode(call: &Call<'_>) -> Result<usize, Raised> {
    if call.len() != 1 {
        return Err(call.refuse_argument(1, "expected 1 argument"));
    }
    let settings = call.cell::<Settings>().get();
    let document = call.check_bytes(1);
    let unescaped = Output::new(&call.host.memory);
    let decoded = cjson::decode(document, &settings, unescaped, &mut Values::of(call));
    decoded.map_err(|failed| raised(call, failed))?;
    call.host.spend_on(document.len())?;
    Ok(1)
}

#[cold]
fn raised(call: &Call<'_>, failed: Failed<Fault, Raised>) -> Raised {
    match failed {
        Failed::Host(raised) => raised,
        Failed::Full => call.host.end_for_memory(),
        Failed::Input(fault) => Raised::Text(Cow::Owned(fault.to_string().into_bytes())),
    }
}

/// The functions that set something, each of which is told which.
fn set(call: &Call<'_>) -> Result<usize, Raised> {
    let setting = Setting::ALL[call.tag()];
    // More arguments than any of them takes are as wrong as a few too many.
    let count = call.len().min(4);
    let mut arguments = [Seen::Nil; 4];
    for (argument, index) in arguments[..count].iter_mut().zip(1..) {
        *argument = seen(&call.stack, index);
    }
    let cell = call.cell::<Settings>();
    let mut settings = cell.get();
    let answered = settings.set(setting, &arguments[..count]);
    cell.set(settings);
    match answered {
        Ok(answers) => {
            answers.iter().for_each(|answer| push_answer(call.stack, *answer));
            Ok(answers.len())
        }
        Err(error) => Err(call.refuse_argument(error.argument as c_int, &error.text)),
    }
}

fn push_answer(stack: Stack, answer: Seen<'static>) {
    match answer {
        Seen::Boolean(value) => stack.push_boolean(value),
        Seen::Number(value) => stack.push_number(value),
        Seen::String(text) => stack.push_bytes(text),
        _ => stack.push_nil(),
    }
}
