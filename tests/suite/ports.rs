//! Ports for servers under test, each given out once.
//!
//! A port found by binding port 0 and letting it go may be taken before the server gets it: by
//! another test that asks likewise, or as the near end of any connection, since the kernel takes
//! both from one range. So these come from below that range and are counted, not drawn.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 11_000;
/// Linux connects from 32768 on, other systems from 49152 on.
const COUNT: u16 = 21_000;

/// A port of loopback that nobody listens on, and that no other test is given.
pub fn free() -> u16 {
    let listener = taken();
    listener.local_addr().expect("it is bound").port()
}

/// The same while somebody listens on it: once dropped, it is free for who asked for it.
pub fn taken() -> TcpListener {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Runs side by side start far from each other.
    let start = std::process::id() % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = u32::from(GIVEN.fetch_add(1, Ordering::Relaxed) % COUNT);
        let port = u16::try_from((start * 37 + step) % u32::from(COUNT)).expect("below COUNT");
        let port = FIRST + port;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener;
        }
    }
    panic!("every port of loopback is taken");
}
