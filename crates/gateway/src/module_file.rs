//! `EXOModuleFile`: the public key under which clients of REST seal secrets, and the secrets sealed with it.

use std::sync::{Arc, OnceLock};

use exops_auth::parameter_key::ParameterKey;
use exops_psobject::{CREDENTIAL, PsObject, SecureString, Value};
use secrecy::ExposeSecret as _;
use serde_json::json;

/// The key, made when it is first asked for. A process has one.
#[derive(Default)]
pub(crate) struct ModuleFile(OnceLock<Option<ParameterKey>>);

impl ModuleFile {
    fn key(&self) -> Option<&ParameterKey> {
        self.0.get_or_init(|| ParameterKey::generate().ok()).as_ref()
    }

    /// The answer: a script that holds the key and no cmdlets. Who loads it into PowerShell is told so.
    pub(crate) fn answer(&self) -> Option<serde_json::Value> {
        let key = self.key()?.public_key();
        let script = format!(
            "$PublicKey = '{key}'\r\nthrow 'This service has no proxy module. Call its REST interface, or import its remote PowerShell session.'\r\n"
        );
        Some(json!({"value": [{"fileName": "ExchangeOnline.psm1", "fileContent": script, "exportedCmdlets": ""}]}))
    }

    /// A sealed parameter opened: a SecureString, or a credential, which is sealed as JSON.
    pub(crate) fn open(&self, sealed: &Value, credential: bool) -> Option<Value> {
        // Without a key nobody can have sealed anything.
        let key = self.0.get()?.as_ref()?;
        let secret = key.open(sealed.as_str()?).ok()?;
        if !credential {
            return Some(Value::SecureString(SecureString::clear(secret)));
        }
        let json: serde_json::Value = serde_json::from_str(secret.expose_secret()).ok()?;
        let part = |name: &str| json.get(name).and_then(serde_json::Value::as_str);
        let password = SecureString::clear(part("Password")?.into());
        let properties = [("UserName", Value::from(part("UserName")?)), ("Password", Value::SecureString(password))];
        let type_names = [CREDENTIAL, "System.Object"].into_iter().map(Arc::from).collect();
        Some(PsObject { type_names, adapted: properties.into_iter().collect(), ..PsObject::default() }.into())
    }
}
