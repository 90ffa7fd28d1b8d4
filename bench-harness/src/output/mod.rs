//! What people and programs get to see: tables, JSON, pictures, one page, a progress bar.

pub mod json;
pub mod markdown;
pub mod page;
pub mod plot;
pub mod progress;
pub mod table;
