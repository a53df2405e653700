//! Tcl values: what a command takes and gives.
//!
//! A [`Value`] is a word of the running command, an [`Obj`] a value that we hold a count on. Tcl
//! keeps a value's text and bytes inside of the value, and reading it as another type may free
//! them. So whatever may change a value borrows the [`Interp`] mutably, and so does a slice that
//! lies in a value: while the slice is alive nothing else can be asked of any value.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

use super::interp::Interp;
use super::result_code::Failure;
use super::sys::{self, TclObj};

/// A value that somebody else keeps alive.
#[repr(transparent)]
#[derive(Debug)]
pub(super) struct Value(*mut TclObj);

impl Value {
    /// The words of a command.
    ///
    /// # Safety
    /// `words` points to `count` valid values that stay alive for `'a`.
    pub(super) unsafe fn slice<'a>(words: *const *mut TclObj, count: c_int) -> &'a [Value] {
        let count = usize::try_from(count).unwrap_or(0);
        if count == 0 {
            return &[];
        }
        // SAFETY: `Value` is a transparent pointer; by the caller's promise.
        unsafe { std::slice::from_raw_parts(words.cast(), count) }
    }

    /// The value as Tcl takes it.
    pub(super) fn raw(&self) -> *mut TclObj {
        self.0
    }

    /// The text in Tcl's encoding: UTF-8, but for U+0000 and characters above U+FFFF.
    pub(super) fn text<'i>(&self, _interp: &'i mut Interp<'_>) -> &'i [u8] {
        if sys::is_nine() {
            let mut length = 0isize;
            // SAFETY: the value is valid; 9.0 has this slot.
            let text = unsafe { sys::get_string_9(self.0, &mut length) };
            // SAFETY: `length` bytes that live until the value changes, and the borrow of the
            // interpreter keeps it from that.
            unsafe { slice_of(text.cast(), length) }
        } else {
            let mut length: c_int = 0;
            // SAFETY: the value is valid; 8.6 has this slot.
            let text = unsafe { sys::get_string_8(self.0, &mut length) };
            // SAFETY: as above.
            unsafe { slice_of(text.cast(), length as isize) }
        }
    }

    /// The text, for messages and for comparing with words that we know.
    pub(super) fn string(&self, interp: &mut Interp<'_>) -> String {
        String::from_utf8_lossy(&to_utf8(self.text(interp))).into_owned()
    }

    /// An integer from -2^63 to 2^63 − 1.
    ///
    /// # Errors
    /// Tcl's message for what is no integer, and for one that is out of range.
    pub(super) fn wide(&self, interp: &mut Interp<'_>) -> Result<i64, Failure> {
        let value = self.wrapping(interp)?;
        if self.wraps(interp, value) { Err(Failure::too_large()) } else { Ok(value) }
    }

    /// An integer key: -2^63 to 2^64 − 1, the upper half meaning its wrapped negatives (C5).
    ///
    /// # Errors
    /// As [`Value::wide`].
    pub(super) fn key(&self, interp: &mut Interp<'_>) -> Result<i64, Failure> {
        if sys::is_nine() {
            let mut unsigned = 0u64;
            // SAFETY: the value is valid, a null interpreter asks for no message, and 9.0 has
            // this slot.
            let status =
                unsafe { sys::get_wide_unsigned_9(ptr::null_mut(), self.0, &mut unsigned) };
            if status == sys::TCL_OK && unsigned > i64::MAX as u64 {
                return Ok(unsigned as i64);
            }
            return self.wrapping(interp);
        }
        let value = self.wrapping(interp)?;
        // Of what 8.6 wraps, the numbers above 2^63 − 1 come out negative.
        if value >= 0 && self.wraps(interp, value) {
            return Err(Failure::too_large());
        }
        Ok(value)
    }

    /// An integer of 32 bits.
    ///
    /// # Errors
    /// As [`Value::wide`].
    pub(super) fn int(&self, interp: &mut Interp<'_>) -> Result<i32, Failure> {
        i32::try_from(self.wide(interp)?).map_err(|_| Failure::too_large())
    }

    /// A pattern of 32 bits: -2^31 to 2^32 − 1.
    ///
    /// # Errors
    /// As [`Value::wide`].
    pub(super) fn bits(&self, interp: &mut Interp<'_>) -> Result<u32, Failure> {
        let value = self.wide(interp)?;
        let signed = i32::try_from(value).map(|value| value as u32);
        signed.or(u32::try_from(value)).map_err(|_| Failure::too_large())
    }

    /// A boolean.
    ///
    /// # Errors
    /// `expected boolean value but got "X"`.
    pub(super) fn boolean(&self, interp: &mut Interp<'_>) -> Result<bool, Failure> {
        let mut value: c_int = 0;
        // SAFETY: interpreter and value are valid.
        let status = unsafe { sys::get_boolean(interp.raw(), self.0, &mut value) };
        raised_unless_ok(status)?;
        Ok(value != 0)
    }

    /// A floating-point number, `None` if it is none.
    pub(super) fn real(&self, _interp: &mut Interp<'_>) -> Option<f64> {
        let mut value = 0.0;
        // SAFETY: the value is valid; a null interpreter asks for no message.
        let status = unsafe { sys::get_double(ptr::null_mut(), self.0, &mut value) };
        (status == sys::TCL_OK).then_some(value)
    }

    /// The value as bytes, one for each character.
    ///
    /// # Errors
    /// A message naming the first character above U+00FF, if there is one (C4).
    pub(super) fn bytes<'i>(&self, interp: &'i mut Interp<'_>) -> Result<&'i [u8], Failure> {
        let (start, length) = self.byte_array();
        // SAFETY: the value is valid. A byte array without a text is one byte per character.
        let has_text = unsafe { !(*self.0).text.is_null() };
        if (start.is_null() || (has_text && !sys::is_nine()))
            && let Some(message) = wide_character(self.text(interp))
        {
            return Err(Failure::message(message, &["TCL", "VALUE", "BYTES"]));
        }
        // SAFETY: `length` bytes that live until the value changes type; see the module.
        Ok(unsafe { slice_of(start, length) })
    }

    /// Two values as bytes. They may be the same one.
    ///
    /// # Errors
    /// As [`Value::bytes`].
    pub(super) fn bytes_pair<'i>(
        first: &Value,
        second: &Value,
        interp: &'i mut Interp<'_>,
    ) -> Result<(&'i [u8], &'i [u8]), Failure> {
        first.bytes(interp)?;
        second.bytes(interp)?;
        // Both are byte arrays now, so asking again changes neither of them.
        let ((start, length), (other_start, other_length)) =
            (first.byte_array(), second.byte_array());
        // SAFETY: as in `bytes`.
        Ok(unsafe { (slice_of(start, length), slice_of(other_start, other_length)) })
    }

    /// The elements of a list.
    ///
    /// # Errors
    /// Tcl's message for what is no list.
    pub(super) fn list(&self, interp: &mut Interp<'_>) -> Result<Vec<Obj>, Failure> {
        let mut elements: *const *mut TclObj = ptr::null();
        let (status, count) = if sys::is_nine() {
            let mut count = 0isize;
            // SAFETY: interpreter and value are valid; 9.0 has this slot.
            let status =
                unsafe { sys::list_elements_9(interp.raw(), self.0, &mut count, &mut elements) };
            (status, usize::try_from(count).unwrap_or(0))
        } else {
            let mut count: c_int = 0;
            // SAFETY: interpreter and value are valid; 8.6 has this slot.
            let status =
                unsafe { sys::list_elements_8(interp.raw(), self.0, &mut count, &mut elements) };
            (status, usize::try_from(count).unwrap_or(0))
        };
        raised_unless_ok(status)?;
        // SAFETY: `count` valid values; each gets a count of ours before anything can free it.
        Ok((0..count).map(|index| unsafe { Obj::from_raw(*elements.add(index)) }).collect())
    }

    /// The name of a file as the system takes it: absolute, in the system's encoding. What Tcl
    /// cannot translate is taken as it is.
    pub(super) fn path(&self, interp: &mut Interp<'_>) -> PathBuf {
        // SAFETY: the value is valid.
        let native = unsafe { sys::get_native_path(self.0) };
        if native.is_null() {
            return PathBuf::from(OsStr::from_bytes(&to_utf8(self.text(interp))));
        }
        // SAFETY: ended by a zero byte, and copied before the value can change.
        let native = unsafe { CStr::from_ptr(native) };
        PathBuf::from(OsStr::from_bytes(native.to_bytes()))
    }

    /// The text, ended by a zero byte, for Tcl functions that want it so.
    pub(super) fn c_text(&self, _interp: &mut Interp<'_>) -> *const c_char {
        // SAFETY: the value is valid.
        unsafe { sys::get_string(self.0) }
    }

    /// The integer as Tcl gives it: 8.6 takes every number of 64 bits and a sign, and wraps.
    fn wrapping(&self, interp: &mut Interp<'_>) -> Result<i64, Failure> {
        let mut value = 0i64;
        // SAFETY: interpreter and value are valid.
        let status = unsafe { sys::get_wide(interp.raw(), self.0, &mut value) };
        raised_unless_ok(status)?;
        Ok(value)
    }

    /// Whether 8.6 has wrapped the integer. A wrapped one is 2^64 away from the number itself,
    /// which shows in floating point.
    fn wraps(&self, interp: &mut Interp<'_>, wrapped: i64) -> bool {
        const HALF_WAY: f64 = 9.0e18;
        !sys::is_nine()
            && self.real(interp).is_some_and(|real| (real - wrapped as f64).abs() > HALF_WAY)
    }

    /// The bytes and their number; on 9.0 a null pointer for a value with wide characters.
    fn byte_array(&self) -> (*const u8, isize) {
        if sys::is_nine() {
            let mut length = 0isize;
            // SAFETY: the value is valid; a null interpreter asks for no message; 9.0 has this.
            (unsafe { sys::get_bytes_9(ptr::null_mut(), self.0, &mut length) }, length)
        } else {
            let mut length: c_int = 0;
            // SAFETY: the value is valid; 8.6 has this slot.
            (unsafe { sys::get_byte_array_8(self.0, &mut length) }, length as isize)
        }
    }
}

/// A value that we hold a count on.
#[derive(Debug)]
pub(super) struct Obj(Value);

impl Obj {
    /// Takes a count on a value that is new or kept alive by somebody else.
    ///
    /// # Safety
    /// `raw` is a valid value.
    pub(super) unsafe fn from_raw(raw: *mut TclObj) -> Obj {
        // SAFETY: by the caller's promise. The position is used by memory debugging only.
        unsafe { sys::incr_ref_count(raw, c"tclbtree".as_ptr(), 0) };
        Obj(Value(raw))
    }

    /// A value with this text.
    pub(super) fn text(text: &str) -> Obj {
        Obj::encoded(&to_tcl(text.as_bytes()))
    }

    /// A value with this text, which should be UTF-8; other bytes count as characters.
    pub(super) fn utf8(text: &[u8]) -> Obj {
        Obj::encoded(&to_tcl(String::from_utf8_lossy(text).as_bytes()))
    }

    fn encoded(text: &[u8]) -> Obj {
        let length = isize::try_from(text.len()).unwrap_or(isize::MAX).min(i32::MAX as isize);
        // SAFETY: `length` bytes of text, which Tcl copies; the value is new.
        unsafe { Obj::from_raw(sys::new_string(text.as_ptr().cast(), length)) }
    }

    /// A value of these bytes.
    ///
    /// # Errors
    /// [`Failure::too_large`] for more than Tcl 8.6 can hold, 2^31 − 1.
    pub(super) fn bytes(bytes: &[u8]) -> Result<Obj, Failure> {
        let length = i32::try_from(bytes.len()).map_err(|_| Failure::too_large())?;
        // SAFETY: `length` bytes, which Tcl copies; the value is new.
        Ok(unsafe { Obj::from_raw(sys::new_byte_array(bytes.as_ptr(), length as isize)) })
    }

    /// A floating-point number.
    pub(super) fn real(value: f64) -> Obj {
        // SAFETY: the value is new.
        unsafe { Obj::from_raw(sys::new_double(value)) }
    }

    /// A list.
    pub(super) fn list(elements: impl IntoIterator<Item = Obj>) -> Obj {
        // SAFETY: the value is new; no elements are read from the null pointer.
        let list = unsafe { Obj::from_raw(sys::new_list(0, ptr::null())) };
        for element in elements {
            // SAFETY: the list is unshared and is a list, so this cannot fail.
            unsafe { sys::list_append(ptr::null_mut(), list.raw(), element.raw()) };
        }
        list
    }

    /// A flat list of names and values, which is also a dictionary.
    pub(super) fn pairs<'n>(pairs: impl IntoIterator<Item = (&'n str, Obj)>) -> Obj {
        Obj::list(pairs.into_iter().flat_map(|(name, value)| [Obj::text(name), value]))
    }
}

impl Deref for Obj {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl Drop for Obj {
    fn drop(&mut self) {
        // SAFETY: the count is ours. The position is used by memory debugging only.
        unsafe { sys::decr_ref_count(self.raw(), c"tclbtree".as_ptr(), 0) };
    }
}

impl From<i64> for Obj {
    fn from(value: i64) -> Obj {
        // SAFETY: the value is new.
        unsafe { Obj::from_raw(sys::new_wide(value)) }
    }
}

impl From<u64> for Obj {
    /// Unsigned decimal also above 2^63 − 1.
    fn from(value: u64) -> Obj {
        match i64::try_from(value) {
            Ok(value) => Obj::from(value),
            Err(_) => Obj::text(&value.to_string()),
        }
    }
}

impl From<i32> for Obj {
    fn from(value: i32) -> Obj {
        Obj::from(i64::from(value))
    }
}

impl From<u32> for Obj {
    fn from(value: u32) -> Obj {
        Obj::from(i64::from(value))
    }
}

impl From<bool> for Obj {
    fn from(value: bool) -> Obj {
        Obj::from(i64::from(value))
    }
}

impl From<&str> for Obj {
    fn from(text: &str) -> Obj {
        Obj::text(text)
    }
}

impl From<String> for Obj {
    fn from(text: String) -> Obj {
        Obj::text(&text)
    }
}

/// Tcl's status as a result; the message is in the interpreter.
pub(super) fn raised_unless_ok(status: c_int) -> Result<(), Failure> {
    if status == sys::TCL_OK { Ok(()) } else { Err(Failure::Raised) }
}

/// A slice of `length` bytes, empty where there are none.
///
/// # Safety
/// If `length` is positive, that many bytes live at `start` for as long as `'i`.
unsafe fn slice_of<'i>(start: *const u8, length: isize) -> &'i [u8] {
    match usize::try_from(length) {
        // SAFETY: by the caller's promise.
        Ok(length) if length > 0 && !start.is_null() => unsafe {
            std::slice::from_raw_parts(start, length)
        },
        _ => &[],
    }
}

/// The message about the first character above U+00FF, in the words of Tcl 9.0.
fn wide_character(text: &[u8]) -> Option<String> {
    // In UTF-8 the first byte of such a character, and of no other, is 0xC4 or more.
    let at = text.iter().position(|&byte| byte >= 0xC4)?;
    let (before, rest) = text.split_at(at);
    let index = before.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
    let end = rest.iter().skip(1).take_while(|&&byte| byte & 0xC0 == 0x80).count() + 1;
    let character = to_utf8(rest.get(..end)?);
    let shown = String::from_utf8_lossy(&character);
    let code = shown.chars().next().map_or(0, u32::from);
    Some(format!("expected byte sequence but character {index} was '{shown}' (U+{code:06X})"))
}

/// Tcl's text as UTF-8: U+0000 is two bytes in Tcl, and 8.6 has a character above U+FFFF as two
/// surrogates of three bytes each.
pub(super) fn to_utf8(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [0xC0, 0x80, tail @ ..] => {
                out.push(0);
                tail
            }
            [0xED, a @ 0xA0..=0xAF, b, 0xED, c @ 0xB0..=0xBF, d, tail @ ..] => {
                let high = u32::from(a & 0x0F) << 6 | u32::from(b & 0x3F);
                let low = u32::from(c & 0x0F) << 6 | u32::from(d & 0x3F);
                let character = char::from_u32(0x1_0000 + (high << 10 | low));
                let mut buffer = [0; 4];
                let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                tail
            }
            [byte, tail @ ..] => {
                out.push(*byte);
                tail
            }
            [] => return out,
        };
    }
}

/// UTF-8 as Tcl's text; see [`to_utf8`].
fn to_tcl(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [0, tail @ ..] => {
                out.extend_from_slice(&[0xC0, 0x80]);
                tail
            }
            [a @ 0xF0..=0xFF, b, c, d, tail @ ..] if !sys::is_nine() => {
                let code = u32::from(a & 7) << 18
                    | u32::from(b & 0x3F) << 12
                    | u32::from(c & 0x3F) << 6
                    | u32::from(d & 0x3F);
                let pair = code.saturating_sub(0x1_0000);
                for surrogate in [0xD800 | pair >> 10 & 0x3FF, 0xDC00 | pair & 0x3FF] {
                    let middle = (surrogate >> 6 & 0x3F) as u8 | 0x80;
                    out.extend_from_slice(&[0xED, middle, (surrogate & 0x3F) as u8 | 0x80]);
                }
                tail
            }
            [byte, tail @ ..] => {
                out.push(*byte);
                tail
            }
            [] => return out,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_to_tcl_and_back() {
        for text in ["", "plain", "\0", "a\0b\u{ff}\u{100}\u{ffff}", "\u{1F600}x\u{10FFFF}"] {
            assert_eq!(to_utf8(&to_tcl(text.as_bytes())), text.as_bytes());
        }
        assert_eq!(to_tcl("\u{1F600}".as_bytes()), [0xED, 0xA0, 0xBD, 0xED, 0xB8, 0x80]);
    }

    #[test]
    fn the_first_wide_character_is_named() {
        assert_eq!(wide_character("ab\u{ff}\0".as_bytes()), None);
        let message = wide_character("a\u{e9}\u{100}\u{101}".as_bytes()).unwrap();
        assert_eq!(message, "expected byte sequence but character 2 was '\u{100}' (U+000100)");
    }
}
