//! RESP, the protocol of Redis: commands written, answers read.

use anyhow::{Context, Result, bail, ensure};

/// A longer value is none that was stored here.
const BULK_BYTES_MAX: usize = 1 << 20;
/// More answers than keys of any request.
const ARRAY_MAX: usize = 1 << 16;
/// Digits of a number and the text of an error.
const LINE_BYTES_MAX: usize = 1 << 12;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// `+OK`
    Simple(&'a str),
    /// `-ERR …`
    Error(&'a str),
    /// `:1`
    Integer(i64),
    /// A value, or none.
    Bulk(Option<&'a [u8]>),
    /// Values, or none at all. None of them is an array: nothing that is asked here nests.
    Array(Vec<Reply<'a>>),
}

/// Appends one command.
pub(super) fn write(request: &mut Vec<u8>, words: &[&[u8]]) {
    request.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
}

/// The first answer in `bytes` and how long it is; `None` while it is not whole.
///
/// # Errors
/// Where it is not RESP, or over a limit.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>> {
    let Some((head, line, at)) = read_head(bytes)? else { return Ok(None) };
    if head != b'*' {
        return read_single(head, line, bytes, at);
    }
    let count = usize::try_from(number(line)?).unwrap_or(0);
    ensure!(count <= ARRAY_MAX, "an array of {count}");
    let (mut replies, mut at) = (Vec::new(), at);
    for _ in 0..count {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some((head, line, after)) = read_head(rest)? else { return Ok(None) };
        let Some((reply, length)) = read_single(head, line, rest, after)? else { return Ok(None) };
        replies.push(reply);
        at += length;
    }
    Ok(Some((Reply::Array(replies), at)))
}

/// The first byte of an answer, the rest of its line, and where the next line begins.
fn read_head(bytes: &[u8]) -> Result<Option<(u8, &str, usize)>> {
    let Some(end) = bytes.windows(2).take(LINE_BYTES_MAX).position(|pair| pair == b"\r\n") else {
        ensure!(bytes.len() <= LINE_BYTES_MAX, "a line without an end");
        return Ok(None);
    };
    let (head, line) = bytes[..end].split_first().context("an empty line")?;
    Ok(Some((*head, str::from_utf8(line)?, end + 2)))
}

/// An answer that is no array. `at` is where its second line would begin in `bytes`.
fn read_single<'a>(
    head: u8,
    line: &'a str,
    bytes: &'a [u8],
    at: usize,
) -> Result<Option<(Reply<'a>, usize)>> {
    let reply = match head {
        b'+' => Reply::Simple(line),
        b'-' => Reply::Error(line),
        b':' => Reply::Integer(number(line)?),
        b'$' if line == "-1" => Reply::Bulk(None),
        b'$' => return read_bulk(line, bytes, at),
        other => bail!("no answer begins with the byte {other}"),
    };
    Ok(Some((reply, at)))
}

fn read_bulk<'a>(line: &str, bytes: &'a [u8], at: usize) -> Result<Option<(Reply<'a>, usize)>> {
    let length: usize = line.parse().with_context(|| format!("`{line}` is no length"))?;
    ensure!(length <= BULK_BYTES_MAX, "a value of {length} bytes");
    let end = at + length;
    let Some(tail) = bytes.get(end..end + 2) else { return Ok(None) };
    ensure!(tail == b"\r\n", "a value that does not end where it should");
    Ok(bytes.get(at..end).map(|value| (Reply::Bulk(Some(value)), end + 2)))
}

fn number(line: &str) -> Result<i64> {
    line.parse().with_context(|| format!("`{line}` is no number"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_of_answer_is_read_and_its_length_known() {
        for (bytes, reply) in [
            (b"+OK\r\n".as_slice(), Reply::Simple("OK")),
            (b"-LOADING it\r\n", Reply::Error("LOADING it")),
            (b":-3\r\n", Reply::Integer(-3)),
            (b"$-1\r\n", Reply::Bulk(None)),
            (b"$4\r\na\r\nb\r\n", Reply::Bulk(Some(b"a\r\nb"))),
            (
                b"*3\r\n$1\r\na\r\n$-1\r\n:1\r\n",
                Reply::Array(vec![Reply::Bulk(Some(b"a")), Reply::Bulk(None), Reply::Integer(1)]),
            ),
            (b"*-1\r\n", Reply::Array(Vec::new())),
        ] {
            let with_more = [bytes, b"+next\r\n"].concat();
            assert_eq!(read(&with_more).unwrap(), Some((reply, bytes.len())));
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]).unwrap(), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_over_a_limit_or_no_answer_is_refused() {
        for bytes in [
            b"$9999999\r\n".as_slice(),
            b"*99999999\r\n",
            b"x\r\n",
            b"\r\n",
            b"$1\r\nabc",
            b":a\r\n",
            b"$-2\r\n",
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        assert!(read(&vec![b'+'; 2 * LINE_BYTES_MAX]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _outcome = read(&bytes);
        }

        #[test]
        fn no_mixture_of_its_own_signs_makes_it_panic(text in "[*$+:\\-0-9a\r\n]{0,60}") {
            if let Ok(Some((_, length))) = read(text.as_bytes()) {
                prop_assert!(length <= text.len());
            }
        }

        #[test]
        fn a_command_is_an_array_of_its_words(words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..9)) {
            let mut request = Vec::new();
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            write(&mut request, &words);
            let expected = words.iter().map(|word| Reply::Bulk(Some(word))).collect();
            prop_assert_eq!(read(&request).unwrap(), Some((Reply::Array(expected), request.len())));
        }
    }
}
