//! What the world did to other mallocs, and to this one, in every world at once: each mode, alone and beside
//! an idle thread, with and without a limit on address space. The rows of rows.txt look closer at each; here
//! a row is tried where its own test does not go. One command says what does not hold, and where:
//!
//! ```sh
//! cargo test -p rcumalloc-tests --test worlds
//! ```

use rcumalloc_tests::{Outcome, Victim, build};
use std::panic::{AssertUnwindSafe, catch_unwind};

const MIB: u64 = 1024; // in KiB
/// More than any victim needs, and far less than there is.
const SPACE: u64 = 4 << 30;

/// Where a victim runs.
#[derive(Clone, Copy)]
struct World {
    mode: &'static str,
    is_beside: bool,
}

/// Runs what `victim` makes in every world; `judge` panics where the outcome is wrong. All that is wrong is
/// said at the end.
fn everywhere(victim: impl Fn(World) -> Victim, judge: impl Fn(World, Outcome)) {
    everywhere_behind(&[], victim, judge);
}

/// The same with other libraries before ours.
fn everywhere_behind(
    others: &[&std::path::Path],
    victim: impl Fn(World) -> Victim,
    judge: impl Fn(World, Outcome),
) {
    let beside = build::program("beside");
    let mut wrong = Vec::new();
    for mode in ["all", "api", "strict"] {
        for (is_beside, is_limited) in [(false, false), (false, true), (true, false), (true, true)] {
            let world = World { mode, is_beside };
            let mut libraries = others.to_vec();
            libraries.push(build::library());
            libraries.extend(is_beside.then_some(beside.as_path()));
            let victim = victim(world).env("RCUMALLOC_DEFER", mode).preload(&libraries);
            let victim = if is_limited { victim.limit(libc::RLIMIT_AS, SPACE) } else { victim };
            let outcome = victim.run();
            if catch_unwind(AssertUnwindSafe(|| judge(world, outcome.success()))).is_err() {
                let (thread, limit) = (["", ", idle thread"], [", no limit", ", limit"]);
                wrong.push(format!("{mode}{}{}", thread[is_beside as usize], limit[is_limited as usize]));
            }
        }
    }
    assert!(wrong.is_empty(), "wrong in {wrong:#?}");
}

/// The program ends well, and no call was found wrong.
fn no_bad_calls(_: World, outcome: Outcome) {
    assert_eq!(outcome.number("bad_calls"), 0, "{outcome}");
}

/// The program checks itself.
fn ends_well(_: World, _: Outcome) {}

#[test]
fn children_that_share_memory() {
    for how in ["vfork", "clone"] {
        let victim = |_| Victim::new("vfork_scan").arg(how).env("RCUMALLOC_LIMIT", "8M");
        everywhere(victim, |world, outcome| {
            if world.mode != "api" {
                assert_eq!(outcome.number("changed"), 0, "{outcome}");
            }
            no_bad_calls(world, outcome);
        });
    }
}

#[test]
fn forks_beside_stdio() {
    everywhere(|_| Victim::new("fork_beside_stdio"), no_bad_calls);
}

#[test]
fn an_interposed_clock() {
    let interposer = build::program("clock_interposer");
    everywhere_behind(
        &[&interposer],
        |_| Victim::new("clock_interposed"),
        |world, outcome| {
            assert_eq!(outcome.number("calls"), 0, "{outcome}");
            no_bad_calls(world, outcome);
        },
    );
}

#[test]
fn limits_set_later() {
    everywhere(
        |_| Victim::new("limit_set_later").args(["self", "as"]),
        |_, outcome| {
            for figure in ["large_0", "small_0", "large_1", "small_1"] {
                assert!(outcome.number(figure) >= 64, "{figure}\n{outcome}");
            }
        },
    );
}

#[test]
fn locked_memory() {
    let victim = |_| Victim::new("memlock_small").limit(libc::RLIMIT_MEMLOCK, 8 << 20);
    everywhere(victim, |_, outcome| {
        assert!((2 * MIB..8 * MIB).contains(&outcome.number("locked_kib")), "{outcome}");
    });
}

#[test]
fn what_a_trim_gives_back() {
    everywhere(
        |_| Victim::new("trimmed"),
        |_, outcome| {
            outcome.below("data_kib", 32 * MIB).below("rss_kib", 16 * MIB);
        },
    );
}

#[test]
fn advice_and_guards() {
    everywhere(
        |_| Victim::new("advice_dies_with_block").arg("solo"),
        |_, outcome| {
            for figure in ["met", "hidden", "lost_to_reader", "bad_calls"] {
                assert_eq!(outcome.number(figure), 0, "{figure}\n{outcome}");
            }
        },
    );
}

#[test]
fn jumps_out_of_malloc() {
    for how in ["overflow", "timer"] {
        let victim = |_| Victim::new("jump_out_of_malloc").args([how, "mixed"]);
        everywhere(|world| victim(world).limit(libc::RLIMIT_STACK, 512 * 1024), ends_well);
    }
}

#[test]
fn little_stack() {
    everywhere(|_| Victim::new("small_stack").arg("coroutines"), ends_well);
    let victim = |_| Victim::new("small_stack").arg("depth").env("RCUMALLOC_ON_ERROR", "report");
    everywhere(victim, |_, outcome| {
        let text = outcome.text();
        let depths = text.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        assert!(depths.clone().count() > 4 && depths.max() <= Some(2048), "{outcome}");
    });
}

#[test]
fn another_allocator_linked() {
    let other = build::program("other_allocator");
    let victim = own_allocator_victim(&other);
    everywhere(|_| rcumalloc_tests::command(&victim).arg("mixed"), ends_well);
}

/// Linked with functions that another allocator would have.
fn own_allocator_victim(other: &std::path::Path) -> std::path::PathBuf {
    let other = other.display().to_string();
    build::compile("own_allocator_in_worlds", "own_allocator_api_linked", &["-Wl,--no-as-needed", &other])
}

/// In strict nobody announces while all sleep: there it is what they have freed that is held. What the ended
/// ones held goes back at once if they leave a process alone, else with the watcher, within seconds.
#[test]
fn idle_threads() {
    const THREADS: &str = "1000";
    let glibc = Victim::new("many_threads").arg(THREADS).on_glibc().run().success();
    let (idle, ended) = (glibc.number("idle_kib"), glibc.number("ended_kib"));
    everywhere(
        |_| Victim::new("many_threads").arg(THREADS),
        |world, outcome| {
            if world.mode != "strict" {
                let outcome = outcome.below("idle_kib", idle * 4 / 3);
                if !world.is_beside {
                    outcome.below("ended_kib", ended * 6 / 5);
                }
            }
        },
    );
}

/// Past the budget a tail goes back in the very call, but for what a heap of its size may keep.
#[test]
fn realloc_gives_back_at_once() {
    everywhere(
        |_| Victim::new("shrunk"),
        |world, outcome| {
            if world.mode != "strict" {
                outcome.below("at_150_kib", 170 * MIB).below("at_100_kib", 115 * MIB);
            }
        },
    );
}

#[test]
fn fork_with_idle_threads() {
    let glibc = Victim::new("fork_pays_for_itself").arg("100").on_glibc().run().success().number("faults");
    everywhere(
        |_| Victim::new("fork_pays_for_itself").arg("100"),
        |world, outcome| no_bad_calls(world, outcome.below("faults", glibc + 110)),
    );
}
