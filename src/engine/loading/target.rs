//! Where a dataset goes that is loaded: into the keyspace itself, which is empty then, or into one
//! aside that nobody sees until it is whole. That one takes effect in one step, of which everybody
//! is told who has to do with keys, as by FLUSHALL and SWAPDB; or it is dropped and nothing has
//! happened.
//!
//! The cost of loading aside is that there are two datasets for a while.

use crate::command::CommandError;
use crate::engine::core::Core;
use crate::engine::scripting::functions::Functions;
use crate::engine::{call, eviction, transaction};
use crate::keyspace::{Db, Keyspace};
use crate::persist::load::LoadError;

pub struct Target(Place);

enum Place {
    /// The keyspace of the server: nobody is served before it is loaded.
    Live,
    /// One aside that takes its place.
    Aside(Box<Keyspace>),
    /// One aside whose entries are added. Keys that are there already are replaced if it `merges`,
    /// else they are an error.
    Joined { aside: Box<Keyspace>, merges: bool },
}

impl Target {
    pub fn live() -> Target {
        Target(Place::Live)
    }

    /// A dataset that takes the place of the one there is.
    pub fn aside(live: &Keyspace) -> Target {
        Target(Place::Aside(Box::new(live.aside())))
    }

    /// A dataset that is added to the one there is.
    pub fn joined(live: &Keyspace, merges: bool) -> Target {
        Target(Place::Joined { aside: Box::new(live.aside()), merges })
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.0, Place::Live)
    }

    /// The keyspace that is loaded into.
    pub(super) fn space<'a>(&'a mut self, live: &'a mut Keyspace) -> &'a mut Keyspace {
        match &mut self.0 {
            Place::Live => live,
            Place::Aside(aside) | Place::Joined { aside, .. } => aside,
        }
    }

    /// Sets the clocks of what is aside by those of the live keyspace.
    pub(super) fn follow(&mut self, live: &Keyspace) {
        match &mut self.0 {
            Place::Live => {}
            Place::Aside(aside) | Place::Joined { aside, .. } => aside.follow(live),
        }
    }

    /// Forgets what was loaded.
    pub(super) fn empty(&mut self, live: &mut Keyspace) {
        let space = self.space(live);
        for db in 0..space.db_count() {
            space.take_db(db);
        }
        space.unstage();
    }

    /// Whether it holds no key.
    pub(super) fn is_empty(&self, live: &Keyspace) -> bool {
        let space = match &self.0 {
            Place::Live => live,
            Place::Aside(aside) | Place::Joined { aside, .. } => aside,
        };
        space.dbs().iter().all(|db| db.is_empty())
    }

    /// What is aside is not wanted any more, and is freed elsewhere.
    pub(super) fn discard(&mut self, core: &mut Core<'_>) {
        if let Place::Aside(aside) = std::mem::replace(&mut self.0, Place::Live) {
            core.discard_dataset(*aside);
        }
    }

    /// The dataset is whole, with the libraries of these codes: from now on it is there, or nothing
    /// has changed.
    pub(super) fn take_effect(
        &mut self,
        core: &mut Core<'_>,
        codes: Vec<Vec<u8>>,
    ) -> Result<(), LoadError> {
        if let Place::Joined { aside, merges } = &self.0 {
            // What can refuse comes first.
            core.may_join(aside, *merges)?;
            core.server.join_libraries(codes, *merges).map_err(|error| no_library(&error))?;
            self.take_effect_with(core, Functions::default());
            return Ok(());
        }
        let functions = core.server.functions_of_dataset(&codes);
        self.take_effect_with(core, functions.map_err(|error| no_library(&error))?);
        Ok(())
    }

    /// The same with libraries that have been loaded. Those of a dataset that joins the one there
    /// is are there already.
    pub(super) fn take_effect_with(&mut self, core: &mut Core<'_>, functions: Functions) {
        match std::mem::replace(&mut self.0, Place::Live) {
            Place::Live => core.server.scripting.functions = functions,
            Place::Aside(aside) => core.replace_dataset(*aside, functions),
            Place::Joined { aside, .. } => core.join_dataset(*aside),
        }
    }
}

impl Core<'_> {
    /// Puts a dataset in the place of the one there is.
    pub(in crate::engine) fn replace_dataset(&mut self, mut other: Keyspace, functions: Functions) {
        for db in 0..self.space.db_count() {
            let replacement = Some(other.db(db));
            let watched = &self.server.watched;
            transaction::touch_watched_keys(self.space, self.clients, watched, db, replacement);
            self.space.exchange_db(db, &mut other);
            self.server.offer_awaited_keys(self.space, db);
        }
        self.space.exchange_staging(&mut other);
        self.server.invalidate_everything(self.clients);
        self.server.scripting.functions = functions;
        self.discard_dataset(other);
    }

    /// Has a dataset freed elsewhere.
    fn discard_dataset(&mut self, other: Keyspace) {
        let keys = other.dbs().iter().map(|db| db.len() as u64).sum();
        let bytes_a_key = eviction::bytes_a_key(self.space, self.clients, self.server, keys);
        for db in other.into_dbs().into_iter().filter(|db| !db.is_empty()) {
            let bytes = db.len() * bytes_a_key;
            self.space.changes.discard_db(db, bytes);
        }
        call::settle(self.space, self.clients, self.server, None);
    }

    /// Whether the entries of a dataset can be added to the one there is.
    fn may_join(&self, other: &Keyspace, merges: bool) -> Result<(), LoadError> {
        if merges {
            return Ok(());
        }
        for (db, (there, new)) in self.space.dbs().iter().zip(other.dbs()).enumerate() {
            if let Some(key) = common_key(there, new) {
                return Err(LoadError::Duplicate { key, db });
            }
        }
        Ok(())
    }

    /// Adds the entries of a dataset to the one there is.
    fn join_dataset(&mut self, other: Keyspace) {
        self.space.join(other);
        call::settle(self.space, self.clients, self.server, None);
    }
}

/// A dataset has a library that cannot be loaded.
pub(super) fn no_library(error: &CommandError) -> LoadError {
    let text = error.text();
    let text = text.strip_prefix(b"ERR ").unwrap_or(&text);
    LoadError::Library(String::from_utf8_lossy(text).into_owned())
}

fn common_key(there: &Db, new: &Db) -> Option<Box<[u8]>> {
    if there.is_empty() {
        return None;
    }
    new.iter().map(|entry| entry.key()).find(|key| there.contains(key)).map(Into::into)
}
