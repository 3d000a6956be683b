//! No configuration file panics, and what CONFIG REWRITE makes of one loads as what it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rufous::config::{self, Config, Extent, Host};
use std::io;
use std::path::{Path, PathBuf};

const MAIN: &str = "/redis.conf";

/// A disk on which only the main file has a text; all others are empty.
struct OneFile<'a>(&'a [u8]);

impl Host for OneFile<'_> {
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(if path == Path::new(MAIN) { self.0.to_vec() } else { Vec::new() })
    }
    fn read_stdin(&mut self) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }
    fn expand(&mut self, _: &Path) -> Vec<PathBuf> {
        vec!["/other.conf".into()]
    }
    fn directory(&mut self) -> io::Result<PathBuf> {
        Ok("/".into())
    }
    fn change_directory(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn try_log(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// The configuration without the statements that remember the lines they stood on.
fn load(text: &[u8]) -> Result<Config, config::LoadError> {
    // A file that includes itself is refused only after some thousand times.
    let mut loaded = config::load(&[MAIN.as_bytes().to_vec()], &mut OneFile(text))?;
    loaded.config.file_only = Default::default();
    Ok(loaded.config)
}

fuzz_target!(|text: &[u8]| {
    if text.windows(10).any(|window| window == b"redis.conf") {
        return;
    }
    match load(text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(config) => {
            let written = config.rewrite(text, None, Extent::Changed);
            let again = load(&written).expect("what was written loads");
            assert_eq!(again, config);
            assert_eq!(again.rewrite(&written, None, Extent::Changed), written);
        }
    }
});
