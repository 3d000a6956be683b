//! TLS as the executor's tasks deal with it: reading what it is spoken with, at the start, when the
//! configuration changes and when files do, and letting clients in who have shaken hands.
//!
//! Certificates are read on a thread that ends with that: a disk may be slow, and to make a key of
//! a passphrase is meant to be. Nothing changes before all of it was right.

use super::admission;
use super::shared::Net;
use super::stream::{Luggage, Stream};
use super::tls::desk::Desk;
use super::tls::handshake::Answer;
use super::tls::settings::{Contexts, Settings, Stamps, Unusable};
use crate::config::{Config, os_reason};
use crate::engine::{Engine, Peer};
use crate::observe::memory;
use crate::observe::tls::{CertificateReport, TlsReport};
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Handshakes that are under way at a time; the oldest makes place. One takes a few kilobytes, and
/// 64 of a peer that means no good.
const UNDER_WAY_MAX: usize = 1024;

/// How often it is looked whether it is time to look.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often certificates that end soon are warned of.
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads what the server that is about to start speaks TLS with, if it does.
pub fn begin(net: &Net) -> Result<(), Unusable> {
    let settings = Settings::of(net.engine.borrow().config());
    let contexts = settings.map(|settings| settings.load(None)).transpose();
    let contexts = contexts.inspect_err(|Unusable| {
        tracing::warn!("Failed to configure TLS. Check logs for more info.");
    })?;
    install(net, contexts.map(Arc::new));
    Ok(())
}

/// Speaks TLS by these from now on; what there was before.
pub fn install(net: &Net, contexts: Option<Arc<Contexts>>) -> Option<Arc<Contexts>> {
    let mut engine = net.engine.borrow_mut();
    let report = contexts.as_ref().map(|contexts| contexts.report.clone()).unwrap_or_default();
    warn_of_ends(&report, unix_seconds(net));
    engine.note_certificates(report);
    net.tls.install(contexts)
}

/// Reads everything anew, as the configuration is now, and puts it into use; what there was before.
pub async fn reload(net: &Net) -> Result<Option<Arc<Contexts>>, Unusable> {
    let _turn = net.tls.turn.lock().await;
    let settings = Settings::of(net.engine.borrow().config());
    let Some(settings) = settings else { return Ok(install(net, None)) };
    let before = net.tls.contexts();
    let loaded = apart(&net.tls, READING_MAX, move || settings.load(before.as_deref())).await;
    let loaded = loaded.unwrap_or(Err(Unusable))?;
    Ok(install(net, Some(Arc::new(loaded))))
}

/// So long certificates may take to be read. Those of a file system that does not answer never are,
/// and whoever changes the configuration next waits for them.
const READING_MAX: Duration = Duration::from_secs(10);

/// Reads files on a thread of its own; nothing if there is no thread, or it takes too long: the
/// thread is left to itself then, and nothing is read before it has ended. Whose turn it is calls
/// this, so that nobody is turned away for a thread that is about to end.
async fn apart<T: Send + 'static>(
    desk: &Desk,
    most: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let Some(held) = desk.begin_reading() else {
        tracing::warn!("The files of TLS are still being read");
        return None;
    };
    let (done, outcome) = oneshot::channel();
    let started = thread::Builder::new().name("tls".into()).spawn(move || {
        memory::count_passing_thread();
        let outcome = work();
        drop(held);
        memory::count_passing_thread();
        // Whoever waited may be gone.
        let _ = done.send(outcome);
    });
    if let Err(error) = started {
        tracing::warn!("Can't start a thread: {}", os_reason(&error));
        return None;
    }
    match tokio::time::timeout(most, outcome).await {
        Ok(outcome) => outcome.ok(),
        Err(_) => {
            let seconds = most.as_secs();
            tracing::warn!("Reading the files of TLS has not ended within {seconds} seconds");
            None
        }
    }
}

fn unix_seconds(net: &Net) -> u64 {
    net.now().unix_us / 1_000_000
}

/// Says which certificates have to be renewed.
fn warn_of_ends(report: &TlsReport, now: u64) {
    let all = [
        ("certificate of the server", &report.server),
        ("certificate for outgoing connections", &report.client),
        ("certificate of an authority", &report.authority),
    ];
    for (whose, certificate) in all {
        if let Some(certificate) = certificate.as_ref().filter(|it| it.ends_soon(now)) {
            warn_of_end(whose, certificate, now);
        }
    }
}

fn warn_of_end(whose: &str, certificate: &CertificateReport, now: u64) {
    let serial = &certificate.serial;
    match certificate.expires_in_seconds(now) {
        left if left < 0 => tracing::warn!("The TLS {whose} (serial {serial}) has expired"),
        left => {
            let days = left / (24 * 60 * 60);
            tracing::warn!("The TLS {whose} (serial {serial}) expires in {days} days");
        }
    }
}

/// Looks now and then whether files were replaced, and reads them then; and warns of certificates
/// that end soon.
pub async fn watch(net: Rc<Net>) {
    let mut looked = Instant::now();
    let mut warned = Instant::now();
    let mut failed = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if warned.elapsed() >= WARN_EVERY {
            warned = Instant::now();
            if let Some(contexts) = net.tls.contexts() {
                warn_of_ends(&contexts.report, unix_seconds(&net));
            }
        }
        let seconds = net.engine.borrow().config().tls_auto_reload_interval;
        if seconds > 0 && looked.elapsed() >= Duration::from_secs(u64::from(seconds)) {
            looked = Instant::now();
            reload_if_changed(&net, &mut failed).await;
        }
    }
}

/// Reads files anew that are others than those in use. What was wrong is not tried again as it is:
/// certificate and key are rarely replaced in the same moment.
async fn reload_if_changed(net: &Net, failed: &mut Option<Stamps>) {
    let Some(contexts) = net.tls.contexts() else { return };
    let Some(settings) = Settings::of(net.engine.borrow().config()) else { return };
    let turn = net.tls.turn.lock().await;
    let stamps = apart(&net.tls, READING_MAX, move || settings.stamps()).await;
    drop(turn);
    let Some(stamps) = stamps else { return };
    if stamps == contexts.stamps || failed.as_ref() == Some(&stamps) {
        return;
    }
    match reload(net).await {
        Ok(_) => {
            *failed = None;
            tracing::info!("TLS files have changed: they are used for new connections from now on");
        }
        Err(Unusable) => {
            *failed = Some(stamps);
            tracing::warn!("TLS files have changed and are of no use: those before stay in use");
        }
    }
}

/// Shakes hands with who has connected, and lets it in then.
pub fn welcome(net: &Rc<Net>, socket: TcpStream, peer: Peer) {
    let refusal = {
        let mut engine = net.engine.borrow_mut();
        engine.tick(net.now());
        let may = engine.may_admit(&peer);
        if may.is_ok() {
            make_place(net, &mut engine);
        }
        may.err()
    };
    if let Some(text) = refusal {
        // In plain text, as Redis does: a handshake would be the greatest part of the work.
        let _ = socket.try_write_vectored(&[IoSlice::new(text.as_bytes())]);
        return;
    }
    let Ok(outcome) = net.tls.accept(socket) else { return };
    let mut under_way = net.tls.under_way().borrow_mut();
    let number = under_way.number();
    let task = tokio::task::spawn_local(take_in(Rc::clone(net), number, peer, outcome));
    under_way.add(number, task.abort_handle());
}

/// Those who shake hands count as clients.
fn make_place(net: &Net, engine: &mut Engine) {
    let most = UNDER_WAY_MAX.min(engine.free_places());
    let given_up = net.tls.under_way().borrow_mut().make_place(most);
    (0..given_up).for_each(|_| engine.count_handshake(None));
}

async fn take_in(net: Rc<Net>, number: u64, peer: Peer, outcome: oneshot::Receiver<Answer>) {
    let answer = outcome.await.unwrap_or_else(|_| Err("the handshake was given up".to_owned()));
    net.tls.under_way().borrow_mut().remove(number);
    let resumed = answer.as_ref().ok().map(|shaken| shaken.is_resumed);
    net.engine.borrow_mut().count_handshake(resumed);
    match answer {
        Err(reason) => complain(&net, &reason, &peer),
        Ok(shaken) => {
            let certificate = shaken.names.map(Box::new);
            if let Ok(stream) = Stream::unpack(Luggage::Tls(Box::new(shaken.parcel))) {
                admission::admit(&net, stream, Peer { certificate, is_tls: true, ..peer });
            }
        }
    }
}

/// Says in the log why somebody was not let in, unless much is said already.
fn complain(net: &Net, reason: &str, peer: &Peer) {
    let Some(left_out) = net.tls.complaints.admit(Instant::now()) else { return };
    let Peer { address, local_address, .. } = peer;
    tracing::warn!(
        "Error accepting a client connection: {reason} (addr={address} laddr={local_address})"
    );
    if left_out > 0 {
        tracing::warn!("{left_out} more client connections could not be accepted");
    }
}

/// Whether a change of the configuration needs certificates read.
pub fn concerns(config: &Config, previous: &Config, asks_for_it: bool) -> bool {
    config.uses_tls() && (asks_for_it || !previous.uses_tls())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn nobody_waits_for_files_that_do_not_come() {
        let desk = Desk::default();
        assert_eq!(apart(&desk, READING_MAX, || 7).await, Some(7));
        let (keeps_waiting, end) = mpsc::channel::<()>();
        let waits = move || end.recv().is_ok();
        assert_eq!(apart(&desk, Duration::ZERO, waits).await, None);
        assert_eq!(apart(&desk, READING_MAX, || 7).await, None, "one thread waits, and no second");
        drop(keeps_waiting);
        while desk.begin_reading().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(apart(&desk, READING_MAX, || 7).await, Some(7));
    }
}
