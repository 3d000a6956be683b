//! Libraries of functions: loading them, and taking in those of a dataset.
//!
//! A library's code runs while it is loaded, here and at once: it sees no command and no data, and
//! it is ended if it takes longer than a client may wait.

use super::{cannot_run, err, new_vm};
use crate::command::CommandError;
use crate::engine::{Cx, Server};
use crate::script::functions::{Draft, Libraries, LibraryError, Replace, RestorePolicy};
use crate::script::run::{Answer, Asked, Killer, Run};
use crate::script::shebang::Flags as Declared;
use crate::script::vm::{Compiled, Role, Vm};

/// Libraries and the state that their functions were compiled in.
#[derive(Default)]
pub struct Functions {
    pub(super) vm: Option<Vm>,
    pub libraries: Libraries<Compiled>,
}

/// How long a library may take to load.
const LOAD_NS_MAX: u64 = 500_000_000;
/// The same in slices, of which each takes a millisecond or more, for whoever has no clock.
const LOAD_SLICES_MAX: usize = 500;

/// Whether somebody waits for the library to be loaded, who is not to wait for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    Limited,
    /// The library has been loaded before, by whoever has written it down.
    Endless,
}

impl Functions {
    /// Compiles a library and runs its code.
    fn prepare(
        &mut self,
        server: &mut Loader<'_>,
        code: &[u8],
        replace: Replace,
    ) -> Result<Draft<Compiled>, CommandError> {
        let said = |error: LibraryError| err(&error.text());
        let mut draft = self.libraries.begin(code, replace).map_err(said)?;
        let vm = match &mut self.vm {
            Some(vm) => vm,
            none => none.insert(new_vm(Role::Functions, server.seed)?),
        };
        let library = vm
            .compile_library(draft.source())
            .map_err(|error| said(LibraryError::NotCompiled(error.0.into_bytes())))?;
        let mut run = Run::of_library(vm, &library).map_err(cannot_run)?;
        let began = (server.ticks)();
        let mut slices = 0;
        while run.resume(server.answer(began, slices)) != Asked::Done {
            slices += 1;
        }
        let registered =
            run.registered().map_err(|failure| said(LibraryError::NotRegistered(failure.text)))?;
        for function in registered {
            let named = function.flags.iter().filter_map(|name| Declared::named(name.as_bytes()));
            let flags = named.fold(Declared::NONE, Declared::with);
            let description = function.description.as_deref();
            draft
                .register(&function.name, description, flags, function.callback)
                .map_err(|error| said(LibraryError::NotRegistered(error.text())))?;
        }
        Ok(draft)
    }

    fn load(
        &mut self,
        server: &mut Loader<'_>,
        code: &[u8],
        replace: Replace,
    ) -> Result<(), CommandError> {
        let draft = self.prepare(server, code, replace)?;
        self.libraries.add(draft).map_err(|error| err(&error.text()))?;
        Ok(())
    }

    /// Takes in libraries with these codes: all of them, or none.
    fn restore(
        &mut self,
        server: &mut Loader<'_>,
        codes: impl Iterator<Item = Result<Vec<u8>, CommandError>>,
        policy: RestorePolicy,
    ) -> Result<(), CommandError> {
        let is_anew = policy == RestorePolicy::Flush;
        let mut restored = Functions::default();
        // The functions of libraries that stay are of the state that is there.
        if !is_anew {
            restored.vm = self.vm.take();
        }
        let mut codes = codes;
        let loaded = codes.try_for_each(|code| restored.load(server, &code?, Replace::No));
        let Functions { vm, libraries } = restored;
        if !is_anew {
            self.vm = vm;
            loaded?;
        } else {
            loaded?;
            self.vm = vm;
        }
        self.libraries.restore(libraries, policy).map_err(|error| err(&error.text()))?;
        Ok(())
    }

    /// The code of all libraries, as it is kept in files.
    pub fn codes(&self) -> Vec<Vec<u8>> {
        self.libraries.iter().map(|library| library.code.to_vec()).collect()
    }
}

/// What loading needs of the server.
struct Loader<'s> {
    ticks: &'s dyn Fn() -> u64,
    seed: u32,
    patience: Patience,
}

impl Loader<'_> {
    /// Whether a library that began then may go on.
    fn answer(&self, began: u64, slices: usize) -> Answer {
        let is_late =
            (self.ticks)().saturating_sub(began) > LOAD_NS_MAX || slices > LOAD_SLICES_MAX;
        match is_late && self.patience == Patience::Limited {
            true => Answer::Kill(Killer::LoadTimeout),
            false => Answer::Go,
        }
    }
}

impl Server {
    fn with_loader<T>(
        &mut self,
        patience: Patience,
        load: impl FnOnce(&mut Functions, &mut Loader<'_>) -> T,
    ) -> T {
        let seed = self.prng.next_u64() as u32;
        let ticks = self.parts.ticks;
        let mut loader = Loader { ticks: &ticks, seed, patience };
        load(&mut self.scripting.functions, &mut loader)
    }

    /// Compiles the libraries of a dataset, before any of it is taken in.
    pub fn functions_of_dataset(&mut self, codes: &[Vec<u8>]) -> Result<Functions, CommandError> {
        self.with_loader(Patience::Endless, |_, loader| {
            let mut functions = Functions::default();
            for code in codes {
                functions.load(loader, code, Replace::No)?;
            }
            Ok(functions)
        })
    }
}

impl Server {
    /// Takes in the libraries of a dataset that joins the one there is.
    pub fn join_libraries(&mut self, codes: &[Vec<u8>], merges: bool) -> Result<(), CommandError> {
        let policy = if merges { RestorePolicy::Replace } else { RestorePolicy::Append };
        let codes = codes.iter().map(|code| Ok(code.clone()));
        self.with_loader(Patience::Endless, |functions, loader| {
            functions.restore(loader, codes, policy)
        })
    }
}

impl Cx<'_> {
    fn patience(&self) -> Patience {
        match self.caller.was_accepted_before() {
            true => Patience::Endless,
            false => Patience::Limited,
        }
    }

    /// Loads a library; its name.
    pub fn load_library(&mut self, code: &[u8], replace: Replace) -> Result<Vec<u8>, CommandError> {
        let patience = self.patience();
        self.server.with_loader(patience, |functions, loader| {
            let draft = functions.prepare(loader, code, replace)?;
            let name = draft.name().to_vec();
            functions.libraries.add(draft).map_err(|error| err(&error.text()))?;
            Ok(name)
        })
    }

    /// Takes in libraries with these codes: all of them, or none.
    pub fn restore_libraries(
        &mut self,
        codes: impl Iterator<Item = Result<Vec<u8>, CommandError>>,
        policy: RestorePolicy,
    ) -> Result<(), CommandError> {
        let patience = self.patience();
        self.server
            .with_loader(patience, |functions, loader| functions.restore(loader, codes, policy))
    }
}
