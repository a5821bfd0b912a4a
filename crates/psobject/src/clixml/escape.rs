use std::borrow::Cow;

use memchr::memchr2;

/// Where halves of surrogate pairs that stand alone are kept: text here is Unicode, .NET's is any UTF-16. Half `u` is the
/// character `LONE + u`, in the private use of the last plane, and goes out as `u` again. A document that really has a
/// character of these 2,048 is read as the two halves of it, so that it goes out as it came, too.
const LONE: u32 = 0x10_0000;

fn lone(unit: u16) -> char {
    char::from_u32(LONE + u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn is_lone(c: char) -> bool {
    matches!(c, '\u{10D800}'..='\u{10DFFF}')
}

/// Undoes `_xHHHH_`.
pub(super) fn decode(text: Cow<'_, str>) -> Cow<'_, str> {
    // 0xF4 begins U+100000 and what follows it in UTF-8.
    if memchr2(b'_', 0xF4, text.as_bytes()).is_none() {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest: &str = &text;
    while let Some(at) = rest.find(|c| c == '_' || is_lone(c)) {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let Some(unit) = unit(tail) else {
            let mut characters = tail.chars();
            characters.next().into_iter().for_each(|c| push(c, &mut out));
            rest = characters.as_str();
            continue;
        };
        rest = &tail[LENGTH..];
        let pair = match unit {
            0xD800..=0xDBFF => self::unit(rest).and_then(|low| char::decode_utf16([unit, low]).next()?.ok()),
            _ => None,
        };
        if pair.is_some() {
            rest = &rest[LENGTH..];
        }
        match pair.or(char::from_u32(u32::from(unit))) {
            Some(c) => push(c, &mut out),
            None => out.push(lone(unit)),
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn push(c: char, out: &mut String) {
    match is_lone(c) {
        true => c.encode_utf16(&mut [0; 2]).iter().for_each(|half| out.push(lone(*half))),
        false => out.push(c),
    }
}

/// Bytes of one escape.
const LENGTH: usize = "_x0000_".len();

fn unit(text: &str) -> Option<u16> {
    match text.as_bytes() {
        [b'_', b'x' | b'X', a, b, c, d, b'_', ..] => {
            [a, b, c, d].into_iter().try_fold(0u16, |n, digit| Some(n << 4 | u16::try_from(char::from(*digit).to_digit(16)?).ok()?))
        }
        _ => None,
    }
}

/// Bytes that are looked at together.
const BLOCK: usize = 32;

/// Whether a byte begins what is looked at closer: control characters, markup, `_`, the lead byte of U+0080 to U+00BF, of
/// U+F000 to U+FFFF, and of everything that is a surrogate pair in UTF-16. Comparisons alone, which the compiler makes
/// for a block of bytes at once.
fn is_special(b: u8) -> bool {
    (b < 0x20) | (b == b'&') | (b == b'<') | (b == b'>') | (b == b'"') | (b == b'_') | (b == 0x7F) | (b == 0xC2) | (b >= 0xEF)
}

/// Place of the first special byte, from `at` on.
fn special(bytes: &[u8], mut at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let (blocks, end) = rest.as_chunks::<BLOCK>();
    let plain = |block: &[u8; BLOCK]| block.iter().fold(0, |found, b| found | u8::from(is_special(*b))) == 0;
    let count = blocks.iter().take_while(|block| plain(block)).count();
    if count == blocks.len() {
        // Names and most values are shorter than a block.
        let mut block = [b' '; BLOCK];
        block.iter_mut().zip(end).for_each(|(place, b)| *place = *b);
        if plain(&block) {
            return None;
        }
    }
    at += count * BLOCK;
    Some(at + bytes.get(at..)?.iter().position(|b| is_special(*b))?)
}

/// Appends text with the escapes of MS-PSRP 2.2.5.3.2 and XML's own.
pub(super) fn encode(text: &str, out: &mut String) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = special(bytes, at) {
        at = found;
        let Some(c) = text[at..].chars().next() else { break };
        let end = at + c.len_utf8();
        let entity = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '_' if matches!(bytes.get(end), Some(b'x' | b'X')) => "_x005F_",
            // U+FFFE and U+FFFF are no characters of XML 1.0.
            '\0'..='\x1F' | '\x7F'..='\u{9F}' | '\u{FFFE}' | '\u{FFFF}' | '\u{10000}'.. => "",
            _ => {
                at = end;
                continue;
            }
        };
        out.push_str(&text[copied..at]);
        if entity.is_empty() {
            let mut units = [0; 2];
            let units: &[u16] = match u16::try_from(u32::from(c).wrapping_sub(LONE)) {
                Ok(half) if is_lone(c) => &[half],
                _ => c.encode_utf16(&mut units),
            };
            for unit in units {
                use std::fmt::Write;
                let _ = write!(out, "_x{unit:04X}_");
            }
        } else {
            out.push_str(entity);
        }
        at = end;
        copied = end;
    }
    out.push_str(&text[copied..]);
}
