//! The TLS listener: accept loop, handshakes, HTTP limits, drain.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::Gateway;
use crate::connections::{Addresses, Impatient};

/// A peer that has not finished its handshake by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest wait for a whole request head, idle time between two requests included. Longer than the 90 seconds for
/// which common clients keep idle connections, so that they close first and never write into a closing one.
const HEADER_READ: Duration = Duration::from_secs(100);
/// Basic credentials with a token in them make heads of several KiB.
const HEAD_BYTES: usize = 64 << 10;
/// Connections at the same time; more wait in the system's backlog.
const CONNECTIONS: usize = 4096;
/// Requests in flight get that long after a shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(5);
/// Pause after a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The TLS settings that remote PowerShell clients need: no TLS 1.3 session tickets (any number of them hangs the
/// Unix WSMan client) and HTTP/1.1 only.
///
/// # Errors
/// When the key does not fit the certificate.
pub fn tls_config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Gateway {
    /// Accepts connections until `shutdown` is ready, then lets requests in flight finish for a few seconds, closes
    /// all sessions and returns.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let acceptor = TlsAcceptor::from(self.tls.clone());
        let graceful = GracefulShutdown::new();
        let (closing, _) = watch::channel(());
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let addresses = Arc::new(Addresses::default());
        let mut connections = JoinSet::new();
        let reaper = AbortOnDrop(tokio::spawn(Arc::clone(&self).reap()));
        tokio::pin!(shutdown);
        loop {
            let permit = tokio::select! {
                () = &mut shutdown => break,
                permit = Arc::clone(&permits).acquire_owned() => permit,
            };
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(counted) = addresses.count(peer.ip(), self.connections_per_address) else {
                tracing::debug!(%peer, "the address has too many connections");
                continue;
            };
            let (gateway, acceptor, watcher, mut closed) = (Arc::clone(&self), acceptor.clone(), graceful.watcher(), closing.subscribe());
            // The handshake is part of the connection's own task: the Unix WSMan client opens several connections and
            // handshakes them one after the other in an order of its own.
            connections.spawn(async move {
                let _held = (permit, counted);
                let connection = tokio::select! {
                    connection = gateway.connection(acceptor, stream, peer) => connection,
                    _ = closed.changed() => None,
                };
                if let Some(connection) = connection
                    && let Err(error) = watcher.watch(connection).await
                {
                    tracing::debug!(%peer, %error, "connection ended");
                }
            });
        }
        drop(listener);
        drop(closing);
        // Held answers are given now, so that their connections can end.
        self.close_sessions().await;
        if timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::info!(connections = connections.len(), "connections were cut off at shutdown");
        }
        connections.shutdown().await;
        drop(reaper);
        self.close().await;
    }

    async fn connection(
        self: Arc<Self>,
        acceptor: TlsAcceptor,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Option<impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send> {
        let _ = stream.set_nodelay(true);
        let stream = Impatient::new(stream, self.stalled_after);
        let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "TLS handshake failed");
                return None;
            }
            Err(_) => {
                tracing::debug!(%peer, "TLS handshake took too long");
                return None;
            }
        };
        let service = service_fn(move |request: http::Request<Incoming>| {
            let gateway = Arc::clone(&self);
            async move { Ok::<Response<Body>, Infallible>(gateway.answer(request, peer).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ).max_buf_size(HEAD_BYTES);
        Some(builder.serve_connection(TokioIo::new(stream), service))
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
