//! A file seen as memory, and copying from it without dying of what happens to the file.
//!
//! The page that a call copies out of the system's cache can be copied from a mapping of the file
//! as well, without the call: with a cache smaller than the database random gets take half the
//! time, inserts three quarters of it.
//!
//! What mappings are known for is that a disk that fails, or a file that somebody cuts, shows as
//! the signal SIGBUS instead of as an error. So mapped bytes are read by one instruction only, in
//! [`copy_or_fault`], and a handler of that signal lets a fault in just this instruction end the
//! copy: [`Mapping::read`] says that it could not be done, and whoever wanted the bytes asks for
//! them by a call, which fails, or falls short, as it would have without a mapping. A SIGBUS from
//! anywhere else goes to whoever handled the signal before.
//!
//! Invariants, which the `unsafe` blocks rest on:
//!
//! * M1: from `new` to `drop` the `length` bytes at `address` are mapped for reading, and nobody
//!   else knows of them.
//! * M2: they are read by `copy_or_fault` and never through a reference: other processes may
//!   change them at any time, and each access may fault.
//! * M3: the handler is in place before the first mapping is made. If somebody replaced it, or the
//!   thread does not take the signal, no more are made, and those that there are are given up as
//!   soon as that is noticed: whoever reads asks [`faults_are_caught`] every so often.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::sys::Descriptor;
use crate::memory::{LINE, prefetch_address};

/// Unit of mapping, in bytes: a file's last part of one reads as zeros behind its end.
pub(super) const UNIT: u64 = 4096;

/// A file, or the beginning of one, mapped for reading.
#[derive(Debug)]
pub(super) struct Mapping {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping belongs to the process, not to the thread that made it (M1).
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes of a file, a multiple of [`UNIT`], which may be more than it
    /// has. `None` if the system refuses, or if faults cannot be caught here.
    pub(super) fn new(descriptor: Descriptor, length: u64) -> Option<Mapping> {
        let length = usize::try_from(length).ok()?;
        if !faults_are_caught() || addresses_are_limited() || new_memory_is_filled() {
            return None;
        }
        // SAFETY: asks for new addresses; no memory of ours is touched.
        let mapped = unsafe {
            let nowhere = std::ptr::null_mut();
            libc::mmap(nowhere, length, libc::PROT_READ, libc::MAP_SHARED, descriptor.get(), 0)
        };
        if mapped == libc::MAP_FAILED {
            return None;
        }
        NonNull::new(mapped.cast()).map(|address| Mapping { address, length })
    }

    /// How many bytes are mapped.
    pub(super) fn length(&self) -> u64 {
        self.length as u64
    }

    /// Fills `buffer` with what the file has from `offset` on. Returns whether that could be done:
    /// if not, because the file ends before or the disk fails, the buffer holds anything.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> bool {
        let Ok(offset) = usize::try_from(offset) else { return false };
        if offset.checked_add(buffer.len()).is_none_or(|end| end > self.length) {
            return false;
        }
        // SAFETY: the range lies within the mapping (M1), the buffer is ours alone, and a fault is
        // caught (M3).
        unsafe {
            copy_or_fault(buffer.as_mut_ptr(), self.address.as_ptr().add(offset), buffer.len())
        }
    }

    /// Asks for the memory of `length` bytes from `offset` on, as far as they are mapped, and does
    /// not wait for it.
    pub(super) fn prefetch(&self, offset: u64, length: usize) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.length);
        let end = start.saturating_add(length).min(self.length);
        for at in (start..end).step_by(LINE) {
            prefetch_address(self.address.as_ptr().wrapping_add(at));
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nobody else knows of it (M1).
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.length) };
    }
}

/// Whether the process may have so many addresses and no more: they are its memory then.
fn addresses_are_limited() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills in the limit.
    let is_known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0;
    !is_known || limit.rlim_cur != libc::RLIM_INFINITY
}

/// Whether the system fills what is mapped at once, as for a process that has all its memory
/// locked: a mapping would read all of the file, and keep it in memory.
fn new_memory_is_filled() -> bool {
    let (length, flags) = (UNIT as usize, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let mut state = 0;
    // SAFETY: maps new memory, looks whether it is there, and unmaps it.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, flags, -1, 0);
        if memory == libc::MAP_FAILED {
            return true;
        }
        let known = libc::mincore(memory, length, &raw mut state) == 0;
        libc::munmap(memory, length);
        !known || state & 1 != 0
    }
}

/// Something that tells this thread from the others that are there.
#[inline]
pub(super) fn thread_mark() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

/// Copies `count` bytes; returns whether no access faulted.
///
/// # Safety
/// `from` lies in a mapping of that many bytes, `to` may be written to; they do not overlap.
unsafe fn copy_or_fault(to: *mut u8, from: *const u8, count: usize) -> bool {
    // Called by its address: valgrind runs on from a direct call into the function, and tells the
    // address of the call for that of the fault.
    let copy: machine::CopyFunction = std::hint::black_box(machine::copy);
    // SAFETY: as the caller promises.
    unsafe { copy(to, from, 0, count) == 0 }
}

/// The handler of SIGBUS that stood before ours. Null at first, and never freed.
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());

/// Whether a fault of [`copy_or_fault`] in this thread would reach our handler, which is put in
/// place at first. Nobody waits for that: a forked child could find whom it would wait for missing.
pub(super) fn faults_are_caught() -> bool {
    static IS_SET: AtomicBool = AtomicBool::new(false);
    if !machine::CATCHES {
        return false;
    }
    if !IS_SET.load(Ordering::Acquire) {
        // It has to be known before ours can be called; setting ours tells if it still was that.
        keep_before(handler());
        // SAFETY: all zeros is an action: the default one with an empty set of signals.
        let mut ours: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        ours.sa_sigaction = on_bus_error as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let mut before = ours;
        // SAFETY: the handler keeps to what a handler may do, and lives as long as the process:
        // the shared library is linked so that it is never unloaded.
        unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, &raw mut before) };
        keep_before(before);
        IS_SET.store(true, Ordering::Release);
    }
    is_ours(&handler()) && !is_blocked()
}

/// Keeps the handler that stood before ours, unless that is what it is: set by another thread.
fn keep_before(before: libc::sigaction) {
    // SAFETY: null, or kept by an earlier call.
    let known = unsafe { BEFORE.load(Ordering::Acquire).as_ref() };
    let is_known = |known: &libc::sigaction| known.sa_sigaction == before.sa_sigaction;
    if !is_ours(&before) && !known.is_some_and(is_known) {
        BEFORE.store(Box::into_raw(Box::new(before)), Ordering::Release);
    }
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == on_bus_error as *const () as usize
}

/// How SIGBUS is handled at present.
fn handler() -> libc::sigaction {
    let mut now = MaybeUninit::zeroed();
    // SAFETY: only asks; what it does not fill in is zero, which is an action as well.
    unsafe {
        libc::sigaction(libc::SIGBUS, std::ptr::null(), now.as_mut_ptr());
        now.assume_init()
    }
}

/// Whether this thread does not take the signal: the system ends the process then.
fn is_blocked() -> bool {
    let mut blocked = MaybeUninit::zeroed();
    // SAFETY: only asks; the set is zero, which is the empty one, if that fails.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), blocked.as_mut_ptr());
        libc::sigismember(blocked.as_ptr(), libc::SIGBUS) == 1
    }
}

/// Lets a fault of [`copy_or_fault`] end the copy; hands on every other.
extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system hands a handler of this kind what it knows of the signal, and the context
    // that it interrupted; both are handed on.
    unsafe {
        if !(is_fault(info) && machine::leave_copy(context)) {
            hand_on(BEFORE.load(Ordering::Acquire).as_ref(), signal, info, context);
        }
    }
}

/// Whether the signal comes from an access to memory: somebody may have sent it just as well.
///
/// # Safety
/// `info` is what the system handed to the handler of a signal.
unsafe fn is_fault(info: *const libc::siginfo_t) -> bool {
    // SAFETY: as the caller promises.
    unsafe { (*info).si_code > 0 }
}

/// Does with a signal what `before` would have done.
///
/// # Safety
/// Called by the handler of the signal, with what the system handed to it.
unsafe fn hand_on(
    before: Option<&libc::sigaction>,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    // SAFETY: as the caller promises.
    let is_fault = unsafe { is_fault(info) };
    match before.map_or(libc::SIG_DFL, |before| before.sa_sigaction) {
        libc::SIG_IGN if !is_fault => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // The access is made again on return, and faults again, with nobody to catch it.
            // SAFETY: both calls may be made in a handler and read no memory of ours.
            unsafe {
                libc::signal(libc::SIGBUS, libc::SIG_DFL);
                if !is_fault {
                    libc::raise(libc::SIGBUS);
                }
            }
        }
        handler if before.is_some_and(|before| before.sa_flags & libc::SA_SIGINFO != 0) => {
            // SAFETY: neither of the two special values, so it is a function, of the kind that the
            // flag tells.
            unsafe {
                type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                std::mem::transmute::<usize, Handler>(handler)(signal, info, context);
            }
        }
        handler => {
            // SAFETY: as above.
            unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal) }
        }
    }
}

/// What depends on the processor.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod machine {
    use std::arch::naked_asm;
    use std::ffi::c_void;

    /// Whether faults can be caught.
    pub(super) const CATCHES: bool = true;

    /// What `copy` is.
    pub(super) type CopyFunction =
        unsafe extern "sysv64" fn(*mut u8, *const u8, usize, usize) -> usize;

    /// Copies; returns 0, or 1 behind a fault. The count is the fourth argument because that is
    /// where the instruction expects it: so it is the first one, and a fault of it is known by the
    /// address of the function.
    ///
    /// # Safety
    /// As for `copy_or_fault`.
    #[unsafe(naked)]
    pub(super) unsafe extern "sysv64" fn copy(
        to: *mut u8,
        from: *const u8,
        unused: usize,
        count: usize,
    ) -> usize {
        naked_asm!("rep movsb", "xor eax, eax", "ret")
    }

    /// Where `copy` goes on behind a fault. It has nothing on the stack but where to return to.
    ///
    /// # Safety
    /// Reached from within `copy` only.
    #[unsafe(naked)]
    unsafe extern "sysv64" fn copy_failed() -> usize {
        naked_asm!("mov eax, 1", "ret")
    }

    /// Makes `copy` return 1 if it is what was interrupted; returns whether it was.
    ///
    /// # Safety
    /// `context` is what the system handed to the handler of a signal.
    pub(super) unsafe fn leave_copy(context: *mut c_void) -> bool {
        // SAFETY: as the caller promises; the array has a place for each register.
        let instruction = unsafe {
            &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize]
        };
        let was_copy = *instruction as usize == copy as *const () as usize;
        if was_copy {
            *instruction = copy_failed as *const () as usize as i64;
        }
        was_copy
    }
}

/// What depends on the processor: nothing is mapped on the others.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod machine {
    use std::ffi::c_void;

    pub(super) const CATCHES: bool = false;

    pub(super) type CopyFunction = unsafe fn(*mut u8, *const u8, usize, usize) -> usize;

    pub(super) unsafe fn copy(_: *mut u8, _: *const u8, _: usize, _: usize) -> usize {
        1
    }

    pub(super) unsafe fn leave_copy(_: *mut c_void) -> bool {
        false
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::sys::{self, in_child};
    use super::super::tests::Scratch;
    use super::*;

    /// A mapping of two units of which the file has one, if there are mappings here.
    fn half_there() -> Option<Mapping> {
        mapping_of(UNIT, 2 * UNIT)
    }

    /// A mapping of `length` bytes of a file of `size`.
    fn mapping_of(size: u64, length: u64) -> Option<Mapping> {
        let scratch = Scratch::new();
        std::fs::write(scratch.path("t"), vec![7; size as usize]).unwrap();
        let file = sys::open_unlocked(&scratch.path("t"), libc::O_RDONLY, 0).unwrap();
        let mapping = Mapping::new(file, length);
        sys::close(file);
        if mapping.is_none() {
            eprintln!("SKIPPED: no mappings here");
        }
        mapping
    }

    #[test]
    fn a_fault_is_told_and_does_no_harm() {
        let Some(mapping) = half_there() else { return };
        let mut buffer = [0; 100];
        for _ in 0..3 {
            assert!(mapping.read(&mut buffer, UNIT - 100));
            assert_eq!(buffer, [7; 100]);
            assert!(!mapping.read(&mut buffer, UNIT - 99));
            assert!(!mapping.read(&mut buffer, UNIT));
            assert!(!mapping.read(&mut buffer, 2 * UNIT - 100));
        }
        assert!(mapping.read(&mut [], 0));
    }

    #[test]
    fn nothing_outside_of_a_mapping_is_touched() {
        // Each has another one, or nothing, behind it.
        for _ in 0..10 {
            let Some(mapping) = mapping_of(2 * UNIT, UNIT) else { return };
            let mut buffer = [0; 100];
            assert!(mapping.read(&mut buffer, UNIT - 100));
            for at in [UNIT - 99, UNIT, 2 * UNIT, u64::MAX - 99, u64::MAX] {
                assert!(!mapping.read(&mut buffer, at));
            }
            assert!(!mapping.read(&mut [], UNIT + 1));
            mapping.prefetch(u64::MAX, usize::MAX);
            std::mem::forget(mapping);
        }
    }

    #[test]
    fn a_thread_catches_its_own_faults() {
        let Some(mapping) = half_there() else { return };
        let faults = move || (0..1000).all(|_| !mapping.read(&mut [0; 64], UNIT));
        assert!(std::thread::spawn(faults).join().unwrap());
    }

    extern "C" fn leave_with_number(signal: c_int) {
        // SAFETY: ends the process at once, as a handler may.
        unsafe { libc::_exit(signal) };
    }

    extern "C" fn leave_with_code(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
        // SAFETY: as above; `info` is what `end_of` has made.
        unsafe { libc::_exit(40 + (*info).si_code) };
    }

    /// Hands a signal on to `handler` in a process of its own. How that ends, by a code of its own
    /// or, `None`, by a signal; 0 if it goes on.
    fn end_of(handler: usize, flags: c_int, code: c_int) -> Option<i32> {
        in_child(|| {
            // SAFETY: zeros are an action and an information of no content.
            let (mut before, mut info): (libc::sigaction, libc::siginfo_t) =
                unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
            before.sa_sigaction = handler;
            before.sa_flags = flags;
            info.si_code = code;
            let nothing = std::ptr::null_mut();
            // SAFETY: none of the handlers looks at the context.
            unsafe { hand_on(Some(&before), libc::SIGBUS, &raw mut info, nothing) };
            0
        })
    }

    #[test]
    fn other_signals_go_to_who_handled_them_before() {
        let with_number = leave_with_number as *const () as usize;
        let with_code = leave_with_code as *const () as usize;
        let (sent, fault) = (libc::SI_USER, libc::BUS_ADRERR);
        for code in [sent, fault] {
            assert_eq!(end_of(with_number, 0, code), Some(libc::SIGBUS));
            assert_eq!(end_of(with_code, libc::SA_SIGINFO, code), Some(40 + code));
        }
        // Nobody handles it: one that was sent ends the process now, a fault when it is repeated.
        assert_eq!(end_of(libc::SIG_DFL, 0, sent), None);
        assert_eq!(end_of(libc::SIG_DFL, 0, fault), Some(0));
        assert_eq!(end_of(libc::SIG_IGN, 0, sent), Some(0));
        assert_eq!(end_of(libc::SIG_IGN, 0, fault), Some(0));
    }

    #[test]
    fn a_fault_that_is_not_a_copy_ends_the_process() {
        let Some(mapping) = half_there() else { return };
        let read = |at: usize| {
            in_child(|| {
                // SAFETY: within the mapping; a fault ends this process, which is what is tested.
                unsafe { mapping.address.as_ptr().add(at).read_volatile() };
                50
            })
        };
        assert_eq!(read(0), Some(50));
        // By the signal, or by whoever handled it before, as a sanitizer does.
        assert_ne!(read(UNIT as usize), Some(50));
    }

    /// Runs `body` while this thread does not take SIGBUS.
    pub(in super::super) fn while_blocked<T>(body: impl FnOnce() -> T) -> T {
        let set = |how| {
            // SAFETY: the set is ours, and filled before it is read.
            unsafe {
                let mut signals = std::mem::zeroed();
                libc::sigemptyset(&raw mut signals);
                libc::sigaddset(&raw mut signals, libc::SIGBUS);
                libc::pthread_sigmask(how, &raw const signals, std::ptr::null_mut());
            }
        };
        set(libc::SIG_BLOCK);
        let result = body();
        set(libc::SIG_UNBLOCK);
        result
    }

    /// Lets SIGBUS end the process, as a program may that restores what it had at first.
    pub(in super::super) fn forget_handler() {
        // SAFETY: sets the default action.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }

    // A sanitizer has no use for such limits.
    #[cfg(not(tsan))]
    #[test]
    fn a_process_with_limited_addresses_or_all_memory_locked_maps_nothing() {
        if half_there().is_none() {
            return;
        }
        let with_limit = in_child(|| {
            let limit = libc::rlimit { rlim_cur: 1 << 62, rlim_max: 1 << 62 };
            // SAFETY: reads the limit.
            let is_set = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) } == 0;
            i32::from(is_set && half_there().is_some())
        });
        assert_eq!(with_limit, Some(0));
        let with_memory_locked = in_child(|| {
            // SAFETY: reads no memory.
            let locked = unsafe { libc::mlockall(libc::MCL_FUTURE) } == 0;
            i32::from(locked && half_there().is_some())
        });
        assert_eq!(with_memory_locked, Some(0));
    }

    #[test]
    fn nothing_is_mapped_where_somebody_else_handles_the_signal() {
        if half_there().is_none() {
            return;
        }
        let answer = in_child(|| {
            // SAFETY: the handler is a function of the kind that the call sets.
            unsafe { libc::signal(libc::SIGBUS, leave_with_number as *const () as usize) };
            i32::from(half_there().is_some())
        });
        assert_eq!(answer, Some(0));
        assert!(while_blocked(half_there).is_none());
    }
}
