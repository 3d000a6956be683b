//! What a replica says to a primary before it asks for the stream.
//!
//! All of it is sent at once, and the answers are read in order. Of these only that to AUTH
//! matters: which parts of REPLCONF a primary knows depends on its age, and it works without.
//! Valkey's `REPLCONF version` is left out where nothing depends on it, since the version that it
//! wants is its own; in a cluster a primary has those replicas know of slots on their way who know
//! as much as Valkey 8.

use super::Settings;
use crate::resp::command;
use crate::structs::number::{I64Buf, format_i64};
use std::collections::VecDeque;

/// What an answer is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    Auth,
    Port,
    Address,
    Capabilities,
    Version,
}

impl Question {
    /// The part of REPLCONF that it is; none for AUTH.
    pub fn option(self) -> Option<&'static str> {
        match self {
            Question::Auth => None,
            Question::Port => Some("listening-port"),
            Question::Address => Some("ip-address"),
            Question::Capabilities => Some("capa"),
            Question::Version => Some("version"),
        }
    }
}

pub fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    command::put(&mut out, words.iter().copied());
    out
}

/// The requests, and what their answers are to.
pub fn introduction(settings: &Settings) -> (Vec<u8>, VecDeque<Question>) {
    let mut out = Vec::new();
    let mut questions = VecDeque::new();
    let mut ask = |question, words: &[&[u8]]| {
        command::put(&mut out, words.iter().copied());
        questions.push_back(question);
    };
    if let Some(auth) = &settings.auth {
        match &auth.user {
            Some(user) => ask(Question::Auth, &[b"AUTH", user, &auth.password]),
            None => ask(Question::Auth, &[b"AUTH", &auth.password]),
        }
    }
    let mut port = I64Buf::new();
    let port = format_i64(i64::from(settings.announce_port), &mut port);
    ask(Question::Port, &[b"REPLCONF", b"listening-port", port]);
    if let Some(address) = &settings.announce_ip {
        ask(Question::Address, &[b"REPLCONF", b"ip-address", address.as_bytes()]);
    }
    let always = [&b"REPLCONF"[..], b"capa", b"eof", b"capa", b"psync2"];
    let in_cluster: &[&[u8]] = if settings.is_in_cluster { &[b"capa", b"slot-moves"] } else { &[] };
    ask(Question::Capabilities, &[&always, in_cluster].concat());
    if settings.is_in_cluster {
        ask(Question::Version, &[b"REPLCONF", b"version", b"8.0.0"]);
    }
    (out, questions)
}

/// `REPLCONF ACK offset`, with what is safe in the append-only file if there is one.
pub fn acknowledgement(applied: i64, synced: Option<i64>) -> Vec<u8> {
    let (mut first, mut second) = (I64Buf::new(), I64Buf::new());
    let applied = format_i64(applied, &mut first);
    match synced {
        Some(synced) => {
            let synced = format_i64(synced, &mut second);
            request(&[b"REPLCONF", b"ACK", applied, b"FACK", synced])
        }
        None => request(&[b"REPLCONF", b"ACK", applied]),
    }
}
