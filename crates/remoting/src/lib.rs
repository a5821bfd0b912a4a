//! Remote PowerShell: PSRP in WS-Management shells. Both halves, with HTTP exchanges as data.
//!
//! * [`server`]: one [`server::ServerSession`] per open shell. A driver parses the body of each POST with
//!   [`exops_wsman::parse_request`], looks at [`server::target`], and hands the request to the session.
//! * [`client`]: one [`client::ClientSession`] per session; it says what to POST, and takes the answers in any order.
//!
//! Nothing here opens a socket or reads a clock; times are milliseconds of one monotonic clock of the driver's.

pub mod client;
pub mod server;

/// Envelopes and faults, for drivers: they depend on this crate alone.
pub use exops_wsman as wsman;

/// Longest decompressed stream of one message: far above what an envelope of the usual size needs, and a bound for what
/// a hostile one can claim.
pub(crate) const MAX_RESTORED: usize = 8 << 20;

/// Media type of every request and answer.
pub const CONTENT_TYPE: &str = "application/soap+xml;charset=UTF-8";
