//! One word of the language of rules, read.
//!
//! What a word is can be told without a table of commands; whether what it names is there, and fits
//! what was said before, is found when it is applied (`user.rs`, `selector.rs`).

use super::keys::Access;
use super::secret::Digest;

/// What one word says of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rule<'a> {
    /// An empty word, which lines split at single spaces hold.
    Nothing,
    On,
    Off,
    NoPassword,
    ResetPasswords,
    AddPassword(Digest),
    RemovePassword(Digest),
    Sanitize,
    SkipSanitize,
    Reset,
    ClearSelectors,
    /// The text between the parentheses.
    Selector(&'a [u8]),
    /// What it says of the root selector.
    Root(SelectorRule<'a>),
}

/// What one word says of a selector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SelectorRule<'a> {
    AllKeys,
    ResetKeys,
    Keys(Access, &'a [u8]),
    AllChannels,
    ResetChannels,
    Channels(&'a [u8]),
    AllDatabases,
    ResetDatabases,
    /// Only these, whatever was said of databases before.
    Databases(Vec<u32>),
    AllCommands,
    NoCommands,
    Category(Sign, &'a [u8]),
    Command(Sign, &'a [u8]),
}

/// Whether a rule allows or forbids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sign {
    Allow,
    Forbid,
}

impl Sign {
    pub fn letter(self) -> u8 {
        match self {
            Sign::Allow => b'+',
            Sign::Forbid => b'-',
        }
    }
}

/// Why a rule was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleError {
    Syntax,
    UnknownCommand,
    KeysAfterAll,
    ChannelsAfterAll,
    NoSuchPassword,
    BadHash,
    FirstArgOfSubcommand,
}

impl RuleError {
    pub fn text(self) -> &'static str {
        match self {
            RuleError::Syntax => "Syntax error",
            RuleError::UnknownCommand => "Unknown command or category name in ACL",
            RuleError::KeysAfterAll => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and \
                 does not have any effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::ChannelsAfterAll => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and \
                 does not have any effect. Try 'resetchannels' to start with an empty list of \
                 channels"
            }
            RuleError::NoSuchPassword => {
                "The password you are trying to remove from the user does not exist"
            }
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase \
                 hexadecimal characters"
            }
            RuleError::FirstArgOfSubcommand => {
                "Allowing first-arg of a subcommand is not supported"
            }
        }
    }
}

/// Whether a name or a pattern holds what would tear the lines that it is written in.
pub fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b' ' | b'\t'..=b'\r' | 0))
}

fn plain(text: &[u8]) -> Result<&[u8], RuleError> {
    if has_spaces(text) { Err(RuleError::Syntax) } else { Ok(text) }
}

impl<'a> Rule<'a> {
    pub fn parse(word: &'a [u8]) -> Result<Rule<'a>, RuleError> {
        let hash = |text| Digest::parse(text).ok_or(RuleError::BadHash);
        Ok(match word {
            b"" => Rule::Nothing,
            [b'>', password @ ..] => Rule::AddPassword(Digest::of(password)),
            [b'#', text @ ..] => Rule::AddPassword(hash(text)?),
            [b'<', password @ ..] => Rule::RemovePassword(Digest::of(password)),
            [b'!', text @ ..] => Rule::RemovePassword(hash(text)?),
            [b'(', within @ .., b')'] => Rule::Selector(within),
            _ => match Rule::of_name(word) {
                Some(rule) => rule,
                None => Rule::Root(SelectorRule::parse(word)?),
            },
        })
    }

    fn of_name(word: &[u8]) -> Option<Rule<'static>> {
        let named: [(&str, Rule<'static>); 8] = [
            ("on", Rule::On),
            ("off", Rule::Off),
            ("nopass", Rule::NoPassword),
            ("resetpass", Rule::ResetPasswords),
            ("sanitize-payload", Rule::Sanitize),
            ("skip-sanitize-payload", Rule::SkipSanitize),
            ("reset", Rule::Reset),
            ("clearselectors", Rule::ClearSelectors),
        ];
        by_name(word, named)
    }
}

fn by_name<T, const N: usize>(word: &[u8], named: [(&str, T); N]) -> Option<T> {
    let is_it = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    named.into_iter().find(|(name, _)| is_it(name)).map(|(_, rule)| rule)
}

impl<'a> SelectorRule<'a> {
    pub fn parse(word: &'a [u8]) -> Result<SelectorRule<'a>, RuleError> {
        if let Some(rule) = SelectorRule::of_name(word) {
            return Ok(rule);
        }
        Ok(match word {
            [b'~', pattern @ ..] => SelectorRule::Keys(Access::ALL, plain(pattern)?),
            [b'%', rest @ ..] => {
                let (access, pattern) = Access::parse(rest).ok_or(RuleError::Syntax)?;
                SelectorRule::Keys(access, plain(pattern)?)
            }
            [b'&', pattern @ ..] => SelectorRule::Channels(plain(pattern)?),
            [b'+', b'@', name @ ..] => SelectorRule::Category(Sign::Allow, name),
            [b'-', b'@', name @ ..] => SelectorRule::Category(Sign::Forbid, name),
            [b'+', name @ ..] => SelectorRule::Command(Sign::Allow, name),
            [b'-', name @ ..] => SelectorRule::Command(Sign::Forbid, name),
            [b'd' | b'D', b'b' | b'B', b'=', list @ ..] => {
                SelectorRule::Databases(databases(list).ok_or(RuleError::Syntax)?)
            }
            _ => return Err(RuleError::Syntax),
        })
    }

    fn of_name(word: &[u8]) -> Option<SelectorRule<'static>> {
        let named: [(&str, SelectorRule<'static>); 12] = [
            ("allkeys", SelectorRule::AllKeys),
            ("~*", SelectorRule::AllKeys),
            ("resetkeys", SelectorRule::ResetKeys),
            ("allchannels", SelectorRule::AllChannels),
            ("&*", SelectorRule::AllChannels),
            ("resetchannels", SelectorRule::ResetChannels),
            ("alldbs", SelectorRule::AllDatabases),
            ("resetdbs", SelectorRule::ResetDatabases),
            ("allcommands", SelectorRule::AllCommands),
            ("+@all", SelectorRule::AllCommands),
            ("nocommands", SelectorRule::NoCommands),
            ("-@all", SelectorRule::NoCommands),
        ];
        by_name(word, named)
    }
}

/// Numbers between commas, in order and each once.
fn databases(list: &[u8]) -> Option<Vec<u32>> {
    let number = |text: &[u8]| {
        let is_plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(text).ok().filter(|_| is_plain)?;
        text.parse::<i32>().ok().map(i32::unsigned_abs)
    };
    let mut numbers = list.split(|byte| *byte == b',').map(number).collect::<Option<Vec<u32>>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_case_and_patterns_as_they_are() {
        let root = |rule| Ok(Rule::Root(rule));
        for (word, rule) in [
            ("", Ok(Rule::Nothing)),
            ("ON", Ok(Rule::On)),
            ("Reset", Ok(Rule::Reset)),
            (">", Ok(Rule::AddPassword(Digest::of(b"")))),
            (">a b", Ok(Rule::AddPassword(Digest::of(b"a b")))),
            ("<x", Ok(Rule::RemovePassword(Digest::of(b"x")))),
            ("#abc", Err(RuleError::BadHash)),
            ("()", Ok(Rule::Selector(b""))),
            ("(~a))", Ok(Rule::Selector(b"~a)"))),
            ("AllKeys", root(SelectorRule::AllKeys)),
            ("~*", root(SelectorRule::AllKeys)),
            ("~", root(SelectorRule::Keys(Access::ALL, b""))),
            ("~Ab*", root(SelectorRule::Keys(Access::ALL, b"Ab*"))),
            ("%wR~x", root(SelectorRule::Keys(Access::ALL, b"x"))),
            ("%r~*", root(SelectorRule::Keys(Access::READ, b"*"))),
            ("%W~~", root(SelectorRule::Keys(Access::WRITE, b"~"))),
            ("&Ch", root(SelectorRule::Channels(b"Ch"))),
            ("+@ALL", root(SelectorRule::AllCommands)),
            ("-@Read", root(SelectorRule::Category(Sign::Forbid, b"Read"))),
            ("+Config|Get", root(SelectorRule::Command(Sign::Allow, b"Config|Get"))),
            ("DB=3,1,3", root(SelectorRule::Databases(vec![1, 3]))),
            ("resetdbs", root(SelectorRule::ResetDatabases)),
        ] {
            assert_eq!(Rule::parse(word.as_bytes()), rule, "{word}");
        }
    }

    #[test]
    fn what_is_no_rule_is_a_syntax_error() {
        for word in [
            "%",
            "%R",
            "%RW",
            "%~x",
            "%RR~x",
            "%RWR~x",
            "%x~y",
            "%R x~y",
            "~a b",
            "~a\0",
            "&a\tb",
            "%R~a b",
            "x",
            " ",
            "on ",
            "(",
            ")",
            "(a",
            "a)",
            "(a) ",
            "db=",
            "db=x",
            "db=1,",
            "db=-1",
            "db=+1",
            "db=99999999999",
            "db",
            "@all",
            "*",
            "\u{fffd}",
        ] {
            assert_eq!(Rule::parse(word.as_bytes()), Err(RuleError::Syntax), "{word:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        use proptest::prelude::*;
        proptest!(|(word in proptest::collection::vec(any::<u8>(), 0..40))| {
            let _ = Rule::parse(&word);
        });
    }
}
