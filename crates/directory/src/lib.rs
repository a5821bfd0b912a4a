//! The embedded organisation: objects, identity resolution and the cmdlets that read and change them.
//!
//! * [`Directory`] is a runspace over the rows of one tenant. It runs one cmdlet a pipeline, and only with a permit for
//!   exactly that bound command; a change also needs the audit intent under which it runs.
//! * What nouns look like and which cmdlets and parameters serve them is data: [`mod@nouns`]. A parameter that is not
//!   served is refused by name before anything happens.
//! * A change is one transaction of the store: the object is read again by its immutable id, checked, written, and its
//!   audit outcome with it.
//! * A [`Seed`] fills an organisation with the same recipients every time.
//!
//! It does not know who calls: bindings, rights and local stages are the session's business.

mod addresses;
mod audit_log;
mod change;
mod edit;
mod errors;
mod filters;
mod group;
mod import;
mod mailbox;
mod members;
pub mod nouns;
mod organization;
mod output;
mod parameters;
mod permissions;
mod read;
mod references;
mod seed;
mod unified_log;
mod values;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use exops_catalogue::{BoundCommand, Catalogue, Stage};
use exops_policy::{Caller, Permit, TenantId};
use exops_psobject::ErrorRecord;
use exops_runspace::{BoxFuture, Ended, Fault, FaultKind, Invocation, RecordStream, Runspace, ended};
use exops_store::{Object, Row, Store, StoreError, TenantStore};

use crate::errors::Origin;
use crate::members::Membership;
use crate::nouns::{Noun, Service, nouns};
use crate::organization::Organization;
use crate::output::{Flow, Output};
use crate::unified_log::Sessions;

pub use import::{ImportError, ImportOptions, ImportReport, RefusedObject, import, importable};
pub use seed::Seed;

/// The Active Directory forest that names and paths of the organisation show, in the form of Exchange Online's.
pub(crate) const FOREST: &str = "EURPR00A001.PROD.OUTLOOK.COM";

/// One organisation of one tenant.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    store: TenantStore,
    organization: Organization,
    server: String,
    clock: fn() -> i64,
    catalogue: OnceLock<Arc<Catalogue>>,
    sessions: Mutex<Sessions>,
}

/// One run of one cmdlet.
struct Run {
    directory: Directory,
    command: BoundCommand,
    invocation: Invocation,
    permit: Permit,
    output: Output,
}

/// What serves a cmdlet.
#[derive(Clone, Copy)]
enum Served {
    Get(&'static Noun),
    Set(&'static Noun),
    Coded(&'static Coded),
}

/// A cmdlet that the noun table cannot say.
struct Coded {
    cmdlet: &'static str,
    task: &'static str,
    parameters: &'static [&'static str],
    run: for<'a> fn(&'a Run) -> BoxFuture<'a, Flow>,
}

static CODED: [Coded; 16] = [
    Coded {
        cmdlet: "New-Mailbox",
        task: "Microsoft.Exchange.Management.RecipientTasks.NewMailbox",
        parameters: &mailbox::NEW,
        run: |run| Box::pin(run.new_mailbox()),
    },
    Coded {
        cmdlet: "Remove-Mailbox",
        task: "Microsoft.Exchange.Management.RecipientTasks.RemoveMailbox",
        parameters: &mailbox::REMOVE,
        run: |run| Box::pin(run.remove_mailbox()),
    },
    Coded {
        cmdlet: "Search-AdminAuditLog",
        task: "Microsoft.Exchange.Management.SystemConfigurationTasks.SearchAdminAuditLog",
        parameters: &audit_log::PARAMETERS,
        run: |run| Box::pin(run.search_admin_audit_log()),
    },
    Coded {
        cmdlet: "Get-DistributionGroupMember",
        task: "Microsoft.Exchange.Management.RecipientTasks.GetDistributionGroupMember",
        parameters: &["Identity", "ResultSize"],
        run: |run| Box::pin(run.get_distribution_group_member()),
    },
    Coded {
        cmdlet: "Add-DistributionGroupMember",
        task: "Microsoft.Exchange.Management.RecipientTasks.AddDistributionGroupMember",
        parameters: &["Identity", "Member", "BypassSecurityGroupManagerCheck"],
        run: |run| Box::pin(run.change_members(Membership::Add)),
    },
    Coded {
        cmdlet: "Remove-DistributionGroupMember",
        task: "Microsoft.Exchange.Management.RecipientTasks.RemoveDistributionGroupMember",
        parameters: &["Identity", "Member", "BypassSecurityGroupManagerCheck"],
        run: |run| Box::pin(run.change_members(Membership::Remove)),
    },
    Coded {
        cmdlet: "Update-DistributionGroupMember",
        task: "Microsoft.Exchange.Management.RecipientTasks.UpdateDistributionGroupMember",
        parameters: &["Identity", "Members", "BypassSecurityGroupManagerCheck"],
        run: |run| Box::pin(run.change_members(Membership::Update)),
    },
    Coded {
        cmdlet: "New-DistributionGroup",
        task: "Microsoft.Exchange.Management.RecipientTasks.NewDistributionGroup",
        parameters: &group::NEW,
        run: |run| Box::pin(run.new_distribution_group()),
    },
    Coded {
        cmdlet: "Remove-DistributionGroup",
        task: "Microsoft.Exchange.Management.RecipientTasks.RemoveDistributionGroup",
        parameters: &group::REMOVE,
        run: |run| Box::pin(run.remove_distribution_group()),
    },
    Coded {
        cmdlet: "Get-MailboxPermission",
        task: "Microsoft.Exchange.Management.RecipientTasks.GetMailboxPermission",
        parameters: &["Identity", "User", "Owner", "ResultSize", "SoftDeletedMailbox", "ReadFromDomainController", "UseCustomRouting"],
        run: |run| Box::pin(run.get_permissions(&permissions::MAILBOX)),
    },
    Coded {
        cmdlet: "Add-MailboxPermission",
        task: "Microsoft.Exchange.Management.RecipientTasks.AddMailboxPermission",
        parameters: &["Identity", "User", "AccessRights", "Deny", "InheritanceType", "AutoMapping", "Owner", "IgnoreDefaultScope"],
        run: |run| Box::pin(run.change_permissions(&permissions::MAILBOX, true)),
    },
    Coded {
        cmdlet: "Remove-MailboxPermission",
        task: "Microsoft.Exchange.Management.RecipientTasks.RemoveMailboxPermission",
        parameters: &permissions::REMOVE_FROM_MAILBOX,
        run: |run| Box::pin(run.change_permissions(&permissions::MAILBOX, false)),
    },
    Coded {
        cmdlet: "Get-RecipientPermission",
        task: "Microsoft.Exchange.Management.RecipientTasks.GetRecipientPermission",
        parameters: &["Identity", "Trustee", "AccessRights", "ResultSize", "ReadFromDomainController"],
        run: |run| Box::pin(run.get_permissions(&permissions::RECIPIENT)),
    },
    Coded {
        cmdlet: "Add-RecipientPermission",
        task: "Microsoft.Exchange.Management.RecipientTasks.AddRecipientPermission",
        parameters: &["Identity", "Trustee", "AccessRights"],
        run: |run| Box::pin(run.change_permissions(&permissions::RECIPIENT, true)),
    },
    Coded {
        cmdlet: "Remove-RecipientPermission",
        task: "Microsoft.Exchange.Management.RecipientTasks.RemoveRecipientPermission",
        parameters: &permissions::REMOVE_FROM_RECIPIENT,
        run: |run| Box::pin(run.change_permissions(&permissions::RECIPIENT, false)),
    },
    Coded {
        cmdlet: "Search-UnifiedAuditLog",
        task: "Microsoft.Exchange.Management.SystemConfigurationTasks.SearchUnifiedAuditLog",
        parameters: &unified_log::PARAMETERS,
        run: |run| Box::pin(run.search_unified_audit_log()),
    },
];

impl Served {
    fn find(cmdlet: &str) -> Option<Self> {
        let serves = |service: &Option<Service>| service.as_ref().is_some_and(|s| s.cmdlet.eq_ignore_ascii_case(cmdlet));
        let coded = CODED.iter().find(|coded| coded.cmdlet.eq_ignore_ascii_case(cmdlet)).map(Self::Coded);
        coded.or_else(|| {
            nouns().iter().find_map(|noun| match noun {
                noun if serves(&noun.get) => Some(Self::Get(noun)),
                noun if serves(&noun.set) => Some(Self::Set(noun)),
                _ => None,
            })
        })
    }

    fn task(self) -> &'static str {
        match self {
            Self::Get(noun) => noun.get.as_ref().map_or("", |s| &s.task),
            Self::Set(noun) => noun.set.as_ref().map_or("", |s| &s.task),
            Self::Coded(coded) => coded.task,
        }
    }

    fn serves(self, parameter: &str) -> bool {
        let among = |service: &Option<Service>| service.iter().flat_map(|s| &s.parameters).any(|p| p.eq_ignore_ascii_case(parameter));
        match self {
            Self::Get(noun) => among(&noun.get),
            Self::Set(noun) => ["Identity", "WhatIf", "Confirm"].iter().any(|p| p.eq_ignore_ascii_case(parameter)) || among(&noun.set),
            Self::Coded(coded) => coded.parameters.iter().any(|p| p.eq_ignore_ascii_case(parameter)),
        }
    }
}

impl Directory {
    /// An organisation (its initial domain, `contoso.onmicrosoft.com`) over the rows of a tenant. `server` is the host
    /// name that errors and audit rows show.
    #[must_use]
    pub fn new(store: &Store, tenant: TenantId, organization: impl AsRef<str>, server: impl Into<String>) -> Self {
        fn now() -> i64 {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
        }
        let server = server.into();
        let organization = Organization::new(organization.as_ref(), FOREST, &server);
        Self(Arc::new(Inner {
            store: store.tenant(tenant),
            organization,
            server,
            clock: now,
            catalogue: OnceLock::new(),
            sessions: Mutex::default(),
        }))
    }

    /// Replaces the clock (Unix milliseconds), right after [`Directory::new`]: for tests that need fixed times.
    #[must_use]
    pub fn with_clock(self, clock: fn() -> i64) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(inner) => Self(Arc::new(Inner { clock, ..inner })),
            Err(inner) => Self(inner),
        }
    }

    /// The parameters of a cmdlet that this organisation serves, beside the common ones; `None` when it does not have
    /// the cmdlet. Every other parameter of the catalogue is refused by name.
    #[must_use]
    pub fn served_parameters(cmdlet: &str) -> Option<Vec<&'static str>> {
        let names = |service: &'static Option<Service>| service.iter().flat_map(|s| s.parameters.iter().map(|p| &**p)).collect();
        Some(match Served::find(cmdlet)? {
            Served::Get(noun) => names(&noun.get),
            Served::Set(noun) => std::iter::once("Identity").chain::<Vec<_>>(names(&noun.set)).collect(),
            Served::Coded(coded) => coded.parameters.to_vec(),
        })
    }

    /// What the store asks to know which rows find an object that it holds.
    fn index(&self) -> impl Fn(&Object) -> Result<Row, StoreError> + Send + Sync + use<> {
        let directory = self.clone();
        move |object| directory.0.organization.rows_of(object)
    }

    fn built_in_subset() -> Catalogue {
        let all = Catalogue::built_in();
        // By name: the metadata of the hundreds of others is never read.
        Catalogue::new(all.names().filter(|name| Served::find(name).is_some()).filter_map(|name| all.cmdlet(name)).cloned())
    }

    /// Checks everything that must hold before anything happens.
    fn admit(&self, invocation: &Invocation, command: &BoundCommand, served: Served, origin: &Origin) -> Result<Permit, Box<ErrorRecord>> {
        let tenant = self.0.store.tenant();
        let permit = match &invocation.permit {
            Some(permit) if invocation.caller.tenant == tenant && permit.tenant() == tenant => permit,
            _ => return Err(origin.denied(format!("'{}' was not permitted: there is no permit for it.", origin.cmdlet))),
        };
        if !permit.covers(&invocation.caller, &command.digest()) {
            return Err(origin.denied(format!("'{}' was not permitted: the permit is for another command or caller.", origin.cmdlet)));
        }
        if let Some(argument) = command.arguments.iter().find(|a| !a.parameter.common && !served.serves(&a.parameter.name)) {
            return Err(origin.not_served(&argument.parameter.name));
        }
        if invocation.pipeline.stages.iter().skip(1).any(|stage| !matches!(stage, Stage::Local(..))) || !invocation.input.is_empty() {
            let text = format!("'{}' was not run: piping objects from or into it is not served by this organisation.", origin.cmdlet);
            return Err(origin.not_supported(text));
        }
        Ok(permit.clone())
    }
}

impl Runspace for Directory {
    fn catalogue<'a>(&'a self, caller: &'a Caller) -> BoxFuture<'a, Result<Arc<Catalogue>, Fault>> {
        Box::pin(async move {
            if caller.tenant != self.0.store.tenant() {
                return Err(Fault::new(FaultKind::Forbidden, format!("tenant {} is not served here", caller.tenant)));
            }
            Ok(self.0.catalogue.get_or_init(|| Arc::new(Self::built_in_subset())).clone())
        })
    }

    fn invoke(&self, invocation: Invocation) -> RecordStream {
        let origin = |cmdlet: &str, task: &str| Origin {
            cmdlet: cmdlet.to_owned(),
            task: task.to_owned(),
            server: self.0.server.clone(),
            request: invocation.correlation_id,
            time: (self.0.clock)(),
        };
        let refuse = |record| ended(Ended::Refused(record));
        let command = match invocation.pipeline.stages.first() {
            Some(Stage::Cmdlet(command)) => command.clone(),
            Some(Stage::Unresolved(command)) => {
                let text = format!("The term '{}' is not the name of a cmdlet of this organisation.", command.name);
                return refuse(origin(&command.name, "").not_supported(text));
            }
            _ => return refuse(origin("", "").not_supported("The pipeline does not begin with a cmdlet of this organisation.".to_owned())),
        };
        let Some(served) = Served::find(&command.cmdlet.name) else {
            let text = format!("'{}' is not served by this organisation. Nothing was carried out.", command.cmdlet.name);
            return refuse(origin(&command.cmdlet.name, "").not_supported(text));
        };
        let origin = origin(&command.cmdlet.name, served.task());
        let permit = match self.admit(&invocation, &command, served, &origin) {
            Ok(permit) => permit,
            Err(record) => return refuse(record),
        };
        let (output, records) = Output::open(&command, origin, invocation.stop.clone(), invocation.deadline);
        let run = Run { directory: self.clone(), command, invocation, permit, output };
        // A task of its own: a change that began runs to its end whether or not somebody still reads the records.
        tokio::spawn(async move {
            let end = match run.serve(served).await {
                Ok(()) => Ended::Completed,
                Err(end) => end,
            };
            run.output.end(end).await;
        });
        records
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        // Nothing is held between invocations; the store is closed by whoever opened it.
        Box::pin(async {})
    }
}

impl Run {
    async fn serve(&self, served: Served) -> Flow {
        match served {
            Served::Get(noun) => self.get(noun).await,
            Served::Set(noun) => self.set(noun).await,
            Served::Coded(coded) => (coded.run)(self).await,
        }
    }

    fn store(&self) -> &TenantStore {
        &self.directory.0.store
    }

    fn organization(&self) -> &Organization {
        &self.directory.0.organization
    }

    fn origin(&self) -> &Origin {
        self.output.origin()
    }

    /// Ends the run: the store failed.
    fn storage(&self, error: &dyn std::fmt::Display) -> Ended {
        Ended::Failed(self.origin().storage(error))
    }
}
