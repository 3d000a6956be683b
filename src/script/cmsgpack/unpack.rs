//! Values in.

use super::Fault;
use crate::script::codec::{Build, Failed, Host};
use smallvec::SmallVec;

const TOO_MANY_VALUES: &str =
    "too many return values at once; use unpack_one or unpack_limit instead.";
const IN_ARRAY: &str = "in function mp_decode_to_lua_array";

type Result<T, B> = std::result::Result<T, Failed<Fault, <B as Host>::Error>>;

/// What became of the input.
#[derive(PartialEq, Eq, Debug)]
pub struct Unpacked {
    /// So many values were pushed.
    pub values: usize,
    /// Where to go on, or -1 at the end; the library returns it before the values, if there was an
    /// offset or a limit.
    pub next_offset: Option<i64>,
}

/// Pushes the values that stand in the input from an offset on, so many at most. Neither an offset
/// nor a limit is all of them.
pub fn unpack<B: Build>(
    input: &[u8],
    limit: i64,
    offset: i64,
    host: &mut B,
) -> Result<Unpacked, B> {
    let len = input.len();
    let (Ok(start), Ok(limit)) = (usize::try_from(offset), usize::try_from(limit)) else {
        return Err(Failed::Input(Fault::InvalidRequest { offset, len }));
    };
    let Some(rest) = input.get(start..) else {
        return Err(Failed::Input(Fault::OffsetTooLarge { offset, len }));
    };
    let is_all = start == 0 && limit == 0;
    let limit = if is_all { usize::MAX } else { limit };
    let open = SmallVec::new();
    let mut unpacker = Unpacker { rest, host, open, open_arrays: 0, expected_left: len };
    let mut values = 0;
    while !unpacker.rest.is_empty() && values < limit {
        unpacker.value()?;
        values += 1;
    }
    let left = unpacker.rest.len();
    let next = if left == 0 { -1 } else { (len - left) as i64 };
    Ok(Unpacked { values, next_offset: (!is_all).then_some(next) })
}

/// A table whose elements are being read.
struct Open {
    /// How many elements or entries are still to come.
    left: usize,
    place: Place,
}

/// What the value read next is to the table.
enum Place {
    Element(usize),
    Key,
    /// The value of an entry, and why its key is none.
    Value(Option<Fault>),
}

struct Unpacker<'u, B> {
    rest: &'u [u8],
    host: &'u mut B,
    open: SmallVec<[Open; 16]>,
    open_arrays: usize,
    /// So many elements may still be expected, lest each of many tables in one another expects as
    /// many as there are bytes.
    expected_left: usize,
}

/// What a lead byte announces.
enum Item {
    Scalar(Option<Fault>),
    Array(usize),
    Map(usize),
}

impl<B: Build> Unpacker<'_, B> {
    /// Pushes one value, with all that is in it.
    fn value(&mut self) -> Result<(), B> {
        loop {
            match self.item()? {
                Item::Scalar(_) if self.open.is_empty() => return Ok(()),
                Item::Scalar(as_key) => self.set(as_key)?,
                Item::Array(len) => self.open_array(len)?,
                Item::Map(len) => self.open_map(len)?,
            }
            // A table that is whole is a value of the one around it.
            while self.open.last().is_some_and(|open| open.left == 0) {
                if self.close() {
                    return Ok(());
                }
                self.set(None)?;
            }
        }
    }

    /// Reads a value, or the head of a table.
    fn item(&mut self) -> Result<Item, B> {
        let [lead] = self.take()?;
        // The library has an index on the stack for each array that is open; so much less deep is
        // where its stack ends.
        if !self.host.room(1 + self.open_arrays) {
            return Err(Failed::Input(Fault::StackOverflow(TOO_MANY_VALUES)));
        }
        match lead {
            0x00..=0x7f => self.number(f64::from(lead)),
            0x80..=0x8f => Ok(Item::Map(usize::from(lead & 0xf))),
            0x90..=0x9f => Ok(Item::Array(usize::from(lead & 0xf))),
            0xa0..=0xbf => self.string(usize::from(lead & 0x1f)),
            0xc0 => {
                self.host.nil()?;
                Ok(Item::Scalar(Some(Fault::IndexIsNil)))
            }
            0xc2 | 0xc3 => {
                self.host.boolean(lead == 0xc3)?;
                Ok(Item::Scalar(None))
            }
            0xca..=0xd3 => {
                let value = self.long_number(lead)?;
                self.number(value)
            }
            0xd9..=0xdb => {
                let len = self.length(lead - 0xd9)?;
                self.string(len)
            }
            0xdc | 0xdd => Ok(Item::Array(self.length(lead - 0xdb)?)),
            0xde | 0xdf => Ok(Item::Map(self.length(lead - 0xdd)?)),
            0xe0..=0xff => self.number(f64::from(lead as i8)),
            0xc1 | 0xc4..=0xc9 | 0xd4..=0xd8 => Err(Failed::Input(Fault::BadFormat)),
        }
    }

    fn long_number(&mut self, lead: u8) -> Result<f64, B> {
        Ok(match lead {
            0xca => f64::from(f32::from_be_bytes(self.take()?)),
            0xcb => f64::from_be_bytes(self.take()?),
            0xcc => f64::from(u8::from_be_bytes(self.take()?)),
            0xcd => f64::from(u16::from_be_bytes(self.take()?)),
            0xce => f64::from(u32::from_be_bytes(self.take()?)),
            0xd0 => f64::from(i8::from_be_bytes(self.take()?)),
            0xd1 => f64::from(i16::from_be_bytes(self.take()?)),
            0xd2 => f64::from(i32::from_be_bytes(self.take()?)),
            // The library takes an unsigned number of 64 bits for a signed one.
            _ => i64::from_be_bytes(self.take()?) as f64,
        })
    }

    /// A length of 8, 16 or 32 bits.
    fn length(&mut self, size: u8) -> Result<usize, B> {
        Ok(match size {
            0 => usize::from(u8::from_be_bytes(self.take()?)),
            1 => usize::from(u16::from_be_bytes(self.take()?)),
            _ => u32::from_be_bytes(self.take()?) as usize,
        })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], B> {
        let (bytes, rest) =
            self.rest.split_first_chunk().ok_or(Failed::Input(Fault::MissingBytes))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn number(&mut self, value: f64) -> Result<Item, B> {
        self.host.number(value)?;
        Ok(Item::Scalar(value.is_nan().then_some(Fault::IndexIsNan)))
    }

    fn string(&mut self, len: usize) -> Result<Item, B> {
        let (text, rest) =
            self.rest.split_at_checked(len).ok_or(Failed::Input(Fault::MissingBytes))?;
        self.rest = rest;
        self.host.string(text)?;
        Ok(Item::Scalar(None))
    }

    fn expect(&mut self, len: usize) -> usize {
        let expected = len.min(self.expected_left);
        self.expected_left -= expected;
        expected
    }

    fn open_array(&mut self, len: usize) -> Result<(), B> {
        let expected = self.expect(len);
        self.host.open_array(expected)?;
        if !self.host.room(1 + self.open_arrays) {
            return Err(Failed::Input(Fault::StackOverflow(IN_ARRAY)));
        }
        self.open_arrays += 1;
        self.open.push(Open { left: len, place: Place::Element(1) });
        Ok(())
    }

    fn open_map(&mut self, len: usize) -> Result<(), B> {
        let expected = self.expect(len);
        self.host.open_map(expected)?;
        self.open.push(Open { left: len, place: Place::Key });
        Ok(())
    }

    /// Hands the value on top to the innermost table. The fault is why it can be no key.
    fn set(&mut self, as_key: Option<Fault>) -> Result<(), B> {
        let open = self.open.last_mut().expect("a table is open");
        match &mut open.place {
            Place::Element(index) => {
                self.host.set_element(*index)?;
                *index += 1;
            }
            place @ Place::Key => {
                *place = Place::Value(as_key);
                return Ok(());
            }
            Place::Value(Some(fault)) => return Err(Failed::Input(*fault)),
            place @ Place::Value(None) => {
                self.host.set_entry()?;
                *place = Place::Key;
            }
        }
        open.left -= 1;
        Ok(())
    }

    /// Closes the innermost table; says whether none is open any more.
    fn close(&mut self) -> bool {
        if let Some(Open { place: Place::Element(_), .. }) = self.open.pop() {
            self.open_arrays -= 1;
        }
        self.open.is_empty()
    }
}
