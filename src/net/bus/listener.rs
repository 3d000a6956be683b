//! The port of the bus, and whom it lets in.

use super::link::{keepalive, serve};
use crate::engine::cluster::bus_port;
use crate::net::limits;
use crate::net::listener::{Unopened, bind_tcp, keep_alive};
use crate::net::shared::Net;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};

/// So many connections are accepted before others have their turn.
const ACCEPTED_AT_A_STRETCH: u32 = 16;

/// Opens the port on every address that clients are served at; none if there is no bus.
pub fn listen(net: &Net) -> Result<Vec<TcpListener>, Unopened> {
    let engine = net.engine.borrow();
    let config = engine.config();
    if !config.cluster_enabled {
        return Ok(Vec::new());
    }
    let port = bus_port(config);
    let listeners = bind_tcp(config, port, "cluster")?;
    if listeners.is_empty() {
        tracing::warn!("Failed listening on port {port} (cluster), aborting.");
        return Err(Unopened);
    }
    Ok(listeners)
}

pub async fn accept(net: Rc<Net>, listener: TcpListener) {
    let mut accepted = 0u32;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => welcome(&net, socket, peer),
            Err(error) => limits::back_off(&error).await,
        }
        accepted = accepted.wrapping_add(1);
        if accepted.is_multiple_of(ACCEPTED_AT_A_STRETCH) {
            net.yield_now().await;
        }
    }
}

fn welcome(net: &Rc<Net>, socket: TcpStream, peer: SocketAddr) {
    let mut engine = net.engine.borrow_mut();
    let ip = peer.ip().to_canonical();
    if !engine.may_dial_bus(ip) {
        tracing::debug!("A connection to the Cluster bus from {ip} was refused: protected mode");
        return;
    }
    let Some(link) = engine.number_bus_link() else { return };
    // A connection that is gone already fails here, and again at its first read.
    let _ = socket.set_nodelay(true);
    keep_alive(&socket, keepalive(&engine));
    let free_places = engine.free_places();
    drop(engine);
    tracing::debug!("Accepting cluster node connection from {ip}:{}", peer.port());
    let wire = net.bus.add_stranger(link, free_places);
    tokio::task::spawn_local(serve(Rc::clone(net), wire, socket, peer));
}
