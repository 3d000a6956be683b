//! A client that speaks TLS, and lets a test see and spoil what it sends.
//!
//! It writes and reads at the same time, so that requests and replies of any size may cross. Every
//! wait has an end.

use crate::answer::{self, Answer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long anything may take.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Where the certificates of the tests are.
pub fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// How a client is to connect.
pub struct Dial {
    /// The name of its certificate, and that of its authority.
    certificate: Option<&'static str>,
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: CryptoProvider,
}

impl Default for Dial {
    fn default() -> Dial {
        Dial {
            certificate: Some("client"),
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
            provider: ring::default_provider(),
        }
    }
}

impl Dial {
    /// Shows no certificate.
    pub fn anonymous() -> Dial {
        Dial { certificate: None, ..Dial::default() }
    }

    pub fn with(certificate: &'static str) -> Dial {
        Dial { certificate: Some(certificate), ..Dial::default() }
    }

    /// Speaks only this version: `1.2` or `1.3`.
    pub fn version(self, version: &str) -> Dial {
        let known = [("1.2", &rustls::version::TLS12), ("1.3", &rustls::version::TLS13)];
        let versions = known.into_iter().filter(|(name, _)| *name == version);
        Dial { versions: versions.map(|(_, version)| version).collect(), ..self }
    }

    /// Offers only suites whose names contain one of these, in this order.
    pub fn suites(mut self, parts: &[&str]) -> Dial {
        let all = std::mem::take(&mut self.provider.cipher_suites);
        let fits = |part: &&str, suite: &rustls::SupportedCipherSuite| {
            format!("{:?}", suite.suite()).contains(*part)
        };
        let chosen =
            parts.iter().flat_map(|part| all.iter().filter(move |suite| fits(part, suite)));
        self.provider.cipher_suites = chosen.copied().collect();
        self
    }

    /// What connections are made with; those of one share their sessions.
    pub fn ready(self) -> Arc<ClientConfig> {
        let provider = Arc::new(self.provider);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&self.versions).expect("they are known");
        let roots = Arc::new(authorities());
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let check = Arc::new(Check(inner.build().expect("there are authorities")));
        let builder = builder.dangerous().with_custom_certificate_verifier(check);
        let mut config = match self.certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = PrivateKeyDer::from_pem_file(fixture(&format!("{name}.key")));
                let key = provider.key_provider.load_private_key(key.expect("it is a key"));
                let pair = CertifiedKey::new(vec![certificate(name)], key.expect("it is of use"));
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
            }
        };
        config.resumption = Resumption::in_memory_sessions(16);
        Arc::new(config)
    }
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(fixture(&format!("{name}.crt"))).expect("it is a certificate")
}

fn authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for name in ["ca", "other-ca"] {
        roots.add(certificate(name)).expect("it may sign");
    }
    roots
}

/// Certificates that sign others, or are of version 1, are none of ours to refuse.
#[derive(Debug)]
struct Check(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

pub struct TlsClient {
    socket: TcpStream,
    session: ClientConnection,
    input: Vec<u8>,
    /// How many more bytes of records may leave; then the connection is cut.
    may_send: usize,
    ended: bool,
}

impl TlsClient {
    /// Connects and shakes hands; nothing if the server does not want to.
    pub fn try_connect(port: u16, config: &Arc<ClientConfig>) -> Option<TlsClient> {
        TlsClient::try_connect_and_cut(port, config, usize::MAX)
    }

    /// The same of a client that is cut off when it has sent so many bytes, of records, that is.
    pub fn try_connect_and_cut(
        port: u16,
        config: &Arc<ClientConfig>,
        may_send: usize,
    ) -> Option<TlsClient> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = TcpStream::connect_timeout(&address, WAIT_MAX).ok()?;
        socket.set_nodelay(true).expect("it is connected");
        socket.set_nonblocking(true).expect("it is a socket");
        let name = ServerName::try_from("localhost").expect("it is a name");
        let session = ClientConnection::new(Arc::clone(config), name).expect("it is configured");
        let mut client = TlsClient { socket, session, input: Vec::new(), may_send, ended: false };
        client.session.set_buffer_limit(None);
        client.drive(|client| !client.session.is_handshaking() && !client.session.wants_write());
        (!client.session.is_handshaking()).then_some(client)
    }

    pub fn connect(port: u16, config: &Arc<ClientConfig>) -> TlsClient {
        TlsClient::try_connect(port, config).expect("the server shakes hands")
    }

    /// Writes and reads until there is enough; false if the connection ended first.
    fn drive(&mut self, enough: impl Fn(&TlsClient) -> bool) -> bool {
        let start = Instant::now();
        while !enough(self) {
            if self.ended {
                return false;
            }
            assert!(start.elapsed() < WAIT_MAX, "waited {WAIT_MAX:?} in vain");
            let wanted = match self.session.wants_write() {
                true => PollFlags::IN | PollFlags::OUT,
                false => PollFlags::IN,
            };
            let short = Timespec { tv_sec: 1, tv_nsec: 0 };
            let mut watched = [PollFd::new(&self.socket, wanted)];
            poll(&mut watched, Some(&short)).expect("it can be polled");
            if self.exchange().is_err() {
                self.ended = true;
            }
        }
        true
    }

    fn exchange(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            let mut cut = Cut { socket: &self.socket, may_send: &mut self.may_send };
            match self.session.write_tls(&mut cut) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                written => written?,
            };
        }
        loop {
            let read = match self.session.read_tls(&mut self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                read => read?,
            };
            let processed = self.session.process_new_packets();
            let mut bytes = [0; 16 * 1024];
            loop {
                match self.session.reader().read(&mut bytes) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(count) => self.input.extend_from_slice(&bytes[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            processed.map_err(io::Error::other)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Has bytes sent by and by, while something is read.
    pub fn queue(&mut self, bytes: &[u8]) {
        // A session that the server has ended takes nothing.
        let _ = self.session.writer().write_all(bytes);
    }

    /// Sends bytes; a peer that has hung up is noticed when reading.
    pub fn send(&mut self, bytes: &[u8]) {
        self.queue(bytes);
        self.drive(|client| !client.session.wants_write());
    }

    /// Sends bytes that are no records.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.set_nonblocking(false).expect("it is a socket");
        let _ = self.socket.write_all(bytes);
        self.socket.set_nonblocking(true).expect("it is a socket");
    }

    /// Tells the server that nothing more comes, as TLS does it.
    pub fn say_farewell(&mut self) {
        self.session.send_close_notify();
        self.drive(|client| !client.session.wants_write());
    }

    /// The same without a word.
    pub fn finish(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// The next reply; nothing when the connection ended.
    pub fn receive(&mut self) -> Option<Answer> {
        self.drive(|client| answer::read(&client.input).is_some());
        let (answer, len) = answer::read(&self.input)?;
        self.input.drain(..len);
        Some(answer)
    }

    pub fn call<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Option<Answer> {
        self.queue(&answer::encode(words));
        self.receive()
    }

    /// A call in words split at spaces, which must be answered.
    pub fn run(&mut self, line: &str) -> Answer {
        let words: Vec<&str> = line.split(' ').collect();
        self.call(&words).unwrap_or_else(|| panic!("the connection ended at {line}"))
    }

    /// So many bytes of replies, or fewer if the connection ended.
    pub fn receive_bytes(&mut self, count: usize) -> Vec<u8> {
        self.drive(|client| client.input.len() >= count);
        let end = count.min(self.input.len());
        self.input.drain(..end).collect()
    }

    /// Waits for the connection to end; whether the server said that it would.
    pub fn await_end(&mut self) -> bool {
        self.drive(|_| false);
        self.session.reader().read(&mut [0]).is_ok()
    }

    /// Whether the server lets this client in.
    pub fn is_served(port: u16, config: &Arc<ClientConfig>) -> bool {
        let client = TlsClient::try_connect(port, config);
        client.and_then(|mut client| client.call(&["PING"])).is_some()
    }

    pub fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub fn suite(&self) -> String {
        format!(
            "{:?}",
            self.session.negotiated_cipher_suite().expect("it has shaken hands").suite()
        )
    }

    /// Whether the server has shown this certificate.
    pub fn was_shown(&self, name: &str) -> bool {
        let shown = self.session.peer_certificates().and_then(|all| all.first());
        shown == Some(&certificate(name))
    }

    /// Our end of the connection, as CLIENT LIST shows it.
    pub fn local_address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is connected")
    }
}

/// A socket that fails after so many bytes.
struct Cut<'c> {
    socket: &'c TcpStream,
    may_send: &'c mut usize,
}

impl Write for Cut<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if *self.may_send == 0 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let count = bytes.len().min(*self.may_send);
        let sent = self.socket.write(&bytes[..count])?;
        *self.may_send = self.may_send.saturating_sub(sent);
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
