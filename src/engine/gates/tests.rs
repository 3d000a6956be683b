use super::{Asked, Passed};
use crate::command::{CommandError, Flags};
use crate::engine::testing::Bench;
use crate::engine::{Cx, Peer};
use std::cell::Cell;

thread_local! {
    /// The command that no user may run any more.
    static DENIED: Cell<&'static str> = const { Cell::new("") };
}

const UNCALLED: &str = "calls=0,usec=0,usec_per_call=0.00";
const NO_PERMISSION: &str = "-NOPERM it was taken away|";

/// Stands in the table of rules where rights of users belong, so that the way of a refusal is
/// tried for every caller.
pub(super) fn user_may(_: &mut Cx<'_>, asked: &Asked<'_>, _: Flags) -> Passed {
    match asked.command.name == DENIED.get() {
        true => Err(CommandError::Fixed("NOPERM it was taken away")),
        false => Ok(()),
    }
}

#[test]
fn a_refused_part_of_a_transaction_is_an_error_in_its_place() {
    let mut bench = Bench::new().recording(crate::config::EventClasses::NONE);
    bench.ask("MULTI");
    for line in ["SET a 1", "INCR n", "INCR n", "SET b 2"] {
        bench.expect(line, "+QUEUED|");
    }
    DENIED.set("incr");
    bench.expect("EXEC", "*4|+OK|-NOPERM it was taken away|-NOPERM it was taken away|+OK|");
    bench.expect("MGET a n b", "*3|$1|1|$-1|$1|2|");
    assert_eq!(bench.replayed(), ["MULTI", "SET a 1", "SET b 2", "EXEC"]);
    let counted = bench.info_lines("commandstats", "cmdstat_incr:");
    assert_eq!(counted, [format!("cmdstat_incr:{UNCALLED},rejected_calls=2,failed_calls=0")]);
    bench.expect_all(&[("MULTI", "+OK|"), ("INCR n", NO_PERMISSION)]);
    bench.expect("EXEC", "-EXECABORT Transaction discarded because of previous errors.|");
    DENIED.set("");
    bench.expect("INCR n", ":1|");
}

#[test]
fn a_client_whose_right_has_gone_waits_no_more_and_takes_nothing() {
    let mut bench = Bench::new();
    let me = bench.client;
    let waiting = [bench.engine.connect(Peer::internal()), bench.engine.connect(Peer::internal())];
    let waits = |bench: &Bench, at: usize| {
        bench.engine.clients.get(waiting[at]).expect("here").wait.is_some()
    };
    for (client, line) in waiting.iter().zip(["BLPOP l 0", "BLMOVE l to LEFT LEFT 0"]) {
        bench.client = *client;
        bench.expect(line, "");
    }
    bench.client = me;
    DENIED.set("blpop");
    bench.expect("RPUSH l x", ":1|");
    assert!(!waits(&bench, 0), "its wait is over");
    assert!(!waits(&bench, 1), "the next in line is served");
    bench.expect("LRANGE to 0 -1", "*1|$1|x|");
    let counted = bench.info_lines("commandstats", "cmdstat_blpop:");
    let expected =
        "cmdstat_blpop:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0";
    assert_eq!(counted, [expected]);
    assert_eq!(bench.engine.server.waiting.keys(), 0);
}
