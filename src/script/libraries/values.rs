//! The values of a function that Lua called, as codecs see and make them.

use crate::script::codec::{self, Build, Look, Seen};
use crate::script::lua::{Call, Kind, Raised, Stack};
use crate::script::run;
use std::ffi::c_int;

/// What a table that is an array, although it is empty, has in its metatable.
const ARRAY_MARK: &str = "__is_cjson_array";

/// Codecs are interrupted as scripts are, each time so many values have been looked at or made.
const VALUES_BETWEEN_LOOKS: u32 = run::HOOK_INSTRUCTIONS;

pub struct Values<'c> {
    stack: Stack,
    host: &'c run::Host,
    until_look: u32,
}

impl<'c> Values<'c> {
    pub fn of(call: &'c Call<'_>) -> Values<'c> {
        Values { stack: call.stack, host: call.host, until_look: VALUES_BETWEEN_LOOKS }
    }

    #[inline]
    fn count(&mut self) -> Result<(), Raised> {
        self.until_look -= 1;
        if self.until_look > 0 { Ok(()) } else { self.look() }
    }

    #[cold]
    fn look(&mut self) -> Result<(), Raised> {
        self.until_look = VALUES_BETWEEN_LOOKS;
        self.host.pass(self.stack)
    }
}

/// A value of a stack. The interpreter leaves a string where it is as long as it is on the stack.
pub fn seen(stack: &Stack, index: c_int) -> Seen<'_> {
    match stack.kind(index) {
        Kind::Absent | Kind::Nil => Seen::Nil,
        Kind::Boolean => Seen::Boolean(stack.boolean(index)),
        Kind::Number => Seen::Number(stack.number(index)),
        Kind::String => Seen::String(stack.to_bytes(index).unwrap_or_default()),
        Kind::Table => Seen::Table,
        Kind::Light if stack.is_null(index) => Seen::Null,
        _ => Seen::Other(stack.kind_name(index)),
    }
}

impl codec::Host for Values<'_> {
    type Error = Raised;

    fn room(&mut self, slots: usize) -> bool {
        self.stack.try_make_room(slots)
    }

    fn spend_on(&mut self, bytes: usize) -> Result<(), Raised> {
        self.host.spend_on(bytes)
    }
}

impl Build for Values<'_> {
    fn nil(&mut self) -> Result<(), Raised> {
        self.stack.push_nil();
        self.count()
    }

    fn null(&mut self) -> Result<(), Raised> {
        self.stack.push_null();
        self.count()
    }

    fn boolean(&mut self, value: bool) -> Result<(), Raised> {
        self.stack.push_boolean(value);
        self.count()
    }

    fn number(&mut self, value: f64) -> Result<(), Raised> {
        self.stack.push_number(value);
        self.count()
    }

    fn string(&mut self, value: &[u8]) -> Result<(), Raised> {
        self.stack.push_bytes(value);
        self.count()
    }

    fn open_array(&mut self, expected: usize) -> Result<(), Raised> {
        self.stack.push_table(expected, 0);
        self.count()
    }

    fn open_map(&mut self, expected: usize) -> Result<(), Raised> {
        self.stack.push_table(0, expected);
        self.count()
    }

    fn mark_array(&mut self) -> Result<(), Raised> {
        self.stack.push_table(0, 1);
        self.stack.push_boolean(true);
        self.stack.raw_set_name(-2, ARRAY_MARK);
        self.stack.set_metatable(-2);
        Ok(())
    }

    fn set_element(&mut self, index: usize) -> Result<(), Raised> {
        self.stack.raw_set_index(-2, index as c_int);
        Ok(())
    }

    fn set_entry(&mut self) -> Result<(), Raised> {
        self.stack.raw_set(-3);
        Ok(())
    }
}

impl Look for Values<'_> {
    fn top(&self) -> Seen<'_> {
        seen(&self.stack, -1)
    }

    fn key(&self) -> Seen<'_> {
        seen(&self.stack, -2)
    }

    fn pop(&mut self) {
        self.stack.pop(1);
    }

    fn begin(&mut self) -> Result<(), Raised> {
        self.stack.push_nil();
        self.count()
    }

    fn next(&mut self) -> Result<bool, Raised> {
        self.count()?;
        Ok(self.stack.next(-2))
    }

    fn copy_key(&mut self) -> Result<(), Raised> {
        self.stack.push_copy(-2);
        Ok(())
    }

    fn element(&mut self, index: usize) -> Result<(), Raised> {
        self.stack.raw_get_index(-1, index as c_int);
        self.count()
    }

    fn is_marked_array(&self) -> bool {
        if !self.stack.push_metatable(-1) {
            return false;
        }
        self.stack.push_bytes(ARRAY_MARK.as_bytes());
        self.stack.raw_get(-2);
        let is_marked = self.stack.boolean(-1);
        self.stack.pop(2);
        is_marked
    }
}
