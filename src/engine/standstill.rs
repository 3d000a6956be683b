//! What may happen by itself now: the one place that decides it.
//!
//! Keys expire and are evicted, saves begin, waiting clients are served: none of it at any moment.
//! While an AOF is replayed its commands must find the data as it was when they were written; while
//! writes are paused the data is to stay as it is; a server that ends keeps what it has. Whoever is
//! about to do something unasked asks here ([`Server::may`]) and knows nothing of the reasons, so
//! that a new reason is one more line in [`Deed::hindrances`], and no place can forget it.

use super::Server;

/// What the server does without being asked for just that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// The timer takes away keys and fields whose time has come.
    Expire,
    /// What a command has found expired is taken away behind it.
    Reap,
    /// The timer's own round: samples, save points, idle clients.
    Cron,
    /// Keys go to make room.
    Evict,
    /// A snapshot is saved, for a save point or because it was scheduled.
    Save,
    /// The AOF is rewritten, for its growth or because it was scheduled.
    Rewrite,
    /// The AOF turns to its next increment, and the dataset is kept as it is then: the two meet at
    /// the end of a command.
    Turn,
    /// The dataset is kept as it is, to be sent to replicas.
    Photograph,
    /// Replicas are shown that we live, by the stream.
    Ping,
    /// They are asked how far they are, by the stream.
    Ask,
    /// Clients who wait for keys are served.
    Serve,
    /// Clients who have waited long enough are sent on their way.
    TimeOut,
    /// Keys go that another server has taken.
    Move,
}

/// States of the server in which some deeds must not be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct States(u16);

impl States {
    const NONE: States = States(0);
    /// The dataset is being read, from a snapshot or by running the commands of an AOF.
    const LOADING: States = States(1);
    /// Clients that write wait (CLIENT PAUSE): nothing may change the data.
    const PAUSED: States = States(1 << 1);
    /// Nothing is to happen by itself (DEBUG PAUSE-CRON).
    const CRON_OFF: States = States(1 << 2);
    /// The server is about to end.
    const ENDING: States = States(1 << 3);
    /// The driver is about to stop the clock for a while (DEBUG SLEEP): what the last command
    /// brought is served when it goes on, since it may have expired by then.
    const ABOUT_TO_SLEEP: States = States(1 << 4);
    /// A script has been put aside: half of what it does is nobody's to see, to keep or to change.
    const UNDER_WAY: States = States(1 << 5);
    /// What ends keys is a primary's to say.
    const REPLICA: States = States(1 << 6);
    /// Which keys go to make room is a primary's to say.
    const REPLICA_IGNORES_MEMORY: States = States(1 << 7);
    /// Somebody else is to take over, who must have all that the stream holds.
    const HANDING_OVER: States = States(1 << 8);

    const fn or(self, other: States) -> States {
        States(self.0 | other.0)
    }

    fn add_if(self, state: States, is_so: bool) -> States {
        if is_so { self.or(state) } else { self }
    }

    fn has_any_of(self, others: States) -> bool {
        self.0 & others.0 != 0
    }
}

impl Deed {
    /// The states that keep it from being done.
    const fn hindrances(self) -> States {
        let data_is_to_stay = States::LOADING.or(States::PAUSED).or(States::UNDER_WAY);
        let is_no_moment = States::LOADING.or(States::ENDING).or(States::UNDER_WAY);
        match self {
            // What is taken away behind the last snapshot would be known to replicas alone.
            Deed::Expire => {
                data_is_to_stay.or(States::CRON_OFF).or(States::REPLICA).or(States::ENDING)
            }
            Deed::Reap => data_is_to_stay.or(States::REPLICA).or(States::ENDING),
            Deed::Cron => States::CRON_OFF,
            Deed::Evict => data_is_to_stay.or(States::ENDING).or(States::REPLICA_IGNORES_MEMORY),
            Deed::Save | Deed::Rewrite | Deed::Photograph => is_no_moment,
            Deed::Ping => States::HANDING_OVER.or(States::ENDING),
            Deed::Ask => States::ENDING,
            // What a script brings is there in time for those who were there when it began.
            Deed::Turn | Deed::TimeOut => States::UNDER_WAY,
            // A key that is still here when the server ends is at both, and lost at none.
            Deed::Move => data_is_to_stay.or(States::ENDING),
            Deed::Serve => data_is_to_stay.or(States::ENDING).or(States::ABOUT_TO_SLEEP),
        }
    }
}

impl Server {
    /// Whether the server may do this now.
    pub fn may(&self, deed: Deed) -> bool {
        !self.states().has_any_of(deed.hindrances())
    }

    fn states(&self) -> States {
        let is_paused = self.pause.is_active(self.clock.mono_ms(), true);
        States::NONE
            .add_if(States::LOADING, self.loading.is_some())
            .add_if(States::PAUSED, is_paused)
            .add_if(States::CRON_OFF, self.is_cron_paused)
            .add_if(States::ENDING, self.shutdown.is_some())
            .add_if(States::ABOUT_TO_SLEEP, self.is_about_to_sleep)
            .add_if(States::UNDER_WAY, self.under_way.is_some())
            .add_if(States::REPLICA, self.is_replica())
            .add_if(
                States::REPLICA_IGNORES_MEMORY,
                self.is_replica() && self.config.replica_ignore_maxmemory,
            )
            .add_if(States::HANDING_OVER, self.pause.is_for_hand_over())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, EvictionPolicy};
    use crate::engine::loading::Step;
    use crate::engine::{ServerParts, testing, testing::Bench};
    use crate::persist::disk::{Disk, MemoryDisk};
    use std::sync::Arc;

    fn bench_on(disk: &Arc<MemoryDisk>, config: Config) -> Bench {
        let parts = ServerParts {
            disk: Arc::clone(disk) as _,
            used_memory: || 1000,
            ..ServerParts::default()
        };
        Bench::over(config, parts)
    }

    fn logging(config: Config) -> Config {
        Config { appendonly: true, ..config }
    }

    /// An AOF in which keys that were to expire soon are given more time much later.
    fn write_aof(disk: &Arc<MemoryDisk>) {
        let mut bench = bench_on(disk, logging(Config::default()));
        let end = bench.engine.load_here().expect("there is no log yet");
        bench.engine.open_aof(&end).expect("the disk is whole");
        for n in 0..100 {
            bench.ask(&format!("SET short:{n} v PX 1000"));
            bench.ask(&format!("HSET hash:{n} f v g w"));
            bench.ask(&format!("HPEXPIRE hash:{n} 1000 FIELDS 1 f"));
        }
        bench.ask("SET counter 0");
        for _ in 0..5000 {
            bench.ask("INCR counter");
        }
        for n in 0..100 {
            let extend = ["PERSIST short", "PEXPIRE short"][n % 2];
            let amount = ["", " 1000000"][n % 2];
            bench.ask(&format!("{}:{n}{amount}", extend));
            bench.ask(&format!("HPERSIST hash:{n} FIELDS 1 f"));
        }
        bench.engine.end_turn();
    }

    /// Loads the AOF, with everything between two steps that a driver may do there.
    fn load_busily(bench: &mut Bench) {
        let mut load = bench.engine.first_load().expect("it loads").expect("there is one");
        for steps in 0.. {
            assert!(steps < 1_000_000, "the log does not come to an end");
            match load.step(&mut bench.engine.core()) {
                Step::More => {}
                Step::NeedFile(source) => {
                    let core = &mut bench.engine.core();
                    let read = source.read(&mut |batch| load.take_in(core, batch));
                    load.finish_file(read);
                }
                Step::Done(_) => return,
                Step::Failed => panic!("the log is whole"),
            }
            bench.advance(10);
            bench.engine.cron();
            bench.engine.expire_due();
            bench.engine.evict_more();
            bench.ask("PING");
            bench.ask("INFO");
            bench.turn();
        }
    }

    #[test]
    fn nothing_expires_while_an_aof_is_replayed() {
        let disk = Arc::new(MemoryDisk::default());
        write_aof(&disk);
        let mut bench = bench_on(&disk, logging(Config::default()));
        bench.advance(100_000);
        load_busily(&mut bench);
        assert_eq!(bench.ask("DBSIZE"), ":201|");
        assert_eq!(bench.ask("GET counter"), "$4|5000|");
        for n in 0..100 {
            assert_eq!(bench.ask(&format!("GET short:{n}")), "$1|v|");
            assert_eq!(bench.ask(&format!("HLEN hash:{n}")), ":2|");
        }
        assert_eq!(
            bench.engine.keyspace.stats.expired + bench.engine.keyspace.stats.expired_fields,
            0
        );
    }

    /// Servers before Redis 7 logged what clients sent.
    #[test]
    fn relative_expiries_of_old_aofs_begin_with_the_load() {
        let disk = Arc::new(MemoryDisk::default());
        let mut text = Vec::new();
        for line in ["SETEX a 100 v", "SET b v", "EXPIRE b 100", "SET c v PXAT 5", "PERSIST c"] {
            crate::resp::command::put(
                &mut text,
                line.split(' ').map(str::as_bytes).collect::<Vec<_>>().into_iter(),
            );
        }
        let mut bench = bench_on(&disk, logging(Config::default()));
        let place = bench.engine.server.aof.place.clone();
        let file = disk.create(&place.parent().join(&place.prefix)).expect("memory takes all");
        file.append(&text).expect("memory takes all");
        load_busily(&mut bench);
        for (key, ttl) in [("a", ":100|"), ("b", ":100|"), ("c", ":-1|")] {
            assert_eq!(bench.ask(&format!("TTL {key}")), ttl, "{key}");
        }
    }

    #[test]
    fn nothing_is_evicted_while_an_aof_is_replayed() {
        let disk = Arc::new(MemoryDisk::default());
        write_aof(&disk);
        let config = Config {
            maxmemory: 100,
            maxmemory_policy: EvictionPolicy::AllkeysLru,
            ..Config::default()
        };
        let mut bench = bench_on(&disk, logging(config));
        bench.advance(100);
        load_busily(&mut bench);
        assert_eq!(
            (bench.engine.keyspace.db(0).len(), bench.engine.keyspace.stats.evicted),
            (201, 0)
        );
        bench.ask("PING");
        assert!(bench.engine.keyspace.stats.evicted > 0, "the data is there now, and is too much");
    }

    /// A server that is started again goes on from its last snapshot: had replicas more of the
    /// stream than that, they could not continue.
    #[test]
    fn nothing_follows_the_last_snapshot() {
        let config = testing::config(&[("repl-diskless-sync", "no")]);
        let mut bench = Bench::with(config).holding_saves();
        let client = bench.client;
        bench.expect("SET k v PX 50", "+OK|");
        bench.connect();
        bench.ask("PSYNC ? -1");
        bench.turn();
        bench.ask_as(client, "SET l v");
        bench.ask("SHUTDOWN SAVE NOW");
        let end = bench.engine.server.replication_offset();
        assert!(end > 0);
        bench.engine.server.replication.asks_for_acks = true;
        for _ in 0..20 {
            bench.advance(1000);
            bench.engine.cron();
            bench.expire_all();
            bench.turn();
        }
        assert_eq!((bench.engine.server.replication_offset(), bench.exit_code()), (end, None));
        assert!(bench.run_held_save());
        assert_eq!((bench.engine.server.replication_offset(), bench.exit_code()), (end, Some(0)));
    }

    #[test]
    fn the_data_stays_as_it_is_while_it_is_read_or_writes_are_paused() {
        let mut bench = bench_on(&Arc::default(), Config::default());
        use Deed::*;
        let deeds = [Expire, Reap, Evict, Serve, Save, Rewrite, Cron];
        let allowed = |bench: &Bench| deeds.map(|deed| bench.engine.server.may(deed));
        assert_eq!(allowed(&bench), [true; 7]);
        bench.engine.core().begin_loading(10);
        assert_eq!(allowed(&bench), [false, false, false, false, false, false, true]);
        bench.engine.core().end_loading();
        bench.ask("CLIENT PAUSE 100 WRITE");
        assert_eq!(allowed(&bench), [false, false, false, false, true, true, true]);
        bench.advance(200);
        assert_eq!(allowed(&bench), [true; 7]);
    }
}
