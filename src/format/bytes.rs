//! Checked big-endian reads and writes on slices.
//!
//! A position outside of the slice is [`Error::Corrupt`]: positions come from files.

use crate::error::{Error, Result};

const OUTSIDE: Error = Error::corrupt("offset outside of the page");

/// The byte at `at`.
#[inline]
pub(crate) fn u8_at(bytes: &[u8], at: usize) -> Result<u8> {
    bytes.get(at).copied().ok_or(OUTSIDE)
}

/// The 16-bit integer at `at`.
#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    match bytes.get(at..at.wrapping_add(2)).and_then(<[u8]>::first_chunk) {
        Some(word) => Ok(u16::from_be_bytes(*word)),
        None => Err(OUTSIDE),
    }
}

/// The 32-bit integer at `at`.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(word) => Ok(u32::from_be_bytes(*word)),
        None => Err(OUTSIDE),
    }
}

/// Stores the byte at `at`.
#[inline]
pub(crate) fn put_u8(bytes: &mut [u8], at: usize, value: u8) -> Result<()> {
    *bytes.get_mut(at).ok_or(OUTSIDE)? = value;
    Ok(())
}

/// Stores the 16-bit integer at `at`.
#[inline]
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) -> Result<()> {
    *bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut).ok_or(OUTSIDE)? = value.to_be_bytes();
    Ok(())
}

/// Stores the 32-bit integer at `at`.
#[inline]
pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) -> Result<()> {
    *bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut).ok_or(OUTSIDE)? = value.to_be_bytes();
    Ok(())
}

/// `length` bytes from `at`.
#[inline]
pub(crate) fn slice(bytes: &[u8], at: usize, length: usize) -> Result<&[u8]> {
    bytes.get(at..).and_then(|tail| tail.get(..length)).ok_or(OUTSIDE)
}

/// `length` bytes from `at`, for writing.
#[inline]
pub(crate) fn slice_mut(bytes: &mut [u8], at: usize, length: usize) -> Result<&mut [u8]> {
    bytes.get_mut(at..).and_then(|tail| tail.get_mut(..length)).ok_or(OUTSIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_big_endian_and_bounded() {
        let mut page = [0u8; 8];
        put_u16(&mut page, 0, 0x0102).unwrap();
        put_u32(&mut page, 2, 0x0304_0506).unwrap();
        put_u8(&mut page, 7, 9).unwrap();
        assert_eq!(page, [1, 2, 3, 4, 5, 6, 0, 9]);
        assert_eq!(u16_at(&page, 1), Ok(0x0203));
        assert_eq!(u32_at(&page, 4), Ok(0x0506_0009));
        assert_eq!(u8_at(&page, 7), Ok(9));
        assert!(u16_at(&page, 7).is_err());
        assert!(u32_at(&page, usize::MAX).is_err());
        assert!(put_u16(&mut page, 7, 0).is_err());
        assert!(slice(&page, 5, 4).is_err());
        assert!(slice_mut(&mut page, 5, 3).is_ok());
    }
}
