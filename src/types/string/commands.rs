//! The string commands.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeyFlags, KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::{Expiry, NewValue};
use crate::types::StringEncoding;

pub static COMMANDS: &[&Command] = &[&GET, &SET];

static GET: Command = Command {
    name: "get",
    group: Group::String,
    summary: "Returns the value of a string.",
    arity: Arity::exactly(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    args: &[Arg::key("key")],
    reply: Shape::BulkOrNull,
    example: "> SET k v\nOK\n> GET k\n\"v\"\n> GET nothing\n(nil)",
    run: get,
    ..Command::BASE
};

fn get(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    match cx.keys.string(&key)? {
        Some(value) => cx.reply.bulk(value),
        None => cx.reply.null(),
    }
    Ok(())
}

static SET: Command = Command {
    name: "set",
    group: Group::String,
    summary: "Sets a key to a string.",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS))],
    args: &[Arg::key("key"), Arg::string("value")],
    run: set,
    ..Command::BASE
};

fn set(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let (bytes, _) = args.value();
    args.done()?;
    let encoding = StringEncoding::of_whole(bytes);
    cx.keys.set_string(&key, NewValue::Bytes(bytes), encoding, Expiry::Never);
    cx.keys.changed(&key, EventClasses::STRING, "set");
    cx.reply.ok();
    Ok(())
}
