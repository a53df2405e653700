//! What a store keeps in memory: measured in a process of its own, since one that has worked has
//! free memory left in its heap, which a store may take without the process growing.

use std::path::Path;
use std::process::Command;

use crate::arguments::{Arguments, Group};
use crate::lane::Contender;
use crate::report::TextLine;
use crate::store::{Failure, KeyKind, Result, Settings};

/// What each store keeps after a scan of its file with caches of so many pages.
pub fn compare(
    arguments: &Arguments,
    group: &Group,
    kind: KeyKind,
    contenders: &[Box<dyn Contender>],
    caches: [u32; 2],
    setting: &str,
) -> Result<Vec<TextLine>> {
    let line = |pages| {
        let cells = contenders.iter().map(|contender| {
            let bytes = match &arguments.program {
                Some(program) => ask(program, arguments, group, kind, contender.name(), pages)?,
                None => measure(group, kind, contender.as_ref(), pages)?,
            };
            Ok((bytes / 1000).to_string())
        });
        Ok((format!("{setting}/{pages} pages"), cells.collect::<Result<_>>()?))
    };
    caches.into_iter().map(line).collect()
}

/// Runs this program once more, for one store with `pages` pages of cache.
fn ask(
    program: &Path,
    arguments: &Arguments,
    group: &Group,
    kind: KeyKind,
    store: &str,
    pages: u32,
) -> Result<u64> {
    let mut command = Command::new(program);
    command.args(["--memory", &pages.to_string(), "--groups", group.name, "--stores", store]);
    command.args(["--keys", kind.word(), "--page", &group.page_size.to_string()]);
    command.arg("--dir").arg(&arguments.directory);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| {
        let log = String::from_utf8_lossy(&output.stderr);
        Failure(format!("memory of {store}: {text}{log}"))
    })
}

/// The other side of [`ask`]: prints how many bytes the store keeps.
pub fn answer(group: &Group, contenders: &[Box<dyn Contender>], pages: u32) -> Result<()> {
    let ([kind], [contender]) = (group.kinds.as_slice(), contenders) else {
        return Err(Failure("memory is measured for one store and one kind of key".into()));
    };
    println!("{}", measure(group, *kind, contender.as_ref(), pages)?);
    Ok(())
}

fn measure(group: &Group, kind: KeyKind, contender: &dyn Contender, pages: u32) -> Result<u64> {
    contender.memory(&Settings { cache_pages: pages, ..group.settings(kind) })
}

/// Bytes of memory in use that no file is mapped to, whoever asked for them, after all that is free
/// went back to the system.
#[allow(unsafe_code)]
pub fn resident_bytes() -> Result<u64> {
    tclbtree::memory::free_unused();
    // SAFETY: the call takes a number and gives memory back that nobody uses.
    unsafe { libc::malloc_trim(0) };
    let facts = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let anonymous = facts.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = anonymous.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| Failure("no figure for memory in use".into()))
}
