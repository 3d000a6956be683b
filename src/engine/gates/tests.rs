use crate::engine::testing::Bench;

const UNCALLED: &str = "calls=0,usec=0,usec_per_call=0.00";

/// A client that acts as the user `u`, who may do everything.
fn with_user() -> (Bench, crate::engine::ClientId) {
    let mut bench = Bench::new();
    let admin = bench.client;
    bench.expect("ACL SETUSER u on nopass ~* &* +@all", "+OK|");
    bench.connect();
    bench.expect("AUTH u x", "+OK|");
    (bench, admin)
}

#[test]
fn a_refused_part_of_a_transaction_is_an_error_in_its_place() {
    let (bench, admin) = with_user();
    let mut bench = bench.recording(crate::config::EventClasses::NONE);
    let me = bench.client;
    bench.ask("MULTI");
    for line in ["SET a 1", "INCR n", "INCR n", "SET b 2", "PUBLISH c x", "GET d"] {
        bench.expect(line, "+QUEUED|");
    }
    bench.ask_as(admin, "ACL SETUSER u -incr resetchannels resetkeys ~a ~n ~b");
    bench.client = me;
    let begin = "-NOPERM ACLs rules changed between the moment the transaction was accumulated and \
                 the EXEC call. This command is no longer allowed for the following reason: ";
    let [command, channel, key] = [
        "no permission to execute the command or subcommand",
        "no permission to access one of the channels used as arguments",
        "no permission to touch the specified keys",
    ]
    .map(|reason| format!("{begin}{reason}|"));
    bench.expect("EXEC", &format!("*6|+OK|{command}{command}+OK|{channel}{key}"));
    assert_eq!(bench.replayed(), ["MULTI", "SET a 1", "SET b 2", "EXEC"]);
    let counted = bench.info_lines("commandstats", "cmdstat_incr:");
    assert_eq!(counted, [format!("cmdstat_incr:{UNCALLED},rejected_calls=2,failed_calls=0")]);
    let denied = "-NOPERM User u has no permissions to run the 'incr' command|";
    bench.expect_all(&[("MULTI", "+OK|"), ("INCR n", denied)]);
    bench.expect("EXEC", "-EXECABORT Transaction discarded because of previous errors.|");
    bench.ask_as(admin, "ACL SETUSER u +incr");
    assert_eq!(bench.ask_as(me, "INCR n"), ":1|");
}

#[test]
fn a_client_whose_right_has_gone_waits_no_more_and_takes_nothing() {
    let (mut bench, admin) = with_user();
    let waiting = [bench.client, bench.connect()];
    let waits = |bench: &Bench, at: usize| {
        bench.engine.clients.get(waiting[at]).expect("here").wait.is_some()
    };
    for (client, line) in waiting.iter().zip(["BLPOP l 0", "BLMOVE l to LEFT LEFT 0"]) {
        bench.client = *client;
        bench.expect(line, "");
    }
    bench.client = admin;
    bench.expect("ACL SETUSER u resetkeys", "+OK|");
    bench.expect("RPUSH l x", ":1|");
    assert!(!waits(&bench, 0), "its wait is over");
    assert_eq!(bench.heard(waiting[0]), "-NOPERM No permissions to access a key|");
    assert!(!waits(&bench, 1), "the next in line is served");
    bench.expect("LRANGE to 0 -1", "*1|$1|x|");
    let counted = bench.info_lines("commandstats", "cmdstat_blpop:");
    assert_eq!(counted, [format!("cmdstat_blpop:{UNCALLED},rejected_calls=1,failed_calls=0")]);
    assert_eq!(bench.engine.server.waiting.keys(), 0);
}
