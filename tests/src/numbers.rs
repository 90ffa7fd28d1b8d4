//! Numbers of the heap's source that somebody may have chosen: they stand in `constants.rs`, where each has a
//! unit and a reason, or say that they are "(given)".
//!
//! What is looked at is each `const` and each `static` outside of tests whose type or value has a number in
//! figures. States and flags that are numbered in a row, 0, 1, 2 or 1, 2, 4, are no choice. Of a `static`,
//! zeros and ones are what is there at the start, and pairs are pairs.

/// An item with numbers.
#[derive(Debug)]
pub struct Item {
    /// What it is called.
    pub name: String,
    /// From 1.
    pub line: usize,
    type_of: String,
    value: String,
    is_static: bool,
    is_given: bool,
    paragraph: usize,
}

/// The items of `text`, a file's, whose numbers may have been chosen and do not say that they are given.
pub fn chosen(text: &str) -> Vec<Item> {
    let items = items(text);
    let is_numbered: Vec<bool> = (0..items.len()).map(|at| is_numbered(&items, at)).collect();
    let chosen = |(item, is_numbered): &(Item, bool)| !item.is_given && !is_numbered && has_numbers(item);
    items.into_iter().zip(is_numbered).filter(chosen).map(|(item, _)| item).collect()
}

/// All items with a name in capitals, but those of tests.
fn items(text: &str) -> Vec<Item> {
    let lines: Vec<&str> = text.lines().collect();
    let mut items = Vec::new();
    let (mut at, mut paragraph) = (0, 0);
    while at < lines.len() {
        let line = lines[at];
        let is_tests = line.starts_with("#[cfg(") && line.contains("test") && !line.contains("not(test");
        if is_tests && lines.get(at + 1).is_some_and(|next| next.contains("mod ") && next.ends_with('{')) {
            at += lines[at..].iter().position(|line| *line == "}").expect("a module ends");
        }
        paragraph += usize::from(line.trim().is_empty());
        if let Some((is_static, name, rest)) = head(line) {
            // It ends with the first line that ends so and leaves no bracket open.
            let mut open = 0;
            let ends = |line: &&str| {
                let code = code(line);
                open += code.chars().filter(|letter| "([{".contains(*letter)).count();
                open -= code.chars().filter(|letter| ")]}".contains(*letter)).count();
                open == 0 && code.ends_with(';')
            };
            let more = lines[at..].iter().position(ends);
            let more = more.unwrap_or_else(|| panic!("no end: {line}"));
            let whole = std::iter::once(rest).chain(lines[at + 1..=at + more].iter().copied());
            let whole: String = whole.map(code).collect::<Vec<_>>().join(" ");
            let (type_of, value) = whole.split_once(" = ").unwrap_or((&whole, ""));
            let above = lines[..at].iter().rev().take_while(|line| {
                let line = line.trim_start();
                line.starts_with("//") || line.starts_with("#[")
            });
            let is_given = above
                .chain([&line])
                .any(|line| line.split_once("//").is_some_and(|(_, comment)| comment.contains("(given)")));
            items.push(Item {
                name: name.to_string(),
                line: at + 1,
                type_of: type_of.to_string(),
                value: value.trim_end_matches(';').to_string(),
                is_static,
                is_given,
                paragraph,
            });
        }
        at += 1;
    }
    items
}

/// Whether it is a `static`, its name, and what follows the colon, if `line` begins an item.
fn head(line: &str) -> Option<(bool, &str, &str)> {
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) => rest[rest.find(' ')?..].trim_start(),
        None => line,
    };
    let (word, rest) = line.split_once(' ')?;
    let rest = rest.strip_prefix("mut ").unwrap_or(rest);
    let (name, rest) = rest.split_once(": ")?;
    let is_name = name.chars().all(|letter| letter.is_ascii_uppercase() || "_0123456789".contains(letter));
    (matches!(word, "const" | "static") && is_name && name != "_").then_some((word == "static", name, rest))
}

/// A line without its comment and without what is in its strings and characters.
fn code(line: &str) -> String {
    let mut code = String::new();
    let mut rest = line;
    while let Some(letter) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            break;
        } else if letter == '"' {
            let mut is_escaped = false;
            let end = rest.char_indices().skip(1).find(|&(_, letter)| {
                let ends = letter == '"' && !is_escaped;
                is_escaped = letter == '\\' && !is_escaped;
                ends
            });
            end.map_or(rest.len(), |(at, _)| at + 1)
        } else if letter == '\'' {
            // A character; a lifetime's name stays.
            let inside = if rest[1..].starts_with('\\') { 2 } else { 1 };
            let end = rest.char_indices().nth(inside + 1);
            end.filter(|(_, letter)| *letter == '\'').map_or(1, |(at, _)| at + 1)
        } else {
            code.push(letter);
            letter.len_utf8()
        };
        rest = &rest[length..];
    }
    code.trim().to_string()
}

/// The numbers in figures of a piece of code; those in names are none.
fn numbers(code: &str) -> Vec<u128> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
    let words = code.split(|letter: char| !is_part(letter));
    let number = |word: &str| {
        let word = word.replace('_', "");
        let end = word.find(['u', 'i']).unwrap_or(word.len());
        let figures = &word[..end];
        match figures.strip_prefix("0x") {
            Some(hex) => u128::from_str_radix(hex, 16).ok(),
            // A field of a tuple or of what a call gives is no number, and a method's name none either.
            None => figures.split('.').next().and_then(|whole| whole.parse().ok()),
        }
    };
    words.filter_map(number).collect()
}

fn has_numbers(item: &Item) -> bool {
    let value = item.value.trim_start_matches('&');
    // The length of a list says how many there are.
    let is_list = value.starts_with('[') && !value.contains(';');
    let mut all = numbers(value);
    if !is_list {
        all.extend(numbers(&item.type_of));
    }
    let is_plain = !item.is_static && item.value.parse::<u128>().is_ok();
    is_plain || all.iter().any(|number| *number > if item.is_static { 2 } else { 1 })
}

/// Whether the item is one of several in a paragraph that are numbered 0, 1, 2 or 1, 2, 3 or 1, 2, 4.
fn is_numbered(items: &[Item], at: usize) -> bool {
    let of = |item: &Item| item.value.parse::<u128>().ok().filter(|_| !item.is_static);
    let belongs =
        |other: &&Item| (other.paragraph, &other.type_of) == (items[at].paragraph, &items[at].type_of);
    let row: Vec<&Item> = items.iter().filter(belongs).collect();
    let rules: [fn(u128) -> u128; 3] =
        [|place| place, |place| place + 1, |place| 1_u128.checked_shl(place as u32).unwrap_or(0)];
    (0..row.len()).any(|start| {
        rules.iter().any(|rule| {
            let run = (0..).zip(&row[start..]).take_while(|(place, item)| of(item) == Some(rule(*place)));
            let run: Vec<usize> = run.map(|(_, item)| item.line).collect();
            run.len() > 1 && run.contains(&items[at].line)
        })
    })
}
