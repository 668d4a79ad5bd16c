//! Redis' strings: borrowed arguments and owned ones.

use std::ptr::{NonNull, null_mut};

use super::abi::RawString;
use super::api;

/// The bytes of a server string.
///
/// # Safety
/// `string` must be a live string of the server, unchanged for `'a`.
pub(super) unsafe fn bytes<'a>(string: *const RawString) -> &'a [u8] {
    let mut len = 0;
    // SAFETY: by the caller; the pointer and length are the server's own.
    unsafe {
        let start = api!(RedisModule_StringPtrLen)(string, &mut len);
        if start.is_null() { &[] } else { std::slice::from_raw_parts(start.cast(), len) }
    }
}

/// A string of ours, freed when dropped. Main thread only, like the server's reference counts.
pub struct OwnedString(NonNull<RawString>);

impl OwnedString {
    pub fn new(text: &[u8]) -> Self {
        // SAFETY: pointer and length describe `text`; a null context means that we free the string ourselves.
        let raw = unsafe { api!(RedisModule_CreateString)(null_mut(), text.as_ptr().cast(), text.len()) };
        Self(NonNull::new(raw).expect("the server aborts when it has no memory"))
    }

    /// Takes over a string that the server handed out; None for null.
    ///
    /// # Safety
    /// `raw` must be null or a string whose reference is ours to drop.
    pub(super) unsafe fn from_raw(raw: *mut RawString) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    pub(super) fn as_ptr(&self) -> *mut RawString {
        self.0.as_ptr()
    }

    /// Hands the reference over.
    pub(super) fn into_raw(self) -> *mut RawString {
        std::mem::ManuallyDrop::new(self).as_ptr()
    }

    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: alive as long as self.
        unsafe { bytes(self.0.as_ptr()) }
    }
}

impl Clone for OwnedString {
    /// Another reference to the same string.
    fn clone(&self) -> Self {
        // SAFETY: alive; a null context means that the reference is ours to drop.
        unsafe { api!(RedisModule_RetainString)(null_mut(), self.0.as_ptr()) };
        Self(self.0)
    }
}

impl Drop for OwnedString {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and is dropped once.
        unsafe { api!(RedisModule_FreeString)(null_mut(), self.0.as_ptr()) }
    }
}

/// The arguments of a command, the command's own name first.
#[derive(Clone, Copy)]
pub struct Args<'a>(&'a [*mut RawString]);

impl<'a> Args<'a> {
    /// # Safety
    /// `argv` must hold `argc` live strings for `'a`.
    pub(super) unsafe fn new(argv: *mut *mut RawString, argc: i32) -> Self {
        // SAFETY: by the caller.
        Self(unsafe { std::slice::from_raw_parts(argv, usize::try_from(argc).unwrap_or(0)) })
    }

    pub fn len(self) -> usize {
        self.0.len()
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The server's own strings, without the command's name.
    pub(super) fn after_name(self) -> &'a [*mut RawString] {
        self.0.get(1..).unwrap_or(&[])
    }

    /// The command's name is this very string, not one like it.
    pub(super) fn is_named(self, name: &OwnedString) -> bool {
        self.0.first().is_some_and(|first| std::ptr::eq(*first, name.as_ptr()))
    }

    /// The server's own string of an argument, where these bytes are that argument's own.
    pub(super) fn same(self, index: usize, bytes: &[u8]) -> Option<*mut RawString> {
        self.get(index).filter(|argument| std::ptr::eq(*argument, bytes)).map(|_| self.0[index])
    }

    /// The bytes of an argument; None past the end.
    pub fn get(self, index: usize) -> Option<&'a [u8]> {
        // SAFETY: by the contract of `new`.
        self.0.get(index).map(|&string| unsafe { bytes(string) })
    }
}
