//! An HTTPS front end before a lab that can answer in its place: redirects, faults, compressed answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use exops_gateway::tls_config;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Path and query.
    pub(crate) path: String,
    /// Header lines.
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// Part of the body.
    pub(crate) fn says(&self, part: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(part)
    }
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Lines with `\r\n`, beside the length and the lab's mark.
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

/// What the front does with a request and, where that is nothing, with the lab's answer to it.
pub(crate) type Behaviour = Box<dyn FnMut(&Asked, Option<&Reply>) -> Option<Reply> + Send>;

/// The front, listening.
pub(crate) struct Front {
    pub(crate) port: u16,
    /// Its certificate, in PEM.
    pub(crate) certificate: String,
    seen: Arc<Mutex<Vec<Asked>>>,
    behaviour: Arc<Mutex<Behaviour>>,
    lab: Arc<Mutex<Option<(String, reqwest::Client)>>>,
}

impl Front {
    pub(crate) async fn start() -> Self {
        let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let tls = tls_config(vec![certified.cert.der().clone()], key.into()).expect("TLS");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let front = Self {
            port: listener.local_addr().expect("an address").port(),
            certificate: certified.cert.pem(),
            seen: Arc::default(),
            behaviour: Arc::new(Mutex::new(Box::new(|_, _| None))),
            lab: Arc::default(),
        };
        let (seen, behaviour, lab) = (front.seen.clone(), front.behaviour.clone(), front.lab.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen, behaviour, lab) = (TlsAcceptor::from(tls.clone()), seen.clone(), behaviour.clone(), lab.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &seen, &behaviour, &lab).await;
                    }
                });
            }
        });
        front
    }

    /// Hands on to a lab what it does not answer itself.
    pub(crate) fn before(&self, lab: SocketAddr, ca: &[u8]) {
        let certificates = reqwest::Certificate::from_pem_bundle(ca).expect("PEM");
        let client = reqwest::Client::builder().tls_certs_only(certificates).no_gzip().build().expect("a client");
        *self.lab.lock().unwrap() = Some((format!("https://{lab}"), client));
    }

    pub(crate) fn behave(&self, behaviour: impl FnMut(&Asked, Option<&Reply>) -> Option<Reply> + Send + 'static) {
        self.seen.lock().unwrap().clear();
        *self.behaviour.lock().unwrap() = Box::new(behaviour);
    }

    /// The requests since it was last told how to behave.
    pub(crate) fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TlsStream<TcpStream>,
    seen: &Mutex<Vec<Asked>>,
    behaviour: &Mutex<Behaviour>,
    lab: &Mutex<Option<(String, reqwest::Client)>>,
) {
    let mut read = Vec::new();
    while let Some(asked) = request(&mut stream, &mut read).await {
        seen.lock().unwrap().push(asked.clone());
        let own = behaviour.lock().unwrap()(&asked, None);
        let reply = match own {
            Some(reply) => reply,
            None => {
                let there = lab.lock().unwrap().clone();
                let Some((base, client)) = there else { return };
                let mut forward = client.post(format!("{base}{}", asked.path)).body(asked.body.clone());
                for line in asked.headers.lines() {
                    let Some((name, value)) = line.split_once(": ") else { continue };
                    if ["authorization", "content-type", "cookie"].contains(&name.to_ascii_lowercase().as_str()) {
                        forward = forward.header(name, value);
                    }
                }
                let Ok(answer) = forward.send().await else { return };
                let status = answer.status().as_u16();
                let kept = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
                    let wanted = ["content-type", "set-cookie", "www-authenticate"].contains(&name.as_str());
                    wanted.then(|| format!("{name}: {}\r\n", value.to_str().unwrap_or_default()))
                };
                let headers = answer.headers().iter().filter_map(kept).collect();
                let Ok(body) = answer.bytes().await else { return };
                let reply = Reply { status, headers, body: body.to_vec() };
                let changed = behaviour.lock().unwrap()(&asked, Some(&reply));
                changed.unwrap_or(reply)
            }
        };
        let head =
            format!("HTTP/1.1 {} X\r\nx-exops-lab: 1\r\nContent-Length: {}\r\n{}\r\n", reply.status, reply.body.len(), reply.headers);
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&reply.body).await.is_err() {
            return;
        }
        let _ = stream.flush().await;
    }
}

async fn request(stream: &mut TlsStream<TcpStream>, read: &mut Vec<u8>) -> Option<Asked> {
    let mut part = vec![0; 64 << 10];
    loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let (first, headers) = head.split_once("\r\n")?;
            let length = headers.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.trim().parse().ok());
            let whole = end + 4 + length.unwrap_or(0);
            if read.len() >= whole {
                let rest = read.split_off(whole);
                let body = std::mem::replace(read, rest).split_off(end + 4);
                return Some(Asked { path: first.split(' ').nth(1)?.to_owned(), headers: headers.to_owned(), body });
            }
        }
        match stream.read(&mut part).await {
            Ok(n) if n > 0 => read.extend_from_slice(&part[..n]),
            _ => return None,
        }
    }
}
