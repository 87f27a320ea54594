//! A flamegraph: a box for each frame, as wide as its share, upon what called it.
//!
//! One file that loads nothing and runs nothing: names are a stranger's, and a browser obeys what it finds in a picture.
//! Wider than the window it can be zoomed as any picture; what a box is stands in its tooltip.

use std::fmt::Write as _;

use mayfly_admin::profile::{Frame, Kind};

use super::table::{head, percent};
use super::tree::Node;
use super::{Taken, label};

const WIDTH: f64 = 1600.0;
const ROW: f64 = 18.0;
const MARGIN: f64 = 10.0;
/// What a letter of the font takes, about.
const LETTER: f64 = 6.6;
/// A box that nobody would see is left out, and what is upon it.
const THINNEST: f64 = 0.2;
/// Lines above the boxes.
const HEAD: f64 = 3.0;

/// The picture.
pub(super) fn of(taken: &Taken) -> String {
    let root = Node::root(taken);
    #[expect(clippy::cast_precision_loss, reason = "a stack has 21 frames at the most")]
    let height = root.height() as f64 * ROW + HEAD * ROW + 2.0 * MARGIN;
    let width = WIDTH + 2.0 * MARGIN;
    let mut picture = Picture { out: String::new(), all: taken.samples, bottom: height - MARGIN };
    let _ = write!(
        picture.out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"monospace\" font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"#fdfdfb\"/>"
    );
    for (line, y) in head(taken).lines().zip(1..) {
        let y = MARGIN + f64::from(y) * 13.0;
        let _ = write!(picture.out, "<text x=\"{MARGIN}\" y=\"{y}\">{}</text>", xml(line));
    }
    picture.below(&root, MARGIN, 0);
    picture.out + "</svg>\n"
}

struct Picture {
    out: String,
    all: u64,
    bottom: f64,
}

impl Picture {
    /// The boxes upon a frame, side by side. As deep as a stack is.
    fn below(&mut self, node: &Node<'_>, left: f64, depth: u32) {
        let mut x = left;
        for (frame, child) in &node.below {
            let width = percent(child.samples, self.all) / 100.0 * WIDTH;
            if width >= THINNEST {
                self.frame(frame, child.samples, (x, depth), width);
                self.below(child, x, depth + 1);
            }
            x += width;
        }
    }

    fn frame(&mut self, frame: &Frame, samples: u64, (x, depth): (f64, u32), width: f64) {
        let label = label(frame);
        let y = self.bottom - f64::from(depth + 1) * ROW;
        let share = percent(samples, self.all);
        let _ = write!(
            self.out,
            "\n<g><title>{}: {samples} samples, {share:.2} %</title><rect x=\"{x:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" \
             height=\"{:.1}\" fill=\"{}\" rx=\"1\"/>",
            xml(&label),
            ROW - 1.0,
            fill(frame)
        );
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "letters in a box of at most 1600 pixels"
        )]
        let letters = ((width - 4.0) / LETTER).max(0.0) as usize;
        if letters >= 3 {
            let text: String = match label.chars().count() > letters {
                true => label.chars().take(letters - 2).chain("..".chars()).collect(),
                false => label,
            };
            let _ = write!(
                self.out,
                "<text x=\"{:.2}\" y=\"{:.1}\">{}</text>",
                x + 2.0,
                y + 12.5,
                xml(&text)
            );
        }
        self.out += "</g>";
    }
}

/// Warm for the module's own, in shades by name so that neighbours differ; cold for what is not.
fn fill(frame: &Frame) -> String {
    let shade = frame
        .name
        .bytes()
        .fold(7u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)))
        % 40;
    match frame.kind {
        Kind::Function => format!("rgb(235,{},{})", 130 + 2 * shade, 70 + shade),
        Kind::Instruction => format!("rgb(215,{},90)", 190 + shade),
        Kind::Kernel => format!("rgb({},170,235)", 120 + shade),
        Kind::Host => format!("rgb({},205,190)", 130 + shade),
        Kind::Mayfly | Kind::Rest => format!("rgb({0},{0},{0})", 190 + shade / 2),
    }
}

/// Text in XML. What XML cannot hold is left out.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}
