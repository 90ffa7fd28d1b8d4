//! Part of build.rs: compiles the liburcu peers, for each flavor that pkg-config finds one shared object.
//!
//! A flavor that is missing or does not compile is no error: the harness is built without it, and
//! reports it as missing with the reason that is passed on here.

use std::path::{Path, PathBuf};
use std::process::Command;

pub fn compile_all(out: &Path) {
    for flavor in ["qsbr", "memb", "bp"] {
        let variable = format!("URCU_{}", flavor.to_uppercase());
        let (object, note) = match compile(flavor, out) {
            Ok((object, version)) => (object.display().to_string(), version),
            Err(reason) => (String::new(), reason.split_whitespace().collect::<Vec<_>>().join(" ")),
        };
        println!("cargo::rustc-env={variable}={object}");
        println!("cargo::rustc-env={variable}_NOTE={note}");
    }
}

/// Where the object is and of which version, or why there is none.
fn compile(flavor: &str, out: &Path) -> Result<(PathBuf, String), String> {
    let library =
        pkg_config::Config::new().cargo_metadata(false).probe(&format!("liburcu-{flavor}")).map_err(
            |_| format!("pkg-config does not find liburcu-{flavor}: install liburcu-dev and build again"),
        )?;
    let object = out.join(format!("urcu_{flavor}.so"));
    let mut command = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".to_owned()));
    // Its thread-local variables are one load away, as in a program that links liburcu.
    command.args(["-shared", "-fPIC", "-O2", "-ftls-model=initial-exec"]);
    command.arg("-Werror=implicit-function-declaration").arg("-o").arg(&object);
    command.arg(format!("helpers/urcu/{flavor}.c"));
    command.args(library.include_paths.iter().map(|path| format!("-I{}", path.display())));
    command.args(library.link_paths.iter().map(|path| format!("-L{}", path.display())));
    command.args(library.libs.iter().map(|name| format!("-l{name}")));
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("helpers/urcu/{flavor}.c: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok((object, library.version))
}
