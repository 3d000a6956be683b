//! Requests on their way in: what a request is, what limits hold, how one is kept.
//!
//! A request is a list of byte strings. Its short arguments lie in the connection's read buffer, a
//! long one (32 KB and more) in memory of its own that a SET may keep without copying. `Request`
//! sees both through spans, so that parsing allocates nothing and MULTI's kept copies
//! (`OwnedRequest`) look the same to a handler as what has just come from the socket.
//!
//! A vector of `Bytes` per request was refused: an allocation and a reference count for each
//! argument, and one kept argument would pin a whole read buffer.
//!
//! Invariant: each span lies within the bytes, or names a long argument, of its own request.

mod reader;

use std::borrow::Cow;
use std::collections::TryReserveError;
use std::fmt;

use super::reply::SharedBytes;

pub use reader::{RequestReader, Room};

/// Arguments from this length on get memory of their own.
pub const SHARED_LEN_MIN: usize = 32 * 1024;

/// The longest inline request, and the longest header line.
pub const LINE_LEN_MAX: usize = 64 * 1024;

/// How many arguments, and how long ones, a client may send before it has authenticated.
pub const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
pub const UNAUTHENTICATED_BULK_LEN_MAX: u64 = 16 * 1024;

/// What the parser allows a client at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len`; `u64::MAX` for a replication link.
    pub bulk_len_max: u64,
    pub authenticated: bool,
}

/// Why a connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    InvalidMultibulkLen,
    InvalidBulkLen,
    ExpectedDollar(u8),
    BigMultibulkLine,
    BigBulkLine,
    BigInlineRequest,
    UnbalancedQuotes,
    UnauthenticatedMultibulkLen,
    UnauthenticatedBulkLen,
    /// It is not our protocol but the first message of a TLS handshake.
    TlsHello,
    /// The system has no memory for what has arrived.
    NoMemory,
}

impl ProtocolError {
    /// What the error reply says after `ERR Protocol error: `.
    pub fn text(self) -> Cow<'static, [u8]> {
        let text: &[u8] = match self {
            ProtocolError::InvalidMultibulkLen => b"invalid multibulk length",
            ProtocolError::InvalidBulkLen => b"invalid bulk length",
            ProtocolError::ExpectedDollar(byte) => {
                let mut text = b"expected '$', got '?'".to_vec();
                let place = text.len() - 2;
                text[place] = byte;
                return Cow::Owned(text);
            }
            ProtocolError::BigMultibulkLine => b"too big mbulk count string",
            ProtocolError::BigBulkLine => b"too big bulk count string",
            ProtocolError::BigInlineRequest => b"too big inline request",
            ProtocolError::UnbalancedQuotes => b"unbalanced quotes in request",
            ProtocolError::UnauthenticatedMultibulkLen => b"unauthenticated multibulk length",
            ProtocolError::UnauthenticatedBulkLen => b"unauthenticated bulk length",
            ProtocolError::TlsHello => b"a TLS handshake on a plain port",
            ProtocolError::NoMemory => b"not enough memory for the request",
        };
        Cow::Borrowed(text)
    }

    /// The whole text for `Reply::error`.
    pub fn reply_text(self) -> Vec<u8> {
        let code: &[u8] = match self {
            ProtocolError::NoMemory => b"OOM ",
            _ => b"ERR Protocol error: ",
        };
        [code, &*self.text()].concat()
    }
}

impl From<TryReserveError> for ProtocolError {
    fn from(_: TryReserveError) -> ProtocolError {
        ProtocolError::NoMemory
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().escape_ascii().fmt(f)
    }
}

impl std::error::Error for ProtocolError {}

/// Whether a command's name gives a web browser away: it was led to send a form here, and the
/// request's body would be run as commands.
pub fn looks_like_http(command: &[u8]) -> bool {
    command.eq_ignore_ascii_case(b"post") || command.eq_ignore_ascii_case(b"host:")
}

/// Where one argument is: in twelve bytes, since a request may have a million of them.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// The first byte, counted from the beginning of the request's bytes or of a chunk.
    start: u32,
    /// [`Span::WHOLE`] for a long argument: all of what `place` names.
    len: u32,
    /// 0 for the request's bytes, or one more than the index of a long argument or a chunk.
    place: u32,
}

impl Span {
    const WHOLE: u32 = u32::MAX;

    #[inline]
    fn short(start: usize, len: usize) -> Span {
        // A short argument is below 32 KB or a word of a line below 64 KB, in a buffer that is cut
        // up long before it has 4 GB.
        debug_assert!(u32::try_from(start).is_ok() && len < Span::WHOLE as usize);
        Span { start: start as u32, len: len as u32, place: 0 }
    }

    fn shared(idx: usize) -> Span {
        let place = u32::try_from(idx + 1).expect("memory does not hold as many long arguments");
        Span { start: 0, len: Span::WHOLE, place }
    }

    fn is_whole(self) -> bool {
        self.len == Span::WHOLE
    }

    /// What it points to has become the chunk at this index.
    fn move_to_chunk(&mut self, idx: usize) {
        if self.place == 0 {
            self.place = Span::shared(idx).place;
        }
    }

    /// So many bytes, and so many long arguments and chunks, have gone from before it.
    fn move_back(&mut self, bytes: usize, shared: usize) {
        if self.place == 0 {
            self.start -= bytes as u32;
        } else {
            self.place -= shared as u32;
        }
    }
}

/// One request: the command's name and its arguments.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    bytes: &'a [u8],
    /// `None` are arguments of requests that are done with.
    shared: &'a [Option<SharedBytes>],
    spans: &'a [Span],
}

impl<'a> Request<'a> {
    /// How many arguments there are, the command's name included; never zero from a socket.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at `idx`, which must be below `len()`.
    #[inline]
    pub fn arg(&self, idx: usize) -> &'a [u8] {
        self.resolve(&self.spans[idx])
    }

    /// The request without its first words: a command line inside a command line.
    pub fn skip(&self, words: usize) -> Request<'a> {
        Request { spans: &self.spans[words..], ..*self }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let request = *self;
        self.spans.iter().map(move |span| request.resolve(span))
    }

    /// The argument at `idx` in a form that can be kept without copying, if it is a long one.
    pub fn shared(&self, idx: usize) -> Option<&'a SharedBytes> {
        let span = self.spans.get(idx)?;
        if span.is_whole() { self.shared[span.place as usize - 1].as_ref() } else { None }
    }

    /// Whether some of the arguments came as long ones, or among very many.
    pub fn is_long(&self) -> bool {
        !self.shared.is_empty()
    }

    /// Whether an argument is longer than `max`, which must be beyond the length of short ones: the
    /// few others are looked at.
    #[inline]
    pub fn has_longer_than(&self, max: usize) -> bool {
        self.shared.iter().flatten().any(|argument| argument.len() > max)
    }

    /// How long it was where it came from: as a line if that is how it came.
    pub fn wire_len(&self) -> usize {
        if let [first, second, ..] = self.spans
            && first.place == 0
            && second.place == 0
        {
            let gap = second.start.saturating_sub(first.start + first.len);
            // Between the words of a multibulk stands a header, and nothing in a copy of ours.
            if (1..6).contains(&gap) {
                return self.payload_len() + self.len() - 1 + 2;
            }
        }
        let header = |number: usize| 3 + number.checked_ilog10().unwrap_or(0) as usize + 1;
        let words = self.iter().map(|word| header(word.len()) + word.len() + 2);
        header(self.len()) + words.sum::<usize>()
    }

    /// The lengths of all arguments together.
    pub fn payload_len(&self) -> usize {
        self.iter().map(<[u8]>::len).sum()
    }

    #[inline]
    fn resolve(&self, span: &Span) -> &'a [u8] {
        if span.place == 0 {
            return &self.bytes[span.start as usize..][..span.len as usize];
        }
        let shared = self.shared[span.place as usize - 1].as_ref();
        let shared = shared.expect("held until its request is popped");
        if span.is_whole() { shared } else { &shared[span.start as usize..][..span.len as usize] }
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|arg| arg.escape_ascii().to_string())).finish()
    }
}

/// A request that outlives its connection's read buffer.
#[derive(Clone, Default)]
pub struct OwnedRequest {
    bytes: Vec<u8>,
    shared: Vec<Option<SharedBytes>>,
    spans: Vec<Span>,
}

impl OwnedRequest {
    pub fn new(request: &Request<'_>) -> OwnedRequest {
        let short = (0..request.len()).filter(|idx| request.shared(*idx).is_none());
        let capacity = short.map(|idx| request.arg(idx).len()).sum();
        let mut owned = OwnedRequest::with_capacity(capacity, request.len());
        for idx in 0..request.len() {
            match request.shared(idx) {
                Some(shared) => owned.push_shared(shared.clone()),
                None => owned.push(request.arg(idx)),
            }
        }
        owned
    }

    pub fn from_args<A: AsRef<[u8]>>(args: &[A]) -> OwnedRequest {
        let capacity = args.iter().map(|arg| arg.as_ref().len()).sum();
        let mut owned = OwnedRequest::with_capacity(capacity, args.len());
        for arg in args {
            owned.push(arg.as_ref());
        }
        owned
    }

    fn with_capacity(bytes: usize, args: usize) -> OwnedRequest {
        OwnedRequest {
            bytes: Vec::with_capacity(bytes),
            shared: Vec::new(),
            spans: Vec::with_capacity(args),
        }
    }

    /// Forgets the arguments but keeps their memory, for the next request.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
        self.spans.clear();
    }

    /// Appends an argument.
    pub fn push(&mut self, arg: &[u8]) {
        if u32::try_from(self.bytes.len() + arg.len()).is_err() {
            return self.push_shared(SharedBytes::new(arg.to_vec()));
        }
        self.spans.push(Span::short(self.bytes.len(), arg.len()));
        self.bytes.extend_from_slice(arg);
    }

    /// Appends an argument that is kept without copying.
    pub fn push_shared(&mut self, arg: SharedBytes) {
        self.spans.push(Span::shared(self.shared.len()));
        self.shared.push(Some(arg));
    }

    pub fn as_request(&self) -> Request<'_> {
        Request { bytes: &self.bytes, shared: &self.shared, spans: &self.spans }
    }

    /// The memory held; long arguments count in full.
    pub fn memory(&self) -> usize {
        let shared: usize = self.shared.iter().flatten().map(|arg| arg.len()).sum();
        let tables = self.spans.capacity() * size_of::<Span>()
            + self.shared.capacity() * size_of::<Option<SharedBytes>>();
        self.bytes.capacity() + tables + shared
    }
}

impl fmt::Debug for OwnedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_request().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_requests_show_the_same_arguments() {
        let args: [&[u8]; 4] = [b"SET", b"", b"k\0\r\n", &[7; 40_000]];
        let mut owned = OwnedRequest::from_args(&args);
        let long = SharedBytes::new(vec![9; 50_000]);
        owned.push_shared(long.clone());
        let copy = OwnedRequest::new(&owned.as_request());
        for kept in [&owned, &copy] {
            let request = kept.as_request();
            assert_eq!((request.len(), request.is_empty()), (5, false));
            assert!(request.iter().take(4).eq(args));
            assert_eq!(request.arg(4), long.as_slice());
            assert!(SharedBytes::ptr_eq(request.shared(4).expect("long"), &long));
            assert!(request.shared(3).is_none() && request.shared(99).is_none());
            assert_eq!(request.payload_len(), 90_007);
            assert!((90_000..91_000).contains(&kept.memory()), "{}", kept.memory());
        }
        assert!(OwnedRequest::default().as_request().is_empty());
    }

    #[test]
    fn web_browsers_are_recognised() {
        for command in ["POST", "post", "Host:", "hOST:"] {
            assert!(looks_like_http(command.as_bytes()));
        }
        for command in ["GET", "host", "posts", ""] {
            assert!(!looks_like_http(command.as_bytes()));
        }
    }
}
