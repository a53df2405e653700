//! Medians, spread and ratio as Markdown tables.

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
    /// Summary of one time taken from each sample; zeros if there are none.
    pub fn of(samples: &[Sample], time: impl Fn(&Sample) -> Duration) -> Summary {
        let mut times: Vec<f64> =
            samples.iter().map(|s| time(s).as_nanos() as f64 / s.operations as f64).collect();
        times.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (times.len().saturating_sub(1)) as f64 * part;
            times.get(index.round() as usize).copied().unwrap_or(0.0)
        };
        let median = at(0.5);
        let spread = if median > 0.0 { (at(0.75) - at(0.25)) / median } else { 0.0 };
        Summary { median, spread }
    }
}

/// A spread from here on is marked with `~`.
const WILD: f64 = 0.10;

fn cell(summary: Summary, reference: Summary) -> String {
    let digits = if summary.median < 100.0 { 1 } else { 0 };
    let mark = if summary.spread >= WILD { "~" } else { "" };
    format!("{:.digits$}{mark} ({:.2})", summary.median, summary.median / reference.median)
}

/// The head of a table with one column per store.
pub fn head(names: &[&str]) -> String {
    format!("| row | {} |\n|---|{}", names.join(" | "), "---:|".repeat(names.len()))
}

/// The lines of one setting: time per operation, and in parentheses its ratio to the first store.
pub fn times(setting: &str, rows: &[Row], time: impl Fn(&Sample) -> Duration) -> String {
    table(setting, rows, |row| {
        let summaries: Vec<Summary> =
            row.samples.iter().map(|samples| Summary::of(samples, &time)).collect();
        summaries.iter().map(|summary| cell(*summary, summaries[0])).collect()
    })
}

/// The same for the size of the file, in megabytes; rows that do not change it are left out.
pub fn sizes(setting: &str, rows: &[Row]) -> String {
    table(setting, rows, |row| {
        let last = row.samples.iter().filter_map(|samples| samples.last());
        let sized = last.filter(|sample| sample.file_size > 0);
        sized.map(|sample| format!("{:.2}", sample.file_size as f64 / 1e6)).collect()
    })
}

fn table(setting: &str, rows: &[Row], cells: impl Fn(&Row) -> Vec<String>) -> String {
    let mut text = String::new();
    for row in rows {
        let cells = cells(row);
        if !cells.is_empty() {
            let name = row.workload.name();
            text.push_str(&format!("| {setting}/{name} | {} |\n", cells.join(" | ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(nanoseconds: u64) -> Sample {
        let wall = Duration::from_nanos(nanoseconds);
        Sample { wall, cpu: wall, operations: 10, sum: 0, file_size: 0 }
    }

    #[test]
    fn a_summary_is_the_median_and_the_distance_of_the_quartiles() {
        let samples: Vec<Sample> = [1000, 100, 300, 200, 400].map(sample).into();
        let summary = Summary::of(&samples, |s| s.wall);
        assert_eq!(summary.median, 30.0);
        assert!((summary.spread - 20.0 / 30.0).abs() < 1e-9);
        assert_eq!(Summary::of(&[], |s| s.wall), Summary { median: 0.0, spread: 0.0 });
    }

    #[test]
    fn a_cell_has_time_mark_and_ratio() {
        let reference = Summary { median: 200.0, spread: 0.0 };
        assert_eq!(cell(Summary { median: 150.4, spread: 0.2 }, reference), "150~ (0.75)");
        assert_eq!(cell(Summary { median: 20.04, spread: 0.01 }, reference), "20.0 (0.10)");
    }
}
