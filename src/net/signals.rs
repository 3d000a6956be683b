//! SIGTERM and SIGINT: an orderly shutdown; a second SIGINT does not wait for it. Signals that say
//! nothing to a server, such as the end of the terminal that it was started from, are passed over.

use super::hands;
use super::shared::Net;
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
                    net.engine.borrow().remove_unfinished_snapshot();
                    net.service.end();
                    std::process::exit(1);
                }
                let mut engine = net.engine.borrow_mut();
                match engine.is_loading() {
                    false => tracing::warn!("Received {name} scheduling shutdown..."),
                    true => tracing::warn!(
                        "Received shutdown signal during loading, scheduling shutdown."
                    ),
                }
                engine.tick(net.now());
                let options = match is_interrupt {
                    true => engine.config().shutdown_on_sigint,
                    false => engine.config().shutdown_on_sigterm,
                };
                engine.shut_down_by_signal(options);
                hands::carry_out(&net, &mut engine);
                if engine.is_under_way() {
                    net.executor.notify_one();
                }
            }
        });
    }
    pass_over()
}

/// Keeps signals from ending the process that would by default. SIGPIPE is the standard library's.
fn pass_over() -> io::Result<()> {
    let kinds = [
        SignalKind::hangup(),
        SignalKind::alarm(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    for kind in kinds {
        // The handler stays when nobody listens to it any more.
        drop(signal(kind)?);
    }
    Ok(())
}
