use std::collections::{BTreeMap, BTreeSet};

use exops_filter::Filter;
use thiserror::Error;
use uuid::Uuid;

use crate::{Caller, DirectoryRole, EXCHANGE_MANAGE_AS_APP, Principal};

/// Which parameters of a cmdlet an entry grants. Names are folded to lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Every parameter.
    All,
    /// Every parameter but these, which another role holds.
    Except(BTreeSet<String>),
    /// Only these.
    Parameters(BTreeSet<String>),
}

impl Grant {
    /// Whether the parameter (any case) is granted.
    #[must_use]
    pub fn allows(&self, parameter: &str) -> bool {
        match self {
            Self::All => true,
            Self::Except(names) => !names.contains(&parameter.to_ascii_lowercase()),
            Self::Parameters(names) => names.contains(&parameter.to_ascii_lowercase()),
        }
    }

    fn join(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
            (Self::Except(a), other) => a.retain(|name| !other.allows(name)),
            (own, Self::Except(b)) => *own = Self::Except(b.iter().filter(|name| !own.allows(name)).cloned().collect()),
            (Self::Parameters(a), Self::Parameters(b)) => a.extend(b.iter().cloned()),
        }
    }
}

/// A role model: directory roles → role groups → roles → entries.
///
/// The text form has one statement a line, `#` begins a comment:
///
/// ```text
/// directory-role Global Reader = View-Only Organization Management
/// group View-Only Organization Management = View-Only Recipients, View-Only Configuration
/// role View-Only Recipients = Get-Mailbox, Get-Recipient(Identity ResultSize)
/// role Mail Recipients = Set-Mailbox(-LitigationHoldEnabled)
/// scope Room Keepers = RecipientTypeDetails -eq 'RoomMailbox'
/// ```
///
/// Behind a cmdlet stand the only parameters that the role grants or, each with a hyphen, those that it does not. A `scope` restricts what the assignments of a group may change to the objects that its filter matches.
#[derive(Debug, Clone, Default)]
pub struct RoleModel {
    directory_roles: BTreeMap<Uuid, Vec<String>>,
    groups: BTreeMap<String, Vec<String>>,
    roles: BTreeMap<String, Vec<(String, Grant)>>,
    /// By role group.
    scopes: BTreeMap<String, Filter>,
}

/// A line of a role model that was not understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("role model line {line}: {problem}")]
pub struct ModelError {
    /// Line number from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl RoleModel {
    /// The built-in model. Role groups and their roles are Exchange Online's documented ones; which cmdlets a role
    /// holds is not published in whole, so the entries are this project's approximation.
    #[must_use]
    pub fn built_in() -> Self {
        // The table is part of the source and a test parses it, so a failure here cannot happen in a build that passed.
        Self::parse(include_str!("roles.txt")).unwrap_or_default()
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// The first line that is not understood, or that names a role or group which does not exist.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let mut model = Self::default();
        for (index, line) in text.lines().enumerate() {
            let fail = |problem: String| ModelError { line: index + 1, problem };
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (left, right) = line.split_once('=').ok_or_else(|| fail("no '='".into()))?;
            let (kind, name) = left.trim().split_once(' ').ok_or_else(|| fail("no name before '='".into()))?;
            let name = name.trim();
            let items = right.split(',').map(str::trim).filter(|s| !s.is_empty());
            match kind {
                "directory-role" => {
                    let role = DirectoryRole::find(name).ok_or_else(|| fail(format!("unknown directory role '{name}'")))?;
                    model.directory_roles.insert(role.template_id(), items.map(str::to_owned).collect());
                }
                "group" => {
                    model.groups.insert(name.to_owned(), items.map(str::to_owned).collect());
                }
                "role" => {
                    let entries = items.map(|item| match item.split_once('(') {
                        None => Ok((item.to_ascii_lowercase(), Grant::All)),
                        Some((cmdlet, rest)) => {
                            let names = rest.strip_suffix(')').ok_or_else(|| fail(format!("'{item}' lacks ')'")))?;
                            let names: BTreeSet<_> = names.split_whitespace().map(str::to_ascii_lowercase).collect();
                            let without: BTreeSet<_> = names.iter().filter_map(|name| Some(name.strip_prefix('-')?.to_owned())).collect();
                            let grant = match without.len() {
                                0 => Grant::Parameters(names),
                                count if count == names.len() => Grant::Except(without),
                                _ => return Err(fail(format!("'{item}' names parameters with and without a hyphen"))),
                            };
                            Ok((cmdlet.trim().to_ascii_lowercase(), grant))
                        }
                    });
                    let entries = entries.collect::<Result<Vec<_>, _>>()?;
                    model.roles.insert(name.to_owned(), entries);
                }
                "scope" => {
                    let filter = exops_filter::parse_opath(right.trim()).map_err(|e| fail(format!("the scope of '{name}': {e}")))?;
                    model.scopes.insert(name.to_owned(), filter);
                }
                other => return Err(fail(format!("unknown statement '{other}'"))),
            }
        }
        for (kind, from, to) in [
            ("role group", &model.directory_roles.values().flatten().collect::<Vec<_>>(), model.groups.keys().collect::<BTreeSet<_>>()),
            ("role group", &model.scopes.keys().collect::<Vec<_>>(), model.groups.keys().collect::<BTreeSet<_>>()),
            ("role", &model.groups.values().flatten().collect::<Vec<_>>(), model.roles.keys().collect::<BTreeSet<_>>()),
        ] {
            if let Some(missing) = from.iter().find(|name| !to.contains(**name)) {
                return Err(ModelError { line: 0, problem: format!("{kind} '{missing}' is used but not defined") });
            }
        }
        Ok(model)
    }

    /// What the caller may call: the union over all assignments that reach it. Without the app role nothing is
    /// granted; without a directory role that leads to a role group nothing is granted either.
    #[must_use]
    pub fn rights(&self, caller: &Caller) -> Rights {
        let mut rights = Rights::default();
        let Principal::Application(application) = &caller.principal;
        if !application.app_roles.iter().any(|r| r == EXCHANGE_MANAGE_AS_APP) {
            return rights;
        }
        let groups = application.directory_roles.iter().filter_map(|id| self.directory_roles.get(id)).flatten();
        for (group, role) in
            groups.filter_map(|group| Some((group, self.groups.get(group)?))).flat_map(|(g, roles)| roles.iter().map(move |r| (g, r)))
        {
            for (cmdlet, grant) in self.roles.get(role).into_iter().flatten() {
                let scope = self.scopes.get(group).cloned();
                let entry = rights.cmdlets.entry(cmdlet.clone());
                let entry = entry.or_insert_with(|| Entry { grant: Grant::Parameters(BTreeSet::new()), assignments: Vec::new() });
                entry.grant.join(grant);
                entry.assignments.push((grant.clone(), scope));
            }
        }
        rights
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) grant: Grant,
    /// What each assignment grants, and on which objects; `None` on all.
    assignments: Vec<(Grant, Option<Filter>)>,
}

/// What one caller may call.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    pub(crate) cmdlets: BTreeMap<String, Entry>,
}

impl Rights {
    /// `true` when nothing at all is granted: such a caller gets no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cmdlets.is_empty()
    }

    /// The parameters granted for a cmdlet (any case); `None` when the cmdlet does not exist for this caller.
    #[must_use]
    pub fn grant(&self, cmdlet: &str) -> Option<&Grant> {
        self.cmdlets.get(&cmdlet.to_ascii_lowercase()).map(|e| &e.grant)
    }

    /// Filters that an object must satisfy, all of them, for these parameters to change it. Each parameter is granted on
    /// the objects of any assignment that holds it.
    pub(crate) fn write_scopes(&self, cmdlet: &str, parameters: &[&str]) -> Vec<Filter> {
        let Some(entry) = self.cmdlets.get(&cmdlet.to_ascii_lowercase()) else { return Vec::new() };
        let scope = |granted: &dyn Fn(&Grant) -> bool| {
            let scopes: Option<Vec<Filter>> =
                entry.assignments.iter().filter(|(grant, _)| granted(grant)).map(|(_, s)| s.clone()).collect();
            scopes.map(Filter::Or)
        };
        let every = parameters.iter().filter_map(|p| scope(&|grant| grant.allows(p)));
        let mut all = Vec::new();
        for filter in every.chain(scope(&|_| true)) {
            if !all.contains(&filter) {
                all.push(filter);
            }
        }
        all
    }
}
