//! The integration tests, one binary.
//!
//! Transcripts are the mother tongue: `transcript` reads them, `play` has them answered by an
//! engine in process, by the binary over TCP and by a real Redis. `laws` checks the command table,
//! `script_law` that scripts get what clients get, `script_words` that wrong words do nothing in
//! them, and `limits` what numbers do to commands, `tcp` what only a socket shows, `threads` what
//! only many threads for sockets show, `subscribers` what listening clients do to a server,
//! `acl` how users come from files and go back into them,
//! `service` what its system sees of one, `persistence` and `append` what outlives one, `rdb` that
//! values move to a real Redis and back, `migration` that
//! whole datasets do, `moves` that single keys do, `exporters` what monitoring tools read,
//! `queue`, `workers` and `script_jobs` that jobs are done once, `sentinel` that
//! ours keep masters alive, alone and with real ones, `interop` that the public tools work,
//! `cluster` what nodes of a cluster say to each other and keep, `mixed` that real ones and ours
//! are one cluster,
//! `tls` what TLS lets in and through, and `tls_links` what servers say to each other by it,
//! `differential` that random
//! commands get Redis's replies, `tidy` the shape of the source itself, `compatibility` that the
//! generated document is fresh, `claim` that servers keep off each other's logs, `crash` and
//! `crash_save` that no fault of the disk (`sim_disk`) breaks what the append-only log and the
//! snapshot file promise, `repl_sim` that none of the network, the disks or the clocks breaks what
//! replication does, and `peers` that no strange primary or replica does.

mod acl;
mod answer;
mod aof;
mod claim;
mod client;
mod cluster;
mod compatibility;
mod crash;
mod crash_save;
mod differential;
mod exporters;
mod interop;
mod laws;
mod limits;
mod local;
mod memory;
mod migration;
mod mixed;
mod moves;
mod peers;
mod persistence;
mod play;
mod ports;
mod queue;
mod rdb;
mod repl_sim;
mod replication;
mod script_jobs;
mod script_law;
mod script_words;
mod sentinel;
mod server;
mod service;
mod shape;
mod sim_disk;
mod slot_moves;
mod subscribers;
mod tcp;
mod threads;
mod tidy;
mod tls;
mod tls_client;
mod tls_links;
mod transcript;
mod workers;
