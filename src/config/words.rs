//! Splitting a line into arguments and quoting an argument so that it splits back to itself.
//!
//! The rules are those of Redis's configuration files (and of its inline requests): blanks
//! separate; double quotes know the escapes `\n \r \t \b \a \xhh` and a backslash before any
//! other byte; single quotes know only `\'`; quotes may open in the middle of a word, but a
//! closing one must end it. Lines are bytes: nothing here needs them to be UTF-8.
//!
//! Invariant: `split(quote(word)) == [word]` for every word.

/// The arguments of a line, or nothing if a quote is left open or glued to what follows.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|byte| is_space(**byte)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Some(words);
        }
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after;
    }
}

/// Reads one word at the start of `rest`; also gives what follows it.
fn word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Some((word, rest)),
            [b' ' | b'\n' | b'\r' | b'\t', tail @ ..] => return Some((word, tail)),
            [b'"', tail @ ..] => {
                let after = double_quoted(tail, &mut word)?;
                return Some((word, after));
            }
            [b'\'', tail @ ..] => {
                let after = single_quoted(tail, &mut word)?;
                return Some((word, after));
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'"', tail @ ..] => return ends_word(tail).then_some(tail),
            [b'\\', b'x', high, low, tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(*high) << 4 | hex(*low));
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                rest = tail;
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'\'', tail @ ..] => return ends_word(tail).then_some(tail),
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                rest = tail;
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

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

fn ends_word(rest: &[u8]) -> bool {
    rest.first().is_none_or(|byte| is_space(*byte))
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let text = |word: Vec<u8>| String::from_utf8(word).expect("test words are UTF-8");
        Some(split(line.as_bytes())?.into_iter().map(text).collect())
    }

    #[test]
    fn blanks_separate_and_quotes_join() {
        assert_eq!(words(""), Some(vec![]));
        assert_eq!(words("  \t\x0b "), Some(vec![]));
        assert_eq!(words(" port  6379 \r").unwrap(), ["port", "6379"]);
        assert_eq!(words("save \"\" ''").unwrap(), ["save", "", ""]);
        assert_eq!(words("a\"b c\" d").unwrap(), ["ab c", "d"]);
        assert_eq!(words("a'b c'").unwrap(), ["ab c"]);
        assert_eq!(words(r#""\x41\n\q\"" '\x41\n\''"#).unwrap(), ["A\nq\"", "\\x41\\n'"]);
        assert_eq!(words(r#""\x4g""#).unwrap(), ["x4g"]);
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in ["\"abc", "'abc", "\"abc\"d", "'abc'd", "\"abc\\\"", "a \"", "'\\'"] {
            assert_eq!(words(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_word_splits_back_to_itself(word: Vec<u8>) {
            prop_assert_eq!(split(&quote(&word)), Some(vec![word]));
        }

        #[test]
        fn any_line_is_split_or_refused(line: Vec<u8>) {
            let _ = split(&line);
        }
    }
}
