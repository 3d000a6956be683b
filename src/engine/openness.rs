//! In which ways a server is open to strangers, for the log at its start.
//!
//! Each of them is somebody's decision, or nobody's, and no reason not to start: but most servers
//! that were broken into said of themselves all that it took, to whoever asked, and to nobody else.

use super::Server;
use crate::config::{BindAddresses, ProtectedAction, TlsAuthClients};
use std::net::IpAddr;

impl Server {
    /// One sentence for each way.
    pub fn openings(&self) -> Vec<String> {
        let mut told = Vec::new();
        self.tell_of_addresses(&mut told);
        self.tell_of_users(&mut told);
        self.tell_of_directives(&mut told);
        told
    }

    fn tell_of_addresses(&self, told: &mut Vec<String>) {
        let config = &self.config;
        let default = self.users.default();
        let is_open = default.is_on() && default.needs_no_password();
        let is_reachable = !is_local(&config.bind);
        let asks_for_certificates = config.tls_auth_clients == TlsAuthClients::Yes;
        let lets_anybody_in = config.port != 0 || (config.tls_port != 0 && !asks_for_certificates);
        if is_open && lets_anybody_in && is_reachable && !config.protected_mode {
            let addresses = config.bind.0.iter().map(|text| text.to_string_lossy());
            let addresses = addresses.collect::<Vec<_>>().join(" ");
            told.push(format!(
                "anybody who can reach the addresses it listens on ({addresses}) is let in without \
                 a password, since protected-mode is off. Set requirepass, or bind it to addresses \
                 that only friends can reach."
            ));
        }
        let is_for_all = config.unixsocketperm & 0o002 != 0;
        if is_open && is_for_all && config.unixsocket.as_ref().is_some_and(|path| !path.is_empty())
        {
            told.push(
                "any user of this machine is let in by the Unix socket, without a password. Take \
                 the last digit of unixsocketperm back, or set requirepass."
                    .to_owned(),
            );
        }
        let are_metrics_closed = config.metrics_tls && asks_for_certificates;
        if config.metrics_port != 0 && is_reachable && !are_metrics_closed {
            told.push(format!(
                "the metrics at port {} are shown to anybody who can reach it.",
                config.metrics_port
            ));
        }
    }

    fn tell_of_users(&self, told: &mut Vec<String>) {
        let others = self.users.iter().filter(|user| user.name() != crate::acl::DEFAULT);
        for user in others.filter(|user| user.is_on() && user.needs_no_password()) {
            if user.may_something() {
                told.push(format!(
                    "whoever says to be the user '{}' is believed, since it needs no password \
                     (nopass).",
                    user.shown_name()
                ));
            }
        }
    }

    fn tell_of_directives(&self, told: &mut Vec<String>) {
        let config = &self.config;
        for (directive, action, what) in [
            ("enable-debug-command", config.enable_debug_command, "crash the server"),
            ("enable-module-command", config.enable_module_command, "load code into the server"),
            (
                "enable-protected-configs",
                config.enable_protected_configs,
                "have the server write files where they choose",
            ),
        ] {
            if action == ProtectedAction::Yes {
                told.push(format!(
                    "clients from any address may {what}, since {directive} is yes. Say local, or \
                     no."
                ));
            }
        }
    }
}

/// Whether only this machine can reach all of these.
fn is_local(addresses: &BindAddresses) -> bool {
    addresses.0.iter().all(|text| {
        let text = text.to_string_lossy();
        let text = text.strip_prefix('-').unwrap_or(&text);
        text == "localhost" || text.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::{Bench, config};

    fn told(directives: &[(&str, &str)], commands: &[&str]) -> String {
        let mut bench = Bench::with(config(directives));
        commands.iter().for_each(|line| bench.expect(line, "+OK|"));
        bench.engine.server.openings().join("\n")
    }

    #[test]
    fn a_server_that_is_closed_says_nothing() {
        let silent = [
            (&[][..], &[][..]),
            (&[("protected-mode", "no"), ("bind", "127.0.0.1 -::1")], &[]),
            (&[("protected-mode", "no"), ("requirepass", "x")], &["AUTH x"]),
            (&[("protected-mode", "no"), ("port", "0")], &[]),
            (&[("protected-mode", "no"), ("port", "0"), ("tls-port", "6379")], &[]),
            (&[("metrics-port", "9121"), ("metrics-tls", "yes")], &[]),
            (&[], &["ACL SETUSER u nopass +@all ~*", "ACL SETUSER v on nopass"]),
        ];
        for (directives, commands) in silent {
            assert_eq!(told(directives, commands), "", "{directives:?} {commands:?}");
        }
    }

    #[test]
    fn each_way_in_is_told() {
        let open = told(&[("protected-mode", "no")], &[]);
        assert!(open.contains("is let in without a password"), "{open}");
        let open = told(&[("protected-mode", "no"), ("bind", "127.0.0.1 10.0.0.1")], &[]);
        assert!(open.contains("(127.0.0.1 10.0.0.1)"), "{open}");
        for ask in ["no", "optional"] {
            let tls = [("port", "0"), ("tls-port", "6379"), ("tls-auth-clients", ask)];
            let open = told(&[&tls[..], &[("protected-mode", "no")]].concat(), &[]);
            assert!(open.contains("is let in without a password"), "{open}");
            assert_eq!(told(&[&tls[..], &[("requirepass", "x")]].concat(), &["AUTH x"]), "");
        }
        let open = told(&[], &["ACL SETUSER u on nopass +get"]);
        assert!(open.contains("the user 'u' is believed"), "{open}");
        let open = told(&[], &["ACL SETUSER u on nopass (+get ~x)"]);
        assert!(open.contains("the user 'u' is believed"), "{open}");
        for more in [("metrics-tls", "no"), ("tls-auth-clients", "optional")] {
            let open = told(&[("metrics-port", "9121"), ("metrics-tls", "yes"), more], &[]);
            assert!(open.contains("metrics at port 9121"), "{open}");
        }
    }
}
