//! What the command line takes, except the words of a cmdlet.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

use crate::output::Format;

/// Exchange Online administration by certificate, and a lab organisation to try it on.
///
/// Options are also taken in PowerShell's manner: -AppId, -CertificateFilePath, unique prefixes, without case.
#[derive(Debug, Parser)]
#[command(name = "exops", version, disable_help_subcommand = true, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Verb,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// How objects are shown; a table on a terminal, else one JSON object a line
    #[arg(short, long, global = true, value_enum, env = "EXOPS_OUTPUT")]
    pub output: Option<Format>,
    /// Which saved connection
    #[arg(long, global = true, value_name = "NAME", env = "EXOPS_PROFILE")]
    pub profile: Option<String>,
    /// The command line itself names the profile, and no variable does.
    #[arg(skip)]
    pub names_profile: bool,
    /// Log to standard error; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Nothing on standard error but errors and questions
    #[arg(long, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show the whole path on this machine: lab, certificate, application, token, REST, remote PowerShell
    Quickstart(Quickstart),
    /// The lab: an organisation on this machine
    #[command(subcommand)]
    Lab(Lab),
    /// Sign in with a certificate and save the connection as a profile
    Connect(Box<Connect>),
    /// The connection, as Get-ConnectionInformation tells it
    Status(Json),
    /// Run a cmdlet; its arguments are written as in PowerShell
    Run(Run),
    /// One call of the admin API or of Graph with the profile's token; the answer as it came
    Rest(Rest),
    /// What a cmdlet and its parameters take, without asking a service
    Explain(Explain),
    /// A script that completes commands, cmdlets and parameters in a shell
    Completion(Completion),
    /// Forget a saved connection
    Disconnect(Disconnect),
    /// Certificates in the store
    #[command(subcommand)]
    Cert(Cert),
}

#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Json {
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Quickstart {
    #[command(flatten)]
    pub json: Json,
    /// Leave everything in this folder, and say how to go on with it
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Start a lab and stay until Ctrl-C or 'exops lab down'
    Up(LabUp),
    /// Where the running lab is
    Status(LabStatus),
    /// Take the running lab's organisation back to its first day; applications stay registered
    Reset(LabStatus),
    /// Put objects of an export (JSON, CLIXML, CSV) into the running lab's organisation: all or none
    Import(LabImport),
    /// Stop the running lab
    Down(LabData),
    /// Applications of the running lab
    #[command(subcommand)]
    App(LabApp),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LabData {
    /// The lab's data folder
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LabUp {
    #[command(flatten)]
    pub data: LabData,
    /// A data folder in the temp directory, removed at the end
    #[arg(long, conflicts_with = "data")]
    pub ephemeral: bool,
    /// Address and port; with port 0 the system chooses, and the ready file tells
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// A copy of the ready file
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Domain of the organisation; only a new data folder takes it
    #[arg(long, value_name = "DOMAIN")]
    pub organization: Option<String>,
    /// Id of the tenant; only a new data folder takes it
    #[arg(long, value_name = "GUID", value_parser = guid)]
    pub tenant_id: Option<Uuid>,
    /// What the organisation holds at first; only a new data folder takes it
    #[arg(long, value_name = "NAME")]
    pub seed: Option<LabSeed>,
    /// Another host name that the lab answers to
    #[arg(long = "host-alias", value_name = "NAME")]
    pub host_aliases: Vec<String>,
    /// Refuse client assertions that the real token service lets pass although their standards do not
    #[arg(long)]
    pub strict: bool,
}

/// What an organisation holds at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LabSeed {
    /// Some 200 recipients of every kind; what a new data folder gets where nothing is said
    Standard,
    /// The same and further users: 100,000 mailboxes
    Large,
}

#[derive(Debug, Args)]
pub(crate) struct LabStatus {
    #[command(flatten)]
    pub data: LabData,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct LabImport {
    #[command(flatten)]
    pub data: LabData,
    #[command(flatten)]
    pub json: Json,
    /// What ConvertTo-Json, Export-Clixml, Export-Csv or exops wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Keep nothing, and say what would happen
    #[arg(long)]
    pub dry_run: bool,
    /// What the objects are, where they do not say it: what stands behind Get-, such as Mailbox
    #[arg(long, value_name = "NOUN")]
    pub noun: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabApp {
    /// Register an application with its certificate and roles
    Create(LabAppCreate),
    /// All applications
    List(LabStatus),
    /// One application
    Show(LabAppOne),
    /// Remove an application
    Remove(LabAppOne),
}

#[derive(Debug, Args)]
pub(crate) struct LabAppCreate {
    #[command(flatten)]
    pub data: LabData,
    /// Display name
    #[arg(long)]
    pub name: String,
    /// Client id; made up where it is not given
    #[arg(long, value_name = "GUID", value_parser = guid)]
    pub app_id: Option<Uuid>,
    /// A certificate to register, PEM or DER; a private key in the file is ignored
    #[arg(long = "certificate", value_name = "FILE")]
    pub certificates: Vec<PathBuf>,
    /// A file with a client secret; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// A directory role by name or template id
    #[arg(long = "directory-role", value_name = "ROLE")]
    pub directory_roles: Vec<String>,
    /// An app role of Exchange Online
    #[arg(long = "app-role", value_name = "ROLE")]
    pub app_roles: Vec<String>,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct LabAppOne {
    #[command(flatten)]
    pub data: LabData,
    /// Client id, object id or display name
    #[arg(value_name = "APP")]
    pub app: String,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Client id of the application
    #[arg(long, value_name = "GUID", env = "EXOPS_APP_ID", value_parser = guid)]
    pub app_id: Option<Uuid>,
    /// A domain of the organisation; a lab's own where it is not given
    #[arg(long, value_name = "DOMAIN", env = "EXOPS_ORGANIZATION")]
    pub organization: Option<String>,
    /// A certificate in the store, by SHA-1 thumbprint
    #[arg(long, alias = "thumbprint", value_name = "HEX")]
    pub certificate_thumbprint: Option<String>,
    /// A PFX or PEM file with certificate and key [env: EXOPS_CERTIFICATE=]
    #[arg(long, alias = "certificate", value_name = "FILE", conflicts_with = "certificate_thumbprint")]
    pub certificate_file_path: Option<PathBuf>,
    /// A file whose first line is the password; without it the terminal asks [env: EXOPS_CERTIFICATE_PASSWORD_FILE=]
    #[arg(long, value_name = "FILE")]
    pub certificate_password_file: Option<PathBuf>,
    /// The certificate store's folder
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Connect to a lab: endpoints and CA from its ready file
    #[arg(long, env = "EXOPS_LAB", value_parser = FalseyValueParser::new())]
    pub lab: bool,
    #[command(flatten)]
    pub data: LabData,
    /// Base URL of the token service
    #[arg(long, alias = "azure-ad-authorization-endpoint-uri", value_name = "URL", env = "EXOPS_AUTHORITY")]
    pub authority: Option<String>,
    /// Base URL of the admin API
    #[arg(long, alias = "connection-uri", value_name = "URL", env = "EXOPS_ENDPOINT")]
    pub endpoint: Option<String>,
    /// The only certificate authority to trust, PEM
    #[arg(long, value_name = "FILE", env = "EXOPS_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    #[command(flatten)]
    pub json: Json,
}

fn guid(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| "it is no GUID, such as 36ee4c6c-0812-40a2-b820-b22ebd02bce3")
}

/// Over what a cmdlet travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Transport {
    /// The REST admin API
    #[default]
    Rest,
    /// Remote PowerShell
    Rps,
}

/// Whether and how it is told how far a cmdlet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Progress {
    /// A line that changes, where standard error is a terminal and standard output is none
    #[default]
    Auto,
    /// A JSON object a line
    Jsonl,
    /// Nothing
    None,
}

/// Only for its help: the words of `run` are read by `cmdlet_line`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  exops run Get-Mailbox -ResultSize 10\n  exops Get-Mailbox -Filter \"DisplayName -like 'A*'\" -o json\n  \
                        exops run Set-Mailbox ann@contoso.com -CustomAttribute1 Test --what-if\n\n\
                        A shell turns $true and $false into nothing: write -Confirm:false."
)]
pub(crate) struct Run {
    /// Over what the cmdlet travels
    #[arg(long, value_enum, default_value = "rest", env = "EXOPS_TRANSPORT")]
    pub transport: Transport,
    /// More parameters as a JSON object, @FILE or - for standard input
    #[arg(long, value_name = "JSON")]
    pub params: Option<String>,
    /// Show these properties only, separated by commas
    #[arg(long, value_name = "NAMES")]
    pub select: Option<String>,
    /// A JMESPath expression over the list of objects; what it gives is shown
    #[arg(long, value_name = "EXPRESSION")]
    pub query: Option<String>,
    /// How far it is, on standard error; by itself on a terminal only
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
    /// Refuse to run unless the connection is for this tenant
    #[arg(long, value_name = "ID|DOMAIN")]
    pub require_tenant: Option<String>,
    /// Show SecureStrings of objects as text; else they are null in JSON and YAML, empty in CLIXML, their type's name elsewhere
    #[arg(long)]
    pub show_secrets: bool,
    /// The cmdlet's name
    #[arg(value_name = "CMDLET")]
    pub cmdlet: String,
    /// Its arguments
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Rest {
    /// GET, POST, PATCH, PUT or DELETE
    #[arg(value_name = "METHOD")]
    pub method: String,
    /// A path such as /adminapi/beta/{tenant}/InvokeCommand or /v1.0/applications; {tenant} and {organization} are filled in
    #[arg(value_name = "PATH")]
    pub address: String,
    /// The body: JSON, @FILE or - for standard input
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub body: Option<String>,
    /// Also tell the call as a curl command on standard error, with $TOKEN where the token is
    #[arg(long)]
    pub show_curl: bool,
    /// Refuse unless the connection is for this tenant
    #[arg(long, value_name = "ID|DOMAIN")]
    pub require_tenant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The cmdlet's name
    #[arg(value_name = "CMDLET")]
    pub cmdlet: String,
    /// One of its parameters
    #[arg(long, value_name = "NAME")]
    pub parameter: Option<String>,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// A shell that completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
    /// PowerShell
    #[value(name = "powershell", alias = "pwsh")]
    Pwsh,
}

#[derive(Debug, Args)]
pub(crate) struct Disconnect {
    /// All saved connections
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cert {
    /// Make a self-signed RSA certificate in the store
    New(CertNew),
    /// All certificates of the store
    List(CertList),
    /// One certificate
    Show(CertShow),
    /// Write a certificate with its key into a file
    Export(CertExport),
    /// Put the certificate and key of a PFX or PEM file into the store
    Import(CertImport),
    /// Remove a certificate and its key from the store
    Remove(CertRemove),
}

#[derive(Debug, Args)]
pub(crate) struct CertExport {
    /// SHA-1 thumbprint
    #[arg(value_name = "THUMBPRINT")]
    pub thumbprint: String,
    /// The new file, PEM where its name ends in .pem and PFX else; only you can read it
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// A file whose first line protects the PFX; without it the PFX has no password
    #[arg(long, value_name = "FILE")]
    pub certificate_password_file: Option<PathBuf>,
    #[command(flatten)]
    pub common: CertList,
}

#[derive(Debug, Args)]
pub(crate) struct CertImport {
    /// A PFX or PEM file with certificate and key
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// A file whose first line is the password; without it the terminal asks [env: EXOPS_CERTIFICATE_PASSWORD_FILE=]
    #[arg(long, value_name = "FILE")]
    pub certificate_password_file: Option<PathBuf>,
    #[command(flatten)]
    pub common: CertList,
}

#[derive(Debug, Args)]
pub(crate) struct CertRemove {
    /// SHA-1 thumbprint
    #[arg(value_name = "THUMBPRINT")]
    pub thumbprint: String,
    #[command(flatten)]
    pub common: CertList,
}

#[derive(Debug, Args)]
pub(crate) struct CertNew {
    /// Subject
    #[arg(long, default_value = "CN=ExOPS")]
    pub subject: String,
    /// Days of life
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Also write the certificate without its key, PEM: what an application is registered with
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub common: CertList,
}

#[derive(Debug, Args)]
pub(crate) struct CertList {
    /// The certificate store's folder
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct CertShow {
    /// SHA-1 thumbprint
    #[arg(value_name = "THUMBPRINT")]
    pub thumbprint: String,
    /// The certificate as PEM, without its key
    #[arg(long)]
    pub pem: bool,
    #[command(flatten)]
    pub common: CertList,
}
