//! What a run is asked to do. As words `name=value`, so that a binary with no command-line crate can take
//! them.

use core::fmt;

/// Which grace periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Flavor {
    /// The crate `rcu`, linked in.
    Engine,
    /// librcumalloc.so through its C interface; it must be preloaded.
    Preload,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Parameters {
    /// What is tortured.
    pub flavor: Flavor,
    /// How long.
    pub seconds: f64,
    /// Chooses the phases.
    pub seed: u64,
    /// This phase over and over, in place of all.
    pub only: Option<u64>,
    /// End with the first phase that saw an error.
    pub until_error: bool,
    /// Threads a processor in an oversubscribed phase.
    pub oversubscribe: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            flavor: Flavor::Engine,
            seconds: 10.0,
            seed: 1,
            only: None,
            until_error: false,
            oversubscribe: 8,
        }
    }
}

impl Parameters {
    /// From words `name=value`.
    ///
    /// # Errors
    /// A line that names the word that is none.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Parameters, String> {
        let mut parameters = Parameters::default();
        for word in words {
            let bad = || format!("bad parameter '{word}'");
            let (name, value) = word.split_once('=').ok_or_else(bad)?;
            match (name, value) {
                ("flavor", "engine") => parameters.flavor = Flavor::Engine,
                ("flavor", "preload") => parameters.flavor = Flavor::Preload,
                ("seconds", value) => parameters.seconds = value.parse().map_err(|_| bad())?,
                ("seed", value) => parameters.seed = value.parse().map_err(|_| bad())?,
                ("only", value) => parameters.only = Some(value.parse().map_err(|_| bad())?),
                ("until_error", value) => parameters.until_error = value.parse().map_err(|_| bad())?,
                ("oversubscribe", value) => parameters.oversubscribe = value.parse().map_err(|_| bad())?,
                _ => return Err(bad()),
            }
        }
        Ok(parameters)
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flavor = match self.flavor {
            Flavor::Engine => "engine",
            Flavor::Preload => "preload",
        };
        let Parameters { seconds, seed, oversubscribe, .. } = self;
        write!(f, "flavor={flavor} seconds={seconds} seed={seed} oversubscribe={oversubscribe}")?;
        self.only.map_or(Ok(()), |only| write!(f, " only={only}"))?;
        if self.until_error { f.write_str(" until_error=true") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let written = Parameters {
            flavor: Flavor::Preload,
            seconds: 1.5,
            seed: 7,
            only: Some(4),
            until_error: true,
            oversubscribe: 3,
        };
        let read = Parameters::parse(written.to_string().split(' ').map(str::to_owned));
        assert_eq!(read, Ok(written));
        let refused = Parameters::parse(["colour=red".to_owned()]).expect_err("no such parameter");
        assert_eq!(refused, "bad parameter 'colour=red'");
    }
}
