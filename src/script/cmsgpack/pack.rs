//! Values out.

use super::Fault;
use crate::script::codec::{Failed, Host, Look, PIECE_BYTES, Seen, room_for};
use crate::script::output::Output;
use smallvec::SmallVec;

/// Tables in so many others become nil, so that those that hold themselves come to an end.
const NESTING_MAX: usize = 16;

type Result<T, L> = std::result::Result<T, Failed<Fault, <L as Host>::Error>>;

/// Appends the bytes of the value on top; the value stays there.
pub fn pack<L: Look>(host: &mut L, out: &mut Output<'_>) -> Result<(), L> {
    let spent_on = out.len();
    Packer { host, out, spent_on, open: SmallVec::new() }.run()
}

/// A table that is being written.
enum Open {
    Array {
        next: usize,
        len: usize,
    },
    Map {
        /// What is on top is a copy of the key, above the entry.
        is_at_key: bool,
    },
}

/// The longest head, or number.
const HEAD_BYTES: usize = 9;

struct Packer<'p, 'o, L> {
    host: &'p mut L,
    out: &'p mut Output<'o>,
    /// So much of the output has been spent on.
    spent_on: usize,
    open: SmallVec<[Open; NESTING_MAX]>,
}

impl<L: Look> Packer<'_, '_, L> {
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
        match self.host.top() {
            Seen::Table if self.open.len() < NESTING_MAX => return self.table(),
            Seen::String(text) => push_string(room_for(self.out, HEAD_BYTES + text.len())?, text),
            Seen::Number(value) => push_number(room_for(self.out, HEAD_BYTES)?, value),
            Seen::Boolean(value) => {
                room_for(self.out, 1)?.push(if value { 0xc3 } else { 0xc2 });
            }
            Seen::Nil | Seen::Null | Seen::Table | Seen::Other(_) => {
                room_for(self.out, 1)?.push(0xc0);
            }
        }
        Ok(true)
    }

    fn table(&mut self) -> Result<bool, L> {
        // The key, its value, and a copy of the key.
        if !self.host.room(3) {
            return Err(Failed::Input(Fault::StackOverflow("in function table_is_an_array")));
        }
        if let Some(len) = self.array_len()? {
            push_head(room_for(self.out, HEAD_BYTES)?, [0x90, 0xdc, 0xdd], len);
            self.open.push(Open::Array { next: 1, len });
            return self.step();
        }
        let mut len = 0;
        self.host.begin()?;
        while self.host.next()? {
            self.host.pop();
            len += 1;
        }
        push_head(room_for(self.out, HEAD_BYTES)?, [0x80, 0xde, 0xdf], len);
        self.host.begin()?;
        self.open.push(Open::Map { is_at_key: false });
        self.step()
    }

    /// Puts what is next of the innermost table on top, or ends the table; says whether it is
    /// whole.
    fn step(&mut self) -> Result<bool, L> {
        match self.open.last_mut() {
            Some(Open::Array { next, len }) if *next <= *len => {
                self.host.element(*next)?;
                *next += 1;
                return Ok(false);
            }
            Some(Open::Map { is_at_key }) => {
                if *is_at_key {
                    *is_at_key = false;
                    return Ok(false);
                }
                if self.host.next()? {
                    self.host.copy_key()?;
                    *is_at_key = true;
                    return Ok(false);
                }
            }
            _ => {}
        }
        self.open.pop();
        Ok(true)
    }

    /// How long the array is that the table on top stands for; none if it is a map.
    fn array_len(&mut self) -> Result<Option<usize>, L> {
        let (mut max, mut count) = (0.0, 0usize);
        self.host.begin()?;
        while self.host.next()? {
            match self.host.key() {
                Seen::Number(key) if key > 0.0 && f64::from(key as i32) == key => {
                    max = f64::max(max, key);
                }
                _ => {
                    self.host.pop();
                    self.host.pop();
                    return Ok(None);
                }
            }
            count += 1;
            self.host.pop();
        }
        // Keys differ, so if the largest one is their count, none is missing.
        Ok((max == count as f64).then_some(count))
    }
}

/// The head of an array or of a map: its short form, those of 16 and of 32 bits.
fn push_head(out: &mut Vec<u8>, [short, middle, long]: [u8; 3], len: usize) {
    if len < 16 {
        out.push(short | len as u8);
    } else if let Ok(len) = u16::try_from(len) {
        push(out, middle, len.to_be_bytes());
    } else {
        push(out, long, (len as u32).to_be_bytes());
    }
}

fn push<const N: usize>(out: &mut Vec<u8>, lead: u8, bytes: [u8; N]) {
    out.push(lead);
    out.extend_from_slice(&bytes);
}

fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    let len = text.len();
    if len < 32 {
        out.push(0xa0 | len as u8);
    } else if let Ok(len) = u8::try_from(len) {
        push(out, 0xd9, [len]);
    } else if let Ok(len) = u16::try_from(len) {
        push(out, 0xda, len.to_be_bytes());
    } else {
        push(out, 0xdb, (len as u32).to_be_bytes());
    }
    out.extend_from_slice(text);
}

fn push_number(out: &mut Vec<u8>, value: f64) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&value) && value as i64 as f64 == value {
        push_integer(out, value as i64);
    } else if f64::from(value as f32) == value {
        push(out, 0xca, (value as f32).to_be_bytes());
    } else {
        push(out, 0xcb, value.to_be_bytes());
    }
}

fn push_integer(out: &mut Vec<u8>, value: i64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => push(out, 0xcc, [value as u8]),
        0x100..=0xffff => push(out, 0xcd, (value as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => push(out, 0xce, (value as u32).to_be_bytes()),
        0x1_0000_0000.. => push(out, 0xcf, value.to_be_bytes()),
        -0x20..=-1 => out.push(value as u8),
        -0x80..=-0x21 => push(out, 0xd0, [value as u8]),
        -0x8000..=-0x81 => push(out, 0xd1, (value as i16).to_be_bytes()),
        -0x8000_0000..=-0x8001 => push(out, 0xd2, (value as i32).to_be_bytes()),
        _ => push(out, 0xd3, value.to_be_bytes()),
    }
}
