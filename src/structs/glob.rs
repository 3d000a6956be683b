//! Glob patterns as KEYS, SCAN, PSUBSCRIBE, CONFIG GET and ACL rules use them.
//!
//! `*`, `?`, classes with ranges and `^`, and the backslash. The corners are Redis's: an unclosed
//! class ends with the pattern, a range may be written either way round and compares signed bytes,
//! a range's end may be `]`, an escaped byte in a class is compared with its case, and no pattern
//! but the empty one matches the empty text.
//!
//! Recursion on each star was refused: patterns come from strangers, and it takes exponential time
//! or a depth limit. It is enough to go back to the last star, since a later star can take whatever
//! an earlier one would have; so the time is at most pattern times text, in constant space.
//!
//! Invariant: `resume` is the last star passed; nothing before it is looked at again.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Sensitive,
    Insensitive,
}

/// A pattern that needs more stars than this matches nothing, as in Redis, which bounds its
/// recursion so; here it only keeps the answers equal.
const STARS_MAX: usize = 1000;

/// Whether `pattern` matches the whole of `text`.
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let mut rest = pattern;
    let mut left = text;
    let mut resume: Option<(&[u8], &[u8])> = None;
    let mut stars = 0;
    while let Some((&byte, after_byte)) = left.split_first() {
        if let [b'*', ..] = rest {
            rest = skip_stars(rest);
            if rest.is_empty() {
                return true;
            }
            resume = Some((rest, left));
            stars += 1;
            if stars > STARS_MAX {
                return false;
            }
        }
        if let Some(after) = match_one(rest, byte, case) {
            rest = after;
            left = after_byte;
            continue;
        }
        // The last star takes one byte more.
        let Some((after_star, from)) = resume else { return false };
        let longer = &from[1..];
        resume = Some((after_star, longer));
        rest = after_star;
        left = longer;
    }
    skip_stars(rest).is_empty()
}

fn skip_stars(pattern: &[u8]) -> &[u8] {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    &pattern[stars..]
}

/// Matches one byte against the pattern's first element; answers the pattern after it.
#[inline]
fn match_one(pattern: &[u8], byte: u8, case: Case) -> Option<&[u8]> {
    let (matched, rest) = match pattern {
        [] => return None,
        [b'?', rest @ ..] => (true, rest),
        [b'[', class @ ..] => match_class(class, byte, case),
        [b'\\', escaped, rest @ ..] => (equal(*escaped, byte, case), rest),
        [literal, rest @ ..] => (equal(*literal, byte, case), rest),
    };
    matched.then_some(rest)
}

/// Matches one byte against the class that begins after its bracket.
fn match_class(class: &[u8], byte: u8, case: Case) -> (bool, &[u8]) {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut matched = false;
    loop {
        rest = match rest {
            [b'\\', escaped, rest @ ..] => {
                matched |= *escaped == byte;
                rest
            }
            [b']', rest @ ..] => return (matched != negated, rest),
            [] => return (matched != negated, rest),
            [start, b'-', end, rest @ ..] => {
                matched |= in_range(*start, *end, byte, case);
                rest
            }
            [literal, rest @ ..] => {
                matched |= equal(*literal, byte, case);
                rest
            }
        }
    }
}

/// Bytes compare as C's signed characters do, and a range's ends are put in order before their case
/// is dropped.
fn in_range(start: u8, end: u8, byte: u8, case: Case) -> bool {
    let signed = |byte: u8| byte.cast_signed();
    let (low, high) = if signed(start) > signed(end) { (end, start) } else { (start, end) };
    let [low, high, byte] = [low, high, byte].map(|byte| signed(fold(byte, case)));
    low <= byte && byte <= high
}

fn equal(left: u8, right: u8, case: Case) -> bool {
    fold(left, case) == fold(right, case)
}

fn fold(byte: u8, case: Case) -> u8 {
    match case {
        Case::Sensitive => byte,
        Case::Insensitive => byte.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    /// The definition, without regard to time: a star takes nothing or one byte and stays.
    fn naive(pattern: &[u8], text: &[u8], case: Case) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                naive(rest, text, case) || (!text.is_empty() && naive(pattern, &text[1..], case))
            }
            (_, []) | ([], _) => false,
            (_, [byte, text @ ..]) => {
                match_one(pattern, *byte, case).is_some_and(|rest| naive(rest, text, case))
            }
        }
    }

    #[test]
    fn patterns_match_as_in_redis() {
        let table: [(&[u8], &[u8], bool); 54] = [
            (b"", b"", true),
            (b"*", b"", false),
            (b"**", b"", false),
            (b"", b"a", false),
            (b"*", b"a", true),
            (b"***", b"abc", true),
            (b"a*", b"a", true),
            (b"a**", b"a", true),
            (b"a*", b"b", false),
            (b"*a", b"ba", true),
            (b"*a", b"bab", false),
            (b"*a*", b"bab", true),
            (b"a*b*c", b"axxbyyc", true),
            (b"a*b*c", b"axxcyyb", false),
            (b"*abab", b"abaabab", true),
            (b"h?llo", b"hello", true),
            (b"h?llo", b"hllo", false),
            (b"?", b"", false),
            (b"h[ae]llo", b"hallo", true),
            (b"h[ae]llo", b"hillo", false),
            (b"h[^e]llo", b"hallo", true),
            (b"h[^e]llo", b"hello", false),
            (b"h[a-b]llo", b"hbllo", true),
            (b"h[b-a]llo", b"hallo", true),
            (b"h[a-b]llo", b"hcllo", false),
            (b"[a-c-e]", b"-", true),
            (b"[a-c-e]", b"d", false),
            (b"[-a]", b"-", true),
            (b"[]a]", b"a", false),
            (b"[]", b"]", false),
            (b"[^]", b"x", true),
            (b"[^]", b"]", true),
            (b"[", b"[", false),
            (b"[^", b"x", true),
            (b"[a", b"a", true),
            (b"[ab", b"b", true),
            (b"[a-", b"-", true),
            (b"[a-", b"a", true),
            (b"[a-]", b"^", true),
            (b"[a-]", b"a", true),
            (b"[a-]", b"b", false),
            (b"[a-]x", b"a", true),
            (b"[\\]]", b"]", true),
            (b"[\\a-c]", b"b", false),
            (b"[\\a-c]", b"-", true),
            (b"[\\", b"\\", true),
            (b"\\*", b"*", true),
            (b"\\*", b"a", false),
            (b"a\\", b"a\\", true),
            (b"\\", b"\\", true),
            (b"\\\\", b"\\", true),
            (b"[a-\xff]", b"b", false),
            (b"[a-\xff]", b"0", true),
            (b"[\x80-\xff]", b"\x90", true),
        ];
        for (pattern, text, expected) in table {
            let told = matches(pattern, text, Case::Sensitive);
            assert_eq!(told, expected, "{} {}", pattern.escape_ascii(), text.escape_ascii());
        }
    }

    #[test]
    fn case_can_be_ignored() {
        let table: [(&[u8], &[u8], bool); 9] = [
            (b"MAX*", b"maxmemory", true),
            (b"max*", b"MAXMEMORY", true),
            (b"[A-C]", b"b", true),
            (b"[a-c]", b"B", true),
            (b"[X]", b"x", true),
            (b"[\\X]", b"x", false),
            (b"\\X", b"x", true),
            (b"\xc4", b"\xe4", false),
            (b"[Z-a]", b"m", false),
        ];
        for (pattern, text, expected) in table {
            let told = matches(pattern, text, Case::Insensitive);
            assert_eq!(told, expected, "{} {}", pattern.escape_ascii(), text.escape_ascii());
        }
    }

    #[test]
    fn short_random_inputs_agree_with_the_definition() {
        let mut random = Prng::seeded(11);
        let mut draw = |alphabet: &[u8], len_max: u64| -> Vec<u8> {
            let len = random.below(len_max + 1);
            let bytes = (0..len).map(|_| {
                let idx = random.below(alphabet.len() as u64);
                alphabet[usize::try_from(idx).expect("small")]
            });
            bytes.collect()
        };
        let mut matched = 0;
        for round in 0..200_000 {
            let pattern = draw(b"**?[]^-\\abcAB\xff", 8);
            let text = draw(b"abcABb]-^\\*\xff", 6);
            let case = if round % 2 == 0 { Case::Sensitive } else { Case::Insensitive };
            let told = matches(&pattern, &text, case);
            let defined =
                if text.is_empty() { pattern.is_empty() } else { naive(&pattern, &text, case) };
            assert_eq!(told, defined, "{} {}", pattern.escape_ascii(), text.escape_ascii());
            matched += u32::from(told);
        }
        assert!(matched > 5_000, "{matched}");
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let text = [b'a'; 50_000];
        assert!(matches(&[b'*'; 50_000], &text, Case::Sensitive));
        assert!(!matches(&b"a*".repeat(25_000), b"b", Case::Sensitive));
        assert!(!matches(&b"*?".repeat(50_000), &text, Case::Sensitive));
        assert!(!matches(&[&*b"a*".repeat(25_000), b"b"].concat(), &text, Case::Sensitive));
        assert!(!matches(&b"*a".repeat(50_001), &text, Case::Sensitive));
    }

    #[test]
    fn a_thousand_stars_are_enough() {
        let text = [b'a'; 5000];
        assert!(matches(&b"*a".repeat(1000), &text, Case::Sensitive));
        assert!(!matches(&b"*a".repeat(1001), &text, Case::Sensitive));
        assert!(matches(&b"a*".repeat(1001), &text, Case::Sensitive));
        assert!(!matches(&b"a*".repeat(1002), &text, Case::Sensitive));
        assert!(matches(&b"**a".repeat(1000), &text, Case::Sensitive));
    }
}
