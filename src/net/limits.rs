//! Open files: as many as `maxclients` needs, as far as the system lets us.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are open besides those of clients.
const RESERVED: u64 = 32;

/// Raises the limit of open files to what `maxclients` clients need; how many clients that is if
/// the system does not allow so many.
pub fn open_files_for(maxclients: u32) -> u32 {
    let wanted = u64::from(maxclients) + RESERVED;
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return maxclients;
    }
    let maximum = limit.maximum.map_or(wanted, |maximum| maximum.max(wanted));
    let attempts = [
        Rlimit { current: Some(wanted), maximum: limit.maximum },
        Rlimit { current: Some(wanted), maximum: Some(maximum) },
        Rlimit { current: limit.maximum, maximum: limit.maximum },
    ];
    for attempt in attempts {
        if setrlimit(Resource::Nofile, attempt).is_ok() {
            break;
        }
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if allowed >= wanted {
        tracing::info!("Increased maximum number of open files to {wanted} (it was {current}).");
        return maxclients;
    }
    let clients = u32::try_from(allowed.saturating_sub(RESERVED)).unwrap_or(maxclients).max(1);
    tracing::warn!(
        "You requested maxclients of {maxclients} requiring at least {wanted} max file \
         descriptors. The system allows {allowed}: maxclients has been reduced to {clients}."
    );
    clients
}
