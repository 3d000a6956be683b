//! Packets of the cluster bus, byte for byte as real nodes write them.
//!
//!        0 "RCmb"           12 type            2128 primary, or zeros    2248 bus port
//!        4 length           14 gossip count    2168 ip text, or zeros    2250 flags
//!        8 version          16 current epoch   2214 extension count      2252 is down
//!       10 port             24 config epoch    2216 zeros                2253 message flags
//!                           32 offset          2246 other port           2256 data
//!                           40 sender
//!                           80 slots
//!
//! Numbers are big-endian. A message for subscribers may have a light header instead: the first 16
//! bytes, and its type with the highest bit set.
//!
//! Reading gives views of the bytes as they lie. It believes nothing: a packet is as long as its
//! type and its parts say, to the byte, or it is refused; how much may be read for it is said by
//! its first bytes ([`length`]) and limited by its type, so nobody makes us reserve what he only
//! declares. Structs laid over the bytes were refused: the layout is in the offsets, once.

pub mod parts;
mod ping;
#[cfg(test)]
mod tests;

pub use self::ping::{Extension, Gossip, IpText, Ping};

use self::parts::{Fields, Writer};
use super::flags::Flags;
use super::id::{ID_LEN, NodeId};
use super::slot_set::{SLOT_BYTES, SlotBits};
use super::text;
use std::fmt;

/// What must have been read before a packet's length is known: its smallest header.
pub const HEAD_LEN: usize = 16;
const HEADER_LEN: usize = 2256;

const SIGNATURE: &[u8; 4] = b"RCmb";
const VERSION: u16 = 1;
const LIGHT: u16 = 0x8000;

/// How much a packet that says where its nodes are may have beside these.
const EXTENSION_BYTES_MAX: usize = 1 << 20;

/// Numbers that clients are shown are signed there.
const NUMBER_MAX: u64 = i64::MAX as u64;

const PAUSED: u8 = 1;
const FORCE_ACK: u8 = 1 << 1;
const EXTENSION_DATA: u8 = 1 << 2;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Ping,
    Pong,
    Meet,
    Fail,
    Publish,
    AuthRequest,
    AuthAck,
    Update,
    ManualFailoverStart,
    Module,
    PublishShard,
}

impl Kind {
    /// ORDER: as they are numbered in packets.
    pub const ALL: [Kind; 11] = [
        Kind::Ping,
        Kind::Pong,
        Kind::Meet,
        Kind::Fail,
        Kind::Publish,
        Kind::AuthRequest,
        Kind::AuthAck,
        Kind::Update,
        Kind::ManualFailoverStart,
        Kind::Module,
        Kind::PublishShard,
    ];

    pub fn number(self) -> u16 {
        self as u16
    }

    pub fn of_number(number: u16) -> Option<Kind> {
        Kind::ALL.get(usize::from(number)).copied()
    }

    /// As CLUSTER INFO calls it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Ping => "ping",
            Kind::Pong => "pong",
            Kind::Meet => "meet",
            Kind::Fail => "fail",
            Kind::Publish => "publish",
            Kind::AuthRequest => "auth-req",
            Kind::AuthAck => "auth-ack",
            Kind::Update => "update",
            Kind::ManualFailoverStart => "mfstart",
            Kind::Module => "module",
            Kind::PublishShard => "publishshard",
        }
    }

    fn is_for_subscribers(self) -> bool {
        matches!(self, Kind::Publish | Kind::PublishShard)
    }
}

/// Why a packet is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is no packet at all, or one of an impossible length. What follows cannot be found, so the
    /// link is of no use either.
    Frame,
    /// It is longer than any of its type.
    TooLong {
        kind: Option<Kind>,
        len: usize,
    },
    Version(u16),
    /// Only messages for subscribers may have a light header.
    LightHeader(u16),
    /// Its parts are not as long as the whole.
    Length {
        kind: Kind,
        len: usize,
    },
    /// A name, an address or a number in it is none.
    Content(Kind),
}

impl Fault {
    /// Whether the next packet cannot be found behind it.
    pub fn ends_link(self) -> bool {
        matches!(self, Fault::Frame | Fault::TooLong { .. })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::Frame => f.write_str("no packet of the cluster bus"),
            Fault::TooLong { kind: Some(kind), len } => {
                write!(f, "{len} bytes are too long for a {} packet", kind.word())
            }
            Fault::TooLong { kind: None, len } => {
                write!(f, "{len} bytes are too long for a packet of an unknown type")
            }
            Fault::Version(version) => write!(f, "protocol version {version}"),
            Fault::LightHeader(number) => write!(f, "a light header on a packet of type {number}"),
            Fault::Length { kind, len } => {
                write!(f, "a {} packet cannot be {len} bytes long", kind.word())
            }
            Fault::Content(kind) => write!(f, "a {} packet with a malformed field", kind.word()),
        }
    }
}

impl std::error::Error for Fault {}

/// How long the packet is that begins so. `message_bytes_max` limits those for subscribers.
pub fn length(head: &[u8; HEAD_LEN], message_bytes_max: usize) -> Result<usize, Fault> {
    let fields = Fields(head);
    let len = fields.u32(4) as usize;
    let number = fields.u16(12);
    let is_light = number & LIGHT != 0;
    let least = if is_light { HEAD_LEN } else { HEADER_LEN };
    if fields.bytes(0) != Some(SIGNATURE) || len < least {
        return Err(Fault::Frame);
    }
    let kind = Kind::of_number(number & !LIGHT);
    let room = match kind {
        Some(Kind::Ping | Kind::Pong | Kind::Meet) | None => {
            usize::from(fields.u16(14)) * ping::GOSSIP_LEN + EXTENSION_BYTES_MAX
        }
        Some(Kind::Publish | Kind::PublishShard) => PUBLISH_LEN.saturating_add(message_bytes_max),
        Some(Kind::Fail) => FAIL_LEN,
        Some(Kind::Update) => UPDATE_LEN,
        Some(Kind::Module) => MODULE_LEN + EXTENSION_BYTES_MAX,
        Some(Kind::AuthRequest | Kind::AuthAck | Kind::ManualFailoverStart) => 0,
    };
    match len <= least.saturating_add(room) {
        true => Ok(len),
        false => Err(Fault::TooLong { kind, len }),
    }
}

const FAIL_LEN: usize = 40;
const UPDATE_LEN: usize = 8 + 40 + SLOT_BYTES;
/// The lengths of channel and message.
const PUBLISH_LEN: usize = 8;
/// The module, the length of what it says, and a type.
const MODULE_LEN: usize = 13;

/// The header: what every packet says of its sender.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Header<'p> {
    pub sender: NodeId,
    /// The sender's flags, as it sees itself.
    pub flags: Flags,
    pub current_epoch: u64,
    /// Those of its primary, if it is a replica.
    pub config_epoch: u64,
    pub slots: SlotBits<'p>,
    pub offset: u64,
    pub primary: Option<NodeId>,
    /// Where it wants to be found, if that is not whence it came.
    pub ip: Option<&'p str>,
    pub ports: Ports,
    /// The cluster is down, as the sender sees it.
    pub is_down: bool,
    /// Writes are paused for a failover that was asked for.
    pub is_paused: bool,
    /// Votes are asked for although the primary is up.
    pub forces_ack: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ports {
    /// That of clients: with TLS if the bus has TLS.
    pub client: u16,
    /// The other one of them, or 0.
    pub other: u16,
    pub bus: u16,
}

/// Who has which slots, for one that does not know.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Update<'p> {
    pub config_epoch: u64,
    pub node: NodeId,
    pub slots: SlotBits<'p>,
}

/// A message for subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish<'p> {
    pub channel: &'p [u8],
    pub message: &'p [u8],
    /// It is for the channels of a shard.
    pub is_sharded: bool,
}

impl Publish<'_> {
    pub fn kind(&self) -> Kind {
        if self.is_sharded { Kind::PublishShard } else { Kind::Publish }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Body<'p> {
    Ping(Ping<'p>),
    Pong(Ping<'p>),
    Meet(Ping<'p>),
    Fail(NodeId),
    Publish(Publish<'p>),
    AuthRequest,
    AuthAck,
    Update(Update<'p>),
    ManualFailoverStart,
    /// There are no modules that it could be for.
    Module,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Packet<'p> {
    Full(Header<'p>, Body<'p>),
    /// It does not say who sends it: that is known of the link.
    Light(Publish<'p>),
    /// Newer nodes may know it.
    Unknown(u16),
}

impl<'p> Packet<'p> {
    /// Reads one packet, which is all of `bytes`.
    pub fn parse(bytes: &'p [u8]) -> Result<Packet<'p>, Fault> {
        let head: &[u8; HEAD_LEN] = bytes.first_chunk().ok_or(Fault::Frame)?;
        if length(head, bytes.len())? != bytes.len() {
            return Err(Fault::Frame);
        }
        let (version, number) = (Fields(head).u16(8), Fields(head).u16(12));
        if version != VERSION {
            return Err(Fault::Version(version));
        }
        if number & LIGHT != 0 {
            return Packet::parse_light(number & !LIGHT, bytes);
        }
        let Some(kind) = Kind::of_number(number) else { return Ok(Packet::Unknown(number)) };
        let (header, data) = bytes.split_first_chunk().expect("its length was checked");
        let body = Body::parse(kind, header, data)?;
        let header = Header::parse(header).ok_or(Fault::Content(kind))?;
        Ok(Packet::Full(header, body))
    }

    fn parse_light(number: u16, bytes: &'p [u8]) -> Result<Packet<'p>, Fault> {
        let kind = Kind::of_number(number).filter(|kind| kind.is_for_subscribers());
        let kind = kind.ok_or(Fault::LightHeader(number))?;
        let message = Publish::parse(kind, &bytes[HEAD_LEN..]);
        let len = bytes.len();
        Ok(Packet::Light(message.ok_or(Fault::Length { kind, len })?))
    }

    /// What it counts as; none if it is unknown.
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Packet::Unknown(_) => return None,
            Packet::Light(message) => message.kind(),
            Packet::Full(_, body) => body.kind(),
        })
    }
}

impl<'p> Body<'p> {
    fn parse(kind: Kind, header: &[u8; HEADER_LEN], data: &'p [u8]) -> Result<Body<'p>, Fault> {
        let body = match kind {
            Kind::Ping => Ping::parse(header, data).map(Body::Ping),
            Kind::Pong => Ping::parse(header, data).map(Body::Pong),
            Kind::Meet => Ping::parse(header, data).map(Body::Meet),
            Kind::Publish | Kind::PublishShard => Publish::parse(kind, data).map(Body::Publish),
            Kind::AuthRequest => data.is_empty().then_some(Body::AuthRequest),
            Kind::AuthAck => data.is_empty().then_some(Body::AuthAck),
            Kind::ManualFailoverStart => data.is_empty().then_some(Body::ManualFailoverStart),
            Kind::Module => is_for_module(data).then_some(Body::Module),
            Kind::Fail if data.len() == FAIL_LEN => {
                let node = NodeId::parse(data).ok_or(Fault::Content(kind))?;
                Some(Body::Fail(node))
            }
            Kind::Update if data.len() == UPDATE_LEN => {
                let update = Update::parse(data).ok_or(Fault::Content(kind))?;
                Some(Body::Update(update))
            }
            Kind::Fail | Kind::Update => None,
        };
        body.ok_or(Fault::Length { kind, len: HEADER_LEN + data.len() })
    }

    fn kind(&self) -> Kind {
        match self {
            Body::Ping(_) => Kind::Ping,
            Body::Pong(_) => Kind::Pong,
            Body::Meet(_) => Kind::Meet,
            Body::Fail(_) => Kind::Fail,
            Body::Publish(message) => message.kind(),
            Body::AuthRequest => Kind::AuthRequest,
            Body::AuthAck => Kind::AuthAck,
            Body::Update(_) => Kind::Update,
            Body::ManualFailoverStart => Kind::ManualFailoverStart,
            Body::Module => Kind::Module,
        }
    }
}

fn is_for_module(data: &[u8]) -> bool {
    data.len() >= MODULE_LEN && data.len() - MODULE_LEN == Fields(data).u32(8) as usize
}

impl<'p> Publish<'p> {
    fn parse(kind: Kind, data: &'p [u8]) -> Option<Publish<'p>> {
        let (lengths, texts) = data.split_at_checked(PUBLISH_LEN)?;
        let channel_len = Fields(lengths).u32(0) as usize;
        let (channel, message) = texts.split_at_checked(channel_len)?;
        let is_whole = message.len() == Fields(lengths).u32(4) as usize;
        let is_sharded = kind == Kind::PublishShard;
        is_whole.then_some(Publish { channel, message, is_sharded })
    }

    fn write(&self, out: &mut Writer) {
        let len_of = |text: &[u8]| u32::try_from(text.len()).expect("no request is that long");
        out.u32(len_of(self.channel));
        out.u32(len_of(self.message));
        out.bytes(self.channel);
        out.bytes(self.message);
    }
}

impl<'p> Update<'p> {
    fn parse(data: &'p [u8]) -> Option<Update<'p>> {
        let fields = Fields(data);
        Some(Update {
            config_epoch: fields.number(0)?,
            node: fields.id(8)?,
            slots: SlotBits(fields.bytes(48)?),
        })
    }

    fn write(&self, out: &mut Writer) {
        out.u64(self.config_epoch);
        out.bytes(self.node.as_bytes());
        out.bytes(self.slots.0);
    }
}

impl<'p> Header<'p> {
    /// None if it says of its sender what cannot be.
    fn parse(header: &'p [u8; HEADER_LEN]) -> Option<Header<'p>> {
        let fields = Fields(header);
        let message_flags = header[2253];
        Some(Header {
            sender: fields.id(40)?,
            flags: Flags::from_bits(fields.u16(2250)),
            current_epoch: fields.number(16)?,
            config_epoch: fields.number(24)?,
            slots: SlotBits(fields.bytes(80)?),
            offset: fields.number(32)?,
            primary: fields.id_or_zeros(2128)?,
            ip: fields.ip_or_zeros(2168)?,
            ports: Ports { client: fields.u16(10), other: fields.u16(2246), bus: fields.u16(2248) },
            is_down: header[2252] != 0,
            is_paused: message_flags & PAUSED != 0,
            forces_ack: message_flags & FORCE_ACK != 0,
        })
    }

    /// What may be asked, granted or begun without saying more.
    pub fn bare(&self, kind: Kind) -> Vec<u8> {
        use Kind::{AuthAck, AuthRequest, ManualFailoverStart};
        assert!(matches!(kind, AuthRequest | AuthAck | ManualFailoverStart), "{kind:?} says more");
        self.write(kind, |_| {})
    }

    pub fn fail(&self, node: NodeId) -> Vec<u8> {
        self.write(Kind::Fail, |out| out.bytes(node.as_bytes()))
    }

    pub fn update(&self, update: &Update) -> Vec<u8> {
        self.write(Kind::Update, |out| update.write(out))
    }

    pub fn publish(&self, message: &Publish) -> Vec<u8> {
        self.write(message.kind(), |out| message.write(out))
    }

    /// A PING, PONG or MEET. Extensions are only for nodes that have shown that they know them;
    /// that we do is shown to everybody.
    pub fn ping(&self, kind: Kind, gossip: &[Gossip], extensions: &[Extension]) -> Vec<u8> {
        assert!(matches!(kind, Kind::Ping | Kind::Pong | Kind::Meet), "{kind:?} has no gossip");
        let count_of = |len: usize| u16::try_from(len).expect("so many nodes are not known");
        let mut bytes = self.write(kind, |out| {
            gossip.iter().for_each(|entry| entry.write(out));
            extensions.iter().for_each(|extension| extension.write(out));
        });
        bytes[14..16].copy_from_slice(&count_of(gossip.len()).to_be_bytes());
        bytes[2214..2216].copy_from_slice(&count_of(extensions.len()).to_be_bytes());
        bytes[2253] |= EXTENSION_DATA;
        bytes
    }

    fn write(&self, kind: Kind, data: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut out = Writer::begin(kind.number(), self.ports.client);
        out.u64(self.current_epoch);
        out.u64(self.config_epoch);
        out.u64(self.offset);
        out.bytes(self.sender.as_bytes());
        out.bytes(self.slots.0);
        let primary = self.primary.as_ref().map_or(&[0; ID_LEN], NodeId::as_bytes);
        out.bytes(primary);
        out.padded(self.ip.unwrap_or_default().as_bytes(), text::IP_BYTES);
        // The count of extensions, and what is kept for later.
        out.padded(b"", 32);
        out.u16(self.ports.other);
        out.u16(self.ports.bus);
        out.u16(self.flags.bits());
        let message_flags = if self.is_paused { PAUSED } else { 0 };
        let message_flags = message_flags | if self.forces_ack { FORCE_ACK } else { 0 };
        out.bytes(&[u8::from(self.is_down), message_flags, 0, 0]);
        debug_assert_eq!(out.written(), HEADER_LEN);
        data(&mut out);
        out.end()
    }
}

/// A message for a node that takes light headers.
pub fn light(message: &Publish) -> Vec<u8> {
    let mut out = Writer::begin(message.kind().number() | LIGHT, 0);
    message.write(&mut out);
    out.end()
}
