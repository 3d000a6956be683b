//! The value of an entry, to be read: what it is and how it lies in one.
//!
//! Whoever needs more than one kind of value, or more than one encoding of a kind, matches on
//! this; nobody asks an entry for its kind and then for the parts that such a kind must have.

use super::Entry;
use crate::structs::intset::Intset;
use crate::structs::listpack::Listpack;
use crate::types::hash::{HashRef, LiveTable};
use crate::types::list::ListRef;
use crate::types::set::SetRef;
use crate::types::stream::Stream;
use crate::types::zset::ZSetRef;
use crate::types::{Encoding, Kind, Object};

/// The value of an entry.
#[derive(Clone, Copy)]
pub enum ValueRef<'a> {
    String(&'a [u8]),
    List(ListRef<'a>),
    Set(SetRef<'a>),
    ZSet(ZSetRef<'a>),
    /// With all fields, also those whose time has come: [`HashRef::at`] leaves them out.
    Hash(HashRef<'a>),
    Stream(&'a Stream),
}

impl Entry {
    #[inline]
    pub fn value(&self) -> ValueRef<'_> {
        let bytes: &[u8] = match self.object() {
            None => self.inline_value(),
            Some(Object::Bytes(bytes)) => bytes,
            Some(Object::List(list)) => return ValueRef::List(ListRef::Tree(list)),
            Some(Object::Set(table)) => return ValueRef::Set(SetRef::Table(table)),
            Some(Object::ZSet(table)) => return ValueRef::ZSet(ZSetRef::Table(table)),
            Some(Object::Hash(table)) => {
                return ValueRef::Hash(HashRef::Table(LiveTable::new(table, 0)));
            }
            Some(Object::Stream(stream)) => return ValueRef::Stream(stream),
        };
        match self.kind() {
            Kind::String => ValueRef::String(bytes),
            Kind::List => ValueRef::List(ListRef::Packed(Listpack::trusted(bytes))),
            Kind::Set if self.encoding() == Encoding::Intset => {
                ValueRef::Set(SetRef::Intset(Intset::trusted(bytes)))
            }
            Kind::Set => ValueRef::Set(SetRef::Listpack(Listpack::trusted(bytes))),
            Kind::ZSet => ValueRef::ZSet(ZSetRef::Listpack(Listpack::trusted(bytes))),
            Kind::Hash => ValueRef::Hash(HashRef::Listpack(Listpack::trusted(bytes))),
            Kind::Stream => unreachable!("a stream is never bytes"),
        }
    }
}
