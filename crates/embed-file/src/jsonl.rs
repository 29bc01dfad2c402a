//! JSON lines out: `{"line": 12, "embedding": [..]}` or `{"line": 12, "error": ".."}`.

use std::io::{self, Write};

use serde::Serialize;

use crate::sink::Row;

#[derive(Serialize)]
struct JsonRow<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Writes rows as they come.
pub(crate) struct JsonLines<W> {
    writer: W,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `writer`, which should buffer.
    pub(crate) fn new(writer: W) -> Self {
        Self { writer }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// As the writer has it.
    pub(crate) fn push(&mut self, row: &Row) -> io::Result<()> {
        let embedding = row.values.as_deref().ok();
        let error = row.values.as_ref().err().map(String::as_str);
        serde_json::to_writer(&mut self.writer, &JsonRow { line: row.number, embedding, error })?;
        self.writer.write_all(b"\n")
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// As the writer has it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_one_object_a_line_and_floats_survive() {
        let mut lines = JsonLines::new(Vec::new());
        let values = vec![0.1_f32, -3.4e38, 1.0e-45];
        lines.push(&Row { number: 1, values: Ok(values.clone()) }).unwrap();
        lines.push(&Row { number: 2, values: Err("say \"no\"".to_owned()) }).unwrap();
        let written = String::from_utf8(lines.writer).unwrap();
        let (first, second) = written.trim_end().split_once('\n').unwrap();
        let first: serde_json::Value = serde_json::from_str(first).unwrap();
        assert_eq!(serde_json::from_value::<Vec<f32>>(first["embedding"].clone()).unwrap(), values);
        assert_eq!(second, r#"{"line":2,"error":"say \"no\""}"#);
    }
}
