//! Savepoints in a cache that is too small.

use super::*;

/// The undoing itself spills: pages whose records were not sealed when it began can reach the
/// file while it runs.
#[test]
fn d165_undoing_that_spills_undoes_everything() {
    let original: Vec<u8> = (1..=40).collect();
    for changed in 2..=40 {
        for before in [0, 5, 15] {
            let (_, vfs) = memory();
            create(&vfs, &original);
            let mut pager = open(&vfs, 10);
            begin(&mut pager).unwrap();
            for number in 30..30 + before {
                put(&mut pager, 2 + (number * 7) % 39, 99).unwrap();
            }
            let expected: Vec<u8> =
                (1..=40).map(|number| get(&mut pager, number).unwrap()).collect();
            pager.open_savepoints(1, false).unwrap();
            for number in 2..=changed {
                put(&mut pager, number, 200).unwrap();
            }
            pager.rollback_savepoint(Some(0)).unwrap();
            let undone: Vec<u8> = (1..=40).map(|number| get(&mut pager, number).unwrap()).collect();
            assert_eq!(undone, expected, "{changed} pages changed, {before} before");
            put(&mut pager, 1, 1).unwrap();
            commit(&mut pager).unwrap();
            assert_eq!(values(&mut open(&vfs, 100)).unwrap(), expected);
        }
    }
}

/// A page looked at while it was cut off comes back with its content.
#[test]
fn d165_a_page_seen_while_cut_off_comes_back() {
    for pinned in [false, true] {
        let (_, vfs) = memory();
        create(&vfs, &[1, 2, 3, 4, 5]);
        let mut pager = open(&vfs, 20);
        begin(&mut pager).unwrap();
        pager.open_savepoints(1, false).unwrap();
        pager.truncate_image(3);
        let mark = pager.mark();
        let cut = pager.fetch(page(5)).unwrap();
        assert!(pager.bytes(cut).iter().all(|byte| *byte == 0));
        if !pinned {
            pager.release(mark);
        }
        pager.rollback_savepoint(Some(0)).unwrap();
        assert_eq!(pager.page_count(), 5);
        assert_eq!(get(&mut pager, 5), Ok(5), "pinned: {pinned}");
        pager.release(mark);
        pager.rollback().unwrap();
        assert_eq!(values(&mut pager).unwrap(), [1, 2, 3, 4, 5]);
    }
}
