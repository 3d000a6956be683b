//! The gate of rights: whether a user may have this run, by whomever it is run for them.

use super::{Asked, Passed};
use crate::acl::check::{self, Denial};
use crate::acl::log::Reason;
use crate::command::{CommandError, Flags};
use crate::engine::{Caller, Cx};

/// Who may do everything costs a load and a branch; others are asked about at length.
#[inline]
pub(super) fn user_may(cx: &mut Cx<'_>, asked: &Asked<'_>, _: Flags) -> Passed {
    match cx.server.user_of(cx.session()).may_all() {
        true => Ok(()),
        false => limited_user_may(cx, asked),
    }
}

#[inline(never)]
fn limited_user_may(cx: &mut Cx<'_>, asked: &Asked<'_>) -> Passed {
    // What is queued may stand behind a SELECT that is queued, too. It is asked again when it runs.
    let is_queued = cx.caller == Caller::Client && cx.session().transaction.is_some();
    let db = (!is_queued).then_some(cx.keys.db);
    let user = cx.server.user_of(cx.session());
    let row = cx.server.table.row(asked.id);
    match check::check(user, &check::Asked::new(row, &asked.request, db)) {
        Ok(()) => Ok(()),
        Err(denial) => Err(refuse(cx, asked, denial)),
    }
}

/// Notes a refusal where operators find it, and words it for the client.
#[cold]
fn refuse(cx: &mut Cx<'_>, asked: &Asked<'_>, denial: Denial) -> CommandError {
    let full_name = cx.server.table.row(asked.id).full_name;
    let db;
    let (reason, object) = match denial {
        Denial::Command => (Reason::Command, full_name.as_bytes()),
        Denial::Key(at) => (Reason::Key, asked.request.arg(at)),
        Denial::Channel(at) => (Reason::Channel, asked.request.arg(at)),
        Denial::Database(number) => {
            db = number.map_or_else(|| full_name.to_owned(), |number| number.to_string());
            (Reason::Database, db.as_bytes())
        }
    };
    let hides = cx.server.config.hide_user_data_from_log;
    let is_data = matches!(reason, Reason::Key | Reason::Channel);
    cx.note_refusal(reason, if hides && is_data { b"(redacted)" } else { object }, None);
    let user = cx.server.user_of(cx.session()).shown_name();
    let text = match cx.caller {
        Caller::Exec => format!("NOPERM {RULES_CHANGED}{}", short_reason(denial)),
        Caller::Script => {
            format!("ERR ACL failure in script: {}", reason_text(denial, &user, full_name))
        }
        _ => format!("NOPERM {}", reason_text(denial, &user, full_name)),
    };
    CommandError::Text(text.into_boxed_str())
}

const RULES_CHANGED: &str = concat!(
    "ACLs rules changed between the moment the transaction was accumulated and the EXEC call. ",
    "This command is no longer allowed for the following reason: ",
);

fn short_reason(denial: Denial) -> &'static str {
    match denial {
        Denial::Command => "no permission to execute the command or subcommand",
        Denial::Database(_) => "no permission to access one of the databases",
        Denial::Key(_) => "no permission to touch the specified keys",
        Denial::Channel(_) => "no permission to access one of the channels used as arguments",
    }
}

fn reason_text(denial: Denial, user: &str, command: &str) -> String {
    match denial {
        Denial::Command => {
            format!("User {user} has no permissions to run the '{command}' command")
        }
        Denial::Database(_) => "No permissions to access database".to_owned(),
        Denial::Key(_) => "No permissions to access a key".to_owned(),
        Denial::Channel(_) => "No permissions to access a channel".to_owned(),
    }
}
