//! Commands that run others: EXEC, scripts, and what else asks for one command after the other.
//!
//! Such a command does not call the dispatcher. Its handler checks what it was given and leaves a
//! [`Program`]; the dispatcher asks that what comes next and runs it, each call with a context and
//! a reply of its own. So an inner command passes all that surrounds a command, cannot harm the
//! reply that it becomes a part of, and nothing re-enters the engine from below.
//!
//! A program that has run for a while may be put aside, with all that it is in the middle of
//! ([`super::under_way`]).

use super::propagate::Targets;
use super::{Caller, Cx, Server};
use crate::command::{CommandError, CommandId};
use crate::keyspace::KeyHash;
use crate::resp::{Protocol, ReplyBuf, Request};

/// What a program wants next.
pub enum Step {
    /// This command is to be run; [`Program::call`] says with which words.
    Call(CommandId),
    /// It has run for a while, and others may be looked after before it goes on.
    Yield,
    /// It has ended, and its reply is complete, unless it has failed.
    Done(Result<(), Failure>),
}

/// By which error a command ended.
pub struct Failure {
    pub error: CommandError,
    pub counts: Counts,
}

/// How an error counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counts {
    AsItsOwn,
    /// Its text is a script's, which may be anything.
    AsScripts,
    /// It is that of a command that the failed one has run, and has been counted for that one.
    Not,
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Failure {
        Failure { error, counts: Counts::AsItsOwn }
    }
}

pub trait Program {
    /// As whom it has commands run.
    fn caller(&self) -> Caller;

    /// In which protocol it wants their replies, if not in the client's.
    fn protocol(&self) -> Option<Protocol> {
        None
    }

    /// For whom is what its commands do.
    fn targets(&self) -> Targets {
        Targets::ALL
    }

    /// Whether it waits for something outside of the engine, and has nothing to do until then.
    fn stands(&self, _server: &Server) -> bool {
        false
    }

    /// Goes on until it wants something; `cx` is that of the command that left the program, and
    /// what was asked for last has been done.
    fn step(&mut self, cx: &mut Cx<'_>) -> Step;

    /// The hash of an argument of that call, as a key, if it is known.
    fn known_hash(&self, _at: usize) -> Option<KeyHash> {
        None
    }

    /// The request of the call that was asked for, and the buffer for its reply.
    fn call(&mut self) -> (Request<'_>, &mut ReplyBuf);
}
