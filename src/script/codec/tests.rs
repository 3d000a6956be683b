//! What Redis 7.0 and 8.2 answered, both the same, and properties that hold whatever the input.

use super::values::{Exhausted, Stack, Value};
use super::{Failed, Seen};
use crate::script::output::Output;
use crate::script::output::tests::Limit;
use crate::script::{cjson, cmsgpack};
use proptest::prelude::*;
use std::fmt::Display;

/// A row is an operation, the settings it is done under, its arguments, and the answer. Bytes are
/// written as `escape_ascii` writes them. An answer is a result behind `=`, or an error behind `!`
/// if its text had the script's name and line before it, else behind `!!`.
///
/// | operation | what the script did, `json` being `cjson.new()` with the settings |
/// |---|---|
/// | decode, document | showed `json.decode(document)` |
/// | recode, document | `json.encode(json.decode(document))` |
/// | encode, packed | `json.encode(cmsgpack.unpack(packed))` |
/// | pack, packed | `cmsgpack.pack(cmsgpack.unpack(packed))` |
/// | pack_json, document | `cmsgpack.pack(json.decode(document))` |
/// | unpack, packed, limit, offset | showed `cmsgpack.unpack_limit(packed, limit, offset)` |
/// | set, function, packed | showed `json[function](cmsgpack.unpack(packed))` |
const ANSWERS: &str = include_str!("answers.tsv");

pub fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (escape, after) = rest.split_first().expect("an escape is whole");
        rest = after;
        match escape {
            b'x' => {
                let digits = std::str::from_utf8(&rest[..2]).expect("ASCII");
                out.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
                rest = &rest[2..];
            }
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            other => out.push(*other),
        }
    }
    out
}

/// A result, or an error's text and whether a place is put before it.
type Outcome<T> = Result<T, (String, bool)>;

fn json_outcome<T>(result: Result<T, Failed<cjson::Fault, Exhausted>>) -> Outcome<T> {
    result.map_err(|failed| match failed {
        Failed::Input(fault) => (fault.to_string(), true),
        Failed::Host(Exhausted) => ("exhausted".to_owned(), false),
        Failed::Full => ("full".to_owned(), false),
    })
}

fn packed_outcome<T>(result: Result<T, Failed<cmsgpack::Fault, Exhausted>>) -> Outcome<T> {
    result.map_err(|failed| match failed {
        Failed::Input(fault) => (fault.to_string(), fault.has_place()),
        Failed::Host(Exhausted) => ("exhausted".to_owned(), false),
        Failed::Full => ("full".to_owned(), false),
    })
}

/// Nothing that is tested needs more.
const OUTPUT_BYTES_MAX: usize = 1 << 24;

/// A stack with a function's argument on it.
fn called() -> Stack {
    Stack::of(Value::Nil)
}

fn decode(document: &[u8], settings: &cjson::Settings) -> Outcome<Stack> {
    let mut stack = called();
    json_outcome(cjson::decode(
        document,
        settings,
        Output::new(&Limit::of(usize::MAX)),
        &mut stack,
    ))?;
    assert_eq!(stack.values.len(), 2);
    Ok(stack)
}

fn unpack(packed: &[u8], limit: i64, offset: i64) -> Outcome<(Vec<Value>, Option<i64>)> {
    let mut stack = called();
    let unpacked = packed_outcome(cmsgpack::unpack(packed, limit, offset, &mut stack))?;
    let values = stack.values.split_off(1);
    assert_eq!(unpacked.values, values.len());
    assert!(stack.expected <= packed.len());
    Ok((values, unpacked.next_offset))
}

fn encode(stack: &mut Stack, settings: &cjson::Settings) -> Outcome<String> {
    encode_within(OUTPUT_BYTES_MAX, stack, settings)
}

fn encode_within(max: usize, stack: &mut Stack, settings: &cjson::Settings) -> Outcome<String> {
    let height = stack.values.len();
    let account = Limit::of(max);
    let mut out = Output::new(&account);
    json_outcome(cjson::encode(stack, settings, &mut out))?;
    assert_eq!(stack.values.len(), height);
    Ok(out.as_slice().escape_ascii().to_string())
}

fn pack(values: impl IntoIterator<Item = Value>) -> Outcome<String> {
    pack_within(OUTPUT_BYTES_MAX, values)
}

fn pack_within(max: usize, values: impl IntoIterator<Item = Value>) -> Outcome<String> {
    let account = Limit::of(max);
    let mut out = Output::new(&account);
    for value in values {
        let mut stack = Stack::of(value);
        packed_outcome(cmsgpack::pack(&mut stack, &mut out))?;
        assert_eq!(stack.values.len(), 1);
    }
    Ok(out.as_slice().escape_ascii().to_string())
}

fn show(values: &[Value]) -> String {
    values.iter().map(Value::show).collect::<Vec<_>>().join(" ")
}

fn settings_of(text: &str) -> cjson::Settings {
    let mut settings = cjson::Settings::default();
    for (name, value) in text.split(',').filter_map(|setting| setting.split_once('=')) {
        if name == "sparse" {
            let mut numbers = value.split('x').map(|number| number.parse().expect("a number"));
            settings.sparse_convert = numbers.next() == Some(1);
            settings.sparse_ratio = numbers.next().expect("a ratio");
            settings.sparse_safe = numbers.next().expect("a length");
        } else {
            let argument = Seen::String(value.as_bytes());
            settings.set(setting_of(name), &[argument]).expect("the setting is good");
        }
    }
    settings
}

fn setting_of(name: &str) -> cjson::Setting {
    let mut all = cjson::Setting::ALL.into_iter();
    all.find(|setting| setting.name() == name).expect("there is such a setting")
}

fn set(settings: &mut cjson::Settings, function: &str, arguments: Vec<Value>) -> Outcome<String> {
    let seen: Vec<Seen<'_>> = arguments.iter().map(Value::seen).collect();
    // The library is called by a name that it does not know.
    let text = |error: cjson::ArgumentError| {
        (format!("bad argument #{} to '?' ({})", error.argument, error.text), true)
    };
    let answers = settings.set(setting_of(function), &seen).map_err(text)?;
    let values: Vec<Value> = answers.iter().map(|answer| Value::of(*answer)).collect();
    Ok(show(&values))
}

fn answer(operation: &str, settings: &str, arguments: &[&str]) -> Outcome<String> {
    let mut settings = settings_of(settings);
    let first = unescape(arguments[0]);
    let first_value = |document: &[u8]| Ok(unpack(document, 1, 0)?.0.remove(0));
    match operation {
        "decode" => Ok(show(&decode(&first, &settings)?.values[1..])),
        "recode" => encode(&mut decode(&first, &settings)?, &settings),
        "encode" => encode(&mut Stack::of(first_value(&first)?), &settings),
        "pack" => pack(unpack(&first, 0, 0)?.0),
        "pack_json" => pack(decode(&first, &settings)?.values.split_off(1)),
        "unpack" => {
            let number = |text: &str| text.parse().expect("a number");
            let (mut values, next) = unpack(&first, number(arguments[1]), number(arguments[2]))?;
            if let Some(next) = next {
                values.insert(0, Value::Number(next as f64));
            }
            Ok(show(&values))
        }
        "set" => {
            let values = unpack(&unescape(arguments[1]), 0, 0)?.0;
            set(&mut settings, arguments[0], values)
        }
        other => panic!("no operation {other}"),
    }
}

fn print(outcome: Outcome<impl Display>) -> String {
    match outcome {
        Ok(result) => format!("= {result}"),
        Err((text, true)) => format!("! {}", text.escape_default()),
        Err((text, false)) => format!("!! {}", text.escape_default()),
    }
}

#[test]
fn answers_are_those_of_redis() {
    let mut faults = Vec::new();
    for row in ANSWERS.lines() {
        let fields: Vec<&str> = row.split('\t').collect();
        let [operation, settings, arguments @ .., expected] = &fields[..] else {
            panic!("a row is too short: {row}");
        };
        let own = print(answer(operation, settings, arguments));
        if own != *expected {
            faults.push(format!("{operation} {settings} {arguments:?}: {own}, not {expected}"));
        }
    }
    assert!(ANSWERS.lines().count() > 1000, "they are there");
    assert!(faults.is_empty(), "{} answers differ:\n{}", faults.len(), faults.join("\n"));
}

fn text_of<T>(outcome: Outcome<T>) -> String {
    outcome.err().map_or_else(|| "no error".to_owned(), |(text, _)| text)
}

/// How deep documents may be ends with Lua's stack, of which each table takes a slot, and an
/// object's key another one. The answers are a real server's.
#[test]
fn depth_ends_where_the_stack_does() {
    let deep = settings_of("decode_max_depth=100000,encode_max_depth=100000");
    let decoded = |text: &str, count: usize| decode(text.repeat(count).as_bytes(), &deep);
    assert_eq!(text_of(decoded("[", 7000)), "Expected value but found T_END at character 7001");
    let ends = [("{\"a\":", 4000, 19996), ("[{\"a\":", 5333, 15997), ("[", 7999, 7999)];
    for (text, depth, position) in ends {
        let expected =
            format!("Found too many nested data structures ({depth}) at character {position}");
        assert_eq!(text_of(decoded(text, 9000)), expected);
    }
    let document = format!("{}1{}", "[".repeat(7000), "]".repeat(7000));
    let mut stack = decode(document.as_bytes(), &deep).expect("there is room");
    assert_eq!(encode(&mut stack, &deep), Ok(document));
    let usual = cjson::Settings::default();
    let expected = "Cannot serialise, excessive nesting (1001)";
    assert_eq!(text_of(encode(&mut stack, &usual)), expected);
}

#[test]
fn packed_depth_ends_where_the_stack_does() {
    const IN_ARRAY: &str = "stack overflow (in function mp_decode_to_lua_array)";
    const TOO_MANY: &str = "stack overflow (too many return values at once; use unpack_one or \
                            unpack_limit instead.)";
    let table: [(&[u8], usize, &[u8], &str); 12] = [
        (b"\x91", 3900, b"\x01", "no error"),
        (b"\x91", 3997, b"", "Missing bytes in input."),
        (b"\x91", 4100, b"\x01", IN_ARRAY),
        (b"\x91", 9000, b"", IN_ARRAY),
        (b"\x81\x01", 3900, b"\x01", "no error"),
        (b"\x81\x01", 4100, b"\x01", TOO_MANY),
        (b"\x91\x81\x01", 3000, b"\x01", TOO_MANY),
        (b"\x81\x91", 3000, b"\x01", TOO_MANY),
        (b"\x81", 9000, b"", TOO_MANY),
        (b"\x01", 7000, b"", "no error"),
        (b"\x01", 9000, b"", TOO_MANY),
        (b"", 0, b"", "no error"),
    ];
    for (unit, count, end, expected) in table {
        let packed = [&unit.repeat(count), end].concat();
        assert_eq!(text_of(unpack(&packed, 0, 0)), expected, "{unit:?} {count} times");
    }
    let behind_another = [b"\x01".to_vec(), b"\x91".repeat(9000)].concat();
    assert_eq!(text_of(unpack(&behind_another, 0, 0)), TOO_MANY);
}

/// A table of tables of tables, each of which is in the one around it twice.
fn doubling(levels: usize) -> Value {
    let one = Value::array([Value::Boolean(true)]);
    (0..levels).fold(one, |inner, _| Value::array([inner.clone(), inner]))
}

#[test]
fn output_does_not_grow_without_bound() {
    let mut stack = Stack::of(doubling(60));
    let outcome = encode_within(10_000, &mut stack, &cjson::Settings::default());
    assert_eq!(text_of(outcome), "full");
    let sparse = Value::table([(Value::Number(2e9), Value::Boolean(true))]);
    let outcome = encode_within(10_000, &mut Stack::of(sparse), &settings_of("sparse=0x0x10"));
    assert_eq!(text_of(outcome), "full");
    // Deeper than 16 all is nil, which still leaves two to the power of 16 of them.
    assert_eq!(text_of(pack_within(10_000, [doubling(60)])), "full");
    let mut stack = Stack::of(Value::string(&[1; 1700]));
    let outcome = encode_within(10_000, &mut stack, &cjson::Settings::default());
    assert_eq!(text_of(outcome), "full");
    assert_eq!(text_of(pack_within(1000, [Value::string(&[1; 1700])])), "full");
}

/// Long strings are no single piece of work: whoever is let in between may end it.
#[test]
fn a_long_string_is_read_and_written_in_pieces() {
    let settings = cjson::Settings::default();
    for text in [&b"x"[..], b"\x01", b"\n\xff"] {
        let text = text.repeat(1_000_000);
        let document = encode(&mut Stack::of(Value::string(&text)), &settings).expect("it is one");
        let document = unescape(&document);
        let stack = decode(&document, &settings).expect("it is whole");
        assert_eq!(stack.values[1].seen(), Seen::String(&text));
        let mut stack = Stack { bytes_left: 100_000, ..Stack::of(Value::string(&text)) };
        assert_eq!(text_of(encode(&mut stack, &settings)), "exhausted");
        let mut stack = Stack { bytes_left: 100_000, ..called() };
        let account = Limit::of(usize::MAX);
        let outcome = cjson::decode(&document, &settings, Output::new(&account), &mut stack);
        assert_eq!(outcome, Err(Failed::Host(Exhausted)));
    }
    let mut stack = Stack { bytes_left: 100_000, ..called() };
    let account = Limit::of(0);
    let spaces = b" ".repeat(1_000_000);
    let outcome = cjson::decode(&spaces, &settings, Output::new(&account), &mut stack);
    assert_eq!(outcome, Err(Failed::Host(Exhausted)));
    let escaped = b"[\"a\", \"\\n\"]";
    let outcome = cjson::decode(escaped, &settings, Output::new(&account), &mut called());
    assert_eq!(outcome, Err(Failed::Full));
}

#[test]
fn a_table_that_holds_itself_comes_to_an_end() {
    let Value::Table(table) = Value::array([]) else { unreachable!("it is a table") };
    table.borrow_mut().set(Value::Number(1.0), Value::Table(table.clone()));
    let mut stack = Stack::of(Value::Table(table.clone()));
    let outcome = encode(&mut stack, &cjson::Settings::default());
    assert_eq!(text_of(outcome), "Cannot serialise, excessive nesting (1001)");
    let expected = format!("{}\\xc0", "\\x91".repeat(16));
    assert_eq!(pack([Value::Table(table.clone())]), Ok(expected));
    table.borrow_mut().set(Value::Number(1.0), Value::Nil);
}

#[test]
fn what_no_format_has_is_refused_or_nil() {
    let function = Value::Other("function");
    let encoded = |value: Value| encode(&mut Stack::of(value), &cjson::Settings::default());
    let expected = "Cannot serialise function: type not supported";
    assert_eq!(text_of(encoded(function.clone())), expected);
    assert_eq!(text_of(encoded(Value::array([function.clone()]))), expected);
    let keyed = Value::table([(function.clone(), Value::Number(1.0))]);
    assert_eq!(
        text_of(encoded(keyed.clone())),
        "Cannot serialise function: table key must be a number or string"
    );
    let keyed_by_null = Value::table([(Value::Null, Value::Number(1.0))]);
    assert_eq!(
        text_of(encoded(keyed_by_null)),
        "Cannot serialise userdata: table key must be a number or string"
    );
    assert_eq!(pack([function]), Ok("\\xc0".to_owned()));
    assert_eq!(pack([keyed, Value::Null]), Ok("\\x81\\xc0\\x01\\xc0".to_owned()));
}

#[test]
fn marked_arrays_stay_arrays() {
    let document = "[[],{},[1,[]],{\"a\":[]}]";
    let recoded = |settings: &str| {
        let settings = settings_of(settings);
        encode(&mut decode(document.as_bytes(), &settings)?, &cjson::Settings::default())
    };
    let unmarked = "[{},{},[1,{}],{\\\"a\\\":{}}]";
    assert_eq!(recoded(""), Ok(unmarked.to_owned()));
    assert_eq!(recoded("decode_array_with_array_mt=off"), Ok(unmarked.to_owned()));
    let kept = "[[],{},[1,[]],{\\\"a\\\":[]}]";
    assert_eq!(recoded("decode_array_with_array_mt=on"), Ok(kept.to_owned()));
    // What has got entries is what its keys say.
    let marked = settings_of("decode_array_with_array_mt=on");
    let mut stack = decode(b"[]", &marked).expect("it is good");
    let Some(Value::Table(table)) = stack.values.last().cloned() else { panic!("no table") };
    table.borrow_mut().set(Value::string(b"a"), Value::Number(1.0));
    assert_eq!(encode(&mut stack, &marked), Ok("{\\\"a\\\":1}".to_owned()));
}

#[test]
fn settings_are_set_up_to_a_bad_argument() {
    let mut settings = cjson::Settings::default();
    let arguments = vec![Value::Boolean(true), Value::Number(7.0), Value::Number(-1.0)];
    let text = "bad argument #1 to '?' (expected integer between 0 and 2147483647)";
    assert_eq!(text_of(set(&mut settings, "encode_sparse_array", arguments)), text);
    assert!(settings.sparse_convert);
    assert_eq!((settings.sparse_ratio, settings.sparse_safe), (7, 10));
    let mut set_one = |value| set(&mut settings, "decode_array_with_array_mt", vec![value]);
    assert_eq!(set_one(Value::Boolean(true)), Ok("true".to_owned()));
    assert_eq!(set_one(Value::Nil), Ok("true".to_owned()));
    assert_eq!(set_one(Value::string(b"off")), Ok("false".to_owned()));
}

/// Values that JSON keeps as they are: no empty arrays, no nil, numbers of few digits.
fn plain_value() -> impl Strategy<Value = Value> {
    let text = || proptest::collection::vec(any::<u8>(), 0..12);
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i32>().prop_map(|number| Value::Number(f64::from(number) / 8.0)),
        text().prop_map(|text| Value::string(&text)),
        Just(Value::Null),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let entry = (text(), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 1..6).prop_map(Value::array),
            proptest::collection::vec(entry, 0..6).prop_map(|entries| {
                let keyed = entries.into_iter().map(|(key, value)| (Value::string(&key), value));
                Value::table(keyed)
            }),
        ]
    })
}

/// Values that MessagePack keeps as they are, keys of all kinds among them.
fn packed_value() -> impl Strategy<Value = Value> {
    let text = proptest::collection::vec(any::<u8>(), 0..300);
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(|number| Value::Number(number as f64)),
        any::<i16>().prop_map(|number| Value::Number(f64::from(number))),
        any::<u64>().prop_map(f64::from_bits).prop_filter_map("a key", |number| {
            // Zero has two signs, of which an integer keeps one.
            (!number.is_nan() && number != 0.0).then_some(Value::Number(number))
        }),
        text.prop_map(|text| Value::string(&text)),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::array),
            proptest::collection::vec((inner.clone(), inner), 0..20).prop_map(Value::table),
        ]
    })
}

/// Documents that are nearly good: pieces of documents in any order.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\"",
        "\"a\"",
        "\\",
        "\\u",
        "\\ud83d",
        "\\ude00",
        "00e9",
        "1",
        "-",
        "0x",
        "1e",
        ".5",
        "p3",
        "inf",
        "nan",
        "nan(",
        "true",
        "nul",
        "null",
        "\0",
        "\u{e9}",
        "\n",
        "/",
        "{\"a\":",
        "[1,",
        "99999999999999999999",
    ];
    let piece = proptest::sample::select(PIECES);
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn json_keeps_plain_values(value in plain_value()) {
        let settings = cjson::Settings::default();
        let shown = value.show();
        let account = Limit::of(usize::MAX);
        let mut out = Output::new(&account);
        let encoded = cjson::encode(&mut Stack::of(value), &settings, &mut out);
        json_outcome(encoded).expect("it is plain");
        let stack = decode(out.as_slice(), &settings).expect("it is a document");
        prop_assert_eq!(stack.values[1].show(), shown);
    }

    #[test]
    fn messages_keep_values(value in packed_value()) {
        let shown = value.show();
        let account = Limit::of(usize::MAX);
        let mut out = Output::new(&account);
        packed_outcome(cmsgpack::pack(&mut Stack::of(value), &mut out)).expect("there is room");
        let (values, next) = unpack(out.as_slice(), 1, 0).expect("it is a message");
        prop_assert_eq!(show(&values), shown);
        prop_assert_eq!(next, Some(-1));
    }

    /// Whatever comes in, there is an answer, and no more is pushed than there are bytes.
    #[test]
    fn any_bytes_are_decoded_or_refused(
        input in prop_oneof![pieces(), proptest::collection::vec(any::<u8>(), 0..200)],
        is_strict: bool,
        offset in 0i64..3,
    ) {
        let settings = cjson::Settings { decode_invalid_numbers: !is_strict, ..Default::default() };
        let mut stack = Stack { pushes_left: input.len(), ..called() };
        let account = Limit::of(usize::MAX);
        let outcome = cjson::decode(&input, &settings, Output::new(&account), &mut stack);
        prop_assert_ne!(outcome, Err(Failed::Host(Exhausted)));
        let mut stack = Stack { pushes_left: input.len(), ..called() };
        let outcome = cmsgpack::unpack(&input, 0, offset, &mut stack);
        prop_assert!(!matches!(outcome, Err(Failed::Host(Exhausted))));
        prop_assert!(stack.expected <= input.len());
    }

    /// A host that gives up is obeyed at once, wherever that is.
    #[test]
    fn a_host_may_give_up_anywhere(value in packed_value(), pushes_left in 0usize..50) {
        let account = Limit::of(usize::MAX);
        let mut packed = Output::new(&account);
        let whole = packed_outcome(cmsgpack::pack(&mut Stack::of(value.clone()), &mut packed));
        prop_assert_eq!(whole, Ok(()));
        let mut stack = Stack { pushes_left, ..Stack::of(value) };
        _ = packed_outcome(cmsgpack::pack(&mut stack, &mut Output::new(&account)));
        stack.pushes_left = pushes_left;
        let mut out = Output::new(&account);
        _ = json_outcome(cjson::encode(&mut stack, &Default::default(), &mut out));
        let mut stack = Stack { pushes_left, ..called() };
        let outcome = cmsgpack::unpack(packed.as_slice(), 0, 0, &mut stack);
        prop_assert!(!matches!(outcome, Err(Failed::Input(_))));
    }
}
