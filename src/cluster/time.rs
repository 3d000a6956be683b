//! The two clocks: one that measures, and one that people read.
//!
//! What is measured must not jump when somebody sets the clock, so times are kept as readings of
//! the monotonic clock; files, packets and replies have milliseconds since 1970.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Of the monotonic clock, which begins anywhere.
    pub ms: u64,
    /// Since 1970.
    pub unix_ms: u64,
}

impl Now {
    /// When since 1970 something was; 0 if it never was, as nodes write it.
    pub fn unix_ms_of(self, time_ms: Option<u64>) -> u64 {
        time_ms.map_or(0, |time_ms| self.unix_ms.saturating_sub(self.age_ms(time_ms)))
    }

    /// When something was that was told as seconds since 1970: not in the future.
    pub fn ms_of_unix_s(self, unix_s: u32) -> u64 {
        let age_ms = self.unix_ms.saturating_sub(u64::from(unix_s) * 1000);
        self.ms.saturating_sub(age_ms)
    }

    pub fn age_ms(self, time_ms: u64) -> u64 {
        self.ms.saturating_sub(time_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_years_and_measured_by_themselves() {
        let now = Now { ms: 10_000, unix_ms: 1_700_000_000_000 };
        assert_eq!(now.unix_ms_of(Some(9_000)), 1_699_999_999_000);
        assert_eq!(now.unix_ms_of(None), 0);
        assert_eq!(now.ms_of_unix_s(1_699_999_995), 5_000);
        assert_eq!(now.ms_of_unix_s(u32::MAX), 10_000);
        assert_eq!((now.ms_of_unix_s(0), now.age_ms(11_000)), (0, 0));
    }
}
