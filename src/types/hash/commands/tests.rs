//! The hash commands against an engine in process: replies, what is replayed, and events.
