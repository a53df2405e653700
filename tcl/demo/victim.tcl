# The process that the demo kills: changes every row of a table with a cache far too small for
# that, so that changed pages reach the file before the commit, and then waits for its end.
#
#   usage: tclsh victim.tcl DATABASE ROOT

source [file join [file dirname [info script]] load.tcl]
lassign $argv file root

set db [btree_open $file 10 0]
btree_begin_transaction $db
set cursor [btree_cursor $db $root 1]
set key 0
while {[btree_move_to $cursor [incr key]] == 0} {
    btree_insert $cursor $key [btree_make_record null [list text "half-written row $key"]]
}
array set stats [btree_pager_stats $db]
puts "changed [expr {$key - 1}] rows, $stats(write) pages written ahead of the commit"
flush stdout
gets stdin
