//! The profile's functions; documented for users in `include/rcumalloc.h`.

#[cfg(feature = "override")]
use crate::abi::operators;
use crate::abi::{jemalloc_names, libc_names, own};
use crate::class::profile;
use crate::constants::PROFILE_BYTES;
use crate::front::profiled;
use crate::os::places;
use crate::os::sink::{File, Sink};
use crate::release::report;
use core::ffi::c_int;

/// Says which functions give memory back: before anybody asks who has called for some.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn tell_frees() {
    let functions = [
        libc_names::free as *const () as usize,
        libc_names::__libc_free as *const () as usize,
        libc_names::free_sized as *const () as usize,
        libc_names::free_aligned_sized as *const () as usize,
        own::rcumalloc_free as *const () as usize,
        own::rcumalloc_free_bulk as *const () as usize,
        own::rcumalloc_free_now as *const () as usize,
        jemalloc_names::dallocx as *const () as usize,
        jemalloc_names::sdallocx as *const () as usize,
    ];
    #[cfg(feature = "override")]
    let operators = operators::deletes();
    #[cfg(not(feature = "override"))]
    let operators = [];
    places::know_frees(&[&functions, &operators]);
}

/// `rcumalloc_profile_start(rate)`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub extern "C" fn rcumalloc_profile_start(rate: usize) -> bool {
    tell_frees();
    profiled::begin(if rate == 0 { PROFILE_BYTES } else { rate })
}

/// `rcumalloc_profile_stop()`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub extern "C" fn rcumalloc_profile_stop() -> bool {
    profile::end()
}

/// `rcumalloc_profile_write(fd)`.
#[cfg_attr(feature = "override", unsafe(no_mangle))]
#[unsafe(link_section = ".text_rare")]
pub extern "C" fn rcumalloc_profile_write(fd: c_int) -> bool {
    let file = File::new(fd);
    report::write_profile(Sink::File(&file)) && file.is_whole()
}
