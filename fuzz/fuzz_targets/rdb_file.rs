//! A snapshot file is read to its end or to an error, whatever its bytes are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rufous::config::Config;
use rufous::keyspace::HashSecret;
use rufous::persist::rdb::{Limits, LoadOptions, Loader};

fuzz_target!(|input: (bool, &[u8])| {
    let (is_len_known, bytes) = input;
    let limits = Limits::of(&Config::default(), HashSecret::new([3; 16]));
    let options = LoadOptions {
        has_checksum: false,
        total_bytes: is_len_known.then_some(bytes.len() as u64),
        skips_modules: true,
        ..LoadOptions::new(limits)
    };
    let mut loader = Loader::new(bytes, options);
    while let Ok(Some(_)) = loader.next_record() {}
    assert!(loader.position() <= bytes.len() as u64);
});
