//! Options in code.

/// Options in the program's code: those of the environment, by the same names, with `RCUMALLOC_` before them
/// or without.
///
/// ```
/// #[global_allocator]
/// static HEAP: rcumalloc::RcuMalloc = rcumalloc::RcuMalloc;
///
/// rcumalloc::config!("STALL_MS=2000; BUDGET=16M");
/// # fn main() {}
/// ```
///
/// It stands where an item may stand, in any crate of the program, once: if two name the same option, the one
/// that the linker puts last is in force. The text is a literal. A part that is no option and a value that is
/// not understood are one line on stderr each, as the program starts.
///
/// Who runs the program has the last word: the environment goes before the configuration file, and the file
/// goes before the code. A set-user-ID program, which obeys no environment, obeys its code. On targets where
/// nothing is deferred, and under librcumalloc.so, the options mean nothing.
#[cfg(rcumalloc_heap)]
#[macro_export]
macro_rules! config {
    ($options:literal) => {
        const _: () = {
            const TEXT: &[u8] = ::core::concat!($options, ";").as_bytes();
            #[used]
            #[unsafe(link_section = "rcumalloc_options")]
            static OPTIONS: [u8; TEXT.len()] = match TEXT.first_chunk() {
                ::core::option::Option::Some(text) => *text,
                ::core::option::Option::None => ::core::panic!(),
            };
        };
    };
}

/// Options in the program's code: on this target there is no heap of ours, and they mean nothing.
#[cfg(not(rcumalloc_heap))]
#[macro_export]
macro_rules! config {
    ($options:literal) => {
        const _: &str = $options;
    };
}
