//! No pattern panics, a literal matches itself, and a star around a match keeps it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rufous::structs::glob::{Case, matches};

fuzz_target!(|input: (&[u8], &[u8])| {
    let (pattern, text) = input;
    let literal: Vec<u8> = text.iter().flat_map(|byte| [b'\\', *byte]).collect();
    assert!(matches(&literal, text, Case::Sensitive));
    assert!(matches(&literal, text, Case::Insensitive));
    if matches(pattern, text, Case::Sensitive) && !text.is_empty() {
        assert!(matches(&[b"*", pattern].concat(), text, Case::Sensitive));
    }
    matches(pattern, text, Case::Insensitive);
});
