# Tests that are left out when a whole file runs through the write-behind layer (TCLBTREE_ASYNC):
# they count or fail system calls, open files and locks in their middle, which come later there
# or are twice as many.
set ::tester::leftOut {
    C28-1 C3-1 D102-1 D123-2 D156-1 D166-1 D233-1 D234-1 D281-1 D281-2 D281-3 D281-4 D283-1
    D519-2 H51009-1 H51010-1 binding-command-1 binding-link-3 binding-os-1 tcl-11-diskfull-1
    tcl-11-open-count-1 tcl-11-open-count-2 tcl-11-suspended-1 tcl-11-sync-count-1
    tcl-14-statement-1 tcl-3.2-close-1 tcl-5.1-commit-1
    C33-1 D366-6 D371-1 D372-1 D372-2 pager-P11-cantopen pager-P17-commit pager-P17-sticky
    pager-P18-header pager-P19-rollback pager-P19-unref pager-P22-files pager-P22-temporary
    pager-P23-syncs pager-P4-too-long pager-async pager-close-faults pager-close-held
    pager-faults-commit pager-faults-write pager-file-rounds pager-group-4 pager-order
    pager-stmt-file pager-sticky
}
