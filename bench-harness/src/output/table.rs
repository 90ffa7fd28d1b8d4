//! A table: a title, a head, rows of text. Printed with comfy-table, kept as plain strings.

use comfy_table::{CellAlignment, ContentArrangement, presets};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Table {
    pub title: String,
    /// One or two sentences under the title: units, which direction is better.
    pub note: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(title: impl Into<String>, head: &[&str]) -> Table {
        Table {
            title: title.into(),
            note: String::new(),
            head: head.iter().map(|&cell| cell.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// With a note under the title.
    pub fn note(mut self, note: impl Into<String>) -> Table {
        self.note = note.into();
        self
    }

    /// Adds a row; short rows are filled up with empty cells.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.head.len().max(row.len()), String::new());
        self.rows.push(row);
    }

    /// For the terminal. A column whose cells begin with digits is set flush right.
    pub fn text(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(&self.head);
        for row in &self.rows {
            table.add_row(row);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            if self.is_numeric(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let note = if self.note.is_empty() { String::new() } else { format!("{}\n", self.note) };
        format!("{}\n{note}{table}", self.title)
    }

    /// For a page of documentation.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rules: Vec<&str> =
            (0..self.head.len()).map(|column| if self.is_numeric(column) { "--:" } else { "---" }).collect();
        let mut text = format!("## {}\n\n{}|{}|\n", self.title, line(&self.head), rules.join("|"));
        self.rows.iter().for_each(|row| text += &line(row));
        if !self.note.is_empty() {
            text += &format!("\n{}\n", self.note);
        }
        text
    }

    /// Whether every cell of the column that says anything begins as a number does.
    pub fn is_numeric(&self, column: usize) -> bool {
        let said = self.rows.iter().filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty());
        let numeric =
            |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-') || cell == "n/a";
        said.clone().next().is_some() && said.clone().all(numeric)
    }
}

/// A quantity with three significant digits and a decimal prefix: `12.3M`.
pub fn short(value: f64) -> String {
    let (scaled, prefix) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    match scaled.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{scaled:.0}{prefix}"),
        v if v >= 10.0 => format!("{scaled:.1}{prefix}"),
        _ => format!("{scaled:.2}{prefix}"),
    }
}

/// Kibibytes as KiB, MiB or GiB.
pub fn kib(value: f64) -> String {
    match value {
        v if v >= 1024.0 * 1024.0 => format!("{:.2} GiB", v / 1024.0 / 1024.0),
        v if v >= 10.0 * 1024.0 => format!("{:.1} MiB", v / 1024.0),
        v => format!("{v:.0} KiB"),
    }
}

/// Nanoseconds as ns, µs or ms.
pub fn nanoseconds(value: f64) -> String {
    match value {
        v if v >= 1e7 => format!("{:.1} ms", v / 1e6),
        v if v >= 1e4 => format!("{:.1} µs", v / 1e3),
        v => format!("{v:.0} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_three_digits() {
        let shown: Vec<_> = [0.0, 0.5, 999.0, 12_345.0, 2.5e6, 1e9].into_iter().map(short).collect();
        assert_eq!(shown, ["0", "0.50", "999", "12.3k", "2.50M", "1.00G"]);
        assert_eq!([kib(10.0), kib(20480.0), kib(3145728.0)], ["10 KiB", "20.0 MiB", "3.00 GiB"]);
        assert_eq!(
            [nanoseconds(40.0), nanoseconds(25_000.0), nanoseconds(2e7)],
            ["40 ns", "25.0 µs", "20.0 ms"]
        );
    }

    #[test]
    fn short_rows_are_filled_and_numbers_flush_right() {
        let mut table = Table::new("t", &["name", "value"]).note("more is better");
        table.row(["a"]);
        table.row(["b", "12"]);
        assert_eq!(table.rows[0], ["a", ""]);
        assert!(table.is_numeric(1) && !table.is_numeric(0));
        let text = table.text();
        assert!(text.starts_with("t\nmore is better\n"), "{text}");
        assert!(text.contains("name") && text.contains("12"), "{text}");
        let page = "## t\n\n| name | value |\n|---|--:|\n| a |  |\n| b | 12 |\n\nmore is better\n";
        assert_eq!(table.markdown(), page);
    }
}
