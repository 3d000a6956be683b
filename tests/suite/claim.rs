//! Two servers in one directory: each AOF belongs to one of them, as long as that one lives.

use crate::answer::Answer;
use crate::client::Client;
use crate::server::{Server, wait_for};
use std::path::Path;

const LOG_ON: &str = "save \"\"\nappendonly yes";
const IN_USE: &str = "appendonlydir is in use by another server";

fn ok() -> Answer {
    Answer::Simple(b"OK".to_vec())
}

fn error(text: &str) -> Answer {
    Answer::Error(text.as_bytes().to_vec())
}

fn wait_for_info(client: &mut Client, line: &str) {
    wait_for(line, || {
        let Answer::Bulk(info) = client.run("INFO persistence") else { panic!("INFO answers") };
        String::from_utf8_lossy(&info).contains(line).then_some(())
    });
}

#[test]
fn a_second_server_does_not_start_on_an_aof_in_use() {
    let server = Server::with_file(LOG_ON);
    let mut client = server.connect();
    assert_eq!(client.run("SET k v"), ok());
    let before = std::fs::read(server.path("appendonlydir/appendonly.aof.1.incr.aof"));
    let (code, said) = server.beside(&["--appendonly", "yes"]).end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&server.path("appendonlydir")) && said.contains(IN_USE), "{said}");
    let after = std::fs::read(server.path("appendonlydir/appendonly.aof.1.incr.aof"));
    assert_eq!(before.expect("it is there"), after.expect("it is there"));
    assert_eq!(client.run("SET k w"), ok());
    // A kill leaves nothing that would keep the next one from it.
    let server = server.restart();
    let mut client = server.connect();
    let is_there = || (client.run("GET k") == Answer::Bulk(b"w".to_vec())).then_some(());
    wait_for("the log is loaded", is_there);
}

#[test]
fn aofs_with_names_of_their_own_may_share_a_directory() {
    let server = Server::with_file(LOG_ON);
    assert_eq!(server.connect().run("SET k first"), ok());
    let second = server.beside(&["--appendonly", "yes", "--appendfilename", "second.aof"]);
    assert_eq!(second.connect().run("SET k second"), ok());
    assert!(Path::new(&server.path("appendonlydir/second.aof.1.incr.aof")).exists());
    let third = server.beside(&["--appendonly", "yes", "--appenddirname", "third"]);
    assert_eq!(third.connect().run("SET k third"), ok());
    assert_eq!(server.connect().run("GET k"), Answer::Bulk(b"first".to_vec()));
}

#[test]
fn an_aof_is_switched_on_or_rewritten_only_by_who_may_have_it() {
    let server = Server::with_file(LOG_ON);
    let mut client = server.connect();
    let second = server.beside(&[]);
    let mut other = second.connect();
    let refused = error(
        "ERR CONFIG SET failed (possibly related to argument 'appendonly') - Unable to turn on \
         AOF. Check server logs.",
    );
    assert_eq!(other.run("CONFIG SET appendonly yes"), refused);
    assert_eq!(
        other.run("CONFIG GET appendonly"),
        Answer::Array(vec![Answer::Bulk(b"appendonly".to_vec()), Answer::Bulk(b"no".to_vec())])
    );
    assert_eq!(
        other.run("BGREWRITEAOF"),
        error(
            "ERR Can't execute an AOF background rewriting. Please check the server logs for more \
             information."
        )
    );
    // A change that fails elsewhere leaves no claim.
    let changes = "CONFIG SET appendonly yes dir /nowhere/at/all";
    assert!(matches!(other.run(changes), Answer::Error(_)));
    assert_eq!(client.run("CONFIG SET appendonly no"), ok());
    assert!(matches!(other.run(changes), Answer::Error(_)));
    assert_eq!(client.run("CONFIG SET appendonly yes"), ok());
    wait_for_info(&mut client, "aof_rewrite_in_progress:0");
    assert_eq!(other.run("CONFIG SET appendonly yes"), refused);
    assert_eq!(client.run("CONFIG SET appendonly no"), ok());
    assert_eq!(other.run("CONFIG SET appendonly yes"), ok());
    wait_for_info(&mut other, "aof_rewrite_in_progress:0");
    assert_eq!(client.run("CONFIG SET appendonly yes"), refused);
}

#[test]
fn a_start_beside_an_aof_in_use_tidies_nothing_up_in_it() {
    let server = Server::with_file(LOG_ON);
    server.connect();
    let unfinished = server.path("appendonlydir/temp-appendonly.aof.incr");
    std::fs::write(&unfinished, b"").expect("the directory is ours");
    server.beside(&[]).connect();
    assert!(Path::new(&unfinished).exists());
    drop(server.restart().connect());
    assert!(!Path::new(&unfinished).exists());
}

#[test]
fn the_directory_does_not_change_under_an_aof() {
    let server = Server::with_file("save \"\"\nenable-protected-configs yes");
    let mut client = server.connect();
    let elsewhere = server.path("elsewhere");
    std::fs::create_dir(&elsewhere).expect("there is room");
    let (go, back) =
        (format!("CONFIG SET dir {elsewhere}"), format!("CONFIG SET dir {}", server.path("")));
    assert_eq!(client.run("CONFIG SET appendonly yes"), ok());
    let refusal = error(
        "ERR CONFIG SET failed (possibly related to argument 'dir') - The append only file is in \
         use: switch it off first",
    );
    // While its first base is written, and when it is there.
    assert_eq!(client.run(&go), refusal);
    wait_for_info(&mut client, "aof_rewrite_in_progress:0");
    assert_eq!(client.run(&go), refusal);
    assert_eq!(client.run("SET k v"), ok());
    assert_eq!(client.run("CONFIG SET appendonly no"), ok());
    assert_eq!(client.run(&go), ok());
    assert_eq!(client.run("SAVE"), ok());
    assert!(Path::new(&elsewhere).join("dump.rdb").exists());
    // What is refused beside it, or cannot be done by the driver, leaves all as it was.
    let taken = crate::ports::taken();
    let port = taken.local_addr().expect("it is bound").port();
    for other in [format!("port {port}"), "maxclients 4294967295".to_owned()] {
        let all = format!("{back} appendonly yes {other}");
        assert!(matches!(client.run(&all), Answer::Error(_)), "{other}");
        assert_eq!(client.run("SAVE"), ok());
        assert!(!Path::new(&server.path("dump.rdb")).exists(), "{other}");
        assert!(!Path::new(&server.path("appendonlydir/appendonly.aof.2.base.rdb")).exists());
        wait_for_info(&mut client, "aof_enabled:0");
    }
    drop(taken);
    let all = format!("{back} appendonly yes port {port}");
    assert_eq!(client.run(&all), ok());
    wait_for_info(&mut client, "aof_enabled:1");
}
