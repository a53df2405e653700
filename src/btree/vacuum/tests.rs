use super::super::store::testing::{database, database_with_lock_page, entries, fill, page, poke};
use super::*;
use crate::btree::{Btree, Key, TABLE};
use crate::format::{LockPage, PageSize};

fn roots(db: &mut Btree) -> Vec<i64> {
    let largest = i64::from(db.meta(4).unwrap());
    (1..=largest).filter(|&root| !db.store.is_map_page(root as u32)).collect()
}

fn assert_sound(db: &mut Btree) {
    let roots = roots(db);
    assert_eq!(db.integrity_check(&roots, 100), Ok(vec![]));
}

/// Three trees, with chains of overflow pages, of which two thirds of the rows are gone.
fn with_holes(mode: AutoVacuum, lock_offset: u32) -> Btree {
    let mut db = database_with_lock_page(512, mode, lock_offset);
    let trees = [(); 3].map(|()| db.create_table(TABLE).unwrap());
    for (tree, &root) in trees.iter().enumerate() {
        fill(&mut db, root, 0..60, [40, 400, 3000][tree]);
    }
    for &root in &trees {
        let cursor = db.open_cursor(root, true).unwrap();
        for key in (0..60).filter(|key| key % 3 != 0) {
            assert!(db.seek(cursor, Key::Integer(key)).unwrap().is_eq());
            db.delete(cursor).unwrap();
        }
        db.close_cursor(cursor);
    }
    db
}

fn content(db: &mut Btree) -> Vec<Vec<(i64, Vec<u8>)>> {
    (3..=5).map(|root| entries(db, page(root))).collect()
}

/// D464, D450: after every step the content is the same and everything is accounted for.
#[test]
fn each_step_makes_the_image_shorter() {
    for lock_offset in [LockPage::STANDARD_OFFSET, 512 * 70, 512 * 104] {
        let mut db = with_holes(AutoVacuum::Incremental, lock_offset);
        assert_sound(&mut db);
        let before = content(&mut db);
        let free = db.store.free_count().unwrap();
        assert!(free > 200);
        let (mut pages, mut steps) = (db.page_count(), 0);
        let expected = db.store.final_size(pages, free).unwrap();
        while db.incremental_vacuum().unwrap() {
            assert!(db.page_count() < pages);
            (pages, steps) = (db.page_count(), steps + 1);
            if steps % 10 == 0 {
                assert_sound(&mut db);
                assert_eq!(content(&mut db), before);
            }
        }
        assert_eq!((steps, pages), (free, expected));
        assert_eq!(db.store.free_count(), Ok(0));
        assert_sound(&mut db);
        assert_eq!(content(&mut db), before);
    }
}

/// D465, C17: nothing is free after the commit.
#[test]
fn a_commit_vacuums_in_full_mode() {
    let mut db = with_holes(AutoVacuum::Full, LockPage::STANDARD_OFFSET);
    let before = content(&mut db);
    let free = db.store.free_count().unwrap();
    let expected = db.store.final_size(db.page_count(), free).unwrap();
    db.store.vacuum_for_commit().unwrap();
    assert_eq!(db.page_count(), expected);
    assert_eq!(db.store.free_count(), Ok(0));
    assert_sound(&mut db);
    assert_eq!(content(&mut db), before);
}

/// C17: 23 pages, 18 of them free, three roots: 5 pages are left.
#[test]
fn the_measured_size_is_reached() {
    let size = PageSize::new(1024).unwrap();
    let format = PageFormat::new(size, 0, LockPage::STANDARD_OFFSET).unwrap();
    assert_eq!(format.final_size(23, 18), Some(5));
    // One map page less for each group of pages that is emptied.
    assert_eq!(format.final_size(208, 1), Some(206));
    assert_eq!(format.final_size(208, 2), Some(205));
    assert_eq!(format.final_size(209, 1), Some(208));
    assert_eq!(format.final_size(3, 1), Some(1));
    assert_eq!(format.final_size(3, 7), None);
}

/// D402, D405: roots are kept together in front.
#[test]
fn roots_move_to_the_front_and_close_gaps() {
    let mut db = database(512, AutoVacuum::Incremental);
    let first = db.create_table(TABLE).unwrap();
    fill(&mut db, first, 0..40, 2000);
    let before = entries(&mut db, first);
    for expected in 4..=9 {
        let root = db.create_table(TABLE).unwrap();
        assert_eq!(root.get(), expected);
        fill(&mut db, root, 0..i64::from(expected), 700);
        assert_sound(&mut db);
        assert_eq!(entries(&mut db, first), before);
    }
    let moved = entries(&mut db, page(9));
    assert_eq!(db.drop_table(5), Ok(Some(page(9))));
    assert_eq!(entries(&mut db, page(5)), moved);
    assert_sound(&mut db);
    assert_eq!(db.drop_table(8), Ok(None));
    assert_eq!(db.meta(4), Ok(7));
    assert_sound(&mut db);
    assert_eq!(entries(&mut db, first), before);
}

#[test]
fn a_page_that_nobody_owns_is_corrupt() {
    let mut db = with_holes(AutoVacuum::Incremental, LockPage::STANDARD_OFFSET);
    let place = db.store.allocate_at_most(u32::MAX).unwrap().unwrap().0;
    let wrong = [
        Owner::Free,
        Owner::Child(page(4)),
        Owner::Child(page(100_000)),
        Owner::OverflowFirst(page(4)),
        Owner::OverflowNext(page(4)),
    ];
    for owner in wrong {
        let result = db.store.relocate_page(page(3), place, owner);
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{owner:?} {result:?}");
    }
}

/// D286: damage ends a vacuum with `Corrupt`, and nothing worse.
#[test]
fn a_damaged_image_is_reported() {
    let mut seed = 5u32;
    let mut next = |limit: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % limit
    };
    for round in 0..60 {
        let mut db = with_holes(AutoVacuum::Full, LockPage::STANDARD_OFFSET);
        let pages = db.page_count() as usize;
        for _ in 0..=next(20) {
            // Map pages, the free list in the file header, and any page.
            let (number, at) = match next(4) {
                0 => (2, next(512)),
                1 => (1, 32 + next(8)),
                _ => (2 + next(pages - 1), next(512)),
            };
            poke(&mut db, number as u32, at, &[next(256) as u8]);
        }
        let result = if round % 2 == 0 {
            db.store.vacuum_for_commit()
        } else {
            (0..pages).try_for_each(|_| db.store.vacuum_step().map(|_| ()))
        };
        assert!(matches!(result, Ok(()) | Err(Error::Corrupt { .. })), "{result:?}");
    }
}

/// D465: a commit that a reader refuses has not moved half of a page because the cache could not
/// spill, and can be tried again.
#[test]
fn a_refused_commit_can_be_tried_again() {
    use crate::btree::{Options, TransactionKind};
    use crate::os::MemoryVfs;
    let vfs: std::sync::Arc<dyn crate::os::Vfs> = std::sync::Arc::new(MemoryVfs::new());
    let options = Options { page_size: PageSize::new(512).unwrap(), ..Options::default() };
    for rows in 10..60 {
        let open = || Btree::open(std::sync::Arc::clone(&vfs), "busy.db", &options).unwrap();
        let mut db = open();
        if rows == 10 {
            db.set_auto_vacuum(AutoVacuum::Full).unwrap();
        }
        db.begin(TransactionKind::Write).unwrap();
        if rows == 10 {
            db.create_table(TABLE).unwrap();
        }
        fill(&mut db, page(3), 0..60, 3000);
        db.commit().unwrap();

        let mut db = open();
        let mut reader = open();
        reader.begin(TransactionKind::Read).unwrap();
        db.begin(TransactionKind::Write).unwrap();
        let cursor = db.open_cursor(page(3), true).unwrap();
        for key in 0..rows {
            assert!(db.seek(cursor, Key::Integer(key)).unwrap().is_eq());
            db.delete(cursor).unwrap();
        }
        db.close_cursor(cursor);
        let left = entries(&mut db, page(3));
        db.set_cache_size(10);
        assert_eq!(db.commit(), Err(Error::Busy));
        reader.rollback().unwrap();
        db.commit().unwrap();
        db.begin(TransactionKind::Read).unwrap();
        assert_eq!(entries(&mut db, page(3)), left, "{rows} rows");
        assert_sound(&mut db);
    }
}

/// The choice between full and incremental vacuum survives the rollback of the transaction that
/// was to store it.
#[test]
fn the_choice_of_vacuum_survives_a_rollback() {
    use crate::btree::TransactionKind;
    let mut db = database(512, AutoVacuum::Full);
    db.commit().unwrap();
    for _ in 0..2 {
        db.set_auto_vacuum(AutoVacuum::Incremental).unwrap();
        db.begin(TransactionKind::Write).unwrap();
        db.rollback().unwrap();
        assert_eq!(db.auto_vacuum(), AutoVacuum::Incremental);
    }
    db.begin(TransactionKind::Write).unwrap();
    db.commit().unwrap();
    assert_eq!(db.meta(7).unwrap(), 1);
}

/// D285, T3: a statement that has failed is undone, and the next goes on, while the choice between
/// full and incremental vacuum is not committed yet; the choice is stored all the same.
#[test]
fn a_failed_statement_is_undone_before_the_choice_is_committed() {
    for mode in [AutoVacuum::None, AutoVacuum::Full, AutoVacuum::Incremental] {
        for nested in [false, true] {
            let mut db = database(512, mode);
            let root = db.create_table(TABLE).unwrap();
            let limit = db.set_page_limit(10);
            db.begin_statement().unwrap();
            if nested {
                db.open_savepoints(2).unwrap();
            }
            let cursor = db.open_cursor(root, true).unwrap();
            let refused = db.insert(cursor, Key::Integer(1), &[7; 100_000], 0);
            assert_eq!(refused, Err(Error::Full), "{mode:?}");
            db.close_cursor(cursor);
            if nested {
                assert_eq!(db.rollback_savepoint(Some(1)), Ok(()), "{mode:?}");
                fill(&mut db, root, 1..2, 10);
            }
            assert_eq!(db.rollback_statement(), Ok(()), "{mode:?}");
            assert_eq!(entries(&mut db, root), []);
            db.set_page_limit(limit);
            db.begin_statement().unwrap();
            fill(&mut db, root, 1..20, 100);
            db.commit_statement().unwrap();
            db.commit().unwrap();
            assert_eq!(db.auto_vacuum(), mode);
            db.begin(crate::btree::TransactionKind::Read).unwrap();
            assert_eq!(db.meta(7), Ok(u32::from(mode == AutoVacuum::Incremental)));
            assert_eq!(db.integrity_check(&[1, root.get().into()], 100), Ok(vec![]));
        }
    }
}
