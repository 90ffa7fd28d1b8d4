//! The ground floor: what we ask of the kernel, without libc in between where libc would
//! set `errno`, allocate or lock. It knows nothing of pages, blocks or grace periods.
//!
//! Everything here may be called from any thread at any time, before libc's constructors
//! and in the child of a fork. Calls return their errors as values.

pub mod arch;
pub mod bell;
pub mod cgroup;
pub mod clock;
pub mod code;
pub mod conf;
pub mod env;
pub mod handler;
pub mod helper;
pub mod home;
pub mod in_code;
pub mod kept;
pub mod libcs;
pub mod limits;
pub mod line;
pub mod lines;
pub mod listeners;
pub mod lock;
pub mod map;
pub mod peers;
pub mod places;
pub mod psi;
pub mod signals;
pub mod sink;
pub mod stack;
pub mod syscall;
pub mod task;
pub mod tid;
pub mod tls;
