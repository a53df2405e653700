# Common set-up of the script tests: loads the extension, gives each test file a directory of
# its own, and checks after every test that nothing leaked and every database left is sound.
#
# A test file sources this file, runs its tests with `-cleanup done` and ends with `finish`.
# Environment: TCLBTREE_LIBRARY names a shared library to load instead of the built package,
# TCLBTREE_TEST_DIR a directory for the scratch files (default: TMPDIR or /tmp).

package require Tcl 8.6-
package require tcltest 2.3

namespace eval tester {
    variable root [file dirname [file dirname [file normalize [info script]]]]
    variable script [file normalize [info script]]
    variable handles {}     ;# every handle btree_open gave to the running test
    variable cursors {}     ;# every cursor btree_cursor gave to the running test
    variable pagers {}      ;# every pager pager_open gave to the running test
    variable pages {}       ;# every page page_get and page_lookup gave to the running test
    variable peers {}       ;# channels to helper processes
    variable scratch ""     ;# the directory that the tests work in
    variable random 1       ;# state of `rnd`
}

# ---------------------------------------------------------------------------------------
# The extension
# ---------------------------------------------------------------------------------------

proc tester::load_extension {} {
    variable root
    if {[info exists ::env(TCLBTREE_LIBRARY)] && $::env(TCLBTREE_LIBRARY) ne ""} {
        load [file normalize $::env(TCLBTREE_LIBRARY)] Tclbtree
    } else {
        lappend ::auto_path $root
        package require tclbtree
    }
}

# Handles and cursors are noted as they are made, so that a test need not close what it opened
# and a failing test leaves nothing behind.
proc tester::note_handle {command code result op} {
    variable handles
    if {$code == 0} {lappend handles $result}
}
proc tester::note_cursor {command code result op} {
    variable cursors
    if {$code == 0} {lappend cursors $result}
}

proc tester::note_pager {command code result op} {
    variable pagers
    if {$code == 0} {lappend pagers $result}
}

proc tester::note_page {command code result op} {
    variable pages
    if {$code == 0 && $result ne ""} {dict set pages $result 1}
}

# ---------------------------------------------------------------------------------------
# Helper processes: a second tclsh with the extension, which evaluates what it is sent
# ---------------------------------------------------------------------------------------

# Serve scripts from standard input: a line with the number of characters, then the script.
# The answer has the same form with the return code in front.
proc tester::serve {} {
    fconfigure stdin -encoding utf-8 -translation lf
    fconfigure stdout -encoding utf-8 -translation lf
    while {[gets stdin length] >= 0} {
        set code [catch {uplevel #0 [read stdin $length]} result]
        puts "$code [string length $result]"
        puts -nonewline $result
        flush stdout
    }
}

# Send a signal. The program `kill` is missing on minimal systems; every shell has the command.
proc kill_process {args} {
    exec sh -c "kill $args"
}

# Start a helper process in the scratch directory; the result names it for the other commands.
proc peer_start {} {
    set chan [open |[list [info nameofexecutable] $tester::script --serve] r+]
    fconfigure $chan -encoding utf-8 -translation lf
    lappend tester::peers $chan
    return $chan
}

# Evaluate a script in a process that file permissions count for, root's do not; it shares nothing
# but the directory.
proc unprivileged {script} {
    tester::work_off
    set library [lindex [lsearch -inline -index 1 -nocase [info loaded] tclbtree] 0]
    file copy -force $library library.so
    spit script.tcl "load ./library.so Tclbtree; puts -nonewline \[eval [list $script]\]"
    file attributes . -permissions 0777
    file attributes library.so -permissions 0755
    file attributes script.tcl -permissions 0644
    return [exec {*}[tester::as_nobody] [info nameofexecutable] script.tcl 2>@1]
}

# What stands before a command that is to have no privileges.
proc tester::as_nobody {} {
    if {$::tcl_platform(user) ne "root"} {return {}}
    return {setpriv --reuid 65534 --regid 65534 --clear-groups}
}

# Send a script without waiting for its answer.
proc peer_send {chan script} {
    tester::work_off
    puts $chan [string length $script]
    puts -nonewline $chan $script
    flush $chan
}

# Wait for the answer to what was sent; an error there is an error here.
proc peer_receive {chan} {
    if {[gets $chan line] < 0} {error "the helper process ended"}
    lassign $line code length
    set result [read $chan $length]
    if {$code == 1} {return -code error $result}
    return $result
}

# Evaluate a script in the helper process.
proc peer {chan script} {
    peer_send $chan $script
    return [peer_receive $chan]
}

# End a helper process as `kill -9` does, and wait until it is gone.
proc peer_kill {chan} {
    kill_process -9 {*}[pid $chan]
    peer_stop $chan
}

# End a helper process in an orderly way.
proc peer_stop {chan} {
    catch {close $chan}
    set tester::peers [lsearch -all -inline -not -exact $tester::peers $chan]
}

# ---------------------------------------------------------------------------------------
# What tests are written with
# ---------------------------------------------------------------------------------------

# The message of a script that must fail, or a text that no test expects.
proc fails {script} {
    if {[catch {uplevel 1 $script} message]} {return $message}
    return "no error, result: $message"
}

# One value of btree_pager_stats.
proc stat {b name} {return [dict get [btree_pager_stats $b] $name]}

# Read and write transaction flags of a handle, `1 1` in a write transaction.
proc state {b} {return "[btree_is_in_read_trans $b] [btree_is_in_trans $b]"}

# An integer key as the signed number that it is.
proc signed {key} {return [expr {$key >= 1 << 63 ? $key - (1 << 64) : $key}]}

# The next number 0 to limit-1 of a repeatable sequence; `seed` starts it anew.
proc seed {n} {set tester::random $n}
proc rnd {limit} {
    set tester::random [expr {($tester::random * 6364136223846793005 + 1442695040888963407)
        & 0xffffffffffffffff}]
    return [expr {($tester::random >> 33) % $limit}]
}

# A list in random order.
proc shuffle {list} {
    for {set i [expr {[llength $list] - 1}]} {$i > 0} {incr i -1} {
        set j [rnd [expr {$i + 1}]]
        set x [lindex $list $i]
        lset list $i [lindex $list $j]
        lset list $j $x
    }
    return $list
}

# The whole numbers from a to b.
proc range {a b {step 1}} {
    set list {}
    for {set i $a} {$step > 0 ? $i <= $b : $i >= $b} {incr i $step} {lappend list $i}
    return $list
}

# All keys that a cursor sees, forward or backward; a fresh scan each time.
proc keys {c} {
    set list {}
    for {set end [btree_first $c]} {!$end} {set end [btree_next $c]} {lappend list [btree_key $c]}
    return $list
}
proc keys_back {c} {
    set list {}
    for {set end [btree_last $c]} {!$end} {set end [btree_prev $c]} {lappend list [btree_key $c]}
    return $list
}

# Keys and data of all entries, in order.
proc entries {c} {
    set list {}
    for {set end [btree_first $c]} {!$end} {set end [btree_next $c]} {
        lappend list [btree_key $c] [btree_data $c]
    }
    return $list
}

# A database with one table: {handle root}. The table holds KEY DATA pairs and is committed.
proc make_table {file flags pairs {cache 100}} {
    set b [btree_open $file $cache 0]
    btree_begin_transaction $b
    set root [btree_create_table $b $flags]
    set c [btree_cursor $b $root 1]
    foreach {key data} $pairs {btree_insert $c $key $data}
    btree_close_cursor $c
    btree_commit $b
    return [list $b $root]
}

# Keys and data of a table, read through a handle and cursor of its own.
proc contents {file root} {
    set b [btree_open $file 100 0]
    set c [btree_cursor $b $root 0]
    set list [entries $c]
    btree_close_cursor $c
    btree_close $b
    return $list
}

# Bytes of a file, as they are, in hexadecimal with blanks between, or as an unsigned word.
proc bytes {file offset count} {
    tester::work_off
    set f [open $file rb]
    seek $f $offset
    set data [read $f $count]
    close $f
    return $data
}
proc hex {file offset count} {
    binary scan [bytes $file $offset $count] H* digits
    return [regsub -all {(..)(?=.)} $digits {\1 }]
}
proc word {file offset} {
    binary scan [bytes $file $offset 4] Iu value
    return $value
}
proc slurp {file} {
    tester::work_off
    return [bytes $file 0 [file size $file]]
}

# Overwrite bytes of a closed file; the new bytes are given in hexadecimal.
proc poke {file offset digits} {
    tester::work_off
    set f [open $file r+b]
    seek $f $offset
    puts -nonewline $f [binary format H* [string map {" " ""} $digits]]
    close $f
}
proc poke_word {file offset value} {poke $file $offset [format %08x $value]}

# Write a file of exactly these bytes.
proc spit {file data} {
    tester::work_off
    set f [open $file wb]
    puts -nonewline $f $data
    close $f
}

# The stock command line shell of SQLite on a file; rows joined by newlines.
proc sql {file statements} {
    tester::work_off
    return [exec sqlite3 -batch $file $statements 2>@1]
}

# Whether a second process can take a write transaction, and whether it can read.
proc peer_lock_state {chan file} {
    return [peer $chan [string map [list FILE [list $file]] {
        set b [btree_open FILE 10 0]
        set state [list [catch {btree_begin_trans $b 0} m] $m]
        catch {btree_rollback $b}
        lappend state [catch {btree_begin_trans $b 1} m] $m
        btree_close $b
        set state
    }]]
}

# ---------------------------------------------------------------------------------------
# Soundness
# ---------------------------------------------------------------------------------------

# A message about an empty word that should be an integer, in the words of Tcl 8.6; those of 9.0
# differ, here as for every command of Tcl's own.
proc in_old_words {message} {
    catch {string repeat x ""} own
    return [string map [list $own {expected integer but got ""}] $message]
}

# The root pages of an auto-vacuum database: every page up to the largest root but 2, the
# later pointer maps and the lock-byte page.
proc tester::packed_roots {b largest} {
    set size [btree_get_page_size $b]
    set group [expr {($size - [btree_get_reserve $b]) / 5 + 1}]
    set lock [expr {$::sqlite_pending_byte / $size + 1}]
    set roots 1
    for {set page 3} {$page <= $largest} {incr page} {
        set map [expr {($page - 2) / $group * $group + 2}]
        if {$map == $lock} {incr map}
        if {$page != $map && $page != $lock} {lappend roots $page}
    }
    return $roots
}

# Check a whole database without being told its roots. A page that nothing refers to is taken
# for a root; it stops being one when a later root turns out to refer to it.
proc sound {b} {
    set largest [lindex [btree_get_meta $b] 4]
    # What is no database has any number there.
    if {$largest < 0 || $largest > 1000000} {return [btree_integrity_check $b 1]}
    if {$largest != 0} {
        return [btree_integrity_check $b {*}[tester::packed_roots $b $largest]]
    }
    set roots 1
    set tried {}
    set candidate ""
    set complaints 0
    while 1 {
        set result [btree_integrity_check $b {*}$roots]
        set unused {}
        set others {}
        set doubled {}
        foreach line [split $result \n] {
            if {[regexp {^Page (\d+) is never used$} $line -> page]} {
                lappend unused $page
            } elseif {[regexp {2nd reference to page (\d+)$} $line -> page]
                && $page in $roots && $page != 1} {
                lappend doubled $page
            } else {
                lappend others $line
            }
        }
        if {$doubled ne ""} {
            foreach page $doubled {
                set roots [lsearch -all -inline -not -exact $roots $page]
            }
            continue
        }
        if {$candidate ne "" && [llength $others] > $complaints} {
            set roots [lsearch -all -inline -not -exact $roots $candidate]
            set candidate ""
            continue
        }
        set complaints [llength $others]
        set candidate ""
        foreach page $unused {
            if {$page ni $tried} {
                set candidate $page
                break
            }
        }
        if {$candidate eq ""} {return $result}
        lappend tried $candidate
        lappend roots $candidate
    }
}

# The same for a file that nobody has open.
proc sound_file {file} {
    set b [btree_open $file 100 0]
    set code [catch {sound $b} result]
    btree_close $b
    if {$code} {return "cannot be checked: $result"}
    return $result
}

# Put the fault knobs back.
proc tester::disarm {} {
    foreach name {
        sqlite_io_error_pending sqlite_io_error_persist sqlite_io_error_hit
        sqlite_diskfull_pending sqlite_diskfull
    } {
        set ::$name 0
    }
}

# With TCLBTREE_ASYNC every test runs through the write-behind layer: `flushed` without a writer,
# and the queue is worked off after the test; `running` with a writer that never ends, and the
# queue is waited for before the files of the test are deleted. The first has one base handle for
# each file, as there are without the layer, the second one more for the writer.
proc tester::async_mode {} {
    if {[info exists ::env(TCLBTREE_ASYNC)]} {return $::env(TCLBTREE_ASYNC)}
    return ""
}
proc tester::work_off {args} {
    if {[async_mode] ne ""} {catch {sqlite3async_flush -written}}
}

# Scripts that look at files, or let other programs do so, find there what they have written.
proc tester::before_look {command op} {
    set word [lindex $command 1]
    if {[lindex $command 0] ne "file" || $word in {copy delete exists rename size}} work_off
}

proc tester::note_left_out {command op} {
    variable leftOut
    set name [lindex $command 1]
    if {[dict exists $leftOut $name]} {puts "left out: $name ([dict get $leftOut $name])"}
}

# The layer on, with what makes a script find the disk and the counts as it left them. The tests
# that are left out all the same are told to `all.tcl`, with the reason.
proc tester::start_async {mode} {
    variable root
    variable leftOut
    source [file join $root test async-left-out.tcl]
    set leftOut [left_out $mode]
    ::tcltest::configure -skip [dict keys $leftOut]
    trace add execution ::test enter tester::note_left_out
    foreach name {file exec glob} {trace add execution $name enter tester::before_look}
    foreach name {os_log os_fail} {trace add execution $name enter tester::work_off}
    foreach name {
        sqlite_sync_count sqlite_fullsync_count sqlite_open_file_count sqlite_opentemp_count
        sqlite_io_error_pending sqlite_diskfull_pending
    } {
        trace add variable ::$name {read write} tester::work_off
    }
    sqlite3async_enable 1
    if {$mode eq "running"} {
        sqlite3async_start
    } else {
        sqlite3async_two_handles 0
    }
}

# The end of every test: close what is open, look for leaked pins, files and journals, check
# every database left in the scratch directory, and empty that directory. `-damaged` leaves
# out the check of the databases, for tests that break a file on purpose.
proc done {{option ""}} {
    set problems {}
    tester::disarm
    foreach chan $tester::peers {peer_stop $chan}
    foreach c $tester::cursors {catch {btree_close_cursor $c}}
    foreach page [dict keys $tester::pages] {while {![catch {page_unref $page}]} {}}
    foreach p $tester::pagers {catch {pager_close $p}}
    set tester::pages {}
    set tester::pagers {}
    set idle {}
    foreach b $tester::handles {
        if {![catch {btree_rollback $b} message]} {
            lappend idle $b
        } elseif {![string match "no such btree*" $message] && $option ne "-damaged"} {
            lappend problems "rollback of $b at the end: $message"
        }
    }
    # Pages are pinned for a page cache, which several of them may share.
    foreach b $idle {
        if {[stat $b ref] != 0} {
            lappend problems "$b has [stat $b ref] pinned pages with nothing open"
        }
    }
    foreach b $tester::handles {catch {btree_close $b}}
    set tester::handles {}
    set tester::cursors {}
    tester::work_off
    if {$::sqlite_open_file_count != 0} {
        lappend problems "$::sqlite_open_file_count files are still open"
        set ::sqlite_open_file_count 0
    }
    if {$option ne "-damaged"} {
        foreach file [lsort [glob -nocomplain *.bt *.db]] {
            if {[file isfile $file] && [file size $file] > 0} {
                set result [sound_file $file]
                if {$result ne ""} {lappend problems "$file: $result"}
            }
        }
    }
    set tester::handles {}
    set tester::cursors {}
    foreach name [glob -nocomplain *] {file delete -force $name}
    if {$problems ne ""} {return -code error [join $problems \n]}
}

# ---------------------------------------------------------------------------------------
# Stand-ins for commands that the scripts of 2006 took from the rest of SQLite's test build
# ---------------------------------------------------------------------------------------

# The MD5 digest of a file in lower-case hexadecimal.
proc md5file {file} {
    if {[auto_execok md5sum] ne ""} {return [lindex [exec md5sum $file] 0]}
    return [lindex [exec openssl md5 -r $file] 0]
}
array set sqlite_options {default_autovacuum 0 integrityck 1}
set sqlite3_tsd_count 0

# ---------------------------------------------------------------------------------------
# Start and end of a test file
# ---------------------------------------------------------------------------------------

proc tester::start {} {
    variable scratch
    variable root
    foreach name {TCLBTREE_TEST_DIR TMPDIR} {
        if {[info exists ::env($name)] && [file isdirectory $::env($name)]} {
            set base $::env($name)
            break
        }
    }
    if {![info exists base]} {set base /tmp}
    set scratch [file join $base tclbtree-[file rootname [file tail $::argv0]]-[pid]]
    file delete -force $scratch
    file mkdir $scratch
    load_extension
    trace add execution btree_open leave tester::note_handle
    trace add execution btree_cursor leave tester::note_cursor
    trace add execution pager_open leave tester::note_pager
    foreach command {page_get page_lookup} {trace add execution $command leave tester::note_page}
    uplevel #0 {namespace import -force ::tcltest::test ::tcltest::testConstraint}
    ::tcltest::configure -verbose {body error skip} {*}$::argv
    ::tcltest::configure -tmpdir $scratch
    if {[async_mode] ne ""} {
        start_async [async_mode]
    }
    testConstraint sqlite3cli [expr {[auto_execok sqlite3] ne ""}]
    testConstraint memfail [expr {[info commands ::sqlite3_memdebug_fail] ne ""}]
    # Root can be somebody else where that somebody gets at the directory and at Tcl.
    testConstraint permissions [expr {![catch {exec {*}[as_nobody] \
        sh -c {cd "$0" && test -x "$1"} $scratch [info nameofexecutable]}]}]
    testConstraint md5 [expr {[auto_execok md5sum] ne "" || [auto_execok openssl] ne ""}]
    cd $scratch
}

# The last command of a test file: print the summary, clean up, exit 1 on any failure.
proc finish {} {
    set failed $::tcltest::numTests(Failed)
    cd $tester::root
    ::tcltest::cleanupTests
    file delete -force $tester::scratch
    exit [expr {$failed > 0}]
}

if {[lindex $argv 0] eq "--serve"} {
    tester::load_extension
    tester::serve
    exit
}
tester::start
