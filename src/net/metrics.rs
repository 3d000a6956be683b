//! The endpoint that Prometheus scrapes (`metrics-port`): a responder for one question.
//!
//! It speaks just enough HTTP/1.1: a GET or HEAD of `/metrics` is answered with the page, anything
//! else with a status, and then the connection is closed. A crate for HTTP was refused: nothing of
//! what it brings (routing, bodies, keep-alive, upgrades) is wanted here, and what is not there
//! cannot be attacked. The page is written by the executor's thread between two turns, about as
//! long as INFO takes, and sent by the connection's own task.
//!
//! Whoever connects is heard: when all places are taken, the one goes that has been there longest
//! without asking for anything, so that idle connections keep no scraper away.
//!
//! Invariant: a scraper holds at most [`HEAD_BYTES_MAX`] of memory before it is answered, at most
//! [`CONNECTIONS_MAX`] are served at once, and each for at most [`WAIT_MAX`] in all.

use super::channel::Channel;
use super::limits;
use super::shared::Net;
use super::tls::desk;
use crate::report::info::View;
use crate::report::metrics;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

const HEAD_BYTES_MAX: usize = 8 * 1024;
const CONNECTIONS_MAX: usize = 16;
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The connections that are served now, oldest first.
pub type Open = Rc<RefCell<Vec<Scrape>>>;

/// One of them.
pub struct Scrape {
    has_asked: Rc<Cell<bool>>,
    task: AbortHandle,
}

/// Serves one listening address.
pub async fn serve(net: Rc<Net>, listener: TcpListener, open: Open) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                make_place(&mut open.borrow_mut());
                let has_asked = Rc::new(Cell::new(false));
                let (net, asked) = (Rc::clone(&net), Rc::clone(&has_asked));
                let task = tokio::task::spawn_local(async move {
                    // Whoever is too slow, or gone, has its connection closed.
                    let answered = async {
                        answer(&net, open_channel(&net, stream).await?, peer, &asked).await
                    };
                    let _ = tokio::time::timeout(WAIT_MAX, answered).await;
                });
                open.borrow_mut().push(Scrape { has_asked, task: task.abort_handle() });
            }
            Err(error) => limits::back_off(&error).await,
        }
    }
}

/// Forgets who is done; if nobody is and all places are taken, closes the oldest connection that
/// has not asked yet, or the oldest of all.
fn make_place(open: &mut Vec<Scrape>) {
    open.retain(|scrape| !scrape.task.is_finished());
    if open.len() >= CONNECTIONS_MAX {
        let idle = open.iter().position(|scrape| !scrape.has_asked.get());
        open.remove(idle.unwrap_or(0)).task.abort();
    }
}

/// The connection as it is to be spoken on.
async fn open_channel(net: &Net, stream: TcpStream) -> io::Result<Channel> {
    let is_secure = net.engine.borrow().config().metrics_tls;
    match is_secure {
        false => Ok(stream.into()),
        true => Ok(desk::finish(net.tls.accept(stream)?).await?.into()),
    }
}

async fn answer(
    net: &Net,
    mut stream: Channel,
    peer: SocketAddr,
    has_asked: &Cell<bool>,
) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    has_asked.set(true);
    let question = judge(&head);
    let status = match question.status {
        Status::Found if !is_welcome(net, peer) => Status::Forbidden,
        status => status,
    };
    let body = match status {
        Status::Found => page(net),
        other => format!("{}\n", other.line()),
    };
    stream.write_all(response(Question { status, ..question }, &body).as_bytes()).await?;
    stream.flush().await?;
    stream.shutdown().await
}

/// Reads up to the empty line that ends a request's head, or as much as a head may have.
async fn read_head(stream: &mut Channel) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(1024);
    while !is_whole(&head) && head.len() < HEAD_BYTES_MAX {
        let room = (HEAD_BYTES_MAX - head.len()) as u64;
        if (&mut *stream).take(room).read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|bytes| bytes == b"\r\n\r\n") || head.windows(2).any(|b| b == b"\n\n")
}

/// The rule of `protected-mode`: nobody from elsewhere while there is no password.
fn is_welcome(net: &Net, peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback() || !net.engine.borrow().is_protected()
}

fn page(net: &Net) -> String {
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    engine.note_freed_objects(net.jobs.freed_objects());
    metrics::page(&View::of(&engine))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    Found,
    Malformed,
    Forbidden,
    NotFound,
    NotAllowed,
    HeadTooLarge,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Found => "200 OK",
            Status::Malformed => "400 Bad Request",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::NotAllowed => "405 Method Not Allowed",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
        }
    }
}

/// What a request's head asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Question {
    status: Status,
    /// Only the head of the answer is wanted (HEAD).
    wants_head: bool,
}

fn judge(head: &[u8]) -> Question {
    let only = |status| Question { status, wants_head: false };
    if !is_whole(head) {
        let is_full = head.len() >= HEAD_BYTES_MAX;
        return only(if is_full { Status::HeadTooLarge } else { Status::Malformed });
    }
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.trim_ascii_end().split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return only(Status::Malformed) };
    if !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
        return only(Status::Malformed);
    }
    let status = match method {
        b"GET" | b"HEAD" if path_of(target) == b"/metrics" => Status::Found,
        b"GET" | b"HEAD" => Status::NotFound,
        _ => Status::NotAllowed,
    };
    Question { status, wants_head: method == b"HEAD" }
}

/// The path of a target, which proxies are sent with scheme and host before it.
fn path_of(target: &[u8]) -> &[u8] {
    const SCHEME: &[u8] = b"http://";
    let target = match target.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => {
            let host_len = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
            &rest[host_len..]
        }
        _ => target,
    };
    target.split(|byte| *byte == b'?').next().unwrap_or_default()
}

fn response(question: Question, body: &str) -> String {
    let kind = match question.status {
        Status::Found => "text/plain; version=0.0.4; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let allow = if question.status == Status::NotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.1 {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: \
         close\r\n\r\n{}",
        question.status.line(),
        body.len(),
        if question.wants_head { "" } else { body },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_page_is_answered() {
        for (head, status) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Status::Found),
            ("GET /metrics?a=b HTTP/1.0\r\n\r\n", Status::Found),
            ("GET /metrics HTTP/1.1\n\n", Status::Found),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Status::Found),
            ("HEAD / HTTP/1.1\r\n\r\n", Status::NotFound),
            ("GET http://[::1]:9121/metrics?a HTTP/1.1\r\n\r\n", Status::Found),
            ("GET HTTP://host/metrics HTTP/1.1\r\n\r\n", Status::Found),
            ("GET http://host?/metrics HTTP/1.1\r\n\r\n", Status::NotFound),
            ("GET http:// HTTP/1.1\r\n\r\n", Status::NotFound),
            ("GET / HTTP/1.1\r\n\r\n", Status::NotFound),
            ("GET /metricsx HTTP/1.1\r\n\r\n", Status::NotFound),
            ("POST /metrics HTTP/1.1\r\n\r\n", Status::NotAllowed),
            ("get /metrics HTTP/1.1\r\n\r\n", Status::NotAllowed),
            ("GET /metrics HTTP/2\r\n\r\n", Status::Malformed),
            ("GET  /metrics HTTP/1.1\r\n\r\n", Status::Malformed),
            ("PING\r\n\r\n", Status::Malformed),
            ("", Status::Malformed),
            ("GET /metrics HTTP/1.1\r\n", Status::Malformed),
        ] {
            let question = judge(head.as_bytes());
            assert_eq!(question.status, status, "{head:?}");
            assert_eq!(question.wants_head, head.starts_with("HEAD"), "{head:?}");
        }
        assert_eq!(judge(&[b'x'; HEAD_BYTES_MAX]).status, Status::HeadTooLarge);
        let wrong = Question { status: Status::NotAllowed, wants_head: false };
        let text = response(wrong, "405\n");
        assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
        assert!(text.contains("\r\nContent-Length: 4\r\nAllow: GET, HEAD\r\n"));
        assert!(text.ends_with("\r\n\r\n405\n"));
    }
}
