//! What subscribers are sent: messages, and confirmations of their subscriptions.
//!
//! A push in RESP3, an array in RESP2. A message is encoded whole, so that all its receivers can
//! share the bytes; a confirmation is written where the reply of the command would stand.

use crate::resp::{Protocol, Reply, ReplyBuf};

/// A message for the listeners of a channel, `word` saying which kind of one.
pub fn for_channel(protocol: Protocol, word: &str, channel: &[u8], message: &[u8]) -> Vec<u8> {
    encoded(protocol, &[word.as_bytes(), channel, message])
}

/// A message for the listeners of a pattern.
pub fn for_pattern(protocol: Protocol, pattern: &[u8], channel: &[u8], message: &[u8]) -> Vec<u8> {
    encoded(protocol, &[b"pmessage", pattern, channel, message])
}

fn encoded(protocol: Protocol, parts: &[&[u8]]) -> Vec<u8> {
    const HEADERS_BYTES_MAX: usize = 24;
    let len: usize = parts.iter().map(|part| part.len() + HEADERS_BYTES_MAX).sum();
    let mut out = ReplyBuf::with_bytes(Vec::with_capacity(len));
    let mut reply = out.writer(protocol);
    reply.push(parts.len());
    for part in parts {
        reply.bulk(part);
    }
    out.take_written()
}

/// Tells a client that it now listens, or no longer listens, to something, and how many
/// subscriptions it has. Without a name: it had none to end.
pub fn confirm(reply: &mut Reply<'_>, word: &str, name: Option<&[u8]>, count: usize) {
    reply.push(3);
    reply.bulk(word.as_bytes());
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.integer(i64::try_from(count).expect("counts of things in memory fit"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_arrays_or_pushes() {
        let two = for_channel(Protocol::Resp2, "message", b"c", b"hi");
        assert_eq!(two, b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n");
        let three = for_pattern(Protocol::Resp3, b"*", b"c", b"");
        assert_eq!(three, b">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nc\r\n$0\r\n\r\n");
    }
}
