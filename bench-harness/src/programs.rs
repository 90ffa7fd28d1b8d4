//! Real programs that are on most machines, each with something to do: some with threads, some without.

use crate::machine;

/// A program and its arguments.
pub struct Real {
    pub name: &'static str,
    /// What must be there.
    program: &'static str,
    /// What brings it on Debian.
    pub package: &'static str,
    pub threads: bool,
    line: fn() -> Vec<String>,
}

impl Real {
    /// Program and arguments.
    pub fn line(&self) -> Vec<String> {
        (self.line)()
    }

    /// Whether the program is there.
    pub fn is_there(&self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(self.program).is_file())
    }
}

pub static ALL: &[Real] = &[
    Real {
        name: "perl-threads",
        program: "perl",
        package: "perl",
        threads: true,
        line: || words(&["/usr/bin/perl", "-e", PERL]),
    },
    Real {
        name: "python3-pool",
        program: "python3",
        package: "python3",
        threads: true,
        line: || words(&["/usr/bin/python3", "-c", PYTHON]),
    },
    Real {
        name: "node-workers",
        program: "node",
        package: "nodejs",
        threads: true,
        line: || words(&["node", "-e", NODE]),
    },
    Real { name: "git-pack", program: "git", package: "git", threads: true, line: git },
    Real {
        name: "sqlite3-sort",
        program: "sqlite3",
        package: "sqlite3",
        threads: true,
        line: || words(&["sqlite3", ":memory:", SQL]),
    },
    Real { name: "xz", program: "xz", package: "xz-utils", threads: true, line: xz },
    Real { name: "gawk", program: "gawk", package: "gawk", threads: false, line: || words(&["gawk", GAWK]) },
    Real { name: "bc", program: "bc", package: "bc", threads: false, line: || shell(BC) },
    Real {
        name: "perl",
        program: "perl",
        package: "perl",
        threads: false,
        line: || words(&["/usr/bin/perl", "-e", HASHES]),
    },
    Real { name: "cc1", program: "gcc", package: "gcc", threads: false, line: || shell(CC) },
    Real { name: "gs", program: "gs", package: "ghostscript", threads: false, line: || shell(GS) },
    Real { name: "picosat", program: "picosat", package: "picosat", threads: false, line: || shell(SAT) },
];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Where input comes from a program.
fn shell(script: &str) -> Vec<String> {
    words(&["sh", "-c", script])
}

/// Strings in hashes and lists, by four interpreters at once.
const PERL: &str = "use threads; my @t = map { my $n = $_; threads->create(sub { my (%c, @l); \
    for my $i (1..60000) { $c{$i % 5000} .= 'x' x ($i % 20); push @l, \"$i-$n\" if $i % 3 == 0 } \
    return scalar(keys %c) + scalar(grep { /7/ } @l) }) } 1..4; my $s = 0; $s += $_->join for @t; print \
    \"$s\\n\"";

const PYTHON: &str = "import concurrent.futures as f, json\n\
    def work(n):\n    d = {str(i): [i, str(i) * 3] for i in range(n)}\n    return \
    len(json.dumps(json.loads(json.dumps(d))))\n\
    with f.ThreadPoolExecutor(4) as pool: print(sum(pool.map(work, [8000] * 8)))";

/// Buffers between workers: V8 has a heap of its own, but buffers, parsers and compilers are of malloc.
const NODE: &str = "const w = require('worker_threads'); const body = `const w = require('worker_threads'); \
    let n = 0; \
    for (let i = 0; i < 20000; i++) { const b = Buffer.alloc(64 + i % 8192, 1); n += b.length; \
    if (i % 100 == 0) n += new Function('a', 'return a + ' + i)(1) } w.parentPort.postMessage(n)`; let sum \
    = 0, left = 3; \
    for (let i = 0; i < 3; i++) new w.Worker(body, { eval: true }).on('message', m => { sum += m; if \
    (--left == 0) console.log(sum) })";

/// A sorter with worker threads.
const SQL: &str = "PRAGMA threads=4; PRAGMA cache_size=200; PRAGMA temp_store=2; \
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200000) \
    SELECT count(*), max(length(s)) FROM (SELECT hex(i * 65537) || hex(i % 977) AS s FROM n ORDER BY s);";

/// Deltas between what this repository's history holds.
fn git() -> Vec<String> {
    let root = machine::root().display().to_string();
    let script = "printf 'HEAD~40..HEAD\\n' | git -C \"$0\" pack-objects --revs --stdout --no-reuse-delta \
        --threads=4 -q | wc -c";
    words(&["sh", "-c", script, &root])
}

fn xz() -> Vec<String> {
    let own = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
    words(&["sh", "-c", "head -c 4000000 \"$0\" | xz -T4 -0 --block-size=256KiB -c", &own])
}

const GAWK: &str = "BEGIN { for (i = 0; i < 150000; i++) { k = i % 20011; t[k] = t[k] \
    substr(\"abcdefghijklmnop\", i % 9, i % 7); \
    if (i % 1000 == 0) { n = split(t[k], parts, \"c\"); total += n } gsub(\"a\", \"bb\", t[k]); if \
    (length(t[k]) > 60) t[k] = \"\" } \
    print length(t), total }";

/// Long numbers, as a factoring program has.
const BC: &str =
    "printf 'scale=0; a=1; for (i=1; i<1500; i++) { a = a*i %% (2^521-1); a = a*a %% (2^521-1) }; a\\n' | bc";

const HASHES: &str = "my (%c, @l); for my $i (1..300000) { $c{$i % 50000} .= 'x' x ($i % 20); push @l, \
    \"$i\" if $i % 3 == 0 } \
    print scalar(keys %c), ' ', scalar(grep { /7/ } sort @l), \"\\n\"";

/// A source of many small functions, compiled.
const CC: &str = "i=0; while [ $i -lt 400 ]; do echo \"int f$i(int a, int *b) { int s = 0; for (int i = 0; \
    i < a; i++) \
    s += b[i] * $i + (s ^ i); return s; }\"; i=$((i+1)); done | gcc -x c -O2 -S -o /dev/null -";

/// Pages of text and lines.
const GS: &str = "printf '%%!PS\\n/Helvetica findfont 9 scalefont setfont 1 1 40 { /p exch def 0 10 700 { \
    /y exch def \
    0 50 500 { dup y moveto (abc) show y add 0 lineto stroke } for } for showpage } for\\n' | gs -q -dBATCH \
    -dNOPAUSE \
    -sDEVICE=ppmraw -r36 -sOutputFile=/dev/null -";

/// Pigeons and holes, which no clever step decides.
const SAT: &str = "gawk 'BEGIN { h=8; p=9; print \"p cnf\", p*h, p+h*p*(p-1)/2; for (i=0;i<p;i++) { for \
    (j=1;j<=h;j++) \
    printf \"%d \", i*h+j; print 0 } for (j=1;j<=h;j++) for (i=0;i<p;i++) for (k=i+1;k<p;k++) print \
    -(i*h+j), -(k*h+j), 0 }' \
    | picosat -n; echo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_six_have_threads() {
        let names: std::collections::HashSet<_> = ALL.iter().map(|real| real.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert_eq!(ALL.iter().filter(|real| real.threads).count(), 6);
        assert!(ALL.iter().all(|real| !real.line().is_empty()));
    }
}
