//! Configuration: one row a directive.
