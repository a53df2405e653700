//! How two texts compare.
//!
//! | collation | order |
//! | --- | --- |
//! | binary | by the bytes in the encoding of the database, a shorter beginning first |
//! | nocase | `A` to `Z` count as `a` to `z`; behind a zero byte in both only the lengths count |
//! | rtrim | by the bytes, spaces at the end not counted |
//!
//! The last two look at a text as UTF-8, whatever it is stored in. In UTF-16 binary is therefore
//! not the order of the characters, and the other two are.

use std::cmp::Ordering;

/// How text fields of a key compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Collation {
    /// By bytes.
    #[default]
    Binary,
    /// The letters `A` to `Z` count as `a` to `z`.
    NoCase,
    /// By bytes, spaces at the end not counted.
    RTrim,
}

/// How the texts of a database are encoded; meta value 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextEncoding {
    /// UTF-8.
    #[default]
    Utf8,
    /// UTF-16, low byte first.
    Utf16LittleEndian,
    /// UTF-16, high byte first.
    Utf16BigEndian,
}

impl TextEncoding {
    /// The encoding that the file header has this number for. Databases without texts may have
    /// none; they count as UTF-8.
    pub fn from_number(number: u32) -> TextEncoding {
        match number {
            2 => TextEncoding::Utf16LittleEndian,
            3 => TextEncoding::Utf16BigEndian,
            _ => TextEncoding::Utf8,
        }
    }

    /// The bytes that `text` has in UTF-8. A lone half of a surrogate pair counts as U+FFFD.
    fn utf8(self, text: &[u8]) -> impl Iterator<Item = u8> {
        let (pairs, _) = text.as_chunks();
        let units = pairs.iter().map(move |&pair| match self {
            TextEncoding::Utf16BigEndian => u16::from_be_bytes(pair),
            _ => u16::from_le_bytes(pair),
        });
        char::decode_utf16(units).flat_map(|unit| {
            let mut bytes = [0; 4];
            let length = unit.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut bytes).len();
            bytes.into_iter().take(length)
        })
    }
}

impl Collation {
    /// Compares the text that begins with `stored` and is `size` bytes long with `wanted`; `None`
    /// if that takes more than the beginning.
    ///
    /// `stored` is not longer than `size`; if it is as long, there is an answer.
    pub(super) fn compare(
        self,
        stored: &[u8],
        size: usize,
        wanted: &[u8],
        encoding: TextEncoding,
    ) -> Option<Ordering> {
        match (self, encoding) {
            (Collation::Binary, _) => compare_bytes(stored, size, wanted),
            (Collation::NoCase, TextEncoding::Utf8) => compare_no_case(stored, size, wanted),
            // What is far behind decides how much of the end counts.
            _ if stored.len() < size => None,
            (Collation::NoCase, _) => {
                Some(compare_folded(encoding.utf8(stored), encoding.utf8(wanted)))
            }
            (Collation::RTrim, TextEncoding::Utf8) => {
                Some(trimmed(stored, b" ").cmp(trimmed(wanted, b" ")))
            }
            (Collation::RTrim, _) => {
                let space: &[u8] = match encoding {
                    TextEncoding::Utf16BigEndian => b"\0 ",
                    _ => b" \0",
                };
                let (stored, wanted) = (trimmed(stored, space), trimmed(wanted, space));
                Some(encoding.utf8(stored).cmp(encoding.utf8(wanted)))
            }
        }
    }
}

/// Compares byte by byte, as [`Collation::compare`].
#[inline]
pub(super) fn compare_bytes(stored: &[u8], size: usize, wanted: &[u8]) -> Option<Ordering> {
    let common = stored.len().min(wanted.len());
    let (ours, theirs) = (stored.get(..common)?, wanted.get(..common)?);
    match ours.cmp(theirs) {
        Ordering::Equal if common == wanted.len() || stored.len() == size => {
            Some(size.cmp(&wanted.len()))
        }
        Ordering::Equal => None,
        decided => Some(decided),
    }
}

/// Compares UTF-8 without regard to case, as [`Collation::compare`].
fn compare_no_case(stored: &[u8], size: usize, wanted: &[u8]) -> Option<Ordering> {
    for (ours, theirs) in stored.iter().zip(wanted) {
        match ours.to_ascii_lowercase().cmp(&theirs.to_ascii_lowercase()) {
            Ordering::Equal if *ours == 0 => return Some(size.cmp(&wanted.len())),
            Ordering::Equal => {}
            decided => return Some(decided),
        }
    }
    let is_compared = stored.len() == size || stored.len() >= wanted.len();
    is_compared.then(|| size.cmp(&wanted.len()))
}

/// Compares bytes of UTF-8 that are made on the way, without regard to case; behind a zero byte
/// nothing but the lengths.
fn compare_folded(
    mut stored: impl Iterator<Item = u8>,
    mut wanted: impl Iterator<Item = u8>,
) -> Ordering {
    let mut is_behind_zero = false;
    loop {
        match (stored.next(), wanted.next()) {
            (Some(ours), Some(theirs)) if !is_behind_zero => {
                let order = ours.to_ascii_lowercase().cmp(&theirs.to_ascii_lowercase());
                if order.is_ne() {
                    return order;
                }
                is_behind_zero = ours == 0;
            }
            (Some(_), Some(_)) => {}
            (ours, theirs) => return ours.is_some().cmp(&theirs.is_some()),
        }
    }
}

/// `text` without as many `space` as stand at its end.
fn trimmed<'a>(text: &'a [u8], space: &[u8]) -> &'a [u8] {
    let mut text = text;
    while let Some(shorter) = text.strip_suffix(space) {
        text = shorter;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, encoding: TextEncoding) -> Vec<u8> {
        let big = encoding == TextEncoding::Utf16BigEndian;
        let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    }

    /// D187: what each collation takes for equal, smaller, larger; and that UTF-16 is no different.
    #[test]
    fn texts_compare_as_their_collation_says() {
        use Ordering::{Equal, Greater, Less};
        let cases = [
            ("", "", [Equal; 3]),
            ("a", "", [Greater; 3]),
            ("a", "B", [Greater, Less, Greater]),
            ("abc", "ABC", [Greater, Equal, Greater]),
            ("[", "a", [Less, Less, Less]),
            ("_", "A", [Greater, Less, Greater]),
            ("a  ", "a", [Greater, Greater, Equal]),
            ("a  ", "a b", [Less, Less, Less]),
            ("a\t", "a", [Greater; 3]),
            ("  ", "", [Greater, Greater, Equal]),
            ("a\0x", "a\0y", [Less, Equal, Less]),
            ("a\0xx", "A\0y", [Greater, Greater, Greater]),
            ("\u{e9}", "\u{c9}", [Greater; 3]),
            ("\u{ffff}", "\u{1f600}", [Less; 3]),
        ];
        let collations = [Collation::Binary, Collation::NoCase, Collation::RTrim];
        for (a, b, orders) in cases {
            for (collation, order) in collations.into_iter().zip(orders) {
                let compare =
                    |a: &[u8], b: &[u8], encoding| collation.compare(a, a.len(), b, encoding);
                let (x, y) = (a.as_bytes(), b.as_bytes());
                assert_eq!(compare(x, y, TextEncoding::Utf8), Some(order), "{a:?} {b:?}");
                assert_eq!(compare(y, x, TextEncoding::Utf8), Some(order.reverse()));
                for encoding in [TextEncoding::Utf16LittleEndian, TextEncoding::Utf16BigEndian] {
                    let (x, y) = (utf16(a, encoding), utf16(b, encoding));
                    let found = compare(&x, &y, encoding);
                    let want = if collation == Collation::Binary { x.cmp(&y) } else { order };
                    assert_eq!(found, Some(want), "{a:?} {b:?} {encoding:?} {collation:?}");
                }
            }
        }
    }

    /// A beginning decides as the whole text does, or not at all.
    #[test]
    fn beginnings_never_decide_wrongly() {
        let texts: [&[u8]; 9] =
            [b"", b"a", b"ab", b"aB ", b"a\0c", b"a\0d", b"b  ", b"b", b"ba\0 "];
        for collation in [Collation::Binary, Collation::NoCase, Collation::RTrim] {
            for encoding in [TextEncoding::Utf8, TextEncoding::Utf16BigEndian] {
                for (a, b) in texts.iter().flat_map(|a| texts.iter().map(move |b| (a, b))) {
                    let whole = collation.compare(a, a.len(), b, encoding);
                    assert!(whole.is_some());
                    for cut in 0..a.len() {
                        let early = collation.compare(&a[..cut], a.len(), b, encoding);
                        assert!(early.is_none() || early == whole, "{a:?} {b:?} {cut}");
                    }
                }
            }
        }
    }
}
