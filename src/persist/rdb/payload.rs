//! The payloads of DUMP and RESTORE: one value, the version of the format, and a checksum.
//!
//! ```text
//! form u8 | value ... | version u16 | checksum u64 of all before it
//! ```

use super::decode::{Decoder, Dialect, Limits};
use super::encode::{self, Form};
use super::error::RdbError;
use super::input::Input;
use super::sink::Sink;
use super::{SaveVersion, VALKEY_VERSION, VERSION_MAX};
use crate::keyspace::Entry;
use crate::persist::crc64;

const VERSION_WIDTH: usize = 2;
const SUM_WIDTH: usize = 8;

/// The payload of an entry's value.
pub fn dump(entry: &Entry, version: SaveVersion, compresses: bool) -> Vec<u8> {
    let version = version.for_fields(encode::has_timed_fields(entry));
    let mut sink = Sink::in_memory(compresses);
    let Form { number, .. } = encode::form_of(entry, version);
    sink.byte(number);
    encode::write_value(entry, number, &mut sink);
    seal(sink, version)
}

/// What a sink was given, with the version and the checksum behind it.
pub(super) fn seal(mut sink: Sink<'_>, version: SaveVersion) -> Vec<u8> {
    sink.bytes(&version.number().to_le_bytes());
    let mut payload = sink.into_bytes();
    let sum = crc64::of(&payload);
    payload.extend_from_slice(&sum.to_le_bytes());
    payload
}

/// How long an entry's value is in a snapshot file.
pub fn value_len(entry: &Entry, version: SaveVersion, compresses: bool) -> u64 {
    let version = version.for_fields(encode::has_timed_fields(entry));
    let mut sink = Sink::in_memory(compresses);
    let Form { number, .. } = encode::form_of(entry, version);
    encode::write_value(entry, number, &mut sink);
    sink.written()
}

/// Form and value of a payload whose version is known and whose checksum is right.
#[derive(Clone, Copy)]
pub struct Verified<'p> {
    pub(super) body: &'p [u8],
    dialect: Dialect,
}

/// Looks at what follows the value; `None` if it is no payload, or one of a newer server. Tests
/// that care for the value alone skip the checksum.
pub fn verify(payload: &[u8], skips_checksum: bool) -> Option<Verified<'_>> {
    let (summed, sum) = payload.split_last_chunk::<SUM_WIDTH>()?;
    let (body, version) = summed.split_last_chunk::<VERSION_WIDTH>()?;
    let dialect = match u16::from_le_bytes(*version) {
        ..=VERSION_MAX => Dialect::Redis,
        VALKEY_VERSION => Dialect::Valkey,
        _ => return None,
    };
    let is_right = skips_checksum || u64::from_le_bytes(*sum) == crc64::of(summed);
    is_right.then_some(Verified { body, dialect })
}

/// The entry that a key gets by a payload.
pub fn restore(
    payload: Verified<'_>,
    key: &[u8],
    expiry_ms: Option<u64>,
    limits: &Limits,
) -> Result<Entry, RdbError> {
    let mut decoder = Decoder::new(Input::of_bytes(payload.body), *limits);
    decoder.dialect = payload.dialect;
    let number = decoder.input.byte()?;
    let entry = decoder.value(number, key, expiry_ms)?;
    let entry = entry.ok_or(RdbError::Corrupt("Collection without elements"))?;
    if decoder.input.is_at_end()? {
        Ok(entry)
    } else {
        Err(RdbError::Corrupt("Bytes after the value"))
    }
}
