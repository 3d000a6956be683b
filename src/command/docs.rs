//! A command's syntax in one line, worded from its argument tree: for HELP and the generated
//! documents.

use super::Command;
use super::spec::{Arg, ArgKind};

/// `SET key value [NX | XX] [GET] ...`
pub fn syntax(command: &Command) -> String {
    let mut line = command.name.to_ascii_uppercase();
    for arg in command.args {
        line.push(' ');
        put_arg(&mut line, arg);
    }
    line
}

fn put_arg(line: &mut String, arg: &Arg) {
    if arg.optional {
        line.push('[');
    }
    put_occurrence(line, arg);
    if arg.multiple {
        line.push_str(" [");
        if arg.multiple_token {
            put_occurrence(line, arg);
        } else {
            put_value(line, arg);
        }
        line.push_str(" ...]");
    }
    if arg.optional {
        line.push(']');
    }
}

/// The token and the value after it.
fn put_occurrence(line: &mut String, arg: &Arg) {
    if let Some(token) = arg.token {
        line.push_str(token);
        if matches!(arg.kind, ArgKind::PureToken) {
            return;
        }
        line.push(' ');
    }
    put_value(line, arg);
}

fn put_value(line: &mut String, arg: &Arg) {
    match arg.kind {
        ArgKind::OneOf(choices) => {
            let braces = !arg.optional || arg.token.is_some();
            line.push_str(if braces { "<" } else { "" });
            for (index, choice) in choices.iter().enumerate() {
                if index > 0 {
                    line.push_str(" | ");
                }
                put_arg(line, choice);
            }
            line.push_str(if braces { ">" } else { "" });
        }
        ArgKind::Block(parts) => {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    line.push(' ');
                }
                put_arg(line, part);
            }
        }
        _ => line.push_str(arg.name),
    }
}
