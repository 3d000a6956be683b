//! The table of all commands: it joins the rooms, numbers the commands and finds them by name.
//!
//! Names are looked up for each request, so the index is keyed by what fits a register: the
//! length and the first bytes in lower case. Full names are compared once, for the one candidate.
//! `rename-command` only touches the index, never the records.

use super::{Command, Flags, keys};
use crate::resp::Request;
use crate::structs::number::parse_i64;
use hashbrown::HashTable;

/// One line a room. ORDER: any; the table sorts by name.
static ROOMS: &[&[&Command]] = &[
    super::commands::COMMANDS,
    crate::acl::commands::COMMANDS,
    crate::cluster::commands::COMMANDS,
    crate::config::commands::COMMANDS,
    crate::engine::commands::aof::COMMANDS,
    crate::engine::commands::client::COMMANDS,
    crate::engine::commands::connection::COMMANDS,
    crate::engine::commands::debug::COMMANDS,
    crate::engine::commands::server::COMMANDS,
    crate::engine::commands::replication::COMMANDS,
    crate::engine::commands::transaction::COMMANDS,
    crate::keyspace::commands::COMMANDS,
    crate::report::commands::COMMANDS,
    crate::persist::commands::COMMANDS,
    crate::pubsub::commands::COMMANDS,
    crate::script::commands::COMMANDS,
    crate::sentinel::commands::COMMANDS,
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
    /// Where its key stands, if it has one in each request and no more.
    pub only_key: Option<u16>,
}

/// Keys that are found without looking at the arguments, but for the one that counts them.
#[derive(Clone, Copy, Default)]
pub struct Prefetch {
    pub first: u16,
    pub last: i16,
    pub step: u16,
    /// Where their number stands; 0 if none does.
    count_at: u16,
}

impl Prefetch {
    /// Where the leading keys of a request stand; nowhere if they are not found this way.
    pub fn positions(self, request: &Request<'_>) -> impl Iterator<Item = usize> {
        let (first, words) = (usize::from(self.first), request.len());
        let last = match self.last {
            last if last >= 0 => first + usize::from(last.unsigned_abs()),
            from_end => words.saturating_sub(usize::from(from_end.unsigned_abs())),
        };
        let end = match (self.step, self.count_at) {
            (0, _) => first,
            (_, 0) => (last + 1).min(words),
            (_, at) => first.saturating_add(count_of_keys(request, at.into())).min(words),
        };
        (first..end).step_by(usize::from(self.step).max(1))
    }
}

/// How many keys a request says that it names; none if that is no number.
fn count_of_keys(request: &Request<'_>, at: usize) -> usize {
    let count = (at < request.len()).then(|| parse_i64(request.arg(at))).flatten();
    count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
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
    /// All true names, if some commands have others.
    true_names: Option<HashTable<Named>>,
}

#[derive(Clone)]
struct Named {
    name: Box<[u8]>,
    folded: [u64; 2],
    id: CommandId,
}

impl Named {
    fn new(name: &[u8], id: CommandId) -> Named {
        Named { name: name.into(), folded: folded(name), id }
    }

    fn hash(&self) -> u64 {
        name_hash(self.folded, self.name.len())
    }

    fn is(&self, name: &[u8], folded: [u64; 2]) -> bool {
        let may_be = self.folded == folded && self.name.len() == name.len();
        may_be && (name.len() <= 16 || self.name.eq_ignore_ascii_case(name))
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    pub fn new() -> Table {
        Table::of(|command| !command.flags.intersects(Flags::ONLY_SENTINEL))
    }

    /// The commands of a Sentinel.
    pub fn for_sentinel() -> Table {
        Table::of(|command| command.flags.intersects(Flags::SENTINEL.or(Flags::ONLY_SENTINEL)))
    }

    fn of(is_in: impl Fn(&Command) -> bool) -> Table {
        let mut listed: Vec<(String, &'static Command, Option<&'static Command>)> = Vec::new();
        for command in ROOMS.iter().copied().flatten().copied() {
            let subcommands = command.subcommands.iter().copied().filter(|sub| is_in(sub));
            let subcommands: Vec<&Command> = subcommands.collect();
            // A container is there for its subcommands.
            if !is_in(command) && (subcommands.is_empty() || !command.is_container()) {
                continue;
            }
            listed.push((command.name.to_owned(), command, None));
            for sub in subcommands {
                listed.push((format!("{}|{}", command.name, sub.name), sub, Some(command)));
            }
        }
        listed.sort_by(|a, b| a.0.cmp(&b.0));
        let mut table = Table {
            rows: Vec::with_capacity(listed.len()),
            names: HashTable::new(),
            true_names: None,
        };
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
                only_key: keys::only_key(command),
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
        self.lookup_below(self.by_name(request.arg(0)), request)
    }

    /// Which command a request of an AOF names. It holds true names; an old one may also hold
    /// those that its clients used.
    pub fn lookup_in_aof(&self, request: &Request<'_>) -> Lookup {
        let name = request.arg(0);
        let true_names = self.true_names.as_ref();
        let found = true_names.and_then(|names| find_name(names, name));
        self.lookup_below(found.or_else(|| self.by_name(name)), request)
    }

    /// The true name of the command that goes by this one, if it is another.
    pub fn true_name_behind(&self, name: &[u8]) -> Option<&'static [u8]> {
        self.true_names.as_ref()?;
        let true_name = self.row(self.by_name(name)?).full_name.as_bytes();
        (!true_name.eq_ignore_ascii_case(name)).then_some(true_name)
    }

    fn lookup_below(&self, id: Option<CommandId>, request: &Request<'_>) -> Lookup {
        let Some(id) = id else { return Lookup::Unknown };
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
        find_name(&self.names, name)
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

    /// A command or subcommand by its own full name in any letter case, whatever clients call it.
    pub fn by_true_name(&self, name: &[u8]) -> Option<CommandId> {
        let name = name.to_ascii_lowercase();
        let found = self.rows.binary_search_by(|row| row.full_name.as_bytes().cmp(&name));
        found.ok().map(|index| self.rows[index].id)
    }

    /// Gives a command another name, or with an empty one takes it out of reach.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), RenameError> {
        let folded = folded(from);
        let entry = self.names.find_entry(name_hash(folded, from.len()), |n| n.is(from, folded));
        let Ok(entry) = entry else { return Err(RenameError::NoSuchCommand) };
        if self.true_names.is_none() {
            self.true_names = Some(entry.into_table().clone());
            return self.rename(from, to);
        }
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
        let named = Named::new(name, id);
        self.names.insert_unique(named.hash(), named, Named::hash);
    }

    fn find_row(&self, full_name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.full_name == full_name)
    }
}

fn find_name(names: &HashTable<Named>, name: &[u8]) -> Option<CommandId> {
    let folded = folded(name);
    let named = names.find(name_hash(folded, name.len()), |n| n.is(name, folded));
    named.map(|n| n.id)
}

/// Why `rename-command` was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameError {
    NoSuchCommand,
    TargetExists,
}

/// A name without regard to case as two words, which tell apart all names of up to 16 bytes that
/// have one length. Reading them where they lie is what makes the lookup cheap: a copy into a
/// buffer of 16 bytes would have to be waited for.
fn folded(name: &[u8]) -> [u64; 2] {
    let half = |at: usize| {
        let bytes = name[at..at + 4].try_into().expect("four bytes");
        u64::from(u32::from_le_bytes(bytes))
    };
    let word = |at: usize| u64::from_le_bytes(name[at..at + 8].try_into().expect("eight bytes"));
    let words = match name.len() {
        8.. => [word(0), word(name.len() - 8)],
        4.. => [half(0), half(name.len() - 4)],
        _ => [name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0],
    };
    words.map(lower_case)
}

/// Makes the letters among eight bytes lower case.
fn lower_case(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let low_bits = word & !HIGH;
    let from_a = low_bits + (0x80 - u64::from(b'A')) * ONES;
    let past_z = low_bits + (0x7f - u64::from(b'Z')) * ONES;
    word | ((from_a & !past_z & !word & HIGH) >> 2)
}

/// The names are few and ours, so collisions cost a comparison and cannot be provoked.
fn name_hash(folded: [u64; 2], len: usize) -> u64 {
    let mixed = folded[0] ^ folded[1].rotate_left(29) ^ (len as u64);
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
            Prefetch { first, last, step, count_at: 0 }
        }
        (keys::Begin::Index(begin), keys::Find::Counted { count, first, step: 1 }) => {
            Prefetch { first: begin + first, last: 0, step: 1, count_at: begin + count }
        }
        _ => Prefetch::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedRequest;

    #[test]
    fn keys_to_fetch_ahead_are_found_by_their_places_or_by_their_number() {
        let table = Table::new();
        let found = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let request = OwnedRequest::from_args(&words);
            let id = table.by_name(words[0].as_bytes()).expect("a command");
            table.row(id).prefetch.positions(&request.as_request()).collect::<Vec<_>>()
        };
        for (line, places) in [
            ("GET k", vec![1]),
            ("MSET a 1 b 2", vec![1, 3]),
            ("EVAL s 2 a b c", vec![3, 4]),
            ("FCALL f 1 a", vec![3]),
            ("SINTERCARD 2 a b LIMIT 1", vec![2, 3]),
            ("EVAL s 0", vec![]),
            ("EVAL s 5 a", vec![3]),
            ("EVAL s 9223372036854775807 a", vec![3]),
            ("EVAL s -1 a", vec![]),
            ("EVAL s x a", vec![]),
            ("EVAL s", vec![]),
            ("EVAL", vec![]),
            ("PING", vec![]),
        ] {
            assert_eq!(found(line), places, "{line}");
        }
    }

    #[test]
    fn folding_is_that_of_ascii() {
        for byte in 0..=u8::MAX {
            let word = u64::from_le_bytes([byte; 8]);
            assert_eq!(lower_case(word), u64::from_le_bytes([byte.to_ascii_lowercase(); 8]));
        }
        for name in ["a", "get", "lpop", "LPOP_", "bzpopmin", "zrangestore", "0123456789abcdef"] {
            let upper = name.to_ascii_uppercase();
            assert_eq!(folded(name.as_bytes()), folded(upper.as_bytes()));
            for at in 0..name.len() {
                let mut other = name.as_bytes().to_vec();
                other[at] = b'#';
                assert_ne!(folded(name.as_bytes()), folded(&other), "{name} {at}");
            }
        }
    }
}
