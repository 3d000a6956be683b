//! Entries: a key with its value, expiry and access clock, in one allocation behind one pointer.
//!
//! ```text
//! byte 0     2          3      4      8         8 or 16   then
//!      refs  kind|enc.  flags  clock  [expiry]  [object]  key len  [value len]  key  [value]
//!      u16   u8         u8     u32    u64       Object    u8|u32   u8|u16
//! ```
//! A value of up to `INLINE_MAX` bytes lies in the entry itself, any other hangs off an [`Object`].
//! So a small string costs one allocation of 10 bytes more than its key and value, rounded up to
//! the allocator's next size class; a table of `struct { String, Value, Option<Instant> }` takes
//! twice that, which is why this file deals in raw memory.
//!
//! Entries are reference counted, so that copying a segment of the table for a snapshot copies no
//! value. The count is 16 bits; whoever clones an entry at the cap gets a deep copy instead. An
//! entry is written through `&mut`, which makes it unique first. Only the clock may be written
//! while it is shared: it is an atomic, and a lost update of it does not matter.
//!
//! Invariants: `Entry.0` points to a live allocation of just the layout that [`Shape::layout`]
//! derives from its header, with every part the shape has initialised; an entry whose count is 1 is
//! reachable from nowhere else.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};

use triomphe::Arc;

use super::{KeyHash, ValueRef};
use crate::structs::SharedBytes;
use crate::structs::pins;
use crate::structs::prefetch;
use crate::structs::trie::Item;
use crate::types::{Encoding, Kind, Object};

/// The longest value that lies in the entry itself.
pub const INLINE_MAX: usize = 1024;

/// The longest key there can be. Requests with longer ones are to be refused.
pub const KEY_MAX: usize = u32::MAX as usize;

const REFS_AT: usize = 0;
const META_AT: usize = 2;
const FLAGS_AT: usize = 3;
const CLOCK_AT: usize = 4;
const EXPIRY_AT: usize = 8;
const HEADER_LEN: usize = 8;
const OBJECT_LEN: usize = size_of::<Object>();

const HAS_EXPIRY: u8 = 1;
const HAS_OBJECT: u8 = 2;
const LONG_KEY: u8 = 4;
const LONG_VALUE: u8 = 8;

/// Half of what the counter holds: even if thousands of threads cloned an entry in the same
/// instant, each would see the cap before the counter could wrap.
const REFS_CAP: u16 = 1 << 15;

/// Growing a long string reserves as much again, but no more than this or an eighth of it.
const MAX_SPARE: usize = 1 << 20;

/// A key with its value. See the head of this file.
#[repr(transparent)]
pub struct Entry(NonNull<u8>);

// SAFETY: an entry owns plain bytes and an `Object`, which is Send and Sync; what is written while
// it is shared (count and clock) is atomic, and the count is kept the way `Arc` keeps it.
unsafe impl Send for Entry {}
// SAFETY: as above; `&Entry` gives shared access to immutable bytes and to atomics only.
unsafe impl Sync for Entry {}

const _: () = {
    const fn shareable<T: Send + Sync>() {}
    shareable::<Object>();
    assert!(align_of::<Object>() <= 8);
};

/// A value on its way into an entry.
pub enum NewValue<'a> {
    /// A string.
    Bytes(&'a [u8]),
    /// A string that may stay where it is.
    Shared(SharedBytes),
    /// A packed collection.
    Packed(Kind, &'a [u8]),
    /// A collection of its own structure.
    Object(Kind, Object),
}

/// A value in the form in which an entry holds it.
enum Stored<'a> {
    Inline(&'a [u8]),
    Object(Object),
}

/// What all entries have besides key and value.
#[derive(Clone, Copy)]
struct Meta {
    kind: Kind,
    encoding: Encoding,
    clock: u32,
    expiry_ms: Option<u64>,
}

/// Which parts an entry has, and where.
#[derive(Clone, Copy)]
struct Shape {
    flags: u8,
    key_len: usize,
    /// The length of an inline value.
    value_len: usize,
}

impl Shape {
    fn new(has_expiry: bool, key_len: usize, value: &Stored<'_>) -> Shape {
        let mut flags = if has_expiry { HAS_EXPIRY } else { 0 };
        let value_len = match value {
            Stored::Inline(bytes) => bytes.len(),
            Stored::Object(_) => {
                flags |= HAS_OBJECT;
                0
            }
        };
        if key_len > usize::from(u8::MAX) {
            flags |= LONG_KEY;
        }
        if value_len > usize::from(u8::MAX) {
            flags |= LONG_VALUE;
        }
        Shape { flags, key_len, value_len }
    }

    #[inline(always)]
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    #[inline(always)]
    fn object_at(self) -> usize {
        HEADER_LEN + if self.has(HAS_EXPIRY) { 8 } else { 0 }
    }

    #[inline(always)]
    fn key_len_at(self) -> usize {
        self.object_at() + if self.has(HAS_OBJECT) { OBJECT_LEN } else { 0 }
    }

    #[inline(always)]
    fn value_len_at(self) -> usize {
        self.key_len_at() + if self.has(LONG_KEY) { 4 } else { 1 }
    }

    #[inline(always)]
    fn key_at(self) -> usize {
        let value_len_width = match self.flags & (HAS_OBJECT | LONG_VALUE) {
            0 => 1,
            LONG_VALUE => 2,
            _ => 0,
        };
        self.value_len_at() + value_len_width
    }

    #[inline(always)]
    fn value_at(self) -> usize {
        self.key_at() + self.key_len
    }

    #[inline]
    fn size(self) -> usize {
        size_class(self.value_at() + self.value_len)
    }

    fn layout(self) -> Layout {
        Layout::from_size_align(self.size(), 8).expect("keys are bounded far below isize::MAX")
    }
}

/// The size that jemalloc makes of a size, or a little less for keys beyond 16 KiB. To ask for all
/// of it costs nothing, and leaves room to overwrite a value by a slightly longer one in place.
#[inline]
fn size_class(len: usize) -> usize {
    if len <= 128 {
        return len.next_multiple_of(16);
    }
    if len > 16 << 10 {
        return len.next_multiple_of(4 << 10);
    }
    // Four classes for each doubling.
    let step = 1usize << ((len - 1).ilog2() - 2);
    (len + (step - 1)) & !(step - 1)
}

impl Entry {
    /// Makes an entry.
    ///
    /// # Panics
    /// If the key is longer than `KEY_MAX`.
    pub fn new(
        key: &[u8],
        value: NewValue<'_>,
        encoding: Encoding,
        expiry_ms: Option<u64>,
    ) -> Entry {
        value.store(|kind, value| {
            Entry::build(Meta { kind, encoding, clock: 0, expiry_ms }, key, value)
        })
    }

    /// The same value under another key, with this expiry. The clock is kept.
    pub fn with_key(&self, key: &[u8], expiry_ms: Option<u64>) -> Entry {
        Entry::build(Meta { expiry_ms, ..self.meta() }, key, self.stored())
    }

    #[inline]
    pub fn key(&self) -> &[u8] {
        let shape = self.key_shape();
        // SAFETY: the shape is this entry's, so that many initialised bytes are there; they are
        // not written while `self` is borrowed.
        unsafe { self.bytes(shape.key_at(), shape.key_len) }
    }

    /// Whether the two are references to one entry: then nothing has been changed of either since
    /// one was cloned from the other.
    pub fn is_same(&self, other: &Entry) -> bool {
        self.0 == other.0
    }

    #[inline]
    pub fn kind(&self) -> Kind {
        Kind::ALL[usize::from(self.byte(META_AT) & 0xf)]
    }

    #[inline]
    pub fn encoding(&self) -> Encoding {
        Encoding::ALL[usize::from(self.byte(META_AT) >> 4)]
    }

    #[inline]
    pub fn expiry_ms(&self) -> Option<u64> {
        if self.byte(FLAGS_AT) & HAS_EXPIRY == 0 {
            return None;
        }
        // SAFETY: the flag says that the expiry is there; it is 8-aligned as the allocation is.
        Some(unsafe { self.at(EXPIRY_AT).cast::<u64>().read() })
    }

    /// Whether its time is over: in its last millisecond it is still there.
    #[inline]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expiry_ms().is_some_and(|at_ms| at_ms < now_ms)
    }

    /// Whether it is a hash without fields, which is to go.
    pub fn is_hollow(&self) -> bool {
        matches!(self.value(), ValueRef::Hash(hash) if hash.is_empty())
    }

    /// Heap bytes of the value beyond the entry's own allocation.
    pub fn heap_bytes(&self) -> usize {
        self.object().map_or(0, Object::memory_bytes)
    }

    /// The LRU or LFU clock, of which this file knows nothing.
    #[inline]
    pub fn clock(&self) -> u32 {
        self.clock_cell().load(Ordering::Relaxed)
    }

    #[inline]
    pub fn set_clock(&self, clock: u32) {
        self.clock_cell().store(clock, Ordering::Relaxed);
    }

    /// The bytes of a string, wherever they lie; `None` for other kinds.
    #[inline]
    pub fn string(&self) -> Option<&[u8]> {
        if self.kind() == Kind::String { self.value_bytes() } else { None }
    }

    /// The bytes of a packed collection, wherever they lie; `None` for strings and for collections
    /// that have a structure of their own.
    #[inline]
    pub fn packed(&self) -> Option<&[u8]> {
        if self.kind() == Kind::String { None } else { self.value_bytes() }
    }

    /// Changes a packed collection through `edit`, which leaves it well-formed and of the same
    /// encoding; `None` if there is none.
    pub fn edit_packed<R>(&mut self, edit: impl FnOnce(&mut Vec<u8>) -> R) -> Option<R> {
        if self.kind() == Kind::String {
            return None;
        }
        self.make_unique();
        match self.object_mut() {
            None => {}
            Some(Object::Bytes(bytes)) => return Some(edit(pins::make_mut(bytes, Vec::capacity))),
            #[allow(unreachable_patterns, reason = "collections have structures of their own")]
            Some(_) => return None,
        }
        let mut bytes = self.inline_value().to_vec();
        let result = edit(&mut bytes);
        let packed = NewValue::Packed(self.kind(), &bytes);
        self.set_value(packed, self.encoding());
        Some(result)
    }

    #[inline]
    fn value_bytes(&self) -> Option<&[u8]> {
        match self.object() {
            None => Some(self.inline_value()),
            Some(Object::Bytes(bytes)) => Some(bytes),
            #[allow(unreachable_patterns, reason = "collections have structures of their own")]
            Some(_) => None,
        }
    }

    /// A long string, which a reply may share.
    pub fn shared_string(&self) -> Option<&SharedBytes> {
        match self.object()? {
            Object::Bytes(bytes) if self.kind() == Kind::String => Some(bytes),
            _ => None,
        }
    }

    /// The value if it does not lie in the entry itself.
    #[inline]
    pub fn object(&self) -> Option<&Object> {
        let shape = self.key_shape();
        if !shape.has(HAS_OBJECT) {
            return None;
        }
        // SAFETY: the flag says that an initialised object is there, 8-aligned as the allocation is
        // and its offset; it is not written while `self` is borrowed.
        Some(unsafe { &*self.at(shape.object_at()).cast::<Object>() })
    }

    /// The value if it does not lie in the entry itself, to change it. It must stay of its kind.
    pub fn object_mut(&mut self) -> Option<&mut Object> {
        self.make_unique();
        let shape = self.key_shape();
        if !shape.has(HAS_OBJECT) {
            return None;
        }
        // SAFETY: as in `object`, and the entry is unique, so `&mut self` is the only access.
        Some(unsafe { &mut *self.at(shape.object_at()).cast::<Object>() })
    }

    /// Overwrites value and expiry, in place if the memory suffices. Key and clock stay.
    pub fn set(&mut self, value: NewValue<'_>, encoding: Encoding, expiry_ms: Option<u64>) {
        value.store(|kind, value| {
            self.set_stored(Meta { kind, encoding, clock: self.clock(), expiry_ms }, value);
        });
    }

    /// Overwrites the value and keeps the expiry.
    pub fn set_value(&mut self, value: NewValue<'_>, encoding: Encoding) {
        self.set(value, encoding, self.expiry_ms());
    }

    /// Overwrites the value by a string and keeps the expiry.
    pub fn set_string(&mut self, bytes: &[u8], encoding: Encoding) {
        self.set_value(NewValue::Bytes(bytes), encoding);
    }

    pub fn set_expiry(&mut self, expiry_ms: Option<u64>) {
        if expiry_ms == self.expiry_ms() {
            return;
        }
        let meta = Meta { expiry_ms, ..self.meta() };
        if self.is_unique() && expiry_ms.is_some() && self.expiry_ms().is_some() {
            self.write_meta(meta);
        } else {
            *self = Entry::build(meta, self.key(), self.stored());
        }
    }

    /// Adds to the end of a string and returns its length; `None` for other kinds. The caller has
    /// checked the length against the server's limit. The string is `raw` afterwards.
    pub fn append(&mut self, bytes: &[u8]) -> Option<usize> {
        let old_len = self.string()?.len();
        let len = old_len.checked_add(bytes.len()).expect("the caller limits lengths");
        self.resize_string(len);
        self.string_mut()?[old_len..].copy_from_slice(bytes);
        Some(len)
    }

    /// Overwrites part of a string, which grows by zeros as needed, and returns its length; `None`
    /// for other kinds. The caller has checked the length against the server's limit. The string is
    /// `raw` afterwards.
    pub fn set_range(&mut self, offset: usize, bytes: &[u8]) -> Option<usize> {
        let old_len = self.string()?.len();
        let end = offset.checked_add(bytes.len()).expect("the caller limits lengths");
        let len = old_len.max(end);
        self.resize_string(len);
        self.string_mut()?[offset..end].copy_from_slice(bytes);
        Some(len)
    }

    /// The bytes of a string, to change them in place; `None` for other kinds. The encoding stays.
    pub fn string_mut(&mut self) -> Option<&mut [u8]> {
        if self.kind() != Kind::String {
            return None;
        }
        self.make_unique();
        let shape = self.shape();
        if !shape.has(HAS_OBJECT) {
            // SAFETY: the shape is this entry's, so that many initialised bytes are there, and the
            // entry is unique, so `&mut self` is the only access to them.
            return Some(unsafe {
                std::slice::from_raw_parts_mut(self.at(shape.value_at()), shape.value_len)
            });
        }
        match self.object_mut()? {
            Object::Bytes(bytes) => Some(pins::make_mut(bytes, Vec::capacity).as_mut_slice()),
            #[allow(unreachable_patterns, reason = "a string is bytes")]
            _ => None,
        }
    }

    /// Whether a snapshot shares the entry.
    pub fn is_shared(&self) -> bool {
        !self.is_unique()
    }

    /// The memory of the entry, and of its value unless another entry has that too.
    fn unshared_bytes(&self) -> usize {
        let own = |object: &Object| if object.is_unique() { object.memory_bytes() } else { 0 };
        self.shape().size() + self.object().map_or(0, own)
    }

    /// The memory of the key and its value.
    pub fn memory_bytes(&self) -> usize {
        self.shape().size() + self.object().map_or(0, Object::memory_bytes)
    }

    fn build(meta: Meta, key: &[u8], value: Stored<'_>) -> Entry {
        assert!(key.len() <= KEY_MAX, "a key of {} bytes was let in", key.len());
        let shape = Shape::new(meta.expiry_ms.is_some(), key.len(), &value);
        let layout = shape.layout();
        // SAFETY: the size is never 0, since the header counts.
        let Some(memory) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        let mut entry = Entry(memory);
        // SAFETY: all offsets of the shape lie in an allocation of its layout, the header and the
        // object are aligned, and nobody else knows the memory. Nothing in between can panic, so
        // the half-made entry is never dropped.
        unsafe {
            entry.at(REFS_AT).cast::<u16>().write(1);
            entry.at(FLAGS_AT).write(shape.flags);
            entry.at(CLOCK_AT).cast::<u32>().write(meta.clock);
            if shape.has(LONG_KEY) {
                let len = (key.len() as u32).to_le_bytes();
                entry.at(shape.key_len_at()).cast::<[u8; 4]>().write(len);
            } else {
                entry.at(shape.key_len_at()).write(key.len() as u8);
            }
            entry.at(shape.key_at()).copy_from_nonoverlapping(key.as_ptr(), key.len());
            match value {
                Stored::Inline(bytes) => entry.write_inline(shape, bytes),
                Stored::Object(object) => {
                    entry.at(shape.object_at()).cast::<Object>().write(object);
                }
            }
        }
        entry.write_meta(meta);
        entry
    }

    /// Overwrites value and meta, in place if the memory suffices.
    fn set_stored(&mut self, meta: Meta, value: Stored<'_>) {
        let old = self.shape();
        let new = Shape::new(meta.expiry_ms.is_some(), old.key_len, &value);
        let same_size = || old.value_len == new.value_len || old.size() == new.size();
        let in_place = old.flags == new.flags && same_size() && self.is_unique();
        if !in_place {
            *self = Entry::build(meta, self.key(), value);
            return;
        }
        self.write_meta(meta);
        match value {
            // SAFETY: the flags are the same, so every part stays where it is, and the size is the
            // same, so the value fits and the layout stays what it was; the entry is unique.
            Stored::Inline(bytes) => unsafe { self.write_inline(new, bytes) },
            Stored::Object(object) => {
                *self.object_mut().expect("the flags say there is an object") = object;
            }
        }
    }

    /// Cuts or grows a string, by zeros, and makes it `raw`. Long strings grow with room to spare.
    fn resize_string(&mut self, len: usize) {
        let meta = Meta { encoding: Encoding::Raw, ..self.meta() };
        let old = self.string().expect("the caller checks the kind");
        if self.object().is_none() && len <= INLINE_MAX {
            let mut bytes = [0; INLINE_MAX];
            let kept = old.len().min(len);
            bytes[..kept].copy_from_slice(&old[..kept]);
            self.set_stored(meta, Stored::Inline(&bytes[..len]));
        } else if let Some(Object::Bytes(bytes)) = self.object_mut() {
            let bytes = pins::make_mut(bytes, Vec::capacity);
            reserve_spare(bytes, len);
            bytes.resize(len, 0);
            self.write_meta(meta);
        } else {
            let mut bytes = Vec::new();
            reserve_spare(&mut bytes, len);
            bytes.extend_from_slice(self.inline_value());
            bytes.resize(len, 0);
            self.set_stored(meta, Stored::Object(Object::Bytes(Arc::new(bytes))));
        }
    }

    fn meta(&self) -> Meta {
        Meta {
            kind: self.kind(),
            encoding: self.encoding(),
            clock: self.clock(),
            expiry_ms: self.expiry_ms(),
        }
    }

    /// Writes all of the meta but the clock. The expiry must be there exactly if the entry has room
    /// for it, and the entry must be unique.
    fn write_meta(&mut self, meta: Meta) {
        debug_assert!(self.is_unique());
        debug_assert_eq!(meta.expiry_ms.is_some(), self.byte(FLAGS_AT) & HAS_EXPIRY != 0);
        // SAFETY: the header is always there, and the flag says whether the expiry is; the entry is
        // unique, so `&mut self` is the only access.
        unsafe {
            self.at(META_AT).write(meta.kind as u8 | (meta.encoding as u8) << 4);
            if self.byte(FLAGS_AT) & HAS_EXPIRY != 0 {
                self.at(EXPIRY_AT).cast::<u64>().write(meta.expiry_ms.unwrap_or(u64::MAX));
            }
        }
    }

    /// Writes an inline value and its length.
    ///
    /// # Safety
    /// `shape` is that of a unique entry's memory after the call: the flags and the key length are
    /// the entry's, the value length is that of `bytes`, and the layout is the allocation's.
    unsafe fn write_inline(&mut self, shape: Shape, bytes: &[u8]) {
        // SAFETY: the caller promises that the parts lie where the shape says, within the memory.
        unsafe {
            if shape.has(LONG_VALUE) {
                let len = (bytes.len() as u16).to_le_bytes();
                self.at(shape.value_len_at()).cast::<[u8; 2]>().write(len);
            } else {
                self.at(shape.value_len_at()).write(bytes.len() as u8);
            }
            self.at(shape.value_at()).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    /// The value in the form to build an entry of.
    fn stored(&self) -> Stored<'_> {
        match self.object() {
            Some(object) => Stored::Object(object.clone()),
            None => Stored::Inline(self.inline_value()),
        }
    }

    #[inline]
    pub(super) fn inline_value(&self) -> &[u8] {
        let shape = self.shape();
        // SAFETY: the shape is this entry's, so that many initialised bytes are there; they are
        // not written while `self` is borrowed.
        unsafe { self.bytes(shape.value_at(), shape.value_len) }
    }

    /// The shape but for the value's length, which the way to the key does not need.
    #[inline(always)]
    fn key_shape(&self) -> Shape {
        let mut shape = Shape { flags: self.byte(FLAGS_AT), key_len: 0, value_len: 0 };
        let at = shape.key_len_at();
        shape.key_len = if shape.has(LONG_KEY) {
            // SAFETY: the flag says that the key's length takes four bytes here.
            u32::from_le_bytes(unsafe { self.at(at).cast::<[u8; 4]>().read() }) as usize
        } else {
            usize::from(self.byte(at))
        };
        shape
    }

    #[inline]
    fn shape(&self) -> Shape {
        let mut shape = self.key_shape();
        let at = shape.value_len_at();
        shape.value_len = if shape.has(HAS_OBJECT) {
            0
        } else if shape.has(LONG_VALUE) {
            // SAFETY: the flag says that the value's length takes two bytes here.
            usize::from(u16::from_le_bytes(unsafe { self.at(at).cast::<[u8; 2]>().read() }))
        } else {
            usize::from(self.byte(at))
        };
        shape
    }

    fn is_unique(&self) -> bool {
        // Acquire, so that what other owners did to the memory came before.
        self.refs().load(Ordering::Acquire) == 1
    }

    fn make_unique(&mut self) {
        if !self.is_unique() {
            *self = self.deep_copy();
        }
    }

    fn deep_copy(&self) -> Entry {
        Entry::build(self.meta(), self.key(), self.stored())
    }

    #[inline(always)]
    fn refs(&self) -> &AtomicU16 {
        // SAFETY: the count is always there, aligned, and accessed only as an atomic once built.
        unsafe { AtomicU16::from_ptr(self.at(REFS_AT).cast()) }
    }

    #[inline(always)]
    fn clock_cell(&self) -> &AtomicU32 {
        // SAFETY: the clock is always there, aligned, and accessed only as an atomic once built.
        unsafe { AtomicU32::from_ptr(self.at(CLOCK_AT).cast()) }
    }

    /// A byte of the header or of a length, all of which are within the smallest entry that has
    /// them.
    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        // SAFETY: callers pass only offsets of parts the entry has; bytes of the header that others
        // may write meanwhile are read through the atomics instead.
        unsafe { self.at(at).read() }
    }

    /// # Safety
    /// The entry must have that many initialised bytes there.
    #[inline(always)]
    unsafe fn bytes(&self, at: usize, len: usize) -> &[u8] {
        // SAFETY: promised by the caller.
        unsafe { std::slice::from_raw_parts(self.at(at), len) }
    }

    #[inline(always)]
    fn at(&self, at: usize) -> *mut u8 {
        self.0.as_ptr().wrapping_add(at)
    }
}

impl NewValue<'_> {
    /// Hands the value on in the form in which an entry holds it.
    #[inline]
    fn store<R>(self, to: impl FnOnce(Kind, Stored<'_>) -> R) -> R {
        let (kind, bytes) = match self {
            NewValue::Bytes(bytes) => (Kind::String, bytes),
            NewValue::Packed(kind, bytes) => (kind, bytes),
            NewValue::Shared(bytes) if bytes.len() > INLINE_MAX => {
                return to(Kind::String, Stored::Object(Object::Bytes(bytes)));
            }
            NewValue::Shared(bytes) => return to(Kind::String, Stored::Inline(&bytes)),
            NewValue::Object(kind, object) => return to(kind, Stored::Object(object)),
        };
        if bytes.len() > INLINE_MAX {
            to(kind, Stored::Object(Object::Bytes(Arc::new(bytes.to_vec()))))
        } else {
            to(kind, Stored::Inline(bytes))
        }
    }
}

/// Reserves room for a string to grow to a length and then some more.
fn reserve_spare(bytes: &mut Vec<u8>, len: usize) {
    if len > bytes.capacity() {
        let spare = len.min(MAX_SPARE).max(len / 8);
        bytes.reserve_exact(len.saturating_add(spare) - bytes.len());
    }
}

impl Clone for Entry {
    #[inline]
    fn clone(&self) -> Entry {
        // Relaxed, as in `Arc`: whoever holds a reference keeps the memory alive for the new one.
        if self.refs().fetch_add(1, Ordering::Relaxed) < REFS_CAP {
            return Entry(self.0);
        }
        self.refs().fetch_sub(1, Ordering::Relaxed);
        self.deep_copy()
    }
}

impl Drop for Entry {
    #[inline]
    fn drop(&mut self) {
        // The only owner needs no atomic subtraction, since nobody is left to race with.
        if !self.is_unique() {
            // What to report is read before the reference is given up.
            let bytes = self.unshared_bytes();
            if self.refs().fetch_sub(1, Ordering::Release) != 1 {
                return pins::report(bytes);
            }
            fence(Ordering::Acquire);
        }
        let shape = self.shape();
        // SAFETY: this was the last reference, and all others' accesses came before it. The object
        // is there if the flag says so, and the layout is that of the allocation.
        unsafe {
            if shape.has(HAS_OBJECT) {
                self.at(shape.object_at()).cast::<Object>().drop_in_place();
            }
            dealloc(self.0.as_ptr(), shape.layout());
        }
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key().escape_ascii().to_string())
            .field("kind", &self.kind())
            .field("expiry_ms", &self.expiry_ms())
            .finish_non_exhaustive()
    }
}

impl Item for Entry {
    type Hash = KeyHash;

    #[inline(always)]
    fn key(&self) -> &[u8] {
        Entry::key(self)
    }

    #[inline]
    fn deadline_ms(&self) -> u64 {
        self.expiry_ms().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn prefetch(&self) {
        prefetch::address(self.0.as_ptr());
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod size_tests {
    use super::size_class;

    #[test]
    fn sizes_are_those_of_jemalloc() {
        for len in 9..100_000 {
            // SAFETY: asking for the size of an allocation that is not made has no obligations.
            let usable = unsafe { tikv_jemalloc_sys::nallocx(len, 0) };
            assert!(len <= size_class(len) && size_class(len) <= usable, "{len}");
            assert!(len > 16 << 10 || size_class(len) == usable, "{len}");
        }
    }
}
