//! liburcu: three flavors behind one table of functions, each compiled from `c/` if it was found.

/// The functions of one flavor; see `c/flavor.h`.
#[derive(Clone, Copy)]
pub struct Flavor {
    /// Runs that many lock/unlock pairs.
    pub pairs: unsafe extern "C" fn(u64),
    /// The same inside a section.
    pub nested_pairs: unsafe extern "C" fn(u64),
    /// Reads and announces until the flag is not 0.
    pub reader_loop: unsafe extern "C" fn(*const i32, *const u32, u64),
    /// One section and one announcement.
    pub section: unsafe extern "C" fn(),
    /// Registers the calling thread.
    pub register: unsafe extern "C" fn(),
    /// Unregisters the calling thread.
    pub unregister: unsafe extern "C" fn(),
    /// Takes the calling thread offline; does nothing but in qsbr.
    pub offline: unsafe extern "C" fn(),
    /// Brings the calling thread online again.
    pub online: unsafe extern "C" fn(),
    /// Waits for a grace period.
    pub synchronize: unsafe extern "C" fn(),
    /// 1 if the installed version has polled grace periods.
    pub has_poll: unsafe extern "C" fn() -> i32,
    /// Runs that many `start_poll_synchronize_rcu`.
    pub start_polls: unsafe extern "C" fn(u64),
    /// Runs that many polls of a finished state.
    pub polls_of_finished: unsafe extern "C" fn(u64),
}

/// A flavor that was asked for: its name, and what it can do or why it is not here.
pub struct Peer {
    /// As the tables show it.
    pub name: String,
    /// `qsbr`, `memb` or `bp`.
    pub flavor: &'static str,
    /// The installed version and the functions, or the reason why there are none.
    pub found: Result<(&'static str, Flavor), &'static str>,
}

macro_rules! flavor {
    ($have:ident, $variable:literal, $name:literal, $module:ident) => {{
        #[cfg($have)]
        mod $module {
            // SAFETY: the signatures are those of `c/flavor.h`.
            unsafe extern "C" {
                #[link_name = concat!("rcu_bench_", $name, "_pairs")]
                pub fn pairs(count: u64);
                #[link_name = concat!("rcu_bench_", $name, "_nested_pairs")]
                pub fn nested_pairs(count: u64);
                #[link_name = concat!("rcu_bench_", $name, "_reader_loop")]
                pub fn reader_loop(stop: *const i32, data: *const u32, words: u64);
                #[link_name = concat!("rcu_bench_", $name, "_section")]
                pub fn section();
                #[link_name = concat!("rcu_bench_", $name, "_register")]
                pub fn register();
                #[link_name = concat!("rcu_bench_", $name, "_unregister")]
                pub fn unregister();
                #[link_name = concat!("rcu_bench_", $name, "_offline")]
                pub fn offline();
                #[link_name = concat!("rcu_bench_", $name, "_online")]
                pub fn online();
                #[link_name = concat!("rcu_bench_", $name, "_synchronize")]
                pub fn synchronize();
                #[link_name = concat!("rcu_bench_", $name, "_has_poll")]
                pub fn has_poll() -> i32;
                #[link_name = concat!("rcu_bench_", $name, "_start_polls")]
                pub fn start_polls(count: u64);
                #[link_name = concat!("rcu_bench_", $name, "_polls_of_finished")]
                pub fn polls_of_finished(count: u64);
            }
        }
        #[cfg($have)]
        let found = Ok((
            env!($variable),
            Flavor {
                pairs: $module::pairs,
                nested_pairs: $module::nested_pairs,
                reader_loop: $module::reader_loop,
                section: $module::section,
                register: $module::register,
                unregister: $module::unregister,
                offline: $module::offline,
                online: $module::online,
                synchronize: $module::synchronize,
                has_poll: $module::has_poll,
                start_polls: $module::start_polls,
                polls_of_finished: $module::polls_of_finished,
            },
        ));
        #[cfg(not($have))]
        let found = Err(env!($variable));
        Peer { name: concat!("liburcu ", $name).to_owned(), flavor: $name, found }
    }};
}

/// qsbr, memb and bp, present or not.
#[must_use]
pub fn all() -> Vec<Peer> {
    vec![
        flavor!(have_qsbr, "RCU_BENCH_QSBR", "qsbr", qsbr),
        flavor!(have_memb, "RCU_BENCH_MEMB", "memb", memb),
        flavor!(have_bp, "RCU_BENCH_BP", "bp", bp),
    ]
}

/// The peers' versions and settings, for the head of a report.
#[must_use]
pub fn describe() -> Vec<String> {
    let mut lines: Vec<String> = all()
        .iter()
        .map(|peer| match peer.found {
            Ok((version, _)) => format!(
                "{} {version}: shared library, read side inlined (_LGPL_SOURCE), loop compiled by cc -O2",
                peer.name
            ),
            Err(reason) => format!("{}: not measured: {reason}", peer.name),
        })
        .collect();
    lines.push("crossbeam-epoch 0.9: same optimisation as ours (opt-level 3, fat LTO)".to_owned());
    lines
}

/// The calling thread as a reader of every flavor that is here, until this is dropped.
pub struct Registered {
    /// Registration is the thread's.
    not_send: core::marker::PhantomData<*const ()>,
}

impl Registered {
    /// Registers. At most one at a time in a thread, which must not register otherwise meanwhile.
    #[must_use]
    pub fn in_all() -> Registered {
        for (_, flavor) in all().iter().filter_map(|peer| peer.found.ok()) {
            // SAFETY: the thread is not registered, by the contract above; liburcu asserts it.
            unsafe { (flavor.register)() };
        }
        Registered { not_send: core::marker::PhantomData }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        for (_, flavor) in all().iter().filter_map(|peer| peer.found.ok()) {
            // SAFETY: registered by `in_all` on this thread; the loops leave no section open.
            unsafe { (flavor.unregister)() };
        }
    }
}
