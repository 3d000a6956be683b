//! Values as plain data, so that codecs are tested without a Lua state.

use super::{Build, Host, Look, Seen};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::rc::Rc;

#[derive(Clone, Debug)]
pub enum Value {
    Nil,
    Null,
    Boolean(bool),
    Number(f64),
    String(Rc<[u8]>),
    Table(Rc<RefCell<Table>>),
    Other(&'static str),
}

/// Entries in the order in which they were first set.
#[derive(Default, Debug)]
pub struct Table {
    entries: Vec<(Value, Value)>,
    places: HashMap<Key, usize>,
    is_marked: bool,
}

#[derive(PartialEq, Eq, Hash, Debug)]
enum Key {
    Boolean(bool),
    Number(u64),
    String(Rc<[u8]>),
    Table(usize),
    Other(&'static str),
}

impl Value {
    pub fn string(text: &[u8]) -> Value {
        Value::String(text.into())
    }

    pub fn table(entries: impl IntoIterator<Item = (Value, Value)>) -> Value {
        let mut table = Table::default();
        entries.into_iter().for_each(|(key, value)| table.set(key, value));
        Value::Table(Rc::new(RefCell::new(table)))
    }

    pub fn array(values: impl IntoIterator<Item = Value>) -> Value {
        let numbered = values.into_iter().enumerate();
        Value::table(numbered.map(|(index, value)| (Value::Number(index as f64 + 1.0), value)))
    }

    fn key(&self) -> Key {
        match self {
            // Both zeros are one key.
            Value::Number(value) => Key::Number((value + 0.0).to_bits()),
            Value::Boolean(value) => Key::Boolean(*value),
            Value::String(text) => Key::String(Rc::clone(text)),
            Value::Table(table) => Key::Table(Rc::as_ptr(table) as usize),
            Value::Null => Key::Other("null"),
            Value::Other(name) => Key::Other(name),
            Value::Nil => panic!("nil is no key"),
        }
    }

    pub fn of(seen: Seen<'_>) -> Value {
        match seen {
            Seen::Nil => Value::Nil,
            Seen::Null => Value::Null,
            Seen::Boolean(value) => Value::Boolean(value),
            Seen::Number(value) => Value::Number(value),
            Seen::String(text) => Value::string(text),
            Seen::Table => panic!("a table is not seen whole"),
            Seen::Other(name) => Value::Other(name),
        }
    }

    pub fn seen(&self) -> Seen<'_> {
        match self {
            Value::Nil => Seen::Nil,
            Value::Null => Seen::Null,
            Value::Boolean(value) => Seen::Boolean(*value),
            Value::Number(value) => Seen::Number(*value),
            Value::String(text) => Seen::String(text),
            Value::Table(_) => Seen::Table,
            Value::Other(name) => Seen::Other(name),
        }
    }

    /// Everything there is to the value in one line, entries in order.
    pub fn show(&self) -> String {
        let mut out = String::new();
        match self {
            Value::Nil => out.push_str("nil"),
            Value::Null => out.push_str("null"),
            Value::Boolean(value) => write!(out, "{value}").expect("it grows"),
            Value::Number(value) if value.is_nan() => out.push_str("nan"),
            Value::Number(value) => {
                let mut text = Vec::new();
                let bits = value.to_bits();
                crate::structs::general::push_general(*value, 14, &mut text);
                write!(out, "{}#{bits:016x}", String::from_utf8_lossy(&text)).expect("it grows");
            }
            Value::String(text) => write!(out, "\"{}\"", text.escape_ascii()).expect("it grows"),
            Value::Table(table) => {
                let table = table.borrow();
                let mut shown: Vec<String> = (table.entries.iter())
                    .filter(|(_, value)| !matches!(value, Value::Nil))
                    .map(|(key, value)| format!("{}={}", key.show(), value.show()))
                    .collect();
                shown.sort();
                write!(out, "{{{}}}", shown.join(",")).expect("it grows");
            }
            Value::Other(name) => out.push_str(name),
        }
        out
    }
}

/// Deep values must not be dropped by recursion.
impl Drop for Table {
    fn drop(&mut self) {
        let mut pending = std::mem::take(&mut self.entries);
        while let Some((key, value)) = pending.pop() {
            for part in [key, value] {
                if let Value::Table(table) = part
                    && let Ok(table) = Rc::try_unwrap(table)
                {
                    pending.append(&mut std::mem::take(&mut table.into_inner().entries));
                }
            }
        }
    }
}

impl Table {
    fn get(&self, key: &Value) -> Value {
        let place = self.places.get(&key.key());
        place.map_or(Value::Nil, |place| self.entries[*place].1.clone())
    }

    pub fn set(&mut self, key: Value, value: Value) {
        match self.places.get(&key.key()) {
            Some(place) => self.entries[*place].1 = value,
            None if matches!(value, Value::Nil) => {}
            None => {
                self.places.insert(key.key(), self.entries.len());
                self.entries.push((key, value));
            }
        }
    }

    /// The first entry that is there, at this place or behind it.
    fn entry_from(&self, place: usize) -> Option<(Value, Value)> {
        let mut rest = self.entries.get(place..)?.iter();
        rest.find(|(_, value)| !matches!(value, Value::Nil)).cloned()
    }
}

/// Why [`Stack`] ends a codec: it has been asked for more than it was to give.
#[derive(PartialEq, Eq, Debug)]
pub struct Exhausted;

/// A stack of such values.
pub struct Stack {
    pub values: Vec<Value>,
    pub slots_max: usize,
    /// So many bytes may be read or written yet.
    pub bytes_left: usize,
    /// So many values may be pushed yet.
    pub pushes_left: usize,
    /// What codecs said to expect, in all.
    pub expected: usize,
    /// What was promised by the last `room`, as the length that the stack may have.
    pub has_room_until: usize,
}

impl Default for Stack {
    fn default() -> Stack {
        Stack {
            values: Vec::new(),
            slots_max: 8000,
            bytes_left: usize::MAX,
            pushes_left: usize::MAX,
            expected: 0,
            has_room_until: 20,
        }
    }
}

impl Stack {
    pub fn of(value: Value) -> Stack {
        Stack { values: vec![value], ..Stack::default() }
    }

    fn push(&mut self, value: Value) -> Result<(), Exhausted> {
        self.pushes_left = self.pushes_left.checked_sub(1).ok_or(Exhausted)?;
        self.values.push(value);
        assert!(self.values.len() <= self.has_room_until, "no room was asked for");
        Ok(())
    }

    fn take(&mut self) -> Value {
        self.values.pop().expect("there is a value")
    }

    fn table(&self) -> &Rc<RefCell<Table>> {
        match self.values.last() {
            Some(Value::Table(table)) => table,
            other => panic!("{other:?} is no table"),
        }
    }
}

impl Host for Stack {
    type Error = Exhausted;

    fn room(&mut self, slots: usize) -> bool {
        let until = self.values.len() + slots;
        if until > self.slots_max {
            return false;
        }
        self.has_room_until = self.has_room_until.max(until);
        true
    }

    fn spend_on(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(Exhausted)?;
        Ok(())
    }
}

impl Build for Stack {
    fn nil(&mut self) -> Result<(), Exhausted> {
        self.push(Value::Nil)
    }

    fn null(&mut self) -> Result<(), Exhausted> {
        self.push(Value::Null)
    }

    fn boolean(&mut self, value: bool) -> Result<(), Exhausted> {
        self.push(Value::Boolean(value))
    }

    fn number(&mut self, value: f64) -> Result<(), Exhausted> {
        self.push(Value::Number(value))
    }

    fn string(&mut self, value: &[u8]) -> Result<(), Exhausted> {
        self.push(Value::string(value))
    }

    fn open_array(&mut self, expected: usize) -> Result<(), Exhausted> {
        self.expected += expected;
        self.push(Value::table([]))
    }

    fn open_map(&mut self, expected: usize) -> Result<(), Exhausted> {
        self.open_array(expected)
    }

    fn mark_array(&mut self) -> Result<(), Exhausted> {
        self.table().borrow_mut().is_marked = true;
        Ok(())
    }

    fn set_element(&mut self, index: usize) -> Result<(), Exhausted> {
        let value = self.take();
        self.table().borrow_mut().set(Value::Number(index as f64), value);
        Ok(())
    }

    fn set_entry(&mut self) -> Result<(), Exhausted> {
        let value = self.take();
        let key = self.take();
        assert!(!matches!(&key, Value::Number(key) if key.is_nan()), "a key that is NaN");
        self.table().borrow_mut().set(key, value);
        Ok(())
    }
}

impl Look for Stack {
    fn top(&self) -> Seen<'_> {
        self.values.last().expect("there is a value").seen()
    }

    fn key(&self) -> Seen<'_> {
        self.values[self.values.len() - 2].seen()
    }

    fn pop(&mut self) {
        self.take();
    }

    fn begin(&mut self) -> Result<(), Exhausted> {
        self.push(Value::Nil)
    }

    fn next(&mut self) -> Result<bool, Exhausted> {
        let key = self.take();
        let entry = {
            let table = self.table().borrow();
            let place = match key {
                Value::Nil => 0,
                key => table.places[&key.key()] + 1,
            };
            table.entry_from(place)
        };
        let Some((key, value)) = entry else { return Ok(false) };
        self.push(key)?;
        self.push(value)?;
        Ok(true)
    }

    fn copy_key(&mut self) -> Result<(), Exhausted> {
        self.push(self.values[self.values.len() - 2].clone())
    }

    fn element(&mut self, index: usize) -> Result<(), Exhausted> {
        let value = self.table().borrow().get(&Value::Number(index as f64));
        self.push(value)
    }

    fn is_marked_array(&self) -> bool {
        self.table().borrow().is_marked
    }
}
