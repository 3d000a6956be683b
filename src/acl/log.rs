//! What was refused, for ACL LOG.
//!
//! Strangers write this log: whoever is refused puts an entry into it. So it holds a bounded number
//! of entries of bounded length, and what happens again soon is one entry that counts.

use std::collections::VecDeque;

/// Equal events this close to each other are one entry, if it is among the newest ones.
const JOINED_WITHIN_MS: u64 = 60_000;
const JOINED_AMONG: usize = 10;

/// So much is kept of a name that a client has sent.
const NAME_BYTES_MAX: usize = 1024;

/// Why somebody was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    Auth,
    Command,
    Database,
    Key,
    Channel,
    /// A certificate names nobody who may log in.
    Certificate,
}

impl Reason {
    pub fn word(self) -> &'static str {
        match self {
            Reason::Auth => "auth",
            Reason::Command => "command",
            Reason::Database => "database",
            Reason::Key => "key",
            Reason::Channel => "channel",
            Reason::Certificate => "tls-cert",
        }
    }
}

/// Where it was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    TopLevel,
    Transaction,
    Script,
}

impl Context {
    pub fn word(self) -> &'static str {
        match self {
            Context::TopLevel => "toplevel",
            Context::Transaction => "multi",
            Context::Script => "lua",
        }
    }
}

/// What has happened to whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    pub reason: Reason,
    pub context: Context,
    /// What was asked for: a command, a key, a channel.
    pub object: Box<[u8]>,
    pub user: Box<[u8]>,
}

impl Event {
    pub fn new(reason: Reason, context: Context, object: &[u8], user: &[u8]) -> Event {
        let cut = |name: &[u8]| name[..name.len().min(NAME_BYTES_MAX)].into();
        Event { reason, context, object: cut(object), user: cut(user) }
    }
}

pub struct Entry {
    pub count: u64,
    pub event: Event,
    /// The client in one line, as of the last time.
    pub client: Box<str>,
    pub id: u64,
    pub created_ms: u64,
    pub updated_ms: u64,
}

#[derive(Default)]
pub struct Log {
    /// The newest first.
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl Log {
    pub fn add(&mut self, event: Event, client: String, now_ms: u64, max_len: u64) {
        let max_len = usize::try_from(max_len).unwrap_or(usize::MAX);
        let client = client.into_boxed_str();
        if max_len == 0 {
            return self.entries.clear();
        }
        let is_same = |entry: &Entry| {
            entry.event == event && now_ms.saturating_sub(entry.updated_ms) <= JOINED_WITHIN_MS
        };
        let known = self.entries.iter().take(JOINED_AMONG).position(is_same);
        let mut entry = match known.and_then(|at| self.entries.remove(at)) {
            Some(entry) => entry,
            None => {
                let (id, count) = (self.next_id, 0);
                self.next_id += 1;
                Entry { count, event, client: "".into(), id, created_ms: now_ms, updated_ms: 0 }
            }
        };
        entry.count += 1;
        (entry.client, entry.updated_ms) = (client, now_ms);
        self.entries.push_front(entry);
        self.entries.truncate(max_len);
    }

    /// The entries, the newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Forgets all entries; their numbers go on.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(object: &str) -> Event {
        Event::new(Reason::Key, Context::TopLevel, object.as_bytes(), b"u")
    }

    fn shown(log: &Log) -> Vec<(u64, u64, String)> {
        let object = |entry: &Entry| String::from_utf8_lossy(&entry.event.object).into_owned();
        log.iter().map(|entry| (entry.id, entry.count, object(entry))).collect()
    }

    #[test]
    fn equal_events_that_are_close_are_one_entry() {
        let mut log = Log::default();
        log.add(event("a"), "one".to_owned(), 0, 128);
        log.add(event("b"), "two".to_owned(), 10, 128);
        log.add(event("a"), "three".to_owned(), 60_000, 128);
        assert_eq!(shown(&log), [(0, 2, "a".into()), (1, 1, "b".into())]);
        let first = log.iter().next().expect("it was added");
        assert_eq!((&*first.client, first.created_ms, first.updated_ms), ("three", 0, 60_000));
        log.add(event("a"), String::new(), 120_001, 128);
        assert_eq!(shown(&log)[0], (2, 1, "a".into()));
    }

    #[test]
    fn only_the_newest_ten_are_looked_at() {
        let mut log = Log::default();
        for object in 0..11 {
            log.add(event(&object.to_string()), String::new(), 0, 128);
        }
        log.add(event("0"), String::new(), 0, 128);
        log.add(event("2"), String::new(), 0, 128);
        assert_eq!(log.iter().len(), 12);
        assert_eq!(shown(&log)[..2], [(2, 2, "2".into()), (11, 1, "0".into())]);
    }

    #[test]
    fn it_is_bounded_in_entries_and_in_their_length() {
        let mut log = Log::default();
        for object in 0..100 {
            log.add(event(&object.to_string()), String::new(), 0, 5);
        }
        assert_eq!(shown(&log)[4], (95, 1, "95".into()));
        assert_eq!(log.iter().len(), 5);
        log.add(event(&"k".repeat(5_000)), String::new(), 0, 5);
        assert_eq!(shown(&log)[0].2.len(), NAME_BYTES_MAX);
        log.add(event("x"), String::new(), 0, 0);
        assert_eq!(log.iter().len(), 0);
        log.add(event("x"), String::new(), 0, 5);
        assert_eq!(shown(&log), [(101, 1, "x".into())]);
    }
}
