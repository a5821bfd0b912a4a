//! `POST /exops-lab/v1/import`: the body is the file that an administrator exported, as it is.
//!
//! The body goes to an unnamed file in the data folder first: a slow sender holds no transaction, and memory stays flat.

use std::io::{Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use exops_directory::{ImportError, ImportOptions};
use exops_psobject::exported::FileError;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::api::Api;
use crate::running::SERVER_NAME;

/// Largest file.
const FILE_BYTES: u64 = 8 << 30;
/// How long the next part of the file may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to import.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// What objects are that do not say it themselves.
    noun: Option<String>,
    /// Keep nothing, and say what would happen.
    #[serde(default)]
    dry_run: bool,
}

pub(crate) async fn import(State(api): State<Arc<Api>>, Query(options): Query<Options>, body: Body) -> (StatusCode, Json<Value>) {
    let fail = |status, code: &str, message: String| (status, Json(json!({"error": {"code": code, "message": message}})));
    let file = match spool(&api, body).await {
        Ok(file) => file,
        Err((status, message)) => return fail(status, "NotReceived", message),
    };
    let dry_run = options.dry_run;
    let options = ImportOptions { noun: options.noun, dry_run };
    match exops_directory::import(&api.rows, &api.ready.organization, SERVER_NAME, file, options).await {
        Ok(report) if report.refused_count == 0 => (StatusCode::OK, Json(report.to_json(dry_run))),
        Ok(report) => (StatusCode::UNPROCESSABLE_ENTITY, Json(report.to_json(dry_run))),
        Err(error @ (ImportError::File(FileError::Read(_)) | ImportError::Store(_))) => {
            tracing::error!(%error, "an import failed");
            fail(StatusCode::INTERNAL_SERVER_ERROR, "NotImported", error.to_string())
        }
        Err(error) => fail(StatusCode::BAD_REQUEST, code(&error), error.to_string()),
    }
}

fn code(error: &ImportError) -> &'static str {
    match error {
        ImportError::File(FileError::Empty) => "EmptyFile",
        ImportError::File(FileError::NotText(_)) => "NotText",
        ImportError::File(FileError::Truncated { .. }) => "Truncated",
        ImportError::File(FileError::TooLarge { .. }) | ImportError::TooMany => "TooLarge",
        ImportError::UnknownNoun(_) => "UnknownNoun",
        _ => "Malformed",
    }
}

/// The body as a file that has no name and goes with its handle.
async fn spool(api: &Api, body: Body) -> Result<std::fs::File, (StatusCode, String)> {
    let disk = |error: std::io::Error| (StatusCode::INSUFFICIENT_STORAGE, format!("the file cannot be kept for reading: {error}"));
    let mut file = tokio::fs::File::from_std(tempfile::tempfile_in(&api.ready.data_dir).map_err(disk)?);
    let (mut parts, mut size) = (body.into_data_stream(), 0);
    loop {
        let part = tokio::time::timeout(PATIENCE, parts.next()).await;
        match part.map_err(|_| (StatusCode::REQUEST_TIMEOUT, "the file did not come to its end".to_owned()))? {
            None => break,
            Some(Err(error)) => return Err((StatusCode::BAD_REQUEST, format!("the file broke off: {error}"))),
            Some(Ok(part)) => {
                size += part.len() as u64;
                if size > FILE_BYTES {
                    return Err((StatusCode::PAYLOAD_TOO_LARGE, format!("the file has more than {} GB", FILE_BYTES >> 30)));
                }
                file.write_all(&part).await.map_err(disk)?;
            }
        }
    }
    file.flush().await.map_err(disk)?;
    let mut file = file.into_std().await;
    file.seek(SeekFrom::Start(0)).map_err(disk)?;
    Ok(file)
}
