# What the tests of pagers by themselves are written with.

# The nine counters of a pager, without their names; and one of them.
proc stats {p} {return [dict values [pager_stats $p]]}
proc pstat {p name} {return [dict get [pager_stats $p] $name]}

# The lengths of a file and its journal.
proc sizes {file} {
    set journal $file-journal
    return [list [file size $file] [expr {[file exists $journal] ? [file size $journal] : "-"}]]
}

# Write a text `WORD-NUMBER` to each page from one number to another; none stays held.
proc write_pages {p from to word} {
    for {set i $from} {$i <= $to} {incr i} {
        set page [page_get $p $i]
        page_write $page $word-$i
        page_unref $page
    }
}

# Make a file of so many pages, `old-1` and so on, with a counter that has no bytes set.
proc make_file {file pages} {
    set data ""
    for {set i 1} {$i <= $pages} {incr i} {append data [binary format a1024 old-$i]}
    spit $file $data
}

# The texts of the first pages of a file, read through a pager of its own.
proc texts {file pages} {
    set p [pager_open $file 10]
    set one [page_get $p 1]
    set list {}
    for {set i 1} {$i <= $pages} {incr i} {
        set page [page_get $p $i]
        lappend list [page_read $page]
        page_unref $page
    }
    pager_close $p
    return $list
}
