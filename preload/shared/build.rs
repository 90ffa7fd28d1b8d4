//! What makes of the heap's source librcumalloc.so: libc's names, a panic handler, and the linker's options.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(format!("CARGO_CFG_{name}")).is_ok_and(|is| is == value);
    let is_known = is("TARGET_ARCH", "x86_64") || is("TARGET_ARCH", "aarch64");
    if !(is_known && is("TARGET_OS", "linux") && is("TARGET_ENV", "gnu")) {
        println!("cargo::error=librcumalloc.so is for Linux with glibc on x86-64 or aarch64; the crate");
        println!("cargo::error=rcumalloc is the system's allocator elsewhere, and its engine, quiescent, is");
        println!("cargo::error=for other processors, too");
        return;
    }
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"override\", \"inject\", \"allocator-api2\"))");
    // As the Rust crate's feature of this name: the functions carry libc's names.
    println!("cargo::rustc-cfg=feature=\"override\"");
    println!("cargo::rustc-check-cfg=cfg(rcumalloc_heap)");
    println!("cargo::rustc-cfg=rcumalloc_heap");
    // Nobody else is there: no std, whose panic handler it would be.
    println!("cargo::rustc-cfg=rcumalloc_shared");
    for option in [
        // The name that a program linked with it asks the loader for.
        "-Wl,-soname,librcumalloc.so.1",
        // A thread-exit callback must not dangle.
        "-Wl,-z,nodelete",
        // Data begins on a page of its own: the loader writes to one page less.
        "-Wl,-z,separate-loadable-segments",
        // The loader puts the library at a multiple of this: what stands together in 64 KiB of it
        // (`.text_start`) is mapped by one fault, wherever the library lies.
        "-Wl,-z,max-page-size=65536",
        // What they bring is unused, and three weak symbols less to look up in every library at every start.
        "-nostartfiles",
        // The debug information of a Rust function names no C types; a debugger that calls malloc in the
        // program believes it and finds that nothing is returned. What remains are the symbols, as in a
        // distribution's libraries.
        "-Wl,--strip-debug",
    ] {
        println!("cargo::rustc-cdylib-link-arg={option}");
    }
}
