//! Manual pages, made from what is written anyway: `rcumalloc(7)` from the README and docs/, `rcumalloc.h(3)`
//! from the header, `rcumalloc-bench(1)` from the command line itself. They lie in docs/man/, and a test sees
//! that they are what this makes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Command};

use crate::outcome::Refusal;

/// Writes the manual pages into a directory.
#[derive(Args)]
pub struct Arguments {
    /// Where to
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// The repository that this was built from.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// See the module.
pub fn run(arguments: &Arguments, command: Command) -> Result<(), Refusal> {
    let bench = bench(command).map_err(Refusal::of("rcumalloc-bench.1"))?;
    let pages = [("rcumalloc.7", overview()?), ("rcumalloc.h.3", header()?), ("rcumalloc-bench.1", bench)];
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory)
        .map_err(Refusal::of(format_args!("cannot make {}", directory.display())))?;
    for (name, text) in pages {
        let file = directory.join(name);
        std::fs::write(&file, text).map_err(Refusal::of(format_args!("cannot write {}", file.display())))?;
    }
    Ok(())
}

fn source(name: &str) -> Result<String, Refusal> {
    let file = Path::new(ROOT).join(name);
    std::fs::read_to_string(&file).map_err(Refusal::of(format_args!("cannot read {}", file.display())))
}

fn title(name: &str, section: u32, what: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let name = name.to_uppercase();
    format!(
        ".\\\" Made by rcumalloc-bench man.\n.TH \"{name}\" \"{section}\" \"\" \"rcumalloc {version}\" \
         \"{what}\"\n"
    )
}

/// The command and every subcommand with its options.
fn bench(command: Command) -> std::io::Result<String> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut page = title("rcumalloc-bench", 1, "User Commands").into_bytes();
    let man = clap_mangen::Man::new(command.clone());
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    for subcommand in command.get_subcommands().filter(|each| !each.is_hide_set()) {
        let mut part = Vec::new();
        let name = subcommand.get_name().to_owned();
        // What all have is said once, above.
        let own = subcommand.clone().mut_args(|argument| {
            let is_common = argument.is_global_set();
            argument.hide(is_common)
        });
        let man = clap_mangen::Man::new(own);
        man.render_description_section(&mut part)?;
        man.render_synopsis_section(&mut part)?;
        man.render_options_section(&mut part)?;
        let part = String::from_utf8_lossy(&part);
        let _ = writeln!(page, ".SH \"{}\"", name.to_uppercase());
        for line in part.lines().filter(|line| !line.starts_with(".SH DESCRIPTION")) {
            page += &line.replace(".SH ", ".SS ");
            page.push('\n');
        }
    }
    page += ".SH \"SEE ALSO\"\n\\fBrcumalloc\\fP(7), \\fBrcumalloc.h\\fP(3)\n";
    Ok(page)
}

/// What it is, how it is configured, how one sees what it does.
fn overview() -> Result<String, Refusal> {
    let mut page = title("rcumalloc", 7, "Miscellaneous Information");
    page += ".SH NAME\nrcumalloc \\- malloc whose every free waits for a grace period\n";
    page += ".SH SYNOPSIS\n\\fBLD_PRELOAD=librcumalloc.so\\fP \\fIprogram\\fP\n.br\n";
    page += "\\fBcc\\fP \\fIprogram.c\\fP \\fB$(pkg\\-config \\-\\-cflags \\-\\-libs rcumalloc)\\fP\n";
    page += ".SH DESCRIPTION\n";
    let readme = source("README.md")?;
    // Up to the first picture.
    let about: Vec<&str> = readme.lines().skip(1).take_while(|line| !line.starts_with("```")).collect();
    page += &markdown(&about.join("\n"));
    for (heading, file) in [("CONFIGURATION", "docs/configuration.md"), ("SEEING INSIDE", "docs/seeing.md")] {
        let _ = writeln!(page, ".SH \"{heading}\"");
        let text = source(file)?;
        page += &markdown(text.split_once('\n').unwrap_or_default().1);
    }
    page += ".SH \"SEE ALSO\"\n\\fBrcumalloc.h\\fP(3), \\fBrcumalloc\\-bench\\fP(1), ";
    page += "\\fBmalloc\\fP(3), \\fBld.so\\fP(8)\n";
    Ok(page)
}

/// Text that stands for itself.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let text: String = text
        .chars()
        .map(|c| match c {
            '→' => "\\(->".to_owned(),
            '…' => "...".to_owned(),
            'µ' => "\\(mc".to_owned(),
            '≤' => "\\(<=".to_owned(),
            '≥' => "\\(>=".to_owned(),
            '×' => "\\(mu".to_owned(),
            c if c.is_ascii() => c.to_string(),
            c => format!("\\[u{:04X}]", c as u32),
        })
        .collect();
    text
}

/// A line that is no request.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

/// Words with `code`, **weight**, *stress* and [links](to).
fn words(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        out += &plain(&rest[..at]);
        let after = &rest[at..];
        let marked = [("`", "\\fB"), ("**", "\\fB"), ("*", "\\fI")].into_iter().find_map(|(mark, font)| {
            let inner = after.strip_prefix(mark)?;
            let (inner, rest) = inner.split_once(mark)?;
            (!inner.is_empty()).then_some((format!("{font}{}\\fP", plain(inner)), rest))
        });
        let link = || {
            let (name, rest) = after.strip_prefix('[')?.split_once("](")?;
            Some((words(name), rest.split_once(')')?.1))
        };
        let (done, left) = marked.or_else(link).unwrap_or_else(|| (plain(&after[..1]), &after[1..]));
        out += &done;
        rest = left;
    }
    guarded(&(out + &plain(rest)))
}

/// Cells of a table's row: a bar inside a word is written with a stroke before it.
fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    inner.replace("\\|", "\u{1}").split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// What of Markdown the documents use: headings, paragraphs, lists, tables, code.
fn markdown(text: &str) -> String {
    let mut page = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix('#') {
            let _ = writeln!(page, ".SS \"{}\"", plain(heading.trim_start_matches('#').trim()));
        } else if line.starts_with("```") {
            page += ".PP\n.nf\n.RS\n";
            for code in lines.by_ref().take_while(|code| !code.starts_with("```")) {
                page += &guarded(&plain(code));
                page.push('\n');
            }
            page += ".RE\n.fi\n";
        } else if line.starts_with('|') {
            let head = cells(line);
            // The line of dashes.
            lines.next();
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                let row = cells(row);
                let _ = writeln!(page, ".TP\n{}", words(row.first().map_or("", String::as_str)));
                let parts = row.iter().zip(&head).skip(1).filter(|(cell, _)| !cell.is_empty());
                for (index, (cell, head)) in parts.enumerate() {
                    let between = if index == 0 { "" } else { ".br\n" };
                    let _ = match head.as_str() {
                        "default" => writeln!(page, "{between}{}", words(&format!("Default: {cell}."))),
                        _ => writeln!(page, "{between}{}", words(cell)),
                    };
                }
            }
        } else if let Some(item) = line.strip_prefix("- ") {
            // Marks may begin on one line and end on another.
            let mut item = item.to_owned();
            while let Some(more) = lines.next_if(|line| line.starts_with("  ")) {
                item = item + " " + more.trim();
            }
            let _ = match item.split_once("`: ").filter(|_| item.starts_with('`')) {
                Some((term, says)) => writeln!(page, ".TP\n{}\n{}", words(&format!("{term}`")), words(says)),
                None => writeln!(page, ".IP \\(bu 2\n{}", words(&item)),
            };
        } else if !line.trim().is_empty() && !line.starts_with("![") && !line.starts_with("<!--") {
            // Marks may begin on one line and end on another.
            let mut paragraph = line.to_owned();
            let goes_on = |line: &&str| {
                !line.trim().is_empty()
                    && !line.starts_with(['#', '|'])
                    && !line.starts_with("- ")
                    && !line.starts_with("```")
            };
            while let Some(more) = lines.next_if(goes_on) {
                paragraph.push(' ');
                paragraph += more;
            }
            let _ = writeln!(page, ".PP\n{}", words(&paragraph));
        }
    }
    page
}

/// The header: each comment with the declarations under it.
fn header() -> Result<String, Refusal> {
    let text = source("preload/include/rcumalloc.h")?;
    let mut page = title("rcumalloc.h", 3, "Library Functions");
    page += ".SH NAME\nrcumalloc.h \\- read\\-side sections, grace periods and explicit frees\n";
    page += ".SH SYNOPSIS\n.nf\n#include <rcumalloc.h>\n.fi\n.SH DESCRIPTION\n";
    let (about, rest) = text.split_once("*/").unwrap_or_default();
    let about = comment(about);
    page += &prose(about.split_once(": ").unwrap_or_default().1);
    // Behind what the compiler alone wants to know.
    let rest = rest.split_once("#define RCUMALLOC_WEAK").and_then(|(_, rest)| rest.split_once('\n'));
    let mut lines = rest.unwrap_or_default().1.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("/* ---- ") {
            let heading = heading.trim_end_matches(['*', '/', ' ', '-']);
            let _ = writeln!(page, ".SS \"{}\"", plain(heading));
        } else if line.starts_with("/*") {
            let mut said = line.to_owned();
            while !said.contains("*/") {
                let Some(more) = lines.next() else { break };
                said = said + "\n" + more;
            }
            page += &prose(&comment(&said));
        } else if !line.is_empty() && !line.starts_with(['#', '}']) {
            page += ".PP\n.nf\n.RS\n";
            page += &declaration(line, &mut lines);
            page += ".RE\n.fi\n";
        } else if line.starts_with("#define RCUMALLOC_ACTIVE") {
            let _ = writeln!(page, ".PP\n.nf\n.RS\n{}\n.RE\n.fi", plain(line));
        }
    }
    page += ".SH \"SEE ALSO\"\n\\fBrcumalloc\\fP(7), \\fBmalloc\\fP(3)\n";
    Ok(page)
}

/// A declaration that begins with `line`, up to its end; of a function with a body its head.
fn declaration<'a>(line: &'a str, lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> String {
    let mut out = String::new();
    let is_inline = line.starts_with("static inline");
    let show = |line: &str| guarded(&plain(&line.replace("RCUMALLOC_WEAK ", ""))) + "\n";
    let mut depth = 0_i32;
    let mut line = line;
    loop {
        if !is_inline {
            out += &show(line);
        } else if out.is_empty() {
            out += &show(&(line.split_once(" {").map_or(line, |(head, _)| head).to_owned() + ";"));
        }
        let count = |c| line.matches(c).count() as i32;
        depth += count('{') - count('}');
        let is_over = depth <= 0 && (line.trim_end().contains(';') || line.ends_with('}'));
        if is_over {
            break;
        }
        let Some(next) = lines.next() else { break };
        line = next;
    }
    out
}

/// A comment without its marks.
fn comment(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim().trim_start_matches("/*").trim_end_matches("*/");
        line.strip_prefix('*').unwrap_or(line).trim_end().strip_prefix(' ').unwrap_or(line.trim())
    });
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Paragraphs of a comment, and its lists.
fn prose(text: &str) -> String {
    let mut page = String::from(".PP\n");
    for line in text.lines() {
        match line.trim() {
            "" => page += ".PP\n",
            line => match line.strip_prefix("- ") {
                Some(item) => {
                    let _ = writeln!(page, ".IP \\(bu 2\n{}", guarded(&plain(item)));
                }
                None => {
                    let _ = writeln!(page, "{}", guarded(&plain(line)));
                }
            },
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_what_they_say() {
        assert_eq!(words("a `b-c` **d** *e* [f](g.md) h*"), "a \\fBb\\-c\\fP \\fBd\\fP \\fIe\\fP f h*");
        assert_eq!(words(".so"), "\\&.so");
        assert_eq!(words("`.so` x"), "\\fB.so\\fP x");
    }

    #[test]
    fn items_that_begin_with_code_are_terms() {
        let text = "- `A`: `x`, and\n  more.\n- other `B`: c.";
        assert_eq!(
            markdown(text),
            ".TP\n\\fBA\\fP\n\\fBx\\fP, and more.\n.IP \\(bu 2\nother \\fBB\\fP: c.\n"
        );
    }

    #[test]
    fn tables_are_lists_of_terms() {
        let text = "| variable | values | default |\n|---|---|---|\n| `A` | `1`; `x\\|y` | off |\n\nEnd.";
        assert_eq!(markdown(text), ".TP\n\\fBA\\fP\n\\fB1\\fP; \\fBx|y\\fP\n.br\nDefault: off.\n.PP\nEnd.\n");
    }

    #[test]
    fn declarations_lose_what_is_for_the_compiler() {
        let text = "static inline int f(int a) {\n    return a;\n}\nint g(void);";
        let mut lines = text.lines().peekable();
        let first = lines.next().expect("a line");
        assert_eq!(declaration(first, &mut lines), "static inline int f(int a);\n");
        assert_eq!(lines.next(), Some("int g(void);"));
    }
}
