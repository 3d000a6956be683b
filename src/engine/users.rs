//! Who a connection acts as, and how it proves that.
//!
//! A session holds its user, so that whoever asks what a client may has it at hand. A session
//! without one has not logged in: it is taken for the default user where that one needs no
//! password, and may do next to nothing otherwise. What a log holds was done by nobody here; it is
//! asked nothing, whatever its session holds.

use super::{Server, Session};
use std::rc::Rc;
use subtle::ConstantTimeEq;

/// Somebody whom connections act as.
pub struct User {
    pub name: Box<str>,
}

/// All users.
pub struct Users {
    /// The one that a connection is at first. Its password is the directive `requirepass`.
    default: Rc<User>,
}

impl Default for Users {
    fn default() -> Self {
        Users { default: Rc::new(User { name: "default".into() }) }
    }
}

impl Users {
    pub fn find(&self, name: &[u8]) -> Option<&Rc<User>> {
        Some(&self.default).filter(|user| user.name.as_bytes() == name)
    }
}

impl Server {
    /// Whom a connection acts as before it has said who it is.
    pub fn first_user(&self) -> Option<Rc<User>> {
        (!self.has_password()).then(|| Rc::clone(&self.users.default))
    }

    /// Whom the server itself acts as.
    pub fn superuser(&self) -> Option<Rc<User>> {
        Some(Rc::clone(&self.users.default))
    }

    /// Whom this client acts as.
    pub fn user_of<'a>(&'a self, session: &'a Session) -> &'a User {
        session.user.as_deref().unwrap_or(&self.users.default)
    }

    /// True if this client must authenticate before it may go on.
    #[inline]
    pub fn requires_auth(&self, session: &Session) -> bool {
        session.user.is_none() && self.has_password()
    }

    /// True if the default user has a password.
    pub fn has_password(&self) -> bool {
        self.config.requirepass.as_ref().is_some_and(|password| !password.is_empty())
    }

    /// The user of this name, if the password is theirs. A name that nobody has takes as long.
    pub fn log_in(&self, name: &[u8], password: &[u8]) -> Option<Rc<User>> {
        let is_right = match self.config.requirepass.as_ref().filter(|_| self.has_password()) {
            Some(secret) => is_secret(password, secret.as_bytes()),
            None => true,
        };
        self.users.find(name).filter(|_| is_right).cloned()
    }
}

/// Whether this is the secret, found in a time that does not tell how much of it was right.
fn is_secret(given: &[u8], secret: &[u8]) -> bool {
    // Slices of two lengths would be told apart at once.
    let mut padded = vec![0; secret.len()];
    let common = given.len().min(secret.len());
    padded[..common].copy_from_slice(&given[..common]);
    (padded.ct_eq(secret) & given.len().ct_eq(&secret.len())).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Bench;

    #[test]
    fn only_the_secret_is_the_secret() {
        assert!(is_secret(b"secret", b"secret"));
        for wrong in [&b""[..], b"secre", b"secrets", b"Secret", b"secreT", b"secret\0"] {
            assert!(!is_secret(wrong, b"secret"), "{wrong:?}");
        }
        assert!(!is_secret(b"a", b"a\0"));
    }

    #[test]
    fn who_has_logged_in_stays_so_and_who_has_not_is_let_in_by_an_empty_password() {
        let mut bench = Bench::new();
        let early = bench.client;
        bench.expect("CONFIG SET requirepass secret", "+OK|");
        let late = bench.engine.connect(crate::engine::Peer::internal());
        let user = |bench: &Bench, client| {
            let session = bench.engine.clients.get(client).expect("connected");
            (session.user.is_some(), bench.engine.server.user_of(session).name.clone())
        };
        assert_eq!(user(&bench, early), (true, "default".into()));
        assert_eq!(user(&bench, late), (false, "default".into()));
        bench.client = late;
        bench.expect("PING", "-NOAUTH Authentication required.|");
        bench.client = early;
        bench.expect("CONFIG SET requirepass ''", "+OK|");
        bench.client = late;
        bench.expect("PING", "+PONG|");
        bench.client = early;
        bench.expect("CONFIG SET requirepass secret", "+OK|");
        bench.client = late;
        bench.expect_all(&[
            ("PING", "-NOAUTH Authentication required.|"),
            ("AUTH nobody secret", WRONG),
            ("AUTH default wrong", WRONG),
            ("AUTH secret", "+OK|"),
            ("AUTH wrong", WRONG),
            ("PING", "+PONG|"),
            ("RESET", "+RESET|"),
            ("PING", "-NOAUTH Authentication required.|"),
        ]);
        assert_eq!(user(&bench, late), (false, "default".into()));
    }

    const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.|";
}
