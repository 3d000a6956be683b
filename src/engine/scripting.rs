//! Scripts on the engine: what is kept for them, and the program that a script is.
//!
//! A script runs on a stack of its own ([`crate::script::run`]) and asks for commands by leaving
//! it. So it is a [`Program`] like a transaction: what it asks for goes through the gates of
//! [`super::gates`], and a script that has run for a while is put aside ([`super::under_way`]).

pub mod debugged;
pub mod functions;

use super::clock::{Lap, Ticks};
use super::program::{Counts, Failure, Program, Step};
use super::propagate::{Position, Targets};
use super::{Caller, Cx, Server, gates};
use crate::command::{
    Args, Command, CommandError, CommandId, CommandResult, Flags, Lookup, Traits,
};
use crate::config::REDIS_VERSION;
use crate::keyspace::KeyHash;
use crate::keyspace::slot::Slot;
use crate::resp::{Protocol, ReplyBuf, Request};
use crate::script::cache::{self, Cache, Digest, Script};
use crate::script::functions::Function;
use crate::script::run::{Answer, Asked, Buffers, Killer, Run, SLICE_NS};
use crate::script::shebang::{self, Flags as Declared};
use crate::script::vm::{Compiled, Fact, Role, Vm};
use debugged::{Evaluator, Talk};
use functions::Functions;
use smallvec::SmallVec;
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

/// A script as it is kept.
pub struct Ready {
    pub compiled: Compiled,
    /// What its first line says, if it has one that does.
    pub declared: Option<Declared>,
}

pub type KeptScript = Rc<Script<Ready>>;

/// What a server keeps for its scripts; next to nothing until the first one runs.
#[derive(Default)]
pub struct Scripting {
    vm: Option<Vm>,
    pub cache: Cache<Ready>,
    pub functions: Functions,
    /// Scripts have run since garbage was collected.
    has_garbage: Cell<bool>,
    /// The one that runs, or is put aside.
    pub running: Option<Running>,
    /// There is one if the script that runs is debugged.
    pub talk: Option<Box<Talk>>,
    /// Scripts may run everything (DEBUG SET-DISABLE-DENY-SCRIPTS).
    pub denies_nothing: bool,
}

/// Which commands end a running script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Script,
    Function,
}

impl Kind {
    fn killer(self) -> Killer {
        match self {
            Kind::Script => Killer::ScriptKill,
            Kind::Function => Killer::FunctionKill,
        }
    }

    pub fn kill_command(self) -> &'static str {
        match self {
            Kind::Script => "SCRIPT KILL",
            Kind::Function => "FUNCTION KILL",
        }
    }
}

/// How a script is named in messages: by its digest, or as a function.
#[derive(Clone)]
pub enum Name {
    Digest(Digest),
    Function(Rc<Function<Compiled>>),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Digest(digest) => f.write_str(&cache::print_digest(digest)),
            Name::Function(function) => function.name.escape_ascii().fmt(f),
        }
    }
}

/// What must be known of the script that runs.
pub struct Running {
    pub kind: Kind,
    pub name: Name,
    /// It was called by a command that lets it write nothing, or says so itself.
    pub is_read_only: bool,
    /// It may write though there was too much data when it began.
    pub allows_oom: bool,
    pub was_over_memory: bool,
    /// It has run a command that may write, so it can be stopped no more.
    pub has_written: bool,
    pub is_killed: bool,
    /// In a cluster it may work in several slots of this node.
    pub may_cross_slots: bool,
    /// The slot that it works in, once that is known.
    pub slot: Option<Slot>,
}

impl Scripting {
    /// Compiles and keeps a script, if it is not known yet.
    fn add(&mut self, body: &[u8], for_good: bool) -> Result<KeptScript, CommandError> {
        if let Some(known) = self.cache.run_body(body) {
            if for_good {
                self.cache.keep(&known.digest);
            }
            return Ok(known);
        }
        let vm = self.vm.as_ref().expect("who adds a script has made a state");
        let header = shebang::parse_script(body).map_err(|error| err(&error.text()))?;
        let (declared, code) = (header.flags, &body[header.len..]);
        let compiled = vm.compile(code).map_err(|error| {
            let text = format!("ERR Error compiling script (new function): {}", error.0);
            CommandError::Text(text.into_boxed_str())
        })?;
        let script = Script::new(body, Ready { compiled, declared });
        Ok(self.cache.add(script, for_good))
    }

    /// Forgets all scripts.
    pub fn flush(&mut self) {
        self.cache.clear();
        self.vm = None;
    }

    fn states(&self) -> impl Iterator<Item = &Vm> {
        self.vm.iter().chain(&self.functions.vm)
    }

    /// Collects garbage for a while, when no script runs: what the last one has left would stay as
    /// long as no other runs. `goes_on` says whether there is still time.
    pub(super) fn collect_garbage(&self, mut goes_on: impl FnMut() -> bool) {
        if self.running.is_some() || !self.has_garbage.get() {
            return;
        }
        let mut is_done = true;
        for vm in self.states() {
            while !vm.collect_some() {
                if !goes_on() {
                    is_done = false;
                    break;
                }
            }
        }
        self.has_garbage.set(!is_done);
    }

    /// What states hold that may be garbage, which nobody has looked at since the last script ran.
    pub fn garbage_bytes(&self) -> usize {
        let bytes = || self.states().map(Vm::memory_bytes).sum();
        if self.has_garbage.get() { bytes() } else { 0 }
    }

    /// Garbage is no memory that scripts use, so a small state is rid of it before it is measured.
    fn collect_if_small(&self) {
        const SMALL_BYTES: usize = 1 << 20;
        if self.states().all(|vm| vm.memory_bytes() < SMALL_BYTES) {
            self.collect_garbage(|| true);
        }
    }

    pub fn figures(&self) -> ScriptFigures {
        self.collect_if_small();
        ScriptFigures {
            vm_eval: self.vm.as_ref().map_or(0, Vm::memory_bytes),
            eval: self.cache.memory_bytes(),
            cached: self.cache.len(),
            vm_functions: self.functions.vm.as_ref().map_or(0, Vm::memory_bytes),
            library_bytes: self.functions.libraries.memory_bytes(),
            libraries: self.functions.libraries.len(),
            functions: self.functions.libraries.functions_len(),
        }
    }
}

/// What scripts cost, for INFO.
#[derive(Default)]
pub struct ScriptFigures {
    /// Memory of the interpreters' states.
    pub vm_eval: usize,
    pub vm_functions: usize,
    /// Memory of what is kept of scripts and of libraries.
    pub eval: usize,
    pub library_bytes: usize,
    pub cached: usize,
    pub libraries: usize,
    pub functions: usize,
}

impl ScriptFigures {
    pub fn vm_total(&self) -> usize {
        self.vm_eval + self.vm_functions
    }

    pub fn total(&self) -> usize {
        self.eval + self.library_bytes
    }
}

/// A small `maxmemory` is about data, and scripts were never bound by it.
const QUARTER_BYTES_MIN: u64 = 256 << 20;
/// A state and the smallest of scripts need so much.
const LIMIT_BYTES_MIN: u64 = 1 << 20;

/// What the states of scripts are made with.
#[derive(Clone, Copy)]
pub(super) struct NewVm {
    seed: u32,
    memory_max: usize,
    ticks: Ticks,
}

impl NewVm {
    fn make(self, role: Role) -> Result<Vm, CommandError> {
        // What scripts are told of the server.
        let facts = [
            ("REDIS_VERSION", Fact::Text(REDIS_VERSION)),
            ("REDIS_VERSION_NUM", Fact::Number(version_number(REDIS_VERSION))),
        ];
        let vm = Vm::new(role, self.seed, &facts).map_err(|_| CommandError::NoMemory)?;
        limit(&vm, self.memory_max);
        vm.set_ticks(self.ticks);
        Ok(vm)
    }
}

/// A version as scripts compare it: a byte for each of its parts.
fn version_number(text: &str) -> f64 {
    let parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    f64::from(parts.fold(0, |number, part| number << 8 | part))
}

/// Beyond so much a script ends unless garbage makes up for it; of twice as much nothing is given.
fn limit(vm: &Vm, memory_max: usize) {
    vm.set_memory_max(memory_max, memory_max.saturating_mul(2));
}

/// What the flags of a command that runs a script count as, by what the script says of itself.
pub(super) fn flags_as_declared(own: Flags, declared: Option<Declared>) -> Flags {
    const SAID: Flags = Flags::DENYOOM.or(Flags::WRITE).or(Flags::STALE).or(Flags::MAY_REPLICATE);
    // One that says nothing may not run on stale data, whatever the command itself may.
    let Some(declared) = declared else { return own.without(Flags::STALE) };
    let mut flags = own.without(SAID);
    for (flag, is_so) in [
        (Flags::DENYOOM, !fits_full_memory(declared)),
        (Flags::WRITE, !declared.has(Declared::NO_WRITES)),
        (Flags::STALE, declared.has(Declared::ALLOW_STALE)),
    ] {
        if is_so {
            flags = flags.or(flag);
        }
    }
    flags
}

impl Server {
    /// The flags that count for a request that runs a script.
    pub(super) fn script_flags(
        &self,
        command: &Command,
        request: &Request<'_>,
        own: Flags,
    ) -> Flags {
        if !command.traits.has(Traits::RUNS_A_SCRIPT) || request.len() < 2 {
            return own;
        }
        let word = request.arg(1);
        // Of one that is not there nothing is known but that, and so it is answered.
        let declared = if command.traits.has(Traits::NAMES_A_DIGEST) {
            let Some(script) = self.scripting.cache.named(word) else { return own };
            script.compiled.declared
        } else if command.traits.has(Traits::NAMES_A_FUNCTION) {
            let function = self.scripting.functions.libraries.function(word);
            let Some(function) = function else { return own };
            Some(function.flags)
        } else {
            shebang::parse_script(word).ok().and_then(|header| header.flags)
        };
        flags_as_declared(own, declared)
    }

    /// How much memory the state of scripts may take.
    fn script_memory_max(&self) -> usize {
        const DEFAULT_BYTES: u64 = 1 << 30;
        let config = &self.config;
        let bytes = match (config.script_memory_limit, config.maxmemory) {
            (0, 0) => DEFAULT_BYTES,
            (0, maxmemory) => (maxmemory / 4).clamp(QUARTER_BYTES_MIN, DEFAULT_BYTES),
            (limit, _) => limit.max(LIMIT_BYTES_MIN),
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    pub(super) fn new_vm(&mut self) -> NewVm {
        let memory_max = self.script_memory_max();
        let seed = self.script_seeds.next_u64() as u32;
        NewVm { seed, memory_max, ticks: self.parts.ticks }
    }

    /// The limit is asked for anew for each script: it may have changed.
    fn limit_scripts(&self) {
        let memory_max = self.script_memory_max();
        self.scripting.states().for_each(|vm| limit(vm, memory_max));
    }

    pub(super) fn warn_of_slow_script(&self, elapsed_ms: u64) {
        let Some(running) = &self.scripting.running else { return };
        tracing::warn!(
            "Slow script detected: still in execution after {elapsed_ms} milliseconds. You can try \
             killing the script using the {} command. Script name is: {}.",
            running.kind.kill_command(),
            running.name
        );
    }

    /// What others are told while a script holds the server.
    pub fn busy_error(&self) -> CommandError {
        CommandError::Fixed(match self.scripting.running.as_ref().map(|running| running.kind) {
            Some(Kind::Function) => {
                "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN \
                 NOSAVE."
            }
            _ => {
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN \
                 NOSAVE."
            }
        })
    }

    /// Ends the script that runs, if it is of this kind and can be ended.
    pub fn kill_script(&mut self, kind: Kind) -> CommandResult {
        let busy = self.busy_error();
        let Some(running) = &self.scripting.running else {
            return Err(CommandError::Fixed("NOTBUSY No scripts in execution right now."));
        };
        if running.has_written {
            return Err(CommandError::Fixed(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. \
                 You can either wait the script termination or kill the server in a hard way using \
                 the SHUTDOWN NOSAVE command.",
            ));
        }
        if running.kind != kind {
            return Err(busy);
        }
        self.end_script();
        Ok(())
    }

    /// Has the script that runs end, if it has not written; false if it has.
    pub(super) fn end_script(&mut self) -> bool {
        let running = self.scripting.running.as_mut().filter(|running| !running.has_written);
        match running {
            Some(running) => {
                running.is_killed = true;
                true
            }
            None => false,
        }
    }
}

/// An `ERR` with a text.
pub fn err(text: &[u8]) -> CommandError {
    CommandError::Bytes([b"ERR ", text].concat().into_boxed_slice())
}

/// Why there is no run: one is in the middle of a call, or there is no memory for its stack.
fn cannot_run(error: std::io::Error) -> CommandError {
    match error.kind() {
        std::io::ErrorKind::ResourceBusy => gates::NOT_FOR_SCRIPTS,
        _ => CommandError::NoMemory,
    }
}

fn fits_full_memory(declared: Declared) -> bool {
    declared.has(Declared::ALLOW_OOM) || declared.has(Declared::NO_WRITES)
}

/// A script that is about to run.
pub struct Start {
    pub kind: Kind,
    pub name: Name,
    pub declared: Option<Declared>,
    /// The command lets it write nothing.
    pub is_read_only: bool,
}

impl Cx<'_> {
    /// The script of a body, compiled unless it is known. One that is to run is kept for as long as
    /// it is among the last ones; one that is loaded stays.
    pub fn script_of(&mut self, body: &[u8], for_good: bool) -> Result<KeptScript, CommandError> {
        if self.server.scripting.vm.is_none() {
            let vm = self.server.new_vm().make(Role::Scripts)?;
            self.server.scripting.vm = Some(vm);
        }
        self.server.scripting.add(body, for_good)
    }

    /// Runs a script when the handler has ended, with the arguments that are left, the first of
    /// which are keys.
    pub fn start_script(
        &mut self,
        start: Start,
        script: &KeptScript,
        keys: usize,
        args: &Args<'_>,
    ) -> CommandResult {
        if self.server.scripting.talk.is_some() {
            return self.debug_script(start, script, keys, args);
        }
        let vm = self.server.scripting.vm.as_ref().expect("what is compiled has a state");
        let known = known_hashes(args, keys);
        let (keys, rest) = split_words(args, keys);
        let compiled = &script.compiled.compiled;
        let run = Run::new(vm, compiled, keys, rest, self.reply.protocol());
        self.start_run(start, run, None, known)
    }

    /// The same with a function.
    pub fn start_function(
        &mut self,
        start: Start,
        callback: &Compiled,
        keys: usize,
        args: &Args<'_>,
    ) -> CommandResult {
        let vm = self.server.scripting.functions.vm.as_ref().expect("what is compiled has a state");
        let known = known_hashes(args, keys);
        let (keys, rest) = split_words(args, keys);
        let run = Run::of_function(vm, callback, keys, rest, self.reply.protocol());
        self.start_run(start, run, None, known)
    }

    fn start_run(
        &mut self,
        start: Start,
        run: std::io::Result<Run>,
        evaluator: Option<Box<Evaluator>>,
        known_hashes: KnownHashes,
    ) -> CommandResult {
        if self.server.scripting.running.is_some() {
            return Err(gates::NOT_FOR_SCRIPTS);
        }
        self.script_may_start(start.declared, start.is_read_only)?;
        let run = run.map_err(cannot_run)?;
        self.server.limit_scripts();
        self.server.scripting.has_garbage.set(true);
        let first_key = known_hashes.first().filter(|_| self.server.cluster.is_some());
        let first_slot = first_key.map(|hash| hash.slot());
        let may_cross_slots = start.declared.is_none_or(|own| own.has(Declared::ALLOW_CROSS_SLOT));
        if let Some(usage) = self.server.slot_usage.as_mut().filter(|_| may_cross_slots) {
            usage.follow_script(None);
        }
        let says_no_writes = start.declared.is_some_and(|own| own.has(Declared::NO_WRITES));
        self.server.scripting.running = Some(Running {
            kind: start.kind,
            name: start.name,
            is_read_only: start.is_read_only || says_no_writes,
            allows_oom: start.declared.is_some_and(fits_full_memory),
            was_over_memory: self.server.is_over_memory(),
            has_written: false,
            is_killed: false,
            may_cross_slots,
            slot: first_slot,
        });
        let program = ScriptProgram {
            run,
            evaluator,
            asked: None,
            known_hashes,
            slice_began: None,
            db: self.keys.db,
            stream_start: self.server.propagation.position(),
        };
        self.go_on_with(program);
        Ok(())
    }

    /// Whether a script may start that says this of itself.
    fn script_may_start(&self, declared: Option<Declared>, is_read_only: bool) -> CommandResult {
        let Some(declared) = declared else { return Ok(()) };
        if self.caller.was_accepted_before() {
            return Ok(());
        }
        if declared.has(Declared::NO_CLUSTER) && self.server.cluster.is_some() {
            return Err(CommandError::Fixed(
                "ERR Can not run script on cluster, 'no-cluster' flag is set.",
            ));
        }
        if !declared.has(Declared::NO_WRITES) {
            gates::script_may_write(self)?;
            if is_read_only {
                return Err(CommandError::Fixed(
                    "ERR Can not execute a script with write flag using *_ro command.",
                ));
            }
        }
        if self.server.is_over_memory() && !fits_full_memory(declared) {
            return Err(CommandError::Fixed(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > \
                 'maxmemory'",
            ));
        }
        Ok(())
    }
}

/// The arguments that are left: so many keys, and what stands behind them.
fn split_words<'a>(
    args: &Args<'a>,
    keys: usize,
) -> (impl Iterator<Item = &'a [u8]>, impl Iterator<Item = &'a [u8]>) {
    let request = args.request();
    let first = request.len() - args.remaining();
    let words = move |range: Range<usize>| range.map(move |at| request.arg(at));
    (words(first..first + keys), words(first + keys..request.len()))
}

/// The hashes of the first keys that a script was given: most of what it calls is for these.
type KnownHashes = SmallVec<[KeyHash; 2]>;

fn known_hashes(args: &Args<'_>, keys: usize) -> KnownHashes {
    let mut ahead = args.clone();
    (0..keys.min(KnownHashes::new().inline_size())).map(|_| ahead.key().hash()).collect()
}

/// A script that runs.
struct ScriptProgram {
    run: Run,
    /// There is one if it is debugged.
    evaluator: Option<Box<Evaluator>>,
    /// What it has asked for, and the reply to that, until it goes on.
    asked: Option<Box<Buffers>>,
    known_hashes: KnownHashes,
    /// Since when others wait.
    slice_began: Option<Lap>,
    /// The database of its client.
    db: usize,
    stream_start: Position,
}

impl Program for ScriptProgram {
    fn caller(&self) -> Caller {
        Caller::Script
    }

    fn protocol(&self) -> Option<Protocol> {
        Some(self.active_protocol())
    }

    fn targets(&self) -> Targets {
        Targets::of_mask(self.run.targets())
    }

    fn step(&mut self, cx: &mut Cx<'_>) -> Step {
        if self.is_slice_over(cx.server.clock.lap()) {
            return Step::Yield;
        }
        loop {
            let killed = cx.server.scripting.running.as_ref().filter(|own| own.is_killed);
            let killed = killed.map(|own| Answer::Kill(own.kind.killer()));
            let answer = killed.or_else(|| self.listen(cx)).unwrap_or(Answer::Go);
            let buffers = self.asked.take();
            let run = self.active();
            if let Some(buffers) = buffers {
                run.give_buffers(buffers);
            }
            let asked = run.resume(answer);
            if matches!(asked, Asked::Call | Asked::MayCall) {
                let mut buffers = run.take_buffers();
                buffers.reply.clear();
                self.asked = Some(buffers);
            }
            match asked {
                Asked::Slice => {
                    self.slice_began = None;
                    return Step::Yield;
                }
                Asked::Stopped => {
                    self.slice_began = None;
                    self.stand(cx);
                    return Step::Yield;
                }
                Asked::Evaluate => self.begin_evaluation(),
                Asked::Done if self.end_evaluation() => {}
                Asked::Done => return Step::Done(self.finish(cx)),
                Asked::MayCall => self.answer_may_call(cx),
                Asked::Call => {
                    if let Some(id) = self.find_command(cx) {
                        return Step::Call(id);
                    }
                }
            }
        }
    }

    fn known_hash(&self, at: usize) -> Option<KeyHash> {
        let request = self.asked.as_ref()?.request.as_request();
        let key = (at < request.len()).then(|| request.arg(at))?;
        self.run.position_of_key(key).and_then(|at| self.known_hashes.get(at)).copied()
    }

    fn call(&mut self) -> (Request<'_>, &mut ReplyBuf) {
        let Buffers { request, reply } = self.buffers();
        (request.as_request(), reply)
    }
}

impl ScriptProgram {
    /// Whether the commands that the script has run have taken so long that others are looked after
    /// before it goes on. The script looks after its own time by itself.
    fn is_slice_over(&mut self, now: Lap) -> bool {
        let began = *self.slice_began.get_or_insert(now);
        let is_over = now.ns_since(began) > SLICE_NS;
        if is_over {
            self.slice_began = None;
        }
        is_over
    }

    fn buffers(&mut self) -> &mut Buffers {
        self.asked.as_mut().expect("a call was asked for")
    }

    /// Whether the client may run what the script names, be it complete or not.
    fn answer_may_call(&mut self, cx: &mut Cx<'_>) {
        let protocol = self.active_protocol();
        let Buffers { request, reply } = self.buffers();
        let (request, mut reply) = (request.as_request(), reply.writer(protocol));
        match cx.might_run(&request) {
            Some(may) => reply.integer(i64::from(may)),
            None => reply.error(b"ERR Invalid command passed to redis.acl_check_cmd()"),
        }
    }

    /// The command that the script has asked for, if there is one that takes so many words; if not
    /// the error is the reply.
    fn find_command(&mut self, cx: &mut Cx<'_>) -> Option<CommandId> {
        let request = self.buffers().request.as_request();
        let (id, error) = match cx.server.table.lookup(&request) {
            Lookup::Found(id) => {
                if cx.server.table.row(id).command.arity.accepts(request.len()) {
                    return Some(id);
                }
                (Some(id), "ERR Wrong number of args calling Redis command from script")
            }
            Lookup::UnknownSubcommand(id) if request.len() < 2 => {
                (Some(id), "ERR Wrong number of args calling Redis command from script")
            }
            _ => (None, "ERR Unknown Redis command called from script"),
        };
        if let Some(id) = id {
            cx.server.stats.rejected(id);
        }
        cx.server.stats.error(error.as_bytes());
        let protocol = self.active_protocol();
        self.buffers().reply.writer(protocol).error(error.as_bytes());
        self.active().note_refusal();
        None
    }

    /// The script has ended: its value is the reply.
    fn finish(&mut self, cx: &mut Cx<'_>) -> Result<(), Failure> {
        cx.select(self.db);
        let result = self.run.write_result(&mut cx.reply);
        self.end_talk(cx);
        let running = cx.server.scripting.running.take();
        if !cx.caller.is_within_transaction() {
            cx.server.propagation.wrap_transaction(self.stream_start);
        }
        // What it has written stands in the stream; how it came to that is nobody's to repeat.
        cx.propagate_as(&[]);
        let Err(failure) = result else { return Ok(()) };
        let mut text = failure.text;
        if let (Some((source, line)), Some(running)) = (failure.place, running) {
            text.extend(format!(" script: {}, on ", running.name).into_bytes());
            text.extend([&source[..], b":", &line, b"."].concat());
        }
        let error = CommandError::Bytes(text.into_boxed_slice());
        let counts = if failure.is_counted { Counts::Not } else { Counts::AsScripts };
        Err(Failure { error, counts })
    }
}

#[cfg(test)]
mod tests;
