//! `pager_*` and `page_*`: pagers by themselves, on files of their own.

use std::ffi::CStr;
use std::sync::atomic::{AtomicI32, Ordering};

use super::super::command::{Call, Command, Outcome};
use super::super::result_code::Failure;
use super::super::value::Obj;
use super::{inspect, simulate, write_behind};
use crate::btree::PagerStats;
use crate::error::Error;
use crate::format::PageSize;
use crate::pager::Storage;

pub(in crate::tcl) use crate::pager::RawPager;

/// Page size of pagers opened from now on.
static PAGE_SIZE: AtomicI32 = AtomicI32::new(PageSize::HISTORIC.get() as i32);
/// Sorting of dirty pages in the original: there is nothing to set here, and scripts may try.
static SORT_BUCKET: AtomicI32 = AtomicI32::new(0);

/// The linked variables of pagers: their names, and the integers behind them.
pub(super) fn variables() -> impl Iterator<Item = (&'static CStr, &'static AtomicI32)> {
    [(c"pager_pagesize", &PAGE_SIZE), (c"sqlite_pager_n_sort_bucket", &SORT_BUCKET)].into_iter()
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command::new(c"pager_open", 2..=2, c"FILENAME N-PAGE", "opens a pager on any file", open),
    Command::new(c"pager_close", 1..=1, c"ID", "closes a pager; its pages are gone", close),
    Command::new(c"pager_commit", 1..=1, c"ID", "commits the transaction of a pager", commit),
    Command::new(c"pager_rollback", 1..=1, c"ID", "undoes the transaction of a pager", rollback),
    Command::new(
        c"pager_stmt_begin",
        1..=1,
        c"ID",
        "begins a part of a transaction",
        begin_statement,
    ),
    Command::new(
        c"pager_stmt_commit",
        1..=1,
        c"ID",
        "ends the part, keeping its changes",
        commit_statement,
    ),
    Command::new(
        c"pager_stmt_rollback",
        1..=1,
        c"ID",
        "ends the part, undoing its changes",
        rollback_statement,
    ),
    Command::new(c"pager_stats", 1..=1, c"ID", "counters of a pager", stats),
    Command::new(c"pager_pagecount", 1..=1, c"ID", "number of pages", page_count),
    Command::new(c"pager_truncate", 2..=2, c"ID PGNO", "sets the number of pages", truncate),
    Command::new(c"page_get", 2..=2, c"ID PGNO", "takes a reference to a page", get),
    Command::new(
        c"page_lookup",
        2..=2,
        c"ID PGNO",
        "takes a reference to a page if it is in the cache",
        lookup,
    ),
    Command::new(c"page_unref", 1..=1, c"PAGE", "gives a reference back", unref),
    Command::new(c"page_read", 1..=1, c"PAGE", "text of a page", read),
    Command::new(c"page_write", 2..=2, c"PAGE DATA", "sets the text of a page", write),
    Command::new(c"page_number", 1..=1, c"PAGE", "number of a page", number),
];

/// `pager_open FILENAME N-PAGE`
fn open(call: &mut Call<'_>) -> Outcome {
    let cache_size = call.magnitude_of_32_bits(2)?;
    let cache_size = cache_size.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
    let vfs = write_behind::default_disk();
    let (storage, page_size) = match call.string(1)?.as_str() {
        ":memory:" => (Storage::Memory, PageSize::HISTORIC),
        "" => (Storage::Temporary, page_size()?),
        _ => {
            let page_size = page_size()?;
            (Storage::File(vfs.full_path(&call.path(1)?)?), page_size)
        }
    };
    let pager = RawPager::open(vfs, &storage, page_size, cache_size, simulate::lock_offset())?;
    Ok(call.session.add_pager(pager).into())
}

/// The page size that `pager_pagesize` asks for.
fn page_size() -> Result<PageSize, Error> {
    let set = u32::try_from(PAGE_SIZE.load(Ordering::Relaxed)).ok();
    set.and_then(PageSize::new).ok_or(Error::Misuse("pager_pagesize is no page size"))
}

/// `pager_close ID`
fn close(call: &mut Call<'_>) -> Outcome {
    let pager = call.pager(1)?;
    let _suspended = simulate::suspend();
    call.session.close_pager(&pager);
    Ok(().into())
}

/// `pager_commit ID`
fn commit(call: &mut Call<'_>) -> Outcome {
    call.pager(1)?.enter()?.commit()?;
    Ok(().into())
}

/// `pager_rollback ID`
fn rollback(call: &mut Call<'_>) -> Outcome {
    call.pager(1)?.enter()?.rollback()?;
    Ok(().into())
}

/// `pager_stmt_begin ID`
fn begin_statement(call: &mut Call<'_>) -> Outcome {
    call.pager(1)?.enter()?.begin_statement()?;
    Ok(().into())
}

/// `pager_stmt_commit ID`
fn commit_statement(call: &mut Call<'_>) -> Outcome {
    call.pager(1)?.enter()?.commit_statement();
    Ok(().into())
}

/// `pager_stmt_rollback ID`
fn rollback_statement(call: &mut Call<'_>) -> Outcome {
    call.pager(1)?.enter()?.rollback_statement()?;
    Ok(().into())
}

/// `pager_stats ID`, also of the pager under a database.
fn stats(call: &mut Call<'_>) -> Outcome {
    let stats = match call.database(1) {
        Ok(database) => database.enter()?.stats(),
        Err(_) => call.pager(1)?.enter()?.stats(),
    };
    Ok(Obj::pairs(counters(&stats)).into())
}

/// The counters that pagers have had from the first.
pub(super) fn counters(stats: &PagerStats) -> [(&'static str, Obj); 9] {
    [
        ("ref", stats.pinned.into()),
        ("page", stats.pages.into()),
        ("max", stats.limit.into()),
        ("size", stats.size.map_or(-1, i64::from).into()),
        ("state", stats.state.into()),
        ("err", stats.error.into()),
        ("hit", stats.hits.into()),
        ("miss", stats.misses.into()),
        ("ovfl", stats.recycled.into()),
    ]
}

/// `pager_pagecount ID`, also of the pager under a database.
fn page_count(call: &mut Call<'_>) -> Outcome {
    match call.database(1) {
        Ok(database) => inspect::page_count(&mut *database.enter()?),
        Err(_) => Ok(call.pager(1)?.enter()?.page_count()?.into()),
    }
}

/// `pager_truncate ID PGNO`
fn truncate(call: &mut Call<'_>) -> Outcome {
    let pager = call.pager(1)?;
    let pages = call.magnitude_of_32_bits(2)?;
    // A negative number is no size to cut to.
    let pages = u32::try_from(pages).unwrap_or(u32::MAX);
    pager.enter()?.truncate(pages)?;
    Ok(().into())
}

/// `page_get ID PGNO`
fn get(call: &mut Call<'_>) -> Outcome {
    let pager = call.pager(1)?;
    let number = page_number(call, 2)?;
    pager.enter()?.get(number)?;
    Ok(call.session.page_handle(&pager, number).into())
}

/// `page_lookup ID PGNO`
fn lookup(call: &mut Call<'_>) -> Outcome {
    let pager = call.pager(1)?;
    let number = page_number(call, 2)?;
    if !pager.enter()?.lookup(number) {
        return Ok("".into());
    }
    Ok(call.session.page_handle(&pager, number).into())
}

/// `page_unref PAGE`
fn unref(call: &mut Call<'_>) -> Outcome {
    let page = call.page(1)?;
    let left = page.pager.enter()?.unref(page.page);
    if left == 0 {
        call.session.remove_page(&page);
    }
    Ok(().into())
}

/// `page_read PAGE`: the bytes before the first zero byte.
fn read(call: &mut Call<'_>) -> Outcome {
    let page = call.page(1)?;
    let pager = page.pager.enter()?;
    let text = pager.read(page.page)?.split(|&byte| byte == 0).next();
    Ok(Obj::bytes(text.unwrap_or_default())?.into())
}

/// `page_write PAGE DATA`
fn write(call: &mut Call<'_>) -> Outcome {
    let page = call.page(1)?;
    let data = call.word(2)?.bytes(&mut call.interp)?;
    page.pager.enter()?.write(page.page, data)?;
    Ok(().into())
}

/// `page_number PAGE`
fn number(call: &mut Call<'_>) -> Outcome {
    Ok(call.page(1)?.page.into())
}

/// The page number in word `index`; 0, which no page has, stands for those that cannot be.
fn page_number(call: &mut Call<'_>, index: usize) -> Result<u32, Failure> {
    Ok(u32::try_from(call.magnitude_of_32_bits(index)?).unwrap_or(0))
}
