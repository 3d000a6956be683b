//! Whether the elements of a packed collection are distinct.
//!
//! A few elements are compared each with each; of more, the keyed hashes are sorted, and only
//! elements with equal hashes are compared. A table would have to be filled and emptied again for
//! every small hash of a file.

use crate::structs::listpack::Element;
use crate::structs::number::I64Buf;
use crate::structs::trie::{HashSecret, ItemHash as _};
use crate::types::MemberHash;

/// So many are compared each with each.
const FEW: usize = 8;

pub struct Distinct {
    secret: HashSecret,
    hashes: Vec<MemberHash>,
}

impl Distinct {
    pub fn new(secret: HashSecret) -> Distinct {
        Distinct { secret, hashes: Vec::new() }
    }

    /// Whether no two of the elements are the same text.
    pub fn are<'e>(&mut self, elements: impl Iterator<Item = Element<'e>> + Clone) -> bool {
        let mut few = [Element::Int(0); FEW];
        let mut rest = elements.clone();
        let count = few.iter_mut().zip(rest.by_ref()).map(|(place, own)| *place = own).count();
        if count < FEW || rest.next().is_none() {
            let few = &few[..count];
            return few
                .iter()
                .enumerate()
                .all(|(at, element)| few[at + 1..].iter().all(|other| !is_same(*element, *other)));
        }
        let hash =
            |element: Element<'_>| MemberHash::of(self.secret, element.bytes(&mut I64Buf::new()));
        self.hashes.clear();
        self.hashes.extend(elements.clone().map(hash));
        self.hashes.sort_unstable();
        let doubtful = self.hashes.windows(2).filter(|pair| pair[0] == pair[1]);
        doubtful.map(|pair| pair[0]).all(|doubtful| {
            let mut of_hash = elements.clone().filter(|element| hash(*element) == doubtful);
            let first = of_hash.next().expect("an element has this hash");
            // Three texts of one hash come to pass only if somebody knows the key.
            !of_hash.any(|other| is_same(first, other))
        })
    }
}

fn is_same(a: Element<'_>, b: Element<'_>) -> bool {
    match (a, b) {
        (Element::Int(a), Element::Int(b)) => a == b,
        (Element::Str(a), Element::Str(b)) => a == b,
        (Element::Int(_), Element::Str(text)) => a.is(text),
        (Element::Str(text), Element::Int(_)) => b.is(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_found_in_few_and_in_many() {
        let mut distinct = Distinct::new(HashSecret::new([3; 16]));
        let texts: Vec<String> = (0..1000).map(|number| format!("text {number}")).collect();
        for len in [0, 1, 2, 8, 9, 100, 1000] {
            let mut elements: Vec<Element<'_>> =
                texts[..len].iter().map(|text| Element::Str(text.as_bytes())).collect();
            assert!(distinct.are(elements.iter().copied()));
            if let Some(first) = elements.first().copied() {
                elements.push(first);
                assert!(!distinct.are(elements.iter().copied()), "{len}");
            }
        }
    }

    #[test]
    fn a_number_is_the_text_of_itself() {
        let mut distinct = Distinct::new(HashSecret::new([3; 16]));
        let fillers = (100..120).map(Element::Int);
        assert!(distinct.are([Element::Int(5), Element::Str(b"05")].into_iter()));
        assert!(!distinct.are([Element::Int(5), Element::Str(b"5")].into_iter()));
        let many: Vec<_> = fillers.chain([Element::Str(b"119")]).collect();
        assert!(!distinct.are(many.into_iter()));
    }
}
