//! For the tests of rooms that play commands against an engine in this process.

use super::{ClientId, Effect, Engine, Verdict};
use crate::resp::{OwnedRequest, ReplyBuf};

/// Runs a request, and the jobs that it starts: its whole reply and the number of jobs.
pub fn run_to_end(engine: &mut Engine, client: ClientId, words: &[&[u8]]) -> (Vec<u8>, usize) {
    let mut out = ReplyBuf::new();
    let mut jobs = 0;
    let request = OwnedRequest::from_args(words);
    engine.take_effects();
    if engine.run(client, request.as_request(), &mut out) == Verdict::Suspended {
        while engine.has_effects() {
            for effect in engine.take_effects() {
                match effect {
                    Effect::Run { client, job } => {
                        jobs += 1;
                        engine.finish_job(client, job());
                    }
                    Effect::Save(job) => {
                        jobs += 1;
                        engine.finish_save(job());
                    }
                    Effect::Push { bytes, .. } => out.append(bytes),
                    _ => {}
                }
            }
        }
    }
    (out.to_vec(), jobs)
}
