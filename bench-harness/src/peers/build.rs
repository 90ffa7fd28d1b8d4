//! Peers from crates.io, as shared libraries that replace malloc.
//!
//! Each is a crate of its own, written into the peers' directory (outside the workspace, so that no peer is ever
//! linked into anything of ours), which exports the libc names and calls the `-sys` crate of one pinned
//! version. cargo fetches and builds it.

use std::path::PathBuf;

use super::directory;

/// How a peer is built.
pub struct Recipe {
    /// The word for it.
    pub name: &'static str,
    /// The crate on crates.io.
    pub package: &'static str,
    /// Exactly this version.
    pub version: &'static str,
}

pub static MIMALLOC: Recipe = Recipe { name: "mimalloc", package: "libmimalloc-sys", version: "0.1.49" };
pub static SNMALLOC: Recipe = Recipe { name: "snmalloc", package: "snmalloc-sys", version: "0.7.4" };
pub static RPMALLOC: Recipe = Recipe { name: "rpmalloc", package: "rpmalloc-sys", version: "0.2.3" };
pub static JEMALLOC: Recipe = Recipe { name: "jemalloc", package: "tikv-jemalloc-sys", version: "0.6.1" };

impl Recipe {
    /// Where the shared library is when it has been built.
    pub fn library(&self) -> PathBuf {
        directory().join(format!("lib{}-{}.so", self.name, self.version))
    }
}
