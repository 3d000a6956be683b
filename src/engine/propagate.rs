//! The write stream: what replicas and the append-only file will replay.
//!
//! A command that changed something is recorded with its own words, or with those the handler
//! gave instead. Without anybody to replay the stream nothing is recorded. The sinks themselves
//! (file, replication links) live in their rooms and drain the record each turn.

/// One command of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Propagated {
    pub db: usize,
    pub words: Vec<Box<[u8]>>,
}

#[derive(Default)]
pub struct Propagation {
    active: bool,
    stream: Vec<Propagated>,
    /// Words given by the running command instead of its own.
    replaced: Option<Vec<Propagated>>,
}

impl Propagation {
    /// Starts or stops recording.
    pub fn set_active(&mut self, active: bool) {
        self.active = active;
    }

    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Records these words in place of the running command's own.
    pub fn replace(&mut self, db: usize, words: &[&[u8]]) {
        if !self.active {
            return;
        }
        let list = self.replaced.get_or_insert_default();
        if !words.is_empty() {
            list.push(Propagated::new(db, words.iter().copied()));
        }
    }

    /// The running command ended; `changed` says whether it changed the dataset.
    pub fn finish<'w>(&mut self, db: usize, changed: bool, words: impl Iterator<Item = &'w [u8]>) {
        if !self.active {
            return;
        }
        match self.replaced.take() {
            Some(list) => self.stream.extend(list),
            None if changed => self.stream.push(Propagated::new(db, words)),
            None => {}
        }
    }

    /// A key was deleted by the server's own doing.
    pub fn deletion(&mut self, db: usize, key: &[u8], lazily: bool) {
        if self.active {
            let verb: &[u8] = if lazily { b"UNLINK" } else { b"DEL" };
            self.stream.push(Propagated::new(db, [verb, key].into_iter()));
        }
    }

    /// Fields of a hash were deleted by the server's own doing.
    pub fn field_deletion<'n>(
        &mut self,
        db: usize,
        key: &'n [u8],
        names: impl Iterator<Item = &'n [u8]>,
    ) {
        if self.active {
            let words = [&b"HDEL"[..], key].into_iter().chain(names);
            self.stream.push(Propagated::new(db, words));
        }
    }

    /// How far the stream has come, to wrap what a transaction adds.
    pub fn position(&self) -> usize {
        self.stream.len()
    }

    /// Wraps what was added since `position` in MULTI and EXEC, if it is more than one command.
    pub fn wrap_transaction(&mut self, position: usize) {
        if self.stream.len() > position + 1 {
            let first_db = self.stream[position].db;
            let last_db = self.stream[self.stream.len() - 1].db;
            self.stream.insert(position, Propagated::new(first_db, [&b"MULTI"[..]].into_iter()));
            self.stream.push(Propagated::new(last_db, [&b"EXEC"[..]].into_iter()));
        }
    }

    /// Everything recorded since the last call.
    pub fn drain(&mut self) -> Vec<Propagated> {
        std::mem::take(&mut self.stream)
    }
}

impl Propagated {
    fn new<'w>(db: usize, words: impl Iterator<Item = &'w [u8]>) -> Propagated {
        Propagated { db, words: words.map(Into::into).collect() }
    }
}
