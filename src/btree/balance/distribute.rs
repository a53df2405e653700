//! Which cell goes on which page: arithmetic on sizes, no pages.

/// Where the pages end in the list of cells.
///
/// In a tree with data on leaves only, leaf pages use up all cells and page i holds the cells
/// from the end of page i−1 to `ends[i]`. Otherwise the cell at `ends[i]`, for all pages but the
/// last, is the divider behind page i, and the next page begins after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// For each page, the index behind its last cell.
    pub(super) ends: Vec<usize>,
}

/// Spreads cells of the given `sizes` (bytes on the page, without the 2 bytes of the pointer) over
/// as few pages as can hold them, `capacity` bytes each, pointers included. `keeps_all`: no cell is
/// used up as divider.
///
/// Pages are filled from the left; then, from the right end, cells move to the right page as long
/// as that does not make it fuller than its left neighbour. The sum kept for a page that has just
/// been filled counts one pointer too many: the engine of 2006 did so, and page layouts follow.
pub(super) fn distribute(sizes: &[usize], capacity: usize, keeps_all: bool) -> Plan {
    let mut ends = Vec::new();
    let mut filled = Vec::new();
    let mut subtotal = 0;
    let mut index = 0;
    while index < sizes.len() {
        let size = sizes[index];
        subtotal += size + 2;
        if subtotal > capacity {
            filled.push(subtotal - size);
            ends.push(index);
            subtotal = 0;
            if keeps_all {
                continue;
            }
        }
        index += 1;
    }
    filled.push(subtotal);
    ends.push(sizes.len());
    let step = usize::from(!keeps_all);
    for page in (1..ends.len()).rev() {
        let (mut right, mut left) = (filled[page], filled[page - 1]);
        // The last cell of the left page leaves it; what joins the right page is that cell, or
        // the divider, whose place it takes.
        while let Some(leaving) = ends[page - 1].checked_sub(1) {
            let joining = leaving + step;
            let grown = right + sizes[joining] + 2;
            if right > 0 && grown + sizes[leaving] + 2 > left {
                break;
            }
            right = grown;
            left = left.saturating_sub(sizes[leaving] + 2);
            ends[page - 1] = leaving;
        }
        filled[page] = right;
        filled[page - 1] = left;
    }
    Plan { ends }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cell on one page or used as divider, every page within its capacity and not empty.
    fn check(sizes: &[usize], capacity: usize, keeps_all: bool) {
        let plan = distribute(sizes, capacity, keeps_all);
        let mut start = 0;
        for (page, &end) in plan.ends.iter().enumerate() {
            let bytes: usize = sizes[start..end].iter().map(|size| size + 2).sum();
            assert!(bytes <= capacity, "{sizes:?} {capacity} {keeps_all} {plan:?}");
            assert!(end > start || sizes.is_empty(), "{sizes:?} {capacity} {keeps_all} {plan:?}");
            let last = page + 1 == plan.ends.len();
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
                let sizes: Vec<usize> =
                    (0..length).map(|digit| choices[code / 4usize.pow(digit) % 4]).collect();
                check(&sizes, 100, false);
                check(&sizes, 100, true);
            }
        }
    }

    #[test]
    fn equal_cells_split_in_halves() {
        // 25 cells of 40 bytes on pages of 1016: the divider is cell 12.
        assert_eq!(distribute(&[40; 25], 1016, false).ends, [12, 25]);
        assert_eq!(distribute(&[10; 3], 100, false).ends, [3]);
    }
}
