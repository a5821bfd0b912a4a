//! Namespaces, actions and codes of WS-Management and its shell profile.

/// SOAP 1.2.
pub const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
/// WS-Addressing of August 2004.
pub const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
/// WS-Management (DSP0226).
pub const WSMAN: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd";
/// Microsoft's extensions of WS-Management.
pub const WSMAN_MICROSOFT: &str = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd";
/// Remote shells; also the prefix of the shell actions.
pub const SHELL: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell";
/// Resource of the commands of a shell, for Enumerate.
pub const SHELL_COMMAND: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Command";
/// WS-Transfer; also the prefix of its actions.
pub const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
/// WS-Enumeration; also the prefix of its actions.
pub const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
/// Dialect of a filter by selectors, for Enumerate.
pub const SELECTOR_FILTER: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter";
/// Details of a fault.
pub const FAULT: &str = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault";
/// Session data inside Create and Connect.
pub const POWERSHELL: &str = "http://schemas.microsoft.com/powershell";
/// Identify.
pub const IDENTIFY: &str = "http://schemas.dmtf.org/wbem/wsman/identify/1/wsmanidentity.xsd";
/// Reserved namespace of `xml:lang`.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// `a:Action` of every fault. A real client rejects a fault with another action.
pub const FAULT_ACTION: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault";
/// Address of "whoever asked".
pub const ANONYMOUS: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous";
/// Prefix of the resource URIs of PowerShell session configurations.
pub const CONFIGURATION_PREFIX: &str = "http://schemas.microsoft.com/powershell/";

/// Signal: close the command and free it. pypsrp and psrp write its last word with a capital.
pub const SIGNAL_TERMINATE: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/signal/terminate";
/// Signal: stop the pipeline. The spelling is PowerShell's.
pub const SIGNAL_STOP: &str = "powershell/signal/crtl_c";
/// The same in every spelling that clients use: PowerShell's, pypsrp's, and that of a plain shell (MS-WSMV 2.2.4.38).
pub const SIGNALS_STOP: [&str; 3] =
    [SIGNAL_STOP, "powershell/signal/ctrl_c", "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/signal/ctrl_c"];
/// Prefix of command states.
pub const COMMAND_STATE_PREFIX: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/";
