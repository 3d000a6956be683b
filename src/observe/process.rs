//! What the system says of the process, read from `/proc`; zeros where there is none.

use std::fs;

#[derive(Clone, Default, Debug)]
pub struct ProcessFigures {
    pub os: String,
    pub resident_bytes: u64,
    pub system_memory_bytes: u64,
    pub user_us: u64,
    pub system_us: u64,
    pub main_user_us: u64,
    pub main_system_us: u64,
}

/// Linux counts CPU time in hundredths of a second for programs, whatever its own clock.
const TICK_US: u64 = 10_000;

pub fn figures() -> ProcessFigures {
    let (user_us, system_us) = cpu_times("/proc/self/stat");
    let main_thread = format!("/proc/self/task/{}/stat", std::process::id());
    let (main_user_us, main_system_us) = cpu_times(&main_thread);
    ProcessFigures {
        os: os_name(),
        resident_bytes: kilobytes_after("/proc/self/status", "VmRSS:") * 1024,
        system_memory_bytes: kilobytes_after("/proc/meminfo", "MemTotal:") * 1024,
        user_us,
        system_us,
        main_user_us,
        main_system_us,
    }
}

fn os_name() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
}

fn kilobytes_after(path: &str, label: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// User and system time. The fields are counted from behind the process's name, which may hold
/// anything.
fn cpu_times(path: &str) -> (u64, u64) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = fields.split_whitespace().skip(11).map(|field| field.parse().unwrap_or(0u64));
    let mut next_us = || fields.next().unwrap_or(0) * TICK_US;
    (next_us(), next_us())
}
