//! `export`: what processes publish, for Prometheus, on the loopback address: what the library writes for
//! each, put together family by family, each sample with the process's number and name as labels.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::ExportArguments;
use super::area::Area;
use super::figures::Snapshot;
use crate::outcome::Refusal;

/// Longest request that is read, in bytes.
const REQUEST_BYTES: u64 = 8192;
/// How long somebody who has connected may take to ask and to listen.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many may be connected: who says nothing makes nobody else wait.
const ASKING: usize = 32;
/// What the format calls itself.
const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until it is ended.
pub fn run(arguments: &ExportArguments) -> Result<(), Refusal> {
    // Said at the start, not to whoever asks later.
    let areas: Vec<Area> =
        arguments.whom.pids.iter().map(|&pid| Area::find(pid)).collect::<Result<_, _>>()?;
    let port = arguments.prometheus;
    let refused = format!("cannot listen at 127.0.0.1:{port}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(Refusal::of(&refused))?;
    let port = listener.local_addr().map_err(Refusal::of(&refused))?.port();
    println!("rcumalloc-bench: serving http://127.0.0.1:{port}/metrics");
    let asking = Arc::new(());
    for connection in listener.incoming().flatten() {
        if Arc::strong_count(&asking) > ASKING {
            continue; // hung up on
        }
        let (asks, all) = (Arc::clone(&asking), arguments.whom.all);
        let areas = areas.clone();
        let answers = move || {
            let _asks = asks;
            let areas = if all { Area::all() } else { areas };
            // Somebody who has hung up is no reason to end.
            let _ = answer(connection, &areas);
        };
        // Where no thread is to be had this one is hung up on, too.
        let _ = std::thread::Builder::new().spawn(answers);
    }
    Ok(())
}

fn answer(mut connection: TcpStream, areas: &[Area]) -> std::io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(connection.try_clone()?.take(REQUEST_BYTES)).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    // Up to the empty line: what is closed with something unread is reset.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split_whitespace();
    let (status, body) = match (words.next(), words.next()) {
        (Some("GET"), Some("/metrics")) => {
            let looks: Vec<Snapshot> = areas.iter().filter_map(|area| area.look().ok()).collect();
            ("200 OK", together(&looks))
        }
        (Some("GET"), Some(_)) => ("404 Not Found", "the figures are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {TYPE}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(body.as_bytes())
}

/// A family: its HELP and its TYPE, and the samples of all processes.
#[derive(Default)]
struct Family {
    head: Vec<String>,
    samples: Vec<String>,
}

/// The texts of several processes as one: a family may appear but once.
fn together(looks: &[Snapshot]) -> String {
    let mut order: Vec<String> = Vec::new();
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for look in looks {
        let labels = format!("pid=\"{}\",process=\"{}\"", look.pid, escape(&look.name));
        let mut name = String::new();
        let mut is_first = false;
        for line in look.prometheus.lines() {
            if let Some(head) = line.strip_prefix("# ") {
                let called = head.split(' ').nth(1).unwrap_or_default();
                if called != name {
                    name = called.to_owned();
                    is_first = !families.contains_key(&name);
                    if is_first {
                        order.push(name.clone());
                    }
                }
                let family = families.entry(name.clone()).or_default();
                if is_first {
                    family.head.push(line.to_owned());
                }
            } else if let Some(family) = families.get_mut(&name) {
                family.samples.extend(labelled(line, &labels));
            }
        }
    }
    let parts = order.iter().filter_map(|name| families.get(name));
    let lines = parts.flat_map(|family| family.head.iter().chain(&family.samples));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// `name{a="b"} 1` or `name 1` with more labels.
fn labelled(sample: &str, labels: &str) -> Option<String> {
    let (name, value) = sample.rsplit_once(' ')?;
    Some(match name.split_once('{') {
        Some((name, more)) => format!("{name}{{{labels},{more} {value}"),
        None => format!("{name}{{{labels}}} {value}"),
    })
}

/// As a value of a label.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::figures::Figures;

    #[test]
    fn families_appear_once() {
        let look = |pid, name: &str| Snapshot {
            pid,
            name: name.to_owned(),
            at_ns: 0,
            age_ns: 0,
            json: String::new(),
            prometheus: "# HELP r_a A.\n# TYPE r_a gauge\nr_a 1\n# HELP r_b B.\n# TYPE r_b histogram\n\
                         r_b_bucket{le=\"+Inf\"} 2\nr_b_sum 3\n"
                .to_owned(),
            figures: Figures::default(),
            stalls: Vec::new(),
            rss_bytes: 0,
        };
        let text = together(&[look(1, "x"), look(2, "a\"b")]);
        let expected = "# HELP r_a A.\n# TYPE r_a gauge\nr_a{pid=\"1\",process=\"x\"} 1\n\
            r_a{pid=\"2\",process=\"a\\\"b\"} 1\n# HELP r_b B.\n# TYPE r_b histogram\n\
            r_b_bucket{pid=\"1\",process=\"x\",le=\"+Inf\"} 2\nr_b_sum{pid=\"1\",process=\"x\"} 3\n\
            r_b_bucket{pid=\"2\",process=\"a\\\"b\",le=\"+Inf\"} 2\nr_b_sum{pid=\"2\",process=\"a\\\"b\"} \
            3\n";
        assert_eq!(text, expected);
    }
}
