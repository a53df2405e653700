//! The pager as a whole, on simulated disks.

mod basics;
mod faults;
mod model;
mod recovery;
mod savepoints;
mod stock;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::format::{AutoVacuum, FileHeader, PageNumber};
use crate::os::{DeviceTraits, LockLevel, MemoryVfs, Opened, SyncKind};

const PAGE: u32 = 512;

fn page(number: u32) -> PageNumber {
    PageNumber::new(number).unwrap()
}

fn database() -> PathBuf {
    PathBuf::from("/t.db")
}

fn journal() -> PathBuf {
    PathBuf::from("/t.db-journal")
}

fn options(cache_size: i32) -> PagerOptions {
    PagerOptions {
        page_size: PageSize::new(PAGE).unwrap(),
        cache_size,
        omit_journal: false,
        no_read_lock: false,
        access: Access::Create,
        exclusive: false,
        delete_on_close: false,
        lock_offset: LockPage::STANDARD_OFFSET,
    }
}

fn open_on(vfs: &Arc<dyn Vfs>, storage: &Storage, cache_size: i32) -> Pager<()> {
    Pager::open(Arc::clone(vfs), storage, &options(cache_size)).unwrap()
}

fn open(vfs: &Arc<dyn Vfs>, cache_size: i32) -> Pager<()> {
    open_on(vfs, &Storage::File(database()), cache_size)
}

/// Begins to read as the b-tree layer does: with the number of pages from the header.
fn begin_read(pager: &mut Pager<()>) -> Result<()> {
    pager.begin_read()?;
    let mark = pager.mark();
    let count = pager
        .fetch(PageNumber::ONE)
        .map(|one| FileHeader::decode(pager.bytes(one)).ok().and_then(|header| header.page_count));
    pager.release(mark);
    match count {
        Ok(Some(count)) if pager.file_page_count() > 0 => pager.trust_page_count(count),
        Ok(_) => {}
        Err(error) => {
            pager.end_read();
            return Err(error);
        }
    }
    Ok(())
}

fn begin(pager: &mut Pager<()>) -> Result<()> {
    begin_read(pager)?;
    let result = pager.begin_write(false, false);
    if result.is_err() {
        pager.end_read();
    }
    result
}

fn commit(pager: &mut Pager<()>) -> Result<()> {
    pager.commit_phase_one(None)?;
    pager.commit_phase_two()?;
    pager.end_read();
    Ok(())
}

/// Fills page `number` with `value`; page 1 gets a file header. The image grows as needed.
fn put(pager: &mut Pager<()>, number: u32, value: u8) -> Result<()> {
    let mark = pager.mark();
    let result = put_pinned(pager, number, value);
    pager.release(mark);
    result
}

fn put_pinned(pager: &mut Pager<()>, number: u32, value: u8) -> Result<()> {
    let new = number > pager.page_count();
    if new {
        pager.grow(number)?;
    }
    let at = if new { pager.fetch_blank(page(number))? } else { pager.fetch(page(number))? };
    let at = pager.make_writable(at)?;
    let bytes = pager.bytes_mut(at);
    if number == 1 && new {
        let size = PageSize::new(PAGE).unwrap();
        FileHeader::create(bytes, size, 0, AutoVacuum::None).unwrap();
    }
    bytes[100..].fill(value);
    Ok(())
}

/// The value that page `number` is filled with.
fn get(pager: &mut Pager<()>, number: u32) -> Result<u8> {
    let mark = pager.mark();
    let result = pager.fetch(page(number)).map(|at| {
        let bytes = &pager.bytes(at)[100..];
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "page {number} is mixed");
        bytes[0]
    });
    pager.release(mark);
    result
}

/// All values of the database, through a transaction of its own.
fn values(pager: &mut Pager<()>) -> Result<Vec<u8>> {
    begin_read(pager)?;
    let result = (1..=pager.page_count()).map(|number| get(pager, number)).collect();
    pager.end_read();
    assert_eq!(pager.stats().pinned, 0, "a pin was leaked");
    result
}

/// A database of pages with these values.
fn create(vfs: &Arc<dyn Vfs>, values: &[u8]) {
    let mut pager = open(vfs, 100);
    begin(&mut pager).unwrap();
    for (number, value) in (1..).zip(values) {
        put(&mut pager, number, *value).unwrap();
    }
    commit(&mut pager).unwrap();
    pager.close();
}

fn memory() -> (MemoryVfs, Arc<dyn Vfs>) {
    let memory = MemoryVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::new(memory.clone());
    (memory, vfs)
}

/// A disk whose database files report a sector size and device traits.
#[derive(Debug)]
struct Device {
    inner: MemoryVfs,
    sector: u32,
    traits: DeviceTraits,
}

impl Vfs for Device {
    fn open(&self, path: Option<&Path>, request: OpenRequest) -> Result<Opened> {
        let Opened { file, read_only } = self.inner.open(path, request)?;
        let (sector, traits) = (self.sector, self.traits);
        Ok(Opened { file: Box::new(DeviceFile { file, sector, traits }), read_only })
    }
    fn delete(&self, path: &Path, sync_directory: bool) -> Result<()> {
        self.inner.delete(path, sync_directory)
    }
    fn exists(&self, path: &Path) -> Result<bool> {
        self.inner.exists(path)
    }
    fn sync_directory(&self, path: &Path) -> Result<()> {
        self.inner.sync_directory(path)
    }
    fn full_path(&self, name: &Path) -> Result<PathBuf> {
        self.inner.full_path(name)
    }
    fn random(&self) -> u32 {
        self.inner.random()
    }
}

#[derive(Debug)]
struct DeviceFile {
    file: Box<dyn File>,
    sector: u32,
    traits: DeviceTraits,
}

impl File for DeviceFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_at(bytes, offset)
    }
    fn truncate(&mut self, size: u64) -> Result<()> {
        self.file.truncate(size)
    }
    fn sync(&mut self, kind: SyncKind) -> Result<()> {
        self.file.sync(kind)
    }
    fn size(&self) -> Result<u64> {
        self.file.size()
    }
    fn lock(&mut self, level: LockLevel) -> Result<()> {
        self.file.lock(level)
    }
    fn unlock(&mut self, level: LockLevel) -> Result<()> {
        self.file.unlock(level)
    }
    fn lock_level(&self) -> LockLevel {
        self.file.lock_level()
    }
    fn check_reserved_lock(&self) -> Result<bool> {
        self.file.check_reserved_lock()
    }
    fn sector_size(&self) -> u32 {
        self.sector
    }
    fn device(&self) -> DeviceTraits {
        self.traits
    }
}
