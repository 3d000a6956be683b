//! Sockets are lent to those who send snapshots to replicas, and come back.
//!
//! While a socket is lent the executor writes nothing to it: what is to go out waits in the
//! connection's outbox. Its task goes on to read, so that an acknowledgement is heard, and the end.

use super::connection::{Connection, Place};
use super::relay;
use super::sender::{Socket, Told};
use super::shared::Net;
use crate::config::os_reason;
use crate::engine::transfer::{self, Transfer, TransferReport};
use crate::engine::{ClientId, Engine};
use crate::persist::fan::Recipient;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked whether connections have come that were asked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Has a snapshot sent, as soon as all connections are on this thread.
pub fn begin(net: &Rc<Net>, engine: &mut Engine, transfer: Transfer) {
    match is_somebody_away(net, &transfer) {
        false => start(net, engine, transfer),
        true => _ = tokio::task::spawn_local(begin_when_home(Rc::clone(net), transfer)),
    }
}

fn connections(net: &Net, transfer: &Transfer) -> impl Iterator<Item = Rc<Connection>> {
    transfer.recipients.iter().filter_map(|recipient| net.connection(recipient.client))
}

fn is_somebody_away(net: &Net, transfer: &Transfer) -> bool {
    connections(net, transfer).any(|connection| connection.thread().is_some())
}

/// Asks for the connections until all have come, or those that do not have used up their time.
async fn begin_when_home(net: Rc<Net>, transfer: Transfer) {
    let asked = Instant::now();
    while is_somebody_away(&net, &transfer) && asked.elapsed() < transfer.content.timeout.get() {
        connections(&net, &transfer).for_each(|connection| relay::recall(&net, &connection));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let mut engine = net.engine.borrow_mut();
    start(&net, &mut engine, transfer);
}

fn start(net: &Net, engine: &mut Engine, transfer: Transfer) {
    let Transfer { number, recipients, content } = transfer;
    let mut lent = Vec::with_capacity(recipients.len());
    for recipient in recipients {
        let client = recipient.client;
        match lend(net, engine, recipient) {
            Ok(recipient) => lent.push(recipient),
            Err(reason) => net.senders.tell(TransferReport::Lost { client, reason }),
        }
    }
    net.senders.send(number, lent, content);
}

/// Gives the connection's socket to a sender, and what has not been written to it yet.
fn lend(
    net: &Net,
    engine: &mut Engine,
    recipient: transfer::Recipient,
) -> Result<Recipient<ClientId, Socket>, String> {
    let transfer::Recipient { client, prelude, is_gone } = recipient;
    let connection = net.connection(client).filter(|connection| !connection.is_closed.get());
    let connection = connection.ok_or("its connection has ended")?;
    let (outlet, under_way) = socket(net, &connection).map_err(|error| os_reason(&error))?;
    connection.is_lent.set(true);
    connection.wants_write.set(false);
    net.lent.borrow_mut().push((client, Arc::clone(&is_gone)));
    let mut outbox = connection.outbox.borrow_mut();
    outbox.out.advance(under_way);
    outbox.pass(under_way);
    let head = [outbox.lend(), prelude].concat();
    engine.note_output(client, outbox.figures());
    Ok(Recipient { key: client, outlet, head, is_gone })
}

/// The socket for the sender, and how much of the output's front the sender need not send.
fn socket(net: &Net, connection: &Connection) -> io::Result<(Socket, usize)> {
    match &mut *connection.place.borrow_mut() {
        Place::Here(stream) => {
            let (outlet, under_way) = stream.lend()?;
            Ok((net.senders.socket(outlet), under_way))
        }
        Place::There(_) | Place::Returning(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The sender is done with a socket: it is the executor's again. One that was sent a part of the
/// snapshot is of no more use; its connection is to be closed when the engine knows why.
pub fn take_back(net: &Net, told: &Told) -> Option<Rc<Connection>> {
    let (client, is_sent) = match &told.report {
        TransferReport::Sent { client } => (*client, true),
        TransferReport::Lost { client, .. } | TransferReport::TimedOut { client } => {
            (*client, false)
        }
        TransferReport::Ended { .. } => return None,
    };
    net.lent.borrow_mut().retain(|(lent, _)| *lent != client);
    let connection = net.connection(client)?;
    connection.outbox.borrow_mut().pass(told.written as usize);
    if !is_sent {
        return Some(connection);
    }
    connection.is_lent.set(false);
    net.mark_dirty(&connection);
    None
}

#[cfg(test)]
mod tests;
