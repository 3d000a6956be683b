//! Whom we believe: the authorities, and the checks of peers' certificates by them.
//!
//! As in Redis a peer must show a certificate that an authority has signed; host names are not
//! compared, on either side. A certificate that is itself among the authorities is believed as it
//! is: webpki refuses those that may sign others, but one self-signed certificate for everything
//! is how many begin.

use super::certificate::Facts;
use super::pem;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The authorities.
#[derive(Clone, Debug)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    certificates: Arc<Vec<CertificateDer<'static>>>,
}

impl PartialEq for Trust {
    fn eq(&self, other: &Trust) -> bool {
        self.certificates == other.certificates
    }
}

impl Trust {
    /// Reads a file, and the files of a directory, of which those are left out that hold nothing of
    /// use.
    pub fn load(file: Option<&Path>, directory: Option<&Path>) -> Result<Trust, String> {
        let (roots, certificates) = (RootCertStore::empty(), Vec::new());
        let mut gathered = Gathered { roots, certificates, refusal: None };
        if let Some(path) = file {
            gathered.add_file(path).map_err(|reason| format!("{}: {reason}", path.display()))?;
        }
        for path in directory.map(files_of).transpose()?.unwrap_or_default() {
            // A directory of OpenSSL's has links, lists of revocations and what not.
            let _ = gathered.add_file(&path);
        }
        if gathered.certificates.is_empty() && (file.is_some() || directory.is_some()) {
            return Err(gathered.refusal.unwrap_or_else(|| "no certificate found".to_owned()));
        }
        let Gathered { roots, certificates, .. } = gathered;
        Ok(Trust { roots: Arc::new(roots), certificates: Arc::new(certificates) })
    }

    /// The certificates of the authorities.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    fn is_believed(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        self.certificates.iter().any(|own| own == certificate)
            && Facts::read(certificate).is_some_and(|facts| facts.holds_at(now.as_secs()))
    }

    /// The check of servers that we connect to.
    pub fn of_servers(&self, provider: &CryptoProvider) -> Arc<dyn ServerCertVerifier> {
        let algorithms = provider.signature_verification_algorithms;
        Arc::new(ServerCheck { trust: Some(self.clone()), algorithms })
    }

    /// The check of clients, who need not show a certificate if it `is_optional`.
    pub fn of_clients(
        &self,
        provider: &Arc<CryptoProvider>,
        is_optional: bool,
    ) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let roots = Arc::clone(&self.roots);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
        let builder = if is_optional { builder.allow_unauthenticated() } else { builder };
        let usual = builder.build().map_err(|error| error.to_string())?;
        Ok(Arc::new(ClientCheck { trust: self.clone(), usual }))
    }
}

/// The files of a directory, in the order of their names, so that the same files are the same
/// authorities.
pub fn files_of(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let failure = |error: std::io::Error| {
        format!("{}: {}", directory.display(), crate::config::os_reason(&error))
    };
    let entries = fs::read_dir(directory).map_err(failure)?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

struct Gathered {
    roots: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
    /// Why the last one was refused that was.
    refusal: Option<String>,
}

impl Gathered {
    fn add_file(&mut self, path: &Path) -> Result<(), String> {
        let text = pem::read_file(path).map_err(|error| crate::config::os_reason(&error))?;
        let before = self.certificates.len();
        for section in pem::sections(&text)?.into_iter().filter(pem::Section::is_certificate) {
            self.add(section.der.into());
        }
        match self.certificates.len() > before {
            true => Ok(()),
            false => Err(self.refusal.clone().unwrap_or_else(|| "no certificate found".to_owned())),
        }
    }

    fn add(&mut self, certificate: CertificateDer<'static>) {
        match self.roots.add(certificate.clone()) {
            Ok(()) if self.certificates.contains(&certificate) => {}
            Ok(()) => self.certificates.push(certificate),
            Err(error) => self.refusal = Some(error.to_string()),
        }
    }
}

/// The check of a server that is believed whoever it is.
pub fn of_anybody(provider: &CryptoProvider) -> Arc<dyn ServerCertVerifier> {
    let algorithms = provider.signature_verification_algorithms;
    Arc::new(ServerCheck { trust: None, algorithms })
}

#[derive(Debug)]
struct ServerCheck {
    /// Without it nothing is checked but that the server has the key of what it shows.
    trust: Option<Trust>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trust) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let (roots, algorithms) = (&trust.roots, self.algorithms.all);
        let checked = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            roots,
            intermediates,
            now,
            algorithms,
        );
        match checked {
            Err(error) if !trust.is_believed(end_entity, now) => Err(error),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct ClientCheck {
    trust: Trust,
    usual: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for ClientCheck {
    fn client_auth_mandatory(&self) -> bool {
        self.usual.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.usual.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.usual.verify_client_cert(end_entity, intermediates, now) {
            Err(_) if self.trust.is_believed(end_entity, now) => {
                Ok(ClientCertVerified::assertion())
            }
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
