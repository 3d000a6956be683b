//! The table of users.

use super::rule::{RuleError, has_spaces};
use super::user::{Beginning, User, join_selectors};
use crate::command::Table;
use std::collections::BTreeMap;
use std::rc::Rc;

pub const DEFAULT: &[u8] = b"default";

/// All users, in the order of their names' bytes.
#[derive(Clone)]
pub struct Users {
    by_name: BTreeMap<Box<[u8]>, Rc<User>>,
    /// The one that a connection is at first.
    default: Rc<User>,
    /// Whoever asks for what the server itself does.
    superuser: Rc<User>,
}

/// Why a user was not made as it was described.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetError {
    BadName,
    /// The selector that begins with this word has no end.
    Unmatched(Vec<u8>),
    Rule(Vec<u8>, RuleError),
}

impl Users {
    /// The default user alone, who may do all.
    pub fn new(table: &Table) -> Users {
        let default = Rc::new(User::almighty(DEFAULT, table));
        Users {
            by_name: [(default.name().into(), Rc::clone(&default))].into(),
            default,
            superuser: Rc::new(User::almighty(b"(superuser)", table)),
        }
    }

    pub fn find(&self, name: &[u8]) -> Option<&Rc<User>> {
        self.by_name.get(name)
    }

    #[inline]
    pub fn default(&self) -> &Rc<User> {
        &self.default
    }

    pub fn superuser(&self) -> &Rc<User> {
        &self.superuser
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rc<User>> {
        self.by_name.values()
    }

    /// The user of this name as it would be with these rules applied, all of them or none.
    pub fn changed(
        &self,
        name: &[u8],
        rules: &[&[u8]],
        table: &Table,
        beginning: Beginning,
    ) -> Result<User, SetError> {
        if has_spaces(name) {
            return Err(SetError::BadName);
        }
        let rules = join_selectors(rules).map_err(|at| SetError::Unmatched(rules[at].to_vec()))?;
        let mut user = match self.find(name) {
            Some(known) => User::clone(known),
            None => User::new(name, table, beginning),
        };
        let applied = user.apply_all(&rules, table, beginning);
        applied.map_err(|(at, error)| SetError::Rule(rules[at].clone(), error))?;
        Ok(user)
    }

    /// Puts a user into the place of the one of its name, if there is one, who is returned.
    pub fn put(&mut self, user: User) -> (Rc<User>, Option<Rc<User>>) {
        let user = Rc::new(user);
        if user.name() == DEFAULT {
            self.default = Rc::clone(&user);
        }
        let old = self.by_name.insert(user.name().into(), Rc::clone(&user));
        (user, old)
    }

    /// Takes all of these instead. The server stays who it is.
    pub fn replace(&mut self, users: Users) {
        let superuser = Rc::clone(&self.superuser);
        *self = Users { superuser, ..users };
    }

    /// Takes a user out. The default one stays.
    pub fn remove(&mut self, name: &[u8]) -> Option<Rc<User>> {
        if name == DEFAULT { None } else { self.by_name.remove(name) }
    }
}
