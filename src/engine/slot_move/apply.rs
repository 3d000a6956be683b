//! What is to be done to keys that lie aside, as a program: one command after the other, in the
//! words of their owner.

use super::error;
use crate::command::{Command, CommandError, CommandResult, Flags, Lookup, Traits, find_keys};
use crate::engine::program::{Program, Step};
use crate::engine::propagate::Targets;
use crate::engine::{Caller, Cx};
use crate::keyspace::slot::Slot;
use crate::resp::request::{Limits, RequestReader};
use crate::resp::{ReplyBuf, Request};

const OWN: Limits = Limits { bulk_len_max: u64::MAX, authenticated: true };

struct Apply {
    reader: RequestReader,
    has_entered: bool,
    reply: ReplyBuf,
}

impl Cx<'_> {
    /// Carries out commands on what lies aside for this move. For others it does nothing: who
    /// replays what was written may meet those of a move that is over.
    pub fn apply_to_staging(&mut self, job: &[u8], commands: &[u8]) -> CommandResult {
        let staging = self.keys.space().staging();
        if staging.is_none_or(|staging| staging.job().as_bytes() != job) {
            self.reply.ok();
            return Ok(());
        }
        let mut reader = RequestReader::new();
        reader.feed(commands);
        reader.parse(&OWN).map_err(|_| error("What is to be applied are no commands"))?;
        if reader.partial() {
            return Err(error("What is to be applied is cut"));
        }
        self.go_on_with(Apply { reader, has_entered: false, reply: ReplyBuf::new() });
        Ok(())
    }
}

impl Apply {
    /// The command that comes next, if there is one.
    fn next(&mut self, cx: &Cx<'_>) -> Result<Option<crate::command::CommandId>, CommandError> {
        if self.reader.pending() == 0 {
            return Ok(None);
        }
        let request = self.reader.request(0);
        let table = &cx.server.table;
        match table.lookup_in_aof(&request) {
            Lookup::Found(id) if table.row(id).command.arity.accepts(request.len()) => {
                let is_fit = is_for_staging(cx, table.row(id).command, &request);
                let unfit = "What is to be applied is not for keys of the slots alone";
                if is_fit { Ok(Some(id)) } else { Err(error(unfit)) }
            }
            _ => Err(error("What is to be applied is no command that is known here")),
        }
    }
}

/// Whether a command changes keys of what lies aside, and can do nothing else: nobody is asked
/// whether the source may have it run.
fn is_for_staging(cx: &Cx<'_>, command: &Command, request: &Request<'_>) -> bool {
    const CHANGES: Flags = Flags::WRITE.or(Flags::MAY_REPLICATE);
    let Some(staging) = cx.keys.staging() else { return false };
    let may_change = command.flags.intersects(CHANGES)
        && !command.traits.intersects(Traits::RUNS_A_SCRIPT.or(Traits::MOVES_KEYS));
    let Some(found) = find_keys(command, request).filter(|_| may_change) else { return false };
    let mut keys = found.keys().peekable();
    keys.peek().is_some() && keys.all(|key| staging.has(Slot::of(request.arg(key.index))))
}

impl Program for Apply {
    fn caller(&self) -> Caller {
        Caller::Mover
    }

    /// What replays it runs this command, and not those within.
    fn targets(&self) -> Targets {
        Targets::NONE
    }

    fn step(&mut self, cx: &mut Cx<'_>) -> Step {
        let mut failure = None;
        if self.has_entered {
            self.reader.pop_front();
            if self.reply.first_byte() == Some(b'-') {
                let text = self.reply.to_vec();
                let text = String::from_utf8_lossy(text.trim_ascii_end()).into_owned();
                failure = Some(error(format!("A command of the move has failed: {}", &text[1..])));
            }
            self.reply = ReplyBuf::new();
        } else {
            self.has_entered = cx.keys.space().enter_staging();
        }
        let next = match failure {
            Some(failure) => Err(failure),
            None => self.next(cx),
        };
        if let Ok(Some(id)) = next {
            return Step::Call(id);
        }
        cx.keys.space().leave_staging();
        cx.reply.ok();
        Step::Done(next.map(|_| ()).map_err(Into::into))
    }

    fn call(&mut self) -> (Request<'_>, &mut ReplyBuf) {
        (self.reader.request(0), &mut self.reply)
    }
}
