//! Elections: how a replica takes over from a primary that is down, by the votes of the majority.
//!
//! Who has the newest data asks first. A vote is given once an epoch, and the file has it before it
//! leaves; so of those who ask under one epoch one at most has the majority, and a slot never has
//! two owners of one epoch. All else is there so that somebody wins soon:
//! - Who is the first in line, and knows that of all others, asks at once. A voter who has yet to
//!   hear that the primary is down says nothing, and so is asked again, under the same epoch: real
//!   nodes vote about a primary only once in a while, under whatever epoch.
//! - Those who find that they cannot win any more ask again under a new epoch, instead of waiting
//!   until the votes have run out.

use super::flags::Flags;
use super::id::NodeId;
use super::links::LinkId;
use super::machine::{Action, Cluster, Cx, Level};
use super::table::{Node, NodeKey};
use super::wire::{Header, Kind};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Before it asks a replica waits until others should know that the primary is down, unless nothing
/// can come of it but that they are asked again.
const DELAY_MS: u64 = 500;
/// Replicas that would ask at one time are spread over so much.
const SPREAD_MS: u64 = 500;
/// So much later each asks who has less data than another.
const RANK_MS: u64 = 1000;
/// So much later each asks whose primary is named after another one that is down too.
const SHARD_RANK_MS: u64 = 500;
const EXPIRY_MS_MIN: u64 = 2000;
/// Who asks again since somebody else has won spreads over less: most have had their turn.
const RETRY_SPREAD_MS: u64 = 200;
/// Voters who have not answered are asked again after so long.
const ASK_AGAIN_MS: u64 = 200;
/// How long votes may take to come when somebody else asks for them too.
const CONTEST_MS: u64 = 1000;
/// One that was asked for by hand does not wait, but spreads when it has to ask again.
const MANUAL_SPREAD_MS: u64 = 100;
/// The same is said again after so long, of old data after longer.
const SAY_AGAIN_MS: u64 = 1000;
const SAY_AGAIN_OF_AGE_MS: u64 = 10_000;
/// For how many node timeouts one vote about a primary rules out others, and a request waits for
/// votes.
const VOTE_TIMEOUTS: u64 = 2;

#[derive(Default)]
pub(super) struct Election {
    phase: Phase,
    said: Option<(Cause, u64)>,
    /// The last epoch under which we left it to another one.
    left_epoch: u64,
}

#[derive(Default)]
enum Phase {
    /// There is nothing to decide.
    #[default]
    Idle,
    Waits {
        since_ms: u64,
        starts_ms: u64,
        rank: usize,
    },
    Asked(Asked),
    /// Nobody decided. It is tried again, but not before.
    Expired {
        until_ms: u64,
    },
}

struct Asked {
    epoch: u64,
    since_ms: u64,
    /// When it was last asked for.
    asked_ms: u64,
    votes: BTreeSet<NodeId>,
    /// Those whose votes can no longer come.
    refused: BTreeSet<NodeId>,
    /// Somebody else asks for the same votes: by then it is decided who has them.
    contest_ends_ms: Option<u64>,
}

/// Why this replica does not take over yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    DataAge,
    Delay,
    Expired,
    Votes,
}

impl Cause {
    fn text(self) -> &'static str {
        match self {
            Cause::DataAge => {
                "Disconnected from primary for longer than allowed. Please check the \
                 'cluster-replica-validity-factor' configuration option."
            }
            Cause::Delay => "Waiting the delay before I can start a new failover.",
            Cause::Expired => "Failover attempt expired.",
            Cause::Votes => "Waiting for votes, but majority still not reached.",
        }
    }
}

/// Asking.
impl Cluster {
    pub(super) fn seek_election(&mut self, cx: &mut Cx) {
        let is_manual = self.manual.may_start();
        if !self.is_takeover_wanted(is_manual) {
            self.election.phase = Phase::Idle;
            return;
        }
        if !is_manual && self.is_data_too_old(cx) {
            return self.say(Cause::DataAge, cx);
        }
        match &self.election.phase {
            Phase::Idle => self.schedule(is_manual, cx),
            Phase::Expired { until_ms } if is_manual || cx.now.ms > *until_ms => {
                self.schedule(is_manual, cx);
            }
            Phase::Expired { .. } => self.say(Cause::Expired, cx),
            Phase::Waits { .. } => self.wait(is_manual, cx),
            Phase::Asked(_) => self.count_votes(is_manual, cx),
        }
    }

    fn is_takeover_wanted(&self, is_manual: bool) -> bool {
        let me = self.table.myself();
        let Some(primary) = me.primary().map(|primary| self.table.node(primary)) else {
            return false;
        };
        let is_called_for = primary.has(Flags::FAIL) && !self.settings.never_fails_over;
        primary.slot_count() > 0 && (is_manual || is_called_for)
    }

    fn is_data_too_old(&self, cx: &Cx) -> bool {
        let (timeout_ms, factor) =
            (self.settings.node_timeout_ms, self.settings.replica_validity_factor);
        let age_ms = cx.facts.stream_age_ms.saturating_sub(timeout_ms);
        let ping_ms = self.settings.replica_ping_period_s.saturating_mul(1000);
        factor > 0 && age_ms > ping_ms.saturating_add(timeout_ms.saturating_mul(factor))
    }

    fn expiry_ms(&self) -> u64 {
        (self.settings.node_timeout_ms * VOTE_TIMEOUTS).max(EXPIRY_MS_MIN)
    }

    fn schedule(&mut self, is_manual: bool, cx: &mut Cx) {
        let rank = if is_manual { 0 } else { self.rank() };
        let delay_ms = match (is_manual, &self.election.phase) {
            (true, Phase::Asked(_)) => cx.prng.below(MANUAL_SPREAD_MS),
            (true, _) => 0,
            (false, phase) => {
                let spread_ms = match phase {
                    Phase::Asked(_) => cx.prng.below(RETRY_SPREAD_MS),
                    _ => DELAY_MS + cx.prng.below(SPREAD_MS),
                };
                spread_ms + RANK_MS * rank as u64 + SHARD_RANK_MS * self.shard_rank() as u64
            }
        };
        let offset = self.table.myself().offset();
        cx.notice(format!(
            "Start of election delayed for {delay_ms} milliseconds (rank #{rank}, offset {offset})."
        ));
        let since_ms = cx.now.ms;
        self.election.phase = Phase::Waits { since_ms, starts_ms: since_ms + delay_ms, rank };
        // Those who might ask too are to know how far we are, and we how far they are.
        self.speak_to_fellow_replicas(cx);
        self.wait(is_manual, cx);
    }

    fn speak_to_fellow_replicas(&mut self, cx: &mut Cx) {
        let Some(primary) = self.table.myself().primary() else { return };
        for (key, link) in self.links.all_connected() {
            if self.table.node(key).primary() == Some(primary) {
                self.speak_to(key, link, cx);
            }
        }
    }

    /// The other replicas of our primary that might take over.
    fn rivals(&self) -> impl Iterator<Item = &Node> {
        let me = self.table.me();
        let primary = self.table.myself().primary();
        let fellows = primary.into_iter().flat_map(|primary| self.table.replicas(primary));
        let others = fellows.filter(move |key| *key != me).map(|key| self.table.node(key));
        others.filter(|node| !node.has(OUT_OF_THE_RUNNING))
    }

    /// How many of them are before us.
    fn rank(&self) -> usize {
        self.rivals().filter(|node| self.is_before_us(node)).count()
    }

    /// Whether nobody is before us, as all say since then, and no other shard needs votes too.
    fn is_next_in_line(&self, rank: usize, since_ms: u64) -> bool {
        let has_told = |node: &Node| node.health.offset_told_ms >= Some(since_ms);
        let down = Flags::PFAIL.or(Flags::FAIL);
        let ours = self.table.myself().primary();
        let is_missed =
            |(key, node): (NodeKey, &Node)| node.votes() && Some(key) != ours && node.has(down);
        rank == 0 && self.rivals().all(has_told) && !self.table.iter().any(is_missed)
    }

    /// Whether what others say may end a wait.
    pub(super) fn waits_for_fellows(&self) -> bool {
        matches!(self.election.phase, Phase::Waits { rank: 0, .. })
    }

    /// How many of the shards that need a primary are before ours: they ask for the same votes.
    fn shard_rank(&self) -> usize {
        let ours = self.table.myself().shard();
        let down = self.table.iter().filter(|(_, node)| node.votes() && node.has(Flags::FAIL));
        down.filter(|(_, node)| node.shard() < ours).count()
    }

    /// It has more data, or as much and the smaller name.
    fn is_before_us(&self, node: &Node) -> bool {
        let me = self.table.myself();
        (node.offset(), Reverse(node.id())) > (me.offset(), Reverse(me.id()))
    }

    fn wait(&mut self, is_manual: bool, cx: &mut Cx) {
        if !is_manual {
            self.update_rank(cx);
        }
        let Phase::Waits { since_ms, starts_ms, rank } = self.election.phase else { return };
        let left_ms = starts_ms.saturating_sub(cx.now.ms);
        let need_not_wait = match is_manual {
            true => left_ms > MANUAL_SPREAD_MS,
            false => self.is_next_in_line(rank, since_ms),
        };
        match left_ms == 0 || need_not_wait {
            true => self.ask_for_votes(is_manual, cx),
            false => self.say(Cause::Delay, cx),
        }
    }

    fn update_rank(&mut self, cx: &mut Cx) {
        let new = self.rank();
        let Phase::Waits { starts_ms, rank, .. } = &mut self.election.phase else { return };
        if new > *rank {
            let added_ms = (new - *rank) as u64 * RANK_MS;
            *starts_ms += added_ms;
            *rank = new;
            cx.notice(format!(
                "Replica rank updated to #{new}, added {added_ms} milliseconds of delay."
            ));
        }
    }

    fn ask_for_votes(&mut self, is_manual: bool, cx: &mut Cx) {
        let epoch = self.table.current_epoch() + 1;
        self.table.raise_current_epoch(epoch);
        // Nothing is promised with it: whoever asks twice under one epoch has its votes once.
        self.due.save = true;
        cx.notice(format!("Starting a failover election for epoch {epoch}."));
        self.broadcast(Kind::AuthRequest, |header| request(header, is_manual), cx);
        self.election.phase = Phase::Asked(Asked {
            epoch,
            since_ms: cx.now.ms,
            asked_ms: cx.now.ms,
            votes: BTreeSet::new(),
            refused: BTreeSet::new(),
            contest_ends_ms: None,
        });
    }

    fn count_votes(&mut self, is_manual: bool, cx: &mut Cx) {
        let Phase::Asked(asked) = &self.election.phase else { return };
        let (epoch, age_ms) = (asked.epoch, cx.now.age_ms(asked.since_ms));
        if asked.votes.len() >= self.table.quorum() {
            cx.notice("Failover election won: I'm the new primary.".to_owned());
            return self.win(epoch, cx);
        }
        if age_ms > self.expiry_ms() {
            // Meanwhile it is another one's turn, if there is one.
            let turn_ms = if self.rivals().next().is_some() { self.expiry_ms() } else { 0 };
            self.election.phase = Phase::Expired { until_ms: cx.now.ms + turn_ms };
            return self.say(Cause::Expired, cx);
        }
        if self.is_lost(asked, cx.now.ms) {
            return self.schedule(is_manual, cx);
        }
        if cx.now.age_ms(asked.asked_ms) >= ASK_AGAIN_MS && epoch == self.table.current_epoch() {
            self.ask_again(is_manual, cx);
        }
        self.say(Cause::Votes, cx);
    }

    /// Asks those who have not answered: they may not have known then that the primary is down.
    fn ask_again(&mut self, is_manual: bool, cx: &mut Cx) {
        let Phase::Asked(asked) = &mut self.election.phase else { return };
        asked.asked_ms = cx.now.ms;
        let may_answer = |key: &NodeKey| {
            let node = self.table.node(*key);
            let is_decided = asked.votes.contains(&node.id()) || asked.refused.contains(&node.id());
            node.votes() && !is_decided
        };
        let mut left = self.links.all_connected();
        left.retain(|(key, _)| may_answer(key));
        for (_, link) in left {
            self.send(link, Kind::AuthRequest, |header| request(header, is_manual), cx);
        }
    }

    fn is_lost(&self, asked: &Asked, now_ms: u64) -> bool {
        let may_come = |id: &NodeId| !asked.refused.contains(id) || asked.votes.contains(id);
        let voters = self.table.iter().filter(|(_, node)| node.votes());
        let left = voters.filter(|(_, node)| may_come(&node.id())).count();
        left < self.table.quorum() || asked.contest_ends_ms.is_some_and(|end_ms| now_ms >= end_ms)
    }

    fn win(&mut self, epoch: u64, cx: &mut Cx) {
        let me = self.table.me();
        if self.table.myself().config_epoch() < epoch {
            self.table.set_config_epoch(me, epoch);
            cx.notice(format!("configEpoch set to {epoch} after successful failover"));
        }
        self.replace_primary(cx);
    }

    /// Takes the place of our primary, under the epoch that we have.
    pub(super) fn replace_primary(&mut self, cx: &mut Cx) {
        let me = self.table.me();
        let Some(old) = self.table.myself().primary() else { return };
        let is_missed = self.table.node(old).has(Flags::MIGRATE_TO);
        let shard = self.table.myself().shard();
        cx.notice(format!("Setting myself to primary in shard {shard} after failover"));
        self.table.make_primary(me);
        self.table.move_all(old, me);
        if is_missed {
            self.table.mark(me, Flags::MIGRATE_TO);
        }
        self.become_primary(cx);
        self.due.sync = true;
        self.due.state = true;
        self.broadcast_pong(cx);
    }

    /// What goes with that role, whyever we have it now.
    pub(super) fn become_primary(&mut self, cx: &mut Cx) {
        self.election = Election::default();
        self.end_manual(cx);
        cx.actions.push(Action::BecomePrimary);
    }

    fn say(&mut self, cause: Cause, cx: &mut Cx) {
        let again_ms = match cause {
            Cause::DataAge => SAY_AGAIN_OF_AGE_MS,
            _ => SAY_AGAIN_MS,
        };
        let is_said =
            |(said, at_ms): (Cause, u64)| said == cause && cx.now.age_ms(at_ms) < again_ms;
        if self.election.said.is_some_and(is_said) {
            return;
        }
        self.election.said = Some((cause, cx.now.ms));
        cx.notice(format!("Currently unable to failover: {}", cause.text()));
        if let Phase::Asked(asked) = &self.election.phase {
            let (needed, count) = (self.table.quorum(), asked.votes.len());
            cx.notice(format!("Needed quorum: {needed}. Number of votes received so far: {count}"));
        }
    }

    pub(super) fn take_vote(&mut self, sender: Option<NodeKey>, header: &Header) {
        let Some(sender) = sender.map(|key| self.table.node(key)) else { return };
        let Phase::Asked(asked) = &mut self.election.phase else { return };
        // One that was given for another epoch may come late.
        if sender.votes() && header.current_epoch == asked.epoch {
            asked.votes.insert(sender.id());
            self.due.election = true;
        }
    }

    /// Somebody who has come to a later epoch votes under ours no more.
    pub(super) fn note_epoch(&mut self, sender: NodeKey, epoch: u64) {
        let Phase::Asked(asked) = &mut self.election.phase else { return };
        if epoch > asked.epoch {
            asked.refused.insert(self.table.node(sender).id());
        }
    }

    /// Somebody has an epoch. If it is the one that we ask for votes under, we cannot have it.
    pub(super) fn note_winner(&mut self, epoch: u64, cx: &Cx) {
        if let Phase::Asked(asked) = &mut self.election.phase
            && asked.epoch == epoch
        {
            asked.contest_ends_ms = Some(cx.now.ms);
            self.due.election = true;
        }
    }

    /// Who is asked for a vote and has something to tell instead does not vote.
    pub(super) fn note_refusal(&mut self, sender: NodeKey) {
        if let Phase::Asked(asked) = &mut self.election.phase {
            asked.refused.insert(self.table.node(sender).id());
            self.due.election = true;
        }
    }

    /// Somebody else asks for votes. If that is another replica of our primary, and it has more
    /// reason to, we leave it to that one.
    fn note_rival(&mut self, rival: NodeKey, epoch: u64, cx: &Cx) {
        let node = self.table.node(rival);
        let is_first = node.primary() == self.table.myself().primary() && self.is_before_us(node);
        // Once: it may ask again and again, and nobody hears it but us.
        let is_news = epoch > self.election.left_epoch;
        let yields = is_first && is_news && !self.manual.may_start();
        match &mut self.election.phase {
            Phase::Waits { .. } | Phase::Asked(_) if yields => {
                let until_ms = cx.now.ms + self.expiry_ms();
                self.election.phase = Phase::Expired { until_ms };
                self.election.left_epoch = epoch;
            }
            Phase::Asked(asked) if epoch >= asked.epoch => {
                asked.contest_ends_ms.get_or_insert(cx.now.ms + CONTEST_MS);
            }
            _ => {}
        }
    }
}

fn request(header: &Header, is_manual: bool) -> Vec<u8> {
    Header { forces_ack: is_manual, ..*header }.bare(Kind::AuthRequest)
}

/// Those who will not ask, or who nobody hears.
const OUT_OF_THE_RUNNING: Flags = Flags::NOFAILOVER.or(Flags::FAIL);

/// Why a vote is not given.
enum Denial {
    Epoch,
    Voted,
    Primary,
    UnknownPrimary,
    PrimaryIsUp,
    VotedLately { left_ms: u64 },
    Outdated { slot: u16, owner: NodeKey },
    GivenAway { slot: u16, owner: NodeKey },
}

/// Voting.
impl Cluster {
    pub(super) fn take_request(
        &mut self,
        link: LinkId,
        sender: Option<NodeKey>,
        header: &Header,
        cx: &mut Cx,
    ) {
        let Some(sender) = sender else { return };
        self.note_rival(sender, header.current_epoch, cx);
        if !self.table.myself().votes() {
            return;
        }
        match self.may_vote(sender, header, cx) {
            Ok(primary) => self.vote(link, sender, primary, cx),
            Err(denial) => self.deny(sender, header, denial, cx),
        }
    }

    /// About whom the vote would be.
    fn may_vote(&self, sender: NodeKey, header: &Header, cx: &Cx) -> Result<NodeKey, Denial> {
        if header.current_epoch < self.table.current_epoch() {
            return Err(Denial::Epoch);
        }
        if self.table.last_vote_epoch() >= self.table.current_epoch() {
            return Err(Denial::Voted);
        }
        let node = self.table.node(sender);
        if node.is_primary() {
            return Err(Denial::Primary);
        }
        let key = node.primary().ok_or(Denial::UnknownPrimary)?;
        let primary = self.table.node(key);
        if !primary.has(Flags::FAIL) && !header.forces_ack {
            return Err(Denial::PrimaryIsUp);
        }
        // Who asks again has not won, and another one may be about to tell that it has.
        if let Some((_, at_ms)) = primary.health.voted_for.filter(|(id, _)| *id != node.id()) {
            let wait_ms = self.settings.node_timeout_ms * VOTE_TIMEOUTS;
            let left_ms = wait_ms.saturating_sub(cx.now.age_ms(at_ms));
            if left_ms > 0 && !header.forces_ack {
                return Err(Denial::VotedLately { left_ms });
            }
        }
        let denial = self.outdated_claim(header);
        denial.or_else(|| self.slot_given_away(sender, key, header, cx)).map_or(Ok(key), Err)
    }

    /// A slot that somebody has under a greater epoch than the one who would have it.
    fn outdated_claim(&self, header: &Header) -> Option<Denial> {
        header.slots.iter().find_map(|slot| {
            let owner = self.table.owner(slot)?;
            let is_newer = self.table.node(owner).config_epoch() > header.config_epoch;
            is_newer.then_some(Denial::Outdated { slot: slot.number(), owner })
        })
    }

    /// A slot that the replica's primary does not claim under the epoch that we know of it: it has
    /// given it away, perhaps, and come to a greater epoch since by another one that it has got.
    /// Its replica may not have heard, and would have the slot back without its keys; real nodes
    /// look at epochs alone, and vote for it. Or else its primary has got the slot, and has told
    /// its replicas alone. So who asks again, having been told what we know, knows better.
    fn slot_given_away(
        &self,
        sender: NodeKey,
        primary: NodeKey,
        header: &Header,
        cx: &Cx,
    ) -> Option<Denial> {
        let told = self.table.node(sender).health.told_of_gift;
        let knows_better = told.is_some_and(|(epoch, at_ms)| {
            epoch < header.current_epoch && cx.now.age_ms(at_ms) < 2 * self.expiry_ms()
        });
        if knows_better || self.table.node(primary).config_epoch() < header.config_epoch {
            return None;
        }
        let owner_of = |slot| {
            let owner = self.table.owner(slot)?;
            let is_others = !self.table.are_in_one_shard(owner, primary);
            is_others.then_some(Denial::GivenAway { slot: slot.number(), owner })
        };
        header.slots.iter().find_map(owner_of)
    }

    fn vote(&mut self, link: LinkId, sender: NodeKey, primary: NodeKey, cx: &mut Cx) {
        let epoch = self.table.current_epoch();
        self.table.set_last_vote_epoch(epoch);
        let voted_for = Some((self.table.node(sender).id(), cx.now.ms));
        self.table.health_mut(primary).voted_for = voted_for;
        self.due.sync = true;
        let link = self.links.connected(sender).unwrap_or(link);
        self.send(link, Kind::AuthAck, |header| header.bare(Kind::AuthAck), cx);
        let named = self.named(sender);
        cx.notice(format!("Failover auth granted to {named} for epoch {epoch}"));
    }

    fn deny(&mut self, sender: NodeKey, header: &Header, denial: Denial, cx: &mut Cx) {
        let (asked, current) = (header.current_epoch, self.table.current_epoch());
        let named = self.named(sender);
        let why = match &denial {
            Denial::Epoch => format!(": reqEpoch ({asked}) < curEpoch({current})"),
            Denial::Voted => format!(": already voted for epoch {current}"),
            Denial::Primary => format!(" for epoch {asked}: it is a primary node"),
            Denial::UnknownPrimary => format!(" for epoch {asked}: I don't know its primary"),
            Denial::PrimaryIsUp => format!(" for epoch {asked}: its primary is up"),
            Denial::VotedLately { left_ms } => {
                format!(": can't vote about this primary before {left_ms} milliseconds")
            }
            Denial::Outdated { slot, owner } => {
                let epoch = self.table.node(*owner).config_epoch();
                format!(": slot {slot} epoch ({epoch}) > reqEpoch ({})", header.config_epoch)
            }
            Denial::GivenAway { slot, owner } => {
                format!(": slot {slot} was given to {}", self.named(*owner))
            }
        };
        cx.log(Level::Warning, format!("Failover auth denied to {named}{why}"));
        // Nobody would ever vote for what it does not know to be outdated.
        match denial {
            Denial::Outdated { .. } => self.correct(sender, header, cx),
            Denial::GivenAway { owner, .. } => {
                self.table.health_mut(sender).told_of_gift = Some((asked, cx.now.ms));
                if let Some(link) = self.links.connected(sender) {
                    self.tell_of_claims(link, owner, cx);
                }
            }
            _ => {}
        }
    }
}
