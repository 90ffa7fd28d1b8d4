//! The heap is a house: a folder of `preload/src` is a floor, and calls go down only, between floors and
//! between the files of one floor.

use rcumalloc_tests::{build, floors};
use std::collections::BTreeMap;

/// From the top; what is in none of them stands in the first or the last list.
const FLOORS: [&str; 7] = ["abi", "front", "release", "cache", "class", "page", "os"];
/// Names for programs written in Rust: over all floors.
const ROOF: [&str; 8] = ["", "allocator", "config", "global", "pool", "retire", "fallback", "types"];
/// What all floors stand on.
const GROUND: [&str; 1] = ["constants"];

fn height(module: &str) -> usize {
    let floor = module.split("::").next().unwrap_or_default();
    if ROOF.contains(&module) {
        FLOORS.len() + 1
    } else if GROUND.contains(&module) {
        0
    } else {
        let from_top = FLOORS.iter().position(|other| *other == floor);
        FLOORS.len() - from_top.unwrap_or_else(|| panic!("{module} stands on no floor"))
    }
}

#[test]
fn calls_go_down_only() {
    let edges = floors::edges(&build::root().join("preload/src"));
    assert!(edges.len() > 300, "the source was not read: {edges:?}");
    let up: Vec<_> = edges.iter().filter(|(from, to)| height(from) < height(to)).collect();
    assert!(up.is_empty(), "calls up a floor: {up:?}");
    let within = edges.iter().filter(|(from, to)| height(from) == height(to)).cloned().collect();
    let circles = floors::circles(&within);
    assert!(circles.is_empty(), "files of one floor call each other in circles: {circles:#?}");
}

/// What the reading finds and leaves out.
#[test]
fn each_way_of_naming_a_file_is_seen() {
    let read = |texts: &[(&str, &str)]| {
        let texts: BTreeMap<_, _> =
            texts.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        floors::edges_of(&texts)
            .into_iter()
            .map(|(from, to)| format!("{from} {to}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let seen = |text: &str| {
        let low = "pub struct Low; impl Low { fn plain(&self) {} }";
        read(&[
            ("", ""),
            ("high", "pub fn go() {}"),
            ("low::a", text),
            ("low::b", low),
            ("low", "pub mod a; pub mod b;"),
        ])
    };
    assert_eq!(seen("use crate::high::go;"), "low::a high");
    assert_eq!(
        seen("use crate::{low::b::{self, Low as L}, high::{go, self}};"),
        "low::a high, low::a low::b"
    );
    assert_eq!(seen("fn f() { crate::high::go() }"), "low::a high");
    assert_eq!(seen("fn f() { super::super::high::go() }"), "low::a high");
    assert_eq!(seen("use crate::low; fn f(l: &low::b::Low) {}"), "low::a low, low::a low::b");
    assert_eq!(seen("use super::b; fn f() { b::g() }"), "low::a low::b");
    assert_eq!(seen("macro_rules! m { () => { $crate::high::go() } }"), "low::a high");
    assert_eq!(seen("// crate::high::go()\n/* use crate::high; */ const A: &str = \"crate::high\";"), "");
    assert_eq!(seen("#[cfg(test)] mod tests { use crate::high; fn f() { '}' } }"), "");
    assert_eq!(
        seen("#[cfg(test)] use crate::high; fn f<'a>(x: &'a str) { crate::low::b::g() }"),
        "low::a low::b"
    );
    assert_eq!(seen("#[cfg(not(test))] use crate::high;"), "low::a high");
    assert_eq!(seen("#[cfg(any(test, feature = \"x\"))] use crate::high;"), "low::a high");
    assert_eq!(read(&[("a", "#[cfg(test)] mod tests;"), ("a::tests", "use crate::b;"), ("b", "")]), "");
    let added = "use crate::data::Data; impl Data { pub fn tend(&mut self) {} }";
    let call = "pub struct Data; fn f(data: &mut Data) { data.tend() }";
    assert_eq!(read(&[("policy", added), ("data", call)]), "data policy, policy data");
    let circle =
        [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")].map(|(a, b)| (a.to_string(), b.to_string()));
    let found = floors::circles(&circle.clone().into());
    assert_eq!(found, [circle[..3].iter().cloned().collect()]);
}
