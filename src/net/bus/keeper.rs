//! The thread that writes nodes.conf.
//!
//! It has the file to itself and writes in order. What has queued up while it wrote is written as
//! its newest version alone, which is as good for those who wait for an older one: each is all that
//! the node knows.

use crate::engine::bus::Saver;
use crate::observe::memory;
use crate::persist::nodes::{NodesFile, Version};
use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use tokio::sync::mpsc as async_mpsc;

/// A version of the file, and for whom it is.
pub struct Order {
    pub version: Version,
    pub saver: Saver,
}

/// What has become of one.
pub struct Kept {
    pub saver: Saver,
    pub result: Result<(), String>,
}

pub struct Keeper {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

impl Keeper {
    pub fn start(mut file: NodesFile) -> io::Result<(Keeper, async_mpsc::UnboundedReceiver<Kept>)> {
        let (orders, queue) = mpsc::channel();
        let (told, kept) = async_mpsc::unbounded_channel();
        let thread = thread::Builder::new().name("keeper".into()).spawn(move || {
            memory::count_this_thread();
            keep(
                &queue,
                |version| write(&mut file, version),
                |outcome| {
                    // Nobody is left to hear it when the executor is gone.
                    let _ = told.send(outcome);
                },
            );
        })?;
        Ok((Keeper { orders, thread }, kept))
    }

    pub fn save(&self, order: Order) {
        self.orders.send(order).expect("the thread lives until it is to end");
    }

    /// Waits until everything is written, and ends the thread.
    pub fn finish(self) {
        drop(self.orders);
        // A panic of it has ended the process.
        let _ = self.thread.join();
    }
}

fn write(file: &mut NodesFile, version: &Version) -> Result<(), String> {
    file.write(version).map_err(|not_written| {
        tracing::warn!("{not_written}");
        not_written.reason()
    })
}

fn keep(
    queue: &mpsc::Receiver<Order>,
    mut write: impl FnMut(&Version) -> Result<(), String>,
    mut tell: impl FnMut(Kept),
) {
    while let Ok(first) = queue.recv() {
        let mut savers = vec![first.saver];
        let mut newest = first.version;
        for Order { version, saver } in queue.try_iter() {
            let is_synced = newest.is_synced || version.is_synced;
            newest = Version { is_synced, ..version };
            savers.push(saver);
        }
        let result = write(&newest);
        for saver in savers {
            tell(Kept { saver, result: result.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::saves::Ticket;

    fn order(text: &str, is_synced: bool, saver: Saver) -> Order {
        Order { version: Version { text: text.to_owned(), is_synced }, saver }
    }

    #[test]
    fn of_those_that_wait_the_newest_is_written_and_all_are_told() {
        let (orders, queue) = mpsc::channel();
        let machine = Saver::Machine(Ticket::default());
        orders.send(order("one", false, machine)).expect("it is read");
        let (mut written, mut told) = (Vec::new(), Vec::new());
        let mut orders = Some(orders);
        let write = |version: &Version| {
            // While the first is written three more come.
            if let Some(orders) = orders.take() {
                for (text, is_synced) in [("two", true), ("three", false), ("four", false)] {
                    orders.send(order(text, is_synced, Saver::End)).expect("it is read");
                }
            }
            written.push(version.clone());
            if version.text == "one" { Ok(()) } else { Err("full".to_owned()) }
        };
        keep(&queue, write, |Kept { saver, result }| told.push((saver, result)));
        let version = |text: &str, is_synced| Version { text: text.to_owned(), is_synced };
        assert_eq!(written, [version("one", false), version("four", true)]);
        let late = (Saver::End, Err("full".to_owned()));
        assert_eq!(told, [(machine, Ok(())), late.clone(), late.clone(), late]);
    }
}
