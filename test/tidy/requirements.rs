//! Every requirement is shown by a test that names it.
//!
//! `test/requirements.tsv` has the ids and what they ask for, `test/requirements-open.txt` those
//! that no test names yet. A test names an id
//!
//! - in a script: in the words of the `test` command before its options, that is in its name or
//!   its description, or where the name is `$id` in the list of the loop that makes it;
//! - in Rust: in the comment right above `#[test]`, or in the name of the function.
//!
//! `D286 to D288` names all three. A Rust test that is ignored does not count, and no script test
//! under a constraint that asks for more than the machine has to offer: what does not run shows
//! nothing. All others run in `cargo test`, so an id that is named is named by a test that passes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{ROOT, report, rust_files};

const IDS: &str = "test/requirements.tsv";
const OPEN: &str = "test/requirements-open.txt";

/// Constraints that a machine can fail to meet, not the extension.
const OF_THE_MACHINE: &[&str] = &["sqlite3cli", "permissions", "md5", "thread", "linux"];

/// What ends the name and description of a script test.
const OPTIONS: &[&str] =
    &[" -body", " -setup", " -constraints", " -cleanup", " -match", " -result"];

/// The ids with what they ask for, in the order of the file.
fn requirements(text: &str) -> Vec<(&str, &str)> {
    text.lines().filter_map(|line| line.split_once('\t')).collect()
}

/// The ids of the list of those still open.
fn still_open(text: &str) -> BTreeSet<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Whether `word` is written like an id: a letter of the four series and three to five digits.
fn is_id(word: &str) -> bool {
    let digits = word.strip_prefix(['H', 'L', 'D', 'A']).unwrap_or_default();
    (3..=5).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// The ids named in a text, with those between the ends of `X to Y`.
fn named(text: &str, known: &[(&str, &str)]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    for (index, word) in words.iter().enumerate().filter(|(_, word)| is_id(word)) {
        found.insert((*word).to_owned());
        if let [_, "to" | "TO", last, ..] = words[index..]
            && is_id(last)
        {
            let series = |id: &str| (id.len(), id.as_bytes()[0]);
            let between = known.iter().map(|(id, _)| *id);
            let between =
                between.filter(|id| series(id) == series(word) && series(id) == series(last));
            found.extend(between.filter(|id| id >= word && *id <= last).map(str::to_owned));
        }
    }
    found
}

/// The texts in which a script's tests may name ids.
fn script_citations(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let starts: Vec<usize> =
        (0..lines.len()).filter(|&line| lines[line].trim_start().starts_with("test ")).collect();
    let mut citations = Vec::new();
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(lines.len());
        let test = lines[start..end].join("\n");
        if constraints(&test).iter().any(|name| !OF_THE_MACHINE.contains(name)) {
            continue;
        }
        let options = OPTIONS.iter().filter_map(|option| test.find(option)).min();
        citations.push(test[..options.unwrap_or(0)].to_owned());
        if test.trim_start().starts_with("test $id ") {
            let mut above = (0..start).rev();
            let head = above.find(|&line| lines[line].starts_with("foreach {id")).unwrap_or(start);
            citations.push(lines[head..start].join("\n"));
        }
    }
    citations
}

/// The constraints of a script test.
fn constraints(test: &str) -> Vec<&str> {
    let Some((_, rest)) = test.split_once(" -constraints") else { return Vec::new() };
    let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\\');
    let end = match rest.strip_prefix('{') {
        Some(_) => rest.find('}'),
        None => rest.find(char::is_whitespace),
    };
    let list = rest[..end.unwrap_or(rest.len())].trim_start_matches('{');
    list.split_whitespace().collect()
}

/// The texts in which a Rust source's tests may name ids.
fn rust_citations(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut citations = Vec::new();
    for test in (0..lines.len()).filter(|&line| lines[line] == "#[test]") {
        let is_above = |line: &&&str| line.starts_with("//") || line.starts_with("#[");
        let above: Vec<&str> = lines[..test].iter().rev().take_while(is_above).copied().collect();
        let below = lines[test..].iter().take_while(is_above);
        if above.iter().chain(below).any(|line| line.starts_with("#[ignore")) {
            continue;
        }
        let comment: Vec<&str> =
            above.iter().rev().map(|line| line.trim_start_matches(['/', '!', ' '])).collect();
        citations.push(comment.join(" "));
        let name = lines[test..].iter().find_map(|line| line.split_once("fn "));
        let name = name.and_then(|(_, rest)| rest.split_once('(')).map(|(name, _)| name);
        citations.push(name.unwrap_or_default().replace('_', " ").to_uppercase());
    }
    citations
}

/// Every id that a test names, with the files that do.
fn citations(known: &[(&str, &str)]) -> BTreeMap<String, BTreeSet<String>> {
    let mut texts: Vec<(String, String)> = Vec::new();
    let mut add = |path: &Path, from: fn(&str) -> Vec<String>| {
        let file = path.strip_prefix(ROOT).unwrap().display().to_string();
        let text = std::fs::read_to_string(path).unwrap();
        texts.extend(from(&text).into_iter().map(|citation| (file.clone(), citation)));
    };
    for directory in ["src", "test"] {
        for path in rust_files(directory) {
            // What this file says about ids are examples.
            if path != Path::new(ROOT).join("test/tidy/requirements.rs") {
                add(&path, rust_citations);
            }
        }
    }
    for entry in std::fs::read_dir(Path::new(ROOT).join("test")).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "test") {
            add(&path, script_citations);
        }
    }
    let mut cited: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in texts {
        for id in named(&text, known) {
            cited.entry(id).or_default().insert(file.clone());
        }
    }
    cited
}

#[test]
fn every_requirement_is_cited_by_a_test() {
    let root = Path::new(ROOT);
    let text = std::fs::read_to_string(root.join(IDS)).unwrap();
    let known = requirements(&text);
    let open = std::fs::read_to_string(root.join(OPEN)).unwrap_or_default();
    let open = still_open(&open);
    let cited = citations(&known);

    let count = known.iter().filter(|(id, _)| cited.contains_key(*id)).count();
    println!("{count} of {} ids cited by tests", known.len());
    let mut found = Vec::new();
    for (id, title) in &known {
        match (cited.get(*id), open.contains(id)) {
            (None, true) => println!("not yet: {id}, {title}"),
            (None, false) => found.push(format!(
                "{id}, {title}: no test names it. Name it where a test shows it: in the name or \
                 description of a script test, or in the comment right above a #[test]"
            )),
            (Some(files), true) => found.push(format!(
                "{id}, {title}: named in {}. Take its line out of {OPEN}",
                files.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            )),
            (Some(_), false) => {}
        }
    }
    let ids: BTreeSet<&str> = known.iter().map(|(id, _)| *id).collect();
    for (id, files) in cited.iter().filter(|(id, _)| !ids.contains(id.as_str())) {
        found.push(format!("{id}, named in {files:?}: not in {IDS}"));
    }
    for id in open.difference(&ids) {
        found.push(format!("{id} of {OPEN}: not in {IDS}"));
    }
    report(&format!("{count} of {} ids cited by tests", known.len()), &found);
}

/// The list itself: 517 ids, each once, each with a title.
#[test]
fn the_list_of_requirements_is_whole() {
    let text = std::fs::read_to_string(Path::new(ROOT).join(IDS)).unwrap();
    let known = requirements(&text);
    let ids: BTreeSet<&str> = known.iter().map(|(id, _)| *id).collect();
    assert_eq!((known.len(), ids.len()), (517, 517));
    for (id, title) in known {
        assert!(is_id(id) && !title.trim().is_empty(), "{id}");
    }
}

/// The readers above, on what is easy to get wrong.
#[test]
fn citations_are_found() {
    let known = [("D286", "a"), ("D287", "b"), ("D288", "c"), ("H50286", "d")];
    let ids = |text: &str| named(text, &known).into_iter().collect::<Vec<_>>();
    assert_eq!(ids("D286-1, xD287 D2 D286x"), ["D286"]);
    assert_eq!(ids("D286 to D288."), ["D286", "D287", "D288"]);

    let script = "# D1\ntest {D286-1 A101-1} {text: D287} -body {\n D288\n}\n\
                  test D289-1 {x} -constraints memfail -body {}\n\
                  test D290-1 {x} -setup {} -constraints \\\n    {md5 permissions} -body {}\n\
                  foreach {id n} {D291-1 1\n D291-2 2} {\n    test $id {x} -body {}\n}\n";
    let texts = script_citations(script).join(" ");
    assert_eq!(ids(&texts), ["A101", "D286", "D287", "D290", "D291"]);

    assert_eq!(ids(&rust_citations("#[test]\nfn d286_to_d288_x()").join("")).len(), 3);
    let rust = "/// D286: x,\n/// D287.\n#[test]\nfn d288_holds() {\n    // D289\n}\n\
                /// D290\nfn no_test() {}\n\
                /// D291\n#[test]\n#[ignore = \"long\"]\nfn d292() {}\n\
                /// D293\n#[ignore]\n#[test]\nfn d294() {}\n";
    assert_eq!(ids(&rust_citations(rust).join(" ")), ["D286", "D287", "D288"]);
}
