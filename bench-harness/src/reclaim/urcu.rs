//! liburcu: `call_rcu` and `defer_rcu` in three flavors.
//!
//! Each flavor is a shared object that build.rs compiled (`helpers/urcu/flavor.h`), loaded only in processes
//! that measure it: elsewhere liburcu's constructors, which register the process for membarrier, are not run.
//! Where it was not compiled, the scheme says why.
//!
//! `call_rcu` links the block into a queue by a head inside it and a worker thread runs the callbacks.
//! `defer_rcu` queues in the thread, and blocks for a grace period when 4096 entries are full, so it may not
//! be called inside a section: what is retired in one is handed over at its end.

use super::{Dispose, Local, Scheme};
use core::ffi::{CStr, c_void};
use core::marker::PhantomData;
use std::ffi::CString;

/// A flavor of liburcu.
pub trait Flavor: Sync + 'static {
    /// The names of the two schemes made of it.
    const NAMES: [&'static str; 2];
    /// The shared object; empty if there is none.
    const OBJECT: &'static str;
    /// Its version, or why there is none.
    const NOTE: &'static str;
    /// Whether readers must announce quiescent states.
    const ANNOUNCES: bool;
}

macro_rules! flavor {
    (
        $type:ident, $call:literal, $defer:literal, $object:literal, $note:literal, $announces:literal,
        $doc:literal
    ) => {
        #[doc = $doc]
        pub struct $type;
        impl Flavor for $type {
            const NAMES: [&'static str; 2] = [$call, $defer];
            const OBJECT: &'static str = env!($object);
            const NOTE: &'static str = env!($note);
            const ANNOUNCES: bool = $announces;
        }
    };
}
flavor!(Qsbr, "urcu-qsbr-call", "urcu-qsbr-defer", "URCU_QSBR", "URCU_QSBR_NOTE", true, "Quiescent states.");
flavor!(Memb, "urcu-memb-call", "urcu-memb-defer", "URCU_MEMB", "URCU_MEMB_NOTE", false, "membarrier.");
flavor!(Bp, "urcu-bp-call", "urcu-bp-defer", "URCU_BP", "URCU_BP_NOTE", false, "Bulletproof.");

type Plain = unsafe extern "C" fn();
type Later = unsafe extern "C" fn(*mut c_void, unsafe extern "C" fn(*mut c_void));

/// The functions of `helpers/urcu/flavor.h`.
#[derive(Clone, Copy)]
struct Shim {
    register: Plain,
    unregister: Plain,
    lock: Plain,
    unlock: Plain,
    quiescent: Plain,
    offline: Plain,
    online: Plain,
    call: Later,
    barrier: Plain,
    defer_register: Plain,
    defer_unregister: Plain,
    defer: Later,
    defer_barrier: Plain,
}

fn available<F: Flavor>() -> Result<(), String> {
    if F::OBJECT.is_empty() { Err(F::NOTE.to_owned()) } else { Ok(()) }
}

/// A shared object that is loaded, for ever.
pub struct Object {
    handle: *mut c_void,
    path: &'static str,
}

impl Object {
    /// Loads a flavor's.
    pub fn open<F: Flavor>() -> Result<Object, String> {
        available::<F>()?;
        let path = CString::new(F::OBJECT).map_err(|error| error.to_string())?;
        // SAFETY: a string; the constructors of liburcu run here, which is the point.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY: dlopen has just failed, so there is a message.
            let why = unsafe { CStr::from_ptr(libc::dlerror()) };
            return Err(format!("{} does not load: {}", F::OBJECT, why.to_string_lossy()));
        }
        Ok(Object { handle, path: F::OBJECT })
    }

    /// The function of that name.
    ///
    /// # Safety
    /// `T` is the type of a pointer to that function.
    pub unsafe fn find<T>(&self, name: &CStr) -> Result<T, String> {
        const { assert!(size_of::<T>() == size_of::<*mut c_void>()) };
        // SAFETY: an open object and a string.
        let found = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        if found.is_null() {
            return Err(format!("{} lacks {}", self.path, name.to_string_lossy()));
        }
        // SAFETY: of one size, and the caller's promise.
        Ok(unsafe { core::mem::transmute_copy::<*mut c_void, T>(&found) })
    }
}

fn open<F: Flavor>() -> Result<Shim, String> {
    let object = Object::open::<F>()?;
    // SAFETY: the types are those of `helpers/urcu/flavor.h`.
    unsafe {
        Ok(Shim {
            register: object.find(c"shim_register")?,
            unregister: object.find(c"shim_unregister")?,
            lock: object.find(c"shim_lock")?,
            unlock: object.find(c"shim_unlock")?,
            quiescent: object.find(c"shim_quiescent")?,
            offline: object.find(c"shim_offline")?,
            online: object.find(c"shim_online")?,
            call: object.find(c"shim_call")?,
            barrier: object.find(c"shim_barrier")?,
            defer_register: object.find(c"shim_defer_register")?,
            defer_unregister: object.find(c"shim_defer_unregister")?,
            defer: object.find(c"shim_defer")?,
            defer_barrier: object.find(c"shim_defer_barrier")?,
        })
    }
}

// ---- call_rcu ----

/// `call_rcu` and free.
pub struct Call<F>(Shim, PhantomData<F>);

/// A registered thread.
pub struct CallThread<F: Flavor>(Shim, PhantomData<F>);

impl<F: Flavor> Scheme for Call<F> {
    const NAME: &'static str = F::NAMES[0];
    const SETTING: &'static str = "head of 16 bytes in the block, one worker for all threads (the default)";
    const HEADER: usize = 16;
    const OBJECT: &'static str = F::OBJECT;
    type Local<'s> = CallThread<F>;

    fn available() -> Result<(), String> {
        available::<F>()
    }

    fn start() -> Result<Self, String> {
        Ok(Call(open::<F>()?, PhantomData))
    }

    fn join(&self) -> CallThread<F> {
        // SAFETY: a `Local` is made once in a thread at a time.
        unsafe { (self.0.register)() };
        CallThread(self.0, PhantomData)
    }

    fn drain(&self) {
        // SAFETY: not in a section: no thread takes part.
        unsafe { (self.0.barrier)() };
    }
}

unsafe extern "C" fn dispose_by_head<D: Dispose>(head: *mut c_void) {
    // SAFETY: `head` is the one inside the block that was given to call_rcu; its period has passed.
    unsafe { D::dispose(head.byte_sub(D::HEAD)) };
}

unsafe extern "C" fn dispose<D: Dispose>(block: *mut c_void) {
    // SAFETY: the block that was given to defer_rcu; its period has passed.
    unsafe { D::dispose(block) };
}

impl<F: Flavor> Local for CallThread<F> {
    #[inline(always)]
    fn enter(&mut self) {
        // SAFETY: registered.
        unsafe { (self.0.lock)() };
    }

    #[inline(always)]
    fn leave(&mut self) {
        // SAFETY: in a section; behind it there is no reference left.
        unsafe {
            (self.0.unlock)();
            if F::ANNOUNCES {
                (self.0.quiescent)();
            }
        }
    }

    #[inline(always)]
    unsafe fn retire<D: Dispose>(&mut self, block: *mut c_void) {
        // SAFETY: the head lies in the block, where nobody looks.
        unsafe { (self.0.call)(block.byte_add(D::HEAD), dispose_by_head::<D>) };
    }

    #[inline(always)]
    unsafe fn retire_outside<D: Dispose>(&mut self, block: *mut c_void) {
        // SAFETY: the caller's promise; no section is open.
        unsafe {
            self.retire::<D>(block);
            if F::ANNOUNCES {
                (self.0.quiescent)();
            }
        }
    }
}

impl<F: Flavor> Drop for CallThread<F> {
    fn drop(&mut self) {
        // SAFETY: registered by this thread, no section open.
        unsafe { (self.0.unregister)() };
    }
}

// ---- defer_rcu ----

/// Blocks retired in one section at most before they are handed over; ours retire a few.
const IN_SECTION: usize = 64;

/// `defer_rcu`.
pub struct Defer<F>(Shim, PhantomData<F>);

/// A registered thread with what it retired in the open section.
pub struct DeferThread<F: Flavor> {
    shim: Shim,
    pending: Vec<(*mut c_void, unsafe extern "C" fn(*mut c_void))>,
    /// In the qsbr flavor: offline, as a thread has to be that may block in liburcu.
    away: bool,
    flavor: PhantomData<F>,
}

impl<F: Flavor> Scheme for Defer<F> {
    const NAME: &'static str = F::NAMES[1];
    const SETTING: &'static str =
        "the thread's queue of 4096; handed over behind the section (qsbr: offline, or two threads deadlock)";
    const OBJECT: &'static str = F::OBJECT;
    type Local<'s> = DeferThread<F>;

    fn available() -> Result<(), String> {
        available::<F>()
    }

    fn start() -> Result<Self, String> {
        Ok(Defer(open::<F>()?, PhantomData))
    }

    fn join(&self) -> DeferThread<F> {
        // SAFETY: a `Local` is made once in a thread at a time.
        unsafe {
            (self.0.register)();
            (self.0.offline)();
            (self.0.defer_register)();
            (self.0.online)();
        }
        DeferThread {
            shim: self.0,
            pending: Vec::with_capacity(IN_SECTION),
            away: false,
            flavor: PhantomData,
        }
    }

    fn drain(&self) {
        // SAFETY: not in a section: no thread takes part.
        unsafe { (self.0.defer_barrier)() };
    }
}

impl<F: Flavor> DeferThread<F> {
    /// defer_rcu takes a lock, which another thread may hold while it waits for a grace period: in the qsbr
    /// flavor two threads that are online deadlock there.
    #[inline(always)]
    fn go_away(&mut self) {
        if F::ANNOUNCES && !self.away {
            self.away = true;
            // SAFETY: registered, no section open.
            unsafe { (self.shim.offline)() };
        }
    }
}

impl<F: Flavor> Local for DeferThread<F> {
    #[inline(always)]
    fn enter(&mut self) {
        // SAFETY: registered.
        unsafe {
            if F::ANNOUNCES && self.away {
                self.away = false;
                (self.shim.online)();
            }
            (self.shim.lock)();
        }
    }

    #[inline(always)]
    fn leave(&mut self) {
        // SAFETY: in a section; behind it there is no reference left.
        unsafe { (self.shim.unlock)() };
        if !self.pending.is_empty() {
            self.go_away();
        }
        while let Some((block, dispose)) = self.pending.pop() {
            // SAFETY: retired by this thread; no section is open, so defer_rcu may block.
            unsafe { (self.shim.defer)(block, dispose) };
        }
        if F::ANNOUNCES && !self.away {
            // SAFETY: online, no section open.
            unsafe { (self.shim.quiescent)() };
        }
    }

    #[inline(always)]
    unsafe fn retire<D: Dispose>(&mut self, block: *mut c_void) {
        self.pending.push((block, dispose::<D>));
    }

    #[inline(always)]
    unsafe fn retire_outside<D: Dispose>(&mut self, block: *mut c_void) {
        self.go_away();
        // SAFETY: the caller's promise; no section is open.
        unsafe { (self.shim.defer)(block, dispose::<D>) };
    }
}

impl<F: Flavor> Drop for DeferThread<F> {
    fn drop(&mut self) {
        // Unregistering waits for a lock that liburcu's own thread holds while it waits for a grace
        // period: in the qsbr flavor that is a deadlock unless this thread is offline.
        // SAFETY: registered by this thread, no section open; unregistering runs what is queued.
        unsafe {
            (self.shim.offline)();
            (self.shim.defer_unregister)();
            (self.shim.unregister)();
        }
    }
}
