//! The `exops` binary: what a person types, what a person sees.
#![allow(clippy::result_large_err, reason = "a failure ends the program; it is made once")]

mod cert;
mod cmdlet_line;
mod completion;
mod connect;
mod dialect;
mod environment;
mod exit;
mod explain;
mod failure;
mod hidden;
mod host;
mod lab;
mod memory;
mod options;
mod output;
mod params;
mod password;
mod places;
mod profile;
mod progress;
mod query;
mod quickstart;
mod rest;
mod run;
mod secret_argument;
mod session;
mod status;
mod suggest;
mod words;

use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::options::{Cli, Global, Verb};

fn main() -> ExitCode {
    memory::keep_private();
    let words: Result<Vec<String>, _> = std::env::args_os().map(std::ffi::OsString::into_string).collect();
    let (as_json, result) = match words {
        Ok(words) => dispatch(words),
        Err(word) => (false, Err(Failure::usage(format!("'{}' is not UTF-8", word.to_string_lossy())))),
    };
    let exit = match result {
        Ok(exit) => exit,
        Err(failure) => {
            let exit = failure.exit.unwrap_or(Exit::Unexpected);
            // Whoever closed our standard output does not read on.
            if exit != Exit::OutputClosed && !failure.message.is_empty() {
                failure.print(as_json);
            }
            exit
        }
    };
    ExitCode::from(exit.code())
}

/// Whether errors are told as JSON, and how it ended.
fn dispatch(words: Vec<String>) -> (bool, Result<Exit, Failure>) {
    if let Some((_, rest)) = words.split_first().filter(|(_, rest)| rest.first().is_some_and(|w| w == completion::ASK)) {
        return (false, completion::answer(rest.get(1..).unwrap_or_default()));
    }
    let asks_json = words.windows(2).any(|w| matches!(w, [a, b] if (a == "-o" || a == "--output") && b.starts_with("json")))
        || words.iter().any(|w| w == "--json" || w.starts_with("--output=json"));
    match cmdlet_line::read(words.get(1..).unwrap_or_default()) {
        Ok(Some(line)) => {
            start_log(&line.global);
            keep_quiet(&line.global);
            let as_json = line.global.output.is_some_and(output::Format::is_json);
            return (as_json, block_on(Threads::One, run::run(line)));
        }
        Ok(None) => {}
        Err(failure) => return (asks_json, Err(failure)),
    }
    let mut command = without_empty_variables(Cli::command());
    command.build();
    let parsed = dialect::rewrite(&command, words).map(|(words, notes)| {
        let matches = command.try_get_matches_from_mut(words);
        let read = matches.and_then(|matches| {
            let mut cli = Cli::from_arg_matches(&matches)?;
            let source = matches.subcommand().and_then(|(_, matches)| matches.value_source("profile"));
            cli.global.names_profile = source == Some(ValueSource::CommandLine);
            Ok(cli)
        });
        (read, notes)
    });
    let cli = match parsed {
        Err(failure) => return (asks_json, Err(failure)),
        Ok((Err(error), _)) => return (asks_json, help_or_usage(&error, asks_json)),
        Ok((Ok(cli), notes)) => {
            keep_quiet(&cli.global);
            notes.iter().for_each(|text| note(text));
            cli
        }
    };
    start_log(&cli.global);
    (asks_json || cli.global.output.is_some_and(output::Format::is_json), execute(cli))
}

/// A variable that is set to nothing is not set, for clap as for `cmdlet_line`.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|v| v.is_empty());
    command.mut_args(|arg| if is_empty(&arg) { arg.env(None::<&str>) } else { arg }).mut_subcommands(without_empty_variables)
}

fn execute(cli: Cli) -> Result<Exit, Failure> {
    let global = cli.global;
    let wants_json = |json: options::Json| json.json || global.output.is_some_and(output::Format::is_json);
    match cli.command {
        Verb::Quickstart(options) => {
            let json = wants_json(options.json);
            block_on(Threads::Two, quickstart::run(options.keep, json))
        }
        Verb::Lab(options::Lab::Up(options)) => block_on(Threads::Two, lab::up(options)),
        Verb::Lab(options::Lab::Status(options)) => block_on(Threads::One, lab::status(&options.data, wants_json(options.json))),
        Verb::Lab(options::Lab::Reset(options)) => block_on(Threads::One, lab::reset(&options.data, wants_json(options.json))),
        Verb::Lab(options::Lab::Import(options)) => {
            let json = wants_json(options.json);
            block_on(Threads::One, lab::import(options, json))
        }
        Verb::Lab(options::Lab::Down(data)) => block_on(Threads::One, lab::down(&data)),
        Verb::Lab(options::Lab::App(app)) => block_on(Threads::One, lab::application(app, global.output)),
        Verb::Connect(options) => {
            let json = wants_json(options.json);
            block_on(Threads::One, connect::connect(*options, global.profile, json))
        }
        Verb::Status(json) => block_on(Threads::One, status::status(&global, wants_json(json))),
        // `cmdlet_line` takes every complete one.
        Verb::Run(_) => Err(Failure::usage("'run' needs the name of a cmdlet").hint("exops run Get-Mailbox -ResultSize 10")),
        Verb::Rest(options) => block_on(Threads::One, rest::rest(options, &global, global.output.is_some_and(output::Format::is_json))),
        Verb::Explain(options) => explain::explain(&options, global.profile.as_deref(), wants_json(options.json)),
        Verb::Completion(options) => completion::script(options.shell),
        Verb::Disconnect(options) => connect::disconnect(global.profile, options.all),
        Verb::Cert(options::Cert::New(options)) => cert::new(&options, wants_json(options.common.json)),
        Verb::Cert(options::Cert::List(options)) => cert::list(&options, wants_json(options.json)),
        Verb::Cert(options::Cert::Show(options)) => cert::show(&options, wants_json(options.common.json)),
        Verb::Cert(options::Cert::Export(options)) => cert::export(&options, wants_json(options.common.json)),
        Verb::Cert(options::Cert::Import(options)) => cert::import(&options, wants_json(options.common.json)),
        Verb::Cert(options::Cert::Remove(options)) => cert::remove(&options, wants_json(options.common.json)),
    }
}

/// How many threads run a command.
enum Threads {
    /// A client: it waits for one connection.
    One,
    /// A lab in this process.
    Two,
}

fn block_on(threads: Threads, work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let mut builder = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Two => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(Exit::Unexpected, format!("the system gives no threads: {}", io_reason(&e))))?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// clap's answer: help and version are output, the rest is an error of usage in clap's words.
fn help_or_usage(error: &clap::Error, as_json: bool) -> Result<Exit, Failure> {
    if !error.use_stderr() {
        print(&error.render().to_string())?;
        return Ok(Exit::Ok);
    }
    let text = error.render().to_string();
    if as_json {
        let first = text.lines().next().unwrap_or_default();
        return Err(Failure::usage(first.strip_prefix("error: ").unwrap_or(first))
            .hint("'exops --help' and 'exops COMMAND --help' tell what there is"));
    }
    let _ = write!(std::io::stderr().lock(), "{text}");
    Ok(Exit::Usage)
}

/// Logs go to standard error, and only when asked for.
fn start_log(global: &Global) {
    let filter = match global.verbose {
        0 => return,
        1 => "exops=info,exops_client=debug,exops_gateway=info,exops_lab=info,exops_authority=info",
        _ => "debug,hyper=info,h2=info,rustls=info",
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// Ctrl-C, or what a service manager sends.
async fn asked_to_stop() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        let terminate = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => drop(signal.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! { () = interrupt => {}, () = terminate => {} }
    }
    #[cfg(not(unix))]
    interrupt.await;
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| output_failure(&e))
}

/// Writes a line to standard error; where that is closed, nobody is left to tell.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// `--quiet`: notes are not told.
static QUIET: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

fn keep_quiet(global: &Global) {
    QUIET.store(global.quiet, std::sync::atomic::Ordering::Relaxed);
}

fn is_quiet() -> bool {
    QUIET.load(std::sync::atomic::Ordering::Relaxed)
}

/// Tells something that is good to know and changes nothing, unless `--quiet` is given.
fn note(text: &str) {
    if !is_quiet() {
        tell(&format!("note: {text}"));
    }
}

/// Standard output that takes nothing more.
fn output_failure(error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::new(Exit::OutputClosed, ""),
        _ => Failure::new(Exit::Unexpected, format!("standard output cannot be written: {}", io_reason(error))),
    }
}

/// What the system said, without its number.
fn io_reason(error: &std::io::Error) -> String {
    without_os_error(&error.to_string()).to_lowercase()
}

/// A text without the number that Rust puts behind what the system said.
fn without_os_error(text: &str) -> String {
    let Some((before, after)) = text.split_once(" (os error ") else { return text.to_owned() };
    format!("{before}{}", after.split_once(')').map_or("", |(_, rest)| rest))
}
