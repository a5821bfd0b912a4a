use std::fmt;
use std::sync::Arc;

use exops_auth::{Signer, assertion};
use exops_runspace::{Fault, FaultKind};
use secrecy::SecretString;
use uuid::Uuid;

/// Code of a fault about a certificate whose life is over.
pub const CERTIFICATE_EXPIRED: &str = "CertificateExpired";
/// Code of a fault about a certificate whose life has not begun.
pub const CERTIFICATE_NOT_YET_VALID: &str = "CertificateNotYetValid";

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How an application proves who it is.
#[derive(Clone)]
pub enum Credential {
    /// A certificate, wherever its RSA key is: a signed assertion, PS256 where the key can.
    Certificate(Arc<dyn Signer>),
    /// A client secret.
    Secret(SecretString),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(signer) => f.debug_tuple("Certificate").field(&signer.certificate().sha1_thumbprint()).finish(),
            Self::Secret(_) => f.write_str("Secret"),
        }
    }
}

impl Credential {
    /// The form fields that prove it: an assertion for `audience`, or the secret. `now` in unix seconds.
    pub(crate) async fn proof(&self, client_id: &str, audience: &str, now: i64) -> Result<Vec<(&'static str, SecretString)>, Fault> {
        let signer = match self {
            Self::Secret(secret) => return Ok(vec![("client_secret", secret.clone())]),
            Self::Certificate(signer) => signer.clone(),
        };
        in_its_life(signer.as_ref(), now)?;
        let (client_id, audience) = (client_id.to_owned(), audience.to_owned());
        // A key may be behind a PIN or a network.
        let signed = tokio::task::spawn_blocking(move || {
            assertion::sign(
                signer.as_ref(),
                &assertion::Request { client_id: &client_id, audience: &audience, jti: Uuid::new_v4(), now, chain: None },
            )
        });
        let assertion = signed
            .await
            .map_err(|e| Fault::new(FaultKind::Internal, format!("signing was cut off: {e}")))?
            .map_err(|e| Fault::new(FaultKind::SignIn, e.to_string()).with_hint("check that the key is there and may be used"))?;
        Ok(vec![("client_assertion_type", ASSERTION_TYPE.into()), ("client_assertion", assertion)])
    }
}

/// A certificate outside its life is refused here, with its dates, before the service says something vaguer.
fn in_its_life(signer: &dyn Signer, now: i64) -> Result<(), Fault> {
    let certificate = signer.certificate();
    let day = |seconds: i64| jiff::Timestamp::from_second(seconds).map(|t| t.to_string()).unwrap_or_default();
    let name = format!("the certificate {} ({})", certificate.sha1_thumbprint(), certificate.subject());
    if now > certificate.not_after() {
        return Err(Fault::new(FaultKind::SignIn, format!("{name} expired on {}", day(certificate.not_after())))
            .with_code(CERTIFICATE_EXPIRED)
            .with_hint("make a new one with 'exops cert new' and register it with the application"));
    }
    if now < certificate.not_before() {
        return Err(Fault::new(FaultKind::SignIn, format!("{name} is valid from {} on", day(certificate.not_before())))
            .with_code(CERTIFICATE_NOT_YET_VALID)
            .with_hint("check this machine's clock"));
    }
    Ok(())
}
