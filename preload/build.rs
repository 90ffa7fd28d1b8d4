//! Linker options of librcumalloc.so.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_PRELOAD").is_some() {
        // Data begins on a page of its own: the loader writes to one page less.
        println!("cargo::rustc-link-arg=-Wl,-z,separate-loadable-segments");
    }
}
