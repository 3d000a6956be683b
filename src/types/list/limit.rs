//! How much a listpack of a list may hold: the meaning of `list-max-listpack-size`.
//!
//! A negative value names a class of bytes, any other counts elements. Counted listpacks are held
//! to a few kilobytes all the same, since every edit moves the bytes behind it.

/// What a counted listpack may hold in bytes.
const SAFE_BYTES: usize = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimit {
    capacity: Capacity,
    /// From how many bytes on an element stands alone, if that does not follow from the capacity.
    large_from: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Capacity {
    Bytes(usize),
    Elements(usize),
}

impl NodeLimit {
    /// The meaning of the directive's value.
    pub fn of(fill: i32) -> NodeLimit {
        let capacity = match usize::try_from(fill) {
            Ok(elements) => Capacity::Elements(elements.max(1)),
            Err(_) => Capacity::Bytes(4096 << (fill.unsigned_abs() - 1).min(4)),
        };
        NodeLimit { capacity, large_from: None }
    }

    /// The same with elements of so many bytes standing alone, for tests of such lists.
    pub fn with_large_from(self, large_from: Option<usize>) -> NodeLimit {
        NodeLimit { large_from, ..self }
    }

    /// Whether a listpack of so many bytes and elements is too big.
    pub fn is_exceeded(self, bytes: usize, elements: usize) -> bool {
        match self.capacity {
            Capacity::Bytes(max) => bytes > max,
            Capacity::Elements(max) => bytes > SAFE_BYTES || elements > max,
        }
    }

    /// Whether a tree of one listpack has shrunk enough to become that listpack. Half the limit
    /// keeps a list around it from changing to and fro.
    pub fn is_half_empty(self, bytes: usize, elements: usize) -> bool {
        match self.capacity {
            Capacity::Bytes(max) => bytes <= max / 2,
            Capacity::Elements(max) => elements <= max / 2,
        }
    }

    /// Whether an element of so many bytes is too big for any listpack.
    pub fn is_large(self, len: usize) -> bool {
        if let Some(large_from) = self.large_from {
            return len >= large_from;
        }
        match self.capacity {
            Capacity::Bytes(max) => len > max,
            Capacity::Elements(_) => len > SAFE_BYTES,
        }
    }
}
