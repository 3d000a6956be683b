//! Hashes: fields with values, a listpack, a ziplist or a zipmap; and the forms in which fields
//! have times to live.

use super::{Decoder, Dialect, Distinct, Label, ziplist, zipmap};
use crate::command::FIELD_EXPIRY_MAX_MS;
use crate::keyspace::Entry;
use crate::persist::rdb::error::RdbError;
use crate::structs::listpack::{self, Element, Listpack};
use crate::structs::number::I64Buf;
use crate::types::hash::{HashTable, Limits};
use crate::types::{Encoding, Kind, Object};
use std::borrow::Cow;
use triomphe::Arc;

const TWICE: RdbError = RdbError::Corrupt("Duplicate hash fields detected");
const DOUBLES: RdbError =
    RdbError::Corrupt("Hash listpack integrity check failed: listpack with dup elements");
const BAD_TIME_TEXT: &str = "Hash field with an invalid expire time";
const BAD_TIME: RdbError = RdbError::Corrupt(BAD_TIME_TEXT);
const BAD_LISTPACK: &str = "Hash listpack integrity check failed.";
const BAD_ZIPLIST: &str = "Hash ziplist integrity check failed.";

/// The last millisecond that Redis loads. It sets none beyond [`FIELD_EXPIRY_MAX_MS`], and so do we
/// not keep any.
const LOADED_EXPIRY_MAX_MS: u64 = (1 << 48) - 1;

/// A hash that grows field by field: packed while it is small, a table as soon as a field expires.
struct Builder {
    packed: Option<Vec<u8>>,
    table: HashTable,
    limits: Limits,
    longest: usize,
}

impl Builder {
    fn new(count: u64, limits: Limits) -> Builder {
        let is_small = count <= limits.max_listpack_entries as u64;
        Builder {
            packed: is_small.then(listpack::new_empty),
            table: HashTable::new(limits.secret),
            limits,
            longest: 0,
        }
    }

    /// Adds a field. That no field comes twice is known of the packed ones only in the end.
    fn add(&mut self, name: &[u8], value: &[u8], expiry_ms: Option<u64>) -> Result<(), RdbError> {
        let longest = name.len().max(value.len());
        self.longest = self.longest.max(longest);
        if longest > self.limits.max_listpack_value || expiry_ms.is_some() {
            self.unpack()?;
        }
        if let Some(bytes) = &mut self.packed {
            let texts = [Element::of(name), Element::of(value)];
            return listpack::extend(bytes, texts).or_else(|listpack::TooLong| {
                self.unpack()?;
                self.add(name, value, expiry_ms)
            });
        }
        if self.table.set(name, value, expiry_ms) { Ok(()) } else { Err(TWICE) }
    }

    /// From now on it is a table.
    fn unpack(&mut self) -> Result<(), RdbError> {
        let Some(bytes) = self.packed.take() else { return Ok(()) };
        let mut elements = Listpack::trusted(&bytes).iter().map(|(_, element)| element);
        while let (Some(name), Some(value)) = (elements.next(), elements.next()) {
            let (mut a, mut b) = (I64Buf::new(), I64Buf::new());
            if !self.table.set(name.bytes(&mut a), value.bytes(&mut b), None) {
                return Err(TWICE);
            }
        }
        Ok(())
    }

    fn finish(self, distinct: &mut Distinct, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        if let Some(bytes) = self.packed {
            let bytes = Cow::Owned(bytes);
            return entry_of_packed(bytes, BAD_LISTPACK, distinct, &self.limits, label);
        }
        if self.table.is_empty() {
            return Ok(None);
        }
        let is_timed = self.table.earliest_deadline_ms() != u64::MAX;
        let is_small = self.table.len() <= self.limits.max_listpack_entries
            && self.longest <= self.limits.max_listpack_value;
        let is_listpack = is_timed && is_small;
        let encoding = if is_listpack { Encoding::Listpackex } else { Encoding::Hashtable };
        Ok(Some(label.object(Kind::Hash, encoding, Object::Hash(Arc::new(self.table)))))
    }
}

impl Decoder<'_> {
    pub(super) fn hash(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let count = self.input.count(2)?;
        let mut hash = Builder::new(count, self.limits.hash);
        for _ in 0..count {
            self.input.string_to(&mut self.first)?;
            let value = self.input.string(&mut self.scratch)?;
            hash.add(&self.first, &value, None)?;
        }
        hash.finish(&mut self.distinct, label)
    }

    pub(super) fn hash_listpack(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let bytes = self.input.string(&mut self.scratch)?;
        let bytes = self.mender.listpack(bytes, BAD_LISTPACK)?;
        entry_of_packed(bytes, BAD_LISTPACK, &mut self.distinct, &self.limits.hash, label)
    }

    pub(super) fn hash_ziplist(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let bytes = self.input.string(&mut self.scratch)?;
        let bytes = Cow::Owned(ziplist::to_listpack(&bytes, BAD_ZIPLIST)?);
        entry_of_packed(bytes, BAD_ZIPLIST, &mut self.distinct, &self.limits.hash, label)
    }

    pub(super) fn hash_zipmap(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let bytes = self.input.string(&mut self.scratch)?;
        let mut hash = Builder::new(0, self.limits.hash);
        let (mut count, mut failed) = (0usize, None);
        zipmap::for_each(&bytes, |name, value| {
            count += 1;
            let added = hash.add(name, value, None).and_then(|()| {
                let is_large = count > hash.limits.max_listpack_entries;
                if is_large { hash.unpack() } else { Ok(()) }
            });
            failed = failed.take().or(added.err());
        })?;
        failed.map_or(Ok(()), Err)?;
        hash.finish(&mut self.distinct, label)
    }

    /// Fields with times of their own; in Valkey's form the time comes last, and is -1 for none.
    pub(super) fn hash_timed_early(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let count = self.input.count(3)?;
        let mut is_beyond = false;
        let mut hash = Builder::new(count, self.limits.hash);
        for _ in 0..count {
            let mut at_ms = 0;
            if self.dialect == Dialect::Redis {
                at_ms = self.input.length()?;
            }
            self.input.string_to(&mut self.first)?;
            self.input.string_to(&mut self.scratch)?;
            if self.dialect == Dialect::Valkey {
                let time = i64::from_le_bytes(self.input.array()?);
                at_ms = if time == -1 { 0 } else { u64::try_from(time).map_err(|_| BAD_TIME)? };
            }
            hash.add(&self.first, &self.scratch, expiry(at_ms, &mut is_beyond))?;
        }
        self.mend_times(is_beyond)?;
        hash.finish(&mut self.distinct, label)
    }

    /// Fields with times that count from the first one, which comes before all.
    pub(super) fn hash_timed(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let first_ms = self.first_expiry()?;
        let count = self.input.count(3)?;
        let mut is_beyond = false;
        let mut hash = Builder::new(count, self.limits.hash);
        for _ in 0..count {
            let at_ms = match self.input.length()? {
                0 => 0,
                distance => first_ms.checked_add(distance - 1).ok_or(BAD_TIME)?,
            };
            self.input.string_to(&mut self.first)?;
            let value = self.input.string(&mut self.scratch)?;
            hash.add(&self.first, &value, expiry(at_ms, &mut is_beyond))?;
        }
        self.mend_times(is_beyond)?;
        hash.finish(&mut self.distinct, label)
    }

    /// A listpack of fields, values and times.
    pub(super) fn hash_listpack_timed(
        &mut self,
        label: Label<'_>,
        has_first: bool,
    ) -> Result<Option<Entry>, RdbError> {
        if has_first {
            self.first_expiry()?;
        }
        let bytes = self.input.string(&mut self.scratch)?;
        let bytes = self.mender.listpack(bytes, BAD_LISTPACK)?;
        let listpack = Listpack::trusted(&bytes);
        let count = listpack.len();
        if !count.is_multiple_of(3) {
            return Err(RdbError::Corrupt(BAD_LISTPACK));
        }
        let mut is_beyond = false;
        let mut hash = Builder::new(count as u64 / 3, self.limits.hash);
        let mut elements = listpack.iter().map(|(_, element)| element);
        while let (Some(name), Some(value), Some(time)) =
            (elements.next(), elements.next(), elements.next())
        {
            let (mut a, mut b) = (I64Buf::new(), I64Buf::new());
            let Element::Int(time) = time else { return Err(BAD_TIME) };
            let at_ms = u64::try_from(time).map_err(|_| BAD_TIME)?;
            hash.add(name.bytes(&mut a), value.bytes(&mut b), expiry(at_ms, &mut is_beyond))?;
        }
        self.mend_times(is_beyond)?;
        hash.finish(&mut self.distinct, label)
    }

    fn mend_times(&mut self, are_beyond: bool) -> Result<(), RdbError> {
        if are_beyond { self.mender.mend("times of the fields", BAD_TIME_TEXT) } else { Ok(()) }
    }

    fn first_expiry(&mut self) -> Result<u64, RdbError> {
        u64::try_from(i64::from_le_bytes(self.input.array()?)).map_err(|_| BAD_TIME)
    }
}

/// When a field expires, as far as a time may be kept; 0 stands for never. What Redis would not
/// load, but we have once written, is noted.
fn expiry(at_ms: u64, is_beyond: &mut bool) -> Option<u64> {
    *is_beyond |= at_ms > LOADED_EXPIRY_MAX_MS;
    (at_ms > 0).then_some(at_ms.min(FIELD_EXPIRY_MAX_MS))
}

/// The entry of a well-formed listpack of fields and values.
fn entry_of_packed(
    bytes: Cow<'_, [u8]>,
    fault: &'static str,
    distinct: &mut Distinct,
    limits: &Limits,
    label: Label<'_>,
) -> Result<Option<Entry>, RdbError> {
    let listpack = Listpack::trusted(&bytes);
    let elements = || listpack.iter().map(|(_, element)| element);
    let count = listpack.len();
    if count == 0 {
        return Ok(None);
    }
    if !count.is_multiple_of(2) {
        return Err(RdbError::Corrupt(fault));
    }
    if !distinct.are(elements().step_by(2)) {
        return Err(DOUBLES);
    }
    if count / 2 <= limits.max_listpack_entries {
        return Ok(Some(label.packed(Kind::Hash, Encoding::Listpack, bytes)));
    }
    let mut table = HashTable::new(limits.secret);
    let mut all = elements();
    while let (Some(name), Some(value)) = (all.next(), all.next()) {
        let (mut a, mut b) = (I64Buf::new(), I64Buf::new());
        table.set(name.bytes(&mut a), value.bytes(&mut b), None);
    }
    Ok(Some(label.object(Kind::Hash, Encoding::Hashtable, Object::Hash(Arc::new(table)))))
}
