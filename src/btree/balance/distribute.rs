//! Which cell goes on which page: arithmetic on sizes, no pages.
//!
//! Most cells stay where they are, and the size of most cells is of no interest: what stands on a
//! page is known as a sum, and only where a page of the plan ends are single cells looked at.

use crate::error::{Error, Result};

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

/// Neighbouring cells of which the sum is known: those of a page as it is, or one divider.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// The index behind the last of them.
    pub(super) end: usize,
    /// Bytes that they take, 2 for the pointer of each included.
    pub(super) used: usize,
}

/// What knows the sizes of the cells.
pub(super) trait Sizes {
    /// The bytes that cell `number` takes on a page, its pointer not counted.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is no such cell, or it is broken.
    fn of(&mut self, number: usize) -> Result<usize>;
}

const MISCOUNTED: Error = Error::corrupt("free bytes are miscounted");

/// Spreads cells, counted through `groups`, over as few pages as can hold them, `capacity` bytes
/// each, pointers included. `keeps_all`: no cell is used up as divider. The outcome replaces what
/// is in `plan`.
///
/// Pages are filled from the left; then, from the right end, cells move to the right page as long
/// as that does not make it fuller than its left neighbour. The sum kept for a page that has just
/// been filled counts one pointer too many: the engine of 2006 did so, and page layouts follow.
///
/// # Errors
/// [`Error::Corrupt`] if the sums are not those of the cells; errors of `sizes`.
pub(super) fn distribute(
    plan: &mut Plan,
    groups: &[Group],
    sizes: &mut impl Sizes,
    capacity: usize,
    keeps_all: bool,
) -> Result<()> {
    fill(plan, groups, sizes, capacity, keeps_all)?;
    even_out(plan, sizes, keeps_all)
}

/// Fills pages from the left.
fn fill(
    plan: &mut Plan,
    groups: &[Group],
    sizes: &mut impl Sizes,
    capacity: usize,
    keeps_all: bool,
) -> Result<()> {
    let Plan { ends, filled } = plan;
    ends.clear();
    filled.clear();
    let (mut subtotal, mut index) = (0, 0);
    for group in groups {
        // What cells from `index` to the end of the group take.
        let mut rest = group.used;
        while subtotal + rest > capacity {
            let too_many = subtotal + rest - capacity;
            let (fitting, size) = if 2 * too_many < rest {
                cut_from_right(&mut index, group.end, rest, too_many, sizes)?
            } else {
                cut_from_left(&mut index, group.end, capacity - subtotal, sizes)?
            };
            crate::memory::reserve(filled, 1)?;
            crate::memory::reserve(ends, 1)?;
            filled.push(subtotal + fitting + 2);
            ends.push(index);
            index += 1;
            rest = rest.checked_sub(fitting + size).ok_or(MISCOUNTED)?;
            subtotal = if keeps_all { size } else { 0 };
        }
        subtotal += rest;
        index = group.end;
    }
    crate::memory::reserve(filled, 1)?;
    crate::memory::reserve(ends, 1)?;
    filled.push(subtotal);
    ends.push(index);
    Ok(())
}

/// Goes from cell `index` on to the first one that does not fit into `room` bytes any more. Returns
/// the bytes that those before it take and those that it takes itself, pointers included.
fn cut_from_left(
    index: &mut usize,
    end: usize,
    room: usize,
    sizes: &mut impl Sizes,
) -> Result<(usize, usize)> {
    let mut fitting = 0;
    while *index < end {
        let size = sizes.of(*index)? + 2;
        if fitting + size > room {
            return Ok((fitting, size));
        }
        fitting += size;
        *index += 1;
    }
    Err(MISCOUNTED)
}

/// The same from the other end of the cells up to `end`, which take `rest` bytes: `too_many`
/// of them do not fit.
fn cut_from_right(
    index: &mut usize,
    end: usize,
    rest: usize,
    too_many: usize,
    sizes: &mut impl Sizes,
) -> Result<(usize, usize)> {
    let (start, mut behind) = (*index, 0);
    *index = end;
    while *index > start {
        *index -= 1;
        let size = sizes.of(*index)? + 2;
        behind += size;
        if behind >= too_many {
            return Ok((rest.checked_sub(behind).ok_or(MISCOUNTED)?, size));
        }
    }
    Err(MISCOUNTED)
}

/// Moves cells to the right, from the right end on.
fn even_out(plan: &mut Plan, sizes: &mut impl Sizes, keeps_all: bool) -> Result<()> {
    let Plan { ends, filled } = plan;
    for page in (1..ends.len()).rev() {
        let (mut right, mut left) = (filled[page], filled[page - 1]);
        // The last cell of the left page leaves it; what joins the right page is that cell, or
        // the divider, whose place it takes.
        let mut joining = if keeps_all { None } else { Some(sizes.of(ends[page - 1])? + 2) };
        while let Some(leaving) = ends[page - 1].checked_sub(1) {
            let shrunk = sizes.of(leaving)? + 2;
            let grown = right + joining.unwrap_or(shrunk);
            if right > 0 && grown + shrunk > left {
                break;
            }
            joining = joining.map(|_| shrunk);
            right = grown;
            left = left.saturating_sub(shrunk);
            ends[page - 1] = leaving;
        }
        filled[page] = right;
        filled[page - 1] = left;
    }
    // Where a sum is more than the cells are, too many of them have moved.
    let used_up = usize::from(!keeps_all);
    let ascends = |pair: &[usize]| matches!(pair, [end, next] if end + used_up <= *next);
    if ends.windows(2).all(ascends) { Ok(()) } else { Err(MISCOUNTED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes as a list.
    impl Sizes for &[u32] {
        fn of(&mut self, number: usize) -> Result<usize> {
            Ok(self[number] as usize)
        }
    }

    /// Where pages end, the cells being in one group, or in groups of `grouped`.
    fn ends_in_groups(
        sizes: &[u32],
        grouped: usize,
        capacity: usize,
        keeps_all: bool,
    ) -> Vec<usize> {
        let mut plan = Plan::default();
        let mut end = 0;
        let groups = sizes.chunks(grouped.max(1)).map(|sizes| {
            end += sizes.len();
            Group { end, used: sizes.iter().map(|&size| size as usize + 2).sum() }
        });
        let groups: Vec<Group> = groups.collect();
        distribute(&mut plan, &groups, &mut &*sizes, capacity, keeps_all).unwrap();
        plan.ends
    }

    /// Whatever the groups are.
    fn ends(sizes: &[u32], capacity: usize, keeps_all: bool) -> Vec<usize> {
        let ends = ends_in_groups(sizes, 1, capacity, keeps_all);
        for grouped in [2, 3, sizes.len()] {
            assert_eq!(ends_in_groups(sizes, grouped, capacity, keeps_all), ends, "{sizes:?}");
        }
        ends
    }

    #[test]
    fn wrong_sums_are_damage() {
        let sizes = &[10; 3][..];
        for used in [200, 300, 500] {
            let groups = [Group { end: 3, used }];
            let planned = distribute(&mut Plan::default(), &groups, &mut { sizes }, 100, true);
            assert_eq!(planned, Err(MISCOUNTED), "{used}");
        }
    }

    /// Groups of few cells that a damaged page says to be many: no page ends ahead of its start.
    #[test]
    fn pages_end_behind_their_start_whatever_the_sums() {
        let mut refused = 0;
        for used in (0..8000).map(|n| [n % 20 * 5, n / 20 % 20 * 5, n / 400 * 5]) {
            let groups = [2, 4, 7].into_iter().zip(used).map(|(end, used)| Group { end, used });
            let groups: Vec<Group> = groups.collect();
            for keeps_all in [true, false] {
                let mut plan = Plan::default();
                let sizes = &[10; 7][..];
                if distribute(&mut plan, &groups, &mut { sizes }, 100, keeps_all).is_err() {
                    refused += 1;
                    continue;
                }
                let skip = usize::from(!keeps_all);
                let ends = &plan.ends;
                assert!(ends.windows(2).all(|pair| pair[0] + skip <= pair[1]), "{used:?} {ends:?}");
            }
        }
        assert!(refused > 0);
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
