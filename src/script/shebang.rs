//! The first line of a script or a library: what it says of itself before it is compiled.
//!
//! The line begins with `#!` and is split into words as the configuration's lines are. Its newline
//! is no part of it, so that what is left to compile begins with an empty line and the numbers of
//! lines stay right. Where a C string would end, the search for the newline ends, too.

use super::library_error::LibraryError;
use crate::structs::words::split;

/// What a script or a function has said that it does or may be done with it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Flags(u8);

impl Flags {
    pub const NONE: Flags = Flags(0);
    pub const NO_WRITES: Flags = Flags(1);
    pub const ALLOW_OOM: Flags = Flags(2);
    pub const ALLOW_STALE: Flags = Flags(4);
    pub const NO_CLUSTER: Flags = Flags(8);
    pub const ALLOW_CROSS_SLOT: Flags = Flags(16);

    const NAMES: [(&'static str, Flags); 5] = [
        ("no-writes", Flags::NO_WRITES),
        ("allow-oom", Flags::ALLOW_OOM),
        ("allow-stale", Flags::ALLOW_STALE),
        ("no-cluster", Flags::NO_CLUSTER),
        ("allow-cross-slot-keys", Flags::ALLOW_CROSS_SLOT),
    ];

    /// The flag of a name, which is in lower case.
    pub fn named(name: &[u8]) -> Option<Flags> {
        let found = Flags::NAMES.iter().find(|(own, _)| own.as_bytes() == name);
        found.map(|(_, flag)| *flag)
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let is_set = move |(_, flag): &&(&str, Flags)| self.has(*flag);
        Flags::NAMES.iter().filter(is_set).map(|(name, _)| *name)
    }

    pub fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 == flag.0
    }

    pub fn with(self, flag: Flags) -> Flags {
        Flags(self.0 | flag.0)
    }
}

/// What a script says of itself.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ScriptHeader {
    /// `None` without such a line: each call is then checked when it is made.
    pub flags: Option<Flags>,
    /// How much of the body is not to be compiled.
    pub len: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShebangError {
    NoEnd,
    NoEngine,
    UnexpectedEngine(Vec<u8>),
    UnknownOption(Vec<u8>),
    UnexpectedFlag(Vec<u8>),
}

impl ShebangError {
    pub fn text(&self) -> Vec<u8> {
        let (text, what): (&str, &[u8]) = match self {
            ShebangError::NoEnd => ("Invalid script shebang", b""),
            ShebangError::NoEngine => ("Invalid engine in script shebang", b""),
            ShebangError::UnexpectedEngine(engine) => {
                ("Unexpected engine in script shebang: ", engine)
            }
            ShebangError::UnknownOption(word) => ("Unknown lua shebang option: ", word),
            ShebangError::UnexpectedFlag(flag) => ("Unexpected flag in script shebang: ", flag),
        };
        [text.as_bytes(), what].concat()
    }
}

/// What stands before a script.
pub fn parse_script(body: &[u8]) -> Result<ScriptHeader, ShebangError> {
    if !body.starts_with(b"#!") {
        return Ok(ScriptHeader::default());
    }
    let len = line_len(body).ok_or(ShebangError::NoEnd)?;
    let words = split(&body[..len]).map_err(|_| ShebangError::NoEngine)?;
    let (engine, options) = words.split_first().ok_or(ShebangError::NoEngine)?;
    if engine != b"#!lua" {
        return Err(ShebangError::UnexpectedEngine(engine.clone()));
    }
    let mut flags = Flags::NONE;
    for option in options {
        let names = option.strip_prefix(b"flags=");
        let names = names.ok_or_else(|| ShebangError::UnknownOption(option.clone()))?;
        flags = flags.with(parse_flags(names)?);
    }
    Ok(ScriptHeader { flags: Some(flags), len })
}

fn parse_flags(names: &[u8]) -> Result<Flags, ShebangError> {
    if names.is_empty() {
        return Ok(Flags::NONE);
    }
    names.split(|byte| *byte == b',').try_fold(Flags::NONE, |flags, name| {
        let flag = Flags::named(name);
        Ok(flags.with(flag.ok_or_else(|| ShebangError::UnexpectedFlag(name.to_vec()))?))
    })
}

/// What a library says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LibraryHeader {
    pub name: Vec<u8>,
    pub engine: Vec<u8>,
    /// How much of the code is not to be compiled.
    pub len: usize,
}

/// What stands before a library.
pub fn parse_library(code: &[u8]) -> Result<LibraryHeader, LibraryError> {
    if !code.starts_with(b"#!") {
        return Err(LibraryError::MissingMetadata);
    }
    let len = line_len(code).ok_or(LibraryError::InvalidMetadata)?;
    let words = split(&code[..len]).map_err(|_| LibraryError::InvalidMetadata)?;
    let (engine, values) = words.split_first().ok_or(LibraryError::InvalidMetadata)?;
    let mut name = None;
    for value in values {
        let given = value.split_at_checked(b"name=".len());
        let Some((_, own)) = given.filter(|(key, _)| key.eq_ignore_ascii_case(b"name=")) else {
            return Err(LibraryError::InvalidValue(value.clone()));
        };
        if name.replace(own.to_vec()).is_some() {
            return Err(LibraryError::NameTwice);
        }
    }
    let name = name.ok_or(LibraryError::NoName)?;
    Ok(LibraryHeader { name, engine: engine[b"#!".len()..].to_vec(), len })
}

fn line_len(body: &[u8]) -> Option<usize> {
    memchr::memchr2(b'\n', 0, body).filter(|len| body[*len] == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts with what a real server answers, where it does not run them.
    const SCRIPTS: [(&str, &str); 26] = [
        ("return 1", ""),
        ("#!lua\nreturn 1", ""),
        ("#!lua", "Invalid script shebang"),
        ("#!\nreturn 1", "Unexpected engine in script shebang: #!"),
        ("#! lua\n", "Unexpected engine in script shebang: #!"),
        ("#!Lua\nreturn 1", "Unexpected engine in script shebang: #!Lua"),
        ("#!lua flags=\nreturn 1", ""),
        ("#!lua flags=no-writes,\n", "Unexpected flag in script shebang: "),
        ("#!lua flags=No-writes\n", "Unexpected flag in script shebang: No-writes"),
        ("#!lua Flags=no-writes\n", "Unknown lua shebang option: Flags=no-writes"),
        ("#!lua flags=no-writes flags=allow-oom\nreturn 1", ""),
        ("#!lua \"flags=no-writes\"\nreturn 1", ""),
        ("#!lua fl\"ags=no-writes\"\nreturn 1", ""),
        ("#!lua 'flags=no-writes'\nreturn 1", ""),
        ("#!lua \"x\nreturn 1", "Invalid engine in script shebang"),
        ("#!lua flags=no-writes\"\nreturn 1", "Invalid engine in script shebang"),
        ("#!lua flags=\"no-writes\",\"allow-oom\"\n", "Invalid engine in script shebang"),
        ("#!lua x\0y\nreturn 1", "Invalid script shebang"),
        ("#!lua name=x\nreturn 1", "Unknown lua shebang option: name=x"),
        ("#!python\n", "Unexpected engine in script shebang: #!python"),
        ("#!lua\r\nreturn 1", ""),
        (" #!lua\nreturn 1", ""),
        ("\"#!lua\"\nreturn 1", ""),
        ("#!lua flags=a b\n", "Unexpected flag in script shebang: a"),
        ("#!lua \"\"\nreturn 1", "Unknown lua shebang option: "),
        ("", ""),
    ];

    #[test]
    fn scripts_are_refused_as_a_real_server_does() {
        for (body, expected) in SCRIPTS {
            let error = parse_script(body.as_bytes()).err().map_or(Vec::new(), |e| e.text());
            assert_eq!(String::from_utf8_lossy(&error), expected, "{body:?}");
        }
        let error = parse_script(b"#!\xff\n").expect_err("it is no engine");
        assert_eq!(error.text(), b"Unexpected engine in script shebang: #!\xff");
    }

    #[test]
    fn what_is_said_is_understood() {
        let flags_of = |body: &str| parse_script(body.as_bytes()).map(|header| header.flags);
        assert_eq!(flags_of("return 1"), Ok(None));
        assert_eq!(flags_of("#!lua\n"), Ok(Some(Flags::NONE)));
        let two = Flags::NO_WRITES.with(Flags::ALLOW_OOM);
        assert_eq!(flags_of("#!lua flags=no-writes flags=allow-oom\n"), Ok(Some(two)));
        assert_eq!(flags_of("#!lua flags=allow-oom,no-writes\r\n"), Ok(Some(two)));
        let header = parse_script(b"#!lua flags=allow-stale\nreturn 1").expect("it is right");
        assert_eq!(header.len, "#!lua flags=allow-stale".len());
        let all = "no-writes,allow-oom,allow-stale,no-cluster,allow-cross-slot-keys";
        let flags = flags_of(&format!("#!lua flags={all}\n")).expect("all are known");
        let names: Vec<&str> = flags.expect("there is a line").names().collect();
        assert_eq!(names.join(","), all);
    }

    /// Libraries with their names or what a real server answers.
    const LIBRARIES: [(&str, &str); 22] = [
        ("", "Missing library metadata"),
        ("x", "Missing library metadata"),
        (" #!lua name=a\n", "Missing library metadata"),
        ("#!lua", "Invalid library metadata"),
        ("#!lua name=a", "Invalid library metadata"),
        ("#!lua \"name=a\n", "Invalid library metadata"),
        ("#!lua name=a\0b\n", "Invalid library metadata"),
        ("#!lua\n", "Library name was not given"),
        ("#!lua name=a1\n", "lua a1"),
        ("#!LUA name=a2\n", "LUA a2"),
        ("#!Lua name=\"a3\"\n", "Lua a3"),
        ("#!lua 'name=a4'\n", "lua a4"),
        ("#!lua NAME=a5\n", "lua a5"),
        ("#!lua  name=a7  \n", "lua a7"),
        ("#!lua name=a8\r\n", "lua a8"),
        ("#!python name=a\n", "python a"),
        ("#! name=a\n", " a"),
        ("#!lua name=\n", "lua "),
        (
            "#!lua name=a6 name=b\n",
            "Invalid metadata value, name argument was given multiple times",
        ),
        ("#!lua name=a name\n", "Invalid metadata value given: name"),
        ("#!lua x name=a\n", "Invalid metadata value given: x"),
        ("#!lua name=\"a b\"\n", "lua a b"),
    ];

    #[test]
    fn libraries_are_refused_as_a_real_server_does() {
        for (code, expected) in LIBRARIES {
            let own = match parse_library(code.as_bytes()) {
                Ok(header) => [&*header.engine, b" ", &*header.name].concat(),
                Err(error) => error.text(),
            };
            assert_eq!(String::from_utf8_lossy(&own), expected, "{code:?}");
        }
    }
}
