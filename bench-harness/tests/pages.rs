//! The pages that people look at are looked at by a browser, as on a desk and as in a hand, in light and in
//! dark: the report's and the book's. Nothing is wider than the screen, no picture is missing, and what is to
//! be seen is not one colour.

use std::path::{Path, PathBuf};
use std::process::Command;

mod browser;
mod common;
use browser::Browser;
use common::{Scratch, bench, library};

/// Columns of a desk's screen, and of a telephone's.
const WIDTHS: [u32; 2] = [1280, 390];

/// What is wrong with a page: what stands out of the screen on the right, pictures that are not there or have
/// no size, and how many pictures there are.
const LOOK: &str = r#"(() => {
    const width = document.documentElement.clientWidth;
    const wrong = [];
    if (document.documentElement.scrollWidth > width) {
        // What lies in a box that scrolls by itself does no harm.
        const scrolls = element => element && element !== document.body &&
            (["auto", "scroll", "hidden"].includes(getComputedStyle(element).overflowX) ||
                scrolls(element.parentElement));
        const out = [...document.body.querySelectorAll("*")].filter(element =>
            element.getBoundingClientRect().right > width + 1 && !scrolls(element));
        wrong.push("wider than the screen: " + document.documentElement.scrollWidth + " of " + width + ": " +
            out.slice(0, 3).map(element => element.outerHTML.slice(0, 120)).join(" | "));
    }
    const images = [...document.images].filter(image => !image.closest("noscript"));
    for (const image of images) {
        if (!image.complete || image.naturalWidth === 0) wrong.push("missing: " + image.src);
    }
    const drawn = [...document.querySelectorAll("figure svg")];
    for (const svg of drawn) {
        const box = svg.getBoundingClientRect();
        if (box.width < 50 || box.height < 50) wrong.push("a drawing without a size");
    }
    return { wrong, pictures: images.length + drawn.length };
})()"#;

/// Of a picture: how many colours it has, at the most a hundred, and how light its first pixel is, of 255.
const COLOURS: &str = r#"new Promise((resolve, reject) => {
    const image = new Image();
    image.onerror = () => reject("no picture");
    image.onload = () => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.width, image.height];
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        const data = context.getImageData(0, 0, image.width, image.height).data;
        const colours = new Set();
        const counts = new Map();
        for (let at = 0; at < data.length; at += 4) {
            const colour = data[at] << 16 | data[at + 1] << 8 | data[at + 2];
            if (colours.size < 100) colours.add(colour);
            counts.set(colour, (counts.get(colour) || 0) + 1);
        }
        // The ground is what most of it has.
        const ground = [...counts].sort((a, b) => b[1] - a[1])[0][0];
        resolve({
            colours: colours.size, width: image.width,
            light: ((ground >> 16) + (ground >> 8 & 255) + (ground & 255)) / 3,
        });
    };
    image.src = "data:image/png;base64,DATA";
})"#;

/// A browser, or a line that says that there is none: where the tests run for CI, there must be one.
fn browser(scratch: &Scratch) -> Option<Browser> {
    let browser = Browser::start(&scratch.0.join("profile"));
    if browser.is_none() {
        absent("chromium");
    }
    browser
}

fn absent(what: &str) {
    assert!(std::env::var_os("RCUMALLOC_CI").is_none(), "no {what} here: run scripts/setup");
    eprintln!("skipped: no {what}");
}

/// Looks at a page at both widths, in light and in dark, and adds what is wrong. How many pictures it has.
fn look(browser: &mut Browser, page: &Path, wrong: &mut String) -> u64 {
    let address = format!("file://{}", page.canonicalize().expect("the page is there").display());
    let mut pictures = 0;
    for (width, is_dark) in WIDTHS.into_iter().flat_map(|width| [(width, false), (width, true)]) {
        browser.load(&address, width, is_dark);
        let at = format!("{} at {width}, {}", page.display(), if is_dark { "dark" } else { "light" });
        let seen = browser.ask(LOOK);
        for what in seen["wrong"].as_array().expect("a list") {
            *wrong += &format!("{at}: {what}\n");
        }
        pictures = seen["pictures"].as_u64().expect("a number");
        let picture = browser.screenshot();
        let seen = browser.ask(&COLOURS.replace("DATA", &picture));
        let light = seen["light"].as_f64().expect("a number");
        if seen["width"] != width || seen["colours"].as_u64() < Some(10) || (light > 128.0) == is_dark {
            *wrong += &format!("{at}: what is seen: {seen}\n");
        }
    }
    pictures
}

#[test]
fn the_report_can_be_looked_at() {
    let scratch = Scratch::new("pages-report");
    let Some(mut browser) = browser(&scratch) else { return };
    let (report, library) = (scratch.file("report"), library().to_string_lossy());
    let line = ["report", "--quick", "--only", "self-test,rcuscale", "--rounds", "1", "--report", &report];
    let output = bench(&[&line[..], &["--library", &library]].concat());
    assert!(output.status.code() < Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let mut wrong = String::new();
    let pictures = look(&mut browser, &Path::new(&report).join("index.html"), &mut wrong);
    assert!(wrong.is_empty(), "{wrong}");
    assert!(pictures > 0, "the report has no picture");
}

/// What is looked for is seen.
#[test]
fn what_is_wrong_with_a_page_is_seen() {
    let scratch = Scratch::new("pages-wrong");
    let Some(mut browser) = browser(&scratch) else { return };
    let mut seen = |body: &str| {
        let page = PathBuf::from(scratch.file("page.html"));
        let head = "<meta charset=utf-8><style>:root { color-scheme: light dark }</style>";
        std::fs::write(&page, format!("<!doctype html>{head}{body}")).expect("a file");
        let mut wrong = String::new();
        look(&mut browser, &page, &mut wrong);
        wrong
    };
    let text = "<h1>Words</h1><p>and some more of them.</p>";
    assert_eq!(seen(text), "");
    let wide = seen(&format!("{text}<p style='width: 800px'>wide</p>"));
    assert_eq!(wide.lines().count(), 2, "{wide}");
    assert!(wide.contains("at 390, light: \"wider than the screen: "), "{wide}");
    assert_eq!(
        seen(&format!("{text}<div style='overflow-x: auto'><p style='width: 800px'>wide</p></div>")),
        ""
    );
    assert_eq!(seen(&format!("{text}<img src=absent.png>")).matches("missing: ").count(), 4);
    assert_eq!(
        seen(&format!("{text}<figure><svg width=5 height=5></svg></figure>")).matches("size").count(),
        4
    );
    assert_eq!(seen("").matches("what is seen").count(), 4);
    let always_light = seen(&format!("<style>:root {{ color-scheme: light }}</style>{text}"));
    assert_eq!(always_light.matches("dark: what is seen").count(), 2, "{always_light}");
}

#[test]
fn the_book_can_be_looked_at() {
    let scratch = Scratch::new("pages-book");
    let Some(mut browser) = browser(&scratch) else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let made = Command::new("mdbook").arg("build").arg(&root).arg("-d").arg(scratch.0.join("book")).output();
    let Ok(made) = made else { return absent("mdbook") };
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success() && !said.contains("WARN"), "{said}");
    let mut pages = Vec::new();
    for folder in ["book", "book/decisions"].map(|folder| scratch.0.join(folder)) {
        let files = std::fs::read_dir(folder).expect("the book was made");
        pages.extend(files.map(|file| file.expect("a file").path()));
    }
    // The page for printing is all others once more, and the one for what is not found has no place.
    let is_page = |page: &PathBuf| {
        let name = page.file_name().expect("a name").to_string_lossy();
        name.ends_with(".html") && !["print.html", "404.html", "toc.html"].contains(&&*name)
    };
    pages.retain(is_page);
    assert!(pages.len() > 20, "{pages:?}");
    let (mut wrong, mut pictures) = (String::new(), 0);
    for page in &pages {
        pictures += look(&mut browser, page, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
    let drawn = std::fs::read_dir(root.join("docs/pictures")).expect("there are pictures");
    let drawn = drawn.filter(|file| {
        file.as_ref().is_ok_and(|file| file.path().extension().is_some_and(|kind| kind == "svg"))
    });
    assert!(pictures >= drawn.count() as u64, "{pictures} pictures are shown");
}
