//! Reading a list, whatever its form.

use super::quicklist::{Node, Quicklist};
use crate::structs::SharedBytes;
use crate::structs::listpack::{Element, Listpack};
use std::ops::{ControlFlow, Range};

/// An element of a list.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Packed(Element<'a>),
    /// One that is too long for a listpack.
    Plain(&'a SharedBytes),
}

impl Value<'_> {
    pub fn is(self, text: &[u8]) -> bool {
        match self {
            Value::Packed(element) => element.is(text),
            Value::Plain(bytes) => bytes.as_slice() == text,
        }
    }

    pub fn to_vec(self) -> Vec<u8> {
        match self {
            Value::Packed(element) => element.to_vec(),
            Value::Plain(bytes) => bytes.to_vec(),
        }
    }
}

/// A list to be read.
#[derive(Clone, Copy)]
pub enum ListRef<'a> {
    Packed(Listpack<'a>),
    Tree(&'a Quicklist),
}

impl<'a> ListRef<'a> {
    pub fn len(self) -> usize {
        match self {
            ListRef::Packed(listpack) => listpack.len(),
            ListRef::Tree(list) => list.len(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// An index that may count from the end, as one from the start.
    pub fn index(self, index: i64) -> Option<usize> {
        let distance = usize::try_from(index.unsigned_abs()).ok()?;
        let len = self.len();
        let at = if index < 0 { len.checked_sub(distance)? } else { distance };
        (at < len).then_some(at)
    }

    /// The elements between two indexes, both included, which may count from the end.
    pub fn range(self, start: i64, stop: i64) -> Range<usize> {
        let len = self.len() as i64;
        let from_start = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
        let start = from_start(start).max(0);
        let end = from_start(stop).min(len - 1).saturating_add(1);
        if start >= end { 0..0 } else { start as usize..end as usize }
    }

    pub fn get(self, index: usize) -> Option<Value<'a>> {
        let mut found = None;
        let _ = self.walk(index..index.saturating_add(1), false, |_, value| {
            found = Some(value);
            ControlFlow::Break(())
        });
        found
    }

    /// Visits the elements of a range with their indexes, from its start or backwards.
    pub fn walk(
        self,
        range: Range<usize>,
        backwards: bool,
        mut visit: impl FnMut(usize, Value<'a>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let range = range.start..range.end.min(self.len());
        if range.is_empty() {
            return ControlFlow::Continue(());
        }
        let list = match self {
            ListRef::Packed(listpack) => {
                return walk_listpack(listpack, range, 0, backwards, &mut visit);
            }
            ListRef::Tree(list) => list,
        };
        let first = if backwards { range.end - 1 } else { range.start };
        let place = list.tree.locate(first).expect("the index is in the list");
        let mut start = first - place.offset;
        let mut leaf = place.leaf;
        loop {
            let Some(node) = list.tree.leaf(leaf) else { return ControlFlow::Continue(()) };
            let end = start + node.len();
            let within = range.start.max(start)..range.end.min(end);
            match node {
                Node::Packed(packed) => {
                    walk_listpack(packed.listpack(), within, start, backwards, &mut visit)?;
                }
                Node::Plain(bytes) => visit(start, Value::Plain(bytes))?,
            }
            if if backwards { start <= range.start } else { end >= range.end } {
                return ControlFlow::Continue(());
            }
            if backwards {
                leaf -= 1;
                start -= list.tree.leaf(leaf).map_or(0, Node::len);
            } else {
                leaf += 1;
                start = end;
            }
        }
    }
}

/// Visits a range of elements of a listpack of which the first has the index `base`.
fn walk_listpack<'a>(
    listpack: Listpack<'a>,
    range: Range<usize>,
    base: usize,
    backwards: bool,
    visit: &mut impl FnMut(usize, Value<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let first = if backwards { range.end - 1 } else { range.start };
    let Some(position) = listpack.seek((first - base) as i64) else {
        return ControlFlow::Continue(());
    };
    if backwards {
        let before = listpack.iter_before(listpack.next(position)).rev();
        for (index, (_, element)) in range.rev().zip(before) {
            visit(index, Value::Packed(element))?;
        }
    } else {
        for (index, (_, element)) in range.zip(listpack.iter_from(position)) {
            visit(index, Value::Packed(element))?;
        }
    }
    ControlFlow::Continue(())
}
