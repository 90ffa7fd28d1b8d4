//! Options that can change while the program runs: `rcumalloc_set` and `rcumalloc_get`, by the names and the
//! values of the environment.
//!
//! Each is one word that steers, read relaxed by whoever it steers: any thread may set one at any time, and
//! what is under way ends as it began. What decides how the process starts (`RCUMALLOC_DEFER`,
//! `RCUMALLOC_PRESSURE`) is not here.

use crate::class::{backlog, verdict};
use crate::constants::NUMBER_BYTES;
use crate::front::start::{is_sensible, parse_ms, parse_on_error};
use crate::os::env::{self, Size};
use crate::os::line::Number;
use crate::page::{back_off, limit};
use crate::release::publish::{self, When};
use crate::release::{pressure, stall};

/// A value as text.
pub struct Text {
    bytes: [u8; NUMBER_BYTES],
    len: usize,
}

impl Text {
    fn new() -> Text {
        Text { bytes: [0; NUMBER_BYTES], len: 0 }
    }

    fn and(mut self, more: &[u8]) -> Text {
        for (place, byte) in self.bytes[self.len..].iter_mut().zip(more) {
            *place = *byte;
            self.len += 1;
        }
        self
    }

    fn number(value: u64) -> Text {
        Text::new().and(Number::of(value).digits())
    }

    /// What it says.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// As a number of bytes. A share of what the control group allows is for the start: to find that out takes a
/// look at files.
fn bytes(size: Size) -> Option<usize> {
    match size {
        Size::Bytes(bytes) if bytes > 0 => usize::try_from(bytes).ok(),
        _ => None,
    }
}

fn of_limit(bytes: usize) -> Option<Text> {
    (bytes != usize::MAX).then(|| Text::number(bytes as u64))
}

/// Sets `name`. False: there is no such option that may change, or the value is none of it; nothing has
/// changed.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn set(name: &[u8], value: &[u8]) -> bool {
    let is_set = match name {
        b"RCUMALLOC_BUDGET" => env::parse_size(value).filter(is_sensible).map(backlog::set_budget),
        b"RCUMALLOC_GP_AGE_MS" => parse_ms(value).map(backlog::set_age_limit_ms),
        b"RCUMALLOC_BACKOFF_MS" => parse_ms(value).map(back_off::set_period_ms),
        b"RCUMALLOC_STALL_MS" => env::parse_u64(value).map(stall::set_limit_ms),
        b"RCUMALLOC_ON_ERROR" => parse_on_error(value).map(verdict::set_report_only),
        b"RCUMALLOC_WATCH" => publish::parse(value).filter(|&when| publish::set(when)).map(|_| ()),
        b"RCUMALLOC_LIMIT" => env::parse_size(value).and_then(bytes).map(pressure::set_limit),
        b"RCUMALLOC_HARD_LIMIT" => env::parse_size(value).and_then(bytes).map(limit::set_hard),
        _ => None,
    };
    is_set.is_some()
}

/// The value of `name`, as [`set`] would take it. `None`: there is no such option, or it has no value.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn get(name: &[u8]) -> Option<Text> {
    Some(match name {
        b"RCUMALLOC_BUDGET" => match backlog::configured_budget() {
            Size::Bytes(bytes) => Text::number(bytes),
            Size::Percent(percent) => Text::number(percent.into()).and(b"%"),
        },
        b"RCUMALLOC_GP_AGE_MS" => Text::number(backlog::age_limit_ms().into()),
        b"RCUMALLOC_BACKOFF_MS" => Text::number(back_off::period_ms().into()),
        b"RCUMALLOC_STALL_MS" => Text::number(stall::limit_ms()),
        b"RCUMALLOC_ON_ERROR" => Text::new().and(if verdict::reports_only() { b"report" } else { b"abort" }),
        b"RCUMALLOC_WATCH" => match publish::when() {
            When::Never => Text::number(0),
            When::ByTime => Text::number(1),
            When::Signal(signal) => Text::number(signal as u64),
        },
        b"RCUMALLOC_LIMIT" => of_limit(limit::bytes())?,
        b"RCUMALLOC_HARD_LIMIT" => of_limit(limit::hard())?,
        _ => return None,
    })
}
