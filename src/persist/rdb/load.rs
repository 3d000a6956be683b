//! Reading a snapshot file: its frame, record by record.
//!
//! Values come as finished entries with the hashes of their keys, so that a thread can decode while
//! another inserts. What a primary leaves out when it loads (keys whose time has come, empty
//! collections) never leaves the loader; it is counted.

use super::decode::{Decoder, Dialect, Limits};
use super::error::RdbError;
use super::input::Input;
use super::{VALKEY_VERSION, VERSION_MAX, form, opcode};
use crate::config::Config;
use crate::keyspace::{AccessClock, AccessPolicy, Entry, KeyHash, KeyHasher, Keyspace};
use std::io::Read;

/// So many empty keys are named in the log.
const EMPTY_KEYS_NAMED: u64 = 10;
/// So many keys whose counts were mended are named.
const MENDED_KEYS_NAMED: u64 = 100;

/// Slots of a cluster.
const SLOTS: u64 = 16_384;

#[derive(Clone)]
pub struct LoadOptions {
    /// What small collections may hold, and the hash of keys and members.
    pub limits: Limits,
    pub now_ms: u64,
    /// Keys whose time has come are left out, as a primary does that loads a file of its own.
    pub drops_expired: bool,
    /// The clock by which entries are stamped.
    pub access: AccessClock,
    pub has_checksum: bool,
    /// How many databases there are.
    pub databases: usize,
    /// How many bytes there are to read, if that is known.
    pub total_bytes: Option<u64>,
    /// Values and records of modules are passed over, not refused: for a check.
    pub skips_modules: bool,
}

impl LoadOptions {
    /// What a configuration says, for loading into a keyspace now. Expired keys are kept.
    pub fn of(config: &Config, space: &Keyspace) -> LoadOptions {
        LoadOptions {
            now_ms: space.now_ms,
            access: space.access.clone(),
            has_checksum: config.rdbchecksum,
            databases: space.db_count(),
            ..LoadOptions::new(Limits::of(config, space.secret()))
        }
    }

    /// What is loaded from a source without a configuration.
    pub fn new(limits: Limits) -> LoadOptions {
        LoadOptions {
            limits,
            now_ms: 0,
            drops_expired: false,
            access: AccessClock::default(),
            has_checksum: true,
            databases: usize::MAX,
            total_bytes: None,
            skips_modules: false,
        }
    }
}

/// What a file holds, one after the other.
#[derive(Debug)]
pub enum Record {
    /// A field that describes the file.
    Aux { name: Vec<u8>, value: Vec<u8> },
    /// The keys that follow belong to this database.
    SelectDb(usize),
    /// How many keys are to come in this database, and how many of them expire: a hint.
    Resize { keys: u64, expiring: u64 },
    /// The source of a function library.
    Function(Vec<u8>),
    /// The name of a module's type whose record beside the keys was passed over.
    ModuleAux(String),
    /// A key with its value, and the key's hash.
    Entry { entry: Entry, hash: KeyHash },
}

/// What became of the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub loaded: u64,
    /// Keys that have an expiry, loaded or not.
    pub expiring: u64,
    /// Keys whose time has come, loaded or not.
    pub expired: u64,
    /// Collections without elements, which are left out.
    pub empty: u64,
    /// Keys with counts that were not those of their elements.
    pub mended: u64,
}

/// What a loader is at, for the report of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Start,
    ReadType,
    ReadExpire,
    ReadKey,
    ReadValue,
    CheckSum,
    ReadLen,
    ReadAux,
    ReadModuleAux,
    ReadFunctions,
}

pub struct Loader<'r> {
    decoder: Decoder<'r>,
    options: LoadOptions,
    version: u32,
    key: Vec<u8>,
    counts: Counts,
    doing: Doing,
    /// The form of the value being read.
    form: Option<u8>,
    is_done: bool,
    /// The file says that it has no checksum.
    lacks_checksum: bool,
}

/// What stands before a key and concerns it alone.
#[derive(Clone, Copy, Default)]
struct Prefix {
    expiry_ms: Option<i64>,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
}

impl<'r> Loader<'r> {
    /// A loader of what the reader yields. Nothing is read yet.
    pub fn new(reader: impl Read + Send + 'r, options: LoadOptions) -> Loader<'r> {
        let input = Input::new(reader, options.total_bytes, options.has_checksum);
        let mut decoder = Decoder::new(input, options.limits);
        decoder.mender.is_allowed = true;
        Loader {
            decoder,
            options,
            version: 0,
            key: Vec::new(),
            counts: Counts::default(),
            doing: Doing::Start,
            form: None,
            is_done: false,
            lacks_checksum: false,
        }
    }

    /// How many bytes were read.
    /// Keys whose time has come are kept from here on.
    pub fn keep_expired(&mut self) {
        self.options.drops_expired = false;
    }

    pub fn position(&self) -> u64 {
        self.decoder.input.position()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The file's version, once the first record was asked for.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Whether the file, read to its end, has no checksum, so that nothing but its form was
    /// checked.
    pub fn lacks_checksum(&self) -> bool {
        self.lacks_checksum
    }

    pub(super) fn doing(&self) -> Doing {
        self.doing
    }

    /// The key and the form of the value that could not be read.
    pub(super) fn reading(&self) -> (Option<&[u8]>, Option<u8>) {
        let has_key = self.doing == Doing::ReadValue;
        (has_key.then_some(&self.key), self.form)
    }

    /// What the reader yields after the end of the snapshot.
    pub fn into_rest(self) -> impl Read + Send + 'r {
        self.decoder.input.into_rest()
    }

    /// The next record; `None` after the end, when the checksum was found right.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<Record>, RdbError> {
        if self.version == 0 {
            self.read_head()?;
        }
        if self.is_done {
            return Ok(None);
        }
        let mut prefix = Prefix::default();
        loop {
            self.doing = Doing::ReadType;
            let number = self.decoder.input.byte()?;
            if number >= opcode::SLOT_INFO {
                if number == opcode::END {
                    self.finish()?;
                    return Ok(None);
                }
                if let Some(record) = self.opcode(number, &mut prefix)? {
                    return Ok(Some(record));
                }
            } else if let Some(record) = self.entry(number, prefix)? {
                return Ok(Some(record));
            } else {
                prefix = Prefix::default();
            }
        }
    }

    fn read_head(&mut self) -> Result<(), RdbError> {
        let magic: [u8; 9] = self.decoder.input.array()?;
        let (dialect, digits) = match magic.split_first_chunk::<6>() {
            Some((b"VALKEY", digits)) => (Dialect::Valkey, digits),
            _ if magic.starts_with(b"REDIS") => (Dialect::Redis, &magic[5..]),
            _ => return Err(RdbError::Signature),
        };
        // Redis reads digits as far as there are any.
        let digits = digits.iter().take_while(|digit| digit.is_ascii_digit());
        let version = digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        let is_known = match dialect {
            Dialect::Redis => (1..=u32::from(VERSION_MAX)).contains(&version),
            Dialect::Valkey => version == u32::from(VALKEY_VERSION),
        };
        if !is_known {
            return Err(RdbError::Version(version));
        }
        self.decoder.dialect = dialect;
        self.version = version;
        Ok(())
    }

    /// What stands between keys or before one.
    fn opcode(&mut self, number: u8, prefix: &mut Prefix) -> Result<Option<Record>, RdbError> {
        let input = &mut self.decoder.input;
        match number {
            opcode::EXPIRE_MS => {
                self.doing = Doing::ReadExpire;
                prefix.expiry_ms = Some(i64::from_le_bytes(input.array()?));
            }
            opcode::EXPIRE_SECONDS => {
                self.doing = Doing::ReadExpire;
                let seconds = i64::from(i32::from_le_bytes(input.array()?));
                prefix.expiry_ms = Some(seconds * 1000);
            }
            opcode::FREQUENCY => prefix.frequency = Some(input.byte()?),
            opcode::IDLE => prefix.idle_seconds = Some(input.length()?),
            opcode::SELECT_DB => {
                self.doing = Doing::ReadLen;
                let index = input.length()?;
                let db = usize::try_from(index).ok().filter(|db| *db < self.options.databases);
                return db.map(|db| Some(Record::SelectDb(db))).ok_or(RdbError::Database(index));
            }
            opcode::RESIZE_DB => {
                self.doing = Doing::ReadLen;
                return Ok(Some(Record::Resize {
                    keys: input.length()?,
                    expiring: input.length()?,
                }));
            }
            opcode::SLOT_INFO => {
                self.doing = Doing::ReadLen;
                if input.length()? >= SLOTS {
                    return Err(RdbError::Corrupt("Slot info of a slot that no cluster has"));
                }
                input.length()?;
                input.length()?;
            }
            opcode::AUX => {
                self.doing = Doing::ReadAux;
                let (mut name, mut value) = (Vec::new(), Vec::new());
                input.string_to(&mut name)?;
                input.string_to(&mut value)?;
                return Ok(Some(Record::Aux { name, value }));
            }
            opcode::FUNCTION => {
                self.doing = Doing::ReadFunctions;
                let mut source = Vec::new();
                input.string_to(&mut source)?;
                return Ok(Some(Record::Function(source)));
            }
            opcode::MODULE_AUX => {
                self.doing = Doing::ReadModuleAux;
                let name = self.decoder.module_aux()?;
                if !self.options.skips_modules {
                    return Err(RdbError::ModuleAux(name));
                }
                return Ok(Some(Record::ModuleAux(name)));
            }
            opcode::FUNCTION_PRE_RELEASE => return Err(RdbError::FunctionPreRelease),
            _ => return Err(RdbError::UnknownType(number)),
        }
        Ok(None)
    }

    /// A key with its value; `None` if it is left out.
    #[inline]
    fn entry(&mut self, number: u8, prefix: Prefix) -> Result<Option<Record>, RdbError> {
        form::find(number).ok_or(RdbError::UnknownType(number))?;
        self.form = Some(number);
        self.doing = Doing::ReadKey;
        self.decoder.input.string_to(&mut self.key)?;
        self.doing = Doing::ReadValue;
        if number == form::MODULE && self.options.skips_modules {
            self.decoder.skip_module()?;
            self.counts.loaded += 1;
            return Ok(None);
        }
        // A time before 1970 has come as much as one in 1970.
        let expiry_ms = prefix.expiry_ms.map(|at_ms| at_ms.max(0).cast_unsigned());
        let entry = self.decoder.value(number, &self.key, expiry_ms)?;
        self.form = None;
        if let Some(what) = self.decoder.mender.mended.take() {
            self.tell_of_mended_key(what);
        }
        self.counts.expiring += u64::from(expiry_ms.is_some());
        let Some(entry) = entry else {
            self.tell_of_empty_key();
            return Ok(None);
        };
        if entry.is_expired(self.options.now_ms) {
            self.counts.expired += 1;
            if self.options.drops_expired {
                return Ok(None);
            }
        }
        entry.set_clock(self.stamp(prefix));
        self.counts.loaded += 1;
        let hash = KeyHasher::new(self.options.limits.hash.secret).hash(entry.key());
        Ok(Some(Record::Entry { entry, hash }))
    }

    fn tell_of_empty_key(&mut self) {
        self.counts.empty += 1;
        if self.counts.empty <= EMPTY_KEYS_NAMED {
            tracing::info!("rdbLoadObject skipping empty key: {}", self.key.escape_ascii());
        }
    }

    fn tell_of_mended_key(&mut self, what: &str) {
        self.counts.mended += 1;
        if self.counts.mended <= MENDED_KEYS_NAMED {
            let key = self.key.escape_ascii();
            tracing::warn!("Mended the {what} of the key '{key}'");
        }
    }

    /// The access stamp of an entry: as the file has it, if it speaks of the same policy.
    fn stamp(&self, prefix: Prefix) -> u32 {
        let access = &self.options.access;
        match (access.policy, prefix.idle_seconds, prefix.frequency) {
            (AccessPolicy::Recency, Some(seconds), _) => access.idle_stamp(seconds),
            (AccessPolicy::Frequency, _, Some(count)) => access.frequency_stamp(count),
            _ => access.fresh(),
        }
    }

    /// The end: files from version 5 on have a checksum, which may be 0 for none.
    fn finish(&mut self) -> Result<(), RdbError> {
        self.is_done = true;
        if self.version < 5 {
            return Ok(());
        }
        self.doing = Doing::CheckSum;
        let computed = self.decoder.input.sum();
        let stored = u64::from_le_bytes(self.decoder.input.array()?);
        self.lacks_checksum = stored == 0;
        if self.options.has_checksum && stored != 0 && stored != computed {
            return Err(RdbError::Checksum { stored, computed });
        }
        Ok(())
    }
}
