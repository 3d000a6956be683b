//! A listpack with unused bytes before it, so that its front can grow and shrink without moving
//! the rest: a queue is pushed and popped at its ends thousands of times for each other edit.
//!
//! The bytes of the listpack itself are contiguous and as Redis lays them out; only where they
//! start is ours. Prepending moves the header back by the length of the element, popping moves it
//! forward over what it removes. The edits of other places close the gap first.

use super::edit::{encode_element, recount, reserve, write_total};
use super::{END, Element, HEADER_LEN, Listpack, TooLong, new_empty};

#[derive(Clone, Debug)]
pub struct Gapped {
    bytes: Vec<u8>,
    /// Where the listpack starts.
    start: usize,
}

impl Default for Gapped {
    fn default() -> Gapped {
        Gapped::new(new_empty())
    }
}

impl Gapped {
    /// Takes a well-formed listpack.
    pub fn new(bytes: Vec<u8>) -> Gapped {
        Gapped { bytes, start: 0 }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn listpack(&self) -> Listpack<'_> {
        Listpack::trusted(self.as_bytes())
    }

    /// The memory that the bytes and the gap take.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Edits the listpack at any place.
    pub fn edit<R>(&mut self, edit: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.bytes.drain(..self.start);
        self.start = 0;
        edit(&mut self.bytes)
    }

    /// Adds a text at the end.
    pub fn append(&mut self, text: &[u8]) -> Result<(), TooLong> {
        encode_element(Element::of(text), |parts| {
            self.make_room(parts.iter().map(|part| part.len()).sum());
            self.bytes.pop();
            parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
            self.bytes.push(END);
        })?;
        self.count_changed(0, 1);
        Ok(())
    }

    /// Adds a text at the start.
    pub fn prepend(&mut self, text: &[u8]) -> Result<(), TooLong> {
        encode_element(Element::of(text), |parts| {
            let len: usize = parts.iter().map(|part| part.len()).sum();
            self.make_gap(len);
            let header = self.start..self.start + HEADER_LEN;
            self.start -= len;
            self.bytes.copy_within(header, self.start);
            let mut at = self.start + HEADER_LEN;
            for part in parts {
                self.bytes[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
        })?;
        self.count_changed(0, 1);
        Ok(())
    }

    /// Removes the first `count` elements, or all if there are fewer.
    pub fn remove_first(&mut self, count: usize) {
        let listpack = self.listpack();
        let mut elements = listpack.iter();
        let removed = elements.by_ref().take(count).count();
        let rest = elements.next().map_or(listpack.end(), |(position, _)| position);
        let header = self.start..self.start + HEADER_LEN;
        self.start += rest - HEADER_LEN;
        self.bytes.copy_within(header, self.start);
        self.count_changed(removed, 0);
    }

    /// Removes the last `count` elements, or all if there are fewer.
    pub fn remove_last(&mut self, count: usize) {
        let listpack = self.listpack();
        let removed = count.min(listpack.len());
        if removed == 0 {
            return;
        }
        let first = listpack.len() - removed;
        let end = listpack.seek(first as i64).unwrap_or(HEADER_LEN);
        self.bytes.truncate(self.start + end);
        self.bytes.push(END);
        self.count_changed(removed, 0);
    }

    /// Makes room for so many bytes at the end: a long gap is closed before the memory grows.
    fn make_room(&mut self, len: usize) {
        if self.bytes.capacity() - self.bytes.len() >= len {
            return;
        }
        if self.start >= len.max(self.bytes.capacity() / 4) {
            self.bytes.drain(..self.start);
            self.start = 0;
        } else {
            reserve(&mut self.bytes, len);
        }
    }

    /// Makes room for so many bytes before the listpack. The memory doubles, so that each byte is
    /// moved about twice however long the listpack grows.
    fn make_gap(&mut self, len: usize) {
        if self.start >= len {
            return;
        }
        let (old_start, old_len) = (self.start, self.bytes.len());
        let used = old_len - old_start;
        let total = (used + len).next_power_of_two().max(self.bytes.capacity());
        self.bytes.reserve_exact(total - old_len);
        self.bytes.resize(total, 0);
        self.start = total - used;
        self.bytes.copy_within(old_start..old_len, self.start);
    }

    fn count_changed(&mut self, removed: usize, added: usize) {
        let listpack = &mut self.bytes[self.start..];
        write_total(listpack);
        recount(listpack, removed, added);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::listpack;
    use crate::structs::prng::Prng;

    /// The same edits on a plain listpack lead to the same bytes.
    #[test]
    fn the_bytes_are_those_of_a_listpack_without_a_gap() {
        for seed in 0..20 {
            let mut prng = Prng::seeded(seed);
            let (mut gapped, mut plain) = (Gapped::default(), new_empty());
            for _ in 0..800 {
                let text = match prng.below(3) {
                    0 => prng.below(100_000).to_string().into_bytes(),
                    _ => vec![b'x'; prng.below(90) as usize],
                };
                match prng.below(8) {
                    0 | 1 => {
                        gapped.prepend(&text).expect("short");
                        listpack::prepend(&mut plain, &text).expect("short");
                    }
                    2 | 3 => {
                        gapped.append(&text).expect("short");
                        listpack::append(&mut plain, &text).expect("short");
                    }
                    4 => {
                        let count = prng.below(4) as usize;
                        gapped.remove_first(count);
                        listpack::delete_range(&mut plain, HEADER_LEN, count);
                    }
                    5 => {
                        let count = prng.below(4) as usize;
                        gapped.remove_last(count);
                        let kept = Listpack::trusted(&plain).len().saturating_sub(count);
                        if let Some(at) = Listpack::trusted(&plain).seek(kept as i64) {
                            listpack::delete_range(&mut plain, at, count);
                        }
                    }
                    6 => {
                        let len = plain.len();
                        gapped.edit(|bytes| listpack::insert(bytes, len - 1, &text)).expect("ok");
                        listpack::insert(&mut plain, len - 1, &text).expect("ok");
                    }
                    _ => gapped = gapped.clone(),
                }
                assert!(gapped.as_bytes() == plain);
                assert!(listpack::validate(gapped.as_bytes(), true));
            }
        }
    }

    #[test]
    fn a_queue_does_not_grow() {
        let mut gapped = Gapped::default();
        for i in 0..100_000 {
            gapped.append(i.to_string().as_bytes()).expect("short");
            if i >= 100 {
                gapped.remove_first(1);
            }
        }
        assert!(gapped.capacity() <= 4096, "{} bytes", gapped.capacity());
    }
}
