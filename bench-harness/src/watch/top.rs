//! `top`: looks again and again, and shows what it sees until it is told to end.

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::TopArguments;
use super::area::Area;
use super::history::History;
use super::screen::{self, Seen, View};
use crate::outcome::Refusal;

/// Columns and lines where there is no terminal.
const PRINTED: (u16, u16) = (118, 40);

/// The processes that are looked at.
struct Watched {
    areas: Vec<Area>,
    seen: Vec<Seen>,
    /// New ones are looked for.
    all: bool,
}

impl Watched {
    fn find(arguments: &TopArguments) -> Result<Watched, Refusal> {
        let areas = match arguments.whom.all {
            true => Area::all(),
            false => arguments.whom.pids.iter().map(|&pid| Area::find(pid)).collect::<Result<_, _>>()?,
        };
        let seen = areas.iter().map(|_| Seen { history: History::short(), gone: None }).collect();
        let mut watched = Watched { areas, seen, all: arguments.whom.all };
        watched.look();
        // One that cannot be looked at even once is said so.
        match watched.seen.first_mut() {
            Some(seen) if !watched.all && seen.history.last().is_none() => {
                Err(Refusal(seen.gone.take().unwrap_or_default()))
            }
            _ => Ok(watched),
        }
    }

    /// Looks at each once more.
    fn look(&mut self) {
        if self.all {
            for area in Area::all() {
                if self.areas.iter().all(|known| known.pid() != area.pid()) {
                    self.areas.push(area);
                    self.seen.push(Seen { history: History::short(), gone: None });
                }
            }
        }
        for (area, seen) in self.areas.iter().zip(&mut self.seen) {
            match area.look() {
                Ok(snapshot) => {
                    seen.history.add(snapshot);
                    seen.gone = None;
                }
                Err(Refusal(why)) => seen.gone = Some(why),
            }
        }
        if self.all {
            let gone: Vec<bool> = self.seen.iter().map(|seen| seen.gone.is_some()).collect();
            let (mut of_area, mut of_seen) = (gone.iter(), gone.iter());
            self.areas.retain(|_| of_area.next() == Some(&false));
            self.seen.retain(|_| of_seen.next() == Some(&false));
        }
    }

    /// Whether there is nothing left that could change.
    fn is_over(&self) -> bool {
        !self.all && self.seen.iter().all(|seen| seen.gone.is_some())
    }
}

/// See the module.
pub fn run(arguments: &TopArguments) -> Result<(), Refusal> {
    let watched = Watched::find(arguments)?;
    let every = Duration::from_secs_f64(arguments.every);
    match arguments.print {
        Some(looks) => print(arguments, watched, looks, every),
        None => show(watched, every),
    }
}

/// The screen as it is after so many looks.
fn print(arguments: &TopArguments, mut watched: Watched, looks: u32, every: Duration) -> Result<(), Refusal> {
    for _ in 1..looks {
        std::thread::sleep(every);
        watched.look();
    }
    let Ok(mut terminal) = Terminal::new(TestBackend::new(PRINTED.0, PRINTED.1));
    let view = View { seen: &watched.seen, selected: 0, is_paused: false };
    let Ok(_) = terminal.draw(|frame| screen::draw(frame, &view));
    let buffer = terminal.backend().buffer();
    super::say(&screen::text(buffer));
    if let Some(file) = &arguments.svg {
        std::fs::write(file, screen::svg(buffer))
            .map_err(Refusal::of(format_args!("cannot write {}", file.display())))?;
    }
    Ok(())
}

/// On the terminal, until `q`, or until the last process has ended.
fn show(mut watched: Watched, every: Duration) -> Result<(), Refusal> {
    let mut terminal = ratatui::try_init().map_err(Refusal::of("no terminal to show anything on"))?;
    let ended =
        follow(&mut watched, every, |view| terminal.draw(|frame| screen::draw(frame, view)).map(|_| ()));
    ratatui::restore();
    let why = ended.map_err(Refusal::of("the terminal"))?;
    why.map_or(Ok(()), |why| Err(Refusal(why)))
}

fn follow(
    watched: &mut Watched,
    every: Duration,
    mut draw: impl FnMut(&View<'_>) -> std::io::Result<()>,
) -> std::io::Result<Option<String>> {
    let (mut selected, mut is_paused) = (0, false);
    let mut next = Instant::now() + every;
    loop {
        selected = selected.min(watched.seen.len().saturating_sub(1));
        draw(&View { seen: &watched.seen, selected, is_paused })?;
        if watched.is_over() {
            return Ok(watched.seen.iter().find_map(|seen| seen.gone.clone()));
        }
        if event::poll(next.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(None),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(None),
                    KeyCode::Char('p') => is_paused = !is_paused,
                    KeyCode::Up => selected = selected.saturating_sub(1),
                    KeyCode::Down => selected += 1,
                    _ => {}
                },
                _ => {}
            }
        } else {
            next = Instant::now() + every;
            if !is_paused {
                watched.look();
            }
        }
    }
}
