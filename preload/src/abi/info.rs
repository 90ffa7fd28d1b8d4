//! glibc's introspection: `mallinfo`, `malloc_info` and the rest, filled with what this heap
//! counts. Fields that have no meaning here are 0, not invented.

use crate::front::fork;
use crate::front::under_way::entered;
use crate::os::sink::Sink;
use crate::release::report;
use crate::release::shrinker::{self, Reason};
use crate::release::stats;
use core::ffi::c_int;

/// `malloc_trim(pad)`: gives back what can be given back now. 1 if something was.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn malloc_trim(_pad: usize) -> c_int {
    fork::settle_if_cloned();
    c_int::from(entered(|| shrinker::scan(usize::MAX, Reason::Trim)) != 0)
}

/// `mallopt(parameter, value)`: glibc's parameters are hints about a heap that this is not. They are accepted
/// and change nothing; so are others, as in glibc.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn mallopt(_parameter: c_int, _value: c_int) -> c_int {
    1
}

/// As [`mallopt`]: glibc's second name.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn __libc_mallopt(parameter: c_int, value: c_int) -> c_int {
    mallopt(parameter, value)
}

/// `struct mallinfo2`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Mallinfo2 {
    /// Bytes the zone has handed out, large blocks excluded.
    pub arena: usize,
    /// Not known: 0.
    pub ordblks: usize,
    /// Not known: 0.
    pub smblks: usize,
    /// Large blocks ever allocated.
    pub hblks: usize,
    /// Bytes of live large blocks.
    pub hblkhd: usize,
    /// As in glibc: 0.
    pub usmblks: usize,
    /// Bytes of freed blocks that wait for a grace period.
    pub fsmblks: usize,
    /// Live bytes, large blocks excluded.
    pub uordblks: usize,
    /// Bytes handed out by the zone and not live.
    pub fordblks: usize,
    /// Bytes of free pages that still hold memory.
    pub keepcost: usize,
}

/// `mallinfo2()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn mallinfo2() -> Mallinfo2 {
    let stats = stats::collect();
    let small = |bytes: u64| bytes.saturating_sub(stats.live_large_bytes) as usize;
    Mallinfo2 {
        arena: small(stats.mapped_bytes),
        hblks: stats.large_allocated as usize,
        hblkhd: stats.live_large_bytes as usize,
        fsmblks: stats.deferred_bytes as usize,
        uordblks: small(stats.live_bytes),
        fordblks: stats.mapped_bytes.saturating_sub(stats.live_bytes) as usize,
        keepcost: stats.dirty_bytes as usize,
        ..Mallinfo2::default()
    }
}

/// `struct mallinfo`: [`Mallinfo2`] in ints; what does not fit is cut, as in glibc.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Mallinfo([c_int; 10]);

/// `mallinfo()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn mallinfo() -> Mallinfo {
    let i = mallinfo2();
    let all = [
        i.arena, i.ordblks, i.smblks, i.hblks, i.hblkhd, i.usmblks, i.fsmblks, i.uordblks, i.fordblks,
        i.keepcost,
    ];
    Mallinfo(all.map(|value| value as c_int))
}

/// As [`mallinfo`]: glibc's second name.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn __libc_mallinfo() -> Mallinfo {
    mallinfo()
}

/// `malloc_stats()`: the figures on stderr.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub extern "C" fn malloc_stats() {
    report::write(Sink::Stderr, b"text");
}

/// `malloc_info(options, stream)`: the figures as XML. EINVAL unless `options` is 0.
///
/// # Safety
/// `stream` is an open stream.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
pub unsafe extern "C" fn malloc_info(options: c_int, stream: *mut libc::FILE) -> c_int {
    if options != 0 {
        return libc::EINVAL;
    }
    // SAFETY: promised by the caller.
    if unsafe { report::write_xml(stream) } { 0 } else { -1 }
}
