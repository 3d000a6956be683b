//! The cluster: which node has which slot, and what becomes of a request that came to another.

pub mod route;
