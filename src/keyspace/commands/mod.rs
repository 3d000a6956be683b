//! The commands that work on keys of any type.
//!
//! They are split by theme: what keys there are ([`presence`]), their going away and changing place
//! ([`place`]), their time ([`expire`], [`ttl`]), walks over all of them ([`walk`]) and what the
//! server knows of a value ([`object`]). Only SORT ([`sort`]) looks into values. What the rooms of
//! hashes, sets and sorted sets share in walking and drawing is in [`elements`].

pub mod elements;
mod expire;
mod object;
mod place;
mod presence;
mod sort;
#[cfg(test)]
mod tests;
mod ttl;
mod walk;

use crate::command::Command;

pub static COMMANDS: &[&Command] = &[
    &place::COPY,
    &presence::DEL,
    &presence::EXISTS,
    &expire::EXPIRE,
    &expire::EXPIREAT,
    &ttl::EXPIRETIME,
    &walk::KEYS,
    &place::MOVE,
    &object::OBJECT,
    &expire::PERSIST,
    &expire::PEXPIRE,
    &expire::PEXPIREAT,
    &ttl::PEXPIRETIME,
    &ttl::PTTL,
    &walk::RANDOMKEY,
    &place::RENAME,
    &place::RENAMENX,
    &walk::SCAN,
    &sort::SORT,
    &sort::SORT_RO,
    &presence::TOUCH,
    &ttl::TTL,
    &presence::TYPE,
    &presence::UNLINK,
];
