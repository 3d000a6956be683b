//! The sections about the process and its relations: server, replication, CPU, cluster.

use super::{Field, View, field, optional};
use crate::config::REDIS_VERSION;
use crate::observe::tls::CertificateReport;

pub static SERVER: &[Field] = &[
    field("redis_version", |_| REDIS_VERSION.to_owned()),
    field("redis_git_sha1", |_| "00000000".to_owned()),
    field("redis_git_dirty", |_| "0".to_owned()),
    field("redis_build_id", |_| format!("rufous-{}", env!("CARGO_PKG_VERSION"))),
    field("redis_mode", |view| view.server.mode_word().to_owned()),
    field("os", |view| view.process.os.clone()),
    field("arch_bits", |_| usize::BITS.to_string()),
    field("monotonic_clock", |_| "POSIX clock_gettime".to_owned()),
    field("multiplexing_api", |_| "epoll".to_owned()),
    field("atomicvar_api", |_| "rust".to_owned()),
    field("gcc_version", |_| "0.0.0".to_owned()),
    field("process_id", |view| view.server.parts.process_id.to_string()).gauge("process_id"),
    field("process_supervised", |view| view.server.parts.supervised.to_owned()),
    field("run_id", |view| view.server.run_id.clone()),
    field("tcp_port", |view| view.server.config.port.to_string()),
    field("server_time_usec", |view| view.server.clock.now().unix_us.to_string()),
    optional("shutdown_in_milliseconds", |view| {
        let departure = view.server.departure.as_ref()?;
        Some(departure.until_ms.saturating_sub(view.server.clock.mono_ms()).to_string())
    }),
    field("uptime_in_seconds", |view| view.server.clock.uptime_seconds().to_string())
        .gauge("uptime_in_seconds"),
    field("uptime_in_days", |view| (view.server.clock.uptime_seconds() / 86_400).to_string()),
    field("hz", |view| view.server.config.hz.to_string()).gauge("hz"),
    field("configured_hz", |view| view.server.config.hz.to_string()).gauge("configured_hz"),
    field("lru_clock", |view| view.keyspace.access.seconds().to_string()),
    field("executable", |view| view.server.parts.executable.clone()),
    field("config_file", |view| {
        let path = view.server.parts.config_path.as_ref();
        path.map_or_else(String::new, |path| path.display().to_string())
    }),
    field("io_threads_active", |view| {
        let mut threads = view.server.traffic.threads().iter().skip(1);
        u8::from(threads.any(|thread| thread.clients() > 0)).to_string()
    })
    .gauge("io_threads_active"),
    optional("listener0", tcp_listener),
    optional("listener1", unix_listener),
    optional("listener2", tls_listener),
    field("rufous_version", |_| env!("CARGO_PKG_VERSION").to_owned()),
];

pub static CPU: &[Field] = &[
    field("used_cpu_sys", |view| seconds(view.process.system_us)).counter("cpu_sys_seconds_total"),
    field("used_cpu_user", |view| seconds(view.process.user_us)).counter("cpu_user_seconds_total"),
    field("used_cpu_sys_children", |_| seconds(0)).counter("cpu_sys_children_seconds_total"),
    field("used_cpu_user_children", |_| seconds(0)).counter("cpu_user_children_seconds_total"),
    field("used_cpu_sys_main_thread", |view| seconds(view.process.main_system_us))
        .counter("cpu_sys_main_thread_seconds_total"),
    field("used_cpu_user_main_thread", |view| seconds(view.process.main_user_us))
        .counter("cpu_user_main_thread_seconds_total"),
];

/// What TLS is spoken with; what does not exist has no line.
pub static TLS: &[Field] = &[
    optional("tls_server_cert_serial", |view| serial(&view.server.certificates.server)),
    optional("tls_server_cert_expires_in_seconds", |view| {
        expiry(view, &view.server.certificates.server)
    })
    .gauge("tls_server_cert_expires_in_seconds"),
    optional("tls_client_cert_serial", |view| serial(&view.server.certificates.client)),
    optional("tls_client_cert_expires_in_seconds", |view| {
        expiry(view, &view.server.certificates.client)
    })
    .gauge("tls_client_cert_expires_in_seconds"),
    optional("tls_ca_cert_serial", |view| serial(&view.server.certificates.authority)),
    optional("tls_ca_cert_expires_in_seconds", |view| {
        expiry(view, &view.server.certificates.authority)
    })
    .gauge("tls_ca_cert_expires_in_seconds"),
    field("tls_handshakes", |view| view.server.stats.handshakes.done.to_string())
        .counter("tls_handshakes_total"),
    field("tls_handshakes_resumed", |view| view.server.stats.handshakes.resumed.to_string())
        .counter("tls_handshakes_resumed_total"),
    field("tls_handshakes_failed", |view| view.server.stats.handshakes.failed.to_string())
        .counter("tls_handshakes_failed_total"),
];

fn serial(certificate: &Option<CertificateReport>) -> Option<String> {
    certificate.as_ref().map(|report| report.serial.clone())
}

fn expiry(view: &View<'_>, certificate: &Option<CertificateReport>) -> Option<String> {
    let now = view.server.clock.now().unix_us / 1_000_000;
    certificate.as_ref().map(|report| report.expires_in_seconds(now).to_string())
}

pub static CLUSTER: &[Field] =
    &[field("cluster_enabled", |view| u8::from(view.server.cluster.is_some()).to_string())
        .gauge("cluster_enabled")];

/// The TCP port and its addresses, if one is open.
fn tcp_listener(view: &View<'_>) -> Option<String> {
    listener(view, "tcp", view.server.config.port)
}

/// The same of the port for TLS.
fn tls_listener(view: &View<'_>) -> Option<String> {
    listener(view, "tls", view.server.config.tls_port)
}

fn listener(view: &View<'_>, name: &str, port: u16) -> Option<String> {
    let addresses = view.server.config.bind.0.iter().map(|text| text.to_string_lossy());
    let bound: String = addresses.map(|address| format!("bind={address},")).collect();
    (port != 0).then(|| format!("name={name},{bound}port={port}"))
}

/// The Unix socket. Each kind has its number whether or not there are others.
fn unix_listener(view: &View<'_>) -> Option<String> {
    let path = view.server.config.unixsocket.as_ref().filter(|path| !path.is_empty())?;
    Some(format!("name=unix,bind={}", path.to_string_lossy()))
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Text};
    use crate::engine::testing::Bench;

    /// What Redis 8.2 prints of its listeners, but for a TCP listener without a port.
    #[test]
    fn each_listener_that_exists_has_its_line() {
        let lines_by = |port: u16, tls_port: u16, unixsocket: Option<&str>| {
            let unixsocket = unixsocket.map(Text::from);
            let config = Config { port, tls_port, unixsocket, ..Config::default() };
            Bench::with(config).info_lines("server", "listener")
        };
        let lines = |port, unixsocket| lines_by(port, 0, unixsocket);
        let tcp = "listener0:name=tcp,bind=*,bind=-::*,port=6379";
        let unix = "listener1:name=unix,bind=/run/s.sock";
        assert_eq!(lines(6379, None), [tcp]);
        assert_eq!(lines(6379, Some("")), [tcp]);
        assert_eq!(lines(6379, Some("/run/s.sock")), [tcp, unix]);
        assert_eq!(lines(0, Some("/run/s.sock")), [unix]);
        let tls = "listener2:name=tls,bind=*,bind=-::*,port=7";
        assert_eq!(lines_by(6379, 7, None), [tcp, tls]);
        assert_eq!(lines_by(0, 7, Some("/run/s.sock")), [unix, tls]);
    }
}
