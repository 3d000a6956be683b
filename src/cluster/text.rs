//! What may stand in the texts that nodes say of themselves: addresses, host names, names.
//!
//! They go into lines of nodes.conf and into replies, so whatever separates things there is kept
//! out where they come in, be it from a packet or a file. Redis does so for what it is configured
//! with, and believes its peers.

use std::net::{Ipv4Addr, Ipv6Addr};

/// As long as the text of an address may be, with the NUL behind it: INET6_ADDRSTRLEN.
pub const IP_BYTES: usize = 46;
/// A host name or a node's name is shorter than this.
pub const NAME_BYTES: usize = 256;

/// An address, or whatever somebody has his nodes announce instead.
pub fn is_ip(text: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b".:-_%".contains(byte);
    !text.is_empty() && text.len() < IP_BYTES && text.iter().all(fits)
}

pub fn is_hostname(text: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b".-".contains(byte);
    !text.is_empty() && text.len() < NAME_BYTES && text.iter().all(fits)
}

/// A name for people (cluster-announce-human-nodename).
pub fn is_nodename(text: &[u8]) -> bool {
    let fits = |byte: &u8| {
        byte.is_ascii_alphanumeric() || (byte.is_ascii_graphic() && !SPECIAL.contains(byte))
    };
    !text.is_empty() && text.len() < NAME_BYTES && text.iter().all(fits)
}

/// What no name and no additional field of nodes.conf has.
const SPECIAL: &[u8] = b"!#$%&()*+;<>?@[]^{|}~,=\"'\\";

pub fn is_ipv4(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv4Addr>().is_ok())
}

pub fn is_ipv6(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_separates_things_in_files_and_replies_is_in_no_text() {
        let checks: [fn(&[u8]) -> bool; 3] = [is_ip, is_hostname, is_nodename];
        for check in checks {
            assert!(check(b"node-1.example") && !check(b""));
            for byte in b" ,=@\n\r\0\"'\\[]\x80\xff" {
                assert!(!check(&[b'a', *byte, b'b']), "{byte:#x}");
            }
        }
        assert!(is_ip(b"fe80::1%eth0") && !is_ip(&[b'1'; IP_BYTES]));
        assert!(is_hostname(&[b'a'; NAME_BYTES - 1]) && !is_hostname(&[b'a'; NAME_BYTES]));
        assert!(is_nodename(b"a:b/c_d") && !is_nodename(b"a#"));
        assert!(is_ipv4(b"10.0.0.1") && !is_ipv4(b"10.0.0") && !is_ipv4(&[b'a'; 40]));
        assert!(is_ipv6(b"::1") && !is_ipv6(b"10.0.0.1"));
    }
}
