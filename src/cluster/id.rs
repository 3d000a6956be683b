//! The names of nodes, and of shards: 40 letters or digits.
//!
//! A name that we draw is 160 random bits in hex, so no two nodes draw the same. What others call
//! themselves may have any small letters, as in Redis.

use std::fmt;

pub const ID_LEN: usize = 40;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; ID_LEN]);

impl NodeId {
    pub fn from_random(bytes: [u8; ID_LEN / 2]) -> NodeId {
        let digit = |half: u8| b"0123456789abcdef"[usize::from(half & 15)];
        NodeId(std::array::from_fn(|at| match at % 2 {
            0 => digit(bytes[at / 2] >> 4),
            _ => digit(bytes[at / 2]),
        }))
    }

    /// It stands in files, replies and packets, so it is one word of known length or nothing.
    pub fn parse(text: &[u8]) -> Option<NodeId> {
        let id: [u8; ID_LEN] = text.try_into().ok()?;
        NodeId::fits(&id).then_some(NodeId(id))
    }

    /// Whether all these letters may be in a name. All are looked at, which is faster than to stop.
    pub fn fits(text: &[u8]) -> bool {
        let fits = |byte: &u8| byte.is_ascii_digit() | byte.is_ascii_lowercase();
        text.iter().fold(true, |all, byte| all & fits(byte))
    }

    pub fn as_bytes(&self) -> &[u8; ID_LEN] {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("letters and digits")
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name that a primary and its replicas share, and keep when they change places.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(NodeId);

impl ShardId {
    pub fn from_random(bytes: [u8; ID_LEN / 2]) -> ShardId {
        ShardId(NodeId::from_random(bytes))
    }

    pub fn parse(text: &[u8]) -> Option<ShardId> {
        NodeId::parse(text).map(ShardId)
    }

    pub fn as_bytes(&self) -> &[u8; ID_LEN] {
        self.0.as_bytes()
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_forty_small_letters_or_digits() {
        let drawn = NodeId::from_random([0xa7; 20]);
        assert_eq!(drawn.as_str(), "a7".repeat(20));
        assert_eq!(NodeId::parse(drawn.as_bytes()), Some(drawn));
        assert!(NodeId::parse(&[b'z'; 40]).is_some());
        for (byte, len) in [(b'a', 39), (b'a', 41), (b'A', 40), (b' ', 40), (0, 40), (0xc3, 40)] {
            assert_eq!(NodeId::parse(&vec![byte; len]), None, "{len} times {byte}");
        }
    }
}
