//! The end of the server in good order.
//!
//! While it is under way no command runs: what a client were told now would not be in the last
//! snapshot. A save that was running is stopped first; then the last one is made, if one is wanted.
//! If that fails the server lives on, unless it was to end by force.

use super::pause::{PauseMode, PauseOwner};
use super::waiting::Line;
use super::{Clients, Effect, Engine, Server, Standing};
use crate::command::{CommandError, CommandResult};
use crate::config::ShutdownOptions;
use crate::keyspace::Keyspace;
use crate::persist::aof::Mode;

/// A shutdown that is under way.
pub struct Shutdown {
    options: ShutdownOptions,
}

/// A shutdown that waits until the replicas have all that was written.
pub struct Departure {
    options: ShutdownOptions,
    /// On the monotonic clock: then it waits no longer.
    pub until_ms: u64,
}

const CANNOT_END: &str =
    "Errors trying to shut down the server. Check the logs for more information.";

const FAILED: CommandError = CommandError::Fixed("ERR Errors trying to SHUTDOWN. Check logs.");

impl Server {
    /// Ends the process when all is done that has to be done before.
    pub fn begin_shutdown(&mut self, space: &Keyspace, options: ShutdownOptions) -> CommandResult {
        if self.shutdown.is_some() {
            return Ok(());
        }
        if self.departure.is_none() {
            tracing::warn!("User requested shutdown...");
            if self.begin_departure(options) {
                return Ok(());
            }
        } else if !options.now {
            // It ends when the one that was asked for before does.
            return Ok(());
        }
        self.end_departure();
        self.end(space, options)
    }

    /// Waits for replicas, if there is one that lags and it may take a while.
    fn begin_departure(&mut self, options: ShutdownOptions) -> bool {
        let wait_ms = u64::from(self.config.shutdown_timeout) * 1000;
        if options.now || wait_ms == 0 || !self.has_laggards() {
            return false;
        }
        tracing::info!("Waiting for replicas before shutting down.");
        self.pause.start(PauseOwner::Shutdown, PauseMode::Writes, u64::MAX);
        self.replication.asks_for_acks = true;
        let until_ms = self.clock.mono_ms() + wait_ms;
        self.departure = Some(Departure { options, until_ms });
        true
    }

    /// The server is not to end after all; false if it was not about to. Who has asked for the end
    /// is told so when the turn ends.
    pub fn abort_departure(&mut self, clients: &mut Clients) -> bool {
        if self.departure.take().is_none() {
            return false;
        }
        tracing::info!("Shutdown manually aborted");
        self.pause.end(PauseOwner::Shutdown);
        self.wake_line(clients, Line::Unpause);
        self.departure_is_off = true;
        self.replication.copies_have_moved = true;
        true
    }

    fn has_laggards(&self) -> bool {
        let offset = self.replication_offset();
        let mut copies =
            self.replication.feeders.iter().filter(|feeder| !feeder.announced.rdb_only);
        copies.any(|feeder| feeder.shown_ack() != offset)
    }

    /// Replicas are waited for no longer. Says how far they are.
    fn end_departure(&mut self) {
        if self.departure.take().is_some() {
            self.pause.end(PauseOwner::Shutdown);
        }
        let (offset, now_ms) = (self.replication_offset(), self.clock.mono_ms());
        let all = self.replication.feeders.iter().filter(|feeder| !feeder.announced.rdb_only);
        let (mut count, mut in_sync) = (0, 0);
        for feeder in all {
            count += 1;
            if feeder.shown_ack() == offset {
                in_sync += 1;
                continue;
            }
            tracing::info!(
                "Lagging replica {} reported offset {} behind master, lag={}, state={}.",
                feeder.name(),
                offset - feeder.shown_ack(),
                feeder.lag_seconds(now_ms),
                feeder.word()
            );
        }
        if count > 0 {
            tracing::info!("{in_sync} of {count} replicas are in sync when shutting down.");
        }
    }

    /// Ends the process, whatever replicas have.
    fn end(&mut self, space: &Keyspace, options: ShutdownOptions) -> CommandResult {
        self.first_base_is_there(options)?;
        self.effects.push(Effect::Stand(Standing::Stopping));
        self.shutdown = Some(Shutdown { options });
        self.cancel_rewrite();
        if self.saving.cancel() {
            tracing::warn!("There is a child saving an .rdb. Killing it!");
        }
        if !self.saving.is_ending() {
            self.go_on_with_shutdown(space);
        }
        Ok(())
    }

    /// A log that was switched on and has no base yet holds nothing that could be loaded.
    fn first_base_is_there(&mut self, options: ShutdownOptions) -> CommandResult {
        if self.aof.mode() != Mode::Waiting {
            return Ok(());
        }
        if options.force {
            tracing::warn!("Writing initial AOF. Exit anyway.");
            return Ok(());
        }
        tracing::warn!("Writing initial AOF, can't exit.");
        self.effects.push(Effect::Stand(Standing::CannotEnd("Writing initial AOF, can't exit.")));
        tracing::warn!("{CANNOT_END}");
        Err(FAILED)
    }

    /// Nothing is being written any more: makes the last snapshot, if it is wanted.
    pub(super) fn go_on_with_shutdown(&mut self, space: &Keyspace) {
        let Some(shutdown) = &self.shutdown else { return };
        let options = &shutdown.options;
        let has_points = !self.config.save.0.is_empty();
        // What has been read so far must not replace the file it is read from.
        let saves = self.loading.is_none()
            && self.sentinel.is_none()
            && (options.save || (has_points && !options.nosave));
        if saves {
            tracing::info!("Saving the final RDB snapshot before exiting.");
            self.effects.push(Effect::Stand(Standing::SavingLast));
            return self.save_before_end(space);
        }
        let unsaved = space.changes.dirty - self.saving.dirty_at_save;
        let is_lost = unsaved > 0 && !self.aof.is_on() && self.loading.is_none();
        if !has_points && !options.nosave && is_lost {
            tracing::warn!("{unsaved} changes are not saved: no save points are configured.");
        }
        self.exit();
    }

    fn exit(&mut self) {
        self.save_nodes_before_end();
        tracing::warn!("Redis is now ready to exit, bye bye...");
        self.effects.push(Effect::Exit(0));
    }
}

impl Engine {
    /// True if no command is to run, for the server is about to end.
    pub fn is_ending(&self) -> bool {
        self.server.shutdown.is_some()
    }

    /// Ends the server if its replicas have all, or it has waited for them long enough.
    pub(super) fn depart_if_due(&mut self) {
        if std::mem::take(&mut self.server.departure_is_off) {
            self.refuse_to_end();
        }
        let Some(Departure { options, until_ms }) = &self.server.departure else { return };
        let options = *options;
        if self.server.has_laggards() && self.server.clock.mono_ms() < *until_ms {
            return;
        }
        self.server.end_departure();
        if self.server.end(&self.keyspace, options).is_err() {
            self.core().end_pause_of(PauseOwner::Shutdown);
            self.refuse_to_end();
        }
    }

    /// Those who have asked for the end are told that it does not come.
    fn refuse_to_end(&mut self) {
        for client in self.server.empty_line(&mut self.clients, Line::End) {
            self.finish_job(client, Err(FAILED));
        }
    }

    /// SIGTERM or SIGINT came.
    pub fn shut_down_by_signal(&mut self, options: ShutdownOptions) {
        if let Some(under_way) = &mut self.server.under_way {
            // Half of what a script does is not to be saved: it ends first, by force if it can.
            under_way.shutdown_behind = Some(options);
            let is_ending = self.server.end_script();
            if !is_ending {
                self.server.scripting.let_alone();
                tracing::warn!("A script that has written is running: the server ends behind it.");
            }
            return;
        }
        // If it cannot end, the log says so.
        let _ = self.server.begin_shutdown(&self.keyspace, options);
    }

    /// The last snapshot was made, or could not be.
    pub(super) fn end_shutdown(&mut self, is_saved: bool) {
        let Some(shutdown) = &self.server.shutdown else { return };
        if is_saved {
            return self.server.exit();
        }
        if shutdown.options.force {
            tracing::warn!("Error trying to save the DB. Exit anyway.");
            return self.server.exit();
        }
        const REASON: &str = "Error trying to save the DB, can't exit.";
        tracing::warn!("{REASON}");
        self.server.effects.push(Effect::Stand(Standing::CannotEnd(REASON)));
        tracing::warn!("{CANNOT_END}");
        self.server.shutdown = None;
        self.refuse_to_end();
    }
}
