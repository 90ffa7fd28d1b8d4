//! Compiles the helpers that cannot be Rust programs with a standard library: the launcher, which must be
//! tiny, the recorder, which runs inside other programs' malloc, and a second thread for programs that have
//! none. All are embedded in the binary.

#[path = "helpers/urcu/build.rs"]
mod urcu;

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=helpers");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    // Static: no dynamic loader, so that what is preloaded is preloaded into the measured program alone.
    compile("helpers/launch.c", &out.join("launch"), &["-static", "-Os"]);
    compile("helpers/recorder.c", &out.join("recorder.so"), &["-shared", "-fPIC", "-O2", "-pthread"]);
    let second = ["-shared", "-fPIC", "-O2", "-pthread"];
    compile("helpers/second_thread.c", &out.join("second_thread.so"), &second);
    urcu::compile_all(out);
}

fn compile(source: &str, target: &Path, flags: &[&str]) {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut command = Command::new(&compiler);
    command.args(["-Wall", "-Wextra", "-Werror", "-s"]).args(flags).arg("-o").arg(target).arg(source);
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{compiler} {source}: {status}"),
        Err(error) => panic!("cannot run {compiler}: {error} (scripts/setup installs it)"),
    }
}
