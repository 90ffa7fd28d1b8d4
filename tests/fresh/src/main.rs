#[global_allocator]
static HEAP: rcumalloc::RcuMalloc = rcumalloc::RcuMalloc;

rcumalloc::config!("STALL_MS=5000");

unsafe extern "C" {
    fn strdup(text: *const std::ffi::c_char) -> *mut std::ffi::c_char;
}

struct Noisy;

impl Drop for Noisy {
    fn drop(&mut self) {
        println!("dropped");
    }
}

fn main() {
    let rust = Box::new(1);
    // SAFETY: a string; the copy is leaked.
    let c = unsafe { strdup(c"text".as_ptr()) };
    println!("defers {}, rust's block is ours {}, c's \
        {}", rcumalloc::DEFERS, rcumalloc::owns(&*rust), rcumalloc::owns(c));
    let section = rcumalloc::read();
    let seen = &raw const *rust;
    drop(rust);
    let others: Vec<Box<i32>> = (0..10_000).map(|_| Box::new(2)).collect();
    // Where nothing is deferred the block may be anybody's by now.
    // SAFETY: what a section has seen is not reused before it ends.
    assert!(!rcumalloc::DEFERS || unsafe { *seen } == 1);
    drop((section, others));
    rcumalloc::retire(Box::new(Noisy));
    rcumalloc::barrier();
    println!("done");
}
