//! nodes.conf: the table as a file, as real nodes write and read it.
//!
//!     <id> <ip>:<port>@<bus port>,<hostname>,<name>=<value>... <flags> <primary|-> <ping> <pong>
//!         <epoch> <link> <slot>... [<slot>->-<id>]...              (all of it one line a node)
//!     vars currentEpoch <number> lastVoteEpoch <number>
//!
//! A file may come from another make of node, or from another version, or from somebody's editor.
//! What cannot be meant is refused, with the line; what is not known is passed over with a warning,
//! since newer nodes know more. Where two lines disagree about slots or shards that is no reason
//! not to start: the bus will tell.

use super::flags::Flags;
use super::id::{NodeId, ShardId};
use super::show::{push, push_state};
use super::table::{Names, NodeKey, Place, Table, Way};
use super::text;
use super::time::Now;
use crate::keyspace::slot::Slot;
use crate::structs::number::parse_u64;
use crate::structs::words;
use std::collections::BTreeSet;
use std::fmt;

/// The bus is so far above the port of clients, unless something else is said.
pub const BUS_PORT_OFFSET: u16 = 10_000;

/// Epochs are signed where clients are shown them.
const EPOCH_MAX: u64 = i64::MAX as u64;

/// The whole file. Nodes whose names are made up are not kept.
pub fn print(table: &Table, now: Now) -> String {
    let mut out = String::new();
    for (key, node) in table.iter().filter(|(_, node)| !node.has(Flags::HANDSHAKE)) {
        let (place, names) = (node.place(), node.names());
        let (ip, port, bus_port) = (&place.ip, place.port, place.bus_port);
        push(&mut out, format_args!("{} {ip}:{port}@{bus_port},{}", node.id(), names.hostname));
        let mut field = |name: &str, value: &dyn fmt::Display| {
            push(&mut out, format_args!(",{name}={value}"));
        };
        if !names.client_ipv6.is_empty() {
            field("client-ipv6", &names.client_ipv6);
        }
        if !names.client_ipv4.is_empty() {
            field("client-ipv4", &names.client_ipv4);
        }
        field("tls-port", &place.tls_port);
        if !names.nodename.is_empty() {
            field("nodename", &names.nodename);
        }
        field("shard-id", &node.shard());
        push_state(&mut out, table, key, now);
        out.push('\n');
    }
    let (current, vote) = (table.current_epoch(), table.last_vote_epoch());
    push(&mut out, format_args!("vars currentEpoch {current} lastVoteEpoch {vote}\n"));
    out
}

/// A line that cannot be meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Corrupt {
    pub line: String,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unrecoverable error: corrupted cluster config file \"{}\".", self.line)
    }
}

impl std::error::Error for Corrupt {}

/// What a file holds.
pub struct Loaded {
    pub table: Table,
    /// What was passed over.
    pub warnings: Vec<String>,
}

/// Reads a file. `is_tls` says whether the bus has TLS: in files of old nodes the one port they
/// have is that of the bus's kind. `fresh` draws the shard of a node that does not say.
pub fn parse(
    text: &[u8],
    now: Now,
    is_tls: bool,
    fresh: &mut dyn FnMut() -> ShardId,
) -> Result<Loaded, Corrupt> {
    let mut file = File::default();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let corrupt = || Corrupt { line: String::from_utf8_lossy(line).into_owned() };
        let words = words::split(line).map_err(|_| corrupt())?;
        file.take_line(&words, is_tls).ok_or_else(corrupt)?;
        file.last_line = line;
    }
    let last_line = String::from_utf8_lossy(file.last_line).into_owned();
    file.build(now, fresh).ok_or(Corrupt { line: last_line })
}

/// What the lines say, one by one.
#[derive(Default)]
struct File<'f> {
    lines: Vec<Line>,
    ids: BTreeSet<NodeId>,
    current_epoch: Option<u64>,
    last_vote_epoch: Option<u64>,
    warnings: Vec<String>,
    last_line: &'f [u8],
}

/// What is said of a node.
struct Line {
    id: NodeId,
    place: Place,
    names: Names,
    shard: Option<ShardId>,
    flags: Flags,
    primary: Option<NodeId>,
    has_ping: bool,
    has_pong: bool,
    epoch: u64,
    runs: Vec<(Slot, Slot)>,
    ways: Vec<(Slot, Leaves, NodeId)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Yes,
    No,
}

impl File<'_> {
    /// None if the line cannot be meant.
    fn take_line(&mut self, words: &[Vec<u8>], is_tls: bool) -> Option<()> {
        let Some((first, rest)) = words.split_first() else { return Some(()) };
        if first.eq_ignore_ascii_case(b"vars") {
            return self.take_vars(rest);
        }
        let [id, address, flags, primary, ping, pong, epoch, link, slots @ ..] = words else {
            return None;
        };
        if !matches!(link.as_slice(), b"connected" | b"disconnected") {
            return None;
        }
        let mut line = Line {
            id: NodeId::parse(id)?,
            place: Place::default(),
            names: Names::default(),
            shard: None,
            flags: parse_flags(flags)?,
            primary: parse_primary(primary)?,
            has_ping: parse_u64(ping)? != 0,
            has_pong: parse_u64(pong)? != 0,
            epoch: parse_epoch(epoch)?,
            runs: Vec::new(),
            ways: Vec::new(),
        };
        line.take_address(address, is_tls, &mut self.warnings)?;
        slots.iter().try_for_each(|word| line.take_slots(word))?;
        self.ids.insert(line.id).then(|| self.lines.push(line))
    }

    fn take_vars(&mut self, words: &[Vec<u8>]) -> Option<()> {
        let (pairs, rest) = words.as_chunks::<2>();
        for [name, value] in pairs {
            match name.to_ascii_lowercase().as_slice() {
                b"currentepoch" => self.current_epoch = Some(parse_epoch(value)?),
                b"lastvoteepoch" => self.last_vote_epoch = Some(parse_epoch(value)?),
                _ => self.warn("Skipping unknown cluster config variable", name),
            }
        }
        rest.is_empty().then_some(())
    }

    fn warn(&mut self, what: &str, word: &[u8]) {
        self.warnings.push(format!("{what} '{}'", word.escape_ascii()));
    }

    /// The table; none if it is not said who this node is.
    fn build(mut self, now: Now, fresh: &mut dyn FnMut() -> ShardId) -> Option<Loaded> {
        let lines = std::mem::take(&mut self.lines);
        let mut myself = lines.iter().filter(|line| line.flags.has(Flags::MYSELF));
        let (me, None) = (myself.next()?, myself.next()) else { return None };
        let mut table = Table::new(me.id, me.shard.unwrap_or_else(&mut *fresh));
        let mut kept = Vec::new();
        for line in &lines {
            if line.flags.has(Flags::HANDSHAKE) && line.id != me.id {
                self.warn(
                    "Skipping a node in handshake in the cluster config file",
                    line.id.as_bytes(),
                );
                continue;
            }
            let shard = line.shard.unwrap_or_else(&mut *fresh);
            let flags = line.flags.without(Flags::REPLICA);
            let key = table.add(line.id, shard, flags).or_else(|| table.find(line.id));
            let Some(key) = key else { continue };
            line.describe(&mut table, key, now);
            kept.push((key, line));
        }
        kept.iter().for_each(|(key, line)| self.set_role(&mut table, *key, line));
        kept.iter().for_each(|(key, line)| self.give_slots(&mut table, *key, line));
        self.set_ways(&mut table, me);
        if self.last_vote_epoch.is_none() {
            self.warnings.push("The cluster config file has no epochs".to_owned());
        }
        table.raise_current_epoch(self.current_epoch.unwrap_or(0));
        table.set_last_vote_epoch(self.last_vote_epoch.unwrap_or(0));
        Some(Loaded { table, warnings: self.warnings })
    }

    fn set_role(&mut self, table: &mut Table, key: NodeKey, line: &Line) {
        if !line.flags.has(Flags::REPLICA) {
            return;
        }
        let primary = line.primary.and_then(|id| table.find(id)).filter(|primary| *primary != key);
        if primary.is_none() {
            self.warn("The cluster config file does not know the primary of", line.id.as_bytes());
        }
        table.make_replica(key, primary);
    }

    fn give_slots(&mut self, table: &mut Table, key: NodeKey, line: &Line) {
        let numbers = |(first, last): &(Slot, Slot)| first.number()..=last.number();
        let slots: BTreeSet<u16> = line.runs.iter().flat_map(numbers).collect();
        let mut skipped = 0;
        for slot in slots.into_iter().filter_map(|number| Slot::new(number.into())) {
            if table.owner(slot).is_none() && table.node(key).is_primary() {
                table.assign(slot, key);
            } else {
                skipped += 1;
            }
        }
        if skipped > 0 {
            let what = format!("Skipping {skipped} slots that cannot be those of");
            self.warn(&what, line.id.as_bytes());
        }
    }

    fn set_ways(&mut self, table: &mut Table, me: &Line) {
        for (slot, leaves, other) in &me.ways {
            let Some(key) = table.find(*other).filter(|key| *key != table.me()) else {
                self.warn("Skipping a slot on its way to or from", other.as_bytes());
                continue;
            };
            let way = match leaves {
                Leaves::Yes => Way::LeavesTo(key),
                Leaves::No => Way::ComesFrom(key),
            };
            table.set_way(*slot, Some(way));
        }
    }
}

impl Line {
    /// `ip:port[@bus port][,hostname[,name=value...]]`
    fn take_address(
        &mut self,
        word: &[u8],
        is_tls: bool,
        warnings: &mut Vec<String>,
    ) -> Option<()> {
        let mut parts = word.split(|byte| *byte == b',');
        let address = parts.next()?;
        if let Some(hostname) = parts.next().filter(|hostname| !hostname.is_empty()) {
            let kept = text_if(hostname, text::is_hostname);
            if kept.is_none() {
                warnings.push(format!("Skipping host name '{}'", hostname.escape_ascii()));
            }
            self.names.hostname = kept.unwrap_or_default();
        }
        let mut ports = Ports::default();
        for field in parts {
            self.take_field(field, &mut ports, warnings)?;
        }
        self.take_place(address, ports, is_tls)
    }

    fn take_place(&mut self, address: &[u8], ports: Ports, is_tls: bool) -> Option<()> {
        let colon = address.iter().rposition(|byte| *byte == b':')?;
        let (ip, port) = (&address[..colon], &address[colon + 1..]);
        if !ip.is_empty() {
            self.place.ip = text_if(ip, text::is_ip)?;
        }
        let mut port = port.splitn(2, |byte| *byte == b'@');
        let main = parse_port(port.next()?)?;
        let is_main_tls = match (ports.tcp, ports.tls) {
            (None, None) => is_tls,
            (tcp, _) => tcp.is_some(),
        };
        let (tcp, tls) = if is_main_tls { (None, Some(main)) } else { (Some(main), None) };
        self.place.port = ports.tcp.or(tcp).unwrap_or(0);
        self.place.tls_port = ports.tls.or(tls).unwrap_or(0);
        self.place.bus_port = match port.next() {
            Some(bus_port) => parse_port(bus_port)?,
            None => main.checked_add(BUS_PORT_OFFSET)?,
        };
        Some(())
    }

    fn take_field(
        &mut self,
        field: &[u8],
        ports: &mut Ports,
        warnings: &mut Vec<String>,
    ) -> Option<()> {
        let at = field.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&field[..at], &field[at + 1..]);
        match name {
            b"shard-id" => self.shard = Some(ShardId::parse(value)?),
            b"tcp-port" => ports.tcp = Some(parse_port(value)?),
            b"tls-port" => ports.tls = Some(parse_port(value)?),
            b"client-ipv4" => self.names.client_ipv4 = text_if(value, text::is_ipv4)?,
            b"client-ipv6" => self.names.client_ipv6 = text_if(value, text::is_ipv6)?,
            b"nodename" if text::is_nodename(value) => {
                self.names.nodename = text_if(value, text::is_nodename)?;
            }
            _ => warnings.push(format!("Skipping cluster node field '{}'", field.escape_ascii())),
        }
        Some(())
    }

    fn take_slots(&mut self, word: &[u8]) -> Option<()> {
        if let Some(way) = word.strip_prefix(b"[") {
            self.ways.push(parse_way(way.strip_suffix(b"]")?)?);
            return Some(());
        }
        let mut ends = word.splitn(2, |byte| *byte == b'-').map(|end| Slot::new(parse_u64(end)?));
        let first = ends.next()??;
        let last = ends.next().unwrap_or(Some(first))?;
        (first <= last).then(|| self.runs.push((first, last)))
    }

    /// Writes down what concerns no other node.
    fn describe(&self, table: &mut Table, key: NodeKey, now: Now) {
        table.set_place(key, self.place.clone());
        table.set_names(key, self.names.clone());
        if !self.flags.has(Flags::REPLICA) {
            table.set_config_epoch(key, self.epoch);
        }
        let kept = Flags::PFAIL.or(Flags::FAIL).or(Flags::NOADDR).or(Flags::NOFAILOVER);
        table.mark(key, Flags::from_bits(self.flags.bits() & kept.bits()));
        let health = table.health_mut(key);
        health.known_since_ms = now.ms;
        health.ping_sent_ms = self.has_ping.then_some(now.ms);
        health.pong_received_ms = self.has_pong.then_some(now.ms);
        health.fail_since_ms = self.flags.has(Flags::FAIL).then_some(now.ms);
    }
}

/// Those beside the one of the address.
#[derive(Clone, Copy, Default)]
struct Ports {
    tcp: Option<u16>,
    tls: Option<u16>,
}

fn parse_flags(word: &[u8]) -> Option<Flags> {
    let mut words = word.split(|byte| *byte == b',');
    let all = words.try_fold(Flags::NONE, |all, word| Some(all.or(Flags::of_word(word)?)))?;
    let has_both = all.has(Flags::PRIMARY) && all.has(Flags::REPLICA);
    (!has_both).then_some(all)
}

/// None if it is neither a name nor said that there is none.
fn parse_primary(word: &[u8]) -> Option<Option<NodeId>> {
    if word == b"-" { Some(None) } else { NodeId::parse(word).map(Some) }
}

fn parse_epoch(word: &[u8]) -> Option<u64> {
    parse_u64(word).filter(|epoch| *epoch <= EPOCH_MAX)
}

fn parse_port(word: &[u8]) -> Option<u16> {
    u16::try_from(parse_u64(word)?).ok()
}

/// `slot->-id` or `slot-<-id`
fn parse_way(word: &[u8]) -> Option<(Slot, Leaves, NodeId)> {
    let (number, rest) = word.split_at(word.iter().position(|byte| *byte == b'-')?);
    let slot = Slot::new(parse_u64(number)?)?;
    let (arrow, id) = rest.split_at_checked(3)?;
    let leaves = match arrow {
        b"->-" => Leaves::Yes,
        b"-<-" => Leaves::No,
        _ => return None,
    };
    Some((slot, leaves, NodeId::parse(id)?))
}

fn text_if(text: &[u8], fits: fn(&[u8]) -> bool) -> Option<String> {
    let text = Some(text).filter(|text| fits(text))?;
    str::from_utf8(text).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests;
