# The process that the demo kills with a queue: so many commits, which return at once, about
# half of the work that they left, and then it waits for its end.
#
#   usage: tclsh behind-victim.tcl DATABASE COMMITS

source [file join [file dirname [info script]] load.tcl]
source [file join [file dirname [info script]] behind.tcl]
lassign $argv file commits

sqlite3async_enable 1
set db [btree_open $file 100 0]
for {set n 1} {$n <= $commits} {incr n} {behind::commit $db $n}
set operations [dict get [sqlite3async_status] ops]
puts "$commits commits, all returned; $operations operations queued"
puts "[sqlite3async_step [expr {$operations / 2 + 3}]] operations done, then kill -9"
flush stdout
gets stdin
