//! PUBLISH and SPUBLISH.

use crate::command::{
    Arg, Args, Arity, ChannelUse, Command, CommandResult, Flags, Group, KeyFlags, KeySpec, Shape,
};
use crate::engine::Cx;
use crate::pubsub::Topic;

const FLAGS: Flags =
    Flags::PUBSUB.or(Flags::LOADING).or(Flags::STALE).or(Flags::FAST).or(Flags::MAY_REPLICATE);

pub(super) static PUBLISH: Command = Command {
    name: "publish",
    since: "2.0.0",
    group: Group::Pubsub,
    summary: "Sends a message to all who listen to the channel; returns how many they were.",
    complexity: "O(N+M) with N listeners of the channel and M patterns in use",
    arity: Arity::exactly(3),
    flags: FLAGS.or(Flags::SENTINEL),
    channels: ChannelUse::First,
    args: &[Arg::string("channel"), Arg::string("message")],
    reply: Shape::Integer,
    example: "> PUBLISH news hello\n(integer) 0",
    run: publish,
    ..Command::BASE
};

fn publish(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    send(cx, args, Topic::Channel)
}

pub(super) static SPUBLISH: Command = Command {
    name: "spublish",
    since: "7.0.0",
    group: Group::Pubsub,
    summary: "Sends a message to all who listen to the shard channel; returns how many they were.",
    complexity: "O(N) with N listeners of the channel",
    arity: Arity::exactly(3),
    flags: FLAGS,
    keys: &[KeySpec::one(1, KeyFlags::NOT_KEY)],
    channels: ChannelUse::First,
    args: &[Arg::string("shardchannel"), Arg::string("message")],
    reply: Shape::Integer,
    example: "> SPUBLISH news hello\n(integer) 0",
    run: spublish,
    ..Command::BASE
};

fn spublish(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    send(cx, args, Topic::ShardChannel)
}

fn send(cx: &mut Cx<'_>, args: &mut Args<'_>, topic: Topic) -> CommandResult {
    let (channel, message) = (args.bytes(), args.bytes());
    args.done()?;
    if cx.server.sentinel.is_some() {
        return cx.publish_to_sentinel(channel, message);
    }
    let name: &[u8] = if topic == Topic::Channel { b"PUBLISH" } else { b"SPUBLISH" };
    let receivers = cx.server.publish(cx.clients, topic, channel, message);
    // Those who listen elsewhere are to hear it, too.
    if cx.server.cluster.is_some() {
        cx.publish_on_bus(channel, message, topic == Topic::ShardChannel);
    } else {
        let (db, words) = (cx.keys.db, [name, channel, message]);
        cx.server.propagation.tell_replicas(db, words.into_iter());
    }
    cx.reply.integer(i64::try_from(receivers).expect("counts of things in memory fit"));
    Ok(())
}
