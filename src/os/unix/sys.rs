//! Every call to the system, each in a function that returns a `Result`.
//!
//! Calls that a signal interrupted are made again. An error is the system's error number;
//! what it means is decided by the caller, who knows what was attempted.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// An error number of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Errno(pub(super) i32);

/// A descriptor of an open file. A plain number on purpose: closing one drops the locks that the
/// process has on the file, so it is never done in passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptor(c_int);

impl Descriptor {
    /// The number.
    pub(super) fn get(self) -> i32 {
        self.0
    }
}

/// What the engine needs to know about a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Status {
    /// Device and inode: the identity of the file.
    pub(super) identity: (u64, u64),
    /// Size in bytes.
    pub(super) size: u64,
    /// Permission bits.
    pub(super) mode: u32,
    /// Owner.
    pub(super) owner: (u32, u32),
    /// It is a regular file.
    pub(super) is_regular: bool,
    /// It is a directory.
    pub(super) is_directory: bool,
}

/// The kinds of byte-range lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeLock {
    /// Shared with other read locks.
    Read,
    /// Alone.
    Write,
    /// None.
    Unlock,
}

fn last_errno() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// Turns the −1 convention into a `Result`, and repeats what a signal interrupted.
fn retry(mut call: impl FnMut() -> isize) -> Result<usize, Errno> {
    loop {
        match usize::try_from(call()) {
            Ok(value) => return Ok(value),
            Err(_) => match last_errno() {
                Errno(libc::EINTR) => {}
                errno => return Err(errno),
            },
        }
    }
}

/// Longest path that is handed to the system without an allocation.
const PATH_ON_STACK: usize = 255;

/// Calls `work` with a path as the system wants it.
fn with_c_path<T>(path: &Path, work: impl FnOnce(&CStr) -> Result<T, Errno>) -> Result<T, Errno> {
    const INVALID: Errno = Errno(libc::EINVAL);
    let bytes = path.as_os_str().as_bytes();
    let mut room = [0u8; PATH_ON_STACK + 1];
    match room.get_mut(..bytes.len()).filter(|_| bytes.len() <= PATH_ON_STACK) {
        Some(front) => {
            front.copy_from_slice(bytes);
            let with_end = room.get(..=bytes.len()).ok_or(INVALID)?;
            work(CStr::from_bytes_with_nul(with_end).map_err(|_| INVALID)?)
        }
        None => work(&CString::new(bytes).map_err(|_| INVALID)?),
    }
}

fn position(offset: u64) -> Result<libc::off_t, Errno> {
    libc::off_t::try_from(offset).map_err(|_| Errno(libc::EFBIG))
}

/// Opens `path` close-on-exec, never as descriptor 0 to 2: what a program prints must not land in
/// a database.
pub(super) fn open(path: &Path, flags: c_int, mode: u32) -> Result<Descriptor, Errno> {
    occupy_standard_descriptors()?;
    open_anywhere(path, flags, mode)
}

/// The same for a file on which this process never holds a lock. If it lands on a low descriptor
/// it can be moved afterwards, so nothing has to be looked at before; that place is taken then, so
/// that it happens once.
pub(super) fn open_unlocked(path: &Path, flags: c_int, mode: u32) -> Result<Descriptor, Errno> {
    let opened = open_anywhere(path, flags, mode)?;
    if opened.0 > 2 {
        return Ok(opened);
    }
    // SAFETY: F_DUPFD_CLOEXEC reads no memory of ours.
    let moved = retry(|| unsafe { libc::fcntl(opened.0, libc::F_DUPFD_CLOEXEC, 3) as isize });
    close(opened);
    // Nothing depends on it if that fails.
    let _ = occupy_standard_descriptors();
    c_int::try_from(moved?).map(Descriptor).map_err(|_| Errno(libc::EMFILE))
}

fn open_anywhere(path: &Path, flags: c_int, mode: u32) -> Result<Descriptor, Errno> {
    // SAFETY: `path` is a NUL-terminated string that outlives the call; `mode` is passed as the
    // variadic argument that O_CREAT reads.
    let open = |path: &CStr| unsafe {
        libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode as libc::c_uint) as isize
    };
    let number = with_c_path(path, |path| retry(|| open(path)))?;
    c_int::try_from(number).map(Descriptor).map_err(|_| Errno(libc::EMFILE))
}

/// Puts the null device on each of the descriptors 0 to 2 that is closed. Beforehand, because
/// closing a low descriptor after the fact would drop the process's locks on the file.
fn occupy_standard_descriptors() -> Result<(), Errno> {
    for number in 0..3 {
        // SAFETY: F_GETFD reads no memory of ours.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
            // SAFETY: the path is a NUL-terminated constant.
            retry(|| unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) as isize })?;
        }
    }
    Ok(())
}

/// Closes a descriptor. There is no way to try again after an error, so none is reported.
pub(super) fn close(file: Descriptor) {
    // SAFETY: close reads no memory of ours.
    unsafe { libc::close(file.0) };
}

/// Reads up to `buffer.len()` bytes.
pub(super) fn read(file: Descriptor, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let offset = position(offset)?;
    // SAFETY: the buffer is valid for writes of its length.
    retry(|| unsafe { libc::pread(file.0, buffer.as_mut_ptr().cast(), buffer.len(), offset) })
}

/// Writes up to `bytes.len()` bytes.
pub(super) fn write(file: Descriptor, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
    let offset = position(offset)?;
    // SAFETY: the buffer is valid for reads of its length.
    retry(|| unsafe { libc::pwrite(file.0, bytes.as_ptr().cast(), bytes.len(), offset) })
}

/// The most pieces that one vectored call takes.
pub(super) const PIECES_MAX: usize = 1024;

/// Writes the pieces, or the first bytes of them; at most [`PIECES_MAX`] pieces.
pub(super) fn write_vectored(
    file: Descriptor,
    pieces: &[IoSlice<'_>],
    offset: u64,
) -> Result<usize, Errno> {
    let offset = position(offset)?;
    let count = pieces.len().min(PIECES_MAX) as c_int;
    // SAFETY: `IoSlice` has the layout of `iovec` (guaranteed on Unix), the array has at least
    // `count` elements, and each is valid for reads of its length.
    retry(|| unsafe { libc::pwritev(file.0, pieces.as_ptr().cast(), count, offset) })
}

/// Sets the size.
pub(super) fn truncate(file: Descriptor, size: u64) -> Result<(), Errno> {
    let size = position(size)?;
    // SAFETY: no memory of ours is involved.
    retry(|| unsafe { libc::ftruncate(file.0, size) as isize }).map(drop)
}

/// Makes content and size durable.
pub(super) fn sync_data(file: Descriptor) -> Result<(), Errno> {
    // SAFETY: no memory of ours is involved.
    retry(|| unsafe { libc::fdatasync(file.0) as isize }).map(drop)
}

/// Makes content and all attributes durable; for a directory, its entries.
pub(super) fn sync_all(file: Descriptor) -> Result<(), Errno> {
    // SAFETY: no memory of ours is involved.
    retry(|| unsafe { libc::fsync(file.0) as isize }).map(drop)
}

/// Status of an open file.
pub(super) fn status(file: Descriptor) -> Result<Status, Errno> {
    match status_at(file.0, c"", libc::AT_EMPTY_PATH) {
        Err(errno) if is_unknown_call(errno) => {
            // SAFETY: the buffer has the size and alignment of a `stat`.
            old_status(|buffer| unsafe { libc::fstat(file.0, buffer) })
        }
        answer => answer,
    }
}

/// Status of the file that `path` leads to.
pub(super) fn status_of(path: &Path) -> Result<Status, Errno> {
    with_c_path(path, |path| match status_at(libc::AT_FDCWD, path, 0) {
        Err(errno) if is_unknown_call(errno) => {
            // SAFETY: `path` is NUL-terminated; the buffer has the size and alignment of a `stat`.
            old_status(|buffer| unsafe { libc::stat(path.as_ptr(), buffer) })
        }
        answer => answer,
    })
}

/// Whether the answer is that of an old system, or of a filter of system calls that is older than
/// the call: no file answers so to a question about its status.
fn is_unknown_call(errno: Errno) -> bool {
    matches!(errno, Errno(libc::ENOSYS | libc::EPERM))
}

/// Status by the older calls, which also look at the times.
fn old_status(call: impl Fn(*mut libc::stat) -> c_int) -> Result<Status, Errno> {
    let mut buffer = MaybeUninit::<libc::stat>::uninit();
    retry(|| call(buffer.as_mut_ptr()) as isize)?;
    // SAFETY: the call succeeded, so it has filled the buffer.
    let status = unsafe { buffer.assume_init_ref() };
    let device =
        u64::from(libc::major(status.st_dev)) << 32 | u64::from(libc::minor(status.st_dev));
    Ok(Status {
        identity: (device, status.st_ino),
        size: u64::try_from(status.st_size).unwrap_or(0),
        mode: status.st_mode & 0o777,
        owner: (status.st_uid, status.st_gid),
        is_regular: status.st_mode & libc::S_IFMT == libc::S_IFREG,
        is_directory: status.st_mode & libc::S_IFMT == libc::S_IFDIR,
    })
}

/// Asks for what is wanted and not for times: a file whose times were looked at gets an exact new
/// one with the next change, which the syncs behind it then wait for, half as long again as for
/// the data alone.
fn status_at(directory: c_int, path: &CStr, flags: c_int) -> Result<Status, Errno> {
    let wanted = libc::STATX_TYPE
        | libc::STATX_MODE
        | libc::STATX_UID
        | libc::STATX_GID
        | libc::STATX_INO
        | libc::STATX_SIZE;
    let mut buffer = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: `path` is NUL-terminated; the buffer has the size and alignment of a `statx`.
    let mut statx = || unsafe {
        libc::statx(directory, path.as_ptr(), flags, wanted, buffer.as_mut_ptr()) as isize
    };
    retry(&mut statx)?;
    // SAFETY: the call succeeded, so it has filled the buffer.
    Ok(decode(unsafe { buffer.assume_init_ref() }))
}

fn decode(status: &libc::statx) -> Status {
    let mode = u32::from(status.stx_mode);
    let kind = mode & libc::S_IFMT;
    let device = u64::from(status.stx_dev_major) << 32 | u64::from(status.stx_dev_minor);
    Status {
        identity: (device, status.stx_ino),
        size: status.stx_size,
        mode: mode & 0o777,
        owner: (status.stx_uid, status.stx_gid),
        is_regular: kind == libc::S_IFREG,
        is_directory: kind == libc::S_IFDIR,
    }
}

/// The number of the kind of file system that a file is on.
pub(super) fn file_system(file: Descriptor) -> Result<u32, Errno> {
    let mut answer = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the structure has the size that the call fills, and all zeros is one.
    let answer = unsafe {
        retry(|| libc::fstatfs(file.0, answer.as_mut_ptr()) as isize)?;
        answer.assume_init()
    };
    Ok(answer.f_type as u32)
}

/// Removes a name.
pub(super) fn unlink(path: &Path) -> Result<(), Errno> {
    // SAFETY: `path` is NUL-terminated.
    let unlink = |path: &CStr| unsafe { libc::unlink(path.as_ptr()) as isize };
    with_c_path(path, |path| retry(|| unlink(path))).map(drop)
}

/// Sets the permission bits.
pub(super) fn set_mode(file: Descriptor, mode: u32) -> Result<(), Errno> {
    // SAFETY: no memory of ours is involved.
    retry(|| unsafe { libc::fchmod(file.0, mode as libc::mode_t) as isize }).map(drop)
}

/// Sets user and group.
pub(super) fn set_owner(file: Descriptor, (user, group): (u32, u32)) -> Result<(), Errno> {
    // SAFETY: no memory of ours is involved.
    retry(|| unsafe { libc::fchown(file.0, user, group) as isize }).map(drop)
}

/// Whether the process may do everything.
pub(super) fn is_superuser() -> bool {
    // SAFETY: the call has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn range(kind: RangeLock, start: u64, length: u64) -> Result<libc::flock, Errno> {
    // SAFETY: all bytes zero is a valid `flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = match kind {
        RangeLock::Read => libc::F_RDLCK,
        RangeLock::Write => libc::F_WRLCK,
        RangeLock::Unlock => libc::F_UNLCK,
    } as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = position(start)?;
    lock.l_len = position(length)?;
    Ok(lock)
}

/// Sets the process's lock on a range without waiting; a length of 0 reaches to the end of all
/// files. Not repeated after a signal: to the caller that is one more way of being busy.
pub(super) fn set_lock(
    file: Descriptor,
    kind: RangeLock,
    start: u64,
    length: u64,
) -> Result<(), Errno> {
    let lock = range(kind, start, length)?;
    // SAFETY: F_SETLK reads one `flock`.
    match unsafe { libc::fcntl(file.0, libc::F_SETLK, &raw const lock) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Whether a lock of another process keeps this one from locking the range.
pub(super) fn is_blocked(
    file: Descriptor,
    kind: RangeLock,
    start: u64,
    length: u64,
) -> Result<bool, Errno> {
    let mut lock = range(kind, start, length)?;
    // SAFETY: F_GETLK reads and writes one `flock`.
    retry(|| unsafe { libc::fcntl(file.0, libc::F_GETLK, &raw mut lock) as isize })?;
    Ok(i32::from(lock.l_type) != i32::from(libc::F_UNLCK as libc::c_short))
}

/// 32 random bits from the system, `None` if it has none to give.
pub(super) fn random() -> Option<u32> {
    let mut bytes = [0u8; 4];
    // SAFETY: the buffer is valid for writes of its length.
    let count =
        retry(|| unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) }).ok()?;
    (count == bytes.len()).then(|| u32::from_ne_bytes(bytes))
}

/// The process in which the value was made. To ask whether it is still that one costs a look into
/// memory where the system can mark a process, else a call.
#[derive(Debug)]
pub(crate) struct Home {
    number: u32,
    /// Its number for the system, if that cannot mark it.
    process: Option<u32>,
}

/// Where the number of this process in the line of forks stands: on a page that begins as zeros in
/// every child, however it was made, also where the C library does not hear of it (`_Fork`,
/// `clone`). 0: nobody has asked in this process. Null: nobody has asked at all.
static NUMBER: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

/// Stands in for that page where the system has none to give.
static UNMARKED: AtomicU32 = AtomicU32::new(0);

/// The last number that was given to a process of the line. A child goes on counting from there, so
/// that no process has the number of one it comes from.
static LAST_NUMBER: AtomicU32 = AtomicU32::new(0);

/// Where the number stands. Nobody waits here: a forked child could find whom it would wait for
/// missing.
#[inline]
fn number_place() -> &'static AtomicU32 {
    // SAFETY: null, or made below, and never freed once it is here.
    match unsafe { NUMBER.load(Ordering::Acquire).as_ref() } {
        Some(place) => place,
        None => make_number_place(),
    }
}

#[cold]
fn make_number_place() -> &'static AtomicU32 {
    let made = wiped_page().unwrap_or((&raw const UNMARKED).cast_mut());
    let (none, order, otherwise) = (std::ptr::null_mut(), Ordering::AcqRel, Ordering::Acquire);
    let place = match NUMBER.compare_exchange(none, made, order, otherwise) {
        Ok(_) => made,
        // What this thread has made is left unused: it is one page, once.
        Err(other) => other,
    };
    // SAFETY: `made` here or by another thread: a static, or a page that is never unmapped.
    unsafe { &*place }
}

/// A page of zeros that is one of zeros again in every child; `None` if there is no such thing.
fn wiped_page() -> Option<*mut AtomicU32> {
    const SIZE: usize = size_of::<AtomicU32>();
    const NO_ADVICE: c_int = -1;
    // SAFETY: a new mapping; nothing is there that could change. Both calls of `madvise` are for
    // its first page only, and what an emulator makes of a wrong advice is known: it says yes to
    // all of them, and does nothing.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            return None;
        }
        if libc::madvise(page, SIZE, NO_ADVICE) == 0
            || libc::madvise(page, SIZE, libc::MADV_WIPEONFORK) != 0
        {
            libc::munmap(page, SIZE);
            return None;
        }
        Some(page.cast())
    }
}

/// The number of this process.
fn process_number() -> u32 {
    let place = number_place();
    let (order, otherwise) = (Ordering::AcqRel, Ordering::Acquire);
    match place.load(Ordering::Acquire) {
        0 => {
            let next = LAST_NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
            place.compare_exchange(0, next, order, otherwise).map_or_else(|other| other, |_| next)
        }
        number => number,
    }
}

impl Home {
    /// This process.
    pub(crate) fn new() -> Home {
        let number = process_number();
        let is_unmarked = std::ptr::eq(number_place(), &raw const UNMARKED);
        Home { number, process: is_unmarked.then(std::process::id) }
    }

    /// Whether this is that process, and not one forked from it.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        number_place().load(Ordering::Relaxed) == self.number
            && self.process.is_none_or(|process| process == std::process::id())
    }
}

/// A value of which each process has its own: a forked child begins with a new one. What its parent
/// had, and who has it locked, is of no meaning there.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    /// The value of this process, or of the one that it was forked from; null at first.
    current: AtomicPtr<OfProcess<T>>,
}

/// A value and its process.
#[derive(Debug)]
pub(crate) struct OfProcess<T> {
    home: Home,
    value: T,
}

impl<T> OfProcess<T> {
    /// Whether this is its process.
    #[inline]
    pub(super) fn is_here(&self) -> bool {
        self.home.is_here()
    }
}

impl<T> Deref for OfProcess<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Default + Send + Sync> PerProcess<T> {
    /// No value yet.
    pub(crate) const fn new() -> PerProcess<T> {
        PerProcess { current: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// The value of this process, if it has been asked for before.
    pub(crate) fn peek(&self) -> Option<&OfProcess<T>> {
        // SAFETY: as in `get`.
        unsafe { self.current.load(Ordering::Acquire).as_ref() }.filter(|value| value.is_here())
    }

    /// The value of this process. Nobody waits for it, but for what `T::default` waits for.
    #[inline]
    pub(crate) fn get(&self) -> &OfProcess<T> {
        let known = self.current.load(Ordering::Acquire);
        // SAFETY: null, or made below, and not freed before `self` is dropped.
        match unsafe { known.as_ref() } {
            Some(value) if value.is_here() => value,
            _ => self.make(known),
        }
    }

    #[cold]
    fn make(&self, known: *mut OfProcess<T>) -> &OfProcess<T> {
        let mut known = known;
        let made = Box::into_raw(Box::new(OfProcess { home: Home::new(), value: T::default() }));
        loop {
            let (order, otherwise) = (Ordering::AcqRel, Ordering::Acquire);
            match self.current.compare_exchange(known, made, order, otherwise) {
                // SAFETY: just made, and not freed before `self` is dropped.
                Ok(_) => return unsafe { &*made },
                Err(other) => known = other,
            }
            // SAFETY: as in `get`.
            if let Some(value) = unsafe { known.as_ref() }.filter(|value| value.is_here()) {
                // SAFETY: made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
                return value;
            }
        }
    }
}

impl<T> Drop for PerProcess<T> {
    /// What a parent process had is left alone: a thread that is not here may have been at it.
    fn drop(&mut self) {
        let current = *self.current.get_mut();
        // SAFETY: null, or made by `make` from a box, and nobody has `self` any more.
        if unsafe { current.as_ref() }.is_some_and(OfProcess::is_here) {
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(current) });
        }
    }
}

/// Runs `body` in a forked child, which exits with its answer like any process, exit handlers
/// included. Returns the answer; `None` if the child died, of its alarm clock for example.
#[cfg(test)]
pub(crate) fn in_child(body: impl FnOnce() -> i32) -> Option<i32> {
    // SAFETY: the child runs on a copy of this thread alone; it calls nothing that waits for
    // another thread, and the alarm ends it if it does.
    in_process(unsafe { libc::fork() }, body)
}

/// The same in a child of which the C library does not know.
#[cfg(test)]
pub(crate) fn in_unannounced_child(body: impl FnOnce() -> i32) -> Option<i32> {
    // SAFETY: as above.
    in_process(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as i32, body)
}

#[cfg(test)]
fn in_process(child: i32, body: impl FnOnce() -> i32) -> Option<i32> {
    const PATIENCE_SECONDS: u32 = 20;
    if child == 0 {
        // SAFETY: neither call reads memory of ours; the signal's default action ends the child.
        unsafe { libc::alarm(PATIENCE_SECONDS) };
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: as above.
        unsafe { libc::exit(answer.unwrap_or(99)) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    retry(|| unsafe { libc::waitpid(child, &mut status, 0) as isize }).ok()?;
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

/// From now on the system call `number` fails in this process, as under a filter that does not
/// know it. Returns whether that was possible.
#[cfg(test)]
pub(super) fn refuse_call(number: libc::c_long, Errno(errno): Errno) -> bool {
    let step = |code: u32, jump_false: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump_false,
        k: value,
    };
    // The number of the call is the first word of what a filter sees.
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its steps are valid during the calls, which copy them.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}
