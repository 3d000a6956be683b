//! Which protocols and ciphers are allowed: OpenSSL's little language over what rustls has.
//!
//! rustls has no CBC, no key exchange by RSA or finite fields, and nothing below TLS 1.2. Words for
//! those select nothing, which is said in the log; a list that leaves nothing is refused.

use rustls::crypto::ring::cipher_suite as suites;
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// A suite of TLS 1.2, its name in OpenSSL, the groups that it belongs to there, and its strength.
struct Old {
    name: &'static str,
    groups: &'static [&'static str],
    bits: u16,
    suite: SupportedCipherSuite,
}

/// The groups of all suites.
const COMMON: &[&str] =
    &["ALL", "DEFAULT", "HIGH", "ECDHE", "EECDH", "kECDHE", "kEECDH", "TLSv1.2"];

/// In the order of OpenSSL's default.
const OLD: &[Old] = &[
    Old {
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        groups: &["aECDSA", "ECDSA", "AES", "AES256", "AESGCM", "SHA384", "FIPS"],
        bits: 256,
        suite: suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    },
    Old {
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        groups: &["aRSA", "AES", "AES256", "AESGCM", "SHA384", "FIPS"],
        bits: 256,
        suite: suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    },
    Old {
        name: "ECDHE-ECDSA-CHACHA20-POLY1305",
        groups: &["aECDSA", "ECDSA", "CHACHA20"],
        bits: 256,
        suite: suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    },
    Old {
        name: "ECDHE-RSA-CHACHA20-POLY1305",
        groups: &["aRSA", "CHACHA20"],
        bits: 256,
        suite: suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    },
    Old {
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        groups: &["aECDSA", "ECDSA", "AES", "AES128", "AESGCM", "SHA256", "FIPS"],
        bits: 128,
        suite: suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    },
    Old {
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        groups: &["aRSA", "AES", "AES128", "AESGCM", "SHA256", "FIPS"],
        bits: 128,
        suite: suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    },
];

/// The suites of TLS 1.3, in the order of OpenSSL's default.
const NEW: &[(&str, SupportedCipherSuite)] = &[
    ("TLS_AES_256_GCM_SHA384", suites::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", suites::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_AES_128_GCM_SHA256", suites::TLS13_AES_128_GCM_SHA256),
];

/// What a list has selected, in order of preference, and its words that have selected nothing.
#[derive(Default)]
pub struct Selection {
    pub suites: Vec<SupportedCipherSuite>,
    pub ignored: Vec<String>,
}

impl Old {
    /// Whether it belongs to all of the groups that a word joins by `+`.
    fn fits(&self, word: &str) -> bool {
        word.split('+')
            .all(|part| part == self.name || COMMON.contains(&part) || self.groups.contains(&part))
    }
}

/// Evaluates `tls-ciphers`: words that add, remove (`-`), remove for good (`!`) or move to the end
/// (`+`), and commands (`@`).
pub fn select_old(list: &str) -> Selection {
    let mut chosen: Vec<&Old> = Vec::new();
    let mut killed: Vec<&str> = Vec::new();
    let mut ignored = Vec::new();
    for word in words(list) {
        let (act, name) = match word.as_bytes()[0] {
            b'!' | b'-' | b'+' | b'@' => word.split_at(1),
            _ => ("", word),
        };
        let fits = |old: &&Old| old.fits(name);
        match act {
            "@" if name == "STRENGTH" => chosen.sort_by_key(|old| std::cmp::Reverse(old.bits)),
            "@" => {}
            "!" => {
                killed.extend(OLD.iter().filter(fits).map(|old| old.name));
                chosen.retain(|old| !old.fits(name));
            }
            "-" => chosen.retain(|old| !old.fits(name)),
            "+" => chosen.sort_by_key(|old| old.fits(name)),
            _ => {
                let fitting: Vec<&Old> = OLD.iter().filter(fits).collect();
                if fitting.is_empty() {
                    ignored.push(word.to_owned());
                }
                for old in fitting {
                    let is_in = chosen.iter().any(|known| known.name == old.name);
                    if !is_in && !killed.contains(&old.name) {
                        chosen.push(old);
                    }
                }
            }
        }
    }
    Selection { suites: chosen.iter().map(|old| old.suite).collect(), ignored }
}

/// Evaluates `tls-ciphersuites`: names, and nothing else.
pub fn select_new(list: &str) -> Selection {
    let mut selection = Selection::default();
    for word in words(list) {
        match NEW.iter().find(|(name, _)| *name == word) {
            Some((_, suite)) if !selection.suites.contains(suite) => selection.suites.push(*suite),
            Some(_) => {}
            None => selection.ignored.push(word.to_owned()),
        }
    }
    selection
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([':', ',', ' ', ';']).filter(|word| !word.is_empty())
}

/// What is allowed where nothing is configured.
pub fn all_old() -> Vec<SupportedCipherSuite> {
    OLD.iter().map(|old| old.suite).collect()
}

pub fn all_new() -> Vec<SupportedCipherSuite> {
    NEW.iter().map(|(_, suite)| *suite).collect()
}

/// The versions that `tls-protocols` names. Those below 1.2 may be named, but there are none.
pub fn versions(list: &str) -> Result<Vec<&'static SupportedProtocolVersion>, ()> {
    let mut versions = Vec::new();
    for word in list.split(' ').filter(|word| !word.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "tlsv1" | "tlsv1.1" => {}
            "tlsv1.2" => versions.push(&TLS12),
            "tlsv1.3" => versions.push(&TLS13),
            _ => return Err(()),
        }
    }
    if versions.is_empty() { Err(()) } else { Ok(versions) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<&'static str> {
        let selection = select_old(list);
        let name =
            |suite| OLD.iter().find(|old| old.suite == suite).expect("it is one of them").name;
        selection.suites.into_iter().map(name).collect()
    }

    #[test]
    fn a_list_is_evaluated_as_openssl_does() {
        let all: Vec<&str> = OLD.iter().map(|old| old.name).collect();
        for list in
            ["ALL", "DEFAULT", "HIGH:!aNULL:!MD5", "ECDHE", "DEFAULT:@SECLEVEL=2", "ALL ALL"]
        {
            assert_eq!(names(list), all, "{list}");
        }
        assert_eq!(names("ECDHE+AESGCM:!AES128"), [all[0], all[1]]);
        assert_eq!(names("aRSA,CHACHA20;-aECDSA"), [all[1], all[3], all[5]]);
        assert_eq!(names(&format!("{}:{}", all[5], all[1])), [all[5], all[1]]);
        assert_eq!(names("AES128:AES256:@STRENGTH"), [all[0], all[1], all[4], all[5]]);
        assert_eq!(names("aRSA:+AES256"), [all[3], all[5], all[1]]);
        assert_eq!(names("!CHACHA20:ALL:-aRSA"), [all[0], all[4]]);
        assert_eq!(names("-ALL:AES128:-AES128:ECDSA+AES128"), [all[4]]);
        assert_eq!(names("AES128-SHA256:kRSA"), [""; 0]);
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn words_that_select_nothing_are_named() {
        let selection = select_old("AES128-SHA256:ECDHE-RSA-AES128-GCM-SHA256:!RC4:DHE+AES");
        assert_eq!(selection.ignored, ["AES128-SHA256", "DHE+AES"]);
        assert_eq!(selection.suites.len(), 1);
        let list = "TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_128_GCM_SHA256";
        let selection = select_new(list);
        assert_eq!(selection.suites, [suites::TLS13_AES_128_GCM_SHA256]);
        assert_eq!(selection.ignored, ["TLS_AES_128_CCM_SHA256"]);
        assert!(select_new("ALL").suites.is_empty());
    }

    #[test]
    fn versions_are_named_in_any_case() {
        let numbers = |list: &str| {
            versions(list).map(|all| all.iter().map(|v| v.version).collect::<Vec<_>>())
        };
        assert_eq!(numbers("tlsv1.2"), Ok(vec![TLS12.version]));
        assert_eq!(numbers("TLSv1.1 TLSv1.3  TLSV1.2"), Ok(vec![TLS13.version, TLS12.version]));
        for bad in ["TLSv1", "TLSv1.2,TLSv1.3", "SSLv3", " "] {
            assert_eq!(numbers(bad), Err(()), "{bad}");
        }
    }
}
