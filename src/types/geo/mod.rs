//! Places on the earth, as sorted sets: a member's score is the cell it lies in.
//!
//! A [`Cell`] interleaves the bits of latitude and longitude, so that a score is near its
//! neighbours' on the map, and a search is a few ranges of scores ([`search`]) of which each place
//! is then measured. No type of its own: what ZADD and ZRANGE do to such a set is well defined, and
//! data goes to and from Redis as it is.
//!
//! Invariant: every operation on floating point stands in Redis's order, so that scores, distances
//! and the choice at an edge are its own to the last bit.

mod cell;
mod commands;
mod search;

pub use cell::{Cell, Place};
pub use commands::COMMANDS;
pub use search::{Found, Search, Shape, Unit};
