//! A reply as the tests see it, and as redis-cli prints it.
//!
//! The server's own decoder hands maps over in no particular order, which is right for peers and
//! useless for comparing text; this small reader keeps the order of the wire. It recurses, which
//! is fine for replies of servers that the tests start themselves.

use std::fmt::Write;

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    NullArray,
    Array(Vec<Answer>),
    Double(String),
    Boolean(bool),
    BigNumber(String),
    Verbatim(Vec<u8>),
    Map(Vec<(Answer, Answer)>),
    Set(Vec<Answer>),
    Push(Vec<Answer>),
}

/// The reply that `bytes` begin with and its length, or `None` while it is not whole.
pub fn read(bytes: &[u8]) -> Option<(Answer, usize)> {
    let mut reader = Reader { bytes, at: 0 };
    let answer = reader.answer()?;
    Some((answer, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn line(&mut self) -> Option<&str> {
        let rest = &self.bytes[self.at..];
        let len = rest.windows(2).position(|pair| pair == b"\r\n")?;
        self.at += len + 2;
        Some(std::str::from_utf8(&rest[..len]).unwrap_or("not UTF-8"))
    }

    fn payload(&mut self, len: usize) -> Option<Vec<u8>> {
        let rest = &self.bytes[self.at..];
        if rest.len() < len + 2 {
            return None;
        }
        assert_eq!(&rest[len..len + 2], b"\r\n", "a payload ends with its line");
        self.at += len + 2;
        Some(rest[..len].to_vec())
    }

    fn elements(&mut self, count: usize) -> Option<Vec<Answer>> {
        (0..count).map(|_| self.answer()).collect()
    }

    fn answer(&mut self) -> Option<Answer> {
        let kind = *self.bytes.get(self.at)?;
        // Statuses and errors need not be UTF-8, so they are cut from the bytes themselves.
        let start = self.at + 1;
        let line = self.line()?.get(1..).unwrap_or_default().to_owned();
        let raw = self.bytes[start..self.at - 2].to_vec();
        let len = || line.parse::<i64>().expect("a length is a number");
        Some(match kind {
            b'+' => Answer::Simple(raw),
            b'-' => Answer::Error(raw),
            b':' => Answer::Integer(len()),
            b'$' if len() < 0 => Answer::Null,
            b'*' if len() < 0 => Answer::NullArray,
            b'_' => Answer::Null,
            b'$' => Answer::Bulk(self.payload(len() as usize)?),
            b'=' => Answer::Verbatim(self.payload(len() as usize)?[4..].to_vec()),
            b'!' => Answer::Error(self.payload(len() as usize)?),
            b',' => Answer::Double(line),
            b'#' => Answer::Boolean(line == "t"),
            b'(' => Answer::BigNumber(line),
            b'*' => Answer::Array(self.elements(len() as usize)?),
            b'~' => Answer::Set(self.elements(len() as usize)?),
            b'>' => Answer::Push(self.elements(len() as usize)?),
            b'%' => {
                let flat = self.elements(2 * len() as usize)?;
                Answer::Map(flat.chunks(2).map(|p| (p[0].clone(), p[1].clone())).collect())
            }
            b'|' => {
                // An attribute belongs to the reply after it, which is all that is compared.
                self.elements(2 * len() as usize)?;
                self.answer()?
            }
            other => panic!("no reply begins with {:?}", char::from(other)),
        })
    }
}

impl Answer {
    /// What redis-cli prints on a terminal, without the last line end.
    pub fn print(&self) -> String {
        let mut text = String::new();
        self.put(&mut text, "");
        text
    }

    fn put(&self, text: &mut String, prefix: &str) {
        match self {
            Answer::Simple(line) => text.push_str(&plain(line)),
            Answer::Error(line) => text.push_str(&format!("(error) {}", plain(line))),
            Answer::Integer(value) => write!(text, "(integer) {value}").expect("it is memory"),
            Answer::Bulk(payload) => text.push_str(&quoted(payload)),
            Answer::Null | Answer::NullArray => text.push_str("(nil)"),
            Answer::Double(value) => text.push_str(&format!("(double) {value}")),
            Answer::Boolean(value) => text.push_str(if *value { "(true)" } else { "(false)" }),
            Answer::BigNumber(digits) => text.push_str(digits),
            Answer::Verbatim(payload) => text.push_str(&plain(payload)),
            Answer::Array(elements) if elements.is_empty() => text.push_str("(empty array)"),
            Answer::Set(elements) if elements.is_empty() => text.push_str("(empty set)"),
            Answer::Push(elements) if elements.is_empty() => text.push_str("(empty push)"),
            Answer::Map(pairs) if pairs.is_empty() => text.push_str("(empty hash)"),
            Answer::Array(elements) | Answer::Push(elements) => {
                put_elements(text, prefix, ')', elements);
            }
            Answer::Set(elements) => put_elements(text, prefix, '~', elements),
            Answer::Map(pairs) => {
                let width = pairs.len().to_string().len();
                let inner = format!("{prefix}{}", " ".repeat(width + 2));
                for (index, (key, value)) in pairs.iter().enumerate() {
                    put_number(text, prefix, index, width, '#');
                    key.put(text, &inner);
                    text.push_str(" => ");
                    value.put(text, &inner);
                }
            }
        }
    }

    /// Puts what has no order into one: elements of lists that hold nothing but strings, and the
    /// pairs of maps.
    pub fn sort(&mut self) {
        match self {
            Answer::Array(elements) | Answer::Set(elements) | Answer::Push(elements) => {
                elements.iter_mut().for_each(Answer::sort);
                if elements.iter().all(|e| matches!(e, Answer::Bulk(_) | Answer::Simple(_))) {
                    elements.sort_by_key(Answer::print);
                }
            }
            Answer::Map(pairs) => pairs.sort_by_key(|(key, _)| key.print()),
            _ => {}
        }
    }
}

fn put_elements(text: &mut String, prefix: &str, mark: char, elements: &[Answer]) {
    let width = elements.len().to_string().len();
    let inner = format!("{prefix}{}", " ".repeat(width + 2));
    for (index, element) in elements.iter().enumerate() {
        put_number(text, prefix, index, width, mark);
        element.put(text, &inner);
    }
}

/// The first line's prefix has been written by whoever numbered the aggregate itself.
fn put_number(text: &mut String, prefix: &str, index: usize, width: usize, mark: char) {
    if index > 0 {
        text.push('\n');
        text.push_str(prefix);
    }
    write!(text, "{:>width$}{mark} ", index + 1).expect("it is memory");
}

fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A string as redis-cli quotes it.
pub fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => text.extend(['\\', char::from(byte)]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            7 => text.push_str("\\a"),
            8 => text.push_str("\\b"),
            b' '..=b'~' => text.push(char::from(byte)),
            other => write!(text, "\\x{other:02x}").expect("it is memory"),
        }
    }
    text.push('"');
    text
}

/// A request in the form clients send.
pub fn encode<A: AsRef<[u8]>>(words: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[test]
fn aggregates_print_as_redis_cli_prints_them() {
    let wire = b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n_\r\n%1\r\n+k\r\n~1\r\n,1.5\r\n";
    let (answer, len) = read(wire).expect("it is whole");
    assert_eq!(len, wire.len());
    let expected = "1) (integer) 1\n2) 1) \"a\"\n   2) (nil)\n3) 1# k => 1~ (double) 1.5";
    assert_eq!(answer.print(), expected);
    assert!((0..len).all(|cut| read(&wire[..cut]).is_none()));
}
