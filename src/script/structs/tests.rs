use super::*;
use crate::script::output::tests::Limit;
use crate::structs::prng::Prng;

/// What real servers have answered, a line each: the function, its format, its arguments and the
/// values, between tabs. Redis 7.0 and 8.2 agree on all of them.
const ANSWERS: &str = include_str!("answers.tsv");

#[derive(Clone, Debug)]
enum Value {
    Number(f64),
    Text(Vec<u8>),
    Other,
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut out = parts.next().expect("there is a first part").as_bytes().to_vec();
    for part in parts {
        let Some(hex) = part.strip_prefix('x') else { continue };
        out.push(u8::from_str_radix(&hex[..2], 16).expect("two digits"));
        out.extend_from_slice(&hex.as_bytes()[2..]);
    }
    out
}

fn value(text: &str) -> Value {
    match text.split_at(1) {
        ("#", "-nan") => Value::Number(f64::NAN),
        ("#", number) => Value::Number(number.parse().expect("it is a number")),
        ("=", text) => Value::Text(unescaped(text)),
        _ => Value::Other,
    }
}

fn values(field: &str) -> Vec<Value> {
    if field == "\\e" { Vec::new() } else { field.split('|').map(value).collect() }
}

/// The arguments behind the format.
struct Given(Vec<Value>);

impl Given {
    fn wrong(&self, argument: usize, expected: &'static str) -> StructError {
        let found = match self.0.get(argument - 2) {
            None => "nil",
            Some(Value::Number(_)) => "number",
            Some(Value::Text(_)) => "string",
            Some(Value::Other) => "boolean",
        };
        StructError::Argument { argument, expected, found }
    }
}

fn packed(format: &[u8], given: &mut dyn Arguments) -> Result<Vec<u8>, StructError> {
    let account = Limit::of(usize::MAX);
    let mut packed = Output::new(&account);
    pack(format, given, &mut packed, &mut || Ok(()))?;
    Ok(packed.as_slice().to_vec())
}

fn unpack_all<'d>(
    format: &[u8],
    data: &'d [u8],
    position: Option<i64>,
) -> Result<(Vec<Unpacked<'d>>, i64), StructError> {
    unpack(format, data, position, &mut || Ok(()))
}

fn sized(format: &[u8]) -> Result<usize, StructError> {
    size(format, &mut || Ok(()))
}

fn shown_number(number: f64) -> String {
    format!("{number}")
}

impl Arguments for Given {
    fn number(&mut self, argument: usize) -> Result<f64, StructError> {
        let number = match self.0.get(argument - 2) {
            Some(Value::Number(number)) => Some(*number),
            Some(Value::Text(text)) => number_of(text),
            _ => None,
        };
        number.ok_or_else(|| self.wrong(argument, "number"))
    }

    fn text(&mut self, argument: usize) -> Result<Cow<'_, [u8]>, StructError> {
        match self.0.get(argument - 2) {
            Some(Value::Text(text)) => Ok(Cow::Borrowed(text)),
            Some(Value::Number(number)) => Ok(Cow::Owned(shown_number(*number).into_bytes())),
            _ => Err(self.wrong(argument, "string")),
        }
    }
}

fn answer(function: &str, format: &[u8], given: Vec<Value>) -> Result<Vec<Value>, StructError> {
    let as_number = |number: i64| Value::Number(number as f64);
    match function {
        "size" => Ok(vec![as_number(sized(format)? as i64)]),
        "pack" => Ok(vec![Value::Text(packed(format, &mut Given(given))?)]),
        _ => {
            let mut given = Given(given);
            let position = match given.0.len() {
                1 => None,
                _ => Some(cast::to_i64(given.number(3)?)),
            };
            let data = given.text(2)?.into_owned();
            let (found, next) = unpack_all(format, &data, position)?;
            let values = found.into_iter().map(|value| match value {
                Unpacked::Number(number) => Value::Number(number),
                Unpacked::Text(text) => Value::Text(text.to_vec()),
            });
            Ok(values.chain([as_number(next)]).collect())
        }
    }
}

fn said(error: &StructError) -> String {
    match error.argument() {
        Some(argument) => format!("!bad argument #{argument} to '?' ({error})"),
        None => format!("!{error}"),
    }
}

fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || one.is_nan() && other.is_nan()
        }
        (Value::Text(one), Value::Text(other)) => one == other,
        _ => false,
    }
}

#[test]
fn real_servers_answer_the_same() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in ANSWERS.lines().filter(|line| !line.starts_with("# ")) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [function, format, given, expected] = fields[..] else { panic!("{line}") };
        let own = answer(function, &unescaped(format), values(given));
        let is_right = match (&own, expected.starts_with('!')) {
            (Err(error), true) => said(error).into_bytes() == unescaped(expected),
            (Ok(own), false) => {
                let expected = values(expected);
                let pairs = || own.iter().zip(&expected);
                own.len() == expected.len() && pairs().all(|(own, other)| is_same(own, other))
            }
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{line}\n    {own:?}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 900, "{count}");
}

#[test]
fn only_so_many_values_fit_on_the_stack() {
    let data = [b'a'; 9000];
    let count = |options: usize, position| {
        let unpacked = unpack_all(&b"b".repeat(options), &data, position);
        unpacked.map(|(values, next)| (values.len(), next))
    };
    assert_eq!(count(7997, None), Ok((7997, 7998)));
    assert_eq!(count(7998, None), Err(StructError::TooManyResults));
    assert_eq!(count(7996, Some(1)), Ok((7996, 7997)));
    assert_eq!(count(7997, Some(1)), Err(StructError::TooManyResults));
    // Control options are counted with what there is when they are met.
    assert_eq!(unpack_all(&b"x".repeat(8500), &data, None), Ok((Vec::new(), 8501)));
}

#[test]
fn no_format_and_no_bytes_end_in_a_panic() {
    let mut prng = Prng::seeded(5);
    let pieces: [&[u8]; 26] = [
        b"b",
        b"B",
        b"h",
        b"H",
        b"l",
        b"L",
        b"T",
        b"i",
        b"I",
        b"f",
        b"d",
        b"x",
        b"c",
        b"c0",
        b"s",
        b">",
        b"<",
        b"!",
        b"!4",
        b"!1024",
        b"3",
        b"9",
        b"2147483647",
        b"0",
        b" ",
        b"?",
    ];
    let numbers = [0.0, -1.0, 3.0, 1e300, f64::NAN, f64::NEG_INFINITY, -0.5, 1e19];
    let mut packed_count = 0;
    for _ in 0..20_000 {
        let count = prng.below(10);
        let piece = |_| pieces[prng.below(pieces.len() as u64) as usize];
        let format: Vec<u8> = (0..count).flat_map(piece).copied().collect();
        let data: Vec<u8> = (0..prng.below(50)).map(|_| prng.below(256) as u8).collect();
        let numbers = (0..12).map(|_| match prng.below(3) {
            0 => Value::Text(data.clone()),
            _ => Value::Number(numbers[prng.below(8) as usize]),
        });
        let given = Given(numbers.collect());
        let position = [None, Some(0), Some(3), Some(-1), Some(i64::MAX), Some(i64::MIN)];
        let unpacked = unpack_all(&format, &data, position[prng.below(6) as usize]);
        if let Ok((values, _)) = unpacked {
            assert!(values.len() <= format.len());
        }
        let size = sized(&format);
        if let (Ok(packed), Ok(size)) = (packed(&format, &mut { given }), size) {
            packed_count += 1;
            assert_eq!(packed.len(), size, "{}", String::from_utf8_lossy(&format));
            // What was packed has all that the format wants.
            assert!(unpack_all(&format, &packed, None).is_ok());
        }
    }
    assert!(packed_count > 1000, "{packed_count}");
}
