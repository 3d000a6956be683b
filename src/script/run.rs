//! One script's run: on a stack of its own, which is left whenever the script asks for something.
//!
//! Lua calls the host from any depth: in a comparator of `table.sort`, under a `pcall`, in a
//! coroutine of the script's. Its own way of yielding does not lead out of all of these, so the
//! whole of it runs on another stack (`corosensei`), and asking is to leave that stack: the engine
//! goes on where it resumed the run, has what was asked for done, and resumes it with the answer.
//! Nothing of the engine is on the script's stack, and nothing of the engine's is borrowed there.
//!
//! All of a run is one protected call on that stack: making the tables of arguments, the script,
//! and writing its value. So each of these can be put aside, be killed, and run out of memory.
#![allow(unsafe_code)]

use super::convert::{self, Failure};
use super::debugger::{self, Debugger};
use super::lua::{Call, Collection, Kind, Pin, Raised, Stack, State, Status};
use super::memory::Memory;
use super::pattern::cache::Patterns;
use super::random::Rand48;
use super::vm::{Arguments, Compiled, Names, Registered, Vm};
use crate::resp::{OwnedRequest, Protocol, Reply, ReplyBuf};
use corosensei::stack::{DefaultStack, Stack as _};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, OnceCell, Ref, RefCell, RefMut};
use std::io;
use std::rc::Rc;

/// The script's stack; its memory is there when it is touched.
const STACK_BYTES: usize = 16 << 20;
/// So much of it is left when a script is told that it has no more: the interpreter checks its own
/// stack and not this one, and between two looks at it a script can go some 300 levels down, of at
/// most 8 KiB each (a buffer of `string.gsub`).
const STACK_RESERVE_BYTES: usize = 3 << 20;
/// So many instructions run between two looks at whether the script is to stop.
pub(super) const HOOK_INSTRUCTIONS: u32 = 1000;
/// After so many instructions, or what costs as much, a script is put aside for others: one to
/// three milliseconds.
const SLICE_INSTRUCTIONS: u64 = 1_000_000;
/// What an instruction costs has no bound: it may make a string of a gigabyte. So a script is put
/// aside after so long, too, where somebody measures the time.
pub const SLICE_NS: u64 = 3_000_000;
/// When the instructions between two looks take longer than this, the script is looked at more
/// often, until they take next to no time again.
const LOOK_NS_MAX: u64 = 1_000_000;
const LOOK_NS_MIN: u64 = 20_000;
const CLOSE_HOOK_INSTRUCTIONS: u32 = 10;
/// An instruction may go through all that is in large blocks, and was cheap until it did: the more
/// there is beyond so much, the fewer instructions run between two looks.
const LARGE_BYTES_UNWATCHED: usize = 4 << 20;
/// Going through what is left costs as much as it is, and there is always what was made with the
/// state: while that is nearly all, garbage is collected less often than the interpreter would.
const SMALL_STATE_BYTES: usize = 1 << 20;
const SMALL_STATE_PAUSE: i32 = 400;
const LARGE_STATE_PAUSE: i32 = 200;
/// The interpreter puts strings together in a buffer of its own, half of which is freed each time
/// that garbage is collected.
const COLLECTIONS_MAX: u32 = 3;
/// A byte of a large block that is made takes so much less than an instruction.
const LARGE_BYTES_PER_INSTRUCTION: usize = 16;
/// What a call counts for, and each so many bytes of its reply.
const CALL_INSTRUCTIONS: u64 = 500;
const REPLY_BYTES_PER_INSTRUCTION: u64 = 64;
/// A byte that is converted or hashed takes so much less than an instruction.
const BYTES_PER_INSTRUCTION: u64 = 4;
/// Buffers that a run has made longer are not kept for the next one.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// What a run wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// [`Run::request`] is to be run, and its reply put into [`Run::reply`].
    Call,
    /// The reply is to be `:1` if the script's client may run [`Run::request`], `:0` if not, or the
    /// error that such a request is.
    MayCall,
    /// It has run for a while and may go on.
    Slice,
    /// It stands in the debugger until its client has told it what to do ([`Run::tell`]), or has
    /// left ([`Run::let_alone`]).
    Stopped,
    /// [`Run::take_code`] is to be evaluated, and the outcome to be given to [`Run::say`].
    Evaluate,
    /// It has ended; [`Run::write_result`] says how.
    Done,
}

/// What it is told when it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Go,
    /// It is to end, whatever it does about it.
    Kill(Killer),
}

/// Who ends a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Killer {
    ScriptKill,
    FunctionKill,
    /// A library has taken too long to load.
    LoadTimeout,
    /// Code that was evaluated in the debugger has.
    EvaluationTimeout,
}

impl Killer {
    fn text(self) -> &'static str {
        match self {
            Killer::ScriptKill => "ERR Script killed by user with SCRIPT KILL...",
            // Redis names SCRIPT KILL here, too; Valkey says which it was.
            Killer::FunctionKill => "ERR Script killed by user with FUNCTION KILL...",
            Killer::LoadTimeout => "ERR FUNCTION LOAD timeout",
            Killer::EvaluationTimeout => "ERR timeout reached, infinite loop?",
        }
    }
}

/// Why a script ends that would go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Killed(Killer),
    OutOfMemory,
    /// By this error.
    Broken(&'static str),
}

const OUT_OF_MEMORY: &str = "ERR not enough memory";

/// What runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    /// A script that finds its arguments among the globals, if it looks for them.
    Script(Arguments),
    /// A function that is given them.
    Function,
    /// A library, whose value is of no consequence.
    Library,
    /// Code that somebody who debugs a script wants to see the value of.
    Evaluation,
}

/// What a script asks for, and the reply to that.
#[derive(Default)]
pub struct Buffers {
    pub request: OwnedRequest,
    pub reply: ReplyBuf,
}

impl Buffers {
    /// Lets go of what has become long.
    fn tidy(&mut self) {
        if self.request.memory() > KEPT_BYTES_MAX {
            self.request = OwnedRequest::default();
        }
        tidy_reply(&mut self.reply);
    }
}

fn tidy_reply(buffer: &mut ReplyBuf) {
    if buffer.own_memory() + buffer.len() > KEPT_BYTES_MAX {
        *buffer = ReplyBuf::default();
    }
}

/// What a state's functions and the engine's side share.
pub struct Host {
    pub(super) memory: Memory,
    memory_soft_max: Cell<usize>,
    names: OnceCell<Names>,
    /// Set while a run's stack is in use.
    yielder: Cell<*const Yielder<Answer, Asked>>,
    /// Below this address the stack in use has only its reserve.
    stack_floor: Cell<usize>,
    spare_stack: RefCell<Option<DefaultStack>>,
    ending: Cell<Option<Ending>>,
    spent: Cell<u64>,
    /// A monotonic reading in nanoseconds; of those who measure nothing, always 0.
    ticks: Cell<fn() -> u64>,
    /// When the slice was first looked at, and when it was last.
    slice_began: Cell<Option<u64>>,
    looked_at: Cell<Option<u64>>,
    is_watched_closely: Cell<bool>,
    /// So many instructions run between two looks.
    instructions_a_look: Cell<u32>,
    is_small: Cell<bool>,
    task: Cell<(Task, Option<Pin>)>,
    keys: RefCell<OwnedRequest>,
    args: RefCell<OwnedRequest>,
    /// Not here while the engine has them.
    buffers: RefCell<Option<Box<Buffers>>>,
    result: RefCell<ReplyBuf>,
    failure: RefCell<Option<Failure>>,
    client_protocol: Cell<Protocol>,
    pub(super) protocol: Cell<Protocol>,
    pub(super) targets: Cell<u8>,
    pub(super) random: RefCell<Rand48>,
    pub(super) patterns: RefCell<Patterns>,
    /// What the library that is loading has registered.
    pub(super) registered: RefCell<Option<Vec<Registered<Pin>>>>,
    /// There is one if what runs is debugged.
    debugger: RefCell<Option<Box<Debugger>>>,
}

impl Host {
    pub(super) fn new(random: Rand48) -> Host {
        Host {
            memory: Memory::default(),
            memory_soft_max: Cell::new(usize::MAX),
            names: OnceCell::new(),
            yielder: Cell::new(std::ptr::null()),
            stack_floor: Cell::new(0),
            spare_stack: RefCell::default(),
            ending: Cell::new(None),
            spent: Cell::new(0),
            ticks: Cell::new(|| 0),
            slice_began: Cell::new(None),
            looked_at: Cell::new(None),
            is_watched_closely: Cell::new(false),
            instructions_a_look: Cell::new(HOOK_INSTRUCTIONS),
            is_small: Cell::new(false),
            task: Cell::new((Task::Library, None)),
            keys: RefCell::default(),
            args: RefCell::default(),
            buffers: RefCell::default(),
            result: RefCell::default(),
            failure: RefCell::default(),
            client_protocol: Cell::new(Protocol::Resp2),
            protocol: Cell::new(Protocol::Resp2),
            targets: Cell::new(super::vm::target::ALL),
            random: RefCell::new(random),
            patterns: RefCell::default(),
            registered: RefCell::default(),
            debugger: RefCell::default(),
        }
    }

    pub(super) fn names(&self) -> &Names {
        self.names.get().expect("names are made before anything else")
    }

    pub(super) fn set_names(&self, names: Names) {
        _ = self.names.set(names);
    }

    /// How much the state may hold: `soft` is looked at now and then, and garbage is collected
    /// before a script ends for it; `hard` is never passed.
    pub(super) fn set_memory_max(&self, soft: usize, hard: usize) {
        self.memory_soft_max.set(soft);
        self.memory.set_max(hard);
    }

    pub(super) fn set_ticks(&self, ticks: fn() -> u64) {
        self.ticks.set(ticks);
    }

    /// Who debugs what runs; not to be kept when the script's stack is left.
    pub(super) fn debugger(&self) -> RefMut<'_, Option<Box<Debugger>>> {
        self.debugger.borrow_mut()
    }

    fn buffers(&self) -> RefMut<'_, Buffers> {
        RefMut::map(self.buffers.borrow_mut(), |buffers| &mut **buffers.get_or_insert_default())
    }

    /// What is asked for next; not to be kept when the script's stack is left.
    pub(super) fn request(&self) -> RefMut<'_, OwnedRequest> {
        RefMut::map(self.buffers(), |buffers| &mut buffers.request)
    }

    /// The reply to what was asked for.
    pub(super) fn reply(&self) -> Ref<'_, ReplyBuf> {
        Ref::map(self.buffers.borrow(), |buffers| {
            &buffers.as_ref().expect("who goes on has its buffers back").reply
        })
    }

    /// Leaves the script's stack until it is resumed.
    pub(super) fn ask(&self, asked: Asked) -> Result<(), Raised> {
        let yielder = self.yielder.get();
        if yielder.is_null() {
            return Err(Raised::text("no script is running"));
        }
        // SAFETY: the pointer is set by the closure that runs on the script's stack, to the
        // yielder that it was given, and unset before that closure returns; what calls this runs
        // on that stack, above that closure.
        match unsafe { (*yielder).suspend(asked) } {
            Answer::Go => Ok(()),
            Answer::Kill(killer) => Err(self.end(Ending::Killed(killer))),
        }
    }

    #[cold]
    fn end(&self, ending: Ending) -> Raised {
        self.ending.set(Some(ending));
        Raised::Ended
    }

    /// Ends the script by an error that it cannot catch.
    #[cold]
    pub(super) fn end_by(&self, text: &'static str) -> Raised {
        self.end(Ending::Broken(text))
    }

    #[cold]
    pub(super) fn end_for_memory(&self) -> Raised {
        self.end(Ending::OutOfMemory)
    }

    /// Counts what has been done, and lets others in when it is much.
    pub(super) fn spend(&self, instructions: u64) -> Result<(), Raised> {
        if self.ending.get().is_some() {
            return Err(Raised::Ended);
        }
        self.spent.set(self.spent.get() + instructions);
        match self.spent.get() >= SLICE_INSTRUCTIONS {
            true => self.end_slice(),
            false => Ok(()),
        }
    }

    /// Counts bytes that have been read or made one by one.
    pub(super) fn spend_on(&self, bytes: usize) -> Result<(), Raised> {
        self.spend(bytes as u64 / BYTES_PER_INSTRUCTION)
    }

    fn end_slice(&self) -> Result<(), Raised> {
        self.begin_slice();
        self.ask(Asked::Slice)
    }

    fn begin_slice(&self) {
        self.spent.set(0);
        self.slice_began.set(None);
        self.looked_at.set(None);
    }

    /// Looks at the clock: more often if what has passed since the last look was much. Whether the
    /// slice has lasted long enough.
    fn look_at_clock(&self, stack: Stack) -> bool {
        let now = (self.ticks.get())();
        let is_close = self.is_watched_closely.get();
        let is_to_change = self.looked_at.replace(Some(now)).is_some_and(|last| {
            let since_look = now.saturating_sub(last);
            if is_close { since_look < LOOK_NS_MIN } else { since_look > LOOK_NS_MAX }
        });
        if is_to_change {
            self.is_watched_closely.set(!is_close);
            self.watch(stack);
        }
        let began = self.slice_began.get().unwrap_or(now);
        self.slice_began.set(Some(began));
        now.saturating_sub(began) > SLICE_NS
    }

    /// Sets when what runs is looked at next.
    fn watch(&self, stack: Stack) {
        let wanted = match self.is_watched_closely.get() {
            true => CLOSE_HOOK_INSTRUCTIONS,
            false => HOOK_INSTRUCTIONS,
        };
        let unwatched = HOOK_INSTRUCTIONS as usize * LARGE_BYTES_UNWATCHED;
        let bound = unwatched / self.memory.large_bytes().max(LARGE_BYTES_UNWATCHED);
        let instructions = wanted.min(bound.max(1) as u32);
        self.instructions_a_look.set(instructions);
        stack.watch_each(instructions);
    }

    /// Has garbage collected as it becomes a state of this size.
    pub(super) fn set_collection_pause(&self, stack: Stack) {
        let is_small = self.memory.used_bytes() < SMALL_STATE_BYTES;
        if self.is_small.replace(is_small) != is_small {
            let percent = if is_small { SMALL_STATE_PAUSE } else { LARGE_STATE_PAUSE };
            stack.set_collection_pause(percent);
        }
    }

    /// A while of the script's own work has passed.
    pub(super) fn pass(&self, stack: Stack) -> Result<(), Raised> {
        let passed = self.instructions_a_look.get();
        let new_bytes = self.memory.take_new_large_bytes();
        if new_bytes > 0 || passed < HOOK_INSTRUCTIONS {
            self.watch(stack);
        }
        self.set_collection_pause(stack);
        if self.yielder.get().is_null() {
            return Ok(());
        }
        if self.memory.is_refused() {
            return Err(self.end_for_memory());
        }
        let soft = self.memory_soft_max.get();
        if self.memory.used_bytes() > soft {
            // What is left must be clearly less: else this would be done again and again.
            let is_enough = |_| {
                stack.collect(Collection::Whole);
                self.memory.used_bytes() <= soft - soft / 8
            };
            if !(0..COLLECTIONS_MAX).any(is_enough) {
                return Err(self.end_for_memory());
            }
        }
        if self.look_at_clock(stack) && self.ending.get().is_none() {
            return self.end_slice();
        }
        self.spend(u64::from(passed) + (new_bytes / LARGE_BYTES_PER_INSTRUCTION) as u64)
    }

    /// Whether the stack that this runs on is nearly used up.
    pub(super) fn is_stack_low(&self) -> bool {
        let here = 0u8;
        (&raw const here).addr() < self.stack_floor.get()
    }

    /// Has the request run, and pushes what its reply is for scripts; whether that is an error.
    pub(super) fn ask_for_reply(&self, call: &Call<'_>, asked: Asked) -> Result<bool, Raised> {
        let is_shown = asked == Asked::Call && self.shows_calls();
        if is_shown {
            debugger::say_call(self);
        }
        self.ask(asked)?;
        let reply = self.reply();
        let bytes = reply.whole();
        if is_shown {
            debugger::say_reply(self, &bytes);
        }
        self.spend(CALL_INSTRUCTIONS + bytes.len() as u64 / REPLY_BYTES_PER_INSTRUCTION)?;
        convert::push(call, &bytes)?;
        Ok(bytes.first() == Some(&b'-'))
    }

    /// Whether there is a debugger that wants to see what the script calls.
    fn shows_calls(&self) -> bool {
        self.debugger.borrow().as_ref().is_some_and(|debugger| debugger.shows_calls())
    }

    fn begin(&self, task: Task, function: Pin, client: Protocol) {
        self.task.set((task, Some(function)));
        self.client_protocol.set(client);
        self.protocol.set(Protocol::Resp2);
        self.targets.set(super::vm::target::ALL);
        self.ending.set(None);
        self.begin_slice();
        self.memory.forget_refusal();
        *self.failure.borrow_mut() = None;
    }

    /// Lets go of buffers that a run has made long; whoever fills one clears it first.
    fn tidy(&self) {
        for words in [&self.keys, &self.args] {
            let mut words = words.borrow_mut();
            if words.memory() > KEPT_BYTES_MAX {
                *words = OwnedRequest::default();
            }
        }
        tidy_reply(&mut self.result.borrow_mut());
        if let Some(buffers) = self.buffers.borrow_mut().as_mut() {
            buffers.tidy();
        }
    }

    fn ending_failure(&self) -> Option<Failure> {
        Some(match self.ending.get()? {
            Ending::Killed(killer) => Failure::of_text(killer.text()),
            Ending::OutOfMemory => out_of_memory(),
            Ending::Broken(text) => Failure::of_text(text),
        })
    }
}

fn out_of_memory() -> Failure {
    Failure { is_out_of_memory: true, ..Failure::of_text(OUT_OF_MEMORY) }
}

/// The function that a run is: what [`State::call`] protects.
pub(super) fn body(call: &Call<'_>) -> Result<usize, Raised> {
    let (host, stack) = (call.host, call.stack);
    let (task, Some(function)) = host.task.get() else { return Ok(0) };
    match task {
        Task::Script(looks_for) => set_arguments(call, looks_for)?,
        Task::Evaluation => set_arguments(call, Arguments::BOTH)?,
        Task::Function | Task::Library => {}
    }
    stack.push_pinned(function);
    if task == Task::Function {
        push_list(call, &host.keys.borrow())?;
        push_list(call, &host.args.borrow())?;
        stack.call(2, 1);
    } else {
        stack.call(0, 1);
    }
    match task {
        Task::Library => {}
        Task::Evaluation => describe_value(call)?,
        Task::Script(_) | Task::Function => write_value(call)?,
    }
    Ok(0)
}

/// Puts the tables that a script looks for among the globals.
fn set_arguments(call: &Call<'_>, looks_for: Arguments) -> Result<(), Raised> {
    let (host, stack) = (call.host, call.stack);
    let names = host.names();
    stack.push_pinned(names.globals);
    let tables =
        [(looks_for.keys, names.keys, &host.keys), (looks_for.args, names.argv, &host.args)];
    for (_, name, words) in tables.into_iter().filter(|(is_sought, ..)| *is_sought) {
        stack.push_pinned(name);
        push_list(call, &words.borrow())?;
        stack.raw_set(-3);
    }
    stack.pop(1);
    Ok(())
}

fn push_list(call: &Call<'_>, words: &OwnedRequest) -> Result<(), Raised> {
    let words = words.as_request();
    call.stack.push_table(words.len(), 0);
    for (index, word) in words.iter().enumerate() {
        call.stack.push_bytes(word);
        call.stack.raw_set_index(-2, index as i32 + 1);
        call.host.spend(10)?;
    }
    Ok(())
}

/// Writes the value on top of the stack; an error that a script returns is one that it ends by.
fn write_value(call: &Call<'_>) -> Result<(), Raised> {
    if call.stack.kind(-1) == Kind::Table
        && let Some(failure) = convert::returned_failure(call)
    {
        *call.host.failure.borrow_mut() = Some(failure);
        return Ok(());
    }
    let mut result = call.host.result.borrow_mut();
    result.clear();
    convert::write(call, &mut result.writer(call.host.client_protocol.get()))
}

/// The same for somebody who debugs.
fn describe_value(call: &Call<'_>) -> Result<(), Raised> {
    let mut text = Vec::new();
    debugger::describe_result(call.host, call.stack, &mut text)?;
    let mut result = call.host.result.borrow_mut();
    result.clear();
    result.append_raw(&text);
    Ok(())
}

/// What is called with an error that nobody has caught, where it was raised.
pub(super) fn on_error(call: &Call<'_>) -> Result<usize, Raised> {
    let mut failure = match call.stack.is_end(1) {
        true => call.host.ending_failure().unwrap_or_else(out_of_memory),
        false => convert::raised_failure(call),
    };
    failure.place = call.stack.place(b"@user_");
    *call.host.failure.borrow_mut() = Some(failure);
    Ok(0)
}

/// A script that runs.
pub struct Run {
    state: Rc<State>,
    /// What runs is kept while it does.
    function: Compiled,
    coroutine: Option<Coroutine<Answer, Asked, Status, DefaultStack>>,
    status: Option<Status>,
}

impl Run {
    /// A run of a script, which begins when it is first resumed. One script runs at a time in a
    /// state: while it does there is no other. `client` is the protocol that its value is written
    /// in.
    pub fn new<'w>(
        vm: &Vm,
        script: &Compiled,
        keys: impl IntoIterator<Item = &'w [u8]>,
        args: impl IntoIterator<Item = &'w [u8]>,
        client: Protocol,
    ) -> io::Result<Run> {
        let looks_for = script.looks_for();
        let run = Run::begin(vm, script, Task::Script(looks_for), client)?;
        keep_words(vm, looks_for, keys, args);
        Ok(run)
    }

    /// The same in the debugger: it stops before the first line. Its state has to be one that
    /// watches lines, and the source is what these are shown from.
    pub fn debugged<'w>(
        vm: &Vm,
        script: &Compiled,
        keys: impl IntoIterator<Item = &'w [u8]>,
        args: impl IntoIterator<Item = &'w [u8]>,
        client: Protocol,
        source: &[u8],
    ) -> io::Result<Run> {
        keep_words(vm, Arguments::BOTH, keys, args);
        let run = Run::begin(vm, script, Task::Script(Arguments::BOTH), client)?;
        *vm.state.host().debugger() = Some(Box::new(Debugger::new(source)));
        Ok(run)
    }

    /// A run of a function that a library has registered.
    pub fn of_function<'w>(
        vm: &Vm,
        callback: &Compiled,
        keys: impl IntoIterator<Item = &'w [u8]>,
        args: impl IntoIterator<Item = &'w [u8]>,
        client: Protocol,
    ) -> io::Result<Run> {
        let run = Run::begin(vm, callback, Task::Function, client)?;
        keep_words(vm, Arguments::BOTH, keys, args);
        Ok(run)
    }

    /// A run of code for somebody who debugs: its value is a line that shows it.
    pub fn of_evaluation<'w>(
        vm: &Vm,
        code: &Compiled,
        keys: impl IntoIterator<Item = &'w [u8]>,
        args: impl IntoIterator<Item = &'w [u8]>,
    ) -> io::Result<Run> {
        keep_words(vm, Arguments::BOTH, keys, args);
        Run::begin(vm, code, Task::Evaluation, Protocol::Resp2)
    }

    /// A run of a library's own code, after which [`Run::registered`] says what it has registered.
    pub fn of_library(vm: &Vm, library: &Compiled) -> io::Result<Run> {
        let run = Run::begin(vm, library, Task::Library, Protocol::Resp2)?;
        *vm.state.host().registered.borrow_mut() = Some(Vec::new());
        Ok(run)
    }

    fn begin(vm: &Vm, function: &Compiled, task: Task, client: Protocol) -> io::Result<Run> {
        let host = vm.state.host();
        if !host.yielder.get().is_null() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let spare = host.spare_stack.borrow_mut().take();
        let stack = spare.map_or_else(|| DefaultStack::new(STACK_BYTES), Ok)?;
        host.begin(task, function.pin(), client);
        let floor = stack.limit().get() + STACK_RESERVE_BYTES;
        let (state, body, handler) = (Rc::clone(&vm.state), vm.body, vm.handler);
        let on_stack = move |yielder: &Yielder<Answer, Asked>, first: Answer| {
            let host = state.host();
            if let Answer::Kill(killer) = first {
                host.end(Ending::Killed(killer));
            }
            host.yielder.set(yielder);
            host.stack_floor.set(floor);
            let status = state.call(body, handler);
            host.stack_floor.set(0);
            host.yielder.set(std::ptr::null());
            status
        };
        Ok(Run {
            state: Rc::clone(&vm.state),
            function: function.clone(),
            coroutine: Some(Coroutine::with_stack(stack, on_stack)),
            status: None,
        })
    }

    /// The lines that whoever debugs it is to be shown.
    pub fn take_lines(&mut self) -> Vec<Vec<u8>> {
        self.with_debugger(Debugger::take_lines)
    }

    /// A command for the debugger.
    pub fn tell(&mut self, command: OwnedRequest) {
        self.with_debugger(|debugger| debugger.tell(command));
    }

    /// Nobody debugs it any more: it goes on to its end, unless that takes too long.
    pub fn let_alone(&mut self) {
        self.with_debugger(Debugger::let_alone);
    }

    /// It has run for too long, and is to stop where it is.
    pub fn interrupt(&mut self) {
        self.with_debugger(Debugger::interrupt);
    }

    /// What was asked for is no command.
    pub fn note_refusal(&mut self) {
        self.with_debugger(Debugger::note_refusal);
    }

    /// The code that is to be evaluated.
    pub fn take_code(&mut self) -> Vec<u8> {
        self.with_debugger(Debugger::take_code)
    }

    /// A line for whoever debugs it.
    pub fn say(&mut self, line: Vec<u8>) {
        self.with_debugger(|debugger| debugger.say_shortened(line));
    }

    fn with_debugger<R: Default>(&self, what: impl FnOnce(&mut Debugger) -> R) -> R {
        self.state.host().debugger().as_mut().map(|debugger| what(debugger)).unwrap_or_default()
    }

    /// Goes on until the script wants something.
    pub fn resume(&mut self, answer: Answer) -> Asked {
        let Some(coroutine) = &mut self.coroutine else { return Asked::Done };
        match coroutine.resume(answer) {
            CoroutineResult::Yield(asked) => asked,
            CoroutineResult::Return(status) => {
                self.status = Some(status);
                if let Some(done) = self.coroutine.take() {
                    *self.state.host().spare_stack.borrow_mut() = Some(done.into_stack());
                }
                Asked::Done
            }
        }
    }

    /// Takes the buffers of requests and replies: the engine has them while it runs what was asked
    /// for, the script at all other times.
    pub fn take_buffers(&mut self) -> Box<Buffers> {
        self.state.host().buffers.take().unwrap_or_default()
    }

    /// Gives them back, before the run goes on.
    pub fn give_buffers(&mut self, buffers: Box<Buffers>) {
        self.state.host().buffers.replace(Some(buffers));
    }

    /// What is to be run.
    pub fn request(&self) -> RefMut<'_, OwnedRequest> {
        self.state.host().request()
    }

    /// Where its reply goes; what was in it is to be cleared.
    pub fn reply(&self) -> RefMut<'_, ReplyBuf> {
        RefMut::map(self.state.host().buffers(), |buffers| &mut buffers.reply)
    }

    /// Which of the first keys that the run was given this is, if it is one.
    pub fn position_of_key(&self, key: &[u8]) -> Option<usize> {
        const KEYS_MAX: usize = 2;
        let keys = self.state.host().keys.borrow();
        keys.as_request().iter().take(KEYS_MAX).position(|given| given == key)
    }

    /// The protocol in which replies to calls are written.
    pub fn protocol(&self) -> Protocol {
        self.state.host().protocol.get()
    }

    /// Where its writes are to go: a mask of [`super::vm::target`].
    pub fn targets(&self) -> u8 {
        self.state.host().targets.get()
    }

    /// Writes the script's value, or says by which error it ended.
    pub fn write_result(&mut self, out: &mut Reply<'_>) -> Result<(), Failure> {
        let host = self.state.host();
        let failure = host.failure.borrow_mut().take();
        match (self.status.take(), failure) {
            (Some(Status::Fine), None) => {
                out.buffer().take_from(&mut host.result.borrow_mut());
                Ok(())
            }
            (_, Some(failure)) => Err(failure),
            (Some(Status::OutOfMemory), None) => Err(out_of_memory()),
            (Some(Status::Unseen(text)), None) => {
                Err(Failure::of_text([b"ERR ", text.as_slice()].concat()))
            }
            (_, None) => Err(Failure::of_text("ERR the script has not ended")),
        }
    }

    /// The line that shows the value of evaluated code, or its error.
    pub fn evaluated(&mut self) -> Vec<u8> {
        let mut line = ReplyBuf::new();
        match self.write_result(&mut line.writer(Protocol::Resp2)) {
            Ok(()) => line.to_vec(),
            Err(failure) => {
                let text = failure.text.strip_prefix(b"ERR ").unwrap_or(&failure.text);
                [b"<error> ", text].concat()
            }
        }
    }

    /// What a library has registered, once it is loaded; it cannot register more.
    pub fn registered(&mut self) -> Result<Vec<Registered>, Failure> {
        let mut nothing = ReplyBuf::new();
        self.write_result(&mut nothing.writer(Protocol::Resp2))?;
        self.function.open_environment();
        let registered = self.state.host().registered.borrow_mut().take().unwrap_or_default();
        let kept =
            registered.into_iter().map(|Registered { name, description, flags, callback }| {
                let callback = Compiled::new(&self.state, callback);
                Registered { name, description, flags, callback }
            });
        Ok(kept.collect())
    }
}

/// Keeps what the run looks for until it has begun.
fn keep_words<'w>(
    vm: &Vm,
    looks_for: Arguments,
    keys: impl IntoIterator<Item = &'w [u8]>,
    args: impl IntoIterator<Item = &'w [u8]>,
) {
    let host = vm.state.host();
    let (mut own_keys, mut own_args) = (host.keys.borrow_mut(), host.args.borrow_mut());
    own_keys.clear();
    own_args.clear();
    if looks_for.keys {
        keys.into_iter().for_each(|key| own_keys.push(key));
    }
    if looks_for.args {
        args.into_iter().for_each(|arg| own_args.push(arg));
    }
}

impl Drop for Run {
    /// A stack full of the interpreter's frames cannot be unwound from outside: the script is
    /// brought to its end.
    fn drop(&mut self) {
        while self.coroutine.as_ref().is_some_and(|run| run.started() && !run.done()) {
            self.resume(Answer::Kill(Killer::ScriptKill));
        }
        let host = self.state.host();
        if host.ending.get() == Some(Ending::OutOfMemory) || host.memory.is_refused() {
            _ = self.state.protect(|stack| {
                stack.collect(Collection::Whole);
                Ok(())
            });
        }
        host.tidy();
        for unused in host.registered.borrow_mut().take().into_iter().flatten() {
            self.state.unpin(unused.callback);
        }
    }
}
