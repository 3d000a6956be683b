//! Quoting a word for a line of a configuration file.
//!
//! The counterpart of `structs::words::split`. Everything but printable ASCII is escaped, so that
//! a file stays readable whatever bytes a password has.
//!
//! Invariant: `split(quote(word)) == [word]` for every word.

/// `word` between double quotes, with everything escaped that is not printable ASCII.
pub fn quote(word: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(word.len() + 2);
    quoted.push(b'"');
    for byte in word {
        match byte {
            b'\\' | b'"' => quoted.extend([b'\\', *byte]),
            b'\n' => quoted.extend(b"\\n"),
            b'\r' => quoted.extend(b"\\r"),
            b'\t' => quoted.extend(b"\\t"),
            0x07 => quoted.extend(b"\\a"),
            0x08 => quoted.extend(b"\\b"),
            b' '..=b'~' => quoted.push(*byte),
            _ => quoted.extend(format!("\\x{byte:02x}").into_bytes()),
        }
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::words::split;
    use proptest::prelude::*;

    #[test]
    fn only_printable_ascii_is_left_as_it_is() {
        assert_eq!(quote(b""), b"\"\"");
        assert_eq!(
            quote(b"a 'b' \"\\\n\r\t\x07\x08\x00\xff~"),
            br#""a 'b' \"\\\n\r\t\a\b\x00\xff~""#
        );
    }

    proptest! {
        #[test]
        fn a_quoted_word_splits_back_to_itself(word: Vec<u8>) {
            prop_assert_eq!(split(&quote(&word)), Ok(vec![word]));
        }
    }
}
