//! What has come from our primary has its turn, as what clients have sent has.

use super::hands;
use super::port::Port;
use super::shared::Net;
use crate::engine::Engine;
use crate::engine::replication::inlet::Flow;
use crate::repl::link::{Closed, LinkEvent};
use bytes::Bytes;
use std::rc::Rc;
use tokio::sync::mpsc;

/// How long the commands of the stream may run in a turn in which clients wait.
const TURN_NS_MAX: u64 = 1_000_000;

/// Has the engine look at what has arrived; true if there is more than fits into a turn.
pub fn drive(net: &Rc<Net>, engine: &mut Engine) -> bool {
    let port = &net.link;
    let Some(attempt) = port.attempt.get() else { return false };
    let is_over = |engine: &Engine| engine.turn_ns() > TURN_NS_MAX;
    loop {
        if let Some(piece) = port.piece.take()
            && !pass_on(port, piece)
        {
            return false;
        }
        let flow = port.inlet.borrow_mut().drive(engine, &is_over);
        hands::carry_out(net, engine);
        match flow {
            Flow::Snapshot(piece) => *port.piece.borrow_mut() = Some(piece),
            Flow::More => {
                port.wake.notify_one();
                return true;
            }
            // The timer has it looked at again, unless somebody else's turn does before.
            Flow::Blocked => return false,
            Flow::Dry => break,
        }
    }
    port.wake.notify_one();
    let is_current = port.attempt.get() == Some(attempt);
    if let Some(reason) = port.ended.take().filter(|_| is_current) {
        let closed = if reason.is_empty() { Closed::ByPeer } else { Closed::Error(&reason) };
        engine.tell_link_of(attempt, LinkEvent::Closed(closed));
        hands::carry_out(net, engine);
    }
    false
}

/// Gives a part of the snapshot to who decodes it; false if there is no room for it yet.
fn pass_on(port: &Port, piece: Bytes) -> bool {
    let snapshot = port.snapshot.borrow();
    // Nobody decodes what has proved to be no snapshot.
    let Some(sender) = &*snapshot else { return true };
    match sender.try_send(piece) {
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
        Err(mpsc::error::TrySendError::Full(piece)) => {
            *port.piece.borrow_mut() = Some(piece);
            false
        }
    }
}
