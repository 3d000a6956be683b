//! HRANDFIELD: random fields of a hash.

use super::{READS, hash_of, read_hash};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::commands::elements::{Draw, Source, write_element};
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
    let mut prng = Prng::seeded(cx.keys.space().prng.next_u64());
    if args.is_empty() {
        match read_hash(&cx.keys, &key)?.and_then(|hash| hash.random(&mut prng)) {
            Some((name, _)) => write_element(&mut cx.reply, name),
            None => cx.reply.null(),
        }
        return Ok(());
    }
    let mut draw = Draw::read(args)?;
    let with_values = args.option("withvalues");
    args.done()?;
    if with_values {
        draw = draw.of_pairs()?;
    }
    let Some(entry) = cx.keys.read(&key) else {
        cx.reply.array(0);
        return Ok(());
    };
    let hash = hash_of(entry)?;
    if !draw.is_long(hash) {
        return write_drawn(&mut cx.reply, draw, hash, with_values, &mut prng);
    }
    let entry = entry.clone();
    cx.answer_by(move |reply| write_drawn(reply, draw, hash_of(&entry)?, with_values, &mut prng))
}

fn write_drawn(
    reply: &mut Reply<'_>,
    draw: Draw,
    hash: HashRef<'_>,
    with_values: bool,
    prng: &mut Prng,
) -> CommandResult {
    let is_flat = reply.protocol() == Protocol::Resp2;
    let begin = |reply: &mut Reply<'_>, count: usize| {
        reply.array(if with_values && is_flat { count * 2 } else { count });
    };
    draw.write(reply, hash, prng, begin, |reply, (name, value)| {
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
        self.len()
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
