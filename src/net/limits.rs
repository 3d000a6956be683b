//! Open files: as many as `maxclients` needs, as far as the system lets us.
//!
//! The limit of this process is only ever raised, and the bound up to which it may be raised is
//! never lowered: Redis sets both at once and can take nothing back. How far the system goes is
//! asked of the system itself, in steps of [`STEP`] below what is wanted, as Redis has it, because
//! clients see the outcome; but by halving, where a thousand million steps would take a minute.

use crate::config::os_reason;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit, test_kill_process};
use std::io;
use std::time::Duration;

/// Files that are open besides those of clients.
const RESERVED: u64 = 32;
/// The same for each thread that serves clients beside the first.
const RESERVED_FOR_THREAD: u64 = 4;
/// How much less is tried when the system refuses.
const STEP: u64 = 16;

/// The system allows so few open files that there is no room for a client.
#[derive(Debug)]
pub struct TooFewFiles;

/// Raises the limit of open files to what `maxclients` clients need; how many clients that is if
/// the system does not allow so many. So many threads serve them.
pub fn open_files_for(maxclients: u32, threads: usize) -> Result<u32, TooFewFiles> {
    let reserved = RESERVED + RESERVED_FOR_THREAD * (threads as u64).saturating_sub(1);
    let wanted = u64::from(maxclients) + reserved;
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return Ok(maxclients);
    }
    let refusal = match raise(wanted, limit) {
        Ok(()) => {
            tracing::info!(
                "Increased maximum number of open files to {wanted} (it was originally set to \
                 {current})."
            );
            return Ok(maxclients);
        }
        Err(error) => os_reason(&error),
    };
    let allowed = raise_as_far_as_possible(wanted, current, limit);
    if allowed <= reserved {
        tracing::warn!(
            "Your current 'ulimit -n' of {current} is not enough for the server to start. Please \
             increase your open file limit to at least {wanted}. Exiting."
        );
        return Err(TooFewFiles);
    }
    let clients = u32::try_from(allowed - reserved).expect("less than what was wanted");
    tracing::warn!(
        "You requested maxclients of {maxclients} requiring at least {wanted} max file \
         descriptors."
    );
    tracing::warn!(
        "Server can't set maximum open files to {wanted} because of OS error: {refusal}."
    );
    tracing::warn!(
        "Current maximum open files is {allowed}. maxclients has been reduced to {clients} to \
         compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'."
    );
    Ok(clients)
}

/// The most files below `wanted`, in steps, that the system allows; never less than `current`.
fn raise_as_far_as_possible(wanted: u64, current: u64, limit: Rlimit) -> u64 {
    let (mut refused, mut granted) = (0, (wanted - current).div_ceil(STEP));
    while granted - refused > 1 {
        let steps = refused + (granted - refused) / 2;
        match raise(wanted - steps * STEP, limit) {
            Ok(()) => granted = steps,
            Err(_) => refused = steps,
        }
    }
    wanted.saturating_sub(granted * STEP).max(current)
}

fn raise(files: u64, limit: Rlimit) -> io::Result<()> {
    let maximum = limit.maximum.map(|maximum| maximum.max(files));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum })?)
}

/// Whether there is a process of this number, be it ours to signal or not.
pub fn is_running(process_id: u32) -> bool {
    let process = i32::try_from(process_id).ok().and_then(Pid::from_raw);
    process.is_some_and(|process| !matches!(test_kill_process(process), Err(Errno::SRCH)))
}

/// One failed accept concerns one client; only a lack of descriptors is worth a pause.
pub async fn back_off(error: &io::Error) {
    let is_exhausted = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
    tracing::warn!("Accepting client connection: {error}");
    if is_exhausted {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
