//! A recorded result, and how its figures are written.

use std::path::Path;

use serde_json::Value;

use crate::measure::rounds::Spread;
use crate::outcome::Refusal;

/// A recorded result.
pub struct Recorded {
    pub file: String,
    pub whole: Value,
    pub results: Value,
    /// The command line that made it.
    pub line: String,
}

impl Recorded {
    pub fn read(root: &Path, name: &str) -> Result<Recorded, Refusal> {
        let file = format!("bench/{name}.json");
        let text =
            std::fs::read(root.join(&file)).map_err(Refusal::of(format_args!("cannot read {file}")))?;
        let whole: Value = serde_json::from_slice(&text).map_err(Refusal::of(&file))?;
        let results = whole.get("results").cloned().unwrap_or(Value::Null);
        let line =
            whole["line"].as_str().unwrap_or_default().trim_start_matches("target/release/").to_owned();
        Ok(Recorded { file, whole, results, line })
    }

    /// A part of a report.
    pub fn part(mut self, name: &str) -> Result<Recorded, Refusal> {
        let parts = self.results.as_array().cloned().unwrap_or_default();
        let part = parts.into_iter().find(|part| part["part"] == name);
        let part = part.ok_or_else(|| Refusal(format!("{} has no part {name}", self.file)))?;
        let words = part["line"].as_array().cloned().unwrap_or_default();
        let words: Vec<&str> =
            words.iter().filter_map(Value::as_str).take_while(|word| *word != "--trace").collect();
        self.line = format!("rcumalloc-bench {}", words.join(" "));
        self.results = part["results"].clone();
        Ok(self)
    }

    pub fn commit(&self) -> &str {
        self.whole["commit"].as_str().or(self.whole["about"]["commit"].as_str()).unwrap_or("unknown")
    }

    /// Where the figures are from, above a table.
    pub fn source(&self) -> String {
        let date = self.whole["date"].as_str().or(self.whole["about"]["date"].as_str()).unwrap_or("unknown");
        let line = self.whole["about"]["command"].as_str().unwrap_or(&self.line);
        let line = line.split(" --json").next().unwrap_or_default();
        let said = format!(
            "Recorded with commit `{}` on {date} by `{line}` in [`{1}`](../{1}).",
            self.commit(),
            self.file
        );
        wrapped(&said) + "\n\n"
    }

    /// A row of bench/malloc.json.
    pub fn row(&self, table: &str, name: &str, against: &str) -> Result<&Value, Refusal> {
        let rows = self.whole["rows"].as_array().into_iter().flatten();
        let mut found = rows.filter(|row| row["table"] == table && row["name"] == name);
        let is_it = |row: &&Value| row.get("against").is_none_or(|other| other == against);
        found.find(is_it).ok_or_else(|| Refusal(format!("{} has no row {name}", self.file)))
    }
}

/// Words filled to the width of a page.
pub fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line");
        if line.is_empty() {
            *line += word;
        } else if line.chars().count() + 1 + word.chars().count() <= 110 {
            *line += &format!(" {word}");
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// `1.02 (0.98 to 1.10)`, of a spread as an object or as a list.
pub fn spread(value: &Value) -> String {
    let [median, least, greatest] = match value.as_array() {
        Some(list) => [0, 1, 2].map(|index| number(&list[index])),
        None => ["median", "least", "greatest"].map(|key| number(&value[key])),
    };
    format!("{median:.2} ({least:.2} to {greatest:.2})")
}

pub fn of_rounds(row: &Value, of: impl Fn(&Value) -> f64) -> Option<Spread> {
    Spread::of(row["rounds"].as_array().into_iter().flatten().map(of))
}

pub fn side<'a>(sides: &'a Value, name: &str) -> Option<&'a Value> {
    sides.as_array()?.iter().find(|side| side["name"] == name || side["side"] == name)
}

pub fn lines(head: &str, rows: impl IntoIterator<Item = String>) -> String {
    let columns = head.matches('|').count() - 1;
    let rows: String = rows.into_iter().map(|row| row + "\n").collect();
    format!("{head}\n|{}\n{rows}", "---|".repeat(columns))
}
