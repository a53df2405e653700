# Writing behind: how long a commit takes with and without the queue, how the queue fills and
# drains, and what is left when the process is killed in the middle of it.

namespace eval behind {
    variable commits 60     ;# of the process that is killed
    variable full 2000      ;# operations in the queue that is filled
}

# A database that stock sqlite3 knows, with the empty table `note` on page 2.
proc behind::make {file} {
    stock::sql $file {CREATE TABLE note(id INTEGER PRIMARY KEY, line TEXT);}
}

# One transaction: row N.
proc behind::commit {db n} {
    btree_begin_transaction $db
    set cursor [btree_cursor $db 2 1]
    btree_insert $cursor $n [btree_make_record null [list text "commit number $n"]]
    btree_close_cursor $cursor
    btree_commit $db
}

# Commits for a second, at most so many: what each took, in microseconds.
proc behind::latencies {db most} {
    set ends [expr {[clock milliseconds] + 1000}]
    set list {}
    for {set n 1} {$n <= $most && [clock milliseconds] < $ends} {incr n} {
        set began [clock microseconds]
        commit $db $n
        lappend list [expr {[clock microseconds] - $began}]
    }
    return $list
}

# The latency table: a half of the commits, nine of ten, and all of them took at most so long, and
# when all of them were on the disk.
proc behind::table {directory} {
    set rows [list {{one commit takes} median {9 of 10} longest {all on disk}}]
    set most 2000
    foreach {name queued} {"waiting for the disk" 0 "with the queue" 1} {
        set file [file join $directory behind-$queued.db]
        make $file
        sqlite3async_enable $queued
        if {$queued} sqlite3async_start
        set began [clock milliseconds]
        set db [btree_open $file 100 0]
        set list [lsort -integer [latencies $db $most]]
        sqlite3async_flush
        set whole [expr {[clock milliseconds] - $began}]
        btree_close $db
        set row [list $name]
        set count [llength $list]
        foreach share {0.5 0.9 1.0} {
            lappend row "[lindex $list [expr {int(ceil($share * $count)) - 1}]] us"
        }
        lappend rows [lappend row "$count in $whole ms"]
        # As many with the queue as there were without it.
        set most $count
    }
    return $rows
}

# Fills the queue beside a writer that pauses after each operation, and lets it drain. Returns
# what was seen: {COMMITS MS-TO-FILL OPERATIONS BYTES MS-TO-DRAIN}. There are no syncs: it is the
# queue that is looked at, and not the disk.
proc behind::fill_and_drain {file} {
    variable full
    make $file
    sqlite3async_enable 1
    sqlite3async_delay 1
    sqlite3async_start
    set db [btree_open $file 100 0]
    btree_set_safety_level $db off
    set began [clock milliseconds]
    for {set n 0} {[lindex [show_queue "filling "] 0] < $full} {} {commit $db [incr n]}
    set filled [clock milliseconds]
    lassign [show_queue "draining"] operations bytes
    while {[lindex [show_queue "draining"] 0] > 0} {after 20}
    set drained [clock milliseconds]
    btree_close $db
    sqlite3async_delay 0
    sqlite3async_flush
    return [list $n [expr {$filled - $began}] $operations $bytes [expr {$drained - $filled}]]
}

# The queue as it is, on a line that is rewritten: {OPERATIONS BYTES}.
proc behind::show_queue {what} {
    set status [sqlite3async_status]
    set operations [dict get $status ops]
    variable full
    set marks [expr {min(40, (40 * $operations + $full - 1) / $full)}]
    set bar [string repeat # $marks][string repeat . [expr {40 - $marks}]]
    show::live [format {%s [%s] %5d operations, %s} $what $bar $operations \
        [show::bytes [dict get $status bytes]]]
    return [list $operations [dict get $status bytes]]
}

# A second process commits, does part of its queue, and is killed. Returns what it said.
proc behind::kill_in_mid_queue {file} {
    variable commits
    make $file
    set script [file join $::here demo behind-victim.tcl]
    set child [open |[list [info nameofexecutable] $script $file $commits] r+]
    set report [list [gets $child] [gets $child]]
    # The shell has `kill` built in; a minimal system has no other.
    exec sh -c "kill -9 [pid $child]"
    catch {close $child}
    return $report
}

# What an engine finds in the wreck: the rows must be 1, 2, ... up to some commit.
proc behind::verdict {ids problems} {
    variable commits
    set count [llength $ids]
    for {set n 1} {$n <= $count} {incr n} {
        if {[lindex $ids $n-1] != $n} {return "NOT A PREFIX: $ids"}
    }
    if {$problems ne "ok"} {return "DAMAGED: $problems"}
    return "commits 1 to $count of $commits, each whole; integrity ok"
}

proc behind::by_this_engine {file} {
    set db [btree_open $file 100 0]
    set cursor [btree_cursor $db 2 0]
    set ids {}
    for {set end [btree_first $cursor]} {!$end} {set end [btree_next $cursor]} {
        lappend ids [btree_key $cursor]
    }
    btree_close_cursor $cursor
    set problems [btree_integrity_check $db 1 2]
    btree_close $db
    return [verdict $ids [expr {$problems eq "" ? "ok" : $problems}]]
}

proc behind::by_stock {file} {
    set ids [split [stock::sql $file {SELECT id FROM note ORDER BY id;}] \n]
    return [verdict $ids [stock::check $file]]
}
