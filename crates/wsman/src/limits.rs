/// Bounds that the envelope reader checks before it allocates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest accepted envelope in bytes.
    pub bytes: usize,
    /// Deepest accepted nesting of elements.
    pub depth: usize,
    /// Largest accepted number of elements.
    pub elements: usize,
    /// Largest accepted number of attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// Largest accepted number of namespace declarations in scope at once.
    pub namespaces: usize,
}

impl Default for Limits {
    /// Fits a 500 KiB envelope, the most that Windows accepts, with a margin.
    fn default() -> Self {
        Self { bytes: 1 << 20, depth: 24, elements: 2_000, attributes: 32, namespaces: 128 }
    }
}
