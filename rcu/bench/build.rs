//! Compiles the peers' read loops: one C file for each flavor of liburcu that pkg-config finds.
//!
//! A flavor that is missing or does not compile is no error: the benchmark is built without it and
//! prints the reason that is passed on here.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=c");
    for flavor in ["qsbr", "memb", "bp"] {
        println!("cargo::rustc-check-cfg=cfg(have_{flavor})");
        let variable = format!("RCU_BENCH_{}", flavor.to_uppercase());
        match compile(flavor) {
            Ok(version) => {
                println!("cargo::rustc-cfg=have_{flavor}");
                println!("cargo::rustc-env={variable}={version}");
            }
            Err(reason) => println!("cargo::rustc-env={variable}={}", one_line(&reason)),
        }
    }
}

/// The version of the flavor that was compiled in, or why none was.
fn compile(flavor: &str) -> Result<String, String> {
    let library =
        pkg_config::Config::new().cargo_metadata(false).probe(&format!("liburcu-{flavor}")).map_err(
            |_| format!("pkg-config does not find liburcu-{flavor}: install liburcu-dev and build again"),
        )?;
    let mut build = cc::Build::new();
    build
        .file(format!("c/{flavor}.c"))
        .includes(&library.include_paths)
        .opt_level(2)
        // The binary is position independent but nothing is loaded later: the peer's thread-local
        // variables are one load away, as in any program that links liburcu.
        .pic(false)
        .flag("-fPIE")
        .flag("-ftls-model=initial-exec")
        .flag("-Werror=implicit-function-declaration")
        .cargo_metadata(false);
    if library
        .include_paths
        .iter()
        .map(AsRef::as_ref)
        .chain([Path::new("/usr/include")])
        .any(|directory: &Path| directory.join("urcu/urcu-poll.h").exists())
    {
        build.define("HAVE_POLL", None);
    }
    let name = format!("rcu_bench_{flavor}");
    build.try_compile(&name).map_err(|error| format!("c/{flavor}.c does not compile: {error}"))?;
    println!("cargo::rustc-link-search=native={}", std::env::var("OUT_DIR").unwrap_or_default());
    println!("cargo::rustc-link-lib=static={name}");
    for directory in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", directory.display());
    }
    for name in &library.libs {
        println!("cargo::rustc-link-lib=dylib={name}");
    }
    Ok(library.version)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
