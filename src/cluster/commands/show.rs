//! What a node shows of the cluster.

use super::{member, node};
use crate::cluster::show::{self, Range, Server, Shard};
use crate::command::{Args, CommandError, CommandResult};
use crate::engine::Cx;
use crate::keyspace::slot::Slot;
use crate::resp::Reply;

pub(super) fn nodes(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let table = member(cx)?.machine.table();
    let asking = cx.server.asking_of(cx.session());
    let text = show::nodes(table, cx.server.cluster_now(), &asking);
    cx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

pub(super) fn replicas(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let table = member(cx)?.machine.table();
    let primary = node(table, args)?;
    if table.node(primary).is_replica() {
        return Err(CommandError::Fixed("ERR The specified node is not a master"));
    }
    let asking = cx.server.asking_of(cx.session());
    let lines = show::replicas(table, primary, cx.server.cluster_now(), &asking);
    cx.reply.array(lines.len());
    lines.iter().for_each(|line| cx.reply.bulk(line.as_bytes()));
    Ok(())
}

pub(super) fn slots(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let member = cx.server.cluster.as_deref().ok_or(CommandError::NoClusterSupport)?;
    let asking = cx.server.asking_of(cx.session());
    let ranges = show::slots(member.machine.table(), &asking);
    cx.reply.array(ranges.len());
    ranges.iter().for_each(|range| put_range(&mut cx.reply, range));
    Ok(())
}

fn put_range(reply: &mut Reply<'_>, range: &Range<'_>) {
    reply.array(2 + range.nodes.len());
    reply.integer(range.first.number().into());
    reply.integer(range.last.number().into());
    range.nodes.iter().for_each(|server| put_server(reply, server));
}

fn put_server(reply: &mut Reply<'_>, server: &Server<'_>) {
    reply.array(4);
    match server.endpoint {
        Some(endpoint) => reply.bulk(endpoint.as_bytes()),
        None => reply.null(),
    }
    reply.integer(server.port.into());
    reply.bulk(server.id.as_bytes());
    reply.map(server.others.len());
    for (name, value) in &server.others {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
}

pub(super) fn shards(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let member = cx.server.cluster.as_deref().ok_or(CommandError::NoClusterSupport)?;
    let asking = cx.server.asking_of(cx.session());
    let shards = show::shards(member.machine.table(), &asking);
    cx.reply.array(shards.len());
    shards.iter().for_each(|shard| put_shard(&mut cx.reply, shard));
    Ok(())
}

fn put_shard(reply: &mut Reply<'_>, shard: &Shard<'_>) {
    reply.map(2);
    reply.bulk(b"slots");
    reply.array(2 * shard.runs.len());
    for (first, last) in &shard.runs {
        reply.integer(first.number().into());
        reply.integer(last.number().into());
    }
    reply.bulk(b"nodes");
    reply.array(shard.nodes.len());
    shard.nodes.iter().for_each(|node| put_member(reply, node));
}

fn put_member(reply: &mut Reply<'_>, node: &show::Member<'_>) {
    let ports = [("port", node.port), ("tls-port", node.tls_port)];
    let ports = ports.into_iter().filter(|(_, port)| *port != 0);
    let hostname = Some(node.hostname).filter(|name| !name.is_empty());
    reply.map(6 + ports.clone().count() + usize::from(hostname.is_some()));
    let mut field = |name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    field("id", node.id.as_str());
    for (name, port) in ports {
        reply.bulk(name.as_bytes());
        reply.integer(port.into());
    }
    let mut field = |name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    field("ip", node.ip);
    field("endpoint", node.endpoint);
    if let Some(hostname) = hostname {
        field("hostname", hostname);
    }
    field("role", node.role);
    reply.bulk(b"replication-offset");
    reply.integer(node.offset.cast_signed());
    reply.bulk(b"health");
    reply.bulk(node.health.as_bytes());
}

pub(super) fn info(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let machine = &member(cx)?.machine;
    let text = show::info(machine.table(), machine.is_up(), machine.traffic());
    cx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

pub(super) fn my_id(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let id = member(cx)?.machine.table().myself().id();
    cx.reply.bulk(id.as_bytes());
    Ok(())
}

pub(super) fn my_shard_id(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let id = member(cx)?.machine.table().myself().shard();
    cx.reply.bulk(id.as_bytes());
    Ok(())
}

pub(super) fn key_slot(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    member(cx)?;
    let slot = Slot::of(args.bytes());
    cx.reply.integer(slot.number().into());
    Ok(())
}

pub(super) fn count_keys(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    member(cx)?;
    let number = args.integer();
    args.done()?;
    let slot = u64::try_from(number).ok().and_then(Slot::new);
    let slot = slot.ok_or(CommandError::Fixed("ERR Invalid slot"))?;
    let count = cx.keys.db().slot_len(slot);
    cx.reply.integer(count as i64);
    Ok(())
}

pub(super) fn get_keys(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    member(cx)?;
    let (number, most) = (args.integer(), args.integer());
    args.done()?;
    let slot = u64::try_from(number).ok().and_then(Slot::new);
    let (Some(slot), Ok(most)) = (slot, usize::try_from(most)) else {
        return Err(CommandError::Fixed("ERR Invalid slot or number of keys"));
    };
    let count = most.min(cx.keys.db().slot_len(slot));
    cx.reply.array(count);
    for entry in cx.keys.db().slot_entries(slot).take(count) {
        cx.reply.bulk(entry.key());
    }
    Ok(())
}

pub(super) fn links(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let machine = &member(cx)?.machine;
    let links = show::links(machine.table(), machine.links(), cx.server.cluster_now());
    cx.reply.array(links.len());
    for link in links {
        let queued = link.queued_bytes as i64;
        cx.reply.map(6);
        cx.reply.bulk(b"direction");
        cx.reply.bulk(link.direction.as_bytes());
        cx.reply.bulk(b"node");
        cx.reply.bulk(link.node.as_bytes());
        cx.reply.bulk(b"create-time");
        cx.reply.integer(link.create_time_ms.cast_signed());
        cx.reply.bulk(b"events");
        cx.reply.bulk(link.events.as_bytes());
        cx.reply.bulk(b"send-buffer-allocated");
        cx.reply.integer(queued);
        cx.reply.bulk(b"send-buffer-used");
        cx.reply.integer(queued);
    }
    Ok(())
}

pub(super) fn count_failure_reports(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = node(member(cx)?.machine.table(), args)?;
    let now = cx.server.cluster_now();
    let member = cx.server.cluster.as_deref_mut().ok_or(CommandError::NoClusterSupport)?;
    let id = member.machine.table().node(key).id();
    let count = member.machine.count_failure_reports(id, now).unwrap_or(0);
    cx.reply.integer(count as i64);
    Ok(())
}
