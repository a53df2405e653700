# What a script waits for: these commands beside those of the stock sqlite3 package, doing the same
# work, in one process.
#
#   usage: tclsh bench/tcl.tcl ?-entries N? ?-rounds N? ?-dir PATH?
#
# Prints a Markdown table: nanoseconds per operation, the loop of the script included, the median of
# the rounds, and in parentheses the ratio to `db eval` (`get_onecolumn`: to `db onecolumn`,
# `exists`: to `db exists`). What both read is compared. Entries have 100 bytes; files have pages of
# 4096 bytes, nothing is synced but in the row of commits.

package require Tcl 8.6-

namespace eval bench {
    variable options [dict create -entries 100000 -rounds 5 -dir [pwd]]
    variable times
    variable sums
}

proc bench::load_ours {} {
    if {[info exists ::env(TCLBTREE_LIBRARY)] && $::env(TCLBTREE_LIBRARY) ne ""} {
        load [file normalize $::env(TCLBTREE_LIBRARY)] Tclbtree
    } else {
        lappend ::auto_path [file dirname [file dirname [file normalize [info script]]]]
        package require tclbtree
    }
}

# The entries: keys 1 to n and n keys of 16 bytes, both in one fixed random order, and a value each.
proc bench::make_data {n} {
    variable order
    variable keys
    variable value [string repeat "0123456789" 10]
    set state 42
    for {set i 1} {$i <= $n} {incr i} {lappend order $i}
    for {set i [expr {$n - 1}]} {$i > 0} {incr i -1} {
        set state [expr {($state * 6364136223846793005 + 1442695040888963407) & 0xffffffffffffffff}]
        set j [expr {($state >> 33) % ($i + 1)}]
        set old [lindex $order $i]
        lset order $i [lindex $order $j]
        lset order $j $old
    }
    # New numbers, which lie in memory as they follow each other: a loop over the shuffled ones would
    # wait for them at each step, whatever it calls.
    set order [lmap i $order {expr {$i + 0}}]
    foreach i $order {
        set mixed [expr {($i * 0x9e3779b97f4a7c15) & 0xffffffffffffffff}]
        lappend keys [binary format WW $mixed [expr {$mixed ^ 0x5555555555555555}]]
    }
}

# Times `body`, which does `count` operations and returns what it read, for `store`: the body of a
# procedure, in which variables are found as in a program; `names` are the caller's that it uses.
proc bench::row {store name count names body} {
    variable times
    variable sums
    set lambda [list $names $body ::bench]
    set values [lmap variable $names {uplevel 1 [list set $variable]}]
    set began [clock microseconds]
    set sum [apply $lambda {*}$values]
    dict lappend times $name,$store [expr {([clock microseconds] - $began) * 1000.0 / $count}]
    dict lappend sums $name $sum
}

proc bench::fresh {name} {
    variable options
    set path [file join [dict get $options -dir] bench-tcl-$name.db]
    file delete $path $path-journal
    return $path
}

# ---- this package

proc bench::ours_open {path} {
    set b [btree_open $path 100000 0]
    btree_set_page_size $b 4096 -1 0
    btree_set_safety_level $b 1 0
    return $b
}

proc bench::run_ours {} {
    variable order
    variable keys
    variable value
    set n [llength $order]
    set path [fresh ours]
    set b [ours_open $path]
    btree_begin_transaction $b
    set root [btree_create_table $b 5]
    set sorted [btree_create_table $b 5]
    set strings [btree_create_table $b 0]
    btree_commit $b

    row ours seq_ins $n {b sorted value n} {
        btree_begin_transaction $b
        set c [btree_cursor $b $sorted 1]
        for {set i 1} {$i <= $n} {incr i} {btree_insert $c $i $value}
        btree_close_cursor $c
        btree_commit $b
    }
    row ours rnd_ins $n {b root order value} {
        btree_begin_transaction $b
        set c [btree_cursor $b $root 1]
        foreach i $order {btree_insert $c $i $value}
        btree_close_cursor $c
        btree_commit $b
    }
    row ours rnd_ins_key16 $n {b strings keys value} {
        btree_begin_transaction $b
        set c [btree_cursor $b $strings 1]
        foreach key $keys {btree_insert $c $key $value}
        btree_close_cursor $c
        btree_commit $b
    }
    set c [btree_cursor $b $root 0]
    set length 0
    # Two rows of the stock package have this one beside them.
    foreach name {get get_onecolumn} {
        row ours $name $n {c order length} {
            foreach i $order {
                btree_move_to $c $i
                incr length [string length [btree_data $c]]
            }
            set length
        }
    }
    set length 0
    row ours get_seq $n {c n length} {
        for {set i 1} {$i <= $n} {incr i} {
            btree_move_to $c $i
            incr length [string length [btree_data $c]]
        }
        set length
    }
    set found 0
    row ours exists $n {c order found} {
        foreach i $order {incr found [expr {[btree_move_to $c $i] == 0}]}
        set found
    }
    set length 0
    row ours scan $n {c length} {
        for {set end [btree_first $c]} {!$end} {set end [btree_next $c]} {
            incr length [btree_key $c]
            incr length [string length [btree_data $c]]
        }
        set length
    }
    btree_close_cursor $c
    set c [btree_cursor $b $strings 0]
    set length 0
    row ours get_key16 $n {c keys length} {
        foreach key $keys {
            btree_move_to $c $key
            incr length [string length [btree_data $c]]
        }
        set length
    }
    btree_close_cursor $c
    set other [string reverse $value]
    row ours overwrite $n {b root order other} {
        btree_begin_transaction $b
        set c [btree_cursor $b $root 1]
        foreach i $order {btree_insert $c $i $other}
        btree_close_cursor $c
        btree_commit $b
    }
    row ours delete $n {b root order} {
        btree_begin_transaction $b
        set c [btree_cursor $b $root 1]
        foreach i $order {
            btree_move_to $c $i
            btree_delete $c
        }
        btree_close_cursor $c
        btree_commit $b
    }
    btree_set_safety_level $b 3 0
    row ours commit1_full_delete 100 {b root value} {
        for {set i 1} {$i <= 100} {incr i} {
            btree_begin_transaction $b
            set c [btree_cursor $b $root 1]
            btree_insert $c $i $value
            btree_close_cursor $c
            btree_commit $b
        }
    }
    btree_close $b
    file delete $path

    set b [btree_open :memory: 100000 0]
    btree_begin_transaction $b
    set root [btree_create_table $b 5]
    set c [btree_cursor $b $root 1]
    row ours mem_seq_ins $n {c value n} {
        for {set i 1} {$i <= $n} {incr i} {btree_insert $c $i $value}
    }
    set length 0
    row ours mem_get $n {c order length} {
        foreach i $order {
            btree_move_to $c $i
            incr length [string length [btree_data $c]]
        }
        set length
    }
    btree_close_cursor $c
    btree_commit $b
    btree_close $b
}

# ---- the stock package

proc bench::run_stock {} {
    variable order
    variable keys
    variable value
    set n [llength $order]
    set path [fresh stock]
    sqlite3 db $path
    db eval {PRAGMA page_size = 4096; PRAGMA cache_size = 100000; PRAGMA synchronous = OFF}
    db eval {
        CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB);
        CREATE TABLE sorted(k INTEGER PRIMARY KEY, v BLOB);
        CREATE TABLE strings(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID;
    }
    # The values as blobs, so that nothing is converted: db eval looks at the representation.
    set value [binary format a* $value]
    row stock seq_ins $n {value n} {
        db eval BEGIN
        for {set i 1} {$i <= $n} {incr i} {db eval {INSERT INTO sorted VALUES($i, @value)}}
        db eval COMMIT
    }
    row stock rnd_ins $n {order value} {
        db eval BEGIN
        foreach i $order {db eval {INSERT INTO t VALUES($i, @value)}}
        db eval COMMIT
    }
    row stock rnd_ins_key16 $n {keys value} {
        db eval BEGIN
        foreach key $keys {db eval {INSERT INTO strings VALUES(@key, @value)}}
        db eval COMMIT
    }
    db eval BEGIN
    set length 0
    row stock get $n {order length} {
        foreach i $order {db eval {SELECT v FROM t WHERE k = $i} {incr length [string length $v]}}
        set length
    }
    set length 0
    row stock get_onecolumn $n {order length} {
        foreach i $order {
            incr length [string length [db onecolumn {SELECT v FROM t WHERE k = $i}]]
        }
        set length
    }
    set length 0
    row stock get_seq $n {n length} {
        for {set i 1} {$i <= $n} {incr i} {
            db eval {SELECT v FROM t WHERE k = $i} {incr length [string length $v]}
        }
        set length
    }
    set found 0
    row stock exists $n {order found} {
        foreach i $order {incr found [db exists {SELECT 1 FROM t WHERE k = $i}]}
        set found
    }
    set length 0
    row stock scan $n {length} {
        db eval {SELECT k, v FROM t ORDER BY k} {
            incr length $k
            incr length [string length $v]
        }
        set length
    }
    set length 0
    row stock get_key16 $n {keys length} {
        foreach key $keys {
            db eval {SELECT v FROM strings WHERE k = @key} {incr length [string length $v]}
        }
        set length
    }
    db eval COMMIT
    set other [binary format a* [string reverse $value]]
    row stock overwrite $n {order other} {
        db eval BEGIN
        foreach i $order {db eval {UPDATE t SET v = @other WHERE k = $i}}
        db eval COMMIT
    }
    row stock delete $n {order} {
        db eval BEGIN
        foreach i $order {db eval {DELETE FROM t WHERE k = $i}}
        db eval COMMIT
    }
    db eval {PRAGMA synchronous = FULL}
    row stock commit1_full_delete 100 {value} {
        for {set i 1} {$i <= 100} {incr i} {db eval {INSERT INTO t VALUES($i, @value)}}
    }
    db close
    file delete $path

    sqlite3 db :memory:
    db eval {CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB); BEGIN}
    row stock mem_seq_ins $n {value n} {
        for {set i 1} {$i <= $n} {incr i} {db eval {INSERT INTO t VALUES($i, @value)}}
    }
    set length 0
    row stock mem_get $n {order length} {
        foreach i $order {
            incr length [string length [db onecolumn {SELECT v FROM t WHERE k = $i}]]
        }
        set length
    }
    db eval COMMIT
    db close
}

# ---- the report

proc bench::median {values} {
    return [lindex [lsort -real $values] [expr {[llength $values] / 2}]]
}

proc bench::report {} {
    variable times
    variable sums
    set names [lmap key [dict keys $times *,ours] {string range $key 0 end-5}]
    puts "| row | sqlite3 | tclbtree |\n|---|---:|---:|"
    foreach name $names {
        if {[llength [lsort -unique [dict get $sums $name]]] != 1} {
            error "$name: what was read differs: [dict get $sums $name]"
        }
        set ours [median [dict get $times $name,ours]]
        if {[dict exists $times $name,stock]} {
            set stock [median [dict get $times $name,stock]]
            puts [format "| %s | %.0f (1.00) | %.0f (%.2f) |" $name $stock $ours \
                [expr {$ours / $stock}]]
        } else {
            puts [format "| %s | | %.0f |" $name $ours]
        }
    }
}

proc bench::main {arguments} {
    variable options
    variable times [dict create]
    variable sums [dict create]
    foreach {option value} $arguments {
        if {![dict exists $options $option]} {
            error "unknown option $option: -entries N, -rounds N or -dir PATH"
        }
        dict set options $option $value
    }
    load_ours
    set has_stock [expr {![catch {package require sqlite3} version]}]
    if {$has_stock} {
        puts "Tcl [info patchlevel], sqlite3 $version; ns per operation\n"
    } else {
        puts "SKIPPED sqlite3: the package is not installed\n"
    }
    make_data [dict get $options -entries]
    # One round that does not count.
    for {set round 0} {$round <= [dict get $options -rounds]} {incr round} {
        if {$has_stock && $round % 2} run_stock
        run_ours
        if {$has_stock && $round % 2 == 0} run_stock
        if {$round == 0} {set times [dict create]}
    }
    report
}

bench::main $argv
