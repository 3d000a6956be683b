//! SIGTERM and SIGINT: an orderly shutdown; a second SIGINT does not wait for it.

use super::{Net, turn};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub fn watch(net: &Rc<Net>) -> io::Result<()> {
    let interrupted = Rc::new(Cell::new(false));
    for (name, kind) in [("SIGTERM", SignalKind::terminate()), ("SIGINT", SignalKind::interrupt())]
    {
        let net = Rc::clone(net);
        let interrupted = Rc::clone(&interrupted);
        let mut arrivals: Signal = signal(kind)?;
        tokio::task::spawn_local(async move {
            while arrivals.recv().await.is_some() {
                let is_interrupt = kind == SignalKind::interrupt();
                if is_interrupt && interrupted.replace(true) {
                    tracing::warn!("You insist... exiting now.");
                    std::process::exit(1);
                }
                tracing::warn!("Received {name} scheduling shutdown...");
                let mut engine = net.engine.borrow_mut();
                engine.tick(net.now());
                engine.shut_down_by_signal();
                turn::carry_out(&net, &mut engine);
            }
        });
    }
    Ok(())
}
