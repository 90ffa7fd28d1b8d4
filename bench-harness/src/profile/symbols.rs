//! Functions and lines of a process's addresses: by its maps, and by what the files there say of themselves.

use std::collections::HashMap;
use std::path::Path;

use addr2line::{Loader, demangle_auto};
use object::read::{Object, ObjectSegment};

/// A part of a file, or of nothing, in a process.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    pub offset: u64,
    pub is_code: bool,
    pub file: String,
}

/// What `/proc/PID/maps` says.
#[derive(Clone, Debug, Default)]
pub struct Maps(pub Vec<Mapping>);

impl Maps {
    /// Reads it; lines that say something else are left out.
    pub fn parse(text: &str) -> Maps {
        let mapping = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let (start, end) = words.next()?.split_once('-')?;
            let rights = words.next()?;
            let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
            let (start, end, offset) = (hex(start)?, hex(end)?, hex(words.next()?)?);
            // A name may have spaces.
            let file = words.nth(1).and_then(|inode| {
                let behind = line.split_once(inode).map(|_| line)?;
                let at = behind.find(['/', '['])?;
                Some(behind[at..].to_owned())
            });
            let file = file.unwrap_or_default();
            Some(Mapping { start, end, offset, is_code: rights.contains('x'), file })
        };
        Maps(text.lines().filter_map(mapping).collect())
    }

    /// Which one holds the address.
    pub fn find(&self, addr: u64) -> Option<&Mapping> {
        self.0.iter().find(|mapping| (mapping.start..mapping.end).contains(&addr))
    }
}

/// A function that was being run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Function {
    /// Its name, as its language writes it; else the file and the place in it.
    pub name: String,
    /// The source file, or nothing.
    pub file: String,
    /// The line; 0: not known.
    pub line: u32,
}

/// A place in code: where it is in which file, and what is there. The functions are the innermost first:
/// behind the first are those that it was inlined into.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub file: String,
    pub offset: u64,
    pub functions: Vec<Function>,
}

/// Where bytes of a file come to lie, by its own numbers.
struct Segment {
    offset: u64,
    size: u64,
    addr: u64,
}

struct File {
    loader: Loader,
    segments: Vec<Segment>,
}

/// See the module. A file is opened once.
#[derive(Default)]
pub struct Symbols {
    files: HashMap<String, Option<File>>,
}

impl File {
    fn open(path: &str) -> Option<File> {
        let bytes = std::fs::read(path).ok()?;
        let object = object::File::parse(&*bytes).ok()?;
        let segment = |segment: object::Segment<'_, '_>| {
            let (offset, size) = segment.file_range();
            Segment { offset, size, addr: segment.address() }
        };
        let segments = object.segments().map(segment).collect();
        Some(File { loader: Loader::new(Path::new(path)).ok()?, segments })
    }

    fn functions(&self, offset: u64) -> Vec<Function> {
        let holds = |segment: &&Segment| offset.wrapping_sub(segment.offset) < segment.size;
        let Some(segment) = self.segments.iter().find(holds) else { return Vec::new() };
        let addr = segment.addr + (offset - segment.offset);
        let mut functions = Vec::new();
        if let Ok(mut frames) = self.loader.find_frames(addr) {
            while let Ok(Some(frame)) = frames.next() {
                let Some(name) = frame.function.as_ref().and_then(|name| name.demangle().ok()) else {
                    continue;
                };
                let (file, line) = frame.location.map_or(("", 0), |location| {
                    (location.file.unwrap_or_default(), location.line.unwrap_or_default())
                });
                functions.push(Function { name: name.into_owned(), file: file.to_owned(), line });
            }
        }
        if functions.is_empty()
            && let Some(name) = self.loader.find_symbol(addr)
        {
            let name = demangle_auto(name.into(), None).into_owned();
            functions.push(Function { name, file: String::new(), line: 0 });
        }
        functions
    }
}

impl Symbols {
    /// What is called from the place that `addr`, a return address, names: the call is in front of it.
    pub fn of_return(&mut self, maps: &Maps, addr: u64) -> Place {
        self.of(maps, addr.wrapping_sub(1))
    }

    fn of(&mut self, maps: &Maps, addr: u64) -> Place {
        let unknown = |name: String| vec![Function { name, file: String::new(), line: 0 }];
        let Some(mapping) = maps.find(addr).filter(|mapping| !mapping.file.is_empty()) else {
            let functions = unknown(format!("0x{addr:x}"));
            return Place { file: String::new(), offset: addr, functions };
        };
        let offset = addr - mapping.start + mapping.offset;
        let file = self.files.entry(mapping.file.clone()).or_insert_with(|| File::open(&mapping.file));
        let mut functions = file.as_ref().map_or(Vec::new(), |file| file.functions(offset));
        if functions.is_empty() {
            let base = mapping.file.rsplit('/').next().unwrap_or_default();
            functions = unknown(format!("{base}+0x{offset:x}"));
        }
        Place { file: mapping.file.clone(), offset, functions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_function_is_found() {
        let maps = Maps::parse(&std::fs::read_to_string("/proc/self/maps").expect("it can be read"));
        let own = this_function_is_found as *const () as u64;
        let place = Symbols::default().of_return(&maps, own + 1);
        let named = place.functions.iter().any(|function| function.name.contains("this_function_is_found"));
        assert!(named, "{place:?}");
        let nowhere = Symbols::default().of_return(&maps, 0x11);
        assert_eq!((nowhere.functions[0].name.as_str(), nowhere.offset), ("0x10", 0x10));
    }

    #[test]
    fn maps_are_read() {
        let text = "10-20 r-xp 00000005 fe:01 395 /usr/lib/a b.so\n20-30 rw-p 00000000 00:00 0 \nx\n\
                    30-40 r--p 00000000 00:00 0                          [vdso]\n";
        let maps = Maps::parse(text);
        let names: Vec<&str> = maps.0.iter().map(|mapping| mapping.file.as_str()).collect();
        assert_eq!(names, ["/usr/lib/a b.so", "", "[vdso]"]);
        let first = maps.find(0x1f).expect("the first");
        assert_eq!((first.start, first.end, first.offset, first.is_code), (16, 32, 5, true));
    }
}
