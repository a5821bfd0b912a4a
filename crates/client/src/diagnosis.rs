//! What to do about a token that the admin API or remote PowerShell does not accept.

use exops_policy::EXCHANGE_MANAGE_AS_APP;
use exops_runspace::Fault;
use jiff::Timestamp;
use uuid::Uuid;

use crate::http::{Answer, date, place};
use crate::{Endpoint, Token};

/// The template id that every app-only token carries and that is no role.
const NO_ROLE: Uuid = Uuid::from_u128(0x0997_a1d0_0d1d_4acb_b408_d5ca_7312_1e90);

/// Adds what is wrong and what to do to the fault of a 401, whose message holds the reason that the far end gave
/// (`x-ms-diagnostics`), if it gave any. The token was renewed once already.
pub(crate) fn unaccepted(mut fault: Fault, answer: &Answer, url: &str, token: &Token, endpoint: &Endpoint) -> Fault {
    let claims = token.claims();
    let reason = fault.message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    let (here, authority) = (place(url), place(&endpoint.authority));
    fault.hint = if !claims.app_roles.iter().any(|role| role == EXCHANGE_MANAGE_AS_APP) {
        let has = if claims.app_roles.is_empty() {
            "no app role".to_owned()
        } else {
            format!("the app roles {} only", claims.app_roles.join(", "))
        };
        format!(
            "application {} has {has} in this tenant: grant it {EXCHANGE_MANAGE_AS_APP} (a lab: exops lab app create --app-role …; Entra: API permissions, admin consent)",
            claims.app_id
        )
    } else if says(&["audience"]) {
        format!("the token is for {}: connect with an --endpoint and an --authority of the same cloud", claims.audience)
    } else if says(&["tenant"]) {
        format!(
            "the token is for tenant {} ({}): connect with the --organization that {here} serves",
            claims.tenant_id, endpoint.organization
        )
    } else if says(&["signature", "key", "issuer"]) {
        format!(
            "{here} does not trust {authority}: --authority and --endpoint must belong together; a lab that was set up anew wants another connect --lab"
        )
    } else if let Some(clocks) = clocks(answer, token) {
        format!("{here} has {clocks} by the clock of {authority}: one of them is wrong")
    } else if says(&["expired", "valid yet", "lifetime", "life time"]) {
        format!("the clocks of {here} and {authority} may differ, or the token was taken back: connect again")
    } else {
        "connect again; if it stays, check that endpoint and authority belong to the same organisation".to_owned()
    };
    fault
}

/// Where the far end's `Date` is outside the life that the token service gave the token.
fn clocks(answer: &Answer, token: &Token) -> Option<String> {
    let (there, claims) = (date(answer)?, token.claims());
    let time = |seconds: i64| Timestamp::from_second(seconds).map(|t| t.strftime("%H:%M:%SZ").to_string()).unwrap_or_default();
    let (from, to) = (claims.not_before, claims.expires);
    (to > 0 && !(from..to).contains(&there)).then(|| format!("{}, and the token is good from {} to {}", time(there), time(from), time(to)))
}

/// What to do about a 403.
pub(crate) fn missing_role(token: &Token) -> String {
    let claims = token.claims();
    if claims.directory_roles.iter().all(|role| *role == NO_ROLE) {
        format!("application {} has no directory role: assign it one such as Exchange Administrator, then connect again", claims.app_id)
    } else {
        format!("no role of application {} grants this command; 'exops status' shows its roles", claims.app_id)
    }
}
