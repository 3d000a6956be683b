use crate::engine::testing::{Bench, config};
use crate::engine::{CertificateNames, ClientId, Peer};

const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.|";
const NO_KEY: &str = "-NOPERM No permissions to access a key|";

fn user(bench: &Bench, client: ClientId) -> (bool, String) {
    let session = bench.engine.clients.get(client).expect("connected");
    let user = bench.engine.server.user_of(session);
    (session.user.is_some(), user.shown_name().into_owned())
}

/// A client that has logged in as a user with these rules, and no password.
fn connect_as(bench: &mut Bench, name: &str, rules: &str) -> ClientId {
    let admin = bench.client;
    bench.expect(&format!("ACL SETUSER {name} on nopass {rules}"), "+OK|");
    let client = bench.connect();
    bench.expect(&format!("AUTH {name} x"), "+OK|");
    bench.client = admin;
    client
}

#[test]
fn who_has_logged_in_stays_so_and_who_has_not_is_let_in_by_an_empty_password() {
    let mut bench = Bench::new();
    let early = bench.client;
    bench.expect("CONFIG SET requirepass secret", "+OK|");
    let late = bench.engine.connect(Peer::internal());
    assert_eq!(user(&bench, early), (true, "default".into()));
    assert_eq!(user(&bench, late), (false, "default".into()));
    bench.client = late;
    bench.expect("PING", "-NOAUTH Authentication required.|");
    bench.client = early;
    bench.expect("CONFIG SET requirepass ''", "+OK|");
    bench.client = late;
    bench.expect("PING", "+PONG|");
    bench.client = early;
    bench.expect("CONFIG SET requirepass secret", "+OK|");
    bench.client = late;
    bench.expect_all(&[
        ("PING", "-NOAUTH Authentication required.|"),
        ("AUTH nobody secret", WRONG),
        ("AUTH default wrong", WRONG),
        ("AUTH secret", "+OK|"),
        ("AUTH wrong", WRONG),
        ("PING", "+PONG|"),
        ("RESET", "+RESET|"),
        ("PING", "-NOAUTH Authentication required.|"),
    ]);
    assert_eq!(user(&bench, late), (false, "default".into()));
}

#[test]
fn a_configured_password_is_the_default_users() {
    let mut bench = Bench::with(config(&[("requirepass", "secret")]));
    bench.expect("PING", "-NOAUTH Authentication required.|");
    bench.expect("AUTH secret", "+OK|");
    bench.expect("ACL SETUSER default >other", "+OK|");
    bench.expect("CONFIG GET requirepass", "*2|$11|requirepass|$6|secret|");
    bench.expect("AUTH other", "+OK|");
    bench.expect("CONFIG SET requirepass third", "+OK|");
    bench.expect("AUTH other", WRONG);
    bench.expect("AUTH third", "+OK|");
}

#[test]
fn new_rules_hold_at_once_for_who_is_there() {
    let mut bench = Bench::new();
    let admin = bench.client;
    let client = connect_as(&mut bench, "u", "~a* +get +set");
    assert_eq!(bench.ask_as(client, "SET a 1"), "+OK|");
    assert_eq!(bench.ask_as(client, "GET b"), NO_KEY);
    bench.ask_as(admin, "ACL SETUSER u -set ~b");
    let no_set = "-NOPERM User u has no permissions to run the 'set' command|";
    assert_eq!(bench.ask_as(client, "SET a 2"), no_set);
    assert_eq!(bench.ask_as(client, "GET b"), "$-1|");
    // One that is off stays where it is, and comes in no more.
    bench.ask_as(admin, "ACL SETUSER u off");
    assert_eq!(bench.ask_as(client, "GET a"), "$1|1|");
    assert_eq!(bench.ask_as(client, "AUTH u x"), WRONG);
}

#[test]
fn who_acts_as_a_removed_user_is_cut_off_whatever_it_does() {
    let mut bench = Bench::new();
    let admin = bench.client;
    let all = "~* &* +@all";
    let [idle, blocked, watching, listening, last] =
        [(); 5].map(|()| connect_as(&mut bench, "u", all));
    let other = connect_as(&mut bench, "v", all);
    bench.ask_as(blocked, "BLPOP l 0");
    bench.ask_as(watching, "MONITOR");
    bench.ask_as(listening, "SUBSCRIBE c");
    bench.ask_as(admin, "ACL SETUSER w");
    // The one that removes itself is answered.
    assert_eq!(bench.ask_as(last, "ACL DELUSER u w nobody"), ":2|");
    for client in [idle, blocked, watching, listening] {
        assert!(bench.has_closed(client));
    }
    assert!(!bench.has_closed(other) && !bench.has_closed(admin));
    let session = bench.engine.clients.get(last).expect("it is answered first");
    assert!(session.closes_after_reply);
    assert_eq!(bench.ask_as(admin, "RPUSH l x"), ":1|");
    assert_eq!(bench.ask_as(admin, "LLEN l"), ":1|", "nothing was taken for one who is gone");
}

#[test]
fn who_listens_to_what_its_user_may_not_any_more_is_cut_off() {
    let mut bench = Bench::new();
    let admin = bench.client;
    let rules = "resetchannels &foo:1 &bar:* &orders +@all";
    let [by_name, by_pattern, by_shard, none] =
        [(); 4].map(|()| connect_as(&mut bench, "u", rules));
    bench.ask_as(by_name, "SUBSCRIBE foo:1");
    bench.ask_as(by_pattern, "PSUBSCRIBE bar:*");
    bench.ask_as(by_shard, "SSUBSCRIBE orders");
    bench.ask_as(admin, "ACL SETUSER u resetchannels &orders &bar:* &foo:* &more");
    for client in [by_name, by_pattern, by_shard, none] {
        assert!(!bench.has_closed(client), "all of it is allowed still");
    }
    bench.ask_as(admin, "ACL SETUSER u allchannels");
    bench.ask_as(admin, "ACL SETUSER u resetchannels &bar:*");
    assert!(bench.has_closed(by_name) && bench.has_closed(by_shard));
    assert!(!bench.has_closed(by_pattern) && !bench.has_closed(none));
    bench.ask_as(admin, "ACL SETUSER u resetchannels &bar:?*");
    assert!(bench.has_closed(by_pattern), "a pattern is allowed letter by letter");
    assert!(!bench.has_closed(none));
}

#[test]
fn who_listens_without_a_login_is_cut_off_when_the_default_user_may_not_listen() {
    let mut bench = Bench::with(config(&[("requirepass", "x")]));
    let admin = bench.client;
    let late = bench.engine.connect(Peer::internal());
    assert_eq!(bench.ask_as(admin, "AUTH x"), "+OK|");
    bench.ask_as(admin, "ACL SETUSER default nopass");
    assert!(bench.ask_as(late, "SUBSCRIBE c").contains("subscribe"));
    bench.ask_as(admin, "ACL SETUSER default resetchannels &d");
    assert!(bench.has_closed(late));
}

#[test]
fn who_follows_keys_must_be_allowed_to_read_them() {
    let mut bench = Bench::new();
    let admin = bench.client;
    let client = connect_as(&mut bench, "u", "%R~app:* ~l?t* %W~w* +@all");
    bench.ask_as(client, "HELLO 3");
    for prefix in ["other", "ap", "w", "lit"] {
        let line = format!("CLIENT TRACKING on BCAST PREFIX {prefix}");
        assert_eq!(bench.ask_as(client, &line), NO_KEY, "{prefix}");
    }
    assert_eq!(bench.ask_as(client, "CLIENT TRACKING on BCAST"), NO_KEY);
    assert_eq!(bench.ask_as(client, "CLIENT TRACKING on BCAST PREFIX app:1"), "+OK|");
    bench.ask_as(admin, "ACL SETUSER u ~*");
    assert!(!bench.has_closed(client));
    bench.ask_as(admin, "ACL SETUSER u resetkeys ~x*");
    assert!(bench.has_closed(client));
}

#[test]
fn scripts_may_what_their_client_may() {
    let mut bench = Bench::new();
    let admin = bench.client;
    let client = connect_as(&mut bench, "u", "~a +eval +get +multi +exec");
    let ask = |bench: &mut Bench, script: &str| {
        bench.client = client;
        crate::engine::testing::text(&bench.run(&[b"EVAL", script.as_bytes(), b"0"]))
    };
    assert_eq!(ask(&mut bench, "return redis.call('get', 'a')"), "$-1|");
    let denied = ask(&mut bench, "return redis.call('get', 'b')");
    assert!(denied.starts_with("-ERR ACL failure in script: No permissions to access a key"));
    let denied = ask(&mut bench, "return redis.pcall('set', 'a', 1)");
    let text = "ACL failure in script: User u has no permissions to run the 'set' command";
    assert!(denied.contains(text), "{denied}");
    for (script, reply) in [
        ("return tostring(redis.acl_check_cmd('get', 'a'))", "$4|true|"),
        ("return tostring(redis.acl_check_cmd('get', 'b'))", "$5|false|"),
        ("return tostring(redis.acl_check_cmd('get'))", "$4|true|"),
        ("return tostring(redis.acl_check_cmd('set', 'a', 1))", "$5|false|"),
        ("return tostring(redis.acl_check_cmd('eval', 's'))", "$4|true|"),
        ("return tostring(redis.acl_check_cmd('sort'))", "$5|false|"),
    ] {
        assert_eq!(ask(&mut bench, script), reply, "{script}");
    }
    // A refused write is no write: the script may be killed still, and counts as refused.
    let counted = bench.ask_as(admin, "INFO commandstats");
    assert!(counted.contains("cmdstat_set:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1"));
    let log = bench.ask_as(admin, "ACL LOG 1");
    assert!(log.contains("|$3|lua|$6|object|$3|set|") && log.contains("cmd=eval "), "{log}");
}

#[test]
fn refusals_are_counted_and_logged() {
    let mut bench = Bench::new();
    let admin = bench.client;
    let client = connect_as(&mut bench, "u", "~a &c +get +set +publish +multi +exec +incr");
    bench.ask_as(client, "AUTH u");
    bench.ask_as(client, "auth nobody x");
    bench.ask_as(client, "LPUSH l 1");
    bench.ask_as(client, "GET b");
    bench.ask_as(client, "PUBLISH d x");
    bench.ask_as(client, "MULTI");
    bench.ask_as(client, "INCR b");
    bench.ask_as(client, "EXEC");
    bench.client = admin;
    for (field, count) in [("auth", "1"), ("cmd", "1"), ("key", "2"), ("channel", "1")] {
        assert_eq!(bench.info(&format!("acl_access_denied_{field}")), count, "{field}");
    }
    let log = bench.ask("ACL LOG 99");
    for entry in [
        "reason|$4|auth|$7|context|$8|toplevel|$6|object|$4|auth|$8|username|$6|nobody|",
        "reason|$7|command|$7|context|$8|toplevel|$6|object|$5|lpush|$8|username|$1|u|",
        "reason|$3|key|$7|context|$8|toplevel|$6|object|$1|b|$8|username|$1|u|",
        "reason|$7|channel|$7|context|$8|toplevel|$6|object|$1|d|$8|username|$1|u|",
        "reason|$3|key|$7|context|$5|multi|$6|object|$1|b|$8|username|$1|u|",
    ] {
        assert!(log.contains(entry), "{entry}\n{log}");
    }
    assert!(log.starts_with("*5|*20|$5|count|:1|"), "{log}");
    bench.expect("CONFIG SET hide-user-data-from-log yes", "+OK|");
    bench.ask_as(client, "GET personal");
    assert!(!bench.ask_as(admin, "ACL LOG 99").contains("personal"));
}

#[test]
fn databases_are_rights_of_their_own() {
    let mut bench = Bench::new();
    let admin = bench.client;
    let client = connect_as(&mut bench, "u", "~* +@all db=1,3");
    let denied = "-NOPERM No permissions to access database|";
    bench.ask_as(admin, "SET k v");
    for line in [
        "GET k",
        "SELECT 2",
        "FLUSHALL",
        "FLUSHDB",
        "DBSIZE",
        "KEYS *",
        "SWAPDB 1 2",
        "MOVE k 1",
        "CLIENT TRACKING ON BCAST",
    ] {
        let reply = bench.ask_as(client, line);
        assert!(reply == denied || reply == NO_KEY, "{line}: {reply}");
    }
    // What has to do with no data, and the way out, is free.
    assert_eq!(bench.ask_as(client, "PING"), "+PONG|");
    assert_eq!(bench.ask_as(client, "SELECT 1"), "+OK|");
    for (line, reply) in [
        ("SET k v", "+OK|"),
        ("COPY k l DB 3", ":1|"),
        ("COPY k l DB 3 DB 0", denied),
        ("COPY k l DB 0 DB 3 REPLACE", ":1|"),
        ("MOVE k 0", denied),
        ("SWAPDB 1 3", "+OK|"),
        ("SWAPDB 1 0", denied),
        ("FLUSHALL", denied),
        ("FLUSHDB", "+OK|"),
        ("EVAL return(redis.call('select',0)) 0", "x"),
    ] {
        let got = bench.ask_as(client, line);
        assert!(got == reply || (reply == "x" && got.contains("access database")), "{line}: {got}");
    }
    // What is queued is looked at when it runs, where it runs.
    bench.ask_as(client, "RESET");
    bench.ask_as(client, "AUTH u x");
    for line in ["MULTI", "SELECT 1", "SET k w", "GET k"] {
        bench.ask_as(client, line);
    }
    assert_eq!(bench.ask_as(client, "EXEC"), "*3|+OK|+OK|$1|w|");
    bench.ask_as(client, "RESET");
    bench.ask_as(client, "AUTH u x");
    for line in ["MULTI", "GET k"] {
        bench.ask_as(client, line);
    }
    assert!(bench.ask_as(client, "EXEC").contains("no permission to access one of the databases"));
    let line = "user u on nopass sanitize-payload ~* resetchannels db=1,3 +@all|";
    assert!(bench.ask_as(admin, "ACL LIST").contains(line));
    assert!(bench.ask_as(admin, "ACL GETUSER u").contains("$9|databases|$6|db=1,3|"));
    bench.client = admin;
    assert_ne!(bench.info("acl_access_denied_db"), "0");
}

#[test]
fn guessing_takes_time() {
    let mut bench = Bench::with(config(&[("auth-failure-delay", "1000"), ("requirepass", "x")]));
    let peer = |address: &str| Peer { address: address.into(), ..Peer::internal() };
    let [first, second] = ["9.9.9.9:1", "9.9.9.9:2"].map(|a| bench.engine.connect(peer(a)));
    let other = bench.engine.connect(peer("9.9.9.8:1"));
    for _ in 0..3 {
        assert_eq!(bench.ask_as(first, "AUTH y"), WRONG);
    }
    let early = "-WRONGPASS too many failed logins from this address, wait a moment before the \
                 next one.|";
    assert_eq!(bench.ask_as(second, "AUTH x"), early, "however right it is");
    assert_eq!(bench.ask_as(second, "HELLO 3 AUTH default x"), early);
    assert_eq!(bench.ask_as(other, "AUTH x"), "+OK|");
    bench.advance(1000);
    assert_eq!(bench.ask_as(second, "AUTH x"), "+OK|");
    bench.ask_as(other, "CONFIG SET auth-failure-delay 0");
    for _ in 0..9 {
        assert_eq!(bench.ask_as(first, "AUTH y"), WRONG);
    }
}

/// One that has shown a certificate with a common name and URIs, if any.
fn peer_of(common_name: &str, uris: &[&str]) -> Peer {
    let bytes = |text: &str| Box::from(text.as_bytes());
    let certificate = CertificateNames {
        common_name: (!common_name.is_empty()).then(|| bytes(common_name)),
        uris: uris.iter().map(|uri| bytes(uri)).collect(),
    };
    Peer { certificate: Some(Box::new(certificate)), ..Peer::internal() }
}

#[test]
fn a_certificate_is_who_it_names_if_that_one_may_come_in() {
    let mut bench = Bench::with(config(&[("requirepass", "x")]));
    let admin = bench.client;
    bench.ask("AUTH x");
    for name in ["here", "uri:admin"] {
        bench.expect(&format!("ACL SETUSER {name} on resetpass +acl|whoami"), "+OK|");
    }
    bench.expect("ACL SETUSER away off", "+OK|");
    for (kind, peer, user) in [
        ("CN", peer_of("here", &["uri:admin"]), Some("here")),
        ("CN", peer_of("away", &["uri:admin"]), None),
        ("CN", peer_of("nobody", &[]), None),
        ("CN", peer_of("", &["uri:admin"]), None),
        ("CN", Peer::internal(), None),
        ("URI", peer_of("here", &["nobody", "away", "uri:admin"]), Some("uri:admin")),
        ("URI", peer_of("here", &["nobody"]), None),
        ("URI", peer_of("here", &[]), None),
        ("off", peer_of("here", &["uri:admin"]), None),
    ] {
        let set = format!("CONFIG SET tls-auth-clients-user {kind}");
        assert_eq!(bench.ask_as(admin, &set), "+OK|");
        let client = bench.engine.admit(peer).expect("there is room");
        let reply = bench.ask_as(client, "ACL WHOAMI");
        match user {
            Some(name) => assert_eq!(reply, format!("${}|{name}|", name.len())),
            None => assert_eq!(reply, "-NOAUTH Authentication required.|"),
        }
    }
    bench.client = admin;
    assert_eq!(bench.info("acl_access_denied_tls_cert"), "3");
    let log = bench.ask("ACL LOG");
    assert!(log.contains("reason|$8|tls-cert|") && log.contains("username|$6|nobody|"), "{log}");
}

#[test]
fn a_rule_that_is_wrong_changes_nothing() {
    let mut bench = Bench::new();
    bench.expect("ACL SETUSER u on >a ~x +get", "+OK|");
    let before = bench.ask("ACL LIST");
    for rule in ["+nosuch", "%~x", "<b", "#12", "(+get", "(+nosuch)", "+config|get|x", "-select|0"]
    {
        let reply = bench.ask(&format!("ACL SETUSER u off resetpass ~y {rule}"));
        assert!(reply.starts_with("-ERR "), "{reply}");
        assert!(bench.ask(&format!("ACL SETUSER new on {rule}")).starts_with("-ERR "));
        assert_eq!(bench.ask("ACL LIST"), before, "{rule}");
    }
}

#[test]
fn odd_names_and_patterns_are_taken_or_refused_and_cost_little() {
    let mut bench = Bench::new();
    let long = "n".repeat(100_000);
    bench.expect(&format!("ACL SETUSER {long} on nopass +get ~x"), "+OK|");
    assert!(bench.ask("ACL LIST").contains(&long));
    for name in [&b"a\0b"[..], b"a b", b"a\n", b"\t"] {
        let reply = bench.run(&[b"ACL", b"SETUSER", name, b"on"]);
        assert!(reply.starts_with(b"-ERR Usernames can't contain"), "{name:?}");
    }
    for rule in [&b"~a\0"[..], b"&a\0", b"%R~a\0b", b"+get\0", b"on\0", b"+select|0\0"] {
        assert!(bench.run(&[b"ACL", b"SETUSER", b"u", rule]).starts_with(b"-ERR "), "{rule:?}");
    }
    // Stars do not multiply each other.
    let stars = format!("~{}x", "*?".repeat(50_000));
    let client = connect_as(&mut bench, "stars", &format!("+get {stars}"));
    bench.client = client;
    let key = "k".repeat(2_000);
    bench.expect(&format!("GET {key}"), NO_KEY);
    // Names need not be text.
    bench.client = bench.engine.connect(Peer::internal());
    bench.run(&[b"ACL", b"SETUSER", b"\xff\xfe", b"on", b"nopass", b"+@all"]);
    assert_eq!(bench.run(&[b"AUTH", b"\xff\xfe", b"x"]), b"+OK\r\n");
    assert_eq!(bench.run(&[b"ACL", b"WHOAMI"]), b"$2\r\n\xff\xfe\r\n");
}

#[test]
fn secrets_are_not_shown_to_those_who_watch() {
    let mut bench = Bench::with(config(&[("slowlog-log-slower-than", "0")]));
    let admin = bench.client;
    let watching = bench.connect();
    bench.ask_as(watching, "MONITOR");
    bench.client = admin;
    for line in [
        "ACL SETUSER u on >hidden ~* +@all",
        "ACL GETUSER hidden",
        "ACL DELUSER hidden",
        "AUTH u hidden",
        "HELLO 3 AUTH u hidden SETNAME n",
        "CONFIG SET requirepass hidden",
    ] {
        bench.ask(line);
    }
    let shown = bench.heard(watching) + &bench.ask("SLOWLOG GET -1");
    assert!(shown.contains("(redacted)") && !shown.contains("hidden"), "{shown}");
}
