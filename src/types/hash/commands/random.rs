//! HRANDFIELD: fields drawn by chance.
//!
//! With a negative count each draw is independent. With a positive one the fields differ: a few
//! of many are drawn until enough differ; otherwise one walk takes each field with the chance of
//! the fields still wanted among those still to come, which is uniform over all choices. While
//! fields whose time has come lie among them, which is seldom and short, the fields that are there
//! are listed first, and the list is shuffled as far as it is wanted.

use std::collections::HashSet;

use super::{INLINE_FIELDS_MAX, READS, read_hash, write_element};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeySpec,
    Shape,
};
use crate::engine::Cx;
use crate::resp::{Protocol, Reply, ReplyBuf};
use crate::structs::listpack::Element;
use crate::structs::prng::Prng;
use crate::types::DRAWN_BYTES_MAX;
use crate::types::hash::{HashRef, LiveTable};

/// A table with less than this many times the fields that are wanted is walked.
const DRAW_FACTOR: usize = 3;

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
    let draw = if args.is_empty() { Draw::ONE } else { Draw::read(args)? };
    let (now_ms, mut prng) = (cx.keys.now_ms(), Prng::seeded(cx.keys.space().prng.next_u64()));
    let Some(hash) = read_hash(&cx.keys, &key)? else {
        draw.write_nothing(&mut cx.reply);
        return Ok(());
    };
    if draw.is_bare
        && let Some((name, _)) = hash.random(&mut prng)
    {
        write_element(&mut cx.reply, name);
        return Ok(());
    }
    if draw.work(hash) <= INLINE_FIELDS_MAX as u64 {
        return draw.write(&mut cx.reply, hash, &mut prng);
    }
    let entry = cx.keys.peek(&key).expect("the hash was just seen").clone();
    let protocol = cx.reply.protocol();
    cx.answer_by(Box::new(move || {
        let mut out = ReplyBuf::new();
        let hash = HashRef::of(entry.packed(), entry.object(), now_ms);
        if let Err(error) = draw.write(&mut out.writer(protocol), hash, &mut prng) {
            out.clear();
            out.writer(protocol).error(&error.text());
        }
        out
    }));
    Ok(())
}

/// What is to be drawn.
#[derive(Clone, Copy)]
struct Draw {
    count: u64,
    /// A field may come again.
    repeats: bool,
    with_values: bool,
    /// The answer is one name, not a list.
    is_bare: bool,
}

impl Draw {
    const ONE: Draw = Draw { count: 1, repeats: false, with_values: false, is_bare: true };

    fn read(args: &mut Args<'_>) -> Result<Draw, CommandError> {
        let count = args.integer_in(
            -i64::MAX..=i64::MAX,
            CommandError::Fixed(
                "ERR value is out of range, value must between -9223372036854775807 and \
                 9223372036854775807",
            ),
        );
        args.check()?;
        let with_values = args.option("withvalues");
        args.done()?;
        let most = i64::MAX / 2;
        if with_values && !(-most..=most).contains(&count) {
            return Err(CommandError::OutOfRange);
        }
        Ok(Draw { count: count.unsigned_abs(), repeats: count < 0, with_values, is_bare: false })
    }

    /// About how many fields are visited.
    fn work(self, hash: HashRef<'_>) -> u64 {
        let len = match hash {
            HashRef::Table(live) if live.has_due() => {
                return (live.table().len() as u64).max(self.count * u64::from(self.repeats));
            }
            _ => hash.len() as u64,
        };
        if self.repeats { self.count } else { len.min(self.count.saturating_mul(3)) }
    }

    fn write_nothing(self, reply: &mut Reply<'_>) {
        if self.is_bare {
            reply.null();
        } else {
            reply.array(0);
        }
    }

    fn write(self, reply: &mut Reply<'_>, hash: HashRef<'_>, prng: &mut Prng) -> CommandResult {
        if let HashRef::Table(live) = hash
            && live.has_due()
        {
            return self.write_listed(reply, &mut hash.iter().collect::<Vec<_>>(), prng);
        }
        let len = hash.len();
        let wanted = usize::try_from(self.count).unwrap_or(usize::MAX);
        if self.repeats || wanted == 1 {
            let before = reply.buffer().len();
            self.write_len(reply, wanted);
            for _ in 0..wanted {
                let pair = hash.random(prng).expect("a hash has a field");
                self.write_pair(reply, pair);
                if reply.buffer().len() - before > DRAWN_BYTES_MAX {
                    return Err(CommandError::OutOfRange);
                }
            }
            return Ok(());
        }
        self.write_len(reply, wanted.min(len));
        match hash {
            HashRef::Table(table) if wanted <= len / DRAW_FACTOR => {
                self.write_distinct(reply, table, wanted, prng);
            }
            _ => self.write_walked(reply, hash, wanted, prng),
        }
        Ok(())
    }

    fn write_distinct(
        self,
        reply: &mut Reply<'_>,
        table: LiveTable<'_>,
        wanted: usize,
        prng: &mut Prng,
    ) {
        let mut drawn = HashSet::with_capacity(wanted);
        while drawn.len() < wanted {
            let (name, value) = table.random(prng).expect("a hash has a field").parts();
            if drawn.insert(name) {
                self.write_pair(reply, (Element::Str(name), Element::Str(value)));
            }
        }
    }

    fn write_walked(
        self,
        reply: &mut Reply<'_>,
        hash: HashRef<'_>,
        mut wanted: usize,
        prng: &mut Prng,
    ) {
        let mut left = hash.len();
        for pair in hash.iter() {
            if prng.below(left as u64) < wanted as u64 {
                self.write_pair(reply, pair);
                wanted -= 1;
            }
            left -= 1;
        }
    }

    /// Draws from a list of all fields that are there.
    fn write_listed(
        self,
        reply: &mut Reply<'_>,
        live: &mut [(Element<'_>, Element<'_>)],
        prng: &mut Prng,
    ) -> CommandResult {
        if live.is_empty() {
            self.write_nothing(reply);
            return Ok(());
        }
        let wanted = usize::try_from(self.count).unwrap_or(usize::MAX);
        let wanted = if self.repeats { wanted } else { wanted.min(live.len()) };
        let before = reply.buffer().len();
        self.write_len(reply, wanted);
        for taken in 0..wanted {
            let first = if self.repeats { 0 } else { taken };
            let chosen = first + prng.below((live.len() - first) as u64) as usize;
            self.write_pair(reply, live[chosen]);
            if !self.repeats {
                live.swap(taken, chosen);
            } else if reply.buffer().len() - before > DRAWN_BYTES_MAX {
                return Err(CommandError::OutOfRange);
            }
        }
        Ok(())
    }

    fn write_len(self, reply: &mut Reply<'_>, pairs: usize) {
        if self.is_bare {
            return;
        }
        let is_flat = self.with_values && reply.protocol() == Protocol::Resp2;
        reply.array(if is_flat { pairs * 2 } else { pairs });
    }

    fn write_pair(self, reply: &mut Reply<'_>, (name, value): (Element<'_>, Element<'_>)) {
        if self.with_values && reply.protocol() != Protocol::Resp2 {
            reply.array(2);
        }
        write_element(reply, name);
        if self.with_values {
            write_element(reply, value);
        }
    }
}
