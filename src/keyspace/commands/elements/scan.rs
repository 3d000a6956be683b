//! The options of SCAN, HSCAN, SSCAN and ZSCAN, and the page that they answer.
//!
//! A table goes by hash order, so its cursor survives growing and shrinking: what is there from
//! the first call to the last is returned exactly once. A packed value is returned whole by the
//! first call, whatever the cursor, since it is small. As in Redis the options are not even read
//! when there is no such key. A long page is written on another thread.

use super::{is_long, parse_scan_cursor, write_element};
use crate::command::{Args, CommandError, CommandResult};
use crate::engine::Cx;
use crate::keyspace::Entry;
use crate::resp::{Reply, ReplyBuf};
use crate::structs::glob::{self, Case};
use crate::structs::listpack::Element;
use crate::structs::number::I64Buf;
use crate::types::{Kind, WrongType};

const COUNT_DEFAULT: usize = 10;

/// What is gone through, which decides the options that there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scanned {
    Keys,
    Fields,
    Members,
    ScoredMembers,
}

/// Which of the visited elements are returned, and how many are visited.
pub struct ScanOptions {
    pub count: usize,
    /// Neither values nor scores are asked for.
    pub names_only: bool,
    /// When the call was made: fields whose time has come before it are not there.
    pub horizon_ms: u64,
    pattern: Option<Box<[u8]>>,
    kind: Option<TypeFilter>,
}

/// The type asked for; a name that no type has matches nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TypeFilter {
    Is(Kind),
    Unknown,
}

impl ScanOptions {
    pub fn read(args: &mut Args<'_>, scanned: Scanned) -> Result<ScanOptions, CommandError> {
        let (count, names_only) = (COUNT_DEFAULT, false);
        let mut options =
            ScanOptions { count, names_only, horizon_ms: 0, pattern: None, kind: None };
        while !args.is_empty() {
            if args.option_with_value("count") {
                let count = args.integer_in(1..=i64::MAX, CommandError::Syntax);
                options.count = usize::try_from(count).unwrap_or(usize::MAX);
            } else if args.option_with_value("match") {
                options.pattern =
                    Some(args.bytes()).filter(|pattern| *pattern != b"*").map(Box::from);
            } else if scanned == Scanned::Keys && args.option_with_value("type") {
                let name = args.bytes();
                let is_named = |kind: &Kind| kind.name().as_bytes().eq_ignore_ascii_case(name);
                let kind = Kind::ALL.into_iter().find(is_named);
                options.kind = Some(kind.map_or(TypeFilter::Unknown, TypeFilter::Is));
            } else if args.option("novalues") {
                if scanned != Scanned::Fields {
                    return Err(CommandError::Fixed(
                        "ERR NOVALUES option can only be used in HSCAN",
                    ));
                }
                options.names_only = true;
            } else if args.option("noscores") {
                if scanned != Scanned::ScoredMembers {
                    return Err(CommandError::Fixed(
                        "ERR NOSCORES option can only be used in ZSCAN",
                    ));
                }
                options.names_only = true;
            } else {
                args.check()?;
                return Err(CommandError::Syntax);
            }
            args.check()?;
        }
        Ok(options)
    }

    /// The names that are asked for; none if all are.
    pub fn pattern(&self) -> Option<&[u8]> {
        self.pattern.as_deref()
    }

    pub fn takes_name(&self, name: &[u8]) -> bool {
        let fits = |pattern: &[u8]| glob::matches(pattern, name, Case::Sensitive);
        self.pattern.as_deref().is_none_or(fits)
    }

    pub fn takes_element(&self, element: Element<'_>) -> bool {
        self.takes_name(element.bytes(&mut I64Buf::new()))
    }

    pub fn takes_entry(&self, entry: &Entry) -> bool {
        let kind_fits = self.kind.is_none_or(|kind| kind == TypeFilter::Is(entry.kind()));
        kind_fits && self.takes_name(entry.key())
    }
}

/// The elements of a page while it is written.
pub struct ScanPage<'a> {
    writer: Reply<'a>,
    listed: usize,
}

impl ScanPage<'_> {
    pub fn list(&mut self, text: &[u8]) {
        self.writer.bulk(text);
        self.listed += 1;
    }

    pub fn list_element(&mut self, element: Element<'_>) {
        write_element(&mut self.writer, element);
        self.listed += 1;
    }
}

/// Writes the next cursor, which `walk` answers, and the elements that it lists.
pub fn write_scan_page(reply: &mut Reply<'_>, walk: impl FnOnce(&mut ScanPage<'_>) -> u64) {
    let mut elements = ReplyBuf::new();
    let mut page = ScanPage { writer: elements.writer(reply.protocol()), listed: 0 };
    let cursor = walk(&mut page);
    let listed = page.listed;
    reply.array(2);
    reply.bulk_fmt(format_args!("{cursor}"));
    reply.array(listed);
    reply.buffer().append(elements);
}

/// HSCAN, SSCAN and ZSCAN: `len` tells how many elements the value has, if it is of the type;
/// `walk` lists those at a cursor and answers the next one.
pub fn scan_elements(
    cx: &mut Cx<'_>,
    args: &mut Args<'_>,
    scanned: Scanned,
    len: fn(&Entry) -> Result<usize, WrongType>,
    walk: fn(&Entry, u64, &ScanOptions, &mut ScanPage<'_>) -> u64,
) -> CommandResult {
    let key = args.key();
    let cursor = parse_scan_cursor(args.bytes())?;
    let Some(entry) = cx.keys.read(&key) else {
        write_scan_page(&mut cx.reply, |_| 0);
        return Ok(());
    };
    let len = len(entry)?;
    let options =
        ScanOptions { horizon_ms: cx.keys.horizon_ms(), ..ScanOptions::read(args, scanned)? };
    if !is_long(options.count.min(len), len, entry.heap_bytes()) {
        write_scan_page(&mut cx.reply, |page| walk(entry, cursor, &options, page));
        return Ok(());
    }
    let entry = entry.clone();
    cx.answer_by(move |reply| {
        write_scan_page(reply, |page| walk(&entry, cursor, &options, page));
        Ok(())
    })
}
