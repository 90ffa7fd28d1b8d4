//! Placeholder while the first floors are built.
#![no_std]
