//! Says where there is a heap: elsewhere the crate is the system's allocator behind the same names.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(rcumalloc_heap)");
    let is = |name: &str, value: &str| std::env::var(format!("CARGO_CFG_{name}")).is_ok_and(|is| is == value);
    let is_known = is("TARGET_ARCH", "x86_64") || is("TARGET_ARCH", "aarch64");
    let is_target = is_known && is("TARGET_OS", "linux") && is("TARGET_ENV", "gnu");
    // `--cfg rcumalloc_fallback` is for the test of what the others get.
    if is_target && std::env::var_os("CARGO_CFG_RCUMALLOC_FALLBACK").is_none() {
        println!("cargo::rustc-cfg=rcumalloc_heap");
    }
}
