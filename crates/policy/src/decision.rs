use crate::{Caller, Rights, TenantId};

/// SHA-256 over the canonical bytes of a bound command; computed by the catalogue.
pub type Digest = [u8; 32];

/// One bound command, reduced to what a decision needs.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Canonical cmdlet name.
    pub cmdlet: &'a str,
    /// Canonical names of the bound parameters.
    pub parameters: &'a [&'a str],
    /// Digest of the bound form.
    pub digest: Digest,
}

/// What the executor must hold to while it carries the command out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Obligations {
    /// Filters that the target must satisfy before and after a change; empty means the whole organisation.
    pub write_scopes: Vec<exops_filter::Filter>,
    /// Properties that must not leave, folded to lower case.
    pub hidden_properties: Vec<String>,
}

/// Proof that [`decide`] allowed exactly one bound command of one caller. It cannot be made anywhere else.
#[derive(Debug, Clone)]
pub struct Permit {
    tenant: TenantId,
    principal: uuid::Uuid,
    digest: Digest,
    obligations: Obligations,
}

impl Permit {
    /// The tenant it is good for.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// What the executor must hold to.
    #[must_use]
    pub fn obligations(&self) -> &Obligations {
        &self.obligations
    }

    /// Whether this permit was given for that command of that caller.
    #[must_use]
    pub fn covers(&self, caller: &Caller, digest: &Digest) -> bool {
        self.tenant == caller.tenant && self.principal == caller.principal.object_id() && self.digest == *digest
    }
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// No role that reaches the caller holds the cmdlet.
    Cmdlet {
        /// Its name.
        cmdlet: String,
    },
    /// A role holds the cmdlet but none grants this parameter.
    Parameter {
        /// The cmdlet.
        cmdlet: String,
        /// The parameter.
        parameter: String,
    },
}

/// The answer of [`decide`].
#[derive(Debug, Clone)]
pub enum Decision {
    /// Allowed, with what the executor must hold to.
    Permit(Permit),
    /// Refused.
    Deny(Denial),
}

/// Decides one bound command. Deny by default: a permit needs an assignment that grants the cmdlet and every
/// bound parameter.
#[must_use]
pub fn decide(rights: &Rights, caller: &Caller, request: Request<'_>) -> Decision {
    let Some(grant) = rights.grant(request.cmdlet) else {
        return Decision::Deny(Denial::Cmdlet { cmdlet: request.cmdlet.to_owned() });
    };
    if let Some(parameter) = request.parameters.iter().find(|p| !grant.allows(p)) {
        return Decision::Deny(Denial::Parameter { cmdlet: request.cmdlet.to_owned(), parameter: (*parameter).to_owned() });
    }
    Decision::Permit(Permit {
        tenant: caller.tenant,
        principal: caller.principal.object_id(),
        digest: request.digest,
        obligations: Obligations { write_scopes: rights.write_scopes(request.cmdlet, request.parameters), hidden_properties: Vec::new() },
    })
}
