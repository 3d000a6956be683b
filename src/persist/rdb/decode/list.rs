//! Lists: single elements, one ziplist, or the nodes of a quicklist.

use super::{Decoder, Label, ziplist};
use crate::keyspace::Entry;
use crate::persist::rdb::container;
use crate::persist::rdb::error::RdbError;
use crate::structs::SharedBytes;
use crate::structs::listpack;
use crate::structs::number::I64Buf;
use crate::types::list::{End, NodeLimit, Quicklist};
use crate::types::{Encoding, Kind, Object};
use std::borrow::Cow;
use triomphe::Arc;

impl Decoder<'_> {
    pub(super) fn list(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let limit = self.limits.list;
        let mut list = Quicklist::default();
        for _ in 0..self.input.count(1)? {
            let text = self.input.string(&mut self.scratch)?;
            list.push(End::Right, &text, None, limit);
        }
        Ok(entry_of(list, limit, label))
    }

    pub(super) fn list_of_ziplist(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let limit = self.limits.list;
        let bytes = self.input.string(&mut self.scratch)?;
        let mut list = Quicklist::default();
        ziplist::for_each(&bytes, "List ziplist integrity check failed.", |element| {
            list.push(End::Right, element.bytes(&mut I64Buf::new()), None, limit);
        })?;
        Ok(entry_of(list, limit, label))
    }

    pub(super) fn quicklist(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let mut list = Quicklist::default();
        for _ in 0..self.input.count(1)? {
            let bytes = self.input.string(&mut self.scratch)?;
            list.push_packed(ziplist::to_listpack(&bytes, "Ziplist integrity check failed.")?);
        }
        Ok(entry_of(list, self.limits.list, label))
    }

    pub(super) fn quicklist_2(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let limit = self.limits.list;
        let nodes = self.input.count(2)?;
        let mut list = Quicklist::default();
        for _ in 0..nodes {
            let container = self.input.length()?;
            let bytes = self.input.string(&mut self.scratch)?;
            match container {
                container::PLAIN if bytes.is_empty() => {
                    return Err(RdbError::Corrupt("Quicklist with a plain node without bytes"));
                }
                container::PLAIN => list.push_plain(SharedBytes::new(bytes.into_owned())),
                container::PACKED => {
                    let fault = "Listpack integrity check failed.";
                    let bytes = self.mender.listpack(bytes, fault)?;
                    let is_whole_list = nodes == 1 && !is_exceeded(&bytes, limit);
                    if is_whole_list && !listpack::Listpack::trusted(&bytes).is_empty() {
                        return Ok(Some(label.packed(Kind::List, Encoding::Listpack, bytes)));
                    }
                    list.push_packed(bytes.into_owned());
                }
                _ => return Err(RdbError::Corrupt("Quicklist integrity check failed.")),
            }
        }
        Ok(entry_of(list, limit, label))
    }
}

fn is_exceeded(bytes: &[u8], limit: NodeLimit) -> bool {
    limit.is_exceeded(bytes.len(), listpack::Listpack::trusted(bytes).len())
}

/// The entry of a list, which is packed if it is one listpack within the limit.
fn entry_of(list: Quicklist, limit: NodeLimit, label: Label<'_>) -> Option<Entry> {
    if list.is_empty() {
        return None;
    }
    if let Some(bytes) = list.only_listpack(limit) {
        return Some(label.packed(Kind::List, Encoding::Listpack, Cow::Borrowed(bytes)));
    }
    Some(label.object(Kind::List, Encoding::Quicklist, Object::List(Arc::new(list))))
}
