# A reader of database files in plain Tcl, written from the file format alone, so that tests
# can compare what the engine says with what is on disk. Loaded by the files that need it.

namespace eval image {
    variable data ""    ;# the whole file
    variable size 0     ;# page size in bytes
    variable usable 0   ;# page size less the reserved bytes
    variable pages 0    ;# number of pages in the file
}

# Read a closed file into memory; the other commands work on it.
proc image::read_file {file} {
    variable data
    variable size
    variable usable
    variable pages
    set data [slurp $file]
    set size [u16 16]
    if {$size == 1} {set size 65536}
    set usable [expr {$size - [u8 20]}]
    set pages [expr {[string length $data] / $size}]
}

proc image::u8 {at} {
    variable data
    binary scan $data @${at}cu value
    return $value
}
proc image::u16 {at} {
    variable data
    binary scan $data @${at}Su value
    return $value
}
proc image::u32 {at} {
    variable data
    binary scan $data @${at}Iu value
    return $value
}

# {value length} of the variable-length integer at a byte of the file.
proc image::varint {at} {
    set value 0
    for {set n 0} {$n < 8} {incr n} {
        set byte [u8 [expr {$at + $n}]]
        set value [expr {($value << 7) | ($byte & 127)}]
        if {$byte < 128} {return [list $value [incr n]]}
    }
    set value [expr {($value << 8) | [u8 [expr {$at + 8}]]}]
    return [list [expr {$value >= 1 << 63 ? $value - (1 << 64) : $value}] 9]
}

# How many of TOTAL payload bytes lie on a page of this type byte.
proc image::local {type total} {
    variable usable
    set most [expr {$type & 4 ? $usable - 35 : ($usable - 12) * 64 / 255 - 23}]
    if {$total <= $most} {return $total}
    set least [expr {($usable - 12) * 32 / 255 - 23}]
    set kept [expr {$least + ($total - $least) % ($usable - 4)}]
    return [expr {$kept <= $most ? $kept : $least}]
}

# One cell: offset in the page, size, child, key (integer, or byte length), payload length,
# bytes on the page, first overflow page, and the local payload itself.
proc image::cell {start type offset} {
    variable data
    set at [expr {$start + $offset}]
    set child 0
    set leaf [expr {($type & 8) != 0}]
    if {!$leaf} {
        set child [u32 $at]
        incr at 4
    }
    set integer [expr {($type & 5) != 0}]
    set has_data [expr {!($type & 2) && !(!$leaf && ($type & 4))}]
    set ndata 0
    if {$has_data} {
        lassign [varint $at] ndata n
        incr at $n
    }
    lassign [varint $at] key n
    incr at $n
    set total [expr {$integer ? $ndata : $ndata + $key}]
    set local [local $type $total]
    set payload [string range $data $at [expr {$at + $local - 1}]]
    incr at $local
    set overflow 0
    if {$local < $total} {
        set overflow [u32 $at]
        incr at 4
    }
    set cell_size [expr {max(4, $at - $start - $offset)}]
    return [dict create offset $offset size $cell_size child $child key $key total $total \
        local $local overflow $overflow payload $payload]
}

# A b-tree page: type, ncell, freeblock, content, frag, right, free, blocks and cells.
proc image::node {page} {
    variable size
    variable usable
    set start [expr {($page - 1) * $size}]
    set h [expr {$page == 1 ? 100 : 0}]
    set at [expr {$start + $h}]
    set type [u8 $at]
    set ncell [u16 [expr {$at + 3}]]
    set content [u16 [expr {$at + 5}]]
    if {$content == 0} {set content 65536}
    set right 0
    set head 8
    if {!($type & 8)} {
        set right [u32 [expr {$at + 8}]]
        set head 12
    }
    set cells {}
    for {set i 0} {$i < $ncell} {incr i} {
        lappend cells [cell $start $type [u16 [expr {$at + $head + 2 * $i}]]]
    }
    set frag [u8 [expr {$at + 7}]]
    set blocks {}
    set free [expr {$frag + $content - $h - $head - 2 * $ncell}]
    set first [u16 [expr {$at + 1}]]
    for {set b $first} {$b != 0} {set b [u16 [expr {$start + $b}]]} {
        set n [u16 [expr {$start + $b + 2}]]
        lappend blocks $b $n
        incr free $n
    }
    return [dict create type $type ncell $ncell freeblock $first content $content frag $frag \
        right $right free $free blocks $blocks cells $cells head [expr {$h + $head}]]
}

# Children of an interior page, in key order.
proc image::children {node} {
    if {[dict get $node type] & 8} {return {}}
    set list {}
    foreach cell [dict get $node cells] {lappend list [dict get $cell child]}
    lappend list [dict get $node right]
    return $list
}

# Pages of the overflow chain of a cell, in order; the chain must end where it should.
proc image::chain {cell} {
    variable size
    variable usable
    set list {}
    set page [dict get $cell overflow]
    set left [expr {[dict get $cell total] - [dict get $cell local]}]
    while {$left > 0} {
        lappend list $page
        set page [u32 [expr {($page - 1) * $size}]]
        incr left [expr {4 - $usable}]
    }
    if {$list ne "" && $page != 0} {error "chain of [lindex $list 0] goes on to page $page"}
    return $list
}

# Whole payload of a cell.
proc image::payload {cell} {
    variable data
    variable size
    variable usable
    set all [dict get $cell payload]
    foreach page [chain $cell] {
        set at [expr {($page - 1) * $size + 4}]
        append all [string range $data $at [expr {$at + $usable - 5}]]
    }
    return [string range $all 0 [dict get $cell total]-1]
}

# All free pages, trunks included, trunk before its leaves.
proc image::free_list {} {
    variable size
    variable usable
    set list {}
    for {set trunk [u32 32]} {$trunk != 0} {set trunk [u32 $start]} {
        set start [expr {($trunk - 1) * $size}]
        lappend list $trunk
        set count [u32 [expr {$start + 4}]]
        if {$count > $usable / 4 - 8} {error "trunk $trunk lists $count leaves"}
        for {set i 0} {$i < $count} {incr i} {lappend list [u32 [expr {$start + 8 + 4 * $i}]]}
    }
    if {[llength $list] != [u32 36]} {error "free count [u32 36], found [llength $list]"}
    return $list
}

# Walk a tree. USE is an array of page -> {type parent} in the terms of the pointer map; a page
# used twice is an error, as are leaves at different depths, a node whose bytes are not exactly
# covered, or entries out of order. Returns the entries in order: integer keys, or whole keys.
proc image::walk {root usevar} {
    upvar 1 $usevar use
    set depth -1
    set list [tree $root 0 0 use depth]
    if {$root == 1} {unset use(1)} else {set use($root) {1 0}}
    for {set i 1} {$i < [llength $list]} {incr i} {
        set a [lindex $list $i-1]
        set b [lindex $list $i]
        if {[lindex $a 0] eq "i" ? [lindex $a 1] >= [lindex $b 1]
            : [string compare [lindex $a 1] [lindex $b 1]] >= 0} {
            error "entries out of order in tree $root: $a, $b"
        }
    }
    return [lmap entry $list {lindex $entry 1}]
}

proc image::tree {page parent level usevar depthvar} {
    upvar 1 $usevar use $depthvar depth
    if {[info exists use($page)]} {error "page $page used twice"}
    set use($page) [list 5 $parent]
    set node [node $page]
    cover $page $node
    set type [dict get $node type]
    set leafdata [expr {($type & 4) != 0}]
    if {$type & 8} {
        if {$depth < 0} {set depth $level}
        if {$depth != $level} {error "leaf $page at depth $level, others at $depth"}
    } elseif {[dict get $node ncell] == 0 && $page != 1} {
        error "interior page $page has no cell"
    }
    set list {}
    foreach cell [dict get $node cells] {
        set previous $page
        set kind 3
        foreach o [chain $cell] {
            if {[info exists use($o)]} {error "page $o used twice"}
            set use($o) [list $kind $previous]
            set kind 4
            set previous $o
        }
        if {!($type & 8)} {
            lappend list {*}[tree [dict get $cell child] $page [expr {$level + 1}] use depth]
            if {$leafdata && $list ne ""
                && [lindex $list end 1] > [dict get $cell key]} {
                error "divider [dict get $cell key] on page $page is too small"
            }
        }
        if {($type & 8) || !$leafdata} {
            if {$type & 5} {
                lappend list [list i [dict get $cell key]]
            } else {
                lappend list [list b [string range [payload $cell] 0 [dict get $cell key]-1]]
            }
        }
    }
    if {!($type & 8)} {
        lappend list {*}[tree [dict get $node right] $page [expr {$level + 1}] use depth]
    }
    return $list
}

# Every byte of the content area is in one cell, one free block, or a counted fragment.
proc image::cover {page node} {
    variable usable
    set pieces {}
    foreach cell [dict get $node cells] {
        lappend pieces [list [dict get $cell offset] [dict get $cell size]]
    }
    set last 0
    foreach {at n} [dict get $node blocks] {
        if {$at <= $last || $n < 4} {error "free block $at of page $page"}
        lappend pieces [list $at $n]
        set last [expr {$at + $n}]
    }
    set at [dict get $node content]
    set frag 0
    foreach piece [lsort -integer -index 0 $pieces] {
        lassign $piece offset n
        if {$offset < $at} {error "page $page: byte $offset used twice"}
        incr frag [expr {$offset - $at}]
        set at [expr {$offset + $n}]
    }
    if {$at > $usable} {error "page $page: cells run to $at"}
    incr frag [expr {$usable - $at}]
    if {$frag != [dict get $node frag]} {error "page $page: $frag fragments"}
}

# The map page that holds the entry of a page, in an auto-vacuum file.
proc image::map_of {page} {
    variable size
    variable usable
    set group [expr {$usable / 5 + 1}]
    set map [expr {($page - 2) / $group * $group + 2}]
    if {$map == $::sqlite_pending_byte / $size + 1} {incr map}
    return $map
}

# Read a closed file, account for every page of it, and compare the pointer map if it has one.
# Returns an empty string, or what is wrong.
proc image::audit {file roots} {
    if {[catch {
        read_file $file
        account $roots
    } message]} {
        return $message
    }
    return ""
}

proc image::account {roots} {
    variable size
    variable pages
    variable usable
    variable data
    if {[string length $data] % $size} {error "[string length $data] bytes, page size $size"}
    array set use {}
    foreach root $roots {walk $root use}
    foreach page [free_list] {
        if {[info exists use($page)]} {error "free page $page is used"}
        set use($page) {2 0}
    }
    set capable [u32 52]
    for {set page 2} {$page <= $pages} {incr page} {
        if {$page == $::sqlite_pending_byte / $size + 1} {
            if {[info exists use($page)]} {error "lock-byte page is used"}
            continue
        }
        if {$capable && [map_of $page] == $page} {
            if {[info exists use($page)]} {error "map page $page is used"}
            continue
        }
        if {![info exists use($page)]} {error "page $page is never used"}
        if {!$capable} continue
        set map [map_of $page]
        set at [expr {($map - 1) * $size + 5 * ($page - $map - 1)}]
        set found [list [u8 $at] [u32 [expr {$at + 1}]]]
        if {$found ne $use($page)} {error "map entry of $page is $found, not $use($page)"}
    }
}
