//! The table of all commands: it joins the rooms, numbers the commands and finds them by name.
//!
//! Names are looked up for each request, so the index is keyed by what fits a register: the
//! length and the first bytes in lower case. Full names are compared once, for the one candidate.
//! `rename-command` only touches the index, never the records.

use super::{Command, Flags, keys};
use crate::resp::Request;
use hashbrown::HashTable;

/// One line a room. ORDER: any; the table sorts by name.
static ROOMS: &[&[&Command]] = &[
    super::commands::COMMANDS,
    crate::config::commands::COMMANDS,
    crate::engine::commands::client::COMMANDS,
    crate::engine::commands::connection::COMMANDS,
    crate::engine::commands::debug::COMMANDS,
    crate::engine::commands::server::COMMANDS,
    crate::engine::commands::transaction::COMMANDS,
    crate::keyspace::commands::COMMANDS,
    crate::observe::commands::COMMANDS,
    crate::types::bitmap::COMMANDS,
    crate::types::geo::COMMANDS,
    crate::types::hash::COMMANDS,
    crate::types::hyperloglog::COMMANDS,
    crate::types::set::COMMANDS,
    crate::types::list::COMMANDS,
    crate::types::stream::COMMANDS,
    crate::types::string::COMMANDS,
    crate::types::zset::COMMANDS,
];

/// A command's number: its row in the table, dense from 0, for statistics and ACL sets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct CommandId(u16);

impl CommandId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A command or subcommand as the table holds it.
pub struct Row {
    pub id: CommandId,
    pub command: &'static Command,
    /// `get`, or `config|get`.
    pub full_name: &'static str,
    pub parent: Option<CommandId>,
    /// The record's flags and those that follow from its key specs.
    pub flags: Flags,
    /// How the prefetch finds the leading keys: first position and step; step 0 finds none.
    pub prefetch: Prefetch,
}

/// Keys that are found without looking at the arguments.
#[derive(Clone, Copy, Default)]
pub struct Prefetch {
    pub first: u16,
    pub last: i16,
    pub step: u16,
}

/// What a request's first words name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    Found(CommandId),
    Unknown,
    /// The container exists, its subcommand does not.
    UnknownSubcommand(CommandId),
}

/// All commands, in the order of their full names.
pub struct Table {
    rows: Vec<Row>,
    names: HashTable<Named>,
}

struct Named {
    name: Box<[u8]>,
    id: CommandId,
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    pub fn new() -> Table {
        let mut listed: Vec<(String, &'static Command, Option<&'static Command>)> = Vec::new();
        for command in ROOMS.iter().copied().flatten().copied() {
            listed.push((command.name.to_owned(), command, None));
            for sub in command.subcommands.iter().copied() {
                listed.push((format!("{}|{}", command.name, sub.name), sub, Some(command)));
            }
        }
        listed.sort_by(|a, b| a.0.cmp(&b.0));
        let mut table = Table { rows: Vec::with_capacity(listed.len()), names: HashTable::new() };
        for (index, (full_name, command, parent)) in listed.into_iter().enumerate() {
            let id = CommandId(u16::try_from(index).expect("fewer than 65536 commands"));
            let parent = parent.map(|p| table.find_row(p.name).expect("containers sort first").id);
            if parent.is_none() {
                table.insert_name(full_name.as_bytes(), id);
            }
            table.rows.push(Row {
                id,
                command,
                // A handful of names that live as long as the process, once per table.
                full_name: full_name.leak(),
                parent,
                flags: derived_flags(command),
                prefetch: prefetch_of(command),
            });
        }
        table
    }

    pub fn row(&self, id: CommandId) -> &Row {
        &self.rows[id.index()]
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The subcommands of a container, in order.
    pub fn children(&self, id: CommandId) -> impl Iterator<Item = &Row> {
        self.rows[id.index() + 1..].iter().take_while(move |row| row.parent == Some(id))
    }

    /// Which command a request names.
    pub fn lookup(&self, request: &Request<'_>) -> Lookup {
        let Some(id) = self.by_name(request.arg(0)) else { return Lookup::Unknown };
        if !self.row(id).command.is_container() || request.len() < 2 {
            return Lookup::Found(id);
        }
        let name = request.arg(1);
        let child =
            self.children(id).find(|row| row.command.name.as_bytes().eq_ignore_ascii_case(name));
        match child {
            Some(row) => Lookup::Found(row.id),
            None => Lookup::UnknownSubcommand(id),
        }
    }

    /// A command that is no subcommand, by its (perhaps renamed) name in any letter case.
    pub fn by_name(&self, name: &[u8]) -> Option<CommandId> {
        let named = self.names.find(name_hash(name), |n| n.name.eq_ignore_ascii_case(name));
        named.map(|n| n.id)
    }

    /// A command or subcommand by full name (`config|get`) in any letter case.
    pub fn by_full_name(&self, name: &[u8]) -> Option<CommandId> {
        match name.iter().position(|b| *b == b'|') {
            None => self.by_name(name),
            Some(bar) => {
                let parent = self.by_name(&name[..bar])?;
                let child = self.children(parent);
                let mut child = child
                    .filter(|r| r.command.name.as_bytes().eq_ignore_ascii_case(&name[bar + 1..]));
                child.next().map(|r| r.id)
            }
        }
    }

    /// Gives a command another name, or with an empty one takes it out of reach.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), RenameError> {
        let hash = name_hash(from);
        let entry = self.names.find_entry(hash, |n| n.name.eq_ignore_ascii_case(from));
        let Ok(entry) = entry else { return Err(RenameError::NoSuchCommand) };
        let (named, _) = entry.remove();
        if to.is_empty() {
            return Ok(());
        }
        if self.by_name(to).is_some() {
            return Err(RenameError::TargetExists);
        }
        self.insert_name(to, named.id);
        Ok(())
    }

    fn insert_name(&mut self, name: &[u8], id: CommandId) {
        let named = Named { name: name.into(), id };
        self.names.insert_unique(name_hash(name), named, |n| name_hash(&n.name));
    }

    fn find_row(&self, full_name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.full_name == full_name)
    }
}

/// Why `rename-command` was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameError {
    NoSuchCommand,
    TargetExists,
}

/// Mixes length and the first 16 bytes without regard to case. The names are few and ours, so
/// collisions cost a comparison and cannot be provoked.
fn name_hash(name: &[u8]) -> u64 {
    let mut head = [0u8; 16];
    let taken = name.len().min(16);
    head[..taken].copy_from_slice(&name[..taken]);
    let word = |at: usize| {
        let bytes: [u8; 8] = head[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes) | 0x2020_2020_2020_2020
    };
    let mixed = word(0) ^ word(8).rotate_left(29) ^ (name.len() as u64);
    let mixed = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 32)
}

fn derived_flags(command: &Command) -> Flags {
    let movable = keys::are_movable(command);
    if movable { command.flags.or(Flags::MOVABLE_KEYS) } else { command.flags }
}

fn prefetch_of(command: &Command) -> Prefetch {
    let Some(spec) = command.keys.first() else { return Prefetch::default() };
    match (spec.begin, spec.find) {
        (keys::Begin::Index(first), keys::Find::Range { last, step, limit: 0 }) => {
            Prefetch { first, last, step }
        }
        _ => Prefetch::default(),
    }
}
