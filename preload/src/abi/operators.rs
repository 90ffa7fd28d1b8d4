//! C++'s operators `new` and `delete`, all of the standard's: what the C++ runtime's do, and `delete` looks
//! at the size and the alignment it is told, as `free_sized` does.
//!
//! The runtime's own would come to malloc and free as well, without the size. All of them are here or none: a
//! library whose `new` is another's and whose `delete` is ours would hand us strange blocks, and a program
//! that is linked with another allocator would have its blocks from there and their `malloc_usable_size` from
//! here.
//!
//! A program may replace any of them, and the rest must notice: `new[]` and the nothrow forms come to the
//! replaced `new`, every `delete` to the replaced plain one. Which are replaced is asked once, of the loader:
//! by the constructor, where a C++ runtime is there from the start, else without a question, as then nothing
//! that comes later is found before us. So no thread waits for the loader's lock here. Where `new` is
//! replaced, nobody knows what size its block has, and none is looked at.
//!
//! No C++ runtime is linked: a `new` that fails, or a form of it whose plain one was replaced, jumps to the
//! function of the runtime of whoever called, which asks the new-handler and throws as if we had not been
//! there. Nothing of ours is on the stack then, so there is nothing to unwind. Where no runtime is found, a
//! nothrow form returns null; another one can tell its caller nothing, and ends the process.
//!
//! Any thread; the rules of malloc and free.

use crate::abi::arch;
use crate::cache::table;
use crate::class::verdict;
use crate::front::free::free_slow;
use crate::front::malloc;
use crate::front::malloc::malloc_slow;
use crate::os::line::Line;
use crate::os::syscall;
use core::arch::asm;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// In [`REPLACED`]: nobody has asked yet.
const UNKNOWN: u8 = 0x80; // (given) as an encoding
/// In [`REPLACED`]: a form of `new` on which others stand is not ours.
const NEW: u8 = 1;
const NEW_ARRAY: u8 = 2;
const NEW_ALIGNED: u8 = 4;
const NEW_ALIGNED_ARRAY: u8 = 8;

/// What of `new` the program has replaced.
static REPLACED: AtomicU8 = AtomicU8::new(UNKNOWN);

/// What the program has for the names that others stand on. The Release with which [`ask`] says that it is
/// known pairs with the Acquire in [`bound`], and with the load in a form of `new`, which is one,
/// too.
#[repr(C)]
struct Bound {
    malloc: AtomicUsize,
    aligned_alloc: AtomicUsize,
    free: AtomicUsize,
    delete: AtomicUsize,
    delete_array: AtomicUsize,
    delete_aligned: AtomicUsize,
    delete_aligned_array: AtomicUsize,
}

static BOUND: Bound = Bound {
    malloc: AtomicUsize::new(0),
    aligned_alloc: AtomicUsize::new(0),
    free: AtomicUsize::new(0),
    delete: AtomicUsize::new(0),
    delete_array: AtomicUsize::new(0),
    delete_aligned: AtomicUsize::new(0),
    delete_aligned_array: AtomicUsize::new(0),
};

/// The forms of `new`, as numbers for [`runtime`].
const NAMES: [&CStr; 8] = [
    c"_Znwm",
    c"_Znam",
    c"_ZnwmRKSt9nothrow_t",
    c"_ZnamRKSt9nothrow_t",
    c"_ZnwmSt11align_val_t",
    c"_ZnamSt11align_val_t",
    c"_ZnwmSt11align_val_tRKSt9nothrow_t",
    c"_ZnamSt11align_val_tRKSt9nothrow_t",
];

/// Which others each stands on.
const STANDS_ON: [u8; NAMES.len()] =
    [0, NEW, NEW, NEW | NEW_ARRAY, 0, NEW_ALIGNED, NEW_ALIGNED, NEW_ALIGNED | NEW_ALIGNED_ARRAY];

/// Which return null where the others throw.
const IS_NOTHROW: [bool; NAMES.len()] = [false, false, true, true, false, false, true, true];

/// The address of a form of `new` of ours.
macro_rules! own {
    ($name:literal) => {
        arch::own_address!("rcumalloc_own", $name)
    };
}

/// The runtime's forms, where the plain one is replaced and they are called for every block. Relaxed: racing
/// finders find the same.
static KNOWN: [AtomicUsize; NAMES.len()] = [const { AtomicUsize::new(0) }; NAMES.len()];

/// A handle on the object that holds `address`. Null: none, or no memory for one.
fn open_object_of(address: *const c_void) -> *mut c_void {
    let mut info = core::mem::MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: written, if anything is found; any address may be asked for.
    if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
        return null_mut();
    }
    // SAFETY: plain calls. By that name the object was loaded, and is again only if it is still there. The
    // name dlopen would be our own here.
    unsafe {
        let dlopen = libc::dlsym(libc::RTLD_NEXT, c"dlopen".as_ptr());
        if dlopen.is_null() {
            return null_mut();
        }
        let dlopen =
            transmute::<*mut c_void, unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void>(dlopen);
        dlopen(info.assume_init().dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD)
    }
}

/// The form `which` of the C++ runtime of whoever called from `caller`: of the object that has
/// `std::get_new_handler`, which no program replaces. That object stays open.
#[cold]
extern "C" fn runtime(which: usize, caller: usize) -> usize {
    const HANDLER: &CStr = c"_ZSt15get_new_handlerv";
    // SAFETY: plain calls, with handles on objects that are open meanwhile.
    let found = unsafe {
        let mut handler = libc::dlsym(libc::RTLD_DEFAULT, HANDLER.as_ptr());
        if handler.is_null() {
            let place = open_object_of(caller as *const c_void);
            if !place.is_null() {
                handler = libc::dlsym(place, HANDLER.as_ptr());
                libc::dlclose(place);
            }
        }
        let place = if handler.is_null() { null_mut() } else { open_object_of(handler) };
        let found = if place.is_null() { null_mut() } else { libc::dlsym(place, NAMES[which].as_ptr()) };
        // The next best, which may be another allocator's, but throws as well.
        if found.is_null() { libc::dlsym(libc::RTLD_NEXT, NAMES[which].as_ptr()) } else { found }
    };
    if !found.is_null() {
        return found as usize;
    }
    // Without a runtime there is no handler to ask, and what may not throw says so itself.
    if IS_NOTHROW[which] {
        nothing as *const () as usize
    } else {
        Line::new().str("operator new: no memory, and no C++ runtime was found that could say so").emit();
        syscall::abort()
    }
}

/// What a nothrow form of `new` gives where there is no memory and no C++ runtime.
extern "C" fn nothing() -> *mut c_void {
    null_mut()
}

/// What a form of `new` jumps to that finds one replaced on which it stands, or that nobody has asked yet. 0:
/// itself.
extern "C" fn other(which: usize, caller: usize) -> usize {
    if REPLACED.load(Acquire) == UNKNOWN {
        ask();
    }
    if REPLACED.load(Acquire) & STANDS_ON[which] == 0 {
        return 0;
    }
    match KNOWN[which].load(Relaxed) {
        0 => {
            let found = runtime(which, caller);
            KNOWN[which].store(found, Relaxed);
            found
        }
        known => known,
    }
}

/// Asks what the program has replaced.
#[cold]
fn ask() {
    let has_runtime = has_runtime();
    let look = |name: &CStr, own: usize| {
        let found = if has_runtime {
            // SAFETY: a plain call.
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
        } else {
            null_mut()
        };
        if found.is_null() { own } else { found as usize }
    };
    let fill = |word: &AtomicUsize, name, own| word.store(look(name, own), Relaxed);
    fill(&BOUND.malloc, c"malloc", own_malloc as *const () as usize);
    fill(&BOUND.aligned_alloc, c"aligned_alloc", own_aligned_alloc as *const () as usize);
    fill(&BOUND.free, c"free", own_free as *const () as usize);
    fill(&BOUND.delete, c"_ZdlPv", own_delete as *const () as usize);
    fill(&BOUND.delete_array, c"_ZdaPv", own_delete_array as *const () as usize);
    fill(&BOUND.delete_aligned, c"_ZdlPvSt11align_val_t", own_delete_aligned as *const () as usize);
    fill(
        &BOUND.delete_aligned_array,
        c"_ZdaPvSt11align_val_t",
        own_delete_aligned_array as *const () as usize,
    );
    let replaced = |which: usize, own: usize, bit: u8| if look(NAMES[which], own) == own { 0 } else { bit };
    let new = replaced(0, own!("_Znwm"), NEW) | replaced(1, own!("_Znam"), NEW_ARRAY);
    let aligned = replaced(4, own!("_ZnwmSt11align_val_t"), NEW_ALIGNED)
        | replaced(5, own!("_ZnamSt11align_val_t"), NEW_ALIGNED_ARRAY);
    REPLACED.store(new | aligned, Release);
}

/// Called when the library is loaded: asks while there is one thread, if there is a reason to.
pub fn start() {
    if has_runtime() {
        ask();
    }
}

/// Whether a C++ runtime was there when the library was loaded: what the loader made of a name that is in
/// every one.
fn has_runtime() -> bool {
    crate::os::arch::weak_address!("_ZSt15get_new_handlerv") != 0
}

extern "C" fn own_malloc(size: usize) -> *mut u8 {
    unmerged();
    // SAFETY: the words are this thread's tables, always.
    unsafe { table::malloc(size, malloc_slow) }
}

extern "C" fn own_aligned_alloc(align: usize, size: usize) -> *mut u8 {
    if align.is_power_of_two() { malloc::alloc_aligned(size, align) } else { null_mut() }
}

extern "C" fn own_free(block: *mut c_void) {
    unmerged();
    // SAFETY: the words are this thread's tables, always.
    unsafe { table::free(block.cast(), free_slow) }
}

/// A form of `new`: its number, what it gets memory with, and which arguments it has.
macro_rules! new {
    ($name:ident $which:literal, $get:ident, $shape:ident) => {
        /// `operator new` of C++, one of its forms.
        ///
        /// # Safety
        /// As malloc; the arguments are the standard's.
        #[allow(named_asm_labels, reason = "Rust 1.89 objects, though a naked function is there once")]
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name() -> *mut c_void {
            arch::operator_new!($name $which, $get, $shape, UNKNOWN | STANDS_ON[$which])
        }
    };
}

new!(_Znwm 0, malloc, size);
new!(_Znam 1, malloc, size);
new!(_ZnwmRKSt9nothrow_t 2, malloc, size_and_one);
new!(_ZnamRKSt9nothrow_t 3, malloc, size_and_one);
new!(_ZnwmSt11align_val_t 4, aligned_alloc, size_and_align);
new!(_ZnamSt11align_val_t 5, aligned_alloc, size_and_align);
new!(_ZnwmSt11align_val_tRKSt9nothrow_t 6, aligned_alloc, size_and_align);
new!(_ZnamSt11align_val_tRKSt9nothrow_t 7, aligned_alloc, size_and_align);

/// Makes a function differ from one that does the same under an exported name. Else the optimiser takes the
/// exported one for both, and the loader looks the name up in every program.
#[inline(always)]
fn unmerged() {
    // SAFETY: nothing.
    unsafe { asm!("", options(nomem, nostack, preserves_flags)) };
}

#[inline(always)]
fn bound() -> &'static Bound {
    if REPLACED.load(Acquire) == UNKNOWN {
        ask();
    }
    &BOUND
}

/// Goes on in a `delete` that is told no more than the block.
#[inline(always)]
fn pass(to: &AtomicUsize, block: *mut c_void) {
    // SAFETY: what the loader has for a name of this type, or a function of ours.
    let to = unsafe { transmute::<usize, unsafe extern "C" fn(*mut c_void)>(to.load(Relaxed)) };
    // SAFETY: as the caller's caller promised.
    unsafe { to(block) }
}

/// The same, which is told the alignment, too.
#[inline(always)]
fn pass_aligned(to: &AtomicUsize, block: *mut c_void, align: usize) {
    // SAFETY: what the loader has for a name of this type, or a function of ours.
    let to = unsafe { transmute::<usize, unsafe extern "C" fn(*mut c_void, usize)>(to.load(Relaxed)) };
    // SAFETY: as the caller's caller promised.
    unsafe { to(block, align) }
}

/// Whether the block at `block` is not what a `new` of `size` bytes gave, unless that may have been replaced.
#[inline(always)]
fn is_wrong(new: u8, block: *mut c_void, size: usize) -> bool {
    !table::stays(block as usize, size) && REPLACED.load(Relaxed) & new == 0 && !fits(block as usize, size, 1)
}

/// The same, aligned to `align`.
#[inline(always)]
fn is_wrong_aligned(new: u8, block: *mut c_void, size: usize, align: usize) -> bool {
    REPLACED.load(Relaxed) & new == 0 && !fits(block as usize, size, align)
}

/// Whether a block may have come from a `new` of `size` bytes aligned to `align`. True for what is no block:
/// `free` says so.
#[inline(never)]
fn fits(block: usize, size: usize, align: usize) -> bool {
    // A size of 0 is what those say who do not know; the runtime's own `new` rounds up to the alignment.
    let rounded =
        || size.checked_next_multiple_of(align).is_some_and(|size| verdict::size_fits(block, size, align));
    block == 0
        || size == 0
        || align.is_power_of_two() && (verdict::size_fits(block, size, align) || rounded())
}

extern "C" fn own_delete(block: *mut c_void) {
    pass(&bound().free, block);
}

extern "C" fn own_delete_array(block: *mut c_void) {
    pass(&bound().delete, block);
}

extern "C" fn own_delete_aligned(block: *mut c_void, align: usize) {
    let is_aligned = align.is_power_of_two() && (block as usize).is_multiple_of(align);
    if !block.is_null() && !is_aligned {
        return verdict::wrong_align("operator delete", block as usize, align);
    }
    pass(&bound().free, block);
}

extern "C" fn own_delete_aligned_array(block: *mut c_void, align: usize) {
    pass_aligned(&bound().delete_aligned, block, align);
}

/// The forms of `delete`: the exported names.
macro_rules! deletes {
    ($($name:ident($block:ident $(, $argument:ident)*) $body:block)+) => {$(
        /// `operator delete` of C++, one of its forms.
        ///
        /// # Safety
        /// As free; the arguments are the standard's.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($block: *mut c_void $(, $argument: usize)*) {
            unmerged();
            $body
        }
    )+};
}

deletes! {
    _ZdlPv(block) { own_delete(block); }
    _ZdaPv(block) { own_delete_array(block); }
    _ZdlPvRKSt9nothrow_t(block) { pass(&bound().delete, block); }
    _ZdaPvRKSt9nothrow_t(block) { pass(&bound().delete_array, block); }
    _ZdlPvSt11align_val_t(block, align) { own_delete_aligned(block, align); }
    _ZdaPvSt11align_val_t(block, align) { own_delete_aligned_array(block, align); }
    _ZdlPvSt11align_val_tRKSt9nothrow_t(block, align) { pass_aligned(&bound().delete_aligned, block, align); }
    _ZdaPvSt11align_val_tRKSt9nothrow_t(block, align) {
        pass_aligned(&bound().delete_aligned_array, block, align);
    }
    _ZdlPvm(block, size) {
        let bound = bound();
        if is_wrong(NEW, block, size) {
            return verdict::wrong_size("operator delete", block as usize, size, None);
        }
        pass(&bound.delete, block);
    }
    _ZdaPvm(block, size) {
        let bound = bound();
        if is_wrong(NEW | NEW_ARRAY, block, size) {
            return verdict::wrong_size("operator delete[]", block as usize, size, None);
        }
        pass(&bound.delete_array, block);
    }
    _ZdlPvmSt11align_val_t(block, size, align) {
        let bound = bound();
        if is_wrong_aligned(NEW_ALIGNED, block, size, align) {
            return verdict::wrong_size("operator delete", block as usize, size, Some(align));
        }
        pass_aligned(&bound.delete_aligned, block, align);
    }
    _ZdaPvmSt11align_val_t(block, size, align) {
        let bound = bound();
        if is_wrong_aligned(NEW_ALIGNED | NEW_ALIGNED_ARRAY, block, size, align) {
            return verdict::wrong_size("operator delete[]", block as usize, size, Some(align));
        }
        pass_aligned(&bound.delete_aligned_array, block, align);
    }
}

/// Where the forms of `delete` begin.
pub fn deletes() -> [usize; 10] {
    [
        _ZdlPv as *const () as usize,
        _ZdaPv as *const () as usize,
        _ZdlPvm as *const () as usize,
        _ZdaPvm as *const () as usize,
        _ZdlPvRKSt9nothrow_t as *const () as usize,
        _ZdaPvRKSt9nothrow_t as *const () as usize,
        _ZdlPvSt11align_val_t as *const () as usize,
        _ZdaPvSt11align_val_t as *const () as usize,
        _ZdlPvmSt11align_val_t as *const () as usize,
        _ZdaPvmSt11align_val_t as *const () as usize,
    ]
}
