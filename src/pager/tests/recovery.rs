//! What a crashed writer may leave behind, and what the next reader makes of it.

use super::*;

const OLD: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// A hot pair: the database partly written, the journal synced. Records: pages 2, 3, 4, 5, 1.
fn hot_pair() -> (Vec<u8>, Vec<u8>) {
    let (memory, vfs) = memory();
    create(&vfs, &OLD);
    let mut pager = open(&vfs, 50);
    begin(&mut pager).unwrap();
    for number in [2, 3, 4, 5, 10] {
        put(&mut pager, number, 99).unwrap();
    }
    pager.commit_phase_one(None).unwrap();
    let pair = (memory.content(&database()).unwrap(), memory.content(&journal()).unwrap());
    assert_eq!((pair.0.len(), pair.1.len()), (10 * 512, 512 + 5 * 520));
    pair
}

struct Outcome {
    values: Vec<u8>,
    journal: Option<Vec<u8>>,
}

fn recover(database_bytes: Vec<u8>, journal_bytes: Vec<u8>) -> Outcome {
    let (memory, vfs) = memory();
    memory.put(database(), database_bytes);
    memory.put(journal(), journal_bytes);
    let mut pager = open(&vfs, 50);
    pager.begin_read().unwrap();
    let values = (1..=pager.page_count()).map(|number| get(&mut pager, number).unwrap()).collect();
    Outcome { values, journal: memory.content(&journal()) }
}

fn changed(journal: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut journal = journal.to_vec();
    journal[at..at + bytes.len()].copy_from_slice(bytes);
    journal
}

#[test]
fn d175_d516_the_outcome_table_of_damaged_journals() {
    let (db, hot) = hot_pair();
    let new = [1, 99, 99, 99, 99, 6, 7, 8, 0, 99];
    let cut_to_old = [1, 99, 99, 99, 99, 6, 7, 8];
    let first_restored = [1, 2, 99, 99, 99, 6, 7, 8];
    let record = |index: usize| 512 + index * 520;
    let deleted = |journal: Vec<u8>, expected: &[u8], what: &str| {
        let outcome = recover(db.clone(), journal);
        assert_eq!((outcome.values.as_slice(), outcome.journal), (expected, None), "{what}");
    };
    deleted(hot.clone(), &OLD, "intact");
    deleted(changed(&hot, 24, &[0; 4]), &OLD, "page size 0");
    deleted(changed(&hot, 8, &[0xff; 4]), &OLD, "all records there are");

    for void in [Vec::new(), changed(&hot, 0, &[0]), changed(&hot, 0, &[0; 28])] {
        let outcome = recover(db.clone(), void.clone());
        assert_eq!((outcome.values.as_slice(), outcome.journal), (&new[..], Some(void)));
    }
    deleted(vec![0xd9], &new, "one byte");
    deleted(changed(&hot, 2, &[0]), &new, "magic damaged");
    deleted(hot[..511].to_vec(), &new, "less than one sector");
    deleted(changed(&hot, 20, &16u32.to_be_bytes()), &new, "sector size 16");
    deleted(changed(&hot, 24, &1000u32.to_be_bytes()), &new, "page size 1000");

    deleted(hot[..512].to_vec(), &cut_to_old, "cut behind the header");
    deleted(changed(&hot, 8, &[0; 4]), &cut_to_old, "no records");
    deleted(changed(&hot, 20, &1024u32.to_be_bytes()), &cut_to_old, "wrong sector size");
    deleted(changed(&hot, 20, &32u32.to_be_bytes()), &cut_to_old, "wrong sector size");
    deleted(hot[..record(1) + 100].to_vec(), &first_restored, "cut inside record 2");
    deleted(changed(&hot, record(2) - 1, &[hot[record(2) - 1] ^ 1]), &first_restored, "checksum");
    deleted(changed(&hot, record(1), &[0; 4]), &first_restored, "page number 0");
}

#[test]
fn every_prefix_of_a_journal_restores_a_prefix_of_its_records() {
    let (db, hot) = hot_pair();
    for length in (0..hot.len()).step_by(37) {
        let outcome = recover(db.clone(), hot[..length].to_vec());
        let whole = length.saturating_sub(512) / 520;
        for (at, number) in [2u8, 3, 4, 5].iter().enumerate() {
            let expected = if at < whole { *number } else { 99 };
            assert_eq!(outcome.values[usize::from(*number) - 1], expected, "length {length}");
        }
    }
}

#[test]
fn d176_a_journal_beside_an_empty_database_is_deleted() {
    let (_, hot) = hot_pair();
    for empty in [Vec::new(), vec![0]] {
        let outcome = recover(empty, hot.clone());
        assert_eq!((outcome.values.len(), outcome.journal), (0, None));
    }
}

#[test]
fn the_journal_of_a_living_writer_is_left_alone() {
    let (db, hot) = hot_pair();
    let (memory, vfs) = memory();
    memory.put(database(), db.clone());
    memory.put(journal(), hot.clone());
    let request = OpenRequest {
        kind: OpenKind::Database,
        access: Access::ReadWrite,
        exclusive: false,
        delete_on_close: false,
        lock_offset: LockPage::STANDARD_OFFSET,
    };
    let mut other = vfs.open(Some(&database()), request).unwrap().file;
    let mut pager = open(&vfs, 20);
    other.lock(LockLevel::Shared).unwrap();
    // A reader in the way: no recovery, no lock left behind.
    assert_eq!(pager.begin_read(), Err(Error::Busy));
    assert_eq!(pager.file.lock_level(), LockLevel::None);
    other.lock(LockLevel::Reserved).unwrap();
    assert!(pager.begin_read().is_ok());
    assert_eq!(get(&mut pager, 2), Ok(99));
    pager.end_read();
    assert_eq!(memory.content(&journal()), Some(hot));
    drop(other);
    assert_eq!(values(&mut pager).unwrap(), OLD);
}

#[test]
fn recovery_does_not_depend_on_the_own_journal_mode() {
    let (db, hot) = hot_pair();
    for mode in [JournalMode::Off, JournalMode::Memory, JournalMode::Persist, JournalMode::Truncate]
    {
        let (memory, vfs) = memory();
        memory.put(database(), db.clone());
        memory.put(journal(), hot.clone());
        let mut pager = open(&vfs, 20);
        pager.set_journal_mode(mode).unwrap();
        assert_eq!(values(&mut pager).unwrap(), OLD, "{mode:?}");
        let left = memory.content(&journal());
        match mode {
            JournalMode::Persist => assert_eq!(left.unwrap()[..28], [0; 28]),
            JournalMode::Truncate => assert_eq!(left, Some(Vec::new())),
            _ => assert_eq!(left, None),
        }
    }
}

#[test]
fn d161_a_missing_super_journal_means_committed() {
    let name = PathBuf::from("/t.db-mj0123459AB");
    for (listed, expected_values) in [(true, OLD[1]), (false, 99)] {
        let (memory, vfs) = memory();
        create(&vfs, &OLD);
        let mut pager = open(&vfs, 50);
        begin(&mut pager).unwrap();
        put(&mut pager, 2, 99).unwrap();
        pager.commit_phase_one(Some(&name)).unwrap();
        let (db, hot) = (memory.content(&database()).unwrap(), memory.content(&journal()).unwrap());
        assert_eq!(hot.len() % 512, 4 + 17 + 16, "D161: on a sector of its own, and the end");
        let (memory, vfs) = super::memory();
        memory.put(database(), db);
        memory.put(journal(), hot);
        if listed {
            memory.put(name.clone(), b"/t.db-journal\0/other-journal\0".to_vec());
        }
        let mut pager = open(&vfs, 20);
        assert_eq!(values(&mut pager).unwrap()[1], expected_values);
        assert_eq!((memory.content(&journal()), memory.content(&name)), (None, None));
    }
}

#[test]
fn a_super_journal_stays_while_another_journal_names_it() {
    let name = PathBuf::from("/t.db-mj0123459AB");
    let (memory, vfs) = memory();
    create(&vfs, &OLD);
    let mut pager = open(&vfs, 50);
    begin(&mut pager).unwrap();
    put(&mut pager, 2, 99).unwrap();
    pager.commit_phase_one(Some(&name)).unwrap();
    let hot = memory.content(&journal()).unwrap();
    let db = memory.content(&database()).unwrap();
    let (memory, vfs) = super::memory();
    memory.put(database(), db);
    memory.put(journal(), hot.clone());
    memory.put("/other-journal", hot);
    memory.put(name.clone(), b"/t.db-journal\0/other-journal\0".to_vec());
    assert_eq!(values(&mut open(&vfs, 20)).unwrap(), OLD);
    assert!(memory.content(&name).is_some());
}

#[test]
fn a_write_ahead_log_is_refused_and_deleted_beside_nothing() {
    let (memory, vfs) = memory();
    create(&vfs, &OLD);
    memory.put("/t.db-wal", vec![7; 100]);
    let mut pager = open(&vfs, 20);
    assert!(matches!(pager.begin_read(), Err(Error::CannotOpen(_))));
    assert_eq!(pager.file.lock_level(), LockLevel::None);
    memory.put(database(), Vec::new());
    open(&vfs, 20).begin_read().unwrap();
    assert_eq!(memory.content(Path::new("/t.db-wal")), None);
}
