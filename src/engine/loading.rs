//! What is known of a dataset that is being loaded, for the gate and for INFO.

/// The server is loading its dataset: commands that touch it are refused.
#[derive(Clone, Copy, Default, Debug)]
pub struct Loading {
    pub started_unix_seconds: u64,
    pub total_bytes: u64,
    pub loaded_bytes: u64,
}
