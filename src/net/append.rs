//! The append-only log in the world: the thread that syncs, the thread that saves, loading at the
//! start, and replies that wait until what they promise is on disk.
//!
//! A reply is held by marks: up to this place of the output it may leave when the log has come to
//! that offset. A mark is set at the end of a turn for a connection with new output, and one mark
//! stands for all of a turn, so a client that pipelines holds a few. Whoever did not write is held
//! only under `always`, where a reply must not tell of a write that a loss of power would undo,
//! and not while the disk fails: reads go on.

use super::connection::{Connection, Io};
use super::loader::Source;
use super::{Net, turn};
use crate::engine::{Engine, Replay, ReplayStep, Unloadable};
use crate::persist::aof::{SyncOutcome, SyncRequest};
use crate::persist::load::LoadError;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use tokio::sync::mpsc as async_mpsc;

/// A connection has at most so many marks; more are joined with the last.
const MARKS_MAX: usize = 16;

/// The output up to `end` may leave when the log has come to `offset`.
struct Mark {
    offset: u64,
    end: u64,
    /// Some of it answers writes.
    has_writes: bool,
}

/// What of a connection's output must wait.
#[derive(Default)]
pub struct Holds {
    marks: VecDeque<Mark>,
    /// Where the output ended when it was last marked.
    marked_end: u64,
    /// Output before this is free, if there are marks.
    free_end: u64,
}

impl Holds {
    /// How many bytes may leave now, given that `written` have.
    pub fn free(&mut self, written: u64, release: Release) -> usize {
        while let Some(mark) = self.marks.pop_front_if(|mark| release.frees(mark)) {
            self.free_end = mark.end;
        }
        if self.marks.is_empty() {
            return usize::MAX;
        }
        usize::try_from(self.free_end.saturating_sub(written)).unwrap_or(usize::MAX)
    }

    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    fn may_go_on(&self, release: Release) -> bool {
        self.marks.front().is_none_or(|mark| release.frees(mark))
    }

    fn add(&mut self, offset: u64, written: u64, end: u64, has_writes: bool) {
        if self.marks.is_empty() {
            self.free_end = written;
        }
        let is_full = self.marks.len() >= MARKS_MAX;
        match self.marks.back_mut() {
            Some(last) if last.offset == offset => {
                last.end = end;
                last.has_writes |= has_writes;
            }
            Some(last) if is_full => {
                *last = Mark { offset, end, has_writes: last.has_writes || has_writes };
            }
            _ => self.marks.push_back(Mark { offset, end, has_writes }),
        }
    }
}

/// What the log releases now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Release {
    upto: u64,
    /// The disk fails: only writers wait.
    fails: bool,
}

impl Release {
    pub fn of(engine: &Engine) -> Release {
        let aof = &engine.server.aof;
        Release { upto: aof.released(), fails: aof.has_fault() }
    }

    fn frees(self, mark: &Mark) -> bool {
        mark.offset <= self.upto || (self.fails && !mark.has_writes)
    }
}

/// Marks the output that came in this turn, if it must wait for the log.
pub fn mark_output(net: &Net, engine: &Engine) {
    let release = Release::of(engine);
    let offset = engine.server.aof.progress().appended;
    let holds_all = engine.server.aof.syncs_always() && !release.fails;
    let is_behind = offset > release.upto;
    for connection in net.dirty.borrow().iter() {
        let has_writes = connection.has_written.take();
        let io = &mut *connection.io.borrow_mut();
        let end = io.written_bytes + io.out.len() as u64;
        if is_behind && end > io.holds.marked_end && (has_writes || holds_all) {
            io.holds.add(offset, io.written_bytes, end, has_writes);
        }
        io.holds.marked_end = end;
    }
}

/// Has the output written of the connections whose first mark has been reached.
pub fn release_held(net: &Net, engine: &Engine) {
    let release = Release::of(engine);
    if net.released.replace(Some(release)) == Some(release) || net.held.borrow().is_empty() {
        return;
    }
    let mut held = net.held.borrow_mut();
    held.retain(|connection| {
        if !connection.io.borrow().holds.may_go_on(release) {
            return true;
        }
        connection.is_held.set(false);
        net.mark_dirty(connection);
        false
    });
}

/// Keeps in mind that a connection has output that waits for the log.
pub fn hold(net: &Net, connection: &Rc<Connection>) {
    if !connection.is_held.replace(true) {
        net.held.borrow_mut().push(Rc::clone(connection));
    }
}

/// Drops what a closed connection waited with.
pub fn let_go(net: &Net, connection: &Rc<Connection>) {
    if connection.is_held.take() {
        net.held.borrow_mut().retain(|held| !Rc::ptr_eq(held, connection));
    }
}

/// How much of a connection's output may leave now.
pub fn free_output(engine: &Engine, io: &mut Io) -> usize {
    if io.holds.is_empty() {
        return usize::MAX;
    }
    io.holds.free(io.written_bytes, Release::of(engine))
}

/// The thread that syncs the log.
pub struct Syncer(mpsc::Sender<SyncRequest>);

impl Syncer {
    /// Starts the thread; it ends with the process.
    pub fn start() -> io::Result<(Syncer, async_mpsc::UnboundedReceiver<SyncOutcome>)> {
        let (requests, queue) = mpsc::channel::<SyncRequest>();
        let (done, outcomes) = async_mpsc::unbounded_channel();
        thread::Builder::new().name("syncer".into()).spawn(move || {
            for request in queue {
                // Nobody is left to hear of it when the executor is gone.
                let _ = done.send(request.run());
            }
        })?;
        Ok((Syncer(requests), outcomes))
    }

    pub fn sync(&self, request: SyncRequest) {
        self.0.send(request).expect("the syncing thread lives as long as the process");
    }
}

/// Tells the engine which syncs have ended.
pub async fn collect(net: Rc<Net>, mut outcomes: async_mpsc::UnboundedReceiver<SyncOutcome>) {
    while let Some(outcome) = outcomes.recv().await {
        {
            let mut engine = net.engine.borrow_mut();
            engine.tick(net.now());
            engine.finish_sync(outcome);
            turn::carry_out(&net, &mut engine);
        }
        net.executor.notify_one();
    }
}

/// Loads the append-only log, while clients are answered that they have to
/// wait, and opens it.
pub async fn load(net: &Rc<Net>) -> Result<(), Unloadable> {
    let mut end = Default::default();
    let begun = net.engine.borrow_mut().find_log()?;
    if let Some(mut replay) = begun {
        loop {
            let step = {
                let mut engine = net.engine.borrow_mut();
                engine.tick(net.now());
                let step = engine.step_replay(&mut replay);
                turn::carry_out(net, &mut engine);
                step
            };
            match step {
                _ if net.exit_code.get().is_some() => return Err(Unloadable),
                ReplayStep::More => tokio::task::yield_now().await,
                ReplayStep::Snapshot(path) => load_snapshot(net, &mut replay, path).await?,
                ReplayStep::Failed => return Err(Unloadable),
                ReplayStep::Done(done) => {
                    end = done;
                    break;
                }
            }
        }
    }
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    engine.open_log(&end).map_err(|error| {
        tracing::warn!("Can't open the append-only file: {}", crate::config::os_reason(&error));
        Unloadable
    })
}

/// Loads the snapshot at the front of the log.
async fn load_snapshot(
    net: &Rc<Net>,
    replay: &mut Replay,
    path: PathBuf,
) -> Result<(), Unloadable> {
    let name = path.file_name().unwrap_or_default().display().to_string();
    let source = {
        let engine = net.engine.borrow();
        Source::open(&engine, engine.reading_of_log(), path).ok_or(Unloadable)?
    };
    match source.load(net).await {
        Ok(bytes) if net.engine.borrow_mut().finish_snapshot_of(replay, bytes) => Ok(()),
        Ok(_) | Err(LoadError::CalledOff) => Err(Unloadable),
        Err(error) => {
            tracing::warn!("{error}");
            tracing::warn!("Error reading the RDB base file {name}, AOF loading aborted");
            Err(Unloadable)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: usize = usize::MAX;

    fn upto(upto: u64) -> Release {
        Release { upto, fails: false }
    }

    #[test]
    fn output_leaves_as_far_as_the_log_has_come() {
        let mut holds = Holds::default();
        assert_eq!(holds.free(0, upto(0)), EVERYTHING);
        holds.add(10, 100, 150, true);
        holds.add(20, 100, 180, true);
        holds.add(20, 100, 190, false);
        assert_eq!(holds.free(100, upto(9)), 0);
        assert_eq!(holds.free(100, upto(19)), 50);
        assert_eq!(holds.free(120, upto(19)), 30, "some of it has left");
        assert_eq!(holds.free(120, upto(20)), EVERYTHING);
        assert!(holds.is_empty());
    }

    #[test]
    fn many_marks_become_few_and_hold_no_less() {
        let mut holds = Holds::default();
        for turn in 1..=100 {
            holds.add(turn * 10, 0, turn, true);
        }
        assert_eq!(holds.marks.len(), MARKS_MAX);
        assert_eq!(holds.free(0, upto(20)), 2);
        assert_eq!(holds.free(0, upto(999)), 15);
        assert_eq!(holds.free(0, upto(1000)), EVERYTHING);
    }

    #[test]
    fn readers_do_not_wait_for_a_disk_that_fails() {
        let fails = Release { upto: 0, fails: true };
        let mut reader = Holds::default();
        reader.add(10, 0, 5, false);
        assert_eq!(reader.free(0, upto(0)), 0);
        assert_eq!(reader.free(0, fails), EVERYTHING);
        let mut writer = Holds::default();
        writer.add(10, 0, 5, true);
        writer.add(20, 0, 9, false);
        assert_eq!(writer.free(0, fails), 0, "replies keep their order");
    }
}
