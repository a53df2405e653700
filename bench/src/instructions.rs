//! Instructions per operation, counted by valgrind: repeatable where times are not.

use std::process::Command;

use crate::arguments::{Arguments, Group};
use crate::report;
use crate::sqlite_btree::SqliteBtree;
use crate::store::{Failure, KeyKind, Result, Store};
use crate::tclbtree::Tclbtree;
use crate::workloads::Workload;

/// The stores that are counted: the reference first.
const STORES: [&str; 2] = [SqliteBtree::NAME, Tclbtree::NAME];

/// Most entries in a counted run: valgrind makes everything some 50 times slower.
const ENTRIES_MAX: usize = 20_000;

/// Counts and prints the rows of the chosen groups.
pub fn run(arguments: &Arguments) -> Result<()> {
    for group in &arguments.groups {
        let entries = group.entries[0].min(ENTRIES_MAX * 100 / group.value_size.max(100));
        println!("### {}: instructions per operation ({entries} entries)\n", group.title);
        let mut lines = Vec::new();
        for &kind in &group.kinds {
            for row in group.rows.iter().filter(|row| is_hot(**row) && row.is_for(kind)) {
                let counts =
                    STORES.map(|store| count(arguments, group, kind, *row, store, entries));
                let [reference, ours] = counts;
                let (reference, ours) = (reference?, ours?);
                let cells =
                    vec![format!("{reference:.0}"), format!("{ours:.0} ({:.2})", ours / reference)];
                lines.push((format!("{}/{}", kind.word(), row.name()), cells));
            }
        }
        println!("{}", report::table(&STORES, lines.into_iter()));
    }
    Ok(())
}

/// Whether the row's work is done in user mode.
fn is_hot(row: Workload) -> bool {
    !matches!(
        row,
        Workload::SpillInsert | Workload::ColdGet | Workload::ColdScan | Workload::Commit(_)
    )
}

/// Runs one row of one store in a process of its own.
fn count(
    arguments: &Arguments,
    group: &Group,
    kind: KeyKind,
    row: Workload,
    store: &str,
    entries: usize,
) -> Result<f64> {
    eprint!("\r  {store} {} {:<24}", kind.word(), row.name());
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"]);
    command.arg("--toggle-collect=*workloads::measured*");
    command.arg(std::env::current_exe()?).arg("--count");
    command.args(["--groups", group.name, "--rows", &row.name(), "--stores", store]);
    command.args(["--keys", kind.word(), "--entries", &entries.to_string()]);
    command.args(["--value", &group.value_size.to_string()]);
    command.args(["--page", &group.page_size.to_string(), "--dir"]).arg(&arguments.directory);
    let output = command.output().map_err(|error| Failure(format!("valgrind: {error}")))?;
    eprint!("\r{:60}\r", "");
    let (text, log) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let operations = number_behind(&text, "operations:");
    let collected = number_behind(&log, "Collected :");
    match (output.status.success(), operations, collected) {
        (true, Some(operations), Some(collected)) if operations > 0.0 => Ok(collected / operations),
        _ => Err(Failure(format!("{store} {}: {log}", row.name()))),
    }
}

/// The first word behind `mark`, as a number.
fn number_behind(text: &str, mark: &str) -> Option<f64> {
    text.split(mark).nth(1)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_in_the_output_of_the_tool() {
        let log = "==7== Events    : Ir\n==7== Collected : 123456\n==7== \n";
        assert_eq!(number_behind(log, "Collected :"), Some(123_456.0));
        assert_eq!(number_behind(log, "operations:"), None);
    }
}
