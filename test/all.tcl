# Runs every *.test beside this file, each in a fresh process, and adds up the results.
# Run it with: tclsh test/all.tcl ?PATTERN ...?  (patterns of file names, default *.test)
# With TCLBTREE_ASYNC=flushed or =running, through the write-behind layer (see tester.tcl); what is
# left out then is printed with the reason.

# The four counts of tcltest's closing line, or an empty list if a file ended without one.
proc counts {output} {
    set pattern {Total\s+(\d+)\s+Passed\s+(\d+)\s+Skipped\s+(\d+)\s+Failed\s+(\d+)}
    if {[regexp $pattern $output -> total passed skipped failed]} {
        return [list $passed $failed $skipped]
    }
    return {}
}

# Run one file and print its closing line, preceded by whatever it had to say when it failed.
proc run {file} {
    set started [clock milliseconds]
    # A test that goes mad must not take the machine with it.
    set limited {ulimit -v 8000000; exec "$0" "$@"}
    set crashed [catch {
        exec sh -c $limited [info nameofexecutable] $file <@stdin 2>@1
    } output]
    set seconds [format %.1f [expr {([clock milliseconds] - $started) / 1000.0}]]
    set name [file tail $file]
    set result [counts $output]
    if {$result eq ""} {
        puts "$output\n$name: ended without a summary"
        return {0 1 0}
    }
    lassign $result passed failed skipped
    if {$failed > 0 || $crashed} {puts $output}
    if {$crashed && $failed == 0} {incr failed}
    set left_out [regexp -all -inline -line {^left out: .*$} $output]
    incr skipped -[llength $left_out]
    puts "$name: $passed passed, $failed failed, $skipped skipped, $seconds s"
    foreach line $left_out {
        puts "    $line"
        incr ::left_out([lindex $line 2])
    }
    flush stdout
    return [list $passed $failed $skipped]
}

set here [file dirname [file normalize [info script]]]
set patterns [expr {[llength $argv] ? $argv : "*.test"}]
set passed 0
set failed 0
set skipped 0
array set left_out {}
foreach file [lsort [glob -directory $here {*}$patterns]] {
    if {[file extension $file] ne ".test"} continue
    # The files about the layer itself switch it on and off as they need.
    if {[info exists ::env(TCLBTREE_ASYNC)] && [string match async* [file tail $file]]} continue
    lassign [run $file] p f s
    incr passed $p
    incr failed $f
    incr skipped $s
}
if {[info exists ::env(TCLBTREE_ASYNC)]} {
    source [file join $here async-left-out.tcl]
    foreach name [dict keys [tester::left_out $::env(TCLBTREE_ASYNC)]] {
        if {$patterns ne "*.test" || [info exists left_out($name)]} continue
        puts "$name is to be left out, but there is no such test"
        incr failed
    }
    puts -nonewline "[array size left_out] left out, "
}
puts "$passed passed, $failed failed, $skipped skipped"
exit [expr {$failed > 0}]
