//! The columns of PowerShell's default tables, by output type.

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The property, which is also the heading.
    pub property: &'static str,
    /// Width in characters; `None` shares what is left.
    pub width: Option<u16>,
}

const fn column(property: &'static str) -> Column {
    Column { property, width: None }
}

const fn wide(property: &'static str, width: u16) -> Column {
    Column { property, width: Some(width) }
}

/// Short type name, columns.
const TABLES: &[(&str, &[Column])] = &[
    (
        "Mailbox",
        &[wide("Name", 25), wide("Alias", 15), wide("Database", 30), wide("ProhibitSendQuota", 20), column("ExternalDirectoryObjectId")],
    ),
    ("MailboxStatistics", &[column("DisplayName"), column("ItemCount"), column("StorageLimitStatus"), column("LastLogonTime")]),
    ("MailboxFolderPermission", &[column("FolderName"), column("User"), column("AccessRights"), column("SharingPermissionFlags")]),
    (
        "RecipientPermission",
        &[column("Identity"), column("Trustee"), column("AccessControlType"), column("AccessRights"), column("Inherited")],
    ),
    ("MailboxAcePresentationObject", &[column("Identity"), column("User"), column("AccessRights"), column("IsInherited"), column("Deny")]),
    ("InboxRule", &[column("Name"), column("Enabled"), column("Priority"), column("RuleIdentity")]),
    ("MessageTraceV2", &[column("Received"), column("SenderAddress"), column("RecipientAddress"), column("Subject"), column("Status")]),
    (
        "ServicePrincipalAuthorization",
        &[column("RoleName"), column("GrantedPermissions"), column("AllowedResourceScope"), column("ScopeType"), column("InScope")],
    ),
    ("ReducedRecipient", &[column("Name"), column("RecipientType")]),
    ("Recipient", &[column("Name"), column("RecipientType")]),
    ("User", &[column("Name"), column("RecipientType")]),
    ("WindowsGroup", &[column("Name"), column("DisplayName"), column("SamAccountName"), column("GroupType")]),
    ("MailContact", &[column("Name"), column("Alias"), column("RecipientType")]),
    (
        "UnifiedAuditLogEvent",
        &[
            column("CreationDate"),
            column("UserIds"),
            column("Operations"),
            column("ResultIndex"),
            column("ResultCount"),
            column("Identity"),
        ],
    ),
    ("DistributionGroup", &[column("Name"), column("DisplayName"), column("GroupType"), column("PrimarySmtpAddress")]),
    ("UnifiedGroup", &[column("Name"), column("Alias"), column("ServerName"), column("AccessType")]),
    (
        "CASMailbox",
        &[
            column("Name"),
            column("ActiveSyncEnabled"),
            column("OWAEnabled"),
            column("PopEnabled"),
            column("ImapEnabled"),
            column("MapiEnabled"),
            column("SmtpClientAuthenticationDisabled"),
        ],
    ),
    ("TransportRule", &[column("Name"), column("State"), column("Mode"), column("Priority"), column("Comments")]),
    ("AcceptedDomain", &[column("Name"), column("DomainName"), column("DomainType"), column("Default")]),
    ("ManagementRole", &[column("Name"), column("RoleType")]),
    ("ManagementRoleEntry", &[column("Name"), column("Role"), column("Parameters")]),
    (
        "ManagementRoleAssignment",
        &[
            column("Name"),
            column("Role"),
            column("RoleAssigneeName"),
            column("RoleAssigneeType"),
            column("AssignmentMethod"),
            column("EffectiveUserName"),
        ],
    ),
    ("RoleGroup", &[column("Name"), column("AssignedRoles"), column("RoleAssignments"), column("ManagedBy")]),
    (
        "ManagementScope",
        &[
            column("Name"),
            column("ScopeRestrictionType"),
            column("Exclusive"),
            column("RecipientRoot"),
            column("RecipientFilter"),
            column("ServerFilter"),
        ],
    ),
];

/// Name spaces of the output types that have a table and whose whole name is known.
const NAMES: &[(&str, &[&str])] = &[
    (
        "Microsoft.Exchange.Data.Directory.Management",
        &["Mailbox", "MailContact", "DistributionGroup", "CASMailbox", "ReducedRecipient", "User", "WindowsGroup"],
    ),
    ("Microsoft.Exchange.Data.Directory.SystemConfiguration", &["AcceptedDomain"]),
    ("Microsoft.Exchange.Data.Directory.Permission", &["RecipientPermission"]),
    ("Microsoft.Exchange.Management.RecipientTasks", &["MailboxAcePresentationObject"]),
];

/// Every type that has a table, by its whole name, with the table's columns.
pub fn tables() -> impl Iterator<Item = (String, &'static [Column])> {
    let names = NAMES.iter().flat_map(|(space, names)| names.iter().map(move |name| format!("{space}.{name}")));
    names.filter_map(|name| table_columns(&name).map(|columns| (name, columns)))
}

/// The default table of an output type, by its full or short name with or without `Deserialized.`; `None` for types
/// that have no table of their own.
#[must_use]
pub fn table_columns(type_name: &str) -> Option<&'static [Column]> {
    let short = type_name.rsplit('.').next().unwrap_or(type_name);
    TABLES.iter().find(|(name, _)| name.eq_ignore_ascii_case(short)).map(|(_, columns)| *columns)
}
