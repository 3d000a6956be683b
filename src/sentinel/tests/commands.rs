//! SENTINEL, command by command.

use super::{Alone, MY_ID, OTHER_ID, bulk};
use crate::resp::Protocol;
use crate::resp::frame::Frame;
use crate::sentinel::{Answer, Event};

const NAMES_OF_MASTER: &str = "name ip port runid flags link-pending-commands link-refcount \
    last-ping-sent last-ok-ping-reply last-ping-reply down-after-milliseconds info-refresh \
    role-reported role-reported-time config-epoch num-slaves num-other-sentinels quorum \
    failover-timeout parallel-syncs";
const NAMES_OF_REPLICA: &str = "name ip port runid flags link-pending-commands link-refcount \
    last-ping-sent last-ok-ping-reply last-ping-reply down-after-milliseconds info-refresh \
    role-reported role-reported-time master-link-down-time master-link-status master-host \
    master-port slave-priority slave-repl-offset replica-announced";
const NAMES_OF_SENTINEL: &str = "name ip port runid flags link-pending-commands link-refcount \
    last-ping-sent last-ok-ping-reply last-ping-reply down-after-milliseconds last-hello-message \
    voted-leader voted-leader-epoch";

fn group() -> Alone {
    Alone::new(&format!(
        "monitor m 10.0.0.1 6379 2\nknown-replica m 10.0.0.2 6380\n\
         known-sentinel m 10.0.0.3 26379 {OTHER_ID}"
    ))
}

#[test]
fn maps_have_the_fields_of_redis_in_its_order() {
    let mut alone = group();
    for (line, names) in [
        ("master m", NAMES_OF_MASTER),
        ("masters", NAMES_OF_MASTER),
        ("primary m", NAMES_OF_MASTER),
        ("primaries", NAMES_OF_MASTER),
        ("replicas m", NAMES_OF_REPLICA),
        ("slaves m", NAMES_OF_REPLICA),
        ("sentinels m", NAMES_OF_SENTINEL),
    ] {
        let found: Vec<String> = alone.fields(line).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            found.join(" "),
            names.split_whitespace().collect::<Vec<_>>().join(" "),
            "{line}"
        );
    }
    let (map, _) = alone.ask_in("master m", Protocol::Resp3);
    assert!(map.starts_with("%20|$4|name|$1|m|"), "{map}");
    let (maps, _) = alone.ask_in("masters", Protocol::Resp3);
    assert!(maps.starts_with("*1|%20|"), "{maps}");
    assert!(alone.ask("master m").starts_with("*40|"));
    assert_eq!(alone.field("replicas m", "name"), "10.0.0.2:6380");
    assert_eq!(alone.field("sentinels m", "name"), OTHER_ID);
    assert_eq!(alone.field("sentinels m", "flags"), "sentinel");
}

#[test]
fn what_is_asked_about_nobody_is_refused_and_an_address_is_null() {
    let mut alone = Alone::watching(2);
    let unknown = "-ERR No such master with that name";
    for line in [
        "master x",
        "replicas x",
        "slaves x",
        "sentinels x",
        "failover x",
        "ckquorum x",
        "remove x",
        "set x quorum 1",
    ] {
        assert_eq!(alone.ask(line), unknown, "{line}");
    }
    assert_eq!(alone.ask("get-master-addr-by-name x"), "*-1|");
    assert_eq!(alone.ask("get-master-addr-by-name m"), "*2|$8|10.0.0.1|$4|6379|");
    assert_eq!(alone.ask("get-primary-addr-by-name m"), "*2|$8|10.0.0.1|$4|6379|");
    assert_eq!(alone.ask("myid"), format!("$40|{MY_ID}|"));
}

#[test]
fn masters_come_and_go() {
    let mut alone = Alone::new("");
    for (line, reply) in [
        ("monitor a 10.0.0.1 6379 x", "-ERR Invalid quorum"),
        ("monitor a 10.0.0.1 x 1", "-ERR Invalid port"),
        ("monitor a 10.0.0.1 6379 0", "-ERR Quorum must be 1 or greater."),
        ("monitor a 10.0.0.1 6379 -1", "-ERR Quorum must be 1 or greater."),
        ("monitor a host 6379 1", "-ERR Invalid IP address or hostname specified"),
        ("monitor a 10.0.0.1 65536 1", "-ERR Invalid port number."),
        ("monitor \"a b\" 10.0.0.1 1 1", "-ERR Invalid master name."),
        ("monitor \"a\\nsentinel\" 10.0.0.1 1 1", "-ERR Invalid master name."),
        ("monitor a 10.0.0.1 6379 1", "+OK|"),
        ("monitor a 10.0.0.2 6379 1", "-ERR Duplicate master name."),
        ("monitor b ::1 6379 1", "+OK|"),
    ] {
        assert_eq!(alone.ask(line), reply, "{line}");
    }
    let told = ["+monitor master a 10.0.0.1 6379 quorum 1", "+monitor master b ::1 6379 quorum 1"];
    assert_eq!(alone.events(), told);
    assert_eq!(alone.ask("remove a"), "+OK|");
    assert_eq!(alone.events(), ["-monitor master a 10.0.0.1 6379"]);
    assert!(alone.file().iter().all(|line| !line.contains(" a ")), "{:?}", alone.file());
    assert_eq!(alone.ask("reset *"), ":1|");
    assert_eq!(alone.events(), ["+reset-master master b ::1 6379"]);
    assert_eq!(alone.ask("reset x*"), ":0|");
}

#[test]
fn a_reset_forgets_who_belongs_to_a_master() {
    let mut alone = group();
    assert_eq!(alone.field("master m", "num-slaves"), "1");
    assert_eq!(alone.ask("reset m"), ":1|");
    assert_eq!(alone.ask("replicas m"), "*0|");
    assert_eq!(alone.ask("sentinels m"), "*0|");
    alone.tick(3000);
}

#[test]
fn options_of_a_master_are_set_one_by_one() {
    let mut alone = Alone::watching(2);
    alone.events();
    let invalid = |value: &str, option: &str| {
        format!("-ERR Invalid argument '{value}' for SENTINEL SET '{option}'")
    };
    for option in ["down-after-milliseconds", "failover-timeout", "parallel-syncs", "quorum"] {
        for value in ["0", "-1", "x", "9223372036854775807", "9223372036854775808"] {
            let line = format!("set m {option} {value}");
            assert_eq!(alone.ask(&line), invalid(value, option), "{line}");
        }
        assert_eq!(alone.ask(&format!("set m {option} 7")), "+OK|");
        assert_eq!(alone.field("master m", option), "7");
    }
    assert_eq!(
        alone.ask("set m master-reboot-down-after-period -1"),
        invalid("-1", "master-reboot-down-after-period")
    );
    assert_eq!(alone.ask("set m primary-reboot-down-after-period 0"), "+OK|");
    let denied = alone.ask("set m notification-script /bin/true");
    assert!(denied.starts_with("-ERR Reconfiguration of scripts path is denied"), "{denied}");
    let unknown = "-ERR Unknown option or number of arguments for SENTINEL SET ";
    assert_eq!(alone.ask("set m fake 1"), format!("{unknown}'fake'"));
    assert_eq!(
        alone.ask("set m quorum 3 rename-command ping"),
        format!("{unknown}'rename-command'")
    );
    assert_eq!(alone.field("master m", "quorum"), "3", "what came before stays");
    assert_eq!(alone.ask("set m rename-command ping \"\""), invalid("", "rename-command"));
    alone.events();
    assert_eq!(alone.ask("set m auth-pass secret auth-user u rename-command PING P"), "+OK|");
    assert_eq!(
        alone.events(),
        [
            "+set master m 10.0.0.1 6379 auth-pass ******",
            "+set master m 10.0.0.1 6379 auth-user u",
            "+set master m 10.0.0.1 6379 rename-command PING P"
        ]
    );
    alone.tick(1000);
    let (wire, ..) = alone.dialed()[0];
    assert_eq!(
        alone.sent(wire)[..3],
        ["AUTH u secret", "CLIENT SETNAME sentinel-11111111-cmd", "P"]
    );
}

#[test]
fn scripts_may_be_set_where_that_is_allowed_and_they_can_be_run() {
    let mut alone = Alone::new("deny-scripts-reconfig no\nmonitor m 10.0.0.1 1 1");
    alone.machine.surroundings.is_executable = |path| path == "/ok";
    assert_eq!(
        alone.ask("set m notification-script /no"),
        "-ERR Notification script seems non existing or non executable"
    );
    assert_eq!(
        alone.ask("set m client-reconfig-script /no"),
        "-ERR Client reconfiguration script seems non existing or non executable"
    );
    assert_eq!(alone.ask("set m notification-script /ok client-reconfig-script /ok"), "+OK|");
    assert_eq!(alone.field("master m", "client-reconfig-script"), "/ok");
    assert_eq!(alone.ask("set m notification-script \"\""), "+OK|");
    assert_eq!(alone.field("master m", "notification-script"), "");
}

#[test]
fn what_holds_for_all_is_got_and_set() {
    let mut alone = Alone::new("");
    let all = "*14|$17|resolve-hostnames|$2|no|$18|announce-hostnames|$2|no|$11|announce-ip|$0||\
               $13|announce-port|$1|0|$13|sentinel-user|$0||$13|sentinel-pass|$0||\
               $8|loglevel|$6|notice|";
    assert_eq!(alone.ask("config get *"), all);
    assert_eq!(
        alone.ask("config get announce-p* announce-port LOGLEVEL"),
        "*4|$13|announce-port|$1|0|$8|loglevel|$6|notice|"
    );
    assert_eq!(alone.ask("config get nosuch"), "*0|");
    for (line, reply) in [
        ("config set x 1", "-ERR Invalid argument 'x' to SENTINEL CONFIG SET"),
        (
            "config set announce-port 1 announce-port 2",
            "-ERR Duplicate argument 'announce-port' to SENTINEL CONFIG SET",
        ),
        ("config set announce-port 1 announce-ip", "-ERR Missing argument 'announce-ip' value"),
        (
            "config set announce-port 65536",
            "-ERR Invalid value '65536' to SENTINEL CONFIG SET 'announce-port'",
        ),
        (
            "config set resolve-hostnames maybe",
            "-ERR Invalid value 'maybe' to SENTINEL CONFIG SET 'resolve-hostnames'",
        ),
        ("config set loglevel loud", "-ERR Invalid value 'loud' to SENTINEL CONFIG SET 'loglevel'"),
        (
            "config set announce-ip \"a b\"",
            "-ERR Invalid value 'a b' to SENTINEL CONFIG SET 'announce-ip'",
        ),
        ("config set announce-port 7 announce-ip 10.0.0.9 loglevel DEBUG sentinel-pass p", "+OK|"),
    ] {
        assert_eq!(alone.ask(line), reply, "{line}");
    }
    assert_eq!(
        alone.ask("config get announce-port loglevel"),
        "*4|$13|announce-port|$1|7|$8|loglevel|$5|debug|"
    );
    assert!(alone.ask("config x y").starts_with("-ERR Only SENTINEL CONFIG GET"));
    assert!(alone.ask("config set y").starts_with("-ERR Only SENTINEL CONFIG GET"));
}

#[test]
fn periods_are_shown_and_changed() {
    let mut alone = Alone::new("");
    let shown = alone.ask("debug");
    assert!(shown.starts_with("*26|$11|INFO-PERIOD|$5|10000|$11|PING-PERIOD|$4|1000|"), "{shown}");
    assert_eq!(alone.ask("debug ping-period 500 ask-period 400"), "+OK|");
    assert!(alone.ask("debug").contains("|$11|PING-PERIOD|$3|500|$10|ASK-PERIOD|$3|400|"));
    assert_eq!(
        alone.ask("debug ping-period 0"),
        "-ERR Invalid argument '0' for SENTINEL DEBUG 'ping-period'"
    );
    for line in ["debug nosuch 1", "debug ping-period 1 nosuch"] {
        assert_eq!(
            alone.ask(line),
            "-ERR Unknown option or number of arguments for SENTINEL DEBUG 'nosuch'"
        );
    }
}

#[test]
fn quorums_are_counted_over_those_who_live() {
    let mut alone = group();
    assert_eq!(
        alone.ask("ckquorum m"),
        "+OK 2 usable Sentinels. Quorum and failover authorization can be reached|"
    );
    alone.ask("set m quorum 3");
    let quorum = "Not enough available Sentinels to reach the specified quorum for this master";
    assert_eq!(alone.ask("ckquorum m"), format!("-NOQUORUM 2 usable Sentinels. {quorum}"));
    // The other one is never reached, and found down with the rest.
    alone.ask("set m down-after-milliseconds 1000");
    alone.tick(2000);
    let majority = "Not enough available Sentinels to reach the majority and authorize a failover";
    assert_eq!(
        alone.ask("ckquorum m"),
        format!("-NOQUORUM 1 usable Sentinels. {quorum}. {majority}")
    );
    alone.ask("set m quorum 1");
    assert_eq!(alone.ask("ckquorum m"), format!("-NOQUORUM 1 usable Sentinels. {majority}"));
}

#[test]
fn a_vote_is_given_once_an_epoch_and_told_when_it_is_written() {
    let mut alone = Alone::watching(2);
    let ask = |id: &str, epoch: u64| format!("is-master-down-by-addr 10.0.0.1 6379 {epoch} {id}");
    let vote = |id: &str, epoch: u64| format!("*3|:0|$40|{id}|:{epoch}|");
    assert_eq!(alone.ask(&ask("*", 9)), "*3|:0|$1|*|:0|");
    let reply = alone.ask("is-master-down-by-addr 10.0.0.1 6379 -5 *");
    assert_eq!(reply, "*3|:0|$1|*|:0|", "it is not looked at without a vote");
    assert_eq!(alone.ask("is-master-down-by-addr 10.9.9.9 6379 9 x"), "*3|:0|$1|*|:0|");
    assert_eq!(
        alone.ask("is-master-down-by-addr 10.0.0.1 x 9 x"),
        "-ERR value is not an integer or out of range"
    );
    for epoch in ["-1", "x", "9223372036854775808"] {
        assert_eq!(
            alone.ask(&format!("is-master-down-by-addr 10.0.0.1 6379 {epoch} x")),
            "-ERR value is not an integer or out of range"
        );
    }
    alone.events();
    assert_eq!(alone.ask(&ask(OTHER_ID, 5)), vote(OTHER_ID, 5));
    assert_eq!(
        alone.events(),
        ["+new-epoch 5".to_owned(), format!("+vote-for-leader {OTHER_ID} 5")]
    );
    assert_eq!(alone.ask(&ask(MY_ID, 5)), vote(OTHER_ID, 5), "it is given");
    assert_eq!(alone.ask(&ask(MY_ID, 4)), vote(OTHER_ID, 5));
    assert!(alone.file().contains(&"sentinel leader-epoch m 5".to_owned()));
    assert!(alone.file().contains(&"sentinel current-epoch 5".to_owned()));

    alone.can_save = false;
    let (_, answer) = alone.ask_in(&ask(OTHER_ID, 6), Protocol::Resp2);
    let Some(Answer::WhenSaved { generation, otherwise }) = answer else { panic!("{answer:?}") };
    let mut out = crate::resp::ReplyBuf::new();
    otherwise.write(&mut out.writer(Protocol::Resp2)).expect("it is no error");
    assert_eq!(out.to_vec(), b"*3\r\n:0\r\n$1\r\n*\r\n:0\r\n");
    let failed = Event::Saved { generation, result: Err("No space left on device".to_owned()) };
    alone.tell(failed);
    alone.can_save = true;
    let (reply, answer) = alone.ask_in(&ask(OTHER_ID, 6), Protocol::Resp2);
    assert_eq!(reply, vote(OTHER_ID, 6), "who asks again has it written again");
    assert!(matches!(answer, Some(Answer::WhenSaved { .. })));
    assert_eq!(alone.ask_in(&ask(OTHER_ID, 6), Protocol::Resp2).1, Some(Answer::Now));
}

#[test]
fn who_restarts_does_not_vote_again_in_the_same_epoch() {
    let mut alone = Alone::watching(2);
    alone.ask(&format!("is-master-down-by-addr 10.0.0.1 6379 5 {OTHER_ID}"));
    let file: Vec<String> = alone.file();
    let text: Vec<&str> = file.iter().filter_map(|line| line.strip_prefix("sentinel ")).collect();
    let mut again = Alone::new(&text.join("\n"));
    let reply = again.ask(&format!("is-master-down-by-addr 10.0.0.1 6379 5 {MY_ID}"));
    assert_eq!(reply, "*3|:0|$1|*|:5|");
}

#[test]
fn a_failover_by_hand_wants_a_replica_and_to_be_the_only_one() {
    let mut alone = Alone::watching(2);
    assert_eq!(alone.ask("failover m"), "-NOGOODSLAVE No suitable replica to promote");
    alone.tick(200);
    let (wire, ..) = alone.dialed()[0];
    alone.tell(Event::WireUp { wire, local_ip: "10.0.0.7".to_owned() });
    for _ in 0..3 {
        alone.reply(wire, super::simple("PONG"));
    }
    let info = "role:master\r\nslave0:ip=10.0.0.2,port=6380,state=online\r\n";
    alone.tick(1200);
    alone.reply(wire, bulk(info));
    alone.tick(200);
    let dialed = alone.dialed();
    let (replica, ..) = *dialed.iter().find(|(_, ip, _)| ip == "10.0.0.2").expect("it is known");
    alone.tell(Event::WireUp { wire: replica, local_ip: "10.0.0.7".to_owned() });
    for frame in [super::simple("OK"), super::simple("PONG")] {
        alone.reply(replica, frame);
    }
    alone.reply(replica, bulk("role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\n"));
    alone.events();
    assert_eq!(alone.ask("failover m"), "+OK|");
    assert_eq!(alone.ask("failover m"), "-INPROG Failover already in progress");
    assert_eq!(alone.events(), ["+new-epoch 1", "+try-failover master m 10.0.0.1 6379"]);
    assert_eq!(alone.field("master m", "failover-state"), "wait_start");
    assert_eq!(alone.field("master m", "flags"), "master,failover_in_progress,force_failover");
}

#[test]
fn answers_to_info_are_kept_and_told_with_their_age() {
    let mut alone = group();
    assert_eq!(alone.ask("info-cache m"), "*2|$1|m|*2|*2|:0|$-1|*2|:0|$-1|");
    assert_eq!(alone.ask("info-cache x"), "*0|");
    alone.tick(200);
    let (wire, ..) = alone.dialed()[0];
    alone.reply(wire, super::simple("OK"));
    alone.reply(wire, super::simple("PONG"));
    alone.reply(wire, bulk("role:master\r\n"));
    alone.tick(500);
    assert_eq!(alone.ask("info-cache m"), "*2|$1|m|*2|*2|:500|$13|role:master||*2|:0|$-1|");
    assert_eq!(alone.ask("pending-scripts"), "*0|");
}

#[test]
fn failures_can_be_simulated() {
    let mut alone = Alone::new("");
    assert_eq!(
        alone.ask("simulate-failure help"),
        "*2|$20|crash-after-election|$21|crash-after-promotion|"
    );
    assert_eq!(alone.ask("simulate-failure x"), "-ERR Unknown failure simulation specified");
    assert_eq!(alone.ask("simulate-failure crash-after-election CRASH-AFTER-PROMOTION"), "+OK|");
    assert!(alone.machine.info(alone.moment()).contains("sentinel_simulate_failure_flags:3\r\n"));
    assert_eq!(alone.ask("simulate-failure"), "+OK|");
    assert!(alone.machine.info(alone.moment()).contains("sentinel_simulate_failure_flags:0\r\n"));
}

#[test]
fn info_has_a_section_of_its_own() {
    let mut alone = group();
    let info = alone.machine.info(alone.moment());
    assert_eq!(
        info,
        "# Sentinel\r\nsentinel_masters:1\r\nsentinel_tilt:0\r\nsentinel_tilt_since_seconds:-1\r\n\
         sentinel_running_scripts:0\r\nsentinel_scripts_queue_length:0\r\n\
         sentinel_simulate_failure_flags:0\r\n\
         master0:name=m,status=ok,address=10.0.0.1:6379,slaves=1,sentinels=2\r\n"
    );
    alone.now_ms += 5000;
    alone.tick(0);
    alone.now_ms += 2000;
    let info = alone.machine.info(alone.moment());
    assert!(info.contains("sentinel_tilt:1\r\nsentinel_tilt_since_seconds:2\r\n"), "{info}");
}

#[test]
fn commands_with_names_wait_until_these_are_looked_up() {
    let mut alone = Alone::new("resolve-hostnames yes");
    let (reply, answer) = alone.ask_in("monitor m some.host 6379 1", Protocol::Resp2);
    assert_eq!((reply.as_str(), answer), ("", Some(Answer::WhenResolved)));
    alone.tell(Event::Resolved { host: "some.host".to_owned(), ip: Some("10.1.1.1".to_owned()) });
    assert_eq!(alone.ask("monitor m some.host 6379 1"), "+OK|");
    assert_eq!(alone.ask("get-master-addr-by-name m"), "*2|$8|10.1.1.1|$4|6379|");
    alone.ask("config set announce-hostnames yes");
    assert_eq!(alone.ask("get-master-addr-by-name m"), "*2|$9|some.host|$4|6379|");
    assert!(alone.file().contains(&"sentinel monitor m some.host 6379 1".to_owned()));
    alone.ask_in("monitor n no.host 6379 1", Protocol::Resp2);
    alone.tell(Event::Resolved { host: "no.host".to_owned(), ip: None });
    assert_eq!(
        alone.ask("monitor n no.host 6379 1"),
        "-ERR Invalid IP address or hostname specified"
    );
}

fn resolved(alone: &mut Alone, host: &str, ip: Option<&str>) {
    let ip = ip.map(str::to_owned);
    alone.tell(Event::Resolved { host: host.to_owned(), ip });
}

#[test]
fn a_master_by_name_is_reached_when_its_name_is_found() {
    let mut alone = Alone::new("resolve-hostnames yes\nmonitor m some.host 6379 1");
    assert_eq!(alone.ask("get-master-addr-by-name m"), "*2|$9|some.host|$4|6379|");
    let asked = |alone: &Alone| {
        let resolve = crate::sentinel::Action::Resolve { host: "some.host".to_owned() };
        alone.actions.iter().filter(|action| **action == resolve).count()
    };
    alone.tick(5000);
    assert_eq!((asked(&alone), alone.dialed().len()), (1, 0), "one question is under way");
    resolved(&mut alone, "some.host", None);
    alone.tick(1500);
    assert_eq!(asked(&alone), 2, "it is asked for again");
    resolved(&mut alone, "some.host", Some("10.1.1.1"));
    alone.tick(1500);
    let (wire, ip, port) = alone.dialed()[0].clone();
    assert_eq!((ip.as_str(), port), ("10.1.1.1", 6379));
    // Whenever a connection is made anew the name is looked up anew.
    alone.tell(Event::WireDown { wire, reason: "cut".to_owned() });
    alone.tick(1500);
    resolved(&mut alone, "some.host", Some("10.2.2.2"));
    assert_eq!(alone.ask("get-master-addr-by-name m"), "*2|$8|10.2.2.2|$4|6379|");
}

#[test]
fn a_switch_to_a_name_waits_until_it_is_found() {
    let mut alone = Alone::new("resolve-hostnames yes\nmonitor m 10.0.0.1 6379 1");
    let hello = format!("10.0.0.3,26379,{OTHER_ID},7,m,new.host,6380,7");
    alone.hear(&hello);
    assert_eq!(alone.ask("get-master-addr-by-name m"), "*2|$8|10.0.0.1|$4|6379|");
    assert_eq!(alone.field("master m", "config-epoch"), "0", "the next hello is listened to");
    resolved(&mut alone, "new.host", Some("10.1.1.1"));
    alone.hear(&hello);
    assert_eq!(alone.ask("get-master-addr-by-name m"), "*2|$8|10.1.1.1|$4|6380|");
    assert_eq!(alone.field("master m", "config-epoch"), "7");
}

#[test]
fn a_reply_of_another_kind_than_expected_changes_nothing() {
    let mut alone = group();
    alone.tick(2000);
    for (wire, ..) in alone.dialed() {
        for frame in [
            Frame::Null,
            Frame::Integer(i64::MIN),
            Frame::Array(vec![Frame::Null, Frame::Null, Frame::Null]),
            Frame::Error(Vec::new()),
            Frame::Bulk(vec![0xff; 100]),
            bulk(
                "role:slave\r\nmaster_port:99999999999999999999\r\nslave_repl_offset:-5\r\n\
                  master_link_down_since_seconds:9223372036854775807\r\nrun_id:x\r\nslave:\r\n\
                  slave0\r\nslave0:\r\nslave0:ip=,port=\r\nslave9:a b,1,2\r\n",
            ),
        ] {
            alone.reply(wire, frame);
        }
    }
    alone.tick(5000);
    assert_eq!(alone.field("master m", "num-slaves"), "1");
}
