//! Link options of the extension; with the feature `bindgen` also a check of our Tcl bindings.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // Tcl and SQLite may unload a library while callbacks into it are registered.
        println!("cargo::rustc-link-arg-cdylib=-Wl,-z,nodelete");
    }
    println!("cargo::rustc-check-cfg=cfg(tcl_header, values(\"8\", \"9\"))");
    #[cfg(feature = "bindgen")]
    tcl_header::generate();
}

/// Translates the stub table of the installed `tcl.h`, so that `src/tcl/sys.rs` can be compared
/// with it at compile time. Nothing of it ends up in the library.
///
/// `TCL_INCLUDE` names the directory of `tcl.h`; without it the usual ones are tried. Running
/// bindgen needs libclang and its headers (Debian: `libclang1-14 libclang-common-14-dev`).
#[cfg(feature = "bindgen")]
#[expect(clippy::expect_used, reason = "a build script reports by panicking")]
mod tcl_header {
    use std::path::{Path, PathBuf};

    const PLACES: [&str; 4] =
        ["/usr/include/tcl9.0", "/usr/include/tcl8.6", "/usr/include/tcl", "/usr/include"];

    pub(super) fn generate() {
        println!("cargo::rerun-if-env-changed=TCL_INCLUDE");
        let place = directory();
        let header = place.join("tcl.h");
        println!("cargo::rerun-if-changed={}", header.display());
        let bindings = bindgen::Builder::default()
            .header(header.to_string_lossy())
            .clang_args(["-DUSE_TCL_STUBS", &format!("-I{}", place.display())])
            .allowlist_type("TclStubs|Tcl_Obj|Tcl_WideInt")
            .allowlist_var("TCL_(MAJOR_VERSION|OK|ERROR|LEAVE_ERR_MSG|LINK_INT|EVAL_GLOBAL)")
            .layout_tests(false)
            .generate()
            .expect("bindgen cannot translate tcl.h");
        let text = bindings.to_string();
        let nine = text.contains("TCL_MAJOR_VERSION: u32 = 9");
        println!("cargo::rustc-cfg=tcl_header=\"{}\"", if nine { "9" } else { "8" });
        let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
        std::fs::write(Path::new(&out).join("tcl_stubs.rs"), text).expect("OUT_DIR is writable");
    }

    fn directory() -> PathBuf {
        if let Some(named) = std::env::var_os("TCL_INCLUDE") {
            return named.into();
        }
        let found = PLACES.iter().map(Path::new).find(|place| place.join("tcl.h").exists());
        found.expect("no tcl.h found; install tcl-dev or set TCL_INCLUDE").to_path_buf()
    }
}
