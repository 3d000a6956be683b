//! Who a connection acts as, how it proves that, and what becomes of it when its user changes.
//!
//! A session holds its user, so that whoever asks what a client may has it at hand. A session
//! without one has not logged in: it is taken for the default user where that one needs no
//! password, and may do next to nothing otherwise. What a log holds was done by nobody here; it is
//! asked nothing, whatever its session holds.
//!
//! A user is never changed in place: its new form goes into the sessions that have the old one.

use super::session::ClientKind;
use super::tracking::Mode;
use super::{ClientId, Clients, Core, Cx, Effect, Engine, Server, Session, delivery};
use crate::acl::check::{self, Asked};
use crate::acl::log::{Context, Event, Reason};
use crate::acl::{Beginning, DEFAULT, Naming, User, Users, file};
use crate::command::{CommandError, CommandResult, Lookup};
use crate::config::os_reason;
use crate::pubsub::Topic;
use crate::resp::Request;
use std::io::{self, Read};
use std::rc::Rc;

impl Server {
    /// Whom a connection acts as before it has said who it is.
    pub fn first_user(&self) -> Option<Rc<User>> {
        self.is_open().then(|| Rc::clone(self.users.default()))
    }

    /// Whom the server itself acts as.
    pub fn superuser(&self) -> Option<Rc<User>> {
        Some(Rc::clone(self.users.superuser()))
    }

    /// Whom this client acts as.
    #[inline]
    pub fn user_of<'a>(&'a self, session: &'a Session) -> &'a User {
        session.user.as_deref().unwrap_or(self.users.default())
    }

    /// Whether whoever connects is the default user at once.
    fn is_open(&self) -> bool {
        self.users.default().is_on() && self.users.default().needs_no_password()
    }

    /// True if this client must authenticate before it may go on.
    #[inline]
    pub fn requires_auth(&self, session: &Session) -> bool {
        session.user.is_none() && !self.is_open()
    }

    /// True if the default user has a password.
    pub fn has_password(&self) -> bool {
        !self.users.default().needs_no_password()
    }

    /// What new users are at first.
    pub fn beginning(&self) -> Beginning {
        Beginning::of(self.config.acl_pubsub_default)
    }

    /// The user of this name, if the password is theirs. A name that nobody has takes as long.
    fn admitted(&self, name: &[u8], password: &[u8]) -> Option<Rc<User>> {
        let known = self.users.find(name);
        // Nobody is found in the time that somebody is, who has a password and gets it wrong.
        let stand_in = self.users.superuser();
        let admits = known.unwrap_or(stand_in).admits(password);
        known.filter(|_| admits).cloned()
    }

    /// The users as lines of the configuration, each without the leading word.
    pub fn user_lines(&self) -> Vec<Vec<u8>> {
        self.users.iter().map(|user| file::config_line(user)).collect()
    }

    /// Counts what was refused, and keeps it for ACL LOG.
    pub fn note_refusal(&mut self, event: Event, client: String) {
        let stats = &mut self.stats;
        *match event.reason {
            Reason::Auth => &mut stats.access_denied_auth,
            Reason::Command => &mut stats.access_denied_command,
            Reason::Database => &mut stats.access_denied_database,
            Reason::Key => &mut stats.access_denied_key,
            Reason::Channel => &mut stats.access_denied_channel,
            Reason::Certificate => &mut stats.access_denied_certificate,
        } += 1;
        let now_ms = self.clock.unix_ms();
        self.acl_log.add(event, client, now_ms, self.config.acllog_max_len);
    }

    /// What is told of a client that may have sent too many wrong passwords.
    fn note_guess(&mut self, address: &str) {
        if self.config.auth_failure_delay == 0 {
            return;
        }
        let now_ms = self.clock.mono_ms();
        if self.guesses.note(address, now_ms) {
            let delay_ms = self.config.auth_failure_delay;
            tracing::warn!(
                "Failed logins from {address}: one is looked at every {delay_ms} milliseconds"
            );
        }
    }
}

/// What whoever has failed too often is told, right as the password may be.
const TOO_MANY_FAILURES: CommandError = CommandError::Fixed(
    "WRONGPASS too many failed logins from this address, wait a moment before the next one.",
);

impl Cx<'_> {
    /// Makes the connection the user's if the password fits; `command` is the word by which it
    /// tries.
    pub fn log_in(&mut self, command: &[u8], name: &[u8], password: &[u8]) -> CommandResult {
        let address = self.session().peer.address.clone();
        let delay_ms = u64::from(self.server.config.auth_failure_delay);
        let now_ms = self.server.clock.mono_ms();
        if self.server.guesses.holds_off(&address, now_ms, delay_ms) {
            self.server.stats.access_denied_auth += 1;
            return Err(TOO_MANY_FAILURES);
        }
        let Some(user) = self.server.admitted(name, password) else {
            self.server.note_guess(&address);
            self.note_refusal(Reason::Auth, command, Some(name));
            return Err(CommandError::WrongPass);
        };
        self.session_mut().user = Some(user);
        Ok(())
    }

    /// Notes that the running client was refused an object; `user` is who it wanted to be, if not
    /// who it is.
    pub(super) fn note_refusal(&mut self, reason: Reason, object: &[u8], user: Option<&[u8]>) {
        let context = match self.caller {
            super::Caller::Script => Context::Script,
            super::Caller::Exec => Context::Transaction,
            _ if self.session().transaction.is_some() => Context::Transaction,
            _ => Context::TopLevel,
        };
        let own = self.server.user_of(self.session()).name();
        let event = Event::new(reason, context, object, user.unwrap_or(own));
        let client = self.description();
        self.server.note_refusal(event, client);
    }

    /// Whether the client's user might run a request, be it complete or not; none if it names no
    /// command.
    pub fn might_run(&self, request: &Request<'_>) -> Option<bool> {
        let Lookup::Found(id) = self.server.table.lookup(request) else { return None };
        let asked = Asked::new(self.server.table.row(id), request, Some(self.keys.db));
        Some(check::check(self.server.user_of(self.session()), &asked).is_ok())
    }

    /// Whether the client's user may run this request, and read any key there is.
    pub fn may_read_all(&self, request: &Request<'_>) -> bool {
        if self.caller.was_accepted_before() {
            return true;
        }
        let Lookup::Found(id) = self.server.table.lookup(request) else { return false };
        let asked = Asked::new(self.server.table.row(id), request, Some(self.keys.db));
        check::may_read_all(self.server.user_of(self.session()), &asked)
    }

    /// Whether the client may be told of the changes of all keys that begin so.
    pub fn may_follow(&mut self, prefix: &[u8]) -> CommandResult {
        if check::may_follow(self.server.user_of(self.session()), prefix) {
            return Ok(());
        }
        self.note_refusal(Reason::Key, prefix, None);
        Err(CommandError::Fixed("NOPERM No permissions to access a key"))
    }

    /// Puts a user into the place of its old form, if it has one. Who listens to what it may not
    /// any more is cut off.
    pub fn put_user(&mut self, user: User) {
        let me = self.client;
        self.core().put_user(user, Some(me));
    }

    /// Removes users; how many of these there were. Whoever acts as one of them is cut off.
    pub fn remove_users(&mut self, names: &[&[u8]]) -> usize {
        let me = self.client;
        let removed: Vec<Rc<User>> =
            names.iter().filter_map(|name| self.server.users.remove(name)).collect();
        let is_gone = |session: &Session| {
            let user = session.user.as_ref();
            user.is_some_and(|user| removed.iter().any(|gone| Rc::ptr_eq(gone, user)))
        };
        let doomed: Vec<ClientId> =
            self.clients.iter().filter(|session| is_gone(session)).map(|s| s.id).collect();
        cut_off(self.clients, self.server, &doomed, Some(me));
        removed.len()
    }

    /// Takes the users of the file in place of all there are; what is wrong with it, if anything.
    pub fn load_users(&mut self) -> Result<(), String> {
        let users = self.server.users_of_file()?;
        let me = self.client;
        self.core().replace_users(users, Some(me));
        Ok(())
    }
}

/// No file of users is longer.
const FILE_BYTES_MAX: u64 = 64 << 20;

impl Server {
    /// The users that the file of `aclfile` holds.
    fn users_of_file(&self) -> Result<Users, String> {
        let path = &self.config.aclfile;
        let shown = path.to_string_lossy();
        let read = || {
            let mut text = Vec::new();
            let file = self.parts.disk.read(path.as_path())?;
            let count = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
            match count as u64 > FILE_BYTES_MAX {
                true => Err(io::ErrorKind::FileTooLarge.into()),
                false => Ok(text),
            }
        };
        let text = read().map_err(|error: io::Error| {
            format!("Error loading ACLs, opening file '{shown}': {}", os_reason(&error))
        })?;
        file::parse(&text, &shown, &self.table, self.beginning())
    }
}

impl Core<'_> {
    /// See [`Cx::put_user`]; `me` is the client that is told before it is cut off.
    pub fn put_user(&mut self, user: User, me: Option<ClientId>) {
        let (user, old) = self.server.users.put(user);
        let Some(old) = old else { return };
        let mut doomed = Vec::new();
        for session in self.clients.iter_mut() {
            let is_own = match &mut session.user {
                Some(own) if Rc::ptr_eq(own, &old) => {
                    *own = Rc::clone(&user);
                    true
                }
                Some(_) => false,
                // Who has not logged in may have listened when the default user could.
                None => user.name() == DEFAULT,
            };
            if is_own && hears_too_much(session, &user) {
                doomed.push(session.id);
            }
        }
        cut_off(self.clients, self.server, &doomed, me);
    }

    /// Takes these users in place of all there are. Whoever acts as somebody who is gone is cut
    /// off, and who listens to what its user may not any more.
    pub fn replace_users(&mut self, users: Users, me: Option<ClientId>) {
        let superuser = Rc::clone(self.server.users.superuser());
        self.server.users.replace(users);
        let mut doomed = Vec::new();
        for session in self.clients.iter_mut() {
            let name = session.user.as_ref().map_or(DEFAULT, |own| own.name());
            // The server's own client acts as nobody of the table.
            if session.user.as_ref().is_some_and(|own| Rc::ptr_eq(own, &superuser)) {
                continue;
            }
            let user = self.server.users.find(name);
            if user.is_none_or(|user| hears_too_much(session, user)) {
                doomed.push(session.id);
            }
            if let (Some(own), Some(user)) = (&mut session.user, user) {
                *own = Rc::clone(user);
            }
        }
        cut_off(self.clients, self.server, &doomed, me);
    }

    /// Follows `requirepass`, which is the default user's password.
    pub fn follow_requirepass(&mut self) {
        let password = self.server.config.requirepass.as_ref().filter(|text| !text.is_empty());
        let mut user = User::clone(self.server.users.default());
        user.set_password(password.map(|text| text.as_bytes()));
        self.put_user(user, None);
    }
}

/// Whether a client is told what this user may not be told.
fn hears_too_much(session: &Session, user: &User) -> bool {
    if user.may_all() {
        return false;
    }
    let listens = session.kind == ClientKind::Pubsub;
    let own = session.subscriptions.as_deref().filter(|_| listens);
    let is_forbidden = |topic: Topic, naming: Naming| {
        let names = own.map_or_else(Vec::new, |own| own.in_order(topic));
        names.iter().any(|name| !check::may_listen(user, name, naming))
    };
    let follows = |interest: &super::tracking::Interest| {
        let mut prefixes = interest.prefixes.iter();
        interest.mode == Mode::Broadcast && prefixes.any(|prefix| !check::may_follow(user, prefix))
    };
    is_forbidden(Topic::Pattern, Naming::Pattern)
        || is_forbidden(Topic::Channel, Naming::Name)
        || is_forbidden(Topic::ShardChannel, Naming::Name)
        || session.tracking.as_deref().is_some_and(follows)
}

/// Closes connections; the running client's when it has been answered.
fn cut_off(clients: &mut Clients, server: &mut Server, doomed: &[ClientId], me: Option<ClientId>) {
    for client in doomed {
        let session = clients.get_mut(*client).filter(|_| me == Some(*client));
        match session {
            Some(session) => session.closes_after_reply = true,
            None => {
                delivery::forget(clients, server, *client);
                server.effects.push(Effect::Close { client: *client });
            }
        }
    }
}

impl Engine {
    /// Defines the users of the lines `user ...`, or of the file that holds them, before anybody is
    /// served; why that cannot be, for the log.
    pub fn begin_users(&mut self, lines: &[Vec<Vec<u8>>]) -> Result<(), Vec<String>> {
        let server = &mut self.server;
        server.users = Users::new(&server.table);
        self.core().follow_requirepass();
        let server = &mut self.server;
        if server.config.aclfile.is_empty() {
            let beginning = server.beginning();
            file::take(&mut server.users, lines, &server.table, beginning).map_err(|fault| {
                vec![fault, "Critical error while loading ACLs. Exiting.".to_owned()]
            })?;
        } else if !lines.is_empty() {
            return Err(vec![TWO_PLACES.to_owned()]);
        } else {
            let users = server.users_of_file().map_err(|faults| {
                vec![format!("Aborting Redis startup because of ACL errors: {faults}")]
            })?;
            server.users.replace(users);
        }
        for doubt in file::doubts(&server.users) {
            tracing::info!("{doubt}");
        }
        for opening in server.openings() {
            tracing::warn!("WARNING: open to strangers: {opening}");
        }
        Ok(())
    }

    /// A client that has shown a certificate of an authority of ours is the first user among the
    /// names in it that there is and that may log in. If none is, it is who it would be without.
    pub(super) fn log_in_by_certificate(&mut self, client: ClientId) {
        let Some(session) = self.clients.get_mut(client) else { return };
        let Some(certificate) = &session.peer.certificate else { return };
        let names = certificate.names(self.server.config.tls_auth_clients_user);
        let Some(first) = names.first().map(|name| name.to_vec()) else { return };
        let users = names.iter().filter_map(|name| self.server.users.find(name));
        let found = users.filter(|user| user.is_on()).map(Rc::clone).next();
        if found.is_some() {
            session.user = found;
            return;
        }
        let Some(session) = self.clients.get(client) else { return };
        let line = super::client_line::describe(&self.server, session);
        let event = Event::new(Reason::Certificate, Context::TopLevel, &first, &first);
        self.server.note_refusal(event, line);
    }
}

const TWO_PLACES: &str = concat!(
    "Configuring Redis with users defined in redis.conf and at the same setting an ACL file path ",
    "is invalid. This setup is very likely to lead to configuration errors and security holes, ",
    "please define either an ACL file or declare users directly in your redis.conf, but not both.",
);

#[cfg(test)]
mod tests;
