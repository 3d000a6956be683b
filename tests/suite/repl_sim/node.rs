//! One node: an engine, and around it what the net is to a server. Its threads take their time, as
//! a seed says, and its clocks go as they like.

use super::conn::{Conn, Loan};
use super::port::Port;
use rufous::engine::hold::Told;
use rufous::engine::replication::LinkOrder;
use rufous::engine::transfer::{Recipient, Transfer, TransferReport};
use rufous::engine::{ClientId, Driver, Engine, Now, Peer, SaveJob, Verdict};
use rufous::persist::aof::SyncRequest;
use rufous::persist::fan::Framing;
use rufous::persist::rdb;
use rufous::resp::ReplyBuf;
use rufous::structs::prng::Prng;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

const CRON_US: u64 = 100_000;

pub struct Node {
    pub engine: Engine,
    pub world: World,
}

/// The clocks of a machine.
#[derive(Clone, Copy)]
pub struct Clocks {
    pub mono_us: u64,
    pub unix_us: u64,
    /// Thousandths of a second that the clocks of the node count in one second.
    pub pace: u64,
}

impl Clocks {
    pub fn advance(&mut self, by_us: u64) {
        let by_us = by_us * self.pace / 1000;
        self.mono_us += by_us;
        self.unix_us += by_us;
    }

    pub fn now(self) -> Now {
        Now { unix_us: self.unix_us, mono_us: self.mono_us }
    }
}

pub struct World {
    pub clocks: Clocks,
    pub conns: BTreeMap<ClientId, Conn>,
    pub port: Port,
    pub exit: Option<i32>,
    /// In how many of a hundred cases a snapshot that is sent fails.
    pub transfers_fail: u64,
    prng: Prng,
    cron_us: u64,
    syncs: VecDeque<SyncRequest>,
    saves: VecDeque<SaveJob>,
    /// Snapshots that are being sent, with those who have not got theirs yet.
    transfers: Vec<(u64, Vec<ClientId>, bool)>,
}

impl World {
    pub fn new(clocks: Clocks, seed: u64) -> World {
        World {
            clocks,
            conns: BTreeMap::new(),
            port: Port::default(),
            exit: None,
            transfers_fail: 0,
            prng: Prng::seeded(seed),
            cron_us: 0,
            syncs: VecDeque::new(),
            saves: VecDeque::new(),
            transfers: Vec::new(),
        }
    }

    fn dice(&mut self, one_in: u64) -> bool {
        self.prng.below(one_in) == 0
    }
}

impl Driver for World {
    fn send(&mut self, engine: &mut Engine, client: ClientId, bytes: ReplyBuf, told: Told) {
        if let Some(conn) = self.conns.get_mut(&client) {
            conn.send(&bytes.to_vec(), told, engine.release());
        }
    }

    fn wake(&mut self, _engine: &mut Engine, client: ClientId) {
        if let Some(conn) = self.conns.get_mut(&client) {
            conn.is_suspended = false;
        }
    }

    fn close(&mut self, engine: &mut Engine, client: ClientId) {
        engine.count_out(client);
        if let Some(conn) = self.conns.get_mut(&client) {
            conn.is_closed = true;
        }
    }

    fn close_when_sent(&mut self, _engine: &mut Engine, client: ClientId) {
        if let Some(conn) = self.conns.get_mut(&client) {
            conn.is_closing = true;
        }
    }

    fn sleep(&mut self, _duration: Duration) -> Now {
        self.clocks.now()
    }

    fn sync(&mut self, _engine: &mut Engine, request: SyncRequest) {
        self.syncs.push_back(request);
    }

    fn save(&mut self, _engine: &mut Engine, job: SaveJob) {
        self.saves.push_back(job);
    }

    fn link(&mut self, engine: &mut Engine, order: LinkOrder) {
        self.port.carry_out(engine, order);
    }

    fn transfer(&mut self, engine: &mut Engine, transfer: Transfer) {
        let now_us = self.clocks.mono_us;
        let mut snapshot = Vec::new();
        let mut all = |_| ControlFlow::Continue(());
        rdb::write_repeatably(
            &transfer.content.dataset,
            &transfer.content.options,
            &mut snapshot,
            &mut all,
        )
        .expect("memory takes all");
        let (header, mark) = match transfer.content.framing {
            Framing::EndMark(mark) => ([b"$EOF:", &mark[..], b"\r\n"].concat(), mark.to_vec()),
            Framing::Length => (format!("${}\r\n", snapshot.len()).into_bytes(), Vec::new()),
        };
        let fails = self.prng.below(100) < self.transfers_fail;
        let mut body = [&header[..], &snapshot, &mark].concat();
        if fails {
            body.truncate(self.prng.below(body.len() as u64) as usize);
        }
        let timeout_us =
            u64::try_from(transfer.content.timeout.get().as_micros()).expect("it is short");
        let mut clients = Vec::new();
        for Recipient { client, prelude, .. } in transfer.recipients {
            match self.conns.get_mut(&client).filter(|conn| !conn.has_ended()) {
                Some(conn) => {
                    conn.lend([&prelude[..], &body].concat(), fails, timeout_us, now_us);
                    clients.push(client);
                }
                None => {
                    let reason = "it has ended".to_owned();
                    engine.finish_transfer(TransferReport::Lost { client, reason });
                }
            }
        }
        self.transfers.push((transfer.number, clients, fails));
    }

    fn exit(&mut self, code: i32) {
        self.exit = Some(code);
    }
}

impl Node {
    /// Somebody calls; the connection.
    pub fn accept(&mut self, address: &str) -> ClientId {
        let peer = Peer { address: address.into(), ..Peer::internal() };
        let client = self.engine.connect(peer);
        self.world.conns.insert(client, Conn::default());
        client
    }

    /// What happens in some milliseconds, if the node has a turn in them.
    pub fn turn(&mut self) {
        let Node { engine, world } = self;
        world.forget_ended(engine);
        engine.begin_turn(world.clocks.now(), 0);
        world.carry_out(engine);
        world.end_jobs(engine);
        world.end_loans(engine);
        if world.exit.is_none() && !engine.is_ending() {
            world.serve(engine);
            world.follow_stream(engine);
            world.end_turn(engine);
            world.mark_output(engine);
        }
        if world.exit.is_none() {
            world.run_timer(engine);
            world.mark_output(engine);
        }
    }
}

impl World {
    fn forget_ended(&mut self, engine: &mut Engine) {
        for (client, conn) in &mut self.conns {
            if conn.is_closing && conn.is_empty() {
                conn.is_closed = true;
            }
            if conn.is_closed && !conn.is_forgotten {
                conn.is_forgotten = true;
                engine.disconnect(*client);
            }
        }
        self.conns.retain(|_, conn| !conn.is_forgotten || conn.is_lent());
        self.carry_out(engine);
    }

    /// Other threads have done something, or not yet.
    fn end_jobs(&mut self, engine: &mut Engine) {
        if self.dice(2)
            && let Some(job) = self.saves.pop_front()
        {
            engine.finish_save(job());
            self.carry_out(engine);
        }
        if self.dice(2)
            && let Some(request) = self.syncs.pop_front()
        {
            engine.finish_sync(request.run());
            self.carry_out(engine);
        }
    }

    fn end_loans(&mut self, engine: &mut Engine) {
        let now_us = self.clocks.mono_us;
        let mut reports = Vec::new();
        for (number, clients, fails) in &mut self.transfers {
            clients.retain(|client| {
                let Some(conn) = self.conns.get_mut(client) else { return false };
                match conn.end_loan(*client, now_us) {
                    Loan::Goes => return conn.is_lent(),
                    Loan::Ended(report) => reports.push(report),
                    Loan::Failed => {}
                }
                false
            });
            if clients.is_empty() {
                let failure = fails.then(|| "No space left on device".to_owned());
                reports.push(TransferReport::Ended { number: *number, failure });
            }
        }
        self.transfers.retain(|(_, clients, _)| !clients.is_empty());
        for report in reports {
            engine.finish_transfer(report);
            self.carry_out(engine);
        }
    }

    /// Runs some of what clients have sent.
    fn serve(&mut self, engine: &mut Engine) {
        let mut clients: Vec<ClientId> = self.conns.keys().copied().collect();
        let count = clients.len() as u64;
        clients.rotate_left(self.prng.below(count) as usize);
        for client in clients {
            let most = 1 + self.prng.below(20);
            for _ in 0..most {
                if !self.run_one(engine, client) {
                    break;
                }
            }
        }
    }

    fn run_one(&mut self, engine: &mut Engine, client: ClientId) -> bool {
        if self.exit.is_some() || engine.is_ending() {
            return false;
        }
        let Some(conn) = self.conns.get_mut(&client) else { return false };
        if !conn.may_run(engine, client) {
            return false;
        }
        let verdict = conn.run(engine, client);
        self.carry_out(engine);
        let conn = self.conns.get_mut(&client).expect("it was there");
        match verdict {
            Verdict::Done => return true,
            // What it left behind may have ended the wait already.
            Verdict::Suspended | Verdict::Postponed => {
                conn.is_suspended = engine.is_waiting(client);
            }
            Verdict::Closing => conn.is_closing = true,
            Verdict::Dropped => conn.is_closed = true,
        }
        false
    }

    /// Has the engine look at what has come from the primary.
    fn follow_stream(&mut self, engine: &mut Engine) {
        self.port.load_some(engine, &mut self.prng);
        self.carry_out(engine);
        let windows = self.prng.below(4);
        loop {
            let flow = self.port.look(engine, windows);
            self.carry_out(engine);
            if !self.port.follow(engine, flow) {
                break;
            }
        }
        self.port.tell_end(engine);
        self.carry_out(engine);
    }

    fn mark_output(&mut self, engine: &mut Engine) {
        let (told, release) = (engine.told(), engine.release());
        self.conns.values_mut().for_each(|conn| conn.mark_output(told, release));
    }

    fn run_timer(&mut self, engine: &mut Engine) {
        let is_due = self.clocks.mono_us >= self.cron_us;
        if !is_due && !self.dice(8) {
            return;
        }
        self.cron_us = self.clocks.mono_us + CRON_US;
        engine.tick(self.clocks.now());
        engine.cron();
        engine.end_waits();
        while engine.expire_due() {}
        engine.end_turn();
        self.carry_out(engine);
    }
}
