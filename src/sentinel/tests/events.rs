//! What is told of what happens: who is down, what others say, how a failover goes.

use super::world::World;
use super::{Alone, MY_ID, OTHER_ID, bulk, simple};
use crate::resp::frame::Frame;
use crate::sentinel::{Action, Event, Level, ScriptEnd, WireId};

fn error(text: &str) -> Frame {
    Frame::Error(text.as_bytes().to_vec())
}

/// The connection for commands of whoever is at this port.
fn wire_to(alone: &Alone, port: u16) -> WireId {
    let dialed = alone.dialed();
    let found: Vec<WireId> =
        dialed.iter().filter(|dial| dial.2 == port).map(|dial| dial.0).collect();
    found[found.len().saturating_sub(2).min(found.len() - 1)]
}

/// A machine that has reached its master.
fn connected(quorum: u32) -> (Alone, WireId) {
    let mut alone = Alone::watching(quorum);
    alone.tick(100);
    let wire = wire_to(&alone, 6379);
    alone.tell(Event::WireUp { wire, local_ip: "10.0.0.7".to_owned() });
    (alone, wire)
}

#[test]
fn who_answers_as_one_that_lives_is_not_down() {
    for (frame, is_alive) in [
        (simple("PONG"), true),
        (error("LOADING Redis is loading the dataset in memory"), true),
        (error("MASTERDOWN Link with MASTER is down"), true),
        (error("NOAUTH Authentication required."), false),
        (error("MISCONF Errors writing to the AOF file"), false),
        (error("BUSY Redis is busy running a script."), false),
        (bulk("PONG"), false),
        (Frame::Null, false),
    ] {
        let (mut alone, wire) = connected(2);
        alone.respond(wire, &frame, 4000);
        let events = alone.events();
        let is_down = events.contains(&"+sdown master m 10.0.0.1 6379".to_owned());
        assert_eq!(is_down, !is_alive, "{frame:?}: {events:?}");
    }
}

#[test]
fn a_master_that_never_answers_is_down_and_comes_back() {
    let (mut alone, wire) = connected(2);
    alone.events();
    alone.tick(1500);
    assert_eq!(alone.events(), ["+sdown master m 10.0.0.1 6379"]);
    assert_eq!(alone.field("master m", "flags"), "s_down,master");
    alone.respond(wire, &simple("PONG"), 100);
    assert_eq!(alone.events(), ["-sdown master m 10.0.0.1 6379"]);
}

#[test]
fn a_busy_master_that_is_down_has_its_script_killed_once() {
    let (mut alone, wire) = connected(2);
    let busy = error("BUSY Redis is busy running a script.");
    alone.respond(wire, &busy, 3000);
    let kills = alone.sent(wire).iter().filter(|line| *line == "SCRIPT KILL").count();
    assert_eq!(kills, 1);
    assert_eq!(alone.field("master m", "flags"), "s_down,master,script_kill_sent");
}

#[test]
fn enough_opinions_make_a_master_objectively_down() {
    let mut alone = Alone::watching(2);
    alone.hear(&format!("10.0.0.3,26379,{OTHER_ID},0,m,10.0.0.1,6379,0"));
    assert_eq!(
        alone.events()[1..],
        [format!("+sentinel sentinel {OTHER_ID} 10.0.0.3 26379 @ m 10.0.0.1 6379")]
    );
    alone.tick(1500);
    let other = wire_to(&alone, 26379);
    let asked = alone.sent(other);
    assert_eq!(
        asked.get(2).map(String::as_str),
        Some("SENTINEL is-master-down-by-addr 10.0.0.1 6379 0 *"),
        "{asked:?}"
    );
    alone.events();
    // SETNAME, PING, then what was asked.
    for frame in [simple("OK"), simple("PONG")] {
        alone.reply(other, frame);
    }
    let opinion = vec![Frame::Integer(1), bulk("*"), Frame::Integer(0)];
    alone.reply(other, Frame::Array(opinion));
    alone.tick(100);
    let events = alone.events();
    assert!(events.contains(&"+odown master m 10.0.0.1 6379 #quorum 2/2".to_owned()), "{events:?}");
    assert!(events.contains(&"+try-failover master m 10.0.0.1 6379".to_owned()), "{events:?}");
    let vote = format!("+vote-for-leader {MY_ID} 1");
    alone.tick(100);
    assert!(events.contains(&vote) || alone.events().contains(&vote));
    // Opinions expire, and an election that nobody joins ends.
    alone.tick(12_000);
    let events = alone.events();
    assert!(events.contains(&"-odown master m 10.0.0.1 6379".to_owned()), "{events:?}");
    let lost = "-failover-abort-not-elected master m 10.0.0.1 6379".to_owned();
    assert!(events.contains(&lost), "{events:?}");
}

#[test]
fn hellos_that_lie_or_make_no_sense_change_nothing() {
    let mut alone = Alone::watching(2);
    alone.events();
    let before = alone.file();
    for hello in [
        "",
        "a,b,c",
        ",,,,,,,",
        &format!("10.0.0.3,26379,{OTHER_ID},0,m,10.0.0.1,6379"),
        &format!("10.0.0.3,26379,{OTHER_ID},0,m,10.0.0.1,6379,0,0"),
        &format!("10.0.0.3,26379,{OTHER_ID},0,x,10.0.0.1,6379,0"),
        &format!("10.0.0.3,26379,{MY_ID},9,m,10.0.0.2,6379,9"),
        &format!("10.0.0.3,99999,{OTHER_ID},9,m,10.0.0.2,6379,9"),
        &format!("10.0.0.3,26379,{OTHER_ID},-1,m,10.0.0.2,6379,9"),
        &format!("10.0.0.3,26379,{OTHER_ID},18446744073709551615,m,10.0.0.2,6379,9"),
        &format!("10.0.0.3,26379,{OTHER_ID},1,m,10.0.0.2,6379,99999999999999999999"),
        &format!("10.0.0.3\nsentinel,26379,{OTHER_ID},9,m,10.0.0.2,6379,9"),
        "10.0.0.3,26379,short,9,m,10.0.0.2,6379,9",
        &format!("not.resolved,26379,{OTHER_ID},0,m,10.0.0.1,6379,0"),
        &format!("10.0.0.3,26379,{OTHER_ID},0,m,\u{7f},6379,7"),
    ] {
        alone.hear(hello);
        assert_eq!(alone.file(), before, "{hello}");
    }
    assert_eq!(alone.events(), Vec::<String>::new());
}

#[test]
fn a_newer_configuration_is_taken_over() {
    let mut alone = Alone::watching(2);
    alone.hear(&format!("10.0.0.3,26379,{OTHER_ID},0,m,10.0.0.1,6379,0"));
    alone.events();
    alone.hear(&format!("10.0.0.3,26379,{OTHER_ID},7,m,10.0.0.2,6380,7"));
    assert_eq!(
        alone.events(),
        [
            "+new-epoch 7".to_owned(),
            format!("+config-update-from sentinel {OTHER_ID} 10.0.0.3 26379 @ m 10.0.0.1 6379"),
            "+switch-master m 10.0.0.1 6379 10.0.0.2 6380".to_owned(),
            "+slave slave 10.0.0.1:6379 10.0.0.1 6379 @ m 10.0.0.2 6380".to_owned(),
        ]
    );
    assert_eq!(alone.ask("get-master-addr-by-name m"), "*2|$8|10.0.0.2|$4|6380|");
    assert!(alone.file().contains(&"sentinel known-replica m 10.0.0.1 6379".to_owned()));
    alone.hear(&format!("10.0.0.3,26379,{OTHER_ID},7,m,10.0.0.1,6379,6"));
    assert_eq!(alone.events(), Vec::<String>::new(), "what is older is not");
}

#[test]
fn sentinels_move_and_take_each_others_places() {
    let mut alone = Alone::new("monitor m 10.0.0.1 6379 1\nmonitor n 10.0.0.9 6379 1");
    for name in ["m", "n"] {
        let (ip, port) = if name == "m" { ("10.0.0.1", 6379) } else { ("10.0.0.9", 6379) };
        alone.hear(&format!("10.0.0.3,26379,{OTHER_ID},0,{name},{ip},{port},0"));
    }
    assert_eq!(alone.field("sentinels m", "link-refcount"), "2", "one link for both");
    alone.events();
    alone.hear(&format!("10.0.0.4,26379,{OTHER_ID},0,m,10.0.0.1,6379,0"));
    assert_eq!(
        alone.events(),
        [
            format!(
                "+sentinel-address-switch master m 10.0.0.1 6379 ip 10.0.0.4 port 26379 \
                 for {OTHER_ID}"
            ),
            format!(
                "+sentinel-address-update sentinel {OTHER_ID} 10.0.0.4 26379 @ m 10.0.0.1 6379 \
                 1 additional matching instances"
            ),
        ]
    );
    assert_eq!(alone.field("sentinels n", "ip"), "10.0.0.4");
    let third = "3333333333333333333333333333333333333333";
    alone.hear(&format!("10.0.0.4,26379,{third},0,m,10.0.0.1,6379,0"));
    assert_eq!(
        alone.events(),
        [
            format!("+sentinel-invalid-addr sentinel {OTHER_ID} 10.0.0.4 26379 @ m 10.0.0.1 6379"),
            format!("+sentinel sentinel {third} 10.0.0.4 26379 @ m 10.0.0.1 6379"),
        ]
    );
    assert_eq!(alone.ask("sentinels n"), "*0|", "it is gone everywhere");
    alone.tick(3000);
}

#[test]
fn a_round_that_comes_late_has_nothing_done_for_a_while() {
    let (mut alone, _) = connected(2);
    alone.ask("debug tilt-period 3000");
    alone.events();
    alone.now_ms += 2500;
    alone.tell(Event::Tick);
    assert_eq!(alone.events(), ["+tilt #tilt mode entered"], "and not +sdown");
    let vote = alone.ask("is-master-down-by-addr 10.0.0.1 6379 0 *");
    assert_eq!(vote, "*3|:0|$1|*|:0|");
    alone.tick(2000);
    assert_eq!(alone.events(), Vec::<String>::new());
    alone.tick(1200);
    let events = alone.events();
    assert_eq!(events, ["-tilt #tilt mode exited", "+sdown master m 10.0.0.1 6379"]);
}

#[test]
fn info_shows_replicas_reboots_and_roles() {
    let (mut alone, wire) = connected(2);
    alone.events();
    let run = |digit: &str| digit.repeat(40);
    alone.info = bulk(&format!(
        "run_id:{}\r\nrole:master\r\nslave0:ip=10.0.0.2,port=6380,state=online\r\n\
         slave1:10.0.0.3,6381,online\r\nslave2:ip=::1,port=6382\r\n",
        run("a")
    ));
    alone.respond(wire, &simple("PONG"), 0);
    assert_eq!(
        alone.events(),
        [
            "+slave slave 10.0.0.2:6380 10.0.0.2 6380 @ m 10.0.0.1 6379",
            "+slave slave 10.0.0.3:6381 10.0.0.3 6381 @ m 10.0.0.1 6379",
            "+slave slave [::1]:6382 ::1 6382 @ m 10.0.0.1 6379",
        ]
    );
    alone.ask("set m master-reboot-down-after-period 500");
    alone.ask("debug info-period 500");
    alone.events();
    alone.info = bulk(&format!("run_id:{}\r\nrole:slave\r\n", run("b")));
    alone.respond(wire, &error("LOADING it"), 700);
    assert_eq!(
        alone.events(),
        [
            "+reboot master m 10.0.0.1 6379",
            "-role-change master m 10.0.0.1 6379 new reported role is slave",
        ]
    );
    assert_eq!(alone.field("master m", "flags"), "master,master_reboot");
}

#[test]
fn the_best_replica_is_promoted() {
    // Priority, then offset, then the run id.
    for (priorities, offsets, promoted) in [
        ([100, 100, 100], [0, 500, 500], 7001),
        ([100, 100, 10], [0, 500, 0], 7002),
        ([100, 0, 100], [0, 500, 1], 7002),
    ] {
        let mut world = World::new(5, 3, 3, 2);
        for (server, priority) in world.servers.iter_mut().zip(priorities) {
            server.priority = priority;
        }
        world.run(12_000);
        world.kill_server(0);
        for (server, offset) in world.servers.iter_mut().zip(offsets) {
            server.offset += offset;
        }
        world.run(20_000);
        assert_eq!(world.master_told(0), promoted, "{priorities:?} {offsets:?}");
    }
}

#[test]
fn with_no_good_replica_the_failover_is_given_up_and_the_log_says_why() {
    let mut world = World::new(6, 1, 2, 1);
    world.servers[1].priority = 0;
    world.run(12_000);
    world.kill_server(0);
    world.run(8000);
    assert_eq!((world.master_told(0), world.failovers()), (7000, 0));
}

#[test]
fn a_replica_that_takes_itself_for_a_master_is_called_back() {
    let mut world = World::new(7, 3, 3, 2);
    world.run(12_000);
    world.servers[2].master = None;
    world.run(30_000);
    assert_eq!(world.disagreement(), None);
    world.servers[1].master = Some(("127.0.0.1".to_owned(), 7002));
    world.run(40_000);
    assert_eq!((world.disagreement(), world.failovers()), (None, 0));
}

#[test]
fn notification_scripts_get_warnings_and_are_tried_again() {
    let mut alone = Alone::new(
        "monitor m 10.0.0.1 6379 1\ndown-after-milliseconds m 1000\nnotification-script m /n",
    );
    let runs = |alone: &mut Alone| -> Vec<(u64, String)> {
        let actions = std::mem::take(&mut alone.actions);
        let run = |action: Action| match action {
            Action::Run { job, argv } => Some((job, argv.join("|"))),
            _ => None,
        };
        actions.into_iter().filter_map(run).collect()
    };
    let started = runs(&mut alone);
    assert_eq!(started, [(1, "/n|+monitor|master m 10.0.0.1 6379 quorum 1".to_owned())]);
    alone.tell(Event::ScriptStarted { job: 1, pid: 77 });
    assert!(alone.actions.contains(&Action::Log(Level::Debug, "+script-child 77".to_owned())));
    assert!(
        alone.ask("pending-scripts").contains("|$5|flags|$7|running|$3|pid|$2|77|$8|run-time|")
    );
    alone.tell(Event::ScriptEnded { job: 1, end: ScriptEnd::Exit(1) });
    let waiting = alone.ask("pending-scripts");
    assert!(waiting.contains("|$9|scheduled|$3|pid|$1|0|$9|run-delay|$5|30000|$9|retry-num|$1|1|"));
    alone.events();
    for (end, told) in [(ScriptEnd::Exit(2), "-script-error /n 0 2"), (ScriptEnd::Exit(0), "")] {
        alone.tick(32_000);
        let all = runs(&mut alone);
        let (job, _) = *all.first().map(|(job, argv)| (job, argv)).as_ref().expect("one is due");
        alone.tell(Event::ScriptEnded { job: *job, end });
        let events = alone.events();
        assert_eq!(events.first().map_or("", String::as_str), told);
        alone.ask("set m quorum 1");
    }
}

#[test]
fn a_script_that_takes_too_long_is_killed_and_given_up_after_ten_tries() {
    let mut alone = Alone::new("monitor m 10.0.0.1 6379 1\nnotification-script m /n");
    alone.ask("debug script-max-runtime 1000 script-retry-delay 1 tilt-trigger 100000000");
    alone.ask("set m notification-script \"\"");
    for tries in 1..=10 {
        alone.actions.clear();
        alone.tick(1200);
        assert!(alone.actions.contains(&Action::Kill { job: 1 }), "try {tries}");
        alone.tell(Event::ScriptEnded { job: 1, end: ScriptEnd::Signal(9) });
        assert_eq!(alone.events().iter().any(|event| event == "-script-error /n 9 0"), tries == 10);
        alone.tick(1000);
    }
}

#[test]
fn no_more_scripts_wait_than_there_is_room_for() {
    let mut alone = Alone::new("monitor m 10.0.0.1 6379 1\nnotification-script m /n");
    for _ in 0..300 {
        alone.ask("set m quorum 1");
    }
    assert!(alone.ask("pending-scripts").starts_with("*256|"));
    alone.tick(200);
    assert!(alone.machine.info(alone.moment()).contains("sentinel_running_scripts:16\r\n"));
}

#[test]
fn a_simulated_crash_comes_when_the_file_is_written() {
    let mut alone = Alone::watching(1);
    alone.ask("simulate-failure crash-after-election");
    alone.can_save = false;
    alone.tick(3000);
    let elected = "+elected-leader master m 10.0.0.1 6379";
    assert!(alone.events().iter().all(|event| event != elected), "its own vote is not written");
    let generation = alone.machine.generation();
    alone.tell(Event::Saved { generation, result: Ok(()) });
    alone.tick(100);
    assert_eq!(alone.actions.last(), Some(&Action::Exit(99)));
    assert_eq!(alone.events().last().map(String::as_str), Some(elected));
    alone.tick(1000);
    assert_eq!(alone.actions, []);
}
