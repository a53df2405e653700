#![allow(clippy::indexing_slicing)]

use super::super::store::testing::{
    database, database_with_lock_page, entries, fill, page, peek, poke,
};
use super::*;
use crate::btree::{Btree, INDEX, Key, TABLE};
use crate::format::AutoVacuum;
use crate::format::bytes::u16_at;

fn check(db: &mut Btree, roots: &[i64]) -> Vec<String> {
    db.integrity_check(roots, 10_000).unwrap()
}

/// Table 2 with 30 entries on its children 3 and 4.
fn two_leaves() -> Btree {
    let mut db = database(1024, AutoVacuum::None);
    let root = db.create_table(0).unwrap();
    let cursor = db.open_cursor(root, true).unwrap();
    for key in 1..=30 {
        db.insert(cursor, Key::Bytes(format!("{key:03}").as_bytes()), &[b'*'; 35], 0).unwrap();
    }
    db.close_cursor(cursor);
    db
}

/// D260, D261: the reference examples.
#[test]
fn the_use_of_pages_is_checked() {
    let mut db = two_leaves();
    assert_eq!(check(&mut db, &[1, 2]), [""; 0]);
    assert_eq!(check(&mut db, &[1, 0, 2, 0]), [""; 0]);
    assert_eq!(
        check(&mut db, &[1]),
        ["Page 2 is never used", "Page 3 is never used", "Page 4 is never used"]
    );
    assert_eq!(check(&mut db, &[1, 2, 2]), ["List of tree roots: 2nd reference to page 2"]);
    assert_eq!(check(&mut db, &[1, 2, 99]), ["List of tree roots: invalid page number 99"]);
    assert_eq!(check(&mut db, &[1, 2, -4]), ["List of tree roots: invalid page number -4"]);
    assert_eq!(check(&mut db, &[2]), ["Page 1 is never used"]);
    assert_eq!(db.integrity_check(&[1], 2).unwrap().len(), 2);
    assert_eq!(db.integrity_check(&[1], 0).unwrap().len(), 0);
}

/// D262: chains and the free list.
#[test]
fn lists_must_be_as_long_as_they_should() {
    let mut db = database(1024, AutoVacuum::None);
    db.create_table(TABLE).unwrap();
    poke(&mut db, 1, 36, &[0, 0, 0, 3]);
    // More free pages than pages are no reason to stop.
    assert_eq!(
        check(&mut db, &[1, 2]),
        ["Main freelist: 3 of 3 pages missing from overflow list starting at 0"]
    );
    poke(&mut db, 1, 36, &[0; 4]);
    let root = db.create_table(TABLE).unwrap();
    fill(&mut db, root, 7..8, 3100);
    let chain = {
        let cursor = db.open_cursor(root, false).unwrap();
        db.first(cursor).unwrap();
        let chain = db.overflow_pages(cursor).unwrap();
        db.close_cursor(cursor);
        chain
    };
    assert_eq!(chain, [page(4), page(5), page(6)]);
    assert_eq!(check(&mut db, &[1, 2, 3]), [""; 0]);
    poke(&mut db, 5, 0, &[0; 4]);
    assert_eq!(
        check(&mut db, &[1, 2, 3]),
        [
            "On tree page 3 cell 0: 1 of 3 pages missing from overflow list starting at 4",
            "Page 6 is never used"
        ]
    );
    poke(&mut db, 5, 0, &[0, 0, 0, 6]);
    poke(&mut db, 6, 0, &[0, 0, 0, 2]);
    assert_eq!(
        check(&mut db, &[1, 2, 3]),
        ["On tree page 3 cell 0: overflow list starting at 4 continues behind 3 pages"]
    );
    poke(&mut db, 6, 0, &[0; 4]);
    db.drop_table(3).unwrap();
    assert_eq!(check(&mut db, &[1, 2]), [""; 0]);
    poke(&mut db, 1, 36, &[0, 0, 0, 3]);
    assert_eq!(check(&mut db, &[1, 2]).len(), 1);
    poke(&mut db, 1, 36, &[0, 0, 0, 4]);
    poke(&mut db, 4, 4, &[0, 0, 1, 0]);
    assert_eq!(check(&mut db, &[1, 2])[0], "Main freelist: freelist leaf count too big on page 4");
}

/// D264: cells, free blocks and fragments.
#[test]
fn the_layout_of_nodes_is_checked() {
    let build = || {
        let mut db = database(1024, AutoVacuum::None);
        let root = db.create_table(TABLE).unwrap();
        fill(&mut db, root, 1..=5, 20);
        let cursor = db.open_cursor(root, true).unwrap();
        assert!(db.seek(cursor, Key::Integer(3)).unwrap().is_eq());
        db.delete(cursor).unwrap();
        db.close_cursor(cursor);
        assert_eq!(check(&mut db, &[1, 2]), [""; 0]);
        db
    };
    let block = {
        let bytes = peek(&mut build(), 2);
        usize::from(u16_at(&bytes, 1).unwrap())
    };
    assert_eq!(block, 958);
    let damaged = |at: usize, bytes: &[u8]| {
        let mut db = build();
        poke(&mut db, 2, at, bytes);
        check(&mut db, &[1, 2])
    };
    assert_eq!(damaged(7, &[9]), ["Fragmented space is 0 byte reported as 9 on page 2"]);
    assert_eq!(
        damaged(block + 2, &[0, 18]),
        ["Fragmented space is 4 byte reported as 0 on page 2"]
    );
    assert_eq!(damaged(block + 2, &[0, 30]), ["Multiple uses for byte 980 of page 2"]);
    assert_eq!(
        damaged(block + 2, &[0, 90])[0],
        format!("Corruption detected in cell {block} on page 2")
    );
    // A block of 0 to 3 bytes that seems to be part of a cell or of the fragments.
    let mut db = build();
    poke(&mut db, 2, 1010, &[0; 4]);
    poke(&mut db, 2, 1, &[3, 0xf2]);
    poke(&mut db, 2, 7, &[22]);
    assert_eq!(check(&mut db, &[1, 2]), ["Page 2: free block at 1010 is damaged"]);
    for size in 1..4 {
        let mut db = build();
        poke(&mut db, 2, block + 2, &[0, size]);
        poke(&mut db, 2, 7, &[22 - size]);
        let expected = format!("Page 2: free block at {block} is damaged");
        assert_eq!(check(&mut db, &[1, 2]), [expected], "{size} bytes");
    }
    assert_eq!(damaged(1, &[3, 0xfe]), ["Page 2: initPage() returns error code 11"]);
    assert_eq!(damaged(8, &[3, 0xff])[0], "Corruption detected in cell 0 on page 2");
    assert_eq!(damaged(0, &[0xff]), ["Page 2: initPage() returns error code 11"]);
}

/// What is promised of a vacuum must be possible.
#[test]
fn the_kind_of_vacuum_is_checked() {
    let mut db = database(1024, AutoVacuum::None);
    poke(&mut db, 1, FileHeader::INCREMENTAL_VACUUM, &[0, 0, 0, 1]);
    let expected = "Incremental vacuum is set, but there are no pointer maps";
    assert_eq!(check(&mut db, &[1]), [expected]);
}

/// D263: the pointer map.
#[test]
fn the_pointer_map_is_checked() {
    let mut db = database(1024, AutoVacuum::Full);
    let root = db.create_table(TABLE).unwrap();
    fill(&mut db, root, 0..100, 30);
    fill(&mut db, root, 100..101, 3100);
    assert_eq!(check(&mut db, &[1, 3]), [""; 0]);
    poke(&mut db, 2, 5, &[5, 0, 0, 0, 9]);
    assert_eq!(
        check(&mut db, &[1, 3]),
        ["On tree page 3 cell 0: Bad ptr map entry key=4 expected=(5,3) got=(5,9)"]
    );
    poke(&mut db, 2, 5, &[9, 0, 0, 0, 3]);
    assert_eq!(check(&mut db, &[1, 3]), ["On tree page 3 cell 0: Failed to read ptrmap key=4"]);
    poke(&mut db, 2, 5, &[5, 0, 0, 0, 3]);
    poke(&mut db, 2, 0, &[2, 0, 0, 0, 0]);
    assert_eq!(check(&mut db, &[1, 3]), ["Bad ptr map entry key=3 expected=(1,0) got=(2,0)"]);
    poke(&mut db, 2, 0, &[1, 0, 0, 0, 0]);
    assert!(check(&mut db, &[1, 2, 3]).contains(&"Pointer map page 2 is referenced".into()));
    poke(&mut db, 1, FileHeader::LARGEST_ROOT, &[0, 0, 0, 4]);
    assert_eq!(check(&mut db, &[1, 3]), ["Largest root page is 3, but the header says 4"]);
}

/// D265: order and depth, in lines of our own.
#[test]
fn order_and_depth_are_checked() {
    let mut db = database(512, AutoVacuum::None);
    let root = db.create_table(TABLE).unwrap();
    fill(&mut db, root, 0..2000, 30);
    assert_eq!(check(&mut db, &[1, 2]), [""; 0]);
    let child = u32_at(&peek(&mut db, 2), 8).unwrap();
    let mut leaf = child;
    while peek(&mut db, leaf)[0] != 13 {
        leaf = u32_at(&peek(&mut db, leaf), 8).unwrap();
    }
    let bytes = peek(&mut db, leaf);
    poke(&mut db, leaf, 8, &[bytes[10], bytes[11], bytes[8], bytes[9]]);
    assert_eq!(
        check(&mut db, &[1, 2]),
        [format!("On tree page {leaf} cell 1: key is out of order")]
    );
    poke(&mut db, leaf, 8, &bytes[8..12]);
    // The right-most leaf in place of the right child of the root.
    poke(&mut db, 2, 8, &leaf.to_be_bytes());
    let lines = check(&mut db, &[1, 2]);
    assert_eq!(lines.last().unwrap(), "On page 2 at right child: child page depth differs");
    assert!(lines.contains(&format!("Page {child} is never used")));
}

#[test]
fn byte_keys_are_compared_with_their_overflow() {
    let mut db = database(512, AutoVacuum::None);
    let root = db.create_table(0).unwrap();
    let cursor = db.open_cursor(root, true).unwrap();
    for key in 0..60u8 {
        let mut long = vec![b'x'; 700];
        long.push(key);
        db.insert(cursor, Key::Bytes(&long), b"data", 0).unwrap();
    }
    db.close_cursor(cursor);
    assert_eq!(check(&mut db, &[1, 2]), [""; 0]);
    let index = db.create_table(INDEX).unwrap();
    assert_eq!(check(&mut db, &[1, 2, index.get().into()]), [""; 0]);
}

/// D267: the lock page counts as used.
#[test]
fn the_lock_page_is_not_missed() {
    let mut db = database_with_lock_page(512, AutoVacuum::None, 512 * 9);
    let root = db.create_table(TABLE).unwrap();
    fill(&mut db, root, 0..200, 30);
    assert!(db.page_count() > 12);
    assert_eq!(check(&mut db, &[1, 2]), [""; 0]);
    assert_eq!(entries(&mut db, root).len(), 200);
}

/// D266, D286: any damage: the check returns, and changes nothing.
#[test]
fn random_damage_is_survived() {
    let mut seed = 99u32;
    let mut next = |limit: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % limit
    };
    for mode in [AutoVacuum::None, AutoVacuum::Full] {
        let mut db = database(512, mode);
        let roots = [TABLE, 0, INDEX].map(|flags| db.create_table(flags).unwrap());
        fill(&mut db, roots[0], 0..200, 30);
        fill(&mut db, roots[0], 200..205, 2000);
        for root in &roots[1..] {
            let cursor = db.open_cursor(*root, true).unwrap();
            for key in 0..100 {
                let key = format!("{key}").repeat(1 + key % 90);
                db.insert(cursor, Key::Bytes(key.as_bytes()), b"x", 0).unwrap();
            }
            db.close_cursor(cursor);
        }
        let all: Vec<i64> =
            std::iter::once(1).chain(roots.iter().map(|root| root.get().into())).collect();
        assert_eq!(check(&mut db, &all), [""; 0]);
        let pages: Vec<Vec<u8>> = (1..=db.page_count()).map(|n| peek(&mut db, n)).collect();
        for _ in 0..500 {
            for _ in 0..=next(4) {
                let number = 1 + next(pages.len()) as u32;
                let start = if number == 1 { 100 } else { 0 };
                let at = start + if next(2) == 0 { next(20) } else { next(512 - start) };
                poke(&mut db, number, at, &[next(256) as u8]);
            }
            let before: Vec<Vec<u8>> = (1..=db.page_count()).map(|n| peek(&mut db, n)).collect();
            check(&mut db, &all);
            let mut listing = String::new();
            db.dump_tree(roots[0], &mut listing).unwrap();
            for (index, bytes) in before.iter().enumerate() {
                assert_eq!(peek(&mut db, index as u32 + 1), *bytes);
                poke(&mut db, index as u32 + 1, 0, &pages[index]);
            }
        }
        assert_eq!(check(&mut db, &all), [""; 0]);
        assert_eq!(db.stats().pinned, 1);
    }
}

/// tcl-8.4: no file leads to this line, so the texts are shown here.
#[test]
fn a_leak_of_pins_is_told() {
    let mut report = Report { lines: Vec::new(), ours: Vec::new(), limit: 10 };
    report.say_pins(3, 3);
    assert_eq!(report.lines, [""; 0]);
    report.say_pins(3, 5);
    assert_eq!(report.lines, ["Outstanding page count goes from 3 to 5 during this analysis"]);
}
