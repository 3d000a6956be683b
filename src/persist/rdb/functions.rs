//! The payload of FUNCTION DUMP: all libraries, the version of the format, and a checksum.
//!
//! ```text
//! (0xf5 | code as a string) ... | version u16 | checksum u64 of all before it
//! ```

use super::input::Input;
use super::sink::Sink;
use super::{SaveVersion, Verified, opcode, payload};
use std::fmt;

/// The payload of libraries with this code.
pub fn dump_functions<'c>(
    codes: impl IntoIterator<Item = &'c [u8]>,
    version: SaveVersion,
    compresses: bool,
) -> Vec<u8> {
    let mut sink = Sink::in_memory(compresses);
    for code in codes {
        sink.byte(opcode::FUNCTION);
        sink.string(code);
    }
    payload::seal(sink, version)
}

/// Why a payload does not hold libraries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FunctionsError {
    PreRelease,
    NoFunction,
    Code,
}

impl fmt::Display for FunctionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FunctionsError::PreRelease => "Pre-GA function format not supported",
            FunctionsError::NoFunction => "given type is not a function",
            FunctionsError::Code => "Failed loading library payload",
        })
    }
}

impl std::error::Error for FunctionsError {}

/// The codes that a payload holds, one by one: each is to be loaded before the next one is read,
/// as the first error of either is the one that is told. Nothing follows an error.
pub struct Functions<'p> {
    input: Input<'p>,
    is_over: bool,
}

/// Reads a payload whose version is known and whose checksum is right.
pub fn functions_of(payload: Verified<'_>) -> Functions<'_> {
    Functions { input: Input::of_bytes(payload.body), is_over: false }
}

impl Functions<'_> {
    fn read(&mut self) -> Result<Vec<u8>, FunctionsError> {
        match self.input.byte() {
            Ok(opcode::FUNCTION) => {}
            Ok(opcode::FUNCTION_PRE_RELEASE) => return Err(FunctionsError::PreRelease),
            _ => return Err(FunctionsError::NoFunction),
        }
        let mut code = Vec::new();
        self.input.string_to(&mut code).map_err(|_| FunctionsError::Code)?;
        Ok(code)
    }
}

impl Iterator for Functions<'_> {
    type Item = Result<Vec<u8>, FunctionsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over || matches!(self.input.is_at_end(), Ok(true)) {
            return None;
        }
        let read = self.read();
        self.is_over = read.is_err();
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::rdb::verify;

    fn read(payload: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let verified = verify(payload, false).ok_or("not verified")?;
        functions_of(verified).collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    /// A payload with this body.
    fn with_body(body: &[u8]) -> Vec<u8> {
        let mut sink = Sink::in_memory(false);
        sink.bytes(body);
        payload::seal(sink, SaveVersion::V10)
    }

    #[test]
    fn what_is_dumped_is_read_again() {
        let long = b"#!lua name=b\n".repeat(5000);
        let codes: [&[u8]; 4] = [b"#!lua name=a\n", &long, b"12", b""];
        for compresses in [true, false] {
            let payload = dump_functions(codes, SaveVersion::V11, compresses);
            assert_eq!(read(&payload), Ok(codes.map(<[u8]>::to_vec).to_vec()));
            assert_eq!(payload.len() < 2000, compresses);
        }
        // What Redis 7.0 dumps when there are no libraries.
        let none = b"\x0a\x00\x5d\x9b\x5c\x40\x0f\x7f\xa2\xda";
        assert_eq!(dump_functions([], SaveVersion::V10, true), none);
        assert_eq!(read(none), Ok(Vec::new()));
    }

    #[test]
    fn a_payload_of_something_else_is_refused() {
        for (body, expected) in [
            (&b"\xf6\x01a"[..], "Pre-GA function format not supported"),
            (b"\x00\x01a", "given type is not a function"),
            (b"\xf5\x01a\x00", "given type is not a function"),
            (b"\xf5", "Failed loading library payload"),
            (b"\xf5\x05abc", "Failed loading library payload"),
            (b"\xf5\x81\xff\xff\xff\xff\xff\xff\xff\xffabc", "Failed loading library payload"),
            (b"\xf5\xc3\x04\x90\x00abcd", "Failed loading library payload"),
            (b"\xf5\xff", "Failed loading library payload"),
        ] {
            assert_eq!(read(&with_body(body)), Err(expected.to_owned()), "{body:?}");
        }
    }

    #[test]
    fn a_payload_with_any_bit_changed_is_refused() {
        let payload = dump_functions([&b"#!lua name=a\n"[..]], SaveVersion::V11, true);
        for bit in 0..payload.len() * 8 {
            let mut changed = payload.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&changed), Err("not verified".to_owned()), "{bit}");
        }
        for len in 0..payload.len() {
            assert_eq!(read(&payload[..len]), Err("not verified".to_owned()), "{len}");
        }
    }
}
