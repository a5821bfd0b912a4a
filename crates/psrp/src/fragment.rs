use std::collections::HashMap;

use thiserror::Error;

/// Length of a fragment's header: object id, fragment id, flags, length; all big endian.
pub(crate) const HEADER: usize = 21;
pub(crate) const START: u8 = 1;
pub(crate) const END: u8 = 2;

/// Bounds of one stream of fragments (cases C-01, C-02).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Largest object in bytes.
    pub object_bytes: usize,
    /// Bytes of all unfinished objects together.
    pub open_bytes: usize,
    /// Number of unfinished objects.
    pub open_objects: usize,
    /// Number of fragments of one object.
    pub fragments: u64,
}

impl Default for FragmentLimits {
    fn default() -> Self {
        Self { object_bytes: 32 << 20, open_bytes: 48 << 20, open_objects: 16, fragments: 65_536 }
    }
}

/// What is wrong with a fragment. The stream's unfinished objects are dropped with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each field is named in its message")]
pub enum FragmentError {
    #[error("object {object} would have more than {limit} bytes")]
    ObjectTooLarge { object: u64, limit: usize },
    #[error("unfinished objects would have more than {limit} bytes")]
    OpenTooLarge { limit: usize },
    #[error("more than {limit} objects are unfinished")]
    TooManyObjects { limit: usize },
    #[error("object {object} has more than {limit} fragments")]
    TooManyFragments { object: u64, limit: u64 },
    #[error("object {object} began again before its end")]
    StartedTwice { object: u64 },
    #[error("fragment {found} of object {object} came where {expected} was due")]
    OutOfOrder { object: u64, found: u64, expected: u64 },
    #[error("object {object} goes on without having begun")]
    NotStarted { object: u64 },
}

struct Partial {
    next: u64,
    bytes: Vec<u8>,
}

/// Puts objects together again from the fragments of one stream. Objects may interleave; within one, fragments come in
/// order. A fragment may be cut anywhere between two calls of [`push`](Self::push).
#[derive(Default)]
pub struct Defragmenter {
    limits: FragmentLimits,
    open: HashMap<u64, Partial>,
    open_bytes: usize,
    /// A fragment whose end has not come yet.
    carry: Vec<u8>,
}

impl Defragmenter {
    /// A stream without unfinished objects.
    #[must_use]
    pub fn new(limits: FragmentLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes the next bytes and appends every object that they complete to `out`.
    ///
    /// # Errors
    /// When a fragment is out of order or exceeds a limit; objects completed before it stay in `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Vec<u8>>) -> Result<(), FragmentError> {
        let result = if self.carry.is_empty() {
            self.consume(bytes, out).map(|used| self.carry.extend_from_slice(bytes.get(used..).unwrap_or_default()))
        } else {
            let mut joined = std::mem::take(&mut self.carry);
            joined.extend_from_slice(bytes);
            self.consume(&joined, out).map(|used| {
                joined.drain(..used);
                self.carry = joined;
            })
        };
        if result.is_err() {
            self.open.clear();
            self.open_bytes = 0;
            self.carry = Vec::new();
        }
        result
    }

    /// Bytes of what is unfinished.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.open_bytes + self.carry.len()
    }

    /// `true` when nothing is unfinished.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.carry.is_empty()
    }

    /// Consumes whole fragments and says how many bytes they had.
    fn consume(&mut self, bytes: &[u8], out: &mut Vec<Vec<u8>>) -> Result<usize, FragmentError> {
        let mut used = 0;
        while let Some((header, rest)) = bytes.get(used..).and_then(|b| b.split_first_chunk::<HEADER>()) {
            let number = |at: usize| header[at..at + 8].iter().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
            let (object, fragment, flags) = (number(0), number(8), header[16]);
            let length = u32::from_be_bytes([header[17], header[18], header[19], header[20]]) as usize;
            // Before waiting for the rest: a length beyond the limit never becomes acceptable.
            if length > self.limits.object_bytes {
                return Err(FragmentError::ObjectTooLarge { object, limit: self.limits.object_bytes });
            }
            let Some(blob) = rest.get(..length) else { break };
            self.fragment(object, fragment, flags, blob, out)?;
            used += HEADER + length;
        }
        Ok(used)
    }

    fn fragment(&mut self, object: u64, fragment: u64, flags: u8, blob: &[u8], out: &mut Vec<Vec<u8>>) -> Result<(), FragmentError> {
        let starts = flags & START != 0;
        let ends = flags & END != 0;
        if starts && self.open.contains_key(&object) {
            return Err(FragmentError::StartedTwice { object });
        }
        if starts && fragment != 0 {
            return Err(FragmentError::OutOfOrder { object, found: fragment, expected: 0 });
        }
        if starts && ends {
            out.push(blob.to_vec());
            return Ok(());
        }
        if self.open_bytes + blob.len() > self.limits.open_bytes {
            return Err(FragmentError::OpenTooLarge { limit: self.limits.open_bytes });
        }
        if starts {
            if self.open.len() >= self.limits.open_objects {
                return Err(FragmentError::TooManyObjects { limit: self.limits.open_objects });
            }
            self.open_bytes += blob.len();
            self.open.insert(object, Partial { next: 1, bytes: blob.to_vec() });
            return Ok(());
        }
        let partial = self.open.get_mut(&object).ok_or(FragmentError::NotStarted { object })?;
        if partial.next != fragment {
            return Err(FragmentError::OutOfOrder { object, found: fragment, expected: partial.next });
        }
        if partial.next >= self.limits.fragments {
            return Err(FragmentError::TooManyFragments { object, limit: self.limits.fragments });
        }
        if partial.bytes.len() + blob.len() > self.limits.object_bytes {
            return Err(FragmentError::ObjectTooLarge { object, limit: self.limits.object_bytes });
        }
        partial.bytes.extend_from_slice(blob);
        partial.next += 1;
        self.open_bytes += blob.len();
        if ends && let Some(done) = self.open.remove(&object) {
            self.open_bytes -= done.bytes.len();
            out.push(done.bytes);
        }
        Ok(())
    }
}
