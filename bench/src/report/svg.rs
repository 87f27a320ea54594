//! Plots as inline SVG: axes, lines, bars and clouds of samples, drawn with the page's own colours.

use std::fmt::Write as _;

use super::amount;
use crate::record::Unit;

/// Width of every plot, in SVG units.
pub const WIDTH: f64 = 760.0;
/// Colours, chosen to be told apart with every common colour blindness; subjects get them in turn.
pub const COLOURS: [&str; 8] =
    ["#c2410c", "#2563eb", "#059669", "#7c3aed", "#334155", "#0891b2", "#be185d", "#4d7c0f"];

/// A mapping from values to pixels.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis over these values between two pixels; with `log`, values of zero or less sit at its start.
    #[must_use]
    pub fn new(values: impl Iterator<Item = f64>, log: bool, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|v| v.is_finite() && (!log || *v > 0.0)) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        if log {
            // Whole decades, so that every grid line has a label.
            low = 10f64.powf(low.log10().floor());
            high = 10f64.powf(high.log10().ceil());
            if low == high {
                high *= 10.0;
            }
        } else {
            (low, high) = (0.0, if high > 0.0 { high * 1.06 } else { 1.0 });
        }
        Self { low, high, log, from, to }
    }

    /// Where a value is.
    #[must_use]
    pub fn at(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + part * (self.to - self.from)
    }

    /// Values that get a line and a label.
    #[must_use]
    pub fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.high / self.low).log10().round();
            let step = if decades > 8.0 { 2.0 } else { 1.0 };
            let mut ticks = Vec::new();
            let mut exponent = 0.0;
            while exponent <= decades {
                ticks.push(self.low * 10f64.powf(exponent));
                exponent += step;
            }
            return ticks;
        }
        let raw = self.high / 5.0;
        let decade = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|m| m * decade)
            .into_iter()
            .find(|s| *s >= raw)
            .unwrap_or(raw);
        let mut ticks = vec![0.0];
        while ticks.last().is_some_and(|last| last + step <= self.high) {
            ticks.push(ticks.last().unwrap_or(&0.0) + step);
        }
        ticks
    }
}

/// One drawing.
pub struct Plot {
    body: String,
    height: f64,
    title: String,
}

impl Plot {
    /// An empty one; the title is read out by screen readers.
    #[must_use]
    pub fn new(title: &str, height: f64) -> Self {
        Self { body: String::new(), height, title: title.into() }
    }

    /// A vertical grid line with a label below for each tick.
    pub fn x_axis(&mut self, axis: &Axis, unit: Unit, top: f64, bottom: f64) {
        for tick in axis.ticks() {
            let x = axis.at(tick);
            self.line((x, top), (x, bottom), "grid");
            self.text(x, bottom + 16.0, "middle", "tick", &short(tick, unit));
        }
    }

    /// A horizontal grid line with a label on the left for each tick.
    pub fn y_axis(&mut self, axis: &Axis, unit: Unit, left: f64, right: f64) {
        for tick in axis.ticks() {
            let y = axis.at(tick);
            self.line((left, y), (right, y), "grid");
            self.text(left - 8.0, y + 4.0, "end", "tick", &short(tick, unit));
        }
    }

    /// A line of a class of the page's style.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let _ = write!(
            self.body,
            r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" class="{class}"/>"#,
            from.0, from.1, to.0, to.1
        );
    }

    /// A line through points, with a dot at each that tells its value.
    pub fn path(&mut self, points: &[(f64, f64, String)], colour: &str, dashed: bool) {
        let through: Vec<_> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        let dash = if dashed { r#" stroke-dasharray="5 4""# } else { "" };
        let _ = write!(
            self.body,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>"#,
            through.join(" ")
        );
        for (x, y, tip) in points {
            self.dot(*x, *y, 3.5, colour, 1.0, tip);
        }
    }

    /// A dot; the tip shows when the pointer rests on it.
    pub fn dot(&mut self, x: f64, y: f64, r: f64, colour: &str, opacity: f64, tip: &str) {
        let tip =
            if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) };
        let _ = write!(
            self.body,
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="{r}" fill="{colour}" fill-opacity="{opacity}">{tip}</circle>"#
        );
    }

    /// A bar to the right.
    pub fn bar(
        &mut self,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        colour: &str,
        tip: &str,
    ) {
        let _ = write!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{:.1}" height="{height:.1}" rx="2" fill="{colour}"><title>{}</title></rect>"#,
            width.max(1.0),
            escape(tip)
        );
    }

    /// Words.
    pub fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let _ = write!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{}</text>"#,
            escape(text)
        );
    }

    /// A row of names with their colours.
    pub fn legend(&mut self, left: f64, y: f64, names: &[(String, &str)]) {
        let mut x = left;
        for (name, colour) in names {
            self.dot(x, y - 4.0, 5.0, colour, 1.0, "");
            self.text(x + 10.0, y, "start", "name", name);
            x += 34.0 + 7.0 * name.chars().count() as f64;
        }
    }

    /// The drawing as an element.
    #[must_use]
    pub fn finish(self) -> String {
        format!(
            r#"<svg viewBox="0 0 {WIDTH} {}" role="img" aria-label="{}">{}</svg>"#,
            self.height,
            escape(&self.title),
            self.body
        )
    }
}

/// A tick's label: round values need no decimals.
fn short(value: f64, unit: Unit) -> String {
    let text = amount(value, unit);
    text.replace(".00 ", " ").replace(".0 ", " ")
}

/// Text for HTML and SVG.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_covers_its_values_with_round_ticks() {
        let log = Axis::new([3.0, 4_000.0].into_iter(), true, 0.0, 400.0);
        assert_eq!(log.ticks(), [1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
        assert_eq!((log.at(1.0), log.at(100.0).round()), (0.0, 200.0));
        let flat = Axis::new([90.0].into_iter(), false, 100.0, 0.0);
        assert_eq!(flat.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert!(flat.at(90.0) > 0.0);
    }
}
