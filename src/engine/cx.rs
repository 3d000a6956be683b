//! What a handler may touch, and how it tells what it did.
//!
//! The fields are apart so that a handler can write a reply straight from a borrowed value:
//! `cx.keys` is the keyspace seen from the client's database, `cx.reply` the reply being written.

use super::ClientId;
use super::program::Program;
use super::{Caller, Clients, Effect, Engine, Job, ListenChange, Server, Session};
use crate::command::{CommandError, CommandResult};
use crate::config::{Apply, Config, Directive};
use crate::keyspace::{Keys, Keyspace};
use crate::resp::{Protocol, Reply, ReplyBuf};

pub struct Cx<'a> {
    pub reply: Reply<'a>,
    pub keys: Keys<'a>,
    pub clients: &'a mut Clients,
    pub server: &'a mut Server,
    pub client: ClientId,
    /// Who has the command run.
    pub caller: Caller,
    /// The command has found nothing and waits for a key.
    pub(super) is_blocked: bool,
    /// What the command has the dispatcher run, when its handler has ended.
    program: Option<Box<dyn Program>>,
}

impl<'a> Cx<'a> {
    pub(super) fn new(
        engine: &'a mut Engine,
        client: ClientId,
        caller: Caller,
        out: &'a mut ReplyBuf,
    ) -> Cx<'a> {
        Cx::of(&mut engine.keyspace, &mut engine.clients, &mut engine.server, client, caller, out)
    }

    pub(super) fn of(
        space: &'a mut Keyspace,
        clients: &'a mut Clients,
        server: &'a mut Server,
        client: ClientId,
        caller: Caller,
        out: &'a mut ReplyBuf,
    ) -> Cx<'a> {
        let session = clients.get(client).expect("the driver only runs connected clients");
        let (db, protocol, no_touch) = (session.db, session.protocol, session.no_touch);
        let mut keys = space.keys(db);
        keys.leaves_clocks = no_touch;
        let reply = out.writer(protocol);
        Cx { reply, keys, clients, server, client, caller, is_blocked: false, program: None }
    }

    /// A context of its own for a command that the running one runs.
    pub(super) fn within<'b>(
        &'b mut self,
        caller: Caller,
        protocol: Option<Protocol>,
        out: &'b mut ReplyBuf,
    ) -> Cx<'b> {
        let mut own =
            Cx::of(self.keys.space(), self.clients, self.server, self.client, caller, out);
        if let Some(protocol) = protocol {
            own.reply.set_protocol(protocol);
        }
        own
    }

    /// A context for another client.
    pub(super) fn on_behalf_of<'b>(
        &'b mut self,
        client: ClientId,
        out: &'b mut ReplyBuf,
    ) -> Cx<'b> {
        Cx::of(self.keys.space(), self.clients, self.server, client, self.caller, out)
    }

    /// Has the dispatcher run this when the handler has ended; what it writes is the rest of the
    /// reply.
    pub(super) fn go_on_with(&mut self, program: impl Program + 'static) {
        self.program = Some(Box::new(program));
    }

    pub(super) fn take_program(&mut self) -> Option<Box<dyn Program>> {
        self.program.take()
    }

    /// The running client.
    pub fn session(&self) -> &Session {
        self.clients.get(self.client).expect("the running client is connected")
    }

    pub fn session_mut(&mut self) -> &mut Session {
        self.clients.get_mut(self.client).expect("the running client is connected")
    }

    /// The running client in one line, as CLIENT LIST shows it.
    pub fn description(&self) -> String {
        super::client_line::describe(self.server, self.session())
    }

    /// Moves the client to another database.
    pub fn select(&mut self, db: usize) {
        self.session_mut().db = db;
        self.keys.db = db;
    }

    pub fn effect(&mut self, effect: Effect) {
        self.server.effects.push(effect);
    }

    /// Has the reply written on another thread, for which the client waits. Where the reply is a
    /// part of another one it is written here.
    pub fn answer_by(
        &mut self,
        write: impl FnOnce(&mut Reply<'_>) -> CommandResult + Send + 'static,
    ) -> CommandResult {
        if !self.caller.may_answer_late() {
            return write(&mut self.reply);
        }
        let (client, protocol) = (self.client, self.reply.protocol());
        let job: Job = Box::new(move || {
            let mut out = ReplyBuf::new();
            write(&mut out.writer(protocol))?;
            if out.is_refused() {
                return Err(CommandError::NoMemory);
            }
            out.cut_up();
            Ok(out)
        });
        self.wait_for_answer();
        self.effect(Effect::Run { client, job });
        Ok(())
    }

    /// How long the client's output may become before it is closed for it.
    pub fn output_bytes_max(&self) -> usize {
        let limit = self.session().kind.output_limit(&self.server.config);
        let hard = usize::try_from(limit.hard_bytes).unwrap_or(usize::MAX);
        if hard == 0 { usize::MAX } else { hard }
    }

    /// Has the driver open the changed listening addresses, or read what TLS is to be spoken with,
    /// and answer the client by the outcome. What else follows from the change follows then.
    pub fn answer_by_listening(
        &mut self,
        directives: Vec<&'static Directive>,
        previous: Config,
        acts: Vec<Apply>,
    ) {
        let (client, protocol) = (self.client, self.reply.protocol());
        self.wait_for_answer();
        let previous = Box::new(previous);
        let change = ListenChange { client, directives, previous, acts, protocol };
        self.effect(Effect::Listen(Box::new(change)));
    }

    /// What is propagated for this command instead of its own words: absolute times for relative
    /// ones, results for random choices. Called with no words, nothing is.
    pub fn propagate_as(&mut self, words: &[&[u8]]) {
        self.server.propagation.replace(self.keys.db, words);
    }

    /// True if somebody replays what this command propagates, so that rewriting it is worth it.
    pub fn is_propagating(&self) -> bool {
        self.server.propagation.is_active()
    }
}
