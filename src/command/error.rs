//! Why a command failed, and the one place where each reason is worded.
//!
//! Clients match on these texts, so they are Redis's to the byte and stand nowhere else. The first
//! word is the error's code: it is what INFO errorstats counts and what client libraries map to
//! exceptions.

use crate::structs::memory;
use crate::types::WrongType;
use std::borrow::Cow;

/// What a handler returns: `Ok` after it has written its reply.
pub type CommandResult = Result<(), CommandError>;

/// A failed command. Whatever the handler had written of its reply is dropped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandError {
    Syntax,
    WrongType,
    NotInteger,
    NotFloat,
    NoSuchKey,
    OutOfRange,
    MustBePositive,
    IndexOutOfRange,
    SameObject,
    NanOrInfinity,
    IncrementOverflow,
    StringTooLong,
    DbIndexOutOfRange,
    InvalidCursor,
    NoAuth,
    WrongPass,
    WrongArity(&'static str),
    InvalidExpire(&'static str),
    ExecAbort,
    Loading,
    OutOfMemory,
    /// The system refuses the memory that the command needs.
    NoMemory,
    NoClusterSupport,
    /// The request belongs elsewhere, or nowhere at present: the whole text, which is what the
    /// client of a transaction must know, too.
    Redirect(Cow<'static, str>),
    /// Longer than the limit of the client's output: who waits for it is closed.
    OutputTooLong,
    /// A text with its code that only one command can give.
    Fixed(&'static str),
    /// A text with its code that names what the client sent.
    Text(Box<str>),
    /// The same when the named part need not be UTF-8.
    Bytes(Box<[u8]>),
}

impl From<WrongType> for CommandError {
    fn from(_: WrongType) -> CommandError {
        CommandError::WrongType
    }
}

impl CommandError {
    /// The error if the system has no memory for so many bytes that a client has asked for.
    pub fn unless_memory(bytes: usize) -> CommandResult {
        if memory::is_there_for(bytes) { Ok(()) } else { Err(CommandError::NoMemory) }
    }

    /// An `ERR` with a formatted text.
    pub fn err(text: std::fmt::Arguments<'_>) -> CommandError {
        CommandError::Text(format!("ERR {text}").into_boxed_str())
    }

    /// A subcommand that is there, but not with these arguments. `name` is as it was sent.
    pub fn subcommand_syntax(container: &str, name: &[u8]) -> CommandError {
        const SHOWN_BYTES_MAX: usize = 128;
        let text = [
            b"ERR unknown subcommand or wrong number of arguments for '",
            &name[..name.len().min(SHOWN_BYTES_MAX)],
            b"'. Try ",
            container.as_bytes(),
            b" HELP.",
        ];
        CommandError::Bytes(text.concat().into_boxed_slice())
    }

    /// The error line without its leading dash and its line end.
    pub fn text(&self) -> Cow<'_, [u8]> {
        let fixed = match self {
            CommandError::Syntax => "ERR syntax error",
            CommandError::WrongType => {
                "WRONGTYPE Operation against a key holding the wrong kind of value"
            }
            CommandError::NotInteger => "ERR value is not an integer or out of range",
            CommandError::NotFloat => "ERR value is not a valid float",
            CommandError::NoSuchKey => "ERR no such key",
            CommandError::OutOfRange => "ERR value is out of range",
            CommandError::MustBePositive => "ERR value is out of range, must be positive",
            CommandError::IndexOutOfRange => "ERR index out of range",
            CommandError::SameObject => "ERR source and destination objects are the same",
            CommandError::NanOrInfinity => "ERR increment would produce NaN or Infinity",
            CommandError::IncrementOverflow => "ERR increment or decrement would overflow",
            CommandError::StringTooLong => {
                "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
            }
            CommandError::DbIndexOutOfRange => "ERR DB index is out of range",
            CommandError::InvalidCursor => "ERR invalid cursor",
            CommandError::NoAuth => "NOAUTH Authentication required.",
            CommandError::WrongPass => {
                "WRONGPASS invalid username-password pair or user is disabled."
            }
            CommandError::ExecAbort => {
                "EXECABORT Transaction discarded because of previous errors."
            }
            CommandError::Loading => "LOADING Redis is loading the dataset in memory",
            CommandError::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            CommandError::NoMemory => "OOM the system has no memory for the command.",
            CommandError::OutputTooLong => "ERR the reply is longer than the output buffer limit",
            CommandError::NoClusterSupport => "ERR This instance has cluster support disabled",
            CommandError::Redirect(text) => text,
            CommandError::WrongArity(command) => {
                let text = format!("ERR wrong number of arguments for '{command}' command");
                return Cow::Owned(text.into_bytes());
            }
            CommandError::InvalidExpire(command) => {
                let text = format!("ERR invalid expire time in '{command}' command");
                return Cow::Owned(text.into_bytes());
            }
            CommandError::Fixed(text) => text,
            CommandError::Text(text) => return Cow::Borrowed(text.as_bytes()),
            CommandError::Bytes(text) => return Cow::Borrowed(text),
        };
        Cow::Borrowed(fixed.as_bytes())
    }
}
