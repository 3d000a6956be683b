//! The channels on which keyspace events are told, and which of the two kinds are wanted.

use crate::config::EventClasses;
use crate::keyspace::KeyEvent;

/// One message: a channel, and what is said there.
pub struct Notification<'a> {
    pub channel: Vec<u8>,
    pub message: &'a [u8],
}

/// What is published for an event: first to those who watch the key, then to those who watch the
/// kind of event.
pub fn notifications(
    classes: EventClasses,
    event: &KeyEvent,
) -> impl Iterator<Item = Notification<'_>> {
    let name = event.name.as_bytes();
    let channel = |kind: &str, subject: &[u8]| {
        [format!("__{kind}@{}__:", event.db).as_bytes(), subject].concat()
    };
    let by_key = classes
        .intersects(EventClasses::KEYSPACE)
        .then(|| Notification { channel: channel("keyspace", &event.key), message: name });
    let by_event = classes
        .intersects(EventClasses::KEYEVENT)
        .then(|| Notification { channel: channel("keyevent", name), message: &event.key });
    by_key.into_iter().chain(by_event)
}

/// The classes worth collecting: none as long as no kind of channel is chosen.
pub fn collected(classes: EventClasses) -> EventClasses {
    let is_published = classes.intersects(EventClasses::KEYSPACE.or(EventClasses::KEYEVENT));
    if is_published { classes } else { EventClasses::NONE }
}
