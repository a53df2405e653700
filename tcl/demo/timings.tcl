# A first impression of speed: the same work through this engine's commands and through the SQL
# of stock SQLite, both from Tcl. `make bench` measures the engines themselves.

namespace eval timings {
    variable rows 20000
    variable value [string repeat "0123456789" 10]
}

# Microseconds per row of a script that handles all of them.
proc timings::per_row {script} {
    variable rows
    set started [clock microseconds]
    uplevel 1 $script
    return [expr {([clock microseconds] - $started) / double($rows)}]
}

# All keys from 1 to the number of rows in an order that looks random.
proc timings::scrambled {} {
    variable rows
    set keys {}
    for {set i 0} {$i < $rows} {incr i} {lappend keys [expr {$i * 7919 % $rows + 1}]}
    return $keys
}

proc timings::ours {file} {
    variable rows
    variable value
    set db [btree_open $file 20000 0]
    btree_begin_transaction $db
    set root [btree_create_table $db 5]
    set cursor [btree_cursor $db $root 1]
    set insert [per_row {
        for {set key 1} {$key <= $rows} {incr key} {btree_insert $cursor $key $value}
        btree_commit $db
    }]
    set keys [scrambled]
    set get [per_row {
        foreach key $keys {
            btree_move_to $cursor $key
            btree_data $cursor
        }
    }]
    set scan [per_row {
        for {set end [btree_first $cursor]} {!$end} {set end [btree_next $cursor]} {
            btree_key $cursor
            btree_data $cursor
        }
    }]
    btree_close $db
    return [list $insert $get $scan]
}

proc timings::stock {file} {
    variable rows
    variable value
    sqlite3 ::timings::db $file
    db eval {PRAGMA page_size = 1024; PRAGMA cache_size = 20000}
    db eval {CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT); BEGIN}
    set insert [per_row {
        for {set key 1} {$key <= $rows} {incr key} {db eval {INSERT INTO t VALUES($key, $value)}}
        db eval COMMIT
    }]
    set keys [scrambled]
    set get [per_row {
        foreach key $keys {db onecolumn {SELECT v FROM t WHERE k = $key}}
    }]
    set scan [per_row {
        db eval {SELECT k, v FROM t} {}
    }]
    db close
    return [list $insert $get $scan]
}

# The table for the screen: one row per workload.
proc timings::table {directory} {
    set ours [ours [file join $directory ours.db]]
    set head [list "microseconds per row" "b-tree commands"]
    set columns [list $ours]
    if {[stock::has_package]} {
        lappend head "stock, SQL"
        lappend columns [stock [file join $directory stock.db]]
    }
    set rows [list $head]
    set index 0
    foreach name {"insert in order, one commit" "get in random order" "scan"} {
        set row [list $name]
        foreach column $columns {lappend row [format %.2f [lindex $column $index]]}
        lappend rows $row
        incr index
    }
    return $rows
}
