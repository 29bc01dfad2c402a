//! A line chart as SVG, both axes in powers of two or ten, that reads on a light and on a dark page.

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (860, 460);
/// Readable on white and on black.
const INK: RGBColor = RGBColor(110, 118, 129);
const LINES: [RGBColor; 6] = [
    RGBColor(31, 136, 229),
    RGBColor(230, 126, 34),
    RGBColor(46, 160, 67),
    RGBColor(163, 113, 247),
    RGBColor(219, 75, 95),
    RGBColor(20, 160, 160),
];
/// Ink that is darker on a light page and lighter on a dark one, where the viewer says which it has.
const STYLE: &str = "<style>text{fill:#3b434d}@media (prefers-color-scheme:dark){text{fill:#c9d1d9}}</style>";

/// What is drawn.
pub(super) struct Chart<'c> {
    /// Above the chart.
    pub(super) title: String,
    /// Under the x axis.
    pub(super) x: String,
    /// Beside the y axis.
    pub(super) y: &'static str,
    /// Name and points of each line; no coordinate is 0 or less.
    pub(super) lines: Vec<(&'c str, &'c [(f64, f64)])>,
}

impl Chart<'_> {
    /// The chart as an SVG document with a transparent ground.
    ///
    /// # Errors
    /// Where there is no point.
    pub(super) fn draw(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw_to(&mut svg)?;
        let end_of_head = svg.find('>').context("an SVG without a head")? + 1;
        svg.insert_str(end_of_head, STYLE);
        Ok(svg)
    }

    fn draw_to(&self, svg: &mut String) -> Result<()> {
        let points = || self.lines.iter().flat_map(|(_, points)| points.iter().copied());
        let (left, right) = bounds(points().map(|point| point.0)).context("nothing to draw")?;
        let (low, high) = bounds(points().map(|point| point.1)).context("nothing to draw")?;
        let (low, high) = (low / 1.3, high * 1.3);
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .caption(&self.title, ("sans-serif", 17).into_font().color(&INK))
            .margin(14)
            .x_label_area_size(48)
            .y_label_area_size(72)
            .build_cartesian_2d(
                (left..right).log_scale().base(2.0),
                (low..high).log_scale().base(10.0).with_key_points(marks(low, high)),
            )?;
        chart
            .configure_mesh()
            .x_desc(&self.x)
            .y_desc(self.y)
            .x_label_formatter(&|value| format!("{value:.0}"))
            .y_label_formatter(&|value| shown(*value))
            .axis_style(INK)
            .bold_line_style(INK.mix(0.35))
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 13).into_font().color(&INK))
            .draw()?;
        for ((name, points), color) in self.lines.iter().zip(LINES.iter().cycle()) {
            let color = *color;
            let line = LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3);
            chart
                .draw_series(line)?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(("sans-serif", 13).into_font().color(&INK))
            .border_style(TRANSPARENT)
            .draw()?;
        root.present().map_err(|error| anyhow!("draw: {error}"))
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |bounds, value| {
        let (low, high) = bounds.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// Numbers that are marked between `low` and `high`: powers of ten alone would leave most charts with one mark or none.
fn marks(low: f64, high: f64) -> Vec<f64> {
    const STEPS: [f64; 6] = [1.0, 1.5, 2.0, 3.0, 5.0, 7.0];
    let decades = std::iter::successors(Some(10_f64.powf(low.log10().floor())), |decade| Some(decade * 10.0));
    let marks =
        decades.take_while(|decade| *decade <= high).flat_map(|decade| STEPS.map(|step| step * decade));
    marks.filter(|mark| (low..=high).contains(mark)).collect()
}

fn shown(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chart_has_its_words_its_lines_and_ink_for_dark_pages() {
        let points = [(8.0, 3.0), (16.0, 2.0)];
        let chart = Chart {
            title: "a title".to_owned(),
            x: "tokens".to_owned(),
            y: "costs",
            lines: vec![("a line", &points)],
        };
        let svg = chart.draw().unwrap();
        for expected in ["a title", "tokens", "costs", "a line", "polyline", "prefers-color-scheme:dark"] {
            assert!(svg.contains(expected), "`{expected}` is missing in\n{svg}");
        }
        // Between 2 / 1.3 and 3 · 1.3.
        assert!(svg.contains("\n2.0\n") && svg.contains("\n3.0\n"), "the y axis has no marks in\n{svg}");
        let empty = Chart { title: String::new(), x: String::new(), y: "", lines: Vec::new() };
        assert!(empty.draw().is_err());
    }

    #[test]
    fn every_axis_has_marks_however_short_it_is() {
        assert_eq!(marks(112.0, 793.0), [150.0, 200.0, 300.0, 500.0, 700.0]);
        assert_eq!(marks(27.0, 120.0), [30.0, 50.0, 70.0, 100.0]);
        assert_eq!(marks(0.8, 1.6), [1.0, 1.5]);
    }
}
