use std::fmt;

use thiserror::Error;

/// The digest by which a certificate is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thumbprint {
    /// SHA-1, what Windows and Entra call the thumbprint.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
}

/// A text that is no thumbprint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ThumbprintError {
    /// A character that is neither a hexadecimal digit nor a separator.
    #[error("the thumbprint has {0:?} in it, which is no hexadecimal digit")]
    Character(char),
    /// Neither 40 nor 64 digits.
    #[error("the thumbprint has {0} hexadecimal digits; SHA-1 has 40, SHA-256 has 64")]
    Length(usize),
}

impl Thumbprint {
    /// Reads a thumbprint as people paste it: any case, with spaces, colons or hyphens, and with the invisible marks that
    /// the Windows certificate dialog puts in front.
    ///
    /// # Errors
    /// Another character, or another number of digits.
    pub fn parse(text: &str) -> Result<Self, ThumbprintError> {
        let mut digits = Vec::new();
        let mut count = 0usize;
        for c in text.chars().filter(|c| !is_separator(*c)) {
            let digit = c.to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(ThumbprintError::Character(c))?;
            count += 1;
            if digits.len() < 64 {
                digits.push(digit);
            }
        }
        let bytes: Vec<u8> = digits.as_chunks::<2>().0.iter().map(|[high, low]| (high << 4) | low).collect();
        match count {
            40 => bytes.try_into().map(Self::Sha1).map_err(|_| ThumbprintError::Length(count)),
            64 => bytes.try_into().map(Self::Sha256).map_err(|_| ThumbprintError::Length(count)),
            _ => Err(ThumbprintError::Length(count)),
        }
    }

    /// The digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha1(bytes) => bytes,
            Self::Sha256(bytes) => bytes,
        }
    }
}

/// Upper-case hexadecimal digits, nothing between.
impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02X}"))
    }
}

fn is_separator(c: char) -> bool {
    matches!(c, ':' | '-' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        || c.is_whitespace()
}
