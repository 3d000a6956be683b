//! What has come on a connection of the bus, cut into packets.
//!
//! The first bytes of a packet say how long it is. That is judged before anything is kept for it,
//! and nothing is reserved for what has not come: the buffer grows with what arrives.

use crate::cluster::wire::{Fault, HEAD_LEN, length};
use crate::structs::memory;
use std::io;

/// What one read takes from the socket, at least if there is so much.
pub const READ_BYTES: usize = 16 * 1024;

/// A buffer that a long packet has left is not kept if it has more.
const KEPT_BYTES: usize = 64 * 1024;

/// How long packets may be.
#[derive(Clone, Copy)]
pub struct Caps {
    /// Channel and message of one for subscribers.
    pub message_bytes: usize,
    /// Any packet, whatever its kind allows.
    pub packet_bytes: usize,
}

#[derive(Default)]
pub struct Input {
    bytes: Vec<u8>,
    /// How much at the front was looked at.
    passed: usize,
}

impl Input {
    /// Where the next bytes are to go; an error if there is no memory for them.
    pub fn room(&mut self) -> io::Result<&mut Vec<u8>> {
        self.bytes.drain(..std::mem::take(&mut self.passed));
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        let is_growing = self.bytes.capacity() - self.bytes.len() < READ_BYTES;
        if is_growing && !memory::is_there_for(2 * self.bytes.capacity()) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.reserve(READ_BYTES);
        Ok(&mut self.bytes)
    }

    /// The next packet, if it is all there. The error is of one that never will be.
    pub fn next(&self, caps: Caps) -> Result<Option<&[u8]>, Fault> {
        let rest = &self.bytes[self.passed..];
        let Some(head) = rest.first_chunk::<HEAD_LEN>() else { return Ok(None) };
        let len = length(head, caps.message_bytes)?;
        if len > caps.packet_bytes {
            return Err(Fault::TooLong { kind: None, len });
        }
        Ok(rest.get(..len))
    }

    /// So much was looked at.
    pub fn pass(&mut self, len: usize) {
        self.passed += len;
    }

    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::wire::{Publish, light};

    const CAPS: Caps = Caps { message_bytes: 1 << 20, packet_bytes: usize::MAX };

    fn packet(len: usize) -> Vec<u8> {
        light(&Publish { channel: b"c", message: &vec![b'x'; len], is_sharded: false })
    }

    /// Gives an input some bytes as a socket would.
    fn put(input: &mut Input, bytes: &[u8]) {
        input.room().expect("there is memory").extend_from_slice(bytes);
    }

    #[test]
    fn packets_are_found_however_they_are_cut() {
        let packets: Vec<Vec<u8>> = [0, 1, 100, 5000, 3, 40_000, 7].map(packet).into();
        let all = packets.concat();
        for portion in [1, 7, 15, 16, 17, 1000, 20_000, all.len()] {
            let (mut input, mut found) = (Input::default(), Vec::new());
            for bytes in all.chunks(portion) {
                put(&mut input, bytes);
                while let Some(packet) = input.next(CAPS).expect("they are packets") {
                    let packet = packet.to_vec();
                    input.pass(packet.len());
                    found.push(packet);
                }
            }
            assert!(found == packets, "{portion}");
        }
    }

    #[test]
    fn nothing_is_kept_for_what_is_only_declared() {
        let mut head = packet(0);
        head.truncate(HEAD_LEN);
        head[4..8].copy_from_slice(&(1u32 << 19).to_be_bytes());
        let mut input = Input::default();
        put(&mut input, &head);
        assert_eq!(input.next(CAPS), Ok(None));
        input.room().expect("there is memory");
        assert!(input.allocated_bytes() <= 4 * READ_BYTES);
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_head() {
        let mut input = Input::default();
        put(&mut input, &packet(5000)[..HEAD_LEN]);
        assert_eq!(input.next(CAPS), Ok(None));
        let stranger = Caps { packet_bytes: 4999, ..CAPS };
        assert!(matches!(input.next(stranger), Err(Fault::TooLong { .. })));
        let mut input = Input::default();
        put(&mut input, b"GET / HTTP/1.1\r\n");
        assert_eq!(input.next(CAPS), Err(Fault::Frame));
    }

    #[test]
    fn a_long_packet_leaves_no_buffer_behind() {
        let mut input = Input::default();
        let long = packet(1 << 19);
        put(&mut input, &long);
        assert!(input.next(CAPS).is_ok_and(|packet| packet.is_some()));
        input.pass(long.len());
        input.room().expect("there is memory");
        assert!(input.allocated_bytes() <= KEPT_BYTES);
    }
}
