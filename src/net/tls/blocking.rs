//! A client's connection by TLS over a socket that waits: for one question, without a runtime.

use super::settings::Outgoing;
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::{ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::sync::Arc;

/// Speaks TLS over a stream; the handshake is made when something is written.
pub fn connect<S: Read + Write>(
    stream: S,
    outgoing: &Outgoing,
) -> Result<impl Read + Write + use<S>, String> {
    let config = Arc::new(outgoing.load()?);
    // As between servers: no name is compared.
    let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4])));
    let connection = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
    Ok(StreamOwned::new(connection, stream))
}
