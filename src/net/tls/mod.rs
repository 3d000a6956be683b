//! TLS: certificates and keys, handshakes, and what sockets carry then. The only room that knows
//! rustls.
//!
//! `settings` turns the configuration into what TLS is spoken with, by `pem`, `keys`, `ciphers`,
//! `trust` and `sessions`. `handshake` has threads that shake hands. `session` is a connection
//! after that. Nothing here knows of the executor; [`super::secure`] does.

pub mod blocking;
mod certificate;
mod ciphers;
pub mod desk;
pub mod handshake;
mod keys;
mod pem;
pub mod session;
mod sessions;
pub mod settings;
mod trust;
