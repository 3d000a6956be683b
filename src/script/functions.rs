//! Libraries of functions: which there are, and what they have registered.
//!
//! A library is loaded in two steps, since its code runs in between: [`Libraries::begin`] reads its
//! first line, the code registers functions in the [`Draft`], and [`Libraries::add`] takes the
//! whole in or leaves everything as it was. Libraries are told apart by their names with the case,
//! functions without it, over all libraries.
//!
//! What a function was compiled to is the caller's. A function is shared, so that one that runs is
//! there to its end whatever becomes of its library.

use super::library_error::LibraryError;
use super::shebang::{Flags, parse_library};
use crate::structs::glob::{self, Case};
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::hash::RandomState;
use std::rc::Rc;

/// The only engine there is, by the name that lists show.
pub const ENGINE: &str = "LUA";

#[derive(Debug)]
pub struct Function<F> {
    pub name: Box<[u8]>,
    pub description: Option<Box<[u8]>>,
    pub flags: Flags,
    pub callback: F,
}

#[derive(Debug)]
pub struct Library<F> {
    pub name: Rc<[u8]>,
    /// As it was sent, its first line included.
    pub code: Rc<[u8]>,
    pub functions: Vec<Rc<Function<F>>>,
}

impl<F> Library<F> {
    fn memory_bytes(&self) -> usize {
        let functions = self.functions.iter().map(|function| {
            let texts =
                2 * function.name.len() + function.description.as_ref().map_or(0, |d| d.len());
            size_of::<Function<F>>() + size_of::<Listed<F>>() + texts
        });
        size_of::<Library<F>>() + self.name.len() + self.code.len() + functions.sum::<usize>()
    }
}

/// What is done about a library of the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replace {
    Yes,
    No,
}

/// What is done with the libraries that are there when others are restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestorePolicy {
    Flush,
    Append,
    Replace,
}

impl RestorePolicy {
    pub fn named(name: &[u8]) -> Option<RestorePolicy> {
        let names: [(&[u8], RestorePolicy); 3] = [
            (b"flush", RestorePolicy::Flush),
            (b"append", RestorePolicy::Append),
            (b"replace", RestorePolicy::Replace),
        ];
        let found = names.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, policy)| *policy)
    }
}

/// A library that is being loaded.
#[derive(Debug)]
pub struct Draft<F> {
    library: Library<F>,
    replace: Replace,
    header_len: usize,
}

impl<F> Draft<F> {
    /// What is to be compiled: all but the first line, whose newline is still there.
    pub fn source(&self) -> &[u8] {
        &self.library.code[self.header_len..]
    }

    /// The library's name.
    pub fn name(&self) -> &[u8] {
        &self.library.name
    }

    /// Takes in a function. Redis keeps two whose names differ in case, and ends when their library
    /// goes: so they are the same here, as they are when they are called.
    pub fn register(
        &mut self,
        name: &[u8],
        description: Option<&[u8]>,
        flags: Flags,
        callback: F,
    ) -> Result<(), LibraryError> {
        if !is_name(name) {
            return Err(LibraryError::BadName);
        }
        let functions = &mut self.library.functions;
        if functions.iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            return Err(LibraryError::FunctionTwice);
        }
        let (name, description) = (name.into(), description.map(Into::into));
        functions.push(Rc::new(Function { name, description, flags, callback }));
        Ok(())
    }
}

/// Whether a library or a function can be called so.
pub(super) fn is_name(name: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    !name.is_empty() && name.iter().all(is_part)
}

#[derive(Debug)]
struct Listed<F> {
    function: Rc<Function<F>>,
    library: Rc<[u8]>,
}

/// A name as functions are listed by it.
fn key_of(name: &[u8]) -> SmallVec<[u8; 64]> {
    name.iter().map(u8::to_ascii_lowercase).collect()
}

/// All libraries there are.
#[derive(Debug)]
pub struct Libraries<F> {
    by_name: BTreeMap<Rc<[u8]>, Library<F>>,
    functions: HashMap<Box<[u8]>, Listed<F>, RandomState>,
    bytes: usize,
}

impl<F> Default for Libraries<F> {
    fn default() -> Self {
        Libraries { by_name: BTreeMap::new(), functions: HashMap::default(), bytes: 0 }
    }
}

impl<F> Libraries<F> {
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub fn functions_len(&self) -> usize {
        self.functions.len()
    }

    /// The memory of all libraries, without what their functions were compiled to.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// The function of a name in any case.
    pub fn function(&self, name: &[u8]) -> Option<&Rc<Function<F>>> {
        self.functions.get(&*key_of(name)).map(|listed| &listed.function)
    }

    /// All libraries in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Library<F>> {
        self.by_name.values()
    }

    /// Those whose names match a pattern, in any case.
    pub fn matching(&self, pattern: &[u8]) -> impl Iterator<Item = &Library<F>> {
        let is_match =
            |library: &&Library<F>| glob::matches(pattern, &library.name, Case::Insensitive);
        self.iter().filter(is_match)
    }

    /// Begins to load a library.
    pub fn begin(&self, code: &[u8], replace: Replace) -> Result<Draft<F>, LibraryError> {
        let header = parse_library(code)?;
        if !is_name(&header.name) {
            return Err(LibraryError::BadName);
        }
        if !header.engine.eq_ignore_ascii_case(ENGINE.as_bytes()) {
            return Err(LibraryError::UnknownEngine(header.engine));
        }
        if replace == Replace::No && self.by_name.contains_key(&*header.name) {
            return Err(LibraryError::LibraryExists(header.name));
        }
        let (name, code) = (header.name.into(), code.into());
        let library = Library { name, code, functions: Vec::new() };
        Ok(Draft { library, replace, header_len: header.len })
    }

    /// Takes a library in whose code has run. The one that it replaces is handed out.
    pub fn add(&mut self, draft: Draft<F>) -> Result<Option<Library<F>>, LibraryError> {
        let Draft { library, replace, .. } = draft;
        if library.functions.is_empty() {
            return Err(LibraryError::NoFunctions);
        }
        if replace == Replace::No && self.by_name.contains_key(&library.name) {
            return Err(LibraryError::LibraryExists(library.name.to_vec()));
        }
        self.check_functions(&library, |owner| *owner == *library.name)?;
        let replaced = self.unlink(&Rc::clone(&library.name));
        self.link(library);
        Ok(replaced)
    }

    /// Refuses a library with functions that others have which do not go.
    fn check_functions(
        &self,
        library: &Library<F>,
        goes: impl Fn(&[u8]) -> bool,
    ) -> Result<(), LibraryError> {
        let is_taken = |function: &&Rc<Function<F>>| {
            let listed = self.functions.get(&*key_of(&function.name));
            listed.is_some_and(|listed| !goes(&listed.library))
        };
        match library.functions.iter().find(is_taken) {
            Some(function) => Err(LibraryError::FunctionExists(function.name.to_vec())),
            None => Ok(()),
        }
    }

    fn link(&mut self, library: Library<F>) {
        self.bytes += library.memory_bytes();
        for function in &library.functions {
            let listed =
                Listed { function: Rc::clone(function), library: Rc::clone(&library.name) };
            self.functions.insert(key_of(&function.name).into_vec().into(), listed);
        }
        self.by_name.insert(Rc::clone(&library.name), library);
    }

    fn unlink(&mut self, name: &[u8]) -> Option<Library<F>> {
        let library = self.by_name.remove(name)?;
        self.bytes -= library.memory_bytes();
        for function in &library.functions {
            self.functions.remove(&*key_of(&function.name));
        }
        Some(library)
    }

    /// Takes a library out.
    pub fn delete(&mut self, name: &[u8]) -> Result<Library<F>, LibraryError> {
        self.unlink(name).ok_or(LibraryError::NotFound)
    }

    /// Takes all libraries out, for somebody to free.
    pub fn take_all(&mut self) -> Libraries<F> {
        std::mem::take(self)
    }

    /// Takes in all libraries of others, or none of them. Those that they replace are handed out.
    pub fn restore(
        &mut self,
        others: Libraries<F>,
        policy: RestorePolicy,
    ) -> Result<Vec<Library<F>>, LibraryError> {
        if policy == RestorePolicy::Flush {
            return Ok(std::mem::replace(self, others).by_name.into_values().collect());
        }
        let existing = |name: &&Rc<[u8]>| self.by_name.contains_key(*name);
        if policy == RestorePolicy::Append
            && let Some(name) = others.by_name.keys().find(existing)
        {
            return Err(LibraryError::RestoredExists(name.to_vec()));
        }
        for library in others.iter() {
            self.check_functions(library, |owner| others.by_name.contains_key(owner))?;
        }
        let names = others.by_name.keys();
        let replaced = names.filter_map(|name| self.unlink(name)).collect();
        for library in others.by_name.into_values() {
            self.link(library);
        }
        Ok(replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads a library whose functions are listed behind its name.
    fn load(
        libraries: &mut Libraries<u32>,
        text: &str,
        replace: Replace,
    ) -> Result<Option<u32>, String> {
        let (name, functions) = text.split_once(':').expect("functions follow");
        let said = |error: LibraryError| String::from_utf8_lossy(&error.text()).into_owned();
        let code = format!("#!lua name={name}\n{functions}");
        let mut draft = libraries.begin(code.as_bytes(), replace).map_err(said)?;
        assert_eq!(draft.source(), format!("\n{functions}").as_bytes());
        for (callback, function) in functions.split_whitespace().enumerate() {
            let described = (callback > 0).then_some(&b"text"[..]);
            let name = function.as_bytes();
            draft.register(name, described, Flags::NO_WRITES, callback as u32).map_err(said)?;
        }
        let replaced = libraries.add(draft).map_err(said)?;
        Ok(replaced.map(|library| library.functions.len() as u32))
    }

    fn of(texts: &[&str]) -> Libraries<u32> {
        let mut libraries = Libraries::default();
        for text in texts {
            load(&mut libraries, text, Replace::No).expect("it is right");
        }
        libraries
    }

    /// The names of all libraries and functions, of which the registry's parts must not differ.
    fn state(libraries: &Libraries<u32>) -> String {
        let line = |library: &Library<u32>| {
            let names = library.functions.iter().map(|f| String::from_utf8_lossy(&f.name));
            let names: Vec<_> = names.collect();
            format!("{}: {}", String::from_utf8_lossy(&library.name), names.join(" "))
        };
        let bytes: usize = libraries.iter().map(Library::memory_bytes).sum();
        assert_eq!(libraries.memory_bytes(), bytes);
        let listed: Vec<_> = libraries.iter().flat_map(|library| &library.functions).collect();
        assert_eq!(listed.len(), libraries.functions_len());
        for function in listed {
            let found = libraries.function(&function.name).expect("it is listed");
            assert!(Rc::ptr_eq(found, function));
        }
        libraries.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn functions_are_found_in_any_case_and_libraries_in_theirs() {
        let libraries = of(&["lib:one Two", "Lib:three"]);
        assert_eq!(state(&libraries), "Lib: three, lib: one Two");
        assert_eq!((libraries.len(), libraries.functions_len()), (2, 3));
        let found = libraries.function(b"tWO").expect("it is there");
        assert_eq!((&*found.name, found.callback), (&b"Two"[..], 1));
        assert_eq!(found.description.as_deref(), Some(&b"text"[..]));
        assert!(libraries.function(b"four").is_none());
        let names = |pattern: &[u8]| libraries.matching(pattern).count();
        assert_eq!((names(b"L*"), names(b"lib"), names(b"x*"), names(b"")), (2, 2, 0, 0));
    }

    #[test]
    fn what_cannot_be_loaded_changes_nothing() {
        let mut libraries = of(&["a:f g", "b:h"]);
        let before = state(&libraries);
        let bad = "Library names can only contain letters, numbers, or underscores(_) and must be \
                   at least one character long";
        for (text, replace, expected) in [
            ("a:x", Replace::No, "Library 'a' already exists"),
            ("c:", Replace::No, "No functions registered"),
            ("a:", Replace::Yes, "No functions registered"),
            ("a:x H", Replace::Yes, "Function H already exists"),
            ("c:x G", Replace::No, "Function G already exists"),
            ("c:x y x", Replace::No, "Function already exists in the library"),
            ("c:x X", Replace::No, "Function already exists in the library"),
            ("c:x y-z", Replace::No, bad),
            ("c-d:x", Replace::No, bad),
            (":x", Replace::No, bad),
        ] {
            assert_eq!(load(&mut libraries, text, replace), Err(expected.to_owned()), "{text}");
            assert_eq!(state(&libraries), before, "{text}");
        }
        let unknown = libraries.begin(b"#!Py name=a\n", Replace::No).expect_err("it is unknown");
        assert_eq!(unknown.text(), b"Engine 'Py' not found");
    }

    #[test]
    fn a_library_takes_the_place_of_another_with_the_functions_of_both() {
        let mut libraries = of(&["a:f g", "b:h"]);
        let running = Rc::clone(libraries.function(b"f").expect("it is there"));
        assert_eq!(load(&mut libraries, "a:G i", Replace::Yes), Ok(Some(2)));
        assert_eq!(load(&mut libraries, "c:F", Replace::Yes), Ok(None));
        assert_eq!(state(&libraries), "a: G i, b: h, c: F");
        assert_eq!(&*running.name, b"f");
        assert_eq!(libraries.delete(b"A").map(|_| ()), Err(LibraryError::NotFound));
        assert!(libraries.delete(b"a").is_ok_and(|library| library.functions.len() == 2));
        assert_eq!(state(&libraries), "b: h, c: F");
        assert_eq!(state(&libraries.take_all()), "b: h, c: F");
        assert_eq!((state(&libraries), libraries.memory_bytes()), (String::new(), 0));
    }

    #[test]
    fn a_restore_takes_all_or_nothing() {
        use RestorePolicy::{Append, Flush, Replace};
        let texts = ["a:f g", "b:h"];
        for (others, policy, expected) in [
            (&["c:i"][..], Append, Ok("a: f g, b: h, c: i")),
            (&["c:i"], Flush, Ok("c: i")),
            (&[], Flush, Ok("")),
            (&[], Append, Ok("a: f g, b: h")),
            (&["b:i", "c:j"], Replace, Ok("a: f g, b: i, c: j")),
            (&["b:i", "c:h"], Replace, Ok("a: f g, b: i, c: h")),
            (&["0:i", "b:j"], Append, Err("Library b already exists")),
            (&["0:i", "b:j G"], Replace, Err("Function G already exists")),
            (&["c:i", "d:H"], Append, Err("Function H already exists")),
        ] {
            let mut libraries = of(&texts);
            let restored = libraries.restore(of(others), policy);
            let said = |error: LibraryError| String::from_utf8_lossy(&error.text()).into_owned();
            let error = restored.err().map(said);
            assert_eq!(error.as_deref(), expected.err(), "{others:?}");
            assert_eq!(state(&libraries), expected.unwrap_or("a: f g, b: h"), "{others:?}");
        }
        assert_eq!(RestorePolicy::named(b"flUSH"), Some(Flush));
        assert_eq!(RestorePolicy::named(b"keep"), None);
    }
}
