//! The variable-length integer: 1 to 9 bytes, big-endian groups.
//!
//! Bytes 1 to 8 carry seven bits each, with the top bit meaning "more"; a ninth byte carries
//! eight. The value is a 64-bit two's-complement number. Source: SQLite file format, "varint".

/// The longest encoding, in bytes.
pub const MAX_LENGTH: usize = 9;

/// Decodes the integer at the start of `bytes`: the value and the number of bytes it took (1 to
/// 9), or `None` if `bytes` ends before the integer does.
#[inline]
pub fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    match *bytes {
        [a, ..] if a < 0x80 => Some((u64::from(a), 1)),
        [a, b, ..] if b < 0x80 => Some((u64::from(a & 0x7f) << 7 | u64::from(b), 2)),
        _ => decode_long(bytes),
    }
}

fn decode_long(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(MAX_LENGTH - 1).enumerate() {
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    bytes.get(MAX_LENGTH - 1).map(|&last| (value << 8 | u64::from(last), MAX_LENGTH))
}

/// Decodes an integer of which only the low 32 bits count, as for payload lengths.
#[inline]
pub fn decode_u32(bytes: &[u8]) -> Option<(u32, usize)> {
    decode(bytes).map(|(value, length)| (value as u32, length))
}

/// The number of bytes that `value` takes when encoded: 1 to 9.
#[inline]
pub const fn length(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    if bits > 56 { MAX_LENGTH } else { bits.div_ceil(7) }
}

/// Encodes `value` with the fewest bytes and returns how many of `out` it took.
#[inline]
pub fn encode(value: u64, out: &mut [u8; MAX_LENGTH]) -> usize {
    let group = |shift: u32| (value >> shift) as u8 & 0x7f;
    let [first, second, third, ..] = out;
    match value {
        0..0x80 => {
            *first = value as u8;
            1
        }
        0x80..0x4000 => {
            (*first, *second) = (group(7) | 0x80, group(0));
            2
        }
        0x4000..0x20_0000 => {
            (*first, *second, *third) = (group(14) | 0x80, group(7) | 0x80, group(0));
            3
        }
        _ => encode_long(value, out),
    }
}

/// Writes the encoding of `value` to the start of `out` and returns how many bytes it took; nothing
/// is written if `out` is shorter than that.
#[inline]
pub fn write(value: u64, out: &mut [u8]) -> usize {
    match out.first_chunk_mut() {
        Some(room) => encode(value, room),
        None => write_near_end(value, out),
    }
}

#[cold]
fn write_near_end(value: u64, out: &mut [u8]) -> usize {
    let mut room = [0; MAX_LENGTH];
    let length = encode(value, &mut room);
    if let (Some(out), Some(encoded)) = (out.get_mut(..length), room.get(..length)) {
        out.copy_from_slice(encoded);
    }
    length
}

fn encode_long(value: u64, out: &mut [u8; MAX_LENGTH]) -> usize {
    let length = length(value);
    let mut rest = value;
    if length == MAX_LENGTH {
        out[MAX_LENGTH - 1] = rest as u8;
        rest >>= 8;
        for byte in out[..MAX_LENGTH - 1].iter_mut().rev() {
            *byte = rest as u8 | 0x80;
            rest >>= 7;
        }
        return length;
    }
    for (index, byte) in out.iter_mut().take(length).rev().enumerate() {
        *byte = if index == 0 { rest as u8 & 0x7f } else { rest as u8 | 0x80 };
        rest >>= 7;
    }
    length
}

/// Appends the encoding of `value` to `out`.
#[inline]
pub fn push(value: u64, out: &mut Vec<u8>) {
    let group = |shift: u32| (value >> shift) as u8 & 0x7f;
    match value {
        0..0x80 => out.push(value as u8),
        0x80..0x4000 => out.extend_from_slice(&[group(7) | 0x80, group(0)]),
        0x4000..0x20_0000 => out.extend_from_slice(&[group(14) | 0x80, group(7) | 0x80, group(0)]),
        _ => push_long(value, out),
    }
}

fn push_long(value: u64, out: &mut Vec<u8>) {
    let mut buffer = [0; MAX_LENGTH];
    let length = encode(value, &mut buffer);
    out.extend_from_slice(buffer.get(..length).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        push(value, &mut out);
        out
    }

    #[test]
    fn examples_of_the_format_document() {
        assert_eq!(encoded(127), [0x7f]);
        assert_eq!(encoded(128), [0x81, 0x00]);
        assert_eq!(encoded(256), [0x82, 0x00]);
        assert_eq!(encoded(0x1234_5678), [0x81, 0x91, 0xd1, 0xac, 0x78]);
        assert_eq!(encoded(0x1020_4081), [0x81, 0x81, 0x81, 0x81, 0x01]);
        assert_eq!(encoded(-1i64 as u64), [0xff; 9]);
        assert_eq!(decode(&[0x80, 0x7f]), Some((127, 2)));
    }

    #[test]
    fn every_length_round_trips_at_its_bounds() {
        for bits in 0..=64u32 {
            let power = if bits == 64 { 0 } else { 1u64 << bits };
            for value in [power.wrapping_sub(1), power, power.wrapping_add(1)] {
                let bytes = encoded(value);
                assert_eq!(bytes.len(), length(value), "{value:#x}");
                assert_eq!(decode(&bytes), Some((value, bytes.len())));
                for cut in 0..bytes.len() {
                    assert_eq!(decode(&bytes[..cut]), None);
                }
                for room in 0..12 {
                    let mut out = vec![0xaa; room];
                    assert_eq!(write(value, &mut out), bytes.len());
                    let written = if room < bytes.len() { &[] } else { &*bytes };
                    assert_eq!(out[..written.len()], *written);
                    assert!(out[written.len()..].iter().all(|&byte| byte == 0xaa));
                }
            }
        }
    }
}
