//! Runs the script tests against the shared library that cargo has just built.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library beside this test program, where cargo puts what a test depends on.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let directory = program.parent().unwrap();
    let name = format!("{}tclbtree{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    directory.join(name)
}

#[test]
fn script_tests_pass() {
    if !cfg!(feature = "tcl") {
        println!("SKIPPED script tests: built without feature tcl");
        return;
    }
    if Command::new("tclsh").arg("/dev/null").output().is_err() {
        println!("SKIPPED script tests: there is no tclsh");
        return;
    }
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("test/all.tcl");
    let library = library();
    assert!(library.is_file(), "cargo has not built {}", library.display());
    let output =
        Command::new("tclsh").arg(suite).env("TCLBTREE_LIBRARY", library).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{}", text.lines().last().unwrap_or("no output"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "script tests failed\n{text}\n{errors}");
}
