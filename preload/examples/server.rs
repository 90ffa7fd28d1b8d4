//! A server whose threads answer from a table that is replaced while they do. A table has a destructor that
//! readers must not see (it closes a log), so the old one is retired and not dropped.
//!
//!     cargo run --release -p rcumalloc --example server

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

#[global_allocator]
static HEAP: rcumalloc::RcuMalloc = rcumalloc::RcuMalloc;

static CLOSED: AtomicU64 = AtomicU64::new(0);

/// What the server answers from.
struct Table {
    version: u64,
    answers: HashMap<String, String>,
    is_open: AtomicBool,
}

impl Table {
    fn new(version: u64) -> *mut Table {
        let answers = (0..50).map(|key| (format!("key{key}"), format!("{version}/{key}"))).collect();
        Box::into_raw(Box::new(Table { version, answers, is_open: AtomicBool::new(true) }))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.is_open.store(false, Ordering::Relaxed);
        CLOSED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Answers a connection, a line for each line.
fn serve(connection: TcpStream, current: &AtomicPtr<Table>) -> std::io::Result<()> {
    let mut output = connection.try_clone()?;
    for line in BufReader::new(connection).lines() {
        let line = line?;
        let answer = {
            let _section = rcumalloc::read();
            // SAFETY: what a section has seen is not dropped before it ends.
            let table = unsafe { &*current.load(Ordering::Acquire) };
            let answer = table.answers.get(&line).cloned();
            assert!(
                table.is_open.load(Ordering::Relaxed),
                "version {} was closed under a reader",
                table.version
            );
            answer.unwrap_or_else(|| "unknown".to_owned())
        };
        // Outside the section: a client that does not read holds nobody up.
        output.write_all(format!("{answer}\n").as_bytes())?;
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    const CLIENTS: usize = 3;
    const QUESTIONS: usize = 2000;
    const VERSIONS: u64 = 500;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let current = Arc::new(AtomicPtr::new(Table::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            std::thread::spawn(move || -> std::io::Result<usize> {
                let mut output = TcpStream::connect(address)?;
                let mut input = BufReader::new(output.try_clone()?);
                let mut line = String::new();
                for question in 0..QUESTIONS {
                    let key = question % 50;
                    output.write_all(format!("key{key}\n").as_bytes())?;
                    line.clear();
                    input.read_line(&mut line)?;
                    assert!(line.trim_end().ends_with(&format!("/{key}")), "{line}");
                }
                Ok(QUESTIONS)
            })
        })
        .collect();
    let mut servers = Vec::new();
    for _ in 0..CLIENTS {
        let (connection, _) = listener.accept()?;
        let current = current.clone();
        servers.push(std::thread::spawn(move || serve(connection, &current)));
    }
    for version in 1..=VERSIONS {
        let old = current.swap(Table::new(version), Ordering::AcqRel);
        // SAFETY: it is no longer published, and only this thread retires.
        rcumalloc::retire(unsafe { Box::from_raw(old) });
    }
    let mut answered = 0;
    for client in clients {
        answered += client.join().expect("a client ends")?;
    }
    for server in servers {
        server.join().expect("a server ends")?;
    }
    rcumalloc::barrier();
    assert_eq!(CLOSED.load(Ordering::Relaxed), VERSIONS);
    println!("{answered} answers from {VERSIONS} tables, none of which was closed under a reader");
    // SAFETY: the servers have ended.
    drop(unsafe { Box::from_raw(current.load(Ordering::Relaxed)) });
    Ok(())
}
