//! Users as files hold them: at the start, while the server runs, and back again. And what a server
//! says that is open to strangers.

use crate::answer::Answer;
use crate::client::Client;
use crate::server::{RUFOUS, Server};
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn ok() -> Answer {
    Answer::Simple(b"OK".to_vec())
}

/// A file of users in a directory of its own, which goes with it.
struct UserFile {
    directory: PathBuf,
}

impl UserFile {
    fn new(text: &str) -> UserFile {
        let number = crate::ports::free();
        let directory = std::env::temp_dir().join(format!("rufous-users-{number}"));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
        let file = UserFile { directory };
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.directory.join("users.acl")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).expect("the directory is ours");
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).expect("it was written")
    }

    fn directive(&self) -> String {
        format!("aclfile {}\n", self.path().display())
    }

    fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(&self.directory).expect("it is there");
        let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        names.map(|entry| name(entry.expect("it can be read"))).collect()
    }
}

impl Drop for UserFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn text(answer: &Answer) -> String {
    match answer {
        Answer::Bulk(bytes) | Answer::Simple(bytes) | Answer::Error(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        other => other.print(),
    }
}

fn list(client: &mut Client) -> String {
    let Answer::Array(users) = client.run("ACL LIST") else { panic!("it lists users") };
    users.iter().map(|user| text(user) + "\n").collect()
}

const ALICE: &str = concat!(
    "user alice on sanitize-payload ",
    "#2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90 ~* &* +@all\n",
);
const DEFAULT: &str = "user default on nopass sanitize-payload ~* &* +@all\n";

#[test]
fn users_come_from_their_file_and_go_back_into_it() {
    let file = UserFile::new("user alice on >alice allkeys &* allcommands\n\n");
    let server = Server::with_file(&file.directive());
    let mut client = server.connect();
    assert_eq!(list(&mut client), format!("{ALICE}{DEFAULT}"));
    assert_eq!(client.run("ACL SETUSER bob on nopass ~b* (%R~c* +get)"), ok());
    assert_eq!(client.run("ACL SAVE"), ok());
    let saved = file.text();
    assert_eq!(saved, list(&mut client));
    assert_eq!(file.names(), ["users.acl"], "nothing is left beside it");
    assert_eq!(client.run("ACL SETUSER alice off"), ok());
    assert_eq!(client.run("ACL LOAD"), ok());
    assert_eq!(list(&mut client), saved);
    // The configuration has nothing to do with it.
    assert_eq!(client.run("CONFIG REWRITE"), ok());
    assert!(!server.config_file().contains("\nuser "), "{}", server.config_file());
    let server = server.restart();
    let mut client = server.connect();
    assert_eq!(list(&mut client), saved);
    assert_eq!(client.run("AUTH alice alice"), ok());
}

#[test]
fn who_may_read_the_file_stays_as_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let file = UserFile::new(DEFAULT);
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(file.path(), mode).expect("it is ours");
    let server = Server::with_file(&file.directive());
    assert_eq!(server.connect().run("ACL SAVE"), ok());
    let mode = std::fs::metadata(file.path()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_with_a_fault_changes_nothing() {
    let file = UserFile::new(ALICE);
    let server = Server::with_file(&file.directive());
    let mut client = server.connect();
    let before = list(&mut client);
    for (bad, told) in [
        (format!("{ALICE}user bob on\nuser alice off\n"), "Duplicate user 'alice' found on line 3"),
        (format!("user bob on\n{}", &ALICE[..60]), "must be exactly 64 characters"),
        ("user bob on +nosuch".to_owned(), "Error in applying operation '+nosuch'"),
        ("nobody".to_owned(), "should start with user keyword"),
    ] {
        file.write(&bad);
        let reply = client.run("ACL LOAD");
        assert!(text(&reply).contains(told), "{reply:?}");
        assert_eq!(list(&mut client), before);
    }
    std::fs::remove_file(file.path()).expect("it is there");
    let reply = text(&client.run("ACL LOAD"));
    assert!(reply.starts_with("ERR Error loading ACLs, opening file '"), "{reply}");
    assert!(reply.ends_with("': No such file or directory"), "{reply}");
    assert_eq!(list(&mut client), before);
}

#[test]
fn loading_cuts_off_who_is_gone_or_hears_too_much_and_nobody_else() {
    let file = UserFile::new(&format!("{ALICE}{DEFAULT}"));
    let server = Server::with_file(&file.directive());
    let mut admin = server.connect();
    for line in [
        "ACL SETUSER doug on nopass resetchannels &test* +@all ~*",
        "ACL SETUSER gone on nopass +@all ~* &*",
    ] {
        assert_eq!(admin.run(line), ok());
    }
    let login = |line: &str, then: &[&str]| {
        let mut client = server.connect();
        assert_eq!(client.run(line), ok());
        for line in then {
            client.run(line);
        }
        client
    };
    let mut alice = login("AUTH alice alice", &["SUBSCRIBE test1"]);
    let mut doug = login("AUTH doug x", &["SUBSCRIBE test1"]);
    let mut quiet = login("AUTH doug x", &[]);
    let mut gone = login("AUTH gone x", &["MONITOR"]);
    let mut blocked = login("AUTH gone x", &[]);
    blocked.send(b"BLPOP l 0\r\n");
    file.write(&format!("{ALICE}user doug on nopass ~* &other +@all\n"));
    let mut last = login("AUTH gone x", &[]);
    // Who is gone by what it did itself is answered first.
    assert_eq!(last.run("ACL LOAD"), ok());
    assert_eq!(last.receive(), None);
    for client in [&mut doug, &mut blocked] {
        assert_eq!(client.receive(), None);
    }
    let (_, has_ended) = gone.receive_raw(|_| false);
    assert!(has_ended);
    assert_eq!(quiet.run("PING"), Answer::Simple(b"PONG".to_vec()));
    assert_eq!(admin.run("PUBLISH test1 hello"), Answer::Integer(1));
    assert!(alice.receive().is_some());
}

#[test]
fn users_of_the_configuration_are_rewritten_into_it() {
    let server = Server::with_file(
        "user default on nopass ~* +@all -flushdb\nuser \"a\\\"b\" on >x \"~'k\" +get (~y +set )\n",
    );
    let mut client = server.connect();
    assert!(text(&client.run("FLUSHDB")).starts_with("NOPERM "));
    assert!(text(&client.run("SUBSCRIBE c")).starts_with("NOPERM "), "no channel was named");
    assert_eq!(client.run("ACL SETUSER new on >y %R~z +@read db=1"), ok());
    let before = list(&mut client);
    assert_eq!(client.run("CONFIG REWRITE"), ok());
    let written = server.config_file();
    let server = server.restart();
    let mut client = server.connect();
    assert_eq!(list(&mut client), before, "{written}");
    assert_eq!(client.run("CONFIG REWRITE"), ok());
    assert_eq!(server.config_file(), written);
}

/// What a server says that does not start: its exit code, and its log and its complaints.
fn refusal(arguments: &[&str]) -> String {
    let mut command = Command::new(RUFOUS);
    command.args(arguments).args(["--save", "", "--port", "0"]).stdin(Stdio::null());
    let output = command.output().expect("the binary can be run");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_server_with_wrong_users_does_not_start_and_says_why() {
    let file = UserFile::new("user a on\nuser a off\n");
    let path = file.path().display().to_string();
    let missing = format!("{path}.not");
    for (arguments, told) in [
        (
            &["--user", "foo", "--user", "foo"][..],
            "Error in user declaration 'foo': Duplicate user",
        ),
        (&["--user", "default", "--user", "default"], "Duplicate user found."),
        (&["--user", "a", "on", "%x"], "Error in user declaration '%x': Syntax error"),
        (&["--user", "a", "(+get"], "Unmatched parenthesis in selector definition"),
        (
            &["--user", "a", "+nosuch"],
            "Error loading ACL rule '+nosuch' for the user named 'a': Unknown command or category \
             name in ACL",
        ),
        (&["--user", "a", "+nosuch"], "Critical error while loading ACLs. Exiting."),
        (&["--user", "a", "on", "--aclfile", &path], "Configuring Redis with users defined in"),
        (&["--aclfile", &path], "Aborting Redis startup because of ACL errors: WARNING: Duplicate"),
        (&["--aclfile", &missing], "Error loading ACLs, opening file '"),
    ] {
        let said = refusal(arguments);
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
    let said = refusal(&["--user", "a", ">hidden", "#hidden"]);
    assert!(said.contains(">>> 'user a (redacted) (redacted)'"), "{said}");
    assert!(!said.contains("hidden"), "{said}");
}

#[test]
fn users_come_from_the_command_line() {
    let user = ("user".to_owned(), "default on >secret ~* &* +@all".to_owned());
    let server = Server::start(RUFOUS, &[user]);
    let mut client = server.connect();
    assert!(text(&client.run("PING")).starts_with("NOAUTH "));
    assert_eq!(client.run("AUTH secret"), ok());
}
