//! MessagePack is refused, or read; and what was read can be written and read again.
#![no_main]

mod lua;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    lua::holds(
        "local read = {pcall(cmsgpack.unpack, ARGV[1])} if not read[1] then return end \
         if table.maxn(read) < 2 then return end \
         for i = 2, table.maxn(read) do cmsgpack.unpack(cmsgpack.pack(read[i])) end \
         local at = 0 while at >= 0 and at < #ARGV[1] do at = cmsgpack.unpack_one(ARGV[1], at) end \
         pcall(cmsgpack.unpack_limit, ARGV[1], 3, 1)",
        &[bytes],
    );
});
