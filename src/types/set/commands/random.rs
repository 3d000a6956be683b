//! Random members: SPOP takes them out, SRANDMEMBER leaves them in.
//!
//! Every member has the same chance, whatever the encoding. What SPOP took is replayed as SREM, so
//! that a replica takes the same.

use triomphe::Arc;

use super::{changed, is_empty, new_value, rules, set_of, write_members};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::commands::elements::{Draw, Source, is_long, write_element};
use crate::keyspace::{Entry, Key};
use crate::resp::Reply;
use crate::structs::blob::Blob;
use crate::structs::listpack::Element;
use crate::structs::prng::Prng;
use crate::types::set::SetTable;
use crate::types::set::value::{Rules, SetRef, pop_packed, pop_table};
use crate::types::{Object, WrongType};

/// How many members one replayed SREM names.
const REPLAYED_MEMBERS_MAX: usize = 1024;

pub(super) static SPOP: Command = Command {
    name: "spop",
    group: Group::Set,
    summary: "Removes random members from a set and returns them.",
    complexity: "O(1), or O(N) with a count of N",
    arity: Arity::at_least(2),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::SET,
    tips: &["nondeterministic_output"],
    history: &[("3.2.0", "Took a count.")],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
    args: &[Arg::key("key"), Arg::integer("count").optional().since("3.2.0")],
    example: "> SADD s a\n(integer) 1\n> SPOP s\n\"a\"\n> SPOP s\n(nil)\n> SADD s a\n(integer) 1\n\
              > SPOP s 2\n1) \"a\"",
    run: spop,
    ..Command::BASE
};

fn spop(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    if !args.is_empty() {
        return spop_count(cx, &key, args);
    }
    let Some(popped) = pop(cx, &key, 1)? else {
        cx.reply.null();
        return Ok(());
    };
    let member = popped.members.first().expect("a set is never empty");
    changed(cx, &key, "spop", 1, popped.leaves_none);
    cx.propagate_as(&[b"SREM", key.bytes, member.as_bytes()]);
    cx.reply.bulk(member.as_bytes());
    Ok(())
}

fn spop_count(cx: &mut Cx<'_>, key: &Key<'_>, args: &mut Args<'_>) -> CommandResult {
    if args.remaining() > 1 {
        return Err(CommandError::Syntax);
    }
    let count = args.integer_in(0..=i64::MAX, CommandError::MustBePositive);
    // Redis names the range whatever is wrong with the count.
    args.done().map_err(|_| CommandError::MustBePositive)?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let len = cx.keys.peek(key).map(set_of).transpose()?.map_or(0, |set| set.len());
    if count == 0 || len == 0 {
        cx.reply.set(0);
        return Ok(());
    }
    if count >= len {
        return pop_all(cx, key, len);
    }
    let popped = pop(cx, key, count)?.expect("the set was just seen");
    changed(cx, key, "spop", count, false);
    if cx.is_propagating() {
        for members in popped.members.chunks(REPLAYED_MEMBERS_MAX) {
            let mut words: Vec<&[u8]> = vec![b"SREM", key.bytes];
            words.extend(members.iter().map(Blob::as_bytes));
            cx.propagate_as(&words);
        }
    }
    cx.reply.set(popped.members.len());
    popped.members.iter().for_each(|member| cx.reply.bulk(member.as_bytes()));
    Ok(())
}

/// Pops all members, which is to delete the key.
fn pop_all(cx: &mut Cx<'_>, key: &Key<'_>, len: usize) -> CommandResult {
    let entry = cx.keys.take(key).expect("the set was just seen");
    cx.keys.changed(key, EventClasses::SET, "spop");
    cx.keys.space().changes.dirty += len as u64 - 1;
    cx.keys.event(key, EventClasses::GENERIC, "del");
    let is_lazy = cx.server.config.lazyfree_lazy_server_del;
    cx.propagate_as(&[if is_lazy { b"UNLINK" } else { b"DEL" }, key.bytes]);
    if is_long(len, len, entry.heap_bytes()) {
        return cx.answer_by(move |reply| {
            write_all(reply, &entry);
            Ok(())
        });
    }
    write_all(&mut cx.reply, &entry);
    cx.keys.space().changes.discard(entry);
    Ok(())
}

fn write_all(reply: &mut Reply<'_>, entry: &Entry) {
    if let Ok(set) = set_of(entry) {
        reply.set(set.len());
        write_members(reply, set);
    }
}

struct Popped {
    members: Vec<Blob>,
    leaves_none: bool,
}

/// Takes up to `count` random members out of a set; `None` if there is no key.
fn pop(cx: &mut Cx<'_>, key: &Key<'_>, count: usize) -> Result<Option<Popped>, WrongType> {
    let rules = rules(cx);
    let prng = &mut cx.server.prng;
    let popped = cx.keys.edit(key, |entry| {
        set_of(entry)?;
        let members = pop_from_entry(entry, count, prng, &rules);
        Ok(Popped { members, leaves_none: is_empty(entry) })
    });
    popped.transpose()
}

fn pop_from_entry(entry: &mut Entry, count: usize, prng: &mut Prng, rules: &Rules) -> Vec<Blob> {
    if let Some(Object::Set(table)) = entry.object_mut() {
        let table: &mut SetTable = Arc::make_mut(table);
        let count = count.min(table.len());
        if count == 1 {
            let member = table.random(prng).cloned();
            if let Some(member) = &member {
                table.remove(member.as_bytes());
            }
            return member.into_iter().collect();
        }
        let (members, rest) = pop_table(table, count, prng, rules);
        if let Some(rest) = rest {
            entry.set_value(new_value(&rest), rest.encoding());
        }
        return members;
    }
    let encoding = entry.encoding();
    let popped = entry.edit_packed(|bytes| pop_packed(encoding, bytes, count, prng));
    popped.expect("a set that is no table is packed")
}

pub(super) static SRANDMEMBER: Command = Command {
    name: "srandmember",
    group: Group::Set,
    summary: "Returns random members of a set; with a negative count, perhaps some repeatedly.",
    complexity: "O(1), or O(N) with a count of N",
    arity: Arity::at_least(2),
    flags: Flags::READONLY,
    acl: Categories::SET,
    tips: &["nondeterministic_output"],
    history: &[("2.6.0", "Took a count.")],
    keys: &[KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    args: &[Arg::key("key"), Arg::integer("count").optional().since("2.6.0")],
    example: "> SADD s a\n(integer) 1\n> SRANDMEMBER s\n\"a\"\n> SRANDMEMBER s 2\n1) \"a\"\n\
              > SRANDMEMBER s -2\n1) \"a\"\n2) \"a\"",
    run: srandmember,
    ..Command::BASE
};

fn srandmember(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    if !args.is_empty() {
        return srandmember_count(cx, &key, args);
    }
    let prng = &mut cx.server.prng;
    match cx.keys.read(&key).map(set_of).transpose()?.and_then(|set| set.random(prng)) {
        Some(element) => write_element(&mut cx.reply, element),
        None => cx.reply.null(),
    }
    Ok(())
}

fn srandmember_count(cx: &mut Cx<'_>, key: &Key<'_>, args: &mut Args<'_>) -> CommandResult {
    if args.remaining() > 1 {
        return Err(CommandError::Syntax);
    }
    let draw = Draw::read(cx, args)?;
    let mut prng = Prng::seeded(cx.server.prng.next_u64());
    let Some(entry) = cx.keys.read(key) else {
        cx.reply.array(0);
        return Ok(());
    };
    let set = set_of(entry)?;
    if !draw.is_long(set) {
        return write_drawn(&mut cx.reply, draw, set, &mut prng);
    }
    let entry = entry.clone();
    cx.answer_by(move |reply| write_drawn(reply, draw, set_of(&entry)?, &mut prng))
}

fn write_drawn(
    reply: &mut Reply<'_>,
    draw: Draw,
    set: SetRef<'_>,
    prng: &mut Prng,
) -> CommandResult {
    draw.write(reply, set, prng, |reply, count| reply.array(count), write_element)
}

impl<'a> Source<'a> for SetRef<'a> {
    type Item = Element<'a>;

    fn count(self) -> usize {
        self.len()
    }

    fn bytes(self) -> usize {
        self.table_bytes()
    }

    fn is_table(self) -> bool {
        matches!(self, SetRef::Table(_))
    }

    fn random(self, prng: &mut Prng) -> Option<Element<'a>> {
        SetRef::random(self, prng)
    }

    fn all(self) -> impl Iterator<Item = Element<'a>> {
        self.iter()
    }

    fn name(member: Element<'a>) -> Element<'a> {
        member
    }
}
