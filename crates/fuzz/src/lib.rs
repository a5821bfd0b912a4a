//! Fuzz targets for every decoder of tiers 0 and 1, and an engine that drives them on a stable toolchain.
//!
//! A target is a function over bytes. It must neither panic nor return [`Problem`]: besides "no panic" it checks what
//! the decoder promises, above all that what was decoded is encoded and decoded to the same. The engine mutates seeds
//! and keeps inputs whose outcome is new. **It is not guided by coverage**: it sees outcomes, not branches. The same
//! functions can stand behind libFuzzer.

mod engine;
mod files;
mod keys;
mod language;
mod machines;
mod mutate;
mod wire;

pub use engine::{Finding, Report, Settings, committed, replay, run};

/// Longest input in bytes: with the limits of the targets it bounds the memory of one execution.
pub const MAX_INPUT: usize = 64 * 1024;

/// A property that did not hold, in words.
pub type Problem = String;

/// What an execution came to: equal numbers for outcomes that are alike. New numbers are the engine's only feedback.
pub type Outcome = u64;

/// One entry of the table.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name on the command line and of its folders.
    pub name: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]) -> Result<Outcome, Problem>,
    /// Inputs that the crates' own encoders make.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of its language.
    pub words: &'static [&'static [u8]],
}

/// Every target. Two at once for half a minute each are four minutes.
pub const TARGETS: &[Target] = &[
    Target { name: "clixml", run: wire::clixml, seeds: wire::clixml_seeds, words: wire::CLIXML },
    Target { name: "clixml-document", run: wire::clixml_document, seeds: wire::clixml_document_seeds, words: wire::CLIXML },
    Target { name: "exported-files", run: files::exported_files, seeds: files::exported_file_seeds, words: files::WORDS },
    Target { name: "fragments", run: machines::fragments, seeds: machines::fragment_seeds, words: machines::FLAGS },
    Target { name: "messages", run: machines::messages, seeds: machines::message_seeds, words: wire::CLIXML },
    Target { name: "server-pool", run: machines::server_pool, seeds: machines::server_seeds, words: machines::MEMBERS },
    Target { name: "client-pool", run: machines::client_pool, seeds: machines::client_seeds, words: machines::MEMBERS },
    Target { name: "soap-request", run: wire::soap_request, seeds: wire::soap_request_seeds, words: wire::SOAP },
    Target { name: "soap-response", run: wire::soap_response, seeds: wire::soap_response_seeds, words: wire::SOAP },
    Target { name: "xpress", run: wire::xpress, seeds: wire::xpress_seeds, words: wire::XPRESS },
    Target { name: "rest-bodies", run: wire::rest_bodies, seeds: wire::rest_body_seeds, words: wire::JSON },
    Target { name: "rest-values", run: wire::rest_values, seeds: wire::rest_value_seeds, words: wire::JSON },
    Target { name: "opath", run: language::opath, seeds: language::opath_seeds, words: language::OPATH },
    Target { name: "bind", run: language::bind, seeds: language::bind_seeds, words: language::COMMANDS },
    Target { name: "role-model", run: language::role_model, seeds: language::role_model_seeds, words: language::ROLES },
    Target { name: "key-files", run: keys::key_files, seeds: keys::key_file_seeds, words: keys::PEM },
    Target { name: "tokens", run: keys::tokens, seeds: keys::token_seeds, words: keys::JWT },
];

/// The outcome of something that was refused: the words of the error's `Debug` form.
fn refused(error: &impl std::fmt::Debug) -> Outcome {
    phrase(&format!("{error:?}"))
}

/// The words of a sentence without what it quotes and without numbers.
fn phrase(text: &str) -> Outcome {
    let letters = text.split(['"', '\'', '`']).step_by(2).take(8).flat_map(str::bytes).filter(u8::is_ascii_alphabetic).take(200);
    letters.fold(HASH_BASIS, hash) | 1
}

/// FNV-1a: the start and one step.
const HASH_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
fn hash(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

/// The outcome of something that was taken: how much of what there is, each as a power of two.
fn taken(amounts: &[usize]) -> Outcome {
    amounts.iter().fold(1, |sum: u64, amount| sum.wrapping_mul(67) + u64::from(usize::BITS - amount.leading_zeros())) << 1
}

/// Fails with the sentence and the two sides unless they are equal.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, left: &T, right: &T) -> Result<(), Problem> {
    if left == right { Ok(()) } else { Err(format!("{what}:\n  {left:.600?}\n  {right:.600?}")) }
}

/// Fails with the sentence unless it holds.
fn holds(what: &str, condition: bool) -> Result<(), Problem> {
    if condition { Ok(()) } else { Err(what.to_owned()) }
}
