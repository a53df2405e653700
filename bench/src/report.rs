//! Medians, spread and ratio as Markdown tables.

use std::fmt::Write;
use std::time::Duration;

use crate::rounds::Row;
use crate::workloads::Sample;

/// The median of the samples' times per operation, in nanoseconds, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Median.
    pub median: f64,
    /// Distance between the quartiles, as a part of the median.
    pub spread: f64,
}

impl Summary {
    /// Summary of one time taken from each sample; `None` if there are none.
    pub fn of(samples: &[Sample], time: impl Fn(&Sample) -> Duration) -> Option<Summary> {
        let mut times: Vec<f64> =
            samples.iter().map(|s| time(s).as_nanos() as f64 / s.operations as f64).collect();
        times.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (times.len().saturating_sub(1)) as f64 * part;
            times.get(index.round() as usize).copied()
        };
        let median = at(0.5)?;
        let spread = if median > 0.0 { (at(0.75)? - at(0.25)?) / median } else { 0.0 };
        Some(Summary { median, spread })
    }
}

/// One line of a table of times: its name, and a summary per store that took part.
#[derive(Debug, Clone)]
pub struct Line {
    /// The name, with the setting in front.
    pub name: String,
    /// In the order of the stores; the first store is the reference.
    pub cells: Vec<Option<Summary>>,
}

impl Line {
    /// How the time of store `which` relates to the reference's.
    pub fn ratio(&self, which: usize) -> Option<f64> {
        let reference = self.cells.first().copied().flatten()?;
        let cell = self.cells.get(which).copied().flatten()?;
        (reference.median > 0.0).then(|| cell.median / reference.median)
    }
}

/// The lines of one setting.
pub fn lines(setting: &str, rows: &[Row], time: impl Fn(&Sample) -> Duration) -> Vec<Line> {
    let line = |row: &Row| Line {
        name: format!("{setting}/{}", row.workload.name()),
        cells: row.samples.iter().map(|samples| Summary::of(samples, &time)).collect(),
    };
    rows.iter().map(line).collect()
}

/// A spread from here on is marked with `~`.
const WILD: f64 = 0.10;

fn cell(summary: Summary, ratio: Option<f64>) -> String {
    let digits = if summary.median < 100.0 { 1 } else { 0 };
    let mark = if summary.spread >= WILD { "~" } else { "" };
    let ratio = ratio.map_or(String::new(), |ratio| format!(" ({ratio:.2})"));
    format!("{:.digits$}{mark}{ratio}", summary.median)
}

/// A table of times: nanoseconds per operation, and in parentheses the ratio to the first store.
pub fn times(stores: &[&str], lines: &[Line]) -> String {
    let body = lines.iter().map(|line| {
        let cells = line.cells.iter().enumerate().map(|(which, summary)| {
            summary.map_or(String::new(), |summary| cell(summary, line.ratio(which)))
        });
        (line.name.clone(), cells.collect())
    });
    table(stores, body)
}

/// A line of a table whose cells are texts.
pub type TextLine = (String, Vec<String>);

/// File sizes in megabytes; rows that do not change the file are left out.
pub fn sizes(setting: &str, rows: &[Row]) -> Vec<TextLine> {
    text_lines(setting, rows, |samples| {
        let size = samples.last().map_or(0, |sample| sample.file_size);
        (size > 0).then(|| format!("{:.2}", size as f64 / 1e6))
    })
}

/// What each of many operations took: microseconds, half of them and 99 of 100 below.
pub fn percentiles(setting: &str, rows: &[Row]) -> Vec<TextLine> {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    text_lines(setting, rows, |samples| {
        let mut known: Vec<_> = samples.iter().filter_map(|s| s.percentiles).collect();
        known.sort();
        let (half, most) = *known.get(known.len() / 2)?;
        Some(format!("{:.1} / {:.1}", micros(half), micros(most)))
    })
}

/// The rows for which any store has a cell.
fn text_lines(
    setting: &str,
    rows: &[Row],
    cell: impl Fn(&[Sample]) -> Option<String>,
) -> Vec<TextLine> {
    let line = |row: &Row| {
        let cells: Vec<_> = row.samples.iter().map(|samples| cell(samples)).collect();
        let is_known = cells.iter().any(Option::is_some);
        let cells = cells.into_iter().map(Option::unwrap_or_default).collect();
        is_known.then(|| (format!("{setting}/{}", row.workload.name()), cells))
    };
    rows.iter().filter_map(line).collect()
}

/// A Markdown table with a column per store; empty without lines.
pub fn table(stores: &[&str], lines: impl Iterator<Item = TextLine>) -> String {
    let mut text = String::new();
    for (name, cells) in lines {
        if text.is_empty() {
            let columns = "---:|".repeat(stores.len());
            let _ = writeln!(text, "| row | {} |\n|---|{columns}", stores.join(" | "));
        }
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(nanoseconds: u64) -> Sample {
        let wall = Duration::from_nanos(nanoseconds);
        Sample { wall, cpu: wall, operations: 10, ..Sample::default() }
    }

    #[test]
    fn a_summary_is_the_median_and_the_distance_of_the_quartiles() {
        let samples: Vec<Sample> = [1000, 100, 300, 200, 400].map(sample).into();
        let summary = Summary::of(&samples, |s| s.wall).expect("a summary");
        assert_eq!(summary.median, 30.0);
        assert!((summary.spread - 20.0 / 30.0).abs() < 1e-9);
        assert_eq!(Summary::of(&[], |s| s.wall), None);
    }

    #[test]
    fn a_line_has_time_mark_and_ratio_of_those_who_took_part() {
        let summary = |median, spread| Some(Summary { median, spread });
        let name = "int/get".to_string();
        let line = Line {
            name: name.clone(),
            cells: vec![summary(200.0, 0.0), summary(150.4, 0.2), None, summary(20.04, 0.01)],
        };
        let text = times(&["a", "b", "c", "d"], &[line]);
        let last = text.lines().last().unwrap_or_default();
        assert_eq!(last, "| int/get | 200 (1.00) | 150~ (0.75) |  | 20.0 (0.10) |");
        let without_reference = Line { name, cells: vec![None, summary(5.0, 0.0)] };
        assert!(times(&["a", "b"], &[without_reference]).ends_with("| int/get |  | 5.0 |\n"));
    }
}
