//! The command line of a server, turned into lines of a configuration file.
//!
//! `rufous-server [file] [--directive value ...] [-]`. An argument that starts with two dashes
//! opens a directive, unless the directive before it still has no value: then it is that value,
//! so that values may start with dashes. The rest are values, quoted into the line so that they
//! come out of it as they went in. What opens a directive goes in unquoted, so `"--port 6380"`
//! in one argument works. A dash alone, first or last, asks for standard input.
//!
//! Its errors are those of the lines made here. What asks for anything else than a server has been
//! read before, in [`crate::cli`].

use super::quote::quote;
use crate::structs::words;

/// What the command line asks to be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    pub file: Option<Vec<u8>>,
    pub stdin: bool,
    /// Lines to read after everything else.
    pub directives: Vec<u8>,
}

/// Reads the arguments after the program's name.
pub fn read(args: &[Vec<u8>]) -> CommandLine {
    let mut line = CommandLine::default();
    let first_option = match args.first() {
        Some(first) if !first.starts_with(b"-") => {
            line.file = Some(first.clone());
            1
        }
        _ => 0,
    };
    let mut wants_value = false;
    for (at, arg) in args.iter().enumerate().skip(first_option) {
        if arg == b"-" && (at == 0 || at + 1 == args.len()) {
            line.stdin = true;
        } else if !wants_value && arg.starts_with(b"--") {
            if !line.directives.is_empty() {
                line.directives.push(b'\n');
            }
            line.directives.extend(&arg[2..]);
            line.directives.push(b' ');
            wants_value = words::split(arg).is_ok_and(|words| words.len() == 1);
            if arg.eq_ignore_ascii_case(b"--save") {
                // `--save` before another option or at the end means `--save ""`, because
                // scripts build such lines from empty lists.
                let next = args.get(at + 1);
                if next.is_none_or(|next| next.starts_with(b"--")) {
                    line.directives.extend(b"\"\"");
                    wants_value = false;
                }
            }
        } else {
            line.directives.extend(quote(arg));
            line.directives.push(b' ');
            wants_value = false;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(args: &[&str]) -> String {
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        String::from_utf8(read(&args).directives).expect("test arguments are UTF-8")
    }

    #[test]
    fn options_become_lines() {
        for (args, expected) in [
            (&["--port", "6380", "--loglevel", "debug"][..], "port \"6380\" \nloglevel \"debug\" "),
            (&["--maxmemory 700mb", "--hz", "20"], "maxmemory 700mb \nhz \"20\" "),
            (&["--port", "1", "2"], "port \"1\" \"2\" "),
            (&["--port", "--loglevel", "debug"], "port \"--loglevel\" \"debug\" "),
            (&["--port", "--bla", "--hz", "9"], "port \"--bla\" \nhz \"9\" "),
            (&["--logfile", "a b\n\""], "logfile \"a b\\n\\\"\" "),
            (&["--logfile", "", "--port"], "logfile \"\" \nport "),
            (&["--replicaof", "--a", "--b"], "replicaof \"--a\" \nb "),
        ] {
            assert_eq!(lines(args), expected, "{args:?}");
        }
    }

    #[test]
    fn save_without_a_value_is_empty() {
        for (args, expected) in [
            (&["--save", "--hz", "9"][..], "save \"\"\nhz \"9\" "),
            (&["--hz", "9", "--SAVE"], "hz \"9\" \nSAVE \"\""),
            (&["--save", "", "--hz", "9"], "save \"\" \nhz \"9\" "),
            (&["--save", "3600", "1", "--hz", "9"], "save \"3600\" \"1\" \nhz \"9\" "),
            (
                &["--proc-title-template", "--save", "--save", ""],
                "proc-title-template \"--save\" \nsave \"\" ",
            ),
        ] {
            assert_eq!(lines(args), expected, "{args:?}");
        }
    }

    #[test]
    fn a_file_comes_first_and_a_dash_first_or_last() {
        let read = |args: &[&str]| {
            let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
            let line = super::read(&args);
            (line.file.is_some(), line.stdin, !line.directives.is_empty())
        };
        assert_eq!(read(&[]), (false, false, false));
        assert_eq!(read(&["a.conf"]), (true, false, false));
        assert_eq!(read(&["a.conf", "-"]), (true, true, false));
        assert_eq!(read(&["-"]), (false, true, false));
        assert_eq!(read(&["-", "--port", "1"]), (false, true, true));
        assert_eq!(read(&["a.conf", "--port", "1", "-"]), (true, true, true));
        assert_eq!(read(&["--port", "-", "1"]), (false, false, true));
        assert_eq!(lines(&["--pidfile", "-", "--port", "1"]), "pidfile \"-\" \nport \"1\" ");
    }
}
