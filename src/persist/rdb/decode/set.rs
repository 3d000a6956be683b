//! Sets: members, an intset, or a listpack.

use super::{Decoder, Label};
use crate::keyspace::Entry;
use crate::persist::rdb::error::RdbError;
use crate::structs::intset::{self, Intset};
use crate::structs::listpack::{Element, Listpack};
use crate::structs::number::I64Buf;
use crate::types::set::{SetTable, SetValue};
use crate::types::{Encoding, Kind, Object};
use std::borrow::Cow;
use triomphe::Arc;

const TWICE: RdbError = RdbError::Corrupt("Duplicate set members detected");
const MALFORMED: &str = "Set listpack integrity check failed.";

impl Decoder<'_> {
    pub(super) fn set(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let rules = self.limits.set;
        let count = self.input.count(1)?;
        let is_small = count <= rules.max_intset_entries as u64;
        let mut set = if is_small { SetValue::new_intset() } else { SetValue::new_table(&rules) };
        for _ in 0..count {
            let member = self.input.string(&mut self.scratch)?;
            if !set.add(&member, &rules) {
                return Err(TWICE);
            }
        }
        Ok((!set.is_empty()).then(|| match set {
            SetValue::Intset(bytes) => label.packed(Kind::Set, Encoding::Intset, Cow::Owned(bytes)),
            SetValue::Listpack(bytes) => {
                label.packed(Kind::Set, Encoding::Listpack, Cow::Owned(bytes))
            }
            SetValue::Table(table) => {
                label.object(Kind::Set, Encoding::Hashtable, Object::Set(table))
            }
        }))
    }

    pub(super) fn intset(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let rules = self.limits.set;
        let bytes = self.input.string(&mut self.scratch)?;
        if !intset::validate(&bytes, true) {
            return Err(RdbError::Corrupt("Intset integrity check failed."));
        }
        let intset = Intset::trusted(&bytes);
        if intset.len() <= rules.max_intset_entries {
            return Ok(Some(label.packed(Kind::Set, Encoding::Intset, bytes)));
        }
        Ok(Some(label.table(intset.iter().map(Element::Int), SetTable::new(rules.secret))))
    }

    pub(super) fn set_listpack(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let rules = self.limits.set;
        let bytes = self.input.string(&mut self.scratch)?;
        let bytes = self.mender.listpack(bytes, MALFORMED)?;
        let listpack = Listpack::trusted(&bytes);
        if listpack.is_empty() {
            return Ok(None);
        }
        let members = listpack.iter().map(|(_, member)| member);
        if !self.distinct.are(members.clone()) {
            return Err(RdbError::Corrupt(MALFORMED));
        }
        if listpack.len() <= rules.max_listpack_entries {
            return Ok(Some(label.packed(Kind::Set, Encoding::Listpack, bytes)));
        }
        Ok(Some(label.table(members, SetTable::new(rules.secret))))
    }
}

impl Label<'_> {
    /// The entry of a set as a table of distinct members.
    fn table<'e>(self, members: impl Iterator<Item = Element<'e>>, mut table: SetTable) -> Entry {
        for member in members {
            table.insert(member.bytes(&mut I64Buf::new()));
        }
        self.object(Kind::Set, Encoding::Hashtable, Object::Set(Arc::new(table)))
    }
}
