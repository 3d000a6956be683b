//! How much a listpack of a list may hold: the meaning of `list-max-listpack-size`.
//!
//! A negative value names a class of bytes, any other counts elements. Counted listpacks are held
//! to a few kilobytes all the same, since every edit moves the bytes behind it.

/// What a counted listpack may hold in bytes.
const SAFE_BYTES: usize = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeLimit {
    Bytes(usize),
    Elements(usize),
}

impl NodeLimit {
    /// The meaning of the directive's value.
    pub fn of(fill: i32) -> NodeLimit {
        match usize::try_from(fill) {
            Ok(elements) => NodeLimit::Elements(elements.max(1)),
            Err(_) => NodeLimit::Bytes(4096 << (fill.unsigned_abs() - 1).min(4)),
        }
    }

    /// Whether a listpack of so many bytes and elements is too big.
    pub fn is_exceeded(self, bytes: usize, elements: usize) -> bool {
        match self {
            NodeLimit::Bytes(max) => bytes > max,
            NodeLimit::Elements(max) => bytes > SAFE_BYTES || elements > max,
        }
    }

    /// Whether a tree of one listpack has shrunk enough to become that listpack. Half the limit
    /// keeps a list around it from changing to and fro.
    pub fn is_half_empty(self, bytes: usize, elements: usize) -> bool {
        match self {
            NodeLimit::Bytes(max) => bytes <= max / 2,
            NodeLimit::Elements(max) => elements <= max / 2,
        }
    }

    /// Whether an element of so many bytes is too big for any listpack.
    pub fn is_large(self, len: usize) -> bool {
        match self {
            NodeLimit::Bytes(max) => len > max,
            NodeLimit::Elements(_) => len > SAFE_BYTES,
        }
    }
}
