//! Simulated disks: the fault model, stated, and the knobs that tests turn.
