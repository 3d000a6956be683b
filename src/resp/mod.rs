//! The wire protocol: requests in, replies out.
