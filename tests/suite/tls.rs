//! TLS, from outside: who is let in and by what, what goes through, and what breaks nothing.

use crate::answer::{Answer, encode};
use crate::client::Client;
use crate::ports;
use crate::server::{RUFOUS, Server, wait_for};
use crate::tls_client::{Dial, TlsClient, fixture};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};

/// A server that listens by TLS as well.
pub struct Secure {
    pub server: Server,
    pub port: u16,
}

pub fn start(directives: &[(&str, &str)]) -> Secure {
    start_as(RUFOUS, directives)
}

/// Starts a server with a port for TLS, and this instead of what is usual.
pub fn start_as(binary: &str, directives: &[(&str, &str)]) -> Secure {
    let port = ports::free();
    let usual = [
        ("tls-port", port.to_string()),
        ("tls-cert-file", fixture("server.crt")),
        ("tls-key-file", fixture("server.key")),
        ("tls-ca-cert-file", fixture("ca.crt")),
        ("logfile", "log".to_owned()),
    ];
    let is_usual = |name: &str| !directives.iter().any(|(own, _)| *own == name);
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in usual.iter().filter(|(name, _)| is_usual(name)) {
        all.push(((*name).to_owned(), value.clone()));
    }
    all.extend(directives.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Secure { server: Server::start(binary, &all), port }
}

impl Secure {
    pub fn connect(&self) -> TlsClient {
        TlsClient::connect(self.port, &Dial::default().ready())
    }

    fn is_served(&self, dial: Dial) -> bool {
        TlsClient::is_served(self.port, &dial.ready())
    }

    /// Changes directives by the plain port; the reply.
    fn set(&self, pairs: &[(&str, &str)]) -> String {
        let words = pairs.iter().flat_map(|(name, value)| [*name, *value]);
        let words: Vec<&str> = ["CONFIG", "SET"].into_iter().chain(words).collect();
        self.server.connect().call(&words).expect("it answers").print()
    }

    fn expect_set(&self, pairs: &[(&str, &str)]) {
        assert_eq!(self.set(pairs), "OK", "{pairs:?}");
    }

    /// Waits until the log has such a line.
    fn await_log(&self, part: &str) {
        wait_for(part, || self.server.file("log").contains(part).then_some(()));
    }

    fn info(&self, field: &str) -> Option<String> {
        info_of(&mut self.server.connect(), field)
    }
}

pub fn info_of(client: &mut Client, field: &str) -> Option<String> {
    let Some(Answer::Bulk(text)) = client.call(&["INFO", "everything"]) else { return None };
    let prefix = format!("{field}:");
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
}

fn ok() -> Answer {
    Answer::Simple(b"OK".to_vec())
}

fn bulk(bytes: &[u8]) -> Answer {
    Answer::Bulk(bytes.to_vec())
}

/// Few connections serve alike on the executor's thread and on others.
const THREADS: [&[(&str, &str)]; 2] = [&[], &[("io-threads", "3"), ("events-per-io-thread", "0")]];

#[test]
fn plain_and_secure_clients_are_served_side_by_side() {
    for threads in THREADS {
        let secure = start(threads);
        let mut by_tls = secure.connect();
        let mut plain = secure.server.connect();
        assert_eq!(by_tls.run("SET k v"), ok());
        assert_eq!(plain.run("GET k"), bulk(b"v"));
        let info = by_tls.run("INFO server").print();
        assert!(info.contains(&format!("listener2:name=tls,bind=127.0.0.1,port={}", secure.port)));
        let list = by_tls.run("CLIENT LIST").print();
        assert!(list.contains(&format!("addr={} ", by_tls.local_address())), "{list}");
        assert!(list.contains(&format!("laddr=127.0.0.1:{} ", secure.port)), "{list}");
        assert_eq!(secure.info("tls_handshakes"), Some("1".to_owned()));
    }
}

#[test]
fn both_versions_and_all_suites_are_spoken() {
    let secure =
        start(&[("tls-cert-file", &fixture("rsa.crt")), ("tls-key-file", &fixture("rsa.key"))]);
    for (version, suite) in [
        ("1.2", "RSA_WITH_AES_256_GCM"),
        ("1.2", "RSA_WITH_AES_128_GCM"),
        ("1.2", "RSA_WITH_CHACHA20"),
        ("1.3", "TLS13_AES_256_GCM"),
        ("1.3", "TLS13_AES_128_GCM"),
        ("1.3", "TLS13_CHACHA20"),
    ] {
        let dial = Dial::default().version(version).suites(&[suite]).ready();
        let mut client = TlsClient::connect(secure.port, &dial);
        assert_eq!(client.run("ECHO hello"), bulk(b"hello"));
        assert!(client.suite().contains(suite), "{}", client.suite());
    }
}

#[test]
fn requests_may_come_byte_by_byte_and_records_in_any_pieces() {
    let secure = start(&[]);
    let mut client = secure.connect();
    for byte in encode(&["SET", "key", "some value"]) {
        client.send(&[byte]);
    }
    assert_eq!(client.receive(), Some(ok()));
    assert_eq!(client.run("GET key"), bulk(b"some value"));
}

/// Sizes around those of records, of what is sealed at a time and of what is read at a time.
#[test]
fn requests_and_replies_of_all_sizes_cross() {
    const SIZES: [usize; 14] = [
        1, 16_000, 16_383, 16_384, 16_385, 32_768, 32_769, 65_535, 65_536, 65_537, 131_072,
        262_145, 1_000_000, 5_000_000,
    ];
    for threads in THREADS {
        let secure = start(threads);
        let mut client = secure.connect();
        let values: Vec<Vec<u8>> =
            SIZES.iter().map(|size| (0..*size).map(|at| (at % 251) as u8).collect()).collect();
        // All of it in one pipeline: replies fill the sockets while requests still come.
        for value in &values {
            client.queue(&encode(&[&b"SET"[..], b"k", value]));
            client.queue(&encode(&["GET", "k"]));
            client.queue(&encode(&[&b"ECHO"[..], value]));
        }
        for value in &values {
            assert_eq!(client.receive(), Some(ok()));
            for _ in 0..2 {
                let received = client.receive().expect("the connection lives");
                assert!(received == Answer::Bulk(value.clone()), "{} bytes", value.len());
            }
        }
    }
}

#[test]
fn long_pipelines_of_several_clients_are_answered_in_order() {
    const REQUESTS: usize = 20_000;
    for threads in THREADS {
        let secure = start(threads);
        std::thread::scope(|scope| {
            for number in 0..3 {
                let mut client = secure.connect();
                scope.spawn(move || {
                    let text = |index: usize| format!("{number}-{index}");
                    for index in 0..REQUESTS {
                        client.queue(&encode(&["ECHO", &text(index)]));
                    }
                    for index in 0..REQUESTS {
                        assert_eq!(client.receive(), Some(bulk(text(index).as_bytes())));
                    }
                });
            }
        });
    }
}

/// A client that asks for much and reads nothing is closed, and costs no more than its limit.
#[test]
fn clients_that_do_not_read_are_closed_at_their_limit() {
    for threads in THREADS {
        let limit = ("client-output-buffer-limit", "normal 5000000 0 0");
        let secure = start(&[threads, &[limit]].concat());
        let mut observer = secure.server.connect();
        observer.call(&["SET", "big", &"x".repeat(1_000_000)]);
        let mut client = secure.connect();
        client.send(&encode(&["GET", "big"]).repeat(40));
        wait_for("the client is closed", || {
            let closed = info_of(&mut observer, "client_output_buffer_limit_disconnections")?;
            (closed == "1").then_some(())
        });
        let received = client.receive_bytes(usize::MAX).len();
        assert!(received < 40_000_000, "{received}");
    }
}

#[test]
fn who_ends_is_told_so_and_who_is_ended_too() {
    for threads in THREADS {
        let secure = start(threads);
        let mut client = secure.connect();
        assert_eq!(client.run("QUIT"), ok());
        assert!(client.await_end(), "the server says that it ends");
        let mut client = secure.connect();
        client.send(&encode(&["SET", "last", "word"]));
        client.finish();
        assert_eq!(client.receive(), Some(ok()), "what came before the end is answered");
        let mut client = secure.connect();
        client.queue(&encode(&["SET", "other", "word"]));
        client.say_farewell();
        client.await_end();
        let mut observer = secure.server.connect();
        assert_eq!(observer.run("MGET last other"), Answer::Array(vec![bulk(b"word"); 2]));
        wait_for("nobody is left", || {
            (info_of(&mut observer, "connected_clients")? == "1").then_some(())
        });
        // One that ends without a word.
        let client = secure.connect();
        drop(client);
        wait_for("nobody is left", || {
            (info_of(&mut observer, "connected_clients")? == "1").then_some(())
        });
    }
}

// ------------------------------------------------------------------------------- who is let in

#[test]
fn a_certificate_may_say_who_its_client_is() {
    let secure = start(&[("tls-auth-clients", "optional")]);
    let mut plain = secure.server.connect();
    plain.run("ACL SETUSER alice on resetpass +acl|whoami");
    plain.run("ACL SETUSER urn:rufous:second on resetpass +acl|whoami");
    let who = |dial: Dial| TlsClient::connect(secure.port, &dial.ready()).run("ACL WHOAMI");
    assert_eq!(who(Dial::default()), bulk(b"default"));
    secure.expect_set(&[("tls-auth-clients-user", "CN")]);
    assert_eq!(who(Dial::default()), bulk(b"alice"));
    assert_eq!(who(Dial::default().version("1.2")), bulk(b"alice"));
    assert_eq!(who(Dial::anonymous()), bulk(b"default"));
    assert_eq!(who(Dial::with("nameless")), bulk(b"default"));
    secure.expect_set(&[("tls-auth-clients-user", "URI")]);
    assert_eq!(who(Dial::default()), bulk(b"urn:rufous:second"));
    plain.run("ACL DELUSER urn:rufous:second");
    assert_eq!(who(Dial::default()), bulk(b"default"));
    assert_eq!(secure.info("acl_access_denied_tls_cert").as_deref(), Some("1"));
}

#[test]
fn clients_are_asked_for_certificates_as_configured() {
    let secure = start(&[]);
    let answers = |secure: &Secure| {
        [
            Dial::default(),
            Dial::anonymous(),
            Dial::with("stranger"),
            Dial::with("expired"),
            Dial::with("server-only"),
            Dial::with("self"),
            Dial::with("nameless"),
        ]
        .map(|dial| secure.is_served(dial))
    };
    assert_eq!(answers(&secure), [true, false, false, false, false, false, true]);
    secure.expect_set(&[("tls-auth-clients", "optional")]);
    assert_eq!(answers(&secure), [true, true, false, false, false, false, true]);
    secure.expect_set(&[("tls-auth-clients", "no")]);
    assert_eq!(answers(&secure), [true; 7]);
    secure
        .expect_set(&[("tls-auth-clients", "yes"), ("tls-ca-cert-file", &fixture("other-ca.crt"))]);
    assert_eq!(answers(&secure), [false, false, true, false, false, false, false]);
    // One that signs itself and is for everything.
    secure.expect_set(&[("tls-ca-cert-file", &fixture("self.crt"))]);
    assert_eq!(answers(&secure), [false, false, false, false, false, true, false]);
    let failed: u64 =
        secure.info("tls_handshakes_failed").expect("it is there").parse().unwrap_or(0);
    assert!(failed >= 20, "{failed}");
    let log = secure.server.file("log");
    assert!(log.contains("Error accepting a client connection: "), "{log}");
    assert!(log.contains(&format!(" laddr=127.0.0.1:{})", secure.port)), "{log}");
}

#[test]
fn protocols_and_ciphers_are_as_configured() {
    let secure =
        start(&[("tls-cert-file", &fixture("rsa.crt")), ("tls-key-file", &fixture("rsa.key"))]);
    let versions = |secure: &Secure| {
        ["1.2", "1.3"].map(|version| secure.is_served(Dial::default().version(version)))
    };
    assert_eq!(versions(&secure), [true, true]);
    secure.expect_set(&[("tls-protocols", "TLSv1.2")]);
    assert_eq!(versions(&secure), [true, false]);
    secure.expect_set(&[("tls-protocols", "tlsv1.3")]);
    assert_eq!(versions(&secure), [false, true]);
    secure.expect_set(&[("tls-protocols", "")]);
    assert_eq!(versions(&secure), [true, true]);

    let suite = |parts: &[&str]| {
        let dial = Dial::default().version("1.2").suites(parts).ready();
        TlsClient::try_connect(secure.port, &dial).map(|client| client.suite())
    };
    secure.expect_set(&[("tls-ciphers", "ECDHE-RSA-AES256-GCM-SHA384:AES128-SHA")]);
    assert_eq!(suite(&["AES_128"]), None);
    assert!(suite(&["AES_256"]).is_some());
    secure
        .expect_set(&[("tls-ciphers", "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256")]);
    let both = ["RSA_WITH_AES_128_GCM", "RSA_WITH_AES_256_GCM"];
    assert!(suite(&both).is_some_and(|suite| suite.contains("AES_128")));
    secure.expect_set(&[("tls-prefer-server-ciphers", "yes")]);
    assert!(suite(&both).is_some_and(|suite| suite.contains("AES_256")));
    secure.expect_set(&[("tls-ciphersuites", "TLS_AES_128_GCM_SHA256")]);
    let new = |part| secure.is_served(Dial::default().version("1.3").suites(&[part]));
    assert_eq!([new("AES_256"), new("AES_128")], [false, true]);
    let log = secure.server.file("log");
    assert!(
        log.contains("Ciphers that this server does not have are ignored: AES128-SHA"),
        "{log}"
    );
}

#[test]
fn sessions_are_taken_up_again() {
    let secure = start(&[("tls-auth-clients", "optional")]);
    for version in ["1.2", "1.3"] {
        for dial in [Dial::default(), Dial::anonymous()] {
            let dial = dial.version(version).ready();
            let connect = || {
                let mut client = TlsClient::connect(secure.port, &dial);
                // What a session is taken up by comes after the handshake.
                assert_eq!(client.run("ECHO x"), bulk(b"x"));
                client.is_resumed()
            };
            assert_eq!([connect(), connect(), connect()], [false, true, true], "{version}");
            secure.expect_set(&[("tls-cert-file", &fixture("server.crt"))]);
            assert!(connect(), "reading certificates anew ends no session");
            secure.expect_set(&[("tls-auth-clients", "yes")]);
            let is_served = TlsClient::is_served(secure.port, &dial);
            secure.expect_set(&[("tls-auth-clients", "optional")]);
            assert!(!connect() || !is_served, "what is asked of clients has changed");
            secure.expect_set(&[("tls-session-caching", "no")]);
            assert_eq!([connect(), connect()], [false, false]);
            secure.expect_set(&[("tls-session-caching", "yes")]);
        }
    }
    assert!(secure.info("tls_handshakes_resumed").is_some_and(|count| count != "0"));
}

// --------------------------------------------------------------------------- changes, and errors

#[test]
fn certificates_are_read_anew_under_open_connections() {
    let secure = start(&[]);
    let mut old = secure.connect();
    assert!(old.was_shown("server"));
    let pair = |name: &str| [fixture(&format!("{name}.crt")), fixture(&format!("{name}.key"))];
    let [certificate, key] = pair("renewed");
    secure.expect_set(&[("tls-cert-file", &certificate), ("tls-key-file", &key)]);
    assert!(secure.connect().was_shown("renewed"));
    assert_eq!(old.run("PING"), Answer::Simple(b"PONG".to_vec()));
    let refused = "ERR CONFIG SET failed (possibly related to argument 'tls-cert-file') - Unable \
                   to update TLS configuration. Check server logs.";
    for (name, line) in [
        (fixture("client.crt"), "renewed.key: key values mismatch"),
        (fixture("none"), "none: No such file or directory"),
        (fixture("server.key"), "server.key: no certificate found"),
        (String::new(), "No tls-cert-file configured!"),
    ] {
        assert!(secure.set(&[("tls-cert-file", &name)]).contains(refused), "{name}");
        secure.await_log(line);
        assert!(secure.connect().was_shown("renewed"), "{name}");
        let kept = secure.server.connect().run("CONFIG GET tls-cert-file").print();
        assert!(kept.contains(&certificate), "{kept}");
    }
    let plain = secure.set(&[("tls-protocols", "SSLv3"), ("maxclients", "77")]);
    assert!(plain.contains("'tls-protocols') - Unable to update TLS configuration."), "{plain}");
    let kept = secure.server.connect().run("CONFIG GET maxclients").print();
    assert!(kept.contains("10000"), "all or nothing: {kept}");
    let [certificate, key] = pair("rsa");
    let reply = old.call(&["CONFIG", "SET", "tls-cert-file", &certificate, "tls-key-file", &key]);
    assert_eq!(reply, Some(ok()), "by a connection that began with others");
    assert!(secure.connect().was_shown("rsa"));
}

/// Opening a pipe waits for somebody who writes to it, and nobody does.
#[test]
fn a_pipe_in_the_place_of_a_file_holds_nobody_up() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let secure = start(&[]);
    let pipe = secure.server.path("pipe");
    mknodat(CWD, &*pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("it can be made");
    for name in ["tls-cert-file", "tls-key-file", "tls-ca-cert-file"] {
        let refused = secure.set(&[(name, &pipe)]);
        assert!(refused.contains("Unable to update TLS configuration."), "{refused}");
    }
    secure.await_log("pipe: not a regular file");
    // Among others in a directory it is passed over.
    secure.expect_set(&[("tls-ca-cert-dir", &secure.server.path(""))]);
    assert!(secure.is_served(Dial::default()));
}

#[test]
fn encrypted_keys_want_their_passphrase() {
    let secure = start(&[]);
    let encrypted = fixture("server-pbkdf2.key");
    let refused = secure.set(&[("tls-key-file", &encrypted)]);
    assert!(refused.contains("Unable to update TLS configuration"), "{refused}");
    let refused = secure.set(&[("tls-key-file", &encrypted), ("tls-key-file-pass", "wrong")]);
    assert!(refused.contains("Unable to update TLS configuration"), "{refused}");
    secure.expect_set(&[("tls-key-file-pass", "secret")]);
    secure.expect_set(&[("tls-key-file", &encrypted)]);
    assert!(secure.is_served(Dial::default()));
    assert!(!secure.server.file("log").contains("secret"));
}

#[test]
fn the_port_is_opened_moved_and_closed() {
    let secure = start(&[("tls-port", "0")]);
    let plain = secure.server.port;
    let [first, second] = [ports::free(), ports::free()];
    let is_secure = |port| TlsClient::is_served(port, &Dial::default().ready());
    secure.expect_set(&[("tls-port", &first.to_string())]);
    assert!(is_secure(first));
    let mut by_tls = TlsClient::connect(first, &Dial::default().ready());
    secure.expect_set(&[("tls-port", &second.to_string())]);
    assert!(is_secure(second) && !is_secure(first));
    assert_eq!(by_tls.run("PING"), Answer::Simple(b"PONG".to_vec()), "who is in stays");
    let taken = ports::taken();
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let refused = secure.set(&[("tls-port", &port)]);
    assert!(refused.contains("'tls-port') - Unable to listen on this port."), "{refused}");
    assert!(is_secure(second));
    // The ports change places, at once.
    let (plain_text, second_text) = (plain.to_string(), second.to_string());
    let swap = ["CONFIG", "SET", "port", &second_text, "tls-port", &plain_text];
    assert_eq!(by_tls.call(&swap), Some(ok()));
    assert!(is_secure(plain));
    assert!(Client::connect(second).is_ok_and(|mut client| client.call(&["PING"]).is_some()));
    assert_eq!(by_tls.run("CONFIG SET port 0"), ok());
    assert!(Client::connect(second).is_err(), "TLS only");
    let back = ["CONFIG", "SET", "port", &plain_text, "tls-port", "0"];
    assert_eq!(by_tls.call(&back), Some(ok()));
    assert!(Client::connect(plain).is_ok_and(|mut client| client.call(&["PING"]).is_some()));
}

/// What TLS would be spoken with is only kept as long as nobody speaks it.
#[test]
fn without_a_port_nothing_is_read() {
    let secure = start(&[("tls-port", "0"), ("tls-cert-file", "/none")]);
    secure.expect_set(&[("tls-cert-file", "/nowhere"), ("tls-protocols", "nonsense")]);
    let port = ports::free().to_string();
    let refused = secure.set(&[("tls-port", &port)]);
    assert!(refused.contains("'tls-port') - Unable to update TLS configuration."), "{refused}");
    secure.expect_set(&[
        ("tls-port", &port),
        ("tls-cert-file", &fixture("server.crt")),
        ("tls-protocols", ""),
    ]);
    let mut client = secure.server.connect();
    assert_eq!(client.run("MULTI"), ok());
    client.run("CONFIG SET tls-protocols TLSv1.2");
    let refused = client.run("EXEC").print();
    assert!(refused.contains("TLS cannot be configured inside a transaction"), "{refused}");
}

#[test]
fn files_that_are_replaced_are_read_by_themselves() {
    let own = Server::rufous();
    let (certificate, key) = (own.path("own.crt"), own.path("own.key"));
    let put = |name: &str, path: &str| {
        // As tools do it: the file is there as a whole, or is not.
        let new = format!("{path}.new");
        std::fs::copy(fixture(name), &new).expect("the directory is ours");
        std::fs::rename(&new, path).expect("the directory is ours");
    };
    put("server.crt", &certificate);
    put("server.key", &key);
    let interval = ("tls-auto-reload-interval", "1");
    let secure = start(&[("tls-cert-file", &certificate), ("tls-key-file", &key), interval]);
    assert!(secure.connect().was_shown("server"));
    put("renewed.crt", &certificate);
    secure.await_log("own.key: key values mismatch");
    assert!(secure.connect().was_shown("server"), "half of a pair changes nothing");
    put("renewed.key", &key);
    wait_for("the new certificate is shown", || {
        secure.connect().was_shown("renewed").then_some(())
    });
    secure.await_log("TLS files have changed: they are used for new connections from now on");
}

#[test]
fn a_server_that_cannot_speak_tls_does_not_start() {
    let all = [
        ("tls-cert-file", fixture("server.crt")),
        ("tls-key-file", fixture("server.key")),
        ("tls-ca-cert-file", fixture("ca.crt")),
    ];
    for (name, value, line) in [
        ("tls-cert-file", String::new(), "No tls-cert-file configured!"),
        ("tls-key-file", fixture("client.key"), "key values mismatch"),
        ("tls-ca-cert-file", String::new(), "Either tls-ca-cert-file or tls-ca-cert-dir must be"),
        ("tls-protocols", "SSLv2".to_owned(), "Invalid tls-protocols specified."),
        ("tls-ciphers", "RC4".to_owned(), "Failed to configure ciphers: RC4"),
    ] {
        let mut command = Command::new(RUFOUS);
        command.args(["--port", "0", "--tls-port", &ports::free().to_string(), "--save", ""]);
        for (own, usual) in all.iter().filter(|(own, _)| *own != name) {
            command.args([&format!("--{own}"), usual]);
        }
        command.args([&format!("--{name}"), &value]).stdin(Stdio::null());
        let output = command.output().expect("the binary can be run");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(line), "{said}");
        assert!(said.contains("Failed to configure TLS. Check logs for more info."), "{said}");
    }
}

// --------------------------------------------------------------------------- what breaks nothing

fn raw(port: u16) -> TcpStream {
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let stream = stream.expect("the server listens");
    let wait = Some(std::time::Duration::from_secs(20));
    stream.set_read_timeout(wait).expect("it is a socket");
    stream
}

/// What comes until the connection ends.
fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it does not end"),
        _ => bytes,
    }
}

#[test]
fn plain_clients_are_told_that_they_are() {
    let secure = start(&[]);
    let hint = "Bad TLS header, double check if you enabled TLS for your client.";
    for request in [encode(&["PING"]), b"PING\r\n".to_vec(), vec![0; 100_000], b"\x16\x02".to_vec()]
    {
        let mut stream = raw(secure.port);
        let _ = stream.write_all(&request);
        let _ = stream.shutdown(Shutdown::Write);
        assert_eq!(String::from_utf8_lossy(&read_all(&mut stream)), format!("-ERR {hint}\r\n"));
    }
    let mut client = Client::connect(secure.port).expect("the server listens");
    assert_eq!(client.call(&["PING"]), Some(Answer::Error(format!("ERR {hint}").into_bytes())));
    secure.await_log("Error accepting a client connection: the client does not speak TLS (addr=");
    assert!(secure.is_served(Dial::default()));
}

#[test]
fn a_hello_on_the_plain_port_is_closed_and_logged_once() {
    for threads in THREADS {
        let secure = start(threads);
        for _ in 0..20 {
            assert!(TlsClient::try_connect(secure.server.port, &Dial::default().ready()).is_none());
        }
        secure.await_log("A client speaks TLS on a port without it");
        let lines = secure.server.file("log").matches("A client speaks TLS").count();
        assert!(lines < 20, "{lines}");
        let mut stream = raw(secure.server.port);
        stream.write_all(b"\x16\x03\x01").expect("it is connected");
        assert_eq!(read_all(&mut stream), b"", "nothing is waited for, and nothing said");
    }
}

/// A hello as rustls writes it.
fn hello() -> Vec<u8> {
    let listener = ports::taken();
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::scope(|scope| {
        scope.spawn(move || TlsClient::try_connect(port, &Dial::default().ready()).is_none());
        let (mut stream, _) = listener.accept().expect("somebody connects");
        let mut bytes = vec![0; 4096];
        let count = stream.read(&mut bytes).expect("it says hello");
        bytes.truncate(count);
        bytes
    })
}

#[test]
fn broken_hellos_end_their_own_connections_only() {
    let secure = start(&[]);
    let mut other = secure.connect();
    let whole = hello();
    for end in (0..whole.len()).step_by(7) {
        let mut stream = raw(secure.port);
        stream.write_all(&whole[..end]).expect("it is connected");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        read_all(&mut stream);
    }
    for at in 0..whole.len() {
        let mut broken = whole.clone();
        broken[at] ^= 0xff;
        let mut stream = raw(secure.port);
        let _ = stream.write_all(&broken);
        let _ = stream.shutdown(Shutdown::Write);
        read_all(&mut stream);
    }
    let huge = [&b"\x16\x03\x01\x40\x00\x01\x00\xff\xff"[..], &vec![0; 100_000]].concat();
    let many = b"\x16\x03\x01\x00\x00".repeat(5000);
    for bytes in [huge, many, b"\x16\x03\x01\xff\xff".to_vec()] {
        let mut stream = raw(secure.port);
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        read_all(&mut stream);
    }
    assert_eq!(other.run("PING"), Answer::Simple(b"PONG".to_vec()));
    assert!(secure.is_served(Dial::default()));
    let mut observer = secure.server.connect();
    wait_for("nobody else is left", || {
        (info_of(&mut observer, "connected_clients")? == "2").then_some(())
    });
}

/// Clients that are cut off after any number of bytes, in the handshake and behind it.
#[test]
fn a_client_may_be_cut_off_anywhere() {
    for threads in THREADS {
        let secure = start(threads);
        let dial = Dial::default().ready();
        for end in (0..3000).step_by(37) {
            if let Some(mut client) = TlsClient::try_connect_and_cut(secure.port, &dial, end) {
                client.send(&encode(&["SET", "k", &"v".repeat(500)]));
            }
        }
        let mut observer = secure.server.connect();
        wait_for("nobody is left", || {
            (info_of(&mut observer, "connected_clients")? == "1").then_some(())
        });
        assert!(secure.is_served(Dial::default()));
    }
}

#[test]
fn records_that_are_none_end_the_connection() {
    for threads in THREADS {
        let secure = start(threads);
        for junk in [
            &b"PING\r\n"[..],
            b"\x17\x03\x03\x00\x20................................",
            b"\x17\x03\x03\x00\x00",
            b"\x17\x03\x03\xff\xff",
            b"\x16\x03\x03\x00\x04\x00\x00\x00\x00",
            b"\x14\x03\x03\x00\x01\x01",
        ] {
            for version in ["1.2", "1.3"] {
                let dial = Dial::default().version(version).ready();
                let mut client = TlsClient::connect(secure.port, &dial);
                assert_eq!(client.run("SET k v"), ok());
                client.send_raw(junk);
                client.send_raw(&[0x17; 64]);
                client.await_end();
            }
        }
        assert!(secure.is_served(Dial::default()));
    }
}

/// More connections that say nothing than may shake hands at a time keep nobody out.
#[test]
fn silent_connections_keep_nobody_out() {
    const SILENT: usize = 1500;
    let secure = start(&[]);
    let silent: Vec<TcpStream> = (0..SILENT).map(|_| raw(secure.port)).collect();
    for _ in 0..5 {
        assert!(secure.is_served(Dial::default()));
    }
    drop(silent);
    let few = start(&[("maxclients", "3")]);
    let silent: Vec<TcpStream> = (0..20).map(|_| raw(few.port)).collect();
    let mut client = few.connect();
    assert_eq!(client.run("PING"), Answer::Simple(b"PONG".to_vec()));
    drop(silent);
}

#[test]
fn clients_beyond_the_limit_are_told_so() {
    let secure = start(&[("maxclients", "2")]);
    let mut first = secure.connect();
    let mut second = secure.connect();
    assert_eq!(first.run("PING"), second.run("PING"));
    let mut stream = raw(secure.port);
    let said = read_all(&mut stream);
    assert_eq!(String::from_utf8_lossy(&said), "-ERR max number of clients reached\r\n");
}
