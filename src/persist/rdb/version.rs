//! The versions of the format that are written.

/// For which servers a snapshot is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SaveVersion {
    /// Redis 7.0. Fields of hashes lose their expiry.
    V10,
    /// Redis 7.2 and all Valkeys. What has hashes with fields that expire is written as the next
    /// version: no server of this one knows such fields.
    #[default]
    V11,
    /// Redis 7.4.
    V12,
}

impl SaveVersion {
    pub fn number(self) -> u16 {
        match self {
            SaveVersion::V10 => 10,
            SaveVersion::V11 => 11,
            SaveVersion::V12 => 12,
        }
    }

    /// The version in which something is written that has fields that expire, or has not.
    pub(super) fn for_fields(self, expire: bool) -> SaveVersion {
        match self {
            SaveVersion::V11 if expire => SaveVersion::V12,
            version => version,
        }
    }
}
