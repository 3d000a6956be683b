//! A payload of RESTORE is refused, or is a value: one that can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rufous::config::Config;
use rufous::keyspace::HashSecret;
use rufous::persist::rdb::{self, Limits, SaveVersion};

fuzz_target!(|body: &[u8]| {
    let limits = Limits::of(&Config::default(), HashSecret::new([3; 16]));
    let payload = [body, &[12, 0], &[0; 8]].concat();
    let payload = rdb::verify(&payload, true).expect("the version is known");
    let Ok(entry) = rdb::restore(payload, b"key", None, &limits) else { return };
    let again = rdb::dump(&entry, SaveVersion::V12, true);
    let again = rdb::verify(&again, false).expect("it is ours");
    rdb::restore(again, b"key", None, &limits).expect("it is ours");
});
