//! Reading the configuration: the file, what it includes, standard input and the command line.
//!
//! All of them are one text in the same grammar: a line is blank, a comment, or a directive with
//! its arguments; later lines win, and lists grow. The command line comes last, as lines of its
//! own (see `argv`). What lies outside, files and directories, is reached through [`Host`], so
//! that every corner is tested without a disk.
//!
//! Files being read are kept on a stack of our own, and only so many may be included: a file that
//! includes itself is an error, where recursion would end the process.

use std::fmt;
use std::path::{Path, PathBuf};

use super::argv;
use super::host::{Host, os_reason};
use super::value::{Reason, Source, Text, WRONG_COUNT};
use super::{Config, Directive, REDIS_VERSION};
use crate::structs::words::{self, UnbalancedQuotes};

const MAX_INCLUDED_FILES: usize = 4096;

/// Where a directive was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The included file, if it was one.
    pub included: Option<Text>,
    /// Counts from one; standard input and the command line count on from the file.
    pub line: usize,
    pub text: Text,
}

/// A directive kept as it was read, its name first, for the room that understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub words: Vec<Vec<u8>>,
    pub origin: Origin,
}

/// The directives that only a file can hold, in the order they were read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FileOnly {
    pub renamed_commands: Vec<Statement>,
    pub users: Vec<Statement>,
    pub modules: Vec<Statement>,
    /// Lines such as `search.timeout 500`, which belong to a module.
    pub module_settings: Vec<Statement>,
    /// Lines `sentinel ...`, of which only a Sentinel has any.
    pub sentinel: Vec<Statement>,
}

/// Name, form and meaning of the directives without a row: they act on the reading itself or
/// make lists for other rooms.
pub(super) const FILE_DIRECTIVES: &[(&str, &str, &str)] = &[
    ("include", "<file or pattern>", "Reads another file here; later lines still win."),
    (
        "rename-command",
        "<command> <new name>",
        "Gives a command another name; the empty name takes the command away.",
    ),
    ("user", "<name> <rule> [<rule> ...]", "Defines a user, in the language of ACL SETUSER."),
    ("loadmodule", "<file> [<argument> ...]", "Loads a module; Rufous has none."),
];

/// Directives of old versions that mean nothing any more; one argument each.
const RETIRED: [&[u8]; 3] =
    [b"list-max-ziplist-entries", b"list-max-ziplist-value", b"lua-replicate-commands"];

/// What the configuration is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Server,
    Sentinel,
}

/// The port of a Sentinel, unless its file names another.
const SENTINEL_PORT: u16 = 26379;

/// What the start of the server needs to know.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// The file that CONFIG REWRITE will write to.
    pub path: Option<PathBuf>,
    /// Things to log once the log is open.
    pub warnings: Vec<String>,
}

/// Why the server cannot start, as text without the last line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// A file could not be read. The text belongs in the log.
    Unreadable { path: Text, reason: String },
    /// A line is wrong, or all of them together (then there is no origin). The text is a block
    /// of lines for standard error.
    Invalid { origin: Option<Origin>, reason: Reason },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (origin, reason) = match self {
            Self::Unreadable { path, reason } => {
                return write!(f, "Fatal error, can't open config file '{path}': {reason}");
            }
            Self::Invalid { origin, reason } => (origin, reason),
        };
        write!(f, "\n*** FATAL CONFIG FILE ERROR (Redis {REDIS_VERSION}) ***\n")?;
        if let Some(Origin { included, line, text }) = origin {
            match included {
                Some(file) => writeln!(f, "Reading the included file '{file}', at line {line}")?,
                None => writeln!(f, "Reading the configuration file, at line {line}")?,
            }
            writeln!(f, ">>> '{text}'")?;
        }
        write!(f, "{reason}")
    }
}

impl std::error::Error for LoadError {}

impl LoadError {
    /// For the rooms that check a [`Statement`] later on.
    pub fn at(origin: &Origin, reason: impl Into<Reason>) -> Self {
        Self::Invalid { origin: Some(origin.clone()), reason: reason.into() }
    }
}

/// Loads the configuration a command line asks for. `args` leave out the program's name.
pub fn load(args: &[Vec<u8>], host: &mut dyn Host) -> Result<Loaded, LoadError> {
    load_as(Mode::Server, args, host)
}

/// The same for a server of either kind.
pub fn load_as(mode: Mode, args: &[Vec<u8>], host: &mut dyn Host) -> Result<Loaded, LoadError> {
    let line = argv::read(args);
    let start = host.directory().unwrap_or_default();
    let mut loader = Loader::new(mode, host);
    let mut text = Vec::new();
    let mut path = None;
    if let Some(file) = &line.file {
        let file = Text::from(file.as_slice());
        let absolute: PathBuf = start.join(file.as_path()).components().collect();
        text = loader.read(&absolute)?;
        path = Some(absolute);
    }
    if line.stdin {
        if text.last().is_some_and(|byte| *byte != b'\n') {
            text.push(b'\n');
        }
        text.extend(loader.host.read_stdin().map_err(|error| LoadError::Unreadable {
            path: "-".into(),
            reason: os_reason(&error),
        })?);
    }
    text.push(b'\n');
    text.extend(&line.directives);
    loader.run(text)?;
    loader.finish()?;
    let Loader { mut config, warnings, host, .. } = loader;
    if let Ok(directory) = host.directory() {
        config.dir.0 = Text::from(directory.as_path());
    }
    Ok(Loaded { config, path, warnings })
}

/// A text being read.
struct Script {
    included: Option<Text>,
    lines: std::vec::IntoIter<Vec<u8>>,
    line: usize,
}

impl Script {
    fn new(included: Option<Text>, text: &[u8]) -> Self {
        let lines: Vec<Vec<u8>> =
            text.split(|byte| *byte == b'\n').map(|line| trim(line).to_vec()).collect();
        Self { included, lines: lines.into_iter(), line: 0 }
    }

    fn next(&mut self) -> Option<Origin> {
        let text = self.lines.next()?;
        self.line += 1;
        let text = Text::from(text.as_slice());
        Some(Origin { included: self.included.clone(), line: self.line, text })
    }
}

/// A line without the blanks around it.
pub(super) fn trim(mut line: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = line {
        line = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'\r' | b'\n'] = line {
        line = rest;
    }
    line
}

struct Loader<'a> {
    mode: Mode,
    host: &'a mut dyn Host,
    config: Config,
    warnings: Vec<String>,
    /// The files being read, the innermost last.
    scripts: Vec<Script>,
    /// How many files have been included so far.
    included: usize,
    /// Directives met so far, for those whose lines add up.
    seen: Vec<&'static str>,
}

impl<'a> Loader<'a> {
    fn new(mode: Mode, host: &'a mut dyn Host) -> Self {
        let (mut config, warnings) = (Config::default(), Vec::new());
        if mode == Mode::Sentinel {
            // Other Sentinels come from other machines, and there is no data to protect.
            config.port = SENTINEL_PORT;
            config.protected_mode = false;
        }
        Self { mode, host, config, warnings, scripts: Vec::new(), included: 0, seen: Vec::new() }
    }

    fn read(&mut self, path: &Path) -> Result<Vec<u8>, LoadError> {
        self.host.read(path).map_err(|error| LoadError::Unreadable {
            path: Text::from(path),
            reason: os_reason(&error),
        })
    }

    fn run(&mut self, text: Vec<u8>) -> Result<(), LoadError> {
        self.scripts.push(Script::new(None, &text));
        while let Some(script) = self.scripts.last_mut() {
            let Some(origin) = script.next() else {
                self.scripts.pop();
                continue;
            };
            let text = origin.text.as_bytes();
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            self.line(&origin)?;
        }
        Ok(())
    }

    fn line(&mut self, origin: &Origin) -> Result<(), LoadError> {
        let invalid = |reason: Reason| LoadError::at(origin, reason);
        let words = words::split(origin.text.as_bytes())
            .map_err(|UnbalancedQuotes| invalid(UNBALANCED.into()))?;
        let Some((name, args)) = words.split_first() else { return Ok(()) };
        let name = name.to_ascii_lowercase();
        if let Some(directive) = Directive::find(&name) {
            return self.assign(directive, args).map_err(invalid);
        }
        match (name.as_slice(), args) {
            (b"include", [pattern]) => return self.include(pattern, origin),
            (b"sentinel", []) => return Ok(()),
            (b"sentinel", _) if self.mode == Mode::Server => {
                return Err(invalid("sentinel directive while not in sentinel mode".into()));
            }
            (name, [_]) if RETIRED.contains(&name) => return Ok(()),
            (name, []) if name.contains(&b'.') => {
                return Err(invalid("Module config specified without value".into()));
            }
            _ => {}
        }
        let lists = &mut self.config.file_only;
        let list = match (name.as_slice(), args.len()) {
            (b"sentinel", 1..) => &mut lists.sentinel,
            (b"rename-command", 2) => &mut lists.renamed_commands,
            (b"user", 1..) => &mut lists.users,
            (b"loadmodule", 1..) => &mut lists.modules,
            (name, _) if name.contains(&b'.') => &mut lists.module_settings,
            _ => return Err(invalid("Bad directive or wrong number of arguments".into())),
        };
        list.push(Statement { words, origin: origin.clone() });
        Ok(())
    }

    fn assign(&mut self, directive: &'static Directive, args: &[Vec<u8>]) -> Result<(), Reason> {
        let resplit = match args {
            // `--save "900 1"` means what `--save 900 1` means.
            [one] if directive.multi && !one.is_empty() => {
                words::split(one).map_err(|UnbalancedQuotes| Reason::from(UNBALANCED))?
            }
            _ if directive.multi || args.len() == 1 => args.to_vec(),
            _ => return Err(WRONG_COUNT.into()),
        };
        let args: Vec<&[u8]> = resplit.iter().map(Vec::as_slice).collect();
        let repeated = self.seen.contains(&directive.name);
        if !repeated {
            self.seen.push(directive.name);
        }
        (directive.assign)(&mut self.config, &args, Source::File { repeated })?;
        if directive.name == "dir" {
            // Redis changes directory here and now, so that relative paths further down are
            // looked up there.
            let path = self.config.dir.0.as_path();
            self.host.change_directory(path).map_err(|error| Reason::from(os_reason(&error)))?;
        }
        Ok(())
    }

    /// Files of a pattern that matches nothing are no error; a plain file must exist.
    fn include(&mut self, pattern: &[u8], origin: &Origin) -> Result<(), LoadError> {
        let pattern = Text::from(pattern);
        let is_pattern = pattern.as_bytes().iter().any(|byte| b"*?[".contains(byte));
        let paths = match is_pattern {
            true => self.host.expand(pattern.as_path()),
            false => vec![pattern.as_path().to_owned()],
        };
        self.included = self.included.saturating_add(paths.len());
        if self.included > MAX_INCLUDED_FILES {
            return Err(LoadError::at(origin, "Too many included files"));
        }
        let mut scripts = Vec::new();
        for path in paths {
            let text = self.read(&path)?;
            scripts.push(Script::new(Some(Text::from(path.as_path())), &text));
        }
        self.scripts.extend(scripts.into_iter().rev());
        Ok(())
    }

    /// What can only be judged once all lines are read.
    fn finish(&mut self) -> Result<(), LoadError> {
        let invalid = |reason: Reason| LoadError::Invalid { origin: None, reason };
        let config = &mut self.config;
        if !config.logfile.is_empty() {
            self.host.try_log(config.logfile.as_path()).map_err(|error| {
                invalid(format!("Can't open the log file: {}", os_reason(&error)).into())
            })?;
        }
        if config.cluster_enabled && config.replicaof.is_some() {
            return Err(invalid("replicaof directive not allowed in cluster mode".into()));
        }
        if config.cluster_enabled && config.databases > 1 {
            config.databases = 1;
            self.warnings.push("A cluster has one database: databases is taken as 1.".into());
        }
        if config.oom_score_adj_values.descends() {
            self.warnings.push(
                "oom-score-adj-values descend: without privileges the kernel refuses to lower \
                 a score."
                    .into(),
            );
        }
        if config.activedefrag {
            self.warnings.push("activedefrag has no effect: Rufous never moves values.".into());
        }
        Ok(())
    }
}

const UNBALANCED: &str = "Unbalanced quotes in configuration line";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use std::io;

    use super::*;
    use crate::structs::glob::{self, Case};
    use rustix::io::Errno;

    /// Files in memory; directories named `/gone...` do not exist.
    #[derive(Default)]
    struct Fake {
        files: BTreeMap<PathBuf, String>,
        stdin: String,
        directory: PathBuf,
    }

    impl Host for Fake {
        fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
            let path = self.directory.join(path);
            let text = self.files.get(&path).ok_or(io::Error::from(Errno::NOENT))?;
            Ok(text.clone().into_bytes())
        }
        fn read_stdin(&mut self) -> io::Result<Vec<u8>> {
            Ok(self.stdin.clone().into_bytes())
        }
        fn expand(&mut self, pattern: &Path) -> Vec<PathBuf> {
            let pattern = self.directory.join(pattern);
            let pattern = pattern.as_os_str().as_encoded_bytes();
            let fits = |path: &&PathBuf| {
                glob::matches(pattern, path.as_os_str().as_encoded_bytes(), Case::Sensitive)
            };
            self.files.keys().filter(fits).cloned().collect()
        }
        fn directory(&mut self) -> io::Result<PathBuf> {
            Ok(self.directory.clone())
        }
        fn change_directory(&mut self, path: &Path) -> io::Result<()> {
            if path.starts_with("/gone") {
                return Err(io::Error::from(Errno::NOENT));
            }
            self.directory = self.directory.join(path).components().collect();
            Ok(())
        }
        fn try_log(&mut self, path: &Path) -> io::Result<()> {
            match path.starts_with("/gone") {
                true => Err(io::Error::from(Errno::ACCESS)),
                false => Ok(()),
            }
        }
    }

    fn host(files: &[(&str, &str)]) -> Fake {
        let files = files.iter().map(|(path, text)| (path.into(), (*text).to_owned())).collect();
        Fake { files, directory: "/start".into(), ..Fake::default() }
    }

    fn run(host: &mut Fake, args: &[&str]) -> Result<Loaded, LoadError> {
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        load(&args, host)
    }

    fn load_text(text: &str) -> Result<Loaded, LoadError> {
        run(&mut host(&[("/start/a.conf", text)]), &["a.conf"])
    }

    fn shown(loaded: &Loaded, name: &str) -> String {
        let found = loaded.config.matching(&[name.as_bytes()]);
        String::from_utf8(found[0].1.clone()).expect("test values are UTF-8")
    }

    fn shown_after(text: &str, name: &str) -> String {
        shown(&load_text(text).expect("the text is valid"), name)
    }

    #[test]
    fn nothing_gives_the_defaults() {
        let loaded = run(&mut host(&[]), &[]).unwrap();
        let expected = Config { dir: loaded.config.dir.clone(), ..Config::default() };
        assert_eq!(loaded.config, expected);
        assert_eq!(loaded.path, None);
        assert_eq!(shown(&loaded, "dir"), "/start");
    }

    #[test]
    fn lines_are_trimmed_lowercased_and_the_last_one_wins() {
        let text = "\n  # comment\n\t PORT 1\r\nport 2\nrequirepass \"a b\\x21\"\nHZ 7 ";
        let loaded = load_text(text).unwrap();
        assert_eq!(loaded.config.port, 2);
        assert_eq!(loaded.config.hz, 7);
        assert_eq!(loaded.config.requirepass, Some("a b!".into()));
        assert_eq!(loaded.path, Some("/start/a.conf".into()));
    }

    #[test]
    fn save_lines_add_up_and_the_first_replaces_the_default() {
        for (text, expected) in [
            ("port 1", "3600 1 300 100 60 10000"),
            ("save 100 100", "100 100"),
            ("save 900 1\nsave 100 100", "900 1 100 100"),
            ("save 900 1\nsave ''", ""),
            ("save ''\nsave 5 6", "5 6"),
            ("save \"900 1 5 6\"", "900 1 5 6"),
            ("save", ""),
        ] {
            assert_eq!(shown_after(text, "save"), expected, "{text}");
        }
    }

    #[test]
    fn output_limits_change_only_the_classes_named() {
        let text = "client-output-buffer-limit Replica 1mb 2k 3\n\
                    client-output-buffer-limit pubsub 1 2 3 pubsub 4 5 6";
        let expected = "normal 0 0 0 slave 1048576 2000 3 pubsub 4 5 6";
        assert_eq!(shown_after(text, "client-output-buffer-limit"), expected);
    }

    #[test]
    fn file_directives_are_kept_for_their_rooms() {
        let text = "rename-command flushdb badger\nuser a on nopass\nUSER b\n\
                    loadmodule m.so x\nm.setting 1 2\nlua-replicate-commands yes\nsentinel";
        let lists = load_text(text).unwrap().config.file_only;
        assert_eq!(lists.renamed_commands[0].words[1..], [b"flushdb".to_vec(), b"badger".to_vec()]);
        assert_eq!(lists.users.len(), 2);
        assert_eq!(lists.users[1].origin.line, 3);
        assert_eq!(lists.modules[0].words.len(), 3);
        assert_eq!(lists.module_settings[0].words.len(), 3);
    }

    fn refusal(text: &str) -> String {
        let error = load_text(text).expect_err("the text is invalid");
        error.to_string()
    }

    #[test]
    fn a_wrong_line_is_shown_with_its_number_and_reason() {
        assert_eq!(
            refusal("port 1\n\n  port  abc "),
            "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\n\
             Reading the configuration file, at line 3\n>>> 'port  abc'\n\
             argument couldn't be parsed into an integer"
        );
        for (line, reason) in [
            ("port", "wrong number of arguments"),
            ("port 1 2", "wrong number of arguments"),
            ("port \"1", "Unbalanced quotes in configuration line"),
            ("save \"'1 2\"", "Unbalanced quotes in configuration line"),
            ("nosuch 1", "Bad directive or wrong number of arguments"),
            ("include", "Bad directive or wrong number of arguments"),
            ("include a b", "Bad directive or wrong number of arguments"),
            ("rename-command a", "Bad directive or wrong number of arguments"),
            ("user", "Bad directive or wrong number of arguments"),
            ("loadmodule", "Bad directive or wrong number of arguments"),
            ("lua-replicate-commands", "Bad directive or wrong number of arguments"),
            ("a.b", "Module config specified without value"),
            ("sentinel monitor x", "sentinel directive while not in sentinel mode"),
            ("save 1", "Invalid save parameters"),
            ("replicaof a b", "Invalid master port"),
            ("replicaof a", "wrong number of arguments"),
            ("dir ''", "dir can't be empty"),
            ("dir /gone", "No such file or directory"),
            ("dir a b", "wrong number of arguments"),
        ] {
            let expected = format!(", at line 1\n>>> '{line}'\n{reason}");
            assert!(refusal(line).ends_with(&expected), "{line}: {}", refusal(line));
        }
    }

    #[test]
    fn what_all_lines_together_get_wrong_has_no_line() {
        for (text, reason) in [
            ("cluster-enabled yes\nslaveof a 1", "replicaof directive not allowed in cluster mode"),
            ("logfile /gone/x", "Can't open the log file: Permission denied"),
        ] {
            let head = "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\n";
            assert_eq!(refusal(text), format!("{head}{reason}"));
        }
        let loaded = load_text("cluster-enabled yes\nactivedefrag yes\noom-score-adj-values 3 2 1");
        let loaded = loaded.unwrap();
        assert_eq!(loaded.config.databases, 1);
        assert_eq!(loaded.warnings.len(), 3);
        assert!(load_text("replicaof a 1\nreplicaof no ONE\ncluster-enabled yes").is_ok());
    }

    #[test]
    fn includes_are_read_in_place_and_patterns_may_match_nothing() {
        let files = [
            ("/start/a.conf", "port 1\ninclude b.conf\nhz 9\ninclude none/*.conf\ninclude d/*.c"),
            ("/start/b.conf", "port 2\nhz 8\nsave 1 1"),
            ("/start/d/1.c", "timeout 1\nsave 2 2"),
            ("/start/d/2.c", "timeout 2"),
        ];
        let loaded = run(&mut host(&files), &["a.conf", "--maxclients", "7"]).unwrap();
        let config = &loaded.config;
        assert_eq!((config.port, config.hz, config.timeout, config.maxclients), (2, 9, 2, 7));
        assert_eq!(shown(&loaded, "save"), "1 1 2 2");
    }

    #[test]
    fn errors_in_included_files_name_the_file() {
        let mut host = host(&[("/start/a.conf", "\ninclude b"), ("/start/b", "#\nhz x")]);
        let error = run(&mut host, &["a.conf"]).unwrap_err().to_string();
        let expected = "Reading the included file 'b', at line 2\n>>> 'hz x'\n\
                        argument couldn't be parsed into an integer";
        assert!(error.ends_with(expected), "{error}");
        let error = run(&mut host, &["--include", "c"]).unwrap_err().to_string();
        assert_eq!(error, "Fatal error, can't open config file 'c': No such file or directory");
        let error = run(&mut host, &["/x/../y.conf"]).unwrap_err().to_string();
        assert!(error.contains("'/x/../y.conf'"), "{error}");
    }

    #[test]
    fn a_file_that_includes_itself_is_an_error() {
        for text in ["include a.conf", "include a.conf\ninclude a.conf", "include a.*\nhz 1"] {
            assert!(refusal(text).ends_with("\nToo many included files"), "{text}");
        }
    }

    #[test]
    fn a_directory_is_entered_at_its_line() {
        let files =
            [("/start/a.conf", "dir sub\ninclude b"), ("/start/sub/b", "dir ./more/\nhz 3")];
        let loaded = run(&mut host(&files), &["a.conf"]).unwrap();
        assert_eq!(loaded.config.hz, 3);
        assert_eq!(shown(&loaded, "dir"), "/start/sub/more");
    }

    #[test]
    fn standard_input_comes_after_the_file_and_before_the_options() {
        let mut host = host(&[("/start/a.conf", "port 1\nhz 1\ntimeout 1")]);
        host.stdin = "hz 2\ntimeout 2".to_owned();
        let loaded = run(&mut host, &["a.conf", "--timeout", "3", "-"]).unwrap();
        let config = loaded.config;
        assert_eq!((config.port, config.hz, config.timeout), (1, 2, 3));
        let loaded = run(&mut host, &["-"]).unwrap();
        assert_eq!((loaded.config.hz, loaded.path), (2, None));
    }

    fn option_refusal(args: &[&str]) -> String {
        let error = run(&mut host(&[]), args).expect_err("the options are invalid").to_string();
        let at = error.find(">>> ").expect("the line is shown");
        error[at..].to_owned()
    }

    #[test]
    fn wrong_options_are_shown_as_lines() {
        for (args, expected) in [
            (&["--invalid"][..], ">>> 'invalid'\nBad directive or wrong number of arguments"),
            (&["--port"], ">>> 'port'\nwrong number of arguments"),
            (&["--port", "1", "--loglevel"], ">>> 'loglevel'\nwrong number of arguments"),
            (&["--port", "1", "2"], ">>> 'port \"1\" \"2\"'\nwrong number of arguments"),
            (
                &["--port", "--loglevel", "verbose"],
                ">>> 'port \"--loglevel\" \"verbose\"'\nwrong number of arguments",
            ),
            (
                &["--port", "--bla", "--loglevel", "verbose"],
                ">>> 'port \"--bla\"'\nargument couldn't be parsed into an integer",
            ),
            (
                &["--logfile", "--my--log", "--loglevel", "--bla"],
                ">>> 'loglevel \"--bla\"'\nargument(s) must be one of the following: debug, \
                 verbose, notice, warning, nothing",
            ),
            (
                &["--shutdown-on-sigint", "now force", "--shutdown-on-sigterm"],
                ">>> 'shutdown-on-sigterm'\nargument(s) must be one of the following: default, \
                 save, nosave, now, force",
            ),
            (
                &["--replicaof", "--127.0.0.1", "abc"],
                ">>> 'replicaof \"--127.0.0.1\" \"abc\"'\nInvalid master port",
            ),
            (
                &["--replicaof", "--127.0.0.1", "--abc"],
                ">>> 'replicaof \"--127.0.0.1\"'\nwrong number of arguments",
            ),
        ] {
            assert_eq!(option_refusal(args), expected, "{args:?}");
        }
        let error = run(&mut host(&[("/start/a", "hz 1\n")]), &["a", "--hz", "x"]).unwrap_err();
        let LoadError::Invalid { origin: Some(origin), .. } = error else { panic!("{error}") };
        assert_eq!(origin.line, 3);
    }

    #[test]
    fn options_are_applied_over_the_file() {
        let file = [("/start/default.conf", "save ''\nsave 900 1\nloglevel warning")];
        for (args, name, expected) in [
            (&["--save", "100", "100"][..], "save", "900 1 100 100"),
            (&["--save", ""], "save", ""),
            (&["--save", "--loglevel", "verbose"], "save", ""),
            (&["--loglevel", "verbose", "--save"], "loglevel", "verbose"),
            (&["--maxmemory 700mb", "--hz 12"], "maxmemory", "734003200"),
            (&["loglevel", "verbose", "--maxmemory '700mb'"], "maxmemory", "734003200"),
            (&["loglevel", "verbose", "--maxmemory '700mb'"], "loglevel", "verbose"),
            (
                &["--proc-title-template", "--my--title", "--loglevel", "verbose"],
                "proc-title-template",
                "--my--title",
            ),
            (&["--proc-title-template --my--title"], "proc-title-template", "--my--title"),
            (
                &["--proc-title-template", "--save", "--save", "", "--loglevel", "verbose"],
                "proc-title-template",
                "--save",
            ),
            (
                &["--shutdown-on-sigint", "nosave", "force", "now", "--shutdown-on-sigterm", "now"],
                "shutdown-on-sigint",
                "nosave now force",
            ),
            (&["--shutdown-on-sigterm", "nosave force"], "shutdown-on-sigterm", "nosave force"),
            (&["--slave-priority", "7"], "replica-priority", "7"),
        ] {
            let args = [&["default.conf"], args].concat();
            let loaded = run(&mut host(&file), &args).expect("the options are valid");
            assert_eq!(shown(&loaded, name), expected, "{args:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        use proptest::prelude::*;
        proptest!(|(text in "(include|user|port|save|\\PC| |\n|\"|'){0,40}")| {
            let _ = load_text(&text);
        });
    }
}
