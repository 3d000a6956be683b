//! Values out.
//!
//! The value on top is written; a table is walked through with a list of the tables that are open,
//! whose elements are on top by turns.

use super::settings::InvalidNumbers;
use super::{Fault, Settings};
use crate::script::codec::{Failed, Host, Look, PIECE_BYTES, Seen, append, room_for};
use crate::script::output::Output;
use crate::structs::general::push_general;
use smallvec::SmallVec;

type Result<T, L> = std::result::Result<T, Failed<Fault, <L as Host>::Error>>;

/// Appends the document that the value on top stands for; the value stays there.
pub fn encode<L: Look>(host: &mut L, settings: &Settings, out: &mut Output<'_>) -> Result<(), L> {
    let spent_on = out.len();
    Encoder { host, settings, out, spent_on, open: SmallVec::new() }.run()
}

/// A table that is being written.
enum Open {
    Array { next: usize, len: usize },
    Object { is_first: bool },
}

/// Which value is looked at.
#[derive(Clone, Copy)]
enum Place {
    Top,
    Key,
}

impl Place {
    fn text<L: Look>(self, host: &L) -> &[u8] {
        let seen = match self {
            Place::Top => host.top(),
            Place::Key => host.key(),
        };
        if let Seen::String(text) = seen { text } else { b"" }
    }
}

/// The longest number, or what else is no string, with what stands around it.
const SCALAR_BYTES: usize = 64;

struct Encoder<'e, 'o, L> {
    host: &'e mut L,
    settings: &'e Settings,
    out: &'e mut Output<'o>,
    /// So much of the output has been spent on.
    spent_on: usize,
    open: SmallVec<[Open; 16]>,
}

impl<L: Look> Encoder<'_, '_, L> {
    fn run(&mut self) -> Result<(), L> {
        loop {
            let mut is_whole = self.value()?;
            // What is whole is popped, which may make the table around it whole.
            while is_whole {
                if self.open.is_empty() {
                    return self.spend();
                }
                self.host.pop();
                is_whole = self.step()?;
            }
            if self.out.len() - self.spent_on >= PIECE_BYTES {
                self.spend()?;
            }
        }
    }

    fn spend(&mut self) -> Result<(), L> {
        let len = self.out.len();
        self.host.spend_on(len - std::mem::replace(&mut self.spent_on, len))?;
        Ok(())
    }

    /// Writes the value on top, or the beginning of it, and says whether that was all of it. If it
    /// was not, the first element is on top.
    fn value(&mut self) -> Result<bool, L> {
        let out = room_for(self.out, SCALAR_BYTES)?;
        match self.host.top() {
            Seen::Table => return self.table(),
            Seen::String(_) => self.string(Place::Top)?,
            Seen::Number(value) => push_number(out, self.settings, value)?,
            Seen::Boolean(true) => out.extend_from_slice(b"true"),
            Seen::Boolean(false) => out.extend_from_slice(b"false"),
            Seen::Nil | Seen::Null => out.extend_from_slice(b"null"),
            other @ Seen::Other(_) => return Err(refused(other, "type not supported")),
        }
        Ok(true)
    }

    fn table(&mut self) -> Result<bool, L> {
        let depth = self.open.len() + 1;
        let depth_max = self.settings.encode_max_depth.unsigned_abs() as usize;
        // A key, its value, and a text for an error.
        if depth > depth_max || !self.host.room(3) {
            return Err(Failed::Input(Fault::EncodeTooDeep { depth }));
        }
        match self.array_len()? {
            Some(0) if self.host.is_marked_array() => {
                append(self.out, b"[]")?;
                return Ok(true);
            }
            Some(len @ 1..) => {
                append(self.out, b"[")?;
                self.open.push(Open::Array { next: 1, len });
            }
            _ => {
                append(self.out, b"{")?;
                self.host.begin()?;
                self.open.push(Open::Object { is_first: true });
            }
        }
        self.step()
    }

    /// Puts the next element of the innermost table on top, or ends the table; says whether it is
    /// whole.
    fn step(&mut self) -> Result<bool, L> {
        match self.open.last_mut() {
            Some(Open::Array { next, len }) if *next <= *len => {
                if *next > 1 {
                    append(self.out, b",")?;
                }
                self.host.element(*next)?;
                *next += 1;
                return Ok(false);
            }
            Some(Open::Object { is_first }) => {
                if self.host.next()? {
                    if !std::mem::take(is_first) {
                        append(self.out, b",")?;
                    }
                    self.key()?;
                    return Ok(false);
                }
                append(self.out, b"}")?;
            }
            _ => append(self.out, b"]")?,
        }
        self.open.pop();
        Ok(true)
    }

    fn key(&mut self) -> Result<(), L> {
        let out = room_for(self.out, SCALAR_BYTES)?;
        match self.host.key() {
            Seen::String(_) => self.string(Place::Key)?,
            Seen::Number(value) => {
                out.push(b'"');
                push_number(out, self.settings, value)?;
                out.push(b'"');
            }
            other => return Err(refused(other, "table key must be a number or string")),
        }
        append(self.out, b":")?;
        Ok(())
    }

    /// Writes the string of a place in quotes. Others are let in between two pieces of it: it may
    /// have a gigabyte, each byte of which becomes six.
    fn string(&mut self, place: Place) -> Result<(), L> {
        let mut at = 0;
        loop {
            let text = place.text(self.host);
            let piece = &text[at..text.len().min(at + PIECE_BYTES)];
            let out = room_for(self.out, ESCAPED_BYTES_MAX * piece.len() + 2)?;
            if at == 0 {
                out.push(b'"');
            }
            push_escaped(out, piece);
            at += piece.len();
            if at == text.len() {
                out.push(b'"');
                return Ok(());
            }
            self.spend()?;
        }
    }

    /// How long the array is that the table on top stands for; none if it is an object. A table
    /// without keys has the length 0, and is an object unless it is marked.
    fn array_len(&mut self) -> Result<Option<usize>, L> {
        // The library counts in C's `int`, where a key that does not fit becomes the least one.
        let (mut max, mut count) = (0i32, 0i32);
        self.host.begin()?;
        while self.host.next()? {
            let key = match self.host.key() {
                Seen::Number(key) if key >= 1.0 && key.floor() == key => key,
                _ => {
                    self.host.pop();
                    self.host.pop();
                    return Ok(None);
                }
            };
            if key > f64::from(max) {
                max = if key <= f64::from(i32::MAX) { key as i32 } else { i32::MIN };
            }
            count = count.wrapping_add(1);
            self.host.pop();
        }
        let Settings { sparse_ratio: ratio, sparse_safe: safe, .. } = *self.settings;
        if ratio > 0 && max > count.wrapping_mul(ratio) && max > safe {
            if !self.settings.sparse_convert {
                return Err(refused(Seen::Table, "excessively sparse array"));
            }
            return Ok(None);
        }
        Ok(usize::try_from(max).ok())
    }
}

fn refused<E>(value: Seen<'_>, reason: &'static str) -> Failed<Fault, E> {
    Failed::Input(Fault::NotSerialisable { type_name: value.type_name(), reason })
}

fn push_number<E>(
    out: &mut Vec<u8>,
    settings: &Settings,
    value: f64,
) -> std::result::Result<(), Failed<Fault, E>> {
    if !value.is_finite() {
        match settings.encode_invalid_numbers {
            InvalidNumbers::Refused => {
                return Err(refused(Seen::Number(value), "must not be NaN or Inf"));
            }
            InvalidNumbers::Null => {
                out.extend_from_slice(b"null");
                return Ok(());
            }
            InvalidNumbers::Written if value.is_nan() => {
                out.extend_from_slice(b"nan");
                return Ok(());
            }
            InvalidNumbers::Written => {}
        }
    }
    push_general(value, settings.encode_number_precision.unsigned_abs() as usize, out);
    Ok(())
}

/// How each byte is written: 0 as it is, `u` by its number, else behind a backslash.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        escapes[byte] = b'u';
        byte += 1;
    }
    escapes[0x08] = b'b';
    escapes[0x09] = b't';
    escapes[0x0a] = b'n';
    escapes[0x0c] = b'f';
    escapes[0x0d] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'/' as usize] = b'/';
    escapes[b'\\' as usize] = b'\\';
    escapes[0x7f] = b'u';
    escapes
};

/// A byte may become so many.
const ESCAPED_BYTES_MAX: usize = 6;

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(len) = rest.iter().position(|byte| ESCAPES[usize::from(*byte)] != 0) {
        out.extend_from_slice(&rest[..len]);
        push_escape(out, rest[len]);
        rest = &rest[len + 1..];
    }
    out.extend_from_slice(rest);
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let escape = ESCAPES[usize::from(byte)];
    out.extend_from_slice(&[b'\\', escape]);
    if escape == b'u' {
        let low = DIGITS[usize::from(byte & 15)];
        out.extend_from_slice(&[b'0', b'0', DIGITS[usize::from(byte >> 4)], low]);
    }
}
