//! What a primary's lines mean: the answer to PSYNC, and the header of a full sync.
//!
//! Both are read as leniently as primaries of other makes and ages need, and no further: a number
//! is digits that fit, an end mark is as long as it must be, and what was declared is only a number
//! here, for which nobody reserves anything.

use crate::repl::ids::{OFFSET_MAX, ReplicationId};
use crate::structs::number;

/// How a primary that does not know how long its snapshot will be says that it has ended.
pub const END_MARK_LEN: usize = 40;

/// A moment of the primary's history: what a full sync brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    pub id: ReplicationId,
    pub offset: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PsyncAnswer {
    /// It is still busy, and alive.
    KeepAlive,
    /// A snapshot follows; of what moment, unless that cannot be read.
    Full(Option<Moment>),
    /// The stream goes on, perhaps under a new name.
    Continue(Option<ReplicationId>),
    /// It cannot just now.
    Later,
    /// An error, so it may know no PSYNC.
    Error,
    Unexpected,
}

pub fn psync(line: &[u8]) -> PsyncAnswer {
    if line.is_empty() {
        PsyncAnswer::KeepAlive
    } else if let Some(rest) = line.strip_prefix(b"+FULLRESYNC") {
        PsyncAnswer::Full(moment(rest))
    } else if let Some(rest) = line.strip_prefix(b"+CONTINUE") {
        PsyncAnswer::Continue(ReplicationId::parse(rest.trim_ascii()))
    } else if line.starts_with(b"-NOMASTERLINK") || line.starts_with(b"-LOADING") {
        PsyncAnswer::Later
    } else if line.starts_with(b"-ERR") {
        PsyncAnswer::Error
    } else {
        PsyncAnswer::Unexpected
    }
}

/// ` <id> <offset>`.
fn moment(text: &[u8]) -> Option<Moment> {
    let mut words = text.strip_prefix(b" ")?.splitn(2, |byte| *byte == b' ');
    let id = ReplicationId::parse(words.next()?)?;
    let offset = number::parse_i64(words.next()?.trim_ascii_end())?;
    (0..=OFFSET_MAX).contains(&offset).then_some(Moment { id, offset })
}

/// How the end of a snapshot is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    Length(u64),
    EndMark([u8; END_MARK_LEN]),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Header {
    /// It is still making the snapshot, and alive.
    KeepAlive,
    Payload(Payload),
    Error,
    /// It begins as a header and is none.
    BadLength,
    /// Nothing that a primary says here.
    Foreign,
}

pub fn header(line: &[u8]) -> Header {
    match line.split_first() {
        None => Header::KeepAlive,
        Some((b'-', _)) => Header::Error,
        Some((b'$', rest)) => payload(rest).map_or(Header::BadLength, Header::Payload),
        Some(_) => Header::Foreign,
    }
}

fn payload(text: &[u8]) -> Option<Payload> {
    if let Some(mark) = text.strip_prefix(b"EOF:") {
        return Some(Payload::EndMark(mark.try_into().ok()?));
    }
    let length = number::parse_u64(text)?;
    // It will be a file's length, and no file is empty or longer than this.
    (1..=OFFSET_MAX.unsigned_abs()).contains(&length).then_some(Payload::Length(length))
}

/// The answers to PING after which a primary can be talked to: it may want a password first, and
/// old ones say so in other words.
pub fn is_alive(line: &[u8]) -> bool {
    let prefixes: [&[u8]; 4] = [b"+", b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted"];
    prefixes.iter().any(|prefix| line.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::{Header, Moment, Payload, PsyncAnswer, header, psync};
    use crate::repl::ids::ReplicationId;

    #[test]
    fn answers_to_psync() {
        let text = "0123456789abcdef0123456789abcdef01234567";
        let id = ReplicationId::parse(text.as_bytes()).expect("it is one");
        let full = |offset| PsyncAnswer::Full(Some(Moment { id, offset }));
        let table = [
            (String::new(), PsyncAnswer::KeepAlive),
            (format!("+FULLRESYNC {text} 0"), full(0)),
            (format!("+FULLRESYNC {text} 1234"), full(1234)),
            (format!("+FULLRESYNC {text} 4611686018427387903"), full(4_611_686_018_427_387_903)),
            (format!("+FULLRESYNC {text} 4611686018427387904"), PsyncAnswer::Full(None)),
            (format!("+FULLRESYNC {text} 99999999999999999999"), PsyncAnswer::Full(None)),
            (format!("+FULLRESYNC {text} -1"), PsyncAnswer::Full(None)),
            (format!("+FULLRESYNC {text}"), PsyncAnswer::Full(None)),
            (format!("+FULLRESYNC {text} "), PsyncAnswer::Full(None)),
            (format!("+FULLRESYNC {text} 1 2"), PsyncAnswer::Full(None)),
            (format!("+FULLRESYNC {} 1", &text[1..]), PsyncAnswer::Full(None)),
            ("+FULLRESYNC".to_owned(), PsyncAnswer::Full(None)),
            ("+CONTINUE".to_owned(), PsyncAnswer::Continue(None)),
            (format!("+CONTINUE {text}"), PsyncAnswer::Continue(Some(id))),
            (format!("+CONTINUE {text} "), PsyncAnswer::Continue(Some(id))),
            (format!("+CONTINUE {}", &text[1..]), PsyncAnswer::Continue(None)),
            ("-NOMASTERLINK Can't SYNC".to_owned(), PsyncAnswer::Later),
            ("-LOADING Redis is loading".to_owned(), PsyncAnswer::Later),
            ("-ERR unknown command 'PSYNC'".to_owned(), PsyncAnswer::Error),
            ("-NOAUTH Authentication required.".to_owned(), PsyncAnswer::Unexpected),
            ("+DUALCHANNELSYNC".to_owned(), PsyncAnswer::Unexpected),
            ("+OK".to_owned(), PsyncAnswer::Unexpected),
            ("$10".to_owned(), PsyncAnswer::Unexpected),
        ];
        for (line, expected) in table {
            assert_eq!(psync(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn headers_of_a_full_sync() {
        let mark = "m".repeat(40);
        let table = [
            (String::new(), Header::KeepAlive),
            ("$1".to_owned(), Header::Payload(Payload::Length(1))),
            ("$175".to_owned(), Header::Payload(Payload::Length(175))),
            (format!("$EOF:{mark}"), Header::Payload(Payload::EndMark([b'm'; 40]))),
            (format!("$EOF:{mark}m"), Header::BadLength),
            (format!("$EOF:{}", &mark[1..]), Header::BadLength),
            ("$EOF:".to_owned(), Header::BadLength),
            ("$ENDOFF:1".to_owned(), Header::BadLength),
            ("$0".to_owned(), Header::BadLength),
            ("$-1".to_owned(), Header::BadLength),
            ("$".to_owned(), Header::BadLength),
            ("$1x".to_owned(), Header::BadLength),
            ("$18446744073709551615".to_owned(), Header::BadLength),
            ("$18446744073709551616".to_owned(), Header::BadLength),
            ("-ERR BGSAVE failed, replication can't continue".to_owned(), Header::Error),
            ("+OK".to_owned(), Header::Foreign),
            ("HTTP/1.1 400 Bad Request".to_owned(), Header::Foreign),
        ];
        for (line, expected) in table {
            assert_eq!(header(line.as_bytes()), expected, "{line}");
        }
    }
}
