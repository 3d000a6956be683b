//! Changing a listpack: every edit replaces a stretch of elements by another, through one gap.

use super::{
    BYTES_MAX, COUNT_UNKNOWN, END, Element, HEADER_LEN, INT_16, INT_24, INT_32, INT_64,
    LONG_STRING, Listpack, TooLong, encode_backlen, stored_count,
};
use std::ops::Range;

/// The length at the end of an element takes so many bytes at the most.
const BACKLEN_WIDTH_MAX: usize = 5;

/// A listpack without elements.
pub fn new_empty() -> Vec<u8> {
    vec![HEADER_LEN as u8 + 1, 0, 0, 0, 0, 0, END]
}

/// Adds a text at the end.
#[inline]
pub fn append(listpack: &mut Vec<u8>, text: &[u8]) -> Result<(), TooLong> {
    append_element(listpack, Element::of(text))
}

/// Adds an element at the end.
#[inline]
pub fn append_element(listpack: &mut Vec<u8>, element: Element<'_>) -> Result<(), TooLong> {
    let end = listpack.len() - 1;
    put(listpack, end..end, element, 0)
}

/// Adds elements at the end, all or none.
pub fn extend<'e>(
    listpack: &mut Vec<u8>,
    elements: impl IntoIterator<Item = Element<'e>>,
) -> Result<(), TooLong> {
    let end = listpack.len() - 1;
    listpack.truncate(end);
    let mut added = 0;
    let extended = elements.into_iter().try_for_each(|element| {
        added += 1;
        push_element(listpack, element)
    });
    if extended.is_err() {
        listpack.truncate(end);
    }
    listpack.push(END);
    extended?;
    write_total(listpack);
    recount(listpack, 0, added);
    Ok(())
}

/// Adds an element to bytes without an end. The smallest ones, which are most, take a short way.
#[inline]
fn push_element(bytes: &mut Vec<u8>, element: Element<'_>) -> Result<(), TooLong> {
    let room = BYTES_MAX - 1 - bytes.len().min(BYTES_MAX - 1);
    match element {
        Element::Int(value @ 0..=127) if room >= 2 => {
            bytes.extend_from_slice(&[value as u8, 1]);
            return Ok(());
        }
        Element::Str(text) if text.len() < 64 && room >= 66 => {
            bytes.reserve(text.len() + 2);
            bytes.push(0x80 | text.len() as u8);
            bytes.extend_from_slice(text);
            bytes.push(text.len() as u8 + 1);
            return Ok(());
        }
        _ => {}
    }
    let (head, head_len, data) = encode(element).ok_or(TooLong)?;
    if head_len + data.len() + BACKLEN_WIDTH_MAX > room {
        return Err(TooLong);
    }
    let (backlen, backlen_width) = encode_backlen(head_len + data.len());
    bytes.extend_from_slice(&head[..head_len]);
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(&backlen[..backlen_width]);
    Ok(())
}

/// Adds a text at the start.
pub fn prepend(listpack: &mut Vec<u8>, text: &[u8]) -> Result<(), TooLong> {
    insert(listpack, HEADER_LEN, text)
}

/// Puts a text at a position, before the element that is there.
pub fn insert(listpack: &mut Vec<u8>, position: usize, text: &[u8]) -> Result<(), TooLong> {
    put(listpack, position..position, Element::of(text), 0)
}

/// Puts a text in the place of the element at a position.
pub fn replace(listpack: &mut Vec<u8>, position: usize, text: &[u8]) -> Result<(), TooLong> {
    replace_element(listpack, position, Element::of(text))
}

/// Puts an element in the place of the one at a position.
pub fn replace_element(
    listpack: &mut Vec<u8>,
    position: usize,
    element: Element<'_>,
) -> Result<(), TooLong> {
    let end = Listpack::trusted(listpack).next(position);
    put(listpack, position..end, element, 1)
}

/// Deletes the element at a position, where the next one is afterwards.
pub fn delete(listpack: &mut Vec<u8>, position: usize) {
    delete_range(listpack, position, 1);
}

/// Deletes up to `count` elements from a position on and says how many they were.
pub fn delete_range(listpack: &mut Vec<u8>, position: usize, count: usize) -> usize {
    let mut rest = Listpack::trusted(listpack).iter_from(position);
    let deleted = rest.by_ref().take(count).count();
    let end = rest.next().map_or(listpack.len() - 1, |(position, _)| position);
    open_gap(listpack, position..end, 0).expect("a listpack that shrinks is not too long");
    recount(listpack, deleted, 0);
    deleted
}

/// Cuts a listpack in two at a position and returns the second one.
pub fn split_off(listpack: &mut Vec<u8>, position: usize) -> Vec<u8> {
    let moved = Listpack::trusted(listpack).iter_from(position).count();
    let mut second = new_empty();
    second.splice(HEADER_LEN..HEADER_LEN, listpack[position..listpack.len() - 1].iter().copied());
    write_total(&mut second);
    recount(&mut second, 0, moved);
    let end = listpack.len() - 1;
    open_gap(listpack, position..end, 0).expect("a listpack that shrinks is not too long");
    recount(listpack, moved, 0);
    second
}

/// Puts an element in the place of the `removed` ones that fill a range.
fn put(
    listpack: &mut Vec<u8>,
    range: Range<usize>,
    element: Element<'_>,
    removed: usize,
) -> Result<(), TooLong> {
    let mut result = Ok(());
    encode_element(element, |parts| {
        let len = parts.iter().map(|part| part.len()).sum();
        let mut at = range.start;
        result = open_gap(listpack, range, len);
        if result.is_ok() {
            for part in parts {
                listpack[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            recount(listpack, removed, 1);
        }
    })?;
    result
}

/// Hands over an encoded element: its head, its data, and its length to be read from the end.
#[inline]
pub(super) fn encode_element(
    element: Element<'_>,
    take: impl FnOnce([&[u8]; 3]),
) -> Result<(), TooLong> {
    let (head, head_len, data) = encode(element).ok_or(TooLong)?;
    let (backlen, backlen_width) = encode_backlen(head_len + data.len());
    take([&head[..head_len], data, &backlen[..backlen_width]]);
    Ok(())
}

/// The encoding (for an integer with its value), its length, and the data that follow it; `None`
/// for a string that is too long for any listpack.
fn encode(element: Element<'_>) -> Option<([u8; 9], usize, &[u8])> {
    let mut head = [0; 9];
    match element {
        Element::Int(value) => {
            let len = encode_int(value, &mut head);
            Some((head, len, &[]))
        }
        Element::Str(text) if text.len() > BYTES_MAX => None,
        Element::Str(text) => {
            let len = text.len() as u32;
            let head_len = match len {
                0..64 => {
                    head[0] = 0x80 | len as u8;
                    1
                }
                64..4096 => {
                    head[..2].copy_from_slice(&(0xe000 | len as u16).to_be_bytes());
                    2
                }
                _ => {
                    head[0] = LONG_STRING;
                    head[1..5].copy_from_slice(&len.to_le_bytes());
                    5
                }
            };
            Some((head, head_len, text))
        }
    }
}

/// Writes an integer in the shortest encoding and answers its length.
fn encode_int(value: i64, head: &mut [u8; 9]) -> usize {
    let (code, width) = match value {
        0..=127 => {
            head[0] = value as u8;
            return 1;
        }
        -4096..=4095 => {
            let bits = 0xc000 | (value as u16 & 0x1fff);
            head[..2].copy_from_slice(&bits.to_be_bytes());
            return 2;
        }
        -0x8000..=0x7fff => (INT_16, 2),
        -0x80_0000..=0x7f_ffff => (INT_24, 3),
        -0x8000_0000..=0x7fff_ffff => (INT_32, 4),
        _ => (INT_64, 8),
    };
    head[0] = code;
    head[1..=width].copy_from_slice(&value.to_le_bytes()[..width]);
    width + 1
}

/// Gives a range another length; what it holds afterwards is the caller's to write.
fn open_gap(listpack: &mut Vec<u8>, range: Range<usize>, len: usize) -> Result<(), TooLong> {
    if len == range.len() {
        return Ok(());
    }
    let old_total = listpack.len();
    let total = old_total - range.len() + len;
    if len > range.len() {
        if total > BYTES_MAX {
            return Err(TooLong);
        }
        reserve(listpack, total - old_total);
        listpack.resize(total, 0);
    }
    listpack.copy_within(range.end..old_total, range.start + len);
    listpack.truncate(total);
    write_total(listpack);
    Ok(())
}

/// Grows the memory to powers of two: what a list's leaf may hold is one.
pub(super) fn reserve(listpack: &mut Vec<u8>, more: usize) {
    let (len, needed) = (listpack.len(), listpack.len() + more);
    if needed > listpack.capacity() {
        listpack.reserve_exact(needed.next_power_of_two() - len);
    }
}

pub(super) fn write_total(listpack: &mut [u8]) {
    let total = (listpack.len() as u32).to_le_bytes();
    listpack[..4].copy_from_slice(&total);
}

/// Takes the count in the header from the elements.
pub fn count_anew(listpack: &mut [u8]) {
    let count = super::Listpack::trusted(listpack).iter().count();
    store_count(listpack, count);
}

/// Keeps the stored count; once it has saturated it stays so.
pub(super) fn recount(listpack: &mut [u8], removed: usize, added: usize) {
    let stored = stored_count(listpack);
    if stored == COUNT_UNKNOWN {
        return;
    }
    store_count(listpack, usize::from(stored) - removed + added);
}

fn store_count(listpack: &mut [u8], count: usize) {
    let stored = u16::try_from(count).unwrap_or(COUNT_UNKNOWN);
    listpack[4..6].copy_from_slice(&stored.to_le_bytes());
}
