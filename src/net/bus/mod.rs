//! The cluster's bus: connections between nodes, and the file in which a node keeps what it knows.
//!
//! What packets mean is the machine's to say (`cluster/`): here they are cut out of what arrives
//! ([`packets`]), one task a connection ([`link`]), and what is to be sent waits in a queue whose
//! bytes are counted ([`port`]). What follows from a packet is done when the executor's turn
//! begins. The file has a thread, since a disk may be slow ([`keeper`]).
//!
//! Whoever reaches the port can speak here (the bus knows no passwords), so what strangers cost is
//! limited: how many there are, how long they may be silent, how long their packets may be, and
//! how much is done for them before clients have their turn.

mod keeper;
mod link;
mod listener;
mod packets;
pub mod port;

use super::shared::Net;
use crate::cluster::machine::{Event, TICK_MS};
use crate::config::os_reason;
use crate::engine::bus::unfit;
use crate::engine::{BusErrand, Engine};
use crate::persist::nodes::{NodesFile, Version};
use keeper::{Keeper, Kept};
pub use listener::listen;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::MissedTickBehavior;

/// This server cannot be a node of a cluster; the log says why.
pub struct Unfit;

/// Makes this server a node, if it is to be one, with the file that it has or gets now: nobody
/// hears of a node that would not know its name again.
pub fn join(net: &Rc<Net>) -> Result<(), Unfit> {
    let mut engine = net.engine.borrow_mut();
    if !engine.config().cluster_enabled {
        return Ok(());
    }
    if let Some(reason) = unfit(engine.config()) {
        return Err(complain(&reason));
    }
    let name = engine.config().cluster_config_file.as_path().to_owned();
    let opened = NodesFile::open(engine.disk(), &name, std::process::id());
    let (mut file, text) = opened.map_err(|unopened| complain(&unopened))?;
    engine.join_cluster(text.as_deref()).map_err(|corrupt| complain(&corrupt))?;
    let text = engine.nodes_text().expect("it has just become a node");
    file.write(&Version { text, is_synced: true }).map_err(|not_written| {
        complain(&not_written);
        complain(&"Fatal: can't update cluster config file.")
    })?;
    let (keeper, kept) = Keeper::start(file)
        .map_err(|error| complain(&format!("Can't start a thread: {}", os_reason(&error))))?;
    net.bus.set_keeper(keeper);
    tokio::task::spawn_local(tell_all(Rc::clone(net), kept));
    Ok(())
}

fn complain(reason: &dyn std::fmt::Display) -> Unfit {
    tracing::warn!("{reason}");
    Unfit
}

/// Has the node hear others and speak to them. Before the dataset is loaded it does not: what
/// others say may concern keys.
pub fn start(net: &Rc<Net>, listeners: Vec<TcpListener>) {
    if !net.engine.borrow().config().cluster_enabled {
        return;
    }
    for listener in listeners {
        tokio::task::spawn_local(listener::accept(Rc::clone(net), listener));
    }
    tokio::task::spawn_local(tick(Rc::clone(net)));
}

/// Does what the machine wants done. Who holds the engine calls this.
pub fn carry_out(net: &Rc<Net>, engine: &mut Engine, errand: BusErrand) {
    match errand {
        BusErrand::Dial { link, ip, port } => link::dial(net, engine, link, ip, port),
        BusErrand::Send { link, bytes } => {
            if let Some(figures) = net.bus.send(link, bytes) {
                engine.note_bus_link(link, figures);
            }
        }
        BusErrand::Close(link) => net.bus.close(link),
        BusErrand::Save { text, is_synced, saver } => {
            net.bus.save(Version { text, is_synced }, saver);
        }
    }
}

/// Tells the engine what has become of what it had saved.
async fn tell_all(net: Rc<Net>, mut kept: UnboundedReceiver<Kept>) {
    while let Some(Kept { saver, result }) = kept.recv().await {
        {
            let mut engine = net.engine.borrow_mut();
            engine.tick(net.now());
            engine.finish_saving_nodes(saver, result);
        }
        net.wake_executor();
    }
}

/// Tells the machine that time has passed, as often as it wants to hear it.
async fn tick(net: Rc<Net>) {
    let mut every = tokio::time::interval(Duration::from_millis(TICK_MS));
    // A machine that was kept from its processor does not catch up.
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        {
            let mut engine = net.engine.borrow_mut();
            engine.tick(net.now());
            engine.note_bus(net.bus.figures().into_iter());
            engine.tell_cluster(Event::Tick);
        }
        net.wake_executor();
    }
}
