use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::{Cmdlet, table};

/// The cmdlets that exist for one caller. Names are matched whole and without ASCII case, never by prefix, alias,
/// module or wildcard.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// By name without case.
    entries: Vec<Entry>,
}

/// A row of the built-in table is read when somebody asks for it: a process that runs one cmdlet reads one row.
#[derive(Debug, Clone)]
struct Entry {
    row: &'static str,
    cmdlet: OnceLock<Arc<Cmdlet>>,
}

impl Entry {
    fn name(&self) -> &str {
        self.cmdlet.get().map_or_else(|| table::name(self.row), |c| &c.name)
    }

    fn cmdlet(&self) -> &Arc<Cmdlet> {
        self.cmdlet.get_or_init(|| Arc::new(table::cmdlet(self.row)))
    }
}

impl Catalogue {
    /// A catalogue of exactly these cmdlets. Of several with one name, the last one stays.
    #[must_use]
    pub fn new(cmdlets: impl IntoIterator<Item = Arc<Cmdlet>>) -> Self {
        let sorted: BTreeMap<String, Arc<Cmdlet>> = cmdlets.into_iter().map(|c| (c.name.to_ascii_lowercase(), c)).collect();
        Self { entries: sorted.into_values().map(|c| Entry { row: "", cmdlet: OnceLock::from(c) }).collect() }
    }

    /// All cmdlets that one recorded Exchange Online session offered, with everything that the session told about
    /// them. One instance a process.
    #[must_use]
    pub fn built_in() -> Arc<Self> {
        static BUILT_IN: OnceLock<Arc<Catalogue>> = OnceLock::new();
        Arc::clone(BUILT_IN.get_or_init(|| {
            let entries = table::rows().map(|row| Entry { row, cmdlet: OnceLock::new() }).collect();
            Arc::new(Self { entries })
        }))
    }

    /// The commands of a restricted session itself (`Get-Command`, `Select-Object`, `Out-Default` …).
    pub fn session_commands() -> impl Iterator<Item = &'static Arc<Cmdlet>> {
        table::local_stages().iter().map(|(_, cmdlet)| cmdlet)
    }

    /// A cmdlet by exact name without case.
    #[must_use]
    pub fn cmdlet(&self, name: &str) -> Option<&Arc<Cmdlet>> {
        let index = self.entries.binary_search_by(|e| compare(e.name(), name)).ok()?;
        self.entries.get(index).map(Entry::cmdlet)
    }

    /// All cmdlets by name.
    pub fn cmdlets(&self) -> impl Iterator<Item = &Arc<Cmdlet>> {
        self.entries.iter().map(Entry::cmdlet)
    }

    /// All names in order; unlike [`Catalogue::cmdlets`] this reads no metadata.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(Entry::name)
    }

    /// Number of cmdlets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// `true` when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn compare(a: &str, b: &str) -> Ordering {
    let lower = |b: u8| b.to_ascii_lowercase();
    a.bytes().map(lower).cmp(b.bytes().map(lower))
}
