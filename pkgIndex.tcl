# Where the shared library of tclbtree is: beside this file, as installed, or where cargo builds
# it. One library serves Tcl 8.6 and 9.0.
package ifneeded tclbtree 1.0 [list apply {{dir} {
    set name libtclbtree[info sharedlibextension]
    foreach place [list $dir [file join $dir target release] [file join $dir target debug]] {
        if {[file exists [file join $place $name]]} {
            return [uplevel #0 [list load [file join $place $name] Tclbtree]]
        }
    }
    return -code error "no $name beside [file join $dir pkgIndex.tcl] or in target/release"
}} $dir]
