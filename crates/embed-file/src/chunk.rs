//! Lines into chunks: what one request carries.

use std::io;

use crate::input::Line;

/// Consecutive lines that travel together; those without a text are carried along to keep the order.
pub(crate) type Chunk = Vec<Line>;

/// What one chunk may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkLimits {
    /// Lines of a chunk.
    pub(crate) texts_max: usize,
    /// Bytes of all its texts, in UTF-8; one text over it travels alone.
    pub(crate) bytes_max: usize,
}

/// Groups lines into chunks, in order.
pub(crate) struct Chunks<L> {
    lines: L,
    limits: ChunkLimits,
    held: Option<Line>,
}

impl<L: Iterator<Item = io::Result<Line>>> Chunks<L> {
    /// Groups `lines` within `limits`.
    pub(crate) fn new(lines: L, limits: ChunkLimits) -> Self {
        Self { lines, limits, held: None }
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        match self.held.take() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next().transpose(),
        }
    }

    fn next_chunk(&mut self) -> io::Result<Chunk> {
        let mut chunk = Chunk::new();
        let mut bytes = 0;
        while chunk.len() < self.limits.texts_max {
            let Some(line) = self.next_line()? else { break };
            bytes += line.text.as_ref().map_or(0, String::len);
            if bytes > self.limits.bytes_max && !chunk.is_empty() {
                self.held = Some(line);
                break;
            }
            chunk.push(line);
        }
        Ok(chunk)
    }
}

impl<L: Iterator<Item = io::Result<Line>>> Iterator for Chunks<L> {
    type Item = io::Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_chunk() {
            Ok(chunk) if chunk.is_empty() => None,
            other => Some(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(texts: &[&str], texts_max: usize, bytes_max: usize) -> Vec<usize> {
        let lines = (1..).zip(texts).map(|(number, text)| Ok(Line { number, text: Ok((*text).to_owned()) }));
        let chunks: Vec<Chunk> =
            Chunks::new(lines, ChunkLimits { texts_max, bytes_max }).map(Result::unwrap).collect();
        let numbers = chunks.iter().flatten().map(|line| line.number);
        assert!(numbers.eq(1..=texts.len() as u64), "every line travels once, in order");
        chunks.iter().map(Vec::len).collect()
    }

    #[test]
    fn chunks_are_bounded_in_texts_and_in_bytes() {
        assert_eq!(sizes(&["a"; 7], 3, 100), [3, 3, 1]);
        assert_eq!(sizes(&["aaaa", "bbbb", "cc", "d"], 9, 7), [1, 3]);
    }

    #[test]
    fn text_over_the_bytes_of_a_chunk_travels_alone() {
        assert_eq!(sizes(&["a", "0123456789", "b"], 9, 4), [1, 1, 1]);
    }
}
