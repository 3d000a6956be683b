//! The request parser: bytes as they come from a socket in, a queue of whole requests out.
//!
//! A request is a multibulk (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`) or an inline command, a line of
//! words. Both may follow each other in one stream. The parser remembers how far it has come,
//! within an argument and within a header line, so that no byte is looked at twice however the
//! stream is cut; and it queues spans into the read buffer, so that nothing is allocated per
//! request.
//!
//! ```text
//! buffer   | done | request | request | partial request    | free |
//!                   ^popped next        ^request_start  ^position
//! ```
//!
//! A long argument (32 KB and more) arrives in memory of its own ([`incoming`]), which grows with
//! what has arrived: a declared length alone reserves nothing. A long row of short ones never makes
//! the buffer large either: what is parsed of it is set aside as it is, chunk by chunk, and the
//! spans point there, so that growing moves little however much has come.
//!
//! Redis checks its 64 KB line limit only when it finds no line end in what it has read so far,
//! which makes the outcome depend on how the stream was cut. Here the first 64 KB decide.
//!
//! A general RESP decoder was refused: requests never nest, and the limits and error texts are part
//! of the interface.
//!
//! Invariants: spans of queued requests and of the partial one lie below `position`; the buffer
//! moves its bytes only when the queue is empty, or hands them over as a whole; after an error
//! nothing more is parsed.

mod incoming;

use memchr::memchr2;
use std::collections::TryReserveError;

use super::{
    LINE_LEN_MAX, Limits, ProtocolError, Request, SHARED_LEN_MIN, Span, UNAUTHENTICATED_ARGS_MAX,
    UNAUTHENTICATED_BULK_LEN_MAX,
};
use crate::resp::reply::SharedBytes;
use crate::structs::memory;
use crate::structs::number::parse_i64;
use crate::structs::prefetch;
use crate::structs::words::split_in_place;
use incoming::Incoming;

/// How much room a read gets at least, and how much is reserved when there is less.
const READ_LEN_MIN: usize = 4 * 1024;
const READ_LEN: usize = 16 * 1024;

/// What one read takes from a socket at most, so that no client's flood keeps others waiting.
pub const READ_LEN_MAX: usize = 64 * 1024;

/// Up to here a buffer grows by what one read needs, since many clients may have sent a part of a
/// request; beyond by doubling.
const EXACT_LEN_MAX: usize = 64 * 1024;

/// A buffer of this length is not made larger: what is parsed of it is set aside.
const CHUNK_LEN: usize = 256 * 1024;

/// A buffer that has grown beyond this is given back to the allocator once it is empty.
const BUFFER_KEPT_MAX: usize = 128 * 1024;

/// As many spans and queue entries are kept for the next requests.
const SPANS_KEPT_MAX: usize = 4 * 1024;

/// A whole request in the queue.
struct Queued {
    spans_end: usize,
    shared_end: usize,
    stream_end: u64,
    /// The lengths of all arguments up to here.
    args_len_end: usize,
}

/// Room for the socket's next bytes: behind what is in the buffer, and no more than so many.
pub struct Room<'a> {
    pub buffer: &'a mut Vec<u8>,
    pub len: usize,
}

/// How a TLS handshake begins: the kind of the record, and the version's first number.
const TLS_HANDSHAKE: &[u8] = &[0x16, 0x03];

/// Where the parser stands in the partial request.
#[derive(Default)]
struct Cursor {
    /// All below is parsed.
    position: usize,
    /// How far beyond `position` the search for a line's end has come.
    scanned: usize,
    /// How many arguments are still to come; zero between requests.
    args_left: usize,
    /// The length of the argument at `position`, once its header is parsed.
    bulk_len: Option<usize>,
}

/// One connection's read buffer, parse state and queue of requests to execute.
#[derive(Default)]
pub struct RequestReader {
    buffer: Vec<u8>,
    cursor: Cursor,
    /// Where the partial request begins.
    request_start: usize,
    incoming: Option<Incoming>,
    spans: Vec<Span>,
    /// Long arguments, and chunks that short ones lie in.
    shared: Vec<Option<SharedBytes>>,
    shared_len: usize,
    /// The spans before this one point into no buffer that still grows.
    spans_set_aside: usize,
    /// The lengths of all arguments that there are spans of.
    args_len: usize,
    queue: Vec<Queued>,
    /// How many of `queue` are popped.
    popped: usize,
    /// How many bytes of the stream came before the buffer's first.
    stream_base: u64,
    failure: Option<ProtocolError>,
}

impl RequestReader {
    pub fn new() -> RequestReader {
        RequestReader::default()
    }

    /// Where the socket's next bytes go; at least one fits. An error when the system has no memory
    /// for more.
    pub fn room(&mut self) -> Result<Room<'_>, TryReserveError> {
        if self.incoming.as_ref().is_none_or(Incoming::is_whole) {
            return self.buffer_room();
        }
        self.incoming.as_mut().expect("it was just seen").room()
    }

    fn buffer_room(&mut self) -> Result<Room<'_>, TryReserveError> {
        if self.buffer.capacity() - self.buffer.len() < READ_LEN_MIN {
            if self.buffer.len() >= CHUNK_LEN {
                self.set_aside();
            }
            if self.buffer.len() < EXACT_LEN_MAX {
                memory::asking(|| self.buffer.try_reserve_exact(READ_LEN))?;
            } else {
                memory::asking(|| self.buffer.try_reserve(READ_LEN))?;
            }
        }
        let len = (self.buffer.capacity() - self.buffer.len()).min(READ_LEN_MAX);
        Ok(Room { buffer: &mut self.buffer, len })
    }

    /// Hands over what is parsed of the buffer, which its spans then point to: nothing is moved
    /// but what is not parsed yet, less than an argument.
    fn set_aside(&mut self) {
        let parsed = self.cursor.position;
        if parsed < CHUNK_LEN / 2 {
            return;
        }
        let rest = self.buffer.split_off(parsed);
        let chunk = std::mem::replace(&mut self.buffer, rest);
        for span in &mut self.spans[self.spans_set_aside..] {
            span.move_to_chunk(self.shared.len());
        }
        self.spans_set_aside = self.spans.len();
        self.shared_len += chunk.len();
        self.shared.push(Some(SharedBytes::new(chunk)));
        self.stream_base += parsed as u64;
        self.cursor.position = 0;
        self.request_start = 0;
    }

    /// Takes bytes that come from elsewhere than a socket.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room().expect("whoever has the bytes has memory for them");
            let (first, rest) = bytes.split_at(room.len.min(bytes.len()));
            room.buffer.extend_from_slice(first);
            bytes = rest;
        }
    }

    /// Whether nothing of what has come is needed any more, and anybody else's may follow.
    pub fn is_unused(&self) -> bool {
        self.pending() == 0 && !self.partial() && self.failure.is_none()
    }

    /// Brings the first request into the caches, when another thread has written it.
    pub fn prefetch(&self) {
        prefetch::address(self.buffer.as_ptr());
        self.spans.first().inspect(|span| prefetch::value(*span));
        self.queue.first().inspect(|queued| prefetch::value(*queued));
    }

    /// How many whole requests wait to be executed.
    #[inline]
    pub fn pending(&self) -> usize {
        self.queue.len() - self.popped
    }

    /// Whether a part of a request is there.
    pub fn partial(&self) -> bool {
        self.incoming.is_some()
            || self.cursor.args_left > 0
            || self.cursor.position < self.buffer.len()
    }

    /// The waiting request at `idx`, counted from the next one to execute.
    #[inline]
    pub fn request(&self, idx: usize) -> Request<'_> {
        let idx = self.popped + idx;
        let start = if idx == 0 { 0 } else { self.queue[idx - 1].spans_end };
        let spans = &self.spans[start..self.queue[idx].spans_end];
        Request { bytes: &self.buffer, shared: &self.shared, spans }
    }

    /// How many bytes of the stream have come up to the end of the waiting request at `idx`.
    pub fn stream_end(&self, idx: usize) -> u64 {
        self.queue[self.popped + idx].stream_end
    }

    /// Forgets the request that was next.
    #[inline]
    pub fn pop_front(&mut self) {
        debug_assert!(self.pending() > 0);
        if !self.shared.is_empty() {
            self.release_shared();
        }
        self.popped += 1;
        if self.popped == self.queue.len() {
            self.compact();
        }
    }

    fn release_shared(&mut self) {
        let start = if self.popped == 0 { 0 } else { self.queue[self.popped - 1].shared_end };
        for slot in &mut self.shared[start..self.queue[self.popped].shared_end] {
            self.shared_len -= slot.take().map_or(0, |arg| arg.len());
        }
    }

    /// The memory held; long arguments count in full.
    pub fn memory(&self) -> usize {
        self.buffer_memory()
            + self.spans.capacity() * size_of::<Span>()
            + self.queue.capacity() * size_of::<Queued>()
            + self.shared.capacity() * size_of::<Option<SharedBytes>>()
    }

    /// The part of it that holds bytes received, or is kept for such.
    pub fn buffer_memory(&self) -> usize {
        let incoming = self.incoming.as_ref().map_or(0, Incoming::memory);
        self.buffer.capacity() + incoming + self.shared_len
    }

    /// The bytes received and not yet executed, which `client-query-buffer-limit` bounds.
    pub fn buffered_len(&self) -> usize {
        let incoming = self.incoming.as_ref().map_or(0, Incoming::arrived);
        self.buffer.len() + incoming + self.shared_len
    }

    /// What CLIENT LIST shows as the query buffer's use: without what has been read off a request
    /// before its long argument.
    pub fn query_len(&self) -> usize {
        match &self.incoming {
            Some(incoming) if self.pending() == 0 => incoming.arrived(),
            _ => self.buffered_len(),
        }
    }

    /// The lengths of the arguments of all waiting requests and of the partial one.
    pub fn argv_len(&self) -> usize {
        let popped = if self.popped == 0 { 0 } else { self.queue[self.popped - 1].args_len_end };
        self.args_len - popped
    }

    /// Queues what whole requests there are and answers how many wait now. Requests before an error
    /// stay queued: they are executed first. Until a client has authenticated, one request at a
    /// time is queued, for it may be the AUTH that changes the limits.
    pub fn parse(&mut self, limits: &Limits) -> Result<usize, ProtocolError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let outcome = self.parse_all(limits);
        if self.pending() == 0 && self.request_start > 0 {
            self.compact();
        }
        match outcome {
            Ok(()) => Ok(self.pending()),
            Err(failure) => {
                self.failure = Some(failure);
                Err(failure)
            }
        }
    }

    fn parse_all(&mut self, limits: &Limits) -> Result<(), ProtocolError> {
        if self.incoming.is_some() && !self.finish_incoming()? {
            return Ok(());
        }
        while limits.authenticated || self.pending() == 0 {
            if self.cursor.args_left == 0 {
                match self.buffer.get(self.cursor.position).copied() {
                    None => break,
                    Some(b'*') if !self.parse_multibulk_header(limits)? => break,
                    Some(b'*') => {}
                    Some(_) if !self.parse_inline()? => break,
                    Some(_) => continue,
                }
            }
            if self.cursor.args_left > 0 && !self.parse_args(limits)? {
                break;
            }
        }
        Ok(())
    }

    /// Parses `*<count>`; false when the line is not whole yet. A count that is not positive is
    /// skipped.
    #[inline]
    fn parse_multibulk_header(&mut self, limits: &Limits) -> Result<bool, ProtocolError> {
        let cursor = &mut self.cursor;
        if let [_, digit @ b'1'..=b'9', b'\r', _, ..] = self.buffer[cursor.position..] {
            cursor.position += 4;
            cursor.scanned = 0;
            cursor.args_left = usize::from(digit - b'0');
            return Ok(true);
        }
        let Some(line_len) = cursor.find_cr(&self.buffer, ProtocolError::BigMultibulkLine)? else {
            return Ok(false);
        };
        let digits = &self.buffer[cursor.position + 1..cursor.position + line_len];
        let count = parse_i64(digits).filter(|count| *count <= i64::from(i32::MAX));
        let count = count.ok_or(ProtocolError::InvalidMultibulkLen)?;
        if count > UNAUTHENTICATED_ARGS_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedMultibulkLen);
        }
        cursor.take_line(line_len);
        cursor.args_left = usize::try_from(count).unwrap_or(0);
        if cursor.args_left == 0 {
            self.request_start = cursor.position;
        }
        Ok(true)
    }

    /// Parses the arguments of a multibulk; false when more bytes are needed.
    #[inline]
    fn parse_args(&mut self, limits: &Limits) -> Result<bool, ProtocolError> {
        loop {
            let cursor = &mut self.cursor;
            let len = match cursor.bulk_len {
                Some(len) => len,
                None => match cursor.parse_bulk_header(&self.buffer, limits)? {
                    Some(len) => len,
                    None => return Ok(false),
                },
            };
            let start = cursor.position;
            if len >= SHARED_LEN_MIN {
                if !self.take_long_arg(len)? {
                    return Ok(false);
                }
            } else if self.buffer.len() - start < len + 2 {
                cursor.bulk_len = Some(len);
                return Ok(false);
            } else {
                cursor.bulk_len = None;
                cursor.position = start + len + 2;
                self.push_span(Span::short(start, len), len)?;
            }
            self.cursor.args_left -= 1;
            if self.cursor.args_left == 0 {
                self.enqueue();
                return Ok(true);
            }
        }
    }

    /// Takes a long argument that is in the buffer as a whole, or moves what there is of it to
    /// memory of its own; false then.
    fn take_long_arg(&mut self, len: usize) -> Result<bool, ProtocolError> {
        let start = self.cursor.position;
        let arrived = &self.buffer[start..];
        if arrived.len() >= len + 2 {
            let mut arg = Vec::new();
            memory::asking(|| arg.try_reserve_exact(len))?;
            arg.extend_from_slice(&arrived[..len]);
            self.cursor.position += len + 2;
            self.push_shared(arg)?;
            return Ok(true);
        }
        let arrived = &arrived[..arrived.len().min(len)];
        self.incoming = Some(Incoming::begin(len, arrived)?);
        self.buffer.drain(start..start + arrived.len());
        Ok(false)
    }

    /// Ends the arrival of a long argument; false when it, and the CR LF behind it, have not
    /// arrived as a whole.
    fn finish_incoming(&mut self) -> Result<bool, ProtocolError> {
        let has_end = self.buffer.len() - self.cursor.position >= 2;
        let Some(incoming) = self.incoming.take_if(|arg| has_end && arg.is_whole()) else {
            return Ok(false);
        };
        let arg = incoming.into_bytes()?;
        self.stream_base += arg.len() as u64;
        self.cursor.position += 2;
        self.push_shared(arg)?;
        self.cursor.args_left -= 1;
        if self.cursor.args_left == 0 {
            self.enqueue();
        }
        Ok(true)
    }

    fn push_shared(&mut self, arg: Vec<u8>) -> Result<(), ProtocolError> {
        let len = arg.len();
        self.push_span(Span::shared(self.shared.len()), len)?;
        self.shared_len += len;
        self.shared.push(Some(SharedBytes::new(arg)));
        Ok(())
    }

    #[inline]
    fn push_span(&mut self, span: Span, arg_len: usize) -> Result<(), ProtocolError> {
        if self.spans.len() == self.spans.capacity() {
            memory::asking(|| self.spans.try_reserve(1))?;
        }
        self.spans.push(span);
        self.args_len += arg_len;
        Ok(())
    }

    #[inline]
    fn enqueue(&mut self) {
        self.request_start = self.cursor.position;
        self.queue.push(Queued {
            spans_end: self.spans.len(),
            shared_end: self.shared.len(),
            stream_end: self.stream_base + self.cursor.position as u64,
            args_len_end: self.args_len,
        });
    }

    /// Parses a line of words; false when the line is not whole yet. A line without words is
    /// skipped.
    fn parse_inline(&mut self) -> Result<bool, ProtocolError> {
        let cursor = &mut self.cursor;
        if self.buffer[cursor.position..].starts_with(TLS_HANDSHAKE) {
            // As a line it would have to be waited for: there may be no end of it.
            return Err(ProtocolError::TlsHello);
        }
        let error = ProtocolError::BigInlineRequest;
        let Some(line_len) = cursor.find(b'\n', &self.buffer, error)? else { return Ok(false) };
        let start = cursor.position;
        let line = &mut self.buffer[start..start + line_len];
        let line_end = if line.ends_with(b"\r") { line.len() - 1 } else { line.len() };
        let spans_before = self.spans.len();
        let (spans, mut args_len) = (&mut self.spans, self.args_len);
        let split = split_in_place(&mut line[..line_end], |word| {
            args_len += word.len();
            spans.push(Span::short(start + word.start, word.len()));
        });
        if split.is_err() {
            self.spans.truncate(spans_before);
            return Err(ProtocolError::UnbalancedQuotes);
        }
        self.args_len = args_len;
        cursor.position += line_len + 1;
        cursor.scanned = 0;
        if self.spans.len() > spans_before {
            self.enqueue();
        } else {
            self.request_start = self.cursor.position;
        }
        Ok(true)
    }

    /// Drops everything before the partial request. Called when the queue is empty.
    fn compact(&mut self) {
        let consumed = self.request_start;
        let (spans_done, shared_done) = self.forget_queue();
        self.stream_base += consumed as u64;
        self.cursor.position -= consumed;
        self.request_start = 0;
        if spans_done == self.spans.len() {
            self.spans.clear();
            if self.incoming.is_none() {
                // A chunk may be left in which no span lies.
                self.shared.clear();
                self.shared_len = 0;
            }
        } else {
            self.spans.drain(..spans_done);
            for span in &mut self.spans {
                span.move_back(consumed, shared_done);
            }
            self.shared.drain(..shared_done);
        }
        self.spans_set_aside = self.spans_set_aside.saturating_sub(spans_done);
        if consumed == self.buffer.len() {
            self.buffer.clear();
        } else if consumed > 0 {
            self.buffer.drain(..consumed);
        }
        self.release_excess();
    }

    /// Empties the queue, all of which is popped; how many spans and long arguments it had.
    fn forget_queue(&mut self) -> (usize, usize) {
        let last = self.queue.last();
        let done = last.map_or((0, 0), |last| (last.spans_end, last.shared_end));
        self.args_len -= last.map_or(0, |last| last.args_len_end);
        self.queue.clear();
        self.popped = 0;
        done
    }

    /// Gives memory back that an unusually large request has left behind.
    #[inline]
    fn release_excess(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_KEPT_MAX {
            self.buffer = Vec::new();
        }
        if self.spans.is_empty() && self.spans.capacity() > SPANS_KEPT_MAX {
            self.spans = Vec::new();
            self.queue = Vec::new();
            self.shared = Vec::new();
        }
    }
}

impl Cursor {
    /// Parses `$<len>` and steps over it; `None` when the line is not whole yet.
    #[inline]
    fn parse_bulk_header(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        match buffer[self.position..] {
            [b'$', digit @ b'0'..=b'9', b'\r', _, ..] => {
                self.position += 4;
                self.scanned = 0;
                Ok(Some(usize::from(digit - b'0')))
            }
            [b'$', tens @ b'1'..=b'9', digit @ b'0'..=b'9', b'\r', _, ..] => {
                self.position += 5;
                self.scanned = 0;
                Ok(Some(usize::from(tens - b'0') * 10 + usize::from(digit - b'0')))
            }
            _ => self.parse_any_bulk_header(buffer, limits),
        }
    }

    fn parse_any_bulk_header(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        let Some(line_len) = self.find_cr(buffer, ProtocolError::BigBulkLine)? else {
            return Ok(None);
        };
        let line = &buffer[self.position..self.position + line_len + 1];
        let digits = match line {
            [b'$', digits @ .., _] => digits,
            _ => return Err(ProtocolError::ExpectedDollar(line[0])),
        };
        let len = parse_i64(digits).and_then(|len| u64::try_from(len).ok());
        let len = len.filter(|len| *len <= limits.bulk_len_max);
        let len = len.ok_or(ProtocolError::InvalidBulkLen)?;
        if len > UNAUTHENTICATED_BULK_LEN_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulkLen);
        }
        self.take_line(line_len);
        usize::try_from(len).map(Some).map_err(|_| ProtocolError::InvalidBulkLen)
    }

    /// The length of the line at `position` up to its CR; `None` when the CR and the byte after it,
    /// whatever that is, have not both come.
    fn find_cr(
        &mut self,
        buffer: &[u8],
        error: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let found = self.find(b'\r', buffer, error)?;
        Ok(found.filter(|line_len| buffer.len() - self.position >= line_len + 2))
    }

    /// Steps over a line, its CR and the byte after.
    fn take_line(&mut self, line_len: usize) {
        self.position += line_len + 2;
        self.scanned = 0;
    }

    /// How far from `position` the first `byte` is; an error when it is too far. A zero byte hides
    /// whatever comes after it, so that such a line never ends and is too long in the end.
    fn find(
        &mut self,
        byte: u8,
        buffer: &[u8],
        error: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let line = &buffer[self.position..];
        let line = &line[..line.len().min(LINE_LEN_MAX + 1)];
        let found = memchr2(byte, 0, &line[self.scanned..]);
        self.scanned += found.unwrap_or(line.len() - self.scanned);
        match line.get(self.scanned) {
            Some(end) if *end == byte => Ok(Some(self.scanned)),
            _ if line.len() > LINE_LEN_MAX => Err(error),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
