//! Which cell goes on which page: arithmetic on sizes, no pages.

use super::super::node::Span;

/// Where the pages end in the list of cells.
///
/// In a tree with data on leaves only, leaf pages use up all cells and page i holds the cells
/// from the end of page i−1 to `ends[i]`. Otherwise the cell at `ends[i]`, for all pages but the
/// last, is the divider behind page i, and the next page begins after it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// For each page, the index behind its last cell.
    pub(super) ends: Vec<usize>,
    /// Bytes on each page, pointers included, as the rule below counts them.
    filled: Vec<usize>,
}

/// Spreads `cells` (whose sizes do not count the 2 bytes of the pointer) over as few pages as can
/// hold them, `capacity` bytes each, pointers included. `keeps_all`: no cell is
/// used up as divider. The outcome replaces what is in `plan`.
///
/// Pages are filled from the left; then, from the right end, cells move to the right page as long
/// as that does not make it fuller than its left neighbour. The sum kept for a page that has just
/// been filled counts one pointer too many: the engine of 2006 did so, and page layouts follow.
pub(super) fn distribute(plan: &mut Plan, cells: &[Span], capacity: usize, keeps_all: bool) {
    let Plan { ends, filled } = plan;
    ends.clear();
    filled.clear();
    let mut subtotal = 0;
    for (index, cell) in cells.iter().enumerate() {
        let size = cell.size as usize;
        subtotal += size + 2;
        if subtotal > capacity {
            filled.push(subtotal - size);
            ends.push(index);
            subtotal = if keeps_all { size + 2 } else { 0 };
        }
    }
    filled.push(subtotal);
    ends.push(cells.len());
    let size_of = |cell: usize| cells[cell].size as usize;
    let step = usize::from(!keeps_all);
    for page in (1..ends.len()).rev() {
        let (mut right, mut left) = (filled[page], filled[page - 1]);
        // The last cell of the left page leaves it; what joins the right page is that cell, or
        // the divider, whose place it takes.
        while let Some(leaving) = ends[page - 1].checked_sub(1) {
            let joining = leaving + step;
            let grown = right + size_of(joining) + 2;
            let shrunk = size_of(leaving) + 2;
            if right > 0 && grown + shrunk > left {
                break;
            }
            right = grown;
            left = left.saturating_sub(shrunk);
            ends[page - 1] = leaving;
        }
        filled[page] = right;
        filled[page - 1] = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(sizes: &[u32], capacity: usize, keeps_all: bool) -> Vec<usize> {
        let mut plan = Plan::default();
        let cells: Vec<Span> = sizes.iter().map(|&size| Span { start: 0, size }).collect();
        distribute(&mut plan, &cells, capacity, keeps_all);
        plan.ends
    }

    /// Every cell on one page or used as divider, every page within its capacity and not empty.
    fn check(sizes: &[u32], capacity: usize, keeps_all: bool) {
        let plan = ends(sizes, capacity, keeps_all);
        let mut start = 0;
        for (page, &end) in plan.iter().enumerate() {
            let bytes: usize = sizes[start..end].iter().map(|&size| size as usize + 2).sum();
            assert!(bytes <= capacity, "{sizes:?} {capacity} {keeps_all} {plan:?}");
            assert!(end > start || sizes.is_empty(), "{sizes:?} {capacity} {keeps_all} {plan:?}");
            let last = page + 1 == plan.len();
            start = end + usize::from(!keeps_all && !last);
        }
        assert_eq!(start, sizes.len());
    }

    #[test]
    fn all_small_lists() {
        // L51001, D444, D445: every list of up to seven cells of four sizes, where the largest is
        // a quarter of the page, as the format guarantees.
        let choices = [4, 9, 15, 23];
        for length in 0..=7u32 {
            for code in 0..4usize.pow(length) {
                let sizes: Vec<u32> =
                    (0..length).map(|digit| choices[code / 4usize.pow(digit) % 4]).collect();
                check(&sizes, 100, false);
                check(&sizes, 100, true);
            }
        }
    }

    #[test]
    fn equal_cells_split_in_halves() {
        // 25 cells of 40 bytes on pages of 1016: the divider is cell 12.
        assert_eq!(ends(&[40; 25], 1016, false), [12, 25]);
        assert_eq!(ends(&[10; 3], 100, false), [3]);
    }
}
