//! Functions that run after a grace period: `rcumalloc_call`, `rcumalloc_call_head`, `rcumalloc_barrier`.

use rcumalloc_tests::{Outcome, Victim};

fn run(case: &str) -> Outcome {
    Victim::new("calls").arg(case).patience(40).run()
}

fn succeeds(case: &str) {
    let outcome = run(case).success();
    assert_eq!((outcome.text().as_str(), outcome.ours().len()), ("done\n", 0), "{outcome}");
}

#[test]
fn a_function_waits_for_the_readers_before_it() {
    succeeds("waits_for_readers");
}

#[test]
fn functions_run_in_order_and_outside_of_everything() {
    succeeds("in_order");
}

#[test]
fn who_queues_past_the_bound_waits() {
    succeeds("bounded");
}

#[test]
fn the_child_of_a_fork_runs_what_was_queued() {
    succeeds("forked");
}

#[test]
fn a_function_may_fork() {
    succeeds("function_forks");
}

#[test]
fn without_a_thread_the_barrier_runs_them() {
    succeeds("without_thread");
}

#[test]
fn a_worker_with_nothing_to_do_ends() {
    succeeds("ends");
}

#[test]
fn a_function_that_waits_for_itself_is_refused() {
    let line = "rcumalloc: rcumalloc_barrier: a function that rcumalloc_call runs would wait for its own end";
    run("barrier_inside").aborted_saying(line);
}
