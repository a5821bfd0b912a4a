//! The corpus: mailbox-like objects of 48 properties, one message each as PowerShell remoting sends them.

use std::sync::Arc;

use exops_psobject::{DateTime, Properties, PsObject, TypeNames, Value};
use uuid::Uuid;

/// Objects in the corpus; with 48 properties each 44 MB of CLIXML.
pub const OBJECTS: u32 = 10_000;

/// Properties of one kind; their number makes 48 together with the four that are lists or differ in form.
const TEXTS: [&str; 20] = [
    "Name",
    "Alias",
    "DisplayName",
    "DistinguishedName",
    "Identity",
    "Id",
    "OrganizationalUnit",
    "LegacyExchangeDN",
    "ServerName",
    "Database",
    "RecipientTypeDetails",
    "MaxSendSize",
    "MaxReceiveSize",
    "ProhibitSendQuota",
    "IssueWarningQuota",
    "RetainDeletedItemsFor",
    "UserPrincipalName",
    "WindowsEmailAddress",
    "PrimarySmtpAddress",
    "ExchangeVersion",
];
const FLAGS: [&str; 10] = [
    "HiddenFromAddressListsEnabled",
    "AuditEnabled",
    "LitigationHoldEnabled",
    "IsDirSynced",
    "ModerationEnabled",
    "IsShared",
    "IsResource",
    "RetentionHoldEnabled",
    "DeliverToMailboxAndForward",
    "UseDatabaseQuotaDefaults",
];
const NULLS: [&str; 5] = ["ForwardingAddress", "ForwardingSmtpAddress", "LitigationHoldDate", "LitigationHoldOwner", "ArchiveName"];
const IDS: [&str; 4] = ["Guid", "ExchangeGuid", "ArchiveGuid", "ExternalDirectoryObjectId"];
const NUMBERS: [&str; 3] = ["RecipientLimits", "SCLJunkThreshold", "ResourceCapacity"];
const TIMES: [&str; 3] = ["WhenCreated", "WhenChanged", "WhenCreatedUTC"];
const LISTS: [&str; 3] = ["EmailAddresses", "GrantSendOnBehalfTo", "PoliciesIncluded"];

/// The objects, always the same.
pub fn objects() -> Vec<Value> {
    let names = |names: &[&str]| -> TypeNames { names.iter().map(|name| Arc::from(*name)).collect() };
    let mailbox = names(&[
        "Microsoft.Exchange.Data.Directory.Management.Mailbox",
        "Microsoft.Exchange.Data.Directory.Management.MailEnabledOrgPerson",
        "Microsoft.Exchange.Data.Directory.Management.ADPresentationObject",
        "System.Object",
    ]);
    let list = names(&["System.Collections.ArrayList", "System.Object"]);
    let shared: Vec<Arc<str>> = TEXTS
        .iter()
        .chain(&FLAGS)
        .chain(&NULLS)
        .chain(&IDS)
        .chain(&NUMBERS)
        .chain(&TIMES)
        .chain(&LISTS)
        .map(|name| Arc::from(*name))
        .collect();
    assert_eq!(shared.len(), 48);
    (0..OBJECTS)
        .map(|n| {
            let person = format!("user{n:05} \u{c5}ngstr\u{f6}m & s\u{f8}n");
            let values = TEXTS
                .iter()
                .map(|name| Value::from(format!("contoso.onmicrosoft.com/Users & Groups/{person}/{name}")))
                .chain(FLAGS.iter().enumerate().map(|(i, _)| Value::Bool((n as usize + i) % 3 == 0)))
                .chain(NULLS.iter().map(|_| Value::Null))
                .chain(
                    (0u128..)
                        .take(IDS.len())
                        .map(|i| Value::Guid(Uuid::from_u128((u128::from(n) << 64 | i).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C)))),
                )
                .chain((0i32..).take(NUMBERS.len()).map(|i| Value::I32(i * 500 + i32::try_from(n % 97).unwrap_or(0))))
                .chain(
                    (0i64..)
                        .take(TIMES.len())
                        .map(|i| DateTime::from_unix_milliseconds(1_600_000_000_000 + i64::from(n) * 86_413 + i).into()),
                )
                .chain(LISTS.iter().map(|name| {
                    let items = (0..3).map(|i| Value::from(format!("smtp:{name}.user{n:05}.{i}@contoso.onmicrosoft.com"))).collect();
                    PsObject { type_names: list.clone(), ..PsObject::from_list(items) }.into()
                }));
            let properties: Properties = shared.iter().cloned().zip(values).collect();
            PsObject { to_string: Some(person.as_str().into()), ..PsObject::typed(mailbox.clone(), properties) }.into()
        })
        .collect()
}
