//! Why a snapshot or a payload cannot be read. Where Redis logs a reason, the text is Redis's:
//! monitoring looks for it.

use std::fmt;
use std::io;

#[derive(Debug)]
pub enum RdbError {
    Io(io::Error),
    /// The bytes end before the snapshot does.
    Truncated,
    /// It does not begin as a snapshot.
    Signature,
    /// It is of a version that is not known.
    Version(u32),
    /// An opcode or a form of a value that is not known.
    UnknownType(u8),
    /// The value of a module's own type, by the type's name.
    ModuleValue(String),
    /// What a module keeps beside the keys, by the name of its type.
    ModuleAux(String),
    /// A library in the form of a release candidate.
    FunctionPreRelease,
    /// It has more databases than this server.
    Database(u64),
    Checksum {
        stored: u64,
        computed: u64,
    },
    /// The bytes are none that a server writes: what is wrong with them.
    Corrupt(&'static str),
}

impl From<io::Error> for RdbError {
    fn from(error: io::Error) -> RdbError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => RdbError::Truncated,
            _ => RdbError::Io(error),
        }
    }
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RdbError::Io(error) => write!(f, "Error reading the RDB file: {error}"),
            RdbError::Truncated => f.write_str("Unexpected EOF reading RDB file"),
            RdbError::Signature => f.write_str("Wrong signature trying to load DB from file"),
            RdbError::Version(version) => write!(f, "Can't handle RDB format version {version}"),
            RdbError::UnknownType(form) => write!(f, "Invalid object type: {form}"),
            RdbError::ModuleValue(name) => write!(
                f,
                "The RDB file contains module data I can't load: no matching module type '{name}'"
            ),
            RdbError::ModuleAux(name) => write!(
                f,
                "The RDB file contains AUX module data I can't load: no matching module '{name}'"
            ),
            RdbError::FunctionPreRelease => {
                f.write_str("Pre-release function format not supported")
            }
            RdbError::Database(index) => write!(
                f,
                "The RDB file has keys in database {index}, which is beyond the directive databases"
            ),
            RdbError::Checksum { stored, computed } => {
                write!(f, "Wrong RDB checksum expected: ({stored:x}) but got ({computed:x})")
            }
            RdbError::Corrupt(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for RdbError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RdbError::Io(error) => Some(error),
            _ => None,
        }
    }
}
