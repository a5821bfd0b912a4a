//! One of our two PSRP halves behind a pipe, for implementations that others wrote: `psrp-pipe server` and `psrp-pipe client`, with
//! `--capacity N` for how many bytes of fragments a piece holds at most.
//!
//! Both directions carry frames: length of what follows (4 bytes, big-endian), kind (1 byte), pipeline id (16 bytes, nil for the pool),
//! content. Whoever drives it sends one frame and reads until the frame `Z`:
//!
//! | to it | |
//! |---|---|
//! | `D`, `P` | fragments of the default stream, of the stream for answers to prompts |
//! | `C`, `S`, `T` | what a transport says beside the fragments: a pipeline begins, is to be stopped, is given up |
//! | `O` | an order as JSON: what whoever uses this half would call |
//!
//! | from it | |
//! |---|---|
//! | `D`, `P` | fragments |
//! | `E` | an event of the half as JSON |
//! | `X` | why the frame was refused |
//! | `Z` | all of it was said |

mod client;
mod server;

use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use exops_psobject::{Value, json};
use exops_psrp::Priority;
use serde_json::Value as Json;
use uuid::Uuid;

const USAGE: &str = "usage: psrp-pipe server|client [--capacity BYTES]";
const CAPACITY: usize = 32 << 10;
/// Of a frame; nothing that a test says is longer.
const LONGEST: usize = 64 << 20;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Half of a conversation.
trait Half {
    /// Fragments that came.
    fn receive(&mut self, pipeline: Uuid, priority: Priority, bytes: &[u8]) -> Result<()>;
    /// What the transport says: `C`, `S` or `T`.
    fn signal(&mut self, kind: u8, pipeline: Uuid) -> Result<()>;
    /// An order.
    fn order(&mut self, pipeline: Uuid, order: &Json) -> Result<()>;
    /// The next thing to say: kind, pipeline, content.
    fn next(&mut self, capacity: usize) -> Result<Option<(u8, Uuid, Vec<u8>)>>;
}

#[allow(clippy::print_stderr, reason = "a program says why it ends")]
fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("psrp-pipe: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `false` where the arguments are not understood.
fn run() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (half, capacity) = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [half] => (*half, CAPACITY),
        [half, "--capacity", bytes] => (*half, bytes.parse()?),
        _ => return Ok(false),
    };
    let mut half: Box<dyn Half> = match half {
        "server" => Box::new(server::Server::new()),
        "client" => Box::new(client::Client::new()?),
        _ => return Ok(false),
    };
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    // A client begins by itself.
    tell(&mut output, half.as_mut(), capacity, None)?;
    while let Some((kind, pipeline, content)) = read_frame(&mut input)? {
        let done = match kind {
            b'D' => half.receive(pipeline, Priority::Default, &content),
            b'P' => half.receive(pipeline, Priority::PromptResponse, &content),
            b'O' => serde_json::from_slice(&content).map_err(Into::into).and_then(|order| half.order(pipeline, &order)),
            kind => half.signal(kind, pipeline),
        };
        tell(&mut output, half.as_mut(), capacity, done.err())?;
    }
    Ok(true)
}

fn tell(output: &mut impl Write, half: &mut dyn Half, capacity: usize, refused: Option<Box<dyn Error>>) -> Result<()> {
    if let Some(error) = refused {
        write_frame(output, b'X', Uuid::nil(), error.to_string().as_bytes())?;
    }
    while let Some((kind, pipeline, content)) = half.next(capacity)? {
        write_frame(output, kind, pipeline, &content)?;
    }
    write_frame(output, b'Z', Uuid::nil(), &[])?;
    Ok(output.flush()?)
}

fn read_frame(input: &mut impl Read) -> Result<Option<(u8, Uuid, Vec<u8>)>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = usize::try_from(u32::from_be_bytes(length))?;
    if length > LONGEST {
        return Err(format!("a frame of {length} bytes is too long").into());
    }
    let mut content = vec![0; length];
    input.read_exact(&mut content)?;
    let (head, content) = content.split_at_checked(17).ok_or("a frame without kind and id")?;
    let (kind, id) = head.split_first().ok_or("a frame without kind")?;
    Ok(Some((*kind, Uuid::from_slice(id)?, content.to_vec())))
}

fn write_frame(output: &mut impl Write, kind: u8, pipeline: Uuid, content: &[u8]) -> Result<()> {
    output.write_all(&u32::try_from(content.len() + 17)?.to_be_bytes())?;
    output.write_all(&[kind])?;
    output.write_all(pipeline.as_bytes())?;
    Ok(output.write_all(content)?)
}

/// An event as frame.
fn event(pipeline: Uuid, name: &str, mut fields: Json) -> (u8, Uuid, Vec<u8>) {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("event".to_owned(), name.into());
    }
    (b'E', pipeline, fields.to_string().into_bytes())
}

/// A value for an event.
fn shown(value: &Value) -> Json {
    json::to_plain(value)
}

/// The value in an order.
fn given(order: &Json, name: &str) -> Result<Value> {
    order.get(name).map_or(Ok(Value::Null), |value| Ok(json::from_rest(value)?))
}

fn text<'a>(order: &'a Json, name: &str) -> Result<&'a str> {
    order.get(name).and_then(Json::as_str).ok_or_else(|| format!("the order lacks {name}").into())
}
