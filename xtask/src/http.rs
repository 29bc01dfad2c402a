//! The little HTTP that xtask needs, on a plain socket: one request, one answer, connection closed.
//!
//! It speaks HTTP/1.0, so that the body is whatever comes until the end and never chunked.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::socket;

/// Status and body of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status code.
    pub(crate) status: u16,
    /// The body; JSON in all our services.
    pub(crate) body: String,
}

/// `GET path` on this machine.
pub(crate) fn get(port: u16, path: &str, timeout: Duration) -> Result<Answer> {
    get_with_key(port, path, None, timeout)
}

/// `GET path` on this machine. `bearer` is sent as authorization, where given.
pub(crate) fn get_with_key(port: u16, path: &str, bearer: Option<&str>, timeout: Duration) -> Result<Answer> {
    let authorization = authorization(bearer);
    exchange(port, timeout, &format!("GET {path} HTTP/1.0\r\nhost: 127.0.0.1:{port}\r\n{authorization}\r\n"))
}

/// `POST path` with a JSON body on this machine. `bearer` is sent as authorization, where given.
pub(crate) fn post_json(
    port: u16,
    path: &str,
    json: &str,
    bearer: Option<&str>,
    timeout: Duration,
) -> Result<Answer> {
    let authorization = authorization(bearer);
    let length = json.len();
    let request = format!(
        "POST {path} HTTP/1.0\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n{authorization}\
         content-length: {length}\r\n\r\n{json}"
    );
    exchange(port, timeout, &request)
}

fn authorization(bearer: Option<&str>) -> String {
    bearer.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default()
}

fn exchange(port: u16, timeout: Duration, request: &str) -> Result<Answer> {
    parse(&String::from_utf8_lossy(&socket::ask(port, request.as_bytes(), timeout)?))
}

fn parse(answer: &str) -> Result<Answer> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("answer of {} bytes has no end of headers", answer.len());
    };
    let mut words = head.split_whitespace();
    let protocol = words.next().unwrap_or_default();
    let status = words.next().and_then(|code| code.parse().ok());
    match status {
        Some(status) if protocol.starts_with("HTTP/1.") => Ok(Answer { status, body: body.to_owned() }),
        Some(_) | None => bail!("`{}` is no HTTP answer", head.lines().next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Answers one request with `answer`; gives back the port and the request's text.
    fn answer_once(answer: &'static str) -> (u16, thread::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (port, server)
    }

    #[test]
    fn get_reads_status_and_body() {
        let (port, server) =
            answer_once("HTTP/1.0 503 Service Unavailable\r\nx: y\r\n\r\n{\"status\":\"loading\"}");
        let answer = get(port, "/health", TIMEOUT).unwrap();
        assert_eq!(answer, Answer { status: 503, body: "{\"status\":\"loading\"}".to_owned() });
        assert!(server.join().unwrap().starts_with("GET /health HTTP/1.0\r\n"));
    }

    #[test]
    fn post_sends_length_and_key() {
        let (port, server) = answer_once("HTTP/1.1 200 OK\r\n\r\n[]");
        post_json(port, "/embed", "{\"inputs\":\"ü\"}", Some("secret"), TIMEOUT).unwrap();
        let request = server.join().unwrap();
        assert!(request.contains("content-length: 15\r\n"), "{request}");
        assert!(request.contains("authorization: Bearer secret\r\n"), "{request}");
    }

    #[test]
    fn get_sends_the_key_where_there_is_one() {
        for (key, shown) in [(Some("secret"), true), (None, false)] {
            let (port, server) = answer_once("HTTP/1.1 200 OK\r\n\r\n{}");
            get_with_key(port, "/info", key, TIMEOUT).unwrap();
            let request = server.join().unwrap();
            assert_eq!(request.contains("\r\nauthorization: Bearer secret\r\n\r\n"), shown, "{request}");
        }
    }

    #[test]
    fn something_else_than_http_is_an_error() {
        assert!(parse("SSH-2.0-x\r\n\r\n").is_err());
        assert!(parse("HTTP/1.1 200 OK").is_err());
        let (port, server) = answer_once("");
        assert!(get(port, "/health", TIMEOUT).is_err());
        server.join().unwrap();
    }
}
