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

/// Runs the suite in the first of the interpreters that exists, with `form` of the write-behind
/// layer beneath if there is one.
fn run(name: &str, interpreters: &[&str], form: Option<&str>) {
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
    let mut command = Command::new(tclsh);
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
    say(&format!("{name}: {}", text.lines().last().unwrap_or("no output")));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed\n{text}\n{errors}");
}

#[test]
fn script_tests_pass() {
    run("script tests", &["tclsh", "tclsh8.6"], None);
}

#[test]
fn script_tests_pass_under_tcl_9() {
    run("script tests under Tcl 9", &["tclsh9.1", "tclsh9.0"], None);
}

/// A104: the results are those without the layer, byte for byte where a script looks at a file.
/// Nothing is done before a script looks at the disk, or lets somebody else do so.
#[test]
fn script_tests_pass_with_a_queue_worked_off_at_the_end() {
    run("script tests, queued", &["tclsh", "tclsh8.6"], Some("flushed"));
}

/// The same beside a writer that is at work all the time.
#[test]
fn script_tests_pass_beside_a_running_writer() {
    run("script tests, written behind", &["tclsh", "tclsh8.6"], Some("running"));
}
