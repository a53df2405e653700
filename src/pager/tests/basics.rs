//! One connection, no accidents.

use super::*;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[test]
fn a_transaction_is_committed_or_rolled_back() {
    let (memory, vfs) = memory();
    create(&vfs, &[1, 2, 3]);
    let before = memory.content(&database()).unwrap();
    assert_eq!(before.len(), 3 * PAGE as usize);
    assert_eq!((word(&before, 24), word(&before, 28), word(&before, 92)), (1, 3, 1));
    assert_eq!(memory.content(&journal()), None);

    let mut pager = open(&vfs, 20);
    begin(&mut pager).unwrap();
    put(&mut pager, 2, 20).unwrap();
    put(&mut pager, 4, 40).unwrap();
    assert_eq!(pager.page_count(), 4);
    pager.rollback().unwrap();
    assert_eq!((pager.page_count(), get(&mut pager, 2)), (3, Ok(2)));
    pager.end_read();
    assert_eq!(memory.content(&database()).unwrap(), before);
    assert_eq!(memory.content(&journal()), None);

    begin(&mut pager).unwrap();
    put(&mut pager, 2, 20).unwrap();
    commit(&mut pager).unwrap();
    let after = memory.content(&database()).unwrap();
    assert_eq!((word(&after, 24), word(&after, 28), word(&after, 92)), (2, 3, 2));
    assert_eq!(values(&mut pager).unwrap(), [1, 20, 3]);
    pager.close();
}

#[test]
fn beginning_and_committing_without_a_change_does_nothing() {
    let (memory, vfs) = memory();
    create(&vfs, &[1, 2]);
    let before = memory.content(&database());
    let mut pager = open(&vfs, 20);
    let mut reader = open(&vfs, 20);
    begin_read(&mut reader).unwrap();
    begin_read(&mut pager).unwrap();
    pager.begin_write(false, true).unwrap();
    // H50144 and decision 57: the journal is there at once, one sector long, not valid yet.
    let header = memory.content(&journal()).unwrap();
    assert_eq!((header.len(), &header[..12]), (512, &[0; 12][..]));
    assert_eq!((word(&header, 16), word(&header, 20), word(&header, 24)), (2, 512, PAGE));
    commit(&mut pager).unwrap();
    assert_eq!((memory.content(&database()), memory.content(&journal())), (before, None));
    reader.end_read();
}

#[test]
fn d520_the_change_counter_wraps() {
    let (memory, vfs) = memory();
    create(&vfs, &[1]);
    let mut bytes = memory.content(&database()).unwrap();
    bytes[24..28].fill(0xff);
    memory.put(database(), bytes);
    let mut pager = open(&vfs, 20);
    begin(&mut pager).unwrap();
    put(&mut pager, 1, 2).unwrap();
    commit(&mut pager).unwrap();
    let bytes = memory.content(&database()).unwrap();
    assert_eq!((word(&bytes, 24), word(&bytes, 92)), (0, 0));
}

#[test]
fn d177_the_cache_is_kept_while_nobody_else_writes() {
    let (_, vfs) = memory();
    create(&vfs, &[1, 2, 3]);
    let (mut pager, mut other) = (open(&vfs, 20), open(&vfs, 20));
    assert_eq!(values(&mut pager).unwrap(), [1, 2, 3]);
    let reads = pager.stats().reads;
    assert_eq!(values(&mut pager).unwrap(), [1, 2, 3]);
    assert_eq!(pager.stats().reads, reads);
    begin(&mut other).unwrap();
    put(&mut other, 3, 30).unwrap();
    commit(&mut other).unwrap();
    assert_eq!(values(&mut pager).unwrap(), [1, 2, 30]);
}

#[test]
fn d228_the_least_recently_used_page_is_recycled() {
    let (_, vfs) = memory();
    create(&vfs, &(1..=40).collect::<Vec<u8>>());
    let mut pager = open(&vfs, 10);
    begin_read(&mut pager).unwrap();
    let mut order: Vec<u32> = pager.lookup(page(1)).map(|_| vec![1]).unwrap();
    pager.release(PinMark(0));
    let mut number = 7u32;
    for _ in 0..2000 {
        number = number.wrapping_mul(1_103_515_245).wrapping_add(12345) >> 3;
        // Most requests go to few pages, so that order within the cache matters.
        let wanted = if number.is_multiple_of(3) { number % 40 + 1 } else { number % 11 + 1 };
        get(&mut pager, wanted).unwrap();
        order.retain(|kept| *kept != wanted);
        order.push(wanted);
        if order.len() > 10 {
            order.remove(0);
        }
        for candidate in 1..=40 {
            let cached = pager.cache.find(candidate).is_some();
            assert_eq!(cached, order.contains(&candidate), "page {candidate}");
        }
    }
    assert_eq!(pager.stats().pages, 10);
}

#[test]
fn d230_pinned_pages_may_exceed_the_cache() {
    let (_, vfs) = memory();
    create(&vfs, &(1..=30).collect::<Vec<u8>>());
    let mut pager = open(&vfs, 5);
    begin_read(&mut pager).unwrap();
    let mark = pager.mark();
    let pages: Vec<_> = (1..=30).map(|n| pager.fetch(page(n)).unwrap()).collect();
    assert_eq!((pager.stats().pinned, pager.stats().limit), (30, 10));
    for (at, value) in pages.iter().zip(1..) {
        assert_eq!(pager.bytes(*at)[100], value);
    }
    pager.pin(pages[3]);
    pager.release(mark);
    assert_eq!(pager.pinned_pages(), [(page(4), 1)]);
    pager.unpin(pages[3]);
    assert_eq!(pager.stats().pinned, 0);
}

#[test]
fn d229_a_spill_syncs_the_journal_takes_the_lock_and_can_be_undone() {
    let (memory, vfs) = memory();
    let old: Vec<u8> = (1..=60).collect();
    create(&vfs, &old);
    let before = memory.content(&database());
    let mut pager = open(&vfs, 10);
    let mut reader = open(&vfs, 10);
    begin_read(&mut pager).unwrap();
    pager.begin_write(false, true).unwrap();
    for number in 1..=60 {
        put(&mut pager, number, 100).unwrap();
    }
    let stats = pager.stats();
    assert!(stats.writes > 0 && stats.state == 4 && stats.pages == 10, "{stats:?}");
    assert_ne!(memory.content(&database()), before);
    assert_eq!(reader.begin_read(), Err(Error::Busy));
    assert_eq!(&memory.content(&journal()).unwrap()[..4], [0xd9, 0xd5, 0x05, 0xf9]);
    pager.rollback().unwrap();
    pager.end_read();
    assert_eq!(memory.content(&database()), before);
    assert_eq!(values(&mut pager).unwrap(), old);
    assert_eq!(values(&mut reader).unwrap(), old);
}

#[test]
fn d462_d463_forgotten_pages_are_neither_written_nor_lost() {
    let (_, vfs) = memory();
    let old: Vec<u8> = (1..=30).collect();
    create(&vfs, &old);
    let mut pager = open(&vfs, 100);
    begin(&mut pager).unwrap();
    for number in 2..=30 {
        put(&mut pager, number, 99).unwrap();
        pager.forget_content_of(page(number));
    }
    // Allocated again in the same transaction: the original must come back all the same.
    for number in 2..=15 {
        let mark = pager.mark();
        let at = pager.fetch_blank(page(number)).unwrap();
        let at = pager.make_writable(at).unwrap();
        pager.bytes_mut(at).fill(7);
        pager.release(mark);
    }
    pager.rollback().unwrap();
    pager.end_read();
    assert_eq!(values(&mut pager).unwrap(), old);

    begin(&mut pager).unwrap();
    for number in 2..=30 {
        put(&mut pager, number, 99).unwrap();
        pager.forget_content_of(page(number));
    }
    let writes = pager.stats().writes;
    commit(&mut pager).unwrap();
    assert_eq!(pager.stats().writes, writes + 1, "page 1 only");
}

#[test]
fn h50149_d222_the_journal_size_limit_makes_changes_fail() {
    let (memory, vfs) = memory();
    create(&vfs, &[1, 2, 3]);
    let before = memory.content(&database());
    let mut pager = open(&vfs, 20);
    pager.set_journal_size_limit(512 + 520 + 100);
    begin(&mut pager).unwrap();
    put(&mut pager, 2, 20).unwrap();
    assert_eq!(put(&mut pager, 3, 30), Err(Error::Full));
    pager.flush_journal_buffer().unwrap();
    assert_eq!(memory.content(&journal()).unwrap().len(), 512 + 520);
    assert_eq!(pager.commit_phase_one(None), Err(Error::Full));
    pager.rollback().unwrap();
    pager.end_read();
    assert_eq!(memory.content(&database()), before);

    // D221: below one sector nothing is opened at begin, and no page can be changed.
    pager.set_journal_size_limit(0);
    begin_read(&mut pager).unwrap();
    pager.begin_write(false, true).unwrap();
    assert_eq!((memory.content(&journal()), put(&mut pager, 2, 5)), (None, Err(Error::Full)));
    pager.rollback().unwrap();
    pager.end_read();
    pager.set_journal_mode(JournalMode::Memory).unwrap();
    begin(&mut pager).unwrap();
    put(&mut pager, 2, 5).unwrap();
    commit(&mut pager).unwrap();
}

#[test]
fn h50144_to_h50146_d216_d217_d223_the_journal_ends_by_mode() {
    let (memory, vfs) = memory();
    create(&vfs, &[1, 2, 3]);
    let mut pager = open(&vfs, 20);
    let mut change = |mode, limit| {
        pager.set_journal_size_limit(limit);
        assert_eq!(pager.set_journal_mode(mode), Ok(mode));
        begin(&mut pager).unwrap();
        put(&mut pager, 2, 20).unwrap();
        commit(&mut pager).unwrap();
        memory.content(&journal())
    };
    assert_eq!(change(JournalMode::Truncate, -1), Some(Vec::new()));
    let kept = change(JournalMode::Persist, -1).unwrap();
    assert_eq!((kept.len(), &kept[..28]), (512 + 2 * 520, &[0; 28][..]));
    // D223: what was left from before the limit is cut to it.
    memory.put(journal(), [&kept[..], &[7; 5000]].concat());
    let cut = change(JournalMode::Persist, 1560).unwrap();
    assert_eq!((cut.len(), &cut[..28]), (1560, &[0; 28][..]));
    // D217: the mode switch deletes what was left over.
    assert_eq!(change(JournalMode::Memory, -1), None);
    assert_eq!(change(JournalMode::Off, -1), None);
    assert_eq!(change(JournalMode::Delete, -1), None);
    assert_eq!(values(&mut pager).unwrap(), [1, 20, 3]);
}

#[test]
fn d171_without_a_journal_only_what_was_spilled_is_lost() {
    let (_, vfs) = memory();
    let old: Vec<u8> = (1..=40).collect();
    create(&vfs, &old);
    let mut pager = open(&vfs, 100);
    pager.set_journal_mode(JournalMode::Off).unwrap();
    begin(&mut pager).unwrap();
    for number in 1..=40 {
        put(&mut pager, number, 50).unwrap();
    }
    pager.rollback().unwrap();
    pager.end_read();
    assert_eq!(values(&mut pager).unwrap(), old);
    let mut pager = open(&vfs, 10);
    pager.set_journal_mode(JournalMode::Off).unwrap();
    begin(&mut pager).unwrap();
    for number in 1..=40 {
        put(&mut pager, number, 50).unwrap();
    }
    assert!(matches!(pager.rollback(), Err(Error::Abort(_))));
    assert!(!pager.is_writing());
    pager.end_read();
}

#[test]
fn h50138_to_h50140_exclusive_mode_keeps_its_locks() {
    let (memory, vfs) = memory();
    create(&vfs, &[1, 2]);
    let (mut pager, mut other) = (open(&vfs, 20), open(&vfs, 20));
    assert_eq!(pager.set_locking_mode(LockingMode::Exclusive), LockingMode::Exclusive);
    let counter = |memory: &MemoryVfs| word(&memory.content(&database()).unwrap(), 24);
    for _ in 0..3 {
        begin(&mut pager).unwrap();
        put(&mut pager, 2, 22).unwrap();
        commit(&mut pager).unwrap();
        assert_eq!(counter(&memory), 2, "D178: raised once per holding of the lock");
    }
    assert_eq!(other.begin_read(), Err(Error::Busy));
    pager.set_locking_mode(LockingMode::Normal);
    assert_eq!(other.begin_read(), Err(Error::Busy));
    assert_eq!(values(&mut pager).unwrap(), [1, 22]);
    assert_eq!(values(&mut other).unwrap(), [1, 22]);
    let mut memory = open_on(&vfs, &Storage::Memory, 20);
    assert_eq!(memory.set_locking_mode(LockingMode::Normal), LockingMode::Exclusive);
}

#[test]
fn d174_the_busy_handler_is_asked_where_it_may_help() {
    use std::sync::Mutex;
    let (_, vfs) = memory();
    create(&vfs, &[1, 2]);
    let (mut pager, mut other) = (open(&vfs, 20), open(&vfs, 20));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    pager.set_busy_handler(Some(Box::new(move |tries| {
        log.lock().unwrap().push(tries);
        tries < 2
    })));
    begin(&mut other).unwrap();
    begin_read(&mut pager).unwrap();
    // D157: not for the reserved lock.
    assert_eq!(pager.begin_write(false, false), Err(Error::Busy));
    assert!(asked.lock().unwrap().is_empty() && pager.is_reading());
    // The reader keeps the writer from committing; its transaction stays.
    put(&mut other, 2, 22).unwrap();
    assert_eq!(other.commit_phase_one(None), Err(Error::Busy));
    assert_eq!(other.stats().state, 2);
    pager.end_read();
    assert_eq!(pager.begin_read(), Err(Error::Busy), "pending keeps new readers out");
    assert_eq!(*asked.lock().unwrap(), [0, 1, 2]);
    commit(&mut other).unwrap();
    assert_eq!(values(&mut pager).unwrap(), [1, 22]);
}

#[test]
fn the_busy_handler_is_asked_once_for_all_spills_of_a_transaction() {
    use std::sync::Mutex;
    let (_, vfs) = memory();
    create(&vfs, &[1, 2]);
    let (mut pager, mut reader) = (open(&vfs, 10), open(&vfs, 10));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    pager.set_busy_handler(Some(Box::new(move |tries| {
        log.lock().unwrap().push(tries);
        tries < 2
    })));
    for _ in 0..2 {
        let writes = pager.stats().writes;
        begin_read(&mut reader).unwrap();
        begin(&mut pager).unwrap();
        for number in 1..=40 {
            put(&mut pager, number, number as u8).unwrap();
        }
        assert_eq!((pager.stats().state, pager.stats().writes), (2, writes), "the cache grows");
        assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), [0, 1, 2]);
        // A commit needs the lock, and asks once more.
        assert_eq!(pager.commit_phase_one(None), Err(Error::Busy));
        assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), [0, 1, 2]);
        // The first page that is missing when the reader has left lets others go to the file.
        reader.end_read();
        put(&mut pager, 41, 41).unwrap();
        assert!(pager.stats().state == 4 && pager.stats().writes > writes);
        assert!(asked.lock().unwrap().is_empty());
        pager.rollback().unwrap();
        pager.end_read();
    }
}

#[test]
fn databases_in_memory_and_temporary_ones_work_alike() {
    for storage in [Storage::Memory, Storage::Temporary] {
        let (memory, vfs) = memory();
        let mut pager = open_on(&vfs, &storage, 10);
        begin(&mut pager).unwrap();
        for number in 1..=50 {
            put(&mut pager, number, number as u8).unwrap();
        }
        commit(&mut pager).unwrap();
        begin(&mut pager).unwrap();
        for number in 1..=60 {
            put(&mut pager, number, 200).unwrap();
        }
        assert_eq!(pager.stats().state, 4);
        pager.rollback().unwrap();
        pager.end_read();
        assert_eq!(values(&mut pager).unwrap(), (1..=50).collect::<Vec<u8>>(), "{storage:?}");
        assert!(memory.paths().is_empty(), "nothing has a name");
    }
}

#[test]
fn a_page_cut_off_comes_back_with_rollback() {
    // D370.
    let (memory, vfs) = memory();
    let old: Vec<u8> = (1..=20).collect();
    create(&vfs, &old);
    let mut pager = open(&vfs, 30);
    begin(&mut pager).unwrap();
    let mark = pager.mark();
    let held = pager.fetch(page(15)).unwrap();
    pager.pin(held);
    pager.release(mark);
    pager.truncate_image(10);
    assert!(pager.bytes(held).iter().all(|byte| *byte == 0));
    put(&mut pager, 15, 33).unwrap();
    pager.rollback().unwrap();
    assert_eq!(pager.bytes(held)[100], 15);
    pager.unpin(held);
    pager.end_read();
    assert_eq!(values(&mut pager).unwrap(), old);
    begin(&mut pager).unwrap();
    pager.truncate_image(10);
    commit(&mut pager).unwrap();
    assert_eq!(memory.content(&database()).unwrap().len(), 10 * PAGE as usize);
    assert_eq!(values(&mut pager).unwrap(), &old[..10]);
}

#[test]
fn a_sector_of_several_pages_is_journaled_whole() {
    let device = |traits| Device { inner: MemoryVfs::new(), sector: 4096, traits };
    let disk = device(DeviceTraits::default());
    let memory = disk.inner.clone();
    let vfs: Arc<dyn Vfs> = Arc::new(disk);
    create(&vfs, &[9; 30]);
    let mut pager = open(&vfs, 50);
    begin(&mut pager).unwrap();
    put(&mut pager, 5, 1).unwrap();
    put(&mut pager, 28, 1).unwrap();
    pager.flush_journal_buffer().unwrap();
    let bytes = memory.content(&journal()).unwrap();
    let numbers: Vec<u32> = (4096..bytes.len()).step_by(520).map(|at| word(&bytes, at)).collect();
    assert_eq!(numbers, (1..=8).chain(25..=30).collect::<Vec<u32>>());
    pager.rollback().unwrap();
}

#[test]
fn h50150_to_h50152_the_page_limit_is_enforced() {
    let (_, vfs) = memory();
    create(&vfs, &[1, 2, 3]);
    let mut pager = open(&vfs, 20);
    assert_eq!(pager.page_limit(), 1_073_741_823);
    begin(&mut pager).unwrap();
    assert_eq!(pager.set_page_limit(2), 3, "D225: not below the image");
    assert_eq!(put(&mut pager, 4, 1), Err(Error::Full));
    put(&mut pager, 3, 1).unwrap();
    pager.rollback().unwrap();
}

#[test]
fn text_files_get_their_counter_and_nothing_else() {
    let (memory, vfs) = memory();
    memory.put(database(), vec![b'x'; 2 * PAGE as usize]);
    let mut pager = open(&vfs, 20);
    pager.ignore_header();
    begin(&mut pager).unwrap();
    put(&mut pager, 2, b'y').unwrap();
    commit(&mut pager).unwrap();
    let bytes = memory.content(&database()).unwrap();
    let changed: Vec<usize> = (0..512).filter(|at| bytes[*at] != b'x').collect();
    assert_eq!(changed, [27]);
}

#[test]
fn d130_without_a_read_lock_nobody_is_kept_out() {
    let (_, vfs) = memory();
    create(&vfs, &[1, 2]);
    let mut options = options(20);
    options.no_read_lock = true;
    let storage = Storage::File(database());
    let mut pager: Pager<()> = Pager::open(Arc::clone(&vfs), &storage, &options).unwrap();
    let mut other = open(&vfs, 20);
    begin_read(&mut pager).unwrap();
    assert_eq!((pager.file.lock_level(), get(&mut pager, 2)), (LockLevel::None, Ok(2)));
    begin(&mut other).unwrap();
    put(&mut other, 2, 22).unwrap();
    put(&mut other, 3, 33).unwrap();
    commit(&mut other).unwrap();
    // Writing takes the locks, and then the cache is brought up to date.
    pager.begin_write(false, false).unwrap();
    assert_eq!(pager.file.lock_level(), LockLevel::Reserved);
    assert_eq!((pager.page_count(), get(&mut pager, 2)), (3, Ok(22)));
    put(&mut pager, 2, 44).unwrap();
    commit(&mut pager).unwrap();
    assert_eq!(values(&mut other).unwrap(), [1, 44, 33]);
}

/// Who has a file locked exclusively counts up its change counter once for all commits until the
/// lock falls, and a reader without locks may read between two of them.
#[test]
fn who_reads_without_locks_does_not_write_on_what_it_has_read() {
    for is_pinned in [false, true] {
        let (_, vfs) = memory();
        create(&vfs, &[1, 2, 3]);
        let options = PagerOptions { no_read_lock: true, ..options(20) };
        let storage = Storage::File(database());
        let mut pager: Pager<()> = Pager::open(Arc::clone(&vfs), &storage, &options).unwrap();
        let mut other = open(&vfs, 20);
        other.set_locking_mode(LockingMode::Exclusive);
        let mut change = |value| {
            begin(&mut other).unwrap();
            put(&mut other, 2, value).unwrap();
            commit(&mut other).unwrap();
        };
        change(22);
        begin_read(&mut pager).unwrap();
        assert_eq!(get(&mut pager, 2), Ok(22));
        if is_pinned {
            let page = pager.fetch(PageNumber::new(2).unwrap()).unwrap();
            pager.pin(page);
        }
        change(23);
        other.set_locking_mode(LockingMode::Normal);
        begin_read(&mut other).unwrap();
        other.end_read();
        let begun = pager.begin_write(false, false);
        if is_pinned {
            assert_eq!((begun, pager.file.lock_level()), (Err(Error::Busy), LockLevel::None));
            continue;
        }
        begun.unwrap();
        assert_eq!(get(&mut pager, 2), Ok(23));
        put(&mut pager, 3, 33).unwrap();
        commit(&mut pager).unwrap();
        assert_eq!(values(&mut other).unwrap(), [1, 23, 33]);
    }
}

/// The same with what a writer had put into a longer file, and taken back.
#[test]
fn who_reads_without_locks_does_not_write_on_what_was_rolled_back() {
    let (_, vfs) = memory();
    create(&vfs, &[1, 2, 3]);
    let options = PagerOptions { no_read_lock: true, ..options(20) };
    let storage = Storage::File(database());
    let mut pager: Pager<()> = Pager::open(Arc::clone(&vfs), &storage, &options).unwrap();
    let mut other = open(&vfs, 10);
    begin(&mut other).unwrap();
    put(&mut other, 2, 99).unwrap();
    (4..60).for_each(|number| put(&mut other, number, 77).unwrap());
    begin_read(&mut pager).unwrap();
    pager.trust_page_count(3);
    assert_eq!(get(&mut pager, 2), Ok(99), "the writer has spilled its pages");
    other.rollback().unwrap();
    other.end_read();
    pager.begin_write(false, false).unwrap();
    assert_eq!((pager.page_count(), get(&mut pager, 2)), (3, Ok(2)));
    put(&mut pager, 3, 33).unwrap();
    commit(&mut pager).unwrap();
    assert_eq!(values(&mut other).unwrap(), [1, 2, 33]);
}

/// In exclusive locking mode a reader may have kept a reserved lock from an earlier transaction:
/// that, and its right to read, outlive a refusal.
#[test]
fn d155_a_refused_exclusive_beginning_takes_no_lock_away() {
    let (_, vfs) = memory();
    create(&vfs, &[1, 2]);
    let (mut pager, mut other) = (open(&vfs, 20), open(&vfs, 20));
    pager.set_locking_mode(LockingMode::Exclusive);
    begin(&mut pager).unwrap();
    pager.rollback().unwrap();
    pager.end_read();
    begin_read(&mut pager).unwrap();
    assert_eq!(pager.file.lock_level(), LockLevel::Reserved);
    begin_read(&mut other).unwrap();
    assert_eq!(pager.begin_write(true, false), Err(Error::Busy));
    assert_eq!(pager.file.lock_level(), LockLevel::Reserved);
    assert_eq!(other.begin_write(false, false), Err(Error::Busy));
    other.end_read();
    pager.begin_write(false, false).unwrap();
    put(&mut pager, 2, 22).unwrap();
    commit(&mut pager).unwrap();
    pager.set_locking_mode(LockingMode::Normal);
    begin_read(&mut pager).unwrap();
    pager.end_read();
    assert_eq!(values(&mut other).unwrap(), [1, 22]);
}

#[test]
fn d155_an_exclusive_beginning_keeps_everybody_out() {
    let (_, vfs) = memory();
    create(&vfs, &[1]);
    let (mut pager, mut other) = (open(&vfs, 20), open(&vfs, 20));
    begin_read(&mut other).unwrap();
    begin_read(&mut pager).unwrap();
    assert_eq!(pager.begin_write(true, false), Err(Error::Busy));
    assert_eq!((pager.file.lock_level(), pager.is_writing()), (LockLevel::Shared, false));
    other.end_read();
    pager.begin_write(true, false).unwrap();
    assert_eq!(pager.stats().state, 4);
    assert_eq!(other.begin_read(), Err(Error::Busy));
    pager.rollback().unwrap();
    assert!(other.begin_read().is_ok());
}

#[test]
fn a_file_last_written_by_an_old_library_gets_its_page_count() {
    let (memory, vfs) = memory();
    create(&vfs, &[1, 2]);
    let mut bytes = memory.content(&database()).unwrap();
    bytes[28..32].fill(0);
    memory.put(database(), bytes);
    let mut pager = open(&vfs, 20);
    begin_read(&mut pager).unwrap();
    pager.trust_page_count(2);
    pager.begin_write(false, true).unwrap();
    commit(&mut pager).unwrap();
    let bytes = memory.content(&database()).unwrap();
    assert_eq!((word(&bytes, 24), word(&bytes, 28), word(&bytes, 92)), (2, 2, 2));
}

#[test]
fn a_large_cache_spills_several_pages_at_a_time() {
    let (_, vfs) = memory();
    let old: Vec<u8> = (0..900u32).map(|number| number as u8).collect();
    create(&vfs, &old);
    let new: Vec<u8> = old.iter().map(|value| value.wrapping_add(1)).collect();
    let mut pager = open(&vfs, 300);
    for commits in [false, true] {
        begin(&mut pager).unwrap();
        let before = pager.stats();
        for (number, value) in (1..).zip(&new) {
            put(&mut pager, number, *value).unwrap();
        }
        let stats = pager.stats();
        assert_eq!(stats.pages, 300);
        assert!(stats.writes - before.writes >= 600, "{stats:?}");
        if commits {
            commit(&mut pager).unwrap();
            assert_eq!(values(&mut pager).unwrap(), new);
        } else {
            pager.rollback().unwrap();
            pager.end_read();
            assert_eq!(values(&mut pager).unwrap(), old);
        }
    }
    assert_eq!(values(&mut open(&vfs, 20)).unwrap(), new);
}

/// Timing for whoever works on the hot path: `cargo test --release -- --ignored --nocapture`.
#[test]
#[ignore = "measures, asserts nothing"]
fn time_of_a_hit() {
    let (_, vfs) = memory();
    create(&vfs, &[1; 1000]);
    let mut pager = open(&vfs, 2000);
    begin(&mut pager).unwrap();
    (1..=1000).for_each(|number| put(&mut pager, number, 2).unwrap());
    let start = std::time::Instant::now();
    let mut sum = 0u64;
    for round in 0..10_000u32 {
        for step in 0..1000u32 {
            let mark = pager.mark();
            let at = pager.fetch(page((step * 7 + round) % 1000 + 1)).unwrap();
            let at = pager.make_writable(at).unwrap();
            sum += u64::from(pager.bytes_mut(at)[100]);
            pager.release(mark);
        }
    }
    println!("{:?} per fetch, make_writable and release ({sum})", start.elapsed() / 10_000_000);
}
