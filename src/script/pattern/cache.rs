//! Patterns that were compiled a moment ago: a script calls with the same few again and again, and
//! to compile one takes as long as to match it with a short subject.
//!
//! Each pattern has one slot, and takes it from whichever had it before. A list of the last ones
//! was refused: to keep it in order would cost more than it saves.

use super::{Caret, Pattern};
use std::rc::Rc;

const SLOTS: usize = 64;
/// Longer patterns are not kept.
const TEXT_BYTES_MAX: usize = 64;

struct Kept {
    text: Box<[u8]>,
    caret: Caret,
    pattern: Rc<Pattern>,
}

/// A compiled pattern is shared, since one that is at work may lose its slot.
#[derive(Default)]
pub struct Patterns {
    /// Empty until the first pattern comes.
    slots: Vec<Option<Kept>>,
}

impl Patterns {
    pub fn compiled(&mut self, text: &[u8], caret: Caret) -> Rc<Pattern> {
        if text.len() > TEXT_BYTES_MAX {
            return Rc::new(Pattern::compile(text, caret));
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        let slot = &mut self.slots[slot_of(text)];
        if let Some(kept) = slot
            && *kept.text == *text
            && kept.caret == caret
        {
            return Rc::clone(&kept.pattern);
        }
        let pattern = Rc::new(Pattern::compile(text, caret));
        *slot = Some(Kept { text: text.into(), caret, pattern: Rc::clone(&pattern) });
        pattern
    }
}

/// Whoever finds patterns that share a slot only has them compiled each time.
fn slot_of(text: &[u8]) -> usize {
    let mixed =
        text.iter().fold(0_u32, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (mixed >> 16) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_compiled_once_for_each_use() {
        let mut patterns = Patterns::default();
        let first = patterns.compiled(b"^%a+", Caret::Anchor);
        assert!(Rc::ptr_eq(&first, &patterns.compiled(b"^%a+", Caret::Anchor)));
        assert!(!patterns.compiled(b"^%a+", Caret::Byte).is_anchored);
        assert!(patterns.compiled(b"^%a+", Caret::Anchor).is_anchored);
        for n in 0..1000 {
            let text = format!("(%d+){n}");
            let pattern = patterns.compiled(text.as_bytes(), Caret::Anchor);
            assert_eq!(pattern.literals.as_slice(), n.to_string().as_bytes());
        }
        let long = b"a".repeat(TEXT_BYTES_MAX + 1);
        assert_eq!(patterns.compiled(&long, Caret::Anchor).as_literal(), Some(&*long));
        assert!(first.is_anchored && patterns.slots.len() == SLOTS);
    }
}
