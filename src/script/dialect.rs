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
//! value answers the same:
//!
//!     return redis.call('GET', KEYS[1])      return (redis.call('GET', KEYS[1]))
//!
//! This is done where the name is one of ours that answers one value, or a local one that stands
//! for it (`local call = redis.call`) and for nothing else in the whole text. No line moves. The
//! text is read a few times from its start to its end, token by token, and nothing is made of it
//! but edits.

use std::borrow::Cow;

/// The tables whose functions may be put into parentheses, and which of them answer one value.
const TABLES: [(&[u8], OneValue); 9] = [
    (b"redis", OneValue::All),
    (b"server", OneValue::All),
    (b"cjson", OneValue::AllBut(&[b"encode_sparse_array"])),
    (b"cmsgpack", OneValue::Only(&[b"pack"])),
    (b"struct", OneValue::Only(&[b"pack", b"size"])),
    (b"bit", OneValue::All),
    (b"math", OneValue::AllBut(&[b"frexp", b"modf", b"randomseed"])),
    (b"string", OneValue::Only(&STRING)),
    (b"table", OneValue::Only(&[b"concat", b"getn", b"maxn"])),
];
const STRING: [&[u8]; 8] =
    [b"char", b"format", b"len", b"lower", b"rep", b"reverse", b"sub", b"upper"];
const FUNCTIONS: [&[u8]; 8] = [
    b"error",
    b"getmetatable",
    b"rawequal",
    b"rawget",
    b"rawset",
    b"setmetatable",
    b"tonumber",
    b"type",
];

/// Which functions of a table answer one value.
enum OneValue {
    All,
    AllBut(&'static [&'static [u8]]),
    Only(&'static [&'static [u8]]),
}

impl OneValue {
    fn has(&self, function: &[u8]) -> bool {
        match self {
            OneValue::All => true,
            OneValue::AllBut(others) => !others.contains(&function),
            OneValue::Only(those) => those.contains(&function),
        }
    }
}

/// Whether a function of a table may be put into parentheses, by their names.
fn answers_one_value(table: &[u8], function: &[u8]) -> bool {
    TABLES.iter().any(|(name, functions)| *name == table && functions.has(function))
}

/// What is called most, by the names of a table and of a function of it: where only that is meant
/// they can be made one name, which is found faster ([`Joins::Made`]).
pub(super) const JOINED: [(&[u8], &[u8]); 4] =
    [(b"redis", b"call"), (b"redis", b"pcall"), (b"server", b"call"), (b"server", b"pcall")];

/// What stands for the dot in such a name: no byte of a text that somebody has written.
const JOINT: u8 = 0xff;

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
    Insert(u8),
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
    if memchr::memmem::find(text, b"return").is_some() {
        let marks = find_marks(text, &Names::of(text));
        edits.extend(marks.into_iter().map(|(at, parenthesis)| (at, Edit::Insert(parenthesis))));
    }
    if memchr::memchr(b'\\', text).is_some() {
        edits.extend(find_escapes(text).map(|at| (at, Edit::Drop)));
    }
    if joins == Joins::Made {
        edits.extend(find_joints(text).into_iter().map(|at| (at, Edit::Join)));
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
            Edit::Insert(byte) => {
                translated.push(byte);
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

/// The line in which a mark stands that is none in Lua 5.1. LuaJIT knows it, and has no limit for
/// how deep what it makes of it may be nested.
pub(super) fn foreign_mark(text: &[u8]) -> Option<usize> {
    memchr::memchr(b'?', text)?;
    let mut tokens = Tokens { text, at: 0 };
    let (place, ..) = tokens.find(|(_, token, _)| *token == Token::Mark(b'?'))?;
    Some(1 + memchr::memchr_iter(b'\n', &text[..place]).count())
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

/// Which names stand for functions that may be put into parentheses.
struct Names<'a> {
    /// Those of tables and functions that the text gives no other meaning.
    tables: Vec<&'a [u8]>,
    functions: Vec<&'a [u8]>,
}

impl<'a> Names<'a> {
    fn of(text: &'a [u8]) -> Names<'a> {
        let mut seen = Seen::default();
        let tokens = Tokens { text, at: 0 };
        tokens.for_each(|(_, token, _)| seen.take(token));
        let is_free = |name: &&[u8]| !seen.bound.contains(name);
        let once = |name: &[u8]| seen.bound.iter().filter(|bound| **bound == name).count() == 1;
        let tables: Vec<&[u8]> = TABLES.iter().map(|(name, _)| *name).filter(is_free).collect();
        let aliases = seen.aliases.iter();
        let aliases = aliases.filter(|(name, table)| once(name) && tables.contains(table));
        let mut functions: Vec<&[u8]> = aliases.map(|(name, _)| *name).collect();
        functions.extend(FUNCTIONS.iter().copied().filter(is_free));
        Names { tables, functions }
    }
}

/// What has been seen of a text: the last tokens, and what they have given a meaning.
#[derive(Default)]
struct Seen<'a> {
    before: [Option<Token<'a>>; 6],
    /// Names in a list that gives each a meaning follow.
    binds: Binds,
    bound: Vec<&'a [u8]>,
    aliases: Vec<(&'a [u8], &'a [u8])>,
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
        if let (Some(Token::Name(name)), Token::Mark(b'=')) = (self.before[5], token)
            && self.before[4] != Some(Token::Name(b"local"))
        {
            self.bound.push(name);
        }
        self.before.rotate_left(1);
        self.before[5] = Some(token);
        if let [
            Some(Token::Name(b"local")),
            Some(Token::Name(name)),
            Some(Token::Mark(b'=')),
            Some(Token::Name(table)),
            Some(Token::Mark(b'.')),
            Some(Token::Name(function)),
        ] = self.before
            && answers_one_value(table, function)
        {
            self.aliases.push((name, table));
        }
    }

    fn bind(&mut self, name: &'a [u8], binds: Binds) -> Binds {
        self.bound.push(name);
        binds
    }

    fn follows_a_name(&self) -> bool {
        let keyword = |name: &[u8]| matches!(name, b"local" | b"for");
        matches!(self.before[5], Some(Token::Name(name)) if !keyword(name))
    }
}

/// Where which parenthesis is to be put in.
fn find_marks(text: &[u8], names: &Names<'_>) -> Vec<(usize, u8)> {
    let mut marks = Vec::new();
    // For each parenthesis that is open: whether the call that it is of is put into parentheses.
    let mut open: Vec<bool> = Vec::new();
    let mut call = Candidate::None;
    for (start, token, end) in (Tokens { text, at: 0 }) {
        let mut is_call = None;
        call = match (call, token) {
            (_, Token::Name(b"return")) => Candidate::Returned,
            (Candidate::Returned, Token::Name(name)) if names.functions.contains(&name) => {
                Candidate::Function(start)
            }
            (Candidate::Returned, Token::Name(name)) if names.tables.contains(&name) => {
                Candidate::Table(start, name)
            }
            (Candidate::Table(at, table), Token::Mark(b'.')) => Candidate::Field(at, table),
            (Candidate::Field(at, table), Token::Name(name)) if answers_one_value(table, name) => {
                Candidate::Function(at)
            }
            (Candidate::Function(at), Token::Mark(b'(')) => {
                is_call = Some(at);
                Candidate::None
            }
            _ => Candidate::None,
        };
        match token {
            Token::Mark(b'(') => {
                open.push(is_call.is_some());
                marks.extend(is_call.map(|at| (at, b'(')));
            }
            Token::Mark(b')') if open.pop() == Some(true) => marks.push((end, b')')),
            _ => {}
        }
    }
    // What is not closed does not compile anyway.
    if open.contains(&true) { Vec::new() } else { marks }
}

/// Where the dot stands between two names that are to be one, since what they name is called: the
/// interpreter tells of anything else by its name. The table has to have its meaning in the whole
/// text, and not to be a field of another.
fn find_joints(text: &[u8]) -> Vec<usize> {
    let has_any = JOINED.iter().any(|(table, _)| memchr::memmem::find(text, table).is_some());
    if !has_any {
        return Vec::new();
    }
    let names = Names::of(text);
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
            && names.tables.contains(&table)
        {
            joints.push(dot);
        }
        before.rotate_left(1);
        before[3] = Some((start, token));
    }
    joints
}

/// How much of a returned call has been read, where that began, and in which table it looks.
#[derive(Clone, Copy)]
enum Candidate<'a> {
    None,
    Returned,
    Table(usize, &'a [u8]),
    Field(usize, &'a [u8]),
    Function(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str) -> String {
        String::from_utf8(translate(text.as_bytes(), Joins::None).into_owned())
            .expect("it was text")
    }

    #[test]
    fn calls_that_are_returned_are_put_into_parentheses() {
        for (text, expected) in [
            ("return redis.call('get')", "return (redis.call('get'))"),
            ("return\n redis . call (\n'get')\n", "return\n (redis . call (\n'get'))\n"),
            ("return server.pcall(f(1), (2)) or 0", "return (server.pcall(f(1), (2))) or 0"),
            ("return cjson.encode(redis.call('x')).a", "return (cjson.encode(redis.call('x'))).a"),
            ("return error('x')", "return (error('x'))"),
            ("return tonumber(ARGV[1])", "return (tonumber(ARGV[1]))"),
            ("return math.floor(x) + 1", "return (math.floor(x)) + 1"),
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
    fn names_that_mean_a_function_of_ours_are_made_one() {
        let joined = |text: &str| {
            let joined = translate(text.as_bytes(), Joins::Made).into_owned();
            String::from_utf8_lossy(&joined).replace('\u{fffd}', "@")
        };
        for (text, expected) in [
            ("redis.call('x')", "redis@call('x')"),
            ("return redis.call('x')", "return (redis@call('x'))"),
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
            (r"return ('a.b'):find('\.\q\-')", r"return ('a.b'):find('.q-')"),
        ] {
            assert_eq!(replaced(text), expected, "{text}");
        }
    }

    #[test]
    fn marks_of_other_dialects_are_found() {
        for (text, line) in [
            ("return a ? 1 : 2", Some(1)),
            ("\nreturn 'x?'\n .. a?.b", Some(3)),
            ("return '?' -- ?", None),
            ("return [[?]] --[[ ? ]]", None),
        ] {
            assert_eq!(foreign_mark(text.as_bytes()), line, "{text}");
        }
    }

    #[test]
    fn what_may_answer_more_or_is_something_else_stays() {
        for text in [
            "return f(x)",
            "return pcall(redis.call, 'x')",
            "return unpack(redis.call('x'))",
            "return redis.call",
            "return redis.call 'x'",
            "return cjson.encode_sparse_array()",
            "return cmsgpack.unpack(x)",
            "return string.find(x, y)",
            "return math.modf(x)",
            "local find = string.find return find(x, y)",
            "return x.redis.call('x')",
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
