//! Scripts that are put aside: what others see of them, what waits for their end, and how they end.

mod atomicity;
mod busy;
mod effects;
mod gates;
mod kills;
mod payloads;
mod replay;

use crate::config::{Config, ProtectedAction};
use crate::engine::testing::{self, Bench};
use crate::engine::{ClientId, ServerParts};
use crate::persist::disk::{Disk, MemoryDisk};
use std::cell::Cell;
use std::io::Read;
use std::sync::Arc;

/// What a client is told while a script is late.
const BUSY: &str = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or \
                    SHUTDOWN NOSAVE.|";
const BUSY_FUNCTION: &str = "-BUSY Redis is busy running a script. You can only call FUNCTION KILL \
                             or SHUTDOWN NOSAVE.|";
/// A loop that takes some five slices.
const A_WHILE: &str = "for _ = 1, 5000000 do end ";

fn bench() -> Bench {
    with(testing::config(&[("busy-reply-threshold", "100")]))
}

fn with(config: Config) -> Bench {
    Bench::with(debugging(config)).stepping()
}

fn debugging(config: Config) -> Config {
    Config { enable_debug_command: ProtectedAction::Yes, ..config }
}

thread_local! {
    static TICKS: Cell<u64> = const { Cell::new(0) };
    static TICK_NS: Cell<u64> = const { Cell::new(0) };
}

/// A clock by which every reading takes a millisecond.
fn ticking(directives: &[(&str, &str)]) -> Bench {
    ticking_by(1_000_000, directives)
}

/// A clock by which every reading takes so long.
fn ticking_by(ns: u64, directives: &[(&str, &str)]) -> Bench {
    TICK_NS.set(ns);
    let ticks = || {
        TICKS.set(TICKS.get() + TICK_NS.get());
        TICKS.get()
    };
    let parts = ServerParts { ticks, ..ServerParts::default() };
    Bench::over(testing::config(directives), parts).stepping()
}

/// A server whose files are here, and which has loaded them.
fn bench_on(disk: &Arc<MemoryDisk>, directives: &[(&str, &str)]) -> Bench {
    let parts = ServerParts { disk: Arc::clone(disk) as _, ..ServerParts::default() };
    let mut bench = Bench::over(debugging(testing::config(directives)), parts).stepping();
    let end = bench.engine.load_here().expect("it loads");
    if bench.engine.server.config.appendonly {
        bench.engine.open_aof(&end).expect("the disk is whole");
    }
    bench
}

/// The server goes, and another one takes over its files.
fn restarted(bench: Bench, disk: &Arc<MemoryDisk>, directives: &[(&str, &str)]) -> Bench {
    drop(bench);
    bench_on(disk, directives)
}

/// What stands in all increments of the AOF, line ends as bars.
fn logged(disk: &MemoryDisk, bench: &Bench) -> String {
    let directory = bench.engine.server.aof.place.directory.clone();
    let mut names = disk.list(&directory).expect("it is there");
    names.retain(|name| name.ends_with(".incr.aof"));
    names.sort();
    let mut text = Vec::new();
    for name in names {
        let mut file = disk.read(&directory.join(name)).expect("it is there");
        file.read_to_end(&mut text).expect("it is memory");
    }
    testing::text(&text)
}

fn eval(bench: &mut Bench, body: &str) -> String {
    testing::text(&bench.run(&[b"EVAL", body.as_bytes(), b"0"]))
}

/// Starts a script for a client of its own, which is put aside.
fn start(bench: &mut Bench, body: &str) -> ClientId {
    let client = bench.connect();
    assert_eq!(eval(bench, body), "", "it is answered later");
    assert!(bench.engine.is_under_way(), "it is put aside");
    client
}

/// Runs turns until what is put aside has ended, for at most so many; how many it took.
fn finish(bench: &mut Bench) -> usize {
    let turns = (0..10_000).take_while(|_| {
        bench.engine.is_under_way() && {
            bench.turn();
            true
        }
    });
    let count = turns.count();
    assert!(!bench.engine.is_under_way(), "it does not come to an end");
    bench.turn();
    count
}

/// Makes what is put aside late.
fn make_late(bench: &mut Bench) {
    bench.advance(101);
    bench.turn();
}

fn load_library(bench: &mut Bench, code: &str) {
    let code = format!("#!lua name=lib\n{code}");
    assert_eq!(testing::text(&bench.run(&[b"FUNCTION", b"LOAD", code.as_bytes()])), "$3|lib|");
}
