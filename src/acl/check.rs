//! Whether a user may have a request run.

use super::keys::{Access, Databases, Keys, Naming};
use super::selector::Selector;
use super::user::User;
use crate::command::table::Row;
use crate::command::{
    ChannelUse, Command, CommandId, DatabaseUse, Flags, FoundKeys, KeyFlags, find_keys,
};
use crate::resp::Request;

/// A request as it is looked at.
pub struct Asked<'a> {
    id: CommandId,
    command: &'static Command,
    is_subcommand: bool,
    request: &'a Request<'a>,
    /// The database that it would use; none if that is not known yet.
    db: Option<usize>,
}

impl<'a> Asked<'a> {
    #[inline]
    pub fn new(row: &Row, request: &'a Request<'a>, db: Option<usize>) -> Asked<'a> {
        let is_subcommand = row.parent.is_some();
        Asked { id: row.id, command: row.command, is_subcommand, request, db }
    }
}

/// What one may not do. ORDER: the later one is what is told of several, as in Redis.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Denial {
    Command,
    /// This database, or with none some database of all.
    Database(Option<usize>),
    /// The key that is this argument.
    Key(usize),
    /// The channel that is this argument.
    Channel(usize),
}

/// Asks a user's selectors one after the other; one of them has to allow all of it.
pub fn check(user: &User, asked: &Asked<'_>) -> Result<(), Denial> {
    if user.may_all() {
        return Ok(());
    }
    let mut found = None;
    let mut denial = Denial::Command;
    for selector in user.selectors() {
        match asked.check(selector, &mut found) {
            Ok(()) => return Ok(()),
            Err(own) => denial = denial.max(own),
        }
    }
    Err(denial)
}

/// Whether a user may run it, and besides read any key there is.
pub fn may_read_all(user: &User, asked: &Asked<'_>) -> bool {
    let mut found = None;
    user.may_all()
        || user.selectors().any(|selector| {
            selector.keys.allow_all(Access::READ) && asked.check(selector, &mut found).is_ok()
        })
}

/// Whether a user may be told of the changes of all keys that begin so, in any database.
pub fn may_follow(user: &User, prefix: &[u8]) -> bool {
    user.selectors().any(|selector| {
        selector.keys.allow_prefix(prefix, Access::READ) && selector.databases == Databases::All
    })
}

impl Asked<'_> {
    /// `found` keeps the keys, which are the same for all selectors.
    #[inline]
    fn check(&self, selector: &Selector, found: &mut Option<FoundKeys>) -> Result<(), Denial> {
        self.check_command(selector)?;
        self.check_databases(selector)?;
        self.check_keys(selector, found)?;
        self.check_channels(selector)
    }

    #[inline]
    fn check_command(&self, selector: &Selector) -> Result<(), Denial> {
        // What a client needs to become somebody, nobody can take away.
        let is_free = self.command.flags.has(Flags::NO_AUTH);
        let name_words = if self.is_subcommand { 2 } else { 1 };
        let first_arg = || (self.request.len() > name_words).then(|| self.request.arg(name_words));
        if is_free || selector.allows_command(self.id, first_arg) {
            return Ok(());
        }
        Err(Denial::Command)
    }

    #[inline]
    fn check_databases(&self, selector: &Selector) -> Result<(), Denial> {
        if selector.databases == Databases::All {
            return Ok(());
        }
        let check = |db: usize| match selector.databases.allow(db) {
            true => Ok(()),
            false => Err(Denial::Database(Some(db))),
        };
        if let Some(db) = self.db.filter(|_| self.uses_keys()) {
            check(db)?;
        }
        match self.command.databases {
            DatabaseUse::Own => Ok(()),
            DatabaseUse::All => Err(Denial::Database(None)),
            DatabaseUse::Named(find) => {
                find(self.request).into_iter().flatten().try_for_each(check)
            }
        }
    }

    /// Whether it has to do with the data of its database.
    fn uses_keys(&self) -> bool {
        const USES: Flags = Flags::READONLY.or(Flags::WRITE);
        self.command.flags.intersects(USES) || self.command.has_keys()
    }

    #[inline]
    fn check_keys(&self, selector: &Selector, found: &mut Option<FoundKeys>) -> Result<(), Denial> {
        if selector.keys == Keys::All || !self.command.has_keys() {
            return Ok(());
        }
        let denied = |index: usize, flags: KeyFlags| {
            !selector.keys.allow(self.request.arg(index), Access::needed(flags))
        };
        let found = found.get_or_insert_with(|| self.find_keys());
        match found.keys().find(|key| denied(key.index, key.flags)) {
            Some(key) => Err(Denial::Key(key.index)),
            None => Ok(()),
        }
    }

    /// A request that does not fit its command names no keys: the command will refuse it.
    fn find_keys(&self) -> FoundKeys {
        let fits = self.command.arity.accepts(self.request.len());
        let found = if fits { find_keys(self.command, self.request) } else { None };
        found.unwrap_or(FoundKeys::NONE)
    }

    fn check_channels(&self, selector: &Selector) -> Result<(), Denial> {
        let (last, naming) = match self.command.channels {
            ChannelUse::None => return Ok(()),
            ChannelUse::First => (1, Naming::Name),
            ChannelUse::Names => (self.request.len(), Naming::Name),
            ChannelUse::Patterns => (self.request.len(), Naming::Pattern),
        };
        let mut places = 1..self.request.len().min(last + 1);
        let denied = |at: &usize| !selector.channels.allow(self.request.arg(*at), naming);
        places.find(denied).map_or(Ok(()), |at| Err(Denial::Channel(at)))
    }
}

/// Whether who listens to this may go on when the user's channels become what they are now.
pub fn may_listen(user: &User, name: &[u8], naming: Naming) -> bool {
    user.selectors().any(|selector| selector.channels.allow(name, naming))
}
