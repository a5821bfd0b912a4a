use uuid::Uuid;

use crate::ProtocolError;

/// Length of a message's header: destination, type, pool id, pipeline id.
pub(crate) const HEADER: usize = 40;
pub(crate) const TO_CLIENT: u32 = 1;
pub(crate) const TO_SERVER: u32 = 2;

macro_rules! message_types {
    ($($name:ident = $number:literal,)*) => {
        /// What a message is (MS-PSRP 2.2.1).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names are those of the specification")]
        pub enum MessageType {
            $($name,)*
            /// A type that this end does not know: such messages are counted and dropped.
            Unknown(u32),
        }

        impl MessageType {
            /// From the wire number.
            #[must_use]
            pub fn from_number(number: u32) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Unknown(other),
                }
            }

            /// The wire number.
            #[must_use]
            pub fn number(self) -> u32 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Unknown(other) => other,
                }
            }
        }
    };
}

message_types! {
    SessionCapability = 0x0001_0002,
    InitRunspacePool = 0x0001_0004,
    PublicKey = 0x0001_0005,
    EncryptedSessionKey = 0x0001_0006,
    PublicKeyRequest = 0x0001_0007,
    ConnectRunspacePool = 0x0001_0008,
    SetMaxRunspaces = 0x0002_1002,
    SetMinRunspaces = 0x0002_1003,
    RunspaceAvailability = 0x0002_1004,
    RunspacePoolState = 0x0002_1005,
    CreatePipeline = 0x0002_1006,
    GetAvailableRunspaces = 0x0002_1007,
    UserEvent = 0x0002_1008,
    ApplicationPrivateData = 0x0002_1009,
    GetCommandMetadata = 0x0002_100A,
    RunspacePoolInitData = 0x0002_100B,
    ResetRunspaceState = 0x0002_100C,
    RunspacePoolHostCall = 0x0002_1100,
    RunspacePoolHostResponse = 0x0002_1101,
    PipelineInput = 0x0004_1002,
    EndOfPipelineInput = 0x0004_1003,
    PipelineOutput = 0x0004_1004,
    ErrorRecord = 0x0004_1005,
    PipelineState = 0x0004_1006,
    DebugRecord = 0x0004_1007,
    VerboseRecord = 0x0004_1008,
    WarningRecord = 0x0004_1009,
    ProgressRecord = 0x0004_1010,
    InformationRecord = 0x0004_1011,
    PipelineHostCall = 0x0004_1100,
    PipelineHostResponse = 0x0004_1101,
}

/// A reassembled message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// 1 to the client, 2 to the server.
    pub destination: u32,
    /// What it is.
    pub kind: MessageType,
    /// The runspace pool; zero in some peers' first message.
    pub pool_id: Uuid,
    /// The pipeline; zero for the pool.
    pub pipeline_id: Uuid,
    bytes: Vec<u8>,
}

impl Message {
    /// Takes a reassembled object apart.
    ///
    /// # Errors
    /// When it is shorter than a header.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, ProtocolError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else { return Err(ProtocolError::ShortMessage(bytes.len())) };
        let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let id = |at: usize| Uuid::from_slice_le(&header[at..at + 16]).unwrap_or_default();
        Ok(Self { destination: number(0), kind: MessageType::from_number(number(4)), pool_id: id(8), pipeline_id: id(24), bytes })
    }

    /// The CLIXML content, perhaps with a byte order mark, perhaps empty.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }
}

/// The pipeline that the first message in these fragments names; for servers whose client left the choice of the command's
/// id to them. `None` when its header is not whole.
#[must_use]
pub fn first_pipeline_id(fragments: &[u8]) -> Option<Uuid> {
    let message = fragments.get(crate::fragment::HEADER..)?.first_chunk::<HEADER>()?;
    Uuid::from_slice_le(message.get(24..)?).ok()
}

pub(crate) fn header(destination: u32, kind: MessageType, pool_id: Uuid, pipeline_id: Uuid) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0..4].copy_from_slice(&destination.to_le_bytes());
    header[4..8].copy_from_slice(&kind.number().to_le_bytes());
    header[8..24].copy_from_slice(&pool_id.to_bytes_le());
    header[24..40].copy_from_slice(&pipeline_id.to_bytes_le());
    header
}
