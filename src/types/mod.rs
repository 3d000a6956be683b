//! The values a key can hold.
//!
//! A value is an [`Object`]: a shared pointer per kind, so that cloning one for a snapshot is a
//! count and a writer copies what is shared (`Arc::make_mut`). Strings are objects only when they
//! are long; short ones lie in the entry itself.

pub mod bitmap;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod list;
mod member;
pub mod set;
pub mod stream;
pub mod string;
pub mod zset;

use triomphe::Arc;

pub use member::MemberHash;

use crate::structs::SharedBytes;

/// A command met a value of another kind than it works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// The kind of a value, as TYPE names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    String,
    List,
    Set,
    ZSet,
    Hash,
    Stream,
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::String, Kind::List, Kind::Set, Kind::ZSet, Kind::Hash, Kind::Stream];

    /// The answer of the TYPE command.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::ZSet => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
        }
    }
}

/// How a value is held, as OBJECT ENCODING names it.
///
/// Of a string it is only a label: its bytes are always its bytes. Of a collection it says how to
/// read it: the packed encodings are plain bytes, the others are objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// A string: the canonical decimal form of an `i64`, written as a whole.
    Int,
    /// A string written as a whole, up to 44 bytes.
    Embstr,
    /// A string that is longer, or the result of APPEND, SETRANGE and the like.
    Raw,
    /// A small collection as a listpack.
    Listpack,
    /// A small hash some of whose fields may expire; it is held as a trie.
    Listpackex,
    /// A small set of integers.
    Intset,
    /// A hash or set as a trie.
    Hashtable,
    /// A sorted set as a trie of members and a tree in order.
    Skiplist,
    /// A list as a tree of listpacks.
    Quicklist,
    /// A stream.
    Stream,
}

impl Encoding {
    /// The longest string that is called `embstr`.
    pub const EMBSTR_MAX_BYTES: usize = 44;

    pub const ALL: [Encoding; 10] = [
        Encoding::Int,
        Encoding::Embstr,
        Encoding::Raw,
        Encoding::Listpack,
        Encoding::Listpackex,
        Encoding::Intset,
        Encoding::Hashtable,
        Encoding::Skiplist,
        Encoding::Quicklist,
        Encoding::Stream,
    ];

    /// The answer of OBJECT ENCODING.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Int => "int",
            Encoding::Embstr => "embstr",
            Encoding::Raw => "raw",
            Encoding::Listpack => "listpack",
            Encoding::Listpackex => "listpackex",
            Encoding::Intset => "intset",
            Encoding::Hashtable => "hashtable",
            Encoding::Skiplist => "skiplist",
            Encoding::Quicklist => "quicklist",
            Encoding::Stream => "stream",
        }
    }

    /// The label of a string that is written as a whole, as SET does.
    pub fn of_whole(bytes: &[u8]) -> Encoding {
        if is_canonical_integer(bytes) {
            Encoding::Int
        } else if bytes.len() <= Encoding::EMBSTR_MAX_BYTES {
            Encoding::Embstr
        } else {
            Encoding::Raw
        }
    }
}

/// A value outside the entry. Cheap to clone: every variant is a shared pointer.
#[derive(Clone, Debug)]
pub enum Object {
    /// A long string, or a packed collection too long to lie in the entry: the entry's kind and
    /// encoding say which.
    Bytes(SharedBytes),
    /// A hash too large to be packed.
    Hash(Arc<hash::HashTable>),
    /// A set too large to be packed.
    Set(Arc<set::SetTable>),
    /// A sorted set too large to be packed.
    ZSet(Arc<zset::ZSetTable>),
    /// A list too long for one listpack.
    List(triomphe::Arc<list::Quicklist>),
    /// A stream.
    Stream(Arc<stream::Stream>),
}

/// A table of fewer members is in the caches when it is used at all often.
const PREFETCHED_LEN_MIN: usize = 4096;

impl Object {
    /// Under what a member of a table is looked up, if the table is so big that it is worth
    /// fetching what that will read ahead of time.
    pub fn prefetch_hash(&self, member: &[u8]) -> Option<MemberHash> {
        match self {
            Object::Hash(table) if table.len() >= PREFETCHED_LEN_MIN => Some(table.hash(member)),
            Object::Set(table) if table.len() >= PREFETCHED_LEN_MIN => Some(table.hash(member)),
            Object::ZSet(table) if table.len() >= PREFETCHED_LEN_MIN => Some(table.hash(member)),
            _ => None,
        }
    }

    /// Starts fetching what looking members up under these hashes will read.
    pub fn prefetch(&self, hashes: &[MemberHash]) {
        match self {
            Object::Hash(table) => table.prefetch_hashed(hashes),
            Object::Set(table) => table.prefetch(hashes),
            Object::ZSet(table) => table.prefetch(hashes),
            Object::Bytes(_) | Object::List(_) | Object::Stream(_) => {}
        }
    }

    /// The memory of the value, shared or not, without the size of the pointer to it.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Object::Bytes(bytes) => size_of::<usize>() + size_of::<Vec<u8>>() + bytes.capacity(),
            Object::Hash(table) => size_of::<usize>() + table.memory_bytes(),
            Object::Set(table) => size_of::<usize>() + table.memory_bytes(),
            Object::ZSet(table) => size_of::<usize>() + table.memory_bytes(),
            Object::List(list) => list.memory_bytes() + size_of::<list::Quicklist>(),
            Object::Stream(stream) => size_of::<usize>() + stream.memory_bytes(),
        }
    }

    /// Whether nothing else refers to the value itself.
    pub fn is_unique(&self) -> bool {
        match self {
            Object::Bytes(bytes) => bytes.is_unique(),
            Object::Hash(table) => table.is_unique(),
            Object::Set(table) => table.is_unique(),
            Object::ZSet(table) => table.is_unique(),
            Object::List(list) => list.is_unique(),
            Object::Stream(stream) => stream.is_unique(),
        }
    }

    /// About how many of its bytes stay when it is dropped now, since snapshots share them.
    pub fn shared_bytes(&self) -> usize {
        let share = match self {
            _ if !self.is_unique() => 1.0,
            Object::Bytes(_) => 0.0,
            Object::Hash(table) => table.shared_share(),
            Object::Set(table) => table.shared_share(),
            Object::ZSet(table) => table.shared_share(),
            Object::List(list) => list.shared_share(),
            Object::Stream(stream) => stream.entries.shared_share(),
        };
        match share {
            0.0 => 0,
            share => (self.memory_bytes() as f64 * share) as usize,
        }
    }
}

/// Whether bytes are just what printing an `i64` yields: no plus, no leading zeros, no `-0`.
fn is_canonical_integer(bytes: &[u8]) -> bool {
    let digits = match bytes {
        [b'-', digits @ ..] => digits,
        digits => digits,
    };
    let leading_zero = digits.first() == Some(&b'0') && bytes.len() > 1;
    if leading_zero || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<i64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::Encoding::{self, Embstr, Int, Raw};

    #[test]
    fn a_string_is_labelled_by_its_bytes() {
        for number in [0, 1, -1, 10, -10, i64::MAX, i64::MIN, 1_000_000] {
            assert_eq!(Encoding::of_whole(number.to_string().as_bytes()), Int);
        }
        let others: [&[u8]; 12] = [
            b"",
            b"-",
            b"+1",
            b"-0",
            b"00",
            b"01",
            b" 1",
            b"1 ",
            b"1.0",
            b"1e3",
            b"-01",
            b"9223372036854775808",
        ];
        for text in others {
            assert_eq!(Encoding::of_whole(text), Embstr);
        }
        assert_eq!(Encoding::of_whole(&[b'1'; 44]), Embstr);
        assert_eq!(Encoding::of_whole(&[b'1'; 45]), Raw);
    }
}
