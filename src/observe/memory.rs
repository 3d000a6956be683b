//! The allocator's figures, as INFO and eviction see them.

/// What the allocator says of the process; zero where it does not say.
#[derive(Clone, Copy, Default, Debug)]
pub struct MemoryFigures {
    /// Bytes handed out and not yet given back: `used_memory`.
    pub used_bytes: usize,
    pub active_bytes: usize,
    pub resident_bytes: usize,
    /// Resident bytes of the whole process.
    pub process_bytes: usize,
    pub total_system_bytes: usize,
}
