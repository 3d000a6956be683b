//! The library `struct` as scripts call it.

use crate::script::cast;
use crate::script::lua::{Call, Native, Raised};
use crate::script::output::Output;
use crate::script::structs::{
    Arguments, PAUSE_OPTIONS, Pause, StructError, Unpacked, pack, size, unpack,
};
use std::borrow::Cow;

pub const FUNCTIONS: &[(&str, Native)] =
    &[("pack", pack_values), ("size", size_of_format), ("unpack", unpack_values)];

fn raised(call: &Call<'_>, error: &StructError) -> Raised {
    match error.argument() {
        Some(argument) => call.refuse_argument(argument as i32, &error.to_string()),
        None => Raised::Text(Cow::Owned(error.to_string().into_bytes())),
    }
}

/// Reads a format, whose options count as instructions of the script.
fn metered<T>(
    call: &Call<'_>,
    run: impl FnOnce(Pause<'_>) -> Result<T, StructError>,
) -> Result<T, Raised> {
    let mut ended = None;
    let mut pause = || {
        call.host.spend(u64::from(PAUSE_OPTIONS)).map_err(|raised| {
            ended = Some(raised);
            StructError::Stopped
        })
    };
    run(&mut pause).map_err(|error| ended.unwrap_or_else(|| raised(call, &error)))
}

struct Given<'c>(&'c Call<'c>);

impl Given<'_> {
    /// Redis puts a nil behind the arguments, which is what it finds when one is missing.
    fn wrong(&self, argument: usize, expected: &'static str) -> StructError {
        let is_there = argument <= self.0.len();
        let found = if is_there { self.0.stack.kind_name(argument as i32) } else { "nil" };
        StructError::Argument { argument, expected, found }
    }
}

impl Arguments for Given<'_> {
    fn number(&mut self, argument: usize) -> Result<f64, StructError> {
        let number = self.0.stack.to_number(argument as i32);
        number.ok_or_else(|| self.wrong(argument, "number"))
    }

    fn text(&mut self, argument: usize) -> Result<Cow<'_, [u8]>, StructError> {
        let text = self.0.stack.to_bytes(argument as i32);
        text.map(Cow::Borrowed).ok_or_else(|| self.wrong(argument, "string"))
    }
}

fn pack_values(call: &Call<'_>) -> Result<usize, Raised> {
    let format = call.check_bytes(1);
    let mut packed = Output::new(&call.host.memory);
    metered(call, |pause| pack(format, &mut Given(call), &mut packed, pause))?;
    call.host.spend_on(packed.len())?;
    call.stack.push_bytes(packed.as_slice());
    Ok(1)
}

fn unpack_values(call: &Call<'_>) -> Result<usize, Raised> {
    let (format, data) = (call.check_bytes(1), call.check_bytes(2));
    let position = call.check_option(3).map(cast::to_i64);
    let (values, next) = metered(call, |pause| unpack(format, data, position, pause))?;
    call.stack.make_room(values.len() + 1);
    for value in &values {
        match value {
            Unpacked::Number(number) => call.stack.push_number(*number),
            Unpacked::Text(text) => call.stack.push_bytes(text),
        }
    }
    call.stack.push_number(next as f64);
    Ok(values.len() + 1)
}

fn size_of_format(call: &Call<'_>) -> Result<usize, Raised> {
    let format = call.check_bytes(1);
    let size = metered(call, |pause| size(format, pause))?;
    call.stack.push_number(size as f64);
    Ok(1)
}
