//! Replies as they come from peers: a primary, a replica under MIGRATE, another node.
//!
//! The decoders are those of the redis-protocol crate, and this is its only home. They recurse
//! without bound and build what a reply declares, so a reply is first walked here, without
//! recursion, to see that it is whole and not nested deeply; only then is it decoded.
//!
//! Requests from clients do not come this way: `request` explains why.
//!
//! Invariant: the crate sees only whole replies nested at most `DEPTH_MAX` deep.

use std::fmt;

use memchr::memchr;
use redis_protocol::resp2;
use redis_protocol::resp3;
use redis_protocol::resp3::types::VerbatimStringFormat;

use super::reply::Protocol;
use crate::structs::number::parse_i64;

/// No reply of a Redis server nests deeper than a handful.
pub const DEPTH_MAX: usize = 32;

/// One reply, whichever protocol it came in. Attributes are dropped; maps and sets come in no
/// particular order.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Frame>),
    Double(f64),
    Boolean(bool),
    BigNumber(Vec<u8>),
    Verbatim([u8; 3], Vec<u8>),
    Map(Vec<(Frame, Frame)>),
    Set(Vec<Frame>),
    Push(Vec<Frame>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The bytes are no reply in that protocol.
    Invalid,
    TooDeep,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrameError::Invalid => "malformed reply",
            FrameError::TooDeep => "reply nested too deeply",
        })
    }
}

impl std::error::Error for FrameError {}

/// Decodes the reply that `bytes` begin with; answers it and its length, or `None` when it is not
/// whole yet.
pub fn decode(bytes: &[u8], protocol: Protocol) -> Result<Option<(Frame, usize)>, FrameError> {
    let Some(len) = whole_len(bytes)? else { return Ok(None) };
    let whole = &bytes[..len];
    let frame = match protocol {
        Protocol::Resp2 => match resp2::decode::decode(whole) {
            Ok(Some((frame, used))) if used == len => from_resp2(frame),
            _ => return Err(FrameError::Invalid),
        },
        Protocol::Resp3 => match resp3::decode::complete::decode(whole) {
            Ok(Some((frame, used))) if used == len => from_resp3(frame)?,
            _ => return Err(FrameError::Invalid),
        },
    };
    Ok(Some((frame, len)))
}

/// An aggregate whose elements are being walked.
struct Open {
    left: u64,
    /// An attribute is not an element itself: it belongs to the one that follows.
    is_attribute: bool,
}

/// The length of the reply that `bytes` begin with, once it is whole.
fn whole_len(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let mut open: Vec<Open> = Vec::new();
    let mut position = 0usize;
    loop {
        let rest = bytes.get(position..).unwrap_or_default();
        let Some(line_len) = memchr(b'\n', rest) else { return Ok(None) };
        let [kind, line @ .., b'\r'] = &rest[..line_len] else { return Err(FrameError::Invalid) };
        position += line_len + 1;
        let mut elements = 0u64;
        match kind {
            b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => {}
            b'$' | b'=' | b'!' => {
                if let Some(len) = declared(line)? {
                    let len = usize::try_from(len).map_err(|_| FrameError::Invalid)?;
                    position = position.checked_add(len).ok_or(FrameError::Invalid)?;
                    position = position.checked_add(2).ok_or(FrameError::Invalid)?;
                }
            }
            b'*' | b'~' | b'>' => elements = declared(line)?.unwrap_or(0),
            b'%' | b'|' => elements = declared(line)?.unwrap_or(0).saturating_mul(2),
            _ => return Err(FrameError::Invalid),
        }
        let is_attribute = *kind == b'|';
        if elements > 0 {
            if open.len() == DEPTH_MAX {
                return Err(FrameError::TooDeep);
            }
            open.push(Open { left: elements, is_attribute });
        } else if !is_attribute && close_element(&mut open) {
            return Ok((position <= bytes.len()).then_some(position));
        }
    }
}

/// Counts an element as walked, and the aggregates that it ends; true when it ends the reply.
fn close_element(open: &mut Vec<Open>) -> bool {
    while let Some(innermost) = open.last_mut() {
        innermost.left -= 1;
        if innermost.left > 0 || innermost.is_attribute {
            open.pop_if(|innermost| innermost.left == 0);
            return false;
        }
        open.pop();
    }
    true
}

/// A declared length; -1 stands for null.
fn declared(line: &[u8]) -> Result<Option<u64>, FrameError> {
    match parse_i64(line) {
        Some(-1) => Ok(None),
        Some(len) => u64::try_from(len).map(Some).map_err(|_| FrameError::Invalid),
        None => Err(FrameError::Invalid),
    }
}

fn from_resp2(frame: resp2::types::OwnedFrame) -> Frame {
    use resp2::types::OwnedFrame as Owned;
    match frame {
        Owned::SimpleString(text) => Frame::Simple(text),
        Owned::Error(text) => Frame::Error(text.into_bytes()),
        Owned::Integer(value) => Frame::Integer(value),
        Owned::BulkString(payload) => Frame::Bulk(payload),
        Owned::Array(elements) => Frame::Array(elements.into_iter().map(from_resp2).collect()),
        Owned::Null => Frame::Null,
    }
}

fn from_resp3(frame: resp3::types::OwnedFrame) -> Result<Frame, FrameError> {
    use resp3::types::OwnedFrame as Owned;
    let all = |elements: Vec<Owned>| -> Result<Vec<Frame>, FrameError> {
        elements.into_iter().map(from_resp3).collect()
    };
    Ok(match frame {
        Owned::SimpleString { data, .. } => Frame::Simple(data),
        Owned::SimpleError { data, .. } => Frame::Error(data.into_bytes()),
        Owned::BlobError { data, .. } => Frame::Error(data),
        Owned::Number { data, .. } => Frame::Integer(data),
        Owned::BlobString { data, .. } => Frame::Bulk(data),
        Owned::Null => Frame::Null,
        Owned::Array { data, .. } => Frame::Array(all(data)?),
        Owned::Double { data, .. } => Frame::Double(data),
        Owned::Boolean { data, .. } => Frame::Boolean(data),
        Owned::BigNumber { data, .. } => Frame::BigNumber(data),
        Owned::VerbatimString { data, format, .. } => {
            let format = match format {
                VerbatimStringFormat::Text => *b"txt",
                VerbatimStringFormat::Markdown => *b"mkd",
            };
            Frame::Verbatim(format, data)
        }
        Owned::Map { data, .. } => {
            let pairs =
                data.into_iter().map(|(key, value)| Ok((from_resp3(key)?, from_resp3(value)?)));
            Frame::Map(pairs.collect::<Result<_, FrameError>>()?)
        }
        Owned::Set { data, .. } => Frame::Set(all(data.into_iter().collect())?),
        Owned::Push { data, .. } => Frame::Push(all(data)?),
        Owned::Hello { .. } | Owned::ChunkedString(_) => return Err(FrameError::Invalid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::reply::{Reply, ReplyBuf, SPLICE_LEN_MIN, SharedBytes};
    use proptest::prelude::*;

    fn write(reply: &mut Reply<'_>, frame: &Frame) {
        match frame {
            Frame::Simple(text) => reply.simple(text),
            Frame::Error(text) => reply.error(text),
            Frame::Integer(value) => reply.integer(*value),
            Frame::Bulk(payload) if payload.len() >= SPLICE_LEN_MIN => {
                reply.bulk_shared(&SharedBytes::new(payload.clone()));
            }
            Frame::Bulk(payload) => reply.bulk(payload),
            Frame::Null => reply.null(),
            Frame::Array(elements) => {
                reply.array(elements.len());
                elements.iter().for_each(|element| write(reply, element));
            }
            Frame::Double(value) => reply.double(*value),
            Frame::Boolean(value) => reply.boolean(*value),
            Frame::BigNumber(digits) => reply.big_number(digits),
            Frame::Verbatim(format, text) => reply.verbatim(format, text),
            Frame::Map(pairs) => {
                let map = reply.begin_deferred();
                for (key, value) in pairs {
                    write(reply, key);
                    write(reply, value);
                }
                reply.end_map(map, pairs.len());
            }
            Frame::Set(elements) => {
                let set = reply.begin_deferred();
                elements.iter().for_each(|element| write(reply, element));
                reply.end_set(set, elements.len());
            }
            Frame::Push(elements) => {
                reply.push(elements.len());
                elements.iter().for_each(|element| write(reply, element));
            }
        }
    }

    /// What a RESP2 client sees of a reply.
    fn flattened(frame: &Frame) -> Frame {
        match frame {
            Frame::Array(elements) | Frame::Set(elements) | Frame::Push(elements) => {
                Frame::Array(elements.iter().map(flattened).collect())
            }
            Frame::Map(pairs) => {
                let pairs =
                    pairs.iter().flat_map(|(key, value)| [flattened(key), flattened(value)]);
                Frame::Array(pairs.collect())
            }
            Frame::Double(value) => {
                let mut buffer = crate::structs::number::F64Buf::new();
                Frame::Bulk(crate::structs::number::format_f64(*value, &mut buffer).to_vec())
            }
            Frame::Boolean(value) => Frame::Integer(i64::from(*value)),
            Frame::BigNumber(text) | Frame::Verbatim(_, text) => Frame::Bulk(text.clone()),
            other => other.clone(),
        }
    }

    /// Puts maps and sets into one order.
    fn sorted(frame: Frame) -> Frame {
        let all =
            |elements: Vec<Frame>| -> Vec<Frame> { elements.into_iter().map(sorted).collect() };
        match frame {
            Frame::Array(elements) => Frame::Array(all(elements)),
            Frame::Push(elements) => Frame::Push(all(elements)),
            Frame::Set(elements) => {
                let mut elements = all(elements);
                elements.sort_by_cached_key(|element| format!("{element:?}"));
                Frame::Set(elements)
            }
            Frame::Map(pairs) => {
                let pairs = pairs.into_iter().map(|(key, value)| (sorted(key), sorted(value)));
                let mut pairs: Vec<_> = pairs.collect();
                pairs.sort_by_cached_key(|pair| format!("{pair:?}"));
                Frame::Map(pairs)
            }
            other => other,
        }
    }

    fn any_leaf() -> impl Strategy<Value = Frame> {
        let text = || "[ -~]{0,30}".prop_map(String::into_bytes);
        prop_oneof![
            text().prop_map(Frame::Simple),
            "ERR [ -~]{0,30}".prop_map(|text| Frame::Error(text.into_bytes())),
            any::<i64>().prop_map(Frame::Integer),
            (-10i64..2000).prop_map(Frame::Integer),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Frame::Bulk),
            (1000usize..40_000).prop_map(|len| Frame::Bulk(vec![b'\n'; len])),
            Just(Frame::Null),
            any::<f64>()
                .prop_filter("NaN equals nothing", |value| !value.is_nan())
                .prop_map(Frame::Double),
            any::<bool>().prop_map(Frame::Boolean),
            "-?[1-9][0-9]{0,40}".prop_map(|digits| Frame::BigNumber(digits.into_bytes())),
            text().prop_map(|text| Frame::Verbatim(*b"txt", text)),
            text().prop_map(|text| Frame::Verbatim(*b"mkd", text)),
        ]
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        any_leaf().prop_recursive(4, 60, 14, |inner| {
            let elements = || proptest::collection::vec(inner.clone(), 0..14);
            // Equal keys and members would be merged, so each has its number.
            let key = |idx: usize| Frame::Bulk(format!("key {idx}").into_bytes());
            prop_oneof![
                elements().prop_map(Frame::Array),
                elements().prop_map(move |values| {
                    Frame::Map(
                        values
                            .into_iter()
                            .enumerate()
                            .map(|(idx, value)| (key(idx), value))
                            .collect(),
                    )
                }),
                (0i64..200).prop_map(|len| Frame::Set((0..len).map(Frame::Integer).collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn what_the_writer_writes_decodes_to_the_same(frame in any_frame()) {
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                let mut out = ReplyBuf::new();
                write(&mut out.writer(protocol), &frame);
                let bytes = [&out.to_vec()[..], b"+next"].concat();
                let (decoded, len) = decode(&bytes, protocol).expect("valid").expect("whole");
                let expected = match protocol {
                    Protocol::Resp2 => flattened(&frame),
                    Protocol::Resp3 => frame.clone(),
                };
                prop_assert_eq!(len, out.len());
                prop_assert_eq!(sorted(decoded), sorted(expected));
                prop_assert_eq!(decode(&bytes[..len - 1], protocol), Ok(None));
            }
        }

        #[test]
        fn lines_hold_no_line_break(text: Vec<u8>) {
            let mut out = ReplyBuf::new();
            out.writer(Protocol::Resp3).simple(&text);
            let simple = out.to_vec();
            out.clear();
            out.writer(Protocol::Resp2).error(&text);
            let error = out.to_vec();
            for line in [simple, error] {
                prop_assert!(line.ends_with(b"\r\n"));
                let inner = &line[1..line.len() - 2];
                prop_assert!(!inner.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in "[*%~>|$:+_,0-3\r\n-]{0,40}") {
            let _ = decode(bytes.as_bytes(), Protocol::Resp2);
            let _ = decode(bytes.as_bytes(), Protocol::Resp3);
        }
    }

    #[test]
    fn pushes_and_attributes() {
        let push = decode(b">2\r\n+a\r\n:1\r\n", Protocol::Resp3).expect("valid").expect("whole");
        assert_eq!(push, (Frame::Push(vec![Frame::Simple(b"a".to_vec()), Frame::Integer(1)]), 12));
        let stream = b"*2\r\n|1\r\n+ttl\r\n:9\r\n+a\r\n:1\r\nrest";
        assert_eq!(whole_len(stream), Ok(Some(stream.len() - 4)));
        assert_eq!(whole_len(&stream[..18]), Ok(None));
    }

    #[test]
    fn deep_nesting_is_refused_before_it_is_decoded() {
        let nested = |depth: usize| [&b"*1\r\n".repeat(depth)[..], b":1\r\n"].concat();
        assert!(matches!(decode(&nested(DEPTH_MAX), Protocol::Resp3), Ok(Some(_))));
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            assert_eq!(decode(&nested(DEPTH_MAX + 1), protocol), Err(FrameError::TooDeep));
            assert_eq!(decode(&b"*1\r\n".repeat(200_000), protocol), Err(FrameError::TooDeep));
        }
    }

    #[test]
    fn declared_lengths_reserve_nothing() {
        for bytes in
            ["*9223372036854775807\r\n", "$9223372036854775800\r\n", "%4611686018427387904\r\n"]
        {
            assert_eq!(decode(bytes.as_bytes(), Protocol::Resp3), Ok(None), "{bytes}");
        }
        for bytes in ["$-2\r\n", "$x\r\n", "?\r\n", "\n", "+\n", "$?\r\n"] {
            assert_eq!(decode(bytes.as_bytes(), Protocol::Resp3), Err(FrameError::Invalid));
        }
        assert_eq!(decode(b"%1\r\n+a\r\n:1\r\n", Protocol::Resp2), Err(FrameError::Invalid));
        assert_eq!(decode(b"*-1\r\n", Protocol::Resp2), Ok(Some((Frame::Null, 5))));
    }
}
