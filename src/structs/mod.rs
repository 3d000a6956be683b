//! Containers and text/number routines. Nothing here knows of commands, clients or a server.

pub mod glob;
pub mod long_double;
pub mod number;
pub mod prng;
pub mod words;
