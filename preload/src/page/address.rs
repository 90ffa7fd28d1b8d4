//! The address of a page, as a type.

use crate::constants::PAGE;
use core::num::NonZeroUsize;

/// The address of a page: 4 KiB aligned, not null. Says nothing about who owns it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Page(NonZeroUsize);

impl Page {
    /// The page at `addr`, if that is the address of one.
    #[inline]
    pub const fn new(addr: usize) -> Option<Page> {
        if !addr.is_multiple_of(PAGE) {
            return None;
        }
        match NonZeroUsize::new(addr) {
            Some(addr) => Some(Page(addr)),
            None => None,
        }
    }

    /// The page that `addr` lies in; None for the null page.
    #[inline]
    pub const fn containing(addr: usize) -> Option<Page> {
        Page::new(addr & !(PAGE - 1))
    }

    /// Its address.
    #[inline]
    pub const fn addr(self) -> usize {
        self.0.get()
    }

    /// Its address as a pointer.
    #[inline]
    pub const fn as_ptr(self) -> *mut u8 {
        self.addr() as *mut u8
    }
}
