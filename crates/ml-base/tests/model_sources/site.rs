//! A tiny web server on port 0 that serves what it is told to, and remembers what it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a path answers.
#[derive(Clone)]
pub(crate) struct Page {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes to send of the body before the connection is cut.
    sent: usize,
}

impl Page {
    pub(crate) fn new(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status: 200, headers: Vec::new(), sent: body.len(), body }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::new("") }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::status(302).with("Location", to)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Announces the whole body, sends only so much of it.
    pub(crate) fn cut_to(self, sent: usize) -> Self {
        Self { sent, ..self }
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
}

/// The server. Its thread ends with the test process.
pub(crate) struct Site {
    address: SocketAddr,
    pages: Arc<Mutex<HashMap<String, Page>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pages = Arc::<Mutex<HashMap<String, Page>>>::default();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let shared = (Arc::clone(&pages), Arc::clone(&seen));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (pages, seen) = shared.clone();
                thread::spawn(move || answer(&stream.unwrap(), &pages, &seen));
            }
        });
        Self { address, pages, seen }
    }

    pub(crate) fn put(&self, path: &str, page: Page) -> &Self {
        self.pages.lock().unwrap().insert(path.to_owned(), page);
        self
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `http://user:password@host`.
    pub(crate) fn url_with(&self, user: &str) -> String {
        format!("http://{user}@{}", self.address)
    }

    /// The requests whose path ends so, in the order they came.
    pub(crate) fn asked(&self, path_end: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.path.ends_with(path_end)).cloned().collect()
    }
}

fn answer(stream: &TcpStream, pages: &Mutex<HashMap<String, Page>>, seen: &Mutex<Vec<Seen>>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let authorization = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    });
    let page = pages.lock().unwrap().get(&path).cloned().unwrap_or_else(|| Page::status(404));
    seen.lock().unwrap().push(Seen { path, authorization });
    let mut head =
        format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\nConnection: close\r\n", page.status, page.body.len());
    for (name, value) in &page.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut stream = stream;
    // A client that has seen enough may be gone: that is its right.
    drop(stream.write_all(head.as_bytes()));
    drop(stream.write_all(&page.body[..page.sent]));
}
