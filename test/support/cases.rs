//! Numbered cases, each of which may panic or hang without hiding the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A case that takes longer hangs, in seconds. They take milliseconds.
const PATIENCE: u64 = 60;

/// The number that stands for "no case any more".
const DONE: u64 = u64::MAX - 1;

/// Examines every case, and fails with the numbers of those that panicked. One that hangs ends the
/// process. Both say how to run that case alone; `variable` sets how many there are.
pub(crate) fn run(cases: impl Iterator<Item = u64>, variable: &'static str, examine: impl Fn(u64)) {
    let running = Arc::new(AtomicU64::new(0));
    watch(Arc::clone(&running), variable);
    let mut failed = Vec::new();
    for case in cases {
        running.store(case, Ordering::Relaxed);
        if catch_unwind(AssertUnwindSafe(|| examine(case))).is_err() {
            eprintln!("case {case} failed: TCLBTREE_SEED={case} {variable}=1");
            failed.push(case);
        }
    }
    running.store(DONE, Ordering::Relaxed);
    assert!(failed.is_empty(), "{} cases failed: {failed:?}", failed.len());
}

/// Ends the process if `case` stays the same for too long.
fn watch(case: Arc<AtomicU64>, variable: &'static str) {
    std::thread::spawn(move || {
        let mut last = u64::MAX;
        loop {
            std::thread::sleep(Duration::from_secs(PATIENCE));
            let now = case.load(Ordering::Relaxed);
            if now == DONE {
                return;
            }
            if now == last {
                eprintln!("case {now} hangs: TCLBTREE_SEED={now} {variable}=1");
                std::process::exit(1);
            }
            last = now;
        }
    });
}
