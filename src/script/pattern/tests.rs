use super::matcher::{Capture, Matcher, Meter, PAUSE_STEPS, Stopped, find_plain};
use super::search::{Gmatch, Gsub, start_of};
use super::{Caret, Pattern, PatternError, is_plain, set};
use crate::script::cast;
use crate::script::output::Output;
use crate::script::output::tests::Limit;
use crate::structs::prng::Prng;
use std::ops::Range;

/// What a real server has answered, a line each: the function, its subject, pattern and third
/// argument, and the values, between tabs.
const ANSWERS: &str = include_str!("answers.tsv");

type Answer = Result<Vec<Value>, PatternError>;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Value {
    Nil,
    Number(usize),
    Text(Vec<u8>),
}

impl Value {
    fn of(capture: Capture<'_>) -> Value {
        match capture {
            Capture::Text(text) => Value::Text(text.to_vec()),
            Capture::Position(position) => Value::Number(position),
        }
    }

    fn shown(&self) -> String {
        match self {
            Value::Nil => "nil".to_owned(),
            Value::Number(number) => format!("#{number}"),
            Value::Text(text) => format!("={}", escaped(text)),
        }
    }
}

fn escaped(bytes: &[u8]) -> String {
    let is_shown = |byte: &u8| (b' '..=b'~').contains(byte) && !b"\\|".contains(byte);
    let shown = |byte: &u8| match is_shown(byte) {
        true => char::from(*byte).to_string(),
        false => format!("\\x{byte:02x}"),
    };
    bytes.iter().map(shown).collect()
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

fn shown(answer: &Answer) -> String {
    match answer {
        Err(error) => format!("!{error}"),
        Ok(values) if values.is_empty() => "\\e".to_owned(),
        Ok(values) => values.iter().map(Value::shown).collect::<Vec<_>>().join("|"),
    }
}

fn go_on() -> Result<(), Stopped> {
    Ok(())
}

fn values_of(matcher: &Matcher<'_, '_>, found: &Range<usize>) -> Answer {
    (0..matcher.values()).map(|own| matcher.value(own, found).map(Value::of)).collect()
}

fn find(subject: &[u8], pattern: &[u8], start: usize, is_text: bool) -> Answer {
    let pause = &mut go_on;
    let mut meter = Meter::new(pause);
    if is_text || is_plain(pattern) {
        let found = find_plain(subject, pattern, start, &mut meter)?;
        return Ok(found.map_or(vec![Value::Nil], |found| place(&found).to_vec()));
    }
    let pattern = Pattern::compile(pattern, Caret::Anchor);
    let mut matcher = Matcher::new(&pattern, subject);
    let Some(found) = matcher.find(start, &mut meter)? else { return Ok(vec![Value::Nil]) };
    let captures = (0..matcher.captures()).map(|own| matcher.value(own, &found).map(Value::of));
    place(&found).into_iter().map(Ok).chain(captures).collect()
}

fn place(found: &Range<usize>) -> [Value; 2] {
    [Value::Number(found.start + 1), Value::Number(found.end)]
}

fn first_match(subject: &[u8], pattern: &[u8], start: usize) -> Answer {
    let pattern = Pattern::compile(pattern, Caret::Anchor);
    let mut matcher = Matcher::new(&pattern, subject);
    match matcher.find(start, &mut Meter::new(&mut go_on))? {
        Some(found) => values_of(&matcher, &found),
        None => Ok(vec![Value::Nil]),
    }
}

/// The first two values of each match.
fn all_matches(subject: &[u8], pattern: &[u8]) -> Answer {
    let pattern = Pattern::compile(pattern, Caret::Byte);
    let mut matcher = Matcher::new(&pattern, subject);
    let (mut state, mut all) = (Gmatch::default(), Vec::new());
    while let Some(found) = state.next(&mut matcher, &mut Meter::new(&mut go_on))? {
        let mut values = values_of(&matcher, &found)?;
        values.resize(2, Value::Nil);
        all.extend(values);
    }
    Ok(all)
}

fn gsub(
    subject: &[u8],
    pattern: &[u8],
    count_max: usize,
    mut replace: impl FnMut(&mut Gsub<'_, '_, '_>) -> Result<(), PatternError>,
) -> Answer {
    let pattern = Pattern::compile(pattern, Caret::Anchor);
    let account = Limit::of(usize::MAX);
    let mut gsub = Gsub::new(&pattern, subject, count_max, Output::new(&account));
    while gsub.next(&mut Meter::new(&mut go_on))? {
        replace(&mut gsub)?;
    }
    let (text, count) = gsub.finish()?;
    Ok(vec![Value::Text(text.as_slice().to_vec()), Value::Number(count)])
}

/// What the function of the table puts in the place of a match.
fn put_called(gsub: &mut Gsub<'_, '_, '_>) -> Result<(), PatternError> {
    let values: Result<Vec<_>, _> = (0..gsub.values()).map(|own| gsub.value(own)).collect();
    let text = |value| match Value::of(value) {
        Value::Text(text) => text,
        Value::Number(number) => number.to_string().into_bytes(),
        Value::Nil => Vec::new(),
    };
    let texts: Vec<Vec<u8>> = values?.into_iter().map(text).collect();
    gsub.put(&[b"<", &*texts.join(&b","[..]), b">"].concat())
}

fn answer(function: &str, subject: &[u8], pattern: &[u8], argument: &[u8]) -> Answer {
    let number = std::str::from_utf8(argument).ok().and_then(|text| text.parse::<f64>().ok());
    let start = start_of(number.map_or(1, cast::to_i64), subject.len());
    match function {
        "find" => find(subject, pattern, start, false),
        "plain" => find(subject, pattern, start, true),
        "match" => first_match(subject, pattern, start),
        "gmatch" => all_matches(subject, pattern),
        "gsub" => gsub(subject, pattern, usize::MAX, |gsub| gsub.expand(argument)),
        "gsub1" => gsub(subject, pattern, 1, |gsub| gsub.expand(argument)),
        "call" => gsub(subject, pattern, usize::MAX, put_called),
        _ => panic!("{function} is not in the table"),
    }
}

#[test]
fn a_real_server_answers_the_same() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in ANSWERS.lines().filter(|line| !line.starts_with("# ")) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [function, subject, pattern, argument, expected] = fields[..] else {
            panic!("{line}: not five fields");
        };
        let (subject, pattern) = (unescaped(subject), unescaped(pattern));
        let own = shown(&answer(function, &subject, &pattern, &unescaped(argument)));
        if own != expected {
            wrong.push(format!("{line}\n    {own}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 1000, "{count}");
}

/// A matcher that tries everything as the manual tells it, and calls itself for that.
struct Naive<'a> {
    subject: &'a [u8],
    pattern: &'a [u8],
}

/// Where a capture begins, and ends if it is closed; a position ends nowhere.
type Found = (usize, Option<usize>, bool);
type Tried = Result<Option<(usize, Vec<Found>)>, PatternError>;

impl Naive<'_> {
    fn at(&self, at: usize, p: usize, captures: Vec<Found>) -> Tried {
        match self.pattern.get(p..).unwrap_or_default() {
            [] => Ok(Some((at, captures))),
            [b'(', b')', ..] => self.with(at, p + 2, captures, (at, None, true)),
            [b'(', ..] => self.with(at, p + 1, captures, (at, None, false)),
            [b')', ..] => self.close(at, p, captures),
            [b'$'] if at < self.subject.len() => Ok(None),
            [b'$'] => Ok(Some((at, captures))),
            [b'%', b'b', open, close, ..] => match self.balanced(at, *open, *close) {
                Some(end) => self.at(end, p + 4, captures),
                None => Ok(None),
            },
            [b'%', b'b', ..] => Err(PatternError::Unbalanced),
            [b'%', b'f', b'[', ..] => self.frontier(at, p + 2, captures),
            [b'%', b'f', ..] => Err(PatternError::MissingFrontierSet),
            [b'%', digit, ..] if digit.is_ascii_digit() => self.again(at, p, captures, *digit),
            rest => self.item(at, p, captures, rest),
        }
    }

    fn with(&self, at: usize, p: usize, mut captures: Vec<Found>, found: Found) -> Tried {
        if captures.len() == super::CAPTURES_MAX {
            return Err(PatternError::TooManyCaptures);
        }
        captures.push(found);
        self.at(at, p, captures)
    }

    fn close(&self, at: usize, p: usize, mut captures: Vec<Found>) -> Tried {
        let open = captures.iter_mut().rev().find(|(_, end, is_it)| end.is_none() && !is_it);
        open.ok_or(PatternError::InvalidCapture)?.1 = Some(at);
        self.at(at, p + 1, captures)
    }

    fn balanced(&self, at: usize, open: u8, close: u8) -> Option<usize> {
        let mut depth = 0;
        for (offset, byte) in self.subject[at..].iter().enumerate() {
            match *byte {
                byte if offset == 0 && byte != open => return None,
                byte if byte == close && offset > 0 => depth -= 1,
                byte if byte == open => depth += 1,
                _ => {}
            }
            if depth == 0 {
                return Some(at + offset + 1);
            }
        }
        None
    }

    fn frontier(&self, at: usize, p: usize, captures: Vec<Found>) -> Tried {
        let (class, len) = set::read_class(&self.pattern[p..])?;
        let byte_at = |at: Option<usize>| at.and_then(|at| self.subject.get(at)).copied();
        let (before, here) = (byte_at(at.checked_sub(1)), byte_at(Some(at)));
        match !class.has(before.unwrap_or(0)) && class.has(here.unwrap_or(0)) {
            true => self.at(at, p + len, captures),
            false => Ok(None),
        }
    }

    fn again(&self, at: usize, p: usize, captures: Vec<Found>, digit: u8) -> Tried {
        let own = usize::from(digit).checked_sub(usize::from(b'1'));
        let found = own.and_then(|own| captures.get(own));
        let Some((from, end, is_position)) = found.copied() else {
            return Err(PatternError::InvalidCaptureIndex);
        };
        if is_position {
            return Ok(None);
        }
        let text = &self.subject[from..end.ok_or(PatternError::InvalidCaptureIndex)?];
        match self.subject[at..].starts_with(text) {
            true => self.at(at + text.len(), p + 2, captures),
            false => Ok(None),
        }
    }

    fn item(&self, at: usize, p: usize, captures: Vec<Found>, rest: &[u8]) -> Tried {
        let (class, len) = set::read_class(rest)?;
        let behind = &self.subject[at..];
        let run = behind.iter().take_while(|byte| class.has(**byte)).count();
        let (counts, suffix): (Vec<usize>, usize) = match rest.get(len) {
            Some(b'*') => ((0..=run).rev().collect(), 1),
            Some(b'+') => ((1..=run).rev().collect(), 1),
            Some(b'-') => ((0..=run).collect(), 1),
            Some(b'?') => ((0..=run.min(1)).rev().collect(), 1),
            _ => ((1..=run.min(1)).collect(), 0),
        };
        for count in counts {
            if let Some(found) = self.at(at + count, p + len + suffix, captures.clone())? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn find(&self) -> Answer {
        let (is_anchored, p) = (self.pattern.starts_with(b"^"), 0);
        let p = p + usize::from(is_anchored);
        let starts = if is_anchored { 0..=0 } else { 0..=self.subject.len() };
        for start in starts {
            let Some((end, captures)) = self.at(start, p, Vec::new())? else { continue };
            let mut values = place(&(start..end)).to_vec();
            for (from, end, is_position) in captures {
                values.push(match (is_position, end) {
                    (true, _) => Value::Number(from + 1),
                    (false, Some(end)) => Value::Text(self.subject[from..end].to_vec()),
                    (false, None) => return Err(PatternError::UnfinishedCapture),
                });
            }
            return Ok(values);
        }
        Ok(vec![Value::Nil])
    }
}

const PIECES: [&str; 40] = [
    "a", "b", "a", "b", "c", ".", "%a", "%d", "%A", "[ab]", "[^a]", "[a-c]", "[^%a]", "(", ")",
    "(", ")", "()", "%1", "%2", "%bab", "%b()", "%f[a]", "%f[^b]", "$", "^", "*", "+", "-", "?",
    "*", "-", "?", "%", "[", "1", "(a*)", "(.-)", "b+", "%f",
];

#[test]
fn a_naive_matcher_finds_the_same() {
    let mut prng = Prng::seeded(13);
    let mut of_kind = [0; 3];
    for round in 0..60_000 {
        let count = 1 + prng.below(8);
        let piece = |_| PIECES[prng.below(PIECES.len() as u64) as usize];
        let pattern = (0..count).map(piece).collect::<String>().into_bytes();
        let len = prng.below(12);
        let subject: Vec<u8> = (0..len).map(|_| b"aaabbc1()"[prng.below(9) as usize]).collect();
        let expected = Naive { subject: &subject, pattern: &pattern }.find();
        // A plain search would differ by design: it does not know of a `)` without its pair.
        let compiled = Pattern::compile(&pattern, Caret::Anchor);
        let mut matcher = Matcher::new(&compiled, &subject);
        let own = matcher.find(0, &mut Meter::new(&mut go_on)).and_then(|found| {
            let Some(found) = found else { return Ok(vec![Value::Nil]) };
            let captures = (0..matcher.captures()).map(|i| matcher.value(i, &found));
            place(&found).into_iter().map(Ok).chain(captures.map(|c| c.map(Value::of))).collect()
        });
        let what = format!("{round}: {} in {}", escaped(&pattern), escaped(&subject));
        assert_eq!(own, expected, "{what}");
        of_kind[if own.is_err() { 0 } else { own.map_or(0, |values| values.len().min(2)) }] += 1;
    }
    assert!(of_kind.iter().all(|count| *count > 5_000), "{of_kind:?}");
}

/// How often others are let in until the matcher has come to an end or is stopped.
fn pauses(subject: &[u8], pattern: &[u8], pauses_max: usize) -> (usize, Answer) {
    let mut count = 0;
    let mut pause = || {
        count += 1;
        if count < pauses_max { Ok(()) } else { Err(Stopped) }
    };
    let pattern = Pattern::compile(pattern, Caret::Anchor);
    let mut matcher = Matcher::new(&pattern, subject);
    let found = matcher.find(0, &mut Meter::new(&mut pause));
    let is_found = found.map(|found| found.map_or(vec![Value::Nil], |found| place(&found).into()));
    (count, is_found)
}

#[test]
fn what_would_take_for_ever_can_be_stopped() {
    let many = b"a".repeat(100_000);
    let stopped = (5, Err(PatternError::Stopped));
    for pattern in
        [".-.-.-b", ".-.-.-[bc]", "a*a*a*a*[bc]", ".*.*.*%d", "(a-)(a-)%1%2%1%d", "%ba%z"]
    {
        assert_eq!(pauses(&many, pattern.as_bytes(), 5), stopped, "{pattern}");
    }
    let balanced = b"(".repeat(100_000);
    assert_eq!(pauses(&balanced, b"%b()", 5), stopped);
}

#[test]
fn a_long_run_is_interrupted_too() {
    let long = b"a".repeat(10 * PAUSE_STEPS as usize);
    for pattern in ["%a*", "a*", "%a+$", "[^b]-$", "%a-b"] {
        let (count, _) = pauses(&long, pattern.as_bytes(), 3);
        assert_eq!(count, 3, "{pattern}");
    }
}

#[test]
fn steps_of_short_matches_add_up() {
    let pattern = Pattern::compile(b"a-b", Caret::Anchor);
    let mut paused = 0;
    let mut pause = || {
        paused += 1;
        Ok(())
    };
    let mut meter = Meter::new(&mut pause);
    for _ in 0..10 {
        let before = meter.steps();
        let found = Matcher::new(&pattern, b"aaaab").find(0, &mut meter);
        assert_eq!(found, Ok(Some(0..5)));
        assert!(meter.steps() > before);
    }
    for _ in 0..PAUSE_STEPS {
        let found = Matcher::new(&pattern, b"aaaab").find(0, &mut meter);
        assert_eq!(found, Ok(Some(0..5)));
    }
    assert!(paused > 1, "{paused}");
}

#[test]
fn how_long_a_pattern_is_does_not_deepen_anything() {
    let subject = b"a".repeat(100_000);
    for piece in ["a?", "a-", "a*", ".", "a", "%a"] {
        let pattern = piece.repeat(100_000);
        let (_, answer) = pauses(&subject, pattern.as_bytes(), usize::MAX);
        assert!(answer.is_ok_and(|found| found != [Value::Nil]), "{piece}");
    }
    let too_long = "%a".repeat(super::OPS_MAX + 1);
    let subject = b"a".repeat(super::OPS_MAX + 1);
    let (_, answer) = pauses(&subject, too_long.as_bytes(), usize::MAX);
    assert_eq!(answer, Err(PatternError::TooComplex));
    let literal = b"a".repeat(super::OPS_MAX + 1);
    assert!(pauses(&subject, &literal, usize::MAX).1.is_ok());
}
