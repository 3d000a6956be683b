//! The values a key can hold.
//!
//! A value is an [`Object`]: a shared pointer per kind, so that cloning one for a snapshot is a
//! count and a writer copies what is shared (`Arc::make_mut`). Strings are objects only when they
//! are long; short ones lie in the entry itself.

pub mod string;

use crate::structs::SharedBytes;

/// A command met a value of another kind than it works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// The kind of a value, as TYPE names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    String,
    List,
    Set,
    ZSet,
    Hash,
    Stream,
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::String, Kind::List, Kind::Set, Kind::ZSet, Kind::Hash, Kind::Stream];

    /// The answer of the TYPE command.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::ZSet => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
        }
    }
}

/// How OBJECT ENCODING calls a string. Only a label: the bytes are always the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StringEncoding {
    /// The canonical decimal form of an `i64`, written as a whole.
    Int,
    /// Written as a whole, up to 44 bytes.
    Embstr,
    /// Longer, or the result of APPEND, SETRANGE and the like.
    Raw,
}

impl StringEncoding {
    /// The longest string that is called `embstr`.
    pub const EMBSTR_MAX_BYTES: usize = 44;

    pub const ALL: [StringEncoding; 3] =
        [StringEncoding::Int, StringEncoding::Embstr, StringEncoding::Raw];

    /// The answer of OBJECT ENCODING.
    pub fn name(self) -> &'static str {
        match self {
            StringEncoding::Int => "int",
            StringEncoding::Embstr => "embstr",
            StringEncoding::Raw => "raw",
        }
    }

    /// The label of a string that is written as a whole, as SET does.
    pub fn of_whole(bytes: &[u8]) -> StringEncoding {
        if is_canonical_integer(bytes) {
            StringEncoding::Int
        } else if bytes.len() <= StringEncoding::EMBSTR_MAX_BYTES {
            StringEncoding::Embstr
        } else {
            StringEncoding::Raw
        }
    }
}

/// A value outside the entry. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Object {
    String(SharedBytes),
}

impl Object {
    pub fn kind(&self) -> Kind {
        match self {
            Object::String(_) => Kind::String,
        }
    }

    /// The answer of OBJECT ENCODING where the entry does not know it.
    pub fn encoding_name(&self) -> &'static str {
        match self {
            Object::String(_) => StringEncoding::Raw.name(),
        }
    }

    /// The memory of the value, shared or not, without the size of the pointer to it.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Object::String(bytes) => size_of::<usize>() + size_of::<Vec<u8>>() + bytes.capacity(),
        }
    }
}

/// Whether bytes are just what printing an `i64` yields: no plus, no leading zeros, no `-0`.
fn is_canonical_integer(bytes: &[u8]) -> bool {
    let digits = match bytes {
        [b'-', digits @ ..] => digits,
        digits => digits,
    };
    let leading_zero = digits.first() == Some(&b'0') && bytes.len() > 1;
    if leading_zero || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<i64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::StringEncoding::{self, Embstr, Int, Raw};

    #[test]
    fn a_string_is_labelled_by_its_bytes() {
        for number in [0, 1, -1, 10, -10, i64::MAX, i64::MIN, 1_000_000] {
            assert_eq!(StringEncoding::of_whole(number.to_string().as_bytes()), Int);
        }
        let others: [&[u8]; 12] = [
            b"",
            b"-",
            b"+1",
            b"-0",
            b"00",
            b"01",
            b" 1",
            b"1 ",
            b"1.0",
            b"1e3",
            b"-01",
            b"9223372036854775808",
        ];
        for text in others {
            assert_eq!(StringEncoding::of_whole(text), Embstr);
        }
        assert_eq!(StringEncoding::of_whole(&[b'1'; 44]), Embstr);
        assert_eq!(StringEncoding::of_whole(&[b'1'; 45]), Raw);
    }
}
