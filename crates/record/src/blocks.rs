//! Small values that are made in great numbers and leave about together.

use std::fmt::{Display, Write as _};

use bytes::{Bytes, BytesMut};

/// Cuts values out of one allocation for many. A value that is kept keeps its block, so this is for what leaves in the order
/// in which it came, as the records of a partition do.
#[derive(Debug)]
pub struct Blocks {
    block: BytesMut,
    draft: Vec<u8>,
}

/// Room for some dozens of records, few enough that one of them does not hold much.
const BLOCK: usize = 16 << 10;

impl Default for Blocks {
    fn default() -> Self {
        Self { block: BytesMut::with_capacity(BLOCK), draft: Vec::new() }
    }
}

impl Blocks {
    /// Each value gets a block of its own: for what is kept, nobody knows how long.
    pub fn of_one() -> Self {
        Self { block: BytesMut::new(), draft: Vec::new() }
    }

    /// A copy of these bytes.
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.block.extend_from_slice(bytes);
        self.block.split().freeze()
    }

    /// A value as it is written for people.
    pub fn print(&mut self, value: &impl Display) -> Bytes {
        write!(self.block, "{value}").expect("memory takes what is written");
        self.block.split().freeze()
    }

    /// What `write` writes, in pieces as small as it likes.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut draft = std::mem::take(&mut self.draft);
        draft.clear();
        write(&mut draft);
        let written = self.copy(&draft);
        self.draft = draft;
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_any_size_are_what_they_were_when_blocks_have_gone_by() {
        let mut blocks = Blocks::default();
        let sizes = [0, 1, 100, BLOCK - 1, BLOCK, 3 * BLOCK, 0, 7];
        let wanted: Vec<_> =
            sizes.iter().cycle().take(100).enumerate().map(|(i, &n)| vec![i as u8; n]).collect();
        let copies: Vec<_> = wanted.iter().map(|value| blocks.copy(value)).collect();
        assert_eq!(copies, wanted);
        assert_eq!(blocks.print(&format_args!("{}/{}", "t", 3)), "t/3");
        let pieces = ["a", "", "bc"];
        for _ in 0..2 {
            let written =
                blocks.write(|out| pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes())));
            assert_eq!(written, "abc");
        }
    }
}
