//! The world as loading a configuration needs it: files, standard input, the working directory.
//!
//! A trait, so that loading is tested without a disk; [`Disk`] is the real thing. It expands
//! patterns component by component, in a loop, instead of calling the C library's `glob`, which
//! would take `unsafe` for something that happens once.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::structs::glob::{self, Case};

/// What loading needs of the world.
pub trait Host {
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>>;
    fn read_stdin(&mut self) -> io::Result<Vec<u8>>;
    /// The files a pattern names, sorted.
    fn expand(&mut self, pattern: &Path) -> Vec<PathBuf>;
    /// The absolute working directory.
    fn directory(&mut self) -> io::Result<PathBuf>;
    fn change_directory(&mut self, path: &Path) -> io::Result<()>;
    /// Makes sure that the log file can be appended to.
    fn try_log(&mut self, path: &Path) -> io::Result<()>;
}

/// The system's words for an error, without Rust's addition of its number.
pub fn os_reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The host that is really there.
#[derive(Default)]
pub struct Disk {
    /// What came on standard input, which can be read but once.
    pub stdin: Vec<u8>,
}

impl Host for Disk {
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn read_stdin(&mut self) -> io::Result<Vec<u8>> {
        io::Read::read_to_end(&mut io::stdin().lock(), &mut self.stdin)?;
        Ok(self.stdin.clone())
    }

    fn expand(&mut self, pattern: &Path) -> Vec<PathBuf> {
        let mut paths = vec![PathBuf::new()];
        for part in pattern.components() {
            let part = part.as_os_str();
            let is_pattern = part.as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte));
            paths = match is_pattern {
                true => paths.iter().flat_map(|path| entries(path, part)).collect(),
                false => paths.iter().map(|path| path.join(part)).collect(),
            };
        }
        paths.retain(|path| path.exists());
        paths.sort();
        paths
    }

    fn directory(&mut self) -> io::Result<PathBuf> {
        std::env::current_dir()
    }

    fn change_directory(&mut self, path: &Path) -> io::Result<()> {
        std::env::set_current_dir(path)
    }

    fn try_log(&mut self, path: &Path) -> io::Result<()> {
        std::fs::OpenOptions::new().append(true).create(true).open(path).map(drop)
    }
}

/// The entries of a directory whose names match; hidden ones only if the pattern says so.
fn entries(directory: &Path, pattern: &OsStr) -> Vec<PathBuf> {
    let pattern = pattern.as_encoded_bytes();
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(listing) = std::fs::read_dir(listed) else { return Vec::new() };
    let names = listing.filter_map(|entry| Some(entry.ok()?.file_name()));
    let fits = |name: &OsString| {
        let name = name.as_encoded_bytes();
        (!name.starts_with(b".") || pattern.starts_with(b"."))
            && glob::matches(pattern, name, Case::Sensitive)
    };
    names.filter(fits).map(|name| directory.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_expand_to_sorted_paths_without_hidden_files() {
        let root = std::env::temp_dir().join(format!("rufous-config-{}", std::process::id()));
        for file in ["x1/b.conf", "x1/a.conf", "x1/.c.conf", "x2/a.conf", "y/a.conf", "x2/a.txt"] {
            let path = root.join(file);
            let parent = path.parent().expect("the file is in a directory");
            std::fs::create_dir_all(parent).expect("the temporary directory is writable");
            std::fs::write(path, "").expect("the temporary directory is writable");
        }
        let expand = |pattern: &str| {
            let paths = Disk::default().expand(&root.join(pattern)).into_iter();
            let short = |path: PathBuf| path.strip_prefix(&root).map(Path::to_owned);
            paths.map(|path| short(path).expect("a path below")).collect::<Vec<_>>()
        };
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(expand("x?/*.conf"), paths(&["x1/a.conf", "x1/b.conf", "x2/a.conf"]));
        assert_eq!(expand("[xy]*/a.*f"), paths(&["x1/a.conf", "x2/a.conf", "y/a.conf"]));
        assert_eq!(expand("x1/.*"), paths(&["x1/.c.conf"]));
        assert_eq!(expand("*/b.conf"), paths(&["x1/b.conf"]));
        assert_eq!(expand("z*/a.conf"), paths(&[]));
        std::fs::remove_dir_all(&root).expect("the files are ours");
    }

    #[test]
    fn the_reason_of_a_failure_has_no_number() {
        let error = io::Error::from(rustix::io::Errno::NOENT);
        assert_eq!(os_reason(&error), "No such file or directory");
        assert_eq!(os_reason(&io::Error::other("odd")), "odd");
    }
}
