//! `WriteBehindVfs`: opening, deleting and finding files through the queue.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{Access, DeviceTraits, OpenKind, OpenRequest, Opened, Vfs};
use super::WriteBehind;
use super::entry::{FileId, HandleId, Op, Role};
use super::file::{Identity, WriteBehindFile};
use super::groups::{Groups, database_of};
use super::locks::{FileLocks, Slot};
use super::shared::Shared;
use super::state::{HandleState, NameChange, State};
use super::sync::{Guard, Mutex};
use crate::error::{Error, Result};

/// How a file that was closed before it was synced is opened again.
pub(super) fn reopening() -> OpenRequest {
    OpenRequest {
        kind: OpenKind::Database,
        access: Access::ReadWrite,
        exclusive: false,
        delete_on_close: false,
        lock_offset: crate::format::LockPage::STANDARD_OFFSET,
    }
}

/// A disk whose changes are queued, and done later by the writer of a [`WriteBehind`].
///
/// Reading calls see every file as if the queue were empty. All disks that share a `WriteBehind`
/// must know the same files by the same paths.
///
/// ```
/// use std::sync::Arc;
/// use tclbtree::os::write_behind::{Durability, Halt};
/// use tclbtree::{Btree, Key, MemoryVfs, Options, TABLE, TransactionKind};
/// use tclbtree::{WriteBehind, WriteBehindVfs};
///
/// # fn main() -> tclbtree::Result<()> {
/// let disk = MemoryVfs::new(); // or `UnixVfs`
/// let queue = WriteBehind::new();
/// let vfs = Arc::new(WriteBehindVfs::new(Arc::new(disk.clone()), &queue));
///
/// let mut db = Btree::open(vfs.clone(), "example.db", &Options::default())?;
/// db.begin(TransactionKind::Write)?;
/// let root = db.create_table(TABLE)?;
/// let cursor = db.open_cursor(root, true)?;
/// db.insert(cursor, Key::Integer(7), b"seven", 0)?;
/// db.commit()?; // returns at once ...
/// db.close_cursor(cursor);
/// let path = db.path().map(ToOwned::to_owned).unwrap_or_default();
/// assert!(disk.content(&path).is_none_or(|bytes| bytes.is_empty())); // ... nothing is written,
/// let mut other = Btree::open(vfs, "example.db", &Options::default())?;
/// let cursor = other.open_cursor(root, false)?;
/// assert!(other.seek(cursor, Key::Integer(7))?.is_eq()); // ... and every handle sees it.
///
/// queue.start()?; // from here on a thread writes
/// queue.flush(None, Durability::Durable, None)?; // waits until it survives a loss of power
/// assert!(disk.content(&path).is_some_and(|bytes| !bytes.is_empty()));
/// assert_eq!(queue.error(None), None);
///
/// (drop(db), drop(other));
/// queue.set_halt(Halt::Idle); // the thread ends when the queue is empty
/// queue.wait()
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct WriteBehindVfs {
    shared: Arc<Shared>,
    base: Arc<dyn Vfs>,
}

/// What is known of a base handle at the time of opening.
struct Facts {
    sector_size: u32,
    device: DeviceTraits,
    read_only: bool,
}

impl WriteBehindVfs {
    /// Puts the queue of `control` in front of `base`.
    pub fn new(base: Arc<dyn Vfs>, control: &WriteBehind) -> WriteBehindVfs {
        WriteBehindVfs { shared: Arc::clone(control.shared()), base }
    }

    /// The disk beneath.
    pub fn base(&self) -> &Arc<dyn Vfs> {
        &self.base
    }

    /// Opens beneath, at once: one base handle to read through and one for the writer.
    fn open_at_once(&self, path: &Path, request: OpenRequest) -> Result<Opened> {
        let first = self.base.open(Some(path), request)?;
        let facts = Facts {
            sector_size: first.file.sector_size(),
            device: first.file.device(),
            read_only: first.read_only,
        };
        let identity = first.file.identity();
        let wants_two = self.shared.enter()?.settings.two_handles
            && !first.read_only
            && !request.delete_on_close;
        let mut second = None;
        if wants_two {
            let request = OpenRequest { access: Access::ReadWrite, exclusive: false, ..request };
            second = Some(self.base.open(Some(path), request)?.file);
        }
        let reader = Slot::new(Some(first.file));
        let writer = second.map_or_else(|| Arc::clone(&reader), |file| Slot::new(Some(file)));
        let mut state = self.shared.enter()?;
        state.reserve_handle()?;
        let group = state.group_to_open(path, request.kind == OpenKind::SuperJournal);
        let known = state.known_file(path, identity);
        let file = match known {
            Some(file) => file,
            None => {
                let file = state.add_file(Some(path.to_owned()), Role::of(&request), group);
                state.set_identity(file, identity);
                file
            }
        };
        state.by_path.insert(path.to_owned(), file);
        if let Some(file) = state.files.get_mut(&file)
            && file.open_handles == 0
        {
            file.group = group;
            file.role = Role::of(&request);
        }
        Ok(self.add_handle(state, file, (reader, writer), facts, request, false))
    }

    /// Enters a handle, for whose closing there is room, in the books; with `creates`, its
    /// opening in the queue.
    fn add_handle(
        &self,
        mut state: Guard<'_, State>,
        file: FileId,
        (reader, writer): (Arc<Slot>, Arc<Slot>),
        facts: Facts,
        request: OpenRequest,
        creates: bool,
    ) -> Opened {
        let handle = HandleId(state.new_id());
        let base = Arc::clone(&self.base);
        let known = HandleState {
            file,
            reader: Arc::clone(&reader),
            writer,
            queued: 0,
            full_sync: false,
            directory: None,
            base: Arc::clone(&self.base),
        };
        state.handles.insert(handle, Box::new(known));
        state.open_handles += 1;
        let mut locks = None;
        if let Some(file) = state.files.get_mut(&file) {
            file.open_handles += 1;
            file.handles += 1;
            file.sector_size = Some(facts.sector_size);
            locks = Some((Arc::clone(&file.locks), file.group, file.path.clone()));
        }
        // The file was entered under the same lock.
        let (locks, group, path) =
            locks.unwrap_or_else(|| (Arc::new(Mutex::new(FileLocks::new())), Groups::NOBODY, None));
        if creates {
            state.push(group, Some(handle), Op::OpenExclusive { path, request, base });
        }
        drop(state);
        locks.lock().add(handle, Arc::clone(&reader), !facts.read_only);
        let is_database = request.kind == OpenKind::Database;
        let opened = WriteBehindFile::new(
            Arc::clone(&self.shared),
            Identity { file, handle, is_database },
            (reader, locks),
            (facts.sector_size, facts.device, facts.read_only),
        );
        Opened { file: Box::new(opened), read_only: facts.read_only }
    }

    /// Queues the opening. The file is there for everybody who asks this layer.
    fn open_later(
        &self,
        mut state: Guard<'_, State>,
        path: Option<&Path>,
        request: OpenRequest,
    ) -> Result<Opened> {
        let group = match path {
            Some(path) => state.group_to_open(path, request.kind == OpenKind::SuperJournal),
            None => state.groups.fresh(),
        };
        if let Some(error) = state.groups.latch(group) {
            return Err(error);
        }
        state.reserve_handle()?;
        let name = path.map(Path::to_owned);
        let sector_size = path.map_or(512, |path| sector_size(&state, path));
        let file = state.add_file(name, Role::of(&request), group);
        let slot = Slot::new(None);
        if let Some(file) = state.files.get_mut(&file) {
            file.shared_slot = Some(Arc::clone(&slot));
            file.vanishes = request.delete_on_close || path.is_none();
        }
        let facts = Facts { sector_size, device: DeviceTraits::default(), read_only: false };
        let slots = (Arc::clone(&slot), slot);
        let opened = self.add_handle(state, file, slots, facts, request, true);
        self.shared.work.notify_one();
        self.shared.trace(|| push_line("OPENEX", path, u64::from(request.delete_on_close)));
        self.shared.pass_through()?;
        Ok(opened)
    }

    /// One more handle of a file whose opening is still queued.
    fn attach(
        &self,
        mut state: Guard<'_, State>,
        file: FileId,
        request: OpenRequest,
    ) -> Result<Opened> {
        if request.exclusive {
            return Err(Error::CannotOpen("it exists already"));
        }
        state.reserve_handle()?;
        let known = state.files.get(&file);
        let slot = known.and_then(|file| file.shared_slot.clone());
        let Some(slot) = slot else {
            return Err(Error::Internal("a queued file has no place for its base handle"));
        };
        let path = known.and_then(|file| file.path.as_deref());
        let facts = Facts {
            sector_size: path.map_or(512, |path| sector_size(&state, path)),
            device: DeviceTraits::default(),
            read_only: request.access == Access::ReadOnly,
        };
        let slots = (Arc::clone(&slot), slot);
        Ok(self.add_handle(state, file, slots, facts, request, false))
    }

    /// The opening of a name whose deletion is still queued.
    fn open_deleted<'a>(
        &'a self,
        state: Guard<'a, State>,
        position: u64,
        path: &Path,
        request: OpenRequest,
    ) -> Result<Option<Opened>> {
        if request.access != Access::Create && !request.exclusive {
            return Err(Error::CannotOpen("no such file or directory"));
        }
        if is_deferred(request) {
            return self.open_later(state, Some(path), request).map(Some);
        }
        self.shared.work.notify_one();
        drop(self.shared.reach(state, position)?);
        Ok(None)
    }
}

/// Whether such a file is made by the writer if it does not exist.
fn is_deferred(request: OpenRequest) -> bool {
    let is_plain = matches!(request.kind, OpenKind::Database | OpenKind::Plain);
    request.exclusive || !is_plain && request.access == Access::Create
}

/// The sector size of a file that is not open: that of its database, or the smallest usual one.
fn sector_size(state: &State, path: &Path) -> u32 {
    let database = database_of(path).and_then(|path| state.by_path.get(path));
    let file = database.and_then(|id| state.files.get(id));
    file.and_then(|file| file.sector_size).unwrap_or(512)
}

pub(super) fn push_line(op: &str, path: Option<&Path>, offset: u64) -> String {
    let path = path.unwrap_or(Path::new("(temporary)"));
    format!("PUSH ({op} {} {offset})", path.display())
}

impl Vfs for WriteBehindVfs {
    fn open(&self, path: Option<&Path>, request: OpenRequest) -> Result<Opened> {
        // A forked child has no writer, and an ending process shall not begin anything.
        if self.shared.is_forked() || self.shared.enter()?.exiting {
            return self.base.open(path, request);
        }
        let Some(path) = path else {
            return self.open_later(self.shared.enter()?, None, request);
        };
        loop {
            let state = self.shared.enter()?;
            match state.pending_name(path) {
                Some((_, NameChange::Created(file))) => return self.attach(state, file, request),
                Some((position, NameChange::Gone)) => {
                    if let Some(opened) = self.open_deleted(state, position, path, request)? {
                        return Ok(opened);
                    }
                }
                None if !is_deferred(request) => {
                    drop(state);
                    return self.open_at_once(path, request);
                }
                None => {
                    let latch = state.groups.known(path).and_then(|id| state.groups.latch(id));
                    if let Some(error) = latch.filter(|_| request.exclusive) {
                        return Err(error);
                    }
                    let is_known = state.leads_to_file(path);
                    drop(state);
                    if request.exclusive && (is_known || self.base.is_taken(path)?) {
                        return Err(Error::CannotOpen("it exists already"));
                    }
                    if !request.exclusive && (is_known || self.base.exists(path)?) {
                        return self.open_at_once(path, request);
                    }
                    let state = self.shared.enter()?;
                    if state.pending_name(path).is_none() && !state.leads_to_file(path) {
                        return self.open_later(state, Some(path), request);
                    }
                }
            }
        }
    }

    fn delete(&self, path: &Path, sync_directory: bool) -> Result<()> {
        if self.shared.is_forked() {
            return self.base.delete(path, sync_directory);
        }
        let mut state = self.shared.enter()?;
        let super_journal = state.groups.delete_super_journal(path);
        let commits = super_journal.is_some()
            && state.files.values().any(|file| file.joined && file.changed && !file.undone);
        let group = super_journal.unwrap_or_else(|| state.groups.of_path(path));
        if let Some(error) = state.groups.latch(group) {
            return Err(error);
        }
        let reserved = state.reserved();
        state.queue.reserve(reserved)?;
        let base = Arc::clone(&self.base);
        let op = Op::Delete { path: path.to_owned(), sync_directory, base };
        let position = state.push(group, None, op);
        if commits && let Some(entry) = state.queue.at_mut(position) {
            entry.is_commit = true;
        }
        drop(state);
        self.shared.work.notify_one();
        self.shared.trace(|| push_line("DELETE", Some(path), u64::from(sync_directory)));
        self.shared.pass_through()
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        if self.shared.is_forked() {
            return self.base.exists(path);
        }
        let state = self.shared.enter()?;
        let file = state.by_path.get(path).and_then(|id| state.files.get(id));
        let answer = match (state.pending_name(path), file) {
            (Some((_, NameChange::Gone)), _) => Some(false),
            (Some(_), Some(file)) => Some(!file.resized || file.pending_size() > 0),
            (Some(_), None) => Some(true),
            (None, Some(file)) => match file.overlay.exact_size() {
                Some(size) => Some(size > 0),
                None => (file.overlay.end() > 0).then_some(true),
            },
            (None, None) => None,
        };
        drop(state);
        let answer = answer.map_or_else(|| self.base.exists(path), Ok)?;
        self.shared.trace(|| format!("EXISTS: {} = {}", path.display(), u32::from(answer)));
        Ok(answer)
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        if self.shared.is_forked() {
            return self.base.sync_directory(path);
        }
        let mut state = self.shared.enter()?;
        let group = state.groups.of_path(path);
        if let Some(error) = state.groups.latch(group) {
            return Err(error);
        }
        let reserved = state.reserved();
        state.queue.reserve(reserved)?;
        let base = Arc::clone(&self.base);
        state.push(group, None, Op::SyncDirectory { path: path.to_owned(), base });
        drop(state);
        self.shared.work.notify_one();
        self.shared.trace(|| push_line("SYNCDIR", Some(path), 0));
        self.shared.pass_through()
    }

    fn full_path(&self, name: &Path) -> Result<PathBuf> {
        self.base.full_path(name)
    }

    fn random(&self) -> u32 {
        self.base.random()
    }
}

impl Shared {
    /// When the process ends there is no later: the queue is worked off before a call returns.
    pub(super) fn pass_through(&self) -> Result<()> {
        let state = self.enter()?;
        if !state.exiting {
            return Ok(());
        }
        self.flush_group(state, None, false, None)
    }
}
