//! What a certificate says of itself: whom it names, and until when it holds.
//!
//! What is read here decides no trust: whether a certificate may be believed was decided before, by
//! rustls. A certificate that cannot be read here names nobody.

use crate::engine::CertificateNames;
use crate::observe::tls::CertificateReport;
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// A certificate that could be read.
pub struct Facts(Certificate);

impl Facts {
    pub fn read(der: &[u8]) -> Option<Facts> {
        Certificate::from_der(der).ok().map(Facts)
    }

    /// Whom it names, in the words by which a client may be let in.
    pub fn names(&self) -> CertificateNames {
        let subject = self.0.tbs_certificate().subject();
        CertificateNames { common_name: common_name(subject), uris: self.uris() }
    }

    /// The first URIs of the alternative names, as far as they are of use as names.
    fn uris(&self) -> Box<[Box<[u8]>]> {
        let extensions = self.0.tbs_certificate().extensions();
        let found = extensions.iter().flat_map(|all| all.iter());
        let found = found.filter(|extension| extension.extn_id == SUBJECT_ALT_NAME);
        let names =
            found.filter_map(|found| SubjectAltName::from_der(found.extn_value.as_bytes()).ok());
        let uri = |name: &GeneralName| match name {
            GeneralName::UniformResourceIdentifier(uri) => useful(uri.as_bytes()),
            _ => None,
        };
        names.flat_map(|names| names.0.iter().filter_map(uri).collect::<Vec<_>>()).collect()
    }

    /// What is shown of it to those who watch over the server.
    pub fn report(&self) -> CertificateReport {
        let certificate = self.0.tbs_certificate();
        let serial = certificate.serial_number().as_bytes();
        CertificateReport {
            serial: serial.iter().map(|byte| format!("{byte:02X}")).collect(),
            expires_unix: certificate.validity().not_after.to_unix_duration().as_secs(),
        }
    }

    /// Whether it holds at this time.
    pub fn holds_at(&self, unix_seconds: u64) -> bool {
        let validity = self.0.tbs_certificate().validity();
        let begin = validity.not_before.to_unix_duration().as_secs();
        (begin..=validity.not_after.to_unix_duration().as_secs()).contains(&unix_seconds)
    }

    /// Its public key, as other things show it with which it is compared.
    pub fn public_key(&self) -> Option<Vec<u8>> {
        self.0.tbs_certificate().subject_public_key_info().to_der().ok()
    }
}

/// The first common name, as OpenSSL finds it.
fn common_name(subject: &Name) -> Option<Box<[u8]>> {
    let found = subject.iter().find(|attribute| attribute.oid == COMMON_NAME)?;
    let is_text = matches!(
        found.value.tag(),
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::TeletexString
    );
    useful(found.value.value()).filter(|_| is_text)
}

/// A name with a zero byte in it is one to those who read on, and another one to those who stop.
fn useful(name: &[u8]) -> Option<Box<[u8]>> {
    (!name.is_empty() && !name.contains(&0)).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::pem;

    fn der(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/fixtures/tls/{name}.crt", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(path).expect("it is kept there");
        pem::sections(&text).expect("it is whole").remove(0).der
    }

    fn facts(name: &str) -> Facts {
        Facts::read(&der(name)).expect("it can be read")
    }

    #[test]
    fn a_certificate_says_whom_it_names() {
        let names = facts("client").names();
        assert_eq!(names.common_name.as_deref(), Some(&b"alice"[..]));
        let uris: Vec<&[u8]> = names.uris.iter().map(|uri| &**uri).collect();
        assert_eq!(uris, [&b"urn:rufous:alice"[..], b"urn:rufous:second"]);
        assert_eq!(facts("nameless").names(), CertificateNames::default());
        assert_eq!(facts("v1").names().common_name.as_deref(), Some(&b"old"[..]));
        assert_eq!(useful(b"alice\0.evil"), None);
    }

    #[test]
    fn a_certificate_says_until_when_it_holds() {
        let report = facts("expired").report();
        assert_eq!(report.expires_unix, 1_609_459_200);
        assert!(report.serial.len() >= 2 && report.serial.len().is_multiple_of(2));
        assert!(facts("expired").holds_at(1_600_000_000));
        assert!(!facts("expired").holds_at(1_700_000_000));
        assert!(facts("server").holds_at(1_700_000_000));
        assert!(!facts("server").holds_at(1_500_000_000));
    }

    /// Whatever was cut off or changed names nobody, and nothing breaks.
    #[test]
    fn what_is_no_certificate_names_nobody() {
        let whole = der("client");
        for end in 0..whole.len() {
            assert!(Facts::read(&whole[..end]).is_none(), "{end}");
        }
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= flip;
                if let Some(facts) = Facts::read(&changed) {
                    let _ = (facts.names(), facts.report(), facts.holds_at(0));
                }
            }
        }
    }
}
