//! LCS: the longest common subsequence of two strings, its length, or where it lies.
//!
//! Big inputs are aligned on another thread, over shared strings; the size that Redis's table
//! would have is held to `proto-max-bulk-len`, as it is there.

use super::READS;
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeySpec,
};
use crate::engine::Cx;
use crate::keyspace::{Entry, Key};
use crate::resp::Reply;
use crate::structs::memory;
use crate::types::string::lcs::{self, Alignment};

/// Tables with more cells than this are not worked on by the executor: about half a millisecond.
const CELLS_INLINE_MAX: u64 = 1 << 24;

/// What Redis takes for one cell of its table.
const CELL_BYTES: u64 = 4;

pub(super) static LCS: Command = Command {
    name: "lcs",
    since: "7.0.0",
    group: Group::String,
    summary: "Finds the longest common subsequence of two strings.",
    complexity: "O(N*M) with strings of N and M bytes",
    arity: Arity::at_least(3),
    flags: Flags::READONLY,
    acl: Categories::STRING,
    keys: &[KeySpec::range(1, 1, 1, READS)],
    args: &[
        Arg::key("key1"),
        Arg::key("key2"),
        Arg::flag("len", "LEN").optional(),
        Arg::flag("idx", "IDX").optional(),
        Arg::integer("min-match-len").token("MINMATCHLEN").optional(),
        Arg::flag("withmatchlen", "WITHMATCHLEN").optional(),
    ],
    example: "> MSET a ohmytext b mynewtext\nOK\n> LCS a b\n\"mytext\"\n> LCS a b LEN\n(integer) 6",
    run: lcs,
    ..Command::BASE
};

/// What is asked of the subsequence.
#[derive(Clone, Copy)]
enum Question {
    Bytes,
    Length,
    Matches { len_min: usize, with_len: bool },
}

impl Question {
    fn parse(args: &mut Args<'_>) -> Result<Question, CommandError> {
        let (mut length, mut matches, mut with_len, mut len_min) = (false, false, false, 0);
        while !args.is_empty() {
            if args.option("IDX") {
                matches = true;
            } else if args.option("LEN") {
                length = true;
            } else if args.option("WITHMATCHLEN") {
                with_len = true;
            } else if args.option_with_value("MINMATCHLEN") {
                len_min = args.integer().max(0).unsigned_abs();
            } else {
                args.fail(CommandError::Syntax);
            }
            args.check()?;
        }
        let len_min = usize::try_from(len_min).unwrap_or(usize::MAX);
        match (length, matches) {
            (true, true) => Err(CommandError::Fixed(
                "ERR If you want both the length and indexes, please just use IDX.",
            )),
            (true, false) => Ok(Question::Length),
            (false, true) => Ok(Question::Matches { len_min, with_len }),
            (false, false) => Ok(Question::Bytes),
        }
    }

    fn answer(self, a: &[u8], b: &[u8], reply: &mut Reply<'_>) {
        match self {
            Question::Length => reply.integer(lcs::length(a, b) as i64),
            Question::Bytes => reply.bulk(&Alignment::new(a, b).bytes()),
            Question::Matches { len_min, with_len } => {
                let (len, matches) = Alignment::new(a, b).matches();
                let long_enough = || matches.iter().filter(|run| run.len >= len_min);
                reply.map(2);
                reply.bulk(b"matches");
                reply.array(long_enough().count());
                for run in long_enough() {
                    reply.array(if with_len { 3 } else { 2 });
                    for start in [run.a_start, run.b_start] {
                        reply.array(2);
                        reply.integer(start as i64);
                        reply.integer((start + run.len - 1) as i64);
                    }
                    if with_len {
                        reply.integer(run.len as i64);
                    }
                }
                reply.bulk(b"len");
                reply.integer(len as i64);
            }
        }
    }
}

fn lcs(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (a_key, b_key) = (args.key(), args.key());
    let a_entry = read(cx, &a_key);
    let b_entry = read(cx, &b_key);
    let (Some(a), Some(b)) = (bytes_of(&a_entry), bytes_of(&b_entry)) else {
        return Err(CommandError::Fixed("ERR The specified keys must contain string values"));
    };
    let question = Question::parse(args)?;
    let cells = table_cells(a.len(), b.len(), cx.server.config.proto_max_bulk_len as u64)?;
    if cells <= CELLS_INLINE_MAX {
        question.answer(a, b, &mut cx.reply);
        return Ok(());
    }
    cx.answer_by(move |reply| {
        let strings = (bytes_of(&a_entry), bytes_of(&b_entry));
        let (a, b) = (strings.0.unwrap_or_default(), strings.1.unwrap_or_default());
        question.answer(a, b, reply);
        Ok(())
    })
}

/// The entry of a key; a clone is a count, and outlives changes to the key.
fn read(cx: &Cx<'_>, key: &Key<'_>) -> Option<Entry> {
    cx.keys.read(key).cloned()
}

/// A missing key reads as empty; `None` stands for a value of another kind.
fn bytes_of(entry: &Option<Entry>) -> Option<&[u8]> {
    entry.as_ref().map_or(Some(b""), Entry::string)
}

/// How many cells the table has, if it is one that Redis would make.
fn table_cells(a_len: usize, b_len: usize, bytes_max: u64) -> Result<u64, CommandError> {
    const LEN_MAX: usize = u32::MAX as usize - 2;
    if a_len > LEN_MAX || b_len > LEN_MAX {
        return Err(CommandError::Fixed("ERR String too long for LCS"));
    }
    // Both factors fit 32 bits, so their product fits 64.
    let cells = (a_len as u64 + 1) * (b_len as u64 + 1);
    match cells.checked_mul(CELL_BYTES) {
        None => Err(NO_MEMORY),
        Some(bytes) if bytes > bytes_max => Err(CommandError::Fixed(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        )),
        // A cell takes a bit here.
        Some(_) if !memory::is_there_for(cells as usize / 8) => Err(NO_MEMORY),
        Some(_) => Ok(cells),
    }
}

const NO_MEMORY: CommandError =
    CommandError::Fixed("ERR Insufficient memory, failed allocating transient memory for LCS");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_beyond_the_limit_are_refused() {
        assert_eq!(table_cells(0, 0, 4), Ok(1));
        assert_eq!(table_cells(9, 9, 400), Ok(100));
        let text = |a, b, max| table_cells(a, b, max).expect_err("too big").text().into_owned();
        assert!(text(9, 10, 400).ends_with(b"exceeds proto-max-bulk-len"));
        let max = u32::MAX as usize;
        assert!(text(max - 1, 0, u64::MAX).ends_with(b"too long for LCS"));
        assert!(text(max - 2, max - 2, u64::MAX).ends_with(b"transient memory for LCS"));
        assert!(text(max - 2, max - 2, 1).ends_with(b"transient memory for LCS"));
    }
}
