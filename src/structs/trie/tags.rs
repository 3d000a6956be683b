//! Which slots of a segment a tag prefers.
//!
//! A lookup can then fetch the slots along with the tags. The preference is a consistent hash: when
//! a segment grows by a line of slots, the tags that change their minds all prefer the new line, so
//! few items have to move. The table spares the hot path the arithmetic.

use super::segment::{CAPACITY, LINE};

const MAX_LINES: usize = CAPACITY / LINE;

/// The line that each tag prefers, by the number of lines.
static PREFERENCES: [[u8; 256]; MAX_LINES + 1] = preferences();

/// The line of slots that a tag prefers among so many.
#[inline(always)]
pub(super) fn line_of(tag: u8, lines: usize) -> usize {
    match PREFERENCES.get(lines) {
        Some(preferences) => preferences[tag as usize] as usize,
        None => 0,
    }
}

const fn preferences() -> [[u8; 256]; MAX_LINES + 1] {
    let mut table = [[0; 256]; MAX_LINES + 1];
    let mut lines = 2;
    while lines <= MAX_LINES {
        // Of the tags that prefer each line so far, one in `lines` takes to the new line.
        let mut seen = [0; MAX_LINES];
        let mut tag = 0;
        while tag < 256 {
            let line = table[lines - 1][tag];
            seen[line as usize] += 1;
            let moves = seen[line as usize] % lines == 0;
            table[lines][tag] = if moves { lines as u8 - 1 } else { line };
            tag += 1;
        }
        lines += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINES, line_of};

    #[test]
    fn tags_spread_over_the_lines_and_move_only_to_new_ones() {
        for lines in 1..=MAX_LINES {
            let mut counts = [0usize; MAX_LINES];
            for tag in 0..=255 {
                let line = line_of(tag, lines);
                counts[line] += 1;
                assert!(line < lines);
                assert!(lines == 1 || line == lines - 1 || line == line_of(tag, lines - 1));
            }
            let share = 256 / lines;
            assert!(counts[..lines].iter().all(|count| count.abs_diff(share) <= 6), "{counts:?}");
        }
    }
}
