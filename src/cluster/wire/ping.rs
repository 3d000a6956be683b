//! What PING, PONG and MEET say beside who sends them: gossip about other nodes, and extensions.
//!
//!     gossip        0 node   40 ping sent, s   44 pong received, s   48 ip   94 port
//!     (104 bytes)   96 bus port   98 flags   100 other port   102 zeros
//!
//!     extension     0 length of all of it   4 type   6 zeros   8 data, filled up to 8 bytes
//!
//! Lengths are checked when the packet is parsed; contents when they are looked at. An entry of
//! gossip with a malformed name makes all of them doubtful, so they are asked after first. Of an
//! extension with contents that cannot be used only these are lost: nodes of some version may mean
//! something by them.

use super::super::flags::Flags;
use super::super::id::{ID_LEN, NodeId, ShardId};
use super::super::text;
use super::parts::{Fields, Writer};
use super::{EXTENSION_DATA, HEADER_LEN, Ports};
use std::fmt;

pub const GOSSIP_LEN: usize = 104;
const EXTENSION_HEAD_LEN: usize = 8;

/// The data of the packet, as it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ping<'p> {
    gossip: &'p [u8],
    extensions: &'p [u8],
    /// The sender understands extensions, whether it has any or not.
    pub knows_extensions: bool,
}

/// What a node says of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gossip<'p> {
    pub node: NodeId,
    /// Seconds since 1970, and 0 for never.
    pub ping_sent_s: u32,
    pub pong_received_s: u32,
    pub ip: IpText<'p>,
    pub ports: Ports,
    pub flags: Flags,
}

/// The text of an address, which is looked at only when it is needed.
#[derive(Clone, Copy)]
pub struct IpText<'p>(&'p [u8]);

impl<'p> IpText<'p> {
    pub fn of(text: &'p str) -> IpText<'p> {
        IpText(text.as_bytes())
    }

    /// None if it is no address.
    pub fn text(self) -> Option<&'p str> {
        let text = self.0.split(|byte| *byte == 0).next().filter(|text| text::is_ip(text))?;
        str::from_utf8(text).ok()
    }
}

impl PartialEq for IpText<'_> {
    fn eq(&self, other: &IpText) -> bool {
        self.text() == other.text()
    }
}

impl Eq for IpText<'_> {}

impl fmt::Debug for IpText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

/// ORDER: as nodes write them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extension<'p> {
    Hostname(&'p str),
    Nodename(&'p str),
    ClientIpv4(&'p str),
    ClientIpv6(&'p str),
    /// A node that the sender was told to forget, and for how long.
    Forgotten {
        node: NodeId,
        ttl_s: u64,
    },
    Shard(ShardId),
    /// A newer type, or contents that are none of its type.
    Unknown(u16),
}

impl<'p> Ping<'p> {
    /// None if the parts are not as long as the whole.
    pub(super) fn parse(header: &[u8; HEADER_LEN], data: &'p [u8]) -> Option<Ping<'p>> {
        let count = usize::from(Fields(header).u16(14));
        let (gossip, extensions) = data.split_at_checked(count * GOSSIP_LEN)?;
        let knows_extensions = header[2253] & EXTENSION_DATA != 0;
        let expected = if knows_extensions { Fields(header).u16(2214) } else { 0 };
        let mut rest = extensions;
        for _ in 0..expected {
            (_, _, rest) = next_extension(rest)?;
        }
        rest.is_empty().then_some(Ping { gossip, extensions, knows_extensions })
    }

    pub fn gossip_count(&self) -> usize {
        self.gossip.len() / GOSSIP_LEN
    }

    /// How many entries have no name; if any do, none is to be believed.
    pub fn malformed_count(&self) -> usize {
        let entries = self.gossip.chunks_exact(GOSSIP_LEN);
        entries.filter(|entry| !NodeId::fits(&entry[..ID_LEN])).count()
    }

    /// The entries that have a name.
    pub fn gossip(&self) -> impl Iterator<Item = Gossip<'p>> + use<'p> {
        self.gossip.chunks_exact(GOSSIP_LEN).filter_map(Gossip::parse)
    }

    pub fn extensions(&self) -> impl Iterator<Item = Extension<'p>> + use<'p> {
        let mut rest = self.extensions;
        std::iter::from_fn(move || {
            let (data, number, behind) = next_extension(rest)?;
            rest = behind;
            Some(Extension::parse(number, data))
        })
    }
}

/// Data and type of the first one, and what is behind it.
fn next_extension(bytes: &[u8]) -> Option<(&[u8], u16, &[u8])> {
    let head: &[u8; EXTENSION_HEAD_LEN] = bytes.first_chunk()?;
    let len = Fields(head).u32(0) as usize;
    let is_aligned = len >= EXTENSION_HEAD_LEN && len.is_multiple_of(8);
    let (own, behind) = bytes.split_at_checked(len).filter(|_| is_aligned)?;
    Some((&own[EXTENSION_HEAD_LEN..], Fields(head).u16(4), behind))
}

impl<'p> Gossip<'p> {
    fn parse(entry: &'p [u8]) -> Option<Gossip<'p>> {
        let fields = Fields(entry);
        Some(Gossip {
            node: fields.id(0)?,
            ping_sent_s: fields.u32(40),
            pong_received_s: fields.u32(44),
            ip: IpText(fields.bytes::<{ text::IP_BYTES }>(48)?),
            ports: Ports { client: fields.u16(94), other: fields.u16(100), bus: fields.u16(96) },
            flags: Flags::from_bits(fields.u16(98)),
        })
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.bytes(self.node.as_bytes());
        out.u32(self.ping_sent_s);
        out.u32(self.pong_received_s);
        out.padded(self.ip.0, text::IP_BYTES);
        out.u16(self.ports.client);
        out.u16(self.ports.bus);
        out.u16(self.flags.bits());
        out.u16(self.ports.other);
        out.u16(0);
    }
}

const HOSTNAME: u16 = 0;
const NODENAME: u16 = 1;
const FORGOTTEN: u16 = 2;
const SHARD: u16 = 3;
/// Redis 8 has another extension under this number: 40 letters, which are no address.
const CLIENT_IPV4: u16 = 4;
const CLIENT_IPV6: u16 = 5;

impl<'p> Extension<'p> {
    fn parse(number: u16, data: &'p [u8]) -> Extension<'p> {
        let text = |fits: fn(&[u8]) -> bool| {
            let text = text_of(data).filter(|text| fits(text))?;
            str::from_utf8(text).ok()
        };
        let known = match number {
            HOSTNAME => text(text::is_hostname).map(Extension::Hostname),
            NODENAME => text(text::is_nodename).map(Extension::Nodename),
            CLIENT_IPV4 => text(text::is_ipv4).map(Extension::ClientIpv4),
            CLIENT_IPV6 => text(text::is_ipv6).map(Extension::ClientIpv6),
            FORGOTTEN => forgotten(data),
            SHARD => ShardId::parse(data).map(Extension::Shard),
            _ => None,
        };
        known.unwrap_or(Extension::Unknown(number))
    }

    pub(super) fn write(&self, out: &mut Writer) {
        match self {
            Extension::Hostname(text) => write_text(HOSTNAME, text, out),
            Extension::Nodename(text) => write_text(NODENAME, text, out),
            Extension::ClientIpv4(text) => write_text(CLIENT_IPV4, text, out),
            Extension::ClientIpv6(text) => write_text(CLIENT_IPV6, text, out),
            Extension::Forgotten { node, ttl_s } => {
                write_head(FORGOTTEN, ID_LEN + 8, out);
                out.bytes(node.as_bytes());
                out.u64(*ttl_s);
            }
            Extension::Shard(shard) => {
                write_head(SHARD, ID_LEN, out);
                out.bytes(shard.as_bytes());
            }
            Extension::Unknown(number) => write_head(*number, 0, out),
        }
    }
}

/// A text ends before its field does.
fn text_of(data: &[u8]) -> Option<&[u8]> {
    data.iter().position(|byte| *byte == 0).map(|end| &data[..end])
}

fn forgotten(data: &[u8]) -> Option<Extension<'_>> {
    let data: &[u8; ID_LEN + 8] = data.try_into().ok()?;
    let node = Fields(data).id(0)?;
    Some(Extension::Forgotten { node, ttl_s: Fields(data).u64(ID_LEN) })
}

fn write_head(number: u16, data_len: usize, out: &mut Writer) {
    let len = EXTENSION_HEAD_LEN + data_len;
    out.u32(u32::try_from(len).expect("a text is short"));
    out.u16(number);
    out.u16(0);
}

/// The text, at least one NUL, and as many as fill it up.
fn write_text(number: u16, text: &str, out: &mut Writer) {
    let data_len = (text.len() + 1).next_multiple_of(8);
    write_head(number, data_len, out);
    out.padded(text.as_bytes(), data_len);
}
