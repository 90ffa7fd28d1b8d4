//! What the library writes of a profile, read.

use std::collections::BTreeMap;

use super::symbols::Maps;

/// What was allocated from one stack.
#[derive(Debug, Default)]
pub struct Stack {
    /// Blocks and bytes that its samples stand for.
    pub blocks: u64,
    pub bytes: u64,
    /// Return addresses, the innermost first.
    pub places: Vec<u64>,
}

/// A sampled block.
#[derive(Debug)]
pub struct Block {
    pub stack: u64,
    pub size: u64,
    pub held: u64,
    pub age_ms: u64,
    pub is_deferred: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Dump {
    pub pid: u64,
    pub rate: u64,
    pub age_ms: u64,
    pub lost_blocks: u64,
    pub lost_stacks: u64,
    pub stacks: BTreeMap<u64, Stack>,
    pub blocks: Vec<Block>,
    pub maps: Maps,
}

fn number(word: Option<&str>) -> Result<u64, String> {
    let word = word.ok_or("a number is missing")?;
    let read = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    read.map_err(|_| format!("{word:?} is no number"))
}

impl Dump {
    /// Reads one, or says in which line it is none.
    pub fn parse(text: &str) -> Result<Dump, String> {
        let (head, maps) = text.split_once("\nmaps\n").ok_or("no profile, or not all of one")?;
        let mut lines = head.lines();
        match lines.next() {
            Some("rcumalloc profile 1") => {}
            Some(other) if other.starts_with("rcumalloc profile ") => {
                return Err("a profile of a form that this does not know".to_owned());
            }
            _ => return Err("no profile, or not all of one".to_owned()),
        }
        let mut dump = Dump { maps: Maps::parse(maps), ..Dump::default() };
        for (at, line) in lines.enumerate() {
            dump.take(line).map_err(|why| format!("line {}: {why}", at + 2))?;
        }
        if dump.rate == 0 { Err("it has no rate".to_owned()) } else { Ok(dump) }
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split(' ');
        let what = words.next().unwrap_or_default();
        match what {
            "pid" => self.pid = number(words.next())?,
            "rate" => self.rate = number(words.next())?,
            "age_ms" => self.age_ms = number(words.next())?,
            "lost_blocks" => self.lost_blocks = number(words.next())?,
            "lost_stacks" => self.lost_stacks = number(words.next())?,
            "stack" => {
                let stack = number(words.next())?;
                let mut figure = |name: &str| match words.next() {
                    Some(word) if word == name => number(words.next()),
                    _ => Err(format!("no {name}")),
                };
                figure("samples")?;
                let (blocks, bytes) = (figure("blocks")?, figure("bytes")?);
                let places = words.skip(1).map(|word| number(Some(word))).collect::<Result<_, _>>()?;
                self.stacks.insert(stack, Stack { blocks, bytes, places });
            }
            "live" | "deferred" => {
                let stack = number(words.next())?;
                number(words.next())?;
                let [size, held, age_ms] =
                    [number(words.next())?, number(words.next())?, number(words.next())?];
                let is_deferred = what == "deferred";
                self.blocks.push(Block { stack, size, held, age_ms, is_deferred });
            }
            _ => return Err(format!("{what:?} is nothing that this knows")),
        }
        Ok(())
    }

    /// How many blocks a sample of so many bytes stands for.
    pub fn weight(&self, held: u64) -> f64 {
        let chance = -(-(held as f64) / self.rate as f64).exp_m1();
        if chance > 0.0 { 1.0 / chance } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_profile_is_refused() {
        let good = "rcumalloc profile 1\npid 1\nrate 64\nstack 3 samples 1 blocks 2 bytes 32 at 0x10\nmaps\n";
        assert!(Dump::parse(good).is_ok_and(|dump| dump.stacks[&3].places == [16]));
        for (bad, why) in [
            ("", "no profile, or not all of one"),
            ("rcumalloc profile 2\nmaps\n", "a profile of a form that this does not know"),
            ("rcumalloc profile 1\nrate x\nmaps\n", "line 2: \"x\" is no number"),
            ("rcumalloc profile 1\nrate 5\nlive 1 0x10 5\nmaps\n", "line 3: a number is missing"),
            ("rcumalloc profile 1\nrate 5\nstack 1 blocks 5\nmaps\n", "line 3: no samples"),
            ("rcumalloc profile 1\nrat 5\nmaps\n", "line 2: \"rat\" is nothing that this knows"),
            ("rcumalloc profile 1\nmaps\n", "it has no rate"),
        ] {
            assert_eq!(Dump::parse(bad).err().as_deref(), Some(why), "{bad}");
        }
    }
}
