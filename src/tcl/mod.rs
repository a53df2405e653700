//! The commands of the Tcl extension.
