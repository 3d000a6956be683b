//! SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE and their opposites.

use crate::command::{
    Arg, Args, Arity, ChannelUse, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Traits,
};
use crate::engine::session::{ClientKind, ReplyMode};
use crate::engine::{Cx, Effect};
use crate::pubsub::{Topic, message};
use crate::resp::{Reply, ReplyBuf};

const FLAGS: Flags = Flags::PUBSUB.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE);
const SHARD_CHANNELS: &[KeySpec] = &[KeySpec::range(1, -1, 1, KeyFlags::NOT_KEY)];

pub(super) static SUBSCRIBE: Command = Command {
    name: "subscribe",
    since: "2.0.0",
    group: Group::Pubsub,
    summary: "Listens to channels.",
    complexity: "O(N) with N channels",
    arity: Arity::at_least(2),
    flags: FLAGS.or(Flags::SENTINEL),
    traits: Traits::FITS_SUBSCRIBER,
    channels: ChannelUse::Names,
    args: &[Arg::string("channel").multiple()],
    run: |cx, args| subscribe(cx, args, Topic::Channel),
    ..Command::BASE
};

pub(super) static UNSUBSCRIBE: Command = Command {
    name: "unsubscribe",
    since: "2.0.0",
    group: Group::Pubsub,
    summary: "Stops listening to these channels, or to all.",
    complexity: "O(N) with N channels",
    arity: Arity::at_least(1),
    flags: FLAGS.or(Flags::SENTINEL),
    traits: Traits::FITS_SUBSCRIBER,
    args: &[Arg::string("channel").optional().multiple()],
    run: |cx, args| unsubscribe(cx, args, Topic::Channel),
    ..Command::BASE
};

pub(super) static PSUBSCRIBE: Command = Command {
    name: "psubscribe",
    since: "2.0.0",
    group: Group::Pubsub,
    summary: "Listens to all channels that match one of the patterns.",
    complexity: "O(N) with N patterns",
    arity: Arity::at_least(2),
    flags: FLAGS.or(Flags::SENTINEL),
    traits: Traits::FITS_SUBSCRIBER,
    channels: ChannelUse::Patterns,
    args: &[Arg::pattern("pattern").multiple()],
    run: |cx, args| subscribe(cx, args, Topic::Pattern),
    ..Command::BASE
};

pub(super) static PUNSUBSCRIBE: Command = Command {
    name: "punsubscribe",
    since: "2.0.0",
    group: Group::Pubsub,
    summary: "Stops listening to these patterns, or to all.",
    complexity: "O(N) with N patterns",
    arity: Arity::at_least(1),
    flags: FLAGS.or(Flags::SENTINEL),
    traits: Traits::FITS_SUBSCRIBER,
    args: &[Arg::pattern("pattern").optional().multiple()],
    run: |cx, args| unsubscribe(cx, args, Topic::Pattern),
    ..Command::BASE
};

pub(super) static SSUBSCRIBE: Command = Command {
    name: "ssubscribe",
    since: "7.0.0",
    group: Group::Pubsub,
    summary: "Listens to shard channels.",
    complexity: "O(N) with N channels",
    arity: Arity::at_least(2),
    flags: FLAGS,
    traits: Traits::FITS_SUBSCRIBER,
    keys: SHARD_CHANNELS,
    channels: ChannelUse::Names,
    args: &[Arg::string("shardchannel").multiple()],
    run: |cx, args| subscribe(cx, args, Topic::ShardChannel),
    ..Command::BASE
};

pub(super) static SUNSUBSCRIBE: Command = Command {
    name: "sunsubscribe",
    since: "7.0.0",
    group: Group::Pubsub,
    summary: "Stops listening to these shard channels, or to all.",
    complexity: "O(N) with N channels",
    arity: Arity::at_least(1),
    flags: FLAGS,
    traits: Traits::FITS_SUBSCRIBER,
    keys: SHARD_CHANNELS,
    args: &[Arg::string("shardchannel").optional().multiple()],
    run: |cx, args| unsubscribe(cx, args, Topic::ShardChannel),
    ..Command::BASE
};

/// The words that confirm the beginning and the end of a subscription.
fn words(topic: Topic) -> (&'static str, &'static str) {
    match topic {
        Topic::Channel => ("subscribe", "unsubscribe"),
        Topic::Pattern => ("psubscribe", "punsubscribe"),
        Topic::ShardChannel => ("ssubscribe", "sunsubscribe"),
    }
}

fn subscribe(cx: &mut Cx<'_>, args: &mut Args<'_>, topic: Topic) -> CommandResult {
    // The others are let through for the sake of those who have always done so.
    if !cx.caller.may_answer_late() && topic == Topic::ShardChannel {
        let text = "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client";
        return Err(CommandError::Fixed(text));
    }
    answer(cx, |cx, reply| {
        while !args.is_empty() {
            let name = args.bytes();
            let client = cx.client;
            let session = cx.clients.get_mut(client).expect("the running client is connected");
            let own = session.subscriptions.get_or_insert_default();
            cx.server.pubsub.subscribe(own, topic, name, client);
            message::confirm(reply, words(topic).0, Some(name), count(cx, topic));
        }
    });
    cx.session_mut().kind = ClientKind::Pubsub;
    Ok(())
}

fn unsubscribe(cx: &mut Cx<'_>, args: &mut Args<'_>, topic: Topic) -> CommandResult {
    let word = words(topic).1;
    answer(cx, |cx, reply| {
        if args.is_empty() {
            let own = cx.session().subscriptions.as_deref();
            let names = own.map_or_else(Vec::new, |own| own.in_order(topic));
            if names.is_empty() {
                message::confirm(reply, word, None, count(cx, topic));
            }
            for name in names {
                end(cx, topic, &name);
                message::confirm(reply, word, Some(&name), count(cx, topic));
            }
        }
        while !args.is_empty() {
            let name = args.bytes();
            end(cx, topic, name);
            message::confirm(reply, word, Some(name), count(cx, topic));
        }
    });
    cx.session_mut().leave_pubsub_if_idle();
    Ok(())
}

fn end(cx: &mut Cx<'_>, topic: Topic, name: &[u8]) {
    let session = cx.clients.get_mut(cx.client).expect("the running client is connected");
    if let Some(own) = session.subscriptions.as_deref_mut() {
        cx.server.pubsub.unsubscribe(own, topic, name);
    }
}

/// The count that a confirmation names: shard channels are counted apart.
fn count(cx: &Cx<'_>, topic: Topic) -> usize {
    let Some(own) = cx.session().subscriptions.as_deref() else { return 0 };
    match topic {
        Topic::ShardChannel => own.count(Topic::ShardChannel),
        _ => own.count(Topic::Channel) + own.count(Topic::Pattern),
    }
}

/// Lets the confirmations be written where the reply would stand or, for a client that has turned
/// its replies off, beside it.
fn answer(cx: &mut Cx<'_>, write: impl FnOnce(&mut Cx<'_>, &mut Reply<'_>)) {
    let protocol = cx.reply.protocol();
    let mut out = std::mem::take(cx.reply.buffer());
    if cx.session().reply_mode == ReplyMode::On {
        write(cx, &mut out.writer(protocol));
        *cx.reply.buffer() = out;
        return;
    }
    *cx.reply.buffer() = out;
    let mut aside = ReplyBuf::new();
    write(cx, &mut aside.writer(protocol));
    let client = cx.client;
    cx.effect(Effect::Push { client, bytes: aside });
}
