//! DEBUG RELOAD and DEBUG LOADAOF: the dataset is loaded anew while everybody waits, as in Redis.
//!
//! The client waits for an answer, and whoever drives the engine has the load run when the command
//! has ended, since it is there that files are read. Only within a transaction, whose parts are to
//! be answered together, a command runs it.

use super::Load;
use super::target::Target;
use crate::command::{CommandError, CommandResult};
use crate::engine::core::Core;
use crate::engine::propagate::Reader;
use crate::engine::{ClientId, Engine};
use crate::persist::aof::Unloadable;
use crate::persist::snapshot::RELOAD_PREFIX;
use std::sync::Arc;

const NOT_SAVED: CommandError = CommandError::Fixed("ERR");
const NOT_LOADED: CommandError =
    CommandError::Fixed("ERR Error trying to load the RDB dump, check server logs.");
const AOF_NOT_LOADED: CommandError =
    CommandError::Fixed("ERR Error trying to load the AOF files, check server logs.");

/// What is loaded.
pub enum Reload {
    Snapshot(ReloadSnapshot),
    Aof,
}

/// How the snapshot file is loaded.
pub struct ReloadSnapshot {
    /// The dataset is written to the file first.
    pub saves: bool,
    /// What the file holds takes the place of what there is.
    pub empties: bool,
    /// If not: keys that are there may come again.
    pub merges: bool,
}

impl Reload {
    /// Does it, on this thread.
    pub fn run(self, engine: &mut Engine) -> CommandResult {
        match self {
            Reload::Snapshot(reload) => reload.run(&mut engine.core()),
            Reload::Aof => {
                engine.hand_over_to_aof();
                load_aof(&mut engine.core()).map_err(|Unloadable| AOF_NOT_LOADED)
            }
        }
    }
}

impl ReloadSnapshot {
    pub fn run(self, core: &mut Core<'_>) -> CommandResult {
        if self.saves {
            save(core)?;
        }
        let target = match self.empties {
            true => Target::aside(core.space),
            false => Target::joined(core.space, self.merges),
        };
        let load = Load::of_snapshot(core, target);
        load.run(core).map_err(|Unloadable| NOT_LOADED)?;
        tracing::info!("DB reloaded by DEBUG RELOAD");
        Ok(())
    }
}

fn save(core: &mut Core<'_>) -> CommandResult {
    let dataset = core.server.dataset(core.space);
    let mut file = core.server.snapshot_file(core.space, dataset, Arc::default());
    // The file of a save that is under way has the usual name.
    file.temporary_name.insert_str(0, RELOAD_PREFIX);
    file.write().map_err(|error| {
        tracing::warn!("{error}");
        NOT_SAVED
    })
}

/// Loads the AOF in place of the dataset. That there is none is no reason to have no dataset.
fn load_aof(core: &mut Core<'_>) -> Result<(), Unloadable> {
    core.server.propagation.set_active(Reader::Aof, false);
    core.space.changes.observers.propagation = false;
    let target = Target::aside(core.space);
    let outcome = match Load::of_aof(core, target) {
        Ok(Some(load)) => load.run(core).map(|_| ()),
        Ok(None) => {
            tracing::warn!("There are no append only files to load.");
            Err(Unloadable)
        }
        Err(Unloadable) => Err(Unloadable),
    };
    core.server.follow_readers(core.space);
    outcome
}

impl Engine {
    /// A reload for which a client waits has ended.
    pub fn finish_reload(&mut self, client: ClientId, outcome: CommandResult) {
        self.serve_waits();
        let reply = self.ok_for(client);
        self.finish_job(client, outcome.map(|()| reply));
    }
}
