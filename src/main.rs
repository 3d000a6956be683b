//! The server's process: command line, configuration, log, and then the engine in its net.

use rufous::acl::{self, Beginning};
use rufous::cli::{self, Complaint, Task};
use rufous::command::Table;
use rufous::command::table::RenameError;
use rufous::config::{self, Config, LoadError, Loaded, Mode, Origin};
use rufous::engine::{Engine, Seed, ServerParts};
use rufous::net;
use rufous::net::service::{self, Service};
use rufous::observe::{memory, process};
use rufous::persist::aof::check::{self, Console, Repair};
use rufous::persist::disk::SystemDisk;
use rufous::persist::rdb;
use rufous::sentinel::Surroundings;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

#[cfg_attr(not(tsan), global_allocator)]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() -> ExitCode {
    memory::count_this_thread();
    abort_on_panic();
    match cli::read(std::env::args_os().collect()) {
        Task::TellVersion => println!("{}", version_line()),
        Task::Help(text) => print!("{text}"),
        Task::CheckAof { path, repair } => return check_aof(&path, repair),
        Task::CheckRdb(path) => return check_rdb(&path),
        Task::Complain(complaint) => return complain(complaint),
        Task::CheckHealth(words) => return check_health(&words),
        Task::Serve(words) => return serve(Mode::Server, &words),
        Task::Watch(words) => return serve(Mode::Sentinel, &words),
    }
    ExitCode::SUCCESS
}

/// Complains where and as the checks of Redis do.
fn complain(complaint: Complaint) -> ExitCode {
    match complaint {
        Complaint::AofUsage => println!(
            "Usage: rufous-server --check-aof [--fix|--truncate-to-timestamp $timestamp] \
             <file.manifest|file.aof>"
        ),
        Complaint::AofTimestamp => println!("Invalid timestamp, aborting..."),
        Complaint::RdbUsage => eprintln!("Usage: rufous-server --check-rdb <rdb-file-name>"),
    }
    ExitCode::FAILURE
}

fn check_aof(path: &Path, repair: Repair) -> ExitCode {
    let mut console = Console { input: &mut std::io::stdin().lock(), out: &mut std::io::stdout() };
    match check::check_aof(path, repair, &mut console) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn check_rdb(path: &Path) -> ExitCode {
    match rdb::check_file(path, &mut std::io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn check_health(words: &[OsString]) -> ExitCode {
    let password = std::env::var_os("REDISCLI_AUTH").map(OsString::into_encoded_bytes);
    match net::healthcheck::run(words, password) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mode: Mode, words: &[Vec<u8>]) -> ExitCode {
    match start(mode, words) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn version_line() -> String {
    format!(
        "Redis server v={} sha=00000000:0 malloc=jemalloc-5.3.1 bits=64 build=rufous-{}",
        config::REDIS_VERSION,
        env!("CARGO_PKG_VERSION")
    )
}

fn start(mode: Mode, args: &[Vec<u8>]) -> Result<u8, String> {
    let origin = std::env::current_dir();
    let mut host = config::Disk::default();
    let loaded = config::load_as(mode, args, &mut host).map_err(|error| error.to_string())?;
    let mut config = loaded.config.clone();
    refuse_what_is_missing(&config)?;
    let users = user_lines(mode, &config)?;
    if service::is_to_detach(&config) {
        let detached = origin.and_then(|origin| service::detach(&host.stdin, &origin));
        detached.map_err(|error| format!("Can't go to the background: {error}"))?;
        return Ok(0);
    }
    net::logging::start(&config).map_err(|error| format!("Can't open the log file: {error}"))?;
    if mode == Mode::Sentinel {
        net::logging::be_sentinel();
    }
    install_panic_hook();
    net::fatal::watch(&config);
    announce(mode, &config);
    if mode == Mode::Sentinel && !can_keep_its_state(&loaded) {
        return Ok(1);
    }
    let service = Service::begin(&config);
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    warn_of_directives_without_effect(&config);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    match net::limits::open_files_for(config.maxclients, config.io_threads.resolve(processors)) {
        Ok(clients) => config.maxclients = clients,
        Err(net::limits::TooFewFiles) => return Ok(1),
    }
    let file_only = config.file_only.clone();
    let surroundings = surroundings(&config);
    let parts = ServerParts {
        ticks: ticks_ns,
        used_memory: memory::used_bytes,
        is_memory_short: memory::is_short,
        memory: memory::figures,
        process: process::figures,
        purge: memory::purge,
        memory_report: memory::report,
        purge_in_background: memory::purge_in_background,
        change_directory: |path| {
            std::env::set_current_dir(path)?;
            std::env::current_dir()
        },
        room_for_clients: |clients, threads| {
            net::limits::open_files_for(clients, threads).unwrap_or(0)
        },
        config_path: loaded.path,
        executable: executable(),
        process_id: std::process::id(),
        processors,
        supervised: service.manager_name(),
        disk: Arc::new(SystemDisk),
    };
    memory::hold_reserve();
    ticks_ns();
    let seed = seed().map_err(|error| format!("Can't read randomness: {error}"))?;
    let mut engine = Engine::new(config, parts, seed);
    if mode == Mode::Sentinel {
        become_sentinel(&mut engine, surroundings, &file_only.sentinel)?;
    }
    rename_commands(&mut engine, &file_only.renamed_commands)?;
    if let Err(faults) = engine.begin_users(&users) {
        faults.iter().for_each(|fault| tracing::warn!("{fault}"));
        return Ok(1);
    }
    let code = net::serve(engine, service).map_err(|error| error.to_string())?;
    Ok(u8::try_from(code).unwrap_or(1))
}

/// Modules are not there. A server that ignored them would lack commands, so it does not start.
fn refuse_what_is_missing(config: &Config) -> Result<(), String> {
    match config.file_only.modules.first() {
        Some(module) => {
            let reason = "Modules are not supported by Rufous";
            Err(LoadError::at(&module.origin, reason).to_string())
        }
        None => Ok(()),
    }
}

/// The lines `user ...`, each without that word, if they are such lines at all. What they hold may
/// be secret, so the one that is wrong is not shown as it is.
fn user_lines(mode: Mode, config: &Config) -> Result<Vec<Vec<Vec<u8>>>, String> {
    let statements = &config.file_only.users;
    let lines: Vec<Vec<Vec<u8>>> =
        statements.iter().map(|statement| statement.words[1..].to_vec()).collect();
    if lines.is_empty() {
        return Ok(lines);
    }
    let table = if mode == Mode::Sentinel { Table::for_sentinel() } else { Table::new() };
    let beginning = Beginning::of(config.acl_pubsub_default);
    match acl::file::check_lines(&lines, &table, beginning) {
        Ok(()) => Ok(lines),
        Err((at, (word, reason))) => {
            let word = acl::file::shown_line(&[word]);
            let word = String::from_utf8_lossy(&word);
            let shown = acl::file::shown_line(&statements[at].words);
            let origin = Origin { text: shown.as_slice().into(), ..statements[at].origin.clone() };
            let reason = format!("Error in user declaration '{word}': {reason}");
            Err(LoadError::at(&origin, reason).to_string())
        }
    }
}

/// Directives whose feature is still to come are kept, and whoever set one is told so.
fn warn_of_directives_without_effect(config: &Config) {
    let is_idle = |directive: &&config::Directive| directive.is_later();
    for directive in config::DIRECTIVES.iter().filter(is_idle) {
        if directive.print(config) != directive.default_text() {
            tracing::warn!("The directive {} has no effect in this version", directive.name);
        }
    }
}

fn rename_commands(engine: &mut Engine, renamed: &[config::Statement]) -> Result<(), String> {
    for statement in renamed {
        let [_, from, to] = statement.words.as_slice() else { continue };
        let reason = match engine.rename_command(from, to) {
            Ok(()) => continue,
            Err(RenameError::NoSuchCommand) => "No such command in rename-command",
            Err(RenameError::TargetExists) => "Target command name already exists",
        };
        return Err(LoadError::at(&statement.origin, reason).to_string());
    }
    Ok(())
}

/// What a Sentinel is told of the server that it is.
fn surroundings(config: &Config) -> Surroundings {
    let password = config.requirepass.as_ref().filter(|password| !password.is_empty());
    let has_tls = config.tls_replication && config.tls_port != 0;
    Surroundings {
        port: if has_tls { config.tls_port } else { config.port },
        requirepass: password.map(|password| password.as_bytes().to_vec()),
        log_level: rufous::config::Choice::word(config.loglevel),
        is_executable: |path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok(),
        date: |unix_ms| net::logging::date_of(unix_ms),
    }
}

/// A Sentinel that forgets its votes may give them twice, so it does not run without a file that
/// holds them.
fn can_keep_its_state(loaded: &Loaded) -> bool {
    let Some(path) = &loaded.path else {
        tracing::warn!("Sentinel needs config file on disk to save state. Exiting...");
        return false;
    };
    if let Err(error) = rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
        let (path, reason) = (path.display(), config::os_reason(&error.into()));
        tracing::warn!("Sentinel config file {path} is not writable: {reason}. Exiting...");
        return false;
    }
    true
}

fn become_sentinel(
    engine: &mut Engine,
    surroundings: Surroundings,
    statements: &[config::Statement],
) -> Result<(), String> {
    let lines: Vec<Vec<Vec<u8>>> =
        statements.iter().map(|statement| statement.words[1..].to_vec()).collect();
    engine
        .become_sentinel(surroundings, &lines)
        .map_err(|(line, reason)| LoadError::at(&statements[line].origin, reason).to_string())
}

fn announce(mode: Mode, config: &Config) {
    tracing::info!("oO0OoO0OoO0Oo Rufous is starting oO0OoO0OoO0Oo");
    tracing::info!(
        "Redis version={}, bits=64, commit=00000000, modified=0, pid={}, just started",
        config::REDIS_VERSION,
        std::process::id()
    );
    tracing::info!("Configuration loaded");
    let shows_logo =
        config.always_show_logo || (config.logfile.is_empty() && std::io::stdout().is_terminal());
    if shows_logo {
        print!("{}", logo(mode, config.port));
    } else {
        tracing::info!("Running mode={}, port={}.", word_of(mode), config.port);
    }
}

fn word_of(mode: Mode) -> &'static str {
    if mode == Mode::Sentinel { "sentinel" } else { "standalone" }
}

/// The bird, and what tools that start servers wait for: the port and the process id.
fn logo(mode: Mode, port: u16) -> String {
    let mode = word_of(mode);
    let version = env!("CARGO_PKG_VERSION");
    let redis = config::REDIS_VERSION;
    let pid = std::process::id();
    format!(
        r"
                 __
        \\      /o )________      Rufous {version} (as Redis {redis}), 64 bit
         \\\___/ ,'
      ====      /                  Running in {mode} mode
         /// ,-'                   Port: {port}
        // ,'                      PID: {pid}
          /

"
    )
}

/// Until there is a log.
fn abort_on_panic() {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default_hook(info);
        std::process::abort();
    }));
}

/// A panic is a bug, and a keyspace it left half changed must not live on: the process ends after
/// this has told the log what was running. The hook does that and not the profile, since without
/// unwinding errors of Lua would end the process where they pass through functions of ours.
fn install_panic_hook() {
    _ = std::panic::take_hook();
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let running = rufous::engine::running_command();
        let message = format!("=== RUFOUS BUG REPORT: {info}; running command: {running}");
        net::logging::write_line(tracing::Level::ERROR, &message);
        net::fatal::note_report();
        default_hook(info);
        std::process::abort();
    }));
}

fn executable() -> String {
    std::env::current_exe().map_or_else(|_| String::new(), |path| path.display().to_string())
}

/// Reads the processor's counter where there is one that never stops, which takes a fourth of the
/// time of asking the system; commands are timed one by one.
fn ticks_ns() -> u64 {
    static CLOCK: OnceLock<(quanta::Clock, u64)> = OnceLock::new();
    let (clock, start) = CLOCK.get_or_init(|| {
        let clock = quanta::Clock::new();
        let start = clock.raw();
        (clock, start)
    });
    clock.delta_as_nanos(*start, clock.raw())
}

/// Randomness from the system.
fn seed() -> Result<Seed, getrandom::Error> {
    let mut bytes = [0u8; 24];
    getrandom::fill(&mut bytes)?;
    let (hash_key, prng) = bytes.split_at(16);
    Ok(Seed {
        hash_key: hash_key.try_into().expect("sixteen bytes"),
        prng: u64::from_le_bytes(prng.try_into().expect("eight bytes")),
    })
}
