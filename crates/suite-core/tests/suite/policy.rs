//! The role model: which parameters of a cmdlet reach a caller, through however many roles.
#![allow(clippy::unwrap_used)]

use exops_policy::{DirectoryRole, RoleModel};
use exops_testkit::caller;

#[test]
fn parameters_of_several_roles_add_up() {
    let model = |roles: &str| {
        let text = format!("directory-role Exchange Administrator = G\ngroup G = {}\n{roles}", names(roles).join(", "));
        RoleModel::parse(&text).unwrap().rights(&caller(&[DirectoryRole::ExchangeAdministrator]))
    };
    // Roles, and which of the parameters A, B and C they grant together.
    for (roles, expected) in [
        ("role R = Set-X", "ABC"),
        ("role R = Set-X(A B)", "AB"),
        ("role R = Set-X(-a)", "BC"),
        ("role R = Set-X(-A -B)\nrole S = Set-X(B)", "BC"),
        ("role R = Set-X(B)\nrole S = Set-X(-A -B)", "BC"),
        ("role R = Set-X(-A -B)\nrole S = Set-X(-B -C)", "AC"),
        ("role R = Set-X(-A)\nrole S = Set-X", "ABC"),
        ("role R = Set-X\nrole S = Set-X(-A)", "ABC"),
        ("role R = Set-X(A)\nrole S = Set-X(C)", "AC"),
        ("role R = Set-Y", ""),
    ] {
        let rights = model(roles);
        let granted: String = ["A", "B", "C"].into_iter().filter(|p| rights.grant("set-x").is_some_and(|g| g.allows(p))).collect();
        assert_eq!(granted, expected, "{roles}");
    }
    let mixed = RoleModel::parse("role R = Set-X(A -B)").unwrap_err();
    assert!(mixed.line == 1 && mixed.problem.contains("with and without a hyphen"), "{mixed}");
}

fn names(roles: &str) -> Vec<&str> {
    roles.lines().filter_map(|line| line.strip_prefix("role ")?.split(' ').next()).collect()
}

#[test]
fn holds_and_audit_settings_are_other_roles_than_recipients() {
    let model = RoleModel::built_in();
    for (role, display, hold, audit) in [
        (DirectoryRole::ExchangeAdministrator, true, true, true),
        (DirectoryRole::ExchangeRecipientAdministrator, true, false, false),
        (DirectoryRole::ComplianceAdministrator, false, false, true),
    ] {
        let rights = model.rights(&caller(&[role]));
        let grant = rights.grant("Set-Mailbox").unwrap();
        let has = ["DisplayName", "litigationholdenabled", "AuditEnabled"].map(|p| grant.allows(p));
        assert_eq!((has, grant.allows("Identity")), ([display, hold, audit], true), "{role:?}");
    }
    assert!(model.rights(&caller(&[DirectoryRole::GlobalReader])).grant("Set-Mailbox").is_none());
}
