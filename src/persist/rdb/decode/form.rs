//! The forms in which a value can come: one row each, with its number in a file, the name under
//! which a check tells it, and what reads it.
//!
//! The rows are written once; the constants for those who write forms, and the way from a number
//! to its row, are made of them.

use super::{Decoder, Label, stream};
use crate::keyspace::Entry;
use crate::persist::rdb::RdbError;

/// How values of a form are read. Collections without elements are no entries.
type Decode = fn(&mut Decoder<'_>, Label<'_>) -> Result<Option<Entry>, RdbError>;

/// How a value is laid out.
pub struct Form {
    pub name: &'static str,
    pub(super) decode: Decode,
}

macro_rules! forms {
    ($($constant:ident = $number:literal, $name:literal, $decode:expr;)*) => {
        $(pub const $constant: u8 = $number;)*

        /// The form of a number, if it is one.
        #[inline]
        pub fn find(number: u8) -> Option<&'static Form> {
            match number {
                $($constant => Some(const { &Form { name: $name, decode: $decode } }),)*
                _ => None,
            }
        }
    };
}

forms! {
    STRING = 0, "string", |decoder, label| decoder.string(label).map(Some);
    LIST = 1, "list-linked", |decoder, label| decoder.list(label);
    SET = 2, "set-hashtable", |decoder, label| decoder.set(label);
    ZSET = 3, "zset-v1", |decoder, label| decoder.zset(label, false);
    HASH = 4, "hash-hashtable", |decoder, label| decoder.hash(label);
    ZSET_2 = 5, "zset-v2", |decoder, label| decoder.zset(label, true);
    MODULE_PRE_RELEASE = 6, "module-pre-release", |_, _| {
        Err(RdbError::ModuleValue("of a release candidate".into()))
    };
    MODULE = 7, "module-value", |decoder, _| Err(RdbError::ModuleValue(decoder.module_name()?));
    HASH_ZIPMAP = 9, "hash-zipmap", |decoder, label| decoder.hash_zipmap(label);
    LIST_ZIPLIST = 10, "list-ziplist", |decoder, label| decoder.list_of_ziplist(label);
    SET_INTSET = 11, "set-intset", |decoder, label| decoder.intset(label);
    ZSET_ZIPLIST = 12, "zset-ziplist", |decoder, label| decoder.zset_ziplist(label);
    HASH_ZIPLIST = 13, "hash-ziplist", |decoder, label| decoder.hash_ziplist(label);
    LIST_QUICKLIST = 14, "quicklist", |decoder, label| decoder.quicklist(label);
    STREAM = 15, "stream", |decoder, label| decoder.stream(label, stream::Layout::V1).map(Some);
    HASH_LISTPACK = 16, "hash-listpack", |decoder, label| decoder.hash_listpack(label);
    ZSET_LISTPACK = 17, "zset-listpack", |decoder, label| decoder.zset_listpack(label);
    LIST_QUICKLIST_2 = 18, "quicklist-v2", |decoder, label| decoder.quicklist_2(label);
    STREAM_2 = 19, "stream-v2", |decoder, label| {
        decoder.stream(label, stream::Layout::V2).map(Some)
    };
    SET_LISTPACK = 20, "set-listpack", |decoder, label| decoder.set_listpack(label);
    STREAM_3 = 21, "stream-v3", |decoder, label| {
        decoder.stream(label, stream::Layout::V3).map(Some)
    };
    HASH_TIMED_PRE_RELEASE = 22, "hash-hashtable-md-pre-release", |decoder, label| {
        decoder.hash_timed_early(label)
    };
    HASH_LISTPACK_TIMED_PRE_RELEASE = 23, "hash-listpack-md-pre-release", |decoder, label| {
        decoder.hash_listpack_timed(label, false)
    };
    HASH_TIMED = 24, "hash-hashtable-md", |decoder, label| decoder.hash_timed(label);
    HASH_LISTPACK_TIMED = 25, "hash-listpack-md", |decoder, label| {
        decoder.hash_listpack_timed(label, true)
    };
}
