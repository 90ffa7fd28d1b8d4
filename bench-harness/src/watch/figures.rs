//! What a process has published, by name.

use std::collections::BTreeMap;

use procfs::process::Process;
use serde::Deserialize;
use serde_json::Value;

use super::area::{Area, now_ns};

/// One look at one process.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub pid: i32,
    pub name: String,
    /// When it was published, nanoseconds of the monotonic clock.
    pub at_ns: u64,
    /// How long before the look that was, nanoseconds.
    pub age_ns: u64,
    /// Figures as the library writes them: `rcumalloc-stats.schema.json`.
    pub json: String,
    /// The same in Prometheus' format.
    pub prometheus: String,
    pub figures: Figures,
    pub stalls: Vec<Stall>,
    /// What the kernel says the process has resident, in bytes; 0: it does not say.
    pub rss_bytes: u64,
}

/// Figures without labels by their name, those with labels by name and label, and the classes.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    plain: BTreeMap<String, u64>,
    labelled: BTreeMap<String, BTreeMap<String, u64>>,
    pub classes: Vec<Class>,
}

/// A size class: blocks.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Class {
    pub block_bytes: u64,
    pub slabs: u64,
    pub live: u64,
    pub cached: u64,
    pub deferred: u64,
    pub in_slabs: u64,
}

/// Sections of one thread that began at one place and held grace periods up.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Stall {
    pub thread: u32,
    pub began: String,
    pub held_ns: u64,
    pub longest_ns: u64,
    pub byte_seconds: u64,
    pub looks: u64,
}

impl Figures {
    /// From the library's JSON. Names that this does not know are kept: a newer library has more.
    pub fn parse(text: &str) -> Result<Figures, String> {
        let bad = |error: serde_json::Error| format!("its figures are no JSON: {error}");
        let Value::Object(object) = serde_json::from_str(text).map_err(bad)? else {
            return Err("its figures are no JSON object".to_owned());
        };
        let mut figures = Figures::default();
        for (name, value) in object {
            match value {
                Value::Number(number) => {
                    figures.plain.insert(name, number.as_u64().unwrap_or(0));
                }
                Value::Object(labels) => {
                    let labels = labels.into_iter().map(|(label, v)| (label, v.as_u64().unwrap_or(0)));
                    figures.labelled.insert(name, labels.collect());
                }
                value if name == "classes" => {
                    figures.classes = serde_json::from_value(value).map_err(bad)?;
                }
                _ => {}
            }
        }
        Ok(figures)
    }

    /// The figure; 0 where the library has none of this name.
    pub fn of(&self, name: &str) -> u64 {
        self.plain.get(name).copied().unwrap_or(0)
    }

    /// All figures of one meaning, by label.
    pub fn labels(&self, name: &str) -> impl Iterator<Item = (&str, u64)> {
        self.labelled.get(name).into_iter().flatten().map(|(label, value)| (label.as_str(), *value))
    }

    /// Figures without labels.
    pub fn plain(&self) -> impl Iterator<Item = (&str, u64)> {
        self.plain.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Families with labels.
    pub fn families(&self) -> impl Iterator<Item = &str> {
        self.labelled.keys().map(String::as_str)
    }
}

impl Snapshot {
    /// From what has been read: figures as JSON, stalls as JSON, figures for Prometheus.
    pub fn new(area: &Area, at_ns: u64, texts: Vec<String>) -> Result<Snapshot, String> {
        let age_ns = now_ns().saturating_sub(at_ns);
        let [json, stalls, prometheus] = texts.try_into().map_err(|_| "its figures are not complete")?;
        Ok(Snapshot {
            pid: area.pid(),
            name: area.name.clone(),
            at_ns,
            age_ns,
            figures: Figures::parse(&json)?,
            stalls: serde_json::from_str(&stalls)
                .map_err(|error| format!("its stalls are no JSON: {error}"))?,
            json,
            prometheus,
            rss_bytes: rss_bytes(area.pid()),
        })
    }
}

fn rss_bytes(pid: i32) -> u64 {
    let status = Process::new(pid).and_then(|process| process.status());
    status.ok().and_then(|status| status.vmrss).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_name() {
        let text = r#"{"live_bytes": 7, "held_bytes": {"open": 1, "shelf": 2}, "new_kind": [1],
            "classes": [{"block_bytes": 16, "slabs": 1, "live": 3, "cached": 2, "deferred": 1, "in_slabs": 9,
            "taken": 5}]}"#;
        let figures = Figures::parse(text).expect("figures");
        assert_eq!((figures.of("live_bytes"), figures.of("nosuch")), (7, 0));
        assert_eq!(figures.labels("held_bytes").collect::<Vec<_>>(), [("open", 1), ("shelf", 2)]);
        assert_eq!((figures.classes[0].live, figures.classes.len()), (3, 1));
        assert!(Figures::parse("[]").is_err() && Figures::parse("{").is_err());
    }
}
