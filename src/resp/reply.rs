//! Replies on their way out: a client's output buffer and the writer of RESP2 and RESP3.
//!
//! `ReplyBuf` is one contiguous run of bytes, because most replies are a few bytes and most clients
//! take all of them in one write. Only a long payload that is shared with the keyspace stays where
//! it is: the buffer notes at which of its bytes the payload belongs, and `slices` hands the socket
//! the pieces in order. A chain of blocks (Redis's way) was refused: it costs an allocation and a
//! branch for each reply. Only what a slow reader leaves becomes a chain: between two replies a
//! long run is set aside as a payload of its own, so that no growth copies all of it.
//!
//! `Reply` knows the client's protocol and writes each type as that protocol has it, so a handler
//! says `map` or `double` once and RESP2 clients get the flat array or the bulk string they know.
//!
//! Invariants: `head` never passes the first splice's position; splices are in order of position; a
//! simple string or an error never holds CR, LF or NUL, whatever text it is given.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::io::{IoSlice, Write};

use crate::structs::memory;
use crate::structs::number::{F64Buf, I64Buf, format_f64, format_i64};

/// The version of the protocol a client has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Resp2,
    Resp3,
}

/// A long string that the keyspace, requests and replies share.
pub use crate::structs::SharedBytes;

/// Shared payloads from this length on are spliced in; below it a copy is cheaper.
pub const SPLICE_LEN_MIN: usize = 16 * 1024;

/// Written bytes at the buffer's front are dropped once there are this many of them.
const COMPACT_LEN_MIN: usize = 64 * 1024;

/// How long the pieces are that a huge output is cut into.
const PIECE_LEN: usize = 256 * 1024;

/// How much memory may lie idle while that is done.
const SLACK_MAX: usize = 16 * 1024 * 1024;

/// A payload that belongs between two bytes of the buffer.
struct Splice {
    /// How many of the buffer's own bytes come before the payload.
    at: usize,
    payload: SharedBytes,
    /// It is a piece of this output alone, not of the data.
    is_own: bool,
}

impl Splice {
    fn piece(at: usize, bytes: Vec<u8>) -> Splice {
        Splice { at, payload: SharedBytes::new(bytes), is_own: true }
    }

    fn own_len(&self) -> usize {
        if self.is_own { self.payload.len() } else { 0 }
    }
}

/// One client's output that is not written yet.
#[derive(Default)]
pub struct ReplyBuf {
    bytes: Vec<u8>,
    /// How many of `bytes` are written.
    head: usize,
    splices: VecDeque<Splice>,
    /// How much of the first splice is written.
    splice_head: usize,
    /// The lengths of all splices together.
    spliced_len: usize,
    /// The lengths of those that are pieces of this output alone.
    own_spliced_len: usize,
    /// The system had no memory for some of it: the reply is not whole.
    is_refused: bool,
}

/// A place in the output to return to; it dies with the next `advance`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    bytes: usize,
    splices: usize,
}

impl ReplyBuf {
    pub fn new() -> ReplyBuf {
        ReplyBuf::default()
    }

    /// Starts with the memory of a pooled buffer.
    pub fn with_bytes(mut bytes: Vec<u8>) -> ReplyBuf {
        bytes.clear();
        ReplyBuf { bytes, ..ReplyBuf::default() }
    }

    /// Holds these bytes.
    pub fn with_written(bytes: Vec<u8>) -> ReplyBuf {
        ReplyBuf { bytes, ..ReplyBuf::default() }
    }

    /// The bytes of a fresh output without spliced payloads.
    pub fn take_written(&mut self) -> Vec<u8> {
        debug_assert!(self.head == 0 && self.splices.is_empty(), "all of it is its own bytes");
        std::mem::take(&mut self.bytes)
    }

    /// Takes the first bytes out, as an output of their own. They are copied: this is for what is
    /// rarely done.
    pub fn split_front(&mut self, count: usize) -> ReplyBuf {
        let mut front = ReplyBuf::new();
        while front.len() < count && !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = self.slices(&mut slices, count - front.len());
            slices[..filled].iter().for_each(|slice| front.append_raw(slice));
            let taken = slices[..filled].iter().map(|slice| slice.len()).sum();
            self.advance(taken);
        }
        front
    }

    /// Gives the memory back to a pool; what was not written is lost.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        self.clear();
        std::mem::take(&mut self.bytes)
    }

    /// How many bytes are still to be written.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.head + self.spliced_len - self.splice_head
    }

    /// The first byte, if it is one of a reply and not of a payload that is shared.
    pub fn first_byte(&self) -> Option<u8> {
        self.bytes.get(self.head).copied()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory this output holds; spliced payloads count in full.
    #[cfg(test)]
    fn memory(&self) -> usize {
        self.bytes.capacity() + self.splices.capacity() * size_of::<Splice>() + self.spliced_len
    }

    /// The memory that it holds for itself alone: spliced payloads may be part of the data.
    pub fn own_memory(&self) -> usize {
        let table = self.splices.capacity() * size_of::<Splice>();
        self.bytes.capacity() + table + self.own_spliced_len
    }

    pub fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.len(), splices: self.splices.len() }
    }

    /// Whether the reply that is being written is not whole, since the system had no memory for
    /// it; `truncate` ends that.
    #[inline]
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Finds room for so many bytes; false if there is none, and then nothing more is written.
    #[inline]
    fn make_room(&mut self, len: usize) -> bool {
        self.bytes.capacity() - self.bytes.len() >= len || self.grow(len)
    }

    #[cold]
    fn grow(&mut self, len: usize) -> bool {
        self.is_refused |= memory::asking(|| self.bytes.try_reserve(len)).is_err();
        !self.is_refused
    }

    /// Drops all that came after `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        if std::mem::take(&mut self.is_refused) {
            self.bytes.truncate(mark.bytes);
            self.bytes.shrink_to_fit();
        }
        self.bytes.truncate(mark.bytes);
        while self.splices.len() > mark.splices {
            let splice = self.splices.pop_back().expect("the loop checked the length");
            self.spliced_len -= splice.payload.len();
            self.own_spliced_len -= splice.own_len();
        }
    }

    /// Takes out all that came after `mark`.
    pub fn split_off(&mut self, mark: Mark) -> ReplyBuf {
        let mut tail = ReplyBuf::with_bytes(Vec::new());
        tail.bytes = self.bytes.split_off(mark.bytes);
        tail.is_refused = std::mem::take(&mut self.is_refused);
        for splice in self.splices.split_off(mark.splices) {
            self.spliced_len -= splice.payload.len();
            self.own_spliced_len -= splice.own_len();
            tail.spliced_len += splice.payload.len();
            tail.own_spliced_len += splice.own_len();
            tail.splices.push_back(Splice { at: splice.at - mark.bytes, ..splice });
        }
        tail
    }

    /// Appends bytes that are protocol already.
    #[inline]
    pub fn append_raw(&mut self, bytes: &[u8]) {
        if self.make_room(bytes.len()) {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Appends another output, spliced payloads uncopied.
    pub fn append(&mut self, mut other: ReplyBuf) {
        self.take_from(&mut other);
    }

    /// The same, and leaves an empty output that keeps its memory.
    pub fn take_from(&mut self, other: &mut ReplyBuf) {
        let offset = self.bytes.len();
        let head = std::mem::take(&mut other.head);
        debug_assert_eq!(other.splice_head, 0, "only fresh output is appended");
        for splice in other.splices.drain(..) {
            self.spliced_len += splice.payload.len();
            self.own_spliced_len += splice.own_len();
            self.splices.push_back(Splice { at: offset + splice.at - head, ..splice });
        }
        (other.spliced_len, other.own_spliced_len) = (0, 0);
        if self.make_room(other.bytes.len() - head) {
            self.bytes.extend_from_slice(&other.bytes[head..]);
        }
        other.bytes.clear();
        self.is_refused |= std::mem::take(&mut other.is_refused);
    }

    /// Cuts a huge output into pieces, for a writer on another thread: whoever sends it then
    /// moves none of its bytes, and frees it piece by piece. The memory shrinks as the pieces
    /// grow.
    pub fn cut_up(&mut self) {
        if self.bytes.len() <= PIECE_LEN {
            return;
        }
        debug_assert_eq!((self.head, self.splice_head), (0, 0), "nothing is sent yet");
        let mut pieces = VecDeque::new();
        let mut splices = std::mem::take(&mut self.splices);
        loop {
            let floor = splices.back().map_or(0, |splice| splice.at);
            while self.bytes.len() > floor {
                let start = self.bytes.len().saturating_sub(PIECE_LEN).max(floor);
                let piece = self.bytes.split_off(start);
                self.spliced_len += piece.len();
                self.own_spliced_len += piece.len();
                pieces.push_front(Splice::piece(0, piece));
                if self.bytes.capacity() - self.bytes.len() >= SLACK_MAX {
                    self.bytes.shrink_to_fit();
                }
            }
            let Some(splice) = splices.pop_back() else { break };
            pieces.push_front(Splice { at: 0, ..splice });
        }
        self.bytes = Vec::new();
        self.splices = pieces;
    }

    /// Appends a payload without copying it when it is long.
    pub fn append_shared(&mut self, payload: &SharedBytes) {
        if payload.len() < SPLICE_LEN_MIN {
            return self.append_raw(payload);
        }
        self.spliced_len += payload.len();
        let (at, payload) = (self.bytes.len(), payload.clone());
        self.splices.push_back(Splice { at, payload, is_own: false });
    }

    /// Sets the bytes aside as pieces once there are many; to be called between replies, since it
    /// moves what marks and deferred aggregates point to.
    #[inline]
    pub fn set_aside_if_full(&mut self) {
        if self.bytes.len() >= PIECE_LEN {
            self.set_aside();
        }
    }

    #[cold]
    fn set_aside(&mut self) {
        // The reply that fills it fits in as well, unless it is a long one.
        let next = Vec::with_capacity(PIECE_LEN + PIECE_LEN / 4);
        let bytes = std::mem::replace(&mut self.bytes, next);
        let mut start = std::mem::take(&mut self.head);
        let behind = self.splices.partition_point(|splice| splice.at <= start);
        let later = self.splices.split_off(behind);
        self.splices.iter_mut().for_each(|splice| splice.at = 0);
        if start == 0 && later.is_empty() {
            return self.push_piece(bytes);
        }
        for splice in later {
            self.push_piece(bytes[start..splice.at].to_vec());
            start = splice.at;
            self.splices.push_back(Splice { at: 0, ..splice });
        }
        self.push_piece(bytes[start..].to_vec());
    }

    fn push_piece(&mut self, piece: Vec<u8>) {
        if !piece.is_empty() {
            self.spliced_len += piece.len();
            self.own_spliced_len += piece.len();
            self.splices.push_back(Splice::piece(0, piece));
        }
    }

    /// Fills `out` with the next pieces to write, in order and up to so many bytes; answers how
    /// many it filled.
    pub fn slices<'a, const N: usize>(
        &'a self,
        out: &mut [IoSlice<'a>; N],
        mut max_bytes: usize,
    ) -> usize {
        let mut filled = 0;
        for piece in self.pieces().take(N) {
            if max_bytes == 0 {
                break;
            }
            let piece = &piece[..piece.len().min(max_bytes)];
            max_bytes -= piece.len();
            out[filled] = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Copies out all that is still to be written.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        for piece in self.pieces() {
            all.extend_from_slice(piece);
        }
        all
    }

    /// All that is still to be written, copied only if it is not in one place.
    pub fn whole(&self) -> Cow<'_, [u8]> {
        if self.splices.is_empty() {
            return Cow::Borrowed(&self.bytes[self.head..]);
        }
        Cow::Owned(self.to_vec())
    }

    /// The unwritten pieces, none of them empty.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut head = self.head;
        let mut splice_head = self.splice_head;
        let mut splices = self.splices.iter();
        let own_then_splice = std::iter::from_fn(move || {
            let splice = splices.next();
            let end = splice.map_or(self.bytes.len(), |splice| splice.at);
            let own = &self.bytes[head..end];
            head = end;
            let shared = splice.map_or(&[][..], |splice| &splice.payload[splice_head..]);
            splice_head = 0;
            (splice.is_some() || !own.is_empty()).then_some([own, shared])
        });
        own_then_splice.flatten().filter(|piece| !piece.is_empty())
    }

    /// Notes that the next `count` bytes are written.
    pub fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        let mut left = count;
        while let Some(splice) = self.splices.front() {
            let own = left.min(splice.at - self.head);
            self.head += own;
            left -= own;
            let shared = splice.payload.len() - self.splice_head;
            if self.head < splice.at || left < shared {
                self.splice_head += left;
                return;
            }
            left -= shared;
            self.spliced_len -= splice.payload.len();
            self.own_spliced_len -= splice.own_len();
            self.splice_head = 0;
            self.splices.pop_front();
        }
        self.head += left;
        if self.head == self.bytes.len() {
            self.bytes.clear();
            self.head = 0;
        } else if self.head >= COMPACT_LEN_MIN && self.head >= self.bytes.len() / 2 {
            self.compact();
        }
    }

    /// Drops the written bytes at the front. Called when they are half of the buffer, so each byte
    /// is moved once at most on average.
    fn compact(&mut self) {
        self.bytes.drain(..self.head);
        for splice in &mut self.splices {
            splice.at -= self.head;
        }
        self.head = 0;
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.head = 0;
        self.splices.clear();
        self.splice_head = 0;
        self.spliced_len = 0;
        self.own_spliced_len = 0;
        self.is_refused = false;
    }

    #[inline]
    pub fn writer(&mut self, protocol: Protocol) -> Reply<'_> {
        Reply { out: self, protocol }
    }
}

impl fmt::Debug for ReplyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyBuf").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The place of an aggregate whose length is not known yet; give it back to one of the `end_`s.
#[must_use = "an aggregate that is not ended leaves a reply without a header"]
#[derive(Debug)]
pub struct Deferred {
    at: usize,
    splices: usize,
}

/// How many headers of each kind are kept ready.
const HEADER_COUNT: usize = 1024;

/// A header in eight bytes, so that it is copied as one word, and its true length.
#[derive(Clone, Copy)]
struct Header {
    bytes: [u8; 7],
    len: u8,
}

static BULK_HEADERS: [Header; HEADER_COUNT] = headers(b'$');
static ARRAY_HEADERS: [Header; HEADER_COUNT] = headers(b'*');
static INTEGERS: [Header; HEADER_COUNT] = headers(b':');

const fn headers(prefix: u8) -> [Header; HEADER_COUNT] {
    let mut table = [Header { bytes: [0; 7], len: 0 }; HEADER_COUNT];
    let mut number = 0;
    while number < HEADER_COUNT {
        let mut bytes = [prefix, 0, 0, 0, 0, 0, 0];
        let mut len = 1;
        let mut power = 1000;
        while power > 0 {
            if number >= power || power == 1 {
                bytes[len] = b'0' + (number / power % 10) as u8;
                len += 1;
            }
            power /= 10;
        }
        bytes[len] = b'\r';
        bytes[len + 1] = b'\n';
        table[number] = Header { bytes, len: len as u8 + 2 };
        number += 1;
    }
    table
}

/// Writes replies into one client's output in the client's protocol.
pub struct Reply<'a> {
    out: &'a mut ReplyBuf,
    protocol: Protocol,
}

impl Reply<'_> {
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn is_resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    /// Speaks this protocol from here on.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// The output itself, for marks and bytes that are protocol already.
    pub fn buffer(&mut self) -> &mut ReplyBuf {
        self.out
    }

    #[inline]
    pub fn ok(&mut self) {
        self.out.append_raw(b"+OK\r\n");
    }

    /// A simple string; line breaks in it become spaces.
    #[inline]
    pub fn simple(&mut self, text: &[u8]) {
        self.line(b'+', text);
    }

    /// An error. The text begins with the code: `ERR syntax error`.
    pub fn error(&mut self, text: &[u8]) {
        self.line(b'-', text);
    }

    /// A line of text after `prefix`: line breaks at the ends go, those within become spaces.
    fn line(&mut self, prefix: u8, text: &[u8]) {
        let text = trim_line_breaks(text);
        if !self.out.make_room(text.len() + 3) {
            return;
        }
        self.out.bytes.push(prefix);
        let start = self.out.bytes.len();
        self.out.append_raw(text);
        if memchr::memchr3(b'\r', b'\n', 0, text).is_some() {
            for byte in &mut self.out.bytes[start..] {
                if matches!(*byte, b'\r' | b'\n' | 0) {
                    *byte = b' ';
                }
            }
        }
        self.out.append_raw(b"\r\n");
    }

    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.header(&INTEGERS, b':', value);
    }

    #[inline]
    pub fn bulk(&mut self, payload: &[u8]) {
        if !self.out.make_room(payload.len() + 32) {
            return;
        }
        self.header(&BULK_HEADERS, b'$', payload.len() as i64);
        self.out.append_raw(payload);
        self.out.append_raw(b"\r\n");
    }

    /// A bulk string whose payload is not copied when it is long.
    pub fn bulk_shared(&mut self, payload: &SharedBytes) {
        self.header(&BULK_HEADERS, b'$', payload.len() as i64);
        self.out.append_shared(payload);
        self.out.append_raw(b"\r\n");
    }

    /// An integer as a bulk string.
    #[inline]
    pub fn bulk_i64(&mut self, value: i64) {
        self.bulk(format_i64(value, &mut I64Buf::new()));
    }

    /// Formatted text as a bulk string: `reply.bulk_fmt(format_args!("{a}:{b}"))`.
    pub fn bulk_fmt(&mut self, text: fmt::Arguments<'_>) {
        if let Some(text) = text.as_str() {
            return self.bulk(text.as_bytes());
        }
        if !self.out.make_room(64) {
            return;
        }
        let start = self.out.bytes.len();
        write!(self.out.bytes, "{text}").expect("a vector takes all bytes");
        let len = self.out.bytes.len() - start;
        self.insert_header(start, b'$', len);
        self.out.append_raw(b"\r\n");
    }

    #[inline]
    pub fn null(&mut self) {
        self.out.append_raw(if self.is_resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    #[inline]
    pub fn null_array(&mut self) {
        self.out.append_raw(if self.is_resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(&ARRAY_HEADERS, b'*', len as i64);
    }

    /// A map of `len` pairs; keys and values follow in turns.
    pub fn map(&mut self, len: usize) {
        if self.is_resp3() {
            self.long_header(b'%', len as i64);
        } else {
            self.array(len * 2);
        }
    }

    pub fn set(&mut self, len: usize) {
        self.resp3_aggregate(b'~', len);
    }

    /// An out-of-band message; RESP2 has only arrays for it.
    pub fn push(&mut self, len: usize) {
        self.resp3_aggregate(b'>', len);
    }

    /// Attributes of the reply that follows, `len` pairs of them. RESP2 has no such thing, and a
    /// caller that wrote the pairs there would break the stream: ask `protocol` first.
    pub fn attribute(&mut self, len: usize) {
        debug_assert!(self.is_resp3(), "attributes exist in RESP3 only");
        self.long_header(b'|', len as i64);
    }

    fn resp3_aggregate(&mut self, prefix: u8, len: usize) {
        if self.is_resp3() {
            self.long_header(prefix, len as i64);
        } else {
            self.array(len);
        }
    }

    pub fn double(&mut self, value: f64) {
        self.double_text(format_f64(value, &mut F64Buf::new()));
    }

    /// A double that is text already, such as a long double's.
    pub fn double_text(&mut self, text: &[u8]) {
        if self.is_resp3() { self.line(b',', text) } else { self.bulk(text) }
    }

    pub fn big_number(&mut self, digits: &[u8]) {
        if self.is_resp3() { self.line(b'(', digits) } else { self.bulk(digits) }
    }

    pub fn boolean(&mut self, value: bool) {
        self.out.append_raw(match (self.protocol, value) {
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp2, false) => b":0\r\n",
        });
    }

    /// Text with a three-letter format, `txt` or `mkd`.
    pub fn verbatim(&mut self, format: &[u8; 3], text: &[u8]) {
        if !self.is_resp3() {
            return self.bulk(text);
        }
        self.long_header(b'=', text.len() as i64 + 4);
        self.out.append_raw(format);
        self.out.append_raw(b":");
        self.out.append_raw(text);
        self.out.append_raw(b"\r\n");
    }

    /// Starts an aggregate whose length will be known only when its elements are written.
    pub fn begin_deferred(&mut self) -> Deferred {
        Deferred { at: self.out.bytes.len(), splices: self.out.splices.len() }
    }

    pub fn end_array(&mut self, deferred: Deferred, len: usize) {
        self.end_deferred(deferred, b'*', len);
    }

    /// Ends a map of `len` pairs.
    pub fn end_map(&mut self, deferred: Deferred, len: usize) {
        match self.protocol {
            Protocol::Resp3 => self.end_deferred(deferred, b'%', len),
            Protocol::Resp2 => self.end_deferred(deferred, b'*', len * 2),
        }
    }

    pub fn end_set(&mut self, deferred: Deferred, len: usize) {
        self.end_deferred(deferred, if self.is_resp3() { b'~' } else { b'*' }, len);
    }

    fn end_deferred(&mut self, deferred: Deferred, prefix: u8, len: usize) {
        let before = self.out.bytes.len();
        self.insert_header(deferred.at, prefix, len);
        let width = self.out.bytes.len() - before;
        for splice in self.out.splices.iter_mut().skip(deferred.splices) {
            splice.at += width;
        }
    }

    /// Opens a gap at `at` and writes a header there. One move of the elements is cheaper than
    /// counting them in a first pass, and nothing is moved more often than aggregates nest.
    fn insert_header(&mut self, at: usize, prefix: u8, len: usize) {
        let end = self.out.bytes.len();
        self.long_header(prefix, len as i64);
        let width = self.out.bytes.len() - end;
        self.out.bytes[at..].rotate_right(width);
    }

    #[inline]
    fn header(&mut self, table: &[Header; HEADER_COUNT], prefix: u8, number: i64) {
        if !self.out.make_room(32) {
            return;
        }
        if let Some(header) = usize::try_from(number).ok().and_then(|idx| table.get(idx)) {
            // Seven bytes are one store; cutting the excess off costs less than a copy by length.
            let end = self.out.bytes.len() + usize::from(header.len);
            self.out.bytes.extend_from_slice(&header.bytes);
            self.out.bytes.truncate(end);
        } else {
            self.long_header(prefix, number);
        }
    }

    #[inline(never)]
    fn long_header(&mut self, prefix: u8, number: i64) {
        let mut buffer = I64Buf::new();
        let digits = format_i64(number, &mut buffer);
        if !self.out.make_room(digits.len() + 3) {
            return;
        }
        self.out.bytes.push(prefix);
        self.out.append_raw(digits);
        self.out.append_raw(b"\r\n");
    }
}

fn trim_line_breaks(text: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(*byte, b'\r' | b'\n');
    let Some(start) = text.iter().position(is_text) else { return &[] };
    let end = text.iter().rposition(is_text).expect("there is a first one");
    &text[start..=end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = ReplyBuf::new();
        write(&mut out.writer(protocol));
        String::from_utf8(out.to_vec()).expect("ASCII")
    }

    type Case = (fn(&mut Reply<'_>), &'static str, &'static str);

    #[test]
    fn each_type_in_both_protocols() {
        let table: [Case; 33] = [
            (|reply| reply.ok(), "+OK\r\n", "+OK\r\n"),
            (|reply| reply.simple(b"QUEUED"), "+QUEUED\r\n", "+QUEUED\r\n"),
            (|reply| reply.error(b"ERR no"), "-ERR no\r\n", "-ERR no\r\n"),
            (|reply| reply.integer(0), ":0\r\n", ":0\r\n"),
            (|reply| reply.integer(-1), ":-1\r\n", ":-1\r\n"),
            (|reply| reply.integer(1023), ":1023\r\n", ":1023\r\n"),
            (|reply| reply.integer(1024), ":1024\r\n", ":1024\r\n"),
            (
                |reply| reply.integer(i64::MIN),
                ":-9223372036854775808\r\n",
                ":-9223372036854775808\r\n",
            ),
            (|reply| reply.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|reply| reply.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
            (|reply| reply.bulk_i64(-17), "$3\r\n-17\r\n", "$3\r\n-17\r\n"),
            (|reply| reply.bulk_fmt(format_args!("{}-{}", 1, 2)), "$3\r\n1-2\r\n", "$3\r\n1-2\r\n"),
            (|reply| reply.null(), "$-1\r\n", "_\r\n"),
            (|reply| reply.null_array(), "*-1\r\n", "_\r\n"),
            (|reply| reply.array(10), "*10\r\n", "*10\r\n"),
            (|reply| reply.array(100_000), "*100000\r\n", "*100000\r\n"),
            (|reply| reply.map(2), "*4\r\n", "%2\r\n"),
            (|reply| reply.set(2), "*2\r\n", "~2\r\n"),
            (|reply| reply.push(3), "*3\r\n", ">3\r\n"),
            (|reply| reply.double(3.25), "$4\r\n3.25\r\n", ",3.25\r\n"),
            (|reply| reply.double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
            (|reply| reply.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (|reply| reply.double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n"),
            (|reply| reply.double_text(b"0.3"), "$3\r\n0.3\r\n", ",0.3\r\n"),
            (|reply| reply.big_number(b"-123"), "$4\r\n-123\r\n", "(-123\r\n"),
            (|reply| reply.boolean(true), ":1\r\n", "#t\r\n"),
            (|reply| reply.boolean(false), ":0\r\n", "#f\r\n"),
            (|reply| reply.verbatim(b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (|reply| reply.simple(b"\r\na\rb\nc\0d\r\n\n"), "+a b c d\r\n", "+a b c d\r\n"),
            (
                |reply| reply.error(b"ERR '\n' is bad\n"),
                "-ERR ' ' is bad\r\n",
                "-ERR ' ' is bad\r\n",
            ),
            (|reply| reply.error(b""), "-\r\n", "-\r\n"),
            (|reply| reply.simple(b"\n"), "+\r\n", "+\r\n"),
            (|reply| reply.bulk_fmt(format_args!("x")), "$1\r\nx\r\n", "$1\r\nx\r\n"),
        ];
        for (idx, (write, resp2, resp3)) in table.into_iter().enumerate() {
            assert_eq!(written(Protocol::Resp2, write), resp2, "row {idx}");
            assert_eq!(written(Protocol::Resp3, write), resp3, "row {idx}");
        }
        let attribute = written(Protocol::Resp3, |reply| reply.attribute(1));
        assert_eq!(attribute, "|1\r\n");
    }

    #[test]
    fn deferred_lengths_nest() {
        let write = |reply: &mut Reply<'_>| {
            reply.integer(7);
            let outer = reply.begin_deferred();
            let map = reply.begin_deferred();
            reply.bulk(b"k");
            reply.integer(1);
            reply.end_map(map, 1);
            let set = reply.begin_deferred();
            for idx in 0..12 {
                reply.integer(idx);
            }
            reply.end_set(set, 12);
            reply.end_array(outer, 2);
        };
        let twelve: String = (0..12).map(|idx| format!(":{idx}\r\n")).collect();
        let resp2 = written(Protocol::Resp2, write);
        assert_eq!(resp2, format!(":7\r\n*2\r\n*2\r\n$1\r\nk\r\n:1\r\n*12\r\n{twelve}"));
        let resp3 = written(Protocol::Resp3, write);
        assert_eq!(resp3, format!(":7\r\n*2\r\n%1\r\n$1\r\nk\r\n:1\r\n~12\r\n{twelve}"));
    }

    fn shared(byte: u8, len: usize) -> SharedBytes {
        SharedBytes::new(vec![byte; len])
    }

    /// Writes ten long and ten short shared payloads inside a deferred array.
    fn spliced() -> (ReplyBuf, Vec<u8>) {
        let mut out = ReplyBuf::new();
        let mut expected = b"+OK\r\n*20\r\n".to_vec();
        let mut reply = out.writer(Protocol::Resp2);
        reply.ok();
        let array = reply.begin_deferred();
        for idx in 0..10u8 {
            for payload in [shared(idx, SPLICE_LEN_MIN + usize::from(idx)), shared(idx, 3)] {
                reply.bulk_shared(&payload);
                expected.extend_from_slice(format!("${}\r\n", payload.len()).as_bytes());
                expected.extend_from_slice(&payload);
                expected.extend_from_slice(b"\r\n");
            }
        }
        reply.end_array(array, 20);
        (out, expected)
    }

    #[test]
    fn long_shared_payloads_are_spliced_in_order() {
        let (out, expected) = spliced();
        assert_eq!(out.splices.len(), 10);
        assert_eq!(out.len(), expected.len());
        assert!(out.to_vec() == expected);
        assert!(out.memory() >= expected.len());
    }

    #[test]
    fn a_huge_output_is_sent_in_pieces() {
        let (mut out, mut expected) = spliced();
        let tail: Vec<u8> = (0..40_000_000u32).map(|i| (i % 251) as u8).collect();
        out.append_raw(&tail);
        expected.extend_from_slice(&tail);
        out.append_shared(&shared(7, 50_000));
        expected.extend_from_slice(&shared(7, 50_000));
        let len = out.len();
        out.cut_up();
        assert_eq!((out.len(), out.bytes.capacity()), (len, 0));
        assert!(out.splices.iter().all(|splice| splice.payload.len() <= PIECE_LEN));
        let mut all = ReplyBuf::new();
        all.append_raw(b"before");
        all.append(out);
        all.append_raw(b"after");
        assert!(all.to_vec() == [b"before", expected.as_slice(), b"after"].concat());
    }

    #[test]
    fn any_way_of_writing_yields_the_same_bytes() {
        for step in [1, 7, 1000, 16_384, 16_389, 40_000, 1 << 20] {
            let (mut out, expected) = spliced();
            let mut received = Vec::new();
            while !out.is_empty() {
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = out.slices(&mut slices, step);
                let taken = slices[..filled].iter().map(|slice| slice.len()).sum();
                assert!(0 < taken && taken <= step);
                slices[..filled].iter().for_each(|slice| received.extend_from_slice(slice));
                out.advance(taken);
                assert_eq!(out.len() + received.len(), expected.len());
            }
            assert!(received == expected, "step {step}");
            assert_eq!((out.head, out.bytes.len(), out.spliced_len), (0, 0, 0));
        }
    }

    #[test]
    fn what_nobody_reads_is_set_aside_and_leaves_in_order() {
        for taken in [0, 900, 4000] {
            let mut out = ReplyBuf::new();
            let (mut expected, mut received) = (Vec::new(), Vec::new());
            for idx in 0..4000u32 {
                let reply = vec![(idx % 251) as u8; 1000];
                out.append_raw(&reply);
                expected.extend_from_slice(&reply);
                if idx % 100 == 7 {
                    out.append_shared(&shared(9, SPLICE_LEN_MIN));
                    expected.extend_from_slice(&shared(9, SPLICE_LEN_MIN));
                }
                out.set_aside_if_full();
                let count = taken.min(out.len());
                received.extend_from_slice(&out.to_vec()[..count]);
                out.advance(count);
                assert!(out.bytes.capacity() <= 4 * PIECE_LEN, "{}", out.bytes.capacity());
                assert!(out.own_memory() <= out.len() + 5 * PIECE_LEN);
                assert!(taken > 0 || out.own_memory() >= 1000 * idx as usize);
            }
            received.extend_from_slice(&out.to_vec());
            assert!(received == expected, "taken {taken}");
            out.advance(out.len());
            assert_eq!((out.head, out.bytes.len(), out.own_spliced_len), (0, 0, 0));
        }
    }

    #[test]
    fn truncation_returns_to_the_mark() {
        let (mut out, expected) = spliced();
        let mark = out.mark();
        let mut reply = out.writer(Protocol::Resp3);
        reply.bulk_shared(&shared(9, 100_000));
        reply.ok();
        assert_ne!(out.to_vec(), expected);
        out.truncate(mark);
        assert_eq!(out.to_vec(), expected);
    }

    #[test]
    fn a_slow_reader_does_not_make_written_bytes_pile_up() {
        let mut out = ReplyBuf::new();
        for _ in 0..1000 {
            out.append_raw(&[b'x'; 10_000]);
            out.advance(9_990);
        }
        assert_eq!(out.len(), 10_000);
        assert!(out.memory() < 400_000, "{}", out.memory());
        let pooled = out.take_bytes();
        assert!(pooled.is_empty() && pooled.capacity() > 0 && out.is_empty());
        assert!(ReplyBuf::with_bytes(pooled).memory() > 0);
    }
}
