//! Random transactions with savepoints against a model, in every journal mode.

use super::*;

/// What each page holds; `None` for a free leaf, whose content does not matter.
type Image = Vec<Option<u8>>;

struct Run {
    pager: Pager<()>,
    vfs: Arc<dyn Vfs>,
    now: Image,
    committed: Image,
    savepoints: Vec<Image>,
    seed: u64,
}

impl Run {
    fn random(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.seed >> 33) as usize % below
    }

    fn step(&mut self) {
        match self.random(20) {
            0..=7 => self.write(),
            8..=9 => self.grow(),
            10 => self.free(),
            11..=12 => self.reuse(),
            13 => self.cut(),
            14..=15 => {
                let count = self.savepoints.len() + 1 + self.random(2);
                self.pager.open_savepoints(count, count.is_multiple_of(2)).unwrap();
                self.savepoints.resize(count, self.now.clone());
            }
            16 if !self.savepoints.is_empty() => {
                let index = self.random(self.savepoints.len());
                self.pager.release_savepoint(index);
                self.savepoints.truncate(index);
            }
            17..=18 if !self.savepoints.is_empty() => {
                let index = self.random(self.savepoints.len());
                self.pager.rollback_savepoint(Some(index)).unwrap();
                self.now = self.savepoints[index].clone();
                self.savepoints.truncate(index + 1);
            }
            19 if self.random(4) == 0 && self.pager.journal_mode() != JournalMode::Off => {
                self.pager.rollback_savepoint(None).unwrap();
                self.now = self.committed.clone();
                self.savepoints.clear();
            }
            _ => {}
        }
        self.check();
    }

    fn write(&mut self) {
        let number = self.random(self.now.len());
        if self.now[number].is_some() {
            let value = self.random(256) as u8;
            put(&mut self.pager, number as u32 + 1, value).unwrap();
            self.now[number] = Some(value);
        }
    }

    fn grow(&mut self) {
        for _ in 0..self.random(4) {
            let value = self.random(256) as u8;
            put(&mut self.pager, self.now.len() as u32 + 1, value).unwrap();
            self.now.push(Some(value));
        }
    }

    fn free(&mut self) {
        let number = self.random(self.now.len());
        if number > 0 && self.now[number].take().is_some() {
            self.pager.forget_content_of(page(number as u32 + 1));
        }
    }

    fn reuse(&mut self) {
        let Some(number) = self.now.iter().position(Option::is_none) else { return };
        let value = self.random(256) as u8;
        let mark = self.pager.mark();
        let at = self.pager.fetch_blank(page(number as u32 + 1)).unwrap();
        let at = self.pager.make_writable(at).unwrap();
        self.pager.bytes_mut(at)[100..].fill(value);
        self.pager.release(mark);
        self.now[number] = Some(value);
    }

    fn cut(&mut self) {
        let pages = self.now.len() - self.random(self.now.len().min(4));
        self.pager.truncate_image(pages as u32);
        self.now.truncate(pages);
    }

    fn check(&mut self) {
        assert_eq!(self.pager.page_count() as usize, self.now.len());
        for number in 0..self.now.len() {
            if let Some(value) = self.now[number] {
                assert_eq!(
                    get(&mut self.pager, number as u32 + 1),
                    Ok(value),
                    "page {}",
                    number + 1
                );
            }
        }
        assert_eq!(self.pager.stats().pinned, 0);
    }

    fn end(&mut self, commits: bool) {
        if commits {
            self.pager.commit_phase_one(None).unwrap();
            self.pager.commit_phase_two().unwrap();
            self.committed = self.now.clone();
        } else {
            self.pager.rollback().unwrap();
            self.now = self.committed.clone();
        }
        self.savepoints.clear();
        self.check();
        self.pager.end_read();
        if self.pager.path().is_some() {
            let mut other = open(&self.vfs, 10);
            let values = values(&mut other).unwrap();
            assert_eq!(values.len(), self.committed.len());
            for (value, expected) in values.iter().zip(&self.committed) {
                assert!(expected.is_none_or(|expected| expected == *value));
            }
        }
        assert!(!self.pager.cache.dirty().iter().any(|_| true));
    }
}

fn run(vfs: Arc<dyn Vfs>, storage: &Storage, mode: JournalMode, cache: i32, seed: u64) {
    let mut pager = open_on(&vfs, storage, cache);
    pager.set_journal_mode(mode).unwrap();
    let start: Image = (1..=20).map(Some).collect();
    let mut run =
        Run { pager, vfs, now: start, committed: Vec::new(), savepoints: Vec::new(), seed };
    begin(&mut run.pager).unwrap();
    for number in 1..=20 {
        put(&mut run.pager, number, number as u8).unwrap();
    }
    run.end(true);
    for round in 0..15 {
        begin(&mut run.pager).unwrap();
        for _ in 0..run.random(40) {
            run.step();
        }
        // Without a journal a rollback is promised only while nothing was spilled.
        let lossy = mode == JournalMode::Off && run.pager.transaction.file_written;
        run.end(round % 3 != 0 || lossy);
    }
}

#[test]
fn d165_d170_savepoints_agree_with_the_model_in_every_journal_mode() {
    use JournalMode::{Delete, Memory, Off, Persist, Truncate};
    for mode in [Delete, Truncate, Persist, Memory, Off] {
        for (cache, seed) in (0..12).map(|seed| (if seed % 3 == 0 { 200 } else { 10 }, seed)) {
            run(memory().1, &Storage::File(database()), mode, cache, seed);
        }
    }
}

#[test]
fn other_storage_agrees_with_the_model() {
    for seed in 0..10 {
        run(memory().1, &Storage::Memory, JournalMode::Memory, 10, seed);
        run(memory().1, &Storage::Temporary, JournalMode::Delete, 10, seed);
    }
}

#[test]
fn other_devices_agree_with_the_model() {
    let kinds = [(4096, false, false), (512, true, false), (512, false, true), (4096, true, true)];
    for (sector, safe_append, sequential) in kinds {
        for seed in 0..10 {
            let traits = DeviceTraits { safe_append, sequential };
            let device = Device { inner: MemoryVfs::new(), sector, traits };
            let storage = Storage::File(database());
            run(Arc::new(device), &storage, JournalMode::Persist, 10, seed);
        }
    }
}
