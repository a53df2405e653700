//! The order of runs: stores take turns within one process, and each round another one begins.

use std::hint::black_box;

use crate::lane::Contender;
use crate::store::{Failure, Result};
use crate::workloads::{Plan, Sample, Workload};

/// All samples of one row, by store in the order of the contenders; none for a store that does
/// not take part.
#[derive(Debug)]
pub struct Row {
    /// What was run.
    pub workload: Workload,
    /// One list of samples per store.
    pub samples: Vec<Vec<Sample>>,
}

/// Uses so many bytes of memory, and gives them back.
pub fn touch_memory(bytes: usize) {
    drop(black_box(vec![1u8; bytes]));
}

/// Runs every workload `rounds` times on every contender that it suits, after one round that does
/// not count.
///
/// # Errors
/// A contender fails, or two of them read different things.
pub fn run(contenders: &mut [Box<dyn Contender>], plan: &Plan, rounds: usize) -> Result<Vec<Row>> {
    let empty = |&workload| Row { workload, samples: vec![Vec::new(); contenders.len()] };
    let mut rows: Vec<Row> = plan.workloads.iter().map(empty).collect();
    for round in 0..=rounds {
        for row in &mut rows {
            eprint!("\r  round {round} of {rounds}: {:<24}", row.workload.name());
            let mut sums = Vec::new();
            for turn in 0..contenders.len() {
                let which = (turn + round) % contenders.len();
                let contender = &mut contenders[which];
                if !contender.suits(&plan.settings_of(row.workload)) {
                    continue;
                }
                touch_memory(plan.touched);
                let sample = contender.run(row.workload, plan)?;
                sums.push(sample.sum);
                if round > 0 {
                    row.samples[which].push(sample);
                }
            }
            if sums.iter().any(|sum| *sum != sums[0]) {
                return Err(Failure(format!("{}: sums differ: {sums:x?}", row.workload.name())));
            }
        }
        for contender in &mut *contenders {
            contender.finish()?;
        }
    }
    eprint!("\r{:60}\r", "");
    if !plan.counting && plan.workloads.contains(&Workload::RandomInsert) {
        cross_check(contenders, plan)?;
    }
    Ok(rows)
}

/// Every contender checks its own file, and those of the others that have the same format.
fn cross_check(contenders: &[Box<dyn Contender>], plan: &Plan) -> Result<()> {
    for reader in contenders {
        for writer in contenders {
            let takes_part = reader.suits(&plan.settings) && writer.suits(&plan.settings);
            let is_own = reader.name() == writer.name();
            let can_read = is_own || (reader.is_bare_sqlite() && writer.is_bare_sqlite());
            if !takes_part || !can_read {
                continue;
            }
            reader.verify(writer.file(), plan).map_err(|Failure(text)| {
                Failure(format!("{}'s file, read by {}: {text}", writer.name(), reader.name()))
            })?;
        }
    }
    Ok(())
}
