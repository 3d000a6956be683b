//! `redis.conf.example`, generated from the rows, so that it cannot disagree with them.
//!
//! Every directive that is not hidden appears with its sentence, what it accepts and its default.
//! The file loads as it is and then changes nothing. A test compares the file in the repository
//! with what is generated here; `UPDATE=1 cargo test example` writes it anew.

use super::file::FILE_DIRECTIVES;
use super::value::{INT_MAX, INT_MIN, LONG_MAX, UINT_MAX, ULONG_MAX};
use super::{DEFAULTS, DIRECTIVES, Directive, Kind};

const WIDTH: usize = 100;

const HEAD: &str = "\
# Configuration of Rufous, with every default spelled out.
#
# Start the server with `rufous-server /path/to/redis.conf`; any line can also be given on the
# command line, as in `--port 6380`. Sizes may have a unit: 1k is 1000 bytes, 1kb is 1024 bytes,
# likewise m, mb, g and gb, in any case. Later lines win over earlier ones.
#
# A line marked (later) belongs to a feature that Rufous does not have yet: it is accepted and
# kept, and has no effect.
#
# This file is generated from the table of directives: UPDATE=1 cargo test example
";

/// The text of `redis.conf.example`.
pub fn example() -> String {
    let mut text = String::from(HEAD);
    let mut section = "";
    for directive in DIRECTIVES.iter().filter(|directive| !directive.is_hidden()) {
        if directive.section != section {
            section = directive.section;
            heading(&mut text, section);
        }
        text.push_str(&entry(directive));
    }
    heading(&mut text, "Only in files");
    for (name, form, doc) in FILE_DIRECTIVES {
        text.push_str(&format!("\n# {doc}\n# {name} {form}\n"));
    }
    text
}

fn heading(text: &mut String, section: &str) {
    let rule = "#".repeat((WIDTH - 4).saturating_sub(section.len()));
    text.push_str(&format!("\n## {section} {rule}\n"));
}

/// Adds a comment, broken where the page ends.
fn comment(text: &mut String, comment: &str) {
    let mut column = 0;
    for word in comment.split(' ') {
        if column == 0 || column + 1 + word.len() > WIDTH {
            text.push_str(if column == 0 { "#" } else { "\n#" });
            column = 1;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + word.len();
    }
    text.push('\n');
}

fn entry(directive: &Directive) -> String {
    let later = if directive.is_later() { "(later) " } else { "" };
    let mut entry = String::from("\n");
    comment(&mut entry, &format!("{later}{}", directive.doc));
    if let Some(accepted) = accepted(&directive.kind()) {
        comment(&mut entry, &accepted);
    }
    if let Some(alias) = directive.alias {
        comment(&mut entry, &format!("Also known as {alias}."));
    }
    let lines = (directive.lines)(&DEFAULTS, &DEFAULTS);
    for line in &lines {
        let value = String::from_utf8_lossy(&line.arguments);
        entry.push_str(&format!("{} {value}\n", directive.name));
    }
    if lines.is_empty() {
        let default = directive.default_text();
        let shown = match (default.is_empty(), directive.kind()) {
            (false, _) => String::from_utf8_lossy(&default).into_owned(),
            (true, Kind::Special(form)) => form.to_owned(),
            (true, _) => "<text>".to_owned(),
        };
        entry.push_str(&format!("# {} {shown}\n", directive.name));
    }
    entry
}

/// What a directive accepts, if its default does not tell.
fn accepted(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Bool | Kind::Text => None,
        Kind::Integer { min, max } | Kind::Memory { min, max } => range(*min, *max),
        Kind::Octal { min, max } => Some(format!("Accepts {min:o} to {max:o}.")),
        Kind::MemoryOrPercent => Some("Accepts a size, or 0% to 100%.".to_owned()),
        Kind::OneOf(words) => Some(format!("One of: {}.", words.join(", "))),
        Kind::SomeOf(words) => Some(format!("Some of: {}.", words.join(", "))),
        Kind::Special(form) => Some(format!("Form: {form}")),
    }
}

/// Bounds that are only those of a machine word are not worth a line.
fn range(min: i128, max: i128) -> Option<String> {
    match ([INT_MAX, UINT_MAX, LONG_MAX, ULONG_MAX].contains(&max), min) {
        (true, 0 | INT_MIN) => None,
        (true, _) => Some(format!("Accepts {min} and more.")),
        (false, _) => Some(format!("Accepts {min} to {max}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/redis.conf.example");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, example()).expect("the repository is writable");
        }
        let file = std::fs::read_to_string(path).unwrap_or_default();
        assert!(file == example(), "redis.conf.example is stale: UPDATE=1 cargo test example");
    }

    #[test]
    fn lines_of_the_example_fit_the_page() {
        for line in example().lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
