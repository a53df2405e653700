//! Compiles SQLite's b-tree, with its internal interface visible, from the source that
//! `libsqlite3-sys` carries.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/sqlite_btree.c");
    // Set for us because `libsqlite3-sys` declares `links = "sqlite3"`.
    let source = env::var("DEP_SQLITE3_INCLUDE").unwrap_or_default();
    if !Path::new(&source).join("sqlite3.c").exists() {
        println!("cargo::error=no sqlite3.c in \"{source}\": is the feature `bundled` on?");
        return;
    }
    cc::Build::new()
        .file("src/sqlite_btree.c")
        .include(&source)
        .opt_level(3)
        .define("SQLITE_THREADSAFE", "1")
        .define("HAVE_FDATASYNC", "1")
        // Making the public functions static leaves many unused.
        .flag_if_supported("-Wno-unused-function")
        .warnings(false)
        .compile("sqlite_btree");
}
