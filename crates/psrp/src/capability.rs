use exops_psobject::Value;
use uuid::Uuid;

use crate::notes::{Reader, dictionary, object, text};
use crate::{MessageType, ProtocolError};

/// The protocol version that is announced here: Exchange's.
pub const PROTOCOL_VERSION: &str = "2.3";

/// Content of SESSION_CAPABILITY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Version of the protocol, `2.3`.
    pub protocol_version: String,
    /// `2.0`, always.
    pub ps_version: String,
    /// Version of CLIXML, `1.1.0.1`.
    pub serialization_version: String,
}

impl Capability {
    /// What this end says.
    #[must_use]
    pub fn own() -> Self {
        Self { protocol_version: PROTOCOL_VERSION.to_owned(), ps_version: "2.0".to_owned(), serialization_version: "1.1.0.1".to_owned() }
    }

    pub(crate) fn to_value(&self) -> Value {
        let version = |v: &str| Value::Version(v.into());
        object([
            ("protocolversion", version(&self.protocol_version)),
            ("PSVersion", version(&self.ps_version)),
            ("SerializationVersion", version(&self.serialization_version)),
        ])
    }

    pub(crate) fn from_value(value: &Value) -> Result<Self, ProtocolError> {
        let reader = Reader::new(MessageType::SessionCapability, value)?;
        Ok(Self {
            protocol_version: reader.text("protocolversion")?.to_owned(),
            ps_version: reader.text("PSVersion")?.to_owned(),
            serialization_version: reader.text("SerializationVersion")?.to_owned(),
        })
    }

    /// Checks whether a peer that says this can be talked to: protocol 2.x (a later minor is answered with ours, which
    /// the peer accepts), PSVersion 2.x, serialisation 1.x with a minor not below ours.
    pub(crate) fn check(&self) -> Result<(), ProtocolError> {
        let wrong = |what, found: &str, needed| ProtocolError::Version { what, found: found.to_owned(), needed };
        if number(&self.protocol_version, 0) != Some(2) {
            return Err(wrong("protocol version", &self.protocol_version, "2.0 to 2.3"));
        }
        if number(&self.ps_version, 0) != Some(2) {
            return Err(wrong("PSVersion", &self.ps_version, "2.0"));
        }
        if number(&self.serialization_version, 0) != Some(1) || number(&self.serialization_version, 1) < Some(1) {
            return Err(wrong("SerializationVersion", &self.serialization_version, "1.1.0.1"));
        }
        Ok(())
    }

    /// `true` from protocol 2.2 on: such servers take envelopes of 500 KiB.
    #[must_use]
    pub fn takes_large_envelopes(&self) -> bool {
        number(&self.protocol_version, 0) > Some(2) || number(&self.protocol_version, 1) >= Some(2)
    }
}

fn number(version: &str, part: usize) -> Option<u32> {
    version.trim().split('.').nth(part)?.parse().ok()
}

const PRIMITIVE_DICTIONARY: &[&str] =
    &["System.Management.Automation.PSPrimitiveDictionary", "System.Collections.Hashtable", "System.Object"];

/// Content of APPLICATION_PRIVATE_DATA: PSVersionTable and the hash for Import-PSSession. Never `DebugMode` or its
/// relatives: a client that sees them runs debugger commands before every call, and their failure fails the call.
pub(crate) fn private_data(ps_version: &str, pool_id: Uuid) -> Value {
    let version = |v: &str| Value::Version(v.into());
    let table = dictionary(
        PRIMITIVE_DICTIONARY,
        vec![
            (text("PSVersion"), version(ps_version)),
            (text("PSEdition"), text("Desktop")),
            (text("PSRemotingProtocolVersion"), version(PROTOCOL_VERSION)),
            (text("SerializationVersion"), version("1.1.0.1")),
            (text("WSManStackVersion"), version("3.0")),
        ],
    );
    let implicit = dictionary(PRIMITIVE_DICTIONARY, vec![(text("Hash"), text(&pool_id.simple().to_string()))]);
    let data = dictionary(PRIMITIVE_DICTIONARY, vec![(text("PSVersionTable"), table), (text("ImplicitRemoting"), implicit)]);
    object([("ApplicationPrivateData", data)])
}
