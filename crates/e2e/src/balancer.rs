//! HAProxy with the file that production uses, in front of replicas of a test.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::Command,
};

use crate::{
    client::Door,
    program::Program,
    skip::{skip, variable},
    until::until,
};

/// Where packages put the program, also for users whose `PATH` has no such folders.
const SYSTEM_FOLDERS: &str = "/usr/local/sbin:/usr/sbin";
const PORT: u16 = 8887;

/// A server line of the balancer, as `show stat` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// `ml1`, `ml2` and so on.
    pub name: String,
    /// `UP`, `DOWN`, `NOLB` (draining), `DRAIN`, `MAINT`, or one of them with the checks it has got through.
    pub status: String,
    /// Streams sent to it so far, repeated ones too.
    pub streams: u64,
    /// Times a stream was sent again.
    pub retries: u64,
}

/// A master and its worker. Dropping it kills both: the worker ends with its master.
#[derive(Debug)]
pub struct Balancer {
    program: Program,
    door: Door,
    directory: TempDir,
}

impl Balancer {
    /// A balancer on `host` in front of these replicas; `None` where HAProxy is not installed, which the test `name` then
    /// says as [`model_dir`](crate::model_dir()) does.
    ///
    /// # Panics
    /// If it cannot be started, or is not installed and `SUTRA_REQUIRE_HAPROXY` is set.
    pub fn start(name: &str, host: &str, replicas: &[Door]) -> Option<Self> {
        let Some(haproxy) = find_haproxy() else {
            skip(name, "haproxy is not installed; run cargo xtask test", "SUTRA_REQUIRE_HAPROXY");
            return None;
        };
        let door = Door(SocketAddr::new(host.parse().unwrap(), PORT));
        let directory = tempfile::tempdir().unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../haproxy/ml-base-lb.cfg");
        let mut command = Command::new(haproxy);
        command
            .args(["-W", "-db", "-f"])
            .arg(file)
            .env_clear()
            .env("ML_BASE_LB_BIND", door.0.to_string())
            .env("ML_BASE_LB_STATS", format!("unix@{}", socket(&directory, "stats").display()))
            .env("ML_BASE_LB_ADMIN", socket(&directory, "admin"));
        for (number, replica) in (1..).zip(replicas) {
            command.env(format!("ML_BASE_{number}"), replica.0.to_string());
        }
        Some(Self { program: Program::spawn("haproxy", command), door, directory })
    }

    /// Where it listens.
    pub fn door(&self) -> Door {
        self.door
    }

    /// Waits until every slot is up and a worker has been through its first checks.
    pub async fn ready(&self) -> Door {
        until("the balancer answers", async || self.say("stats", "show info").await).await;
        self.until_all_up().await;
        self.door.ready().await;
        self.door
    }

    /// What it says of its slots; none while no worker answers.
    pub async fn slots(&self) -> Vec<Slot> {
        let table = self.say("stats", "show stat").await.unwrap_or_default();
        let mut lines = table.trim_start_matches("# ").lines();
        let names: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
        let slot = |line: &str| {
            let fields: Vec<_> = line.split(',').collect();
            let field = |name| fields.get(names.iter().position(|known| *known == name)?).copied();
            let is_slot = field("pxname")? == "ml_base" && field("svname")? != "BACKEND";
            is_slot.then_some(())?;
            Some(Slot {
                name: field("svname")?.to_owned(),
                status: field("status")?.to_owned(),
                streams: field("stot")?.parse().ok()?,
                retries: field("wretr")?.parse().ok()?,
            })
        };
        lines.filter_map(slot).collect()
    }

    /// Waits until the slot of this number, from 0, has this status.
    pub async fn until_status(&self, number: usize, status: &str) {
        until(&format!("slot {number} is {status}"), async || {
            let slots = self.slots().await;
            (slots.get(number)?.status == status).then_some(())
        })
        .await;
    }

    /// Waits until every slot is up.
    pub async fn until_all_up(&self) {
        until("every slot is up", async || {
            let slots = self.slots().await;
            (!slots.is_empty() && slots.iter().all(|slot| slot.status == "UP")).then_some(())
        })
        .await;
    }

    /// Has the file read anew by a new worker, and waits until the old one has ended.
    pub async fn reload(&self) {
        let ended = || self.program.log().matches("Former worker").count();
        let ended_before = ended();
        self.program.signal(Signal::USR2);
        until("the old worker ends", async || (ended() > ended_before).then_some(())).await;
    }

    /// An order over the admin socket.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn order(&self, order: &str) {
        let answer = self.say("admin", order).await.unwrap();
        assert_eq!(answer.trim(), "", "{order}");
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.program.log()
    }

    async fn say(&self, name: &str, command: &str) -> Option<String> {
        let mut stream = UnixStream::connect(socket(&self.directory, name)).await.ok()?;
        stream.write_all(format!("{command}\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }
}

fn socket(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join(name)
}

fn find_haproxy() -> Option<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let folders = path.split(':').chain(SYSTEM_FOLDERS.split(':'));
    folders.map(|folder| Path::new(folder).join("haproxy")).find(|program| program.is_file())
}
