//! Why a library of functions is not taken.

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LibraryError {
    MissingMetadata,
    InvalidMetadata,
    InvalidValue(Vec<u8>),
    NameTwice,
    NoName,
    /// The name of a library or a function.
    BadName,
    UnknownEngine(Vec<u8>),
    /// Its code is no Lua: where and why not.
    NotCompiled(Vec<u8>),
    /// Its code has ended in an error.
    NotRegistered(Vec<u8>),
    NoFunctions,
    FunctionTwice,
    FunctionExists(Vec<u8>),
    LibraryExists(Vec<u8>),
    /// The same, found by a restore.
    RestoredExists(Vec<u8>),
    NotFound,
}

impl LibraryError {
    pub fn text(&self) -> Vec<u8> {
        let (before, what, after): (&str, &[u8], &str) = match self {
            LibraryError::MissingMetadata => ("Missing library metadata", b"", ""),
            LibraryError::InvalidMetadata => ("Invalid library metadata", b"", ""),
            LibraryError::InvalidValue(value) => ("Invalid metadata value given: ", value, ""),
            LibraryError::NameTwice => {
                ("Invalid metadata value, name argument was given multiple times", b"", "")
            }
            LibraryError::NoName => ("Library name was not given", b"", ""),
            LibraryError::BadName => (
                "Library names can only contain letters, numbers, or underscores(_) \
                 and must be at least one character long",
                b"",
                "",
            ),
            LibraryError::UnknownEngine(engine) => ("Engine '", engine, "' not found"),
            LibraryError::NotCompiled(why) => ("Error compiling function: ", why, ""),
            LibraryError::NotRegistered(why) => ("Error registering functions: ", why, ""),
            LibraryError::NoFunctions => ("No functions registered", b"", ""),
            LibraryError::FunctionTwice => ("Function already exists in the library", b"", ""),
            LibraryError::FunctionExists(name) => ("Function ", name, " already exists"),
            LibraryError::LibraryExists(name) => ("Library '", name, "' already exists"),
            LibraryError::RestoredExists(name) => ("Library ", name, " already exists"),
            LibraryError::NotFound => ("Library not found", b"", ""),
        };
        [before.as_bytes(), what, after.as_bytes()].concat()
    }
}
