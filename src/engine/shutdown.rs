//! The end of the server in good order.
//!
//! While it is under way no command runs: what a client were told now would not be in the last
//! snapshot. A save that was running is stopped first; then the last one is made, if one is wanted.
//! If that fails the server lives on, unless it was to end by force.

use super::waiting::Line;
use super::{Effect, Engine, Server, Standing};
use crate::command::{CommandError, CommandResult};
use crate::config::ShutdownOptions;
use crate::keyspace::Keyspace;
use crate::persist::aof::Mode;

/// A shutdown that is under way.
pub struct Shutdown {
    options: ShutdownOptions,
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
        tracing::warn!("User requested shutdown...");
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
        let saves = self.loading.is_none() && (options.save || (has_points && !options.nosave));
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
        tracing::warn!("Redis is now ready to exit, bye bye...");
        self.effects.push(Effect::Exit(0));
    }
}

impl Engine {
    /// True if no command is to run, for the server is about to end.
    pub fn is_ending(&self) -> bool {
        self.server.shutdown.is_some()
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
        for client in self.server.empty_line(&mut self.clients, Line::End) {
            self.finish_job(client, Err(FAILED));
        }
    }
}
