//! The parser's tests: a table of streams with what a real server makes of them, each fed whole,
//! byte by byte and cut in two at each place, and random pipelines.

use super::*;
use proptest::prelude::*;

const OPEN: Limits = Limits { bulk_len_max: 512 << 20, authenticated: true };
const LOCKED: Limits = Limits { authenticated: false, ..OPEN };

type Requests = Vec<Vec<Vec<u8>>>;
type Outcome = (Requests, Option<ProtocolError>);

fn drain(reader: &mut RequestReader, requests: &mut Requests) {
    for _ in 0..reader.pending() {
        requests.push(reader.request(0).iter().map(<[u8]>::to_vec).collect());
        reader.pop_front();
    }
}

/// Feeds the chunks one by one, executing after each, as a connection does.
fn parse_chunks<'a>(chunks: impl Iterator<Item = &'a [u8]>, limits: &Limits) -> Outcome {
    let mut reader = RequestReader::new();
    let mut requests = Vec::new();
    for chunk in chunks {
        reader.feed(chunk);
        loop {
            let before = requests.len();
            let parsed = reader.parse(limits);
            drain(&mut reader, &mut requests);
            match parsed {
                Err(error) => return (requests, Some(error)),
                Ok(0) => break,
                Ok(_) => assert!(requests.len() > before, "what is parsed is there to run"),
            }
        }
    }
    (requests, None)
}

/// Asserts that the stream's cut makes no difference, and answers the outcome.
fn parse_every_way(stream: &[u8], limits: &Limits) -> Outcome {
    let whole = parse_chunks([stream].into_iter(), limits);
    assert_eq!(parse_chunks(stream.chunks(1), limits), whole, "{}", stream.escape_ascii());
    for cut in 1..stream.len().min(300) {
        let (left, right) = stream.split_at(cut);
        let outcome = parse_chunks([left, right].into_iter(), limits);
        assert_eq!(outcome, whole, "cut at {cut}: {}", stream.escape_ascii());
    }
    whole
}

fn words(requests: &[&[&str]]) -> Requests {
    let owned = |request: &&[&str]| request.iter().map(|arg| arg.as_bytes().to_vec()).collect();
    requests.iter().map(owned).collect()
}

#[test]
fn streams_are_read_as_redis_reads_them() {
    let table: [(&[u8], &[&[&str]]); 26] = [
        (b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", &[&["GET", "k"]]),
        (b"*1\r\n$4\r\nPINGxx", &[&["PING"]]),
        (b"*1\rX$4\rYPINGzz", &[&["PING"]]),
        (b"*1\r\n$0\r\n\r\n", &[&[""]]),
        (b"PING\n", &[&["PING"]]),
        (b"PING\r\r\n", &[&["PING"]]),
        (b"\r\n\n  \r\nPING\r\n", &[&["PING"]]),
        (b"*0\r\n*-1\r\n*-99\r\nPING\r\n", &[&["PING"]]),
        (b"*-9223372036854775808\r\nPING\r\n", &[&["PING"]]),
        (b"PI\"NG\"\r\n", &[&["PING"]]),
        (b"'PING'\r\n", &[&["PING"]]),
        (b"\"\\x50ING\"\r\n", &[&["PING"]]),
        (b"PI\x0bNG\r\n", &[&["PI\x0bNG"]]),
        (b"PING\x0b\r\n", &[&["PING\x0b"]]),
        (
            b"SET k \"a b\"\r\n*1\r\n$4\r\nPING\r\nGET k\n",
            &[&["SET", "k", "a b"], &["PING"], &["GET", "k"]],
        ),
        (
            b"*11\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n\
              $1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$12\r\n0123456789ab\r\n",
            &[&["a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "0123456789ab"]],
        ),
        (b"*2147483647\r\n", &[]),
        (b"*1\r\n$536870912\r\n", &[]),
        (b"*1\r\nfoo", &[]),
        (b"*1\r\n$4\r\nPING\r", &[]),
        (b"PING", &[]),
        (b"*1\r", &[]),
        // A zero byte hides the line's end, for ever.
        (b"PING\r\nPI\0NG\r\nPING\r\n", &[&["PING"]]),
        (b"ECHO \"a\0b\"\r\nPING\r\n", &[]),
        (b"*1\0\r\n$4\r\nPING\r\n", &[]),
        (b"*1\r\n$4\0\r\nPING\r\nPING\r\n", &[]),
    ];
    for (stream, expected) in table {
        let (requests, error) = parse_every_way(stream, &OPEN);
        assert_eq!((requests, error), (words(expected), None), "{}", stream.escape_ascii());
    }
}

#[test]
fn errors_have_redis_texts() {
    let table: [(&[u8], &[u8]); 26] = [
        (b"*2147483648\r\n", b"invalid multibulk length"),
        (b"*abc\r\n", b"invalid multibulk length"),
        (b"*+1\r\n", b"invalid multibulk length"),
        (b"* 1\r\n", b"invalid multibulk length"),
        (b"*01\r\n", b"invalid multibulk length"),
        (b"*\r\n", b"invalid multibulk length"),
        (b"*-9223372036854775809\r\n", b"invalid multibulk length"),
        (b"*1\r\n$-1\r\n", b"invalid bulk length"),
        (b"*1\r\n$536870913\r\n", b"invalid bulk length"),
        (b"*1\r\n$\r\n", b"invalid bulk length"),
        (b"*1\r\n$05\r\nhello\r\n", b"invalid bulk length"),
        (b"*1\r\n$00\r\n", b"invalid bulk length"),
        (b"*1\r\n$-0\r\n", b"invalid bulk length"),
        (b"*1\r\n$1x\r\n", b"invalid bulk length"),
        (b"*1\r\n$18446744073709551616\r\n", b"invalid bulk length"),
        (b"*1\r\n*1\r\n", b"expected '$', got '*'"),
        (b"*1\r\nPING\r\n", b"expected '$', got 'P'"),
        (b"*1\r\n\xff\r\n", b"expected '$', got '\xff'"),
        (b"*1\r\n\x01\r\n", b"expected '$', got '\x01'"),
        (b"*1\r\n\r\n", b"expected '$', got '\r'"),
        (b"*1\r\n\n\r\n", b"expected '$', got '\n'"),
        (b"\"PING\r\n", b"unbalanced quotes in request"),
        (b"'PING\r\n", b"unbalanced quotes in request"),
        (b"\"PI\"NG\r\n", b"unbalanced quotes in request"),
        (b"SET k \"\\x\r\n", b"unbalanced quotes in request"),
        (b"*2\r\n$1\r\na\r\n$1\r\nb\nX:", b""),
    ];
    for (stream, text) in table {
        let (requests, error) = parse_every_way(stream, &OPEN);
        let told = error.map(ProtocolError::text).unwrap_or_default();
        assert_eq!(told, text, "{}", stream.escape_ascii());
        if let Some(error) = error {
            assert!(requests.is_empty());
            assert_eq!(error.reply_text(), [b"ERR Protocol error: ", text].concat());
        }
    }
}

#[test]
fn requests_before_an_error_are_executed_first() {
    let (requests, error) = parse_every_way(b"PING\r\n*1\r\nx\r\nPING\r\n", &OPEN);
    assert_eq!(requests, words(&[&["PING"]]));
    assert_eq!(error, Some(ProtocolError::ExpectedDollar(b'x')));
    let mut reader = RequestReader::new();
    reader.feed(b"PING\r\n*x\r\n");
    for _ in 0..2 {
        assert_eq!(reader.parse(&OPEN), Err(ProtocolError::InvalidMultibulkLen));
        assert_eq!(reader.pending(), 1);
    }
    reader.feed(b"PING\r\n");
    reader.pop_front();
    assert_eq!(reader.parse(&OPEN), Err(ProtocolError::InvalidMultibulkLen));
}

#[test]
fn a_tls_handshake_is_no_line() {
    let (requests, error) = parse_every_way(b"PING\r\n\x16\x03\x01\x02\x00\x01", &OPEN);
    assert_eq!(requests, words(&[&["PING"]]));
    assert_eq!(error, Some(ProtocolError::TlsHello));
    let (requests, error) = parse_every_way(b"\x16 x\r\n", &OPEN);
    assert_eq!((requests, error), (words(&[&["\x16", "x"]]), None));
}

#[test]
fn the_first_64_kb_of_a_line_decide() {
    let table: [(&[u8], &[u8], u8, ProtocolError); 4] = [
        (b"", b"\n", b'a', ProtocolError::BigInlineRequest),
        (b"*", b"\r\n", b'1', ProtocolError::BigMultibulkLine),
        (b"*1\r\n$", b"\r\n", b'1', ProtocolError::BigBulkLine),
        (b"*1\r\nz", b"\r\n", b'1', ProtocolError::BigBulkLine),
    ];
    for (prefix, end, fill, error) in table {
        let line_len = |len: usize| {
            let start = prefix.iter().position(|byte| *byte == b'\n').map_or(0, |idx| idx + 1);
            let mut stream = prefix.to_vec();
            stream.resize(start + len, fill);
            stream
        };
        for chunk in [1, 777, 16_384, 1 << 20] {
            let outcome = |stream: &[u8]| parse_chunks(stream.chunks(chunk), &OPEN).1;
            assert_eq!(outcome(&line_len(LINE_LEN_MAX)), None);
            assert_eq!(outcome(&line_len(LINE_LEN_MAX + 1)), Some(error));
            assert_eq!(outcome(&[&line_len(LINE_LEN_MAX + 1), end].concat()), Some(error));
            let fitting = outcome(&[&line_len(LINE_LEN_MAX), end].concat());
            assert_ne!(fitting, Some(error));
            let mut hidden = line_len(LINE_LEN_MAX - end.len());
            let last = hidden.len() - 1;
            hidden[last] = 0;
            hidden.extend_from_slice(end);
            assert_eq!(outcome(&hidden), None);
            hidden.push(b'x');
            assert_eq!(outcome(&hidden), Some(error));
        }
    }
}

#[test]
fn clients_that_have_not_authenticated_are_held_short() {
    let table: [(&[u8], Option<ProtocolError>); 4] = [
        (b"*11\r\n", Some(ProtocolError::UnauthenticatedMultibulkLen)),
        (b"*10\r\n", None),
        (b"*1\r\n$16385\r\n", Some(ProtocolError::UnauthenticatedBulkLen)),
        (b"*1\r\n$16384\r\n", None),
    ];
    for (stream, expected) in table {
        assert_eq!(parse_every_way(stream, &LOCKED).1, expected);
        assert_eq!(parse_every_way(stream, &OPEN).1, None);
    }
    let mut reader = RequestReader::new();
    reader.feed(b"AUTH x\r\n*11\r\n$4\r\nPING\r\n");
    assert_eq!(reader.parse(&LOCKED), Ok(1));
    assert_eq!(reader.parse(&LOCKED), Ok(1));
    reader.pop_front();
    assert_eq!(reader.parse(&OPEN), Ok(0));
    assert!(reader.partial());
}

#[test]
fn a_replication_link_has_no_bulk_limit_but_no_overflow_either() {
    let limits = Limits { bulk_len_max: u64::MAX, authenticated: true };
    for stream in ["*1\r\n$9223372036854775807\r\nabc", "*1\r\n$536870913\r\nabc"] {
        let mut reader = RequestReader::new();
        reader.feed(stream.as_bytes());
        assert_eq!(reader.parse(&limits), Ok(0));
        let room = reader.room().expect("memory");
        assert!(room.buffer.capacity() < 64 * 1024);
        assert!(reader.memory() < 64 * 1024);
    }
}

fn multibulk(args: &[&[u8]]) -> Vec<u8> {
    let mut stream = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        stream.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        stream.extend_from_slice(arg);
        stream.extend_from_slice(b"\r\n");
    }
    stream
}

#[test]
fn a_declared_length_reserves_nothing() {
    let mut reader = RequestReader::new();
    reader.feed(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n");
    assert_eq!(reader.parse(&OPEN), Ok(0));
    assert!(reader.memory() < 64 * 1024, "{}", reader.memory());
    let mut sent = 0;
    while sent < 10 << 20 {
        let room = reader.room().expect("memory");
        assert!(0 < room.len && room.len <= READ_LEN_MAX);
        room.buffer.resize(room.buffer.len() + room.len, b'v');
        sent += room.len;
        assert_eq!(reader.parse(&OPEN), Ok(0));
        assert!(reader.memory() < 9 * sent + 64 * 1024, "{} for {sent}", reader.memory());
        assert!(reader.buffered_len() >= sent);
    }
}

#[test]
fn long_arguments_are_kept_without_copying() {
    let long = vec![b'v'; 3 * SHARED_LEN_MIN];
    let edge = vec![b'e'; SHARED_LEN_MIN - 1];
    let stream = [
        multibulk(&[b"SET", b"a", &long]),
        multibulk(&[b"MSET", b"b", &long, b"c", &edge, b"d", &long]),
        multibulk(&[b"GET", b"a"]),
    ]
    .concat();
    for chunk in [1, 100, 5000, READ_LEN, 70_000, 98_340, 100_000, stream.len()] {
        let mut requests = Vec::new();
        let mut reader = RequestReader::new();
        for part in stream.chunks(chunk) {
            reader.feed(part);
            reader.parse(&OPEN).expect("valid");
            for idx in 0..reader.pending() {
                let request = reader.request(idx);
                for (idx, arg) in request.iter().enumerate() {
                    assert_eq!(request.shared(idx).is_some(), arg.len() >= SHARED_LEN_MIN);
                }
            }
            drain(&mut reader, &mut requests);
        }
        assert_eq!(requests.len(), 3, "chunk {chunk}");
        assert!(requests[0][2] == long && requests[1][2] == long && requests[1][6] == long);
        assert!(requests[1][4] == edge && requests[2] == [b"GET".to_vec(), b"a".to_vec()]);
        assert_eq!((reader.buffered_len(), reader.argv_len(), reader.partial()), (0, 0, false));
        assert_eq!(reader.stream_base, stream.len() as u64);
        assert!(reader.memory() <= 2 * BUFFER_KEPT_MAX, "{}", reader.memory());
    }
}

#[test]
fn stream_ends_count_every_byte() {
    let long = vec![b'v'; 2 * SHARED_LEN_MIN];
    let parts = [
        multibulk(&[b"SELECT", b"0"]),
        b"PING\r\n".to_vec(),
        multibulk(&[b"SET", b"a", &long]),
        [b"*0\r\n\r\n".to_vec(), multibulk(&[b"SET", b"a", b"b"])].concat(),
    ];
    let stream = parts.concat();
    for chunk in [3, 1000, 40_000, stream.len()] {
        let mut reader = RequestReader::new();
        let mut ends = Vec::new();
        for part in stream.chunks(chunk) {
            reader.feed(part);
            for idx in 0..reader.parse(&OPEN).expect("valid") {
                ends.push(reader.stream_end(idx));
            }
            for _ in 0..reader.pending() {
                reader.pop_front();
            }
        }
        let mut sum = 0;
        let expected = parts.iter().map(|part| {
            sum += part.len() as u64;
            sum
        });
        assert_eq!(ends, expected.collect::<Vec<u64>>());
    }
}

#[test]
fn a_reader_is_unused_when_all_that_came_was_run() {
    let mut reader = RequestReader::new();
    assert!(reader.is_unused());
    reader.feed(b"PING\r\nPI");
    assert_eq!(reader.parse(&OPEN), Ok(1));
    assert!(!reader.is_unused(), "one waits");
    reader.pop_front();
    assert!(!reader.is_unused() && reader.partial());
    reader.feed(b"NG\r\n");
    assert_eq!(reader.parse(&OPEN), Ok(1));
    assert_eq!(reader.request(0).arg(0), b"PING");
    assert_eq!(reader.argv_len(), 4);
    reader.pop_front();
    assert!(reader.is_unused() && reader.buffered_len() == 0);
    assert!(reader.memory() < READ_LEN + 4 * 1024, "{}", reader.memory());
    reader.feed(b"*0\r\n\r\n");
    assert_eq!(reader.parse(&OPEN), Ok(0));
    assert!(reader.is_unused());
    reader.feed(b"*x\r\n");
    assert!(reader.parse(&OPEN).is_err());
    assert!(!reader.is_unused(), "it parses nothing more");
}

#[test]
fn a_huge_request_leaves_no_memory_behind() {
    let args = vec![&b"x"[..]; 100_000];
    let mut reader = RequestReader::new();
    for part in multibulk(&args).chunks(READ_LEN) {
        reader.feed(part);
        reader.parse(&OPEN).expect("valid");
        assert!(reader.buffer.capacity() <= 2 * CHUNK_LEN, "it is cut up");
    }
    assert_eq!(reader.request(0).len(), args.len());
    assert_eq!(reader.argv_len(), args.len());
    assert!(reader.memory() > 1_000_000);
    reader.pop_front();
    assert!(reader.memory() < 1000, "{}", reader.memory());
}

/// While a client is not served (it is blocked, say), what it sends is parsed and piles up.
#[test]
fn a_row_of_requests_lies_in_chunks() {
    let mut reader = RequestReader::new();
    let long = vec![b'v'; SHARED_LEN_MIN];
    let request = |idx: u32| match idx % 1000 {
        5 => multibulk(&[b"SET", idx.to_string().as_bytes(), &long]),
        _ => multibulk(&[b"SET", idx.to_string().as_bytes(), &[b'x'; 300]]),
    };
    let stream: Vec<u8> = (0..6000).flat_map(request).collect();
    for part in stream.chunks(7001) {
        reader.feed(part);
        reader.parse(&OPEN).expect("valid");
    }
    assert_eq!(reader.pending(), 6000);
    assert!(reader.shared.len() > 6 && reader.buffer.capacity() <= 2 * CHUNK_LEN);
    assert!(reader.buffered_len() > 6000 * 300);
    let mut args_len = reader.argv_len();
    for idx in 0..6000 {
        let own = reader.request(0);
        assert!(multibulk(&own.iter().collect::<Vec<_>>()) == request(idx));
        assert_eq!(reader.argv_len(), args_len);
        args_len -= own.payload_len();
        reader.pop_front();
    }
    assert_eq!((reader.argv_len(), reader.buffered_len(), reader.shared_len), (0, 0, 0));
    assert!(reader.shared.is_empty());
    assert_eq!(reader.stream_base, stream.len() as u64);
}

fn any_request() -> impl Strategy<Value = (bool, Vec<Vec<u8>>)> {
    let arg = prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => proptest::collection::vec(any::<u8>(), 90..120),
        1 => (SHARED_LEN_MIN - 2..SHARED_LEN_MIN + 2).prop_map(|len| vec![b'*'; len]),
    ];
    (any::<bool>(), proptest::collection::vec(arg, 1..6))
}

fn inline(args: &[Vec<u8>]) -> Vec<u8> {
    let mut line = Vec::new();
    for arg in args {
        line.push(b'"');
        for byte in arg {
            line.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
        line.extend_from_slice(b"\" ");
    }
    line.extend_from_slice(b"\r\n");
    line
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_pipelines_come_back(
        requests in proptest::collection::vec(any_request(), 0..12),
        cuts in proptest::collection::vec(1usize..5000, 1..50),
    ) {
        let mut stream = Vec::new();
        for (as_inline, args) in &requests {
            let short = args.iter().map(Vec::len).sum::<usize>() < 1000;
            if *as_inline && short {
                stream.extend_from_slice(&inline(args));
            } else {
                let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                stream.extend_from_slice(&multibulk(&args));
            }
        }
        let mut rest = &stream[..];
        let mut cuts = cuts.iter().cycle();
        let chunks = std::iter::from_fn(|| {
            let len = rest.len().min(*cuts.next().expect("an endless cycle"));
            let (chunk, tail) = rest.split_at(len);
            rest = tail;
            (!chunk.is_empty()).then_some(chunk)
        });
        let (parsed, error) = parse_chunks(chunks, &OPEN);
        prop_assert_eq!(error, None);
        let expected: Requests = requests.into_iter().map(|(_, args)| args).collect();
        prop_assert!(parsed == expected);
    }

    #[test]
    fn no_stream_panics_and_no_cut_matters(stream in "[*$0-3\r\nPx\"' -]{0,40}") {
        parse_every_way(stream.as_bytes(), &OPEN);
        parse_every_way(stream.as_bytes(), &LOCKED);
    }
}
