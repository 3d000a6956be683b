//! What is known of TLS: certificates and when they end, and how handshakes went.

/// How long before its end a certificate is warned of.
const WARN_BEFORE_SECONDS: u64 = 30 * 24 * 60 * 60;

/// What is shown of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateReport {
    /// In hexadecimal digits.
    pub serial: String,
    pub expires_unix: u64,
}

impl CertificateReport {
    /// How many seconds are left at this time; less than none once it has expired.
    pub fn expires_in_seconds(&self, unix_seconds: u64) -> i64 {
        self.expires_unix as i64 - unix_seconds as i64
    }

    /// Whether its end is so close, or past, that somebody has to act.
    pub fn ends_soon(&self, unix_seconds: u64) -> bool {
        self.expires_unix < unix_seconds.saturating_add(WARN_BEFORE_SECONDS)
    }
}

/// The certificates in use.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct TlsReport {
    pub server: Option<CertificateReport>,
    /// The one for outgoing connections, if it is another one.
    pub client: Option<CertificateReport>,
    /// Of the authorities the one that ends first.
    pub authority: Option<CertificateReport>,
}

/// How handshakes with clients went.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Handshakes {
    pub done: u64,
    /// Of those that were done, how many have taken up an earlier session.
    pub resumed: u64,
    pub failed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_warned_of_a_month_before() {
        let report = CertificateReport { serial: "01".to_owned(), expires_unix: 3_000_000 };
        assert_eq!(report.expires_in_seconds(2_999_990), 10);
        assert_eq!(report.expires_in_seconds(3_000_001), -1);
        assert!(!report.ends_soon(3_000_000 - 31 * 86_400));
        assert!(report.ends_soon(3_000_000 - 29 * 86_400));
        assert!(report.ends_soon(4_000_000));
    }
}
