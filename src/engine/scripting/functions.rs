//! Libraries of functions: loading them, and taking in those of a dataset.
//!
//! A library's code runs while it is loaded, here and at once: it sees no command and no data, and
//! it is ended if it takes longer than a client may wait.

use super::{NewVm, cannot_run, err};
use crate::command::{CommandError, CommandResult};
use crate::engine::{Cx, Server};
use crate::script::functions::{Draft, Libraries, Replace, RestorePolicy};
use crate::script::library_error::LibraryError;
use crate::script::run::{Answer, Asked, Killer, Run};
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
        loader: Loader,
        code: &[u8],
        replace: Replace,
    ) -> Result<Draft<Compiled>, CommandError> {
        let said = |error: LibraryError| err(&error.text());
        let mut draft = self.libraries.begin(code, replace).map_err(said)?;
        let vm = match &mut self.vm {
            Some(vm) => vm,
            none => none.insert(loader.state.make(Role::Functions)?),
        };
        let library = vm
            .compile_library(draft.source())
            .map_err(|error| said(LibraryError::NotCompiled(error.0.into_bytes())))?;
        let mut run = Run::of_library(vm, &library).map_err(cannot_run)?;
        let began = (loader.state.ticks)();
        let mut slices = 0;
        while run.resume(loader.answer(began, slices)) != Asked::Done {
            slices += 1;
        }
        let registered =
            run.registered().map_err(|failure| said(LibraryError::NotRegistered(failure.text)))?;
        for function in registered {
            let description = function.description.as_deref();
            draft
                .register(&function.name, description, function.flags, function.callback)
                .map_err(|error| said(LibraryError::NotRegistered(error.text())))?;
        }
        Ok(draft)
    }

    /// Loads a library; its name.
    fn load(
        &mut self,
        loader: Loader,
        code: &[u8],
        replace: Replace,
    ) -> Result<Vec<u8>, CommandError> {
        let draft = self.prepare(loader, code, replace)?;
        let name = draft.name().to_vec();
        self.libraries.add(draft).map_err(|error| err(&error.text()))?;
        Ok(name)
    }

    /// Takes in libraries with these codes: all of them, or none.
    fn restore(
        &mut self,
        loader: Loader,
        mut codes: impl Iterator<Item = Result<Vec<u8>, CommandError>>,
        policy: RestorePolicy,
    ) -> CommandResult {
        let is_anew = policy == RestorePolicy::Flush;
        let mut restored = Functions::default();
        // The functions of libraries that stay are of the state that is there.
        if !is_anew {
            restored.vm = self.vm.take();
        }
        let loaded: CommandResult =
            codes.try_for_each(|code| restored.load(loader, &code?, Replace::No).map(|_| ()));
        let Functions { vm, libraries } = restored;
        if !is_anew || loaded.is_ok() {
            self.vm = vm;
        }
        loaded?;
        self.libraries.restore(libraries, policy).map_err(|error| err(&error.text()))?;
        Ok(())
    }

    /// The code of all libraries, as it is kept in files.
    pub fn codes(&self) -> Vec<Vec<u8>> {
        self.libraries.iter().map(|library| library.code.to_vec()).collect()
    }
}

/// How libraries are loaded.
#[derive(Clone, Copy)]
struct Loader {
    /// What a state is made with, if there is none yet.
    state: NewVm,
    patience: Patience,
}

impl Loader {
    /// Whether a library that began then may go on.
    fn answer(self, began: u64, slices: usize) -> Answer {
        let elapsed_ns = (self.state.ticks)().saturating_sub(began);
        let is_late = elapsed_ns > LOAD_NS_MAX || slices > LOAD_SLICES_MAX;
        match is_late && self.patience == Patience::Limited {
            true => Answer::Kill(Killer::LoadTimeout),
            false => Answer::Go,
        }
    }
}

impl Server {
    fn loader(&mut self, patience: Patience) -> Loader {
        self.limit_scripts();
        Loader { state: self.new_vm(), patience }
    }

    /// Compiles the libraries of a dataset, before any of it is taken in.
    pub fn functions_of_dataset(&mut self, codes: &[Vec<u8>]) -> Result<Functions, CommandError> {
        let loader = self.loader(Patience::Endless);
        let mut functions = Functions::default();
        for code in codes {
            functions.load(loader, code, Replace::No)?;
        }
        Ok(functions)
    }

    /// Takes in the libraries of a dataset that joins the one there is.
    pub fn join_libraries(&mut self, codes: Vec<Vec<u8>>, merges: bool) -> CommandResult {
        let policy = if merges { RestorePolicy::Replace } else { RestorePolicy::Append };
        let loader = self.loader(Patience::Endless);
        self.scripting.functions.restore(loader, codes.into_iter().map(Ok), policy)
    }
}

impl Cx<'_> {
    fn loader(&mut self) -> Loader {
        let patience = match self.caller.was_accepted_before() {
            true => Patience::Endless,
            false => Patience::Limited,
        };
        self.server.loader(patience)
    }

    /// Loads a library; its name.
    pub fn load_library(&mut self, code: &[u8], replace: Replace) -> Result<Vec<u8>, CommandError> {
        let loader = self.loader();
        self.server.scripting.functions.load(loader, code, replace)
    }

    /// Takes in libraries with these codes: all of them, or none.
    pub fn restore_libraries(
        &mut self,
        codes: impl Iterator<Item = Result<Vec<u8>, CommandError>>,
        policy: RestorePolicy,
    ) -> CommandResult {
        let loader = self.loader();
        self.server.scripting.functions.restore(loader, codes, policy)
    }
}
