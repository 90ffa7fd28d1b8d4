//! Whether a preloaded library took effect in a child: it is mapped there, and malloc and free are its own.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Allocator;
use crate::measure::child::Child;
use crate::outcome::Refusal;

/// The names that every allocator must serve by itself.
const NAMES: [&std::ffi::CStr; 8] = [
    c"malloc",
    c"free",
    c"calloc",
    c"realloc",
    c"memalign",
    c"posix_memalign",
    c"aligned_alloc",
    c"malloc_usable_size",
];

/// What a child saw.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    /// For each of [`NAMES`], the file whose symbol it is.
    owners: Vec<String>,
}

/// The measured side: where does each name come from, and does it work?
pub fn inner(_job: &str) -> Result<Value, Refusal> {
    let owners: Vec<String> = NAMES.iter().map(|name| owner(name)).collect();
    // SAFETY: plain calls of the C library, each block freed once.
    let works = unsafe {
        let block = libc::malloc(100);
        let block = libc::realloc(block, 1000);
        let works = !block.is_null() && libc::malloc_usable_size(block) >= 1000;
        libc::free(block);
        works
    };
    match works {
        true => Ok(json!(Seen { owners })),
        false => Err(Refusal("malloc and realloc gave no usable block".to_owned())),
    }
}

fn owner(name: &std::ffi::CStr) -> String {
    // SAFETY: a C string, and a Dl_info that is written before it is read.
    unsafe {
        let address = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        let mut info: libc::Dl_info = core::mem::zeroed();
        if address.is_null() || libc::dladdr(address, &raw mut info) == 0 || info.dli_fname.is_null() {
            return String::new();
        }
        std::ffi::CStr::from_ptr(info.dli_fname).to_string_lossy().into_owned()
    }
}

/// Starts a child under the allocator and says why it did not take effect, if so.
pub fn took_effect(allocator: &Allocator) -> Result<(), String> {
    let answer = Child::inner("probe", &json!({})).and_then(|child| child.under(allocator).answer::<Seen>());
    let (seen, finished) = answer.map_err(|refusal| refusal.0)?;
    let complaint = String::from_utf8_lossy(&finished.stderr);
    if let Some(line) = complaint.lines().find(|line| line.contains("ERROR: ld.so")) {
        return Err(line.to_owned());
    }
    let wanted = match &allocator.library {
        Some(library) => std::fs::canonicalize(library).map_err(|error| error.to_string())?,
        None => return Ok(()),
    };
    for (name, owner) in NAMES.iter().zip(&seen.owners) {
        if std::fs::canonicalize(owner).ok().as_ref() != Some(&wanted) {
            let owner = if owner.is_empty() { "nobody" } else { owner };
            return Err(format!("{} comes from {owner}", name.to_string_lossy()));
        }
    }
    Ok(())
}
