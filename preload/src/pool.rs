//! Typed pools for Rust.

use crate::front::typed;
use core::marker::PhantomData;
use core::ptr::NonNull;

/// A pool of objects of one type, whose memory may be another object of that type at any time, and is nothing
/// else as long as anybody looks: the kernel's `SLAB_TYPESAFE_BY_RCU`.
///
/// A freed object may be handed out again at once, while a section that has found it still looks at it. So
/// whoever finds one takes a reference to it, by a counter in the object, and then asks the object whether it
/// is the one that was meant. What was an object stays one until every section that may have found it has
/// ended, whatever becomes of its pool. `examples/pool.rs` has a table of such objects.
///
/// The pool knows nothing of what is in an object: it neither creates nor drops a `T`. Memory is zeros the
/// first time it is handed out and what it was freed as after that, so a `T` is made of atomics, for which
/// all zeros are a value.
///
/// A pool that is dropped before all its objects have been freed is a bad call: a line, and the process ends.
/// Do not drop one in a section.
pub struct Pool<T> {
    handle: usize,
    objects: PhantomData<fn() -> T>,
}

impl<T> Pool<T> {
    /// An empty pool. 31 bytes of the name are kept, for messages. `None`: no memory, or `T` has no bytes,
    /// has more than 1 MiB of them, or wants to be aligned to more than 4096.
    pub fn new(name: &str) -> Option<Pool<T>> {
        let handle = typed::create(name.as_bytes(), size_of::<T>(), align_of::<T>(), true);
        (handle != 0).then_some(Pool { handle, objects: PhantomData })
    }

    /// Memory for an object. `None`: there is none.
    pub fn alloc(&self) -> Option<NonNull<T>> {
        NonNull::new(typed::alloc(self.handle) as *mut T)
    }

    /// Gives an object back, which may be handed out again at once.
    ///
    /// # Safety
    /// It came from this pool and nobody has it any more, but for sections that ask it what it is.
    pub unsafe fn free(&self, object: NonNull<T>) {
        typed::free(self.handle, object.as_ptr() as usize);
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        typed::destroy(self.handle);
    }
}
