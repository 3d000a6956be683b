//! Replies to commands as the debugger shows them: on one line.

use crate::config::quote::quote_to;
use crate::structs::number::parse_i64;

/// An aggregate that is not complete.
struct Open {
    left: usize,
    /// It is a map, whose keys and values take turns.
    is_map: bool,
    is_key_next: bool,
    is_empty: bool,
    end: u8,
}

/// Appends what a whole reply says; `len_max` is about as far as anybody will read.
pub(super) fn describe(mut reply: &[u8], len_max: usize, out: &mut Vec<u8>) {
    let mut open: Vec<Open> = Vec::new();
    while out.len() <= len_max {
        while let Some(last) = open.pop_if(|last| last.left == 0) {
            out.push(last.end);
        }
        if let Some(last) = open.last_mut() {
            separate(last, out);
        }
        let Some((line, rest)) = split_line(reply) else { return };
        let (kind, text) = line.split_at(line.len().min(1));
        reply = rest;
        let count = usize::try_from(parse_i64(text).unwrap_or(-1));
        match (kind, count) {
            (b":" | b"(", _) => out.extend_from_slice(text),
            (b"+" | b"-", _) => quote_to(out, line),
            (b"#", _) => out.extend_from_slice(if text == b"t" { b"#true" } else { b"#false" }),
            (b",", _) => out.extend([b"(double) ", text].concat()),
            (b"$" | b"=", Ok(len)) => {
                let bytes = reply.get(..len).unwrap_or_default();
                let room = len_max.saturating_sub(out.len()) + 1;
                quote_to(out, &bytes[..bytes.len().min(room)]);
                reply = reply.get(len + 2..).unwrap_or_default();
            }
            (b"*" | b">", Ok(left)) => open.push(begin(b"[", left, b']', out)),
            (b"~", Ok(left)) => open.push(begin(b"~(", left, b')', out)),
            (b"%", Ok(pairs)) => {
                let map = begin(b"{", pairs.saturating_mul(2), b'}', out);
                open.push(Open { is_map: true, ..map });
            }
            (b"_", _) => out.extend_from_slice(b"(null)"),
            _ => out.extend_from_slice(b"NULL"),
        }
        if open.iter().all(|open| open.left == 0) {
            open.drain(..).rev().for_each(|last| out.push(last.end));
            return;
        }
    }
}

fn begin(sign: &[u8], left: usize, end: u8, out: &mut Vec<u8>) -> Open {
    out.extend_from_slice(sign);
    Open { left, is_map: false, is_key_next: true, is_empty: true, end }
}

/// What stands in front of the next element.
fn separate(open: &mut Open, out: &mut Vec<u8>) {
    open.left -= 1;
    if open.is_map && !open.is_key_next {
        out.extend_from_slice(b" => ");
    } else if !open.is_empty {
        out.push(b',');
    }
    open.is_empty = false;
    open.is_key_next = !open.is_key_next;
}

fn split_line(reply: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\r', reply)?;
    Some((&reply[..end], reply.get(end + 2..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reply: &str) -> String {
        let mut out = Vec::new();
        describe(reply.replace('|', "\r\n").as_bytes(), 1000, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn replies_of_both_protocols_are_one_line() {
        for (reply, text) in [
            (":12|", "12"),
            ("+OK|", "\"+OK\""),
            ("-ERR no|", "\"-ERR no\""),
            ("$-1|", "NULL"),
            ("*-1|", "NULL"),
            ("$3|a\"b|", "\"a\\\"b\""),
            ("*0|", "[]"),
            ("*2|$1|a|$-1|", "[\"a\",NULL]"),
            ("*2|*0|*1|*2|:1|:2|", "[[],[[1,2]]]"),
            ("%2|$1|a|:1|$1|b|*1|:2|", "{\"a\" => 1,\"b\" => [2]}"),
            ("~2|:1|:2|", "~(1,2)"),
            ("*5|_|#t|#f|,1.5|(12345|", "[(null),#true,#false,(double) 1.5,12345]"),
            ("=5|txt:a|", "\"txt:a\""),
        ] {
            assert_eq!(shown(reply), text, "{reply}");
        }
    }

    #[test]
    fn of_a_long_reply_only_the_beginning_is_looked_at() {
        let reply = format!("*1000000\r\n{}", ":1\r\n".repeat(1_000_000));
        let mut out = Vec::new();
        describe(reply.as_bytes(), 20, &mut out);
        assert!(out.len() < 30, "{}", out.len());
        let mut out = Vec::new();
        describe(format!("$100\r\n{}\r\n", "x".repeat(100)).as_bytes(), 20, &mut out);
        assert!(out.len() < 30, "{}", out.len());
    }
}
