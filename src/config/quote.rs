//! Quoting a word for a line of a configuration file.
//!
//! The counterpart of `structs::words::split`. Everything but printable ASCII is escaped, so that
//! a file stays readable whatever bytes a password has.
//!
//! Invariant: `split(quote(word)) == [word]` for every word.

/// `word` between double quotes, with everything escaped that is not printable ASCII.
pub fn quote(word: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(quoted_len(word));
    quote_to(&mut quoted, word);
    quoted
}

/// How long it is then.
pub fn quoted_len(word: &[u8]) -> usize {
    let len = |byte: &u8| match byte {
        b'\\' | b'"' | b'\n' | b'\r' | b'\t' | 0x07 | 0x08 => 2,
        b' '..=b'~' => 1,
        _ => 4,
    };
    word.iter().map(len).sum::<usize>() + 2
}

/// Appends it to a line.
pub fn quote_to(quoted: &mut Vec<u8>, word: &[u8]) {
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
            let quoted = quote(&word);
            prop_assert_eq!(quoted.len(), quoted_len(&word));
            prop_assert_eq!(split(&quoted), Ok(vec![word]));
        }
    }
}
