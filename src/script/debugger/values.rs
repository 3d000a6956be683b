//! Values of Lua as the debugger shows them.

use crate::config::quote::quote_to;
use crate::script::lua::{Kind, Raised, Stack};
use crate::script::run::Host;
use crate::structs::general::push_general;

/// Tables are shown so deep; one that holds itself comes to an end by that.
const DEPTH_MAX: usize = 10;
/// The digits of a number.
const PRECISION: usize = 6;

/// Appends what a value is, as far as the text has room: it may become a little longer than
/// `len_max`, for whoever shortens it to see that it was.
pub(super) fn describe(
    host: &Host,
    stack: Stack,
    index: i32,
    len_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), Raised> {
    Description { host, stack, len_max, out }.value(stack.absolute(index), 0)
}

struct Description<'a> {
    host: &'a Host,
    stack: Stack,
    len_max: usize,
    out: &'a mut Vec<u8>,
}

impl Description<'_> {
    fn value(&mut self, index: i32, depth: usize) -> Result<(), Raised> {
        let stack = self.stack;
        if depth == DEPTH_MAX {
            self.out.extend_from_slice(b"<max recursion level reached! Nested table?>");
            return Ok(());
        }
        match stack.kind(index) {
            Kind::Absent | Kind::Nil => self.out.extend_from_slice(b"nil"),
            Kind::Boolean if stack.boolean(index) => self.out.extend_from_slice(b"true"),
            Kind::Boolean => self.out.extend_from_slice(b"false"),
            Kind::Number => push_general(stack.number(index), PRECISION, self.out),
            Kind::String => self.string(index),
            Kind::Table => return self.table(index, depth + 1),
            kind => {
                let name = match kind {
                    Kind::Light => "light-userdata",
                    _ => stack.kind_name(index),
                };
                let text = format!("\"{name}@{:#x}\"", stack.address(index));
                self.out.extend_from_slice(text.as_bytes());
            }
        }
        Ok(())
    }

    fn string(&mut self, index: i32) {
        let text = self.stack.bytes(index).unwrap_or_default();
        let room = self.len_max.saturating_sub(self.out.len()) + 1;
        quote_to(self.out, &text[..text.len().min(room)]);
    }

    fn table(&mut self, index: i32, depth: usize) -> Result<(), Raised> {
        const NEEDED: usize = 4;
        let stack = self.stack;
        if !stack.try_make_room(NEEDED) {
            self.out.extend_from_slice(b"{...}");
            return Ok(());
        }
        let is_list = self.is_list(index)?;
        self.out.push(b'{');
        let start = self.out.len();
        stack.push_nil();
        while stack.next(index) {
            if self.out.len() > self.len_max {
                stack.pop(2);
                return Ok(());
            }
            self.host.spend(1)?;
            if self.out.len() > start {
                self.out.extend_from_slice(b"; ");
            }
            let (key, value) = (stack.absolute(-2), stack.absolute(-1));
            if !is_list {
                self.out.push(b'[');
                self.value(key, depth)?;
                self.out.extend_from_slice(b"]=");
            }
            self.value(value, depth)?;
            stack.pop(1);
        }
        self.out.push(b'}');
        Ok(())
    }

    /// Whether the keys are 1, 2 and so on, which need not be shown.
    fn is_list(&self, index: i32) -> Result<bool, Raised> {
        let stack = self.stack;
        let mut expected = 1.0;
        stack.push_nil();
        while stack.next(index) {
            self.host.spend(1)?;
            stack.pop(1);
            if stack.kind(-1) != Kind::Number || stack.number(-1) != expected {
                stack.pop(1);
                return Ok(false);
            }
            expected += 1.0;
            // What would not be shown need not be looked at.
            if expected > self.len_max as f64 {
                stack.pop(1);
                return Ok(true);
            }
        }
        Ok(true)
    }
}
