//! liburcu: three flavors behind one table of functions, whose loops are C (`helpers/urcu/loops.h`), so that
//! its read side is inlined into them. The objects are those of `reclaim::urcu`.

use crate::reclaim::urcu;

/// A call that takes nothing.
type Plain = unsafe extern "C" fn();
/// A loop that runs so often.
type Loop = unsafe extern "C" fn(u64);

/// The functions of one flavor.
#[derive(Clone, Copy)]
pub struct Flavor {
    /// Runs that many lock/unlock pairs.
    pub pairs: Loop,
    /// The same inside a section.
    pub nested_pairs: Loop,
    /// Reads and announces until the flag is not 0.
    pub reader_loop: unsafe extern "C" fn(*const i32, *const u32, u64),
    /// One section and one announcement.
    pub section: Plain,
    /// Registers the calling thread.
    pub register: Plain,
    /// Unregisters the calling thread.
    pub unregister: Plain,
    /// Takes the calling thread offline; does nothing but in qsbr.
    pub offline: Plain,
    /// Brings the calling thread online again.
    pub online: Plain,
    /// Waits for a grace period.
    pub synchronize: Plain,
    /// 1 if the installed version has polled grace periods.
    pub has_poll: unsafe extern "C" fn() -> i32,
    /// Runs that many `start_poll_synchronize_rcu`.
    pub start_polls: Loop,
    /// Runs that many polls of a finished state.
    pub polls_of_finished: Loop,
}

/// A flavor: its name, and what it can do or why it is not here.
pub struct Peer {
    /// As the tables show it.
    pub name: String,
    /// `qsbr`, `memb` or `bp`.
    pub flavor: &'static str,
    /// The installed version and the functions, or the reason why there are none.
    pub found: Result<(&'static str, Flavor), String>,
}

fn peer<F: urcu::Flavor>(flavor: &'static str) -> Peer {
    Peer { name: format!("liburcu {flavor}"), flavor, found: open::<F>().map(|found| (F::NOTE, found)) }
}

fn open<F: urcu::Flavor>() -> Result<Flavor, String> {
    let object = urcu::Object::open::<F>()?;
    // SAFETY: the types are those of `helpers/urcu/loops.h` and `flavor.h`.
    unsafe {
        Ok(Flavor {
            pairs: object.find(c"shim_pairs")?,
            nested_pairs: object.find(c"shim_nested_pairs")?,
            reader_loop: object.find(c"shim_reader_loop")?,
            section: object.find(c"shim_section")?,
            register: object.find(c"shim_register")?,
            unregister: object.find(c"shim_unregister")?,
            offline: object.find(c"shim_offline")?,
            online: object.find(c"shim_online")?,
            synchronize: object.find(c"shim_synchronize")?,
            has_poll: object.find(c"shim_has_poll")?,
            start_polls: object.find(c"shim_start_polls")?,
            polls_of_finished: object.find(c"shim_polls_of_finished")?,
        })
    }
}

/// The shared objects of the flavors that were compiled.
pub fn objects() -> impl Iterator<Item = &'static str> {
    use urcu::Flavor as _;
    [urcu::Qsbr::OBJECT, urcu::Memb::OBJECT, urcu::Bp::OBJECT].into_iter().filter(|path| !path.is_empty())
}

/// qsbr, memb and bp, present or not.
pub fn all() -> Vec<Peer> {
    vec![peer::<urcu::Qsbr>("qsbr"), peer::<urcu::Memb>("memb"), peer::<urcu::Bp>("bp")]
}

/// The peers' versions and settings.
pub fn describe() -> Vec<String> {
    let line = |peer: Peer| match peer.found {
        Ok((version, _)) => format!(
            "{} {version}: shared library, read side inlined (_LGPL_SOURCE), loop in a shared object, cc -O2",
            peer.name
        ),
        Err(reason) => format!("{}: not measured: {reason}", peer.name),
    };
    let ours = "crossbeam-epoch 0.9: same optimisation as ours (opt-level 3, fat LTO)".to_owned();
    all().into_iter().map(line).chain([ours]).collect()
}

/// The calling thread as a reader of every flavor that is here, until this is dropped.
pub struct Registered {
    /// Registration is the thread's.
    not_send: core::marker::PhantomData<*const ()>,
}

impl Registered {
    /// Registers. At most one at a time in a thread, which must not register otherwise meanwhile.
    pub fn in_all() -> Registered {
        for (_, flavor) in all().into_iter().filter_map(|peer| peer.found.ok()) {
            // SAFETY: the thread is not registered, by the contract above; liburcu asserts it.
            unsafe { (flavor.register)() };
        }
        Registered { not_send: core::marker::PhantomData }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Registered { not_send: _ } = self;
        for (_, flavor) in all().into_iter().filter_map(|peer| peer.found.ok()) {
            // SAFETY: registered by `in_all` on this thread; the loops leave no section open.
            unsafe { (flavor.unregister)() };
        }
    }
}
