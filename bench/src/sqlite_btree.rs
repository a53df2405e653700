//! SQLite's own b-tree through the thin C functions of `sqlite_btree.c`.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use crate::data::{Entry, Piece, RecordBuffer, split_record, sum_words};
use crate::store::{Durability, Failure, Journal, KeyKind, Result, Settings, Store};

#[repr(C)]
struct Connection {
    _opaque: [u8; 0],
}

#[repr(C)]
struct Cursor {
    _opaque: [u8; 0],
}

/// `SQLITE_DONE`.
const DONE: c_int = 101;

#[rustfmt::skip]
unsafe extern "C" {
    fn bench_open(path: *const c_char, page_size: c_int, cache_pages: c_int, synchronous: c_int, journal_mode: *const c_char, exclusive: c_int, out: *mut *mut Connection) -> c_int;
    fn bench_close(c: *mut Connection);
    fn bench_begin(c: *mut Connection, write: c_int) -> c_int;
    fn bench_commit(c: *mut Connection) -> c_int;
    fn bench_create(c: *mut Connection, integer_keys: c_int, root: *mut c_uint) -> c_int;
    fn bench_cursor(c: *mut Connection, root: c_uint, integer_keys: c_int, write: c_int, out: *mut *mut Cursor) -> c_int;
    fn bench_close_cursor(cursor: *mut Cursor);
    fn bench_put_integer(cursor: *mut Cursor, key: i64, data: *const c_void, size: c_int) -> c_int;
    fn bench_put_record(cursor: *mut Cursor, record: *const c_void, size: c_int, key: *const c_void, key_size: c_int, append: c_int) -> c_int;
    fn bench_append_integer(cursor: *mut Cursor, key: i64, data: *const c_void, size: c_int) -> c_int;
    fn bench_seek_integer(cursor: *mut Cursor, key: i64, found: *mut c_int) -> c_int;
    fn bench_seek_record(c: *mut Connection, cursor: *mut Cursor, key: *const c_void, key_size: c_int, found: *mut c_int) -> c_int;
    fn bench_first(cursor: *mut Cursor, empty: *mut c_int) -> c_int;
    fn bench_next(cursor: *mut Cursor) -> c_int;
    fn bench_last(cursor: *mut Cursor, empty: *mut c_int) -> c_int;
    fn bench_previous(cursor: *mut Cursor) -> c_int;
    fn bench_delete(cursor: *mut Cursor) -> c_int;
    fn bench_integer_key(cursor: *mut Cursor) -> i64;
    fn bench_payload_size(cursor: *mut Cursor) -> c_uint;
    fn bench_payload_fetch(cursor: *mut Cursor, size: *mut c_uint) -> *const c_void;
    fn bench_payload(cursor: *mut Cursor, size: c_uint, out: *mut c_void) -> c_int;
    fn bench_check(c: *mut Connection, root: c_uint, text: *mut *mut c_char) -> c_int;
    fn bench_free(memory: *mut c_void);
    fn bench_version() -> *const c_char;
}

/// The tree is the first one made in the file, and without auto-vacuum it gets page 2.
const ROOT: c_uint = 2;

/// The release that was compiled in.
pub fn version() -> String {
    // SAFETY: a string literal of the C file.
    unsafe { CStr::from_ptr(bench_version()) }.to_string_lossy().into_owned()
}

/// The reference.
///
/// Invariant B1: `connection` is open, and `cursor` is NULL or a cursor of it; both are closed
/// once, in `drop`, the cursor first.
pub struct SqliteBtree {
    connection: *mut Connection,
    cursor: *mut Cursor,
    kind: KeyKind,
    record: RecordBuffer,
    overflow: Vec<u8>,
}

fn done(what: &str, code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    Err(Failure(format!("{what}: SQLite's result code {code}")))
}

/// Whether a step of the cursor led to an entry.
fn more(what: &str, code: c_int) -> Result<bool> {
    if code == DONE {
        return Ok(false);
    }
    done(what, code).map(|()| true)
}

impl SqliteBtree {
    fn open_cursor(&mut self, write: bool) -> Result<()> {
        self.close_cursor();
        let integers = c_int::from(self.kind == KeyKind::Int);
        // SAFETY: B1; the function stores a cursor only if it returns 0.
        let code = unsafe {
            bench_cursor(self.connection, ROOT, integers, c_int::from(write), &mut self.cursor)
        };
        done("cursor", code)
    }

    fn close_cursor(&mut self) {
        let cursor = std::mem::replace(&mut self.cursor, ptr::null_mut());
        if !cursor.is_null() {
            // SAFETY: B1; it was taken out, so it is closed once.
            unsafe { bench_close_cursor(cursor) };
        }
    }

    fn create_tree(&mut self) -> Result<()> {
        let mut root = 0;
        self.begin(1)?;
        let integers = c_int::from(self.kind == KeyKind::Int);
        // SAFETY: B1.
        done("create", unsafe { bench_create(self.connection, integers, &mut root) })?;
        if root != ROOT {
            return Err(Failure(format!("the first tree got page {root}")));
        }
        self.commit()
    }

    fn begin(&mut self, write: c_int) -> Result<()> {
        // SAFETY: B1.
        done("begin", unsafe { bench_begin(self.connection, write) })
    }

    #[inline]
    fn put_record(&mut self, entry: &Entry<'_>, append: bool) -> Result<()> {
        let record = self.record.record(entry);
        let (bytes, size) = (record.as_ptr().cast(), record.len() as c_int);
        let (key, key_size) = (entry.key.as_ptr().cast(), entry.key.len() as c_int);
        let append = c_int::from(append);
        // SAFETY: B1, in a write transaction; the lengths are those of the slices.
        let code = unsafe { bench_put_record(self.cursor, bytes, size, key, key_size, append) };
        done("insert", code)
    }

    /// The payload of the entry under the cursor, overflow included.
    #[inline]
    fn payload(&mut self) -> Result<&[u8]> {
        let mut local = 0;
        // SAFETY: callers positioned the cursor on an entry (B1); the bytes stay valid until the
        // cursor moves, which needs `&mut self` while the slice borrows it.
        unsafe {
            // The size first: asking for it decodes the cell, which the fetch takes for granted.
            let size = bench_payload_size(self.cursor);
            let bytes = bench_payload_fetch(self.cursor, &mut local);
            if local >= size {
                return Ok(std::slice::from_raw_parts(bytes.cast(), size as usize));
            }
            self.overflow.resize(size as usize, 0);
            done("payload", bench_payload(self.cursor, size, self.overflow.as_mut_ptr().cast()))?;
        }
        Ok(&self.overflow)
    }

    /// Puts the cursor on this entry; `false` if there is none.
    #[inline]
    fn seek(&mut self, entry: &Entry<'_>) -> Result<bool> {
        let mut found = 0;
        let code = match self.kind {
            // SAFETY: B1, in a transaction.
            KeyKind::Int => unsafe { bench_seek_integer(self.cursor, entry.rowid, &mut found) },
            // SAFETY: as above; the length is that of the slice.
            KeyKind::Key => unsafe {
                let (key, size) = (entry.key.as_ptr().cast(), entry.key.len() as c_int);
                bench_seek_record(self.connection, self.cursor, key, size, &mut found)
            },
        };
        done("seek", code)?;
        Ok(found == 0)
    }

    #[inline]
    fn next(&mut self) -> Result<bool> {
        // SAFETY: B1, in a transaction.
        more("next", unsafe { bench_next(self.cursor) })
    }

    /// Hands key and value of the entry to `each`, as [`Store::scan`] does.
    #[inline]
    fn visit(&mut self, each: &mut impl FnMut(u64, Piece<'_>)) -> Result<()> {
        match self.kind {
            KeyKind::Int => {
                // SAFETY: the cursor is on an entry.
                let key = unsafe { bench_integer_key(self.cursor) } as u64;
                each(key, Piece::whole(self.payload()?));
            }
            KeyKind::Key => {
                let (key, value) = split_record(self.payload()?);
                each(sum_words(key), Piece::whole(value));
            }
        }
        Ok(())
    }
}

impl Drop for SqliteBtree {
    fn drop(&mut self) {
        self.close_cursor();
        // SAFETY: B1; nothing uses the connection afterwards.
        unsafe { bench_close(self.connection) };
    }
}

impl Store for SqliteBtree {
    const NAME: &'static str = "sqlite-bt";

    const IS_BARE_SQLITE: bool = true;

    fn suits(settings: &Settings) -> bool {
        settings.journal != Journal::Wal
    }

    fn open(path: &Path, settings: &Settings, is_new: bool) -> Result<SqliteBtree> {
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| Failure("a path with a zero byte".into()))?;
        let synchronous = match settings.durability {
            Durability::NoSync => 0,
            Durability::Durable => 2,
        };
        let journal = CString::new(settings.journal.word())
            .map_err(|_| Failure("a word with a zero byte".into()))?;
        let page_size = if is_new { settings.page_size as c_int } else { 0 };
        let cache = settings.cache_pages as c_int;
        let mut connection = ptr::null_mut();
        let exclusive = c_int::from(settings.exclusive);
        // SAFETY: `name` and `journal` end with a zero byte; the function stores a connection only
        // if it returns 0.
        let code = unsafe {
            let (name, journal) = (name.as_ptr(), journal.as_ptr());
            bench_open(name, page_size, cache, synchronous, journal, exclusive, &mut connection)
        };
        done("open", code)?;
        let mut store = SqliteBtree {
            connection,
            cursor: ptr::null_mut(),
            kind: settings.kind,
            record: RecordBuffer::default(),
            overflow: Vec::new(),
        };
        if is_new {
            store.create_tree()?;
        }
        Ok(store)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn begin_read(&mut self) -> Result<()> {
        self.begin(0)?;
        self.open_cursor(false)
    }

    fn begin_write(&mut self) -> Result<()> {
        self.begin(1)?;
        self.open_cursor(true)
    }

    fn commit(&mut self) -> Result<()> {
        self.close_cursor();
        // SAFETY: B1.
        done("commit", unsafe { bench_commit(self.connection) })
    }

    #[inline]
    fn put(&mut self, entry: &Entry<'_>) -> Result<()> {
        match self.kind {
            KeyKind::Int => {
                let (value, size) = (entry.value.as_ptr().cast(), entry.value.len() as c_int);
                // SAFETY: B1, in a write transaction; the length is that of the slice.
                done("insert", unsafe { bench_put_integer(self.cursor, entry.rowid, value, size) })
            }
            KeyKind::Key => self.put_record(entry, false),
        }
    }

    #[inline]
    fn append(&mut self, entry: &Entry<'_>) -> Result<()> {
        match self.kind {
            KeyKind::Int => {
                let (value, size) = (entry.value.as_ptr().cast(), entry.value.len() as c_int);
                // SAFETY: as in `put`.
                let code = unsafe { bench_append_integer(self.cursor, entry.rowid, value, size) };
                done("append", code)
            }
            KeyKind::Key => self.put_record(entry, true),
        }
    }

    #[inline]
    fn get(&mut self, entry: &Entry<'_>, mut read: impl FnMut(Piece<'_>)) -> Result<bool> {
        if !self.seek(entry)? {
            return Ok(false);
        }
        let kind = self.kind;
        let payload = self.payload()?;
        match kind {
            KeyKind::Int => read(Piece::whole(payload)),
            KeyKind::Key => read(Piece::whole(split_record(payload).1)),
        }
        Ok(true)
    }

    fn scan(&mut self, mut each: impl FnMut(u64, Piece<'_>)) -> Result<()> {
        let mut empty = 0;
        // SAFETY: B1, in a transaction.
        done("first", unsafe { bench_first(self.cursor, &mut empty) })?;
        let mut on_entry = empty == 0;
        while on_entry {
            self.visit(&mut each)?;
            on_entry = self.next()?;
        }
        Ok(())
    }

    fn scan_back(&mut self, mut each: impl FnMut(u64, Piece<'_>)) -> Result<()> {
        let mut empty = 0;
        // SAFETY: B1, in a transaction.
        done("last", unsafe { bench_last(self.cursor, &mut empty) })?;
        let mut on_entry = empty == 0;
        while on_entry {
            self.visit(&mut each)?;
            // SAFETY: as above.
            on_entry = more("previous", unsafe { bench_previous(self.cursor) })?;
        }
        Ok(())
    }

    fn range(
        &mut self,
        start: &Entry<'_>,
        count: usize,
        mut each: impl FnMut(u64, Piece<'_>),
    ) -> Result<()> {
        let mut on_entry = self.seek(start)?;
        for _ in 0..count {
            if !on_entry {
                break;
            }
            self.visit(&mut each)?;
            on_entry = self.next()?;
        }
        Ok(())
    }

    fn delete(&mut self, entry: &Entry<'_>) -> Result<()> {
        if !self.seek(entry)? {
            return Err(Failure("the entry to delete was not found".into()));
        }
        // SAFETY: B1, the cursor is on an entry and open for writing.
        done("delete", unsafe { bench_delete(self.cursor) })
    }

    fn check(&mut self) -> Result<()> {
        let mut text = ptr::null_mut();
        self.begin(0)?;
        // SAFETY: B1; the text is a zero-terminated string that is ours to free.
        let verdict = unsafe {
            let code = bench_check(self.connection, ROOT, &mut text);
            let verdict = done("check", code).and_then(|()| match text.is_null() {
                true => Ok(()),
                false => Err(Failure(CStr::from_ptr(text).to_string_lossy().into_owned())),
            });
            bench_free(text.cast());
            verdict
        };
        self.commit()?;
        verdict
    }
}
