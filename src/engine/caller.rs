//! Who has a command run, and what follows from it.
//!
//! A command runs because a client asked for it, as a part of a transaction or a script, again
//! because what its client waits for has come, or because an AOF holds it. Handlers are the same
//! for all of them; what differs is a question asked here, so that a new kind of caller (a script,
//! a primary) is one more row of answers and no handler has to be looked through for it.

use crate::keyspace::ExpiryRule;

/// Who has the running command run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// A client, by itself.
    Client,
    /// EXEC.
    Exec,
    /// A script, by redis.call.
    Script,
    /// The waiting room: the client has waited for a key, which has come.
    Retry,
    /// The append-only file that is loaded.
    Aof,
    /// The primary that is followed, by its stream.
    Primary,
    /// The owner of slots that are on their way here, for their keys.
    Mover,
}

impl Caller {
    /// Whether the reply may come later, from another thread or when something has happened: it
    /// must stand by itself.
    pub fn may_answer_late(self) -> bool {
        match self {
            Caller::Client | Caller::Retry => true,
            Caller::Exec | Caller::Script | Caller::Aof | Caller::Primary | Caller::Mover => false,
        }
    }

    /// Whether the command is a part of something that is to be seen as a whole: by replicas and
    /// the AOF, by a snapshot, and by the client, who must get nothing between the parts.
    pub fn is_within_transaction(self) -> bool {
        matches!(self, Caller::Exec | Caller::Script | Caller::Aof | Caller::Mover)
    }

    /// Whether the request came as it is from the client, whose transaction is spoilt if it is
    /// refused. What an AOF holds stands for what clients sent.
    pub fn is_the_client_itself(self) -> bool {
        match self {
            Caller::Client | Caller::Retry | Caller::Aof | Caller::Primary => true,
            Caller::Exec | Caller::Script | Caller::Mover => false,
        }
    }

    /// What becomes of keys whose time has come. What is replayed does as it did when it was
    /// written: expired keys are there until the AOF, or the primary, says that they are not.
    pub fn expiry_rule(self) -> ExpiryRule {
        match self {
            Caller::Client | Caller::Exec | Caller::Script | Caller::Retry => ExpiryRule::Delete,
            Caller::Aof | Caller::Primary | Caller::Mover => ExpiryRule::Ignore,
        }
    }

    /// Whether whoever wrote the command down has run it: limits that have come since bound what it
    /// asks for, and are no errors.
    pub fn was_accepted_before(self) -> bool {
        matches!(self, Caller::Aof | Caller::Primary | Caller::Mover)
    }

    /// Whether it is a request by itself and no part of another one.
    pub fn is_a_request(self) -> bool {
        matches!(self, Caller::Client | Caller::Retry | Caller::Primary)
    }

    /// Whether the request is seen for the first time: counted as the client's, shown to those who
    /// watch.
    pub fn is_first_try(self) -> bool {
        !matches!(self, Caller::Retry | Caller::Mover)
    }
}
