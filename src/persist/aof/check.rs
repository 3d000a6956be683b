//! The check of an AOF from the command line, in the words of redis-check-aof: scripts look for its
//! lines and its exit code.
//!
//! A file is read as its grammar says, command by command, and nothing is run. What is wrong is
//! told with its offset; `--fix` cuts the last file there, and `--truncate-to-timestamp` where the
//! first later time is noted. Unlike Redis's tool this one verifies the marks between the
//! commands, and keeps what it cuts off in a file beside.

use super::damage;
use super::manifest::{Manifest, Role};
use super::mark::Key;
use super::reader::{CommandReader, Item, ReadError};
use crate::config::os_reason;
use crate::persist::rdb::check;
use crate::resp::OwnedRequest;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is to be done to the file that is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repair {
    None,
    Fix,
    /// What was written after this Unix time is cut off.
    TruncateTo(u64),
}

/// How a file was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Finding {
    Valid,
    Empty,
    TruncatedToTime,
    Truncated,
}

/// Why the check ends at once: the reason has been told.
enum Stop {
    Invalid,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Io(error)
    }
}

/// Where the check reads answers and writes what it finds.
pub struct Console<'a> {
    pub input: &'a mut dyn BufRead,
    pub out: &'a mut dyn Write,
}

/// Checks an AOF, given its manifest or a single file; whether it is fine now.
pub fn check_aof(path: &Path, repair: Repair, console: &mut Console<'_>) -> io::Result<bool> {
    let checked = match read_start(path) {
        Ok(start) if is_manifest(&start) => check_parts(path, repair, console),
        Ok(start) => check_single(path, repair, &start, console),
        Err(error) => {
            let (path, reason) = (path.display(), os_reason(&error));
            writeln!(console.out, "Cannot open file {path}: {reason}")?;
            return Ok(false);
        }
    };
    match checked {
        Ok(()) => Ok(true),
        Err(Stop::Invalid) => Ok(false),
        Err(Stop::Io(error)) => Err(error),
    }
}

/// Enough of a file to see what it is.
fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(64 * 1024).read_to_end(&mut start)?;
    Ok(start)
}

fn is_manifest(start: &[u8]) -> bool {
    let line = start.split(|byte| *byte == b'\n').find(|line| !line.starts_with(b"#"));
    line.is_some_and(|line| line.starts_with(b"file"))
}

fn is_snapshot(start: &[u8]) -> bool {
    start.len() >= 8 && start.starts_with(b"REDIS")
}

fn check_single(
    path: &Path,
    repair: Repair,
    start: &[u8],
    console: &mut Console<'_>,
) -> Result<(), Stop> {
    writeln!(console.out, "Start checking Old-Style AOF")?;
    let name = path.display().to_string();
    let has_snapshot = is_snapshot(start);
    let part = Part { name: &name, path, is_last: true, has_snapshot, taken_over: None };
    let finding = part.check(repair, console)?;
    tell(finding, "AOF", &name, repair, console.out)
}

fn check_parts(path: &Path, repair: Repair, console: &mut Console<'_>) -> Result<(), Stop> {
    writeln!(console.out, "Start checking Multi Part AOF")?;
    let manifest = match Manifest::parse(&fs::read(path)?) {
        Ok(manifest) => manifest,
        Err(error) => {
            writeln!(console.out, "\n*** FATAL AOF MANIFEST FILE ERROR ***\n")?;
            if let Some((number, line)) = &error.line {
                writeln!(console.out, "Reading the manifest file, at line {number}\n")?;
                writeln!(console.out, ">>> '{line}'\n")?;
            }
            writeln!(console.out, "{error}\n")?;
            return Err(Stop::Invalid);
        }
    };
    let directory = path.parent().unwrap_or(Path::new(""));
    let count = manifest.files().count();
    let mut told_of_increments = false;
    for (idx, file) in manifest.files().enumerate() {
        let path = directory.join(&file.name);
        let mut has_snapshot = false;
        let kind = if file.role == Role::Base {
            has_snapshot = read_start(&path).is_ok_and(|start| is_snapshot(&start));
            let form = if has_snapshot { "RDB" } else { "RESP" };
            writeln!(console.out, "Start to check BASE AOF ({form} format).")?;
            "BASE AOF"
        } else {
            if !std::mem::replace(&mut told_of_increments, true) {
                writeln!(console.out, "Start to check INCR files.")?;
            }
            "INCR AOF"
        };
        let part = Part {
            name: &file.name,
            path: &path,
            is_last: idx + 1 == count,
            has_snapshot,
            taken_over: manifest.taken_over(file),
        };
        let finding = part.check(repair, console)?;
        tell(finding, kind, &file.name, repair, console.out)?;
    }
    writeln!(console.out, "All AOF files and manifest are valid")?;
    Ok(())
}

fn tell(
    finding: Finding,
    kind: &str,
    name: &str,
    repair: Repair,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    match (finding, repair) {
        (Finding::Valid, _) => writeln!(out, "{kind} {name} is valid")?,
        (Finding::Empty, _) => writeln!(out, "{kind} {name} is empty")?,
        (Finding::TruncatedToTime, Repair::TruncateTo(seconds)) => {
            writeln!(out, "Successfully truncated AOF {name} to timestamp {seconds}")?;
        }
        _ => writeln!(out, "Successfully truncated AOF {name}")?,
    }
    Ok(())
}

/// A file of the AOF.
struct Part<'a> {
    name: &'a str,
    path: &'a Path,
    is_last: bool,
    has_snapshot: bool,
    taken_over: Option<(u64, Key)>,
}

/// How far a file is good, and why no further.
struct Extent {
    good: u64,
    lines: u64,
    fault: Option<String>,
}

impl Part<'_> {
    fn check(&self, repair: Repair, console: &mut Console<'_>) -> Result<Finding, Stop> {
        let mut file = match OpenOptions::new().read(true).write(true).open(self.path) {
            Ok(file) => file,
            Err(error) => {
                let (path, reason) = (self.path.display(), os_reason(&error));
                writeln!(console.out, "Cannot open file {path}: {reason}, aborting...")?;
                return Err(Stop::Invalid);
            }
        };
        let size = file.metadata()?.len();
        if size == 0 {
            return Ok(Finding::Empty);
        }
        let mut start = 0;
        if self.has_snapshot {
            match check::check_front(&mut file, console.out)? {
                Some(len) => start = len,
                None => {
                    writeln!(console.out, "RDB preamble of AOF file is not sane, aborting.")?;
                    return Err(Stop::Invalid);
                }
            }
            writeln!(console.out, "RDB preamble is OK, proceeding with AOF tail...")?;
        }
        file.seek(SeekFrom::Start(start))?;
        let extent = match self.scan(&file, size, start, repair) {
            Scan::Extent(extent) => extent,
            Scan::Later(at) => return self.truncate_to_time(&file, at, repair, console.out),
        };
        if let Some(fault) = &extent.fault {
            writeln!(console.out, "{fault}")?;
        }
        let bad = size - extent.good;
        if let (0, Repair::TruncateTo(seconds)) = (bad, repair) {
            let name = self.name;
            writeln!(console.out, "Truncate nothing in AOF {name} to timestamp {seconds}")?;
            return Ok(Finding::Valid);
        }
        writeln!(
            console.out,
            "AOF analyzed: filename={}, size={size}, ok_up_to={}, ok_up_to_line={}, diff={bad}",
            self.name, extent.good, extent.lines
        )?;
        if bad == 0 {
            return Ok(Finding::Valid);
        }
        if repair != Repair::Fix {
            writeln!(
                console.out,
                "AOF {} is not valid. Use the --fix option to try fixing it.",
                self.name
            )?;
            return Err(Stop::Invalid);
        }
        self.fix(&file, size, extent.good, console)
    }

    /// Reads the commands from `start` on.
    fn scan(&self, file: &File, size: u64, start: u64, repair: Repair) -> Scan {
        let reader = CommandReader::new(file, size, start, true);
        let mut reader = reader.taken_over(self.taken_over.clone());
        let mut command = OwnedRequest::default();
        let mut extent = Extent { good: start, lines: 1, fault: None };
        let mut transaction = None;
        let told = |at: u64, text: String| Some(format!("0x{at:16x}: {text}"));
        loop {
            let at = reader.offset();
            if transaction.is_none() {
                extent.good = at;
            }
            let item = match reader.next(&mut command) {
                Ok(item) => item,
                Err(error) => {
                    // Where the loader would cut, or must not.
                    if !matches!(error, ReadError::Io(_)) {
                        extent.good = damage::place_of(&error, transaction);
                    }
                    extent.fault = told(reader.offset(), error.to_string());
                    return Scan::Extent(extent);
                }
            };
            match (item, repair) {
                (Item::Time(seconds), Repair::TruncateTo(limit)) if seconds > limit => {
                    return Scan::Later(reader.note_offset());
                }
                (Item::Time(_) | Item::Origin(_), _) => continue,
                (Item::End, _) => {
                    if let Some(start) = transaction {
                        extent.good = start;
                        let text = "Reached EOF before reading EXEC for MULTI".to_owned();
                        extent.fault = told(at, text);
                    } else {
                        extent.good = reader.offset();
                    }
                    return Scan::Extent(extent);
                }
                (Item::Command, _) => {}
            }
            let request = command.as_request();
            extent.lines += 1 + 2 * request.len() as u64;
            let opens = request.arg(0).eq_ignore_ascii_case(b"multi");
            let closes = request.arg(0).eq_ignore_ascii_case(b"exec");
            let is_open = transaction.is_some();
            if (opens && is_open) || (closes && !is_open) {
                let word = if opens { "MULTI" } else { "EXEC" };
                extent.fault =
                    told(at, format!("Unexpected {word} in AOF {}", self.path.display()));
                return Scan::Extent(extent);
            }
            transaction = transaction.or(opens.then(|| reader.command_start())).filter(|_| !closes);
        }
    }

    fn truncate_to_time(
        &self,
        file: &File,
        at: u64,
        repair: Repair,
        out: &mut dyn Write,
    ) -> Result<Finding, Stop> {
        let Repair::TruncateTo(seconds) = repair else { return Ok(Finding::Valid) };
        let path = self.path.display();
        if at == 0 {
            writeln!(out, "AOF {path} has nothing before timestamp {seconds}, aborting...")?;
            return Err(Stop::Invalid);
        }
        if !self.is_last {
            writeln!(
                out,
                "Failed to truncate AOF {path} to timestamp {seconds} to offset {at} because it is \
                 not the last file."
            )?;
            writeln!(
                out,
                "To do it all the same, delete the files after this one and their lines in the \
                 manifest, then run the check again."
            )?;
            return Err(Stop::Invalid);
        }
        self.cut(file, at, out)?;
        Ok(Finding::TruncatedToTime)
    }

    fn fix(
        &self,
        file: &File,
        size: u64,
        good: u64,
        console: &mut Console<'_>,
    ) -> Result<Finding, Stop> {
        let name = self.name;
        if !self.is_last {
            let out = &mut console.out;
            writeln!(out, "Failed to truncate AOF {name} because it is not the last file")?;
            return Err(Stop::Invalid);
        }
        writeln!(
            console.out,
            "This will shrink the AOF {name} from {size} bytes, with {} bytes, to {good} bytes",
            size - good
        )?;
        write!(console.out, "Continue? [y/N]: ")?;
        console.out.flush()?;
        let mut answer = String::new();
        console.input.read_line(&mut answer)?;
        if !answer.starts_with(['y', 'Y']) {
            writeln!(console.out, "Aborting...")?;
            return Err(Stop::Invalid);
        }
        self.cut(file, good, console.out)?;
        Ok(Finding::Truncated)
    }

    /// Cuts the file at an offset, and keeps what was behind it.
    fn cut(&self, mut file: &File, at: u64, out: &mut dyn Write) -> Result<(), Stop> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut kept = self.path.as_os_str().to_owned();
        kept.push(format!(".cut-{}", since.as_millis()));
        file.seek(SeekFrom::Start(at))?;
        let mut copy = File::create_new(&kept)?;
        io::copy(&mut file, &mut copy)?;
        copy.sync_all()?;
        writeln!(out, "What is cut off is kept in {}", kept.display())?;
        file.set_len(at)?;
        file.sync_all()?;
        Ok(())
    }
}

/// What reading a file came to.
enum Scan {
    Extent(Extent),
    /// From here on it was written later than is wanted.
    Later(u64),
}
