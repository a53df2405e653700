//! Writes that have memory in common: what is read and what gets to the disk is never another's.

use proptest::prelude::*;

use super::*;

/// Bytes of a page, and of the journal's record of one.
const PAGE: usize = 1024;
const RECORD: usize = PAGE + 8;

/// Pages of the database.
const PAGES: usize = 3;

/// Bytes of the journal ahead of its records.
const HEADER: usize = 512;

/// A file through the queue, and what it must have.
struct Checked {
    file: Box<dyn File>,
    path: &'static str,
    content: Vec<u8>,
    /// What is written is handed over here, and overwritten afterwards.
    buffer: Vec<u8>,
}

impl Checked {
    fn new(mut file: Box<dyn File>, path: &'static str) -> Checked {
        let is_journal = path.ends_with("-journal");
        if is_journal {
            file.hint(Hint::PageRecords { start: HEADER as u64, page_size: PAGE as u32 });
        }
        Checked { file, path, content: Vec::new(), buffer: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        self.file.write_at(&self.buffer, offset as u64).unwrap();
        self.buffer.fill(0xee);
        self.content.resize(self.content.len().max(offset + bytes.len()), 0);
        self.content[offset..][..bytes.len()].copy_from_slice(bytes);
    }

    fn truncate(&mut self, size: usize) {
        self.file.truncate(size as u64).unwrap();
        self.content.resize(size, 0);
    }

    fn check(&self) {
        let length = self.content.len();
        assert_eq!(read(&*self.file, 0, length), self.content, "{}", self.path);
        let (from, to) = (length / 3, length / 2);
        assert_eq!(read(&*self.file, from as u64, to - from), self.content[from..to]);
    }

    fn check_disk(&self, bench: &Bench) {
        assert_eq!(bench.content(self.path).unwrap_or_default(), self.content, "{}", self.path);
    }
}

/// The record of a page, as its journal has it.
fn record(number: usize, page: &[u8]) -> Vec<u8> {
    [&(number as u32).to_be_bytes()[..], page, &[number as u8; 4]].concat()
}

#[derive(Debug, Clone)]
enum Step {
    /// A page with other bytes from here on, so many.
    Change {
        page: usize,
        at: usize,
        length: usize,
        with: u8,
    },
    /// Some records behind the journal's header, of pages as they are or (`spoiled`) not.
    Journal {
        header: bool,
        pages: Vec<usize>,
        spoiled: bool,
    },
    /// The journal begins anew.
    Empty,
    /// The database ends within this page.
    Cut(usize),
    /// A part of a page.
    Part {
        at: usize,
        with: u8,
    },
    Execute(u64),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let pages = proptest::collection::vec(0..PAGES, 1..4);
    prop_oneof![
        8 => (0..PAGES, 0..PAGE, 1usize..400, any::<u8>())
            .prop_map(|(page, at, length, with)| Step::Change { page, at, length, with }),
        4 => (any::<bool>(), pages, proptest::bool::weighted(0.2))
            .prop_map(|(header, pages, spoiled)| Step::Journal { header, pages, spoiled }),
        1 => Just(Step::Empty),
        1 => (0..PAGES).prop_map(Step::Cut),
        1 => (0..PAGES * PAGE - 9, any::<u8>()).prop_map(|(at, with)| Step::Part { at, with }),
        3 => (1u64..6).prop_map(Step::Execute),
        1 => Just(Step::Flush),
    ]
}

fn apply(bench: &Bench, database: &mut Checked, journal: &mut Checked, step: &Step) {
    let page_of = |database: &Checked, page: usize| {
        let mut content = database.content.clone();
        content.resize(PAGES * PAGE, 0);
        content[page * PAGE..][..PAGE].to_vec()
    };
    match step {
        Step::Change { page, at, length, with } => {
            let mut bytes = page_of(database, *page);
            bytes[*at..].iter_mut().take(*length).for_each(|byte| *byte = *with);
            database.write(&bytes, page * PAGE);
        }
        Step::Journal { header, pages, spoiled } => {
            let mut bytes = if *header { vec![7; HEADER] } else { Vec::new() };
            for &page in pages {
                let mut content = page_of(database, page);
                content[77] ^= u8::from(*spoiled);
                bytes.extend(record(page + 1, &content));
            }
            let end = journal.content.len().saturating_sub(HEADER).next_multiple_of(RECORD);
            journal.write(&bytes, if *header { 0 } else { HEADER + end });
        }
        Step::Empty => journal.truncate(0),
        Step::Cut(page) => database.truncate(page * PAGE + PAGE / 2),
        Step::Part { at, with } => database.write(&[*with; 9], *at),
        Step::Execute(count) => {
            bench.control.step(*count).unwrap();
        }
        Step::Flush => bench.flush(),
    }
}

fn run(coalesce: Coalesce, steps: &[Step]) {
    let bench = Bench::new();
    bench.control.set_coalesce(coalesce);
    let mut database = Checked::new(bench.database("/d"), "/d");
    let mut journal = Checked::new(bench.journal("/d-journal"), "/d-journal");
    for step in steps {
        apply(&bench, &mut database, &mut journal, step);
        database.check();
        journal.check();
    }
    bench.flush();
    for file in [&database, &journal] {
        file.check();
        file.check_disk(&bench);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A303, A304: whatever was changed, done, covered or cut in the meantime.
    #[test]
    fn shared_bytes_are_the_right_ones(
        coalesce in prop_oneof![Just(Coalesce::Off), Just(Coalesce::Safe), Just(Coalesce::Full)],
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        run(coalesce, &steps);
    }
}

/// What one commit after the other pushes: records of two pages, then these pages, changed.
fn commit(database: &mut Checked, bench: &Bench, row: usize) {
    let mut journal = Checked::new(bench.journal("/d-journal"), "/d-journal");
    let record_of = |number: usize| {
        let page = &database.content[(number - 1) * PAGE..][..PAGE];
        record(number, page)
    };
    journal.write(&[vec![0; HEADER], record_of(1)].concat(), 0);
    journal.write(&record_of(2), HEADER + RECORD);
    journal.check();
    for number in 0..2 {
        let mut page = database.content[number * PAGE..][..PAGE].to_vec();
        page[number * 500..][..2].copy_from_slice(&(row as u16).to_be_bytes());
        database.write(&page, number * PAGE);
    }
    drop(journal);
    bench.vfs.delete(Path::new("/d-journal"), false).unwrap();
}

/// A hundred commits of 4 KiB each keep their journals' headers and the blocks that changed.
#[test]
fn a_queued_commit_keeps_little_memory() {
    let bench = Bench::new();
    let mut database = Checked::new(bench.database("/d"), "/d");
    database.write(&[1; PAGE], 0);
    database.write(&[2; PAGE], PAGE);
    for row in 0..100 {
        commit(&mut database, &bench, row);
        database.check();
    }
    let queued = bench.control.statistics(None).queued_bytes as usize;
    assert_eq!(queued, 2 * PAGE + 100 * (HEADER + 2 * RECORD + 2 * PAGE));
    let kept = bench.control.kept_memory();
    assert!(kept <= 2 * PAGE + 100 * (HEADER + 16 + 4 * 64), "{kept} of {queued} bytes");
    // And what they keep of others goes with them.
    while bench.control.step(1).unwrap() > 0 {
        database.check();
        let queued = bench.control.statistics(None).queued_bytes as usize;
        let kept = bench.control.kept_memory();
        assert!(kept <= queued + queued / 4, "{kept} of {queued} bytes");
    }
    assert_eq!(bench.control.kept_memory(), 0);
    database.check_disk(&bench);
}
