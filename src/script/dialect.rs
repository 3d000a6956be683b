//! Makes of a script what means to LuaJIT what the script means to Lua 5.1.
//!
//! Escapes that Lua 5.1 does not know (`\x`, `\.` in a string) stand there for the byte behind
//! them, so their backslash goes. And the line of an error is kept in a script that ends by
//! `return redis.call(...)`.
//!
//! A call that is returned as it is takes the place of its caller: when it ends in an error,
//! nothing tells any more which line of the script it stood in. The reference implementation keeps
//! the caller where a function of the host is called, which LuaJIT does not, and in scripts this is
//! the way that most end. In parentheses it is no such call, and a function that answers one
//! value answers the same; any other is given to a function that answers all that it is given:
//!
//!     return redis.call('GET', KEYS[1])      return (redis.call('GET', KEYS[1]))
//!     return assert(x, 'none')               return answer(assert(x, 'none'))
//!
//! This is done where the name is one of ours, or a local one that stands for it
//! (`local call = redis.call`) and for nothing else in the whole text; and where a method is called
//! as those of strings are, unless the text has one of that name. Functions of the script's keep
//! taking the place of their callers, as deep as they like. No line moves. The text is read a few
//! times from its start to its end, token by token, and nothing is made of it but edits.

use std::borrow::Cow;
use std::collections::HashMap;

/// What a function of ours answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answers {
    One,
    /// None, or more than one.
    Any,
    /// A function that is called as one of ours.
    Function,
}

/// What functions of these names answer.
type Named = (Answers, &'static [&'static [u8]]);

/// Functions by the names of their tables: what those answer that are named, and what all others.
const TABLES: [(&[u8], &[Named], Answers); 11] = [
    (b"redis", &[(Answers::Any, &SILENT)], Answers::One),
    (b"server", &[(Answers::Any, &SILENT)], Answers::One),
    (b"cjson", &[(Answers::Any, &[b"encode_sparse_array"])], Answers::One),
    (b"cmsgpack", &[(Answers::One, &[b"pack"])], Answers::Any),
    (b"struct", &[(Answers::One, &[b"pack", b"size"])], Answers::Any),
    (b"bit", &[], Answers::One),
    (b"math", &[(Answers::Any, &[b"frexp", b"modf", b"randomseed"])], Answers::One),
    (
        b"string",
        &[(Answers::Function, &[b"gfind", b"gmatch"]), (Answers::One, &STRING)],
        Answers::Any,
    ),
    (b"table", &[(Answers::One, &[b"concat", b"getn", b"maxn"])], Answers::Any),
    (
        b"coroutine",
        &[(Answers::Function, &[b"wrap"]), (Answers::One, &[b"create", b"status"])],
        Answers::Any,
    ),
    (b"os", &[], Answers::One),
];
const SILENT: [&[u8]; 4] = [b"debug", b"log", b"set_repl", b"setresp"];
const STRING: [&[u8]; 8] =
    [b"char", b"format", b"len", b"lower", b"rep", b"reverse", b"sub", b"upper"];
const FUNCTIONS: [Named; 3] = [
    (
        Answers::One,
        &[
            b"collectgarbage",
            b"error",
            b"gcinfo",
            b"getmetatable",
            b"rawequal",
            b"rawget",
            b"rawset",
            b"setmetatable",
            b"tonumber",
            b"tostring",
            b"type",
        ],
    ),
    (
        Answers::Any,
        &[b"assert", b"ipairs", b"next", b"pairs", b"pcall", b"select", b"unpack", b"xpcall"],
    ),
    (Answers::Function, &[b"load", b"loadstring"]),
];
/// What is called as a method of a string.
const METHODS: [&[u8]; 14] = [
    b"byte", b"find", b"format", b"gfind", b"gmatch", b"gsub", b"len", b"lower", b"match", b"rep",
    b"reverse", b"sub", b"upper", b"dump",
];

/// What a function of a table of ours answers.
fn answers_of(table: &[u8], function: &[u8]) -> Option<Answers> {
    let (_, named, others) = TABLES.iter().find(|(name, ..)| *name == table)?;
    let found = named.iter().find(|(_, functions)| functions.contains(&function));
    Some(found.map_or(*others, |(answers, _)| *answers))
}

/// What a function answers that is no table's.
fn answers_of_global(function: &[u8]) -> Option<Answers> {
    let found = FUNCTIONS.iter().find(|(_, functions)| functions.contains(&function));
    found.map(|(answers, _)| *answers)
}

/// What is called most, by the names of a table and of a function of it: where only that is meant
/// they can be made one name, which is found faster ([`Joins::Made`]).
pub(super) const JOINED: [(&[u8], &[u8]); 4] =
    [(b"redis", b"call"), (b"redis", b"pcall"), (b"server", b"call"), (b"server", b"pcall")];

/// What stands for the dot in such a name: no byte of a text that somebody has written.
const JOINT: u8 = 0xff;

/// The name of the function that answers all that it is given.
pub(super) const ANSWER: &[u8] = &[JOINT];

/// Both names as one.
pub(super) fn join(table: &[u8], function: &[u8]) -> Vec<u8> {
    [table, &[JOINT], function].concat()
}

/// Whether such names are made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Joins {
    None,
    Made,
}

/// Longer texts are left as they are: nobody writes them by hand.
const LEN_MAX: usize = 1 << 20;

/// What is done at a place of a text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Edit {
    Close,
    Open,
    /// The call to the function that answers what it is given begins.
    Answer,
    /// The byte there goes.
    Drop,
    /// It becomes the joint of two names.
    Join,
}

/// A script's text for LuaJIT.
pub(super) fn translate(text: &[u8], joins: Joins) -> Cow<'_, [u8]> {
    if text.len() > LEN_MAX {
        return Cow::Borrowed(text);
    }
    let mut edits = Vec::new();
    let has = |name: &[u8]| memchr::memmem::find(text, name).is_some();
    let returns = has(b"return");
    let has_joints = joins == Joins::Made && JOINED.iter().any(|(table, _)| has(table));
    if returns || has_joints {
        let names = Names::of(text);
        if returns {
            edits.extend(find_marks(text, &names));
        }
        if has_joints {
            edits.extend(find_joints(text, &names).into_iter().map(|at| (at, Edit::Join)));
        }
    }
    if memchr::memchr(b'\\', text).is_some() {
        edits.extend(find_escapes(text).map(|at| (at, Edit::Drop)));
    }
    if edits.is_empty() {
        return Cow::Borrowed(text);
    }
    edits.sort_unstable();
    let mut translated = Vec::with_capacity(text.len() + edits.len());
    let mut at = 0;
    for (place, edit) in edits {
        translated.extend_from_slice(&text[at..place]);
        at = match edit {
            Edit::Close | Edit::Open | Edit::Answer => {
                translated.extend_from_slice(match edit {
                    Edit::Close => b")",
                    Edit::Open => b"(",
                    _ => &[JOINT, b'('],
                });
                place
            }
            Edit::Drop => place + 1,
            Edit::Join => {
                translated.push(JOINT);
                place + 1
            }
        };
    }
    translated.extend_from_slice(&text[at..]);
    Cow::Owned(translated)
}

/// What stands for something else behind a backslash in Lua 5.1; all others stand for themselves.
fn is_escaped(byte: u8) -> bool {
    const LETTERS: &[u8] = b"abfnrtv\\\"'\n\r";
    byte.is_ascii_digit() || LETTERS.contains(&byte)
}

/// Whether a name stands in a text; it may be within a string or a comment.
pub(super) fn has_name(text: &[u8], name: &[u8]) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_none_or(|byte| !is_name(*byte));
    memchr::memmem::find_iter(text, name).any(|at| {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        is_end(before) && is_end(text.get(at + name.len()))
    })
}

/// A mark that is none in Lua 5.1, and its line. LuaJIT knows `?`, and has no limit for how deep
/// what it makes of it may be nested; and of a text that begins with `#` it skips the first line.
pub(super) fn foreign_mark(text: &[u8]) -> Option<(usize, char)> {
    if text.first() == Some(&b'#') {
        return Some((1, '#'));
    }
    memchr::memchr(b'?', text)?;
    let mut tokens = Tokens { text, at: 0 };
    let (place, ..) = tokens.find(|(_, token, _)| *token == Token::Mark(b'?'))?;
    Some((1 + memchr::memchr_iter(b'\n', &text[..place]).count(), '?'))
}

/// Where a backslash stands before a byte that it changes only for LuaJIT, or that LuaJIT refuses.
fn find_escapes(text: &[u8]) -> impl Iterator<Item = usize> {
    let strings = Tokens { text, at: 0 }.filter(|(start, token, _)| {
        *token == Token::Literal && matches!(text[*start], b'\'' | b'"')
    });
    strings.flat_map(move |(start, _, end)| {
        let mut at = start;
        std::iter::from_fn(move || {
            while at + 1 < end {
                let place = at;
                at += if text[at] == b'\\' { 2 } else { 1 };
                if text[place] == b'\\' && !is_escaped(text[place + 1]) {
                    return Some(place);
                }
            }
            None
        })
    })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token<'a> {
    Name(&'a [u8]),
    /// A byte that is none of the others.
    Mark(u8),
    /// A string or a number.
    Literal,
}

/// The tokens of a text with where they start and end, as far as it has any.
struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (usize, Token<'a>, usize);

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_blanks()?;
        let start = self.at;
        let first = self.text[start];
        let token = match first {
            b'\'' | b'"' => {
                self.skip_string(first);
                Token::Literal
            }
            b'[' if self.long_bracket(start).is_some() => {
                self.skip_long(start);
                Token::Literal
            }
            _ if is_name(first) => {
                let rest = &self.text[start..];
                let len = rest.iter().position(|byte| !is_name(*byte)).unwrap_or(rest.len());
                self.at = start + len;
                match first.is_ascii_digit() {
                    true => Token::Literal,
                    false => Token::Name(&rest[..len]),
                }
            }
            _ => {
                self.at += 1;
                Token::Mark(first)
            }
        };
        Some((start, token, self.at))
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl Tokens<'_> {
    /// To the next token; none at the end.
    fn skip_blanks(&mut self) -> Option<()> {
        loop {
            let byte = *self.text.get(self.at)?;
            if self.text[self.at..].starts_with(b"--") {
                let bracket = self.at + 2;
                if self.long_bracket(bracket).is_some() {
                    self.skip_long(bracket);
                } else {
                    let rest = &self.text[self.at..];
                    self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                }
            } else if byte.is_ascii_whitespace() || byte == 0x0b {
                self.at += 1;
            } else {
                return Some(());
            }
        }
    }

    fn skip_string(&mut self, quote: u8) {
        self.at += 1;
        while let Some(byte) = self.text.get(self.at) {
            self.at += if *byte == b'\\' { 2 } else { 1 };
            if *byte == quote || *byte == b'\n' {
                break;
            }
        }
        self.at = self.at.min(self.text.len());
    }

    /// The level of the long bracket that opens at a place.
    fn long_bracket(&self, at: usize) -> Option<usize> {
        let rest = self.text.get(at..)?.strip_prefix(b"[")?;
        let level = rest.iter().take_while(|byte| **byte == b'=').count();
        (rest.get(level) == Some(&b'[')).then_some(level)
    }

    fn skip_long(&mut self, at: usize) {
        let Some(level) = self.long_bracket(at) else { return };
        let end = [b"]".as_slice(), &vec![b'='; level], b"]"].concat();
        let body = at + level + 2;
        let found = memchr::memmem::find(&self.text[body..], &end);
        self.at = found.map_or(self.text.len(), |len| body + len + end.len());
    }
}

/// What names mean in a text.
struct Names<'a> {
    /// How often each name is given a meaning by the text.
    bound: HashMap<&'a [u8], usize>,
    /// Local names that stand for functions of ours, and for nothing else.
    aliases: HashMap<&'a [u8], Answers>,
}

impl<'a> Names<'a> {
    fn of(text: &'a [u8]) -> Names<'a> {
        let mut seen = Seen::default();
        let tokens = Tokens { text, at: 0 };
        tokens.for_each(|(_, token, _)| seen.take(token));
        seen.take(Token::Mark(b';'));
        let mut names = Names { bound: seen.bound, aliases: HashMap::new() };
        for (name, meaning) in seen.aliases {
            let answers = match meaning {
                Meaning::Field(table, _) if !names.is_free(table) => None,
                Meaning::Field(table, function) => answers_of(table, function),
                // A local function may have the name of the one that it is.
                Meaning::Global(function) if function != name && !names.is_free(function) => None,
                Meaning::Global(function) => answers_of_global(function),
            };
            let answers = answers.filter(|_| names.bound.get(name) == Some(&1));
            names.aliases.extend(answers.map(|answers| (name, answers)));
        }
        names
    }

    fn is_free(&self, name: &[u8]) -> bool {
        !self.bound.contains_key(name)
    }

    fn is_table(&self, name: &[u8]) -> bool {
        TABLES.iter().any(|(table, ..)| *table == name) && self.is_free(name)
    }

    fn is_method(&self, name: &[u8]) -> bool {
        METHODS.contains(&name) && self.is_free(name)
    }

    /// What the function of ours answers for which a name stands.
    fn answers(&self, name: &[u8]) -> Option<Answers> {
        let alias = self.aliases.get(name).copied();
        alias.or_else(|| answers_of_global(name).filter(|_| self.is_free(name)))
    }
}

/// What has been seen of a text: the last tokens, and what they have given a meaning.
#[derive(Default)]
struct Seen<'a> {
    before: [Option<Token<'a>>; 7],
    /// Names in a list that gives each a meaning follow.
    binds: Binds,
    /// How often each name is given one.
    bound: HashMap<&'a [u8], usize>,
    aliases: Vec<(&'a [u8], Meaning<'a>)>,
}

/// For what a local name stands.
#[derive(Clone, Copy)]
enum Meaning<'a> {
    Global(&'a [u8]),
    /// A table's function.
    Field(&'a [u8], &'a [u8]),
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Binds {
    #[default]
    Nothing,
    /// After `local` and `for`: up to what is no name and no comma.
    List,
    /// After `function`: its name, and then what it is given.
    Function,
    Parameters,
}

impl<'a> Seen<'a> {
    fn take(&mut self, token: Token<'a>) {
        self.binds = match (self.binds, token) {
            (_, Token::Name(b"local" | b"for")) => Binds::List,
            (_, Token::Name(b"function")) => Binds::Function,
            (Binds::Parameters, Token::Mark(b')')) => Binds::Nothing,
            (Binds::Function, Token::Mark(b'(')) => Binds::Parameters,
            (Binds::List, Token::Name(b"in")) => Binds::Nothing,
            (Binds::List, Token::Name(name)) if !self.follows_a_name() => {
                self.bind(name, Binds::List)
            }
            (Binds::Function | Binds::Parameters, Token::Name(name)) => self.bind(name, self.binds),
            (Binds::List, Token::Mark(b',')) => Binds::List,
            (Binds::Function | Binds::Parameters, _) => self.binds,
            _ => Binds::Nothing,
        };
        // `name =`, be it an assignment or a field, which is taken for one.
        if let (Some(Token::Name(name)), Token::Mark(b'=')) = (self.before[6], token)
            && self.before[5] != Some(Token::Name(b"local"))
        {
            _ = self.bind(name, Binds::Nothing);
        }
        if begins_statement(token) {
            self.aliases.extend(self.alias());
        }
        self.before.rotate_left(1);
        self.before[6] = Some(token);
    }

    /// What the last tokens say that a local name stands for, if they are all of a statement.
    fn alias(&self) -> Option<(&'a [u8], Meaning<'a>)> {
        const LOCAL: Option<Token<'_>> = Some(Token::Name(b"local"));
        const IS: Option<Token<'_>> = Some(Token::Mark(b'='));
        const DOT: Option<Token<'_>> = Some(Token::Mark(b'.'));
        match self.before {
            [
                _,
                LOCAL,
                Some(Token::Name(name)),
                IS,
                Some(Token::Name(table)),
                DOT,
                Some(Token::Name(function)),
            ] => Some((name, Meaning::Field(table, function))),
            [.., LOCAL, Some(Token::Name(name)), IS, Some(Token::Name(function))] => {
                Some((name, Meaning::Global(function)))
            }
            _ => None,
        }
    }

    fn bind(&mut self, name: &'a [u8], binds: Binds) -> Binds {
        *self.bound.entry(name).or_default() += 1;
        binds
    }

    fn follows_a_name(&self) -> bool {
        let keyword = |name: &[u8]| matches!(name, b"local" | b"for");
        matches!(self.before[6], Some(Token::Name(name)) if !keyword(name))
    }
}

/// Whether a token behind an expression is none that goes on with it.
fn begins_statement(token: Token<'_>) -> bool {
    match token {
        Token::Name(name) => !matches!(name, b"and" | b"or"),
        Token::Mark(mark) => mark == b';',
        Token::Literal => false,
    }
}

/// Where which parenthesis is to be put in: around each call that is all that is returned.
fn find_marks(text: &[u8], names: &Names<'_>) -> Vec<(usize, Edit)> {
    let mut marks = Vec::new();
    // For each bracket that is open: what there is when it is closed.
    let mut open: Vec<Returned<'_>> = Vec::new();
    let mut returned = Returned::Nothing;
    let end = (text.len(), Token::Mark(b';'), text.len());
    for (start, token, end) in (Tokens { text, at: 0 }).chain([end]) {
        if let Returned::Call { at, end, answers } = returned
            && ends_return(token)
        {
            let opening = if answers == Answers::One { Edit::Open } else { Edit::Answer };
            marks.extend([(at, opening), (end, Edit::Close)]);
        }
        let is_string = token == Token::Literal && !text[start].is_ascii_digit();
        returned = match token {
            Token::Mark(b'(' | b'[' | b'{') => {
                open.push(returned.opened(start, token));
                Returned::Nothing
            }
            Token::Mark(b')' | b']' | b'}') => {
                open.pop().map_or(Returned::Nothing, |bracket| bracket.ended(end))
            }
            Token::Literal if is_string => returned.called().ended(end),
            Token::Mark(b'.') => match returned {
                Returned::Table(at, table) => Returned::Field(at, table),
                _ => returned.begun().map_or(Returned::Nothing, Returned::OtherField),
            },
            Token::Mark(b':') => returned.begun().map_or(Returned::Nothing, Returned::Method),
            Token::Name(b"return") => Returned::Begins,
            Token::Name(name) => returned.named(start, name, names),
            _ => Returned::Nothing,
        };
    }
    // What is not closed does not compile anyway.
    if open.is_empty() { marks } else { Vec::new() }
}

/// Whether what is returned ends before a token.
fn ends_return(token: Token<'_>) -> bool {
    matches!(token, Token::Mark(b';') | Token::Name(b"end" | b"else" | b"elseif" | b"until"))
}

/// Where the dot stands between two names that are to be one, since what they name is called: the
/// interpreter tells of anything else by its name. The table has to have its meaning in the whole
/// text, and not to be a field of another.
fn find_joints(text: &[u8], names: &Names<'_>) -> Vec<usize> {
    let mut joints = Vec::new();
    let mut before = [None; 4];
    for (start, token, _) in (Tokens { text, at: 0 }) {
        if let [
            behind,
            Some((first, Token::Name(table))),
            Some((dot, Token::Mark(b'.'))),
            Some((second, Token::Name(function))),
        ] = before
            && token == Token::Mark(b'(')
            && !matches!(behind, Some((_, Token::Mark(b'.' | b':'))))
            && (first + table.len(), dot + 1) == (dot, second)
            && JOINED.contains(&(table, function))
            && names.is_table(table)
        {
            joints.push(dot);
        }
        before.rotate_left(1);
        before[3] = Some((start, token));
    }
    joints
}

/// How much of what is returned has been read, where it began, and what it is so far.
#[derive(Clone, Copy)]
enum Returned<'a> {
    Nothing,
    /// `return`
    Begins,
    Table(usize, &'a [u8]),
    /// A table and a dot.
    Field(usize, &'a [u8]),
    Function(usize, Answers),
    /// Anything that can be called, or looked into.
    Other(usize),
    OtherField(usize),
    /// Something and a colon.
    Method(usize),
    /// A function of ours that is called: up to where, once that is known.
    Call {
        at: usize,
        end: usize,
        answers: Answers,
    },
}

impl<'a> Returned<'a> {
    /// Where that began which can be called or looked into.
    fn begun(self) -> Option<usize> {
        match self {
            Returned::Table(at, _)
            | Returned::Function(at, _)
            | Returned::Other(at)
            | Returned::Call { at, .. } => Some(at),
            _ => None,
        }
    }

    /// What it is with a name behind it.
    fn named(self, start: usize, name: &'a [u8], names: &Names<'a>) -> Returned<'a> {
        match self {
            Returned::Begins if matches!(name, b"function" | b"not") => Returned::Nothing,
            Returned::Begins => match names.answers(name) {
                Some(answers) => Returned::Function(start, answers),
                None if names.is_table(name) => Returned::Table(start, name),
                None => Returned::Other(start),
            },
            Returned::Field(at, table) => answers_of(table, name)
                .map_or(Returned::Other(at), |answers| Returned::Function(at, answers)),
            Returned::OtherField(at) => Returned::Other(at),
            Returned::Method(at) if names.is_method(name) => Returned::Function(at, Answers::Any),
            Returned::Method(at) => Returned::Other(at),
            _ => Returned::Nothing,
        }
    }

    /// What it is when it has been called, or put into brackets, that have opened here.
    fn opened(self, start: usize, bracket: Token<'_>) -> Returned<'a> {
        match (self, bracket) {
            (Returned::Begins, Token::Mark(b'(')) => Returned::Other(start),
            (_, Token::Mark(b'[')) => self.begun().map_or(Returned::Nothing, Returned::Other),
            _ => self.called(),
        }
    }

    fn called(self) -> Returned<'a> {
        match self {
            Returned::Function(at, answers) => Returned::Call { at, end: 0, answers },
            Returned::Call { at, answers: Answers::Function, .. } => {
                Returned::Call { at, end: 0, answers: Answers::Any }
            }
            _ => self.begun().map_or(Returned::Nothing, Returned::Other),
        }
    }

    /// The same, with the place of its end.
    fn ended(self, end: usize) -> Returned<'a> {
        match self {
            Returned::Call { at, answers, .. } => Returned::Call { at, end, answers },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str) -> String {
        let translated = translate(text.as_bytes(), Joins::None).into_owned();
        String::from_utf8_lossy(&translated).replace('\u{fffd}', "@")
    }

    #[test]
    fn calls_that_are_returned_are_put_into_parentheses() {
        for (text, expected) in [
            ("return redis.call('get')", "return (redis.call('get'))"),
            ("return\n redis . call (\n'get')\n", "return\n (redis . call (\n'get'))\n"),
            ("return server.pcall(f(1), (2));", "return (server.pcall(f(1), (2)));"),
            ("do return redis.call{1, {2}} end", "do return (redis.call{1, {2}}) end"),
            ("return redis.call'x'", "return (redis.call'x')"),
            ("return redis.call [==[x]==] -- y", "return (redis.call [==[x]==]) -- y"),
            ("return error('x')", "return (error('x'))"),
            ("return tonumber(ARGV[1])", "return (tonumber(ARGV[1]))"),
            ("return math.floor(x)", "return (math.floor(x))"),
            (
                "local tonumber = tonumber return tonumber(x)",
                "local tonumber = tonumber return (tonumber(x))",
            ),
            ("return string.format('%d', x)", "return (string.format('%d', x))"),
            ("return cmsgpack.pack(1)", "return (cmsgpack.pack(1))"),
            (
                "return redis.call((function() return redis.call(1) end)())",
                "return (redis.call((function() return (redis.call(1)) end)()))",
            ),
            (
                "local rcall = redis.call return rcall('x', ')', [[)]], [==[ )]] ]==]) -- )",
                "local rcall = redis.call return (rcall('x', ')', [[)]], [==[ )]] ]==])) -- )",
            ),
            (
                "if x then return redis.call('a\\')') end --[[ return redis.call( ]]",
                "if x then return (redis.call('a\\')')) end --[[ return redis.call( ]]",
            ),
        ] {
            assert_eq!(replaced(text), expected);
        }
    }

    #[test]
    fn calls_that_may_answer_more_are_given_to_what_answers_all() {
        for (text, expected) in [
            ("return assert(x, 'y')", "return @(assert(x, 'y'))"),
            (
                "if x then return unpack(x) else y() end",
                "if x then return @(unpack(x)) else y() end",
            ),
            ("repeat return f(x) until pcall(x)", "repeat return f(x) until pcall(x)"),
            ("repeat return pcall(x) until y", "repeat return @(pcall(x)) until y"),
            (
                "local find = string.find return find(x, y)",
                "local find = string.find return @(find(x, y))",
            ),
            ("local u = unpack; return u(x)", "local u = unpack; return @(u(x))"),
            ("return math.modf(x)", "return @(math.modf(x))"),
            ("return redis.log(1, 'x')", "return @(redis.log(1, 'x'))"),
            ("return cmsgpack.unpack(x)", "return @(cmsgpack.unpack(x))"),
            ("return x:find(y)", "return @(x:find(y))"),
            ("return x.y[1](z):gsub('a', f())", "return @(x.y[1](z):gsub('a', f()))"),
            ("return ('x'):rep(3)", "return @(('x'):rep(3))"),
            ("return x:lower():upper()", "return @(x:lower():upper())"),
            ("return coroutine.wrap(f)(1)", "return @(coroutine.wrap(f)(1))"),
            ("return coroutine.wrap(f)(1)(2)", "return coroutine.wrap(f)(1)(2)"),
            ("return loadstring(x)()", "return @(loadstring(x)())"),
            ("return assert(f)(1)", "return assert(f)(1)"),
            (
                "return f(function() return next(t) end)",
                "return f(function() return @(next(t)) end)",
            ),
        ] {
            assert_eq!(replaced(text), expected);
        }
    }

    #[test]
    fn many_names_are_read_in_one_go() {
        let aliases: String = (0..20_000).map(|n| format!("local a{n} = redis.call\n")).collect();
        let returns: String = (0..20_000).map(|n| format!("do return a{n}() end\n")).collect();
        let text = aliases + &returns;
        assert_eq!(replaced(&text).len(), text.len() + 2 * 20_000);
    }

    #[test]
    fn names_that_mean_a_function_of_ours_are_made_one() {
        let joined = |text: &str| {
            let joined = translate(text.as_bytes(), Joins::Made).into_owned();
            String::from_utf8_lossy(&joined).replace('\u{fffd}', "@")
        };
        for (text, expected) in [
            ("redis.call('x')", "redis@call('x')"),
            ("return redis.call('x')", "return (redis@call('x'))"),
            ("return redis.call('x').y", "return redis@call('x').y"),
            ("redis.pcall\n(1)", "redis@pcall\n(1)"),
            ("redis.call('\\q', server.call(1))", "redis@call('q', server@call(1))"),
        ] {
            assert_eq!(joined(text), expected);
        }
        for text in [
            "redis.log(1)",
            "x.redis.call('x')",
            "x:redis.call('x')",
            "redis . call('x')",
            "redis.\ncall('x')",
            "redis.called('x')",
            "local call = redis.call",
            "return redis.call.x",
            "return redis.call + 1",
            "local redis = {} redis.call('x')",
            "function f(redis) redis.call('x') end",
            "function redis.call() end redis.call()",
            "for redis in x do redis.call() end",
            "t = {redis = 1} redis.call()",
            "-- redis.call()",
            "x = 'redis.call()'",
        ] {
            assert_eq!(joined(text), text);
        }
    }

    #[test]
    fn names_are_found_where_they_are_whole() {
        for (text, has) in [
            ("load", true),
            ("x = load(1)", true),
            ("payload, loader, _load, 1load", false),
            ("payload.load", true),
            ("", false),
        ] {
            assert_eq!(has_name(text.as_bytes(), b"load"), has, "{text}");
        }
    }

    #[test]
    fn escapes_that_are_none_are_letters() {
        for (text, expected) in [
            (r"return '\x41\z \u{41}'", r"return 'x41z u{41}'"),
            (r"return '\\x41' .. '\\\x41'", r"return '\\x41' .. '\\x41'"),
            (r"return '\a\n\65\''", r"return '\a\n\65\''"),
            (r"return [[\x41]] -- '\x41'", r"return [[\x41]] -- '\x41'"),
            (r"return '\x", r"return 'x"),
            (r"return ('a.b'):find('\.\q\-').x", r"return ('a.b'):find('.q-').x"),
        ] {
            assert_eq!(replaced(text), expected, "{text}");
        }
    }

    #[test]
    fn marks_of_other_dialects_are_found() {
        for (text, line) in [
            ("return a ? 1 : 2", Some(1)),
            ("\nreturn 'x?'\n .. a?.b", Some(3)),
            ("#x\nreturn 1", Some(1)),
            ("\n#x", None),
            ("return #x", None),
            ("return '?' -- ?", None),
            ("return [[?]] --[[ ? ]]", None),
        ] {
            let found = foreign_mark(text.as_bytes()).map(|(line, _)| line);
            assert_eq!(found, line, "{text}");
        }
    }

    #[test]
    fn what_is_something_else_stays() {
        for text in [
            "return f(x)",
            "return redis.call",
            "return x.redis.call('x')",
            "return redis.call('x') or 0",
            "return redis.call('x').y",
            "return redis.call('x'), 1",
            "return (redis.call('x'))",
            "return not redis.call('x')",
            "return -redis.call('x')",
            "return x:f(1)",
            "return x.find(1)",
            "return x:find",
            "function x:find() return self.next:find() end",
            "local t = {sub = f} return t:sub()",
            "return function() return f() end",
            "return function() (x):find(y) end",
            "local call = redis.call and f return call('x')",
            "local call = redis.call or f return call('x')",
            "local call = redis.call.x return call('x')",
            "local call = redis.call'x' return call('x')",
            "local call = redis.call(x) return call('x')",
            "local call = redis.call[1] return call('x')",
            "local call = redis.call .. x return call('x')",
            "local call = redis.call == x return call('x')",
            "local call = error and f return call('x')",
            "local call = error{} return call('x')",
            "local error = f local call = error return call('x')",
            "-- return redis.call('x')",
            "return 'return redis.call(1)'",
            "local redis = f return redis.call('x')",
            "local function error() return 1, 2 end return error()",
            "local function f(error) return error(1) end",
            "for _, error in pairs(t) do return error(1) end",
            "local call = redis.call local call = f return call('x')",
            "local call = redis.call call = f return call('x')",
            "local call = f.call return call('x')",
            "return redis.call((",
            "return redis.call('",
            "return redis.call([==[",
            "return --[==[",
            "return [",
            "return 'x\\",
            "",
        ] {
            assert_eq!(replaced(text), text);
        }
    }
}
