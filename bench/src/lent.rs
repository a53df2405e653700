//! A value that others borrow from for as long as they like.
#![allow(unsafe_code)]

use std::ptr::NonNull;

/// A value at a fixed address, for a struct that owns both it and what borrows from it: LMDB's
/// environment and its transactions, a connection and its statements.
///
/// Invariant L1: whoever owns a `Lent` drops every borrow that [`Lent::borrow`] gave before it,
/// by declaring it as the later field or by dropping in that order.
#[derive(Debug)]
pub struct Lent<T>(NonNull<T>);

impl<T> Lent<T> {
    /// Takes the value.
    pub fn new(value: T) -> Lent<T> {
        Lent(NonNull::from(Box::leak(Box::new(value))))
    }

    /// A borrow that ends no later than this (L1).
    pub fn borrow(&self) -> &'static T {
        // SAFETY: the pointer came from a box that is given back only by `take` and `drop`, and
        // then nobody borrows from it (L1).
        unsafe { self.0.as_ref() }
    }

    /// The value, which nobody borrows any more (L1).
    pub fn take(self) -> T {
        // SAFETY: made from a box in `new`, and `drop` does not run.
        let value = unsafe { Box::from_raw(self.0.as_ptr()) };
        std::mem::forget(self);
        *value
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        // SAFETY: made from a box in `new`; given back once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
