# Loads the extension: the library that TCLBTREE_LIBRARY names, else the package of this folder.

if {[info exists ::env(TCLBTREE_LIBRARY)] && $::env(TCLBTREE_LIBRARY) ne ""} {
    load [file normalize $::env(TCLBTREE_LIBRARY)] Tclbtree
} else {
    lappend ::auto_path [file dirname [file dirname [file dirname [file normalize [info script]]]]]
    package require tclbtree
}
