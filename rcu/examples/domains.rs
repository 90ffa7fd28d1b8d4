//! Two domains: what one's readers hold up is the other's no matter (the kernel's SRCU). No `unsafe`.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use quiescent::epoch::{Collector, Current};

/// Reports that are read for minutes.
struct Reports;
/// Routes that change all the time.
struct Routes;

struct Route(Arc<AtomicUsize>);

impl Drop for Route {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn main() {
    let (reports, routes) = (Collector::<Reports>::new(), Collector::<Routes>::new());
    let report: Current<String, Reports> = Current::new("long".to_owned());
    let freed = Arc::new(AtomicUsize::new(0));
    let route: Current<Route, Routes> = Current::new(Route(freed.clone()));

    let slow = reports.pin();
    let read = report.get(&slow);
    for _ in 0..1000 {
        route.replace(Route(freed.clone()), &routes.pin());
    }
    routes.barrier(); // does not wait for `slow`
    // route.get(&slow) is refused by the compiler: `slow` is no guard of the routes.
    println!("{} routes freed while somebody reads a {read} report", freed.load(Relaxed));
    assert_eq!(freed.load(Relaxed), 1000);
}
