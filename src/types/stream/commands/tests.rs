//! What the write stream says of stream commands.
