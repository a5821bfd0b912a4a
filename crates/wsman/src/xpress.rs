//! XPRESS: how the bytes of a stream are compressed where a shell negotiated it (MS-WSMV 2.2.4.5; the algorithm is plain
//! LZ77 of MS-XCA 2.3 and 2.4).
//!
//! A stream is cut into chunks of at most 64 KiB. Before each stand two little-endian 16-bit numbers, its original and its
//! compressed size, both less one. Equal sizes mean that the chunk is stored as it is.

use thiserror::Error;

/// Longest original chunk.
const CHUNK: usize = 0x1_0000;
/// How far back a match may lie.
const WINDOW: usize = 0x2000;
/// Shortest match.
const SHORTEST: usize = 3;
/// Lengths that fit into the symbol itself.
const IN_SYMBOL: usize = 7;
/// Lengths that fit into half a byte.
const IN_HALF_BYTE: usize = 15;
/// Earlier places with the same three bytes that the encoder compares.
const CANDIDATES: usize = 16;
const HASH_BITS: u32 = 13;
/// No place: above every index of a chunk.
const NOWHERE: u32 = u32::MAX;

/// Why compressed bytes are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum XpressError {
    /// They end inside a chunk or its header.
    #[error("the compressed data end too early")]
    Truncated,
    /// A match points before the beginning of its chunk, or beyond its end.
    #[error("the compressed data hold a match outside their chunk")]
    Match,
    /// They would become more than is allowed.
    #[error("the data would be longer than {0} bytes")]
    TooLong(usize),
}

/// Compresses a stream's bytes. A chunk that does not become shorter is stored.
#[must_use]
pub fn compress(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() / 2 + 8);
    for chunk in data.chunks(CHUNK) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        encode(chunk, &mut out);
        if out.len() - start - 4 >= chunk.len() {
            out.truncate(start + 4);
            out.extend_from_slice(chunk);
        }
        let size = |bytes: usize| u16::try_from(bytes - 1).unwrap_or(u16::MAX).to_le_bytes();
        let header = [size(chunk.len()), size(out.len() - start - 4)].concat();
        out.splice(start..start + 4, header);
    }
    out
}

/// So many bytes fit into `bytes` in any case, every chunk stored.
#[must_use]
pub fn capacity(bytes: usize) -> usize {
    bytes.saturating_sub((bytes / CHUNK + 1) * 4)
}

/// Restores a stream's bytes, at most `limit` of them.
///
/// # Errors
/// Bytes that no encoder makes, and more than `limit`. The sizes in the headers are checked before anything is allocated.
pub fn decompress(data: &[u8], limit: usize) -> Result<Vec<u8>, XpressError> {
    let mut total = 0_usize;
    let mut rest = data;
    while let Some((original, _, after)) = next_chunk(rest)? {
        total += original;
        if total > limit {
            return Err(XpressError::TooLong(limit));
        }
        rest = after;
    }
    let mut out = Vec::with_capacity(total);
    rest = data;
    while let Some((original, chunk, after)) = next_chunk(rest)? {
        if chunk.len() == original {
            out.extend_from_slice(chunk);
        } else {
            decode(chunk, original, &mut out)?;
        }
        rest = after;
    }
    Ok(out)
}

/// Original size, compressed bytes, what follows.
type Chunk<'a> = (usize, &'a [u8], &'a [u8]);

fn next_chunk(data: &[u8]) -> Result<Option<Chunk<'_>>, XpressError> {
    let (header, rest) = match data.split_first_chunk::<4>() {
        Some(parts) => parts,
        None if data.is_empty() => return Ok(None),
        None => return Err(XpressError::Truncated),
    };
    let [a, b, c, d] = *header;
    let size = |low, high| usize::from(u16::from_le_bytes([low, high])) + 1;
    let (chunk, rest) = rest.split_at_checked(size(c, d)).ok_or(XpressError::Truncated)?;
    Ok(Some((size(a, b), chunk, rest)))
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], XpressError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(XpressError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<usize, XpressError> {
        self.take().map(|[byte]| usize::from(byte))
    }
}

/// MS-XCA 2.4.4. What follows the last symbol (the padding of the flags) is not looked at.
fn decode(data: &[u8], original: usize, out: &mut Vec<u8>) -> Result<(), XpressError> {
    let mut input = Input(data);
    let (start, end) = (out.len(), out.len() + original);
    let (mut flags, mut left) = (0_u32, 0_u32);
    // The upper half of a byte whose lower half was used.
    let mut half = None;
    while out.len() < end {
        if left == 0 {
            (flags, left) = (u32::from_le_bytes(input.take()?), 32);
        }
        left -= 1;
        if flags >> left & 1 == 0 {
            out.extend_from_slice(&input.take::<1>()?);
            continue;
        }
        let symbol = usize::from(u16::from_le_bytes(input.take()?));
        let distance = (symbol >> 3) + 1;
        let mut length = symbol & 7;
        if length == IN_SYMBOL {
            length = match half.take() {
                Some(upper) => upper,
                None => {
                    let byte = input.byte()?;
                    half = Some(byte >> 4);
                    byte & 15
                }
            };
            if length == IN_HALF_BYTE {
                length = input.byte()?;
                if length == 255 {
                    length = usize::from(u16::from_le_bytes(input.take()?));
                    if length == 0 {
                        length = usize::try_from(u32::from_le_bytes(input.take()?)).unwrap_or(usize::MAX);
                    }
                    length = length.checked_sub(IN_HALF_BYTE + IN_SYMBOL).ok_or(XpressError::Match)?;
                }
                length = length.saturating_add(IN_HALF_BYTE);
            }
            length = length.saturating_add(IN_SYMBOL);
        }
        length = length.saturating_add(SHORTEST);
        let from = out.len().checked_sub(distance).filter(|from| *from >= start).ok_or(XpressError::Match)?;
        if length > end - out.len() {
            return Err(XpressError::Match);
        }
        if distance >= length {
            out.extend_from_within(from..from + length);
        } else {
            for index in from..from + length {
                let byte = out.get(index).copied().unwrap_or_default();
                out.push(byte);
            }
        }
    }
    Ok(())
}

/// The symbols of a chunk with their flags.
struct Symbols<'a> {
    out: &'a mut Vec<u8>,
    flags: u32,
    count: u32,
    /// Where the flags of the symbols to come will stand.
    place: usize,
    /// Where a byte stands whose upper half is free.
    half: Option<usize>,
}

impl<'a> Symbols<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        let place = out.len();
        out.extend_from_slice(&[0; 4]);
        Self { out, flags: 0, count: 0, place, half: None }
    }

    fn flag(&mut self, flag: u32) {
        self.flags = self.flags << 1 | flag;
        self.count += 1;
        if self.count == 32 {
            self.write_flags(self.flags);
            self.count = 0;
            self.place = self.out.len();
            self.out.extend_from_slice(&[0; 4]);
        }
    }

    fn write_flags(&mut self, flags: u32) {
        for (place, byte) in self.out.iter_mut().skip(self.place).zip(flags.to_le_bytes()) {
            *place = byte;
        }
    }

    fn literal(&mut self, byte: u8) {
        self.out.push(byte);
        self.flag(0);
    }

    /// `distance` from 1 to the window, `length` from the shortest.
    fn repeat(&mut self, distance: usize, length: usize) {
        let mut length = length - SHORTEST;
        let symbol = (distance - 1) << 3 | length.min(IN_SYMBOL);
        self.out.extend_from_slice(&u16::try_from(symbol).unwrap_or_default().to_le_bytes());
        if length >= IN_SYMBOL {
            length -= IN_SYMBOL;
            let nibble = u8::try_from(length.min(IN_HALF_BYTE)).unwrap_or_default();
            match self.half.take() {
                Some(place) => {
                    if let Some(byte) = self.out.get_mut(place) {
                        *byte |= nibble << 4;
                    }
                }
                None => {
                    self.half = Some(self.out.len());
                    self.out.push(nibble);
                }
            }
            if length >= IN_HALF_BYTE {
                match u8::try_from(length - IN_HALF_BYTE) {
                    Ok(byte) if byte < 255 => self.out.push(byte),
                    _ => {
                        self.out.push(255);
                        let whole = length + IN_SYMBOL;
                        match u16::try_from(whole) {
                            Ok(whole) => self.out.extend_from_slice(&whole.to_le_bytes()),
                            Err(_) => {
                                self.out.extend_from_slice(&[0, 0]);
                                self.out.extend_from_slice(&u32::try_from(whole).unwrap_or(u32::MAX).to_le_bytes());
                            }
                        }
                    }
                }
            }
        }
        self.flag(1);
    }

    /// The flags of symbols that do not follow are ones (MS-XCA 2.3.4).
    fn finish(mut self) {
        let free = 32 - self.count;
        let padding = u32::try_from((1_u64 << free) - 1).unwrap_or(u32::MAX);
        let flags = u32::try_from((u64::from(self.flags) << free) & u64::from(u32::MAX)).unwrap_or_default() | padding;
        self.write_flags(flags);
    }
}

/// MS-XCA 2.3.4, greedy, with chains of the places that share a hash of three bytes.
fn encode(data: &[u8], out: &mut Vec<u8>) {
    let mut chains = Chains { heads: vec![NOWHERE; 1 << HASH_BITS], previous: vec![NOWHERE; data.len()] };
    let mut symbols = Symbols::new(out);
    let mut at = 0;
    while let Some(byte) = data.get(at) {
        let before = chains.add(data, at);
        let (distance, length) = chains.longest(data, at, before);
        if length < SHORTEST {
            symbols.literal(*byte);
            at += 1;
            continue;
        }
        symbols.repeat(distance, length);
        for index in at + 1..at + length {
            chains.add(data, index);
        }
        at += length;
    }
    symbols.finish();
}

struct Chains {
    /// The latest place of each hash.
    heads: Vec<u32>,
    /// For each place the one before it with the same hash.
    previous: Vec<u32>,
}

impl Chains {
    /// Adds a place and answers the one before it with the same hash.
    fn add(&mut self, data: &[u8], at: usize) -> u32 {
        let Some(head) = hash(data, at).and_then(|hash| self.heads.get_mut(hash)) else { return NOWHERE };
        let before = std::mem::replace(head, u32::try_from(at).unwrap_or(NOWHERE));
        if let Some(previous) = self.previous.get_mut(at) {
            *previous = before;
        }
        before
    }

    /// Distance and length of the best of the candidates.
    fn longest(&self, data: &[u8], at: usize, mut candidate: u32) -> (usize, usize) {
        let mut best = (0, 0);
        let here = data.get(at..).unwrap_or_default();
        for _ in 0..CANDIDATES {
            let Some(place) = usize::try_from(candidate).ok().filter(|place| *place < at && at - place <= WINDOW) else { break };
            let there = data.get(place..).unwrap_or_default();
            let length = here.iter().zip(there).take_while(|(a, b)| a == b).count();
            if length > best.1 {
                best = (at - place, length);
            }
            candidate = self.previous.get(place).copied().unwrap_or(NOWHERE);
        }
        best
    }
}

fn hash(data: &[u8], at: usize) -> Option<usize> {
    let three = data.get(at..at + SHORTEST)?;
    let number = three.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    usize::try_from(number.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)).ok()
}
