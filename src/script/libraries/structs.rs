//! The library `struct` as scripts call it.

use crate::script::cast;
use crate::script::lua::{Call, Native, Raised};
use crate::script::structs::{Arguments, StructError, Unpacked, pack, size, unpack};
use std::borrow::Cow;

pub const FUNCTIONS: &[(&str, Native)] =
    &[("pack", pack_values), ("size", size_of_format), ("unpack", unpack_values)];

fn raised(call: &Call<'_>, error: &StructError) -> Raised {
    match error.argument() {
        Some(argument) => call.refuse_argument(argument as i32, &error.to_string()),
        None => Raised::Text(Cow::Owned(error.to_string().into_bytes())),
    }
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
    let packed = pack(format, &mut Given(call)).map_err(|error| raised(call, &error))?;
    call.host.spend_on(format.len() + packed.len())?;
    call.stack.push_bytes(&packed);
    Ok(1)
}

fn unpack_values(call: &Call<'_>) -> Result<usize, Raised> {
    let (format, data) = (call.check_bytes(1), call.check_bytes(2));
    let position = call.check_option(3).map(cast::to_i64);
    let (values, next) = unpack(format, data, position).map_err(|error| raised(call, &error))?;
    call.host.spend_on(format.len())?;
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
    let size = size(format).map_err(|error| raised(call, &error))?;
    call.host.spend_on(format.len())?;
    call.stack.push_number(size as f64);
    Ok(1)
}
