//! Runs the script tests against the shared library that cargo has just built: as they are, and
//! through the write-behind layer (A104).

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

/// Runs all scripts, with `form` of the write-behind layer beneath if there is one.
fn run_scripts(form: Option<&str>) {
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
    let mut command = Command::new("tclsh");
    command.arg(suite).env("TCLBTREE_LIBRARY", library).env_remove("TCLBTREE_ASYNC");
    if let Some(form) = form {
        command.env("TCLBTREE_ASYNC", form);
        // These are about what is done, not about the disk: where it takes no time, if possible.
        if Path::new("/dev/shm").is_dir() {
            command.env("TCLBTREE_TEST_DIR", "/dev/shm");
        }
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{}", text.lines().last().unwrap_or("no output"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "script tests failed\n{text}\n{errors}");
}

#[test]
fn script_tests_pass() {
    run_scripts(None);
}

/// A104: the results are those without the layer, byte for byte where a script looks at a file.
/// Nothing is done before a script looks at the disk, or lets somebody else do so.
#[test]
fn script_tests_pass_with_a_queue_worked_off_at_the_end() {
    run_scripts(Some("flushed"));
}

/// The same beside a writer that is at work all the time.
#[test]
fn script_tests_pass_beside_a_running_writer() {
    run_scripts(Some("running"));
}
