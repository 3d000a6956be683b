//! What packets are made of: numbers, names and texts at known places.

use super::super::id::{ID_LEN, NodeId};
use super::super::text;
use super::{NUMBER_MAX, SIGNATURE, VERSION};

/// Bytes of which it is known that the fields asked for lie within.
#[derive(Clone, Copy)]
pub struct Fields<'p>(pub &'p [u8]);

impl<'p> Fields<'p> {
    pub fn bytes<const N: usize>(self, at: usize) -> Option<&'p [u8; N]> {
        self.0.get(at..)?.first_chunk()
    }

    fn array<const N: usize>(self, at: usize) -> [u8; N] {
        *self.bytes(at).expect("the length was checked")
    }

    pub fn u16(self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    pub fn u32(self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    pub fn u64(self, at: usize) -> u64 {
        u64::from_be_bytes(self.array(at))
    }

    /// An epoch or an offset; none if it is one that no node comes to.
    pub fn number(self, at: usize) -> Option<u64> {
        Some(self.u64(at)).filter(|number| *number <= NUMBER_MAX)
    }

    pub fn id(self, at: usize) -> Option<NodeId> {
        NodeId::parse(&self.array::<ID_LEN>(at))
    }

    pub fn id_or_zeros(self, at: usize) -> Option<Option<NodeId>> {
        match self.array::<ID_LEN>(at) {
            zeros if zeros == [0; ID_LEN] => Some(None),
            id => NodeId::parse(&id).map(Some),
        }
    }

    /// The text of an address, which ends with a NUL or fills its field.
    pub fn ip_or_zeros(self, at: usize) -> Option<Option<&'p str>> {
        let field = self.bytes::<{ text::IP_BYTES }>(at)?;
        match until_nul(field) {
            b"" => Some(None),
            ip if text::is_ip(ip) => str::from_utf8(ip).ok().map(Some),
            _ => None,
        }
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A packet that is being written.
pub struct Writer(Vec<u8>);

impl Writer {
    /// The bytes up to the first epoch, with the length still to come.
    pub fn begin(number: u16, port: u16) -> Writer {
        let mut out = Writer(Vec::with_capacity(super::HEADER_LEN));
        out.bytes(SIGNATURE);
        out.u32(0);
        [VERSION, port, number, 0].into_iter().for_each(|field| out.u16(field));
        out
    }

    pub fn written(&self) -> usize {
        self.0.len()
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn u16(&mut self, number: u16) {
        self.bytes(&number.to_be_bytes());
    }

    pub fn u32(&mut self, number: u32) {
        self.bytes(&number.to_be_bytes());
    }

    pub fn u64(&mut self, number: u64) {
        self.bytes(&number.to_be_bytes());
    }

    /// A text, cut or filled with NULs to its field's length.
    pub fn padded(&mut self, text: &[u8], len: usize) {
        let text = &text[..text.len().min(len)];
        self.bytes(text);
        self.0.resize(self.0.len() + len - text.len(), 0);
    }

    pub fn end(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).expect("no packet is that long");
        self.0[4..8].copy_from_slice(&len.to_be_bytes());
        self.0
    }
}
