//! The parts of an engine, lent together to what works on all of them and may be asked for it by a
//! driver, which has the engine, or within a command, which has its context.

use super::{Clients, Cx, Engine, Server};
use crate::keyspace::Keyspace;

pub struct Core<'a> {
    pub space: &'a mut Keyspace,
    pub clients: &'a mut Clients,
    pub server: &'a mut Server,
}

impl Engine {
    pub fn core(&mut self) -> Core<'_> {
        let Engine { keyspace, clients, server, .. } = self;
        Core { space: keyspace, clients, server }
    }
}

impl Cx<'_> {
    pub fn core(&mut self) -> Core<'_> {
        Core { space: self.keys.space(), clients: self.clients, server: self.server }
    }
}
