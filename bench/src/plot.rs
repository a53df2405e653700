//! Time per operation against the number of entries as SVG: one panel per workload, one line per
//! store. Both scales are logarithmic, so what grows in proportion rises by the same slope
//! everywhere, and a step is a step wherever it is.

use std::fmt::Write;

use crate::chart::{COLOURS, legend, text};

/// Pixels of one decade of entries, and of one doubling of time.
const DECADE: f64 = 110.0;
const DOUBLING: f64 = 26.0;
/// Pixels around a panel, for its title and the numbers at its axes.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 34.0;
/// Pixels above the first panel.
const HEAD: f64 = 50.0;

/// What the stores took for one workload with so many entries each.
#[derive(Debug)]
pub struct Panel {
    /// The workload, with its setting.
    pub title: String,
    /// Number of entries, and nanoseconds per operation in the order of the stores.
    pub points: Vec<(usize, Vec<Option<f64>>)>,
}

/// The panels, one below the other.
pub fn draw(title: &str, stores: &[&str], panels: &[Panel]) -> String {
    let (mut body, mut y, mut width) = (String::new(), HEAD, 420.0_f64);
    for panel in panels {
        let Some(axes) = Axes::of(panel, y) else { continue };
        axes.draw(&mut body, &panel.title);
        for which in 0..stores.len() {
            axes.line(&mut body, panel, which);
        }
        width = width.max(axes.x(axes.decades.1) + RIGHT);
        y = axes.bottom + BOTTOM;
    }
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{y:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let title = format!("{title}: nanoseconds per operation by number of entries");
    text(&mut svg, 8.0, 18.0, "start", &title);
    legend(&mut svg, stores, "");
    svg.push_str(&body);
    svg.push_str("</svg>\n");
    svg
}

/// Where the numbers of a panel are in the picture.
struct Axes {
    /// Decimal logarithms of the entries, from and to.
    decades: (f64, f64),
    /// Binary logarithms of the nanoseconds, from and to, whole.
    doublings: (f64, f64),
    bottom: f64,
}

impl Axes {
    /// For a panel with its upper edge at `y`; `None` if it has no points.
    fn of(panel: &Panel, y: f64) -> Option<Axes> {
        let entries = panel.points.iter().map(|(entries, _)| *entries as f64);
        let times = panel.points.iter().flat_map(|(_, times)| times.iter().flatten().copied());
        let decades = range(entries.map(f64::log10))?;
        let (low, high) = range(times.map(f64::log2))?;
        let doublings = (low.floor(), high.ceil().max(low.floor() + 1.0));
        let bottom = y + TOP + (doublings.1 - doublings.0) * DOUBLING;
        Some(Axes { decades, doublings, bottom })
    }

    fn x(&self, decade: f64) -> f64 {
        LEFT + (decade - self.decades.0) * DECADE
    }

    fn y(&self, doubling: f64) -> f64 {
        self.bottom - (doubling - self.doublings.0) * DOUBLING
    }

    /// Title, grid and numbers.
    fn draw(&self, out: &mut String, title: &str) {
        let (left, right) = (self.x(self.decades.0), self.x(self.decades.1));
        let top = self.y(self.doublings.1);
        text(out, left, top - 8.0, "start", title);
        for doubling in self.doublings.0 as i32..=self.doublings.1 as i32 {
            let y = self.y(f64::from(doubling));
            grid_line(out, (left, y), (right, y));
            let shown = format!("{:.0}", f64::from(doubling).exp2());
            text(out, left - 6.0, y + 4.0, "end", &shown);
        }
        for decade in self.decades.0.ceil() as i32..=self.decades.1.floor() as i32 {
            let x = self.x(f64::from(decade));
            grid_line(out, (x, top), (x, self.bottom));
            text(out, x, self.bottom + 15.0, "middle", &format!("10^{decade}"));
        }
    }

    /// The line of store `which`.
    fn line(&self, out: &mut String, panel: &Panel, which: usize) {
        let colour = COLOURS[which % COLOURS.len()];
        let mut points = String::new();
        for (entries, times) in &panel.points {
            let Some(time) = times.get(which).copied().flatten() else { continue };
            let (x, y) = (self.x((*entries as f64).log10()), self.y(time.log2()));
            let _ = write!(points, "{x:.1},{y:.1} ");
            let _ =
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.trim_end()
        );
    }
}

fn grid_line(out: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// The smallest and the largest of some numbers.
fn range(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = numbers.filter(|number| number.is_finite());
    finite.fold(None, |range, number| match range {
        None => Some((number, number)),
        Some((low, high)) => Some((low.min(number), high.max(number))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_doubles_with_each_decade_is_a_straight_line() {
        let points = vec![
            (10_000, vec![Some(64.0), Some(64.0)]),
            (100_000, vec![Some(128.0), None]),
            (1_000_000, vec![Some(256.0), Some(32.0)]),
        ];
        let panel = Panel { title: "a<b".to_string(), points };
        let svg = draw("t", &["one", "other"], &[panel]);
        let lines: Vec<&str> = svg.lines().filter(|line| line.starts_with("<polyline")).collect();
        let [bottom, step, left] = [HEAD + TOP + 3.0 * DOUBLING, DOUBLING, LEFT];
        let point = |decade: f64, doubling: f64| {
            format!("{:.1},{:.1}", left + decade * DECADE, bottom - doubling * step)
        };
        let one = [point(0.0, 1.0), point(1.0, 2.0), point(2.0, 3.0)].join(" ");
        let other = [point(0.0, 1.0), point(2.0, 0.0)].join(" ");
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains(&one), "{one}: {}", lines[0]);
        assert!(lines[1].contains(&other), "{other}: {}", lines[1]);
        assert!(svg.contains("a&lt;b"));
        assert!(draw("t", &["one"], &[]).ends_with("</svg>\n"));
    }
}
