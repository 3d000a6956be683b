//! The wire protocol: requests in, replies out.

pub mod command;
pub mod frame;
pub mod reply;
pub mod request;

pub use reply::{Deferred, Mark, Protocol, Reply, ReplyBuf};
pub use request::{
    Limits, OwnedRequest, ProtocolError, Request, RequestReader, Room, looks_like_http,
};
