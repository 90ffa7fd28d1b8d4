//! One self-contained HTML page: style and pictures inline, no script, readable in light and in dark.

use std::path::Path;

use super::plot::escape;
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
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style></head>\n\
         <body><h1>{0}</h1>\n<p>{1}<br>commit {2}, {3}, load {4:.2} before and {5:.2} after, \
         {6:.2} processors busy with others, took {7:.0} s.</p>\n",
        escape(&title),
        escape(&Machine::look().describe()),
        escape(&began.commit),
        escape(&began.date),
        began.load,
        machine::load_average(),
        began.by_others(),
        began.seconds(),
    );
    if outcomes.len() > 1 {
        page += "<nav>";
        for one in outcomes {
            page += &format!("<a href=\"#{0}\">{0}</a>", escape(&one.command));
        }
        page += "</nav>\n";
    }
    let promised: Vec<_> = outcomes.iter().flat_map(|one| one.targets.clone()).collect();
    if !promised.is_empty() {
        page += &table(&outcome::targets(&promised));
    }
    for one in outcomes {
        page += &format!("<h2 id=\"{0}\">{0}</h2>\n", escape(&one.command));
        for note in &one.notes {
            page += &format!("<p class=\"note\">{}</p>\n", escape(note));
        }
        for each in &one.tables {
            page += &table(each);
        }
        for plot in &one.plots {
            let caption = escape(&plot.title);
            page += &format!("<figure><figcaption>{caption}</figcaption>\n{}</figure>\n", plot.svg());
        }
    }
    page + "</body></html>\n"
}

fn table(table: &Table) -> String {
    let class = |column: usize| if table.is_numeric(column) { " class=\"number\"" } else { "" };
    let mut html = format!("<h3>{}</h3>\n", escape(&table.title));
    if !table.note.is_empty() {
        html += &format!("<p class=\"note\">{}</p>\n", escape(&table.note));
    }
    html += "<div class=\"wide\"><table><tr>";
    for (column, cell) in table.head.iter().enumerate() {
        html += &format!("<th{}>{}</th>", class(column), escape(cell));
    }
    html += "</tr>\n";
    for row in &table.rows {
        html += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let class = match cell.as_str() {
                "MISSED" | "behind glibc" => " class=\"bad\"",
                "met" | "first" => " class=\"good\"",
                _ => class(column),
            };
            html += &format!("<td{class}>{}</td>", escape(cell));
        }
        html += "</tr>\n";
    }
    html + "</table></div>\n"
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
