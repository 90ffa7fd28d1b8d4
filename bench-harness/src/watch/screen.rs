//! What `top` shows: drawn into any buffer of characters, so that a terminal, a file and a test get the same.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table};

use super::figures::Snapshot;
use super::history::{History, Point};
use super::stats::{age, bytes};
use crate::output::plot::escape;
use crate::output::table::{nanoseconds, short};

/// A process and what has been seen of it; or why nothing can be.
pub struct Seen {
    pub history: History,
    pub gone: Option<String>,
}

/// Everything the screen is made of.
pub struct View<'a> {
    pub seen: &'a [Seen],
    pub selected: usize,
    pub is_paused: bool,
}

/// Older figures are said to be old: three times what lies between two of the library's, in nanoseconds.
const OLD_NS: u64 = 600_000_000;

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, view: &View<'_>) {
    let list = if view.seen.len() > 1 { (view.seen.len() as u16 + 3).min(10) } else { 0 };
    let [head, processes, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(list),
        Constraint::Min(8),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let keys = if list > 0 { "q quit   p pause   up and down: another process" } else { "q quit   p pause" };
    frame.render_widget(Paragraph::new(keys).style(Style::new().fg(Color::DarkGray)), foot);
    if list > 0 {
        frame.render_widget(self::processes(view), processes);
    }
    let Some(seen) = view.seen.get(view.selected) else {
        let nobody = "no process here publishes its figures (RCUMALLOC_WATCH=1) and may be looked at";
        return frame.render_widget(Paragraph::new(nobody), head);
    };
    let Some(last) = seen.history.last() else { return };
    frame.render_widget(title(seen, last, view.is_paused), head);
    let [top, lines, tables] =
        Layout::vertical([Constraint::Length(9), Constraint::Length(5), Constraint::Min(4)]).areas(body);
    let [memory, work] = Layout::horizontal([Constraint::Percentage(50); 2]).areas(top);
    frame.render_widget(self::memory(last), memory);
    frame.render_widget(self::work(&seen.history, last), work);
    sparklines(frame, lines, &seen.history);
    let [classes, right] =
        Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)]).areas(tables);
    frame.render_widget(self::classes(last), classes);
    let stalls = (last.stalls.len() as u16 + 3).clamp(4, right.height / 2 + 1);
    let [pages, who] = Layout::vertical([Constraint::Min(3), Constraint::Length(stalls)]).areas(right);
    frame.render_widget(self::pages(last), pages);
    frame.render_widget(self::stalls(last), who);
}

fn title<'a>(seen: &Seen, last: &Snapshot, is_paused: bool) -> Paragraph<'a> {
    let mut words = vec![
        Span::styled(format!("{} {}", last.name, last.pid), bold()),
        Span::raw(format!("   resident {}", bytes(last.rss_bytes))),
        Span::raw(format!("   threads {}", last.figures.of("threads"))),
    ];
    if last.age_ns > OLD_NS {
        let old = format!("   as of {} ago: nothing has taken a slow path since", age(last.age_ns));
        words.push(Span::styled(old, Style::new().fg(Color::Yellow)));
    }
    if let Some(why) = &seen.gone {
        words.push(Span::styled(format!("   {why}"), Style::new().fg(Color::Red)));
    }
    if is_paused {
        words.push(Span::styled("   paused", Style::new().fg(Color::Yellow)));
    }
    Paragraph::new(Line::from(words))
}

/// Names and values in as many columns as there is room for.
fn list<'a>(title: &'a str, rows: Vec<[String; 4]>) -> Table<'a> {
    let rows = rows.into_iter().map(|[name, value, other, amount]| {
        let right = |text: String| Cell::from(Line::from(text).right_aligned());
        Row::new([Cell::from(name), right(value), Cell::from(other), right(amount)])
    });
    let widths =
        [Constraint::Length(12), Constraint::Length(12), Constraint::Length(13), Constraint::Length(12)];
    Table::new(rows, widths).column_spacing(2).block(Block::bordered().title(title))
}

fn memory(last: &Snapshot) -> Table<'static> {
    let of = |name| bytes(last.figures.of(name));
    let held: std::collections::BTreeMap<_, _> = last.figures.labels("held_bytes").collect();
    let held = |name| bytes(held.get(name).copied().unwrap_or(0));
    let row = |a: &str, b, c: &str, d| [a.to_owned(), b, c.to_owned(), d];
    list(
        "Memory",
        vec![
            row("live", of("live_bytes"), "filling", held("filling")),
            row("deferred", of("waiting_bytes"), "open", held("open")),
            row("cached", of("cached_bytes"), "on shelves", held("shelf")),
            row("in slabs", of("in_slabs_bytes"), "shared", held("shared")),
            row("free, dirty", of("dirty_bytes"), "in slabs", held("slab")),
            row("mapped", of("mapped_bytes"), "large", held("large")),
            row("metadata", of("meta_bytes"), "budget", of("budget_bytes")),
        ],
    )
}

fn work(history: &History, last: &Snapshot) -> Table<'static> {
    let rate = |name| format!("{}/s", short(history.rate(name)));
    let ns = |name| nanoseconds(last.figures.of(name) as f64);
    let oldest = ns("deferred_oldest_ns");
    let row = |a: &str, b, c: &str, d| [a.to_owned(), b, c.to_owned(), d];
    list(
        "Work",
        vec![
            row("blocks out", rate("blocks_loaded"), "periods", rate("periods_completed")),
            row("blocks back", rate("blocks_retired"), "expedited", rate("periods_expedited")),
            row("large", rate("large_allocated"), "median", ns("period_p50_ns")),
            row("refills", rate("refills"), "99 %", ns("period_p99_ns")),
            row("slab flushes", rate("slab_flushes"), "oldest waits", oldest),
            row(
                "given back",
                format!("{}/s", bytes(history.rate("purged_bytes") as u64)),
                "parked",
                rate("threads_parked"),
            ),
            row(
                "bad calls",
                last.figures.of("bad_calls").to_string(),
                "stalls",
                last.figures.of("stalls").to_string(),
            ),
        ],
    )
}

/// A figure of a point.
type Of = fn(&Point) -> u64;

fn sparklines(frame: &mut Frame<'_>, area: Rect, history: &History) {
    let areas: [Rect; 3] = Layout::horizontal([Constraint::Ratio(1, 3); 3]).areas(area);
    let lines: [(&str, Color, Of); 3] = [
        ("live", Color::Green, |point| point.live_bytes),
        ("deferred", Color::Yellow, |point| point.deferred_bytes),
        ("grace periods a second", Color::Cyan, |point| point.periods as u64),
    ];
    for ((name, colour, of), area) in lines.into_iter().zip(areas) {
        let room = area.width.saturating_sub(2) as usize;
        let from = history.points.len().saturating_sub(room);
        let values: Vec<u64> = history.points.iter().skip(from).map(of).collect();
        let most = values.iter().copied().max().unwrap_or(0);
        let most = if name.contains(' ') { short(most as f64) } else { bytes(most) };
        let line = Sparkline::default().data(values).style(Style::new().fg(colour));
        frame.render_widget(line.block(Block::bordered().title(format!("{name}, up to {most}"))), area);
    }
}

/// A table of numbers under a title.
fn numbers<'a>(title: &'a str, head: &[&'a str], rows: Vec<Vec<String>>, widths: &[u16]) -> Table<'a> {
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    let rows = rows.into_iter().map(|row| Row::new(row.into_iter().map(right)));
    let head = Row::new(head.iter().map(|&name| right(name.to_owned()))).style(bold());
    let widths = widths.iter().map(|&width| Constraint::Length(width));
    Table::new(rows, widths).header(head).column_spacing(1).block(Block::bordered().title(title))
}

/// Size classes, those that hold most first.
fn classes(last: &Snapshot) -> Table<'static> {
    let mut classes = last.figures.classes.clone();
    let all = |class: &super::figures::Class| {
        (class.live + class.cached + class.deferred + class.in_slabs) * class.block_bytes
    };
    classes.sort_by_key(|class| std::cmp::Reverse(all(class)));
    let row = |class: &super::figures::Class| {
        let numbers = [class.block_bytes, class.live, class.deferred, class.cached, class.in_slabs];
        numbers.iter().map(u64::to_string).chain([bytes(all(class))]).collect()
    };
    let head = ["bytes", "live", "deferred", "cached", "in slabs", "all"];
    numbers("Classes, in blocks", &head, classes.iter().map(row).collect(), &[6, 9, 9, 8, 9, 10])
}

fn pages(last: &Snapshot) -> Table<'static> {
    let mut kinds: Vec<(&str, u64)> = last.figures.labels("pages").filter(|kind| kind.1 != 0).collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.1));
    let rows =
        kinds.into_iter().map(|(kind, pages)| vec![kind.to_owned(), pages.to_string(), bytes(pages * 4096)]);
    numbers("Pages", &["kind", "pages", "bytes"], rows.collect(), &[12, 10, 11])
}

/// Readers that hold grace periods up, those that cost most first.
fn stalls(last: &Snapshot) -> Table<'static> {
    let mut stalls = last.stalls.clone();
    stalls.sort_by_key(|stall| std::cmp::Reverse((stall.byte_seconds, stall.held_ns)));
    let row = |stall: &super::figures::Stall| {
        vec![
            stall.thread.to_string(),
            stall.began.clone(),
            nanoseconds(stall.held_ns as f64),
            nanoseconds(stall.longest_ns as f64),
        ]
    };
    let head = ["thread", "began at", "held for", "longest"];
    numbers("Readers that stall", &head, stalls.iter().map(row).collect(), &[8, 15, 10, 10])
}

fn processes(view: &View<'_>) -> Table<'static> {
    let rows = view.seen.iter().enumerate().map(|(index, seen)| {
        let Some(last) = seen.history.last() else { return Row::new([String::new()]) };
        let state = if seen.gone.is_some() { "ended".to_owned() } else { age(last.age_ns) };
        let row = Row::new([
            last.pid.to_string(),
            last.name.clone(),
            bytes(last.rss_bytes),
            bytes(last.figures.of("live_bytes")),
            bytes(last.figures.of("waiting_bytes")),
            format!("{}/s", short(seen.history.rate("blocks_retired"))),
            state,
        ]);
        if index == view.selected { row.style(Style::new().add_modifier(Modifier::REVERSED)) } else { row }
    });
    let widths = [8, 16, 11, 11, 11, 10, 8].map(Constraint::Length);
    let head = Row::new(["pid", "name", "resident", "live", "deferred", "back", "seen"]).style(bold());
    Table::new(rows, widths).header(head).block(Block::bordered().title("Processes"))
}

/// The buffer as text, without blanks at the ends of lines.
pub fn text(buffer: &Buffer) -> String {
    let width = buffer.area.width.max(1) as usize;
    let lines = buffer.content.chunks(width);
    lines.fold(String::new(), |text, line| {
        let line: String = line.iter().map(|cell| cell.symbol()).collect();
        text + line.trim_end() + "\n"
    })
}

/// The buffer as a picture: characters of one width on a dark ground.
pub fn svg(buffer: &Buffer) -> String {
    const WIDE: f64 = 8.4;
    const HIGH: f64 = 18.0;
    let (width, height) = (buffer.area.width.max(1), buffer.area.height);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" role=\"img\" \
         font-family=\"monospace\" font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"#16181d\"/>\n",
        f64::from(width) * WIDE + 16.0,
        f64::from(height) * HIGH + 16.0,
    );
    for (row, line) in buffer.content.chunks(width as usize).enumerate() {
        let mut column = 0;
        while column < line.len() {
            let style = (line[column].fg, line[column].modifier);
            let run = line[column..].iter().take_while(|cell| (cell.fg, cell.modifier) == style).count();
            let words: String = line[column..column + run].iter().map(|cell| cell.symbol()).collect();
            if !words.trim().is_empty() {
                let weight = if style.1.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
                svg += &format!(
                    "<text xml:space=\"preserve\" x=\"{:.1}\" y=\"{:.1}\" textLength=\"{:.1}\" \
                     fill=\"{}\"{weight}>{}</text>\n",
                    8.0 + column as f64 * WIDE,
                    20.0 + row as f64 * HIGH,
                    run as f64 * WIDE,
                    colour(style.0),
                    escape(&words),
                );
            }
            column += run;
        }
    }
    svg + "</svg>\n"
}

fn colour(colour: Color) -> &'static str {
    match colour {
        Color::Green => "#7bc275",
        Color::Yellow => "#e0b84c",
        Color::Cyan => "#5fb7c9",
        Color::Red => "#e06c5c",
        Color::DarkGray => "#8a8f99",
        _ => "#d7dae0",
    }
}
