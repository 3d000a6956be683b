//! What feeds the record of hot and big keys: commands as they end, and a slow walk through the
//! keyspace for the large keys that nobody uses.

use super::{Cx, Engine, Server};
use crate::command::{CommandId, find_keys};
use crate::keyspace::{Entry, Keyspace};
use crate::observe::hot_keys::{Cost, Ended, PlacedKey, Sample, Session, Totals, UsedKey};
use crate::observe::process::ProcessFigures;
use crate::resp::Request;
use crate::types::{Kind, Object};

/// Of a command with more keys only the first ones are recorded; its cost is divided by all.
const KEYS_MAX: usize = 16;

/// Keys with longer names are not recorded, since the rankings keep the names.
const NAME_BYTES_MAX: usize = 16 << 10;

/// Entries that one tick of the cron looks at.
const WALK_ENTRIES: usize = 32;

/// Where the walk for large keys is.
#[derive(Default)]
pub struct Walk {
    db: usize,
    position: u64,
}

/// Records a command that has just run.
#[cold]
pub(super) fn record(
    cx: &mut Cx<'_>,
    id: CommandId,
    request: &Request<'_>,
    db: usize,
    elapsed_ns: u64,
    reply_bytes: usize,
    sample: Sample,
) {
    let row = cx.server.table.row(id);
    let Some(found) = find_keys(row.command, request).filter(|found| !found.is_empty()) else {
        return;
    };
    let share = 1.0 / found.len() as f64;
    let cost = Cost {
        calls: 1.0,
        ns: elapsed_ns as f64 * share,
        bytes: (wire_bytes(request) + reply_bytes) as f64 * share,
    };
    for found in found.keys().take(KEYS_MAX) {
        let key = request.arg(found.index);
        if key.len() > NAME_BYTES_MAX {
            continue;
        }
        let used = UsedKey { db, key: cx.keys.key(key) };
        cx.server.hot_keys.record(used, cost, sample);
        let entry = cx.keys.space().db(db).get(&used.key);
        // What lies within its entry is small.
        if let Some(entry) = entry.filter(|entry| entry.object().is_some()) {
            cx.server.hot_keys.big.see(entry.kind(), db, key, bytes_of(entry));
        }
    }
}

/// What the request took on the wire, as an array of bulk strings.
fn wire_bytes(request: &Request<'_>) -> usize {
    const FRAME: usize = "$0\r\n\r\n".len();
    let digits = |len: usize| len.checked_ilog10().unwrap_or(0) as usize;
    request.iter().map(|word| FRAME + digits(word.len()) + word.len()).sum::<usize>()
        + "*0\r\n".len()
        + digits(request.len())
}

/// The memory of an entry as far as it is found at once: a stream counts without its groups.
fn bytes_of(entry: &Entry) -> usize {
    match entry.object() {
        Some(Object::Stream(stream)) => stream.entries.memory_bytes(),
        _ => entry.memory_bytes(),
    }
}

/// The memory of a key of this type now.
fn bytes_now(space: &Keyspace, kind: Kind, key: &PlacedKey) -> Option<usize> {
    let db = space.dbs().get(key.db)?;
    let entry = db.get(&space.key(&key.key))?;
    (entry.kind() == kind && !entry.is_expired(space.horizon_ms())).then(|| bytes_of(entry))
}

/// Brings the sizes of the largest keys up to date.
pub fn refresh(server: &mut Server, space: &Keyspace) {
    server.hot_keys.big.refresh(|kind, key| bytes_now(space, kind, key));
}

/// What the whole process has spent up to now.
pub fn totals(server: &Server, process: &ProcessFigures) -> Totals {
    let traffic = server.traffic.totals();
    Totals {
        command_us: server.stats.command_ns_total / 1000,
        net_bytes: traffic.read_bytes + traffic.written_bytes,
        user_ms: process.user_us / 1000,
        system_ms: process.system_us / 1000,
    }
}

/// Ends a measurement (HOTKEYS STOP, or its time is over); false if none is under way.
pub fn stop(server: &mut Server) -> bool {
    if !server.hot_keys.is_measuring() {
        return false;
    }
    let totals = totals(server, &(server.parts.process)());
    let mono_ms = server.clock.mono_ms();
    server.hot_keys.stop(|session: &Session| Ended { mono_ms, spent: totals.since(session.totals) })
}

impl Engine {
    /// The part of the cron that keeps the record of hot and big keys.
    pub(super) fn keep_hot_keys(&mut self, mono_ms: u64) {
        let Engine { keyspace, server, .. } = self;
        if server.hot_keys.fade(mono_ms) {
            refresh(server, keyspace);
        }
        let session = server.hot_keys.session.as_ref().filter(|session| session.ended.is_none());
        let until_ms = session.and_then(|session| session.until_mono_ms);
        if until_ms.is_some_and(|until_ms| until_ms <= mono_ms) {
            stop(server);
        }
        self.walk_for_big_keys();
    }

    /// Looks at the next few entries, so that large keys are found that were loaded, not written.
    fn walk_for_big_keys(&mut self) {
        let Engine { keyspace, server, .. } = self;
        let Walk { db, position } = &mut server.big_key_walk;
        let big = &mut server.hot_keys.big;
        *position = keyspace.db(*db).scan(None, *position, WALK_ENTRIES, |entry| {
            if entry.object().is_some() {
                big.see(entry.kind(), *db, entry.key(), bytes_of(entry));
            }
        });
        if *position == 0 {
            let count = keyspace.db_count();
            let filled = (1..=count).map(|step| (*db + step) % count);
            *db = filled.into_iter().find(|db| !keyspace.db(*db).is_empty()).unwrap_or(0);
        }
    }
}
