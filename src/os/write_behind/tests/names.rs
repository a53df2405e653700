//! Files, their names and their handles, beside a disk without a queue (6.2): whatever is queued
//! and however far the writer got, nobody sees a difference.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// Two databases with their journals, which the writer makes, and a file of no role.
const NAMES: [&str; 5] = ["/a", "/a-journal", "/b", "/b-journal", "/plain"];

/// Handles at a time, at most.
const HANDLES_MAX: usize = 6;

#[derive(Debug, Clone)]
enum Step {
    /// Opens a name; the file is made if there is none.
    Open(usize),
    /// Opens a name that must be free.
    OpenExclusive(usize),
    Close(usize),
    Delete(usize),
    Write(usize, usize, Vec<u8>),
    Truncate(usize, usize),
    /// The writer does so many operations.
    Complete(u64),
    /// Everything is done, joined as far as it may be.
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let (name, handle) = (0..NAMES.len(), 0..HANDLES_MAX);
    let bytes = proptest::collection::vec(any::<u8>(), 1..24);
    prop_oneof![
        4 => name.clone().prop_map(Step::Open),
        2 => name.clone().prop_map(Step::OpenExclusive),
        2 => handle.clone().prop_map(Step::Close),
        3 => name.prop_map(Step::Delete),
        8 => (handle.clone(), 0usize..60, bytes)
            .prop_map(|(handle, at, bytes)| Step::Write(handle, at, bytes)),
        3 => (handle, 0usize..70).prop_map(|(handle, size)| Step::Truncate(handle, size)),
        5 => (1u64..4).prop_map(Step::Complete),
        1 => Just(Step::Flush),
    ]
}

/// What a file holds, whatever has become of its name.
type Content = Rc<RefCell<Vec<u8>>>;

/// The disk as it would be without a queue.
#[derive(Default)]
struct Model {
    names: BTreeMap<&'static str, Content>,
    handles: Vec<(Box<dyn File>, Content)>,
}

impl Model {
    fn open(&mut self, bench: &Bench, name: &'static str, exclusive: bool) {
        let kind = match name {
            "/plain" => OpenKind::Plain,
            name if name.ends_with("-journal") => OpenKind::Journal,
            _ => OpenKind::Database,
        };
        let request = OpenRequest { exclusive, ..request(kind, Access::Create) };
        let opened = bench.vfs.open(Some(Path::new(name)), request);
        if exclusive && self.names.contains_key(name) {
            assert!(matches!(opened, Err(Error::CannotOpen(_))), "{name}");
            return;
        }
        let content = self.names.entry(name).or_default();
        self.handles.push((opened.unwrap().file, Rc::clone(content)));
    }

    fn take(&mut self, bench: &Bench, step: Step) {
        match step {
            Step::Open(name) if self.handles.len() < HANDLES_MAX => {
                self.open(bench, NAMES[name], false);
            }
            Step::OpenExclusive(name) if self.handles.len() < HANDLES_MAX => {
                self.open(bench, NAMES[name], true);
            }
            Step::Open(_) | Step::OpenExclusive(_) => {}
            Step::Close(handle) if handle < self.handles.len() => {
                drop(self.handles.swap_remove(handle));
            }
            Step::Delete(name) => {
                bench.vfs.delete(Path::new(NAMES[name]), false).unwrap();
                self.names.remove(NAMES[name]);
            }
            Step::Write(handle, at, bytes) if handle < self.handles.len() => {
                let (file, content) = &mut self.handles[handle];
                file.write_at(&bytes, at as u64).unwrap();
                let (mut content, end) = (content.borrow_mut(), at + bytes.len());
                let length = content.len().max(end);
                content.resize(length, 0);
                content[at..end].copy_from_slice(&bytes);
            }
            Step::Truncate(handle, size) if handle < self.handles.len() => {
                let (file, content) = &mut self.handles[handle];
                file.truncate(size as u64).unwrap();
                content.borrow_mut().resize(size, 0);
            }
            Step::Close(_) | Step::Write(..) | Step::Truncate(..) => {}
            Step::Complete(count) => drop(bench.control.step(count).unwrap()),
            Step::Flush => bench.flush(),
        }
    }

    fn check(&self, bench: &Bench) {
        for (file, content) in &self.handles {
            let content = content.borrow();
            assert_eq!(read(&**file, 0, 100), *content);
            assert_eq!(read(&**file, 7, 9), content[content.len().min(7)..content.len().min(16)]);
            // A single byte is no file to the pager, as on every disk.
            let size = if content.len() == 1 { 0 } else { content.len() as u64 };
            assert_eq!(file.size().unwrap(), size);
        }
        for name in NAMES {
            let exists = bench.vfs.exists(Path::new(name)).unwrap();
            match self.names.get(name) {
                None => assert!(!exists, "{name}"),
                // An empty file counts as long as it is new.
                Some(content) if content.borrow().is_empty() => {}
                Some(_) => assert!(exists, "{name}"),
            }
        }
        bench.check_statistics();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// A501, A505, A506, A509, A510, A602: deletions and new files of old names included.
    #[test]
    fn nobody_sees_the_queue(
        coalesce in prop_oneof![Just(Coalesce::Off), Just(Coalesce::Safe), Just(Coalesce::Full)],
        two_handles in any::<bool>(),
        steps in proptest::collection::vec(step(), 0..50),
    ) {
        let bench = Bench::new();
        bench.control.set_coalesce(coalesce);
        bench.control.set_two_handles(two_handles);
        let mut model = Model::default();
        for step in steps {
            model.take(&bench, step);
            model.check(&bench);
        }
        bench.flush();
        model.check(&bench);
        model.handles.clear();
        bench.flush();
        let found: Vec<_> = bench.memory.paths();
        let wanted: Vec<_> = model.names.keys().map(|name| path(name)).collect();
        prop_assert_eq!(found, wanted);
        for (name, content) in &model.names {
            prop_assert_eq!(&bench.content(name).unwrap(), &*content.borrow());
        }
        prop_assert_eq!(bench.knobs.open_file_count.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}
