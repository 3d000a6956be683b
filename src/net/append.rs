//! Loading the append-only file at the start.

use super::loader::Source;
use super::{Net, hands};
use crate::engine::{Replay, ReplayStep, Unloadable};
use crate::persist::load::LoadError;
use std::path::PathBuf;
use std::rc::Rc;

/// Loads the append-only file, while clients are answered that they have to
/// wait, and opens it.
pub async fn load(net: &Rc<Net>) -> Result<(), Unloadable> {
    let mut end = Default::default();
    let begun = net.engine.borrow_mut().find_aof()?;
    if let Some(mut replay) = begun {
        loop {
            let step = {
                let mut engine = net.engine.borrow_mut();
                engine.tick(net.now());
                let step = engine.step_replay(&mut replay);
                hands::carry_out(net, &mut engine);
                step
            };
            match step {
                _ if net.exit_code.get().is_some() => return Err(Unloadable),
                ReplayStep::More => tokio::task::yield_now().await,
                ReplayStep::Snapshot(path) => load_snapshot(net, &mut replay, path).await?,
                ReplayStep::Failed => return Err(Unloadable),
                ReplayStep::Done(done) => {
                    end = done;
                    break;
                }
            }
        }
    }
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    engine.open_aof(&end).map_err(|error| {
        tracing::warn!("Can't open the append-only file: {}", crate::config::os_reason(&error));
        Unloadable
    })
}

/// Loads the snapshot at the front of the AOF.
async fn load_snapshot(
    net: &Rc<Net>,
    replay: &mut Replay,
    path: PathBuf,
) -> Result<(), Unloadable> {
    let name = path.file_name().unwrap_or_default().display().to_string();
    let source = {
        let engine = net.engine.borrow();
        Source::open(&engine, engine.reading_of_aof(), path).ok_or(Unloadable)?
    };
    match source.load(net).await {
        Ok(bytes) if net.engine.borrow_mut().finish_snapshot_of(replay, bytes) => Ok(()),
        Ok(_) | Err(LoadError::CalledOff) => Err(Unloadable),
        Err(error) => {
            tracing::warn!("{error}");
            tracing::warn!("Error reading the RDB base file {name}, AOF loading aborted");
            Err(Unloadable)
        }
    }
}
