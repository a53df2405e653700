//! Simulated disks: the fault model, stated, and the knobs that tests turn.

/// Spreads the bits of `seed`: equal seeds give equal numbers, neighbouring ones unrelated ones.
pub(super) fn scramble(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
