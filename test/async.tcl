# What the asynchronous test files share: the layer on for one test and off again after it.
# Nothing here waits for luck: the writer is stopped in a known place, or asked for.

namespace eval async {
    variable files {}       ;# every handle that the os_open_* commands gave to the running test
}

proc async::note_file {command code result op} {
    variable files
    if {$code == 0} {lappend files [lindex $result 0]}
}
foreach name {os_open_readwrite os_open_readonly os_open_exclusive} {
    trace add execution $name leave async::note_file
}

# The end of every test: closes what is open, works off the queue, puts every setting back, and
# goes on with the checks of `done`, which see that no file is open any more.
proc calm {{option ""}} {
    tester::disarm
    os_crash 0
    foreach op {any open close read write truncate sync size lock unlock delete exists
        check_reserved_lock open_directory sync_directory} {
        os_stall $op 0
        os_fail $op 0
    }
    foreach c $tester::cursors {catch {btree_close_cursor $c}}
    foreach b $tester::handles {
        catch {btree_rollback $b}
        catch {btree_close $b}
    }
    foreach h $async::files {catch {os_close $h}}
    set async::files {}
    sqlite3async_delay 0
    sqlite3async_halt now
    sqlite3async_wait
    check_books
    settle
    check_books
    sqlite3async_halt never
    sqlite3async_enable 0
    sqlite3async_limit 0 block
    sqlite3async_two_handles 1
    sqlite3async_lockfiles 1
    foreach {name value} {
        coalesce safe maxlag 0 maxhold 0 onexit drain exittimeout 10000 onclose none
    } {
        sqlite3async_config $name $value
    }
    sqlite3async_error -history
    os_log off
    os_log clear
    done $option
}

# Work off the queue by a writer that ends with it.
proc settle {} {
    sqlite3async_halt idle
    sqlite3async_start
    sqlite3async_wait
}

# The names of the queued operations.
proc queued {} {
    set names {}
    foreach entry [sqlite3async_queue] {lappend names [lindex $entry 0]}
    return $names
}

# One value of sqlite3async_status, of sqlite3async_stats.
proc status {name} {return [dict get [sqlite3async_status] $name]}
proc counter {name args} {return [dict get [sqlite3async_stats {*}$args] $name]}

# Whether every pushed operation is accounted for.
proc balanced {args} {
    set s [sqlite3async_stats {*}$args]
    set sum 0
    foreach name {executed merged elided dropped queued_ops} {incr sum [dict get $s $name]}
    return [expr {[dict get $s pushed] == $sum}]
}

# The books of a queue on which nobody works: the sum is right, and all who tell of the queue tell
# the same.
proc check_books {} {
    set bytes 0
    foreach entry [sqlite3async_queue] {incr bytes [lindex $entry 3]}
    set told [list [counter queued_ops] [counter queued_bytes]]
    if {![balanced] || $told ne [list [llength [sqlite3async_queue]] $bytes]
        || $told ne [list [status ops] [status bytes]]} {
        error "the books are wrong: [sqlite3async_stats], [sqlite3async_status]"
    }
}

# What the writer threads of this process do, a letter for each: R runs, S sleeps.
proc writers {} {
    set states {}
    foreach file [glob -nocomplain /proc/self/task/*/stat] {
        # A thread may end while it is looked at.
        if {[catch {open $file} f]} continue
        catch {if {[regexp {\(write-behind\) (\S)} [read $f] -> state]} {lappend states $state}}
        close $f
    }
    return $states
}
testConstraint proc [file isdirectory /proc/self/task]

# Whether every thread of this process but the one that asks sleeps.
proc all_asleep {} {
    foreach file [glob -nocomplain /proc/self/task/*/stat] {
        if {[file tail [file dirname $file]] == [pid]} continue
        if {[catch {open $file} f]} continue
        catch {if {![regexp {\) S } [read $f]]} {set busy 1}}
        close $f
    }
    return [expr {![info exists busy]}]
}

# The kinds of the logged calls to the disk beneath.
proc logged {} {
    set kinds {}
    foreach call [os_log get] {lappend kinds [lindex $call 0]}
    return $kinds
}

# Waits until a condition holds, for at most ten seconds.
proc until {condition} {
    for {set i 0} {$i < 10000} {incr i} {
        if {[uplevel 1 [list expr $condition]]} return
        after 1
    }
    error "never: $condition"
}

# One transaction: KEY DATA pairs into a table with integer keys.
proc put {b root args} {
    btree_begin_transaction $b
    set c [btree_cursor $b $root 1]
    foreach {key data} $args {btree_insert $c $key $data}
    btree_close_cursor $c
    btree_commit $b
}

# The entries that a handle sees.
proc seen {b root} {
    set c [btree_cursor $b $root 0]
    set list [entries $c]
    btree_close_cursor $c
    return $list
}

# The entries that somebody without the layer sees.
proc on_disk {file root} {
    set b [btree_open $file 10 0 -vfs unix]
    set list [seen $b $root]
    btree_close $b
    return $list
}

# A table that is on disk, opened through the layer: {handle root}.
proc async_table {file args} {
    sqlite3async_enable 0
    lassign [make_table $file 5 $args] b root
    btree_close $b
    sqlite3async_enable 1
    return [list [btree_open $file 100 0] $root]
}

# Write and read a file of the OS layer somewhere.
proc write_at {h offset bytes} {
    os_seek $h $offset
    os_write $h $bytes
}
proc read_at {h offset count} {
    os_seek $h $offset
    return [os_read $h $count]
}

# Write `child.tcl`: a script that has the extension and `put`.
proc write_child {script} {
    set f [open child.tcl w]
    if {[info exists ::env(TCLBTREE_LIBRARY)] && $::env(TCLBTREE_LIBRARY) ne ""} {
        puts $f [list load [file normalize $::env(TCLBTREE_LIBRARY)] Tclbtree]
    } else {
        puts $f [list lappend auto_path $tester::root]
        puts $f {package require tclbtree}
    }
    puts $f [list set sqlite_pending_byte $::sqlite_pending_byte]
    puts $f {
        proc put {b root args} {
            btree_begin_transaction $b
            set c [btree_cursor $b $root 1]
            foreach {key data} $args {btree_insert $c $key $data}
            btree_close_cursor $c
            btree_commit $b
        }
    }
    puts $f $script
    close $f
}

# Run a script in a tclsh of its own until it ends: {STATUS OUTPUT ERRORS}. STATUS is the exit
# code, or the name of the signal that ended the process.
proc child {script} {
    write_child $script
    set status 0
    set failed [catch {exec [info nameofexecutable] child.tcl 2>child.err} output options]
    if {$failed} {set status [lindex [dict get $options -errorcode] 2]}
    set f [open child.err]
    set errors [read $f]
    close $f
    return [list $status $output $errors]
}
