//! Makes inputs out of others: a seed says all, so that one that fails can be made again.

/// Longer inputs find little more and take longer.
const MAX_LEN: usize = 16 << 10;

/// Bytes that parsers of lengths, numbers, nested things and text trip over.
const INTERESTING: [&[u8]; 24] = [
    b"\0",
    b"\x01",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xfe\xff\xff\xff\x0f",
    b"-1",
    b"0",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1e999",
    b"NaN",
    b"null",
    b"\"",
    b"[",
    b"{",
    b"(",
    b"}",
    b"]",
    b"\n",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\n---\n",
];

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 up to `end`, which is left out; 0 for an empty range.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// One of the seeds, changed in one to eight places.
    pub(crate) fn input(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
        let mut bytes = self.pick(seeds).to_vec();
        for _ in 0..=self.below(8) {
            self.change(&mut bytes, seeds);
        }
        bytes.truncate(MAX_LEN);
        bytes
    }

    fn pick<'s>(&mut self, seeds: &[&'s [u8]]) -> &'s [u8] {
        seeds[self.below(seeds.len())]
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[&[u8]]) {
        let at = self.below(bytes.len() + 1);
        let to = at + self.below((bytes.len() - at + 1).min(64));
        match self.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.next() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..to)),
            4 => {
                let value = INTERESTING[self.below(INTERESTING.len())];
                bytes.splice(at..at, value.iter().copied());
            }
            5 => {
                let value = INTERESTING[self.below(INTERESTING.len())];
                bytes.splice(at..to, value.iter().copied());
            }
            // A piece of another.
            6 | 7 => {
                let other = self.pick(seeds);
                let from = self.below(other.len());
                let until = from + self.below(other.len() - from + 1);
                bytes.splice(at..to, other[from..until].iter().copied());
            }
            // The same piece again and again: nesting, and lists that are long.
            _ => {
                let piece = bytes[at..to].repeat(self.below(300));
                bytes.splice(at..at, piece.into_iter().take(MAX_LEN));
            }
        }
    }
}
