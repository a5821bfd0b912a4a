/// Bounds that every decoder of this crate checks before it allocates.
///
/// The defaults fit one object of an Exchange cmdlet with a wide margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest accepted document in bytes.
    pub bytes: usize,
    /// Deepest accepted nesting: of objects in CLIXML, of elements in other XML, of arrays and objects in JSON. PowerShell
    /// itself stops at 50 levels of objects.
    pub depth: usize,
    /// Largest accepted number of values (elements, properties, list items) in one document.
    pub values: usize,
    /// Largest accepted number of attributes of one element.
    pub attributes: usize,
    /// In CLIXML: an object that is its own member is read there as its string form, as PowerShell shows what lies below the
    /// depth that it writes; PowerShell writes such objects. Otherwise the object is refused (case C-03).
    pub own_members: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 20, depth: 128, values: 4_000_000, attributes: 64, own_members: false }
    }
}
