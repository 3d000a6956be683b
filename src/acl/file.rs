//! Users as text: the file that `aclfile` names, and the lines `user ...` of a configuration.
//!
//! In the file, which is ours to write, a line is split at single spaces and has no quotes. A line
//! of the configuration is split as all of its lines are. Both say the same in the same words.

use super::rule::{RuleError, has_spaces};
use super::user::{Beginning, User, join_selectors};
use super::users::Users;
use crate::command::Table;
use crate::config::quote::quote;
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

/// What all faults of a file end with.
const NOTHING_WAS_CHANGED: &str =
    "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";

/// Reads a whole file, or says all that is wrong with it. `path` is how the directive names it.
pub fn parse(
    text: &[u8],
    path: &str,
    table: &Table,
    beginning: Beginning,
) -> Result<Users, String> {
    let mut reader = Reader::new(path, table, beginning);
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = trim(line, b" \t\r\n");
        if !line.is_empty() {
            reader.line(at + 1, line);
        }
    }
    if !reader.errors.is_empty() {
        return Err(reader.complaint());
    }
    let mut users = Users::new(table);
    for user in reader.users {
        users.put(user);
    }
    Ok(users)
}

fn trim<'a>(text: &'a [u8], blanks: &[u8]) -> &'a [u8] {
    let is_kept = |byte: &u8| !blanks.contains(byte);
    let start = text.iter().position(is_kept).unwrap_or(text.len());
    let end = text.iter().rposition(is_kept).map_or(start, |last| last + 1);
    &text[start..end]
}

struct Reader<'a> {
    path: &'a str,
    table: &'a Table,
    beginning: Beginning,
    errors: String,
    /// How many faults there was no room for.
    untold: usize,
    users: Vec<User>,
    names: HashSet<&'a [u8]>,
}

/// Somebody may have named a file that is anything but one of users, with a fault in each of its
/// million lines. So much is told of them.
const ERRORS_BYTES_MAX: usize = 16 * 1024;

impl<'a> Reader<'a> {
    fn new(path: &'a str, table: &'a Table, beginning: Beginning) -> Reader<'a> {
        let (errors, users, names) = Default::default();
        Reader { path, table, beginning, errors, untold: 0, users, names }
    }

    fn line(&mut self, number: usize, line: &'a [u8]) {
        let path = self.path;
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [first, name, rules @ ..] = words.as_slice() else {
            return self.fault(no_user(path, number));
        };
        if !first.eq_ignore_ascii_case(b"user") {
            return self.fault(no_user(path, number));
        }
        let shown = String::from_utf8_lossy(name);
        if has_spaces(name) {
            return self.fault(format!(
                "'{path}:{number}: username '{shown}' contains invalid characters. "
            ));
        }
        if !self.names.insert(name) {
            return self
                .fault(format!("WARNING: Duplicate user '{shown}' found on line {number}. "));
        }
        let mut user = User::new(name, self.table, self.beginning);
        match join_selectors(rules) {
            Ok(rules) => self.rules(number, &mut user, &rules),
            Err(_) => {
                self.fault(format!(
                    "{path}:{number}: Unmatched parenthesis in selector definition."
                ));
            }
        }
        self.users.push(user);
    }

    /// A fault may be the reason of the next one, and the rule may hold a secret: only the first is
    /// told, without it. Names of commands are harmless, and all of those that are wrong are told.
    fn rules(&mut self, number: usize, user: &mut User, rules: &[Vec<u8>]) {
        let path = self.path;
        let mut has_fault = false;
        for rule in rules {
            let rule = trim(rule, b"\t\r\n");
            match user.apply(rule, self.table, self.beginning) {
                Ok(()) => {}
                Err(error @ RuleError::UnknownCommand) => {
                    let (rule, reason) = (String::from_utf8_lossy(rule), error.text());
                    self.fault(format!(
                        "{path}:{number}: Error in applying operation '{rule}': {reason}. "
                    ));
                }
                Err(error) if !has_fault => {
                    has_fault = true;
                    self.fault(format!("{path}:{number}: {}. ", error.text()));
                }
                Err(_) => {}
            }
        }
    }

    fn fault(&mut self, text: String) {
        match self.errors.is_empty() || self.errors.len() + text.len() <= ERRORS_BYTES_MAX {
            true => self.errors += &text,
            false => self.untold += 1,
        }
    }

    fn complaint(self) -> String {
        let untold = match self.untold {
            0 => String::new(),
            count => format!("There are {count} more errors. "),
        };
        self.errors + &untold + NOTHING_WAS_CHANGED
    }
}

fn no_user(path: &str, number: usize) -> String {
    format!("{path}:{number} should start with user keyword followed by the username. ")
}

/// The text of a file with these users.
pub fn write(users: &Users) -> Vec<u8> {
    let mut text = Vec::new();
    for user in users.iter() {
        text.extend(user.line());
        text.push(b'\n');
    }
    text
}

/// A user as a line of the configuration, without the leading word. Its words are quoted where the
/// configuration would take them for something else.
pub fn config_line(user: &User) -> Vec<u8> {
    let is_plain = |word: &[u8]| {
        !word.is_empty()
            && word.iter().all(|byte| byte.is_ascii_graphic() && !b"\"'".contains(byte))
    };
    let word = |word: &[u8]| if is_plain(word) { word.to_vec() } else { quote(word) };
    let rules = user.words().join(&b' ');
    let words = rules.split(|byte| *byte == b' ');
    let words: Vec<Vec<u8>> = [user.name()].into_iter().chain(words).map(word).collect();
    words.join(&b' ')
}

/// Why a line of the configuration is refused where it stands: which word of it, and the reason.
pub type LineFault = (Vec<u8>, &'static str);

const DUPLICATE: &str = "Duplicate user found. A user can only be defined once in config files";

/// Looks at the lines `user <name> <rules>` of a configuration, each without that word, before
/// anything is done with them; which one is wrong, and why. What a table of commands says is asked
/// later ([`take`]).
pub fn check_lines(
    lines: &[Vec<Vec<u8>>],
    table: &Table,
    beginning: Beginning,
) -> Result<(), (usize, LineFault)> {
    let mut names = BTreeSet::new();
    for (at, line) in lines.iter().enumerate() {
        let (name, rules) = parts(line);
        if !names.insert(name) {
            return Err((at, (name.to_vec(), DUPLICATE)));
        }
        let joined = join_selectors(&rules).map_err(|word| {
            (at, (rules[word].to_vec(), "Unmatched parenthesis in selector definition"))
        })?;
        let mut user = User::new(name, table, beginning);
        for rule in joined {
            match user.apply(&rule, table, beginning) {
                Ok(()) | Err(RuleError::UnknownCommand) => {}
                Err(error) => return Err((at, (rule, error.text()))),
            }
        }
    }
    Ok(())
}

fn parts(line: &[Vec<u8>]) -> (&[u8], Vec<&[u8]>) {
    let words: Vec<&[u8]> = line.iter().map(Vec::as_slice).collect();
    let (name, rules) =
        words.split_first().map_or((&b""[..], &[][..]), |(name, rest)| (name, rest));
    (name, rules.to_vec())
}

/// Defines the users of a configuration; why that cannot be, for the log.
pub fn take(
    users: &mut Users,
    lines: &[Vec<Vec<u8>>],
    table: &Table,
    beginning: Beginning,
) -> Result<(), String> {
    for line in lines {
        let (name, rules) = parts(line);
        if has_spaces(name) {
            return Err("Spaces not allowed in ACL usernames".to_owned());
        }
        let rules = join_selectors(&rules).map_err(|_| "Unmatched parenthesis".to_owned())?;
        // The default user is there already, and not what the line begins with.
        let mut user = User::new(name, table, beginning);
        user.apply_all(&rules, table, beginning).map_err(|(at, error)| {
            let (rule, name) = (String::from_utf8_lossy(&rules[at]), String::from_utf8_lossy(name));
            let reason = error.text();
            format!("Error loading ACL rule '{rule}' for the user named '{name}': {reason}")
        })?;
        users.put(user);
    }
    Ok(())
}

/// A line of the configuration as it may be shown: without what may be a secret.
pub fn shown_line(line: &[Vec<u8>]) -> Vec<u8> {
    let is_secret = |word: &[u8]| matches!(word.first(), Some(b'>' | b'<' | b'#' | b'!'));
    let shown =
        |word: &Vec<u8>| if is_secret(word) { b"(redacted)".to_vec() } else { word.clone() };
    line.iter().map(shown).collect::<Vec<_>>().join(&b' ')
}

/// What whoever has written these users may not have meant.
pub fn doubts(users: &Users) -> Vec<String> {
    let is_off = |user: &&Rc<User>| !user.is_on();
    let doubt = |user: &Rc<User>| {
        format!(
            "The user '{}' is disabled (there is no 'on' modifier in the user description). Make \
             sure this is not a configuration error.",
            user.shown_name()
        )
    };
    users.iter().filter(is_off).map(doubt).collect()
}
