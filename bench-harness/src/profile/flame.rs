//! A flame graph: the width of a frame is what was asked for there and from there on. The outermost frames
//! are at the bottom; a frame says more where the pointer rests on it. The same as folded stacks, for the
//! tools that draw them so that one can walk about in them (`flamegraph.pl`, `inferno-flamegraph`).
//!
//! Drawn here, since the crate for it wants a part of `once_cell` that librcumalloc.so, which is built along
//! with this, must do without.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Kind;
use super::symbols::Place;
use super::tally::Tally;
use crate::outcome::Refusal;
use crate::output::plot::escape;

/// Of the picture, of a frame, and of a letter, in pixels.
const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 18.0;
const LETTER: f64 = 7.0;
/// Above the frames.
const HEAD: f64 = 40.0;
/// What is narrower is left out.
const NARROW: f64 = 0.3;

/// A frame, and those that were called from it.
#[derive(Default)]
struct Frame {
    weight: f64,
    /// Of the same stack before, where two sets of stacks are compared.
    before: f64,
    callees: BTreeMap<String, Frame>,
}

impl Frame {
    /// Takes a stack, the outermost frame first.
    fn add(&mut self, frames: &[String], weight: f64, before: f64) {
        self.weight += weight;
        self.before += before;
        if let Some((first, rest)) = frames.split_first() {
            self.callees.entry(first.clone()).or_default().add(rest, weight, before);
        }
    }

    /// Red where there is more than before, blue where there is less, the stronger the greater the part.
    fn colour(&self) -> String {
        let most = self.weight.max(self.before).max(1.0);
        let change = (self.weight - self.before) / most;
        let light = 95.0 - 40.0 * change.abs();
        format!("hsl({}, 85%, {light:.0}%)", if change >= 0.0 { 8 } else { 215 })
    }

    fn depth(&self) -> usize {
        self.callees.values().map(|callee| callee.depth() + 1).max().unwrap_or(0)
    }

    /// Draws what was called from it, side by side above it.
    fn draw(&self, picture: &mut String, scene: &Scene, x: f64, level: usize) {
        let mut x = x;
        for (name, callee) in &self.callees {
            let width = callee.weight / scene.all * WIDTH;
            if width >= NARROW {
                scene.frame(picture, name, callee, (x, width), level);
                callee.draw(picture, scene, x, level + 1);
            }
            x += width;
        }
    }
}

struct Scene<'a> {
    unit: &'a str,
    all: f64,
    height: f64,
    /// Colours say how much a frame's weight has changed.
    is_difference: bool,
}

impl Scene<'_> {
    fn frame(&self, picture: &mut String, name: &str, frame: &Frame, (x, width): (f64, f64), level: usize) {
        let weight = frame.weight;
        let y = self.height - HEIGHT * (level + 1) as f64;
        // The same name has the same colour everywhere.
        let hue = name.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31) + u32::from(byte)) % 50;
        let (colour, was) = if self.is_difference {
            (frame.colour(), format!(", {:.0} before", frame.before))
        } else {
            (format!("hsl({hue}, 75%, 64%)"), String::new())
        };
        let full = escape(name);
        let letters = ((width - 6.0) / LETTER).max(0.0) as usize;
        let shown = match name.chars().count() {
            count if count <= letters => full.clone(),
            _ if letters < 3 => String::new(),
            _ => escape(&(name.chars().take(letters - 2).collect::<String>() + "..")),
        };
        let part = weight / self.all * 100.0;
        let _ = writeln!(
            picture,
            "<g><title>{full}: {weight:.0} {}, {part:.1} %{was}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" \
             width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{shown}</text></g>",
            self.unit,
            (width - 0.5).max(0.2),
            HEIGHT - 1.0,
            x + 3.0,
            y + HEIGHT - 6.0
        );
    }
}

/// A stack, the outermost frame first.
pub fn stack<'a>(places: impl DoubleEndedIterator<Item = &'a Place>) -> Vec<String> {
    let mut frames: Vec<String> = places
        .rev()
        .flat_map(|place| place.functions.iter().rev().map(|function| function.name.clone()))
        .collect();
    if frames.is_empty() {
        frames.push("[unknown]".to_owned());
    }
    frames
}

/// Draws stacks and their weights.
pub fn draw(title: &str, unit: &str, stacks: &[(Vec<String>, f64)]) -> Result<String, Refusal> {
    let mut root = Frame::default();
    for (frames, weight) in stacks {
        root.add(frames, *weight, 0.0);
    }
    picture(title, unit, &root, false)
}

/// Draws stacks and their weights `after`, in colours that say what they weighed `before`. Stacks that are
/// gone are not in the picture: they have no width.
pub fn draw_difference(
    title: &str,
    unit: &str,
    before: &[(Vec<String>, f64)],
    after: &[(Vec<String>, f64)],
) -> Result<String, Refusal> {
    let mut root = Frame::default();
    before.iter().for_each(|(frames, weight)| root.add(frames, 0.0, *weight));
    after.iter().for_each(|(frames, weight)| root.add(frames, *weight, 0.0));
    picture(title, unit, &root, true)
}

fn picture(title: &str, unit: &str, root: &Frame, is_difference: bool) -> Result<String, Refusal> {
    if root.weight <= 0.0 {
        return Err(Refusal("there is nothing to draw".to_owned()));
    }
    let height = HEAD + HEIGHT * root.depth() as f64;
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"monospace\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fffdf8\"/>\n\
         <text x=\"3\" y=\"22\" font-size=\"15\">{}: {:.0} {unit}</text>\n",
        escape(title),
        root.weight
    );
    root.draw(&mut picture, &Scene { unit, all: root.weight, height, is_difference }, 0.0, 0);
    picture.push_str("</svg>\n");
    Ok(picture)
}

/// A line for each stack: its frames, and its weight.
pub fn folded(stacks: &[(Vec<String>, f64)]) -> String {
    let mut text = String::new();
    for (frames, weight) in stacks {
        // What separates frames is in no name.
        let frames: Vec<String> = frames.iter().map(|name| name.replace(';', ":")).collect();
        let _ = writeln!(text, "{} {weight:.0}", frames.join(";"));
    }
    text
}

/// A kind of bytes of a profile, by stack; what has shrunk is left out.
pub fn stacks(tally: &Tally, kind: Kind) -> Vec<(Vec<String>, f64)> {
    let grown = tally.sorted(kind).into_iter().filter(|(_, site)| site.of(kind).bytes >= 1.0);
    grown.map(|(places, site)| (stack(places.iter()), site.of(kind).bytes)).collect()
}

/// What a picture of that kind is called.
pub fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Live => "live",
        Kind::Deferred => "waiting for a grace period",
        Kind::Allocated => "allocated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_lie_above_their_callers() {
        let stack = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let stacks =
            [(stack(&["main", "f<a>"]), 30.0), (stack(&["main", "g;h"]), 60.0), (stack(&["x"]), 10.0)];
        let picture = draw("t", "bytes", &stacks).unwrap();
        let place = |name: &str| {
            let (_, behind) = picture.split_once(&format!("<title>{name}: ")).expect(name);
            let number = |key: &str| {
                let (_, behind) = behind.split_once(&format!(" {key}=\"")).expect(key);
                behind.split('"').next().and_then(|digits| digits.parse::<f64>().ok()).expect(key)
            };
            [number("x"), number("y"), number("width")]
        };
        let [main, f, g, x] = ["main", "f&lt;a&gt;", "g;h", "x"].map(place);
        assert_eq!((main[2], f[2], g[2], x[2]), (1079.5, 359.5, 719.5, 119.5));
        assert!(f[0] == main[0] && g[0] == f[0] + 360.0 && x[0] == 1080.0);
        assert!(f[1] < main[1] && f[1] == g[1] && main[1] == x[1]);
        assert_eq!(folded(&stacks), "main;f<a> 30\nmain;g:h 60\nx 10\n");
        assert!(draw("t", "bytes", &[]).is_err());
    }

    #[test]
    fn what_has_grown_is_red_and_what_has_shrunk_is_blue() {
        let stacks =
            |grown: f64, shrunk: f64| [(vec!["g".to_owned()], grown), (vec!["s".to_owned()], shrunk)];
        let picture = draw_difference("t", "samples", &stacks(0.0, 8.0), &stacks(8.0, 2.0)).unwrap();
        let of = |name: &str| picture.split_once(&format!("<title>{name}: ")).expect(name).1;
        assert!(of("g").starts_with("8 samples, 80.0 %, 0 before<"), "{picture}");
        assert!(of("g").split("hsl(").nth(1).is_some_and(|colour| colour.starts_with("8, 85%, 55%")));
        assert!(of("s").split("hsl(").nth(1).is_some_and(|colour| colour.starts_with("215, 85%, 65%")));
    }
}
