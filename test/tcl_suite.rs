//! Runs the script tests against the shared library that cargo has just built.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library beside this test program, where cargo puts what a test depends on.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let directory = program.parent().unwrap();
    let name = format!("{}tclbtree{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    directory.join(name)
}

/// Prints a line that is seen even if the test passes: the test runner keeps only what the
/// printing macros write.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs the suite in the first of the interpreters that exists.
fn run(name: &str, interpreters: &[&str]) {
    if !cfg!(feature = "tcl") {
        return say(&format!("SKIPPED {name}: built without feature tcl"));
    }
    let there = |tclsh: &&&str| Command::new(tclsh).arg("/dev/null").output().is_ok();
    let Some(tclsh) = interpreters.iter().find(there) else {
        return say(&format!("SKIPPED {name}: there is no {}", interpreters.join(" or ")));
    };
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("test/all.tcl");
    let library = library();
    assert!(library.is_file(), "cargo has not built {}", library.display());
    let output = Command::new(tclsh).arg(suite).env("TCLBTREE_LIBRARY", library).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    say(&format!("{name}: {}", text.lines().last().unwrap_or("no output")));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed\n{text}\n{errors}");
}

#[test]
fn script_tests_pass() {
    run("script tests", &["tclsh", "tclsh8.6"]);
}

#[test]
fn script_tests_pass_under_tcl_9() {
    run("script tests under Tcl 9", &["tclsh9.1", "tclsh9.0"]);
}
