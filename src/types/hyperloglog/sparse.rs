//! Registers as runs of equal values.
//!
//! ```text
//! 00nnnnnn           n + 1 zeros
//! 01nnnnnn nnnnnnnn  n + 1 zeros, high bits first
//! 1vvvvvnn           n + 1 registers of value v + 1
//! ```
//! A register is raised by splitting its run, and runs of one value are joined with their
//! neighbours. Which neighbours are tried is part of the format: sketches that saw the same
//! elements in the same order are equal to the byte on every server, however many runs could still
//! be joined.

use super::{Corrupted, HEADER_BYTES, REGISTERS};

const ZEROS_MAX: usize = 64;
const VALUES_MAX: usize = 4;
const VALUE_MAX: u8 = 32;

/// So many runs, from the one before the change on, are tried for joining.
const JOINED_RUNS_MAX: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Code {
    Zeros,
    ManyZeros,
    Values,
}

/// Registers of one value.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    code: Code,
    /// The first register.
    pub first: usize,
    pub len: usize,
    pub value: u8,
}

impl Run {
    /// How PFDEBUG prints it.
    pub fn describe(&self) -> String {
        match self.code {
            Code::Zeros => format!("z:{}", self.len),
            Code::ManyZeros => format!("Z:{}", self.len),
            Code::Values => format!("v:{},{}", self.value, self.len),
        }
    }

    fn width(self) -> usize {
        if self.code == Code::ManyZeros { 2 } else { 1 }
    }

    /// The run at a position; `None` if it is cut off there.
    fn at(bytes: &[u8], at: usize, first: usize) -> Option<Run> {
        let byte = *bytes.get(at)?;
        let low = usize::from(byte & 0x3f);
        Some(match byte >> 6 {
            0 => Run { code: Code::Zeros, first, len: low + 1, value: 0 },
            1 => {
                let len = (low << 8 | usize::from(*bytes.get(at + 1)?)) + 1;
                Run { code: Code::ManyZeros, first, len, value: 0 }
            }
            _ => {
                let (value, len) = ((byte >> 2 & 0x1f) + 1, usize::from(byte & 3) + 1);
                Run { code: Code::Values, first, len, value }
            }
        })
    }
}

/// All runs, if they are whole and make up just all registers.
pub fn checked_runs(body: &[u8]) -> Result<Vec<Run>, Corrupted> {
    let (mut runs, mut at, mut first) = (Vec::new(), 0, 0);
    while at < body.len() {
        let run = Run::at(body, at, first).ok_or(Corrupted)?;
        at += run.width();
        first += run.len;
        // Checked for each run, so that no input makes the list long.
        if first > REGISTERS {
            return Err(Corrupted);
        }
        runs.push(run);
    }
    if first == REGISTERS { Ok(runs) } else { Err(Corrupted) }
}

/// Adds a run of zeros.
pub fn push_zeros(bytes: &mut Vec<u8>, len: usize) {
    let coded = len - 1;
    if len > ZEROS_MAX {
        bytes.push(0x40 | (coded >> 8) as u8);
    }
    bytes.push(coded as u8);
}

fn values_byte(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Raised {
    Yes,
    No,
    /// It does not fit runs, or they would become too long.
    NeedsDense,
}

/// Raises a register of a sketch.
pub fn raise(
    bytes: &mut Vec<u8>,
    index: usize,
    rank: u8,
    bytes_max: usize,
) -> Result<Raised, Corrupted> {
    if rank > VALUE_MAX {
        return Ok(Raised::NeedsDense);
    }
    let (mut at, mut before, mut first) = (HEADER_BYTES, None, 0);
    let run = loop {
        let run = Run::at(bytes, at, first).ok_or(Corrupted)?;
        if first + run.len > REGISTERS {
            return Err(Corrupted);
        }
        if index < first + run.len {
            break run;
        }
        before = Some(at);
        at += run.width();
        first += run.len;
    };
    if run.value >= rank {
        return Ok(Raised::No);
    }
    let split = split_of(run, index, rank);
    if split.len() > run.width() && bytes.len() + split.len() - run.width() > bytes_max {
        return Ok(Raised::NeedsDense);
    }
    bytes.splice(at..at + run.width(), split);
    join_from(bytes, before.unwrap_or(HEADER_BYTES));
    Ok(Raised::Yes)
}

/// What takes the place of a run in which one register is raised: at most five bytes.
fn split_of(run: Run, index: usize, rank: u8) -> Vec<u8> {
    let mut split = Vec::with_capacity(5);
    let push_old = |split: &mut Vec<u8>, len: usize| match run.code {
        _ if len == 0 => {}
        Code::Values => split.push(values_byte(run.value, len)),
        Code::Zeros | Code::ManyZeros => push_zeros(split, len),
    };
    push_old(&mut split, index - run.first);
    split.push(values_byte(rank, 1));
    push_old(&mut split, run.first + run.len - 1 - index);
    split
}

/// Joins neighbouring runs of one value from a position on.
fn join_from(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOINED_RUNS_MAX {
        let Some(run) = Run::at(bytes, at, 0) else { return };
        if run.code == Code::Values
            && let Some(next) = Run::at(bytes, at + 1, 0)
            && next.code == Code::Values
            && next.value == run.value
            && run.len + next.len <= VALUES_MAX
        {
            bytes[at + 1] = values_byte(run.value, run.len + next.len);
            bytes.remove(at);
        } else {
            at += run.width();
        }
    }
}
