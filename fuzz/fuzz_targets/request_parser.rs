//! A stream cut anywhere must give the requests and the error that it gives whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rufous::resp::request::{Limits, ProtocolError, RequestReader};

type Outcome = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

fn parse(stream: &[u8], chunk_len: usize, limits: &Limits) -> Outcome {
    let mut reader = RequestReader::new();
    let mut requests = Vec::new();
    for chunk in stream.chunks(chunk_len) {
        reader.feed(chunk);
        loop {
            let parsed = reader.parse(limits);
            while reader.pending() > 0 {
                requests.push(reader.request(0).iter().map(<[u8]>::to_vec).collect());
                reader.pop_front();
            }
            assert!(reader.memory() < 64 * stream.len() + 256 * 1024);
            match parsed {
                Err(error) => return (requests, Some(error)),
                Ok(0) => break,
                Ok(_) => {}
            }
        }
    }
    (requests, None)
}

fuzz_target!(|input: (u16, bool, &[u8])| {
    let (chunk_len, authenticated, stream) = input;
    let limits = Limits { bulk_len_max: 512 << 20, authenticated };
    let whole = parse(stream, stream.len().max(1), &limits);
    let cut = parse(stream, usize::from(chunk_len).max(1), &limits);
    assert_eq!(whole, cut);
});
