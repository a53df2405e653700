//! The house rules, as far as a program can check them.
//!
//! Sources are read as text: comments and literals are blanked, test modules cut out. What fails
//! here is named with its file and line; what is merely near a limit is printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "tidy/requirements.rs"]
mod requirements;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a file without its tests: above the first it is printed, above the second it fails.
const FILE_LINES: [usize; 2] = [600, 700];

/// Lines of a function, likewise.
const FUNCTION_LINES: [usize; 2] = [70, 90];

/// Characters of a line.
const COLUMNS: usize = 100;

/// Which layers a layer may name, besides itself, and which outside crates.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    ("error", &[], &["thiserror"]),
    ("memory", &["error"], &["libc"]),
    ("format", &["error"], &[]),
    ("os", &["error", "memory", "format"], &["libc", "parking_lot"]),
    ("pager", &["error", "memory", "format", "os"], &[]),
    ("btree", &["error", "memory", "format", "pager", "os"], &[]),
    ("tcl", &["error", "memory", "format", "btree", "os"], &["libc", "parking_lot"]),
];

/// What the pager and the b-tree may not name of `os`: disks, and for the b-tree also files.
const OS_IMPLEMENTATIONS: &[&str] = &["UnixVfs", "MemoryVfs", "FaultVfs", "CrashDisk", "simulate"];
const OS_FILES: &[&str] = &["File", "OpenRequest", "Opened", "SyncKind", "LockLevel"];

/// The two named exceptions: commands that drive a pager, and files, of their own.
const MAY_USE_PAGER: &str = "src/tcl/commands/pager.rs";
const MAY_USE_FILES: &[&str] = &["src/tcl/commands/os.rs", "src/tcl/commands/os/file.rs"];

/// Files with `unsafe`.
const UNSAFE: &[&str] = &[
    "src/memory/pages.rs",
    "src/memory/prefetch.rs",
    "src/os/unix/mapping.rs",
    "src/os/unix/sys.rs",
    "src/tcl/sys.rs",
    "src/tcl/interp.rs",
    "src/tcl/value.rs",
    "src/tcl/boundary.rs",
    "test/killed/calls.rs",
];

/// Modules that parse bytes from disk.
const PARSERS: &[&str] = &[
    "src/format/mod.rs",
    "src/pager/journal/mod.rs",
    "src/btree/node/mod.rs",
    "src/btree/overflow.rs",
    "src/btree/freelist.rs",
    "src/btree/pointer_map.rs",
];

/// Names that say nothing.
const NAMELESS: &[&str] = &["utils", "util", "common", "helpers", "types", "prelude", "misc"];

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A source file: its path from the root, its text, and its code without comments, literals and
/// tests.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn read(path: &Path) -> Source {
        let text = std::fs::read_to_string(path).unwrap();
        let path = path.strip_prefix(ROOT).unwrap().to_str().unwrap().replace('\\', "/");
        let mut code = blank(&text);
        if path.starts_with("test/") || path.ends_with("/tests.rs") || path.contains("/tests/") {
            code = String::new();
        }
        cut_tests(&mut code);
        Source { path, text, code }
    }

    /// The layer that the file belongs to; `None` for `lib.rs`.
    fn layer(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        let layer = rest.split('/').next()?.trim_end_matches(".rs");
        (layer != "lib").then_some(layer)
    }

    /// How many modules deep the file is: 1 for `src/os/mod.rs`.
    fn depth(&self) -> usize {
        let rest = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        rest.trim_end_matches("/mod").split('/').count()
    }

    /// The words of the code with their line numbers, from 1.
    fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().flat_map(|(index, line)| {
            line.split(|c: char| !c.is_alphanumeric() && c != '_')
                .map(move |word| (index + 1, word))
        })
    }

    /// Lines on which `pattern` occurs.
    fn lines_with<'a>(&'a self, pattern: &'a str) -> impl Iterator<Item = usize> + 'a {
        let lines = self.code.lines().enumerate();
        lines.filter(move |(_, line)| line.contains(pattern)).map(|(index, _)| index + 1)
    }
}

/// `text` with comments and literals turned into blanks; lines stay where they are.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = end_of_blank(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment or literal that starts at `at` ends; `at` itself if none does.
fn end_of_blank(chars: &[char], at: usize) -> usize {
    let starts = |text: &str| chars[at..].iter().take(text.len()).copied().eq(text.chars());
    let find = |from: usize, text: &str| {
        let text: Vec<char> = text.chars().collect();
        let found = chars[from..].windows(text.len()).position(|window| window == text);
        found.map_or(chars.len(), |index| from + index + text.len())
    };
    if starts("//") {
        return find(at, "\n") - 1;
    }
    if starts("/*") {
        return find(at + 2, "*/");
    }
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if !in_word && (starts("r\"") || starts("br\"")) {
        return find(find(at, "\""), "\"");
    }
    if !in_word && (starts("r#\"") || starts("br#\"")) {
        return find(at, "\"#");
    }
    match chars[at] {
        '"' => end_of_string(chars, at + 1, '"'),
        // A lifetime has no closing quote behind one character.
        '\'' if chars.get(at + 1) == Some(&'\\') => end_of_string(chars, at + 1, '\''),
        '\'' if chars.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
}

fn end_of_string(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Blanks every item that is compiled for tests only.
fn cut_tests(code: &mut String) {
    while let Some(start) = code.find("#[cfg(test)]") {
        let end = end_of_item(code, start);
        let blank: String =
            code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &blank);
    }
}

/// Where the item that starts at `start` ends: behind its `;` or its closing brace.
fn end_of_item(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (index, c) in code[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return start + index + 1;
                }
            }
            ';' if depth == 0 => return start + index + 1,
            _ => {}
        }
    }
    code.len()
}

fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![Path::new(ROOT).join(directory)];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn sources(directory: &str) -> Vec<Source> {
    rust_files(directory).iter().map(|path| Source::read(path)).collect()
}

fn report(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// The names behind `crate::` in `code`, groups taken apart, with their line numbers: of
/// `crate::os::{File, Vfs}` the pairs `os`, `File` and `os`, `Vfs`.
fn crate_paths(code: &str) -> Vec<(usize, String, String)> {
    let mut paths = Vec::new();
    for (start, _) in code.match_indices("crate::") {
        let line = code[..start].matches('\n').count() + 1;
        let rest = &code[start + "crate::".len()..];
        let heads = if rest.starts_with('{') { group(rest) } else { vec![until_end(rest)] };
        for head in heads {
            let (first, tail) = head.split_once("::").unwrap_or((head, ""));
            let names = if tail.starts_with('{') { group(tail) } else { vec![until_end(tail)] };
            for name in names {
                let name = name.split("::").next().unwrap_or_default();
                paths.push((line, word(first).to_owned(), word(name).to_owned()));
            }
        }
    }
    paths
}

/// The parts of the braced group that `text` starts with.
fn group(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 1, Vec::new());
    for (index, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 1 => {
                parts.push(text[start..index].trim());
                start = index + 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    parts.push(text[start..index].trim());
                    break;
                }
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// The path at the start of `text`, with its group if it ends in one.
fn until_end(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':' && c != '{');
    match text.find('{') {
        Some(open) if end.is_none_or(|end| open <= end) && text[..open].ends_with("::") => {
            &text[..end_of_item(text, 0)]
        }
        _ => &text[..end.unwrap_or(text.len())],
    }
}

/// The word that `text` starts with.
fn word(text: &str) -> &str {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The layer of a name behind `crate::`: a module, or what `lib.rs` re-exports.
fn layer_of(name: &str) -> &str {
    match name {
        "Error" | "Result" => "error",
        "Btree" | "CursorId" | "Key" | "Options" | "TABLE" | "TransactionKind" => "btree",
        "MemoryVfs" | "UnixVfs" => "os",
        name => name,
    }
}

#[test]
fn layers_name_only_what_is_below_them() {
    let mut found = Vec::new();
    for source in sources("src") {
        let Some(layer) = source.layer() else { continue };
        let Some((_, below, crates)) = LAYERS.iter().find(|(name, ..)| *name == layer) else {
            found.push(format!("{}: layer {layer} is not in the table", source.path));
            continue;
        };
        for (line, first, name) in crate_paths(&source.code) {
            let target = layer_of(&first);
            let pager_command = source.path == MAY_USE_PAGER && target == "pager";
            if target != layer && !below.contains(&target) && !pager_command {
                found.push(format!("{}:{line}: {layer} names crate::{first}", source.path));
            }
            let name = if layer_of(&first) == first { name.as_str() } else { first.as_str() };
            if target == "os" && !may_name_of_os(&source, layer, name) {
                found.push(format!("{}:{line}: {layer} names os::{name}", source.path));
            }
        }
        for (line, word) in source.words() {
            let outside = ["libc", "parking_lot", "thiserror"].contains(&word);
            if outside && !crates.contains(&word) {
                found.push(format!("{}:{line}: {layer} uses crate {word}", source.path));
            }
        }
        for line in source.lines_with(&"super::".repeat(source.depth())) {
            found.push(format!("{}:{line}: leaves its layer by super", source.path));
        }
    }
    report("layers", &found);
}

fn may_name_of_os(source: &Source, layer: &str, name: &str) -> bool {
    match layer {
        "pager" => !OS_IMPLEMENTATIONS.contains(&name),
        "btree" => !OS_IMPLEMENTATIONS.contains(&name) && !OS_FILES.contains(&name),
        "tcl" => MAY_USE_FILES.contains(&source.path.as_str()) || !OS_FILES.contains(&name),
        _ => true,
    }
}

#[test]
fn journal_and_cache_do_not_know_each_other() {
    let mut found = Vec::new();
    for source in sources("src") {
        let strangers: &[&str] = match source.path.as_str() {
            "src/pager/cache.rs" => &["journal", "Journal", "Pager"],
            path if path.starts_with("src/pager/journal/") => &["cache", "Cache", "Pager"],
            _ => continue,
        };
        for (line, word) in source.words().filter(|(_, word)| strangers.contains(word)) {
            found.push(format!("{}:{line}: {word}", source.path));
        }
    }
    report("journal and cache know neither each other nor the pager", &found);
}

#[test]
fn files_and_functions_are_short() {
    let mut found = Vec::new();
    for source in sources("src") {
        let lines = match source.text.find("#[cfg(test)]\nmod tests {") {
            Some(tests) => source.text[..tests].lines().count(),
            None if source.code.is_empty() => 0,
            None => source.text.lines().count(),
        };
        if lines > FILE_LINES[1] {
            found.push(format!("{}: {lines} lines", source.path));
        } else if lines > FILE_LINES[0] {
            println!("{}: {lines} lines", source.path);
        }
    }
    for source in sources("src").into_iter().chain(sources("test")) {
        let code = blank(&source.text);
        for (line, lines) in functions(&code) {
            if lines > FUNCTION_LINES[1] {
                found.push(format!("{}:{line}: function of {lines} lines", source.path));
            } else if lines > FUNCTION_LINES[0] {
                println!("{}:{line}: function of {lines} lines", source.path);
            }
        }
    }
    report("too long", &found);
}

/// Line and length in lines of each function of `code`.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        let before = code[..start].chars().next_back().unwrap_or(' ');
        let is_item = code[start + 3..].starts_with(|c: char| c.is_alphabetic() || c == '_');
        if before.is_whitespace() && is_item {
            let length = code[start..end_of_item(code, start)].lines().count();
            found.push((code[..start].matches('\n').count() + 1, length));
        }
    }
    found
}

#[test]
fn lines_have_at_most_100_columns() {
    let mut found = Vec::new();
    for source in sources("src").into_iter().chain(sources("test")) {
        for (index, line) in source.text.lines().enumerate() {
            // A row of a table in a doc comment cannot be broken.
            let is_row = line.starts_with("//! |") || line.trim_start().starts_with("/// |");
            if line.chars().count() > COLUMNS && !is_row {
                found.push(format!("{}:{}", source.path, index + 1));
            }
        }
    }
    report("too wide", &found);
}

#[test]
fn unsafe_code_is_where_it_belongs() {
    let mut found = Vec::new();
    for source in sources("src").into_iter().chain(sources("test")) {
        let code = blank(&source.text);
        let whole = Source { code, ..source };
        if !UNSAFE.contains(&whole.path.as_str()) {
            let lines = whole.words().filter(|(_, word)| *word == "unsafe");
            found.extend(lines.map(|(line, _)| format!("{}:{line}", whole.path)));
        }
    }
    report("unsafe outside the list", &found);
}

#[test]
fn nothing_panics_outside_tests() {
    let mut found = Vec::new();
    for source in sources("src") {
        for pattern in
            [".unwrap()", ".expect(", "panic!", "todo!", "unimplemented!", "unreachable!"]
        {
            for line in source.lines_with(pattern) {
                found.push(format!("{}:{line}: {pattern}", source.path));
            }
        }
    }
    report("panics", &found);
}

#[test]
fn parsers_deny_unchecked_indexing() {
    let mut found = Vec::new();
    for parser in PARSERS {
        match std::fs::read_to_string(Path::new(ROOT).join(parser)) {
            Ok(text) if text.contains("clippy::indexing_slicing") => {}
            Ok(_) => found.push(format!("{parser}: no deny(clippy::indexing_slicing)")),
            Err(error) => found.push(format!("{parser}: {error}")),
        }
    }
    report("parsers of bytes from disk", &found);
}

#[test]
fn every_module_is_declared_and_has_a_name() {
    let mut found = Vec::new();
    let sources = sources("src");
    let declared: BTreeSet<String> = sources.iter().flat_map(declarations).collect();
    for source in &sources {
        let module = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let name = module.rsplit('/').next().unwrap();
        if name != "lib" && !declared.contains(module) {
            found.push(format!("{}: never declared", source.path));
        }
        if NAMELESS.contains(&name) {
            found.push(format!("{}: a name that says nothing", source.path));
        }
    }
    report("modules", &found);
}

/// The modules that a file declares, as paths without extension.
fn declarations(source: &Source) -> Vec<String> {
    let stem = source.path.trim_end_matches(".rs");
    let home = stem.trim_end_matches("/mod").trim_end_matches("/lib");
    let text = blank(&source.text);
    text.lines()
        .filter_map(|line| line.trim().strip_suffix(';'))
        .filter_map(|line| {
            let (before, name) = line.rsplit_once("mod ")?;
            let plain = before.is_empty() || before.starts_with("pub") || before.starts_with("#[");
            plain.then(|| format!("{home}/{name}"))
        })
        .collect()
}

#[test]
fn every_test_is_run() {
    let test = Path::new(ROOT).join("test");
    let manifest = std::fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&test).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".rs") && !manifest.contains(&format!("\"test/{name}\"")) {
            found.push(format!("test/{name}: no [[test]] in Cargo.toml"));
        }
    }
    let all = std::fs::read_to_string(test.join("all.tcl")).unwrap_or_default();
    if !all.contains("*.test") || !all.contains("glob") {
        found.push("test/all.tcl does not run all of *.test".to_owned());
    }
    for path in tracked() {
        if path.ends_with(".test") && Path::new(&path).parent() != Some(Path::new("test")) {
            found.push(format!("{path}: test/all.tcl does not see it"));
        }
    }
    report("tests that never run", &found);
}

/// Paths of the files under version control; none, with a note, where git cannot tell.
fn tracked() -> Vec<String> {
    let output = Command::new("git").args(["ls-files"]).current_dir(ROOT).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        }
        _ => {
            println!("SKIPPED tracked files: git does not know this directory");
            Vec::new()
        }
    }
}

#[test]
fn no_file_names_a_home_directory() {
    let homes = [concat!("/ho", "me/"), concat!("/ro", "ot/")];
    let mut found = Vec::new();
    for path in tracked() {
        let Ok(text) = std::fs::read_to_string(Path::new(ROOT).join(&path)) else { continue };
        for (index, line) in text.lines().enumerate() {
            if homes.iter().any(|home| line.contains(home)) {
                found.push(format!("{path}:{}", index + 1));
            }
        }
    }
    report("paths of one machine", &found);
}

/// The readers of sources above, shown on the cases that are easy to get wrong.
#[test]
fn sources_are_read_correctly() {
    let code = blank("a \"unsafe // \\\" \" b // c\n'x' 'y: &'a r#\"q\"#");
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "'y:", "&'a"]);
    let paths = crate_paths("use crate::os::{File, simulate::X};\nuse crate::{Error, pager::Y};");
    let paths: Vec<_> = paths.iter().map(|(line, a, b)| (*line, a.as_str(), b.as_str())).collect();
    assert_eq!(
        paths,
        [(1, "os", "File"), (1, "os", "simulate"), (2, "Error", ""), (2, "pager", "Y")]
    );
    let mut code = "fn a() {\n}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}".to_owned();
    assert_eq!(functions(&code), [(1, 2), (5, 1), (7, 1)]);
    cut_tests(&mut code);
    assert_eq!(functions(&code), [(1, 2), (7, 1)]);
}
