//! A page of Markdown: where, when and how something was measured, and then what the terminal shows.

use crate::machine::{self, Machine, Moment};
use crate::outcome::{self, Outcome};

pub fn page(title: &str, outcome: &Outcome, began: &Moment) -> String {
    let line: Vec<String> = std::env::args().skip(1).collect();
    let mut text = format!(
        "# {title}, measured\n\nWritten by `rcumalloc-bench {}`.\n\n- {}; {}; commit {}\n\
         - load average {:.2} before, {:.2} after; other processes kept {:.2} processors busy meanwhile\n",
        line.join(" "),
        Machine::look().describe(),
        began.date,
        began.commit,
        began.load,
        machine::load_average(),
        began.by_others(),
    );
    for note in &outcome.notes {
        text += &format!("- {note}\n");
    }
    for table in outcome.tables.iter().chain([&outcome::targets(&outcome.targets)]) {
        text += &format!("\n{}", table.markdown());
    }
    text
}
