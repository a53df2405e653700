# A tour through a real SQLite file, with b-tree commands and without SQL.
#
#   usage: tclsh tcl/demo.tcl ?DATABASE?
#
# Without an argument stock sqlite3 makes a database to look at. The tour never changes a
# database that is named: it reads that one, and changes a copy. All files are in demo-output/.

package require Tcl 8.6-

set here [file dirname [file normalize [info script]]]
set output [file join [file dirname $here] demo-output]
foreach part {load show inspect stock timings behind} {
    source [file join $here demo $part.tcl]
}

# ---------------------------------------------------------------------------------------
# The database
# ---------------------------------------------------------------------------------------

# The file to look at: the one named, or a new one.
proc choose_database {named} {
    if {$named eq ""} {
        show::heading "Stock sqlite3 makes a database"
        set file [file join $::output shop.db]
        show::begin
        stock::make_database $file
        show::say "Three tables, one of them WITHOUT ROWID, an index, long values, deleted rows."
        return $file
    }
    show::heading "The database $named"
    set file [file normalize $named]
    if {![file isfile $file]} {give_up "there is no such file"}
    set channel [open $file rb]
    set header [read $channel 100]
    close $channel
    if {[string range $header 0 15] ne "SQLite format 3\0"} {give_up "it is no SQLite database"}
    binary scan [string range $header 56 59] I encoding
    if {$encoding > 1} {give_up "its text is UTF-16, and this tour speaks only UTF-8"}
    return [expr {[string index $header 19] eq "\x02" ? [without_wal $file] : $file}]
}

proc give_up {why} {
    puts stderr "   $why"
    exit 1
}

# A database in WAL mode may have content in a second file, which this engine does not read.
proc without_wal {file} {
    show::say "It is in WAL mode: stock sqlite3 copies it into one without."
    set copy [file join $::output without-wal.db]
    exec sqlite3 -readonly -batch -bail $file ".backup '$copy'"
    stock::sql $copy {PRAGMA journal_mode = DELETE;}
    return $copy
}

# ---------------------------------------------------------------------------------------
# Looking
# ---------------------------------------------------------------------------------------

proc tour_tables {db} {
    show::heading "Its tables, read from page 1 with this engine"
    show::say "Page 1 is the root of the schema table. Every record there names a b-tree:"
    show::say [first_record $db]
    show::say ""
    set usable [inspect::usable $db]
    set total [pager_pagecount $db]
    set rows [list {name kind root entries depth inner leaf overflow {page use}}]
    set used 0
    set ::walked 0
    show::begin
    foreach tree [inspect::schema $db] {
        lassign [tree_row $db $tree $usable $total] row pages
        lappend rows $row
        incr used $pages
    }
    show::table llrrrrrrl $rows
    set free [lindex [btree_get_meta $db] 0]
    show::say ""
    show::fact "pages of [btree_get_page_size $db] bytes" "$total"
    show::fact "in these trees" "$used"
    show::fact "on the free list" "$free"
    set others [expr {$total - $used - $free}]
    if {$others != 0} {show::fact "others: pointer map, lock page" "$others"}
}

# The first record of the schema as it is parsed, cut to fit on the screen.
proc first_record {db} {
    set cursor [btree_cursor $db 1 0]
    set record {}
    if {![btree_first $cursor]} {set record [btree_parse_record [btree_data $cursor]]}
    btree_close_cursor $cursor
    set text [regsub -all {\s+} $record " "]
    return [expr {[string length $text] > 76 ? "[string range $text 0 72]..." : $text}]
}

# The cells of one line, and how many pages the tree has.
proc tree_row {db tree usable total} {
    set root [dict get $tree root]
    set page [btree_page_info $db $root]
    set sum [inspect::measure $db $root $usable [list page_walked $total]]
    dict with sum {}
    set kind [dict get $tree type]
    if {$kind eq "table" && ![inspect::has_integer_keys $page]} {set kind "without rowid"}
    set row [list [dict get $tree name] $kind $root [inspect::entries $db $root] $depth \
        $interior $leaf $overflow [show::bar [expr {$room - $free}] $room]]
    return [list $row [expr {$interior + $leaf + $overflow}]]
}

proc page_walked {total} {
    show::progress "pages walked" [incr ::walked] $total
}

# Draws the tree that says most in few lines: integer keys and some depth, but not too many pages.
proc tour_drawing {db} {
    set best {}
    set usable [inspect::usable $db]
    foreach tree [inspect::schema $db] {
        set page [btree_page_info $db [dict get $tree root]]
        if {![inspect::has_integer_keys $page]} continue
        set weight [expr {[inspect::is_leaf $page] ? 0 : [dict get $page ncell] + 1}]
        if {$best eq "" || ($weight > 0 && $weight < [lindex $best 0]) || [lindex $best 0] == 0} {
            set best [list $weight $tree]
        }
    }
    set tree [lindex $best 1]
    show::heading "The b-tree of [dict get $tree name], drawn"
    show::say "Cells of an inner page divide the keys of the pages below it."
    set head {place kind cells keys {page use}}
    show::table llrrl [list $head {*}[inspect::draw $db [dict get $tree root] $usable]]
}

# ---------------------------------------------------------------------------------------
# Changing, on a copy
# ---------------------------------------------------------------------------------------

# Makes a table without SQL: a tree, a row of the schema that names it, and a new schema cookie,
# which tells other connections to read the schema again. Returns the root page.
proc make_note_table {db} {
    btree_begin_transaction $db
    set root [btree_create_table $db 5]
    set cursor [btree_cursor $db 1 1]
    set row [expr {[btree_last $cursor] ? 1 : [btree_key $cursor] + 1}]
    set sql "CREATE TABLE tclbtree_note(id INTEGER PRIMARY KEY, line TEXT)"
    btree_insert $cursor $row [btree_make_record {text table} {text tclbtree_note} \
        {text tclbtree_note} [list int $root] [list text $sql]]
    btree_close_cursor $cursor
    set meta [btree_get_meta $db]
    lset meta 1 [expr {[lindex $meta 1] + 1}]
    btree_update_meta $db {*}$meta
    btree_commit $db
    return $root
}

# Inserts rows FIRST to LAST. The integer key is not in the record: its field there is null.
proc insert_notes {db root first last} {
    set cursor [btree_cursor $db $root 1]
    for {set key $first} {$key <= $last} {incr key} {
        btree_insert $cursor $key [btree_make_record null [list text "note number $key"]]
    }
    btree_close_cursor $cursor
}

proc delete_notes {db root keys} {
    set cursor [btree_cursor $db $root 1]
    foreach key $keys {
        if {[btree_move_to $cursor $key] == 0} {btree_delete $cursor}
    }
    btree_close_cursor $cursor
}

proc tour_transaction {db file} {
    show::heading "A transaction on a copy, taken back and then kept"
    set root [make_note_table $db]
    show::fact "made table tclbtree_note without SQL, on page" $root
    btree_begin_transaction $db
    insert_notes $db $root 1 1000
    btree_commit $db
    show::fact "inserted and committed" "[inspect::entries $db $root] rows"
    set before [fingerprint $file]

    btree_begin_transaction $db
    insert_notes $db $root 1001 1500
    delete_notes $db $root {1 2 3 4 5}
    show::fact "transaction: 500 rows in, 5 rows out" "[inspect::entries $db $root] rows"
    btree_begin_statement $db
    btree_clear_table $db $root
    show::fact "  statement: everything deleted" "[inspect::entries $db $root] rows"
    btree_rollback_statement $db
    show::fact "  statement rolled back" "[inspect::entries $db $root] rows"
    btree_rollback $db
    show::fact "transaction rolled back" "[inspect::entries $db $root] rows"
    show::fact "the file, byte for byte" \
        [expr {[fingerprint $file] eq $before ? "as before" : "CHANGED"}]

    btree_begin_transaction $db
    delete_notes $db $root {1 2 3 4 5}
    insert_notes $db $root 1001 1500
    btree_commit $db
    show::fact "the same once more, and committed" "[inspect::entries $db $root] rows"
    show::fact "stock sqlite3 reads" [stock::sql $file {
        SELECT count(*) || ' rows, ' || min(id) || ' to ' || max(id) FROM tclbtree_note;
    }]
    show::fact "  and the last one" [stock::sql $file {
        SELECT line FROM tclbtree_note ORDER BY id DESC LIMIT 1;
    }]
    return $root
}

# Size and checksum of a file.
proc fingerprint {file} {
    set channel [open $file rb]
    set content [read $channel]
    close $channel
    return "[string length $content] bytes, crc [format %08x [zlib crc32 $content]]"
}

# ---------------------------------------------------------------------------------------
# Crashing and recovering
# ---------------------------------------------------------------------------------------

proc tour_crash {file} {
    show::heading "Killed in the middle of a commit, and recovered"
    show::say "A second process changes every row with a cache of ten pages, so that changed pages"
    show::say "reach the file early. Their originals are in the journal, and it is killed there."
    show::say ""
    set db [btree_open $file 100 0]
    set root [make_victim_rows $db]
    btree_close $db
    set before [fingerprint $file]
    show::fact "before" $before
    show::begin
    show::fact "the second process" [run_victim $file $root]
    show::fact "killed; the file now" [fingerprint $file]
    show::fact "the journal it left" [show::bytes [file size $file-journal]]

    set twin [file join $::output crashed-for-stock.db]
    file copy -force $file $twin
    file copy -force $file-journal $twin-journal
    set db [btree_open $file 100 0]
    btree_get_meta $db
    btree_close $db
    show::fact "this engine opens it" [verdict $file $before]
    stock::sql $twin {SELECT count(*) FROM sqlite_master;}
    show::fact "stock sqlite3 opens a twin of the wreck" [verdict $twin $before]
}

# Rows 1 to 5000 of the note table, enough that changing them all cannot stay in a small cache.
proc make_victim_rows {db} {
    foreach tree [inspect::schema $db] {
        if {[dict get $tree name] eq "tclbtree_note"} {set root [dict get $tree root]}
    }
    btree_begin_transaction $db
    insert_notes $db $root 1 5000
    btree_commit $db
    return $root
}

# Starts the victim, waits until it has written part of its transaction, and kills it.
proc run_victim {file root} {
    set script [file join $::here demo victim.tcl]
    set child [open |[list [info nameofexecutable] $script $file $root] r+]
    set report [gets $child]
    # The shell has `kill` built in; a minimal system has no other.
    exec sh -c "kill -9 [pid $child]"
    catch {close $child}
    return $report
}

proc verdict {file before} {
    if {[file exists $file-journal]} {return "NOT RECOVERED: the journal is still there"}
    if {[fingerprint $file] ne $before} {return "NOT RECOVERED: the content differs"}
    return "recovered, byte for byte as before"
}

# ---------------------------------------------------------------------------------------
# Writing behind
# ---------------------------------------------------------------------------------------

proc tour_behind {} {
    show::heading "Commits that do not wait for the disk"
    show::table lrrrr [behind::table $::output]
    show::say ""
    show::say "Commits beside a writer that pauses for a millisecond after each operation:"
    lassign [behind::fill_and_drain [file join $::output stream.db]] commits filled operations \
        bytes drained
    show::fact "$commits commits, in" "$filled ms"
    show::fact "the queue then" "$operations operations, [show::bytes $bytes]"
    show::fact "drained in" "$drained ms"

    show::heading "Killed with half of the queue done"
    set file [file join $::output killed.db]
    foreach line [behind::kill_in_mid_queue $file] {show::fact "the second process" $line}
    set twin [file join $::output killed-for-stock.db]
    file copy -force $file $twin
    if {[file exists $file-journal]} {
        file copy -force $file-journal $twin-journal
        show::fact "it left a journal" [show::bytes [file size $file-journal]]
    }
    sqlite3async_enable 0
    show::fact "this engine opens it" [behind::by_this_engine $file]
    show::fact "stock sqlite3 opens a twin of the wreck" [behind::by_stock $twin]
}

# ---------------------------------------------------------------------------------------
# Checking and measuring
# ---------------------------------------------------------------------------------------

proc tour_check {file} {
    show::heading "The integrity check of both engines"
    set db [btree_open $file 1000 0]
    set roots {}
    foreach tree [inspect::schema $db] {lappend roots [dict get $tree root]}
    set messages [btree_integrity_check $db {*}$roots]
    btree_close $db
    show::fact "this engine" [expr {$messages eq "" ? "ok" : $messages}]
    show::fact "stock sqlite3" [stock::check $file]
}

proc tour_timings {} {
    show::heading "First timings, 20 000 rows of 100 bytes, from Tcl"
    show::table lrr [timings::table $::output]
    if {![stock::has_package]} {
        show::say "(with the Tcl package sqlite3 there would be a column for stock SQLite)"
    }
    show::say "`make bench` compares the engines themselves, without Tcl and SQL."
}

proc main {named} {
    file delete -force $::output
    file mkdir $::output
    puts "tclbtree in Tcl [info patchlevel], beside stock sqlite3 [stock::version]"

    set file [choose_database $named]
    set db [btree_open $file 1000 0]
    show::fact "[file tail $file]" [show::bytes [file size $file]]
    btree_begin_trans $db 0
    tour_tables $db
    tour_drawing $db
    btree_close $db

    set copy [file join $::output copy.db]
    file copy -force $file $copy
    set db [btree_open $copy 1000 0]
    tour_transaction $db $copy
    btree_close $db
    tour_crash $copy
    tour_check $copy
    tour_behind
    tour_timings
    puts "\nThe files are in [file tail $::output]/; the script is tcl/demo.tcl."
}

main [lindex $argv 0]
