//! membarrier refused by real seccomp filters: from the start, at registration, later on, or with a
//! false yes. Nothing aborts, `is_fenced` says so where it shows, and grace periods stay right.
//!
//! Each test runs in a process of its own: a filter is for ever.
#![cfg(not(any(loom, rcu_tsan)))]

mod common;

use std::thread;
use std::time::Duration;

use common::torture::*;
use common::*;
use quiescent::{Demand, Domain};

const QUERY: u32 = 0;
const PRIVATE_EXPEDITED: u32 = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
const GET_REGISTRATIONS: u32 = 1 << 9;

/// Which commands of membarrier a filter answers itself.
enum Commands<'a> {
    All,
    Only(&'a [u32]),
    AllBut(&'a [u32]),
}

/// Makes every thread's membarrier return `-errno` (0: success, without doing it) for these commands.
fn refuse(commands: Commands<'_>, errno: i32) {
    // Offsets in struct seccomp_data: the number of the system call, the low half of its first argument.
    const NUMBER: u32 = 0;
    const COMMAND: u32 = 16;
    let load = |offset| filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    let equals = |value, yes, no| filter(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, yes, no);
    let answer = |value| filter(libc::BPF_RET | libc::BPF_K, value, 0, 0);
    let (allow, refusal) = (answer(libc::SECCOMP_RET_ALLOW), answer(libc::SECCOMP_RET_ERRNO | errno as u32));
    let (listed, if_listed, otherwise) = match commands {
        Commands::All => (&[][..], allow, refusal),
        Commands::Only(listed) => (listed, refusal, allow),
        Commands::AllBut(listed) => (listed, allow, refusal),
    };
    let mut program = vec![load(NUMBER), equals(libc::SYS_membarrier as u32, 1, 0), allow, load(COMMAND)];
    for (number, &command) in listed.iter().enumerate() {
        program.push(equals(command, (listed.len() - number) as u8, 0));
    }
    program.extend([otherwise, if_listed]);
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a valid program that outlives the calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let (operation, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
        assert_eq!(libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program), 0);
    }
}

fn filter(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Grace periods are right, and end: by announcement, by expedite, with sleepers, under torture.
fn works(domain: &'static Domain) {
    let (mut reader, _sleeping) = (explicit_reader(domain), explicit_reader(domain));
    let section = reader.read_lock();
    assert!(held_up(domain));
    drop(section);
    assert!(expedites_to_end(domain, domain.start_poll()));
    domain.synchronize(Some(&mut reader));
    domain.synchronize_expedited(None);
    let torture = Torture::new(domain);
    let threads = vec![torture.tight_reader(), torture.interrupted_reader(), torture.sleepy_reader()];
    torture.update(Duration::from_millis(150), PIPE, wait_somehow);
    let (reads, updates, errors) = torture.finish(threads);
    assert_eq!(errors, 0);
    assert!(reads > 0 && updates > 0);
}

/// membarrier is refused behind what `before` does, while an explicit reader sleeps outside any section.
fn beside_a_sleeper(before: impl FnOnce(&'static Domain)) {
    let domain = fast_domain();
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        // SAFETY: gettid has no arguments and cannot fail.
        let reader = register(domain, unsafe { libc::gettid() } as u32);
        drop(reader.read_lock()); // in the fast mode from here on
        tell.send(()).expect("somebody waits");
        loop {
            thread::park();
        }
    });
    told.recv().expect("it says so");
    before(domain);
    refuse(Commands::All, libc::EPERM);
    let cookie = domain.start_poll();
    assert!(!expedites_to_end(domain, cookie), "nothing tells a sleeper from one in a section yet");
    assert!(domain.is_fenced());
    let judged = (0..10_000).any(|_| {
        thread::sleep(Duration::from_millis(1));
        expedites_to_end(domain, cookie)
    });
    assert!(judged, "it sleeps outside any section and holds the period up for ever");
}

fn fenced_from_the_start(commands: Commands<'_>, errno: i32) {
    refuse(commands, errno);
    let domain = fast_domain();
    assert!(domain.is_fenced());
    works(domain);
    assert_eq!(domain.counters().membarriers, 0);
}

macro_rules! in_a_process_of_their_own {
    ($(fn $name:ident() $body:block)*) => {
        $(#[test] fn $name() { in_fresh_process(stringify!($name), || $body) })*
    };
}

in_a_process_of_their_own! {
    fn it_is_used_where_nobody_refuses() {
        let domain = fast_domain();
        assert!(!domain.is_fenced(), "this kernel has no membarrier, or a filter of its own");
        works(domain);
        assert!(domain.counters().membarriers > 0);
    }

    fn absent_from_the_start() {
        fenced_from_the_start(Commands::All, libc::ENOSYS);
    }

    fn forbidden_from_the_start() {
        fenced_from_the_start(Commands::All, libc::EPERM);
    }

    fn refused_at_registration() {
        fenced_from_the_start(Commands::Only(&[REGISTER_PRIVATE_EXPEDITED]), libc::EPERM);
    }

    fn refused_when_executed() {
        fenced_from_the_start(Commands::Only(&[PRIVATE_EXPEDITED]), libc::ENOSYS);
    }

    fn a_yes_to_everything() {
        fenced_from_the_start(Commands::All, 0);
    }

    fn a_false_yes_to_the_barrier() {
        fenced_from_the_start(Commands::Only(&[PRIVATE_EXPEDITED]), 0);
    }

    fn a_false_yes_to_registration_and_barrier() {
        fenced_from_the_start(Commands::Only(&[PRIVATE_EXPEDITED, REGISTER_PRIVATE_EXPEDITED]), 0);
    }

    fn a_false_yes_to_registration() {
        fenced_from_the_start(Commands::Only(&[REGISTER_PRIVATE_EXPEDITED]), 0);
    }

    fn a_false_yes_to_all_but_the_questions() {
        fenced_from_the_start(Commands::AllBut(&[QUERY, GET_REGISTRATIONS]), 0);
    }

    fn a_false_yes_to_all_but_the_questions_behind_a_true_registration() {
        let _somebody = fast_domain();
        fenced_from_the_start(Commands::AllBut(&[QUERY, GET_REGISTRATIONS]), 0);
    }

    fn registered_by_somebody_else_before() {
        let _somebody = fast_domain();
        let domain = fast_domain();
        // Before Linux 6.3 a registration cannot be told from a false yes.
        // SAFETY: membarrier(MEMBARRIER_CMD_GET_REGISTRATIONS) takes no pointers.
        let tells = unsafe { libc::syscall(libc::SYS_membarrier, GET_REGISTRATIONS, 0, 0) } >= 0;
        assert_eq!(domain.is_fenced(), !tells);
        works(domain);
    }

    fn fails_later() {
        let domain = fast_domain();
        let (idle, busy) = (explicit_reader(domain), explicit_reader(domain));
        let section = busy.read_lock();
        refuse(Commands::All, libc::EPERM);
        assert!(held_up(domain));
        assert!(domain.is_fenced(), "the first failure is believed");
        let cookie = domain.snapshot();
        drop(section);
        // Both are still in the fast mode: no expedite can judge them.
        assert!(!expedites_to_end(domain, cookie));
        for reader in [&idle, &busy] {
            reader.quiescent_state();
            reader.quiescent_state();
        }
        assert!(domain.advance(Demand::Expedite), "now they execute fences, and can be judged");
        let section = busy.read_lock();
        assert!(held_up(domain));
        drop(section);
        works(domain);
    }

    fn fails_later_beside_a_sleeper() {
        beside_a_sleeper(|_| ());
    }

    fn fails_later_beside_a_sleeper_that_has_rested() {
        // The first barrier that is refused is then the one behind an offer of leave.
        beside_a_sleeper(|domain| assert!(domain.advance(Demand::Expedite), "it is found idle"));
    }

    fn fails_later_while_a_section_is_remembered() {
        let domain = fast_domain();
        let reader = explicit_reader(domain);
        let section = reader.read_lock();
        let cookie = domain.start_poll();
        domain.advance(Demand::Expedite); // remembers it, after a barrier that worked
        refuse(Commands::All, libc::ENOSYS);
        assert!(!expedites_to_end(domain, cookie));
        drop(section);
        assert!(domain.advance(Demand::Expedite), "what was remembered was true");
    }

    fn fails_later_under_torture() {
        let domain = fast_domain();
        let torture = Torture::new(domain);
        let threads = vec![torture.tight_reader(), torture.sleepy_reader(), torture.interrupted_reader()];
        torture.update(Duration::from_millis(100), PIPE, wait_somehow);
        assert!(!domain.is_fenced());
        refuse(Commands::All, libc::EPERM);
        let before = domain.counters().completed;
        torture.update(Duration::from_millis(300), PIPE, wait_somehow);
        assert!(domain.is_fenced());
        assert!(domain.counters().completed > before, "periods still end");
        assert_eq!(torture.finish(threads).2, 0);
    }

    fn fails_later_between_readers_that_never_announce() {
        let domain = fast_domain();
        let torture = Torture::new(domain);
        let threads = vec![torture.tight_reader(), torture.tight_reader()];
        thread::sleep(Duration::from_millis(10));
        refuse(Commands::All, libc::ENOSYS);
        for _ in 0..20 {
            domain.synchronize_expedited(None);
        }
        assert_eq!(torture.finish(threads).2, 0);
    }

    fn a_late_failure_leaves_a_waiter_waiting_until_the_section_ends() {
        let domain = fast_domain();
        let reader = explicit_reader(domain);
        let section = reader.read_lock();
        refuse(Commands::All, libc::ENOSYS);
        let waiter = thread::spawn(move || domain.synchronize_expedited(None));
        thread::sleep(Duration::from_millis(20));
        assert!(!waiter.is_finished());
        drop(section);
        reader.quiescent_state();
        while !waiter.is_finished() {
            reader.quiescent_state(); // at most twice: the waiter may need a second period
            thread::yield_now();
        }
        waiter.join().expect("no panic");
    }

    fn a_fork_behind_a_late_failure() {
        let domain = fast_domain();
        let reader = explicit_reader(domain);
        refuse(Commands::All, libc::EPERM);
        in_forked_child(|| {
            // SAFETY: first thing in the child.
            unsafe { domain.after_fork_in_child(Some(&reader)) };
            let section = reader.read_lock();
            assert!(held_up(domain));
            assert!(domain.is_fenced(), "the barrier is refused, and so is registering again");
            drop(section);
            reader.quiescent_state();
            let cookie = domain.start_poll();
            reader.quiescent_state();
            assert!(expedites_to_end(domain, cookie));
        });
    }
}
