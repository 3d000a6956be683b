//! Sorted sets: members with scores, a listpack, or a ziplist.
//!
//! A listpack that is not in order is no reason to refuse a file, whoever wrote it: it is sorted.

use super::{Decoder, Distinct, Label, ziplist};
use crate::keyspace::Entry;
use crate::persist::rdb::error::RdbError;
use crate::structs::listpack::{Element, Listpack};
use crate::structs::number::{I64Buf, parse_f64};
use crate::types::zset::{Limits, ZSetTable, compare, pack};
use crate::types::{Encoding, Kind, Object};
use std::borrow::Cow;
use triomphe::Arc;

const NO_SCORE: RdbError = RdbError::Corrupt("Zset with NAN score detected");
const BAD_LISTPACK: &str = "Zset listpack integrity check failed.";
const BAD_ZIPLIST: &str = "Zset ziplist integrity check failed.";

/// What stands for scores that have no digits in the old form.
const NAN: u8 = 253;
const POSITIVE_INFINITY: u8 = 254;
const NEGATIVE_INFINITY: u8 = 255;

impl Decoder<'_> {
    pub(super) fn zset(
        &mut self,
        label: Label<'_>,
        has_binary_scores: bool,
    ) -> Result<Option<Entry>, RdbError> {
        let mut table = ZSetTable::new(self.limits.zset.secret);
        let mut longest = 0;
        for _ in 0..self.input.count(2)? {
            self.input.string_to(&mut self.first)?;
            let score = if has_binary_scores {
                f64::from_le_bytes(self.input.array()?)
            } else {
                self.old_score()?
            };
            if score.is_nan() {
                return Err(NO_SCORE);
            }
            longest = longest.max(self.first.len());
            if !table.set(&self.first, score) {
                return Err(RdbError::Corrupt("Duplicate zset fields detected"));
            }
        }
        Ok(entry_of(table, longest, &self.limits.zset, label))
    }

    fn old_score(&mut self) -> Result<f64, RdbError> {
        match self.input.byte()? {
            NAN => Err(NO_SCORE),
            POSITIVE_INFINITY => Ok(f64::INFINITY),
            NEGATIVE_INFINITY => Ok(f64::NEG_INFINITY),
            len => {
                let mut text = [0; 256];
                let text = &mut text[..usize::from(len)];
                for byte in text.iter_mut() {
                    *byte = self.input.byte()?;
                }
                parse_f64(text).ok_or(NO_SCORE)
            }
        }
    }

    pub(super) fn zset_listpack(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let bytes = self.input.string(&mut self.scratch)?;
        let bytes = self.mender.listpack(bytes, BAD_LISTPACK)?;
        entry_of_packed(bytes, BAD_LISTPACK, &mut self.distinct, &self.limits.zset, label)
    }

    pub(super) fn zset_ziplist(&mut self, label: Label<'_>) -> Result<Option<Entry>, RdbError> {
        let bytes = self.input.string(&mut self.scratch)?;
        let bytes = Cow::Owned(ziplist::to_listpack(&bytes, BAD_ZIPLIST)?);
        entry_of_packed(bytes, BAD_ZIPLIST, &mut self.distinct, &self.limits.zset, label)
    }
}

/// The entry of a table, which becomes a listpack if it is small enough.
fn entry_of(table: ZSetTable, longest: usize, limits: &Limits, label: Label<'_>) -> Option<Entry> {
    if table.is_empty() {
        return None;
    }
    if table.len() <= limits.max_listpack_entries && longest <= limits.max_listpack_value {
        let members = table.range(0..table.len());
        if let Ok(bytes) = pack(members.map(|member| (member.bytes(), member.score()))) {
            return Some(label.packed(Kind::ZSet, Encoding::Listpack, Cow::Owned(bytes)));
        }
    }
    Some(label.object(Kind::ZSet, Encoding::Skiplist, Object::ZSet(Arc::new(table))))
}

/// The entry of a well-formed listpack.
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
    if !count.is_multiple_of(2) || !distinct.are(elements().step_by(2)) {
        return Err(RdbError::Corrupt(fault));
    }
    let is_sorted = check_scores(elements())?;
    if is_sorted && count / 2 <= limits.max_listpack_entries {
        return Ok(Some(label.packed(Kind::ZSet, Encoding::Listpack, bytes)));
    }
    let mut table = ZSetTable::new(limits.secret);
    let mut all = elements();
    while let (Some(member), Some(score)) = (all.next(), all.next()) {
        table.set(member.bytes(&mut I64Buf::new()), score_of(score).ok_or(NO_SCORE)?);
    }
    Ok(entry_of(table, 0, limits, label))
}

/// Refuses what is no score; whether the members are in order.
fn check_scores<'e>(mut elements: impl Iterator<Item = Element<'e>>) -> Result<bool, RdbError> {
    let mut is_sorted = true;
    let mut previous: Option<(f64, Element<'_>)> = None;
    while let (Some(member), Some(score)) = (elements.next(), elements.next()) {
        let score = score_of(score).ok_or(NO_SCORE)?;
        if let Some((previous_score, previous)) = previous {
            let (mut a, mut b) = (I64Buf::new(), I64Buf::new());
            let previous = (previous_score, previous.bytes(&mut a));
            is_sorted &= compare(previous, (score, member.bytes(&mut b))).is_lt();
        }
        previous = Some((score, member));
    }
    Ok(is_sorted)
}

fn score_of(element: Element<'_>) -> Option<f64> {
    match element {
        Element::Int(value) => Some(value as f64),
        Element::Str(text) => parse_f64(text).filter(|score| !score.is_nan()),
    }
}
