//! Splits a line into words with shell-like quotes, the grammar that inline commands and the
//! configuration file share.
//!
//! Words are separated by blanks. Double quotes know `\n`, `\r`, `\t`, `\b`, `\a`, `\xHH` and a
//! backslash before any other byte; single quotes know only `\'`. Quotes may open inside a word but
//! must be followed by a blank or the line's end where they close.
//!
//! No word is longer unescaped than written, so words are unescaped in place and told as ranges of
//! the line. A vector of owned words was refused: the request parser must not allocate.
//!
//! Invariant: the ranges are in order and do not overlap.

use std::ops::Range;

use super::number::{hex_digit, is_space};

/// A quote is not closed, or is followed by something other than a blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnbalancedQuotes;

/// Calls `word` with the place of each word, unescaped within `line`. On an error the line may be
/// unescaped in part.
pub fn split_in_place(
    line: &mut [u8],
    mut word: impl FnMut(Range<usize>),
) -> Result<(), UnbalancedQuotes> {
    let mut read = 0;
    while read < line.len() {
        if is_space(line[read]) {
            read += 1;
            continue;
        }
        let start = read;
        let mut write = read;
        while read < line.len() {
            match line[read] {
                b' ' | b'\n' | b'\r' | b'\t' => break,
                b'"' => {
                    (read, write) = unescape_double(line, read + 1, write)?;
                    break;
                }
                b'\'' => {
                    (read, write) = unescape_single(line, read + 1, write)?;
                    break;
                }
                byte => {
                    line[write] = byte;
                    read += 1;
                    write += 1;
                }
            }
        }
        word(start..write);
    }
    Ok(())
}

/// Splits a copy of `line` into words of their own.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
    let mut line = line.to_vec();
    let mut ranges = Vec::new();
    split_in_place(&mut line, |range| ranges.push(range))?;
    Ok(ranges.into_iter().map(|range| line[range].to_vec()).collect())
}

type ReadWrite = (usize, usize);

fn unescape_double(
    line: &mut [u8],
    mut read: usize,
    mut write: usize,
) -> Result<ReadWrite, UnbalancedQuotes> {
    loop {
        let (byte, width) = match line[read..] {
            [] => return Err(UnbalancedQuotes),
            [b'"', ..] => return close(line, read + 1, write),
            [b'\\', b'x', high, low, ..] => match (hex_digit(high), hex_digit(low)) {
                (Some(high), Some(low)) => (high * 16 + low, 4),
                _ => (b'x', 2),
            },
            [b'\\', escaped, ..] => (unescape(escaped), 2),
            [byte, ..] => (byte, 1),
        };
        line[write] = byte;
        read += width;
        write += 1;
    }
}

fn unescape(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        byte => byte,
    }
}

fn unescape_single(
    line: &mut [u8],
    mut read: usize,
    mut write: usize,
) -> Result<ReadWrite, UnbalancedQuotes> {
    loop {
        let (byte, width) = match line[read..] {
            [] => return Err(UnbalancedQuotes),
            [b'\'', ..] => return close(line, read + 1, write),
            [b'\\', b'\'', ..] => (b'\'', 2),
            [byte, ..] => (byte, 1),
        };
        line[write] = byte;
        read += width;
        write += 1;
    }
}

/// What follows a closing quote must be a blank or nothing.
fn close(line: &[u8], read: usize, write: usize) -> Result<ReadWrite, UnbalancedQuotes> {
    match line.get(read) {
        Some(byte) if !is_space(*byte) => Err(UnbalancedQuotes),
        _ => Ok((read, write)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_and_quotes() {
        let table: [(&[u8], &[&[u8]]); 18] = [
            (b"", &[]),
            (b" \t\x0b ", &[]),
            (b"GET key", &[b"GET", b"key"]),
            (b"  set\tk  v ", &[b"set", b"k", b"v"]),
            (b"\"\"", &[b""]),
            (b"'' \"\"", &[b"", b""]),
            (b"\"a b\" 'c d'", &[b"a b", b"c d"]),
            (b"\"\\x41\\x00\\xfF\"", &[b"A\0\xff"]),
            (b"\"\\n\\r\\t\\b\\a\\\\\\\"\\q\"", &[b"\n\r\t\x08\x07\\\"q"]),
            (b"\"\\xg1\\x4\"", &[b"xg1x4"]),
            (b"'\\n\\'\\x41'", &[b"\\n'\\x41"]),
            (b"foo\"bar baz\"", &[b"foobar baz"]),
            (b"foo'bar' x", &[b"foobar", b"x"]),
            (b"\"a\"\x0bb", &[b"a", b"b"]),
            (b"a\x0bb", &[b"a\x0bb"]),
            (b"back\\slash", &[b"back\\slash"]),
            (b"\"it's\"", &[b"it's"]),
            (b"'say \"x\"'", &[b"say \"x\""]),
        ];
        for (line, expected) in table {
            assert_eq!(split(line).expect("balanced"), expected, "{}", line.escape_ascii());
        }
        let unbalanced: [&[u8]; 8] =
            [b"\"", b"'", b"\"abc", b"\"a\"b", b"'a'b", b"\"abc\\", b"\"abc\\\"", b"x 'y\\'"];
        for line in unbalanced {
            assert_eq!(split(line), Err(UnbalancedQuotes), "{}", line.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words: Vec<Vec<u8>>) {
            let mut line = String::new();
            for word in &words {
                line.push('"');
                for byte in word {
                    line.push_str(&format!("\\x{byte:02x}"));
                }
                line.push_str("\" ");
            }
            prop_assert_eq!(split(line.as_bytes()).expect("balanced"), words);
        }

        #[test]
        fn no_line_panics(line in "[ab\"'\\\\x4 \n]{0,20}") {
            let _ = split(line.as_bytes());
        }
    }
}
