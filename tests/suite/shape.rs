//! Whether a reply has the shape that its command's record declares.

use crate::answer::Answer;
use rufous::command::table::Row;
use rufous::command::{Lookup, Shape, Table};
use rufous::resp::OwnedRequest;

/// The command a request names, if there is one.
pub fn row<'a>(table: &'a Table, words: &[Vec<u8>]) -> Option<&'a Row> {
    match table.lookup(&OwnedRequest::from_args(words).as_request()) {
        Lookup::Found(id) => Some(table.row(id)),
        _ => None,
    }
}

/// What is wrong with the shape of a reply, if something is.
pub fn fault(table: &Table, words: &[Vec<u8>], answer: &Answer) -> Option<String> {
    let command = row(table, words)?.command;
    let is_queued = *answer == Answer::Simple(b"QUEUED".to_vec());
    if is_queued || matches!(answer, Answer::Error(_)) || has_shape(command.reply, answer) {
        return None;
    }
    Some(format!("a reply of the shape {:?}", command.reply))
}

fn has_shape(shape: Shape, answer: &Answer) -> bool {
    use Answer::{Array, Bulk, Double, Integer, Map, Null, NullArray, Set, Simple, Verbatim};
    match shape {
        Shape::Any => true,
        Shape::Ok => *answer == Simple(b"OK".to_vec()),
        Shape::OkOrNull => *answer == Simple(b"OK".to_vec()) || *answer == Null,
        Shape::Simple => matches!(answer, Simple(_)),
        Shape::Integer => matches!(answer, Integer(_)),
        Shape::IntegerOrNull => matches!(answer, Integer(_) | Null),
        Shape::Bulk => matches!(answer, Bulk(_) | Verbatim(_)),
        Shape::BulkOrNull => matches!(answer, Bulk(_) | Verbatim(_) | Null),
        Shape::Double => matches!(answer, Double(_) | Bulk(_)),
        Shape::Array => matches!(answer, Array(_) | NullArray),
        Shape::Map => match answer {
            Map(_) => true,
            Array(elements) => elements.len() % 2 == 0,
            _ => false,
        },
        Shape::Set => matches!(answer, Set(_) | Array(_)),
    }
}
