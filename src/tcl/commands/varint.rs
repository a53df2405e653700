//! `btree_varint_test`: the variable-length integer, there and back.

use super::super::command::{Call, Outcome};
use super::super::result_code::Failure;
use crate::format::varint;

/// A way of encoding and decoding; lengths are in bytes.
struct Codec {
    put: fn(u64, &mut [u8; varint::MAX_LENGTH]) -> usize,
    get: fn(&[u8]) -> Option<(u64, usize)>,
    get_32: fn(&[u8]) -> Option<(u32, usize)>,
}

/// The engine's own.
const ENGINE: Codec =
    Codec { put: varint::encode, get: varint::decode, get_32: varint::decode_u32 };

/// `btree_varint_test START MULTIPLIER COUNT INCREMENT`
pub(super) fn test(call: &mut Call<'_>) -> Outcome {
    let start = u64::from(call.bits(1)?);
    let multiplier = u64::from(call.bits(2)?);
    // A pattern with the top bit set is a negative count, which means none (C32).
    let count = (call.bits(3)? as i32).max(0);
    let increment = u64::from(call.bits(4)?);
    let mut value = start.wrapping_mul(multiplier);
    for _ in 0..count {
        check(value, &ENGINE).map_err(|text| Failure::message(text, &["TCL", "VARINT"]))?;
        value = value.wrapping_add(increment);
    }
    Ok(().into())
}

/// Encodes `value` and decodes it again; the message if something is wrong.
fn check(value: u64, codec: &Codec) -> Result<(), String> {
    let mut bytes = [0; varint::MAX_LENGTH];
    let put = (codec.put)(value, &mut bytes);
    if !(1..=varint::MAX_LENGTH).contains(&put) {
        return Err(format!("PutVarint returned {put} - should be between 1 and 9"));
    }
    let (back, got) = (codec.get)(&bytes).unwrap_or((0, 0));
    if put != got {
        return Err(format!("PutVarint returned {put} and GetVarint returned {got}"));
    }
    if value != back {
        return Err(format!("Wrote 0x{value:016x} and got back 0x{back:016x}"));
    }
    if u32::try_from(value).is_err() {
        return Ok(());
    }
    let (back, got) = (codec.get_32)(&bytes).unwrap_or((0, 0));
    if put != got {
        return Err(format!("PutVarint returned {put} and GetVarint32 returned {got}"));
    }
    if value != u64::from(back) {
        return Err(format!("Wrote 0x{value:016x} and got back 0x{back:016x} from GetVarint32"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_passes() {
        for bits in 0..64 {
            for value in [(1u64 << bits) - 1, 1 << bits, (1 << bits) + 1] {
                assert_eq!(check(value, &ENGINE), Ok(()));
            }
        }
    }

    #[test]
    fn each_defect_has_its_text() {
        let text = |codec: Codec| check(5, &codec).unwrap_err();
        assert_eq!(
            text(Codec { put: |_, _| 10, ..ENGINE }),
            "PutVarint returned 10 - should be between 1 and 9"
        );
        assert_eq!(
            text(Codec { get: |_| Some((5, 2)), ..ENGINE }),
            "PutVarint returned 1 and GetVarint returned 2"
        );
        assert_eq!(
            text(Codec { get: |_| Some((6, 1)), ..ENGINE }),
            "Wrote 0x0000000000000005 and got back 0x0000000000000006"
        );
        assert_eq!(
            text(Codec { get_32: |_| Some((5, 3)), ..ENGINE }),
            "PutVarint returned 1 and GetVarint32 returned 3"
        );
        assert_eq!(
            text(Codec { get_32: |_| Some((7, 1)), ..ENGINE }),
            "Wrote 0x0000000000000005 and got back 0x0000000000000007 from GetVarint32"
        );
    }
}
