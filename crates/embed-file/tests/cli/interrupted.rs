//! Ctrl-C and SIGTERM: nothing that looks whole is left, and what was streamed stays.

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    sync::mpsc,
};

use crate::{
    run::{Folder, Ran},
    server::FakeServer,
};

/// Answers the first request, holds all others for ever and says when the first of them is there.
async fn server_that_stalls() -> (FakeServer, mpsc::UnboundedReceiver<()>) {
    let (stalled, stalls) = mpsc::unbounded_channel();
    let server = FakeServer::start(move |asked| {
        let stalled = stalled.clone();
        async move {
            if asked.nth > 0 {
                stalled.send(()).unwrap();
                std::future::pending::<()>().await;
            }
            asked.vectors()
        }
    })
    .await;
    (server, stalls)
}

fn send(signal: Signal, child: &Child) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn interrupted_npy_leaves_no_file() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (server, mut stalls) = server_that_stalls().await;
        let folder = Folder::with("a\n".repeat(20));
        let child = folder.command(&server.url, &["--out", "out.npy"]).spawn().unwrap();
        stalls.recv().await.unwrap();
        assert_eq!(folder.names().len(), 2, "a temporary file is being written");
        send(signal, &child);
        let ran = Ran::from(child.wait_with_output().await.unwrap());
        assert_eq!(ran.code, Some(code));
        assert!(ran.stderr.contains("interrupted, out.npy was not written"), "{}", ran.stderr);
        assert_eq!(folder.names(), ["texts.txt"]);
    }
}

#[tokio::test]
async fn interrupted_json_lines_keep_what_was_answered() {
    let (server, mut stalls) = server_that_stalls().await;
    let folder = Folder::with("a\n".repeat(20));
    let mut child = folder.command(&server.url, &["--out", "-", "--concurrency", "1"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for number in 1..=4 {
        let line = lines.next_line().await.unwrap().unwrap();
        assert!(line.starts_with(&format!("{{\"line\":{number},\"embedding\":")), "{line}");
    }
    stalls.recv().await.unwrap();
    send(Signal::INT, &child);
    let ran = Ran::from(child.wait_with_output().await.unwrap());
    assert_eq!(ran.code, Some(130));
    assert_eq!(lines.next_line().await.unwrap(), None);
}
