//! From the configuration to what TLS is spoken with: files are read, keys decrypted, lists
//! evaluated, and what is wrong is said in the log in Redis's words.
//!
//! All of it happens on a thread that may wait, and nothing is changed: what comes out takes the
//! place of what there was, or does not. A connection keeps what it began with.

use super::certificate::Facts;
use super::ciphers::{self, Selection};
use super::sessions::{Limits, Sessions};
use super::trust::{self, Trust};
use super::{keys, pem};
use crate::config::{Config, Text, TlsAuthClients, os_reason};
use crate::observe::tls::{CertificateReport, TlsReport};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, StoresServerSessions};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What the configuration says of TLS.
#[derive(Clone, Debug)]
pub struct Settings {
    own: Pair,
    for_outgoing: Pair,
    ca_file: Option<PathBuf>,
    ca_directory: Option<PathBuf>,
    dh_params_file: Option<PathBuf>,
    asks_clients: TlsAuthClients,
    replicates: bool,
    clusters: bool,
    protocols: Option<String>,
    ciphers: Option<String>,
    ciphersuites: Option<String>,
    prefers_own_order: bool,
    keeps_sessions: bool,
    sessions: Limits,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
struct Pair {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    passphrase: Option<Vec<u8>>,
}

/// What a single outgoing connection is made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    pub ca_file: Option<PathBuf>,
    pub ca_directory: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub passphrase: Option<Vec<u8>>,
    /// The server is believed whoever it is.
    pub is_insecure: bool,
}

/// It cannot be spoken like this; the log says why.
#[derive(Debug)]
pub struct Unusable;

/// What TLS is spoken with.
pub struct Contexts {
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
    /// For who claims to be a node of the cluster.
    pub bus: Option<Arc<ServerConfig>>,
    pub report: TlsReport,
    /// How the files were when they were read.
    pub stamps: Stamps,
    sessions: Arc<Sessions>,
    limits: Limits,
    asks_clients: TlsAuthClients,
    trust: Trust,
}

/// The files that were read, and what tells that one of them is another one now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

/// Inode, length, and the moments of the last change of content and of inode.
type Stamp = (u64, u64, i64, i64, i64, i64);

fn path(text: Option<&Text>) -> Option<PathBuf> {
    text.filter(|text| !text.is_empty()).map(|text| text.as_path().to_owned())
}

fn words(text: Option<&Text>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(|text| text.to_string_lossy().into_owned())
}

impl Outgoing {
    /// What the configuration says that outgoing connections are made with.
    pub fn of(config: &Config) -> Outgoing {
        let settings = Settings::all_of(config);
        let outgoing = settings.for_outgoing.is_whole().then_some(settings.for_outgoing);
        let Pair { certificate, key, passphrase } = outgoing.unwrap_or(settings.own);
        let Settings { ca_file, ca_directory, .. } = settings;
        let is_insecure = false;
        Outgoing { ca_file, ca_directory, certificate, key, passphrase, is_insecure }
    }

    pub fn load(&self) -> Result<ClientConfig, String> {
        let Outgoing { certificate, key, passphrase, .. } = self.clone();
        let pair = Pair { certificate, key, passphrase };
        let provider = Arc::new(ring::default_provider());
        let trust = Trust::load(self.ca_file.as_deref(), self.ca_directory.as_deref());
        let trust = trust.map_err(|reason| {
            format!("Failed to configure CA certificate(s) file/directory: {reason}")
        })?;
        let check = match self.is_insecure {
            true => trust::of_anybody(&provider),
            false => trust.of_servers(&provider),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        let builder = builder.dangerous().with_custom_certificate_verifier(check);
        let mut client = match pair.is_whole() {
            true => {
                let resolver = SingleCertAndKey::from(pair.load(&provider)?);
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
            false => builder.with_no_client_auth(),
        };
        client.enable_sni = false;
        Ok(client)
    }
}

impl Contexts {
    /// These are in use from now on.
    pub fn take_effect(&self) {
        self.sessions.limit(self.limits);
    }
}

impl Settings {
    /// What the configuration says, if it wants TLS spoken anywhere.
    pub fn of(config: &Config) -> Option<Settings> {
        config.uses_tls().then(|| Settings::all_of(config))
    }

    fn all_of(config: &Config) -> Settings {
        let secret = |text: &Option<Text>| {
            let given = text.as_ref().filter(|text| !text.is_empty());
            given.map(|text| text.as_bytes().to_vec())
        };
        Settings {
            own: Pair {
                certificate: path(config.tls_cert_file.as_ref()),
                key: path(config.tls_key_file.as_ref()),
                passphrase: secret(&config.tls_key_file_pass),
            },
            for_outgoing: Pair {
                certificate: path(config.tls_client_cert_file.as_ref()),
                key: path(config.tls_client_key_file.as_ref()),
                passphrase: secret(&config.tls_client_key_file_pass),
            },
            ca_file: path(config.tls_ca_cert_file.as_ref()),
            ca_directory: path(config.tls_ca_cert_dir.as_ref()),
            dh_params_file: path(config.tls_dh_params_file.as_ref()),
            asks_clients: config.tls_auth_clients,
            replicates: config.tls_replication,
            clusters: config.tls_cluster,
            protocols: words(config.tls_protocols.as_ref()),
            ciphers: words(config.tls_ciphers.as_ref()),
            ciphersuites: words(config.tls_ciphersuites.as_ref()),
            prefers_own_order: config.tls_prefer_server_ciphers,
            keeps_sessions: config.tls_session_caching,
            sessions: Limits {
                count: config.tls_session_cache_size as usize,
                lifetime: Duration::from_secs(u64::from(config.tls_session_cache_timeout)),
            },
        }
    }

    /// How the files are now.
    pub fn stamps(&self) -> Stamps {
        let named = [
            &self.own.certificate,
            &self.own.key,
            &self.for_outgoing.certificate,
            &self.for_outgoing.key,
            &self.ca_file,
            &self.ca_directory,
        ];
        let listed =
            self.ca_directory.iter().flat_map(|path| trust::files_of(path).unwrap_or_default());
        let paths = named.into_iter().flatten().cloned().chain(listed);
        Stamps(paths.map(|path| (path.clone(), stamp(&path))).collect())
    }

    /// Reads and checks everything. What there was before lends its sessions, if nothing else is
    /// asked of clients now.
    pub fn load(&self, before: Option<&Contexts>) -> Result<Contexts, Unusable> {
        self.attempt(before).map_err(|line| {
            tracing::warn!("{line}");
            Unusable
        })
    }

    fn attempt(&self, before: Option<&Contexts>) -> Result<Contexts, String> {
        // Before reading: what changes meanwhile is found changed.
        let stamps = self.stamps();
        self.complain_of_what_is_missing()?;
        let allowed = Allowed::of(self)?;
        let own = self.own.load(&allowed.provider)?;
        let outgoing =
            self.for_outgoing.is_whole().then(|| self.for_outgoing.load(&allowed.provider));
        let outgoing = outgoing.transpose()?;
        let trust = Trust::load(self.ca_file.as_deref(), self.ca_directory.as_deref());
        let trust = trust.map_err(|reason| {
            format!("Failed to configure CA certificate(s) file/directory: {reason}")
        })?;
        if let Some(path) = &self.dh_params_file {
            tracing::info!("{} is not used: keys are agreed on by elliptic curves", path.display());
        }
        let sessions = self.sessions_after(before, &trust);
        let report = TlsReport {
            server: report_of(&own.cert[0]),
            client: outgoing.as_ref().and_then(|pair| report_of(&pair.cert[0])),
            authority: first_to_end(trust.certificates()),
        };
        let client = allowed.client(&trust, outgoing.as_ref().unwrap_or(&own))?;
        let bus = self
            .clusters
            .then(|| self.for_nodes().server(&allowed, &trust, own.clone(), &sessions));
        let bus = bus.transpose()?.map(Arc::new);
        let server = self.server(&allowed, &trust, own, &sessions)?;
        let (server, client) = (Arc::new(server), Arc::new(client));
        let asks_clients = self.asks_clients;
        let limits = self.sessions;
        Ok(Contexts { server, client, bus, report, stamps, sessions, limits, asks_clients, trust })
    }

    fn complain_of_what_is_missing(&self) -> Result<(), String> {
        if self.own.certificate.is_none() {
            return Err("No tls-cert-file configured!".to_owned());
        }
        if self.own.key.is_none() {
            return Err("No tls-key-file configured!".to_owned());
        }
        let checks_peers =
            self.asks_clients != TlsAuthClients::No || self.replicates || self.clusters;
        if checks_peers && self.ca_file.is_none() && self.ca_directory.is_none() {
            return Err("Either tls-ca-cert-file or tls-ca-cert-dir must be specified when \
                        tls-cluster, tls-replication or tls-auth-clients are enabled!"
                .to_owned());
        }
        Ok(())
    }

    /// What is asked of nodes, whatever clients are asked. Their connections last, so that sessions
    /// are of no use; and one that a client has begun without a certificate is none for a node.
    fn for_nodes(&self) -> Settings {
        let asks_clients = TlsAuthClients::Yes;
        Settings { asks_clients, keeps_sessions: false, ..self.clone() }
    }

    fn sessions_after(&self, before: Option<&Contexts>, trust: &Trust) -> Arc<Sessions> {
        let same = before
            .filter(|before| before.asks_clients == self.asks_clients && before.trust == *trust);
        same.map_or_else(|| Arc::new(Sessions::new(self.sessions)), |it| Arc::clone(&it.sessions))
    }

    fn server(
        &self,
        allowed: &Allowed,
        trust: &Trust,
        own: CertifiedKey,
        sessions: &Arc<Sessions>,
    ) -> Result<ServerConfig, String> {
        let provider = &allowed.provider;
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider));
        let builder = builder.with_protocol_versions(&allowed.versions);
        let builder = builder.map_err(|error| allowed.nothing_left(&error))?;
        let builder = match self.asks_clients {
            TlsAuthClients::No => builder.with_no_client_auth(),
            asks => {
                let is_optional = asks == TlsAuthClients::Optional;
                let check = trust.of_clients(provider, is_optional).map_err(|reason| {
                    format!("Failed to configure CA certificate(s) file/directory: {reason}")
                })?;
                builder.with_client_cert_verifier(check)
            }
        };
        let mut server = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        server.ignore_client_order = self.prefers_own_order;
        let storage: Arc<dyn StoresServerSessions> = match self.keeps_sessions {
            true => Arc::clone(sessions) as _,
            false => Arc::new(NoServerSessionStorage {}),
        };
        server.session_storage = storage;
        if !self.keeps_sessions {
            server.send_tls13_tickets = 0;
        }
        Ok(server)
    }
}

impl Pair {
    fn is_whole(&self) -> bool {
        self.certificate.is_some() && self.key.is_some()
    }

    /// Reads both files; the error is a line for the log.
    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let (certificate, key) = (self.certificate.as_deref(), self.key.as_deref());
        let certificate = certificate.expect("it was asked whether it is there");
        let key = key.expect("it was asked whether it is there");
        let chain = read_chain(certificate).map_err(|reason| {
            format!("Failed to load certificate: {}: {reason}", certificate.display())
        })?;
        let failure =
            |reason: String| format!("Failed to load private key: {}: {reason}", key.display());
        let text = pem::read_file(key).map_err(|error| failure(os_reason(&error)))?;
        let loaded = keys::read(&text, self.passphrase.as_deref()).map_err(failure)?;
        let loaded = provider.key_provider.load_private_key(loaded);
        let loaded = loaded.map_err(|_| failure(UNKNOWN_KEY.to_owned()))?;
        let public = loaded.public_key();
        // rustls compares them too, but cannot read certificates of version 1.
        let certified = Facts::read(&chain[0]).and_then(|facts| facts.public_key());
        if let (Some(public), Some(certified)) = (public, certified)
            && certified != *public
        {
            return Err(failure("key values mismatch".to_owned()));
        }
        Ok(CertifiedKey::new(chain, loaded))
    }
}

/// The library says no more of a key than that it is none of those that it has.
const UNKNOWN_KEY: &str =
    "the key is broken, or none of RSA (2048 bits or more), P-256, P-384 and Ed25519";

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = pem::read_file(path).map_err(|error| os_reason(&error))?;
    let sections = pem::sections(&text)?.into_iter().filter(pem::Section::is_certificate);
    let chain: Vec<CertificateDer<'static>> = sections.map(|section| section.der.into()).collect();
    match chain.first() {
        None => Err("no certificate found".to_owned()),
        Some(first) if Facts::read(first).is_none() => Err("the certificate is broken".to_owned()),
        Some(_) => Ok(chain),
    }
}

fn report_of(certificate: &CertificateDer<'_>) -> Option<CertificateReport> {
    Facts::read(certificate).map(|facts| facts.report())
}

fn first_to_end(certificates: &[CertificateDer<'_>]) -> Option<CertificateReport> {
    certificates.iter().filter_map(report_of).min_by_key(|report| report.expires_unix)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    let (content, inode) = (metadata.mtime_nsec(), metadata.ctime_nsec());
    Some((metadata.ino(), metadata.len(), metadata.mtime(), content, metadata.ctime(), inode))
}

/// The versions and suites that may be spoken.
struct Allowed {
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: Arc<CryptoProvider>,
    /// How the lists are written, for a complaint.
    written: String,
}

impl Allowed {
    fn of(settings: &Settings) -> Result<Allowed, String> {
        let versions = match &settings.protocols {
            None => vec![&TLS13, &TLS12],
            Some(list) => ciphers::versions(list).map_err(|()| {
                "Invalid tls-protocols specified. Use a combination of 'TLSv1', 'TLSv1.1', \
                 'TLSv1.2' and 'TLSv1.3'."
                    .to_owned()
            })?,
        };
        let new = pick(settings.ciphersuites.as_deref(), ciphers::select_new, ciphers::all_new);
        let new = new.map_err(|list| format!("Failed to configure ciphersuites: {list}"))?;
        let old = pick(settings.ciphers.as_deref(), ciphers::select_old, ciphers::all_old);
        let old = old.map_err(|list| format!("Failed to configure ciphers: {list}"))?;
        let cipher_suites = [new, old].concat();
        let provider = CryptoProvider { cipher_suites, ..ring::default_provider() };
        let written = [&settings.ciphers, &settings.ciphersuites];
        let written = written.into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        Ok(Allowed { versions, provider: Arc::new(provider), written })
    }

    fn nothing_left(&self, error: &rustls::Error) -> String {
        format!("Failed to configure ciphers: {}: {error}", self.written)
    }

    fn client(&self, trust: &Trust, pair: &CertifiedKey) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_protocol_versions(&self.versions);
        let builder = builder.map_err(|error| self.nothing_left(&error))?;
        let check = trust.of_servers(&self.provider);
        let builder = builder.dangerous().with_custom_certificate_verifier(check);
        let resolver = SingleCertAndKey::from(pair.clone());
        let mut client = builder.with_client_cert_resolver(Arc::new(resolver));
        // Peers are known by addresses, which say nothing in a hello.
        client.enable_sni = false;
        Ok(client)
    }
}

/// What a list selects, or everything where there is none. A list that selects nothing is the
/// error; words of it that do so are told.
fn pick(
    list: Option<&str>,
    select: fn(&str) -> Selection,
    all: fn() -> Vec<SupportedCipherSuite>,
) -> Result<Vec<SupportedCipherSuite>, String> {
    let Some(list) = list else { return Ok(all()) };
    let Selection { suites, ignored } = select(list);
    if suites.is_empty() {
        return Err(list.to_owned());
    }
    if !ignored.is_empty() {
        tracing::info!("Ciphers that this server does not have are ignored: {}", ignored.join(" "));
    }
    Ok(suites)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Option<Text> {
        Some(Text::from(&*format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"))))
    }

    fn config() -> Config {
        Config {
            tls_port: 1,
            tls_cert_file: fixture("server.crt"),
            tls_key_file: fixture("server.key"),
            tls_ca_cert_file: fixture("ca.crt"),
            ..Config::default()
        }
    }

    fn attempt(config: &Config) -> Result<Contexts, String> {
        Settings::of(config).expect("TLS is wanted").attempt(None)
    }

    fn refusal(config: &Config) -> String {
        attempt(config).map(|_| ()).expect_err("it is wrong")
    }

    #[test]
    fn nothing_is_loaded_unless_it_is_wanted() {
        let idle = Config { tls_port: 0, tls_cert_file: fixture("nothing"), ..config() };
        assert!(Settings::of(&idle).is_none());
        assert!(Settings::of(&Config { tls_replication: true, ..idle }).is_some());
        assert!(attempt(&config()).is_ok());
    }

    #[test]
    fn what_is_missing_is_told() {
        let no_ca = Config { tls_ca_cert_file: None, ..config() };
        for (config, line) in [
            (Config { tls_cert_file: None, ..config() }, "No tls-cert-file configured!"),
            (Config { tls_key_file: Some("".into()), ..config() }, "No tls-key-file configured!"),
            (no_ca.clone(), "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when"),
            (
                Config {
                    tls_auth_clients: TlsAuthClients::No,
                    tls_replication: true,
                    ..no_ca.clone()
                },
                "Either tls-ca-cert-file or",
            ),
        ] {
            let told = refusal(&config);
            assert!(told.starts_with(line), "{told}");
        }
        let open = Config { tls_auth_clients: TlsAuthClients::No, ..no_ca };
        assert!(attempt(&open).is_ok());
    }

    #[test]
    fn files_that_do_not_do_are_named() {
        let certificate = |name| Config { tls_cert_file: fixture(name), ..config() };
        let key = |name| Config { tls_key_file: fixture(name), ..config() };
        let authority = |name| Config { tls_ca_cert_file: fixture(name), ..config() };
        for (config, start, end) in [
            (
                certificate("none"),
                "Failed to load certificate: ",
                "none: No such file or directory",
            ),
            (certificate("server.key"), "Failed to load certificate: ", ": no certificate found"),
            (certificate("."), "Failed to load certificate: ", ": not a regular file"),
            (key("none"), "Failed to load private key: ", ": No such file or directory"),
            (key("server.crt"), "Failed to load private key: ", ": no private key found"),
            (key("client.key"), "Failed to load private key: ", ": key values mismatch"),
            (key("rsa.key"), "Failed to load private key: ", ": key values mismatch"),
            (
                key("server-pbkdf2.key"),
                "Failed to load private key: ",
                "no passphrase is configured",
            ),
            (
                authority("none"),
                "Failed to configure CA certificate(s) file/directory: ",
                "directory",
            ),
            (authority("server.key"), "Failed to configure CA", ": no certificate found"),
        ] {
            let told = refusal(&config);
            assert!(told.starts_with(start) && told.ends_with(end), "{told}");
        }
    }

    #[test]
    fn keys_of_all_kinds_are_used() {
        let rsa = |key| Config { tls_cert_file: fixture("rsa.crt"), ..secret(key) };
        let secret = |key| secret(key);
        fn secret(key: &str) -> Config {
            let tls_key_file_pass = Some("secret".into());
            Config { tls_key_file: fixture(key), tls_key_file_pass, ..config() }
        }
        for config in [
            secret("server.key"),
            secret("server-sec1.key"),
            secret("server-scrypt.key"),
            rsa("rsa.key"),
            rsa("rsa-pkcs1.key"),
            rsa("rsa-dek-aes256.key"),
            Config { tls_cert_file: fixture("v1.crt"), ..secret("v1.key") },
        ] {
            assert!(attempt(&config).is_ok(), "{:?}", config.tls_key_file);
        }
        let old = Config { tls_cert_file: fixture("v1.crt"), ..config() };
        assert!(refusal(&old).ends_with("key values mismatch"));
    }

    #[test]
    fn lists_that_leave_nothing_are_refused() {
        let text = |text: &str| Some(Text::from(text));
        for (config, line) in [
            (
                Config { tls_protocols: text("SSLv3"), ..config() },
                "Invalid tls-protocols specified. Use a combination of 'TLSv1', 'TLSv1.1', \
                 'TLSv1.2' and 'TLSv1.3'.",
            ),
            (
                Config { tls_ciphers: text("AES128-SHA256"), ..config() },
                "Failed to configure ciphers: AES128-SHA256",
            ),
            (
                Config { tls_ciphersuites: text("DEFAULT"), ..config() },
                "Failed to configure ciphersuites: DEFAULT",
            ),
        ] {
            assert_eq!(refusal(&config), line);
        }
    }

    /// A directory of authorities, with what else may lie in it.
    #[test]
    fn directories_of_authorities_are_read() {
        let config = Config { tls_ca_cert_file: None, tls_ca_cert_dir: fixture(""), ..config() };
        let contexts = attempt(&config).expect("there are some");
        let count = contexts.trust.certificates().len();
        assert!(count > 10, "{count}");
        let ends = contexts.report.authority.expect("one ends first").expires_unix;
        assert_eq!(ends, 1_609_459_200);
        let none = Config { tls_ca_cert_dir: fixture("none"), ..config };
        assert!(refusal(&none).ends_with("tls/none: No such file or directory"));
    }

    #[test]
    fn sessions_outlive_what_does_not_concern_them() {
        let first = attempt(&config()).expect("it is right");
        let after = |config: &Config| {
            let settings = Settings::of(config).expect("TLS is wanted");
            let next = settings.attempt(Some(&first)).expect("it is right");
            Arc::ptr_eq(&next.sessions, &first.sessions)
        };
        let renewed = fixture("renewed.crt");
        let key = fixture("renewed.key");
        assert!(after(&Config { tls_cert_file: renewed, tls_key_file: key, ..config() }));
        assert!(after(&Config { tls_session_cache_size: 1, ..config() }));
        assert!(!after(&Config { tls_auth_clients: TlsAuthClients::Optional, ..config() }));
        assert!(!after(&Config { tls_ca_cert_file: fixture("other-ca.crt"), ..config() }));
    }
}
