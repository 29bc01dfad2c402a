//! One question and its answer on a plain socket of this machine, all of it within one time-out.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// An answer is longer than this only by mistake.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const READ_BYTES: usize = 16 << 10;

/// Sends `request` to `port` and reads until the other side closes the connection.
///
/// # Errors
/// Where nobody listens, or the answer is not whole within `timeout`, however slowly it trickles in.
pub(crate) fn ask(port: u16, request: &[u8], timeout: Duration) -> Result<Vec<u8>> {
    let deadline = Instant::now() + timeout;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT.min(timeout)).context("connect")?;
    stream.set_write_timeout(Some(left_until(deadline)?)).context("set the write timeout")?;
    stream.write_all(request).context("send the request")?;
    let mut answer = Vec::new();
    let mut piece = vec![0; READ_BYTES];
    loop {
        stream.set_read_timeout(Some(left_until(deadline)?)).context("set the read timeout")?;
        match stream.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(length) => answer.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("read the answer"),
        }
        if answer.len() > ANSWER_BYTES_MAX {
            bail!("the answer has more than {ANSWER_BYTES_MAX} bytes");
        }
    }
}

fn left_until(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        bail!("no whole answer in time");
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn listener() -> (u16, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        (listener.local_addr().unwrap().port(), listener)
    }

    #[test]
    fn answer_ends_where_the_other_side_closes() {
        let (port, listener) = listener();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 5];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(b"first ").unwrap();
            stream.write_all(&question).unwrap();
        });
        assert_eq!(ask(port, b"hello", Duration::from_secs(30)).unwrap(), b"first hello");
        server.join().unwrap();
    }

    #[test]
    fn one_that_accepts_and_never_answers_is_an_error() {
        let (port, _silent) = listener();
        assert!(ask(port, b"hello", Duration::from_millis(20)).is_err());
    }

    #[test]
    fn trickle_does_not_stretch_the_timeout() {
        let (port, listener) = listener();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Until the asker has gone away.
            while stream.write_all(b".").is_ok() {
                thread::yield_now();
            }
        });
        let error = ask(port, b"hello", Duration::from_millis(20)).unwrap_err();
        assert!(
            !error.to_string().contains("bytes"),
            "the time-out comes before the bound of bytes: {error}"
        );
        server.join().unwrap();
    }
}
