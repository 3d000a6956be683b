//! Digests of values and datasets: equal data has equal digests, whatever the order of keys and
//! whatever the encodings, here and on a Redis.
//!
//! The scheme is Redis's (DEBUG DIGEST): SHA-1 sums, mixed where order counts and added by
//! exclusive or where it does not.

use super::{Entry, Keyspace, ValueRef};
use crate::structs::number::{F64Buf, I64Buf, format_f64_shortest};
use crate::types::Kind;
use crate::types::hash::{HashRef, LiveTable};
use crate::types::list::ListRef;
use crate::types::stream::Stream;
use sha1_smol::Sha1;
use std::ops::ControlFlow;

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Digest([u8; 20]);

impl Digest {
    /// Adds bytes without regard to order.
    pub fn add(&mut self, bytes: &[u8]) {
        self.xor(Digest(Sha1::from(bytes).digest().bytes()));
    }

    /// Adds another digest as it is, without regard to order.
    fn xor(&mut self, other: Digest) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own ^= other;
        }
    }

    /// Adds bytes so that what was added before them counts.
    pub fn mix(&mut self, bytes: &[u8]) {
        self.add(bytes);
        self.0 = Sha1::from(self.0).digest().bytes();
    }

    /// 40 hexadecimal digits.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Mixes in a value and whether it has an expiry.
    pub fn mix_value(&mut self, entry: &Entry) {
        self.mix(&kind_number(entry.kind()).to_be_bytes());
        match entry.value() {
            // Expired keys count until they are taken away, and so do expired fields.
            ValueRef::Hash(HashRef::Table(live)) => self.add_fields(live),
            ValueRef::Hash(packed) => self.add_pairs(packed),
            ValueRef::Set(set) => {
                for member in set.iter() {
                    self.add(member.bytes(&mut I64Buf::new()));
                }
            }
            ValueRef::List(list) => self.mix_list(list),
            ValueRef::String(bytes) => self.mix(bytes),
            ValueRef::ZSet(zset) => {
                for (member, score) in zset.range(0..zset.len()) {
                    let mut digest = Digest::default();
                    digest.mix(member.bytes(&mut I64Buf::new()));
                    digest.mix(format_f64_shortest(score, &mut F64Buf::new()));
                    self.add(&digest.0);
                }
            }
            ValueRef::Stream(stream) => self.mix_stream(stream),
        }
        if entry.expiry_ms().is_some() {
            self.add(b"!!expire!!");
        }
    }

    fn mix_stream(&mut self, stream: &Stream) {
        for entry in stream.entries.all() {
            self.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
            for (field, value) in entry.pairs() {
                self.mix(field.bytes(&mut I64Buf::new()));
                self.mix(value.bytes(&mut I64Buf::new()));
            }
        }
    }

    fn add_pairs(&mut self, hash: HashRef<'_>) {
        for (name, value) in hash.iter() {
            let (mut a, mut b) = (I64Buf::new(), I64Buf::new());
            self.add(&Digest::of_pair(name.bytes(&mut a), value.bytes(&mut b)).0);
        }
    }

    /// Adds fields of which some expire. Whether they do counts, as with keys, and not when.
    fn add_fields(&mut self, live: LiveTable<'_>) {
        for field in live.iter() {
            let mut pair = Digest::of_pair(field.name(), field.value());
            if field.expiry_ms().is_some() {
                pair.add(b"!!hexpire!!");
            }
            self.add(&pair.0);
        }
    }

    fn of_pair(name: &[u8], value: &[u8]) -> Digest {
        let mut pair = Digest::default();
        pair.mix(name);
        pair.mix(value);
        pair
    }

    fn mix_list(&mut self, list: ListRef<'_>) {
        let _ = list.walk(0..list.len(), false, |_, value| {
            self.mix(&value.to_vec());
            ControlFlow::Continue(())
        });
    }
}

/// The numbers by which Redis knows its types.
fn kind_number(kind: Kind) -> u32 {
    match kind {
        Kind::String => 0,
        Kind::List => 1,
        Kind::Set => 2,
        Kind::ZSet => 3,
        Kind::Hash => 4,
        Kind::Stream => 6,
    }
}

/// The digest of all databases.
pub fn of_dataset(space: &Keyspace) -> Digest {
    let mut total = Digest::default();
    for (index, db) in space.dbs().iter().enumerate().filter(|(_, db)| !db.is_empty()) {
        total.mix(&u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes());
        for entry in db.snapshot(0).entries.iter() {
            let mut digest = Digest::default();
            digest.mix(entry.key());
            digest.mix_value(entry);
            total.add(&digest.0);
        }
    }
    total
}
