//! G6: bad calls end the process with one line. Each runs in a child of its own; the exact
//! beginning of the line is asserted.

use rcumalloc::abi::libc_names::{
    aligned_alloc, free, free_aligned_sized, free_sized, malloc, malloc_usable_size, realloc,
};
use std::ffi::c_void;

/// Runs `bad` in a child whose stderr is a pipe; what it said and how it ended.
fn in_child(bad: impl FnOnce()) -> (String, i32) {
    let mut pipe = [0; 2];
    // SAFETY: plain system calls; the child calls nothing of std before it dies or ends.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let child = libc::fork();
        if child == 0 {
            libc::dup2(pipe[1], 2);
            bad();
            libc::_exit(0);
        }
        libc::close(pipe[1]);
        let mut text = [0u8; 600];
        let mut len = 0;
        loop {
            let got = libc::read(pipe[0], text.as_mut_ptr().add(len).cast(), text.len() - len);
            if got <= 0 {
                break;
            }
            len += got as usize;
        }
        libc::close(pipe[0]);
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        (String::from_utf8_lossy(&text[..len]).into_owned(), status)
    }
}

/// The line `bad` died with.
fn line_of(bad: impl FnOnce()) -> String {
    let (text, status) = in_child(bad);
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "{status:x} {text}");
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    text
}

fn go_concurrent() {
    rcumalloc::front::switch::go_concurrent();
}

/// Calls `bad` with a block of `size` bytes; the line with the block's address cut out.
fn with_block(size: usize, bad: impl FnOnce(*mut c_void)) -> String {
    // SAFETY: any thread, any size.
    let block = unsafe { malloc(size) };
    line_of(|| bad(block)).replace(&format!("{block:p}"), "P")
}

fn assert_says(line: &str, words: &str) {
    assert!(line.starts_with("rcumalloc: ") && line.contains(words), "{line}");
}

// SAFETY (all that follow): the calls are wrong on purpose; the heap must refuse them.

#[test]
fn interior_pointer() {
    // SAFETY: see above.
    let line = with_block(100, |p| unsafe { free(p.add(16)) });
    assert_says(&line, "points 16 bytes into a block of 112 bytes in use at P");
}

#[test]
fn misaligned_pointer() {
    // SAFETY: see above.
    let line = with_block(100, |p| unsafe { free(p.add(1)) });
    assert_says(&line, "points 1 bytes into a block of 112 bytes");
}

#[test]
fn stack_static_and_wild_pointers() {
    static mut STATIC: u64 = 0;
    let mut local = 0u64;
    let local = &raw mut local;
    for bad in [local.cast(), (&raw mut STATIC).cast(), 0x1234_5678_9000_usize as *mut c_void] {
        // SAFETY: see above.
        assert_says(&line_of(|| unsafe { free(bad) }), "not a pointer of this heap");
    }
}

#[test]
fn double_free_is_found_at_the_turn() {
    let line = with_block(100, |p| {
        go_concurrent();
        // SAFETY: see above.
        unsafe {
            let other = malloc(100);
            free(p);
            free(other);
            free(p);
            for _ in 0..1000 {
                free(malloc(100));
            }
        }
    });
    assert_says(&line, "free(P): double free of a block of 112 bytes, found when its magazine was turned");
}

#[test]
fn double_free_of_the_block_freed_last_is_found_at_once() {
    for turn in [|| (), go_concurrent] {
        let line = with_block(100, |p| {
            turn();
            // SAFETY: see above.
            unsafe {
                free(p);
                free(p);
                libc::_exit(0);
            }
        });
        assert_says(&line, "free(P): double free of a block of 112 bytes, found at once");
    }
}

/// The magazine is full with the block on top: the check is the slow path's.
#[test]
fn double_free_on_top_of_a_full_magazine_is_found_at_once() {
    for turn in [|| (), go_concurrent] {
        // SAFETY: any thread, any size.
        let blocks: Vec<_> = (0..600).map(|_| unsafe { malloc(100) }).collect();
        for last in 0..blocks.len() {
            let line = line_of(|| {
                turn();
                // SAFETY: see above.
                unsafe {
                    blocks[..=last].iter().for_each(|&block| free(block));
                    free(blocks[last]);
                    libc::_exit(0);
                }
            });
            assert_says(&line, "found at once");
        }
    }
}

#[test]
fn double_free_across_magazines() {
    let line = with_block(100, |p| {
        go_concurrent();
        // SAFETY: see above.
        unsafe {
            free(p);
            // Held, so that nobody is given the block again.
            let held: Vec<_> = (0..300).map(|_| malloc(100)).collect();
            held.into_iter().for_each(|block| free(block));
            free(p);
            (0..300).map(|_| malloc(100)).collect::<Vec<_>>().into_iter().for_each(|block| free(block));
        }
    });
    assert_says(&line, "double free of a block of 112 bytes");
}

#[test]
fn double_free_of_a_large_block_is_found_at_once() {
    let line = with_block(1_000_000, |p| {
        go_concurrent();
        // SAFETY: see above.
        unsafe {
            free(p);
            free(p);
        }
    });
    assert_says(&line, "free(P): double free of a large block of 1003520 bytes");
}

#[test]
fn double_free_of_a_large_block_in_a_solo_process() {
    let line = with_block(1_000_000, |p| {
        // SAFETY: see above.
        unsafe {
            free(p);
            free(p);
        }
    });
    assert!(line.contains("free(P): double free of") || line.contains("freed before"), "{line}");
}

#[test]
fn interior_of_a_large_block() {
    // SAFETY: see above.
    let line = with_block(1_000_000, |p| unsafe { free(p.add(8192)) });
    assert_says(&line, "points 8192 bytes into a large block of 1003520 bytes at P");
}

#[test]
fn wrong_sizes() {
    // SAFETY: see above.
    let line = with_block(100, |p| unsafe { free_sized(p, 200) });
    assert_says(&line, "free_sized(P, 200): wrong size or alignment: a block of 112 bytes in use");
    // SAFETY: see above.
    let line = with_block(100_000, |p| unsafe { free_sized(p, 100_001) });
    assert_says(&line, "wrong size or alignment: a large block");
    // SAFETY: see above.
    let line = line_of(|| unsafe { free_aligned_sized(aligned_alloc(64, 128), 4096, 128) });
    assert_says(&line, "free_aligned_sized(");
}

/// Realloc leaves blocks larger than malloc would have made them: past 128 bytes their size is right from
/// 9/16 of the block on, up to there to the class.
#[test]
fn a_size_after_realloc() {
    // The heap is started here: in the child of a fork another test's thread may be at it, and gone.
    // SAFETY: null or a block.
    unsafe { free(malloc(1)) };
    let (said, status) = in_child(|| {
        // SAFETY: blocks that are freed once, with the size that was asked for last.
        unsafe {
            free_sized(realloc(malloc(1000), 1040), 1040);
            free_sized(realloc(malloc(1000), 576), 576);
            free_sized(realloc(malloc(96), 97), 97);
        }
    });
    assert!(said.is_empty() && libc::WIFEXITED(status), "{status:x} {said}");
    // SAFETY: such a call is refused.
    let line = line_of(|| unsafe { free_sized(malloc(1000), 575) });
    assert_says(&line, "a block of 1024 bytes in use");
    // SAFETY: see above.
    let line = line_of(|| unsafe { free_sized(realloc(malloc(96), 97), 96) });
    assert_says(&line, "a block of 112 bytes in use");
}

#[test]
fn realloc_and_usable_size_refuse_too() {
    // SAFETY: see above.
    let line = with_block(100, |p| unsafe {
        realloc(p.add(16), 10);
    });
    assert_says(&line, "realloc(");
    // SAFETY: see above.
    let line = with_block(100, |p| unsafe {
        malloc_usable_size(p.add(16));
    });
    assert_says(&line, "malloc_usable_size(");
    let line = with_block(1_000_000, |p| {
        go_concurrent();
        // SAFETY: see above.
        unsafe {
            free(p);
            realloc(p, 10);
        }
    });
    assert_says(&line, "realloc(P): use after free of a large block");
}

#[test]
fn the_tail_of_a_slab_is_no_block() {
    let line = with_block(48, |p| {
        go_concurrent();
        let tail = (p as usize & !0xffff) + 65_536 / 48 * 48;
        // SAFETY: see above.
        unsafe {
            free(tail as *mut c_void);
            (0..1000).map(|_| malloc(48)).collect::<Vec<_>>().into_iter().for_each(|block| free(block));
        }
    });
    assert_says(&line, "that was never given out");
}

/// What `bad` says under `RCUMALLOC_ON_ERROR=report`, and whether the process went on.
fn reported(bad: impl FnOnce()) -> (String, bool) {
    let (text, status) = in_child(|| {
        rcumalloc::class::verdict::set_report_only(true);
        bad();
    });
    (text, status == 0)
}

#[test]
fn misuse_of_the_engine_names_the_call() {
    use rcumalloc::abi::own::*;
    // A cookie that nobody handed out; `Cookie` has C's layout of one 64-bit word.
    let strange = || rcu::Cookie::from_bits(rcumalloc_start_poll().to_bits() + (1 << 40));
    let in_section = |call: fn()| {
        move || {
            rcumalloc_read_lock();
            call();
        }
    };
    assert_says(&line_of(rcumalloc_read_unlock_once_too_often), "rcumalloc_read_unlock without an open");
    assert_says(
        &line_of(in_section(|| rcumalloc_thread_offline())),
        "rcumalloc_thread_offline inside a read-side",
    );
    assert_says(&line_of(move || assert!(!rcumalloc_poll(strange()))), "was never handed out");
    let waits: [(&str, fn()); 3] = [
        ("rcumalloc_synchronize: ", || rcumalloc_synchronize()),
        ("rcumalloc_synchronize_expedited: ", || rcumalloc_synchronize_expedited()),
        ("rcumalloc_barrier: ", || rcumalloc_barrier()),
    ];
    for (name, call) in waits {
        let line = line_of(in_section(call));
        assert_says(&line, "waiting for a grace period inside a read-side section of the same thread");
        assert!(line.contains(name), "{line}");
        let (text, went_on) = reported(in_section(call));
        assert!(!went_on && text.matches('\n').count() == 1 && text.contains(name), "{text}");
    }
    let line = line_of(in_section(|| rcumalloc_cond_synchronize(rcumalloc_start_poll())));
    assert_says(&line, "rcumalloc_cond_synchronize: waiting");
    // Reported, without effect, and the process goes on.
    let (text, went_on) = reported(|| {
        rcumalloc_read_unlock_once_too_often();
        rcumalloc_read_lock();
        rcumalloc_thread_offline();
        assert!(rcumalloc_read_held());
        rcumalloc_read_unlock();
        assert!(!rcumalloc_poll(rcu::Cookie::from_bits(rcumalloc_start_poll().to_bits() + (1 << 40))));
        rcumalloc_synchronize();
    });
    assert!(went_on && text.lines().all(|line| line.starts_with("rcumalloc: ")), "{text}");
    assert!(text.lines().count() >= 3, "{text}");
}

fn rcumalloc_read_unlock_once_too_often() {
    rcumalloc::abi::own::rcumalloc_read_lock();
    rcumalloc::abi::own::rcumalloc_read_unlock();
    rcumalloc::abi::own::rcumalloc_read_unlock();
}
