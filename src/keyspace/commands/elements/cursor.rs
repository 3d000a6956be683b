//! The text of a SCAN cursor, which HSCAN, SSCAN and ZSCAN take too.
//!
//! Redis 7.2 reads it by C's `strtoul`, and clients send what they were answered or 0, so the
//! grammar matters only at its edges: signs are taken, a minus wraps around, no digits at all are
//! zero, and the text ends at a NUL byte. The strict integer grammar was refused because it takes
//! less: cursors above 2^63 are canonical answers of some servers.

use crate::command::CommandError;

/// The cursor that a text means.
pub fn parse_scan_cursor(text: &[u8]) -> Result<u64, CommandError> {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let text = &text[..end];
    if text.is_empty() {
        return Ok(0);
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let magnitude = digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    });
    match magnitude {
        Some(_) if digits.is_empty() => Err(CommandError::InvalidCursor),
        Some(value) => Ok(if negative { value.wrapping_neg() } else { value }),
        None => Err(CommandError::InvalidCursor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_what_strtoul_takes() {
        let taken: [(&[u8], u64); 9] = [
            (b"0", 0),
            (b"", 0),
            (b"\0x", 0),
            (b"007", 7),
            (b"+7", 7),
            (b"-1", u64::MAX),
            (b"12\0junk", 12),
            (b"18446744073709551615", u64::MAX),
            (b"-18446744073709551615", 1),
        ];
        for (text, value) in taken {
            assert_eq!(parse_scan_cursor(text), Ok(value), "{}", text.escape_ascii());
        }
        let refused: [&[u8]; 8] =
            [b" 1", b"1 ", b"x", b"-", b"+", b"--1", b"0x10", b"18446744073709551616"];
        for text in refused {
            let refusal = Err(CommandError::InvalidCursor);
            assert_eq!(parse_scan_cursor(text), refusal, "{}", text.escape_ascii());
        }
    }
}
