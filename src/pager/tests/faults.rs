//! Every call fails once, and the machine stops after every call.

use super::*;
use crate::os::simulate::{
    CrashDisk, DiskImage, FaultKnobs, FaultVfs, OpKind, PlannedFault, Unsynced,
};

const OLD: std::ops::RangeInclusive<u8> = 1..=25;

fn new_values() -> Vec<u8> {
    let mut values: Vec<u8> = OLD.collect();
    values.extend([0, 0, 103]);
    for value in values.iter_mut().step_by(2) {
        *value = 101;
    }
    values
}

/// Changes most pages, spills, rolls back a savepoint, and commits.
fn workload(pager: &mut Pager<()>) -> Result<()> {
    begin(pager)?;
    for number in (1..=27).step_by(2) {
        put(pager, number, 101)?;
    }
    pager.open_savepoints(1, true)?;
    for number in 1..=30 {
        put(pager, number, 102)?;
    }
    pager.rollback_savepoint(Some(0))?;
    put(pager, 28, 103)?;
    commit(pager)
}

fn expect_old_or_new(values: &[u8], what: &str) -> bool {
    let old: Vec<u8> = OLD.collect();
    let mut new = new_values();
    new[25] = 0;
    let is_new = values == new;
    assert!(is_new || values == old, "{what}: {values:?}");
    is_new
}

/// A pager with a small cache, in a transaction that has changed all pages.
fn with_changes(vfs: &Arc<dyn Vfs>) -> Pager<()> {
    let mut pager = open(vfs, 10);
    begin(&mut pager).unwrap();
    for number in 1..=25 {
        put(&mut pager, number, 50).unwrap();
    }
    pager
}

#[test]
fn d281_d283_every_failing_call_leaves_old_or_new() {
    let modes = [JournalMode::Delete, JournalMode::Truncate, JournalMode::Persist];
    for mode in modes {
        for (persist, torn) in [(false, false), (false, true), (true, false)] {
            for nth in 1.. {
                let (memory, plain) = memory();
                create(&plain, &OLD.collect::<Vec<u8>>());
                let knobs = Arc::new(FaultKnobs::default());
                let faulty = FaultVfs::new(Arc::new(memory.clone()), Arc::clone(&knobs));
                let vfs: Arc<dyn Vfs> = Arc::new(faulty);
                let mut pager = open(&vfs, 10);
                pager.set_journal_mode(mode).unwrap();
                knobs.plan(OpKind::Any, nth, PlannedFault { error: None, persist, torn });
                let what = format!("{mode:?} call {nth} persist {persist} torn {torn}");
                let result = workload(&mut pager);
                let struck = knobs.io_error_hit.load(std::sync::atomic::Ordering::Relaxed) != 0;
                if persist {
                    let _ = pager.rollback();
                    knobs.clear_plans();
                } else {
                    knobs.clear_plans();
                    let _ = pager.rollback();
                }
                pager.end_read();
                assert!(!pager.is_reading(), "{what}");
                // The same connection, and a new one, agree on one of the two states.
                let same = expect_old_or_new(&values(&mut pager).expect(&what), &what);
                pager.close();
                let fresh = expect_old_or_new(&values(&mut open(&plain, 10)).unwrap(), &what);
                assert_eq!(same, fresh, "{what}");
                assert!(result.is_err() || fresh, "{what}: a success was lost");
                if !struck && result.is_ok() {
                    break;
                }
            }
        }
    }
}

fn check_image(image: &DiskImage, what: &str) -> bool {
    let vfs: Arc<dyn Vfs> = Arc::new(image.to_memory());
    expect_old_or_new(&values(&mut open(&vfs, 10)).expect(what), what)
}

#[test]
fn d152_d280_every_crash_leaves_old_or_new() {
    let (memory, plain) = memory();
    create(&plain, &OLD.collect::<Vec<u8>>());
    let start = DiskImage::new(
        memory
            .paths()
            .into_iter()
            .map(|path| (path.clone(), memory.content(&path).unwrap()))
            .collect(),
    );
    use JournalMode::{Delete, Persist, Truncate};
    use SafetyLevel::{Extra, Full, Normal};
    for (mode, safety) in [(Delete, Full), (Delete, Normal), (Truncate, Full), (Persist, Extra)] {
        let disk = CrashDisk::starting_from(&start);
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let mut pager = open(&vfs, 10);
        pager.set_journal_mode(mode).unwrap();
        pager.set_safety_level(safety, false);
        workload(&mut pager).unwrap();
        for after in 0..=disk.change_count() {
            let what = format!("{mode:?} {safety:?} after {after}");
            check_image(&disk.killed(after, None), &what);
            if let Some(length) = disk.write_length(after) {
                check_image(&disk.killed(after, Some(length / 2)), &what);
            }
            check_image(&disk.power_lost(after, Unsynced::Lose), &what);
            check_image(&disk.power_lost(after, Unsynced::Keep), &what);
            for seed in 0..8 {
                check_image(&disk.power_lost(after, Unsynced::Part { seed }), &what);
            }
        }
        assert!(check_image(&disk.killed(disk.change_count(), None), "finished"));
    }
}

#[test]
fn a_crash_during_rollback_or_recovery_is_harmless() {
    // The rule of async-io 1.4: the database is synced before the journal ends.
    let (memory, plain) = memory();
    let old: Vec<u8> = OLD.collect();
    create(&plain, &old);
    let start = DiskImage::new([(database(), memory.content(&database()).unwrap())].into());
    let disk = CrashDisk::starting_from(&start);
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let mut pager = open(&vfs, 10);
    begin(&mut pager).unwrap();
    for number in 1..=30 {
        put(&mut pager, number, 102).unwrap();
    }
    let spilled = disk.change_count();
    pager.rollback().unwrap();
    for after in 0..=disk.change_count() {
        for seed in 0..6 {
            let image = disk.power_lost(after, Unsynced::Part { seed });
            let what = format!("after {after} seed {seed}");
            let vfs: Arc<dyn Vfs> = Arc::new(image.to_memory());
            assert_eq!(values(&mut open(&vfs, 10)).expect(&what), old, "{what}");
        }
    }
    let hot = disk.power_lost(spilled, Unsynced::Keep);
    let second = CrashDisk::starting_from(&hot);
    let vfs: Arc<dyn Vfs> = Arc::new(second.clone());
    assert_eq!(values(&mut open(&vfs, 10)).unwrap(), old);
    for after in 0..=second.change_count() {
        for seed in 0..6 {
            let image = second.power_lost(after, Unsynced::Part { seed });
            let vfs: Arc<dyn Vfs> = Arc::new(image.to_memory());
            assert_eq!(values(&mut open(&vfs, 10)).unwrap(), old, "after {after} seed {seed}");
        }
    }
}

#[test]
fn d282_a_full_disk_lets_reading_go_on_and_nothing_else() {
    let (memory, plain) = memory();
    create(&plain, &OLD.collect::<Vec<u8>>());
    let knobs = Arc::new(FaultKnobs::default());
    let vfs: Arc<dyn Vfs> = Arc::new(FaultVfs::new(Arc::new(memory), Arc::clone(&knobs)));
    let mut pager = open(&vfs, 10);
    begin(&mut pager).unwrap();
    let full = PlannedFault { error: Some(Error::Full), persist: true, torn: false };
    knobs.plan(OpKind::Write, 3, full);
    let failed = (1..=25).find(|number| put(&mut pager, *number, 50).is_err()).unwrap();
    assert_eq!((get(&mut pager, 1), get(&mut pager, 25)), (Ok(50), Ok(25)));
    assert_eq!(put(&mut pager, failed - 1, 51), Err(Error::Full));
    assert_eq!(pager.commit_phase_one(None), Err(Error::Full));
    assert_eq!(pager.stats().error, 13);
    knobs.clear_plans();
    pager.rollback().unwrap();
    pager.end_read();
    assert_eq!((values(&mut pager).unwrap(), pager.stats().error), (OLD.collect(), 0));
}

#[test]
fn d283_a_failed_rollback_leaves_the_journal_for_the_next_reader() {
    let (memory, plain) = memory();
    let old: Vec<u8> = OLD.collect();
    create(&plain, &old);
    let knobs = Arc::new(FaultKnobs::default());
    let vfs: Arc<dyn Vfs> = Arc::new(FaultVfs::new(Arc::new(memory), Arc::clone(&knobs)));
    let mut pager = with_changes(&vfs);
    let mark = pager.mark();
    let held = pager.fetch(page(3)).unwrap();
    pager.pin(held);
    pager.release(mark);
    knobs.plan(OpKind::Write, 2, PlannedFault { error: None, persist: true, torn: true });
    assert!(pager.rollback().is_err());
    assert_eq!((pager.is_writing(), pager.stats().error), (false, 10));
    knobs.clear_plans();
    // As long as somebody holds a page, every request fails.
    pager.end_read();
    assert!(get(&mut pager, 4).is_err() && pager.begin_read().is_err());
    assert_eq!(values(&mut open(&plain, 10)), Err(Error::Busy));
    pager.unpin(held);
    assert_eq!(values(&mut pager).unwrap(), old);
    assert_eq!(values(&mut open(&plain, 10)).unwrap(), old);
}

/// Phase two fails after it has voided the journal, and the process dies in the rollback that
/// follows: the journal must be valid again before the first page goes back into the file.
#[test]
fn d283_a_death_in_the_rollback_after_a_failed_phase_two_is_harmless() {
    for mode in [JournalMode::Delete, JournalMode::Truncate, JournalMode::Persist] {
        for (kind, torn) in [(OpKind::Sync, false), (OpKind::Write, true), (OpKind::Any, false)] {
            for dies_at in 1..60 {
                let (memory, plain) = memory();
                create(&plain, &OLD.collect::<Vec<u8>>());
                let knobs = Arc::new(FaultKnobs::default());
                let faulty = FaultVfs::new(Arc::new(memory.clone()), Arc::clone(&knobs));
                let vfs: Arc<dyn Vfs> = Arc::new(faulty);
                let mut pager = open(&vfs, 10);
                pager.set_journal_mode(mode).unwrap();
                begin(&mut pager).unwrap();
                for number in 1..=25 {
                    put(&mut pager, number, 101).unwrap();
                }
                pager.commit_phase_one(None).unwrap();
                knobs.plan(kind, 1, PlannedFault { error: None, persist: false, torn });
                let failed = pager.commit_phase_two().is_err();
                knobs.clear_plans();
                let dead = PlannedFault { error: None, persist: true, torn: true };
                knobs.plan(OpKind::Any, dies_at, dead);
                let _ = pager.rollback();
                drop(pager);
                let after = values(&mut open(&plain, 10)).unwrap();
                let what = format!("{mode:?} {kind:?}, dies at {dies_at}: {after:?}");
                let is_new = after == [101; 25];
                assert!(is_new || after == OLD.collect::<Vec<u8>>(), "{what}");
                assert!(failed || is_new, "{what}");
            }
        }
    }
}

/// The journal is closed before it is deleted. If it can then neither be deleted nor opened again,
/// the transaction is not committed, and a rollback says why it cannot undo it, or does so.
#[test]
fn a_journal_that_cannot_be_deleted_is_opened_again_when_it_is_needed() {
    for opens_later in [true, false] {
        let (memory, plain) = memory();
        let old: Vec<u8> = OLD.collect();
        create(&plain, &old);
        let knobs = Arc::new(FaultKnobs::default());
        let vfs: Arc<dyn Vfs> = Arc::new(FaultVfs::new(Arc::new(memory), Arc::clone(&knobs)));
        let mut pager = with_changes(&vfs);
        pager.commit_phase_one(None).unwrap();
        let fails = PlannedFault { error: None, persist: false, torn: false };
        let denied = Error::CannotOpen("permission denied");
        let refused = PlannedFault { error: Some(denied), persist: !opens_later, torn: false };
        knobs.plan(OpKind::Delete, 1, fails);
        knobs.plan(OpKind::Open, 1, refused);
        assert!(matches!(pager.commit_phase_two(), Err(Error::Io { .. })));
        let expected = if opens_later { Ok(()) } else { Err(denied) };
        assert_eq!(pager.rollback(), expected);
        knobs.clear_plans();
        pager.end_read();
        assert_eq!(values(&mut pager).unwrap(), old);
        assert_eq!(values(&mut open(&plain, 10)).unwrap(), old);
    }
}

/// A writer that read without a lock finds what another one left when it died in the meantime:
/// its own journal must not be written over the hot one.
#[test]
fn d175_a_writer_that_held_no_lock_recovers_before_it_writes() {
    let (memory, plain) = memory();
    let old: Vec<u8> = OLD.collect();
    create(&plain, &old);
    let storage = Storage::File(database());
    let unlocked = PagerOptions { no_read_lock: true, ..options(10) };
    let mut pager = Pager::<()>::open(Arc::clone(&plain), &storage, &unlocked).unwrap();
    begin_read(&mut pager).unwrap();

    let knobs = Arc::new(FaultKnobs::default());
    let faulty = FaultVfs::new(Arc::new(memory.clone()), Arc::clone(&knobs));
    let vfs: Arc<dyn Vfs> = Arc::new(faulty);
    let mut dying = open(&vfs, 10);
    begin(&mut dying).unwrap();
    for number in 1..=25 {
        put(&mut dying, number, 101).unwrap();
    }
    dying.commit_phase_one(None).unwrap();
    knobs.plan(OpKind::Any, 1, PlannedFault { error: None, persist: true, torn: false });
    drop(dying);

    pager.begin_write(false, true).unwrap();
    put(&mut pager, 2, 77).unwrap();
    commit(&mut pager).unwrap();
    let after = values(&mut open(&plain, 10)).unwrap();
    assert_eq!((after[1], &after[2..]), (77, &old[2..]));
}

/// What was gathered for the journal and not yet sealed is not needed to roll back: on a full disk
/// there may be no room for it.
#[test]
fn d282_rollback_writes_nothing_to_the_journal() {
    let (memory, plain) = memory();
    create(&plain, &OLD.collect::<Vec<u8>>());
    let knobs = Arc::new(FaultKnobs::default());
    let vfs: Arc<dyn Vfs> = Arc::new(FaultVfs::new(Arc::new(memory), Arc::clone(&knobs)));
    let mut pager = open(&vfs, 10);
    begin(&mut pager).unwrap();
    for number in 1..=15 {
        put(&mut pager, number, 50).unwrap();
    }
    knobs.set_logging(true);
    pager.rollback().unwrap();
    let to_journal = |call: &crate::os::simulate::LoggedCall| {
        call.kind == OpKind::Write && call.path.as_deref() == Some(&journal())
    };
    assert!(!knobs.log().iter().any(to_journal));
    pager.end_read();
    assert_eq!(values(&mut pager).unwrap(), OLD.collect::<Vec<u8>>());
}
