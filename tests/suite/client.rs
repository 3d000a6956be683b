//! A small blocking client over TCP.
//!
//! Every read has a deadline, so that a server that does not answer fails a test instead of
//! stopping the run.

use crate::answer::{self, Answer};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take. A busy machine is slow, a dead server is slower.
const ANSWER_MAX: Duration = Duration::from_secs(20);

pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    ended: bool,
}

impl Client {
    pub fn connect(port: u16) -> std::io::Result<Client> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Client::over(TcpStream::connect_timeout(&address, ANSWER_MAX)?)
    }

    /// Speaks over a connection that is there already.
    pub fn over(stream: TcpStream) -> std::io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(Client { stream, input: Vec::new(), ended: false })
    }

    /// Sends bytes as they are. A peer that has hung up is noticed when reading.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Whether the server takes bytes, each part of them within this time.
    pub fn is_taken(&mut self, bytes: &[u8], within: Duration) -> bool {
        self.stream.set_write_timeout(Some(within)).expect("it is a socket");
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a request and takes its reply; `None` when the connection ended instead.
    pub fn call<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Option<Answer> {
        self.send(&answer::encode(words));
        self.receive()
    }

    /// A call in words split at spaces, which must be answered.
    pub fn run(&mut self, line: &str) -> Answer {
        let words: Vec<&str> = line.split(' ').collect();
        self.call(&words).unwrap_or_else(|| panic!("the connection ended at {line}"))
    }

    /// The next reply; `None` when the connection ended.
    pub fn receive(&mut self) -> Option<Answer> {
        loop {
            if let Some((answer, len)) = answer::read(&self.input) {
                self.input.drain(..len);
                return Some(answer);
            }
            if !self.read_more() {
                return None;
            }
        }
    }

    /// Reads until what came satisfies `enough` or the connection has ended; what came, and
    /// whether it has.
    pub fn receive_raw(&mut self, enough: impl Fn(&[u8]) -> bool) -> (Vec<u8>, bool) {
        while !enough(&self.input) && self.read_more() {}
        (std::mem::take(&mut self.input), self.ended)
    }

    /// Whether anything is there to be read, without waiting for it.
    pub fn has_input(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("it is a socket");
        let waits =
            matches!(self.stream.peek(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).expect("it is a socket");
        !self.input.is_empty() || !waits
    }

    /// A second handle that only writes, for another thread.
    pub fn writer(&self) -> Client {
        let stream = self.stream.try_clone().expect("the process has descriptors left");
        Client { stream, input: Vec::new(), ended: false }
    }

    /// Our end of the connection, as CLIENT LIST shows it.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("it is connected")
    }

    /// Tells the server that nothing more comes.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn read_more(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(len) => self.input.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => self.ended = true,
            Err(error) => panic!("no answer within {ANSWER_MAX:?}: {error}"),
        }
        !self.ended
    }
}
