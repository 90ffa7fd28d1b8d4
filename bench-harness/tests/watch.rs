//! A running process looked at from outside: what the commands say is what the program did, what the kernel
//! says, and what parsers that others wrote make of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

mod common;
use common::{Scratch, bench, library, out, refusal};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program of three steps: it has next to nothing, 40 MB in blocks of 1000 bytes, nothing again. It goes on
/// when it is told to.
const PROGRAM: &str = "
import sys
def step(name):
    sys.stdout.write(name + '\\n'); sys.stdout.flush(); sys.stdin.readline()
step('little')
blocks = [bytes(967) for _ in range(40000)]
step('much')
del blocks
step('nothing')
";
/// What a block of the program's has: 967 bytes, and what Python puts before and behind; as its class has it.
const BLOCK: u64 = 1024;
const BLOCKS: u64 = 40_000;

/// A program under the library.
struct Watched {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Watched {
    fn start(watch: Option<&str>) -> Watched {
        let mut command = Command::new("python3");
        command.args(["-c", PROGRAM]).env("LD_PRELOAD", library()).env("PYTHONMALLOC", "malloc");
        command.env_remove("RCUMALLOC_WATCH");
        if let Some(when) = watch {
            command.env("RCUMALLOC_WATCH", when);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 starts");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut watched = Watched { child, stdin, stdout };
        watched.is_at("little");
        watched
    }

    fn is_at(&mut self, step: &str) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), step);
    }

    fn go_on(&mut self, step: &str) {
        self.stdin.write_all(b"\n").expect("it listens");
        self.is_at(step);
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// What the kernel says it has resident, in bytes.
    fn rss(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    fn stats(&self) -> Value {
        let output = bench(&["stats", &self.pid(), "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&out(&output)).expect("JSON")
    }
}

/// The reader that takes its time is the one that is drawn, by the name of its function.
#[test]
fn who_stalls_is_drawn() {
    let scratch = Scratch::new("stalls");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (program, picture) = (scratch.file("exchange"), scratch.file("stalls.svg"));
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-g", "-pthread", "-D_GNU_SOURCE", "-o", &program, "-I"])
        .arg(root.join("preload/include"));
    cc.arg("-I").arg(root.join("tests/programs")).arg(root.join("tests/programs/exchange.c"));
    assert!(cc.status().expect("a compiler").success());
    let mut command = Command::new(&program);
    command.arg("120").env("LD_PRELOAD", library()).env("RCUMALLOC_WATCH", "1");
    let mut child = command.env("RCUMALLOC_GP_AGE_MS", "50").spawn().expect("it starts");
    let (pid, begun) = (child.id().to_string(), Instant::now());
    let text = loop {
        let output = bench(&["stalls", &pid]);
        let text = out(&output);
        if text.contains("read_slowly ") || begun.elapsed() > PATIENCE {
            break text;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let drawn = bench(&["stalls", &pid, "--flame", &picture]);
    child.kill().and_then(|()| child.wait()).expect("it runs");
    let line = text.lines().find(|line| line.contains(";read_slowly ")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.starts_with("thread ") && !line.ends_with(" 0"), "{text}");
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    let picture = std::fs::read_to_string(picture).expect("a picture");
    assert!(picture.contains("<title>read_slowly: ") && picture.contains("byte seconds"), "{picture}");
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn live_of_class(stats: &Value) -> u64 {
    let classes = stats["classes"].as_array().expect("classes");
    let class = classes.iter().find(|class| class["block_bytes"] == BLOCK);
    class.map_or(0, |class| class["live"].as_u64().expect("a count"))
}

#[test]
fn figures_are_what_the_program_did() {
    let mut watched = Watched::start(Some("USR2"));
    let (before, rss_before) = (watched.stats(), watched.rss());
    watched.go_on("much");
    let (much, rss) = (watched.stats(), watched.rss());
    let grown = live_of_class(&much) - live_of_class(&before);
    assert!((BLOCKS..BLOCKS + 100).contains(&grown), "{grown} blocks more");
    // The kernel has never heard of blocks, and says the same within a tenth.
    let bytes = |stats: &Value| stats["live_bytes"].as_u64().expect("a figure");
    let (live, resident) = (bytes(&much) - bytes(&before), rss - rss_before);
    assert!(live.abs_diff(resident) < live / 10, "{live} bytes live, {resident} resident");
    assert!(bytes(&much) <= much["mapped_bytes"].as_u64().expect("a figure"));
    watched.go_on("nothing");
    let left = live_of_class(&watched.stats());
    assert!(left < live_of_class(&before) + 100, "{left} blocks left");
}

/// The library's Prometheus text of two processes as one, read by the client library's own parser.
#[test]
fn prometheus_reads_the_export() {
    let mut watched = [Watched::start(Some("USR2")), Watched::start(Some("USR2"))];
    watched[1].go_on("much");
    let mut export = Command::new(env!("CARGO_BIN_EXE_rcumalloc-bench"))
        .args(["export", "--prometheus", ":0", &watched[0].pid(), &watched[1].pid()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the harness starts");
    let mut line = String::new();
    BufReader::new(export.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    let address = line.trim().trim_start_matches("rcumalloc-bench: serving http://");
    let (host, path) = address.split_once('/').expect("an address");
    assert!(host.starts_with("127.0.0.1:"), "{host}");
    let ask = |request: String| {
        let mut connection = TcpStream::connect(host).expect("it listens");
        connection.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("it answers");
        answer
    };
    // Who is connected and says nothing makes nobody wait: it is still there when others have their answers.
    let mut silent = TcpStream::connect(host).expect("it listens");
    let answer = ask(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    silent.set_nonblocking(true).expect("a socket");
    let hung_up = silent.read(&mut [0]);
    assert!(
        hung_up.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "who is silent was first"
    );
    let missing = ask("GET /nosuch HTTP/1.1\r\n\r\n".to_owned());
    let strange = ask("hello\r\n\r\n".to_owned());
    let _ = export.kill();
    let _ = export.wait();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(missing.starts_with("HTTP/1.1 404 ") && strange.starts_with("HTTP/1.1 405 "));
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    let parser = "
import sys
from prometheus_client.parser import text_string_to_metric_families
seen = set()
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.name not in seen, family.name
    assert family.documentation and family.type in ('gauge', 'counter', 'histogram'), family
    seen.add(family.name)
    for sample in family.samples:
        assert sample.labels['process'] == 'python3', sample
        if sample.name == 'rcumalloc_class_blocks' and sample.labels['block_bytes'] == '1024':
            print(sample.labels['pid'], sample.labels['place'], int(sample.value))
assert len(seen) > 50, len(seen)
";
    // Debian's own, which has the package.
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", parser])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    python.stdin.take().expect("piped").write_all(body.as_bytes()).expect("it reads");
    let output = python.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{body}");
    let live = |watched: &Watched| {
        let said = out(&output);
        let start = format!("{} live ", watched.pid());
        let line = said.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned));
        line.map_or(0, |number| number.parse::<u64>().expect("a number"))
    };
    let more = live(&watched[1]) - live(&watched[0]);
    assert!((BLOCKS - 100..BLOCKS + 100).contains(&more), "{more} blocks more");
}

/// A terminal that is kept by tmux.
struct Screen {
    socket: String,
}

impl Screen {
    fn open(line: &[&str]) -> Screen {
        let socket = format!("rcumalloc-{}", std::process::id());
        let screen = Screen { socket };
        let mut words = vec!["-f", "/dev/null", "new-session", "-d", "-x", "118", "-y", "40"];
        // A shell stays, and says how it ended.
        let line =
            format!("{} {}; echo status $?; read end", env!("CARGO_BIN_EXE_rcumalloc-bench"), line.join(" "));
        words.push(&line);
        screen.tmux(&words);
        screen
    }

    fn tmux(&self, words: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.socket]).args(words).output();
        out(&output.expect("tmux starts (scripts/setup installs it)"))
    }

    /// Waits until the screen is as wanted.
    fn until(&self, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = self.tmux(&["capture-pane", "-p"]);
            if wanted(&shown) {
                return shown;
            }
            assert!(Instant::now() < until, "{shown}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Blocks of the program's class that the screen says are live.
fn shown_live(screen: &str) -> Option<u64> {
    screen.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|&word| word == "1024" || word == "│1024")?;
        words.get(at + 1)?.parse().ok()
    })
}

#[test]
fn top_shows_what_the_program_does() {
    let mut watched = Watched::start(Some("USR2"));
    let screen = Screen::open(&["top", &watched.pid(), "--every", "0.1"]);
    let title = format!("python3 {}", watched.pid());
    let parts =
        ["Memory", "Work", "Classes, in blocks", "Pages", "Readers that stall", "grace periods a second"];
    // All at once: a screen may be looked at while it is drawn for the first time.
    screen.until(|shown| shown.contains(&title) && parts.iter().all(|part| shown.contains(part)));
    // Not among the classes that hold most: it may be below the screen.
    let before = live_of_class(&watched.stats());
    watched.go_on("much");
    screen.until(|shown| {
        shown_live(shown).is_some_and(|live| (before + BLOCKS..before + BLOCKS + 100).contains(&live))
    });
    // Paused it shows what was, whatever the program does.
    screen.tmux(&["send-keys", "p"]);
    screen.until(|shown| shown.contains("paused"));
    watched.go_on("nothing");
    std::thread::sleep(Duration::from_millis(300));
    assert!(shown_live(&screen.tmux(&["capture-pane", "-p"])).is_some_and(|live| live >= before + BLOCKS));
    screen.tmux(&["send-keys", "p"]);
    screen.until(|shown| shown_live(shown).is_none_or(|live| live < before + 100));
    // It says when the process has ended, and ends.
    drop(watched);
    screen.until(|shown| shown.contains(": it has ended\nstatus 2\n"));
}

#[test]
fn a_page_is_plotted() {
    let scratch = Scratch::new("plot");
    let page = scratch.file("x.html");
    let watched = Watched::start(Some("USR2"));
    let line = ["plot", &watched.pid(), "--seconds", "1", "--every", "0.1", "-o", &page];
    let output = bench(&line);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&page).expect("the page");
    // At rest it has memory, and nothing else to draw.
    assert!(text.contains("Memory</figcaption><svg") && text.contains("live_bytes"), "{text}");
    for outside in ["<script", "<link", "src=", "@import", "url("] {
        assert!(!text.contains(outside), "{outside}");
    }
    assert!(refusal(&["plot", &watched.pid(), "-o", "/no/such/directory/x"]).starts_with("cannot write"));
}

#[test]
fn what_cannot_be_looked_at_is_one_line() {
    let unwatched = Watched::start(None);
    let line = refusal(&["stats", &unwatched.pid()]);
    assert_eq!(
        line,
        format!("process {}: it is not watched: start it with RCUMALLOC_WATCH=1", unwatched.pid())
    );
    assert!(
        refusal(&["stats", &std::process::id().to_string()]).contains("does not run under librcumalloc.so")
    );
    assert_eq!(refusal(&["stats", "2147483647"]), "process 2147483647: there is no such process");
    let mut ended = Watched::start(Some("1"));
    // Not waited for yet: it is there and has nothing.
    ended.child.kill().expect("it runs");
    while !std::fs::read_to_string(format!("/proc/{}/stat", ended.pid()))
        .is_ok_and(|stat| stat.contains(") Z"))
    {
        std::thread::yield_now();
    }
    assert_eq!(refusal(&["stats", &ended.pid()]), format!("process {}: it has ended", ended.pid()));
    assert!(refusal(&["export", "--prometheus", "x", "--all"]).contains("not a port"));
    assert!(refusal(&["top"]).contains("required"));
    assert!(refusal(&["top", "--all", "--every", "0"]).contains("--every"));
}

/// A child of a fork is not taken for its parent.
#[test]
fn a_forked_child_says_its_own() {
    let program = "
import os, sys, time
blocks = [bytes(967) for _ in range(1000)]
child = os.fork()
if child == 0:
    blocks += [bytes(967) for _ in range(5000)]
    sys.stdout.write('%d\\n' % os.getpid()); sys.stdout.flush()
    time.sleep(1000)
os.waitpid(child, 0)
";
    let mut parent = Command::new("python3")
        .args(["-c", program])
        .env("LD_PRELOAD", library())
        .env("PYTHONMALLOC", "malloc")
        .env("RCUMALLOC_WATCH", "USR2")
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut line = String::new();
    BufReader::new(parent.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let child = line.trim().to_owned();
    let live = |pid: &str| {
        let output = bench(&["stats", pid, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        live_of_class(&serde_json::from_str(&out(&output)).expect("JSON"))
    };
    let (of_child, of_parent) = (live(&child), live(&parent.id().to_string()));
    let _ = Command::new("kill").args(["-9", &child]).status();
    let _ = parent.wait();
    let more = of_child - of_parent;
    assert!((4900..5100).contains(&more), "{more} blocks more");
}
