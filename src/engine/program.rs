//! Commands that run others: EXEC, and what else asks for one command after the other.
//!
//! Such a command does not call the dispatcher. Its handler checks what it was given and leaves a
//! [`Program`]; the dispatcher asks that what comes next and runs it, each call with a context and
//! a reply of its own. So an inner command passes all that surrounds a command, cannot harm the
//! reply that it becomes a part of, and nothing re-enters the engine from below.

use super::{Caller, Cx};
use crate::command::CommandId;
use crate::resp::{ReplyBuf, Request};

/// What a program wants next.
pub enum Step {
    /// This command is to be run; [`Program::call`] says with which words.
    Call(CommandId),
    /// It has ended, and its reply is complete.
    Done,
}

pub trait Program {
    /// As whom it has commands run.
    fn caller(&self) -> Caller;

    /// Goes on until it wants something; `cx` is that of the command that left the program, and
    /// what was asked for last has been done.
    fn step(&mut self, cx: &mut Cx<'_>) -> Step;

    /// The request of the call that was asked for, and the buffer for its reply.
    fn call(&mut self) -> (Request<'_>, &mut ReplyBuf);
}
