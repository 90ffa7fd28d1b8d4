//! A profile of the heap, which the library has written (docs/seeing.md, "A profile"): for people, for pprof,
//! and as a flame graph.
//!
//! ```text
//!   dump      what the library writes, read          tally   what each stack stands for; growth
//!   symbols   functions and lines of addresses       pprof   as pprof reads it
//!   text      tables, and what has leaked            flame   a picture
//! ```

pub mod cost;
mod dump;
pub mod flame;
mod pprof;
mod symbols;
mod tally;
mod text;

pub use symbols::{Maps, Symbols};

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::outcome::Refusal;
use dump::Dump;
use tally::Tally;

/// What a stack's blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// What the program has
    Live,
    /// What was freed and waits for a grace period
    Deferred,
    /// All that was allocated since the profile began
    Allocated,
}

/// Shows a profile that the library has written.
#[derive(Args)]
pub struct Arguments {
    /// What `rcumalloc_profile_write` or `RCUMALLOC_PROFILE_FILE` has written
    #[arg(value_name = "DUMP")]
    dump: PathBuf,
    /// An earlier dump: only what has grown since, or shrunk
    #[arg(long, value_name = "OLD")]
    base: Option<PathBuf>,
    /// Write it for pprof: protobuf, compressed
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the stacks; so it is, too, if nothing else is asked for
    #[arg(long)]
    text: bool,
    /// Print what is live as leaks, the largest first, with the ages of the blocks
    #[arg(long)]
    leaks: bool,
    /// Draw a flame graph
    #[arg(long, value_name = "FILE")]
    flame: Option<PathBuf>,
    /// Write the stacks folded, for tools that draw flame graphs to walk about in
    #[arg(long, value_name = "FILE")]
    folded: Option<PathBuf>,
    /// What the text is sorted by and the flame graph shows
    #[arg(long, value_enum, default_value = "live", value_name = "KIND")]
    kind: Kind,
    /// Stacks to print
    #[arg(long, default_value_t = 20, value_name = "STACKS")]
    top: usize,
}

fn read(file: &Path) -> Result<Dump, Refusal> {
    let what = || format!("cannot read {}", file.display());
    let text = std::fs::read_to_string(file).map_err(Refusal::of(what()))?;
    Dump::parse(&text).map_err(|why| Refusal(format!("{}: {why}", file.display())))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Refusal> {
    std::fs::write(file, bytes).map_err(Refusal::of(format_args!("cannot write {}", file.display())))
}

/// See the module.
pub fn run(arguments: &Arguments) -> Result<(), Refusal> {
    let dump = read(&arguments.dump)?;
    let mut symbols = Symbols::default();
    let mut tally = Tally::of(&dump, &mut symbols);
    if let Some(base) = &arguments.base {
        tally.subtract(&Tally::of(&read(base)?, &mut symbols));
    }
    if let Some(file) = &arguments.output {
        write(file, &pprof::encode(&dump, &tally)?)?;
    }
    if let Some(file) = &arguments.flame {
        let stacks = flame::stacks(&tally, arguments.kind);
        write(file, flame::draw(flame::title(arguments.kind), "bytes", &stacks)?.as_bytes())?;
    }
    if let Some(file) = &arguments.folded {
        write(file, flame::folded(&flame::stacks(&tally, arguments.kind)).as_bytes())?;
    }
    let files = [&arguments.output, &arguments.flame, &arguments.folded];
    let asks_for_nothing = files.iter().all(|file| file.is_none()) && !arguments.leaks;
    let mut said = String::new();
    if arguments.text || asks_for_nothing {
        said += &text::stacks(&dump, &tally, arguments.kind, arguments.top);
    }
    if arguments.leaks {
        said += &text::leaks(&dump, &tally, arguments.top);
    }
    let _ = std::io::Write::write_all(&mut std::io::stdout(), said.as_bytes());
    Ok(())
}
