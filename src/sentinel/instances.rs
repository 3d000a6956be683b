//! Who is watched: masters, and of each its replicas and the other Sentinels that watch it.
//!
//! Instances live in one arena and know each other by number, so that one that is gone is simply
//! not found by a reply that is still on its way. Fields that only one kind has lie together.

use super::links::LinkKey;
use super::names::Address;
use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

/// The number of an instance; none is used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Id(u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Master,
    Replica,
    Sentinel,
}

impl Kind {
    /// As events name it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Master => "master",
            Kind::Replica => "slave",
            Kind::Sentinel => "sentinel",
        }
    }
}

/// What is known of an instance beside its numbers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flags(u16);

impl Flags {
    pub const S_DOWN: Flags = Flags(1);
    pub const O_DOWN: Flags = Flags(1 << 1);
    /// A Sentinel that says that the master is down.
    pub const MASTER_DOWN: Flags = Flags(1 << 2);
    pub const FAILOVER: Flags = Flags(1 << 3);
    pub const PROMOTED: Flags = Flags(1 << 4);
    pub const RECONF_SENT: Flags = Flags(1 << 5);
    pub const RECONF_INPROG: Flags = Flags(1 << 6);
    pub const RECONF_DONE: Flags = Flags(1 << 7);
    pub const FORCED: Flags = Flags(1 << 8);
    pub const SCRIPT_KILL_SENT: Flags = Flags(1 << 9);
    pub const REBOOTED: Flags = Flags(1 << 10);

    /// Their words, in the order in which SENTINEL MASTER lists them behind the kind.
    pub const WORDS: &[(Flags, &str)] = &[
        (Flags::MASTER_DOWN, "master_down"),
        (Flags::FAILOVER, "failover_in_progress"),
        (Flags::PROMOTED, "promoted"),
        (Flags::RECONF_SENT, "reconf_sent"),
        (Flags::RECONF_INPROG, "reconf_inprog"),
        (Flags::RECONF_DONE, "reconf_done"),
        (Flags::FORCED, "force_failover"),
        (Flags::SCRIPT_KILL_SENT, "script_kill_sent"),
        (Flags::REBOOTED, "master_reboot"),
    ];

    pub const fn or(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub fn has(self, any_of: Flags) -> bool {
        self.0 & any_of.0 != 0
    }

    pub fn add(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    pub fn remove(&mut self, other: Flags) {
        self.0 &= !other.0;
    }
}

/// Where a failover has come to. ORDER: the later ones compare as greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum State {
    #[default]
    None,
    WaitStart,
    SelectSlave,
    SendSlaveofNoOne,
    WaitPromotion,
    ReconfSlaves,
    UpdateConfig,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            State::None => "none",
            State::WaitStart => "wait_start",
            State::SelectSlave => "select_slave",
            State::SendSlaveofNoOne => "send_slaveof_noone",
            State::WaitPromotion => "wait_promotion",
            State::ReconfSlaves => "reconf_slaves",
            State::UpdateConfig => "update_config",
        }
    }
}

/// A role as INFO tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Master,
    Replica,
    /// INFO says none: of a Sentinel, or of something else altogether.
    Unknown,
}

pub struct Instance {
    pub kind: Kind,
    pub name: String,
    /// The master that a replica or a Sentinel belongs to.
    pub master: Option<Id>,
    pub run_id: Option<String>,
    pub address: Address,
    pub link: LinkKey,
    pub flags: Flags,
    pub down_after_ms: u64,
    pub published_ms: u64,
    pub s_down_since_ms: Option<u64>,
    pub o_down_since_ms: Option<u64>,
    pub info_ms: Option<u64>,
    /// The last answer to INFO.
    pub info: Option<Vec<u8>>,
    pub role_reported: Role,
    pub role_reported_ms: u64,
    pub group: Group,
    pub replica: Replica,
    pub voter: Voter,
}

/// What only a master has.
pub struct Group {
    pub replicas: Vec<Id>,
    pub sentinels: Vec<Id>,
    pub quorum: u32,
    pub parallel_syncs: u64,
    pub failover_timeout_ms: u64,
    pub reboot_down_after_ms: u64,
    pub rebooted_ms: Option<u64>,
    pub auth_pass: Option<String>,
    pub auth_user: Option<String>,
    pub notification_script: Option<String>,
    pub client_reconfig_script: Option<String>,
    /// What commands are called there, by their names in lower case.
    pub renamed: BTreeMap<String, String>,
    pub config_epoch: u64,
    /// For whom this Sentinel has voted last, in which epoch, and which generation of the file
    /// holds that.
    pub leader: Option<String>,
    pub leader_epoch: u64,
    pub vote_generation: u64,
    pub failover_epoch: u64,
    pub state: State,
    pub state_changed_ms: u64,
    /// When the last failover started here or elsewhere, or is to start.
    pub failover_start_ms: Option<u64>,
    pub delay_logged_ms: Option<u64>,
    pub promoted: Option<Id>,
}

impl Group {
    fn new(quorum: u32, failover_timeout_ms: u64) -> Group {
        Group {
            replicas: Vec::new(),
            sentinels: Vec::new(),
            quorum,
            parallel_syncs: PARALLEL_SYNCS,
            failover_timeout_ms,
            reboot_down_after_ms: 0,
            rebooted_ms: None,
            auth_pass: None,
            auth_user: None,
            notification_script: None,
            client_reconfig_script: None,
            renamed: BTreeMap::new(),
            config_epoch: 0,
            leader: None,
            leader_epoch: 0,
            vote_generation: 0,
            failover_epoch: 0,
            state: State::None,
            state_changed_ms: 0,
            failover_start_ms: None,
            delay_logged_ms: None,
            promoted: None,
        }
    }
}

/// What only a replica has: its own account of itself.
pub struct Replica {
    /// For how long its link to the master has been down; zero while it is up.
    pub link_down_ms: u64,
    pub is_link_up: bool,
    pub master_host: Option<String>,
    pub master_port: u16,
    pub priority: i64,
    pub offset: u64,
    pub is_announced: bool,
    /// When it last named another master than before.
    pub changed_ms: u64,
    pub reconf_sent_ms: Option<u64>,
}

/// What only another Sentinel has: what it said of the master, and for whom it has voted.
pub struct Voter {
    pub hello_ms: u64,
    pub answered_ms: u64,
    pub leader: Option<String>,
    pub leader_epoch: u64,
}

pub const PARALLEL_SYNCS: u64 = 1;
const PRIORITY: i64 = 100;

/// What an instance begins with.
pub struct Birth {
    pub kind: Kind,
    pub name: String,
    pub master: Option<Id>,
    pub address: Address,
    pub link: LinkKey,
    pub quorum: u32,
    pub down_after_ms: u64,
    pub failover_timeout_ms: u64,
    pub now_ms: u64,
}

impl Instance {
    fn new(birth: Birth) -> Instance {
        let now_ms = birth.now_ms;
        let is_replica = birth.kind == Kind::Replica;
        Instance {
            kind: birth.kind,
            name: birth.name,
            master: birth.master,
            run_id: None,
            address: birth.address,
            link: birth.link,
            flags: Flags::default(),
            down_after_ms: birth.down_after_ms,
            published_ms: now_ms,
            s_down_since_ms: None,
            o_down_since_ms: None,
            info_ms: None,
            info: None,
            role_reported: if is_replica { Role::Replica } else { Role::Master },
            role_reported_ms: now_ms,
            group: Group::new(birth.quorum, birth.failover_timeout_ms),
            replica: Replica {
                link_down_ms: 0,
                is_link_up: false,
                master_host: None,
                master_port: 0,
                priority: PRIORITY,
                offset: 0,
                is_announced: true,
                changed_ms: now_ms,
                reconf_sent_ms: None,
            },
            voter: Voter { hello_ms: now_ms, answered_ms: now_ms, leader: None, leader_epoch: 0 },
        }
    }

    pub fn is_down(&self) -> bool {
        self.flags.has(Flags::S_DOWN.or(Flags::O_DOWN))
    }
}

/// All instances.
#[derive(Default)]
pub struct Instances {
    all: BTreeMap<Id, Instance>,
    masters: Vec<Id>,
    next: u64,
}

impl Instances {
    /// Time begins: nothing has been as it is before.
    pub fn begin(&mut self, now_ms: u64) {
        for instance in self.all.values_mut() {
            instance.published_ms = now_ms;
            instance.role_reported_ms = now_ms;
            instance.replica.changed_ms = now_ms;
            instance.voter.hello_ms = now_ms;
            instance.voter.answered_ms = now_ms;
        }
    }

    /// Adds an instance behind the others of its kind.
    pub fn add(&mut self, birth: Birth) -> Id {
        let id = Id(self.next);
        self.next += 1;
        let list = match (birth.kind, birth.master) {
            (Kind::Replica, Some(master)) => &mut self[master].group.replicas,
            (Kind::Sentinel, Some(master)) => &mut self[master].group.sentinels,
            _ => &mut self.masters,
        };
        list.push(id);
        self.all.insert(id, Instance::new(birth));
        id
    }

    /// Takes an instance out, and of a master all that belongs to it; the links they had.
    pub fn remove(&mut self, id: Id) -> Vec<LinkKey> {
        let Some(instance) = self.all.remove(&id) else { return Vec::new() };
        let mut links = vec![instance.link];
        for member in instance.group.replicas.into_iter().chain(instance.group.sentinels) {
            links.extend(self.remove(member));
        }
        self.masters.retain(|other| *other != id);
        if let Some(group) = instance.master.and_then(|master| self.all.get_mut(&master)) {
            let group = &mut group.group;
            group.replicas.retain(|other| *other != id);
            group.sentinels.retain(|other| *other != id);
            group.promoted = group.promoted.filter(|other| *other != id);
        }
        links
    }

    pub fn get(&self, id: Id) -> Option<&Instance> {
        self.all.get(&id)
    }

    pub fn masters(&self) -> &[Id] {
        &self.masters
    }

    /// Everybody with this link.
    pub fn with_link(&self, link: LinkKey) -> impl Iterator<Item = Id> {
        self.all.iter().filter(move |(_, instance)| instance.link == link).map(|(id, _)| *id)
    }

    pub fn ids(&self) -> Vec<Id> {
        self.all.keys().copied().collect()
    }

    /// The master of a replica or Sentinel; a master is its own.
    pub fn master_of(&self, id: Id) -> Id {
        self[id].master.unwrap_or(id)
    }

    /// The other Sentinel of this run id that watches a master.
    pub fn sentinel_of(&self, master: Id, run_id: &str) -> Option<Id> {
        let mut ids = self[master].group.sentinels.iter().copied();
        ids.find(|id| self[*id].run_id.as_deref() == Some(run_id))
    }
}

impl Index<Id> for Instances {
    type Output = Instance;

    fn index(&self, id: Id) -> &Instance {
        self.all.get(&id).expect("whoever holds the number of one that may be gone asks get")
    }
}

impl IndexMut<Id> for Instances {
    fn index_mut(&mut self, id: Id) -> &mut Instance {
        self.all.get_mut(&id).expect("whoever holds the number of one that may be gone asks get")
    }
}
