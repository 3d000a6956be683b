//! Memory that fills little by little, while others wait for each step.
//!
//! The allocator asks for huge pages, for the sake of lookups in a big keyspace. But the first byte
//! that is written into one has the system zero two megabytes, which can take milliseconds, and
//! bytes that come from a socket meet a new one every few reads. So as long as a large vector
//! fills, the system is told to back it by small pages, each of which costs when its bytes come;
//! the advice is taken back when the vector is whole or dropped, for whoever has the memory next.
//!
//! Touching the memory in portions ahead of the bytes was refused: what is only declared would be
//! resident then. So was having no huge pages for any large allocation: tables are large, too.
#![allow(unsafe_code)]

use crate::structs::memory;
use std::collections::TryReserveError;
use std::ops::{Deref, DerefMut};

/// What lies in one huge page at most: to advise about less gains nothing.
const LARGE_BYTES_MIN: usize = 2 << 20;

/// A multiple of the length of a small page, on every machine.
const PAGE_BYTES: usize = 64 << 10;

/// A vector that is not to grow beyond what is reserved for it.
#[derive(Default)]
pub struct Filling(Vec<u8>);

impl Filling {
    pub fn reserve(len: usize) -> Result<Filling, TryReserveError> {
        let mut bytes = Vec::new();
        memory::asking(|| bytes.try_reserve_exact(len))?;
        advise(&bytes, Pages::Small);
        Ok(Filling(bytes))
    }

    /// The vector, which fills no more.
    pub fn into_vec(mut self) -> Vec<u8> {
        advise(&self.0, Pages::Any);
        std::mem::take(&mut self.0)
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        advise(&self.0, Pages::Any);
    }
}

impl Deref for Filling {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Filling {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

enum Pages {
    Small,
    Any,
}

/// Advises the system about the pages that lie in the vector's memory as a whole. What it makes of
/// the advice concerns nobody but the clock.
#[cfg(all(target_os = "linux", not(miri)))]
fn advise(bytes: &Vec<u8>, pages: Pages) {
    use rustix::mm::{Advice, madvise};
    if bytes.capacity() < LARGE_BYTES_MIN {
        return;
    }
    let advice = match pages {
        Pages::Small => Advice::LinuxNoHugepage,
        Pages::Any => Advice::LinuxHugepage,
    };
    let before_page = bytes.as_ptr().align_offset(PAGE_BYTES);
    let len = (bytes.capacity() - before_page) / PAGE_BYTES * PAGE_BYTES;
    let start = bytes.as_ptr().wrapping_add(before_page);
    // SAFETY: both kinds of advice leave the contents and the protection of memory as they are,
    // and only pages of this vector's own allocation are named.
    let _ = unsafe { madvise(start.cast_mut().cast(), len, advice) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn advise(_: &Vec<u8>, _: Pages) {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags that the system keeps with the memory at an address.
    #[cfg(target_os = "linux")]
    fn flags_at(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("the system tells");
        let mut is_there = false;
        for line in maps.lines() {
            let bounds = line.split(' ').next().and_then(|range| range.split_once('-'));
            let bounds = bounds.map(|(from, to)| {
                let number = |text| usize::from_str_radix(text, 16).expect("an address");
                number(from)..number(to)
            });
            is_there = bounds.map_or(is_there, |bounds| bounds.contains(&address));
            if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| is_there) {
                return format!("{flags} ");
            }
        }
        panic!("{address:x} is not mapped");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_has_small_pages_only_while_it_fills() {
        if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            return;
        }
        let middle = |bytes: &Vec<u8>| bytes.as_ptr() as usize + bytes.capacity() / 2;
        let has_small_only = |at: usize| flags_at(at).contains(" nh ");
        let filling = Filling::reserve(16 << 20).expect("memory");
        let at = middle(&filling);
        assert!(has_small_only(at));
        let bytes = filling.into_vec();
        assert_eq!((middle(&bytes), bytes.capacity()), (at, 16 << 20));
        assert!(!has_small_only(at));
        let small = Filling::reserve(1 << 20).expect("memory");
        assert!(!has_small_only(middle(&small)), "what is not large is left alone");
    }

    #[test]
    fn what_no_machine_has_is_not_reserved() {
        assert!(Filling::reserve(usize::MAX / 2).is_err());
        assert_eq!(Filling::default().into_vec().capacity(), 0);
    }
}
