//! What the targets of scripts share: a state, and a run in it that comes to an end.

use rufous::resp::{Protocol, ReplyBuf};
use rufous::script::convert::Failure;
use rufous::script::run::{Answer, Asked, Killer, Run};
use rufous::script::vm::{Role, Vm};

/// A state may hold so much before a script in it ends, and never more than twice that.
const MEMORY_MAX: usize = 32 << 20;
/// A script is ended after so many slices, of a million instructions each.
const SLICES_MAX: usize = 3;

pub fn state() -> Vm {
    let vm = Vm::new(Role::Scripts, 7, &[]).expect("what we bring along is right");
    vm.set_memory_max(MEMORY_MAX, 2 * MEMORY_MAX);
    vm
}

/// The reply that a script's value is, or by which error it ended. What it calls is answered so.
pub fn run(vm: &Vm, body: &[u8], args: &[&[u8]], answer: &[u8]) -> Result<Vec<u8>, Failure> {
    let script = vm.compile(body).map_err(|error| Failure::of_text(error.0))?;
    let args = args.iter().copied();
    let mut run = Run::new(vm, &script, [&b"key"[..]], args, Protocol::Resp3).expect("a stack");
    let mut slices = 0;
    loop {
        let is_over = slices > SLICES_MAX;
        let go = if is_over { Answer::Kill(Killer::ScriptKill) } else { Answer::Go };
        match run.resume(go) {
            Asked::Done => break,
            Asked::Slice => slices += 1,
            Asked::Stopped | Asked::Evaluate => unreachable!("nobody debugs it"),
            Asked::Call | Asked::MayCall => {
                let mut reply = run.reply();
                reply.clear();
                reply.append_raw(answer);
            }
        }
        assert!(slices < 100 * SLICES_MAX, "a script cannot be ended");
    }
    let mut out = ReplyBuf::new();
    run.write_result(&mut out.writer(Protocol::Resp3))?;
    Ok(out.to_vec())
}

/// Runs a script of ours, which ends well unless it was ended for the time or the memory it took.
#[allow(dead_code, reason = "not every target has one")]
pub fn holds(body: &str, args: &[&[u8]]) {
    let said = run(&state(), body.as_bytes(), args, b"+OK\r\n").map_err(|failure| failure.text);
    let Err(text) = said else { return };
    let is_ended = text.starts_with(b"ERR Script killed") || text == b"ERR not enough memory";
    assert!(is_ended, "{}", text.escape_ascii());
}
