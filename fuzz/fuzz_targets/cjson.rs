//! JSON is refused, or read; and what was read and can be written can be read again.
#![no_main]

mod lua;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    lua::holds(
        "local ok, value = pcall(cjson.decode, ARGV[1]) if not ok then return end \
         local ok, text = pcall(cjson.encode, value) if not ok then return end \
         local again = cjson.encode(cjson.decode(text)) assert(#again == #text, again)",
        &[text],
    );
});
