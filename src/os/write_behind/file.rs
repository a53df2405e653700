//! `WriteBehindFile`: an open file whose changes are queued and whose reads see them.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::super::pending::Snapshot;
use super::super::{DeviceTraits, File, Hint, LockLevel, SyncKind};
use super::entry::{FileId, HandleId, Op};
use super::groups::database_of;
use super::locks::{FileLocks, NOTICEABLE, Slot};
use super::settings::{Durability, Halt};
use super::shared::Shared;
use super::sharing::PageRecords;
use super::state::{Executor, NameChange, State};
use super::sync::{Guard, Mutex};
use super::vfs::push_line;
use crate::error::{Error, Result};
use crate::memory::{self, Bytes};

/// How often a read looks again before it asks the writer to let it finish first.
pub(super) const LOOKS_MAX: u32 = 3;

/// A read for which no change of its file may be started; ends with it, even by a panic.
struct Announced<'a>(&'a Shared, FileId);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        let Ok(mut state) = self.0.enter() else { return };
        if let Some(file) = state.files.get_mut(&self.1) {
            file.readers = file.readers.saturating_sub(1);
            self.0.progress.notify_all();
        }
    }
}

/// Which handle of which file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) file: FileId,
    pub(super) handle: HandleId,
    pub(super) is_database: bool,
}

/// An open file.
#[derive(Debug)]
pub(super) struct WriteBehindFile {
    shared: Arc<Shared>,
    id: Identity,
    reader: Arc<Slot>,
    locks: Arc<Mutex<FileLocks>>,
    sector_size: u32,
    device: DeviceTraits,
    read_only: bool,
    level: LockLevel,
    undoes: bool,
    /// Where in it the records of pages are.
    records: Option<PageRecords>,
}

impl WriteBehindFile {
    /// A handle that is entered in the books.
    pub(super) fn new(
        shared: Arc<Shared>,
        id: Identity,
        (reader, locks): (Arc<Slot>, Arc<Mutex<FileLocks>>),
        (sector_size, device, read_only): (u32, DeviceTraits, bool),
    ) -> WriteBehindFile {
        let (level, undoes, records) = (LockLevel::None, false, None);
        WriteBehindFile {
            shared,
            id,
            reader,
            locks,
            sector_size,
            device,
            read_only,
            level,
            undoes,
            records,
        }
    }

    fn path(&self, state: &State) -> Option<PathBuf> {
        state.files.get(&self.id.file)?.path.clone()
    }

    fn name(&self) -> String {
        let path = self.path(&self.shared.state());
        path.as_deref().unwrap_or(Path::new("(temporary)")).display().to_string()
    }

    /// Pushes an operation on this file.
    fn push(&self, op: Op) -> Result<()> {
        let state = self.shared.enter()?;
        state.file_latch(self.id.file)?;
        self.push_to(state, op)
    }

    fn push_to(&self, mut state: Guard<'_, State>, op: Op) -> Result<()> {
        let (name, offset) = (op.name(), op.offset());
        self.append(&mut state, op)?;
        let exiting = state.exiting;
        drop(state);
        self.shared.work.notify_one();
        self.shared.trace(|| push_line(name, Some(Path::new(&self.name())), offset));
        if exiting { self.shared.pass_through() } else { Ok(()) }
    }

    fn append(&self, state: &mut State, op: Op) -> Result<()> {
        let reserved = state.reserved();
        state.queue.reserve(reserved)?;
        if let Some(group) = state.files.get(&self.id.file).map(|file| file.group) {
            state.push(group, Some(self.id.handle), op);
        }
        Ok(())
    }

    /// Pushes writes, each as there is room for it. Returns how many, also with an error.
    fn push_writes(&self, writes: Vec<(u64, Bytes)>) -> std::result::Result<usize, (usize, Error)> {
        let mut state = self.shared.enter().map_err(|error| (0, error))?;
        let mut pushed = 0;
        for (offset, data) in writes {
            let failed = |error| (pushed, error);
            let length = data.len() as u64;
            let room = self.shared.make_room(state, self.id.handle, length, self.undoes);
            state = room.map_err(failed)?;
            self.append(&mut state, Op::Write { offset, data }).map_err(failed)?;
            pushed += 1;
        }
        Ok(pushed)
    }

    fn check_writable(&self) -> Result<()> {
        if self.read_only { Err(Error::Permission) } else { Ok(()) }
    }

    /// Looks at what is pending and then at the disk, until both are of one moment. `use_disk`
    /// returns what counts: the reads of the disk, and whether something pending was seen.
    fn look<T>(
        &self,
        take: impl Fn(&State) -> T,
        mut use_disk: impl FnMut(&T) -> Result<(u64, bool)>,
    ) -> Result<T> {
        let mut looks = 0;
        loop {
            let mut state = self.shared.enter()?;
            state.file_latch(self.id.file)?;
            let is_urgent = looks >= LOOKS_MAX;
            let Some(file) = state.files.get_mut(&self.id.file) else {
                return Err(Error::Misuse("the file is closed"));
            };
            file.readers += usize::from(is_urgent);
            let starts = file.starts;
            let taken = take(&state);
            drop(state);
            let announced = is_urgent.then(|| Announced(&self.shared, self.id.file));
            let (reads, sees_pending) = use_disk(&taken)?;
            let mut state = self.shared.enter()?;
            let file = state.files.get(&self.id.file);
            let is_same = file.is_some_and(|file| file.starts == starts);
            let is_done = is_same || self.shared.looks_once.load(Relaxed);
            if let Some(group) = file.map(|file| file.group)
                && is_done
                && (reads > 0 || sees_pending)
            {
                state.count(group, |counters| {
                    counters.base_reads += reads;
                    counters.overlay_reads += u64::from(sees_pending);
                });
            }
            drop(state);
            drop(announced);
            if is_done {
                return Ok(taken);
            }
            looks += 1;
        }
    }

    /// The real lock was held for long: lets the queue get to its release, and stays away until
    /// another process has taken its turn.
    fn give_way(&self) -> Result<()> {
        let state = self.shared.enter()?;
        let limit = Duration::from_millis(state.settings.max_hold_ms);
        if limit.is_zero() || !state.settings.lock_files || !state.has_writer() {
            return Ok(());
        }
        let group = state.files.get(&self.id.file).map(|file| file.group);
        let (halt, latch) = (state.halt, group.and_then(|group| state.groups.latch(group)));
        drop(state);
        if self.locks.lock().held_for() < limit || halt == Halt::Now || latch.is_some() {
            return Ok(());
        }
        let state = self.shared.enter()?;
        // Whatever stops the queue ends the courtesy; the lock itself will say what is wrong.
        let _ = self.shared.flush_group(state, group, false, None);
        let began = Instant::now();
        while began.elapsed() < NOTICEABLE {
            let locks = self.locks.lock();
            if locks.real() > LockLevel::None || locks.check_reserved(&self.reader)? {
                break;
            }
            drop(locks);
            std::thread::sleep(Duration::from_millis(1));
        }
        self.locks.lock().gave_way();
        Ok(())
    }

    /// Lets go of what is visible, and of the real lock now or through the queue.
    fn lower(&mut self, level: LockLevel) -> Result<()> {
        self.shared.check_process()?;
        let mut locks = self.locks.lock();
        let mut state = self.shared.enter()?;
        // Room first: a lock that is let go but whose release is not queued would stay for ever.
        let reserved = state.reserved();
        state.queue.reserve(reserved)?;
        let protects = locks.lower(self.id.handle, level)?;
        self.level = locks.level(self.id.handle);
        let group = state.files.get(&self.id.file).map(|file| file.group);
        let is_busy = group.is_some_and(|group| state.groups.queued(group) > 0);
        let own = state.handles.get(&self.id.handle).map_or(0, |handle| handle.queued);
        if let Some(group) = group
            && state.settings.lock_files
            && is_busy
            && (protects || own > 0)
        {
            locks.unlock_queued(self.id.handle);
            state.push(group, Some(self.id.handle), Op::Unlock(level));
            drop(state);
            drop(locks);
            self.shared.work.notify_one();
            self.shared.trace(|| push_line("UNLOCK", Some(Path::new(&self.name())), level as u64));
            return self.shared.pass_through();
        }
        drop(state);
        locks.settle()
    }

    fn join(&self, path: &Path) {
        let Ok(mut state) = self.shared.enter() else { return };
        let Some(file) = state.files.get_mut(&self.id.file) else { return };
        file.joined = true;
        let group = file.group;
        let other = state.groups.of_super_journal(path);
        let joined = state.groups.join(group, other);
        if state.groups.latch(joined).is_some() {
            state.drop_queued(joined);
        }
    }
}

impl File for WriteBehindFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let length = buffer.len() as u64;
        let range = offset..offset.saturating_add(length);
        let (mut disk_end, mut from_disk) = (0, 0);
        let take = |state: &State| {
            let file = state.files.get(&self.id.file);
            file.map_or_else(
                || super::super::pending::Overlay::default().snapshot(range.clone()),
                |file| file.overlay.snapshot(range.clone()),
            )
        };
        let snapshot = self.look(take, |snapshot: &Snapshot| {
            buffer.fill(0);
            (disk_end, from_disk) = (0, 0);
            for gap in snapshot.gaps() {
                let place = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(0);
                let Some(target) = buffer.get_mut(place(gap.start)..place(gap.end)) else {
                    continue;
                };
                let read = self.reader.with(|file| file.read_at(target, gap.start));
                let count = read.unwrap_or(Ok(0))?;
                from_disk += 1;
                if count > 0 {
                    disk_end = gap.start.saturating_add(count as u64);
                }
            }
            Ok((from_disk, snapshot.covers_any()))
        })?;
        if from_disk > 0 {
            self.shared.trace(|| format!("READ {} {length} bytes at {offset}", self.name()));
        }
        if snapshot.covers_any() {
            self.shared.trace(|| format!("OVERREAD {length} bytes at {offset}"));
        }
        Ok(snapshot.assemble(buffer, disk_end))
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.check_writable()?;
        let data = self.shared.copy(self.id.file, self.records, bytes, offset)?;
        let state = self.shared.enter()?;
        let length = bytes.len() as u64;
        let state = self.shared.make_room(state, self.id.handle, length, self.undoes)?;
        self.push_to(state, Op::Write { offset, data })
    }

    /// One operation per piece, as if each were written by itself, but pushed in one go.
    fn write_vectored_at(&mut self, pieces: &[IoSlice<'_>], offset: u64) -> Result<()> {
        self.check_writable()?;
        let mut writes = Vec::new();
        memory::reserve_exact(&mut writes, pieces.len())?;
        let mut at = offset;
        for piece in pieces {
            writes.push((at, self.shared.copy(self.id.file, self.records, piece, at)?));
            at = at.saturating_add(piece.len() as u64);
        }
        let result = self.push_writes(writes);
        self.shared.work.notify_one();
        let mut at = offset;
        for piece in pieces.iter().take(*result.as_ref().unwrap_or_else(|(pushed, _)| pushed)) {
            self.shared.trace(|| push_line("WRITE", Some(Path::new(&self.name())), at));
            at = at.saturating_add(piece.len() as u64);
        }
        result.map_err(|(_, error)| error)?;
        self.shared.pass_through()
    }

    fn truncate(&mut self, size: u64) -> Result<()> {
        self.check_writable()?;
        self.push(Op::Truncate { size })
    }

    fn sync(&mut self, kind: SyncKind) -> Result<()> {
        self.push(Op::Sync(kind))
    }

    fn size(&self) -> Result<u64> {
        let mut on_disk = 0;
        let take = |state: &State| {
            let file = state.files.get(&self.id.file);
            file.map_or((None, 0), |file| (file.overlay.exact_size(), file.overlay.end()))
        };
        let (exact, end) = self.look(take, |(exact, _)| {
            if exact.is_none() {
                on_disk = self.reader.with(|file| file.size()).unwrap_or(Ok(0))?;
            }
            Ok((0, false))
        })?;
        let size = exact.unwrap_or(on_disk.max(end));
        Ok(if size == 1 { 0 } else { size })
    }

    fn lock(&mut self, level: LockLevel) -> Result<()> {
        if self.level >= level {
            return Ok(());
        }
        if self.level == LockLevel::None {
            self.give_way()?;
        }
        let lock_files = self.shared.enter()?.settings.lock_files;
        let mut locks = self.locks.lock();
        let result = locks.raise(self.id.handle, level, lock_files);
        self.level = locks.level(self.id.handle);
        drop(locks);
        self.shared.trace(|| format!("LOCK {} ({})", level_name(self.level), self.name()));
        result
    }

    fn unlock(&mut self, level: LockLevel) -> Result<()> {
        if self.level <= level {
            return Ok(());
        }
        self.lower(level)
    }

    fn lock_level(&self) -> LockLevel {
        self.level
    }

    fn check_reserved_lock(&self) -> Result<bool> {
        self.shared.check_process()?;
        let answer = self.locks.lock().check_reserved(&self.reader)?;
        self.shared.trace(|| format!("CHECK-LOCK {} ({})", u32::from(answer), self.name()));
        Ok(answer)
    }

    fn sector_size(&self) -> u32 {
        self.sector_size
    }

    fn device(&self) -> DeviceTraits {
        self.device
    }

    fn has_moved(&self) -> Result<bool> {
        let state = self.shared.enter()?;
        let pending = self.path(&state).and_then(|path| state.pending_name(&path));
        drop(state);
        match pending {
            Some((_, NameChange::Created(file))) => Ok(file != self.id.file),
            Some((_, NameChange::Gone)) => Ok(true),
            None => self.reader.with(|file| file.has_moved()).unwrap_or(Ok(false)),
        }
    }

    fn check_process(&self) -> Result<()> {
        self.shared.check_process()
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.shared.check_process().ok()?;
        self.reader.with(|file| file.identity()).flatten()
    }

    fn descriptor(&self) -> Option<i32> {
        self.shared.check_process().ok()?;
        self.reader.with(|file| file.descriptor()).flatten()
    }

    fn open_directory(&mut self, entry: &Path) -> Result<()> {
        self.push(Op::OpenDirectory { path: entry.to_owned() })
    }

    fn hint(&mut self, hint: Hint<'_>) {
        match hint {
            Hint::JoinSuperJournal(path) => self.join(path),
            Hint::Undoing(undoes) => {
                self.undoes = undoes;
                if let Ok(mut state) = self.shared.enter()
                    && let Some(file) = state.files.get_mut(&self.id.file)
                {
                    file.undone |= undoes;
                }
            }
            Hint::PageRecords { start, page_size } => {
                self.records = Some(PageRecords { start, page_size });
            }
            // Only asks for more safety; a latched error will come out at the next call.
            Hint::FullSync(flag) => {
                let _ = self.push(Op::SetFullSync(flag));
            }
        }
    }
}

impl Drop for WriteBehindFile {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            // The base handle's mutexes may be held by threads that do not exist here.
            std::mem::forget(Arc::clone(&self.reader));
            return;
        }
        // The lock of the handle falls with its closing, in the queue.
        let mut locks = self.locks.lock();
        let mut state = self.shared.state();
        let _ = locks.lower(self.id.handle, LockLevel::None);
        locks.unlock_queued(self.id.handle);
        let path = self.path(&state);
        let on_close = self.close(&mut state);
        drop(locks);
        drop(state);
        self.shared.work.notify_one();
        let path = path.as_deref().unwrap_or(Path::new("(temporary)"));
        self.shared.trace(|| push_line("CLOSE", Some(path), 0));
        if let Some((group, durable)) = on_close {
            let state = self.shared.state();
            // Errors are latched and in the history: closing itself has no way to report them.
            let _ = self.shared.flush_group(state, Some(group), durable, None);
        }
        let _ = self.shared.pass_through();
    }
}

impl WriteBehindFile {
    /// Pushes the closing, for which room was reserved. Returns the group to be flushed, if that
    /// is asked for at the last close of a database.
    fn close(&self, state: &mut State) -> Option<(super::groups::GroupId, bool)> {
        let file = state.files.get_mut(&self.id.file)?;
        file.open_handles = file.open_handles.saturating_sub(1);
        let (group, path) = (file.group, file.path.clone());
        let is_last = file.open_handles == 0;
        state.open_handles = state.open_handles.saturating_sub(1);
        state.push(group, Some(self.id.handle), Op::Close);
        let is_latched = state.groups.latch(group).is_some();
        match path {
            Some(path) if is_last && is_latched && database_of(&path).is_none() => {
                state.groups.leave(&path);
            }
            None if is_last => state.groups.abandon(group),
            _ => {}
        }
        if state.open_handles == 0 {
            state.groups.leave_all();
        }
        let on_close = state.settings.on_close;
        let flushes = is_last && self.id.is_database && on_close != Durability::None;
        let can_flush = state.halt != Halt::Now || state.executor != Executor::None;
        (flushes && can_flush).then_some((group, on_close == Durability::Durable))
    }
}

/// The level that an unlocking leaves, as a word for traces.
fn level_name(level: LockLevel) -> &'static str {
    match level {
        LockLevel::None => "none",
        LockLevel::Shared => "shared",
        LockLevel::Reserved => "reserved",
        LockLevel::Pending => "pending",
        LockLevel::Exclusive => "exclusive",
    }
}
