//! Which file of the heap names which: read from the source, as the compiler would, without running it.
//!
//! A name counts wherever it stands: in a `use` and its tree, as a full path, through `super`, through
//! `$crate` in a macro, behind an imported module (`zone::free`), and as a method that one file adds to a
//! type of another, since `self.tend()` calls that file as well. A name that a file only passes on (`pub
//! use`) leads to the file that declares it. Comments, strings and what is compiled for tests alone do not
//! count. Methods of traits are not followed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// `(from, to)`: the file `from` names something of the file `to`. Files are modules, like `page::zone`.
pub type Edges = BTreeSet<(String, String)>;

/// A module's words, without comments and without what only tests have.
struct Module {
    words: Vec<String>,
    /// Local name, and the path that it stands for from the root of the crate.
    names: BTreeMap<String, Vec<String>>,
}

/// All edges between the files under `source`, the `src` directory of a crate.
pub fn edges(source: &Path) -> Edges {
    let mut texts = BTreeMap::new();
    read(source, &[], &mut texts);
    edges_of(&texts)
}

/// The text of each file under `source` that is not compiled for tests alone, by module.
pub fn texts(source: &Path) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    read(source, &[], &mut texts);
    let mut only_tests = BTreeSet::new();
    for (module, text) in &texts {
        without_tests(&words(text), module, &mut only_tests);
    }
    texts.retain(|module, _| !only_tests.contains(module));
    texts
}

/// The text of each file under `directory`, by module.
fn read(directory: &Path, module: &[&str], texts: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).expect("the source can be read") {
        let path = entry.expect("the source can be read").path();
        let stem = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            read(&path, &[module, &[&stem]].concat(), texts);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let own = if stem == "mod" || stem == "lib" {
                module.join("::")
            } else {
                [module, &[&stem]].concat().join("::")
            };
            texts.insert(own, fs::read_to_string(&path).expect("a source file can be read"));
        }
    }
}

/// All edges between the modules whose texts these are.
pub fn edges_of(texts: &BTreeMap<String, String>) -> Edges {
    let mut only_tests = BTreeSet::new();
    let mut modules = BTreeMap::new();
    for (module, text) in texts {
        let words = without_tests(&words(text), module, &mut only_tests);
        modules.insert(module.clone(), Module { words, names: BTreeMap::new() });
    }
    modules.retain(|module, _| !only_tests.contains(module));
    let files: BTreeSet<String> = modules.keys().cloned().collect();
    for (name, module) in &mut modules {
        module.names = names(name, &module.words, &files);
    }
    let mut edges = Edges::new();
    let added = added_methods(&modules);
    for (name, module) in &modules {
        for path in paths(name, module) {
            edges.extend(declared_in(&path, &modules).map(|to| (name.clone(), to)));
        }
        for three in module.words.windows(3) {
            // `value.method(`, or `Type::method`, which may be passed on; a field is none.
            if three[0] == "." && three[2] == "(" || three[0] == "::" {
                edges.extend(added.get(&three[1]).into_iter().flatten().map(|to| (name.clone(), to.clone())));
            }
        }
    }
    edges.retain(|(from, to)| from != to);
    edges
}

/// The circles in which these files call each other: each with the calls it is made of.
pub fn circles(edges: &Edges) -> Vec<Edges> {
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in edges {
        reach.entry(from).or_default().insert(to);
    }
    // What each reaches, until nothing is new.
    loop {
        let before: usize = reach.values().map(BTreeSet::len).sum();
        for from in reach.keys().copied().collect::<Vec<_>>() {
            let further: BTreeSet<&str> =
                reach[from].iter().filter_map(|to| reach.get(to)).flatten().copied().collect();
            reach.get_mut(from).expect("it was there").extend(further);
        }
        if reach.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let leads = |from: &str, to: &str| reach.get(from).is_some_and(|reached| reached.contains(to));
    let mut found: Vec<Edges> = Vec::new();
    for edge @ (from, to) in edges.iter().filter(|(from, to)| leads(to, from)) {
        let same =
            |circle: &&mut Edges| circle.iter().any(|(other, _)| leads(from, other) && leads(other, to));
        match found.iter_mut().find(same) {
            Some(circle) => _ = circle.insert(edge.clone()),
            None => found.push([edge.clone()].into()),
        }
    }
    found
}

/// Identifiers, `::` and single characters; comments are left out, a string is one word.
fn words(text: &str) -> Vec<String> {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = |end: Option<usize>, more: usize| end.map_or(rest.len(), |end| end + more);
        let length = if rest.starts_with("//") {
            after(rest.find('\n'), 0)
        } else if rest.starts_with("/*") {
            after(rest.find("*/"), 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            after(raw.find("\"#"), 5)
        } else if first == '"' {
            let mut is_escaped = false;
            let end = rest.char_indices().skip(1).find(|&(_, letter)| {
                let ends = letter == '"' && !is_escaped;
                is_escaped = letter == '\\' && !is_escaped;
                ends
            });
            after(end.map(|(at, _)| at), 1)
        } else if first == '\'' {
            // A character, or the name of a lifetime.
            let mut letters = rest.char_indices().skip(1);
            match (letters.next(), letters.next()) {
                (Some((_, '\\')), Some((at, _))) => {
                    at + after(rest[at + 1..].find('\''), 2).min(rest.len() - at)
                }
                (Some(_), Some((at, '\''))) => at + 1,
                _ => 1,
            }
        } else if is_name(first) {
            after(rest.find(|letter| !is_name(letter)), 0)
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (word, further) = rest.split_at(length);
        if !first.is_whitespace() && !word.starts_with("//") && !word.starts_with("/*") {
            words.push(word.to_string());
        }
        rest = further;
    }
    words
}

/// Leaves out each item under `#[cfg(test)]`, and notes the modules that are declared so.
fn without_tests(words: &[String], module: &str, only_tests: &mut BTreeSet<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let start = at;
        let mut is_test = false;
        let mut path = None;
        // The attributes of one item, of which one may be for tests only.
        while words.get(at).is_some_and(|word| word == "#")
            && words.get(at + 1).is_some_and(|word| word == "[")
        {
            let end = closing(words, at + 1);
            let attribute = &words[at + 2..end];
            let says = |word: &str| attribute.iter().position(|other| other == word);
            if attribute[0] == "cfg" && says("any").is_none() {
                let at_test = says("test");
                is_test |= at_test.is_some_and(|test| test < 2 || attribute[test - 2] != "not");
            }
            if attribute[0] == "path" {
                path =
                    attribute.last().map(|name| name.trim_matches('"').trim_end_matches(".rs").to_string());
            }
            at = end + 1;
        }
        if !is_test {
            kept.extend_from_slice(&words[start..at.max(start + 1)]);
            at = at.max(start + 1);
            continue;
        }
        let mut item = at;
        while item < words.len() && !matches!(words[item].as_str(), ";" | "," | "{" | "=") {
            item =
                if matches!(words[item].as_str(), "(" | "[") { closing(words, item) + 1 } else { item + 1 };
        }
        if let [.., keyword, name] = &words[at..item]
            && keyword == "mod"
            && words[item] == ";"
        {
            let parent = match (&path, module.rsplit_once("::")) {
                (Some(_), parent) => parent.map_or("", |(parent, _)| parent),
                (None, _) => module,
            };
            only_tests.insert(joined(parent, path.as_deref().unwrap_or(name)));
        }
        if words.get(item).is_some_and(|word| word == "=") {
            while item < words.len() && words[item] != ";" {
                item = if is_opening(&words[item]) { closing(words, item) + 1 } else { item + 1 };
            }
        }
        at =
            if words.get(item).is_some_and(|word| word == "{") { closing(words, item) + 1 } else { item + 1 };
        if words.get(at).is_some_and(|word| word == ";") {
            at += 1;
        }
    }
    kept
}

fn joined(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_string() } else { format!("{parent}::{name}") }
}

fn is_opening(word: &str) -> bool {
    matches!(word, "(" | "[" | "{")
}

/// Where the bracket at `open` closes.
fn closing(words: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (at, word) in words.iter().enumerate().skip(open) {
        match word.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    words.len() - 1
}

/// A path from the root of the crate, if the words at the beginning of `path` lead there.
fn from_root(module: &str, names: &BTreeMap<String, Vec<String>>, path: &[String]) -> Option<Vec<String>> {
    let own: Vec<String> = module.split("::").filter(|name| !name.is_empty()).map(str::to_string).collect();
    let (base, rest) = match path.first()?.as_str() {
        "crate" => (Vec::new(), &path[1..]),
        "self" => (own, &path[1..]),
        "super" => {
            let ups = path.iter().take_while(|word| *word == "super").count();
            (own[..own.len().checked_sub(ups)?].to_vec(), &path[ups..])
        }
        first => (names.get(first)?.clone(), &path[1..]),
    };
    Some([base, rest.to_vec()].concat())
}

/// The file that declares what `path` names: a file that only passes the name on (`pub use`) is not asked.
fn declared_in(path: &[String], modules: &BTreeMap<String, Module>) -> Option<String> {
    let length = (1..=path.len()).rev().find(|&length| modules.contains_key(&path[..length].join("::")))?;
    let (module, rest) = (path[..length].join("::"), &path[length..]);
    match rest.first().and_then(|name| modules[&module].names.get(name)) {
        Some(passed_on) if passed_on[..] != path[..] => {
            declared_in(&[passed_on, &rest[1..]].concat(), modules).or(Some(module))
        }
        _ => Some(module),
    }
}

/// What the `use` items of a module import, and the modules below it.
fn names(module: &str, words: &[String], files: &BTreeSet<String>) -> BTreeMap<String, Vec<String>> {
    let mut names = BTreeMap::new();
    for file in files {
        let (parent, name) = file.rsplit_once("::").unwrap_or(("", file));
        if parent == module {
            names.insert(name.to_string(), file.split("::").map(str::to_string).collect());
        }
    }
    let local = names.clone();
    for (path, name) in uses(words) {
        if let Some(path) = from_root(module, &local, &path) {
            names.insert(name, path);
        }
    }
    names
}

/// Each path that a `use` names, and the name that it has here.
fn uses(words: &[String]) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    for at in (0..words.len()).filter(|&at| words[at] == "use") {
        let end = words[at..].iter().position(|word| word == ";").map_or(words.len(), |length| at + length);
        tree(&words[at + 1..end], &[], &mut found);
    }
    found
}

/// Takes a tree of `use` apart: `a::{b, c::d as e}`.
fn tree(words: &[String], before: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let mut path = before.to_vec();
    let mut at = 0;
    while at < words.len() && words[at] != "{" && words[at] != "as" {
        if words[at] != "::" {
            path.push(words[at].clone());
        }
        at += 1;
    }
    match words.get(at).map(String::as_str) {
        Some("{") => {
            let inside = &words[at + 1..closing(words, at)];
            let mut start = 0;
            let mut depth = 0;
            for (at, word) in inside.iter().enumerate() {
                depth += i32::from(word == "{") - i32::from(word == "}");
                if word == "," && depth == 0 {
                    tree(&inside[start..at], &path, found);
                    start = at + 1;
                }
            }
            if start < inside.len() {
                tree(&inside[start..], &path, found);
            }
        }
        rename => {
            if path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            let name = rename.and_then(|_| words.get(at + 1)).or(path.last());
            if let Some(name) = name.cloned() {
                found.push((path, name));
            }
        }
    }
}

/// All paths that a module names, from the root of the crate.
fn paths(module: &str, of: &Module) -> Vec<Vec<String>> {
    let mut found: Vec<_> =
        uses(&of.words).iter().filter_map(|(path, _)| from_root(module, &of.names, path)).collect();
    let mut at = 0;
    while at < of.words.len() {
        if of.words[at] == "use" {
            at += of.words[at..].iter().position(|word| word == ";").unwrap_or(1);
        }
        let mut path = vec![of.words[at].clone()];
        let start = at;
        at += 1;
        while of.words.get(at).is_some_and(|word| word == "::") && at + 1 < of.words.len() {
            path.push(of.words[at + 1].clone());
            at += 2;
        }
        let is_end_of_another = start > 0 && matches!(of.words[start - 1].as_str(), "::" | ".");
        if path.len() > 1 && !is_end_of_another {
            found.extend(from_root(module, &of.names, &path));
        }
    }
    found
}

/// Whether the function that begins behind these words can be called from another file.
fn is_public(before: &[String]) -> bool {
    let last = before.iter().rfind(|word| !matches!(word.as_str(), "unsafe" | "const"));
    last.is_some_and(|word| word == "pub" || word == ")")
}

/// Methods that a file adds to a type of another file: name, and where they may stand.
fn added_methods(modules: &BTreeMap<String, Module>) -> BTreeMap<String, BTreeSet<String>> {
    let mut added: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut own: BTreeSet<String> = BTreeSet::new();
    for (name, module) in modules {
        let words = &module.words;
        for at in (0..words.len()).filter(|&at| words[at] == "impl") {
            let Some(open) = words[at..].iter().position(|word| word == "{").map(|length| at + length) else {
                continue;
            };
            let head = &words[at + 1..open];
            let is_trait = head.iter().any(|word| word == "for");
            let of = head
                .iter()
                .find_map(|word| module.names.get(word))
                .and_then(|path| declared_in(path, modules));
            let methods: Vec<String> = (open..closing(words, open))
                .filter(|&at| words[at] == "fn" && is_public(&words[..at]))
                .filter_map(|at| words.get(at + 1).cloned())
                .collect();
            match of {
                Some(of) if of != *name && !is_trait => {
                    for method in methods {
                        added.entry(method).or_default().insert(name.clone());
                    }
                }
                _ => own.extend(methods),
            }
        }
    }
    let shared: Vec<_> = added.iter().filter(|(method, at)| at.len() > 1 || own.contains(*method)).collect();
    assert!(
        shared.is_empty(),
        "methods added to another file's type, of a name that others have, too: {shared:?}"
    );
    added
}
