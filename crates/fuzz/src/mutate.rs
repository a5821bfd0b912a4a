//! Seeded mutation of bytes.

use crate::MAX_INPUT;

/// Numbers at which programs go wrong.
const NUMBERS: [u64; 16] =
    [0, 1, 2, 7, 8, 127, 128, 255, 256, 32_767, 65_535, 65_536, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff_ffff_ffff];
/// The same in the forms of texts.
const TEXTS: [&[u8]; 10] =
    [b"0", b"-1", b"2147483647", b"-2147483648", b"4294967296", b"9223372036854775808", b"1e999", b"NaN", b"\0", b"\xff"];

/// A generator of pseudo-random numbers (SplitMix64): the same for the same seed everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`; 0 where that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() >> 1).unwrap_or_default().checked_rem(bound).unwrap_or_default()
    }

    /// One of them; `None` where there is none.
    pub(crate) fn of<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }
}

/// Changes the input in one to eight steps. `other` is a second input to splice with.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], words: &[&[u8]], random: &mut Random) {
    for _ in 0..1 << random.below(4) {
        step(input, other, words, random);
    }
    input.truncate(MAX_INPUT);
}

fn step(input: &mut Vec<u8>, other: &[u8], words: &[&[u8]], random: &mut Random) {
    let at = random.below(input.len() + 1);
    // Lengths of pieces: mostly short.
    let most = [4, 16, 64, 1_024][random.below(4)];
    let end = (at + 1 + random.below(most)).min(input.len());
    match random.below(13) {
        0 => put(input, at, |byte| byte ^ (1 << random.below(8))),
        1 => put(input, at, |_| random.number().to_le_bytes()[0]),
        2 => put(input, at, |byte| byte.wrapping_add(1)),
        3 => put(input, at, |byte| byte.wrapping_sub(1)),
        4 => drop(input.drain(at.min(end)..end)),
        5 => input.truncate(at),
        6 => {
            let piece = input.get(at..end).unwrap_or_default().repeat(1 << random.below(6));
            insert(input, at, &piece);
        }
        7 => {
            let start = random.below(other.len());
            let piece = other.get(start..(start + 1 + random.below(most)).min(other.len())).unwrap_or_default();
            insert(input, at, piece);
        }
        8 => {
            input.truncate(at);
            input.extend_from_slice(other.get(random.below(other.len())..).unwrap_or_default());
        }
        9 | 10 => {
            let word = random.of(words).or(random.of(&TEXTS)).copied().unwrap_or_default();
            if random.below(3) == 0 {
                input.drain(at.min(end)..end);
            }
            insert(input, at, word);
        }
        11 => {
            let text = random.of(&TEXTS).copied().unwrap_or_default();
            insert(input, at, text);
        }
        // A length field or another number: in place, of any width, either way round, and sometimes off by one.
        _ => {
            let number = random.of(&NUMBERS).copied().unwrap_or_default().wrapping_add(random.below(3) as u64).wrapping_sub(1);
            let width = 1 << random.below(4);
            let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
            let bytes = if random.below(2) == 0 { little.get(..width) } else { big.get(8 - width..) };
            for (slot, byte) in input.iter_mut().skip(at).zip(bytes.unwrap_or_default()) {
                *slot = *byte;
            }
        }
    }
}

fn put(input: &mut [u8], at: usize, change: impl FnOnce(u8) -> u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = change(*byte);
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let room = MAX_INPUT.saturating_sub(input.len());
    let at = at.min(input.len());
    input.splice(at..at, piece.iter().take(room).copied());
}
