//! The 64-bit checksum of Redis's files.
//!
//! The table-driven crate is used as it is: it checks about two gigabytes a second, which is more
//! than a disk brings. The algorithm starts from zero and inverts nothing at the end, so that the
//! sum of a file is also the state to go on from.

use crc::{CRC_64_REDIS, Crc, Digest, Table};

static ALGORITHM: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// A running checksum.
#[derive(Clone)]
pub struct Crc64(Digest<'static, u64, Table<16>>);

impl Crc64 {
    pub fn new() -> Crc64 {
        Crc64(ALGORITHM.digest())
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of everything so far.
    pub fn value(&self) -> u64 {
        self.0.clone().finalize()
    }
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_digits_is_the_known_one() {
        let mut crc = Crc64::new();
        assert_eq!(crc.value(), 0);
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.value(), 0xe9c6_d914_c4b8_d9ca);
    }
}
