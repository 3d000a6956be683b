//! Whoever has connected is let in, or turned away with a word why.

use super::connection::Connection;
use super::inbox::Inbox;
use super::reading::serve;
use super::shared::Net;
use super::stream::Stream;
use crate::engine::Peer;
use std::rc::Rc;

pub fn admit(net: &Rc<Net>, mut stream: Stream, peer: Peer) {
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    let client = match engine.admit(peer) {
        Ok(client) => client,
        Err(text) => return stream.end_with(text.as_bytes()),
    };
    let is_authenticated = engine.is_authenticated(client);
    drop(engine);
    let inbox = Box::new(Inbox::new(is_authenticated));
    let connection = Rc::new(Connection::new(client, stream, inbox));
    net.remember(&connection);
    tokio::task::spawn_local(serve(Rc::clone(net), connection, 0));
}
