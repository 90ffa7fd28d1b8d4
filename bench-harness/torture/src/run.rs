//! A run: phase after phase, and a watch over it all that a grace period which never ends becomes an error.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::cast::Stage;
use crate::dice::Dice;
use crate::flavor::{Engine, Flavor, Preload};
use crate::flood;
use crate::parameters::{self, Parameters};
use crate::phase::{KINDS, Phase};
use crate::pool::{Pool, Writer};
use crate::report::Report;

/// A phase lasts at most this long; shorter where the run is short.
const PHASE: Duration = Duration::from_secs(2);
/// And at least so long.
const SHORTEST: Duration = Duration::from_millis(150);
/// How long after its end the threads of a phase may take before the run is called stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `parameters`. `progress` is called at the beginning of each phase. A run that gets stuck is
/// given to `stuck`, which must end the process: the threads cannot be ended.
///
/// # Errors
/// It cannot run here.
pub fn run(
    parameters: &Parameters,
    progress: &mut dyn FnMut(&Phase, &Report),
    stuck: &dyn Fn(Report),
) -> Result<Report, String> {
    match parameters.flavor {
        parameters::Flavor::Engine => phases::<Engine>(parameters, progress, stuck),
        parameters::Flavor::Preload => phases::<Preload>(parameters, progress, stuck),
    }
}

fn phases<F: Flavor>(
    parameters: &Parameters,
    progress: &mut dyn FnMut(&Phase, &Report),
    stuck: &dyn Fn(Report),
) -> Result<Report, String> {
    let flavor = F::start()?;
    let (pool, mut writer) = (Pool::new(), Writer::new());
    let began = Instant::now();
    let length = Duration::from_secs_f64(parameters.seconds);
    let each = if parameters.until_error { SHORTEST } else { length / KINDS as u32 }.clamp(SHORTEST, PHASE);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut floods = Vec::new();
    let mut number = 0;
    let read = |floods: &[crate::report::Flood], number: u64| Report {
        parameters: parameters.to_string(),
        flavor: F::NAME.to_owned(),
        phases: number,
        floods: floods.to_vec(),
        completed: flavor.completed(),
        ..Report::read(&pool.counts)
    };
    while number < KINDS.min(length.div_duration_f64(SHORTEST).ceil() as u64) || began.elapsed() < length {
        let phase = Phase::choose(
            parameters.seed,
            parameters.only.unwrap_or(number),
            processors,
            parameters.oversubscribe,
        );
        progress(&phase, &read(&floods, number));
        let stop = AtomicBool::new(false);
        let stage = Stage { flavor: &flavor, pool: &pool, stop: &stop };
        let (finished, end) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let flood = start(scope, stage, &phase, &mut writer, parameters.seed, &finished);
            drop(finished);
            std::thread::sleep(each);
            stop.store(true, Relaxed);
            // Each thread holds a sender; when the last is gone the channel is closed.
            let deadline = Instant::now() + PATIENCE;
            while let Err(mpsc::RecvTimeoutError::Timeout) = end.recv_timeout(Duration::from_millis(100)) {
                if Instant::now() >= deadline {
                    let why = format!("{phase}: a thread waits for a grace period that does not end");
                    stuck(Report { stuck: Some(why), ..read(&floods, number + 1) });
                }
            }
            if let Some(flood) = flood {
                floods.extend(flood.join());
            }
        });
        number += 1;
        if parameters.until_error && read(&floods, number).errors() > 0 {
            break;
        }
    }
    Ok(read(&floods, number))
}

/// Starts the threads of a phase. Each drops a sender at its end.
fn start<'scope, 'run: 'scope, F: Flavor>(
    scope: &'scope std::thread::Scope<'scope, 'run>,
    stage: Stage<'scope, F>,
    phase: &Phase,
    writer: &'scope mut Writer,
    seed: u64,
    finished: &mpsc::Sender<()>,
) -> Option<std::thread::ScopedJoinHandle<'scope, crate::report::Flood>> {
    let mut purpose = phase.number << 16;
    let mut many = |count: usize, body: fn(Stage<'scope, F>, Dice)| {
        for _ in 0..count {
            purpose += 1;
            let (dice, sender) = (Dice::new(seed, purpose), finished.clone());
            scope.spawn(move || {
                body(stage, dice);
                drop(sender);
            });
        }
    };
    many(phase.tight, Stage::tight);
    many(phase.loaded, Stage::loaded);
    many(phase.announcing, Stage::announcing);
    many(phase.sleepy, Stage::sleepy);
    many(phase.interrupted, Stage::interrupted);
    many(phase.comers, Stage::comers);
    many(phase.fake_writers, Stage::fake_writer);
    many(usize::from(phase.stalls), Stage::stall);
    many(usize::from(phase.forks), Stage::forks);
    let (dice, sender, hasty) = (Dice::new(seed, purpose + 1), finished.clone(), phase.hasty);
    scope.spawn(move || {
        stage.writer(writer, hasty, dice);
        drop(sender);
    });
    phase.flood.then(|| {
        let sender = finished.clone();
        scope.spawn(move || {
            let seen = flood::flood(stage);
            drop(sender);
            seen
        })
    })
}
