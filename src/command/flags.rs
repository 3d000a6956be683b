//! Command flags and ACL categories, as bit sets over the names that COMMAND prints.
//!
//! Both are plain `u64` sets with `const` operators, so that a record can be written as
//! `WRITE.or(FAST)` in a `static`. The order of the names is the order in which Redis prints them,
//! since clients compare the lists.

/// Defines a `const` bit set: its type, its members, and their wire names in printing order.
macro_rules! bit_set {
    ($(#[$doc:meta])* $type:ident {
        $($(#[$member_doc:meta])* $member:ident = $name:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $type(u64);

        impl $type {
            pub const NONE: $type = $type(0);
            bit_set!(@members $type, 0u32, $($(#[$member_doc])* $member,)*);
            const NAMES: &'static [(&'static str, $type)] = &[$(($name, $type::$member),)*];

            pub const fn or(self, other: $type) -> $type {
                $type(self.0 | other.0)
            }

            pub const fn and(self, other: $type) -> $type {
                $type(self.0 & other.0)
            }

            pub const fn without(self, other: $type) -> $type {
                $type(self.0 & !other.0)
            }

            pub const fn has(self, other: $type) -> bool {
                self.0 & other.0 == other.0
            }

            pub const fn intersects(self, other: $type) -> bool {
                self.0 & other.0 != 0
            }

            /// The wire names of the members, in the order Redis prints them.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                Self::NAMES.iter().filter(move |(_, bit)| self.has(*bit)).map(|(name, _)| *name)
            }

            /// The member of that wire name, in any letter case.
            pub fn by_name(name: &[u8]) -> Option<$type> {
                let is_it = |n: &str| n.as_bytes().eq_ignore_ascii_case(name);
                let found = Self::NAMES.iter().find(|(n, _)| is_it(n));
                found.map(|(_, bit)| *bit)
            }

            /// Every member with its wire name.
            pub fn all() -> impl Iterator<Item = (&'static str, $type)> {
                Self::NAMES.iter().copied()
            }
        }
    };
    (@members $type:ident, $bit:expr,) => {};
    (@members $type:ident, $bit:expr, $(#[$doc:meta])* $member:ident, $($rest:tt)*) => {
        $(#[$doc])*
        pub const $member: $type = $type(1 << ($bit));
        bit_set!(@members $type, $bit + 1, $($rest)*);
    };
}
pub(crate) use bit_set;

bit_set! {
    /// What the dispatcher must know of a command before it runs it.
    Flags {
        /// May change the dataset.
        WRITE = "write",
        READONLY = "readonly",
        /// May use more memory: refused when memory is short.
        DENYOOM = "denyoom",
        MODULE = "module",
        ADMIN = "admin",
        PUBSUB = "pubsub",
        NOSCRIPT = "noscript",
        BLOCKING = "blocking",
        /// Allowed while a dataset is being loaded.
        LOADING = "loading",
        /// Allowed on a replica whose data is stale.
        STALE = "stale",
        SKIP_MONITOR = "skip_monitor",
        SKIP_SLOWLOG = "skip_slowlog",
        ASKING = "asking",
        FAST = "fast",
        /// Allowed before authentication.
        NO_AUTH = "no_auth",
        /// Not a write by itself, but what it starts may be one (EVAL, PUBLISH).
        MAY_REPLICATE = "may_replicate",
        SENTINEL = "sentinel",
        ONLY_SENTINEL = "only_sentinel",
        NO_MANDATORY_KEYS = "no_mandatory_keys",
        PROTECTED = "protected",
        NO_ASYNC_LOADING = "no_async_loading",
        /// Not allowed inside MULTI.
        NO_MULTI = "no_multi",
        /// Its keys cannot be found by the first-last-step triple.
        MOVABLE_KEYS = "movablekeys",
        /// Allowed while a script holds the server.
        ALLOW_BUSY = "allow_busy",
        TOUCHES_ARBITRARY_KEYS = "touches_arbitrary_keys",
    }
}

bit_set! {
    /// What the dispatcher must know besides, and COMMAND does not show. A command is told from
    /// others by these and never by its name, which a subcommand may share.
    Traits {
        /// Inside MULTI it is not queued but runs.
        RUNS_IN_MULTI = "runs-in-multi",
        /// It runs what was queued, so it counts as all of that.
        RUNS_THE_QUEUE = "runs-the-queue",
        /// A RESP2 client that listens may still send it.
        FITS_SUBSCRIBER = "fits-subscriber",
        /// It runs a script, so it counts as what the script says of itself.
        RUNS_A_SCRIPT = "runs-a-script",
        /// It names the script by its digest.
        NAMES_A_DIGEST = "names-a-digest",
        /// It names a function of a library.
        NAMES_A_FUNCTION = "names-a-function",
        /// What CLIENT CACHING said holds on behind it.
        KEEPS_CACHING = "keeps-caching",
        /// It is allowed while a script holds the server, and does nothing then without NOSAVE.
        IS_BUSY_UNLESS_NOSAVE = "is-busy-unless-nosave",
        /// It may end the taking in of a snapshot that the primary sends.
        ENDS_A_FETCH = "ends-a-fetch",
        /// A primary has it in its stream, though it neither reads nor writes.
        FITS_STREAM = "fits-stream",
        /// It sends keys to another server, and not too many such do so at a time.
        MOVES_KEYS = "moves-keys",
        /// It says that all is well, so it is refused where writes are that could not be kept.
        TELLS_HEALTH = "tells-health",
        /// It does not wait while another server is to take over from this one, but is refused.
        GIVES_WAY = "gives-way",
    }
}

bit_set! {
    /// ACL categories, without their `@`.
    Categories {
        KEYSPACE = "keyspace",
        READ = "read",
        WRITE = "write",
        SET = "set",
        SORTED_SET = "sortedset",
        LIST = "list",
        HASH = "hash",
        STRING = "string",
        BITMAP = "bitmap",
        HYPERLOGLOG = "hyperloglog",
        GEO = "geo",
        STREAM = "stream",
        PUBSUB = "pubsub",
        ADMIN = "admin",
        FAST = "fast",
        SLOW = "slow",
        BLOCKING = "blocking",
        DANGEROUS = "dangerous",
        CONNECTION = "connection",
        TRANSACTION = "transaction",
        SCRIPTING = "scripting",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_print_their_members_in_order() {
        let flags = Flags::FAST.or(Flags::WRITE).or(Flags::DENYOOM);
        assert_eq!(flags.names().collect::<Vec<_>>(), ["write", "denyoom", "fast"]);
        assert!(flags.has(Flags::WRITE) && !flags.has(Flags::READONLY));
        assert_eq!(Categories::by_name(b"SortedSet"), Some(Categories::SORTED_SET));
        assert_eq!(Categories::by_name(b"nothing"), None);
    }
}
