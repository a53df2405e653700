# Writes docs/commands.md from the table that registers the commands: what `btree_help` says.
#
#   usage: tclsh tools/commands.tcl        (or `make docs`)
#
# A test sources this file and compares, so the page and the table cannot part.

namespace eval commands {
    variable page [file join [file dirname [file dirname [file normalize [info script]]]] \
        docs commands.md]
}

# Text for a cell of a table, and code for one.
proc commands::cell {text} {return [string map {| \\| < &lt;} $text]}
proc commands::code {text} {return "`[string map {| \\|} $text]`"}

# The page: a heading and a table for each group of the help.
proc commands::markdown {help} {
    set lines {
        "# Commands"
        ""
        "All commands that the extension adds to Tcl, as `btree_help` lists them. This page is written by"
        "`make docs`; do not edit it. What is in question marks may be left out. The words of a command that"
        "SQLite had are those of its message at the time; what it takes beyond them is in its line."
    }
    foreach line [split $help \n] {
        if {![regexp {^  (\S+) (.*?) ?-- (.*)$} $line -> name words purpose]} {
            lappend lines "" "## $line" "" "| command | what it does |" "| --- | --- |"
            continue
        }
        lappend lines "| [code [string trim "$name $words"]] | [cell $purpose] |"
    }
    return "[join $lines \n]\n"
}

if {[info exists argv0] && [file normalize $argv0] eq [file normalize [info script]]} {
    if {[info exists env(TCLBTREE_LIBRARY)]} {
        load [file normalize $env(TCLBTREE_LIBRARY)] Tclbtree
    } else {
        lappend auto_path [file dirname [file dirname $commands::page]]
        package require tclbtree
    }
    set channel [open $commands::page w]
    fconfigure $channel -encoding utf-8 -translation lf
    puts -nonewline $channel [commands::markdown [btree_help]]
    close $channel
    puts "written: $commands::page"
}
