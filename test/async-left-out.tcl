# Tests that are left out when whole files run through the write-behind layer (TCLBTREE_ASYNC),
# each list under its reason. `all.tcl` prints both, and fails on a name that no test has.
#
# A third form of these tests is not needed: what they show of the engine does not depend on the
# disk beneath, and what becomes of a fault behind the layer is the subject of the async tests.

namespace eval ::tester {
    variable reasons {}

    dict set reasons "a call fails in its middle; with the layer it fails later, in the writer" {
        D273-1 D281-1 D281-2 D281-3 D281-5 D282-1 D283-1 D284-1 C28-1 binding-os-1 tcl-2-names-1
        tcl-3.1-begin-3 tcl-4-close-1 tcl-8.1-err-1 tcl-8.1-state-3 tcl-11-diskfull-1
        tcl-11-suspended-1 pager-P11-cantopen pager-P17-commit pager-P17-sticky pager-P18-header
        pager-P19-rollback pager-P19-unref D366-6 D371-1 D372-2 pager-P4-too-long pager-async
        pager-P15-journal pager-close-faults pager-faults-commit pager-faults-write pager-order
        pager-sticky D521-2
    }
    dict set reasons "looks at each lock call; with the layer the lock falls once, at the end" {
        D525-1 D521-1
    }
    variable two_handles "counts open files; a running writer has a handle of its own for each"
    dict set reasons $two_handles {
        D123-2 D126-9 D253-9 H50040-1 H50070-1 H51007-1 H51009-1 binding-link-3
        pager-group-4 pager-stmt-file tcl-3.1-open-1 tcl-4-close-2 tcl-5.1-statement-3
        tcl-11-open-count-1 tcl-11-open-count-2 tcl-14-statement-1
    }
    variable allocates "makes an allocation of the process fail; it may be one of a running writer"
    dict set reasons $allocates {
        A305-1 D284-2
    }
}

# The names for a form of the run (`flushed` or `running`), each followed by the reason.
proc ::tester::left_out {mode} {
    variable reasons
    variable two_handles
    variable allocates
    set list {}
    dict for {reason names} $reasons {
        if {$mode eq "flushed" && $reason in [list $two_handles $allocates]} continue
        foreach name $names {dict set list $name $reason}
    }
    return $list
}
