//! A format of struct is refused, or read; and what it makes of bytes is taken back by it.
#![no_main]

mod lua;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (format, bytes) = input;
    lua::holds(
        "pcall(struct.size, ARGV[1]) pcall(struct.unpack, ARGV[1], ARGV[2], #ARGV[2]) \
         pcall(struct.pack, ARGV[1], ARGV[2], 1, -1.5, 2^63, 0/0, ARGV[2], 'text', 7) \
         local read = {pcall(struct.unpack, ARGV[1], ARGV[2])} if not read[1] then return end \
         assert(read[#read] <= #ARGV[2] + 1) \
         pcall(struct.pack, ARGV[1], unpack(read, 2, #read - 1))",
        &[format, bytes],
    );
});
