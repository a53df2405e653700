//! The order of runs: stores take turns within one process, and each round another one begins.

use crate::store::{Failure, Result};
use crate::workloads::{Contender, Plan, Sample, Workload};

/// All samples of one row, by store in the order of the contenders.
#[derive(Debug)]
pub struct Row {
    /// What was run.
    pub workload: Workload,
    /// One list of samples per store.
    pub samples: Vec<Vec<Sample>>,
}

/// Runs every workload `rounds` times on every contender, after one round that does not count.
///
/// # Errors
/// A contender fails, or two of them read different things.
pub fn run(contenders: &mut [Box<dyn Contender>], plan: &Plan, rounds: usize) -> Result<Vec<Row>> {
    let empty = |workload| Row { workload, samples: vec![Vec::new(); contenders.len()] };
    let suits = |workload: &Workload| workload.is_for(plan.settings.kind);
    let mut rows: Vec<Row> = Workload::ALL.into_iter().filter(suits).map(empty).collect();
    for round in 0..=rounds {
        for row in &mut rows {
            if plan.counted.is_some_and(|counted| row.workload > counted) {
                continue;
            }
            let mut sums = Vec::new();
            for turn in 0..contenders.len() {
                let which = (turn + round) % contenders.len();
                let sample = contenders[which].run(row.workload, plan)?;
                sums.push(sample.sum);
                if round > 0 {
                    row.samples[which].push(sample);
                }
            }
            if sums.iter().any(|sum| *sum != sums[0]) {
                return Err(Failure(format!("{}: sums differ: {sums:x?}", row.workload.name())));
            }
        }
        eprint!("\r  {} round {round} of {rounds} ", plan.settings.kind.word());
        for contender in &mut *contenders {
            contender.finish()?;
        }
    }
    eprintln!();
    if plan.counted.is_some() {
        return Ok(rows);
    }
    cross_check(contenders, plan)?;
    Ok(rows)
}

/// Every contender opens and checks every other one's file, and its own.
fn cross_check(contenders: &[Box<dyn Contender>], plan: &Plan) -> Result<()> {
    for reader in contenders {
        for writer in contenders {
            reader.verify(writer.file(), plan).map_err(|Failure(text)| {
                Failure(format!("{}'s file, read by {}: {text}", writer.name(), reader.name()))
            })?;
        }
    }
    Ok(())
}
