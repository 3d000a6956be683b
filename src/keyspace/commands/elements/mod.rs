//! What the commands of hashes, sets and sorted sets do alike: writing an element, going through
//! all elements piece by piece ([`scan`]), drawing some at random ([`draw`]).

mod cursor;
mod draw;
mod scan;

use crate::resp::Reply;
use crate::structs::listpack::Element;

pub use cursor::parse_scan_cursor;
pub use draw::{Draw, Source};
pub use scan::{ScanOptions, ScanPage, Scanned, scan_elements, write_scan_page};

/// The executor itself answers commands that visit at most so many elements: a few milliseconds.
pub const INLINE_ELEMENTS_MAX: usize = 100_000;

/// The same for the memory of what is visited.
const INLINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Whether visiting so many of `len` elements, which take so many bytes together, is to be done
/// on another thread.
pub fn is_long(visited: usize, len: usize, bytes: usize) -> bool {
    let visited_bytes = (bytes / len.max(1)).saturating_mul(visited);
    visited > INLINE_ELEMENTS_MAX || visited_bytes > INLINE_BYTES_MAX
}

/// Answers with an element.
#[inline]
pub fn write_element(reply: &mut Reply<'_>, element: Element<'_>) {
    match element {
        Element::Int(value) => reply.bulk_i64(value),
        Element::Str(bytes) => reply.bulk(bytes),
    }
}
