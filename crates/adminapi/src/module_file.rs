//! What a client needs of the module file: the public key under which it seals secrets in parameters.

use exops_psobject::{CREDENTIAL, PsObject, Value};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value as Json;

use crate::bounded;
use exops_psobject::Limits;

/// The `<RSAKeyValue>` in the answer to `EXOModuleFile`; `None` where there is none. The script is not looked at otherwise, and
/// never run.
#[must_use]
pub fn public_key(body: &[u8], limits: &Limits) -> Option<String> {
    let json = bounded::parse_unique(body, limits).ok()?;
    let files = json.get("value")?.as_array()?.iter();
    files.filter_map(|file| file.get("fileContent").and_then(Json::as_str)).find_map(|script| {
        let (_, rest) = script.split_once("$PublicKey")?;
        let from = rest.get(rest.find("<RSAKeyValue>")?..)?;
        let end = from.find("</RSAKeyValue>")? + "</RSAKeyValue>".len();
        from.get(..end).map(str::to_owned)
    })
}

/// A parameter with its secret sealed, as it travels: of a credential the JSON of both its parts is one secret. `None` where
/// there is nothing to seal.
///
/// # Errors
/// What `seal` gives.
pub fn sealed<E>(value: &Value, seal: impl Fn(&SecretString) -> Result<String, E>) -> Result<Option<Value>, E> {
    let clear = match value {
        Value::SecureString(secret) => secret.secret().cloned(),
        Value::Object(object) => credential(object),
        _ => None,
    };
    clear.map(|secret| seal(&secret).map(Value::from)).transpose()
}

fn credential(object: &PsObject) -> Option<SecretString> {
    let is_credential = object.type_name() == Some(CREDENTIAL);
    let user = object.property("UserName").filter(|_| is_credential)?.as_str()?;
    let Some(Value::SecureString(password)) = object.property("Password") else { return None };
    // Two strings, so that nothing but the secret itself holds a copy of it.
    let user = Json::from(user).to_string();
    let password = SecretString::from(Json::from(password.secret()?.expose_secret()).to_string());
    Some(format!("{{\"UserName\":{user},\"Password\":{}}}", password.expose_secret()).into())
}
