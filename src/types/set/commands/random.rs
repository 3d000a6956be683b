//! Random members: SPOP takes them out, SRANDMEMBER leaves them in.
//!
//! Every member has the same chance, whatever the encoding. What SPOP took is replayed as SREM, so
//! that a replica takes the same.

use triomphe::Arc;

use super::{
    INLINE_MEMBERS_MAX, changed, is_empty, new_value, rules, set_of, write_element, write_members,
};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::{Entry, Key};
use crate::resp::{Reply, ReplyBuf};
use crate::structs::blob::Blob;
use crate::structs::prng::Prng;
use crate::types::set::SetTable;
use crate::types::set::value::{Rules, SetRef, SetValue, pop_packed, pop_table, sample};
use crate::types::{DRAWN_BYTES_MAX, Object, WrongType};

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
        pop_all(cx, key, len);
        return Ok(());
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
fn pop_all(cx: &mut Cx<'_>, key: &Key<'_>, len: usize) {
    let entry = cx.keys.take(key).expect("the set was just seen");
    cx.keys.changed(key, EventClasses::SET, "spop");
    cx.keys.space().changes.dirty += len as u64 - 1;
    cx.keys.event(key, EventClasses::GENERIC, "del");
    let is_lazy = cx.server.config.lazyfree_lazy_server_del;
    cx.propagate_as(&[if is_lazy { b"UNLINK" } else { b"DEL" }, key.bytes]);
    if len > INLINE_MEMBERS_MAX {
        let protocol = cx.reply.protocol();
        cx.answer_by(Box::new(move || {
            let mut out = ReplyBuf::new();
            write_all(&mut out.writer(protocol), &entry);
            out
        }));
    } else {
        write_all(&mut cx.reply, &entry);
        cx.keys.space().changes.discard(entry);
    }
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
    const RANGE: CommandError = CommandError::Fixed(
        "ERR value is out of range, value must between -9223372036854775807 and \
         9223372036854775807",
    );
    let count = args.integer_in(-i64::MAX..=i64::MAX, RANGE);
    args.done()?;
    let rules = rules(cx);
    let choice = Choice {
        count: usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
        repeats: count < 0,
    };
    let seed = cx.server.prng.next_u64();
    let Some(set) = cx.keys.read(key).map(set_of).transpose()? else {
        cx.reply.array(0);
        return Ok(());
    };
    let mut prng = Prng::seeded(seed);
    if choice.work(set) <= INLINE_MEMBERS_MAX {
        return choice.write(&mut cx.reply, set, &mut prng, &rules);
    }
    let (set, protocol) = (set.to_value(), cx.reply.protocol());
    cx.answer_by(Box::new(move || {
        let mut out = ReplyBuf::new();
        let written = choice.write(&mut out.writer(protocol), set.as_ref(), &mut prng, &rules);
        if let Err(error) = written {
            out.clear();
            out.writer(protocol).error(&error.text());
        }
        out
    }));
    Ok(())
}

/// How many random members are asked for, and whether one may come more than once.
#[derive(Clone, Copy)]
struct Choice {
    count: usize,
    repeats: bool,
}

impl Choice {
    /// About how many members are visited or written.
    fn work(self, set: SetRef<'_>) -> usize {
        if self.repeats || self.is_sparse(set) { self.count } else { set.len() }
    }

    /// Whether distinct members are found faster by drawing than by walking through all.
    fn is_sparse(self, set: SetRef<'_>) -> bool {
        matches!(set, SetRef::Table(_)) && self.count <= set.len() / 3
    }

    fn write(
        self,
        reply: &mut Reply<'_>,
        set: SetRef<'_>,
        prng: &mut Prng,
        rules: &Rules,
    ) -> CommandResult {
        if self.repeats {
            let before = reply.buffer().len();
            reply.array(self.count);
            for _ in 0..self.count {
                let element = set.random(prng).expect("a set is never empty");
                write_element(reply, element);
                if reply.buffer().len() - before > DRAWN_BYTES_MAX {
                    return Err(CommandError::OutOfRange);
                }
            }
        } else if self.count >= set.len() {
            reply.array(set.len());
            write_members(reply, set);
        } else if self.is_sparse(set) {
            let mut drawn = SetValue::new_table(rules);
            while drawn.len() < self.count {
                let element = set.random(prng).expect("a set is never empty");
                drawn.add_element(element, rules);
            }
            reply.array(self.count);
            write_members(reply, drawn.as_ref());
        } else {
            reply.array(self.count);
            let mut places = sample(set.len(), self.count, prng).peekable();
            for (place, element) in set.iter().enumerate() {
                if places.next_if_eq(&place).is_some() {
                    write_element(reply, element);
                }
            }
        }
        Ok(())
    }
}
