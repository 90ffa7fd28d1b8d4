//! The end of a panic: one line and the process is gone. A malloc that goes on after it found its
//! own state impossible would damage what is not its own. In pieces, not as a
//! [`Line`](crate::os::line::Line), which is a quarter of a KiB of stack and may itself be what panics.

use crate::os::line::Number;
use crate::os::syscall;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say("rcumalloc: internal error");
    if let Some(place) = info.location() {
        say(" at ");
        say(place.file());
        say(":");
        syscall::write(2, Number::of(u64::from(place.line())).digits());
    }
    say(": please report it\n");
    syscall::abort()
}

fn say(text: &str) {
    syscall::write(2, text.as_bytes());
}
