//! What the threads of sockets hand over with, as the server has it, over atomics of loom's.
//!
//! `bell.rs` and `mail.rs` are the server's own files. They take their atomics from the module
//! around them, so each module here is the same protocol on other ground: `sound` on loom's
//! atomics, and the others on some that lack what the protocol stands on, which shows that a model
//! would find it if it were missing. It is a package of its own, so that loom is no dependency of
//! the server.

mod ring;

extern crate self as rtrb;

pub use ring::{Consumer, Producer, RingBuffer};

/// The protocol as it is.
#[path = "."]
pub mod sound {
    #[path = "../../src/net/threads/bell.rs"]
    pub mod bell;
    #[path = "../../src/net/threads/mail.rs"]
    pub mod mail;

    use loom::sync;
}

/// Without the fences between what one side says and what it looks at.
#[path = "."]
pub mod unfenced {
    #[path = "../../src/net/threads/bell.rs"]
    pub mod bell;
    #[path = "../../src/net/threads/mail.rs"]
    pub mod mail;

    mod sync {
        pub mod atomic {
            pub use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering};

            pub fn fence(_: Ordering) {}
        }
    }
}

/// The state of a bell is read and then written, where it should be exchanged.
#[path = "."]
pub mod unexchanged {
    #[path = "../../src/net/threads/bell.rs"]
    pub mod bell;

    mod sync {
        pub mod atomic {
            pub use loom::sync::atomic::Ordering;

            pub struct AtomicU8(loom::sync::atomic::AtomicU8);

            impl AtomicU8 {
                pub fn new(value: u8) -> AtomicU8 {
                    AtomicU8(loom::sync::atomic::AtomicU8::new(value))
                }

                pub fn load(&self, order: Ordering) -> u8 {
                    self.0.load(order)
                }

                pub fn swap(&self, value: u8, _: Ordering) -> u8 {
                    let before = self.0.load(Ordering::Acquire);
                    self.0.store(value, Ordering::Release);
                    before
                }

                pub fn compare_exchange(
                    &self,
                    current: u8,
                    new: u8,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<u8, u8> {
                    self.0.compare_exchange(current, new, success, failure)
                }
            }
        }
    }
}

/// All exchanges are relaxed: who answers need not see what was there before the ring.
#[path = "."]
pub mod relaxed {
    #[path = "../../src/net/threads/bell.rs"]
    pub mod bell;

    mod sync {
        pub mod atomic {
            pub use loom::sync::atomic::Ordering;

            pub struct AtomicU8(loom::sync::atomic::AtomicU8);

            impl AtomicU8 {
                pub fn new(value: u8) -> AtomicU8 {
                    AtomicU8(loom::sync::atomic::AtomicU8::new(value))
                }

                pub fn load(&self, _: Ordering) -> u8 {
                    self.0.load(Ordering::Relaxed)
                }

                pub fn swap(&self, value: u8, _: Ordering) -> u8 {
                    self.0.swap(value, Ordering::Relaxed)
                }

                pub fn compare_exchange(
                    &self,
                    current: u8,
                    new: u8,
                    _: Ordering,
                    _: Ordering,
                ) -> Result<u8, u8> {
                    self.0.compare_exchange(current, new, Ordering::Relaxed, Ordering::Relaxed)
                }
            }
        }
    }
}
