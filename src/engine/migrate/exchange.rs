//! What MIGRATE says to its target and what that answers, as a machine that is handed bytes.
//!
//! All requests go out one behind the other, and the replies come in the same order: that of AUTH,
//! that of SELECT if the connection is in another database, one for each key. The target is as
//! foreign as any peer: a reply is a line that begins with a plus or a minus, of a length that
//! Redis reads, and anything else is none. Redis takes whatever begins with no minus for success,
//! and deletes the key.

use super::Auth;
use crate::keyspace::Entry;
use crate::persist::rdb::SaveVersion;
use crate::resp::command;
use crate::structs::number::{I64Buf, format_i64, format_u64};

/// The longest line that is read.
const LINE_BYTES_MAX: usize = 1024;

/// What is to be said.
pub struct Plan {
    pub auth: Option<Auth>,
    /// As the client has named it: what the target thinks of it is the target's to say.
    pub db: i64,
    /// The keys with their values, as they were when the command ran.
    pub entries: Vec<Entry>,
    pub replaces: bool,
    /// The target is to take keys of a slot that is not its own yet.
    pub is_asking: bool,
    pub version: SaveVersion,
    pub compresses: bool,
    /// The wall clock at that time.
    pub now_ms: u64,
}

/// What the target has said that is no reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Garbage;

pub struct Exchange<'p> {
    plan: &'p Plan,
    selects: bool,
    /// The next key to be sent.
    next: usize,
    /// Replies that come before those of keys.
    expected_before: usize,
    /// Whose replies are to come, in this order.
    sent: Vec<usize>,
    answered: usize,
    acked: Vec<bool>,
    refusal: Option<Box<[u8]>>,
    /// AUTH or SELECT was refused: what follows was done by somebody else, or elsewhere.
    is_void: bool,
    line: Vec<u8>,
}

impl<'p> Exchange<'p> {
    /// A conversation over a connection that is in this database, if that is known.
    pub fn new(plan: &'p Plan, connection_db: Option<i64>) -> Exchange<'p> {
        let selects = connection_db != Some(plan.db);
        Exchange {
            plan,
            selects,
            next: 0,
            expected_before: usize::from(plan.auth.is_some()) + usize::from(selects),
            sent: Vec::new(),
            answered: 0,
            acked: vec![false; plan.entries.len()],
            refusal: None,
            is_void: false,
            line: Vec::new(),
        }
    }

    /// What is said before all keys.
    pub fn open(&self, out: &mut Vec<u8>) {
        if let Some(Auth { user, password }) = &self.plan.auth {
            let words = [Some(&b"AUTH"[..]), user.as_deref(), Some(password)];
            let words: Vec<&[u8]> = words.into_iter().flatten().collect();
            command::put(out, words.into_iter());
        }
        if self.selects {
            let mut digits = I64Buf::new();
            let db = format_i64(self.plan.db, &mut digits);
            command::put(out, [b"SELECT", db].into_iter());
        }
    }

    /// The next key, which is to be sent, with the time that it has left, 0 for ever; none when all
    /// have been. One whose time has come since the command ran is passed over.
    pub fn next(&mut self, now_ms: u64) -> Option<(&'p Entry, u64)> {
        while let Some(entry) = self.plan.entries.get(self.next) {
            let at = self.next;
            self.next += 1;
            let ttl_ms = match entry.expiry_ms() {
                None => 0,
                Some(at_ms) if at_ms < now_ms => continue,
                Some(at_ms) => (at_ms - now_ms).max(1),
            };
            self.sent.push(at);
            return Some((entry, ttl_ms));
        }
        None
    }

    /// What stands before a key's payload, and what behind it.
    pub fn wrap(&self, entry: &Entry, ttl_ms: u64, payload_len: usize) -> (Vec<u8>, &'static [u8]) {
        let replaces = self.plan.replaces;
        let verb: &[u8] = if self.plan.is_asking { b"RESTORE-ASKING" } else { b"RESTORE" };
        let mut head = Vec::with_capacity(entry.key().len() + 64);
        command::put_header(&mut head, b'*', if replaces { 5 } else { 4 });
        command::put_bulk(&mut head, verb);
        command::put_bulk(&mut head, entry.key());
        command::put_bulk(&mut head, format_u64(ttl_ms, &mut I64Buf::new()));
        command::put_header(&mut head, b'$', payload_len);
        (head, if replaces { b"\r\n$7\r\nREPLACE\r\n" } else { b"\r\n" })
    }

    /// Takes in what has come; whether a reply has ended by it.
    pub fn take(&mut self, bytes: &[u8]) -> Result<bool, Garbage> {
        let before = self.answered;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(line);
            if self.line.len() > LINE_BYTES_MAX {
                return Err(Garbage);
            }
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.take_line(line.trim_ascii_end())?;
            }
        }
        Ok(self.answered > before)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), Garbage> {
        let refusal = match line.split_first() {
            Some((b'+', _)) => None,
            Some((b'-', text)) => Some(text),
            _ => return Err(Garbage),
        };
        let at = self.answered;
        self.answered += 1;
        if let Some(text) = refusal {
            self.refusal.get_or_insert_with(|| text.into());
        }
        match at.checked_sub(self.expected_before) {
            None => self.is_void |= refusal.is_some(),
            Some(nth) => {
                let key = *self.sent.get(nth).ok_or(Garbage)?;
                self.acked[key] = refusal.is_none() && !self.is_void;
            }
        }
        Ok(())
    }

    /// Nothing has been answered: whatever was sent may be sent again.
    pub fn has_heard_nothing(&self) -> bool {
        self.answered == 0 && self.line.is_empty()
    }

    /// All has been sent and answered.
    pub fn is_complete(&self) -> bool {
        let is_sent = self.next == self.plan.entries.len();
        is_sent && self.answered == self.expected_before + self.sent.len()
    }

    /// The database that the connection is in now, if that is sure.
    pub fn connection_db(&self) -> Option<i64> {
        (self.refusal.is_none()).then_some(self.plan.db)
    }

    /// Which keys the target has, and the first error that it has answered.
    pub fn end(self) -> (Vec<bool>, Option<Box<[u8]>>) {
        (self.acked, self.refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::NewValue;
    use crate::types::Encoding;

    const NOW_MS: u64 = 1_000_000;

    fn plan(keys: &[(&str, Option<u64>)]) -> Plan {
        let entry = |(key, expiry_ms): &(&str, Option<u64>)| {
            let value = NewValue::Bytes(b"v");
            Entry::new(key.as_bytes(), value, Encoding::of_whole(b"v"), *expiry_ms)
        };
        Plan {
            auth: None,
            db: 3,
            entries: keys.iter().map(entry).collect(),
            replaces: false,
            is_asking: false,
            version: SaveVersion::default(),
            compresses: true,
            now_ms: NOW_MS,
        }
    }

    /// Everything that is said, with `PAYLOAD` for each payload.
    fn said(exchange: &mut Exchange<'_>) -> String {
        let mut out = Vec::new();
        exchange.open(&mut out);
        while let Some((entry, ttl_ms)) = exchange.next(NOW_MS) {
            let (head, tail) = exchange.wrap(entry, ttl_ms, 7);
            out.extend([&head[..], b"PAYLOAD", tail].concat());
        }
        let mut words = Vec::new();
        while let Some((command, len)) = command::read(&out) {
            let text = command.iter().map(|word| String::from_utf8_lossy(word).into_owned());
            words.push(text.collect::<Vec<_>>().join(" "));
            out.drain(..len);
        }
        assert!(out.is_empty(), "it is whole requests");
        words.join("|")
    }

    #[test]
    fn requests_go_out_one_behind_the_other() {
        let mut plan = plan(&[
            ("stays", None),
            ("ends", Some(NOW_MS + 70)),
            ("ended", Some(NOW_MS - 1)),
            ("ends now", Some(NOW_MS)),
        ]);
        let restores = "RESTORE stays 0 PAYLOAD|RESTORE ends 70 PAYLOAD|RESTORE ends now 1 PAYLOAD";
        let mut exchange = Exchange::new(&plan, None);
        assert_eq!(said(&mut exchange), format!("SELECT 3|{restores}"));
        assert!(!exchange.is_complete());
        assert_eq!(said(&mut Exchange::new(&plan, Some(3))), restores);
        plan.auth = Some(Auth { user: None, password: (*b"p").into() });
        assert_eq!(said(&mut Exchange::new(&plan, Some(3))), format!("AUTH p|{restores}"));
        plan.auth = Some(Auth { user: Some((*b"u").into()), password: (*b"p").into() });
        (plan.replaces, plan.is_asking, plan.db) = (true, true, -1);
        let restores = restores.replace("RESTORE", "RESTORE-ASKING");
        let restores = restores.replace("PAYLOAD", "PAYLOAD REPLACE");
        assert_eq!(
            said(&mut Exchange::new(&plan, Some(3))),
            format!("AUTH u p|SELECT -1|{restores}")
        );
    }

    #[test]
    fn replies_belong_to_keys_in_their_order() {
        let plan = plan(&[("a", None), ("gone", Some(1)), ("b", None), ("c", None)]);
        let mut exchange = Exchange::new(&plan, None);
        said(&mut exchange);
        assert!(exchange.has_heard_nothing());
        // They come in whatever pieces.
        for piece in ["+O", "K\r\n+OK\r\n-BUSYKEY it is ", "there\r", "\n"] {
            assert!(exchange.take(piece.as_bytes()).is_ok());
        }
        assert!(!exchange.is_complete() && !exchange.has_heard_nothing());
        assert_eq!(exchange.take(b"+OK\r\n"), Ok(true));
        assert!(exchange.is_complete());
        assert_eq!(exchange.connection_db(), None);
        let (acked, refusal) = exchange.end();
        assert_eq!(acked, [true, false, false, true]);
        assert_eq!(refusal.as_deref(), Some(&b"BUSYKEY it is there"[..]));
    }

    #[test]
    fn nothing_counts_behind_a_refused_auth_or_select() {
        for (replies, refused) in [("-A\r\n+OK\r\n+OK\r\n", "A"), ("+OK\r\n-S\r\n+OK\r\n", "S")] {
            let mut plan = plan(&[("a", None)]);
            plan.auth = Some(Auth { user: None, password: (*b"p").into() });
            let mut exchange = Exchange::new(&plan, None);
            said(&mut exchange);
            assert_eq!(exchange.take(replies.as_bytes()), Ok(true));
            assert!(exchange.is_complete());
            let (acked, refusal) = exchange.end();
            assert_eq!((acked, refusal.as_deref()), (vec![false], Some(refused.as_bytes())));
        }
    }

    #[test]
    fn what_is_no_reply_acknowledges_nothing() {
        let endless = "+".repeat(LINE_BYTES_MAX + 1);
        let too_many = "+OK\r\n".repeat(3);
        for garbage in ["HTTP/1.1 400\r\n", ":1\r\n", "$2\r\nOK\r\n", "\r\n", &endless, &too_many] {
            let plan = plan(&[("a", None)]);
            let mut exchange = Exchange::new(&plan, None);
            said(&mut exchange);
            assert_eq!(exchange.take(garbage.as_bytes()), Err(Garbage), "{garbage:.20}");
            assert!(garbage == too_many || exchange.end().0 == [false]);
        }
    }

    #[test]
    fn a_reply_that_comes_before_its_request_is_none() {
        let plan = plan(&[("a", None)]);
        let mut exchange = Exchange::new(&plan, Some(3));
        assert_eq!(exchange.take(b"+OK\r\n"), Err(Garbage));
        assert_eq!(exchange.end().0, [false]);
    }
}
