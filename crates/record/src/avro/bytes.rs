//! Avro's binary encoding, read from a slice. Every read is checked against what is left, so a length that
//! lies costs nothing.

use super::{fault::Fault, plan::Plain};

/// What is left of a datum.
pub(super) struct Bytes<'b>(pub(super) &'b [u8]);

impl<'b> Bytes<'b> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'b [u8], Fault> {
        let Some((taken, rest)) = self.0.split_at_checked(len) else {
            return Err(Fault::malformed(format!("{len} bytes are due and {} are left", self.0.len())));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let Some((taken, rest)) = self.0.split_first_chunk::<N>() else {
            return Err(Fault::malformed(format!("{N} bytes are due and {} are left", self.0.len())));
        };
        self.0 = rest;
        Ok(*taken)
    }

    /// Base 128, least significant first, then zigzag.
    pub(super) fn long(&mut self) -> Result<i64, Fault> {
        let mut number = 0_u64;
        for (at, &byte) in self.0.iter().enumerate() {
            // The tenth byte has room for one bit.
            if at == 9 && byte > 1 {
                return Err(Fault::malformed("a number takes more than 64 bits"));
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err(Fault::malformed("the bytes end within a number"))
    }

    pub(super) fn int(&mut self) -> Result<i64, Fault> {
        let number = self.long()?;
        match i32::try_from(number) {
            Ok(_) => Ok(number),
            Err(_) => Err(Fault::malformed(format!("{number} is not an int of 32 bits"))),
        }
    }

    /// Passes numbers by; false, and nothing has moved, where one of them has to be looked at.
    pub(super) fn pass(&mut self, numbers: &[Plain]) -> bool {
        let mut left = self.0;
        for number in numbers {
            let size = match *number {
                Plain::Fixed(size) => Some(size),
                Plain::Within(most) => {
                    left.iter().take(most).position(|byte| byte & 0x80 == 0).map(|at| at + 1)
                }
            };
            let Some(rest) = size.and_then(|size| left.get(size..)) else { return false };
            left = rest;
        }
        self.0 = left;
        true
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Fault> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Fault::malformed(format!("{other:#04x} is not a boolean"))),
        }
    }

    pub(super) fn float(&mut self) -> Result<f32, Fault> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    pub(super) fn double(&mut self) -> Result<f64, Fault> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// The position in an enum or union.
    pub(super) fn position(&mut self) -> Result<usize, Fault> {
        let number = self.long()?;
        usize::try_from(number).map_err(|_| Fault::malformed(format!("{number} is not a position")))
    }

    pub(super) fn blob(&mut self) -> Result<&'b [u8], Fault> {
        let len = self.long()?;
        let len = usize::try_from(len).map_err(|_| Fault::malformed(format!("{len} is not a length")))?;
        self.take(len)
    }

    pub(super) fn text(&mut self) -> Result<&'b str, Fault> {
        std::str::from_utf8(self.blob()?).map_err(|_| Fault::malformed("the text is not UTF-8"))
    }

    /// Number of items in the next block of an array or map; 0 ends it.
    pub(super) fn block(&mut self) -> Result<u64, Fault> {
        let count = self.long()?;
        if count < 0 {
            // A negative count is followed by the block's size in bytes, for those who skip.
            self.long()?;
        }
        Ok(count.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_at_most_sixty_four_bits() {
        let long = |bytes: &[u8]| Bytes(bytes).long();
        assert_eq!(long(&[0x01]).expect("valid"), -1);
        assert_eq!(long(&[0xac, 0x02]).expect("valid"), 150);
        let ends = [(i64::MAX, 0xfe_u8), (i64::MIN, 0xff)];
        for (number, first) in ends {
            let bytes = [first, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
            assert_eq!(long(&bytes).expect("valid"), number);
        }
        assert!(long(&[0xff; 9]).is_err(), "cut off");
        assert!(long(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).is_err());
        assert!(long(&[0x80; 11]).is_err());
        assert!(Bytes(&[0x80, 0x80, 0x80, 0x80, 0x10]).int().is_err(), "2^31 is no int");
    }
}
