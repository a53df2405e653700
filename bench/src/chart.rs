//! A bar chart of ratios as SVG: one group of bars per row, one bar per store.
//!
//! Bars start at the reference, ratio 1, and go to the left for a store that is faster and to the
//! right for one that is slower. The scale is logarithmic: half the time is as far away as double.

use std::fmt::Write;

use crate::report::Line;

/// Pixels of one doubling, and how many doublings there is room for on each side.
const DOUBLING: f64 = 80.0;
const DOUBLINGS: f64 = 4.0;
/// Pixels for the names of rows, and for the number behind the longest bar.
const LABELS: f64 = 310.0;
const NUMBERS: f64 = 50.0;
/// Pixels of one bar, and between two rows.
const BAR: f64 = 10.0;
const GAP: f64 = 7.0;
/// Pixels above the first row.
const HEAD: f64 = 62.0;

/// One colour per store, the reference first.
pub const COLOURS: [&str; 6] = ["#666666", "#c8553d", "#4c78a8", "#9c755f", "#59a14f", "#b07aa1"];

/// The chart of these lines; those without a reference are left out.
pub fn draw(title: &str, stores: &[&str], lines: &[Line]) -> String {
    let middle = LABELS + NUMBERS + DOUBLING * DOUBLINGS;
    let width = middle + DOUBLING * DOUBLINGS + NUMBERS;
    let mut body = String::new();
    let mut y = HEAD;
    for line in lines {
        let bars: Vec<(usize, f64)> = (1..stores.len())
            .filter_map(|which| line.ratio(which).map(|ratio| (which, ratio)))
            .collect();
        if bars.is_empty() {
            continue;
        }
        let height = bars.len() as f64 * BAR;
        text(&mut body, LABELS, y + height / 2.0 + 4.0, "end", &line.name);
        for (which, ratio) in bars {
            bar(&mut body, middle, y, which, ratio);
            y += BAR;
        }
        y += GAP;
    }
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{y:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let reference = stores.first().copied().unwrap_or_default();
    let title =
        format!("{title}: time as a multiple of {reference}'s; bars to the left are faster");
    text(&mut svg, 8.0, 18.0, "start", &title);
    legend(&mut svg, stores, " = 1.00");
    grid(&mut svg, middle, y);
    svg.push_str(&body);
    svg.push_str("</svg>\n");
    svg
}

fn bar(out: &mut String, middle: f64, y: f64, which: usize, ratio: f64) {
    let length = (ratio.max(1e-6).log2().clamp(-DOUBLINGS, DOUBLINGS) * DOUBLING).abs().max(1.0);
    let (x, at, anchor) = if ratio < 1.0 {
        (middle - length, middle - length - 3.0, "end")
    } else {
        (middle, middle + length + 3.0, "start")
    };
    let colour = COLOURS[which % COLOURS.len()];
    let height = BAR - 1.0;
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{height}\" \
         fill=\"{colour}\"/>"
    );
    let _ = writeln!(
        out,
        "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" \
         font-size=\"9\">{ratio:.2}</text>",
        y + BAR - 2.0
    );
}

/// Which colour is which store; `of_reference` is added to the first one's name.
pub fn legend(out: &mut String, stores: &[&str], of_reference: &str) {
    let mut x = 8.0;
    for (which, store) in stores.iter().enumerate() {
        let colour = COLOURS[which % COLOURS.len()];
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"28\" width=\"10\" height=\"10\" fill=\"{colour}\"/>"
        );
        let what = if which == 0 { of_reference } else { "" };
        text(out, x + 14.0, 37.0, "start", &format!("{store}{what}"));
        x += 24.0 + 7.0 * (store.len() + what.len()) as f64;
    }
}

fn grid(out: &mut String, middle: f64, bottom: f64) {
    for doubling in -(DOUBLINGS as i32)..=DOUBLINGS as i32 {
        let x = middle + f64::from(doubling) * DOUBLING;
        let colour = if doubling == 0 { "#666666" } else { "#dddddd" };
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"{HEAD}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"{colour}\"/>"
        );
        let ratio = f64::from(doubling).exp2();
        let shown = if ratio < 1.0 { format!("{ratio:.2}") } else { format!("{ratio:.0}") };
        text(out, x, HEAD - 5.0, "middle", &shown);
    }
}

/// Writes `content` at a place of the picture.
pub fn text(out: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    let _ =
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Summary;

    #[test]
    fn bars_go_left_for_faster_and_right_for_slower_stores() {
        let cell = |median| Some(Summary { median, spread: 0.0 });
        let name = "a<b & c".to_string();
        let line = Line { name, cells: vec![cell(100.0), cell(50.0), cell(200.0), None] };
        let svg = draw("t", &["ref", "x", "y", "z"], &[line]);
        let middle = LABELS + NUMBERS + DOUBLING * DOUBLINGS;
        let bars: Vec<&str> = svg.lines().filter(|line| line.contains("height=\"9\"")).collect();
        assert_eq!(bars.len(), 2, "one bar for each store that took part: {svg}");
        assert!(bars[0].contains(&format!("x=\"{:.1}\"", middle - DOUBLING)), "{}", bars[0]);
        assert!(bars[1].contains(&format!("x=\"{middle:.1}\"")), "{}", bars[1]);
        assert!(svg.contains("a&lt;b &amp; c"));
    }
}
