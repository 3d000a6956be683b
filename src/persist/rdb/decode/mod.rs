//! Values out of bytes: each form is read by one function, which checks what it reads.
//!
//! Collections come in the encodings that the limits of this server give them, whatever limits the
//! writer had, by the rules by which Redis converts when it loads. What is within the limits and
//! packed in today's form is taken as it lies, after a walk through all of it; the packed forms of
//! old versions are taken apart.

mod distinct;
pub mod form;
mod hash;
mod list;
mod module;
mod set;
mod stream;
mod ziplist;
mod zipmap;
mod zset;

use std::borrow::Cow;

use super::error::RdbError;
use super::input::{Input, OWNED_FROM};
use crate::keyspace::entry::KEY_MAX;
use crate::keyspace::{Entry, NewValue};
use crate::structs::SharedBytes;
use crate::structs::listpack;
use crate::structs::trie::HashSecret;
use crate::types::list::NodeLimit;
use crate::types::{Encoding, Kind, Object, hash as hashes, set as sets, zset as zsets};

use distinct::Distinct;

/// What the packed encodings may hold here.
#[derive(Clone, Copy)]
pub struct Limits {
    pub hash: hashes::Limits,
    pub set: sets::Rules,
    pub zset: zsets::Limits,
    pub list: NodeLimit,
}

impl Limits {
    /// The limits that a configuration sets.
    pub fn of(config: &crate::config::Config, secret: HashSecret) -> Limits {
        Limits {
            hash: hashes::Limits::of(config, secret),
            set: sets::Rules::of(config, secret),
            zset: zsets::Limits::of(config, secret),
            list: NodeLimit::of(config.list_max_listpack_size),
        }
    }
}

/// Who wrote the file: the numbers of forms are not the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Redis,
    Valkey,
}

/// Counts that a value keeps of itself are taken from its elements if they differ: in files, which
/// other versions have written and load. A payload has to be right.
#[derive(Default)]
pub struct Mender {
    pub is_allowed: bool,
    /// What was mended of the last value.
    pub mended: Option<&'static str>,
}

pub struct Decoder<'r> {
    pub input: Input<'r>,
    pub dialect: Dialect,
    pub mender: Mender,
    limits: Limits,
    /// Where short strings are put that do not lie in the input as they are.
    scratch: Vec<u8>,
    /// The first string of a pair while the second one is read.
    first: Vec<u8>,
    distinct: Distinct,
}

/// A key's name and expiry, which all forms pass on.
#[derive(Clone, Copy)]
struct Label<'k> {
    key: &'k [u8],
    expiry_ms: Option<u64>,
}

/// Vectors that are kept for the next value hold no more than this.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl<'r> Decoder<'r> {
    pub fn new(input: Input<'r>, limits: Limits) -> Decoder<'r> {
        Decoder {
            input,
            dialect: Dialect::Redis,
            mender: Mender::default(),
            limits,
            scratch: Vec::new(),
            first: Vec::new(),
            distinct: Distinct::new(limits.hash.secret),
        }
    }

    /// Reads a value in a form and makes it the entry of a key; `None` if it is a collection
    /// without elements.
    #[inline]
    pub fn value(
        &mut self,
        number: u8,
        key: &[u8],
        expiry_ms: Option<u64>,
    ) -> Result<Option<Entry>, RdbError> {
        if key.len() > KEY_MAX {
            return Err(RdbError::Corrupt("Key longer than any can be"));
        }
        let label = Label { key, expiry_ms };
        if number == form::STRING {
            return self.string(label).map(Some);
        }
        let form = form::find(number).ok_or(RdbError::UnknownType(number))?;
        let entry = (form.decode)(self, label);
        for kept in [&mut self.scratch, &mut self.first] {
            if kept.capacity() > KEPT_BYTES_MAX {
                *kept = Vec::new();
            }
        }
        entry
    }

    #[inline]
    fn string(&mut self, label: Label<'_>) -> Result<Entry, RdbError> {
        let text = self.input.string(&mut self.scratch)?;
        let encoding = Encoding::of_whole(&text);
        let value = match text {
            Cow::Borrowed(bytes) => NewValue::Bytes(bytes),
            Cow::Owned(bytes) => NewValue::Shared(SharedBytes::new(bytes)),
        };
        Ok(Entry::new(label.key, value, encoding, label.expiry_ms))
    }
}

impl Label<'_> {
    fn packed(self, kind: Kind, encoding: Encoding, bytes: Cow<'_, [u8]>) -> Entry {
        let value = match bytes {
            Cow::Owned(bytes) if bytes.len() >= OWNED_FROM => {
                NewValue::Object(kind, Object::Bytes(SharedBytes::new(bytes)))
            }
            Cow::Owned(ref bytes) => NewValue::Packed(kind, bytes),
            Cow::Borrowed(bytes) => NewValue::Packed(kind, bytes),
        };
        Entry::new(self.key, value, encoding, self.expiry_ms)
    }

    fn object(self, kind: Kind, encoding: Encoding, object: Object) -> Entry {
        Entry::new(self.key, NewValue::Object(kind, object), encoding, self.expiry_ms)
    }
}

impl Mender {
    /// What a value says of its elements is wrong, while they are sound.
    fn mend(&mut self, what: &'static str, fault: &'static str) -> Result<(), RdbError> {
        if !self.is_allowed {
            return Err(RdbError::Corrupt(fault));
        }
        self.mended = Some(what);
        Ok(())
    }

    /// A sound listpack of what may have a wrong count of its elements.
    fn listpack<'b>(
        &mut self,
        mut bytes: Cow<'b, [u8]>,
        fault: &'static str,
    ) -> Result<Cow<'b, [u8]>, RdbError> {
        match listpack::form(&bytes) {
            listpack::Form::Sound => {}
            listpack::Form::Miscounted => {
                self.mend("element count", fault)?;
                listpack::count_anew(bytes.to_mut());
            }
            listpack::Form::Malformed => return Err(RdbError::Corrupt(fault)),
        }
        Ok(bytes)
    }
}
