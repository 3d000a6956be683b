//! CLUSTER SLOT-STATS: what the slots of this node's shard hold and cost.

use super::{member, slot};
use crate::command::{Args, CommandError, CommandResult};
use crate::engine::Cx;
use crate::keyspace::slot::{SLOTS, Slot};
use std::cmp::Reverse;

/// What slots can be ordered by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Metric {
    Keys,
    CpuTime,
    BytesIn,
    BytesOut,
}

const METRICS: [(&str, Metric); 4] = [
    ("key-count", Metric::Keys),
    ("cpu-usec", Metric::CpuTime),
    ("network-bytes-in", Metric::BytesIn),
    ("network-bytes-out", Metric::BytesOut),
];

impl Metric {
    /// That of a word; but for the keys they are known only if they are counted.
    fn by_name(name: &[u8], are_counted: bool) -> Option<Metric> {
        let is_it = |(known, _): &&(&str, Metric)| known.as_bytes().eq_ignore_ascii_case(name);
        let (_, metric) = METRICS.iter().find(is_it)?;
        Some(*metric).filter(|metric| are_counted || *metric == Metric::Keys)
    }

    fn of(self, cx: &Cx<'_>, slot: Slot) -> u64 {
        let used = cx.server.slot_usage.as_deref().map(|usage| usage.of(slot)).unwrap_or_default();
        match self {
            Metric::Keys => cx.keys.db().slot_len(slot) as u64,
            Metric::CpuTime => used.cpu_us,
            Metric::BytesIn => used.bytes_in,
            Metric::BytesOut => used.bytes_out,
        }
    }
}

pub(super) fn slot_stats(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    member(cx)?;
    let count = args.remaining();
    if count == 3 && args.option("slotsrange") {
        return by_range(cx, args);
    }
    if count >= 2 && args.option("orderby") {
        return by_order(cx, args);
    }
    Err(CommandError::subcommand_syntax("CLUSTER", args.request().arg(1)))
}

fn by_range(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (first, last) = (slot(args)?, slot(args)?);
    if first > last {
        return Err(CommandError::err(format_args!(
            "Start slot number {first} is greater than end slot number {last}"
        )));
    }
    let mut slots = own_slots(cx)?;
    slots.retain(|slot| (first..=last).contains(slot));
    put_all(cx, &slots);
    Ok(())
}

fn by_order(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let are_counted = cx.server.slot_usage.is_some();
    let metric = Metric::by_name(args.bytes(), are_counted)
        .ok_or(CommandError::Fixed("ERR Unrecognized sort metric for ORDERBY."))?;
    let (mut limit, mut is_descending) = (SLOTS, true);
    let (mut limits, mut orders) = (0, 0);
    while !args.is_empty() {
        if args.option_with_value("limit") {
            let out_of_range = CommandError::Fixed(
                "ERR Limit has to lie in between 1 and 16384 (maximum number of slots).",
            );
            limit = args.integer_in(1..=SLOTS as i64, out_of_range) as usize;
            args.check()?;
            limits += 1;
        } else if args.option("asc") {
            (is_descending, orders) = (false, orders + 1);
        } else if args.option("desc") {
            (is_descending, orders) = (true, orders + 1);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if limits > 1 || orders > 1 {
        return Err(CommandError::Fixed("ERR Multiple filters of the same type are disallowed."));
    }
    let mut slots = own_slots(cx)?;
    match is_descending {
        // Those that are alike stay in the order of their numbers.
        true => slots.sort_by_cached_key(|slot| Reverse(metric.of(cx, *slot))),
        false => slots.sort_by_cached_key(|slot| metric.of(cx, *slot)),
    }
    slots.truncate(limit);
    put_all(cx, &slots);
    Ok(())
}

/// The slots of this node's shard, in order.
fn own_slots(cx: &Cx<'_>) -> Result<Vec<Slot>, CommandError> {
    let table = member(cx)?.machine.table();
    let primary = table.node(table.primary_of(table.me()));
    Ok(primary.slots().iter().collect())
}

fn put_all(cx: &mut Cx<'_>, slots: &[Slot]) {
    let shown = if cx.server.slot_usage.is_some() { &METRICS[..] } else { &METRICS[..1] };
    cx.reply.array(slots.len());
    for slot in slots {
        cx.reply.array(2);
        cx.reply.integer(slot.number().into());
        cx.reply.map(shown.len());
        for (name, metric) in shown {
            let value = metric.of(cx, *slot);
            cx.reply.bulk(name.as_bytes());
            cx.reply.integer(value.cast_signed());
        }
    }
}
