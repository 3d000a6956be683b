//! What a script was compiled to, as far as it must be known: whether it assigns to globals.
//!
//! Reading the text for that would mean to know the language as well as the compiler does, and to
//! be wrong once would let a script change what others see. So the compiler's outcome is read, in
//! the form in which the interpreter writes it down (`lj_bcdump.h`):
//!
//!     1b 4c 4a 02, flags, length and name of the chunk
//!     for each function, inner ones first: its length, and
//!       flags, parameters, frame, upvalues (a byte each), objects, numbers, instructions,
//!       length of what debuggers need, and if there is some its first line and lines
//!       the instructions, of four bytes, which begin with what is done
//!       what they refer to
//!     00
//!
//! All counts are numbers of seven bits a byte, the lowest first.

const HEAD: &[u8] = b"\x1bLJ\x02";
/// Without names and lines, which is never asked for.
const IS_STRIPPED: u8 = 2;
const INSTRUCTION_BYTES: usize = 4;
/// The instruction that assigns to a global.
const GSET: u8 = 55;

/// Whether a function that was written down, or one within it, assigns to a global. What cannot be
/// read may do so.
pub(super) fn assigns_globals(dump: &[u8]) -> bool {
    read(dump).unwrap_or(true)
}

fn read(dump: &[u8]) -> Option<bool> {
    let mut rest = dump.strip_prefix(HEAD)?;
    if take(&mut rest, 1)?[0] & IS_STRIPPED != 0 {
        return None;
    }
    let name_len = number(&mut rest)?;
    take(&mut rest, name_len)?;
    loop {
        let len = number(&mut rest)?;
        if len == 0 {
            return rest.is_empty().then_some(false);
        }
        if function_assigns(take(&mut rest, len)?)? {
            return Some(true);
        }
    }
}

fn function_assigns(mut function: &[u8]) -> Option<bool> {
    let rest = &mut function;
    take(rest, 4)?;
    let (_objects, _numbers, instructions) = (number(rest)?, number(rest)?, number(rest)?);
    if number(rest)? > 0 {
        let (_first_line, _lines) = (number(rest)?, number(rest)?);
    }
    let code = take(rest, instructions.checked_mul(INSTRUCTION_BYTES)?)?;
    Some(code.chunks(INSTRUCTION_BYTES).any(|instruction| instruction[0] == GSET))
}

fn take<'d>(rest: &mut &'d [u8], len: usize) -> Option<&'d [u8]> {
    let (taken, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in (0..usize::BITS).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chunk named `c` of functions with these instructions.
    fn dump(functions: &[&[u8]]) -> Vec<u8> {
        let mut dump = [HEAD, &[8, 1, b'c']].concat();
        for code in functions {
            let count = (code.len() / INSTRUCTION_BYTES) as u8;
            let function = [&[0, 0, 1, 0, 0, 0, count, 2, 1, 1], *code, &[0, 0]].concat();
            dump.push(function.len() as u8);
            dump.extend(function);
        }
        dump.push(0);
        dump
    }

    #[test]
    fn assignments_are_found_in_every_function() {
        let (reads, assigns) = (&[54, 0, 0, 0, 76, GSET, 2, 0], &[54, 0, 0, 0, GSET, 0, 0, 0]);
        for (functions, expected) in [
            (vec![reads as &[u8]], false),
            (vec![reads, reads], false),
            (vec![assigns], true),
            (vec![assigns, reads], true),
            (vec![reads, assigns], true),
        ] {
            assert_eq!(assigns_globals(&dump(&functions)), expected, "{functions:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_may_assign() {
        let whole = dump(&[&[54, 0, 0, 0]]);
        assert!(!assigns_globals(&whole));
        for len in 0..whole.len() {
            assert!(assigns_globals(&whole[..len]), "{len} bytes");
        }
        assert!(assigns_globals(&[&whole[..], b"x"].concat()));
        let mut other = whole.clone();
        other[3] += 1;
        assert!(assigns_globals(&other), "another version");
        assert!(assigns_globals(&[HEAD, &[8, 0xff, 0xff, 0xff]].concat()));
    }
}
