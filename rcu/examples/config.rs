//! A configuration that many threads read without a lock while another reloads it. No `unsafe`.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use quiescent::epoch::{self, Current};

struct Config {
    version: u64,
    limits: Vec<u64>,
}

fn load(version: u64) -> Config {
    Config { version, limits: (0..8).map(|limit| limit * version).collect() }
}

fn main() {
    let (current, stop, requests) = (Current::new(load(1)), AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let guard = epoch::pin();
                    let config = current.get(&guard); // valid as long as the guard, whatever is reloaded
                    assert_eq!(config.limits[7], 7 * config.version, "half of two versions");
                    requests.fetch_add(1, Relaxed);
                }
            });
        }
        for version in 2..=10_000 {
            current.replace(load(version), &epoch::pin());
        }
        stop.store(true, Relaxed);
    });
    println!("{requests:?} requests; the last version is {}", current.get(&epoch::pin()).version);
}
