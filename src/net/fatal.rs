//! The report of a crash: signals that end the process because something is broken.
//!
//! A handler of such a signal may run in the middle of anything, so it takes no lock, allocates
//! nothing and knows its file by a path that was made ready before: it fills a buffer on its stack
//! and writes it with one system call. Then the signal gets its default action, and does what it
//! would have done, core dump included.
#![allow(unsafe_code)]

use crate::config::Config;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The signals of a broken process, with their names.
const FATAL: [(libc::c_int, &str); 5] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGABRT, "SIGABRT"),
];

/// Where the report goes; standard output if there is no file.
static LOG_FILE: OnceLock<Option<CString>> = OnceLock::new();

/// The panic hook has told what is wrong: the abort that follows is no news.
static HAS_REPORTED: AtomicBool = AtomicBool::new(false);

/// A report has been written; the signal that ends the process after it adds nothing.
pub fn note_report() {
    HAS_REPORTED.store(true, Ordering::Relaxed);
}

/// Whether a crash is reported (`crash-log-enabled`).
static IS_ENABLED: AtomicBool = AtomicBool::new(true);

/// Follows a change of the configuration.
pub fn follow(config: &Config) {
    IS_ENABLED.store(config.crash_log_enabled, Ordering::Relaxed);
}

/// Has crashes reported from now on.
pub fn watch(config: &Config) {
    follow(config);
    let path = (!config.logfile.is_empty()).then(|| config.logfile.as_path());
    let path = path.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok());
    if LOG_FILE.set(path).is_err() {
        return;
    }
    for (signal, _) in FATAL {
        // SAFETY: all zeros are a valid action; the handler has the signature that the flag
        // promises, does only what may be done there, and lives as long as the program. The flag
        // for the stack has it run on the one that the standard library gives each thread, so that
        // an overflow of the other stack is reported too.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = report as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// The handler. The flag that was set with it has given the signal its default action already.
extern "C" fn report(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    if IS_ENABLED.load(Ordering::Relaxed) && !HAS_REPORTED.swap(true, Ordering::Relaxed) {
        // SAFETY: the kernel passes a valid pointer, and for these signals the field is the address
        // whose use was the fault, or bits that are only printed.
        let address = unsafe { (*info).si_addr() } as usize;
        let mut text = Text::default();
        let name = FATAL.iter().find(|(known, _)| *known == signal).map_or("a signal", |f| f.1);
        text.put("=== RUFOUS BUG REPORT: crashed by signal: ");
        text.put_number(usize::try_from(signal).unwrap_or(0), 10);
        text.put(" (");
        text.put(name);
        text.put("), accessing address: 0x");
        text.put_number(address, 16);
        text.put("; running command: ");
        text.put(crate::engine::running_command());
        text.put("\n");
        write_out(text.bytes());
    }
    // SAFETY: the call has no memory obligations; the signal, blocked during its handler, is
    // delivered when that returns, at the latest.
    unsafe { libc::raise(signal) };
}

fn write_out(bytes: &[u8]) {
    let path = LOG_FILE.get().and_then(Option::as_ref);
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
    // SAFETY: the path ends in NUL and is never freed, and the bytes outlive the call. Both calls
    // may be made in a handler.
    unsafe {
        let file = path.map_or(libc::STDOUT_FILENO, |path| libc::open(path.as_ptr(), flags, 0o666));
        libc::write(file, bytes.as_ptr().cast(), bytes.len());
    }
}

/// A line that is put together without allocating.
struct Text {
    bytes: [u8; 512],
    len: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text { bytes: [0; 512], len: 0 }
    }
}

impl Text {
    /// Adds as much as there is room for.
    fn put(&mut self, text: &str) {
        let room = &mut self.bytes[self.len..];
        let len = text.len().min(room.len());
        room[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
    }

    fn put_number(&mut self, mut number: usize, base: usize) {
        const DIGITS: &str = "0123456789abcdef";
        let mut places = [0; 64];
        let mut count = 0;
        loop {
            places[count] = number % base;
            count += 1;
            number /= base;
            if number == 0 {
                break;
            }
        }
        for digit in places[..count].iter().rev() {
            self.put(&DIGITS[*digit..*digit + 1]);
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_put_together_and_cut_at_its_end() {
        let mut text = Text::default();
        text.put("at 0x");
        text.put_number(0xbeef, 16);
        text.put_number(0, 10);
        assert_eq!(text.bytes(), b"at 0xbeef0");
        for number in [1, 9, 10, 12345, usize::MAX] {
            let mut text = Text::default();
            text.put_number(number, 10);
            assert_eq!(text.bytes(), number.to_string().as_bytes());
            let mut text = Text::default();
            text.put_number(number, 16);
            assert_eq!(text.bytes(), format!("{number:x}").as_bytes());
        }
        let mut text = Text::default();
        text.put(&"x".repeat(1000));
        assert_eq!(text.bytes().len(), 512);
    }
}
