use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// The queue as a list, scanned from its head for every answer.
#[derive(Default)]
struct Scan {
    disk: Vec<u8>,
    queue: VecDeque<(Position, Change)>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, bytes) => {
            if bytes.is_empty() {
                return;
            }
            let end = offset + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset..end].copy_from_slice(bytes);
        }
        Change::Truncate(size) => content.resize(*size, 0),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push(Change),
    /// The head of the queue gets to the disk.
    Complete,
    /// Everything pending is given up.
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..24);
    prop_oneof![
        6 => (0usize..100, bytes).prop_map(|(at, bytes)| Step::Push(Change::Write(at, bytes))),
        2 => (0usize..120).prop_map(|size| Step::Push(Change::Truncate(size))),
        5 => Just(Step::Complete),
        1 => Just(Step::Drop),
    ]
}

fn read(overlay: &Overlay, disk: &[u8], range: Range<usize>) -> (usize, Vec<u8>) {
    let mut buffer = vec![0; range.len()];
    let snapshot = overlay.snapshot(range.start as u64..range.end as u64);
    let mut disk_end = 0;
    for gap in snapshot.gaps() {
        let (start, end) = (gap.start as usize, gap.end as usize);
        let there = end.min(disk.len()).max(start) - start;
        buffer[start - range.start..][..there]
            .copy_from_slice(&disk[start.min(disk.len())..][..there]);
        if there > 0 {
            disk_end = (start + there) as u64;
        }
    }
    let count = snapshot.assemble(&mut buffer, disk_end);
    (count, buffer)
}

fn check(scan: &Scan, overlay: &Overlay) {
    let mut content = scan.disk.clone();
    for (_, change) in &scan.queue {
        apply(&mut content, change);
    }
    let size = overlay.exact_size().unwrap_or(overlay.end().max(scan.disk.len() as u64));
    assert_eq!(size, content.len() as u64);
    for range in [0..200, 3..17, 40..41, 90..130] {
        let (count, buffer) = read(overlay, &scan.disk, range.clone());
        let mut wanted = content.clone();
        wanted.resize(200, 0);
        assert_eq!(buffer, wanted[range.clone()]);
        // A hole between the disk's end and a later piece is part of the file.
        assert_eq!(count, content.len().clamp(range.start, range.end) - range.start);
    }
}

fn forget(overlay: &mut Overlay, position: Position, change: &Change) {
    match change {
        Change::Write(offset, bytes) => {
            overlay.forget_write(position, *offset as u64..(offset + bytes.len()) as u64);
        }
        Change::Truncate(_) => overlay.forget_truncation(position),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A501, A505, A509: equal to scanning the queue, byte for byte.
    #[test]
    fn the_index_answers_as_the_scan(
        start in proptest::collection::vec(any::<u8>(), 0..80),
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut scan = Scan { disk: start, ..Scan::default() };
        let mut overlay = Overlay::default();
        let mut position = 0;
        for step in steps {
            match step {
                Step::Push(change) => {
                    position += 1;
                    match &change {
                        Change::Write(at, bytes) => {
                            overlay.write(position, *at as u64, &Bytes::copy_of(bytes).unwrap());
                        }
                        Change::Truncate(size) => overlay.truncate(position, *size as u64),
                    }
                    scan.queue.push_back((position, change));
                }
                Step::Complete => {
                    if let Some((done, change)) = scan.queue.pop_front() {
                        apply(&mut scan.disk, &change);
                        forget(&mut overlay, done, &change);
                    }
                }
                Step::Drop => {
                    for (done, change) in std::mem::take(&mut scan.queue) {
                        forget(&mut overlay, done, &change);
                    }
                }
            }
            check(&scan, &overlay);
            prop_assert!(!scan.queue.is_empty() || overlay.is_empty());
        }
    }
}

/// A508: the arithmetic is that of 64 bits.
#[test]
fn offsets_far_apart_do_not_meet() {
    let mut overlay = Overlay::default();
    overlay.write(1, 0, &Bytes::copy_of(&[1; 4]).unwrap());
    overlay.write(2, 1 << 33, &Bytes::copy_of(&[2; 4]).unwrap());
    let mut buffer = [9; 4];
    assert_eq!(overlay.snapshot(0..4).assemble(&mut buffer, 0), 4);
    assert_eq!(buffer, [1; 4]);
    let far = 1 << 33;
    assert_eq!(overlay.snapshot(far..far + 4).assemble(&mut buffer, 0), 4);
    assert_eq!(buffer, [2; 4]);
    assert_eq!(overlay.end(), far + 4);
}
