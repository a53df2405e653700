//! `pager_*` and `page_*`: pagers by themselves, on files of their own, and those of databases.

use std::ffi::CStr;
use std::sync::atomic::{AtomicI32, Ordering};

use super::super::command::{Call, Command, Outcome};
use super::super::handle::AnyPager;
use super::super::result_code::Failure;
use super::super::value::Obj;
use super::{simulate, transaction, write_behind};
use crate::btree::{Btree, PagerStats, TransactionKind};
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
    Command::new(
        c"pager_truncate_image",
        2..=2,
        c"ID PGNO",
        "sets the number of pages; the file is cut at commit",
        truncate_image,
    ),
    Command::new(c"pager_is_memdb", 1..=1, c"ID", "whether it is :memory:", is_memory),
    Command::new(
        c"pager_file",
        1..=1,
        c"ID",
        "handle of its file, to be read by os_* commands; empty while there is none",
        file,
    ),
    Command::new(c"pager_sync", 1..=1, c"ID", "syncs the file, unless syncing is off", sync),
    Command::new(
        c"pager_commit_phase_one",
        1..=3,
        c"ID ?SUPER? ?NOSYNC?",
        "as btree_commit_phase_one; with NOSYNC the file is not synced",
        commit_phase_one,
    ),
    Command::new(
        c"pager_commit_phase_two",
        1..=1,
        c"ID",
        "as btree_commit_phase_two",
        commit_phase_two,
    ),
    Command::new(
        c"btree_pager",
        1..=1,
        c"ID",
        "handle of the pager of a database",
        pager_of_database,
    ),
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
    Command::new(c"pager_get_data", 1..=1, c"PAGE", "all bytes of a page", data),
    Command::new(
        c"pager_get_extra",
        1..=1,
        c"PAGE",
        "what the trees remember about a page; zeros before they look",
        extra,
    ),
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
    let pager = call.own_pager(1)?;
    let _suspended = simulate::suspend();
    call.session.close_pager(&pager);
    Ok(().into())
}

/// `pager_commit ID`
fn commit(call: &mut Call<'_>) -> Outcome {
    call.own_pager(1)?.enter()?.commit()?;
    Ok(().into())
}

/// `pager_rollback ID`
fn rollback(call: &mut Call<'_>) -> Outcome {
    call.own_pager(1)?.enter()?.rollback()?;
    Ok(().into())
}

/// `pager_stmt_begin ID`
fn begin_statement(call: &mut Call<'_>) -> Outcome {
    call.own_pager(1)?.enter()?.begin_statement()?;
    Ok(().into())
}

/// `pager_stmt_commit ID`
fn commit_statement(call: &mut Call<'_>) -> Outcome {
    call.own_pager(1)?.enter()?.commit_statement();
    Ok(().into())
}

/// `pager_stmt_rollback ID`
fn rollback_statement(call: &mut Call<'_>) -> Outcome {
    call.own_pager(1)?.enter()?.rollback_statement()?;
    Ok(().into())
}

/// `pager_stats ID`, also of the pager under a database.
fn stats(call: &mut Call<'_>) -> Outcome {
    let stats = match call.pager(1)? {
        AnyPager::Own(pager) => pager.enter()?.stats(),
        AnyPager::Below(database) => database.enter()?.stats(),
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

/// `pager_pagecount ID`: pages of the image. Below a database without a transaction one is opened
/// for the call.
fn page_count(call: &mut Call<'_>) -> Outcome {
    Ok(match call.pager(1)? {
        AnyPager::Own(pager) => pager.enter()?.page_count()?,
        AnyPager::Below(database) => page_count_of(&mut *database.enter()?)?,
    }
    .into())
}

fn page_count_of(database: &mut Btree) -> Result<u32, Error> {
    if database.is_reading() {
        return Ok(database.page_count());
    }
    database.begin(TransactionKind::Read)?;
    let count = database.page_count();
    database.commit()?;
    Ok(count)
}

/// `pager_truncate ID PGNO`
fn truncate(call: &mut Call<'_>) -> Outcome {
    let pager = call.own_pager(1)?;
    let pages = size_in_pages(call)?;
    Ok(pager.enter()?.truncate(pages)?.into())
}

/// `pager_truncate_image ID PGNO`
fn truncate_image(call: &mut Call<'_>) -> Outcome {
    let pager = call.pager(1)?;
    let pages = size_in_pages(call)?;
    match pager {
        AnyPager::Own(pager) => pager.enter()?.truncate(pages)?,
        AnyPager::Below(database) => database.enter()?.truncate_image(pages)?,
    }
    Ok(().into())
}

/// The number of pages in word 2; a negative one is no size to cut to.
fn size_in_pages(call: &mut Call<'_>) -> Result<u32, Failure> {
    Ok(u32::try_from(call.magnitude_of_32_bits(2)?).unwrap_or(u32::MAX))
}

/// `pager_is_memdb ID`
fn is_memory(call: &mut Call<'_>) -> Outcome {
    Ok(match call.pager(1)? {
        AnyPager::Own(pager) => pager.enter()?.is_memory(),
        AnyPager::Below(database) => database.enter()?.is_memory(),
    }
    .into())
}

/// `pager_file ID`
fn file(call: &mut Call<'_>) -> Outcome {
    let pager = call.pager(1)?;
    let size = match &pager {
        AnyPager::Own(pager) => pager.enter()?.file_size()?,
        AnyPager::Below(database) => database.enter()?.file_size()?,
    };
    Ok(match size {
        Some(_) => call.session.file_of_pager(&pager).into(),
        None => "".into(),
    })
}

/// `pager_sync ID`
fn sync(call: &mut Call<'_>) -> Outcome {
    match call.pager(1)? {
        AnyPager::Own(pager) => pager.enter()?.sync()?,
        AnyPager::Below(database) => database.enter()?.sync()?,
    }
    Ok(().into())
}

/// `pager_commit_phase_one ID ?SUPER? ?NOSYNC?`; an empty SUPER is none.
fn commit_phase_one(call: &mut Call<'_>) -> Outcome {
    let database = call.database_of_pager(1)?;
    let has_super = call.has(2) && !call.string(2)?.is_empty();
    let super_journal = if has_super { Some(call.path(2)?) } else { None };
    let super_journal = super_journal.as_deref();
    let unsynced = call.has(3) && call.boolean(3)?;
    let mut database = database.enter()?;
    match unsynced {
        true => database.commit_phase_one_unsynced(super_journal)?,
        false => database.commit_phase_one(super_journal)?,
    }
    Ok(().into())
}

/// `pager_commit_phase_two ID`
fn commit_phase_two(call: &mut Call<'_>) -> Outcome {
    let database = call.database_of_pager(1)?;
    Ok(transaction::finish(&database, |database| database.commit_phase_two())?.into())
}

/// `btree_pager ID`
fn pager_of_database(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    Ok(call.session.pager_handle(&database).into())
}

/// `page_get ID PGNO`
fn get(call: &mut Call<'_>) -> Outcome {
    let pager = call.pager(1)?;
    let number = page_number(call, 2)?;
    match &pager {
        AnyPager::Own(pager) => pager.enter()?.get(number)?,
        AnyPager::Below(database) => database.enter()?.hold_page(number)?,
    }
    Ok(call.session.page_handle(&pager, number).into())
}

/// `page_lookup ID PGNO`
fn lookup(call: &mut Call<'_>) -> Outcome {
    let pager = call.pager(1)?;
    let number = page_number(call, 2)?;
    let is_found = match &pager {
        AnyPager::Own(pager) => pager.enter()?.lookup(number),
        AnyPager::Below(database) => database.enter()?.hold_cached_page(number),
    };
    Ok(match is_found {
        true => call.session.page_handle(&pager, number).into(),
        false => "".into(),
    })
}

/// `page_unref PAGE`
fn unref(call: &mut Call<'_>) -> Outcome {
    let page = call.page(1)?;
    let was_last = match &page.pager {
        AnyPager::Own(pager) => pager.enter()?.unref(page.page),
        AnyPager::Below(database) => database.enter()?.let_page_go(page.page),
    };
    if was_last {
        call.session.remove_page(&page);
    }
    Ok(().into())
}

/// `page_read PAGE`: the bytes before the first zero byte; below a database all of them (P6).
fn read(call: &mut Call<'_>) -> Outcome {
    let page = call.page(1)?;
    match &page.pager {
        AnyPager::Own(pager) => {
            let pager = pager.enter()?;
            let text = pager.read(page.page)?.split(|&byte| byte == 0).next();
            Ok(Obj::bytes(text.unwrap_or_default())?.into())
        }
        AnyPager::Below(_) => data(call),
    }
}

/// `pager_get_data PAGE`
fn data(call: &mut Call<'_>) -> Outcome {
    let page = call.page(1)?;
    Ok(match &page.pager {
        AnyPager::Own(pager) => Obj::bytes(pager.enter()?.read(page.page)?)?,
        AnyPager::Below(database) => Obj::bytes(database.enter()?.page_bytes(page.page)?)?,
    }
    .into())
}

/// `pager_get_extra PAGE`: nobody but the trees of a database remembers anything.
fn extra(call: &mut Call<'_>) -> Outcome {
    let page = call.page(1)?;
    Ok(match &page.pager {
        AnyPager::Own(_) => Obj::bytes(&[])?,
        AnyPager::Below(database) => Obj::bytes(&database.enter()?.page_notes(page.page)?)?,
    }
    .into())
}

/// `page_write PAGE DATA`
fn write(call: &mut Call<'_>) -> Outcome {
    let page = call.page(1)?;
    let data = call.word(2)?.bytes(&mut call.interp)?;
    match &page.pager {
        AnyPager::Own(pager) => pager.enter()?.write(page.page, data)?,
        AnyPager::Below(database) => database.enter()?.write_page(page.page, data)?,
    }
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
