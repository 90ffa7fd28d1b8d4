//! The end of a panic: one line and the process is gone. A malloc that goes on after it found its
//! own state impossible would damage what is not its own.

use crate::os::line::Line;
use crate::os::syscall;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let mut line = Line::new();
    line.str("internal error");
    if let Some(place) = info.location() {
        line.str(" at ").str(place.file()).str(":").dec(u64::from(place.line()));
    }
    line.str(": please report it").emit();
    syscall::abort()
}
