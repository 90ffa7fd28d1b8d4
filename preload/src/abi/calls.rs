//! `rcumalloc_call` and `rcumalloc_call_head`: functions that run after a grace period (`front/calls.rs`).

use crate::abi::libc_names::malloc;
use crate::abi::pthread::pthread_create;
use crate::front::free::When;
use crate::front::queue::{Head, Run};
use crate::front::{calls, free};
use crate::os::signals::Quiet;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr::{null, null_mut};

/// A function of the program's.
pub type Function = unsafe extern "C" fn(*mut c_void);

/// What stands in the queue for `rcumalloc_call`.
#[repr(C)]
struct Call {
    head: Head,
    function: Function,
    argument: *mut c_void,
}

/// `rcumalloc_call(argument, function)`. False: no memory, and nothing has happened.
///
/// # Safety
/// `function` may be called with `argument` by another thread, after a grace period.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub unsafe extern "C" fn rcumalloc_call(argument: *mut c_void, function: Function) -> bool {
    // SAFETY: any thread, any size.
    let call: *mut MaybeUninit<Call> = unsafe { malloc(size_of::<Call>()) }.cast();
    if call.is_null() {
        return false;
    }
    let call: *mut Call = call.cast();
    // SAFETY: a block of this size, which nobody else knows of; the head is written by the queue.
    unsafe {
        (&raw mut (*call).function).write(function);
        (&raw mut (*call).argument).write(argument);
        calls::add(call.cast(), run, start_worker);
    }
    true
}

/// Runs a [`Call`] and frees it.
#[unsafe(link_section = ".text_rare")]
unsafe extern "C" fn run(head: *mut Head) {
    let call: *mut Call = head.cast();
    // SAFETY: `rcumalloc_call` has made it, and the queue has given it back; no reader knows of it.
    unsafe {
        let (function, argument) = ((*call).function, (*call).argument);
        free::free_block(call as usize, "rcumalloc_free_now", When::Now);
        function(argument);
    }
}

/// `rcumalloc_call_head(head, run)`.
///
/// # Safety
/// `head` is writable and not used before `run` is called with it, by another thread, after a grace period.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub unsafe extern "C" fn rcumalloc_call_head(head: *mut Head, run: Run) {
    // SAFETY: the caller's promise.
    unsafe { calls::add(head, run, start_worker) };
}

/// Makes the thread that runs what has been queued. Signals are for the program's own threads.
#[unsafe(link_section = ".text_rare")]
pub fn start_worker() -> bool {
    let quiet = Quiet::new();
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: plain attributes, and a function of a thread's type that needs no argument.
    let error = unsafe { pthread_create(thread.as_mut_ptr(), null(), calls::work, null_mut()) };
    drop(quiet);
    if error != 0 {
        return false;
    }
    // Looked for here, and not by the loader at every start of a program.
    // SAFETY: a plain call.
    let detach = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"pthread_detach".as_ptr()) };
    if !detach.is_null() {
        // SAFETY: libc's function of this name has this type; the thread has just been made and is joined by
        // nobody.
        unsafe {
            let detach: unsafe extern "C" fn(libc::pthread_t) -> c_int = core::mem::transmute(detach);
            detach(thread.assume_init());
        }
    }
    true
}
