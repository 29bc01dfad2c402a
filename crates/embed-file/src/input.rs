//! Lines in: reads one text a line and says of each whether it can be sent.
//!
//! Invariant: no more than one line of bounded length is held, whatever the file holds.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
};

use serde::Deserialize;

/// Where the texts come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Standard input.
    Stdin,
    /// A file, or anything else that opens as one.
    File(PathBuf),
}

/// How a line holds its text.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Format {
    /// The line is the text.
    Lines,
    /// The line is a JSON string, or an object with `text`.
    Jsonl,
}

/// A line, and its text or one sentence on why it has none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    /// The text as it will be sent, never empty.
    pub(crate) text: Result<String, String>,
}

impl Source {
    /// As a message names it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Opens the source for reading from its start.
    ///
    /// # Errors
    /// As the file system has it.
    pub(crate) fn open(&self) -> io::Result<Box<dyn BufRead + Send>> {
        Ok(match self {
            Self::Stdin => Box::new(BufReader::new(io::stdin())),
            Self::File(path) => Box::new(BufReader::with_capacity(1 << 16, File::open(path)?)),
        })
    }

    /// Lines of a regular file; `None` for what can be read only once.
    ///
    /// # Errors
    /// As the file system has it.
    pub(crate) fn count_lines(&self) -> io::Result<Option<u64>> {
        let Self::File(path) = self else { return Ok(None) };
        if !path.metadata()?.is_file() {
            return Ok(None);
        }
        let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
        let mut lines = 0;
        while reader.skip_until(b'\n')? > 0 {
            lines += 1;
        }
        Ok(Some(lines))
    }
}

/// The lines of a reader, in order.
pub(crate) struct Lines<R> {
    reader: R,
    format: Format,
    text_bytes_max: usize,
    number: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `reader`; a text over `text_bytes_max` fails here, before it is held whole.
    pub(crate) fn new(reader: R, format: Format, text_bytes_max: usize) -> Self {
        Self { reader, format, text_bytes_max, number: 0, buffer: Vec::new() }
    }

    fn line_bytes_max(&self) -> usize {
        match self.format {
            Format::Lines => self.text_bytes_max,
            // An escaped character takes up to six times its bytes, and other fields take room as well.
            Format::Jsonl => self.text_bytes_max.saturating_mul(6).saturating_add(1 << 20),
        }
    }

    fn read_line(&mut self) -> io::Result<Option<Line>> {
        let line_bytes_max = self.line_bytes_max();
        // Two more than the limit, so that a line of just that length still shows its CRLF.
        let room = line_bytes_max.saturating_add(2) as u64;
        self.buffer.clear();
        let read = self.reader.by_ref().take(room).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        let ended = self.buffer.ends_with(b"\n");
        if !ended && read as u64 == room {
            self.reader.skip_until(b'\n')?;
        }
        self.number += 1;
        let bytes = self.trimmed();
        let text = if bytes.len() > line_bytes_max {
            Err(format!("the line has more than {line_bytes_max} bytes, the limit of the server"))
        } else {
            self.text_of(bytes)
        };
        Ok(Some(Line { number: self.number, text }))
    }

    fn trimmed(&self) -> &[u8] {
        let mut bytes = self.buffer.as_slice();
        if let Some(rest) = bytes.strip_suffix(b"\n") {
            bytes = rest.strip_suffix(b"\r").unwrap_or(rest);
        }
        // Editors on Windows begin a file with a byte order mark, which is no part of the first text.
        if self.number == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes }
    }

    fn text_of(&self, bytes: &[u8]) -> Result<String, String> {
        let line = str::from_utf8(bytes)
            .map_err(|error| format!("the line is not valid UTF-8 from byte {}", error.valid_up_to()))?;
        let text = match self.format {
            Format::Lines => line.to_owned(),
            Format::Jsonl if line.trim().is_empty() => String::new(),
            Format::Jsonl => parse_json_line(line)?,
        };
        if text.is_empty() {
            return Err("the text is empty".to_owned());
        }
        if text.len() > self.text_bytes_max {
            return Err(format!("the text has {} bytes, the limit is {}", text.len(), self.text_bytes_max));
        }
        Ok(text)
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_line().transpose()
    }
}

fn parse_json_line(line: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum JsonLine {
        Text(String),
        Object { text: String },
    }
    match serde_json::from_str::<serde::de::IgnoredAny>(line) {
        Err(error) => Err(format!("the line is not JSON: {error}")),
        Ok(_) => match serde_json::from_str(line) {
            Ok(JsonLine::Text(text) | JsonLine::Object { text }) => Ok(text),
            Err(_) => Err("the line is neither a JSON string nor an object with a string `text`".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8], format: Format, text_bytes_max: usize) -> Vec<Result<String, String>> {
        let lines: io::Result<Vec<Line>> = Lines::new(bytes, format, text_bytes_max).collect();
        let lines = lines.unwrap();
        assert!(lines.iter().map(|line| line.number).eq(1..=lines.len() as u64));
        lines.into_iter().map(|line| line.text).collect()
    }

    fn ok(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    #[test]
    fn line_ends_and_byte_order_mark_are_no_part_of_a_text() {
        assert_eq!(
            texts(b"\xef\xbb\xbfa\r\nb\n c \r\r\nd", Format::Lines, 9),
            [ok("a"), ok("b"), ok(" c \r"), ok("d")]
        );
    }

    #[test]
    fn empty_and_invalid_lines_fail_and_keep_their_number() {
        let texts = texts(b"a\n\n\xff\xfe\n\r\nb\n", Format::Lines, 9);
        assert_eq!(texts[1], Err("the text is empty".to_owned()));
        assert_eq!(texts[2], Err("the line is not valid UTF-8 from byte 0".to_owned()));
        assert_eq!(texts[3], Err("the text is empty".to_owned()));
        assert_eq!(texts[4], ok("b"));
    }

    #[test]
    fn line_at_the_limit_passes_and_one_byte_more_fails_alone() {
        let texts = texts(b"12345\r\n123456\r\n123456789 and much more\n12345\n123456", Format::Lines, 5);
        assert_eq!(texts[0], ok("12345"));
        assert!(texts[1].is_err() && texts[2].is_err() && texts[4].is_err());
        assert_eq!(texts[3], ok("12345"));
    }

    #[test]
    fn json_lines_are_strings_or_objects_with_text() {
        let texts =
            texts(b"\"a\\nb\"\n{\"id\": 3, \"text\": \"c\"}\n{\"id\": 3}\n[\n7\n\n", Format::Jsonl, 9);
        assert_eq!(texts[..2], [ok("a\nb"), ok("c")]);
        assert!(texts[2].as_ref().unwrap_err().contains("neither a JSON string nor an object"));
        assert!(texts[3].as_ref().unwrap_err().contains("not JSON"));
        assert!(texts[4].is_err());
        assert_eq!(texts[5], Err("the text is empty".to_owned()));
    }
}
