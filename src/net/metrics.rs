//! The endpoint that Prometheus scrapes (`metrics-port`): a responder for one question.
//!
//! It speaks just enough HTTP/1.1: a GET of `/metrics` is answered with the page, anything else
//! with a status, and then the connection is closed. A crate for HTTP was refused: nothing of what
//! it brings (routing, bodies, keep-alive, upgrades) is wanted here, and what is not there cannot
//! be attacked. The page is written by the executor's thread between two turns, about as long as
//! INFO takes, and sent by the connection's own task.
//!
//! Invariant: a scraper holds at most [`HEAD_BYTES_MAX`] of memory before it is answered, at most
//! [`CONNECTIONS_MAX`] are served at once, and each for at most [`WAIT_MAX`] in all.

use super::Net;
use crate::observe::info::View;
use crate::observe::metrics;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HEAD_BYTES_MAX: usize = 8 * 1024;
const CONNECTIONS_MAX: usize = 16;
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Serves one listening address.
pub async fn serve(net: Rc<Net>, listener: TcpListener, open: Rc<Cell<usize>>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if open.get() >= CONNECTIONS_MAX {
                    // The peer sees a closed connection and tries again.
                    continue;
                }
                open.set(open.get() + 1);
                let (net, open) = (Rc::clone(&net), Rc::clone(&open));
                tokio::task::spawn_local(async move {
                    // Whoever is too slow, or gone, has its connection closed.
                    let _ = tokio::time::timeout(WAIT_MAX, answer(&net, stream, peer)).await;
                    open.set(open.get() - 1);
                });
            }
            Err(error) => super::listener::back_off(&error).await,
        }
    }
}

async fn answer(net: &Net, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let status = match judge(&head) {
        Status::Found if !is_welcome(net, peer) => Status::Forbidden,
        status => status,
    };
    let body = match status {
        Status::Found => page(net),
        other => format!("{}\n", other.line()),
    };
    stream.write_all(response(status, &body).as_bytes()).await?;
    stream.shutdown().await
}

/// Reads up to the empty line that ends a request's head, or as much as a head may have.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
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
    let engine = net.engine.borrow();
    let is_protected = engine.server.config.protected_mode && !engine.server.has_password();
    peer.ip().to_canonical().is_loopback() || !is_protected
}

fn page(net: &Net) -> String {
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    engine.server.stats.lazy_freed_objects = net.jobs.freed_objects();
    metrics::page(&View::new(&engine.server, &engine.keyspace, &engine.clients))
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
fn judge(head: &[u8]) -> Status {
    if !is_whole(head) {
        let is_full = head.len() >= HEAD_BYTES_MAX;
        return if is_full { Status::HeadTooLarge } else { Status::Malformed };
    }
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.trim_ascii_end().split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return Status::Malformed };
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (method, path) {
        _ if !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") => Status::Malformed,
        (b"GET", b"/metrics") => Status::Found,
        (b"GET", _) => Status::NotFound,
        _ => Status::NotAllowed,
    }
}

fn response(status: Status, body: &str) -> String {
    let kind = match status {
        Status::Found => "text/plain; version=0.0.4; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let allow = if status == Status::NotAllowed { "Allow: GET\r\n" } else { "" };
    format!(
        "HTTP/1.1 {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: \
         close\r\n\r\n{body}",
        status.line(),
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_get_of_the_page_is_answered() {
        for (head, status) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Status::Found),
            ("GET /metrics?a=b HTTP/1.0\r\n\r\n", Status::Found),
            ("GET /metrics HTTP/1.1\n\n", Status::Found),
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
            assert_eq!(judge(head.as_bytes()), status, "{head:?}");
        }
        assert_eq!(judge(&[b'x'; HEAD_BYTES_MAX]), Status::HeadTooLarge);
        let text = response(Status::NotAllowed, "405\n");
        assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
        assert!(text.contains("\r\nContent-Length: 4\r\nAllow: GET\r\n"));
        assert!(text.ends_with("\r\n\r\n405\n"));
    }
}
