//! A user: who it is, how it logs in, what it may do.

use super::keys::{Channels, Keys};
use super::rule::{Rule, RuleError, SelectorRule};
use super::secret::{Digest, is_among};
use super::selector::Selector;
use crate::command::Table;
use crate::config::PubsubDefault;
use crate::structs::words;
use std::borrow::Cow;

/// What a user, or a selector, is at first about channels (`acl-pubsub-default`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beginning {
    AllChannels,
    NoChannels,
}

impl Beginning {
    pub fn of(directive: PubsubDefault) -> Beginning {
        match directive {
            PubsubDefault::AllChannels => Beginning::AllChannels,
            PubsubDefault::ResetChannels => Beginning::NoChannels,
        }
    }

    fn channels(self) -> Channels {
        match self {
            Beginning::AllChannels => Channels::All,
            Beginning::NoChannels => Channels::Some(Vec::new()),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    name: Box<[u8]>,
    is_on: bool,
    /// Any password will do.
    needs_no_password: bool,
    skips_sanitizing: bool,
    passwords: Vec<Digest>,
    root: Selector,
    others: Vec<Selector>,
    may_all: bool,
}

impl User {
    /// A user who may do nothing, not even log in.
    pub fn new(name: &[u8], table: &Table, beginning: Beginning) -> User {
        User {
            name: name.into(),
            is_on: false,
            needs_no_password: false,
            skips_sanitizing: false,
            passwords: Vec::new(),
            root: Selector::new(table, beginning.channels()),
            others: Vec::new(),
            may_all: false,
        }
    }

    /// A user who may do all, without a password.
    pub fn almighty(name: &[u8], table: &Table) -> User {
        let mut user = User::new(name, table, Beginning::AllChannels);
        (user.is_on, user.needs_no_password) = (true, true);
        user.root.keys = Keys::All;
        let all = user.root.apply(SelectorRule::AllCommands, table);
        all.expect("there is nothing that could be wrong with it");
        user.may_all = user.root.may_all(table);
        user
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The name as it is put into lines of text.
    pub fn shown_name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    pub fn needs_no_password(&self) -> bool {
        self.needs_no_password
    }

    /// Whether payloads that this user restores are believed.
    pub fn skips_sanitizing(&self) -> bool {
        self.skips_sanitizing
    }

    /// Whether nothing that it asks for has to be looked at.
    #[inline]
    pub fn may_all(&self) -> bool {
        self.may_all
    }

    /// Whether it may run any command at all.
    pub fn may_something(&self) -> bool {
        self.selectors().any(Selector::allows_something)
    }

    /// The root first.
    #[inline]
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        [&self.root].into_iter().chain(&self.others)
    }

    pub fn root(&self) -> &Selector {
        &self.root
    }

    pub fn others(&self) -> &[Selector] {
        &self.others
    }

    /// Whether it may log in with this password.
    pub fn admits(&self, password: &[u8]) -> bool {
        // The hash is made for whom it does not matter, too, so that time tells nothing of them.
        let is_known = is_among(password, &self.passwords);
        self.is_on && (self.needs_no_password || is_known)
    }

    /// Follows `requirepass`.
    pub fn set_password(&mut self, password: Option<&[u8]>) {
        self.passwords = password.map(Digest::of).into_iter().collect();
        self.needs_no_password = password.is_none();
    }

    /// Applies rules, selectors whole; which one was refused, and why.
    pub fn apply_all<W: AsRef<[u8]>>(
        &mut self,
        rules: &[W],
        table: &Table,
        beginning: Beginning,
    ) -> Result<(), (usize, RuleError)> {
        for (at, rule) in rules.iter().enumerate() {
            self.apply(rule.as_ref(), table, beginning).map_err(|error| (at, error))?;
        }
        Ok(())
    }

    pub fn apply(
        &mut self,
        word: &[u8],
        table: &Table,
        beginning: Beginning,
    ) -> Result<(), RuleError> {
        match Rule::parse(word)? {
            Rule::Nothing => {}
            Rule::On => self.is_on = true,
            Rule::Off => self.is_on = false,
            Rule::NoPassword => self.set_password(None),
            Rule::ResetPasswords => {
                self.needs_no_password = false;
                self.passwords.clear();
            }
            Rule::AddPassword(digest) => {
                self.needs_no_password = false;
                if !self.passwords.contains(&digest) {
                    self.passwords.push(digest);
                }
            }
            Rule::RemovePassword(digest) => {
                let at = self.passwords.iter().position(|known| *known == digest);
                self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
            }
            Rule::Sanitize => self.skips_sanitizing = false,
            Rule::SkipSanitize => self.skips_sanitizing = true,
            Rule::Reset => *self = User::new(&self.name, table, beginning),
            Rule::ClearSelectors => self.others.clear(),
            Rule::Selector(text) => self.others.push(selector(text, table, beginning)?),
            Rule::Root(rule) => {
                self.root.apply(rule, table)?;
                self.may_all = self.root.may_all(table);
            }
        }
        Ok(())
    }

    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        let sanitizing =
            if self.skips_sanitizing { "skip-sanitize-payload" } else { "sanitize-payload" };
        let on = if self.is_on { "on" } else { "off" };
        let nopass = self.needs_no_password.then_some("nopass");
        [Some(on), nopass, Some(sanitizing)].into_iter().flatten()
    }

    pub fn passwords(&self) -> impl ExactSizeIterator<Item = String> {
        self.passwords.iter().map(Digest::to_string)
    }

    /// The rules that make it from a new user; those of a selector are one word for each, with the
    /// parentheses at the first and the last.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let mut words: Vec<Vec<u8>> = self.flags().map(|flag| flag.into()).collect();
        words.extend(self.passwords().map(|password| format!("#{password}").into_bytes()));
        words.extend(self.root.words());
        for selector in &self.others {
            let mut own: Vec<Vec<u8>> = selector.words().iter().map(|word| quoted(word)).collect();
            if let Some(first) = own.first_mut() {
                first.insert(0, b'(');
            }
            if let Some(last) = own.last_mut() {
                last.push(b')');
            }
            words.extend(own);
        }
        words
    }

    /// As ACL LIST shows it.
    pub fn line(&self) -> Vec<u8> {
        [&b"user "[..], &self.name, b" ", &self.words().join(&b' ')].concat()
    }
}

/// A selector of the text between parentheses, which is split like a line of configuration.
fn selector(text: &[u8], table: &Table, beginning: Beginning) -> Result<Selector, RuleError> {
    let mut selector = Selector::new(table, beginning.channels());
    for word in words::split(text).map_err(|words::UnbalancedQuotes| RuleError::Syntax)? {
        // What is a parenthesis too many would be a letter of a pattern that nobody has meant.
        if word.ends_with(b")") {
            return Err(RuleError::Syntax);
        }
        if !word.is_empty() {
            selector.apply(SelectorRule::parse(&word)?, table)?;
        }
    }
    Ok(selector)
}

/// A word as it stands between parentheses.
fn quoted(word: &[u8]) -> Vec<u8> {
    if !word.iter().any(|byte| matches!(byte, b'"' | b'\'')) {
        return word.to_vec();
    }
    let mut quoted = b"\"".to_vec();
    for byte in word {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    quoted
}

/// Joins the words of selectors that are spread over several: from one that opens a parenthesis and
/// does not close it to one that ends with one. Which word opened one that is never closed.
pub fn join_selectors(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, usize> {
    let mut joined: Vec<Vec<u8>> = Vec::with_capacity(words.len());
    let mut open = None;
    for (at, word) in words.iter().enumerate() {
        let closes = word.ends_with(b")");
        match (open, joined.last_mut()) {
            (Some(_), Some(last)) => {
                last.push(b' ');
                last.extend_from_slice(word);
                open = open.filter(|_| !closes);
            }
            _ => {
                joined.push(word.to_vec());
                open = (word.starts_with(b"(") && !closes).then_some(at);
            }
        }
    }
    open.map_or(Ok(joined), Err)
}
