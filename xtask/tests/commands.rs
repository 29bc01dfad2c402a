//! The commands as a user starts them, on shell scripts in place of cargo and the services.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A workspace of its own under a temporary root. What runs there ends with it.
struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake");
        fs::create_dir_all(folder.path().join("target")).unwrap();
        fs::create_dir_all(folder.path().join("model")).unwrap();
        std::os::unix::fs::symlink(&fake, folder.path().join("target/debug")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn xtask(&self, args: &[&str]) -> Command {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        xtask
            .args(args)
            .env("CARGO_MANIFEST_DIR", self.path("xtask"))
            .env("CARGO", self.path("target/debug/cargo"))
            .env("ROOT", self.folder.path())
            .env("OF_THE_CALLER", "passed on")
            .env_remove("MODEL_NAME")
            .env_remove("API_KEY")
            .stdin(Stdio::null());
        xtask
    }

    fn run(&self, args: &[&str]) -> Output {
        self.xtask(args).output().unwrap()
    }

    /// Makes a named pipe: to open it waits for the other side.
    fn pipe(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Two ports in a row that were free a moment ago.
fn free_pair() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).ok();
    let pair = || {
        let first = free(0)?;
        let port = first.local_addr().ok()?.port();
        port.checked_add(1).and_then(free).map(|_second| port)
    };
    (0..100).find_map(|_| pair()).expect("two free ports in a row")
}

/// Serves `/health` and `/embed` on `port` until the test ends; ready once `ready_file` exists.
fn serve(port: u16, ready_file: PathBuf) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let answer = match (text(&request[..length]).starts_with("POST /embed "), ready_file.exists()) {
                (true, _) => "200 OK\r\n\r\n[[1, 0], [0.6, 0.8]]",
                (false, true) => "200 OK\r\n\r\n{\"status\": \"ready\"}",
                (false, false) => "503 Service Unavailable\r\n\r\n{\"status\": \"loading\"}",
            };
            write!(stream, "HTTP/1.0 {answer}").unwrap();
        }
    });
}

/// Starts a grid with `up --detach`; gives back its first port and what it said.
fn up_detached(sandbox: &Sandbox) -> (u16, Output) {
    let (fetching, go_on) = (sandbox.pipe("fetching"), sandbox.pipe("go-on"));
    let port = free_pair();
    let mut up = sandbox.xtask(&["up", "--detach", "--ports-from", &port.to_string()]);
    let (sender, output) = channel();
    thread::spawn(move || sender.send(up.output().unwrap()).unwrap());
    let (fetch_sender, fetch) = channel();
    thread::spawn(move || fetch_sender.send(fs::read_to_string(fetching).unwrap()).unwrap());
    assert_eq!(fetch.recv_timeout(PATIENCE).expect("the model is fetched"), "medium\n");
    serve(port, sandbox.path("embedding-single.env"));
    serve(port + 1, sandbox.path("ml-base.env"));
    fs::write(go_on, "now\n").unwrap();
    (port, output.recv_timeout(PATIENCE).expect("up --detach returns"))
}

#[test]
fn detached_grid_comes_up_is_used_and_goes_down() {
    let sandbox = Sandbox::new();
    let (port, up) = up_detached(&sandbox);
    let said = text(&up.stdout);
    assert!(up.status.success(), "{said}{}", text(&up.stderr));
    assert!(said.contains("cosine similarity of 0.6000"), "{said}");
    assert!(said.contains(&format!("curl -s http://127.0.0.1:{port}/embed")), "{said}");
    assert_eq!(fs::read_to_string(sandbox.path("built")).unwrap(), "build --workspace --bins\n");

    let status = sandbox.run(&["status"]);
    assert!(status.status.success(), "{}", text(&status.stdout));
    assert_eq!(text(&status.stdout).matches("ready").count(), 2);

    let second = sandbox.run(&["up"]);
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second.stderr).contains("cargo xtask down"), "{}", text(&second.stderr));

    let embed = sandbox.run(&["embed", "--file", "texts.txt", "--out", "-"]);
    assert_eq!(text(&embed.stdout), format!("--file texts.txt --out - --url http://127.0.0.1:{port}\n"));

    let down = sandbox.run(&["down"]);
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert!(text(&down.stdout).ends_with("stopped\n"), "{}", text(&down.stdout));
    assert!(!sandbox.path(".sutra/run").exists());
    assert_eq!(text(&sandbox.run(&["down"]).stdout), "nothing runs\n");
}

#[test]
fn services_get_their_variables_and_those_of_the_caller() {
    let sandbox = Sandbox::new();
    let (port, up) = up_detached(&sandbox);
    assert!(up.status.success(), "{}", text(&up.stderr));
    let has = |service: &str, variable: &str| {
        let env = fs::read_to_string(sandbox.path(&format!("{service}.env"))).unwrap();
        assert!(env.lines().any(|line| line == variable), "{service} lacks {variable}:\n{env}");
    };
    has("ml-base", &format!("ML_BASE_PORT={}", port + 1));
    has("ml-base", "MODEL_NAME=medium");
    has("ml-base", "INSTANCE_ID=ml-base-1");
    has("ml-base", &format!("ML_BASE_MODEL_STORE={}", sandbox.path(".sutra/models").display()));
    has("ml-base", "OF_THE_CALLER=passed on");
    has("embedding-single", &format!("EMBEDDING_PORT={port}"));
    has("embedding-single", &format!("ML_BASE_URL=http://127.0.0.1:{}", port + 1));
    has("embedding-single", "OF_THE_CALLER=passed on");
}

#[test]
fn taken_port_is_refused_before_anything_is_built() {
    let sandbox = Sandbox::new();
    let holder = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = holder.local_addr().unwrap().port();
    // The holder has the second of both ports, or the first where there is none before it.
    let up = sandbox.run(&["up", "--ports-from", &port.saturating_sub(1).to_string()]);
    let said = text(&up.stderr);
    assert_eq!(up.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("port {port} for ml-base is taken by ")), "{said}");
    assert!(said.contains(&format!("(pid {})", std::process::id())), "{said}");
    assert!(!sandbox.path("built").exists());
}

#[test]
fn embed_without_a_grid_says_how_to_start_one() {
    let sandbox = Sandbox::new();
    let embed = sandbox.run(&["embed", "--file", "texts.txt"]);
    assert_eq!(embed.status.code(), Some(1));
    assert!(text(&embed.stderr).contains("cargo xtask up"), "{}", text(&embed.stderr));
    assert!(!sandbox.path("built").exists());
}

#[test]
fn help_of_embed_comes_from_embed_file() {
    let sandbox = Sandbox::new();
    assert_eq!(text(&sandbox.run(&["embed", "--help"]).stdout), "--help\n");
}
