//! A profile in the form that pprof reads: one message of protobuf, compressed. The numbers of the fields are
//! the format's.

use std::collections::HashMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::Kind;
use super::dump::Dump;
use super::symbols::Place;
use super::tally::Tally;
use crate::outcome::Refusal;

#[derive(Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    locations: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    values: Vec<i64>,
}

#[derive(Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    start: u64,
    #[prost(uint64, tag = "3")]
    limit: u64,
    #[prost(uint64, tag = "4")]
    offset: u64,
    #[prost(int64, tag = "5")]
    file: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_files: bool,
    #[prost(bool, tag = "9")]
    has_lines: bool,
    #[prost(bool, tag = "10")]
    has_inlined: bool,
}

#[derive(Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    lines: Vec<Line>,
}

#[derive(Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    file: i64,
}

#[derive(Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_types: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mappings: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    locations: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    functions: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    strings: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_ns: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, tag = "14")]
    default_type: i64,
}

/// A profile that is being put together: what is there already has a number.
struct Builder {
    profile: Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<(String, String), u64>,
    locations: HashMap<Place, u64>,
}

impl Builder {
    fn string(&mut self, text: &str) -> i64 {
        if let Some(&known) = self.strings.get(text) {
            return known;
        }
        let number = self.profile.strings.len() as i64;
        self.profile.strings.push(text.to_owned());
        self.strings.insert(text.to_owned(), number);
        number
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> ValueType {
        ValueType { kind: self.string(kind), unit: self.string(unit) }
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let key = (name.to_owned(), file.to_owned());
        if let Some(&known) = self.functions.get(&key) {
            return known;
        }
        let id = self.profile.functions.len() as u64 + 1;
        let (name, file) = (self.string(name), self.string(file));
        self.profile.functions.push(Function { id, name, system_name: name, file });
        self.functions.insert(key, id);
        id
    }

    /// A place: by its mapping in the process, if it is there.
    fn location(&mut self, place: &Place) -> u64 {
        if let Some(&known) = self.locations.get(place) {
            return known;
        }
        let file = self.string(&place.file);
        let holds = |mapping: &&Mapping| {
            let size = mapping.limit - mapping.start;
            mapping.file == file && place.offset.wrapping_sub(mapping.offset) < size
        };
        let mapping = self.profile.mappings.iter().find(holds);
        let (mapping, address) = mapping.map_or((0, place.offset), |mapping| {
            (mapping.id, mapping.start + (place.offset - mapping.offset))
        });
        let mut lines = Vec::new();
        for function in &place.functions {
            let number = self.function(&function.name, &function.file);
            lines.push(Line { function: number, line: function.line.into() });
        }
        let id = self.profile.locations.len() as u64 + 1;
        self.profile.locations.push(Location { id, mapping, address, lines });
        self.locations.insert(place.clone(), id);
        id
    }
}

const KINDS: [(&str, &str, Kind); 3] = [
    ("alloc_objects", "alloc_space", Kind::Allocated),
    ("inuse_objects", "inuse_space", Kind::Live),
    ("deferred_objects", "deferred_space", Kind::Deferred),
];

/// The bytes of such a file.
pub fn encode(dump: &Dump, tally: &Tally) -> Result<Vec<u8>, Refusal> {
    let mut builder = Builder {
        profile: Profile::default(),
        strings: HashMap::new(),
        functions: HashMap::new(),
        locations: HashMap::new(),
    };
    // The first string is the empty one.
    builder.string("");
    for (objects, space, _) in KINDS {
        let types = [builder.value_type(objects, "count"), builder.value_type(space, "bytes")];
        builder.profile.sample_types.extend(types);
    }
    builder.profile.period_type = Some(builder.value_type("space", "bytes"));
    builder.profile.period = dump.rate as i64;
    builder.profile.duration_ns = dump.age_ms as i64 * 1_000_000;
    builder.profile.default_type = builder.string("inuse_space");
    for mapping in dump.maps.0.iter().filter(|mapping| mapping.is_code) {
        let id = builder.profile.mappings.len() as u64 + 1;
        let file = builder.string(&mapping.file);
        let known = !mapping.file.is_empty();
        builder.profile.mappings.push(Mapping {
            id,
            start: mapping.start,
            limit: mapping.end,
            offset: mapping.offset,
            file,
            has_functions: known,
            has_files: known,
            has_lines: known,
            has_inlined: known,
        });
    }
    for (places, site) in &tally.sites {
        let amounts = KINDS.map(|(_, _, kind)| site.of(kind));
        let values: Vec<i64> = amounts
            .iter()
            .flat_map(|amount| [amount.blocks.round() as i64, amount.bytes.round() as i64])
            .collect();
        if values.iter().all(|&value| value == 0) {
            continue;
        }
        let locations = places.iter().map(|place| builder.location(place)).collect();
        builder.profile.samples.push(Sample { locations, values });
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed
        .write_all(&builder.profile.encode_to_vec())
        .and_then(|()| packed.finish())
        .map_err(Refusal::of("cannot compress"))
}
