#![allow(clippy::indexing_slicing)]

use super::super::store::testing::{database, page, peek, poke};
use super::*;
use crate::format::AutoVacuum;

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

/// D510: lengths around whole pages, in one piece and in several, with zeros behind.
#[test]
fn what_was_written_is_read() {
    for mode in [AutoVacuum::None, AutoVacuum::Full] {
        let mut db = database(512, mode);
        for length in [1, 2, 507, 508, 509, 1015, 1016, 1017, 5000] {
            for (skip, zeros) in [(0, 0), (3, 0), (10, 700), (0, 508)] {
                let mut expected = content(length + skip);
                let (one, rest) = expected.split_at(expected.len() / 3);
                let pieces = [one, &[], rest];
                let first = db.store.write_overflow(&pieces, skip, zeros).unwrap();
                db.store.set_owner(first, Owner::OverflowFirst(page(1))).unwrap();
                expected.drain(..skip);
                expected.resize(length + zeros, 0);
                let chain = db.store.overflow_chain(first, expected.len()).unwrap();
                assert_eq!(chain.len(), expected.len().div_ceil(508));
                let last = peek(&mut db, chain[chain.len() - 1].get());
                assert_eq!(last[..4], [0; 4]);
                for offset in [0, 1, 507, 508, 509, 1016] {
                    let Some(part) = expected.get(offset..) else { continue };
                    for count in [0, 1, 508, 600, part.len()] {
                        let mut out = vec![9; count.min(part.len())];
                        db.store.read_overflow(first, offset, &mut out).unwrap();
                        assert_eq!(out, part[..out.len()]);
                    }
                }
                let before = db.store.free_count().unwrap();
                db.store.free_overflow(first, expected.len()).unwrap();
                assert_eq!(db.store.free_count(), Ok(before + chain.len() as u32));
            }
        }
        assert_eq!(db.stats().pinned, 1);
    }
}

/// The pieces of a payload are the payload, with a page cache that has room for overflow pages and
/// with one that has none; wherever it breaks off, no page behind is read.
#[test]
fn a_payload_is_shown_in_pieces() {
    use super::super::{Key, TABLE};
    for cache_size in [10, 2000] {
        let mut db = database(512, AutoVacuum::None);
        let root = db.create_table(TABLE).unwrap();
        let cursor = db.open_cursor(root, true).unwrap();
        let lengths = [0, 1, 400, 477, 478, 600, 984, 985, 986, 5000];
        for (key, &length) in (1..).zip(&lengths) {
            db.insert(cursor, Key::Integer(key), &content(length), 0).unwrap();
        }
        db.commit().unwrap();
        db.set_cache_size(cache_size);
        let mut cursor = db.lock_cursor(cursor).unwrap();
        for (key, &length) in (1..).zip(&lengths) {
            assert!(cursor.seek(Key::Integer(key)).unwrap().is_eq());
            let expected = content(length);
            let mut ends = vec![0];
            let shown = cursor.visit_payload(|piece| {
                let start = ends[ends.len() - 1];
                ends.push(start + piece.len());
                assert_eq!(piece, &expected[start..start + piece.len()]);
                ControlFlow::<()>::Continue(())
            });
            assert_eq!((shown, ends[ends.len() - 1]), (Ok(None), length));
            let beyond: Vec<usize> = ends[1..].windows(2).map(|ends| ends[1] - ends[0]).collect();
            assert!(beyond.iter().rev().skip(1).all(|&piece| piece == 508), "{beyond:?}");
            for stop in 1..ends.len() {
                let mut pieces = 0;
                let shown = cursor.visit_payload(|_| {
                    pieces += 1;
                    if pieces == stop {
                        ControlFlow::Break(stop)
                    } else {
                        ControlFlow::Continue(())
                    }
                });
                assert_eq!((shown, pieces), (Ok(Some(stop)), stop));
            }
        }
    }
}

/// D424: with a pointer map a chain in a row is freed unread.
#[test]
fn the_next_page_is_guessed() {
    for mode in [AutoVacuum::None, AutoVacuum::Full] {
        let mut db = database(512, mode);
        let length = 508 * 300;
        let first = db.store.write_overflow(&[&content(length)], 0, 0).unwrap();
        let chain = db.store.overflow_chain(first, length).unwrap();
        if mode == AutoVacuum::Full {
            // No page but the first few is looked at: the numbers on them do not matter.
            for number in &chain[..chain.len() - 1] {
                poke(&mut db, number.get(), 0, &[0; 4]);
            }
        }
        // The last is never read.
        poke(&mut db, chain[299].get(), 0, &[0xff; 4]);
        db.store.free_overflow(first, length).unwrap();
        assert_eq!(db.store.free_count(), Ok(300));
    }
}

/// C27, D286: chains that are too short, circular, or lead out of the database.
#[test]
fn broken_chains_are_corrupt() {
    let mut db = database(512, AutoVacuum::None);
    let first = db.store.write_overflow(&[&content(2000)], 0, 0).unwrap();
    let mut out = vec![0; 2000];
    for next in [0, 1, 1000, u32::MAX] {
        poke(&mut db, first.get(), 0, &u32::to_be_bytes(next));
        assert!(matches!(db.store.read_overflow(first, 0, &mut out), Err(Error::Corrupt { .. })));
        assert!(db.store.overflow_chain(first, 2000).is_err());
    }
    poke(&mut db, first.get(), 0, &first.get().to_be_bytes());
    assert!(db.store.read_overflow(first, 0, &mut out).is_ok(), "bounded by the length");
    assert!(db.store.free_overflow(first, 2000).is_err());
    assert!(db.store.overflow_chain(page(2), usize::MAX).is_err());
    assert!(db.store.free_overflow(page(1), 10).is_err());
}

/// D286: a chain that leads to a page that somebody works with as a node is neither freed nor
/// written to. A replacement of the same size would find the page changed under it.
#[test]
fn a_chain_that_leads_to_a_node_in_use_is_left_alone() {
    use super::super::{Key, TABLE};
    type Change = fn(&mut crate::btree::Btree, crate::btree::CursorId) -> Result<()>;
    let changes: [Change; 3] = [
        |db, cursor| db.put_data(cursor, 1000, &[7; 500]),
        |db, cursor| db.delete(cursor),
        |db, cursor| db.insert(cursor, Key::Integer(1), &content(2000), 0),
    ];
    for change in changes {
        let mut db = database(512, AutoVacuum::None);
        let root = db.create_table(TABLE).unwrap();
        let cursor = db.open_cursor(root, true).unwrap();
        db.insert(cursor, Key::Integer(1), &content(2000), 0).unwrap();
        db.insert(cursor, Key::Integer(2), &content(9), 0).unwrap();
        assert!(db.seek(cursor, Key::Integer(1)).unwrap().is_eq());
        let first = db.overflow_pages(cursor).unwrap()[0];
        poke(&mut db, first.get(), 0, &root.get().to_be_bytes());
        let before = peek(&mut db, root.get());
        let changed = change(&mut db, cursor);
        assert!(matches!(changed, Err(Error::Corrupt { .. })), "{changed:?}");
        assert!(peek(&mut db, root.get()) == before);
    }
}
