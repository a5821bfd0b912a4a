use std::sync::Arc;

/// When PowerShell asks before it acts (`ConfirmImpact`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ConfirmImpact {
    /// Never by itself.
    #[default]
    None,
    /// Below the default preference.
    Low,
    /// Below the default preference.
    Medium,
    /// Asks by default.
    High,
}

/// What kind of value a parameter takes: what conversion is tried before the cmdlet sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ParameterKind {
    /// Present or not (`SwitchParameter`).
    Switch,
    /// `System.Boolean`.
    Boolean,
    /// `System.Int32`.
    Int32,
    /// `System.UInt32`.
    UInt32,
    /// Text.
    Text,
    /// A list of text.
    TextList,
    /// `System.Guid`.
    Guid,
    /// `System.DateTime`.
    DateTime,
    /// `System.TimeSpan` or Exchange's `EnhancedTimeSpan`.
    TimeSpan,
    /// `System.Byte[]`.
    Bytes,
    /// `System.Security.SecureString`.
    SecureString,
    /// `System.Management.Automation.PSCredential`.
    Credential,
    /// A hashtable.
    Hashtable,
    /// `System.Management.Automation.PSObject`: every object as it is.
    Object,
    /// Anything: the cmdlet converts it itself (Exchange's own parameter types).
    #[default]
    Any,
}

/// A check on the client's value before the cmdlet runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validator {
    /// Not null, not the empty string, no empty list, no null item.
    NotNullOrEmpty,
    /// Not null.
    NotNull,
    /// Length of text in characters.
    Length(u32, u32),
    /// Inclusive range of a number.
    Range(i64, i64),
    /// Number of items.
    Count(u32, u32),
    /// One of these, without case.
    Set(Vec<String>),
    /// `$null` is accepted although the parameter is mandatory.
    AllowNull,
    /// An empty list is accepted although the parameter is mandatory.
    AllowEmptyList,
}

/// How a parameter takes part in one parameter set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMembership {
    /// Name of the set; `None` for all sets.
    pub set: Option<Arc<str>>,
    /// Must be given.
    pub mandatory: bool,
    /// Position of an argument without a name.
    pub position: Option<u32>,
    /// Takes the pipeline's object.
    pub from_pipeline: bool,
    /// Takes the property of the same name of the pipeline's object.
    pub from_pipeline_by_property_name: bool,
}

/// A parameter of a cmdlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Canonical name.
    pub name: Arc<str>,
    /// Other names.
    pub aliases: Vec<Arc<str>>,
    /// Conversion.
    pub kind: ParameterKind,
    /// The documented .NET or Exchange type, short (`ProxyAddress`, `Unlimited`).
    pub type_name: Arc<str>,
    /// At least one membership.
    pub sets: Vec<SetMembership>,
    /// Checks, in order.
    pub validators: Vec<Validator>,
    /// One of PowerShell's common parameters (`-WhatIf` and `-Confirm` included), not the cmdlet's own.
    pub common: bool,
}

/// A cmdlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmdlet {
    /// Canonical name, `Verb-Noun`.
    pub name: Arc<str>,
    /// Its own parameters by the table's order, then the common ones.
    pub parameters: Vec<Arc<Parameter>>,
    /// The set that is tried first.
    pub default_set: Option<Arc<str>>,
    /// Offers `-WhatIf` and `-Confirm`.
    pub supports_should_process: bool,
    /// When it asks.
    pub impact: ConfirmImpact,
}

impl Parameter {
    /// How it takes part in a set; `None` asks for its part in all sets. Nothing when it does not belong there.
    #[must_use]
    pub fn membership(&self, set: Option<&str>) -> Option<&SetMembership> {
        let named = self.sets.iter().find(|m| m.set.as_deref() == set);
        named.or_else(|| self.sets.iter().find(|m| m.set.is_none()))
    }

    /// Whether its value must not be shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, ParameterKind::SecureString | ParameterKind::Credential)
    }
}

impl Cmdlet {
    /// Reads a row of the form that the built-in table has, the common parameters added: `Name|impact|default set|parameters`,
    /// for example `Get-Part|||Identity:t@*/0v Count:i`. Rows are the program's own: what does not have the form is read as
    /// far as it does.
    #[must_use]
    pub fn from_row(row: &str) -> Self {
        crate::table::cmdlet(row)
    }

    /// A parameter by exact canonical name or alias without case (no prefixes).
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&Arc<Parameter>> {
        self.parameters.iter().find(|p| p.name.eq_ignore_ascii_case(name) || p.aliases.iter().any(|a| a.eq_ignore_ascii_case(name)))
    }

    /// The verb.
    #[must_use]
    pub fn verb(&self) -> &str {
        self.name.split('-').next().unwrap_or_default()
    }

    /// Whether it only reads (Get-, Search-, Test-, Find-): reads leave no audit entry.
    #[must_use]
    pub fn is_read(&self) -> bool {
        is_read(&self.name)
    }

    /// The same cmdlet with only the parameters that `keep` accepts; common parameters always stay.
    #[must_use]
    pub fn restricted(&self, keep: impl Fn(&Parameter) -> bool) -> Self {
        let parameters = self.parameters.iter().filter(|p| p.common || keep(p)).cloned().collect();
        Self { parameters, ..self.clone() }
    }
}

/// Whether a cmdlet name has a verb that only reads.
#[must_use]
pub fn is_read(name: &str) -> bool {
    let verb = name.split('-').next().unwrap_or_default();
    ["Get", "Search", "Test", "Find"].iter().any(|v| v.eq_ignore_ascii_case(verb))
}

/// Names of PowerShell's common parameters in the order in which PowerShell lists them.
pub const COMMON_PARAMETERS: [&str; 11] = [
    "Verbose",
    "Debug",
    "ErrorAction",
    "WarningAction",
    "InformationAction",
    "ErrorVariable",
    "WarningVariable",
    "InformationVariable",
    "OutVariable",
    "OutBuffer",
    "PipelineVariable",
];
