//! Scripts by their SHA1 digest.
//!
//! A script that came by EVAL is kept for EVALSHA as long as it is among the last ones to run;
//! what was loaded on purpose stays. A body is looked up by itself, too, so that EVAL computes the
//! digest of a body once. What runs all the time is few scripts: these are found by comparing one
//! text, be it the body or the digest as clients write it, and no hash is computed.

use crate::structs::recency::{Place, Recency};
use hashbrown::{HashMap, HashSet};
use std::borrow::Borrow;
use std::cell::Cell;
use std::hash::{Hash, Hasher, RandomState};
use std::rc::Rc;

/// So many scripts that came by EVAL are kept.
const EVAL_SCRIPTS_MAX: usize = 500;

/// A digest as 20 bytes.
pub type Digest = [u8; 20];

/// How long it is in hexadecimal digits.
pub const NAME_LEN: usize = 2 * size_of::<Digest>();

pub struct Script<F> {
    pub digest: Digest,
    /// The digest as [`print_digest`] has it.
    name: [u8; NAME_LEN],
    pub body: Box<[u8]>,
    /// What it was compiled to.
    pub compiled: F,
    /// Where it stands among those that may be dropped, if it may.
    place: Cell<Option<Place>>,
}

impl<F> Script<F> {
    pub fn new(body: &[u8], compiled: F) -> Script<F> {
        let digest = digest_of(body);
        let mut name = [0; NAME_LEN];
        name.copy_from_slice(print_digest(&digest).as_bytes());
        Script { digest, name, body: body.into(), compiled, place: Cell::new(None) }
    }
}

/// So many places there are for scripts that have run lately.
const RECENT: usize = 16;

/// Scripts that have run lately, each at the place that the text has by which it was named.
struct Recent<F>([Option<Rc<Script<F>>>; RECENT]);

impl<F> Default for Recent<F> {
    fn default() -> Self {
        Recent([const { None }; RECENT])
    }
}

impl<F> Recent<F> {
    /// Texts that differ little are to have different places; that some do not costs a comparison.
    fn place(text: &[u8]) -> usize {
        let byte = |at: usize| text.get(at).map_or(0, |byte| usize::from(*byte));
        let (middle, last) = (byte(text.len() / 2), byte(text.len().saturating_sub(1)));
        (text.len() + 7 * middle + 3 * last) % RECENT
    }

    /// What is at the place of a text, if that is what the text names.
    #[inline]
    fn find(&self, text: &[u8], is_it: impl Fn(&Script<F>) -> bool) -> Option<&Rc<Script<F>>> {
        self.0[Self::place(text)].as_ref().filter(|script| is_it(script))
    }

    fn remember(&mut self, text: &[u8], script: &Rc<Script<F>>) {
        self.0[Self::place(text)] = Some(Rc::clone(script));
    }
}

/// A script as it is found by its body.
struct ByBody<F>(Rc<Script<F>>);

impl<F> Borrow<[u8]> for ByBody<F> {
    fn borrow(&self) -> &[u8] {
        &self.0.body
    }
}

impl<F> Hash for ByBody<F> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.body.hash(state);
    }
}

impl<F> PartialEq for ByBody<F> {
    fn eq(&self, other: &Self) -> bool {
        self.0.body == other.0.body
    }
}

impl<F> Eq for ByBody<F> {}

pub struct Cache<F> {
    by_digest: HashMap<Digest, Rc<Script<F>>, RandomState>,
    by_body: HashSet<ByBody<F>, RandomState>,
    /// Those that came by EVAL, by when they last ran.
    droppable: Recency<Digest>,
    recent_names: Recent<F>,
    recent_bodies: Recent<F>,
    bytes: usize,
    pub evicted_total: u64,
}

impl<F> Default for Cache<F> {
    fn default() -> Self {
        Cache {
            by_digest: HashMap::default(),
            by_body: HashSet::default(),
            droppable: Recency::default(),
            recent_names: Recent::default(),
            recent_bodies: Recent::default(),
            bytes: 0,
            evicted_total: 0,
        }
    }
}

/// The digest of a body.
pub fn digest_of(body: &[u8]) -> Digest {
    sha1_smol::Sha1::from(body).digest().bytes()
}

/// The same for a text of any length: each piece of it is spent on first.
pub fn digest_by_pieces<E>(
    text: &[u8],
    mut spend_on: impl FnMut(usize) -> Result<(), E>,
) -> Result<Digest, E> {
    const PIECE_BYTES: usize = 64 << 10;
    let mut sha1 = sha1_smol::Sha1::new();
    for piece in text.chunks(PIECE_BYTES) {
        spend_on(piece.len())?;
        sha1.update(piece);
    }
    Ok(sha1.digest().bytes())
}

/// A digest in hexadecimal digits of either case.
pub fn parse_digest(text: &[u8]) -> Option<Digest> {
    let mut digest = [0; 20];
    if text.len() != 2 * digest.len() {
        return None;
    }
    let nibble = |byte: u8| (byte as char).to_digit(16);
    for (byte, pair) in digest.iter_mut().zip(text.chunks(2)) {
        *byte = (nibble(pair[0])? << 4 | nibble(pair[1])?) as u8;
    }
    Some(digest)
}

/// Forty digits in lower case.
pub fn print_digest(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<F> Cache<F> {
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }

    /// The memory of all bodies and of what stands beside each.
    pub fn memory_bytes(&self) -> usize {
        let entries = size_of::<(Digest, Rc<Script<F>>)>() + size_of::<ByBody<F>>();
        self.bytes + self.len() * (size_of::<Script<F>>() + entries)
    }

    /// The script of a digest that is given in hexadecimal digits.
    pub fn named(&self, name: &[u8]) -> Option<&Rc<Script<F>>> {
        let recent = self.recent_names.find(name, |script| script.name == *name);
        recent.or_else(|| self.by_digest.get(&parse_digest(name)?))
    }

    /// The same of one that is about to run.
    pub fn run(&mut self, name: &[u8]) -> Option<Rc<Script<F>>> {
        let script = Rc::clone(self.named(name)?);
        self.recent_names.remember(name, &script);
        Some(self.note_run(script))
    }

    /// The script of a body that is known, which is about to run.
    pub fn run_body(&mut self, body: &[u8]) -> Option<Rc<Script<F>>> {
        let recent = self.recent_bodies.find(body, |script| *script.body == *body);
        let script = Rc::clone(recent.or_else(|| Some(&self.by_body.get(body)?.0))?);
        self.recent_bodies.remember(body, &script);
        Some(self.note_run(script))
    }

    fn note_run(&mut self, script: Rc<Script<F>>) -> Rc<Script<F>> {
        if let Some(place) = script.place.get() {
            self.droppable.touch(place);
        }
        script
    }

    /// Keeps a script: for good, or as long as it is among those that run.
    pub fn add(&mut self, script: Script<F>, for_good: bool) -> Rc<Script<F>> {
        let place = (!for_good).then(|| self.droppable.add(script.digest));
        script.place.set(place);
        let script = Rc::new(script);
        self.bytes += script.body.len();
        self.by_body.insert(ByBody(Rc::clone(&script)));
        self.by_digest.insert(script.digest, Rc::clone(&script));
        self.drop_oldest();
        script
    }

    /// Keeps a script for good that is there already; false if it is not.
    pub fn keep(&mut self, digest: &Digest) -> bool {
        let Some(script) = self.by_digest.get(digest) else { return false };
        if let Some(place) = script.place.take() {
            self.droppable.remove(place);
        }
        true
    }

    /// Takes all scripts out, for somebody to free.
    pub fn clear(&mut self) {
        let evicted_total = self.evicted_total;
        *self = Cache { evicted_total, ..Cache::default() };
    }

    fn drop_oldest(&mut self) {
        if self.droppable.len() <= EVAL_SCRIPTS_MAX {
            return;
        }
        let oldest = self.droppable.remove_oldest();
        if let Some(script) = oldest.and_then(|digest| self.by_digest.remove(&digest)) {
            (self.recent_names, self.recent_bodies) = Default::default();
            self.by_body.remove(&*script.body);
            self.bytes -= script.body.len();
            self.evicted_total += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(n: usize) -> Script<usize> {
        Script::new(format!("return {n}").as_bytes(), n)
    }

    #[test]
    fn the_one_that_has_not_run_for_longest_goes() {
        let mut cache = Cache::default();
        let loaded = cache.add(script(1000), true).digest;
        for n in 0..EVAL_SCRIPTS_MAX {
            cache.add(script(n), false);
        }
        let name = |n| print_digest(&script(n).digest);
        assert!(cache.run(name(0).as_bytes()).is_some());
        assert!(cache.keep(&script(2).digest));
        cache.add(script(600), false);
        assert_eq!((cache.len(), cache.evicted_total), (EVAL_SCRIPTS_MAX + 2, 0));
        cache.add(script(601), false);
        assert_eq!((cache.len(), cache.evicted_total), (EVAL_SCRIPTS_MAX + 2, 1));
        let is_there = |digest: &Digest| cache.named(print_digest(digest).as_bytes()).is_some();
        let has = |n| is_there(&script(n).digest);
        assert!(has(0) && !has(1) && has(2) && has(600) && is_there(&loaded));
        assert!(cache.run_body(b"return 1").is_none());
        assert_eq!(cache.run_body(b"return 3").map(|script| script.compiled), Some(3));
        cache.clear();
        assert_eq!((cache.len(), cache.bytes, cache.evicted_total), (0, 0, 1));
        assert!(cache.run_body(b"return 3").is_none());
    }

    #[test]
    fn what_has_run_lately_is_found_by_any_of_its_names_and_goes_with_its_script() {
        let mut cache = Cache::default();
        for n in 0..EVAL_SCRIPTS_MAX {
            cache.add(script(n), false);
        }
        for _ in 0..2 {
            for n in 0..100 {
                let name = print_digest(&digest_of(format!("return {n}").as_bytes()));
                for name in [name.to_ascii_uppercase(), name] {
                    let found = cache.run(name.as_bytes()).map(|script| script.compiled);
                    assert_eq!(found, Some(n));
                    let found = cache.named(name.as_bytes()).map(|script| script.compiled);
                    assert_eq!(found, Some(n));
                }
                let found = cache.run_body(format!("return {n}").as_bytes());
                assert_eq!(found.map(|script| script.compiled), Some(n));
            }
        }
        for n in EVAL_SCRIPTS_MAX..2 * EVAL_SCRIPTS_MAX {
            cache.add(script(n), false);
        }
        for n in 0..EVAL_SCRIPTS_MAX {
            let body = format!("return {n}");
            assert!(cache.run_body(body.as_bytes()).is_none(), "{body}");
            assert!(cache.run(print_digest(&digest_of(body.as_bytes())).as_bytes()).is_none());
        }
    }

    #[test]
    fn digests_are_read_in_either_case() {
        let digest = digest_of(b"return 1");
        let text = print_digest(&digest);
        assert_eq!(text, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(parse_digest(text.to_ascii_uppercase().as_bytes()), Some(digest));
        for wrong in ["", "e0", &text[1..], &format!("{text}0"), &text.replace('e', "g")] {
            assert_eq!(parse_digest(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
