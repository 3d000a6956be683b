//! What somebody may do, in one set of rules that stands by itself.
//!
//! Of the rules about commands the words are kept, in order: they are what ACL LIST shows, and they
//! give these bits again when they are read back. Keeping only the bits and finding words for them
//! was refused: that is how a server came to show rights that did not hold.

use super::keys::{Channels, Databases, Keys};
use super::rule::{RuleError, SelectorRule, Sign, has_spaces};
use crate::command::{Categories, CommandId, Table};

/// A set of commands, as a bit for each.
#[derive(Clone, PartialEq, Eq, Debug)]
struct CommandSet(Box<[u64]>);

impl CommandSet {
    fn none(table: &Table) -> CommandSet {
        CommandSet(vec![0; table.len().div_ceil(64)].into())
    }

    fn all(table: &Table) -> CommandSet {
        let mut all = CommandSet::none(table);
        table.rows().iter().for_each(|row| all.set(row.id, Sign::Allow));
        all
    }

    #[inline]
    fn has(&self, id: CommandId) -> bool {
        self.0[id.index() / 64] & 1 << (id.index() % 64) != 0
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn set(&mut self, id: CommandId, sign: Sign) {
        let (word, bit) = (&mut self.0[id.index() / 64], 1 << (id.index() % 64));
        match sign {
            Sign::Allow => *word |= bit,
            Sign::Forbid => *word &= !bit,
        }
    }
}

/// A rule about commands as it is shown, without its sign: `get`, `config|get`, `@read`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct CommandRule {
    sign: Sign,
    text: Box<[u8]>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selector {
    pub(super) keys: Keys,
    pub(super) channels: Channels,
    pub(super) databases: Databases,
    commands: CommandSet,
    /// All commands were allowed before the rules that are kept.
    begins_with_all: bool,
    rules: Vec<CommandRule>,
    /// First arguments of commands that are not allowed otherwise, in order.
    first_args: Vec<(CommandId, Box<[u8]>)>,
}

impl Selector {
    /// One that allows nothing but, if that is the default, all channels.
    pub fn new(table: &Table, channels: Channels) -> Selector {
        Selector {
            keys: Keys::Some(Vec::new()),
            channels,
            databases: Databases::All,
            commands: CommandSet::none(table),
            begins_with_all: false,
            rules: Vec::new(),
            first_args: Vec::new(),
        }
    }

    /// Whether nothing at all is forbidden.
    pub fn may_all(&self, table: &Table) -> bool {
        self.keys == Keys::All
            && self.channels == Channels::All
            && self.databases == Databases::All
            && self.commands == CommandSet::all(table)
    }

    /// Whether there is a command that may be run.
    pub fn allows_something(&self) -> bool {
        !self.commands.is_empty() || !self.first_args.is_empty()
    }

    /// Whether a command may be run, with this first argument of its own.
    #[inline]
    pub fn allows_command<'r>(
        &self,
        id: CommandId,
        first_arg: impl FnOnce() -> Option<&'r [u8]>,
    ) -> bool {
        self.commands.has(id)
            || (!self.first_args.is_empty() && self.allows_first_arg(id, first_arg()))
    }

    fn allows_first_arg(&self, id: CommandId, given: Option<&[u8]>) -> bool {
        let is_it = |(own, allowed): &(CommandId, Box<[u8]>)| {
            *own == id && given.is_some_and(|given| given.eq_ignore_ascii_case(allowed))
        };
        self.first_args.iter().any(is_it)
    }

    pub fn apply(&mut self, rule: SelectorRule<'_>, table: &Table) -> Result<(), RuleError> {
        match rule {
            SelectorRule::AllKeys => self.keys = Keys::All,
            SelectorRule::ResetKeys => self.keys = Keys::Some(Vec::new()),
            SelectorRule::Keys(access, pattern) => {
                let is_new = self.keys.add(access, pattern);
                return is_new.then_some(()).ok_or(RuleError::KeysAfterAll);
            }
            SelectorRule::AllChannels => self.channels = Channels::All,
            SelectorRule::ResetChannels => self.channels = Channels::Some(Vec::new()),
            SelectorRule::Channels(pattern) => {
                let is_new = self.channels.add(pattern);
                return is_new.then_some(()).ok_or(RuleError::ChannelsAfterAll);
            }
            SelectorRule::AllDatabases => self.databases = Databases::All,
            SelectorRule::ResetDatabases => self.databases = Databases::Some(Vec::new()),
            SelectorRule::Databases(numbers) => self.databases = Databases::Some(numbers),
            SelectorRule::AllCommands => self.begin_with(CommandSet::all(table), true),
            SelectorRule::NoCommands => self.begin_with(CommandSet::none(table), false),
            SelectorRule::Category(sign, name) => {
                let category = Categories::by_name(name).ok_or(RuleError::UnknownCommand)?;
                self.set_category(category, sign, table);
                self.keep_rule(sign, [b"@", name].concat());
            }
            SelectorRule::Command(sign, name) => return self.set_command(sign, name, table),
        }
        Ok(())
    }

    fn begin_with(&mut self, commands: CommandSet, all: bool) {
        self.commands = commands;
        self.begins_with_all = all;
        self.rules.clear();
        self.first_args.clear();
    }

    fn set_category(&mut self, category: Categories, sign: Sign, table: &Table) {
        let rows = table.rows().iter();
        for row in rows.filter(|row| row.command.categories().has(category)) {
            self.set(row.id, sign, table);
        }
    }

    /// A container takes its subcommands with it.
    fn set(&mut self, id: CommandId, sign: Sign, table: &Table) {
        let children = table.children(id).map(|row| row.id);
        for own in [id].into_iter().chain(children) {
            self.commands.set(own, sign);
            self.first_args.retain(|(other, _)| *other != own);
        }
    }

    fn set_command(&mut self, sign: Sign, name: &[u8], table: &Table) -> Result<(), RuleError> {
        if let Some(id) = table.by_true_name(name) {
            self.set(id, sign, table);
            self.keep_rule(sign, name.to_vec());
            return Ok(());
        }
        let bar = name.iter().rposition(|byte| *byte == b'|');
        let bar = bar.filter(|_| sign == Sign::Allow).ok_or(RuleError::UnknownCommand)?;
        let (command, arg) = (&name[..bar], &name[bar + 1..]);
        let id = table.by_true_name(command).ok_or(RuleError::UnknownCommand)?;
        let row = table.row(id);
        if row.parent.is_some() {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if arg.is_empty() || has_spaces(arg) {
            return Err(RuleError::Syntax);
        }
        if row.command.is_container() {
            return Err(RuleError::UnknownCommand);
        }
        tracing::warn!(
            "Deprecation warning: Allowing a first arg of an otherwise blocked command is a misuse \
             of ACL and may get disabled in the future (offender: +{})",
            String::from_utf8_lossy(name)
        );
        let allowed = (id, arg.to_ascii_lowercase().into_boxed_slice());
        if let Err(at) = self.first_args.binary_search(&allowed) {
            self.first_args.insert(at, allowed);
        }
        self.keep_rule(sign, name.to_vec());
        Ok(())
    }

    /// Takes the place of an equal rule, whatever its sign, and of those about parts of it.
    fn keep_rule(&mut self, sign: Sign, text: Vec<u8>) {
        let text = text.to_ascii_lowercase();
        self.rules.retain(|rule| {
            let rest = rule.text.strip_prefix(&text[..]);
            !rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'|')
        });
        self.rules.push(CommandRule { sign, text: text.into() });
    }

    /// The rules about commands, one word each.
    pub fn command_words(&self) -> Vec<Vec<u8>> {
        let first: &[u8] = if self.begins_with_all { b"+@all" } else { b"-@all" };
        let word = |rule: &CommandRule| [&[rule.sign.letter()], &*rule.text].concat();
        [first.to_vec()].into_iter().chain(self.rules.iter().map(word)).collect()
    }

    /// All rules that make one like this from a new one, one word each.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let mut words = self.keys.words();
        if self.channels != Channels::All {
            words.push(b"resetchannels".to_vec());
        }
        words.extend(self.channels.words());
        words.extend(self.databases.word().map(String::into_bytes));
        words.extend(self.command_words());
        words
    }
}
