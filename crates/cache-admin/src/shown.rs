//! How things look on a terminal and in JSON.

use std::io::Write;

use anyhow::bail;
use bytes::Bytes;
use comfy_table::{Table, presets};
use protocol::cache::{ElementType, Record};
use serde_json::{Value, json};
use vector::codec;

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

/// A word to whoever sits there.
pub(crate) fn say(words: &str) {
    // Nobody may be listening.
    writeln!(std::io::stderr(), "{words}").ok();
}

/// The result, on standard output.
///
/// # Errors
/// If that is closed.
pub(crate) fn print(words: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{words}")?)
}

/// An empty table with a head.
pub(crate) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(head.to_vec());
    table
}

/// Two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A record as JSON, without its vector.
pub(crate) fn record(key: &[u8], record: &Record) -> Value {
    let mut value = json!({
        "key": hex(key),
        "identity": hex(&record.identity),
        "width": record.width,
        "precision": precision(record),
        "tokens": record.tokens,
        "truncated": record.truncated,
        "created_unix_ms": record.created_unix_ms,
        "ttl_remaining_ms": record.ttl_remaining_ms,
    });
    if !record.text.is_empty() {
        value["text"] = record.text.clone().into();
    }
    value
}

/// Its class, as clients of embedding-single read it.
pub(crate) fn precision(record: &Record) -> String {
    let name = record.precision_class().as_str_name();
    name.trim_start_matches("PRECISION_CLASS_").to_lowercase()
}

/// The numbers of a record, taken from the front of `vectors`.
///
/// # Errors
/// If there are too few bytes, or the type is unknown.
pub(crate) fn numbers(record: &Record, vectors: &mut Bytes) -> anyhow::Result<Vec<f32>> {
    let element_bytes = match record.element_type() {
        ElementType::Float32 => 4,
        ElementType::Float16 => 2,
        ElementType::Unspecified => bail!("a vector of a type that is not known here: update this program"),
    };
    let length = record.width as usize * element_bytes;
    if vectors.len() < length {
        bail!("an answer with {} bytes of vectors, which is too few", vectors.len());
    }
    let bytes = vectors.split_to(length);
    Ok(match element_bytes {
        4 => codec::read_float32(&bytes)?,
        _ => codec::read_float16(&bytes)?,
    })
}
