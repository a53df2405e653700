# Reading a database with nothing but b-tree commands: the schema from page 1, and the shape of
# a tree from its pages.

namespace eval inspect {}

# The schema: one dict per table and index that has a b-tree, the schema table itself first.
# Page 1 is the root of that table; its records hold type, name, table, root page and SQL.
proc inspect::schema {db} {
    set trees [list {type table name sqlite_schema root 1 sql {}}]
    set cursor [btree_cursor $db 1 0]
    for {set end [btree_first $cursor]} {!$end} {set end [btree_next $cursor]} {
        lassign [btree_parse_record [btree_data $cursor]] type name table root sql
        set page [lindex $root 1]
        if {[lindex $root 0] ne "int" || $page == 0} continue
        lappend trees [dict create type [lindex $type 1] name [lindex $name 1] \
            root $page sql [lindex $sql 1]]
    }
    btree_close_cursor $cursor
    return $trees
}

# Bytes of a page that its b-tree may use.
proc inspect::usable {db} {
    return [expr {[btree_get_page_size $db] - [btree_get_reserve $db]}]
}

# Pages that hold the part of a payload which does not fit into its cell.
proc inspect::overflow_pages {cell usable} {
    set rest [expr {[dict get $cell payload] - [dict get $cell local]}]
    return [expr {($rest + $usable - 5) / ($usable - 4)}]
}

proc inspect::is_leaf {page} {
    return [expr {([dict get $page type] & 8) != 0}]
}

# Integer keys have bit 0 in the type byte of a page.
proc inspect::has_integer_keys {page} {
    return [expr {([dict get $page type] & 1) != 0}]
}

# The children of an interior page, left to right.
proc inspect::children {page} {
    set numbers {}
    foreach cell [dict get $page cells] {lappend numbers [dict get $cell child]}
    return [lappend numbers [dict get $page right]]
}

# Walks a tree and counts: a dict with depth, interior, leaf and overflow pages, the bytes that
# all its nodes have for cells, and how many of them are free. `visit` is called for each page.
proc inspect::measure {db root usable {visit {}}} {
    set sum {depth 0 interior 0 leaf 0 overflow 0 room 0 free 0}
    set level [list $root]
    while {[llength $level] > 0} {
        dict incr sum depth
        set below {}
        foreach number $level {
            set page [btree_page_info $db $number]
            sum_page sum $page $number $usable
            if {![is_leaf $page]} {lappend below {*}[children $page]}
            if {$visit ne ""} {{*}$visit}
        }
        set level $below
    }
    return $sum
}

proc inspect::sum_page {var page number usable} {
    upvar 1 $var sum
    dict incr sum [expr {[is_leaf $page] ? "leaf" : "interior"}]
    # Page 1 begins with the header of the file, and every node with one of its own.
    set header [expr {([is_leaf $page] ? 8 : 12) + ($number == 1 ? 100 : 0)}]
    dict incr sum room [expr {$usable - $header}]
    dict incr sum free [dict get $page free]
    foreach cell [dict get $page cells] {
        if {[dict get $cell overflow] != 0} {
            dict incr sum overflow [overflow_pages $cell $usable]
        }
    }
}

# Number of entries, counted by the engine.
proc inspect::entries {db root} {
    set cursor [btree_cursor $db $root 0]
    set count [btree_count $cursor]
    btree_close_cursor $cursor
    return $count
}

# A tree as rows of a table: the page, indented below its parent, and what is on it. Of each page at
# most `most` children are drawn.
proc inspect::draw {db root usable {most 6}} {
    set page [btree_page_info $db $root]
    set rows [list [node "page $root" $page $root $usable]]
    draw_children $db $page $usable $most "" rows
    return $rows
}

proc inspect::draw_children {db page usable most margin rowsvar} {
    upvar 1 $rowsvar rows
    if {[is_leaf $page]} return
    set numbers [children $page]
    set left_out [expr {[llength $numbers] - $most}]
    if {$left_out > 0} {
        # The first ones, a gap, and the last.
        set numbers [concat [lrange $numbers 0 $most-3] {{}} [lrange $numbers end-1 end]]
    }
    set last [expr {[llength $numbers] - 1}]
    set index 0
    foreach number $numbers {
        set is_last [expr {$index == $last}]
        incr index
        if {$number eq ""} {
            lappend rows [list "$margin|   ... [expr {$left_out + 1}] more" "" "" "" ""]
            continue
        }
        set child [btree_page_info $db $number]
        lappend rows [node "$margin+-- page $number" $child $number $usable]
        set inner $margin[expr {$is_last ? "    " : "|   "}]
        draw_children $db $child $usable [expr {max(3, $most / 2)}] $inner rows
    }
}

# What is on one page: a row with its place in the drawing, kind, cells, keys and use.
proc inspect::node {place page number usable} {
    set cells [dict get $page cells]
    set keys ""
    if {[llength $cells] > 0 && [has_integer_keys $page]} {
        set keys "[dict get [lindex $cells 0] key] to [dict get [lindex $cells end] key]"
    }
    set header [expr {([is_leaf $page] ? 8 : 12) + ($number == 1 ? 100 : 0)}]
    set room [expr {$usable - $header}]
    return [list $place [expr {[is_leaf $page] ? "leaf" : "inner"}] [llength $cells] $keys \
        [show::bar [expr {$room - [dict get $page free]}] $room]]
}
