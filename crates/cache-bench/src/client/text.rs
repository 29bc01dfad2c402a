//! The text protocol of memcached: what it answers to `get` and to `set`, a piece at a time.

use anyhow::{Context, Result, ensure};

/// A longer value is none that was stored here; memcached's own limit is the same.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// A key has at most 250 bytes, numbers are short.
const LINE_BYTES_MAX: usize = 1 << 11;

/// A piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A hit; misses are left out.
    Value {
        /// Of which key.
        key: &'a str,
        /// What was stored.
        value: &'a [u8],
    },
    /// Any other line: `END`, `STORED`, `SERVER_ERROR …`
    Line(&'a str),
}

/// The first piece in `bytes` and how long it is; `None` while it is not whole.
///
/// # Errors
/// Where it is none, or over a limit.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Piece<'_>, usize)>> {
    let Some(end) = bytes.windows(2).take(LINE_BYTES_MAX).position(|pair| pair == b"\r\n") else {
        ensure!(bytes.len() <= LINE_BYTES_MAX, "a line without an end");
        return Ok(None);
    };
    let line = str::from_utf8(&bytes[..end])?;
    match line.strip_prefix("VALUE ") {
        Some(head) => read_value(head, bytes, end + 2),
        None => Ok(Some((Piece::Line(line), end + 2))),
    }
}

/// `head` is `<key> <flags> <bytes>`, and the value begins at `at`.
fn read_value<'a>(head: &'a str, bytes: &'a [u8], at: usize) -> Result<Option<(Piece<'a>, usize)>> {
    let mut words = head.split(' ');
    let key = words.next().context("a value without a key")?;
    let length = words.nth(1).context("a value without a length")?;
    let length: usize = length.parse().with_context(|| format!("`{length}` is no length"))?;
    ensure!(length <= VALUE_BYTES_MAX, "a value of {length} bytes");
    let end = at + length;
    let Some(tail) = bytes.get(end..end + 2) else { return Ok(None) };
    ensure!(tail == b"\r\n", "a value that does not end where it should");
    Ok(bytes.get(at..end).map(|value| (Piece::Value { key, value }, end + 2)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_and_lines_are_read_and_their_length_known() {
        for (bytes, piece) in [
            (b"END\r\n".as_slice(), Piece::Line("END")),
            (b"SERVER_ERROR out of memory\r\n", Piece::Line("SERVER_ERROR out of memory")),
            (b"VALUE k 0 4\r\na\r\nb\r\n", Piece::Value { key: "k", value: b"a\r\nb" }),
            (b"VALUE k 0 0\r\n\r\n", Piece::Value { key: "k", value: b"" }),
        ] {
            let with_more = [bytes, b"END\r\n"].concat();
            assert_eq!(read(&with_more).unwrap(), Some((piece, bytes.len())));
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]).unwrap(), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_over_a_limit_or_no_answer_is_refused() {
        for bytes in [
            b"VALUE k 0\r\n".as_slice(),
            b"VALUE k 0 x\r\n",
            b"VALUE k 0 99999999\r\n",
            b"VALUE k 0 1\r\nabc",
            b"\xff\r\n",
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        assert!(read(&vec![b'A'; 2 * LINE_BYTES_MAX]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _outcome = read(&bytes);
        }

        #[test]
        fn no_value_line_makes_it_panic(line in "VALUE [ -~]{0,20}", rest in "[\r\na]{0,20}") {
            if let Ok(Some((_, length))) = read(format!("{line}\r\n{rest}").as_bytes()) {
                prop_assert!(length <= line.len() + 2 + rest.len());
            }
        }
    }
}
