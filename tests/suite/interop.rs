//! The public tools against our binary.

use crate::server;

/// Whether a tool is installed. A missing one is said, and where all must be there, a failure.
pub fn is_there(program: &str) -> bool {
    if server::is_installed(program) {
        return true;
    }
    let required = std::env::var_os("RUFOUS_REQUIRE_INTEROP").is_some();
    assert!(!required, "{program} is not installed");
    println!("{program} is not installed: its checks are left out");
    false
}
