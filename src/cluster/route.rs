//! Where a request belongs: here, elsewhere, or nowhere at present.
//!
//! [`route`] is the table of rules of the Redis Cluster specification, in the order in which the
//! first that fits decides. It knows what the cluster looks like as a [`View`] of one slot, and of
//! the request only what is in [`Wanted`]; which of the keys are here it asks only where a slot is
//! on its way.

/// What this node knows of a slot, and of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    pub owner: Owner,
    pub way: Way,
    /// The cluster is up, as far as this node can tell.
    pub is_up: bool,
    pub is_primary: bool,
    pub allows_reads_when_down: bool,
    pub allows_channels_when_down: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    Nobody,
    Myself,
    /// The primary of which this node is a replica.
    MyPrimary,
    Other,
}

/// Whether a slot is on its way from one node to another, as it was said to this one (SETSLOT).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Stays,
    Leaves,
    Comes,
}

/// What a request wants, and who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub keys: Keys,
    pub writes: bool,
    /// It names channels of a shard, which are no keys but have slots.
    pub is_for_channels: bool,
    /// It moves keys to another node itself (MIGRATE).
    pub moves_keys: bool,
    /// The client said ASKING before, or the command says it for itself.
    pub is_asking: bool,
    /// The client takes what replicas have (READONLY).
    pub reads_replicas: bool,
}

/// The keys of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keys {
    None,
    /// They are of one slot, and all the same one.
    One,
    /// They are of one slot.
    Several,
    OfSeveralSlots,
}

/// Which of them are here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Here {
    All,
    Some,
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    Serve,
    /// To the owner of the slot, from now on.
    Moved,
    /// To where the slot is on its way to, this once.
    Ask,
    Refuse(Refusal),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    SlotNotServed,
    CrossSlot,
    Down,
    DownForWrites,
    TryAgain,
}

impl Refusal {
    /// The error, for a client.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::SlotNotServed => "CLUSTERDOWN Hash slot not served",
            Refusal::CrossSlot => "CROSSSLOT Keys in request don't hash to the same slot",
            Refusal::Down => "CLUSTERDOWN The cluster is down",
            Refusal::DownForWrites => {
                "CLUSTERDOWN The cluster is down and only accepts read commands"
            }
            Refusal::TryAgain => "TRYAGAIN Multiple keys request during rehashing of slot",
        }
    }
}

/// Where a request with keys of a slot belongs.
pub fn route(view: View, wanted: Wanted, here: impl FnOnce() -> Here) -> Route {
    match wanted.keys {
        Keys::None => return Route::Serve,
        _ if view.owner == Owner::Nobody => return Route::Refuse(Refusal::SlotNotServed),
        Keys::OfSeveralSlots => return Route::Refuse(Refusal::CrossSlot),
        Keys::One | Keys::Several => {}
    }
    if let Some(refusal) = refusal_when_down(view, wanted) {
        return Route::Refuse(refusal);
    }
    if let Some(route) = route_on_the_way(view, wanted, here) {
        return route;
    }
    let is_for_replicas = (wanted.reads_replicas || wanted.is_for_channels) && !wanted.writes;
    match view.owner {
        Owner::Myself => Route::Serve,
        Owner::MyPrimary if is_for_replicas => Route::Serve,
        _ => Route::Moved,
    }
}

fn refusal_when_down(view: View, wanted: Wanted) -> Option<Refusal> {
    if view.is_up {
        return None;
    }
    if wanted.is_for_channels {
        return (!view.allows_channels_when_down).then_some(Refusal::Down);
    }
    match (view.allows_reads_when_down, wanted.writes) {
        (false, _) => Some(Refusal::Down),
        (true, true) => Some(Refusal::DownForWrites),
        (true, false) => None,
    }
}

/// What the way of a slot makes of a request, if it makes any difference.
fn route_on_the_way(view: View, wanted: Wanted, here: impl FnOnce() -> Here) -> Option<Route> {
    if !(view.is_primary || wanted.reads_replicas) {
        return None;
    }
    let is_ours = matches!(view.owner, Owner::Myself | Owner::MyPrimary);
    match view.way {
        Way::Leaves if is_ours => {
            if wanted.moves_keys && view.is_primary {
                return Some(Route::Serve);
            }
            // Channels are here as long as the slot is.
            let here = if wanted.is_for_channels { Here::All } else { here() };
            match here {
                Here::All => None,
                Here::Some => Some(Route::Refuse(Refusal::TryAgain)),
                Here::None => Some(Route::Ask),
            }
        }
        Way::Comes if wanted.moves_keys && view.is_primary => Some(Route::Serve),
        Way::Comes if wanted.is_asking => {
            let may_lack = wanted.keys == Keys::Several && !wanted.is_for_channels;
            match may_lack && here() != Here::All {
                true => Some(Route::Refuse(Refusal::TryAgain)),
                false => Some(Route::Serve),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [bool; 2] = [false, true];

    fn views() -> impl Iterator<Item = View> {
        let owners = [Owner::Nobody, Owner::Myself, Owner::MyPrimary, Owner::Other];
        let ways = [Way::Stays, Way::Leaves, Way::Comes];
        let all = owners.into_iter().flat_map(move |owner| ways.map(|way| (owner, way)));
        all.flat_map(|(owner, way)| {
            (0..16).map(move |bits: u32| View {
                owner,
                way,
                is_up: bits & 1 != 0,
                is_primary: bits & 2 != 0,
                allows_reads_when_down: bits & 4 != 0,
                allows_channels_when_down: bits & 8 != 0,
            })
        })
    }

    fn requests() -> impl Iterator<Item = Wanted> {
        let keys = [Keys::None, Keys::One, Keys::Several, Keys::OfSeveralSlots];
        keys.into_iter().flat_map(|keys| {
            (0..32).map(move |bits: u32| Wanted {
                keys,
                writes: bits & 1 != 0,
                is_for_channels: bits & 2 != 0,
                moves_keys: bits & 4 != 0,
                is_asking: bits & 8 != 0,
                reads_replicas: bits & 16 != 0,
            })
        })
    }

    /// The rules one by one, each with the number that the specification's table gives it.
    fn by_the_table(view: View, wanted: Wanted, here: Here) -> (u32, Route) {
        let channels = wanted.is_for_channels;
        let looks = view.is_primary || wanted.reads_replicas;
        let leaves = looks
            && view.way == Way::Leaves
            && (view.owner == Owner::Myself || view.owner == Owner::MyPrimary);
        let comes = looks && view.way == Way::Comes;
        let refuse = Route::Refuse;
        let rules = [
            (1, wanted.keys == Keys::None, Route::Serve),
            (2, view.owner == Owner::Nobody, refuse(Refusal::SlotNotServed)),
            (3, wanted.keys == Keys::OfSeveralSlots, refuse(Refusal::CrossSlot)),
            (4, !view.is_up && channels && !view.allows_channels_when_down, refuse(Refusal::Down)),
            (5, !view.is_up && !channels && !view.allows_reads_when_down, refuse(Refusal::Down)),
            (6, !view.is_up && !channels && wanted.writes, refuse(Refusal::DownForWrites)),
            (7, wanted.moves_keys && view.is_primary && (leaves || comes), Route::Serve),
            (8, leaves && !channels && here == Here::None, Route::Ask),
            (9, leaves && !channels && here == Here::Some, refuse(Refusal::TryAgain)),
            (
                10,
                comes
                    && wanted.is_asking
                    && !channels
                    && wanted.keys == Keys::Several
                    && here != Here::All,
                refuse(Refusal::TryAgain),
            ),
            (11, comes && wanted.is_asking, Route::Serve),
            (
                12,
                view.owner == Owner::MyPrimary
                    && (wanted.reads_replicas || channels)
                    && !wanted.writes,
                Route::Serve,
            ),
            (13, view.owner != Owner::Myself, Route::Moved),
            (14, true, Route::Serve),
        ];
        let (number, _, route) = rules.into_iter().find(|(_, fits, _)| *fits).expect("the last");
        (number, route)
    }

    #[test]
    fn every_case_is_decided_by_the_first_rule_that_fits() {
        let mut met = [0u32; 15];
        for view in views() {
            for wanted in requests() {
                for here in [Here::All, Here::Some, Here::None] {
                    let (number, expected) = by_the_table(view, wanted, here);
                    met[number as usize] += 1;
                    let got = route(view, wanted, || here);
                    assert_eq!(got, expected, "rule {number}: {view:?} {wanted:?} {here:?}");
                }
            }
        }
        assert!(met[1..].iter().all(|count| *count > 0), "{met:?}");
    }

    /// Looking for keys costs something, so it is done only where it matters.
    #[test]
    fn keys_are_looked_for_only_where_the_slot_is_on_its_way() {
        for view in views().filter(|view| view.way == Way::Stays) {
            for wanted in requests() {
                route(view, wanted, || panic!("{view:?} {wanted:?}"));
            }
        }
    }

    #[test]
    fn a_node_that_is_up_and_owns_the_slot_serves_it() {
        for is_asking in FLAGS {
            let view = View {
                owner: Owner::Myself,
                way: Way::Stays,
                is_up: true,
                is_primary: true,
                allows_reads_when_down: false,
                allows_channels_when_down: true,
            };
            let wanted = Wanted {
                keys: Keys::Several,
                writes: true,
                is_for_channels: false,
                moves_keys: false,
                is_asking,
                reads_replicas: false,
            };
            assert_eq!(route(view, wanted, || Here::None), Route::Serve);
        }
    }
}
