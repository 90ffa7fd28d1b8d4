//! One self-contained HTML page: style and pictures inline, no script, readable in light and in dark.

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::table::Table;
use crate::machine::{self, Machine, Moment};
use crate::outcome::{self, Outcome, Refusal};

/// The page's file name in its directory.
pub const NAME: &str = "index.html";

const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 62em; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.25em; margin-top: 2.2em; border-bottom: 1px solid #8886; }
h3 { font-size: 1.05em; }
p, figcaption, h3 { overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9em; }
th, td { padding: 0.2em 0.7em; text-align: left; border-bottom: 1px solid #8883; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.bad { color: #d84a4a; font-weight: 600; } td.good { color: #2ca05a; }
svg { max-width: 100%; height: auto; display: block; } figure { margin: 1.2em 0; }
figcaption { font-weight: 600; }
.note { opacity: 0.8; } nav a { margin-right: 1em; } code { font-size: 0.95em; }
";

/// Writes the page for these outcomes into the directory.
pub fn write(directory: &Path, outcomes: &[&Outcome], began: &Moment) -> Result<(), Refusal> {
    let file = directory.join(NAME);
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(&file, html(outcomes, began)))
        .map_err(Refusal::of(format_args!("cannot write {}", file.display())))?;
    Ok(())
}

/// The page.
pub fn html(outcomes: &[&Outcome], began: &Moment) -> String {
    let title = match outcomes {
        [one] => format!("rcumalloc-bench {}", one.command),
        _ => "rcumalloc-bench".to_owned(),
    };
    let promised: Vec<_> = outcomes.iter().flat_map(|one| one.targets.clone()).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p {
                    (Machine::look().describe()) br;
                    (measured(began))
                }
                @if outcomes.len() > 1 {
                    nav {
                        @for one in outcomes { a href={ "#" (one.command) } { (one.command) } " " }
                    }
                }
                @if !promised.is_empty() { (table(&outcome::targets(&promised))) }
                @for one in outcomes { (section(one)) }
            }
        }
    };
    page.into_string() + "\n"
}

/// At which commit and when, and who else used the machine.
fn measured(began: &Moment) -> String {
    format!(
        "commit {}, {}, load {:.2} before and {:.2} after, {:.2} processors busy with others, took {:.0} s.",
        began.commit,
        began.date,
        began.load,
        machine::load_average(),
        began.by_others(),
        began.seconds(),
    )
}

fn section(one: &Outcome) -> Markup {
    html! {
        h2 id=(one.command) { (one.command) }
        @for note in &one.notes { p.note { (note) } }
        @for each in &one.tables { (table(each)) }
        @for plot in &one.plots {
            figure {
                figcaption { (plot.title) }
                (PreEscaped(plot.svg()))
            }
        }
    }
}

fn table(table: &Table) -> Markup {
    let class = |column: usize| table.is_numeric(column).then_some("number");
    let verdict = |cell: &str| match cell {
        "MISSED" | "behind glibc" => Some("bad"),
        "met" | "first" => Some("good"),
        _ => None,
    };
    html! {
        h3 { (table.title) }
        @if !table.note.is_empty() { p.note { (table.note) } }
        div.wide {
            table {
                tr {
                    @for (column, cell) in table.head.iter().enumerate() {
                        th class=[class(column)] { (cell) }
                    }
                }
                @for row in &table.rows {
                    tr {
                        @for (column, cell) in row.iter().enumerate() {
                            td class=[verdict(cell).or(class(column))] { (cell) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::plot::{Bar, Plot};

    #[test]
    fn a_page_needs_nothing_else() {
        let mut table = Table::new("Times <s>", &["name", "s"]);
        table.row(["glibc", "1.0"]);
        let bar = Bar { name: "glibc".into(), median: 1.0, least: 1.0, greatest: 1.0 };
        let outcome = Outcome {
            command: "compare".into(),
            tables: vec![table],
            plots: vec![Plot::bars("Wall", "s", vec![bar])],
            ..Outcome::default()
        };
        let page = html(&[&outcome], &Moment::now());
        assert!(page.contains("Times &lt;s&gt;") && page.contains("<svg") && page.ends_with("</html>\n"));
        for outside in ["<script", "<link", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
