//! Two threads that write to the same place: `tools/tsan.sh` checks that this is noticed.

#![allow(unsafe_code, reason = "without it there is no race")]

static mut COUNT: u64 = 0;

fn count() {
    for _ in 0..1000 {
        // SAFETY: None; this is the race.
        unsafe { COUNT = std::hint::black_box(COUNT) + 1 };
    }
}

fn main() {
    let other = std::thread::spawn(count);
    count();
    let _ = other.join();
}
