//! What the text of some directives must look like, with Redis's words for what is wrong.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The answer to `activedefrag yes`: values are never moved. Clients and test suites compare it.
pub const NO_DEFRAGMENTATION: &str = "Active defragmentation cannot be enabled: it requires a \
    Redis server compiled with a modified Jemalloc like the one shipped by default with the Redis \
    source distribution";

const MAX_HOSTNAME_BYTES: usize = 255;

type Checked = Result<(), &'static str>;

fn must(holds: bool, otherwise: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn is_base_name(text: &[u8]) -> bool {
    !text.contains(&b'/') && !text.contains(&b'\\')
}

pub fn cluster_file_name(text: &[u8]) -> Checked {
    must(!text.is_empty(), "cluster-config-file can't be empty")
}

pub fn rdb_file_name(text: &[u8]) -> Checked {
    must(!text.is_empty(), "dbfilename can't be empty")?;
    must(is_base_name(text), "dbfilename can't be a path, just a filename")
}

pub fn aof_file_name(text: &[u8]) -> Checked {
    must(!text.is_empty(), "appendfilename can't be empty")?;
    must(is_base_name(text), "appendfilename can't be a path, just a filename")
}

pub fn aof_directory_name(text: &[u8]) -> Checked {
    must(!text.is_empty(), "appenddirname can't be empty")?;
    must(is_base_name(text), "appenddirname can't be a path, just a dirname")
}

pub fn hostname(text: &[u8]) -> Checked {
    must(text.len() <= MAX_HOSTNAME_BYTES, "Hostnames must be less than 256 characters")?;
    must(
        text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(byte)),
        "Hostnames may only contain alphanumeric characters, hyphens or dots",
    )
}

/// Bytes with a meaning in the files of a cluster cannot be part of a node's name.
pub fn node_name(text: &[u8]) -> Checked {
    must(
        !text.iter().any(|byte| b"!#$%&()*+;<>?@[]^{|}~\0".contains(byte)),
        "Announced human node name contained invalid character",
    )
}

fn is_address<A: std::str::FromStr>(text: &[u8]) -> bool {
    text.is_empty() || std::str::from_utf8(text).is_ok_and(|text| text.parse::<A>().is_ok())
}

pub fn ipv4(text: &[u8]) -> Checked {
    must(is_address::<Ipv4Addr>(text), "Invalid IPv4 address")
}

pub fn ipv6(text: &[u8]) -> Checked {
    must(is_address::<Ipv6Addr>(text), "Invalid IPv6 address")
}

pub fn title_template(text: &[u8]) -> Checked {
    let shown = template_shows_something(text);
    must(shown == Some(true), "template format is invalid or contains unknown variables")
}

/// Whether a title made from the template has something in it, whatever the server does; nothing
/// if the template is broken. `{{` is a brace.
fn template_shows_something(template: &[u8]) -> Option<bool> {
    let mut shown = false;
    let mut rest = template;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'{' {
            shown |= *byte != b' ';
        } else if let [b'{', tail @ ..] = rest {
            shown = true;
            rest = tail;
        } else {
            let end = rest.iter().position(|byte| *byte == b'}')?;
            shown |= match &rest[..end] {
                b"listen-addr" | b"config-file" | b"port" | b"tls-port" => true,
                b"title" | b"server-mode" | b"unixsocket" => false,
                _ => return None,
            };
            rest = &rest[end + 1..];
        }
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_templates() {
        for good in ["{title} {listen-addr}", "--my--title", "{{", "{port}", "TEST {title} {{x}}"] {
            assert!(title_template(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["", "  ", "{title}", "{", "a {", "{nosuch}", "{port", "{}", "{title} {"] {
            assert!(title_template(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_addresses() {
        assert!(hostname(b"a-b.C9").is_ok());
        assert!(hostname(b"under_score").is_err());
        assert!(hostname(&[b'a'; 255]).is_ok());
        assert!(hostname(&[b'a'; 256]).is_err());
        assert!(node_name("ünicode 1".as_bytes()).is_ok());
        assert!(node_name(b"a{b").is_err());
        assert!(ipv4(b"").is_ok() && ipv4(b"1.2.3.4").is_ok());
        assert!(ipv4(b"1.2.3").is_err() && ipv4(b"::1").is_err());
        assert!(ipv6(b"::1").is_ok() && ipv6(b"1.2.3.4").is_err());
        assert!(rdb_file_name(b"dump.rdb").is_ok());
        assert_eq!(rdb_file_name(b""), Err("dbfilename can't be empty"));
        assert_eq!(rdb_file_name(b"a/b"), Err("dbfilename can't be a path, just a filename"));
        assert_eq!(
            aof_directory_name(b"a\\b"),
            Err("appenddirname can't be a path, just a dirname")
        );
    }
}
