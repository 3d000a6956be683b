//! What is made of a primary's lines, from PONG to the header of a full sync.

use super::answers::{self, Header, Moment, Payload, PsyncAnswer};
use super::attempt::By;
use super::context::{Context, printable};
use super::handshake::{introduction, request};
use super::{Action, Link, LoadFrom, NewIds, Stage, State, Transfer, Wants};
use crate::repl::ids::ReplicationId;
use crate::structs::number::{I64Buf, format_i64};

const REJECTED: &str = "Failover target rejected psync request";

impl Link {
    pub(super) fn read(&mut self, line: &[u8], cx: &mut Context) {
        if !matches!(self.wants(), Wants::Lines { .. }) {
            return;
        }
        self.io_ms = cx.now_ms;
        self.line_ms = None;
        match self.state {
            State::Ping => self.read_pong(line, cx),
            State::Handshake(_) => self.read_answer(line, cx),
            State::Psync => self.read_psync(line, cx),
            _ => self.read_header(line, cx),
        }
    }

    pub(super) fn refuse_line(&mut self, cx: &mut Context) {
        let Wants::Lines { bytes_max } = self.wants() else { return };
        if matches!(self.state, State::Psync) {
            self.fail_failover(REJECTED, cx);
        }
        self.give_up(By::Us, format!("A line of more than {bytes_max} bytes from MASTER"), cx);
    }

    fn read_pong(&mut self, line: &[u8], cx: &mut Context) {
        if !answers::is_alive(line) {
            let why = format!("Error reply to PING from master: '{}'", printable(line));
            return self.give_up(By::Us, why, cx);
        }
        cx.notice("Master replied to PING, replication can continue...");
        let (requests, questions) = introduction(cx.settings);
        self.state = State::Handshake(questions);
        cx.act(Action::Send(requests));
    }

    fn read_answer(&mut self, line: &[u8], cx: &mut Context) {
        let State::Handshake(questions) = &mut self.state else { return };
        let Some(question) = questions.pop_front() else { return };
        let is_last = questions.is_empty();
        if line.starts_with(b"-") {
            let text = printable(line);
            match question.option() {
                None => {
                    return self.give_up(By::Us, format!("Unable to AUTH to MASTER: {text}"), cx);
                }
                Some(option) => cx.notice(format!(
                    "(Non critical) Master does not understand REPLCONF {option}: {text}"
                )),
            }
        }
        if is_last {
            self.ask_for_stream(cx);
        }
    }

    fn ask_for_stream(&mut self, cx: &mut Context) {
        let mut digits = I64Buf::new();
        let id = self.history.id();
        let (id, from): (&[u8], &[u8]) = match self.stream_db {
            Some(_) => (id.as_bytes(), format_i64(self.history.next(), &mut digits)),
            None => (b"?", b"-1"),
        };
        cx.notice(match self.stream_db {
            Some(_) => format!(
                "Trying a partial resynchronization (request {}:{}).",
                printable(id),
                printable(from),
            ),
            None => "Partial resynchronization not possible (no cached master)".to_owned(),
        });
        let words: &[&[u8]] = &[b"PSYNC", id, from, b"FAILOVER"];
        let count = if self.is_failover { words.len() } else { words.len() - 1 };
        self.state = State::Psync;
        cx.act(Action::Send(request(&words[..count])));
    }

    fn read_psync(&mut self, line: &[u8], cx: &mut Context) {
        let answer = answers::psync(line);
        if answer == PsyncAnswer::KeepAlive || self.has_failover_failed(answer, line, cx) {
            return;
        }
        match answer {
            PsyncAnswer::KeepAlive => {}
            PsyncAnswer::Full(moment) => self.expect_snapshot(moment, cx),
            PsyncAnswer::Continue(id) => self.continue_under(id, line, cx),
            PsyncAnswer::Later => self.give_up_for_now(line, cx),
            PsyncAnswer::Error => {
                let text = printable(line);
                cx.notice(format!(
                    "Master does not support PSYNC or is in error state (reply: {text})"
                ));
                self.ask_for_snapshot(cx);
            }
            PsyncAnswer::Unexpected => {
                cx.warn(format!("Unexpected reply to PSYNC from master: {}", printable(line)));
                self.ask_for_snapshot(cx);
            }
        }
    }

    /// Whether this is the end of a failover, and of the attempt: a target that does not take our
    /// place is not to be copied.
    fn has_failover_failed(&mut self, answer: PsyncAnswer, line: &[u8], cx: &mut Context) -> bool {
        if !self.is_failover {
            return false;
        }
        let is_taken = matches!(answer, PsyncAnswer::Full(_) | PsyncAnswer::Continue(_));
        if is_taken {
            self.is_failover = false;
            cx.act(Action::FailoverDone);
        } else {
            self.fail_failover(REJECTED, cx);
            let why = format!("Unexpected reply to PSYNC from master: {}", printable(line));
            self.give_up(By::Us, why, cx);
        }
        !is_taken
    }

    fn give_up_for_now(&mut self, line: &[u8], cx: &mut Context) {
        cx.notice(format!(
            "Master is currently unable to PSYNC but should be in the future: {}",
            printable(line),
        ));
        self.end(By::Us, cx);
        self.retry_in(super::RETRY_MS, cx);
    }

    fn continue_under(&mut self, id: Option<ReplicationId>, line: &[u8], cx: &mut Context) {
        let Some(db) = self.stream_db else {
            // We asked for no continuation, so there is nothing that this would continue.
            let why = format!("Unexpected reply to PSYNC from master: {}", printable(line));
            return self.give_up(By::Us, why, cx);
        };
        cx.notice("Successful partial resynchronization with master.");
        if let Some(id) = id.filter(|id| *id != self.history.id()) {
            cx.notice(format!("Master replication ID changed to {id}"));
            self.history.take_over(id);
            cx.act(Action::NewIds(NewIds::Renamed));
            cx.act(Action::CutReplicas);
        }
        cx.notice("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.");
        self.begin_stream(db, cx);
    }

    /// The way of primaries that know no PSYNC: they tell no id, so nothing can be continued later.
    fn ask_for_snapshot(&mut self, cx: &mut Context) {
        cx.notice("Retrying with SYNC...");
        cx.act(Action::Send(b"SYNC\r\n".to_vec()));
        self.await_header(None);
    }

    fn expect_snapshot(&mut self, moment: Option<Moment>, cx: &mut Context) {
        match moment {
            Some(Moment { id, offset }) => {
                cx.notice(format!("Full resync from master: {id}:{offset}"));
            }
            None => cx.warn("Master replied with wrong +FULLRESYNC syntax."),
        }
        self.await_header(moment);
    }

    /// What we have stays good until the snapshot is loaded: if none comes, it can be continued.
    fn await_header(&mut self, moment: Option<Moment>) {
        let stage = Stage::Header;
        self.state = State::Transfer(Transfer { moment, stage, bytes_read: 0, newline_ms: 0 });
    }

    fn read_header(&mut self, line: &[u8], cx: &mut Context) {
        let text = printable(line);
        match answers::header(line) {
            Header::KeepAlive => {}
            Header::Payload(payload) => self.begin_load(payload, cx),
            Header::Error => {
                let why = format!("MASTER aborted replication with an error: {}", &text[1..]);
                self.give_up(By::Us, why, cx);
            }
            Header::BadLength => {
                self.give_up(By::Us, format!("Bad bulk length from MASTER: '{text}'"), cx);
            }
            Header::Foreign => self.give_up(
                By::Us,
                format!(
                    "Bad protocol from MASTER, the first byte is not '$' (we received '{text}'), \
                     are you sure the host and port are right?"
                ),
                cx,
            ),
        }
    }

    fn begin_load(&mut self, payload: Payload, cx: &mut Context) {
        let State::Transfer(transfer) = &mut self.state else { return };
        let to = match cx.settings.load_from {
            LoadFrom::Socket => "to parser",
            LoadFrom::Disk => "to disk",
        };
        let moment = transfer.moment;
        transfer.stage = Stage::Loading(payload);
        transfer.newline_ms = cx.now_ms;
        cx.notice(match payload {
            Payload::EndMark(_) => {
                format!("MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF {to}")
            }
            Payload::Length(bytes) => {
                format!("MASTER <-> REPLICA sync: receiving {bytes} bytes from master {to}")
            }
        });
        let is_same_history = moment.is_some_and(|moment| moment.id == self.history.id());
        cx.act(Action::BeginLoad { payload, moment, is_same_history });
    }
}
