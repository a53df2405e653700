# What the demo prints: headings, lines, tables, bars, and progress while something takes long.

namespace eval show {
    variable step 0
    variable started 0      ;# when the running work began, in milliseconds
    variable last 0         ;# when progress was last shown
    variable shown 0        ;# whether a progress line is on the screen
}

proc show::heading {text} {
    variable step
    puts "\n[incr step]. $text"
    puts [string repeat - [expr {[string length $text] + [string length $step] + 2}]]
}

# One line of explanation, indented like everything that follows a heading.
proc show::say {text} {
    clear
    puts [string trimright "   $text"]
}

# A finding: what was looked at, and what came out.
proc show::fact {what result} {
    say [format "%-46s %s" $what $result]
}

# Rows of cells, the first row being the head. `align` has l or r for each column, and may have more.
proc show::table {align rows} {
    set widths {}
    foreach row $rows {
        set column 0
        foreach cell $row {
            set width [expr {$column < [llength $widths] ? [lindex $widths $column] : 0}]
            set wider [expr {max($width, [string length $cell])}]
            if {$column < [llength $widths]} {
                lset widths $column $wider
            } else {
                lappend widths $wider
            }
            incr column
        }
    }
    set rule {}
    foreach width $widths {lappend rule [string repeat - $width]}
    foreach row [linsert $rows 1 $rule] {
        say [string trimright [table_line $align $widths $row]]
    }
}

proc show::table_line {align widths row} {
    set line {}
    set column 0
    foreach width $widths cell $row {
        set sign [expr {[string index $align $column] eq "l" ? "-" : ""}]
        lappend line [format "%$sign*s" $width $cell]
        incr column
    }
    return [join $line "  "]
}

# A part of a whole as a bar of ten marks and a percentage.
proc show::bar {part whole} {
    if {$whole <= 0} {return ""}
    set marks [expr {round(10.0 * $part / $whole)}]
    set bar [string repeat # $marks][string repeat . [expr {10 - $marks}]]
    return [format {[%s] %3d %%} $bar [expr {round(100.0 * $part / $whole)}]]
}

proc show::bytes {count} {
    foreach {unit size} {MB 1000000.0 kB 1000.0} {
        if {$count >= $size} {return [format "%.1f %s" [expr {$count / $size}] $unit]}
    }
    return "$count bytes"
}

# Work that may take longer than a second begins.
proc show::begin {} {
    variable started [clock milliseconds]
    variable last $started
}

# It is this far. Shown once a second: rewriting its line on a terminal, else line by line.
proc show::progress {what done total} {
    variable last
    variable shown
    set now [clock milliseconds]
    if {$now - $last < 1000} return
    set last $now
    set text "   ... $what: $done of $total"
    if {[is_terminal]} {
        puts -nonewline "\r$text"
        set shown 1
    } else {
        puts $text
    }
    flush stdout
}

# Something that changes all the time: rewrites its line on a terminal, else a line a second.
proc show::live {text} {
    variable last
    variable shown
    set now [clock milliseconds]
    if {$now - $last < ([is_terminal] ? 50 : 1000)} return
    set last $now
    if {[is_terminal]} {
        puts -nonewline "\r   $text "
        set shown 1
    } else {
        puts "   $text"
    }
    flush stdout
}

# Wipes the progress line.
proc show::clear {} {
    variable shown
    if {$shown} {puts -nonewline "\r[string repeat " " 78]\r"}
    set shown 0
}

# Only channels of terminals (and serial lines) have a mode.
proc show::is_terminal {} {
    return [dict exists [fconfigure stdout] -mode]
}
