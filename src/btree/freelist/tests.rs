#![allow(clippy::indexing_slicing)]

use super::super::store::testing::{database, database_with_lock_page, fill, page, peek, poke};
use super::*;
use crate::btree::{Btree, TABLE};
use crate::format::AutoVacuum;

/// Allocates `count` pages, one after the other.
fn allocate(db: &mut Btree, count: usize) -> Vec<u32> {
    let mut pages = Vec::new();
    for _ in 0..count {
        let mark = db.store.pager.mark();
        pages.push(db.store.allocate_page(None).unwrap().0.get());
        db.store.pager.release(mark);
    }
    pages
}

fn free(db: &mut Btree, number: u32) -> Result<()> {
    db.store.free_page(page(number), None)
}

fn is_corrupt<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Corrupt { .. }))
}

/// D460: the leaf closest to page 1, the hole filled with the last.
#[test]
fn tables_are_numbered_as_they_were_measured() {
    let mut db = database(1024, AutoVacuum::None);
    let create = |db: &mut Btree| db.create_table(TABLE).unwrap().get();
    assert_eq!([(); 4].map(|()| create(&mut db)), [2, 3, 4, 5]);
    for root in [3, 5, 2, 4] {
        db.drop_table(root).unwrap();
    }
    assert_eq!([(); 6].map(|()| create(&mut db)), [2, 4, 5, 3, 6, 7]);
}

/// D461: trunks take no more leaves than engines of all ages accept.
#[test]
fn freed_pages_fill_trunk_after_trunk() {
    let mut db = database(512, AutoVacuum::None);
    let pages = allocate(&mut db, 300);
    assert_eq!(pages, (2..302).collect::<Vec<_>>());
    for &number in &pages {
        free(&mut db, number).unwrap();
    }
    assert_eq!(db.store.free_count(), Ok(300));
    // 120 leaves a trunk: 2, then 123, then 244.
    let header = peek(&mut db, 1);
    assert_eq!(u32_at(&header, FileHeader::FREELIST_TRUNK), Ok(244));
    for (trunk, next, leaves) in [(244, 123, 57), (123, 2, 120), (2, 0, 120)] {
        let bytes = peek(&mut db, trunk);
        assert_eq!((u32_at(&bytes, 0), u32_at(&bytes, 4)), (Ok(next), Ok(leaves)));
    }
    let mut listed: Vec<u32> = db.store.free_pages().unwrap().iter().map(|p| p.get()).collect();
    listed.sort_unstable();
    assert_eq!(listed, pages);
    let mut again = allocate(&mut db, 300);
    assert_eq!(db.page_count(), 301);
    again.sort_unstable();
    assert_eq!(again, pages);
    assert_eq!(db.store.free_pages(), Ok(vec![]));
    assert_eq!(allocate(&mut db, 1), [302]);
}

/// D460: without a free page the image grows, stepping over what is not to be used.
#[test]
fn growing_steps_over_the_lock_page_and_makes_map_pages() {
    let mut db = database_with_lock_page(512, AutoVacuum::None, 4 * 512);
    assert_eq!(allocate(&mut db, 5), [2, 3, 4, 6, 7]);
    let mut db = database_with_lock_page(512, AutoVacuum::Full, 9 * 512);
    let pages = allocate(&mut db, 205);
    assert!([2, 10, 105, 208].iter().all(|page| !pages.contains(page)), "{pages:?}");
    assert_eq!(pages.last(), Some(&210));
    assert!(peek(&mut db, 208).iter().all(|&byte| byte == 0));
    // The lock page where a map page would be: the map page comes behind it.
    let mut db = database_with_lock_page(512, AutoVacuum::Full, 104 * 512);
    let pages = allocate(&mut db, 104);
    assert_eq!(pages[100..], [103, 104, 107, 108]);
}

#[test]
fn the_nearest_leaf_is_taken() {
    let mut db = database(1024, AutoVacuum::None);
    allocate(&mut db, 20);
    for number in [21, 3, 9, 15, 20] {
        free(&mut db, number).unwrap();
    }
    let mut near = |number| {
        let mark = db.store.pager.mark();
        let found = db.store.allocate_page(Some(page(number))).unwrap().0.get();
        db.store.pager.release(mark);
        found
    };
    assert_eq!([near(10), near(14), near(1000), near(2), near(2)], [9, 15, 20, 3, 21]);
}

#[test]
fn a_page_is_freed_once() {
    for mode in [AutoVacuum::None, AutoVacuum::Full] {
        let mut db = database_with_lock_page(512, mode, 6 * 512);
        allocate(&mut db, 8);
        for bad in [1, 7, 1000, u32::MAX] {
            assert!(is_corrupt(free(&mut db, bad)), "{bad}");
        }
        for number in [4, 5] {
            free(&mut db, number).unwrap();
            assert!(is_corrupt(free(&mut db, number)), "{number}");
        }
        assert_eq!(db.store.free_count(), Ok(2));
    }
}

#[test]
fn an_exact_page_is_found_wherever_it_is_listed() {
    for wanted in 3..=302 {
        if [105, 208].contains(&wanted) {
            continue;
        }
        let mut db = database(512, AutoVacuum::Incremental);
        let pages = allocate(&mut db, 298);
        assert_eq!(pages.last(), Some(&302));
        for &number in &pages {
            free(&mut db, number).unwrap();
        }
        let mark = db.store.pager.mark();
        assert_eq!(db.store.allocate_exactly(page(wanted)).unwrap().0.get(), wanted);
        db.store.pager.release(mark);
        let left = db.store.free_pages().unwrap();
        assert_eq!(left.len(), 297);
        assert!(!left.contains(&page(wanted)));
        let mark = db.store.pager.mark();
        let limited = db.store.allocate_at_most(4).unwrap().map(|(number, _)| number.get());
        db.store.pager.release(mark);
        assert_eq!(limited, Some(if wanted == 4 { 3 } else { 4 }));
    }
}

/// D286: a damaged list is reported, and never walked for ever.
#[test]
fn damaged_lists_are_corrupt() {
    let mut seed = 7u32;
    let mut next = |limit: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % limit
    };
    for _ in 0..500 {
        let mut db = database(512, AutoVacuum::None);
        for number in allocate(&mut db, 130) {
            free(&mut db, number).unwrap();
        }
        for _ in 0..=next(3) {
            let value = [0, 1, 2, 3, 123, 300, u32::MAX][next(7) as usize];
            let (number, at) =
                [(1, 32), (1, 36), (2, 0), (2, 4), (2, 8), (123, 0), (123, 4)][next(7) as usize];
            poke(&mut db, number, at, &value.to_be_bytes());
        }
        let _ = db.store.free_pages();
        for number in 0..20 {
            let mark = db.store.pager.mark();
            let result = match number % 3 {
                0 => db.store.allocate_page(None).map(|_| ()),
                1 => db.store.free_page(page(50 + number), None),
                _ => db.store.allocate_at_most(40).map(|_| ()),
            };
            db.store.pager.release(mark);
            if result.is_err() {
                assert!(is_corrupt(result));
                break;
            }
        }
    }
}

/// D172, D173: a tree that was made since the savepoint is gone after the rollback, although its
/// page still looks like one and belongs to somebody else by now.
#[test]
fn a_cursor_does_not_outlive_its_tree() {
    use crate::btree::Key;
    for (nested, whole) in [(false, false), (true, false), (false, true)] {
        let mut db = database(512, AutoVacuum::None);
        let first = db.create_table(TABLE).unwrap();
        let trunk = db.create_table(TABLE).unwrap();
        let dropped = db.create_table(TABLE).unwrap();
        db.drop_table(trunk.get()).unwrap();
        db.drop_table(dropped.get()).unwrap();
        db.commit().unwrap();
        db.begin(crate::btree::TransactionKind::Write).unwrap();
        db.open_savepoints(1).unwrap();
        if nested {
            db.open_savepoints(2).unwrap();
        }
        let root = db.create_table(TABLE).unwrap();
        assert_eq!(root, dropped);
        if nested {
            db.release_savepoint(1).unwrap();
        }
        let cursor = db.open_cursor(root, !whole).unwrap();
        let other = db.open_cursor(first, !whole).unwrap();
        if whole {
            db.rollback().unwrap();
            db.begin(crate::btree::TransactionKind::Write).unwrap();
        } else {
            db.rollback_savepoint(Some(0)).unwrap();
            assert!(matches!(db.insert(cursor, Key::Integer(1), b"x", 0), Err(Error::Abort(_))));
        }
        assert!(matches!(db.first(cursor), Err(Error::Abort(_))), "{nested} {whole}");
        assert_eq!(db.first(other), Ok(false));
    }
}

/// D286: a page that a cursor holds and that the free list has too is not given out.
#[test]
fn a_page_in_use_is_not_allocated() {
    let mut db = database(1024, AutoVacuum::None);
    let roots = [(); 2].map(|()| db.create_table(TABLE).unwrap());
    assert_eq!(roots, [page(2), page(3)]);
    db.drop_table(3).unwrap();
    // Page 3 is the only trunk; page 2, the other root, becomes its leaf.
    poke(&mut db, 3, 4, &[0, 0, 0, 1, 0, 0, 0, 2]);
    poke(&mut db, 1, FileHeader::FREELIST_COUNT, &[0, 0, 0, 2]);
    let cursor = db.open_cursor(page(2), false).unwrap();
    let mark = db.store.pager.mark();
    assert!(is_corrupt(db.store.allocate_page(None)));
    db.store.pager.release(mark);
    assert_eq!(db.first(cursor), Ok(false));
}

/// D286: nor is one that the operation itself works on, such as a sibling that is being balanced.
#[test]
fn a_page_that_is_being_worked_on_is_not_allocated() {
    let mut db = database(1024, AutoVacuum::None);
    assert_eq!([(); 3].map(|()| db.create_table(TABLE).unwrap()), [page(2), page(3), page(4)]);
    db.drop_table(3).unwrap();
    db.drop_table(4).unwrap();
    // Page 4 is the leaf of trunk 3. It was freed just now, so its last user may still pin it.
    let mark = db.store.pager.mark();
    db.store.pager.fetch(page(4)).unwrap();
    assert_eq!(db.store.allocate_page(None).map(|(number, _)| number), Ok(page(4)));
    // Page 2, a root, was never freed.
    poke(&mut db, 3, 4, &[0, 0, 0, 1, 0, 0, 0, 2]);
    poke(&mut db, 1, FileHeader::FREELIST_COUNT, &[0, 0, 0, 2]);
    db.store.pager.fetch(page(2)).unwrap();
    assert!(is_corrupt(db.store.allocate_page(None)));
    db.store.pager.release(mark);
}

/// A page that a cursor holds is given out again if the same transaction has freed it: a delete
/// that merges leaves frees one of the cursor's path and may have to split the page above.
#[test]
fn a_page_freed_under_a_cursor_is_allocated_again() {
    for becomes_trunk in [true, false] {
        let mut db = database(1024, AutoVacuum::None);
        assert_eq!(allocate(&mut db, 3), [2, 3, 4]);
        if !becomes_trunk {
            free(&mut db, 3).unwrap();
        }
        let mark = db.store.pager.mark();
        let held = db.store.pager.fetch(page(4)).unwrap();
        db.store.pager.pin(held);
        db.store.free_page(page(4), Some(held)).unwrap();
        let again = db.store.allocate_page(Some(page(4))).map(|(number, _)| number);
        assert_eq!(again, Ok(page(4)), "{becomes_trunk}");
        db.store.pager.unpin(held);
        db.store.pager.release(mark);
    }
}

/// D286: nor is a page freed with its tree that a cursor holds which is on another tree.
#[test]
fn a_page_of_two_trees_is_not_freed_under_a_cursor() {
    let mut db = database(512, AutoVacuum::None);
    let roots = [(); 2].map(|()| db.create_table(TABLE).unwrap());
    for root in roots {
        fill(&mut db, root, 1..=40, 40);
    }
    let child = |db: &mut Btree, root: PageNumber| peek(db, root.get())[8..12].to_vec();
    let last = child(&mut db, roots[1]);
    poke(&mut db, roots[0].get(), 8, &last);
    let cursor = db.open_cursor(roots[1], false).unwrap();
    assert_eq!(db.last(cursor), Ok(true));
    assert!(is_corrupt(db.clear_table(roots[0].get())));
    assert_eq!(db.integer_key(cursor), Ok(40));
    assert_eq!(db.data(cursor), Ok(vec![40; 40]));
}
