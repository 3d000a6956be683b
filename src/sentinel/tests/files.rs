//! The lines of the configuration file.

use super::{Alone, MY_ID, OTHER_ID, lines_of};
use crate::sentinel::{Sentinel, Surroundings, config};
use crate::structs::prng::Prng;

fn read(text: &str) -> Result<Sentinel, (usize, &'static str)> {
    let surroundings =
        Surroundings { is_executable: |path| path == "/ok", ..Surroundings::default() };
    let mut machine = Sentinel::new(surroundings, Prng::seeded(1));
    machine.read(&lines_of(text)).map_err(|refused| (refused.line, refused.reason))?;
    Ok(machine)
}

#[test]
fn lines_may_stand_in_any_order() {
    let machine = read(
        "down-after-milliseconds m 7\nknown-slave m host 6380\nmonitor m host 6379 2\n\
         resolve-hostnames yes",
    );
    let lines = machine.map(|machine| machine.lines()).expect("they are sound");
    let has = |key: &str, rest: &str| lines.contains(&(config_key(key), rest.as_bytes().to_vec()));
    assert!(has("monitor", "m host 6379 2"), "{lines:?}");
    assert!(has("down-after-milliseconds", "m 7"));
    assert!(has("known-replica", "m host 6380"));
}

fn config_key(word: &str) -> &'static str {
    config::key_of(word.as_bytes()).expect("it is listed")
}

#[test]
fn what_cannot_be_followed_is_said_with_its_line() {
    const UNKNOWN: &str = "Unrecognized sentinel configuration statement.";
    const NO_MASTER: &str = "No such master with specified name.";
    const NO_TIME: &str = "negative or zero time parameter.";
    for (line, reason) in [
        ("nosuch m 1", UNKNOWN),
        ("monitor m 10.0.0.1 6379", UNKNOWN),
        ("monitor n 10.0.0.1 6379 0", "Quorum must be 1 or greater."),
        ("monitor n host 6379 1", "Can't resolve instance hostname."),
        ("monitor n 10.0.0.1 65536 1", "Invalid port number."),
        ("monitor n 10.0.0.1 -1 1", "Invalid port number."),
        ("monitor m 10.0.0.1 1 1", "Duplicate master name."),
        ("down-after-milliseconds x 1", NO_MASTER),
        ("down-after-milliseconds m 0", NO_TIME),
        ("failover-timeout m -1", NO_TIME),
        ("failover-timeout m", UNKNOWN),
        ("notification-script m /no", "Notification script seems non existing or non executable."),
        (
            "client-reconfig-script m /no",
            "Client reconfiguration script seems non existing or non executable.",
        ),
        ("master-reboot-down-after-period m -1", "negative time parameter."),
        ("myid 123", "Malformed Sentinel id in myid option."),
        (
            "deny-scripts-reconfig x",
            "Please specify yes or no for the deny-scripts-reconfig options.",
        ),
        ("resolve-hostnames x", "Please specify yes or no for the resolve-hostnames option."),
        ("announce-hostnames x", "Please specify yes or no for the announce-hostnames option."),
        ("known-replica m host 1", "Can't resolve instance hostname."),
        ("known-replica m 10.0.0.2", UNKNOWN),
        ("known-sentinel m", UNKNOWN),
        (
            "rename-command m A B\nrename-command m a C",
            "Same command renamed multiple times with rename-command.",
        ),
        ("announce-ip 10.0.0.1 x", UNKNOWN),
    ] {
        let text = format!("monitor m 10.0.0.1 6379 2\n{line}");
        let refused = read(&text).err().map(|(_, reason)| reason);
        assert_eq!(refused, Some(reason), "{line}");
    }
    assert_eq!(read("monitor m 10.0.0.1 1 1\nmyid 1").err().map(|refused| refused.0), Some(1));
}

#[test]
fn what_was_written_reads_as_it_was() {
    let file = format!(
        "deny-scripts-reconfig no\nannounce-ip 10.0.0.9\nannounce-port 7\nsentinel-user u\n\
         sentinel-pass \"p \\\"w\"\ncurrent-epoch 9\n\
         monitor m 10.0.0.1 6379 2\ndown-after-milliseconds m 1000\nfailover-timeout m 5000\n\
         parallel-syncs m 4\nauth-pass m \"a \\xff\"\nauth-user m b\nconfig-epoch m 8\n\
         leader-epoch m 7\nmaster-reboot-down-after-period m 5\nknown-slave m 10.0.0.2 6380\n\
         known-replica m 10.0.0.2 6380\nknown-sentinel m 10.0.0.3 26379 {OTHER_ID}\n\
         known-sentinel m 10.0.0.3 26379 {OTHER_ID}\nknown-sentinel m 10.0.0.4 26379\n\
         rename-command m CONFIG \"x y\"\nmonitor n ::1 6390 1"
    )
    .replace("\\xff", "\\xc3\\xbf");
    let alone = Alone::new(&file);
    let lines = alone.file();
    let text: Vec<&str> = lines.iter().map(|line| &line["sentinel ".len()..]).collect();
    let mut again = Sentinel::new(Surroundings::default(), Prng::seeded(2));
    again.read(&lines_of(&text.join("\n"))).expect("it was written so");
    assert_eq!(again.lines(), alone.machine.lines());
    for line in [
        &format!("myid {MY_ID}"),
        "deny-scripts-reconfig no",
        "monitor m 10.0.0.1 6379 2",
        "auth-pass m \"a \\xc3\\xbf\"",
        "config-epoch m 8",
        "leader-epoch m 7",
        "rename-command m config \"x y\"",
        "current-epoch 9",
        "announce-ip 10.0.0.9",
        "sentinel-pass \"p \\\"w\"",
        "monitor n ::1 6390 1",
        "known-replica m 10.0.0.2 6380",
        &format!("known-sentinel m 10.0.0.3 26379 {OTHER_ID}"),
    ] {
        assert_eq!(text.iter().filter(|known| **known == line).count(), 1, "{line}: {text:?}");
    }
}

#[test]
fn who_has_no_id_gets_one_and_keeps_it() {
    let mut machine = read("monitor m 10.0.0.1 6379 1").unwrap_or_else(|_| panic!("it is sound"));
    machine.on(crate::sentinel::Event::Tick, Default::default());
    let id = machine.my_id().to_owned();
    assert_eq!(id.len(), 40);
    assert!(machine.take_actions().contains(&crate::sentinel::Action::Persist { generation: 1 }));
    assert_eq!(machine.lines()[0], ("sentinel myid", id.into_bytes()));
}
