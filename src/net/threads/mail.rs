//! The way from one thread to another: a bounded ring with one sender and one receiver, in which
//! things are handed over in batches.
//!
//! Neither side ever waits for the other. What does not fit stays with the sender, who is told by
//! its own bell when there is room; the receiver looks when its bell was rung. `rtrb` was taken for
//! the ring: it is wait-free, and both its ends keep a copy of the other's position, so that a
//! batch costs each side one exchange of a cache line.

use super::bell::Bell;
use super::sync::atomic::{AtomicBool, Ordering, fence};
use std::collections::VecDeque;
use std::sync::Arc;

/// How much may be under way at once.
const CAPACITY: usize = 1024;

/// What wakes a thread.
pub type Wake = Box<dyn Fn() + Send + Sync>;

pub struct Sender<T> {
    ring: rtrb::Producer<T>,
    /// What has been said and not handed over.
    waiting: VecDeque<T>,
    /// The sender waits for room.
    wants_room: Arc<AtomicBool>,
    receiver: Arc<Bell<Wake>>,
}

pub struct Receiver<T> {
    ring: rtrb::Consumer<T>,
    wants_room: Arc<AtomicBool>,
    sender: Arc<Bell<Wake>>,
}

/// A way from the thread with the first bell to that with the second.
pub fn pair<T>(sender: &Arc<Bell<Wake>>, receiver: &Arc<Bell<Wake>>) -> (Sender<T>, Receiver<T>) {
    pair_for(CAPACITY, sender, receiver)
}

/// The same for so much at once.
pub fn pair_for<T>(
    capacity: usize,
    sender: &Arc<Bell<Wake>>,
    receiver: &Arc<Bell<Wake>>,
) -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    let wants_room = Arc::new(AtomicBool::new(false));
    let to = Sender {
        ring: producer,
        waiting: VecDeque::new(),
        wants_room: Arc::clone(&wants_room),
        receiver: Arc::clone(receiver),
    };
    (to, Receiver { ring: consumer, wants_room, sender: Arc::clone(sender) })
}

impl<T> Sender<T> {
    /// Puts something into the next batch.
    pub fn push(&mut self, thing: T) {
        self.waiting.push_back(thing);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Hands over the batch, or as much as there is room for.
    pub fn send(&mut self) {
        let mut has_sent = self.fill();
        if !self.waiting.is_empty() {
            self.wants_room.store(true, Ordering::Relaxed);
            // Either the receiver sees this after it has made room, or the room is seen here.
            fence(Ordering::SeqCst);
            has_sent |= self.fill();
        }
        if has_sent {
            self.receiver.ring();
        }
    }

    /// Fills the room that there is; whether there was any.
    fn fill(&mut self) -> bool {
        let count = self.ring.slots().min(self.waiting.len());
        if count == 0 {
            return false;
        }
        let chunk = self.ring.write_chunk_uninit(count).expect("there is room for so many");
        chunk.fill_from_iter(self.waiting.drain(..count));
        true
    }
}

impl<T> Receiver<T> {
    /// Takes what has been handed over.
    pub fn take(&mut self, into: &mut Vec<T>) {
        let count = self.ring.slots();
        if count == 0 {
            return;
        }
        into.extend(self.ring.read_chunk(count).expect("there are so many"));
        fence(Ordering::SeqCst);
        if self.wants_room.load(Ordering::Relaxed) {
            self.wants_room.store(false, Ordering::Relaxed);
            self.sender.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Condvar;
    use std::sync::Mutex;

    /// A bell that a plain thread can wait for.
    #[derive(Default)]
    struct Sleeper {
        woken: Mutex<bool>,
        signal: Condvar,
    }

    fn bell() -> (Arc<Bell<Wake>>, Arc<Sleeper>) {
        let sleeper = Arc::new(Sleeper::default());
        let woken = Arc::clone(&sleeper);
        let wake: Wake = Box::new(move || {
            *woken.woken.lock().expect("no panic") = true;
            woken.signal.notify_one();
        });
        (Arc::new(Bell::new(wake)), sleeper)
    }

    fn sleep(bell: &Bell<Wake>, sleeper: &Sleeper) {
        bell.fall_asleep();
        let mut woken = sleeper.woken.lock().expect("no panic");
        while !*woken {
            woken = sleeper.signal.wait(woken).expect("no panic");
        }
        *woken = false;
        bell.get_up();
    }

    #[test]
    fn what_does_not_fit_waits_with_the_sender() {
        let (here, there) = (bell().0, bell().0);
        let (mut sender, mut receiver) = pair(&here, &there);
        (0..CAPACITY + 5).for_each(|n| sender.push(n));
        sender.send();
        assert!(there.answer() && !here.has_rung());
        let mut taken = Vec::new();
        receiver.take(&mut taken);
        assert_eq!(taken.len(), CAPACITY);
        assert!(here.answer(), "there is room");
        sender.send();
        receiver.take(&mut taken);
        assert!(taken.into_iter().eq(0..CAPACITY + 5) && sender.is_empty());
    }

    #[test]
    fn everything_arrives_in_order_whoever_sleeps() {
        const COUNT: usize = 200_000;
        let ((here, sender_sleeps), (there, receiver_sleeps)) = (bell(), bell());
        let (mut sender, mut receiver) = pair(&here, &there);
        let own = Arc::clone(&here);
        let thread = std::thread::spawn(move || {
            for n in 0..COUNT {
                sender.push(n);
                if n % 37 == 0 || n + 1 == COUNT {
                    sender.send();
                }
                while sender.waiting.len() > 64 {
                    own.answer();
                    sender.send();
                    if sender.waiting.len() > 64 {
                        sleep(&own, &sender_sleeps);
                    }
                }
            }
            while !sender.is_empty() {
                own.answer();
                sender.send();
                if !sender.is_empty() {
                    sleep(&own, &sender_sleeps);
                }
            }
        });
        let mut taken = Vec::new();
        while taken.len() < COUNT {
            there.answer();
            let before = taken.len();
            receiver.take(&mut taken);
            if taken.len() == before {
                sleep(&there, &receiver_sleeps);
            }
        }
        thread.join().expect("no panic");
        assert!(taken.into_iter().eq(0..COUNT));
    }
}
