//! DEBUG RELOAD: through the snapshot file and back, while everybody waits.

use crate::command::{Args, CommandError, CommandResult};
use crate::engine::{Cx, transaction};
use crate::persist::load::{Batch, LoadError, Reading};
use crate::persist::rdb::LoadOptions;
use crate::persist::snapshot::{KeyDelay, RELOAD_PREFIX};
use std::ops::ControlFlow;
use std::sync::Arc;

const NOT_SAVED: CommandError = CommandError::Fixed("ERR");
const NOT_LOADED: CommandError =
    CommandError::Fixed("ERR Error trying to load the RDB dump, check server logs.");

pub(super) fn reload(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (mut saves, mut empties, mut merges) = (true, true, false);
    while !args.is_empty() {
        if args.option("merge") {
            merges = true;
        } else if args.option("noflush") {
            empties = false;
        } else if args.option("nosave") {
            saves = false;
        } else {
            return Err(CommandError::Fixed(
                "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
            ));
        }
    }
    if saves {
        save(cx)?;
    }
    if empties {
        empty_all(cx);
    }
    load(cx, merges).map_err(|error| {
        error.tell();
        NOT_LOADED
    })?;
    tracing::info!("DB reloaded by DEBUG RELOAD");
    cx.reply.ok();
    Ok(())
}

fn save(cx: &mut Cx<'_>) -> CommandResult {
    let dataset = cx.server.dataset(cx.keys.space());
    let mut file = cx.server.snapshot_file(cx.keys.space(), dataset, Arc::default());
    // The file of a save that is under way has the usual name.
    file.temporary_name.insert_str(0, RELOAD_PREFIX);
    file.write().map_err(|error| {
        tracing::warn!("{error}");
        NOT_SAVED
    })
}

fn empty_all(cx: &mut Cx<'_>) {
    for db in 0..cx.keys.db_count() {
        transaction::touch_watched_keys(cx, db, None);
        let removed = cx.keys.space().take_db(db);
        cx.keys.space().changes.discard_db(removed, 0);
    }
    cx.invalidate_everything();
}

fn load(cx: &mut Cx<'_>, merges: bool) -> Result<(), LoadError> {
    let mut options = LoadOptions::of(&cx.server.config, cx.keys.space());
    options.drops_expired = true;
    options.has_checksum &= !cx.server.skips_checksums;
    let reading = Reading { options, delay: KeyDelay(cx.server.config.key_load_delay) };
    let disk = Arc::clone(&cx.server.parts.disk);
    let path = cx.server.snapshot_path();
    let mut outcome = Ok(());
    let read = reading.read_file(&*disk, &path, &mut |batch| {
        outcome = put_in(cx, batch, merges);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    outcome.and(read)
}

fn put_in(cx: &mut Cx<'_>, batch: Batch, merges: bool) -> Result<(), LoadError> {
    let Batch { db, entries, .. } = batch;
    let space = cx.keys.space();
    if merges {
        for (hash, entry) in entries {
            space.insert_loaded(db, hash, entry);
        }
        return Ok(());
    }
    space.load(db, entries).map_err(|key| LoadError::Duplicate { key, db })
}
