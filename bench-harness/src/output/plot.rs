//! Pictures as inline SVG: bars with whiskers from least to greatest, and lines. Kept as data (they go into
//! report directories) and drawn when the page is written.
//!
//! plotters draws in fixed colours; text and axes are turned into `currentColor` afterwards, so that a
//! page is readable in light and in dark.

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

/// What is drawn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plot {
    pub title: String,
    /// What the x axis says; bars have none.
    pub x: String,
    pub y: String,
    pub kind: Kind,
}

/// The two kinds of pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// One bar a name, at the median, with a whisker from least to greatest.
    Bars(Vec<Bar>),
    /// Lines over a shared x axis; `log` for a logarithmic y axis.
    Lines { lines: Vec<Line>, log: bool },
}

/// A bar.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bar {
    pub name: String,
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

/// A line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Distinguishable in light and in dark, and by most of the colour-blind.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0x2f, 0x7e, 0xd8),
    RGBColor(0xe6, 0x6c, 0x1e),
    RGBColor(0x2c, 0xa0, 0x5a),
    RGBColor(0xc8, 0x3c, 0x78),
    RGBColor(0x8a, 0x6b, 0xd1),
    RGBColor(0xb5, 0x8b, 0x00),
    RGBColor(0x17, 0xa2, 0xb8),
    RGBColor(0x9a, 0x5b, 0x3c),
    RGBColor(0x80, 0x80, 0x80),
    RGBColor(0xd8, 0x4a, 0x4a),
];

const WIDTH: u32 = 760;

impl Plot {
    pub fn bars(title: impl Into<String>, y: impl Into<String>, bars: Vec<Bar>) -> Plot {
        Plot { title: title.into(), x: String::new(), y: y.into(), kind: Kind::Bars(bars) }
    }

    pub fn lines(
        title: impl Into<String>,
        x: impl Into<String>,
        y: impl Into<String>,
        lines: Vec<Line>,
    ) -> Plot {
        Plot { title: title.into(), x: x.into(), y: y.into(), kind: Kind::Lines { lines, log: false } }
    }

    /// With a logarithmic y axis.
    pub fn log(mut self) -> Plot {
        if let Kind::Lines { log, .. } = &mut self.kind {
            *log = true;
        }
        self
    }

    /// The picture; a short text where there is nothing to draw.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        let drawn = match &self.kind {
            Kind::Bars(bars) => self.draw_bars(&mut svg, bars),
            Kind::Lines { lines, log } => self.draw_lines(&mut svg, lines, *log),
        };
        match drawn {
            Ok(()) => svg
                .replacen("<svg ", "<svg role=\"img\" ", 1)
                .replace("\"#000000\"", "\"currentColor\"")
                .replace(&format!(" height=\"{}\"", self.height()), "")
                .replacen(&format!(" width=\"{WIDTH}\""), "", 1),
            Err(reason) => format!("<p>{}: no picture: {reason}</p>", escape(&self.title)),
        }
    }

    fn height(&self) -> u32 {
        match &self.kind {
            Kind::Bars(bars) => 60 + 26 * bars.len() as u32,
            Kind::Lines { .. } => 340,
        }
    }

    /// Horizontal bars: names are words, and words are read from left to right.
    fn draw_bars(&self, svg: &mut String, bars: &[Bar]) -> Result<(), String> {
        let most = bars.iter().map(|bar| bar.greatest).filter(|v| v.is_finite()).fold(0.0, f64::max);
        if most <= 0.0 {
            return Err("nothing was measured".to_owned());
        }
        let area = SVGBackend::with_string(svg, (WIDTH, self.height())).into_drawing_area();
        let rows = bars.len() as i32;
        let mut chart = ChartBuilder::on(&area)
            .margin_right(24)
            .margin_top(4)
            .x_label_area_size(44)
            .y_label_area_size(170)
            .build_cartesian_2d(0.0..most * 1.05, (0..rows - 1).into_segmented())
            .map_err(text)?;
        let name = |at: &SegmentValue<i32>| match at {
            SegmentValue::CenterOf(index) => {
                bars.get((rows - 1 - index).max(0) as usize).map(|bar| bar.name.clone()).unwrap_or_default()
            }
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.15))
            .y_labels(bars.len())
            .y_label_formatter(&name)
            .x_label_formatter(&|value| super::table::short(*value))
            .x_desc(self.y.as_str())
            .label_style(("sans-serif", 13).into_font())
            .draw()
            .map_err(text)?;
        for (index, bar) in bars.iter().enumerate().filter(|(_, bar)| bar.median.is_finite()) {
            let row = rows - 1 - index as i32;
            let colour = COLOURS[index % COLOURS.len()];
            let body = Rectangle::new(
                [(0.0, SegmentValue::Exact(row)), (bar.median, SegmentValue::Exact(row + 1))],
                colour.filled(),
            );
            let mut body = body;
            body.set_margin(4, 4, 0, 0);
            chart.draw_series([body]).map_err(text)?;
            let middle = SegmentValue::CenterOf(row);
            chart
                .draw_series([PathElement::new(
                    vec![(bar.least, middle.clone()), (bar.greatest, middle)],
                    BLACK.stroke_width(2),
                )])
                .map_err(text)?;
        }
        area.present().map_err(text)
    }

    fn draw_lines(&self, svg: &mut String, lines: &[Line], log: bool) -> Result<(), String> {
        let points =
            || lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && y.is_finite());
        let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::NEG_INFINITY, f64::max);
        let least = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::INFINITY, f64::min);
        let (left, right) = (least(|p| p.0), most(|p| p.0));
        let top = most(|p| p.1);
        if points().count() == 0 || top <= 0.0 {
            return Err("nothing was measured".to_owned());
        }
        let right = if right > left { right } else { left + 1.0 };
        let area = SVGBackend::with_string(svg, (WIDTH, self.height())).into_drawing_area();
        let mut builder = ChartBuilder::on(&area);
        builder.margin_right(24).margin_top(8).x_label_area_size(44).y_label_area_size(80);
        // The two axes are of different types, so the rest is written once for any.
        macro_rules! draw {
            ($chart:expr, $floor:expr) => {{
                let mut chart = $chart.map_err(text)?;
                chart
                    .configure_mesh()
                    .light_line_style(TRANSPARENT)
                    .bold_line_style(BLACK.mix(0.15))
                    .x_desc(self.x.as_str())
                    .y_desc(self.y.as_str())
                    .x_label_formatter(&|value| super::table::short(*value))
                    .y_label_formatter(&|value| super::table::short(*value))
                    .label_style(("sans-serif", 13).into_font())
                    .draw()
                    .map_err(text)?;
                for (index, line) in lines.iter().enumerate() {
                    let colour = COLOURS[index % COLOURS.len()];
                    let points = line.points.iter().map(|&(x, y)| (x, y.max($floor)));
                    chart
                        .draw_series(LineSeries::new(points, colour.stroke_width(2)))
                        .map_err(text)?
                        .label(line.name.as_str())
                        .legend(move |(x, y)| {
                            PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(3))
                        });
                }
                chart
                    .configure_series_labels()
                    .position(SeriesLabelPosition::UpperLeft)
                    .label_font(("sans-serif", 13).into_font())
                    .background_style(TRANSPARENT)
                    .draw()
                    .map_err(text)?;
            }};
        }
        if log {
            let floor = points().map(|p| p.1).filter(|&y| y > 0.0).fold(f64::INFINITY, f64::min);
            draw!(builder.build_cartesian_2d(left..right, (floor * 0.8..top * 1.25).log_scale()), floor);
        } else {
            draw!(builder.build_cartesian_2d(left..right, 0.0..top * 1.05), 0.0);
        }
        area.present().map_err(text)
    }
}

fn text<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

/// For HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_lines_are_drawn_with_their_names() {
        let bar = |name: &str, median: f64| Bar {
            name: name.into(),
            median,
            least: median * 0.9,
            greatest: median * 1.2,
        };
        let svg = Plot::bars("time", "seconds", vec![bar("glibc", 2.0), bar("rcumalloc", 1.0)]).svg();
        assert!(svg.contains("<svg") && svg.contains("glibc") && svg.contains("rcumalloc"), "{svg}");
        assert!(!svg.contains("#000000"), "black on a dark page");
        let line = |name: &str| Line { name: name.into(), points: vec![(0.0, 1.0), (1.0, 1000.0)] };
        for plot in [
            Plot::lines("t", "x", "y", vec![line("a & b")]),
            Plot::lines("t", "x", "y", vec![line("a & b")]).log(),
        ] {
            let svg = plot.svg();
            assert!(svg.contains("polyline") && svg.contains("a &amp; b"), "{svg}");
        }
    }

    #[test]
    fn nothing_to_draw_is_said() {
        assert!(Plot::lines("empty <", "x", "y", vec![]).svg().contains("empty &lt;: no picture"));
        assert!(Plot::bars("empty", "y", vec![]).svg().contains("no picture"));
    }
}
