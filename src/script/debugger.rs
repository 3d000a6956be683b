//! The debugger: a script that stops at lines, and the conversation with its client meanwhile.
//!
//! It lives on the script's own stack. The interpreter's hook is told of each line that begins;
//! where the script is to stop, the hook leaves the stack ([`Asked::Stopped`]), as for a call, and
//! is resumed with a command of the client. What the commands look at (locals, the calls that led
//! here) is there to be looked at as long as the hook has not returned. So the engine knows of the
//! conversation only that lines go out and commands come in.
//!
//! No hook is called within a hook. Code that the client has evaluated would not be interrupted by
//! anything, so it does not run here: it is handed out ([`Asked::Evaluate`]) and runs in a state of
//! its own, which has the same arguments and can be put aside and killed like any script.
//!
//! Only a state that was made for it has the hook for lines ([`super::vm::Vm::watch_lines`]); other
//! scripts pay nothing.

mod replies;
mod values;

use super::lua::{Activation, Raised, Stack};
use super::run::{Asked, Host};
use crate::resp::{OwnedRequest, Request};
use crate::structs::number::parse_i64;

/// The places where a script may be told to stop.
const BREAKPOINTS_MAX: usize = 64;
/// What is shown of a value or a reply unless the client says how much it wants.
const SHOWN_BYTES: usize = 256;
/// It cannot want less, unless it wants all.
const SHOWN_BYTES_MIN: usize = 60;
/// What is shown of those who want all; and how much waits for a client to be told.
const ALL_BYTES: usize = 1 << 20;
/// Words and bytes of one command.
const WORDS_MAX: usize = 1024;
const COMMAND_BYTES_MAX: usize = 1 << 20;
/// What a line of the script's own counts for.
const SAYING_INSTRUCTIONS: u64 = 500;
/// How much of a call is shown.
const CALL_WORDS_SHOWN: usize = 10;
/// Lines around the current one that are listed.
const CONTEXT: i64 = 5;

const SCRIPT: &[u8] = b"@user_script";
pub(super) const TIMED_OUT_ALONE: &str =
    "ERR timeout during Lua debugging with client closing connection";
const ABORTED: &str = "ERR script aborted for user request";
const UNKNOWN: &str = "<error> Unknown Redis Lua debugger command or wrong number of arguments.";

/// Why a hook is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A line begins.
    Line,
    /// It has run for a while.
    While,
}

/// What is known of a script that is debugged.
pub(super) struct Debugger {
    /// Its lines.
    source: Vec<Box<[u8]>>,
    breakpoints: Vec<i64>,
    /// The current line.
    line: i64,
    /// It is to stop at the next line.
    is_stepping: bool,
    /// It has asked to be stopped, by `redis.breakpoint`.
    has_asked: bool,
    /// It has run for longer than anybody waits for.
    is_overdue: bool,
    /// Its client has left: it stops no more.
    is_alone: bool,
    /// What is shown of a value; all if there is no limit.
    shown_bytes: Option<usize>,
    has_hinted: bool,
    /// What the client is to be told.
    lines: Vec<Vec<u8>>,
    lines_bytes: usize,
    command: Option<OwnedRequest>,
    /// Code that is to be evaluated.
    code: Vec<u8>,
    /// The call that was asked for last named no command.
    is_refused: bool,
}

/// What follows from a command.
enum Then {
    /// The script stands, and another one is awaited.
    Stand,
    GoOn,
}

impl Debugger {
    /// One that stops before the first line.
    pub(super) fn new(source: &[u8]) -> Debugger {
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let end = source.iter().rposition(|byte| !is_end(byte)).map_or(0, |last| last + 1);
        Debugger {
            source: source[..end].split(|byte| *byte == b'\n').map(Into::into).collect(),
            breakpoints: Vec::new(),
            line: 0,
            is_stepping: true,
            has_asked: false,
            is_overdue: false,
            is_alone: false,
            shown_bytes: Some(SHOWN_BYTES),
            has_hinted: false,
            lines: Vec::new(),
            lines_bytes: 0,
            command: None,
            code: Vec::new(),
            is_refused: false,
        }
    }

    pub(super) fn take_lines(&mut self) -> Vec<Vec<u8>> {
        self.lines_bytes = 0;
        std::mem::take(&mut self.lines)
    }

    pub(super) fn take_code(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.code)
    }

    /// What the client wants.
    pub(super) fn tell(&mut self, command: OwnedRequest) {
        self.command = Some(command);
    }

    /// The client has left.
    pub(super) fn let_alone(&mut self) {
        self.is_alone = true;
    }

    pub(super) fn interrupt(&mut self) {
        self.is_overdue = true;
    }

    pub(super) fn note_refusal(&mut self) {
        self.is_refused = true;
    }

    /// Whether calls are shown: those of a line that is stepped over.
    pub(super) fn shows_calls(&self) -> bool {
        self.is_stepping
    }

    /// Has the script stop at its next line.
    pub(super) fn ask_to_stop(&mut self) {
        self.has_asked = true;
    }

    fn has_room(&self) -> bool {
        self.lines_bytes <= ALL_BYTES
    }

    fn say(&mut self, line: impl Into<Vec<u8>>) {
        let line = line.into();
        // A script that talks to itself must not fill the memory.
        if !self.has_room() {
            return;
        }
        self.lines_bytes += line.len() + size_of::<Vec<u8>>();
        self.lines.push(line);
        if !self.has_room() {
            self.lines.push(b"<hint> There is more, which is not shown.".to_vec());
        }
    }

    /// The same with what may be too long to be shown.
    pub(super) fn say_shortened(&mut self, mut line: Vec<u8>) {
        let len_max = self.shown_bytes.unwrap_or(ALL_BYTES);
        let is_long = line.len() > len_max;
        if is_long {
            line.truncate(len_max);
            line.extend_from_slice(b" ...");
        }
        self.say(line);
        if is_long && !self.has_hinted {
            self.has_hinted = true;
            self.say("<hint> The above reply was trimmed. Use 'maxlen 0' to disable trimming.");
        }
    }

    fn shown_bytes_max(&self) -> usize {
        self.shown_bytes.unwrap_or(ALL_BYTES)
    }

    /// Why the script is to stop here, if it is.
    fn reason_to_stop(&mut self, event: Event, line: i64) -> Option<&'static str> {
        self.line = line;
        let begins = event == Event::Line;
        if self.is_alone {
            return None;
        }
        let reason = if begins && self.has_asked {
            "redis.breakpoint() called"
        } else if begins && self.breakpoints.contains(&line) {
            "break point"
        } else if begins && self.is_stepping {
            "step over"
        } else if self.is_overdue {
            "timeout reached, infinite loop?"
        } else {
            return None;
        };
        self.is_stepping = false;
        self.has_asked = false;
        Some(reason)
    }

    fn say_source(&mut self, line: i64) {
        let source = usize::try_from(line - 1).ok().and_then(|index| self.source.get(index));
        let text: &[u8] = source.map_or(b"<out of range source code line>", |line| line);
        let is_breakpoint = self.breakpoints.contains(&line);
        let sign = match (self.line == line, is_breakpoint) {
            (true, true) => "->#",
            (true, false) => "-> ",
            (false, true) => "  #",
            (false, false) => "   ",
        };
        let text = [format!("{sign}{line:<3} ").as_bytes(), text].concat();
        self.say(text);
    }

    fn say_sources(&mut self, around: i64, context: i64) {
        for line in 1..=self.source.len() as i64 {
            if (around - line).abs() <= context {
                self.say_source(line);
            }
        }
    }

    fn list(&mut self, request: &Request<'_>) {
        let number = |at: usize| {
            let text = if at < request.len() { request.arg(at) } else { b"" };
            parse_i64(text).map(|number| number.clamp(-1_000_000, 1_000_000))
        };
        let around = number(1).filter(|line| *line > 0).unwrap_or(self.line);
        let context = if request.len() > 2 { number(2).unwrap_or(0) } else { CONTEXT };
        self.say_sources(around, context);
    }

    fn set_breakpoints(&mut self, request: &Request<'_>) {
        for word in request.iter().skip(1) {
            match parse_i64(word) {
                None => self.say([b"Invalid argument:'", word, b"'"].concat()),
                Some(0) => {
                    self.breakpoints.clear();
                    self.say("All breakpoints removed.");
                }
                Some(line) if line < 0 => self.remove_breakpoint(line.saturating_neg()),
                Some(line) => self.add_breakpoint(line),
            }
        }
    }

    fn add_breakpoint(&mut self, line: i64) {
        if line > self.source.len() as i64 {
            return self.say("Wrong line number.");
        }
        if !self.breakpoints.contains(&line) {
            if self.breakpoints.len() == BREAKPOINTS_MAX {
                return self.say("Too many breakpoints set.");
            }
            self.breakpoints.push(line);
        }
        self.say_sources(line, 1);
    }

    fn remove_breakpoint(&mut self, line: i64) {
        let place = self.breakpoints.iter().position(|other| *other == line);
        match place {
            Some(place) => {
                self.breakpoints.remove(place);
                self.say("Breakpoint removed.");
            }
            None => self.say("No breakpoint in the specified line."),
        }
    }

    fn show_breakpoints(&mut self) {
        if self.breakpoints.is_empty() {
            return self.say("No breakpoints set. Use 'b <line>' to add one.");
        }
        self.say(format!("{} breakpoints set:", self.breakpoints.len()));
        for line in self.breakpoints.clone() {
            self.say_source(line);
        }
    }

    fn limit_shown_bytes(&mut self, request: &Request<'_>) {
        if request.len() == 2 {
            self.has_hinted = true;
            let len = usize::try_from(parse_i64(request.arg(1)).unwrap_or(0)).unwrap_or(1);
            self.shown_bytes = (len > 0).then(|| len.clamp(SHOWN_BYTES_MIN, ALL_BYTES));
        }
        match self.shown_bytes {
            Some(len) => self.say(format!("<value> replies are truncated at {len} bytes.")),
            None => self.say("<value> replies are unlimited."),
        }
    }

    fn help(&mut self) {
        for line in HELP {
            self.say(*line);
        }
    }
}

const HELP: &[&str] = &[
    "Redis Lua debugger help:",
    "[h]elp               These lines.",
    "[s]tep               Go on to the next line.",
    "[n]ext               The same.",
    "[c]ontinue           Go on to the next breakpoint.",
    "[l]ist               The lines around the current one.",
    "[l]ist [line]        The lines around this one; 0 is the current one.",
    "[l]ist [line] [ctx]  The same, with so many lines before and after it.",
    "[w]hole              All lines.",
    "[p]rint              All local variables.",
    "[p]rint <var>        One variable, which may also be KEYS or ARGV.",
    "[b]reak              All breakpoints.",
    "[b]reak <line>       Stop at this line.",
    "[b]reak -<line>      Stop there no more.",
    "[b]reak 0            Forget all breakpoints.",
    "[t]race              The calls that led here.",
    "[e]val <code>        Run some Lua, which sees no local variables.",
    "[r]edis <cmd>        Run a command.",
    "[m]axlen [len]       Show so much of replies and values; 0 shows all.",
    "[a]bort              End the script; in sync mode what it has written stays.",
    "",
    "What scripts can call:",
    "redis.debug()        Shows its arguments here.",
    "redis.breakpoint()   Stops at the next line.",
];

/// What the hook does in a script that is debugged.
pub(super) fn look(host: &Host, stack: Stack, event: Event) -> Result<(), Raised> {
    let Some(here) = stack.activation(0).filter(|here| here.is_of(SCRIPT)) else { return Ok(()) };
    let (reason, is_over) = {
        let mut debugger = host.debugger();
        let Some(debugger) = debugger.as_mut() else { return Ok(()) };
        let is_over = debugger.is_alone && debugger.is_overdue;
        (debugger.reason_to_stop(event, here.line()), is_over)
    };
    if is_over {
        return Err(host.end_by(TIMED_OUT_ALONE));
    }
    match reason {
        Some(reason) => stop(host, stack, reason),
        None => Ok(()),
    }
}

/// The script stands until its client has it go on.
fn stop(host: &Host, stack: Stack, reason: &str) -> Result<(), Raised> {
    let was_overdue = with(host, |debugger| {
        let line = debugger.line;
        debugger.say(format!("* Stopped at {line}, stop reason = {reason}"));
        debugger.say_source(line);
        std::mem::take(&mut debugger.is_overdue)
    });
    loop {
        host.ask(Asked::Stopped)?;
        let command = with(host, |debugger| debugger.command.take());
        match command {
            Some(command) => match obey(host, stack, &command.as_request())? {
                Then::Stand => {}
                Then::GoOn => return Ok(()),
            },
            None if was_overdue => return Err(host.end_by(TIMED_OUT_ALONE)),
            None => return Ok(()),
        }
    }
}

/// What the debugger answers, if there is one: it is not borrowed while the script's stack is left.
fn with<R: Default>(host: &Host, what: impl FnOnce(&mut Debugger) -> R) -> R {
    host.debugger().as_mut().map(|debugger| what(debugger)).unwrap_or_default()
}

fn obey(host: &Host, stack: Stack, request: &Request<'_>) -> Result<Then, Raised> {
    if request.payload_len() > COMMAND_BYTES_MAX {
        return Err(host.end_by("ERR max client buffer reached"));
    }
    if request.len() > WORDS_MAX {
        return Err(host.end_by("ERR protocol error"));
    }
    let word = request.arg(0).to_ascii_lowercase();
    match &*word {
        b"s" | b"step" | b"n" | b"next" => {
            with(host, |debugger| debugger.is_stepping = true);
            return Ok(Then::GoOn);
        }
        b"c" | b"continue" => return Ok(Then::GoOn),
        b"a" | b"abort" => return Err(host.end_by(ABORTED)),
        b"h" | b"help" => with(host, Debugger::help),
        b"l" | b"list" => with(host, |debugger| debugger.list(request)),
        b"w" | b"whole" => with(host, |debugger| debugger.say_sources(1, i64::MAX)),
        b"b" | b"break" if request.len() == 1 => with(host, Debugger::show_breakpoints),
        b"b" | b"break" => with(host, |debugger| debugger.set_breakpoints(request)),
        b"m" | b"maxlen" => with(host, |debugger| debugger.limit_shown_bytes(request)),
        b"t" | b"trace" => trace(host, stack),
        b"p" | b"print" if request.len() == 2 => print(host, stack, request.arg(1))?,
        b"p" | b"print" => print_all(host, stack)?,
        b"e" | b"eval" => evaluate(host, request)?,
        b"r" | b"redis" | b"server" if request.len() > 1 => run_command(host, request)?,
        _ => with(host, |debugger| debugger.say(UNKNOWN)),
    }
    Ok(Then::Stand)
}

fn activations(stack: Stack) -> impl Iterator<Item = Activation> {
    /// More than that is not looked through, nor shown.
    const LEVELS_MAX: i32 = 1000;
    (0..LEVELS_MAX).map_while(move |level| stack.activation(level))
}

fn trace(host: &Host, stack: Stack) {
    for (level, call) in activations(stack).enumerate().filter(|(_, call)| call.is_of(SCRIPT)) {
        let sign: &[u8] = if level == 0 { b"In " } else { b"From " };
        let name = call.name().unwrap_or(b"top level");
        with(host, |debugger| {
            debugger.say([sign, name, b":"].concat());
            debugger.say_source(call.line());
        });
    }
}

/// Shows the innermost variable of a name.
fn print(host: &Host, stack: Stack, name: &[u8]) -> Result<(), Raised> {
    for call in activations(stack) {
        for index in 1.. {
            let Some(found) = stack.push_local(&call, index) else { break };
            if found == name {
                return say_value(host, stack, b"<value> ");
            }
            stack.pop(1);
        }
        host.spend(1)?;
    }
    let names = host.names();
    let global = match name {
        b"KEYS" => names.keys,
        b"ARGV" => names.argv,
        _ => {
            with(host, |debugger| debugger.say("No such variable."));
            return Ok(());
        }
    };
    stack.push_pinned(names.globals);
    stack.raw_get_field(-1, global);
    stack.remove(-2);
    say_value(host, stack, b"<value> ")
}

/// Shows the variables of the innermost function.
fn print_all(host: &Host, stack: Stack) -> Result<(), Raised> {
    let mut is_any = false;
    if let Some(call) = stack.activation(0) {
        for index in 1.. {
            let Some(name) = stack.push_local(&call, index) else { break };
            // What has no name in the source is the interpreter's own.
            if name.starts_with(b"(") {
                stack.pop(1);
                continue;
            }
            is_any = true;
            say_value(host, stack, &[b"<value> ", &*name, b" = "].concat())?;
        }
    }
    if !is_any {
        with(host, |debugger| debugger.say("No local variables in the current context."));
    }
    Ok(())
}

/// Takes the value on top of the stack and shows it.
fn say_value(host: &Host, stack: Stack, prefix: &[u8]) -> Result<(), Raised> {
    let len_max = with(host, |debugger| debugger.shown_bytes_max());
    let mut text = prefix.to_vec();
    values::describe(host, stack, -1, len_max, &mut text)?;
    stack.pop(1);
    with(host, |debugger| debugger.say_shortened(text));
    Ok(())
}

/// What is shown of the value of evaluated code.
pub(super) fn describe_result(host: &Host, stack: Stack, out: &mut Vec<u8>) -> Result<(), Raised> {
    out.extend_from_slice(b"<retval> ");
    values::describe(host, stack, -1, ALL_BYTES, out)
}

fn evaluate(host: &Host, request: &Request<'_>) -> Result<(), Raised> {
    let words: Vec<&[u8]> = request.iter().skip(1).collect();
    with(host, |debugger| debugger.code = words.join(&b' '));
    host.ask(Asked::Evaluate)
}

fn run_command(host: &Host, request: &Request<'_>) -> Result<(), Raised> {
    let mut own = host.request();
    own.clear();
    request.iter().skip(1).for_each(|word| own.push(word));
    drop(own);
    say_call(host);
    host.ask(Asked::Call)?;
    say_reply(host, &host.reply().whole());
    Ok(())
}

/// Shows the call that the script is about to make.
pub(super) fn say_call(host: &Host) {
    let request = host.request();
    let request = request.as_request();
    let mut line = b"<redis>".to_vec();
    for word in request.iter().take(CALL_WORDS_SHOWN) {
        line.push(b' ');
        line.extend_from_slice(word);
    }
    if request.len() > CALL_WORDS_SHOWN {
        let more = format!(" ... ({} more)", request.len() - CALL_WORDS_SHOWN);
        line.extend_from_slice(more.as_bytes());
    }
    with(host, |debugger| debugger.say(line));
}

/// Shows what was answered.
pub(super) fn say_reply(host: &Host, reply: &[u8]) {
    let is_refused = with(host, |debugger| std::mem::take(&mut debugger.is_refused));
    if reply.first() == Some(&b'-') {
        let end = memchr::memchr(b'\r', reply).unwrap_or(reply.len());
        let text = &reply[..end];
        let text = if is_refused { text.strip_prefix(b"-ERR ").unwrap_or(text) } else { text };
        with(host, |debugger| debugger.say([b"<error> ", text].concat()));
    }
    if !is_refused {
        let mut line = b"<reply> ".to_vec();
        let len_max = with(host, |debugger| debugger.shown_bytes_max());
        replies::describe(reply, len_max, &mut line);
        with(host, |debugger| debugger.say_shortened(line));
    }
}

/// `redis.debug`: shows so many values, which begin at the bottom of the stack.
pub(super) fn say_values(host: &Host, stack: Stack, count: usize) -> Result<(), Raised> {
    let (line, is_heard) = with(host, |debugger| (debugger.line, debugger.has_room()));
    host.spend(SAYING_INSTRUCTIONS)?;
    if !is_heard {
        return Ok(());
    }
    let mut text = format!("<debug> line {line}: ").into_bytes();
    for index in 1..=count as i32 {
        if index > 1 {
            text.extend_from_slice(b", ");
        }
        values::describe(host, stack, index, ALL_BYTES, &mut text)?;
    }
    host.spend(text.len() as u64)?;
    with(host, |debugger| debugger.say(text));
    Ok(())
}
