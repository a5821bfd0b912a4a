//! The block of ARCHITECTURE.md that says which crate may use which.
//!
//! ```text
//! tier 0: serde_json uuid            external crates that every crate of the tier may name
//!   wsman : quick-xml                and one that this crate alone may name
//!   psrp -> psobject                 arrows to other crates of the workspace
//! tier 6
//!   cli -> ..5                       every crate of tier 5 and below
//! internal
//!   suite-core -> ..1 testkit
//! ```
//! Tiers from 2 on may name any external crate that `deny.toml` lets pass.

use std::collections::{BTreeMap, BTreeSet};

/// The tier number of crates that are no part of the product.
pub(crate) const INTERNAL: u32 = u32::MAX;

/// One crate as the block has it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Crate {
    pub(crate) tier: u32,
    /// Crates of the workspace that it may use.
    pub(crate) arrows: BTreeSet<String>,
    /// It has arrows to whole tiers, so that not each one must be used.
    pub(crate) open: bool,
    /// External crates that it may name beside those of its tier.
    pub(crate) external: BTreeSet<String>,
}

/// The whole block, by folder name (`psobject` for `exops-psobject`).
#[derive(Debug, Default)]
pub(crate) struct Arrows {
    pub(crate) crates: BTreeMap<String, Crate>,
}

impl Arrows {
    /// Reads the block out of the document.
    pub(crate) fn read(document: &str) -> Result<Self, String> {
        let block = document
            .split_once("```arrows\n")
            .and_then(|(_, rest)| rest.split_once("\n```"))
            .map(|(block, _)| block)
            .ok_or("ARCHITECTURE.md has no block that begins with ```arrows")?;
        let mut arrows = Self::default();
        let mut later = Vec::new();
        let (mut tier, mut shared) = (None, BTreeSet::new());
        for line in block.lines().map(|line| line.split('#').next().unwrap_or_default()).filter(|line| !line.trim().is_empty()) {
            let (left, external) = line.split_once(':').unwrap_or((line, ""));
            let external: BTreeSet<String> = external.split_whitespace().map(str::to_owned).collect();
            if !line.starts_with(' ') {
                tier = Some(match left.trim() {
                    "internal" => INTERNAL,
                    other => other
                        .strip_prefix("tier ")
                        .and_then(|number| number.parse().ok())
                        .ok_or_else(|| format!("arrows: '{line}' is neither a crate nor a tier"))?,
                });
                shared = external;
                continue;
            }
            let tier = tier.ok_or_else(|| format!("arrows: '{}' stands before the first tier", line.trim()))?;
            let (name, targets) = left.split_once("->").unwrap_or((left, ""));
            let entry = Crate { tier, external: external.union(&shared).cloned().collect(), ..Crate::default() };
            if arrows.crates.insert(name.trim().to_owned(), entry).is_some() {
                return Err(format!("arrows: '{}' stands there twice", name.trim()));
            }
            later.push((name.trim().to_owned(), targets.split_whitespace().map(str::to_owned).collect::<Vec<_>>()));
        }
        for (name, targets) in later {
            arrows.add(&name, &targets)?;
        }
        Ok(arrows)
    }

    fn add(&mut self, name: &str, targets: &[String]) -> Result<(), String> {
        let tier = self.crates.get(name).map_or(0, |entry| entry.tier);
        let mut all = BTreeSet::new();
        let mut open = false;
        for target in targets {
            if let Some(highest) = target.strip_prefix("..").and_then(|number| number.parse::<u32>().ok()) {
                open = true;
                all.extend(self.crates.iter().filter(|(_, entry)| entry.tier <= highest).map(|(name, _)| name.clone()));
            } else {
                all.insert(target.clone());
            }
        }
        for target in &all {
            let below =
                self.crates.get(target).ok_or_else(|| format!("arrows: '{name}' points to '{target}', which is no crate here"))?.tier;
            let allowed = below < tier || (below == tier && (tier == 0 || tier == INTERNAL));
            if !allowed {
                return Err(format!("arrows: '{name}' (tier {tier}) points to '{target}' (tier {below}): arrows only go down"));
            }
        }
        if let Some(entry) = self.crates.get_mut(name) {
            entry.arrows = all;
            entry.open = open;
        }
        Ok(())
    }
}
