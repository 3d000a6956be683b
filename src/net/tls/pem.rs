//! PEM: the text that certificates and keys are kept in.
//!
//! This reader is our own because keys of OpenSSL's old form have header lines within a section,
//! which RFC 7468 forbids and the readers of other crates refuse. Text around sections is skipped:
//! many files say in words what follows.

use base64ct::{Base64, Encoding};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Bundles of all public authorities have a quarter of it.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What stands between a BEGIN and its END.
pub struct Section {
    pub label: String,
    headers: Vec<(String, String)>,
    pub der: Vec<u8>,
}

impl Section {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether this is a certificate, by any of the names that OpenSSL reads.
    pub fn is_certificate(&self) -> bool {
        matches!(self.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE")
    }
}

/// The text of a file. What is no plain file, and what nobody would call a certificate, is not
/// even opened: a name comes by CONFIG SET, a pipe is open only when somebody writes to it, and a
/// device would never end.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("the file is too long"));
    }
    Ok(text)
}

/// All sections of a text, in order; an error if one of them is broken.
pub fn sections(text: &[u8]) -> Result<Vec<Section>, &'static str> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().map(str::trim);
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(label) = label_of(line, "-----BEGIN ") {
            found.push(section(label, &mut lines)?);
        }
    }
    Ok(found)
}

fn label_of<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

/// The section whose first line has been read.
fn section<'a>(
    label: &str,
    lines: &mut impl Iterator<Item = &'a str>,
) -> Result<Section, &'static str> {
    let mut headers = Vec::new();
    let mut body = String::new();
    for line in lines {
        if let Some(end) = label_of(line, "-----END ") {
            if end != label {
                return Err("bad end line");
            }
            let der = Base64::decode_vec(&body).map_err(|_| "bad base64 decode")?;
            return Ok(Section { label: label.to_owned(), headers, der });
        }
        match line.split_once(':') {
            Some((name, value)) if body.is_empty() => {
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            _ => body.push_str(line),
        }
    }
    Err("no end line")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_among_other_text() {
        let text = b"subject=x\n-----BEGIN A B-----\nProc-Type: 4,ENCRYPTED\n\nAQ\n ID\r\n\
            -----END A B-----\nmore\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----";
        let found = sections(text).expect("they are whole");
        assert_eq!((found[0].label.as_str(), &found[0].der[..]), ("A B", &[1, 2, 3][..]));
        assert_eq!(found[0].header("Proc-Type"), Some("4,ENCRYPTED"));
        assert!(found[1].is_certificate() && found[1].der.is_empty());
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn broken_sections_are_refused() {
        for text in [
            "-----BEGIN A-----\nAQID\n",
            "-----BEGIN A-----\nAQID\n-----END B-----",
            "-----BEGIN A-----\nAQI\n-----END A-----",
            "-----BEGIN A-----\n\u{fffd}\n-----END A-----",
        ] {
            assert!(sections(text.as_bytes()).is_err(), "{text}");
        }
        assert!(sections(b"\xff\0-----BEGIN").is_ok_and(|found| found.is_empty()));
    }
}
