//! XPRESS: the examples of MS-XCA, everything there and back, and bytes that no encoder makes.
#![allow(clippy::unwrap_used)]

use exops_wsman::xpress::{XpressError, capacity, compress, decompress};
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;

#[test]
fn the_published_examples() {
    // MS-XCA 3.1, with the chunk's header before it: both sizes less one.
    let alphabet = b"abcdefghijklmnopqrstuvwxyz";
    let repeated = b"abc".repeat(100);
    for (plain, packed) in [
        (&alphabet[..], [b"\x19\x00\x1d\x00\x3f\x00\x00\x00", &alphabet[..]].concat()),
        (&repeated[..], b"\x2b\x01\x0c\x00\xff\xff\xff\x1f\x61\x62\x63\x17\x00\x0f\xff\x26\x01".to_vec()),
    ] {
        assert_eq!(decompress(&packed, LIMIT).unwrap(), plain);
    }
    assert_eq!(compress(&repeated)[4..], b"\xff\xff\xff\x1f\x61\x62\x63\x17\x00\x0f\xff\x26\x01"[..]);
    // A stored chunk has equal sizes, as a Windows client was seen to send thirty bytes.
    let stored = compress(alphabet);
    assert_eq!(stored, [b"\x19\x00\x19\x00", &alphabet[..]].concat());
    assert_eq!(decompress(&stored, LIMIT).unwrap(), alphabet);
    assert_eq!((compress(b""), decompress(b"", LIMIT)), (Vec::new(), Ok(Vec::new())));
}

#[test]
fn bytes_that_no_encoder_makes() {
    let good = compress(&b"Get-Mailbox -ResultSize Unlimited ".repeat(3_000));
    let whole = decompress(&good, LIMIT).unwrap();
    // Every cut is noticed, or the rest was padding: never a panic, never other bytes.
    for end in 0..good.len() {
        if let Ok(part) = decompress(&good[..end], LIMIT) {
            assert!(whole.starts_with(&part) && part.len() < whole.len());
        }
    }
    assert_eq!(decompress(&good, whole.len() - 1), Err(XpressError::TooLong(whole.len() - 1)));
    // The sizes alone decide, before anything is unpacked (C-02): a thousand chunks of nothing that claim 64 MiB.
    let bomb = b"\xff\xff\x00\x00\x00".repeat(1_000);
    assert_eq!(decompress(&bomb, LIMIT), Err(XpressError::TooLong(LIMIT)));
    for (bad, expected) in [
        (&b"\x05\x00"[..], XpressError::Truncated),
        (b"\x05\x00\x09\x00ab", XpressError::Truncated),
        // A match before the beginning of the chunk, and one longer than it.
        (b"\x05\x00\x06\x00\xff\xff\xff\xffa\x00\x00", XpressError::Truncated),
        (b"\x09\x00\x05\x00\xff\xff\xff\xff\x08\x00", XpressError::Match),
        (b"\x04\x00\x06\x00\xff\xff\xff\x7fa\x07\x00", XpressError::Truncated),
        (b"\x04\x00\x07\x00\xff\xff\xff\x7fa\x07\x00\x09", XpressError::Match),
        // A long form that is shorter than the short one.
        (b"\xff\x00\x0a\x00\xff\xff\xff\x7fa\x07\x00\x0f\xff\x05\x00", XpressError::Match),
        // The longest form: 4 GiB.
        (b"\xff\x00\x0e\x00\xff\xff\xff\x7fa\x07\x00\x0f\xff\x00\x00\xff\xff\xff\xff", XpressError::Match),
    ] {
        let found = decompress(bad, LIMIT).unwrap_err();
        assert!(matches!((found, expected), (XpressError::Truncated | XpressError::Match, XpressError::Truncated | XpressError::Match)));
    }
}

/// Bytes with and without repetitions, over several chunks.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::collection::vec(any::<u8>(), 1..40);
    let words = prop::collection::vec(word, 1..12);
    (words, prop::collection::vec((any::<prop::sample::Index>(), 1_usize..600), 0..60), prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(words, order, tail)| {
            let mut out = Vec::new();
            for (index, times) in order {
                out.extend(index.get(&words).repeat(times));
            }
            out.extend(tail);
            out
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn there_and_back(data in data()) {
        let packed = compress(&data);
        prop_assert!(packed.len() <= data.len() + data.len().div_ceil(1 << 16) * 4);
        prop_assert!(capacity(packed.len()) <= data.len().max(packed.len()));
        prop_assert!(decompress(&packed, data.len()).unwrap() == data);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decompress(&bytes, LIMIT);
        // Behind a header that fits, so that the decoder itself is reached.
        let mut chunk = vec![0xff, 0x1f, 0, 0];
        if let Some(size) = bytes.len().checked_sub(1) {
            chunk[2..4].copy_from_slice(&u16::try_from(size).unwrap().to_le_bytes());
            chunk.extend(&bytes);
            if let Ok(out) = decompress(&chunk, LIMIT) {
                prop_assert_eq!(out.len(), 0x2000);
            }
        }
    }
}
