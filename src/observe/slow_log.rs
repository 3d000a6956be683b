//! The slow log: the last commands that kept the executor for long.
//!
//! What is measured is the time that others had to wait. A command whose answer another thread
//! writes counts only with what it did here, however long its own client waited. Words are kept
//! cut to a length, so that the log is small whatever was sent, and secrets are not kept at all.

use crate::resp::Request;
use std::collections::VecDeque;

/// So many words of a request are kept; the last of them says how many more there were.
const WORDS_MAX: usize = 32;

/// So many bytes of a word are kept.
const WORD_BYTES_MAX: usize = 128;

/// An entry as it is found in the log.
pub struct Numbered {
    pub id: u64,
    pub entry: SlowEntry,
}

pub struct SlowEntry {
    pub unix_seconds: u64,
    pub elapsed_us: u64,
    pub words: Vec<Box<[u8]>>,
    pub address: Box<str>,
    pub client_name: Box<str>,
}

#[derive(Default)]
pub struct SlowLog {
    /// The newest first.
    entries: VecDeque<Numbered>,
    next_id: u64,
}

impl SlowLog {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, the newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Numbered> {
        self.entries.iter()
    }

    /// Adds an entry, which gets an id of its own, and drops the oldest beyond a number.
    pub fn add(&mut self, entry: SlowEntry, max_len: u64) {
        if max_len == 0 {
            return self.clear();
        }
        self.entries.push_front(Numbered { id: self.next_id, entry });
        self.next_id += 1;
        self.entries.truncate(usize::try_from(max_len).unwrap_or(usize::MAX));
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// What is kept of a request's words. `is_secret` tells by position which are not.
pub fn kept_words(request: &Request<'_>, is_secret: impl Fn(usize) -> bool) -> Vec<Box<[u8]>> {
    let len = request.len();
    let shown = if len > WORDS_MAX { WORDS_MAX - 1 } else { len };
    let mut words: Vec<Box<[u8]>> = Vec::with_capacity(len.min(WORDS_MAX));
    for (place, word) in request.iter().enumerate().take(shown) {
        words.push(if is_secret(place) { b"(redacted)"[..].into() } else { kept(word) });
    }
    if shown < len {
        words.push(format!("... ({} more arguments)", len - shown).into_bytes().into());
    }
    words
}

fn kept(word: &[u8]) -> Box<[u8]> {
    if word.len() <= WORD_BYTES_MAX {
        return word.into();
    }
    let more = format!("... ({} more bytes)", word.len() - WORD_BYTES_MAX);
    [&word[..WORD_BYTES_MAX], more.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedRequest;

    #[test]
    fn words_are_cut_and_secrets_are_left_out() {
        let long = vec![b'x'; 130];
        let mut words: Vec<&[u8]> = vec![b"AUTH", b"secret", &long];
        words.resize(33, b"w");
        let request = OwnedRequest::from_args(&words);
        let kept = kept_words(&request.as_request(), |place| place == 1);
        assert_eq!(kept.len(), 32);
        assert_eq!(*kept[1], *b"(redacted)");
        assert_eq!(*kept[2], *[&long[..128], b"... (2 more bytes)"].concat());
        assert_eq!(*kept[31], *b"... (2 more arguments)");
        let request = OwnedRequest::from_args(&words[..32]);
        assert_eq!(*kept_words(&request.as_request(), |_| false)[31], *b"w");
    }
}
