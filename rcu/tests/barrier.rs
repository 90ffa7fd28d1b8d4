//! `barrier`: seal, wait, reclaim, in this order.
#![cfg(not(loom))]

mod common;

use common::*;
use quiescent::{BarrierHooks, Cookie, Domain};

struct Embedder {
    domain: &'static Domain,
    sealed: Option<Cookie>,
    reclaimed: bool,
}

impl BarrierHooks for Embedder {
    fn seal(&mut self) {
        assert!(self.sealed.is_none() && !self.reclaimed);
        self.sealed = Some(self.domain.snapshot());
    }

    fn reclaim(&mut self) {
        assert!(self.domain.poll(self.sealed.expect("sealed before")), "waited between");
        self.reclaimed = true;
    }
}

in_both_modes! {
    fn what_was_sealed_has_elapsed_at_reclaim(domain) {
        let mut me = explicit_reader(domain);
        let _sleeper = explicit_reader(domain);
        let mut embedder = Embedder { domain, sealed: None, reclaimed: false };
        domain.barrier(Some(&mut me), &mut embedder);
        assert!(embedder.reclaimed);
        assert!(!me.is_offline(), "back online after the wait");
    }

    fn without_a_reader_of_ones_own(domain) {
        let _sleeper = reader(domain);
        let mut embedder = Embedder { domain, sealed: None, reclaimed: false };
        domain.barrier(None, &mut embedder);
        assert!(embedder.reclaimed);
    }
}
