//! Callers and objects with fixed ids, so that a failure reads the same each time.

use std::sync::Arc;

use exops_catalogue::{Cmdlet, Parameter, ParameterKind, SetMembership};
use exops_policy::{Application, Caller, DirectoryRole, EXCHANGE_MANAGE_AS_APP, Principal, TenantId};
use exops_psobject::{PsObject, TypeNames, Value};
use uuid::Uuid;

/// The tenant of all fixtures.
pub const TENANT: TenantId = TenantId(Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_1111));
/// Its first domain.
pub const ORGANIZATION: &str = "contoso.onmicrosoft.com";

/// An application with the app role for Exchange and these directory roles.
#[must_use]
pub fn caller(directory_roles: &[DirectoryRole]) -> Caller {
    Caller {
        tenant: TENANT,
        principal: Principal::Application(Application {
            app_id: Uuid::from_u128(0xa11c_a710_0000_4000_8000_0000_0000_0001),
            object_id: Uuid::from_u128(0xb0b0_0000_0000_4000_8000_0000_0000_0002),
            display_name: "testkit".to_owned(),
            app_roles: vec![EXCHANGE_MANAGE_AS_APP.to_owned()],
            directory_roles: directory_roles.iter().map(|role| role.template_id()).collect(),
        }),
        client_address: "192.0.2.7:50000".to_owned(),
    }
}

/// A cmdlet of one parameter set whose parameters are all optional text; the first one is positional.
#[must_use]
pub fn cmdlet(name: &str, parameters: &[&str]) -> Arc<Cmdlet> {
    let text = |(position, name): (usize, &&str)| {
        Arc::new(Parameter {
            name: (*name).into(),
            aliases: Vec::new(),
            kind: ParameterKind::Text,
            type_name: "String".into(),
            sets: vec![SetMembership {
                set: None,
                mandatory: false,
                position: (position == 0).then_some(0),
                from_pipeline: position == 0,
                from_pipeline_by_property_name: false,
            }],
            validators: Vec::new(),
            common: false,
        })
    };
    Arc::new(Cmdlet {
        name: name.into(),
        parameters: parameters.iter().enumerate().map(text).collect(),
        default_set: None,
        supports_should_process: false,
        impact: exops_catalogue::ConfirmImpact::None,
    })
}

/// A mailbox with values of the kinds that differ most between the transports: text, null, numbers, booleans, a GUID, a
/// list, and an object that is known by its string form.
#[must_use]
pub fn mailbox(alias: &str) -> Value {
    let types = |names: &[&str]| -> TypeNames { names.iter().map(|name| Arc::from(*name)).collect() };
    let unlimited = PsObject {
        to_string: Some("Unlimited".into()),
        ..PsObject::typed(
            types(&[
                "Microsoft.Exchange.Data.Unlimited`1[[Microsoft.Exchange.Data.ByteQuantifiedSize, Microsoft.Exchange.Data]]",
                "System.ValueType",
            ]),
            [("IsUnlimited", true)].into_iter().collect(),
        )
    };
    let address = format!("{alias}@{ORGANIZATION}");
    let id = alias.bytes().fold(0xface_0000_0000_4000_8000_0000_0000_0000_u128, |id, byte| id.wrapping_mul(31).wrapping_add(byte.into()));
    let values: [(&str, Value); 8] = [
        ("Alias", alias.into()),
        ("PrimarySmtpAddress", address.as_str().into()),
        ("EmailAddresses", PsObject::from_list(vec![format!("SMTP:{address}").into()]).into()),
        ("ForwardingSmtpAddress", Value::Null),
        ("HiddenFromAddressListsEnabled", false.into()),
        ("RulesQuotaUnits", 256.into()),
        ("ProhibitSendQuota", unlimited.into()),
        ("Guid", Uuid::from_u128(id).into()),
    ];
    PsObject::typed(types(&["Microsoft.Exchange.Data.Directory.Management.Mailbox", "System.Object"]), values.into_iter().collect()).into()
}
