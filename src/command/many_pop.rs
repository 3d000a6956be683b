//! The arguments that LMPOP, ZMPOP and their blocking forms share: counted keys, an end, and how
//! many elements are wanted.

use super::{Args, CommandError};
use crate::keyspace::Key;

pub struct ManyPop<'a, E> {
    pub keys: Vec<Key<'a>>,
    pub end: E,
    /// At least 1.
    pub count: usize,
}

impl<'a, E> ManyPop<'a, E> {
    /// Reads the rest of the arguments, the end by a function of the type's own.
    pub fn read(
        args: &mut Args<'a>,
        read_end: impl FnOnce(&mut Args<'a>) -> Result<E, CommandError>,
    ) -> Result<ManyPop<'a, E>, CommandError> {
        const NO_KEYS: CommandError = CommandError::Fixed("ERR numkeys should be greater than 0");
        const NO_COUNT: CommandError = CommandError::Fixed("ERR count should be greater than 0");
        let key_count = positive(args, NO_KEYS)?;
        if key_count >= args.remaining() {
            return Err(CommandError::Syntax);
        }
        let keys = (0..key_count).map(|_| args.key()).collect();
        let end = read_end(args)?;
        let wants_count = args.option_with_value("COUNT");
        let count = if wants_count { positive(args, NO_COUNT)? } else { 1 };
        args.done()?;
        Ok(ManyPop { keys, end, count })
    }
}

/// The next argument as a number greater than zero.
fn positive(args: &mut Args<'_>, error: CommandError) -> Result<usize, CommandError> {
    let number = args.integer_or(error.clone());
    args.check()?;
    usize::try_from(number).ok().filter(|number| *number > 0).ok_or(error)
}
