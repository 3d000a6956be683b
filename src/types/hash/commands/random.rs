//! HRANDFIELD: random fields of a hash.
//!
//! While fields whose time has come lie among the others, which is seldom and short, those that
//! are there are listed first, so that each has the same chance.

use super::{READS, hash_of, read_hash};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::Key;
use crate::keyspace::commands::elements::{Draw, Source, is_long, write_element};
use crate::resp::{Protocol, Reply};
use crate::structs::listpack::Element;
use crate::structs::prng::Prng;
use crate::types::hash::HashRef;

pub(super) static HRANDFIELD: Command = Command {
    name: "hrandfield",
    since: "6.2.0",
    group: Group::Hash,
    summary: "Returns fields chosen by chance.",
    complexity: "O(N) with N fields to return",
    arity: Arity::at_least(2),
    flags: Flags::READONLY,
    acl: Categories::HASH,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, READS)],
    args: &[
        Arg::key("key"),
        Arg::block(
            "options",
            &[Arg::integer("count"), Arg::flag("withvalues", "WITHVALUES").optional()],
        )
        .optional(),
    ],
    reply: Shape::Any,
    example: "> HSET user name Ada\n(integer) 1\n> HRANDFIELD user\n\"name\"\n\
              > HRANDFIELD user 5 WITHVALUES\n1) \"name\"\n2) \"Ada\"",
    run: hrandfield,
    ..Command::BASE
};

fn hrandfield(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let (horizon_ms, mut prng) =
        (cx.keys.horizon_ms(), Prng::seeded(cx.keys.space().prng.next_u64()));
    if args.is_empty() {
        return draw_one(cx, &key, prng);
    }
    let mut draw = Draw::read(cx, args)?;
    let with_values = args.option("withvalues");
    args.done()?;
    if with_values {
        draw = draw.of_pairs()?;
    }
    let Some(entry) = cx.keys.read(&key) else {
        cx.reply.array(0);
        return Ok(());
    };
    let hash = hash_of(entry, horizon_ms)?;
    if !draw.is_long(hash) && !is_long_to_list(hash) {
        return write_drawn(&mut cx.reply, draw, hash, with_values, &mut prng);
    }
    let entry = entry.clone();
    cx.answer_by(move |reply| {
        write_drawn(reply, draw, hash_of(&entry, horizon_ms)?, with_values, &mut prng)
    })
}

fn draw_one(cx: &mut Cx<'_>, key: &Key<'_>, mut prng: Prng) -> CommandResult {
    let horizon_ms = cx.keys.horizon_ms();
    let hash = read_hash(&cx.keys, key)?;
    match hash.and_then(|hash| hash.random(&mut prng)) {
        Some((name, _)) => write_element(&mut cx.reply, name),
        None => match hash {
            Some(hash) if is_long_to_list(hash) => {
                let entry = cx.keys.peek(key).expect("the hash was just seen").clone();
                return cx.answer_by(move |reply| {
                    write_one_listed(reply, hash_of(&entry, horizon_ms)?, &mut prng);
                    Ok(())
                });
            }
            Some(hash) => write_one_listed(&mut cx.reply, hash, &mut prng),
            None => cx.reply.null(),
        },
    }
    Ok(())
}

/// Whether listing what is there is needed, and to be done on another thread.
fn is_long_to_list(hash: HashRef<'_>) -> bool {
    hash.has_due() && is_long(hash.held(), hash.held(), hash.table_bytes())
}

fn write_one_listed(reply: &mut Reply<'_>, hash: HashRef<'_>, prng: &mut Prng) {
    let there: Vec<_> = hash.iter().collect();
    match Listed(&there).random(prng) {
        Some((name, _)) => write_element(reply, name),
        None => reply.null(),
    }
}

fn write_drawn(
    reply: &mut Reply<'_>,
    draw: Draw,
    hash: HashRef<'_>,
    with_values: bool,
    prng: &mut Prng,
) -> CommandResult {
    if !hash.has_due() {
        return write_drawn_from(reply, draw, hash, with_values, prng);
    }
    let there: Vec<_> = hash.iter().collect();
    if there.is_empty() {
        reply.array(0);
        return Ok(());
    }
    write_drawn_from(reply, draw, Listed(&there), with_values, prng)
}

fn write_drawn_from<'a>(
    reply: &mut Reply<'_>,
    draw: Draw,
    source: impl Source<'a, Item = (Element<'a>, Element<'a>)>,
    with_values: bool,
    prng: &mut Prng,
) -> CommandResult {
    let is_flat = reply.protocol() == Protocol::Resp2;
    let begin = |reply: &mut Reply<'_>, count: usize| {
        reply.array(if with_values && is_flat { count * 2 } else { count });
    };
    draw.write(reply, source, prng, begin, |reply, (name, value)| {
        if with_values && !is_flat {
            reply.array(2);
        }
        write_element(reply, name);
        if with_values {
            write_element(reply, value);
        }
    })
}

impl<'a> Source<'a> for HashRef<'a> {
    type Item = (Element<'a>, Element<'a>);

    fn count(self) -> usize {
        self.held()
    }

    fn bytes(self) -> usize {
        self.table_bytes()
    }

    fn is_table(self) -> bool {
        matches!(self, HashRef::Table(_))
    }

    fn random(self, prng: &mut Prng) -> Option<Self::Item> {
        HashRef::random(self, prng)
    }

    fn all(self) -> impl Iterator<Item = Self::Item> {
        self.iter()
    }

    fn name((name, _): Self::Item) -> Element<'a> {
        name
    }
}

/// Fields that are there.
#[derive(Clone, Copy)]
struct Listed<'l, 'a>(&'l [(Element<'a>, Element<'a>)]);

impl<'a> Source<'a> for Listed<'_, 'a> {
    type Item = (Element<'a>, Element<'a>);

    fn count(self) -> usize {
        self.0.len()
    }

    fn bytes(self) -> usize {
        size_of_val(self.0)
    }

    fn is_table(self) -> bool {
        true
    }

    fn random(self, prng: &mut Prng) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.0[prng.below(self.0.len() as u64) as usize])
    }

    fn all(self) -> impl Iterator<Item = Self::Item> {
        self.0.iter().copied()
    }

    fn name((name, _): Self::Item) -> Element<'a> {
        name
    }
}
