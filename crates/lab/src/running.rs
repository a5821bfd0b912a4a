use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

use exops_auth::issue;
use exops_authority::{Authority, AuthorityConfig, EXCHANGE_APP_ID, EXCHANGE_RESOURCE};
use exops_directory::Directory;
use exops_gateway::{Gateway, GatewayConfig, tls_config};
use exops_policy::RoleModel;
use exops_store::Store;
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::api::{self, Api};
use crate::folder::{self, BOOTSTRAP, CA_CERTIFICATE, Folder, READY};
use crate::identity::{self, Tenant, database};
use crate::{Bootstrap, LabConfig, LabError, Ready, ReadyTenant};

/// The host name that answers, errors and audit entries show for the lab's server.
pub(crate) const SERVER_NAME: &str = "EXOPSLAB01";

/// Starts and finds labs.
pub struct Lab;

impl Lab {
    /// Starts a lab: it accepts requests and its ready file is written when this returns.
    ///
    /// # Errors
    /// See [`LabError`].
    pub async fn start(config: LabConfig) -> Result<RunningLab, LabError> {
        let clock_offset = Arc::new(AtomicI32::new(0));
        let offset = Arc::clone(&clock_offset);
        let clock: Arc<dyn Fn() -> i64 + Send + Sync> =
            Arc::new(move || Timestamp::now().as_millisecond() + 1000 * i64::from(offset.load(Ordering::Relaxed)));
        let now = clock();
        identity::check_address(config.listen)?;
        let folder = Folder::take(config.data_dir.as_deref())?;
        // A lab that was killed left one.
        folder::remove(&folder.file(READY))?;
        let (listener, address) = listen(config.listen).await?;
        let (store, tenant) = identity::open(&folder, &config).await?;
        let rows = store.tenant(tenant.id());
        let orphans = rows.audit_close_orphans(now).await.map_err(database)?;
        if orphans > 0 {
            tracing::warn!(orphans, "changes were under way when the lab last ended: their outcome is unknown");
        }
        exops_authority::ensure_tenant(&rows).await.map_err(database)?;

        let bases = identity::bases(address.port(), &config.host_aliases);
        let token = exops_auth::secret::generate().map_err(|error| LabError::part("making the bootstrap token", error))?;
        let signing_key =
            exops_authority::signing_key(&store, now / 1000).await.map_err(|error| LabError::part("the token service", error))?;
        let domains = vec![tenant.organization.clone()];
        let authority = Authority::new(AuthorityConfig {
            store: store.clone(),
            signing_keys: vec![signing_key],
            bases: bases.clone(),
            tenants: vec![exops_authority::Tenant { id: tenant.id(), domains: domains.clone() }],
            bootstrap_token: token.clone(),
            clock: Arc::clone(&clock),
            strict: config.strict,
            lab: true,
        })
        .map_err(|error| LabError::part("the token service", error))?;
        let keys = authority.keys();

        let ca = identity::authority(&store, &folder, &config.host_aliases, now / 1000).await?;
        let server = issue::server_certificate(&ca, &config.host_aliases, now / 1000)
            .map_err(|error| LabError::part("the server certificate", error))?;
        let chain = vec![CertificateDer::from(server.certificate.as_der().to_vec())];
        let key = PrivatePkcs8KeyDer::from(server.key.expose_secret().to_vec());
        let tls = tls_config(chain, key.into()).map_err(|error| LabError::part("the server certificate", error))?;

        let ready = ready(&folder, &tenant, bases.first().map_or("", String::as_str));
        let stop = Arc::new(Notify::new());
        let api = Arc::new(Api {
            ready: ready.clone(),
            started: Timestamp::now(),
            gateway: OnceLock::new(),
            authority: Arc::clone(&authority),
            strict: config.strict,
            rows,
            token: token.clone(),
            clock_offset,
            stop: Arc::clone(&stop),
        });
        // A token that was asked for by the resource's client id says that id.
        let resource = [EXCHANGE_RESOURCE.to_owned(), EXCHANGE_APP_ID.to_string()];
        let audiences = resource.into_iter().chain(bases.iter().cloned()).collect();
        let gateway = Gateway::new(GatewayConfig {
            quotas: exops_gateway::Quotas::default(),
            runspace: Arc::new(Directory::new(&store, tenant.id(), &tenant.organization, SERVER_NAME)),
            roles: Arc::new(RoleModel::built_in()),
            store: store.clone(),
            token_keys: Arc::new(move || Arc::clone(&keys)),
            audiences,
            tenants: vec![exops_gateway::Tenant { id: tenant.id(), domains }],
            authority: ready.authority.clone(),
            server_name: SERVER_NAME.to_owned(),
            mark_lab: true,
            extra_routes: authority.router().merge(api::router(Arc::clone(&api))),
            clock,
            tls,
        });
        let _ = api.gateway.set(Arc::downgrade(&gateway));
        let (stopper, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(gateway.serve(listener, async {
            let _ = stopped.await;
        }));

        let mut files = vec![folder.file(READY)];
        files.extend(config.ready_file.as_deref().map(absolute).transpose()?);
        Bootstrap::write(&folder.file(BOOTSTRAP), &token)?;
        let ready_files = ReadyFiles::write(files, &ready)?;
        tracing::info!(address = %address, data_dir = %folder.path().display(), organization = %tenant.organization, "the lab accepts requests");
        Ok(RunningLab { bootstrap: Bootstrap { ready, token }, asked: stop, stopper: Some(stopper), server, ready_files, store, folder })
    }

    /// Finds the lab that runs on a data folder, see [`Bootstrap::open`].
    ///
    /// # Errors
    /// [`LabError::NotRunning`] when none does.
    pub fn open_bootstrap(data_dir: &Path) -> Result<Bootstrap, LabError> {
        Bootstrap::open(data_dir)
    }
}

async fn listen(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), LabError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => LabError::PortTaken { addr },
        _ => LabError::Listen { addr, source },
    };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn absolute(path: &Path) -> Result<PathBuf, LabError> {
    std::path::absolute(path).map_err(|source| LabError::File { action: "write", path: path.to_owned(), source })
}

fn ready(folder: &Folder, tenant: &Tenant, base: &str) -> Ready {
    Ready {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_dir: folder.path().to_owned(),
        tenant_id: tenant.tenant_id,
        organization: tenant.organization.clone(),
        authority: base.to_owned(),
        token_endpoint: format!("{base}/{}/oauth2/v2.0/token", tenant.tenant_id),
        graph: base.to_owned(),
        admin_api: base.to_owned(),
        powershell: format!("{base}/powershell-liveid"),
        ca_file: folder.file(CA_CERTIFICATE),
        tenants: vec![ReadyTenant { tenant_id: tenant.tenant_id, organization: tenant.organization.clone() }],
    }
}

/// The ready file and its copy; they go when this does.
struct ReadyFiles(Vec<PathBuf>);

impl ReadyFiles {
    fn write(paths: Vec<PathBuf>, ready: &Ready) -> Result<Self, LabError> {
        let mut written = Self(Vec::new());
        for path in paths {
            folder::write_json(&path, ready)?;
            written.0.push(path);
        }
        Ok(written)
    }

    fn remove(&mut self) -> Result<(), LabError> {
        self.0.drain(..).map(|path| folder::remove(&path)).fold(Ok(()), Result::and)
    }
}

impl Drop for ReadyFiles {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

/// A lab that accepts requests. Dropping it begins to stop it; [`RunningLab::stop`] also waits until it has.
pub struct RunningLab {
    bootstrap: Bootstrap,
    /// Told by the lab's API.
    asked: Arc<Notify>,
    /// Dropping it stops the listener.
    stopper: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    ready_files: ReadyFiles,
    store: Store,
    folder: Folder,
}

impl std::fmt::Debug for RunningLab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RunningLab").field(&self.bootstrap.ready).finish()
    }
}

impl RunningLab {
    /// Where everything is.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.bootstrap.ready
    }

    /// The same with the token for its own API.
    #[must_use]
    pub fn bootstrap(&self) -> &Bootstrap {
        &self.bootstrap
    }

    /// Serves until `shutdown` is ready or somebody asks over the lab's API; lets requests in flight finish, removes
    /// the ready file and, for an ephemeral lab, the data folder.
    ///
    /// # Errors
    /// When the listener broke off, or a file could not be removed.
    pub async fn run_until(mut self, shutdown: impl Future<Output = ()>) -> Result<(), LabError> {
        let broken = tokio::select! {
            () = shutdown => None,
            () = self.asked.notified() => None,
            end = &mut self.server => Some(end),
        };
        drop(self.stopper.take());
        let end = match broken {
            Some(end) => end.and(Ok(true)),
            None => (&mut self.server).await.and(Ok(false)),
        };
        self.store.close().await;
        // The ready file goes last: who waits for that may start the next lab on this folder.
        let removed = self.ready_files.remove().and(self.folder.leave());
        match end {
            Ok(false) => removed,
            Ok(true) => Err(LabError::part("the listener", "it ended by itself")),
            Err(error) => Err(LabError::part("the listener", error)),
        }
    }

    /// Stops it at once, the same way.
    ///
    /// # Errors
    /// As [`RunningLab::run_until`].
    pub async fn stop(self) -> Result<(), LabError> {
        self.run_until(std::future::ready(())).await
    }
}
