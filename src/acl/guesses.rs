//! Who has given wrong passwords, so that guessing takes time (`auth-failure-delay`).
//!
//! After a few failures an address may try one password in each delay. What it tries too early is
//! refused unseen, right or wrong, and does not make the delay longer: or whoever shares the
//! address could be kept out for ever. Other addresses are not held up.
//!
//! The table has a fixed size, whoever comes. An address has its place in one of a few slots, which
//! a secret hash chooses; who finds them taken takes that of the one who has failed longest ago.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// So many failures are nobody's guesses.
const FREE_FAILURES: u32 = 3;
/// Failures are forgotten when there was none for so long.
const FORGET_AFTER_MS: u64 = 600_000;

const BUCKETS: usize = 1024;
const WAYS: usize = 4;

type Bucket = [Slot; WAYS];

#[derive(Clone, Copy, Default)]
struct Slot {
    /// None if nobody has it.
    network: Option<Network>,
    failures: u32,
    last_ms: u64,
}

/// An address, or that part of it which one owner has.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Network([u8; 8]);

impl Network {
    /// Of an address with a port behind a colon; none if it is no internet address.
    fn of(address: &str) -> Option<Network> {
        let (host, _) = address.rsplit_once(':')?;
        match host.parse::<IpAddr>().ok()?.to_canonical() {
            IpAddr::V4(ip) => {
                let mut bytes = [0xff; 8];
                bytes[4..].copy_from_slice(&ip.octets());
                Some(Network(bytes))
            }
            IpAddr::V6(ip) => ip.octets()[..8].try_into().ok().map(Network),
        }
    }
}

#[derive(Default)]
pub struct Guesses {
    /// Empty until the first failure.
    buckets: Vec<Bucket>,
    hasher: RandomState,
}

impl Guesses {
    /// Whether an address may not try again yet.
    pub fn holds_off(&self, address: &str, now_ms: u64, delay_ms: u64) -> bool {
        if delay_ms == 0 {
            return false;
        }
        let Some(network) = Network::of(address) else { return false };
        let Some(bucket) = self.buckets.get(self.place(network)) else { return false };
        let own = bucket.iter().find(|slot| slot.network == Some(network));
        own.is_some_and(|slot| {
            slot.failures >= FREE_FAILURES && now_ms < slot.last_ms.saturating_add(delay_ms)
        })
    }

    /// Notes a failure; whether the address is held off from now on, and was not before.
    pub fn note(&mut self, address: &str, now_ms: u64) -> bool {
        let Some(network) = Network::of(address) else { return false };
        let place = self.place(network);
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket::default(); BUCKETS];
        }
        let bucket = &mut self.buckets[place];
        let known = bucket.iter().position(|slot| slot.network == Some(network));
        let oldest = || {
            let by_age = bucket.iter().enumerate().min_by_key(|(_, slot)| slot.last_ms);
            by_age.map_or(0, |(at, _)| at)
        };
        let slot = &mut bucket[known.unwrap_or_else(oldest)];
        let is_forgotten = now_ms.saturating_sub(slot.last_ms) > FORGET_AFTER_MS;
        if known.is_none() || is_forgotten {
            *slot = Slot { network: Some(network), ..Slot::default() };
        }
        slot.failures = slot.failures.saturating_add(1);
        slot.last_ms = now_ms;
        slot.failures == FREE_FAILURES
    }

    fn place(&self, network: Network) -> usize {
        // The remainder is below the number of buckets, so it fits.
        (self.hasher.hash_one(network) % BUCKETS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_some_failures_an_address_waits_and_others_do_not() {
        let mut guesses = Guesses::default();
        let holds = |guesses: &Guesses, address, now_ms| guesses.holds_off(address, now_ms, 1000);
        assert!(!holds(&guesses, "1.2.3.4:5", 0));
        assert!(!guesses.note("1.2.3.4:5", 0) && !guesses.note("1.2.3.4:6", 0));
        assert!(!holds(&guesses, "1.2.3.4:5", 0));
        assert!(guesses.note("1.2.3.4:7", 100));
        assert!(holds(&guesses, "1.2.3.4:8", 1099) && !holds(&guesses, "1.2.3.4:8", 1100));
        assert!(!holds(&guesses, "1.2.3.5:8", 200));
        assert!(!guesses.holds_off("1.2.3.4:8", 200, 0), "it is off");
        assert!(!guesses.note("1.2.3.4:9", 2000), "it was told before");
        assert!(holds(&guesses, "1.2.3.4:8", 2500));
        assert!(!guesses.note("1.2.3.4:9", 2001 + FORGET_AFTER_MS));
        assert!(!holds(&guesses, "1.2.3.4:8", 2001 + FORGET_AFTER_MS), "old ones are forgotten");
    }

    #[test]
    fn one_owner_has_one_network_and_sockets_of_files_have_none() {
        let network = |address| Network::of(address);
        assert!(network("2001:db8:1:2:3::1:80") == network("2001:db8:1:2::9:81"));
        assert!(network("2001:db8:1:2::1:80") != network("2001:db8:1:3::1:80"));
        assert!(network("::ffff:1.2.3.4:80") == network("1.2.3.4:81"));
        assert!(network("/tmp/redis.sock:0").is_none() && network("").is_none());
    }

    #[test]
    fn any_number_of_addresses_takes_the_same_memory() {
        let mut guesses = Guesses::default();
        for number in 0..100_000u32 {
            let ip = std::net::Ipv4Addr::from(number);
            guesses.note(&format!("{ip}:1"), u64::from(number));
        }
        assert_eq!(guesses.buckets.capacity(), BUCKETS);
        // Who came last is known still.
        guesses.note("0.1.134.159:1", 100_000);
        guesses.note("0.1.134.159:1", 100_000);
        assert!(guesses.holds_off("0.1.134.159:1", 100_000, 1));
    }
}
