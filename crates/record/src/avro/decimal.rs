//! Decimals: a whole number in two's complement, most significant byte first, and a scale. They become the
//! nearest double, which is what a feature can use.

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: i64 = 22;
const EXACT_WHOLE: u128 = 1 << 53;

/// The double nearest to `unscaled · 10^-scale`; infinite where none is near.
pub(super) fn to_f64(unscaled: &[u8], scale: i64) -> f64 {
    // Beyond that everything is zero or infinite anyway.
    let scale = scale.clamp(-10_000, 10_000);
    let negative = unscaled.first().is_some_and(|&b| b & 0x80 != 0);
    if unscaled.len() > 16 {
        let start = if negative { -1.0 } else { 0.0 };
        let whole = unscaled.iter().fold(start, |sum: f64, &byte| sum * 256.0 + f64::from(byte));
        return whole / 10_f64.powi(scale as i32);
    }
    let whole =
        unscaled.iter().fold(if negative { -1 } else { 0 }, |sum: i128, &b| (sum << 8) | i128::from(b));
    if (0..=EXACT_POWERS).contains(&scale) && whole.unsigned_abs() <= EXACT_WHOLE {
        // Both are exact, so the one division rounds correctly.
        return whole as f64 / 10_f64.powi(scale as i32);
    }
    format!("{whole}e{}", -scale).parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_becomes_the_nearest_double() {
        assert_eq!(to_f64(&[], 2), 0.0);
        assert_eq!(to_f64(&[0x30, 0x39], 2), 123.45);
        assert_eq!(to_f64(&[0xcf, 0xc7], 2), -123.45);
        assert_eq!(to_f64(&[0xff], 1), -0.1);
        assert_eq!(to_f64(&[1], -3), 1000.0);
        assert_eq!(
            to_f64(&i128::MAX.to_be_bytes(), 30),
            "170141183460469231731687303715884105727e-30".parse::<f64>().unwrap()
        );
        assert_eq!(to_f64(&i128::MIN.to_be_bytes(), 0), i128::MIN as f64);
        assert_eq!(to_f64(&[1], i64::MAX), 0.0);
        assert_eq!(to_f64(&[1], i64::MIN), f64::INFINITY);
        let long = [&[0; 10][..], &[0x30, 0x39], &[0; 8]].concat();
        assert_eq!(to_f64(&long, 0), 12345.0 * 2_f64.powi(64), "more than sixteen bytes");
        assert_eq!(to_f64(&[0xff; 20], 0), -1.0);
    }
}
