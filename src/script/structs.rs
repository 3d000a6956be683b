//! The struct library: numbers and strings as bytes of a layout that a format tells.
//!
//! A format is a row of options. [`Reader`] reads them one by one, with what says of byte order and
//! alignment taken in on the way; [`pack`], [`unpack`] and [`size`] walk it. Redis's corners are
//! kept: integers have 64 bits whatever their size, so that longer ones are filled with zeros even
//! below zero, and a sign beyond the eighth byte is looked for in the lowest bytes. Every length
//! is checked against what is there before it is used, and none reserves memory. `libraries` has
//! what scripts call.

use super::cast;
use super::output::{Full, Output};
use std::borrow::Cow;
use std::fmt;

/// The largest integer in bytes.
const INTEGER_BYTES_MAX: usize = 32;
/// The alignment of a `!` without a number.
const ALIGNMENT: i32 = 8;
/// So many values fit on the stack of a C function, its arguments among them.
const STACK_SLOTS: usize = 8000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StructError {
    SizeOverflow,
    SizeTooLarge(i32),
    Alignment(i32),
    UnknownOption(u8),
    StringTooShort {
        argument: usize,
    },
    DataTooShort,
    TooManyResults,
    NoPreviousSize,
    UnfinishedString,
    Offset,
    NoFixedSize(&'static str),
    /// An argument is not what the format says of it: what it should be, and what it is.
    Argument {
        argument: usize,
        expected: &'static str,
        found: &'static str,
    },
    NoMemory,
    /// Whoever was let in has ended it.
    Stopped,
}

impl From<Full> for StructError {
    fn from(_: Full) -> Self {
        StructError::NoMemory
    }
}

impl StructError {
    /// Which argument of the function is at fault, counted from 1, if it is one.
    pub fn argument(&self) -> Option<usize> {
        match self {
            StructError::UnknownOption(_) | StructError::NoFixedSize(_) => Some(1),
            StructError::DataTooShort => Some(2),
            StructError::Offset => Some(3),
            StructError::StringTooShort { argument } => Some(*argument),
            StructError::Argument { argument, .. } => Some(*argument),
            _ => None,
        }
    }
}

impl fmt::Display for StructError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StructError::SizeOverflow => f.write_str("integral size overflow"),
            StructError::SizeTooLarge(size) => {
                write!(f, "integral size {size} is larger than limit of {INTEGER_BYTES_MAX}")
            }
            StructError::Alignment(size) => write!(f, "alignment {size} is not a power of 2"),
            StructError::UnknownOption(option) => {
                write!(f, "invalid format option '{}'", char::from(*option))
            }
            StructError::StringTooShort { .. } => f.write_str("string too short"),
            StructError::DataTooShort => f.write_str("data string too short"),
            StructError::TooManyResults => f.write_str("stack overflow (too many results)"),
            StructError::NoPreviousSize => f.write_str("format 'c0' needs a previous size"),
            StructError::UnfinishedString => f.write_str("unfinished string in data"),
            StructError::Offset => f.write_str("offset must be 1 or greater"),
            StructError::NoFixedSize(option) => write!(f, "option '{option}' has no fixed size"),
            StructError::Argument { expected, found, .. } => {
                write!(f, "{expected} expected, got {found}")
            }
            StructError::NoMemory => f.write_str("not enough memory"),
            StructError::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for StructError {}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Little,
    Big,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Integer {
        is_signed: bool,
    },
    Float,
    Double,
    Padding,
    /// Of a given size, or of whatever size if that is 0.
    Chars,
    /// Up to a NUL.
    ZeroEnded,
    /// Something that takes no room: about order or alignment, or unknown.
    Control(u8),
}

#[derive(Clone, Copy, Debug)]
struct Item {
    kind: Kind,
    size: usize,
}

/// Lets others in: a format may have a billion options.
pub type Pause<'p> = &'p mut dyn FnMut() -> Result<(), StructError>;

/// So many options are read between two pauses, which takes less than a millisecond.
pub const PAUSE_OPTIONS: u32 = 1 << 16;

/// Where in a format one is, and what it has said so far.
struct Reader<'f, 'p> {
    rest: &'f [u8],
    until_pause: u32,
    pause: Pause<'p>,
    order: Order,
    alignment: usize,
}

impl<'f, 'p> Reader<'f, 'p> {
    /// A format ends at its first NUL.
    fn new(format: &'f [u8], pause: Pause<'p>) -> Reader<'f, 'p> {
        let len = memchr::memchr(0, format).unwrap_or(format.len());
        let rest = &format[..len];
        Reader { rest, until_pause: PAUSE_OPTIONS, pause, order: Order::Little, alignment: 1 }
    }

    /// The next option. What it says of order or alignment is [`Reader::obey`]'s, since what comes
    /// before it is checked first.
    fn next(&mut self) -> Result<Option<Item>, StructError> {
        let Some((option, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        self.count_option()?;
        let integer = |size| (Kind::Integer { is_signed: option.is_ascii_lowercase() }, size);
        let (kind, size) = match option {
            b'b' | b'B' => integer(1),
            b'h' | b'H' => integer(2),
            b'l' | b'L' | b'T' => integer(8),
            b'i' | b'I' => integer(self.integer_size()?),
            b'f' => (Kind::Float, 4),
            b'd' => (Kind::Double, 8),
            b'x' => (Kind::Padding, 1),
            b'c' => (Kind::Chars, self.number(1)? as usize),
            b's' => (Kind::ZeroEnded, 0),
            _ => (Kind::Control(*option), 0),
        };
        Ok(Some(Item { kind, size }))
    }

    fn count_option(&mut self) -> Result<(), StructError> {
        self.until_pause -= 1;
        if self.until_pause == 0 {
            self.until_pause = PAUSE_OPTIONS;
            (self.pause)()?;
        }
        Ok(())
    }

    fn integer_size(&mut self) -> Result<usize, StructError> {
        let size = self.number(size_of::<i32>() as i32)?;
        match usize::try_from(size).ok().filter(|size| *size <= INTEGER_BYTES_MAX) {
            Some(size) => Ok(size),
            None => Err(StructError::SizeTooLarge(size)),
        }
    }

    /// The number that stands here, or what there is without one; never below zero.
    fn number(&mut self, default: i32) -> Result<i32, StructError> {
        let mut number = None;
        while let Some((digit @ b'0'..=b'9', rest)) = self.rest.split_first() {
            let tens = number.unwrap_or(0_i32).checked_mul(10);
            let sum = tens.and_then(|tens| tens.checked_add(i32::from(digit - b'0')));
            number = Some(sum.ok_or(StructError::SizeOverflow)?);
            self.rest = rest;
        }
        Ok(number.unwrap_or(default))
    }

    fn obey(&mut self, option: u8) -> Result<(), StructError> {
        match option {
            b' ' => {}
            b'>' => self.order = Order::Big,
            b'<' => self.order = Order::Little,
            b'!' => {
                let alignment = self.number(ALIGNMENT)?;
                if alignment <= 0 || alignment & (alignment - 1) != 0 {
                    return Err(StructError::Alignment(alignment));
                }
                self.alignment = alignment as usize;
            }
            _ => return Err(StructError::UnknownOption(option)),
        }
        Ok(())
    }

    /// How many bytes must be passed at a position before an item can begin.
    fn gap(&self, item: &Item, at: usize) -> usize {
        if item.size == 0 || item.kind == Kind::Chars {
            return 0;
        }
        // The arithmetic of powers of two is Redis's for other sizes, too.
        let size = item.size.min(self.alignment);
        (size - (at & (size - 1))) & (size - 1)
    }
}

/// What [`pack`] packs: the arguments of the function, the format being the first one.
pub trait Arguments {
    fn number(&mut self, argument: usize) -> Result<f64, StructError>;
    fn text(&mut self, argument: usize) -> Result<Cow<'_, [u8]>, StructError>;
}

/// Appends the bytes of a format with its arguments.
pub fn pack(
    format: &[u8],
    arguments: &mut dyn Arguments,
    packed: &mut Output<'_>,
    pause: Pause<'_>,
) -> Result<(), StructError> {
    let mut reader = Reader::new(format, pause);
    let mut arguments_used = 1;
    while let Some(item) = reader.next()? {
        let gap = reader.gap(&item, packed.len());
        let out = packed.room_for(gap + INTEGER_BYTES_MAX)?;
        out.resize(out.len() + gap, 0);
        let mut next = || {
            arguments_used += 1;
            arguments_used
        };
        match item.kind {
            Kind::Integer { .. } => {
                put_integer(arguments.number(next())?, item.size, reader.order, out);
            }
            Kind::Float => {
                let bytes = (arguments.number(next())? as f32).to_le_bytes();
                put_ordered(bytes, reader.order, out);
            }
            Kind::Double => {
                put_ordered(arguments.number(next())?.to_le_bytes(), reader.order, out);
            }
            Kind::Padding => out.push(0),
            Kind::Chars => put_chars(arguments, next(), item.size, packed)?,
            Kind::ZeroEnded => {
                put_chars(arguments, next(), 0, packed)?;
                packed.append(&[0])?;
            }
            Kind::Control(option) => reader.obey(option)?,
        }
    }
    Ok(())
}

fn put_integer(number: f64, size: usize, order: Order, packed: &mut Vec<u8>) {
    let value = if number < 0.0 { cast::to_i64(number) as u64 } else { cast::to_u64(number) };
    let mut bytes = [0; INTEGER_BYTES_MAX];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    let bytes = &mut bytes[..size];
    if order == Order::Big {
        bytes.reverse();
    }
    packed.extend_from_slice(bytes);
}

fn put_ordered<const N: usize>(mut bytes: [u8; N], order: Order, packed: &mut Vec<u8>) {
    if order == Order::Big {
        bytes.reverse();
    }
    packed.extend_from_slice(&bytes);
}

/// Puts so many bytes of a text, all of it for 0.
fn put_chars(
    arguments: &mut dyn Arguments,
    argument: usize,
    size: usize,
    packed: &mut Output<'_>,
) -> Result<(), StructError> {
    let text = arguments.text(argument)?;
    let size = if size == 0 { text.len() } else { size };
    // Redis blames the argument behind it.
    let chars = text.get(..size).ok_or(StructError::StringTooShort { argument: argument + 1 })?;
    Ok(packed.append(chars)?)
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Unpacked<'d> {
    Number(f64),
    Text(&'d [u8]),
}

/// The values that bytes hold by a format, and where what follows them begins, counted from 1.
pub fn unpack<'d>(
    format: &[u8],
    data: &'d [u8],
    position: Option<i64>,
    pause: Pause<'_>,
) -> Result<(Vec<Unpacked<'d>>, i64), StructError> {
    let arguments = if position.is_some() { 3 } else { 2 };
    let mut reader = Reader::new(format, pause);
    let mut at = match position.unwrap_or(1) {
        0 => return Err(StructError::Offset),
        position => (position as usize) - 1,
    };
    let mut values = Vec::new();
    while let Some(item) = reader.next()? {
        at = at.wrapping_add(reader.gap(&item, at));
        let bytes = bytes_at(data, at, item.size)?;
        if arguments + values.len() + 2 > STACK_SLOTS {
            return Err(StructError::TooManyResults);
        }
        let mut size = item.size;
        match item.kind {
            Kind::Integer { is_signed } => {
                values.push(Unpacked::Number(integer(bytes, is_signed, reader.order)));
            }
            Kind::Float => values.push(Unpacked::Number(float(bytes, reader.order))),
            Kind::Double => values.push(Unpacked::Number(double(bytes, reader.order))),
            Kind::Padding => {}
            Kind::Chars => {
                if size == 0 {
                    size = previous_size(&mut values)?;
                }
                values.push(Unpacked::Text(bytes_at(data, at, size)?));
            }
            Kind::ZeroEnded => {
                let len = memchr::memchr(0, &data[at..]).ok_or(StructError::UnfinishedString)?;
                values.push(Unpacked::Text(&data[at..at + len]));
                size = len + 1;
            }
            Kind::Control(option) => reader.obey(option)?,
        }
        at += size;
    }
    Ok((values, at.wrapping_add(1) as i64))
}

fn bytes_at(data: &[u8], at: usize, size: usize) -> Result<&[u8], StructError> {
    let end = at.checked_add(size).ok_or(StructError::DataTooShort)?;
    data.get(at..end).ok_or(StructError::DataTooShort)
}

/// The value before a `c0`, which is its size and no result any more.
fn previous_size(values: &mut Vec<Unpacked<'_>>) -> Result<usize, StructError> {
    let number = match values.last() {
        Some(Unpacked::Number(number)) => *number,
        Some(Unpacked::Text(text)) => number_of(text).ok_or(StructError::NoPreviousSize)?,
        None => return Err(StructError::NoPreviousSize),
    };
    values.pop();
    Ok(usize::try_from(cast::to_u64(number)).unwrap_or(usize::MAX))
}

/// The number that a text is for Lua.
fn number_of(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let is_space = |c: char| matches!(c, ' ' | '\t'..='\r');
    let text = text.trim_matches(is_space);
    let hex = |text: &str| {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_number.then(|| u64::from_str_radix(digits, 16).unwrap_or(u64::MAX) as f64)
    };
    if let Some(negative) = text.strip_prefix('-').and_then(hex) {
        return Some(-negative);
    }
    hex(text.strip_prefix('+').unwrap_or(text)).or_else(|| text.parse().ok())
}

fn integer(bytes: &[u8], is_signed: bool, order: Order) -> f64 {
    let shifted = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    let value = match order {
        Order::Big => bytes.iter().fold(0, shifted),
        Order::Little => bytes.iter().rev().fold(0, shifted),
    };
    if !is_signed {
        return value as f64;
    }
    // The processor shifts by as many bits as there are modulo 64.
    let signs = u64::MAX.wrapping_shl((bytes.len() as u32).wrapping_mul(8).wrapping_sub(1));
    let extended = if value & signs != 0 { value | signs } else { value };
    extended as i64 as f64
}

fn ordered<const N: usize>(bytes: &[u8], order: Order) -> [u8; N] {
    let mut ordered: [u8; N] = bytes.try_into().expect("the item has this size");
    if order == Order::Big {
        ordered.reverse();
    }
    ordered
}

fn float(bytes: &[u8], order: Order) -> f64 {
    f64::from(f32::from_le_bytes(ordered(bytes, order)))
}

fn double(bytes: &[u8], order: Order) -> f64 {
    f64::from_le_bytes(ordered(bytes, order))
}

/// How many bytes a format takes.
pub fn size(format: &[u8], pause: Pause<'_>) -> Result<usize, StructError> {
    let mut reader = Reader::new(format, pause);
    let mut at = 0_usize;
    while let Some(item) = reader.next()? {
        at = at.saturating_add(reader.gap(&item, at));
        match item.kind {
            Kind::ZeroEnded => return Err(StructError::NoFixedSize("s")),
            Kind::Chars if item.size == 0 => return Err(StructError::NoFixedSize("c0")),
            // Letters and digits that mean nothing are passed over here.
            Kind::Control(option) if !option.is_ascii_alphanumeric() => reader.obey(option)?,
            _ => {}
        }
        at = at.saturating_add(item.size);
    }
    Ok(at)
}

#[cfg(test)]
mod tests;
