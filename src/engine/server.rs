//! The state that belongs to no client and no key: configuration, the command table, counters,
//! pending effects.

use super::aof::{self, Rewrites};
use super::clock::{Clock, Ticks};
use super::cluster::usage::Usage;
use super::cluster::{Member, cluster_settings};
use super::eviction::EvictionState;
use super::hot_keys::Walk;
use super::loading::{LastLoad, Loading};
use super::migrate::Moves;
use super::pause::Pause;
use super::propagate::Propagation;
use super::reading::InputBounds;
use super::replication::{Replication, fresh_id};
use super::saving::Saving;
use super::scripting::Scripting;
use super::sentinel::Watch;
use super::shutdown::{Departure, Shutdown};
use super::slot_move::SlotMoves;
use super::tracking::Tracking;
use super::transaction::WatchTable;
use super::under_way::UnderWay;
use super::waiting::WaitingRoom;
use super::{ClientId, Effects};
use crate::acl::Users;
use crate::acl::guesses::Guesses;
use crate::acl::log::Log;
use crate::command::Table;
use crate::config::Config;
use crate::keyspace::{AccessPolicy, KeyEvent, Keyspace};
use crate::observe::hot_keys::HotKeys;
use crate::observe::latency::{LatencyMonitor, Spike};
use crate::observe::memory::MemoryFigures;
use crate::observe::process::ProcessFigures;
use crate::observe::slow_log::SlowLog;
use crate::observe::stats::Stats;
use crate::observe::tls::TlsReport;
use crate::observe::traffic::Traffic;
use crate::persist::aof::{Aof, Place};
use crate::persist::disk::{Disk, MemoryDisk};
use crate::persist::snapshot::KeyDelay;
use crate::pubsub::{Registry, notify};
use crate::structs::prng::Prng;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the engine is told of the process it runs in.
#[derive(Clone)]
pub struct ServerParts {
    /// A monotonic reading in nanoseconds, for measuring commands.
    pub ticks: Ticks,
    /// Bytes in use: `used_memory`.
    pub used_memory: fn() -> usize,
    /// Whether there is no memory left but what those need who cannot be refused.
    pub is_memory_short: fn() -> bool,
    /// Reads all of the allocator's figures.
    pub memory: fn() -> MemoryFigures,
    /// Reads the system's figures of the process.
    pub process: fn() -> ProcessFigures,
    /// Has the allocator give back what it keeps for later.
    pub purge: fn() -> bool,
    /// What the allocator says about itself, in its own words.
    pub memory_report: fn() -> String,
    /// Says whether the allocator gives memory back on a thread of its own.
    pub purge_in_background: fn(bool),
    /// Moves the process to another directory and says which it is now (CONFIG SET dir).
    pub change_directory: fn(&Path) -> io::Result<PathBuf>,
    /// Makes room for so many clients, served by so many threads, and says how many there is room
    /// for (CONFIG SET maxclients).
    pub room_for_clients: fn(u32, usize) -> u32,
    /// Where data files are kept.
    pub disk: Arc<dyn Disk>,
    /// The configuration file, for CONFIG REWRITE and INFO.
    pub config_path: Option<PathBuf>,
    pub executable: String,
    pub process_id: u32,
    /// How many processors the process may use.
    pub processors: usize,
    /// The service manager that watches over the process, `no` if there is none.
    pub supervised: &'static str,
}

impl Default for ServerParts {
    /// A process that measures nothing: for tests.
    fn default() -> Self {
        ServerParts {
            ticks: || 0,
            used_memory: || 0,
            is_memory_short: || false,
            memory: MemoryFigures::default,
            process: ProcessFigures::default,
            purge: || true,
            memory_report: String::new,
            purge_in_background: |_| {},
            change_directory: |path| Ok(path.to_owned()),
            room_for_clients: |wanted, _| wanted,
            disk: Arc::new(MemoryDisk::default()),
            config_path: None,
            executable: String::new(),
            process_id: 0,
            processors: 1,
            supervised: "no",
        }
    }
}

pub struct Server {
    pub config: Config,
    pub table: Arc<Table>,
    pub input_bounds: Arc<InputBounds>,
    pub traffic: Traffic,
    pub users: Users,
    /// What users, and who would be one, were refused.
    pub acl_log: Log,
    pub guesses: Guesses,
    pub stats: Stats,
    pub effects: Effects,
    pub clock: Clock,
    pub propagation: Propagation,
    /// The append-only file.
    pub aof: Aof,
    pub rewrites: Rewrites,
    pub watched: WatchTable,
    pub waiting: WaitingRoom,
    pub pubsub: Registry<ClientId>,
    /// Who watches all commands (MONITOR), first come first.
    pub monitors: Vec<ClientId>,
    pub tracking: Tracking,
    pub scripting: Scripting,
    /// The command that has been put aside in the middle.
    pub under_way: Option<Box<UnderWay>>,
    /// Those that are under way over a copy of the data, and are nobody else's business.
    pub asides: Vec<Box<UnderWay>>,
    /// Keys that are on their way to other servers (MIGRATE).
    pub moves: Moves,
    pub slot_moves: SlotMoves,
    pub slow_log: SlowLog,
    pub latency: LatencyMonitor,
    pub hot_keys: HotKeys,
    pub big_key_walk: Walk,
    pub pause: Pause,
    pub eviction: EvictionState,
    /// The log has been told that clients hold too much and none may be closed.
    pub has_told_of_clients: bool,
    pub prng: Prng,
    /// Seeds of the states that scripts run in, of which there may be more or fewer: by this nobody
    /// else's numbers depend on them.
    pub script_seeds: Prng,
    pub parts: ServerParts,
    /// 40 hex digits that name this run of the server.
    pub run_id: String,
    pub replication: Replication,
    pub memory_at_start: usize,
    pub memory_peak: usize,
    pub saving: Saving,
    /// What saves and loads wait for each key, now.
    pub save_delay: KeyDelay,
    pub load_delay: KeyDelay,
    /// The dataset is being read.
    pub loading: Option<Loading>,
    pub last_load: LastLoad,
    /// What makes this server a Sentinel, if it is one.
    pub sentinel: Option<Box<Watch>>,
    /// What makes this server a node of a cluster, if it is one.
    pub cluster: Option<Box<Member>>,
    /// What each of its slots costs, if that is counted.
    pub slot_usage: Option<Box<Usage>>,
    /// The server is about to end.
    pub shutdown: Option<Shutdown>,
    /// It is to end when its replicas have all that was written.
    pub departure: Option<Departure>,
    /// It is not to end after all, which those who wait for it have yet to be told.
    pub departure_is_off: bool,
    /// Objects handed to the freeing thread so far.
    pub lazy_free_total: u64,
    /// Objects that thread had freed at the last CONFIG RESETSTAT.
    pub lazy_freed_at_reset: u64,
    /// The driver has been asked to stop the clock for a while (DEBUG SLEEP).
    pub is_about_to_sleep: bool,
    /// The server does nothing by itself (DEBUG PAUSE-CRON).
    pub is_cron_paused: bool,
    /// Payloads and snapshots are believed without their checksums (DEBUG
    /// SET-SKIP-CHECKSUM-VALIDATION).
    pub skips_checksums: bool,
    /// List elements of so many bytes stand alone (DEBUG QUICKLIST-PACKED-THRESHOLD).
    pub large_elements_from: Option<usize>,
    last_http_warning_ms: Option<u64>,
    last_tls_warning_ms: Option<u64>,
    /// What TLS is spoken with, if it is.
    pub certificates: TlsReport,
    /// Keyspace events of the last commands, when somebody collects them.
    pub collected_events: Option<Vec<KeyEvent>>,
}

impl Server {
    pub fn new(config: Config, parts: ServerParts, prng: &mut Prng) -> Server {
        let table = Arc::new(Table::new());
        let used = (parts.used_memory)();
        let place = Place {
            directory: config.appenddirname.as_path().to_owned(),
            prefix: config.appendfilename.to_string_lossy().into_owned(),
        };
        let aof = Aof::new(Arc::clone(&parts.disk), place);
        let (run_id, replication_id) = (random_hex(prng), fresh_id(prng));
        Server {
            stats: Stats::new(table.len()),
            users: Users::new(&table),
            acl_log: Log::default(),
            guesses: Guesses::default(),
            table,
            input_bounds: Arc::default(),
            traffic: Traffic::new(config.io_threads.resolve(parts.processors)),
            effects: Effects::default(),
            clock: Clock::new(parts.ticks),
            propagation: Propagation::default(),
            aof,
            rewrites: Rewrites::default(),
            watched: WatchTable::default(),
            waiting: WaitingRoom::default(),
            pubsub: Registry::default(),
            monitors: Vec::new(),
            tracking: Tracking::default(),
            scripting: Scripting::default(),
            under_way: None,
            asides: Vec::new(),
            moves: Moves::default(),
            slot_moves: SlotMoves::default(),
            slow_log: SlowLog::default(),
            latency: LatencyMonitor::default(),
            hot_keys: HotKeys::new(Prng::seeded(prng.next_u64())),
            big_key_walk: Walk::default(),
            pause: Pause::default(),
            eviction: EvictionState::default(),
            has_told_of_clients: false,
            prng: Prng::seeded(prng.next_u64()),
            script_seeds: Prng::seeded(prng.next_u64()),
            run_id,
            replication: Replication::new(&config, replication_id),
            config,
            parts,
            memory_at_start: used,
            memory_peak: used,
            saving: Saving::default(),
            save_delay: KeyDelay::default(),
            load_delay: KeyDelay::default(),
            loading: None,
            last_load: LastLoad::default(),
            sentinel: None,
            cluster: None,
            slot_usage: None,
            shutdown: None,
            departure: None,
            departure_is_off: false,
            lazy_free_total: 0,
            lazy_freed_at_reset: 0,
            is_about_to_sleep: false,
            is_cron_paused: false,
            skips_checksums: false,
            large_elements_from: None,
            last_http_warning_ms: None,
            last_tls_warning_ms: None,
            certificates: TlsReport::default(),
            collected_events: None,
        }
    }

    /// What kind of server it is, in the words of INFO and HELLO.
    pub fn mode_word(&self) -> &'static str {
        match (&self.sentinel, &self.cluster) {
            (Some(_), _) => "sentinel",
            (None, Some(_)) => "cluster",
            (None, None) => "standalone",
        }
    }

    /// Sets the counters of INFO back (CONFIG RESETSTAT).
    pub fn reset_stats(&mut self) {
        self.stats.reset();
        self.traffic.reset();
        self.eviction.reset();
        if let Some(usage) = &mut self.slot_usage {
            usage.reset();
        }
        self.scripting.cache.evicted_total = 0;
        self.lazy_freed_at_reset = self.stats.lazy_freed_objects;
        self.memory_peak = (self.parts.used_memory)();
    }

    /// Brings what depends on a directive in line with the configuration.
    pub fn follow_config(&mut self, space: &mut Keyspace) {
        let config = &self.config;
        let is_lfu = config.maxmemory_policy.is_lfu();
        let access = &mut space.access;
        access.policy = if is_lfu { AccessPolicy::Frequency } else { AccessPolicy::Recency };
        access.lfu_log_factor = config.lfu_log_factor;
        access.lfu_decay_minutes = config.lfu_decay_time;
        space.changes.observers.events = notify::collected(config.notify_keyspace_events);
        self.aof.options = aof::options(config);
        self.input_bounds.follow(config);
        self.replication.follow(config);
        self.follow_usage();
        let config = &self.config;
        if let Some(member) = &mut self.cluster {
            member.machine.set_settings(cluster_settings(config));
        }
        self.save_delay.set(config.rdb_key_save_delay);
        self.load_delay.set(config.key_load_delay);
        (self.parts.purge_in_background)(config.jemalloc_bg_thread);
        space.changes.observers.touched_keys |= self.takes_own_writes();
    }

    /// Logs, at most once a minute, that somebody's browser was made to talk to us.
    pub fn warn_of_http(&mut self, address: &str) {
        let now_ms = self.clock.mono_ms();
        let quiet = self.last_http_warning_ms.is_some_and(|last| now_ms < last + 60_000);
        if quiet {
            return;
        }
        self.last_http_warning_ms = Some(now_ms);
        tracing::warn!(
            "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: \
             commands to Redis. This is likely due to an attacker attempting to use Cross Protocol \
             Scripting to compromise your Redis instance. Connection from {address} aborted."
        );
    }

    /// Logs, at most once in ten seconds, that somebody speaks TLS where nobody does.
    pub fn warn_of_tls(&mut self, address: &str) {
        let now_ms = self.clock.mono_ms();
        if self.last_tls_warning_ms.is_some_and(|last| now_ms < last + 10_000) {
            return;
        }
        self.last_tls_warning_ms = Some(now_ms);
        tracing::warn!(
            "A client speaks TLS on a port without it: double check its port, and tls-port. \
             Connection from {address} closed."
        );
    }

    /// Whether a command that took so long is one for the slow log.
    #[inline]
    pub fn is_slow(&self, elapsed_ns: u64) -> bool {
        let threshold_us = u64::try_from(self.config.slowlog_log_slower_than);
        threshold_us.is_ok_and(|us| elapsed_ns / 1000 >= us)
    }

    /// Remembers that an event took long, if it did.
    #[inline]
    pub fn observe_latency(&mut self, event: &'static str, elapsed_ns: u64) {
        let threshold_ms = self.config.latency_monitor_threshold;
        let ms = elapsed_ns / 1_000_000;
        if threshold_ms > 0 && ms >= threshold_ms {
            let unix_seconds = self.clock.lap_unix_ms() / 1000;
            self.latency.add(event, Spike { unix_seconds, ms });
        }
    }
}

/// 40 random hexadecimal digits.
pub fn random_hex(prng: &mut Prng) -> String {
    (0..5).map(|_| format!("{:08x}", prng.next_u64() as u32)).collect()
}
