//! Scripts in the debugger: how the conversation of one with its client goes through the engine,
//! and the copy of the data that it runs over.
//!
//! The debugger itself is [`crate::script`]'s. Here it is lines that go out and commands that come
//! in ([`Talk`]): a script that stands is under way and waits for input, and what its client sends
//! is given to it instead of being run.
//!
//! A script that is debugged in mode SYNC holds the server. One of mode YES is to change nothing.
//! Where others fork a process for it, it runs here over a copy of all databases, which shares
//! everything with them until one of both changes it; nobody else waits for it, and nothing of what
//! it does is told, recorded or counted ([`Aside`]).

use super::{KnownHashes, NewVm, Running, ScriptProgram, Start, split_words};
use crate::command::{Args, CommandError, CommandResult};
use crate::engine::program::{Failure, Program, Step};
use crate::engine::propagate::Propagation;
use crate::engine::scripting::{KeptScript, Scripting};
use crate::engine::tracking::Tracking;
use crate::engine::transaction::WatchTable;
use crate::engine::{Caller, Cx, Effect, Server};
use crate::keyspace::{Garbage, Keyspace, Observers};
use crate::resp::{OwnedRequest, Protocol, ReplyBuf, Request};
use crate::script::run::{Answer, Killer, Run};
use crate::script::shebang;
use crate::script::vm::{Role, Vm};
use crate::structs::pins::{self, Pin};

/// Whether the scripts of a connection run in the debugger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DebugMode {
    Off,
    /// Over a copy of the data, which is forgotten at the end.
    Aside,
    /// Over the data, while everybody else waits.
    Sync,
}

/// The conversation of a script with its client.
#[derive(Default)]
pub struct Talk {
    /// What the client is to be told.
    lines: Vec<Vec<u8>>,
    command: Option<OwnedRequest>,
    /// The script stands until it is told what to do.
    is_waiting: bool,
    /// The client has left.
    is_alone: bool,
    /// The script has run for too long since it was told to go on.
    is_overdue: bool,
    /// It runs over a copy of the data.
    pub is_aside: bool,
}

impl Talk {
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// The client wants something of the script.
    pub fn tell(&mut self, request: &Request<'_>) {
        self.command = Some(OwnedRequest::new(request));
        self.is_waiting = false;
    }

    pub fn let_alone(&mut self) {
        self.is_alone = true;
        self.is_waiting = false;
    }

    pub fn interrupt(&mut self) {
        self.is_overdue = true;
    }

    /// Writes what the client is to be told.
    pub fn write(&mut self, out: &mut ReplyBuf) {
        let mut reply = out.writer(Protocol::Resp2);
        reply.array(self.lines.len());
        for mut line in self.lines.drain(..) {
            for byte in line.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')) {
                *byte = b' ';
            }
            reply.simple(&line);
        }
    }

    fn end(&mut self, lines: Vec<Vec<u8>>) {
        self.lines.extend(lines);
        self.lines.push(b"<endsession>".to_vec());
        self.is_waiting = false;
        if !self.is_aside {
            tracing::warn!("Redis synchronous debugging eval session ended");
        }
    }
}

impl Scripting {
    /// The script that stands in the debugger goes on without its client.
    pub(in crate::engine) fn let_alone(&mut self) {
        if let Some(talk) = &mut self.talk {
            talk.let_alone();
        }
    }

    /// Whether the script that is to be run is to run over a copy of the data.
    pub(in crate::engine) fn is_to_run_aside(&self) -> bool {
        self.talk.as_ref().is_some_and(|talk| talk.is_aside)
    }
}

impl Cx<'_> {
    /// Whether what runs now is to be debugged.
    pub fn is_debugged(&self) -> bool {
        self.session().debug_mode != DebugMode::Off && !self.caller.was_accepted_before()
    }

    /// The script that is about to run is to be debugged.
    pub fn begin_debugging(&mut self) -> CommandResult {
        let is_aside = self.session().debug_mode == DebugMode::Aside;
        if is_aside && self.caller.is_within_transaction() {
            return Err(CommandError::Fixed(
                "ERR A script of a transaction can only be debugged after SCRIPT DEBUG SYNC",
            ));
        }
        if !is_aside {
            tracing::warn!("Redis synchronous debugging eval session started");
        }
        let talk = self.server.scripting.talk.get_or_insert_default();
        talk.is_aside = is_aside;
        Ok(())
    }

    /// The script that was to be debugged cannot be run.
    pub fn fail_debugging(&mut self, error: CommandError) {
        self.go_on_with(FailedStart(Some(error)));
    }

    /// Runs a script in the debugger, when the handler has ended.
    pub(super) fn debug_script(
        &mut self,
        start: Start,
        script: &KeptScript,
        keys: usize,
        args: &Args<'_>,
    ) -> CommandResult {
        let state = self.server.new_vm();
        // The hook for lines is for a whole state: it has one of its own.
        let vm = state.make(Role::Scripts)?;
        vm.watch_lines();
        let body = &script.body;
        let header_len = shebang::parse_script(body).map_or(0, |header| header.len);
        let compiled = vm.compile(&body[header_len..]).map_err(|_| CommandError::NoMemory)?;
        let (own_keys, rest) = split_words(args, keys);
        let evaluator = Evaluator {
            keys: own_keys.map(Into::into).collect(),
            args: rest.map(Into::into).collect(),
            state,
            vm: None,
            run: None,
        };
        let (own_keys, rest) = split_words(args, keys);
        let protocol = self.reply.protocol();
        let run = Run::debugged(&vm, &compiled, own_keys, rest, protocol, body);
        self.start_run(start, run, Some(Box::new(evaluator)), KnownHashes::new())
    }
}

/// A script that was to be debugged and could not be run.
struct FailedStart(Option<CommandError>);

impl Program for FailedStart {
    fn caller(&self) -> Caller {
        Caller::Script
    }

    fn step(&mut self, cx: &mut Cx<'_>) -> Step {
        if let Some(talk) = &mut cx.server.scripting.talk {
            talk.end(Vec::new());
        }
        let error = self.0.take().unwrap_or(CommandError::NoMemory);
        Step::Done(Err(Failure::from(error)))
    }

    fn call(&mut self) -> (Request<'_>, &mut ReplyBuf) {
        unreachable!("it asks for no command")
    }
}

/// Runs code for whoever debugs a script.
pub(super) struct Evaluator {
    keys: Vec<Box<[u8]>>,
    args: Vec<Box<[u8]>>,
    state: NewVm,
    /// Made when the first code comes.
    vm: Option<Vm>,
    /// What is being evaluated.
    pub(super) run: Option<Run>,
}

impl Evaluator {
    /// Begins to evaluate code, or says at once what is shown of it.
    fn begin(&mut self, code: &[u8]) -> Result<(), Vec<u8>> {
        let no_memory = |_| b"<error> not enough memory".to_vec();
        let vm = match &mut self.vm {
            Some(vm) => vm,
            none => none.insert(self.state.make(Role::Scripts).map_err(no_memory)?),
        };
        let compiled = vm.compile_evaluation(code);
        let compiled = compiled.map_err(|error| format!("<error> {}", error.0).into_bytes())?;
        let keys = self.keys.iter().map(|key| &**key);
        let args = self.args.iter().map(|arg| &**arg);
        let run = Run::of_evaluation(vm, &compiled, keys, args);
        self.run = Some(run.map_err(|_| b"<error> not enough memory".to_vec())?);
        Ok(())
    }
}

/// What runs now: the script, or what is evaluated for whoever debugs it.
pub(super) fn active<'r>(
    script: &'r mut Run,
    evaluator: &'r mut Option<Box<Evaluator>>,
) -> &'r mut Run {
    evaluator.as_mut().and_then(|evaluator| evaluator.run.as_mut()).unwrap_or(script)
}

impl ScriptProgram {
    pub(super) fn active(&mut self) -> &mut Run {
        active(&mut self.run, &mut self.evaluator)
    }

    pub(super) fn active_protocol(&self) -> Protocol {
        let evaluator = self.evaluator.as_ref();
        evaluator.and_then(|own| own.run.as_ref()).unwrap_or(&self.run).protocol()
    }

    /// Hands over what the client has said, and answers what what runs is told when it goes on.
    pub(super) fn listen(&mut self, cx: &mut Cx<'_>) -> Option<Answer> {
        let evaluator = self.evaluator.as_ref()?;
        let talk = cx.server.scripting.talk.as_mut()?;
        if let Some(command) = talk.command.take() {
            self.run.tell(command);
        }
        if talk.is_alone {
            self.run.let_alone();
        }
        let is_overdue = std::mem::take(&mut talk.is_overdue);
        if evaluator.run.is_some() {
            let ends = is_overdue || talk.is_alone;
            return ends.then_some(Answer::Kill(Killer::EvaluationTimeout));
        }
        if is_overdue {
            self.run.interrupt();
        }
        None
    }

    /// The script stands, and its client is told where.
    pub(super) fn stand(&mut self, cx: &mut Cx<'_>) {
        if let Some(talk) = &mut cx.server.scripting.talk {
            talk.lines.extend(self.run.take_lines());
            talk.is_waiting = !talk.is_alone;
        }
    }

    pub(super) fn begin_evaluation(&mut self) {
        let code = self.run.take_code();
        let Some(evaluator) = &mut self.evaluator else { return };
        if let Err(line) = evaluator.begin(&code) {
            self.run.say(line);
        }
    }

    /// What was evaluated has ended; false if nothing was.
    pub(super) fn end_evaluation(&mut self) -> bool {
        let evaluated = self.evaluator.as_mut().and_then(|evaluator| evaluator.run.take());
        let Some(mut evaluated) = evaluated else { return false };
        self.run.say(evaluated.evaluated());
        true
    }

    pub(super) fn end_talk(&mut self, cx: &mut Cx<'_>) {
        if self.evaluator.is_none() {
            return;
        }
        if let Some(talk) = &mut cx.server.scripting.talk {
            talk.end(self.run.take_lines());
        }
    }
}

/// A copy of the data with all that would make what happens to it known, while a script runs over
/// it; and what has been put away of the server's meanwhile.
pub struct Aside {
    space: Keyspace,
    running: Option<Running>,
    pub talk: Option<Box<Talk>>,
    propagation: Propagation,
    watched: WatchTable,
    tracking: Tracking,
    observers: Observers,
    dirty: u64,
    /// What the copy keeps counts as pinned.
    _pin: Pin,
}

impl Aside {
    /// A copy for the script that is about to run.
    pub fn begin(space: &Keyspace, server: &mut Server) -> Box<Aside> {
        Box::new(Aside {
            _pin: pins::hold(),
            space: space.copy(),
            running: server.scripting.running.take(),
            talk: server.scripting.talk.take(),
            propagation: Propagation::default(),
            watched: WatchTable::default(),
            tracking: Tracking::default(),
            observers: Observers::default(),
            dirty: space.changes.dirty,
        })
    }

    /// Puts the copy in the place of the data, or back.
    pub fn exchange(&mut self, space: &mut Keyspace, server: &mut Server) {
        for db in 0..space.db_count() {
            space.exchange_db(db, &mut self.space);
        }
        std::mem::swap(&mut self.running, &mut server.scripting.running);
        std::mem::swap(&mut self.talk, &mut server.scripting.talk);
        std::mem::swap(&mut self.propagation, &mut server.propagation);
        std::mem::swap(&mut self.watched, &mut server.watched);
        std::mem::swap(&mut self.tracking, &mut server.tracking);
        std::mem::swap(&mut self.observers, &mut space.changes.observers);
        std::mem::swap(&mut self.dirty, &mut space.changes.dirty);
    }

    /// Has the copy freed.
    pub fn end(self, server: &mut Server) {
        for db in self.space.into_dbs().into_iter().filter(|db| !db.is_empty()) {
            server.effects.push(Effect::Free(Garbage::Db(Box::new(db), 0)));
        }
    }
}

#[cfg(test)]
mod tests;
