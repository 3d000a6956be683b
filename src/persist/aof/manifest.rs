//! The manifest: which files make up the append-only file, and in which order they are read.
//!
//! A line a file: `file <name> seq <n> type <b|h|i>`. The base is a snapshot, the increments are
//! the writes since, and history files are neither: they wait for their deletion. The file is
//! replaced as a whole (a temporary one, synced, then renamed, then the directory synced), so a
//! crash leaves the old one or the new one. Editing it in place would need an AOF for the AOF.
//!
//! Invariant: the numbers of the increments grow.

use super::mark::{KEY_LINE_BYTES, Key};
use crate::config::quote::quote;
use crate::persist::disk::Disk;
use crate::structs::words;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What a file of the AOF is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Base,
    History,
    Increment,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AofFile {
    pub name: String,
    pub seq: u64,
    pub role: Role,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manifest {
    pub base: Option<AofFile>,
    pub history: Vec<AofFile>,
    pub increments: Vec<AofFile>,
    /// The increment of another server that we append to.
    pub taken_over: Option<TakenOver>,
    /// Numbers that are left out, since files of that name may be there; no part of the text.
    pub skipped: u64,
}

/// An increment that another server began, and that is ours from an offset on. Its key stands in
/// the manifest, in a comment, which Redis skips: in the file itself a client's data could have put
/// one.
///
///     #KEY:<32 hex digits>:<number of the increment>:<offset>
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakenOver {
    pub seq: u64,
    /// What lies before was durable when we began to append.
    pub from: u64,
    pub key: Key,
}

impl TakenOver {
    fn print(&self) -> Vec<u8> {
        let mut line = self.key.line().trim_ascii_end().to_vec();
        line.extend(format!(":{}:{}\n", self.seq, self.from).into_bytes());
        line
    }

    fn parse(line: &[u8]) -> Option<TakenOver> {
        let text = std::str::from_utf8(line.trim_ascii_end()).ok()?;
        let (rest, from) = text.rsplit_once(':')?;
        let (key, seq) = rest.rsplit_once(':')?;
        let key = Key::parse(key.as_bytes())?;
        Some(TakenOver { seq: seq.parse().ok()?, from: from.parse().ok()?, key })
    }
}

/// How a base is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BaseForm {
    Rdb,
    Commands,
}

/// Why a manifest cannot be used, in Redis's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestError {
    pub reason: &'static str,
    /// The line's number from 1 and its text, if one line is at fault.
    pub line: Option<(usize, String)>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for ManifestError {}

/// Where the AOF lies and what its files are called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub directory: PathBuf,
    /// What the names of the files start with.
    pub prefix: String,
}

impl Place {
    /// The directory that holds the AOF's directory.
    pub fn parent(&self) -> &Path {
        match self.directory.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn manifest_name(&self) -> String {
        format!("{}.manifest", self.prefix)
    }

    pub fn base_name(&self, seq: u64, form: BaseForm) -> String {
        let suffix = match form {
            BaseForm::Rdb => "rdb",
            BaseForm::Commands => "aof",
        };
        format!("{}.{seq}.base.{suffix}", self.prefix)
    }

    pub fn increment_name(&self, seq: u64) -> String {
        format!("{}.{seq}.incr.aof", self.prefix)
    }

    /// The increment that belongs to a base that is not there yet.
    pub fn temporary_increment_name(&self) -> String {
        format!("temp-{}.incr", self.prefix)
    }

    /// The base that is being written.
    pub fn temporary_base_name(&self, process_id: u32) -> String {
        format!("temp-rewriteaof-bg-{process_id}.aof")
    }

    /// The file whose lock is the claim on the AOF.
    pub fn lock_name(&self) -> String {
        format!("{}.lock", self.prefix)
    }

    fn temporary_manifest_name(&self) -> String {
        format!("temp-{}", self.manifest_name())
    }

    /// Whether a file of this name is one that was being written, by us or by Redis. A base has
    /// the number of its writer in its name, which tells whether it still is.
    fn is_temporary(&self, name: &str, is_over: impl Fn(u32) -> bool) -> bool {
        let writer = || {
            let digits = name.strip_prefix("temp-rewriteaof-")?.strip_suffix(".aof")?;
            digits.strip_prefix("bg-").unwrap_or(digits).parse().ok()
        };
        name == self.temporary_increment_name()
            || name == self.temporary_manifest_name()
            || writer().is_some_and(is_over)
    }
}

/// What a manifest without files says: an empty one is an error.
const NOTHING_LISTED: &[u8] = b"# No file is part of the log yet.\n";
const LINE_BYTES_MAX: usize = 1024;
/// No manifest is longer than this; a longer file is something else.
const FILE_BYTES_MAX: u64 = 16 << 20;

impl Manifest {
    pub fn parse(text: &[u8]) -> Result<Manifest, ManifestError> {
        let mut manifest = Manifest::default();
        if text.is_empty() {
            return Err(ManifestError { reason: "Found an empty AOF manifest", line: None });
        }
        for (idx, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            if line.starts_with(b"#") {
                manifest.taken_over = manifest.taken_over.or(TakenOver::parse(line));
                continue;
            }
            let fault = |reason, line: &[u8]| ManifestError {
                reason,
                line: Some((idx + 1, String::from_utf8_lossy(line).into_owned())),
            };
            if !line.ends_with(b"\n") || line.len() > LINE_BYTES_MAX {
                let reason = "The AOF manifest file contains too long line";
                return Err(ManifestError { reason, line: None });
            }
            let line = line.trim_ascii();
            manifest.add_line(line).map_err(|reason| fault(reason, line))?;
        }
        Ok(manifest)
    }

    fn add_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        const MALFORMED: &str = "Invalid AOF manifest file format";
        let words = words::split(line).map_err(|_| MALFORMED)?;
        if words.len() < 6 || words.len() % 2 == 1 {
            return Err(MALFORMED);
        }
        let (mut name, mut seq, mut kind) = (None, 0, None);
        for pair in words.chunks_exact(2) {
            let (key, value) = (&pair[0], &pair[1]);
            if key.eq_ignore_ascii_case(b"file") {
                if value.contains(&b'/') || value.contains(&b'\\') {
                    return Err("File can't be a path, just a filename");
                }
                name = Some(String::from_utf8(value.clone()).map_err(|_| MALFORMED)?);
            } else if key.eq_ignore_ascii_case(b"seq") {
                seq = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).unwrap_or(0);
            } else if key.eq_ignore_ascii_case(b"type") {
                kind = value.first().copied();
            }
        }
        let (Some(name), 1.., Some(kind)) = (name, seq, kind) else { return Err(MALFORMED) };
        match kind {
            b'b' if self.base.is_some() => return Err("Found duplicate base file information"),
            b'b' => self.base = Some(AofFile { name, seq, role: Role::Base }),
            b'h' => self.history.push(AofFile { name, seq, role: Role::History }),
            b'i' if self.increments.last().is_some_and(|last| seq <= last.seq) => {
                return Err("Found a non-monotonic sequence number");
            }
            b'i' => self.increments.push(AofFile { name, seq, role: Role::Increment }),
            _ => return Err("Unknown AOF file type"),
        }
        Ok(())
    }

    /// The text of the file.
    pub fn print(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if self.is_empty() && self.history.is_empty() {
            text.extend(NOTHING_LISTED);
        }
        for file in self.base.iter().chain(&self.history).chain(&self.increments) {
            let kind = match file.role {
                Role::Base => 'b',
                Role::History => 'h',
                Role::Increment => 'i',
            };
            text.extend(b"file ");
            let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'\\".contains(&byte);
            if !file.name.is_empty() && file.name.bytes().all(is_plain) {
                text.extend(file.name.as_bytes());
            } else {
                text.extend(quote(file.name.as_bytes()));
            }
            text.extend(format!(" seq {} type {kind}\n", file.seq).into_bytes());
        }
        let is_listed = |taken: &&TakenOver| self.increments.iter().any(|f| f.seq == taken.seq);
        text.extend(self.taken_over.iter().filter(is_listed).flat_map(TakenOver::print));
        text
    }

    /// Reads the manifest of a place; none if there is no such file.
    pub fn load(disk: &dyn Disk, place: &Place) -> Result<Option<Manifest>, LoadError> {
        let path = place.path(&place.manifest_name());
        let reader = match disk.read(&path) {
            Ok(reader) => reader,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LoadError::Unreadable(path, error)),
        };
        let mut text = Vec::new();
        let read = reader.take(FILE_BYTES_MAX).read_to_end(&mut text);
        read.map_err(|error| LoadError::Unreadable(path.clone(), error))?;
        Manifest::parse(&text).map(Some).map_err(LoadError::Malformed)
    }

    /// Replaces the file of a place, and returns when that will outlast a loss of power.
    pub fn store(&self, disk: &dyn Disk, place: &Place) -> io::Result<()> {
        let name = place.manifest_name();
        let temporary = place.path(&place.temporary_manifest_name());
        let file = disk.create(&temporary)?;
        write_all(&*file, &self.print())?;
        file.sync()?;
        disk.rename(&temporary, &place.path(&name))?;
        disk.sync_directory(&place.directory)
    }

    /// From where on a file is ours, if another server began it, and its key.
    pub fn taken_over(&self, file: &AofFile) -> Option<(u64, Key)> {
        let taken = self.taken_over.as_ref();
        let taken = taken.filter(|own| file.role == Role::Increment && own.seq == file.seq)?;
        Some((taken.from, taken.key.clone()))
    }

    /// The base and the increments in the order in which they are read.
    pub fn files(&self) -> impl Iterator<Item = &AofFile> {
        self.base.iter().chain(&self.increments)
    }

    /// Whether it lists a file of this name, in use or not any more.
    pub fn names(&self, name: &str) -> bool {
        self.files().chain(&self.history).any(|file| file.name == name)
    }

    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.increments.is_empty()
    }

    /// Adds an increment after the last one.
    pub fn add_increment(&mut self, place: &Place) -> &AofFile {
        let last = self.increments.iter().chain(&self.history).chain(&self.base);
        let last = last.filter(|file| file.role == Role::Increment || is_increment(&file.name));
        let seq = last.map(|file| file.seq).max().unwrap_or(0).saturating_add(1 + self.skipped);
        let name = place.increment_name(seq);
        self.increments.push(AofFile { name, seq, role: Role::Increment });
        self.increments.last().expect("one was just added")
    }

    fn next_base_seq(&self) -> u64 {
        let is_base = |file: &&AofFile| !is_increment(&file.name);
        let bases = self.base.iter().chain(self.history.iter().filter(is_base));
        bases.map(|file| file.seq).max().unwrap_or(0).saturating_add(1 + self.skipped)
    }

    /// Puts a new base in the place of the old one and of all increments but the last `kept`.
    pub fn replace_base(&mut self, place: &Place, form: BaseForm, kept: usize) -> &AofFile {
        let seq = self.next_base_seq();
        let old = self.base.take();
        let stale = self.increments.len() - kept;
        let stale = old.into_iter().chain(self.increments.drain(..stale));
        for file in stale.collect::<Vec<_>>() {
            // The newest comes first, as Redis lists them.
            self.history.insert(0, AofFile { role: Role::History, ..file });
        }
        let name = place.base_name(seq, form);
        self.base.insert(AofFile { name, seq, role: Role::Base })
    }
}

fn is_increment(name: &str) -> bool {
    name.ends_with(".incr.aof")
}

/// Writes all of the bytes.
pub fn write_all(file: &dyn crate::persist::disk::DiskFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.append(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Why there is no manifest to go by.
#[derive(Debug)]
pub enum LoadError {
    Unreadable(PathBuf, io::Error),
    Malformed(ManifestError),
}

/// The files that have names of the AOF's; only a manifest says which of them are part of it.
pub fn numbered_files(disk: &dyn Disk, place: &Place) -> Vec<(u64, String)> {
    let number = |name: &String| {
        let rest = name.strip_prefix(&place.prefix)?.strip_prefix('.')?;
        let (digits, kind) = rest.split_once('.')?;
        matches!(kind, "base.rdb" | "base.aof" | "incr.aof").then(|| digits.parse().ok())?
    };
    let names = disk.list(&place.directory).unwrap_or_default();
    let mut files: Vec<_> =
        names.into_iter().filter_map(|name| Some((number(&name)?, name))).collect();
    files.sort();
    files
}

/// Whether there is nothing in a file but, perhaps, its key.
pub fn holds_nothing(disk: &dyn Disk, path: &Path) -> bool {
    let mut start = Vec::new();
    let read =
        disk.read(path).and_then(|file| file.take(KEY_LINE_BYTES + 1).read_to_end(&mut start));
    let is_key = || Key::parse(start.trim_ascii_end()).is_some();
    read.is_ok_and(|len| len == 0 || (len as u64 == KEY_LINE_BYTES && is_key()))
}

/// Deletes what writers of the AOF that are gone left behind; failing to costs only space.
pub fn remove_temporaries(disk: &dyn Disk, place: &Place, is_over: impl Fn(u32) -> bool) {
    for name in disk.list(&place.directory).unwrap_or_default() {
        if place.is_temporary(&name, &is_over) {
            let _ = disk.remove(&place.path(&name));
        }
    }
}

/// Deletes the base that had its name already when its writer ended, before a manifest listed it.
/// The next rewrite would put its own in that place, but perhaps under the name of the other form.
/// Nothing is deleted where an increment lies that the manifest does not know and that holds
/// something: somebody has put an older manifest there, or the writer's AOF was broken, and then
/// it belongs to that base. (One without content is written over by the next rewrite.)
pub fn remove_unlisted_base(disk: &dyn Disk, place: &Place, manifest: &Manifest) {
    let files = numbered_files(disk, place);
    let unlisted = files.iter().map(|(_, name)| name).filter(|name| !manifest.names(name));
    let mut increments = unlisted.filter(|name| is_increment(name));
    if manifest.is_empty() || increments.any(|name| !holds_nothing(disk, &place.path(name))) {
        return;
    }
    for form in [BaseForm::Rdb, BaseForm::Commands] {
        let name = place.base_name(manifest.next_base_seq(), form);
        if disk.remove(&place.path(&name)).is_ok() {
            tracing::info!("Removed {name}, which an interrupted rewrite left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { directory: "d".into(), prefix: "a.aof".to_owned() }
    }

    #[test]
    fn a_manifest_is_what_it_was_printed_from() {
        let text = b"# a comment\nfile a.aof.2.base.rdb seq 2 type b\nfile a.aof.1.incr.aof seq 1 \
            type h\nfile \"a b.3.incr.aof\" seq 3 type i extra 1\nTYPE i SEQ 4 FILE x\n";
        let manifest = Manifest::parse(text).expect("it is valid");
        assert_eq!(manifest.base.as_ref().map(|base| base.seq), Some(2));
        assert_eq!(manifest.increments[0].name, "a b.3.incr.aof");
        assert_eq!(manifest.increments[1].seq, 4);
        assert_eq!(Manifest::parse(&manifest.print()), Ok(manifest));
        let nothing = Manifest::default();
        assert_eq!(Manifest::parse(&nothing.print()), Ok(nothing));
    }

    #[test]
    fn only_files_that_were_being_written_are_temporary() {
        let place = place();
        let is_over = |writer| writer == 17;
        for name in [
            "temp-a.aof.manifest",
            "temp-a.aof.incr",
            "temp-rewriteaof-bg-17.aof",
            "temp-rewriteaof-17.aof",
        ] {
            assert!(place.is_temporary(name, is_over), "{name}");
        }
        for name in [
            "temp-",
            "temp-b.aof.incr",
            "temp-rewriteaof-bg-mine.aof",
            "temp-rewriteaof-bg-18.aof",
            "temp-rewriteaof-18.aof",
            "temp-notes.txt",
        ] {
            assert!(!place.is_temporary(name, is_over), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, reason) in [
            (&b""[..], "Found an empty AOF manifest"),
            (b"\n", "Invalid AOF manifest file format"),
            (b"file a seq 1\n", "Invalid AOF manifest file format"),
            (b"file a seq 1 type b x\n", "Invalid AOF manifest file format"),
            (b"file a seq 0 type b\n", "Invalid AOF manifest file format"),
            (b"file a/b seq 1 type b\n", "File can't be a path, just a filename"),
            (b"file a seq 1 type x\n", "Unknown AOF file type"),
            (b"file a seq 1 type b", "The AOF manifest file contains too long line"),
            (
                b"file a seq 1 type b\nfile b seq 2 type b\n",
                "Found duplicate base file information",
            ),
            (
                b"file a seq 2 type i\nfile b seq 2 type i\n",
                "Found a non-monotonic sequence number",
            ),
        ] {
            let error = Manifest::parse(text).expect_err("it is not valid");
            assert_eq!(error.reason, reason, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_new_base_makes_the_rest_history() {
        let place = place();
        let mut manifest = Manifest::default();
        assert_eq!(manifest.add_increment(&place).name, "a.aof.1.incr.aof");
        manifest.add_increment(&place);
        assert_eq!(manifest.replace_base(&place, BaseForm::Rdb, 1).name, "a.aof.1.base.rdb");
        assert_eq!(manifest.history.len(), 1);
        manifest.add_increment(&place);
        let base = manifest.replace_base(&place, BaseForm::Commands, 1);
        assert_eq!(base.name, "a.aof.2.base.aof");
        assert_eq!(manifest.increments[0].name, "a.aof.3.incr.aof");
        let history: Vec<&str> = manifest.history.iter().map(|file| &*file.name).collect();
        assert_eq!(history, ["a.aof.2.incr.aof", "a.aof.1.base.rdb", "a.aof.1.incr.aof"]);
    }
}
