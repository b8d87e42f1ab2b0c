//! One number of a row as the model's type. A number that the type cannot hold is refused, never bent: the
//! record that carries it is answered with the reason, and its neighbours are not touched.
//!
//! A real number is a measurement and becomes the nearest that the type has; out of range is refused. A whole
//! number is a count or an index, where the nearest one is another thing: it arrives exactly or not at all.

use half::f16;

/// An element type that rows are packed into.
pub(crate) trait Cell: Copy + Default {
    /// From a real number, rounded to the nearest; `None` when it is out of range.
    fn real(value: f64) -> Option<Self>;
    /// From a whole number, exactly; `None` when the type does not have it.
    fn integer(value: i64) -> Option<Self>;
    /// From a truth value.
    fn boolean(value: bool) -> Self;
}

impl Cell for f32 {
    fn real(value: f64) -> Option<Self> {
        let cell = value as f32;
        cell.is_finite().then_some(cell)
    }

    fn integer(value: i64) -> Option<Self> {
        let cell = value as f32;
        // In i128, since 2^63 would saturate to the i64 that it was rounded from.
        (cell as i128 == i128::from(value)).then_some(cell)
    }

    fn boolean(value: bool) -> Self {
        f32::from(u8::from(value))
    }
}

impl Cell for f64 {
    fn real(value: f64) -> Option<Self> {
        value.is_finite().then_some(value)
    }

    fn integer(value: i64) -> Option<Self> {
        let cell = value as f64;
        (cell as i128 == i128::from(value)).then_some(cell)
    }

    fn boolean(value: bool) -> Self {
        f64::from(u8::from(value))
    }
}

impl Cell for f16 {
    fn real(value: f64) -> Option<Self> {
        let cell = f16::from_f64(value);
        cell.is_finite().then_some(cell)
    }

    fn integer(value: i64) -> Option<Self> {
        let cell = f16::from_f64(value as f64);
        (cell.is_finite() && cell.to_f64() as i128 == i128::from(value)).then_some(cell)
    }

    fn boolean(value: bool) -> Self {
        if value { f16::ONE } else { f16::ZERO }
    }
}

impl Cell for i64 {
    fn real(value: f64) -> Option<Self> {
        // 2^63 itself is a double, and one more than the largest i64.
        let within = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
        (within && value.fract() == 0.0).then_some(value as i64)
    }

    fn integer(value: i64) -> Option<Self> {
        Some(value)
    }

    fn boolean(value: bool) -> Self {
        i64::from(value)
    }
}

impl Cell for i32 {
    fn real(value: f64) -> Option<Self> {
        i64::real(value).and_then(Self::integer)
    }

    fn integer(value: i64) -> Option<Self> {
        i32::try_from(value).ok()
    }

    fn boolean(value: bool) -> Self {
        i32::from(value)
    }
}

impl Cell for bool {
    fn real(value: f64) -> Option<Self> {
        i64::real(value).and_then(Self::integer)
    }

    fn integer(value: i64) -> Option<Self> {
        match value {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn boolean(value: bool) -> Self {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_type_cannot_hold_is_refused() {
        assert_eq!(f32::real(1e39), None);
        assert_eq!(f64::real(f64::NAN), None);
        assert_eq!(f16::real(70_000.0), None);
        assert_eq!(i64::real(0.5), None);
        assert_eq!(i64::real(9.3e18), None);
        assert_eq!(i64::real(f64::NAN), None);
        assert_eq!(i32::integer(1 << 31), None);
        assert_eq!(bool::integer(2), None);
    }

    #[test]
    fn a_whole_number_that_would_become_another_is_refused() {
        assert_eq!(f16::integer(2049), None);
        assert_eq!(f16::integer(2048), Some(f16::from_f32(2048.0)));
        assert_eq!(f16::integer(70_000), None);
        assert_eq!(f32::integer(16_777_217), None);
        assert_eq!(f32::integer(16_777_216), Some(16_777_216.0));
        assert_eq!(f64::integer((1 << 53) + 1), None);
        assert_eq!(f64::integer(1 << 53), Some(9_007_199_254_740_992.0));
        assert_eq!((f32::integer(i64::MAX), f64::integer(i64::MAX)), (None, None));
        assert_eq!(f32::integer(i64::MIN), Some(-9_223_372_036_854_775_808.0));
    }

    #[test]
    fn what_it_can_hold_arrives() {
        assert_eq!(f32::real(0.1), Some(0.1));
        assert_eq!(f16::integer(3), Some(f16::from_f32(3.0)));
        assert_eq!(i64::real(-17.0), Some(-17));
        assert_eq!(i32::real(23.0), Some(23));
        assert_eq!(bool::real(1.0), Some(true));
        assert_eq!((f32::boolean(true), i64::boolean(true), f64::boolean(false)), (1.0, 1, 0.0));
    }
}
