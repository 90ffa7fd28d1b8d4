//! The sequence and its cookies: pure arithmetic, no memory.
//!
//! The *sequence* counts the two edges of every grace period. Even: no period is in flight; odd: one
//! is. Period `s` (odd) runs from the store of `s` to the store of `s + 1`.
//!
//! A *cookie* is the smallest even sequence at which a whole period has passed since it was taken:
//!
//! ```text
//!   sequence when taken   first period that counts    cookie
//!   2k     (idle)         2k+1                         2k+2
//!   2k+1   (in flight)    2k+3 (the one in flight      2k+4
//!                         began too early)
//! ```
//!
//! Both rows are `(sequence + 3) & !1`, the kernel's `rcu_seq_snap()`. The cookie has elapsed when
//! the sequence has reached it.
//!
//! A cookie carries the tag of its domain in its top byte, so that polling a cookie of another
//! domain is an error that is caught and not a premature free. 56 bits are left for the sequence: at
//! a period every 20 ns, the fastest seen, they last 22 years.

/// The number of distinct cookies of one domain that can be unfinished at the same time.
///
/// While the sequence is even (`2k`) every unfinished cookie was taken at `2k` or at `2k - 1` and is
/// `2k + 2`: one value. While it is odd (`2k + 1`) those taken before the period began are `2k + 2`
/// and those taken since are `2k + 4`: two values. Older cookies have elapsed, newer ones cannot have
/// been handed out. So a caller that keeps one bucket of batches per unfinished cookie needs two.
pub const ACTIVE_COOKIES: usize = 2;

const TAG_SHIFT: u32 = 56;
const SEQUENCE_MASK: u64 = (1 << TAG_SHIFT) - 1;

/// A grace-period number to poll: the kernel's `start_poll_synchronize_rcu()` cookie.
///
/// Plain data; it may be copied, kept for as long as one likes and passed between threads. It does
/// not order: do not compare cookies, poll them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Cookie(u64);

impl Cookie {
    /// The cookie that a reader of `sequence` must hand out.
    pub(crate) const fn after(sequence: u64, tag: u8) -> Cookie {
        // `torture --break cookie`: counts the period in flight, which began too early.
        let round_up = if cfg!(rcumalloc_break = "cookie") { 2 } else { 3 };
        Cookie(((tag as u64) << TAG_SHIFT) | ((sequence + round_up) & !1 & SEQUENCE_MASK))
    }

    /// One that has elapsed since the beginning.
    pub(crate) const fn elapsed(tag: u8) -> Cookie {
        Cookie((tag as u64) << TAG_SHIFT)
    }

    /// The sequence at which this cookie has elapsed.
    pub(crate) const fn sequence(self) -> u64 {
        self.0 & SEQUENCE_MASK
    }

    pub(crate) const fn is_even(self) -> bool {
        self.0 & 1 == 0
    }

    /// The tag of the domain that handed this cookie out.
    #[must_use]
    pub const fn tag(self) -> u8 {
        (self.0 >> TAG_SHIFT) as u8
    }

    /// The cookie as a number, for a C interface or an atomic.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The cookie that [`to_bits`](Cookie::to_bits) gave. A number that no domain handed out is
    /// found when it is polled.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Cookie {
        Cookie(bits)
    }
}

/// True while a period is in flight at `sequence`.
pub(crate) const fn in_flight(sequence: u64) -> bool {
    sequence & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookie_taken_while_idle_needs_the_next_period() {
        assert_eq!(Cookie::after(4, 1).sequence(), 6);
    }

    #[test]
    fn cookie_taken_in_flight_does_not_count_that_period() {
        assert_eq!(Cookie::after(5, 1).sequence(), 8);
    }

    #[test]
    fn tag_and_sequence_do_not_mix() {
        let cookie = Cookie::after((1 << 55) + 7, 0xff);
        assert_eq!(cookie.tag(), 0xff);
        assert_eq!(cookie.sequence(), (1 << 55) + 10);
        assert_eq!(Cookie::from_bits(cookie.to_bits()), cookie);
    }

    #[test]
    fn unfinished_cookies_never_exceed_the_constant() {
        // Take a cookie at every sequence so far, count the distinct ones that have not elapsed.
        for now in 0..64_u64 {
            let mut unfinished: Vec<u64> =
                (0..=now).map(|s| Cookie::after(s, 1).sequence()).filter(|&c| c > now).collect();
            unfinished.dedup();
            assert!(unfinished.len() <= ACTIVE_COOKIES, "{now}: {unfinished:?}");
            assert_eq!(unfinished.len(), if in_flight(now) { 2 } else { 1 });
        }
    }
}
