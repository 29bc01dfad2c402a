//! Clients that ask at a steady pace while something happens to the grid, and what became of every request.

use std::{
    fmt,
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::StatusCode;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Answer, Door},
    until::until,
};

/// embedding-single's own limit for a request, and what a loaded machine may add.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30 + 10);
/// What the clients that ask for cached texts ask for.
const CACHED: [&str; 3] = ["a cached text", "another one", "the third"];

/// Who asks for what. Each client has one connection and one request in flight.
#[derive(Debug, Clone, Copy)]
pub struct LoadPlan {
    /// Clients that ask for texts nobody has asked for.
    pub new_clients: usize,
    /// Clients that ask for cached texts.
    pub cached_clients: usize,
    /// From one request of a client to its next, at least.
    pub pace: Duration,
    /// The texts of the request of this number.
    pub texts: fn(usize) -> Vec<String>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// When it was sent.
    pub asked: Instant,
    /// Until its answer was there.
    pub took: Duration,
    /// The answer's status.
    pub status: StatusCode,
}

/// Requests of one client, in the order they were sent.
#[derive(Debug, Default)]
struct Diary(Mutex<Vec<Record>>);

impl Diary {
    fn add(&self, asked: Instant, answer: &Answer) {
        let record = Record { asked, took: asked.elapsed(), status: answer.status };
        assert!(record.took <= ANSWER_TIME_MAX, "after {:?}: {}", record.took, answer.shown());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// True where a request sent at `from` or later is `wanted`.
    fn has(&self, from: Instant, wanted: impl Fn(&Record) -> bool) -> bool {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().rev().take_while(|record| record.asked >= from).any(wanted)
    }

    fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Clients that ask and ask until they are told to stop.
///
/// Each client checks its answers: as many vectors as texts, refusals that say when to come again, cached texts always
/// from the cache. A client that finds otherwise panics, and so does [`Load::stop`]. Any other status is only counted.
#[derive(Debug)]
#[must_use]
pub struct Load {
    clients: JoinSet<()>,
    new: Vec<Arc<Diary>>,
    cached: Vec<Arc<Diary>>,
    stop: CancellationToken,
}

impl Load {
    /// Starts the clients, once the cached texts are cached.
    pub async fn start(proxy: Door, plan: LoadPlan) -> Self {
        proxy.embed(&CACHED).await.rows();
        let mut load = Self {
            clients: JoinSet::new(),
            new: Vec::new(),
            cached: Vec::new(),
            stop: CancellationToken::new(),
        };
        for client in 0..plan.new_clients {
            let diary = Arc::new(Diary::default());
            load.new.push(diary.clone());
            load.clients.spawn(ask_for_new_texts(proxy, plan, client, diary, load.stop.clone()));
        }
        for client in 0..plan.cached_clients {
            let diary = Arc::new(Diary::default());
            load.cached.push(diary.clone());
            load.clients.spawn(ask_for_cached_texts(proxy, plan, client, diary, load.stop.clone()));
        }
        load
    }

    /// Waits until each client that asks for new texts has sent a request, from now on, that ends with this status.
    pub async fn until_each(&self, what: &str, status: StatusCode) {
        let now = Instant::now();
        let is_reached = || self.new.iter().all(|diary| diary.has(now, |record| record.status == status));
        until(what, async || is_reached().then_some(())).await;
    }

    /// The requests that were in flight at some time from `from` until `to`, once all of them are answered.
    pub async fn figures(&self, from: Instant, to: Instant) -> Figures {
        let diaries = || self.new.iter().chain(&self.cached);
        // A client sends its next request when the last one is answered.
        let is_reached = || diaries().all(|diary| diary.has(to, |_| true));
        until("every request is answered", async || is_reached().then_some(())).await;
        let records = diaries().flat_map(|diary| diary.records());
        let was_in_flight = |record: &Record| record.asked < to && record.asked + record.took >= from;
        Figures(records.filter(was_in_flight).collect())
    }

    /// The same, from `from` until now.
    pub async fn figures_since(&self, from: Instant) -> Figures {
        self.figures(from, Instant::now()).await
    }

    /// Requests for new texts that were sent from `from` on and are answered.
    pub fn new_since(&self, from: Instant) -> usize {
        let records = self.new.iter().flat_map(|diary| diary.records());
        records.filter(|record| record.asked >= from).count()
    }

    /// Ends the clients.
    ///
    /// # Panics
    /// As a client did.
    pub async fn stop(self) -> Figures {
        self.stop.cancel();
        self.clients.join_all().await;
        Figures(self.new.iter().chain(&self.cached).flat_map(|diary| diary.records()).collect())
    }
}

async fn ask_for_new_texts(
    proxy: Door,
    plan: LoadPlan,
    client: usize,
    diary: Arc<Diary>,
    stop: CancellationToken,
) {
    let mut connection = proxy.connect().await;
    let mut pace = steady(plan.pace, client, plan.new_clients);
    for round in 0.. {
        pace.tick().await;
        if stop.is_cancelled() {
            return;
        }
        let texts = (plan.texts)(round * plan.new_clients + client);
        let asked = Instant::now();
        let answer = connection.embed(&texts).await;
        check(&answer, texts.len());
        diary.add(asked, &answer);
    }
}

fn check(answer: &Answer, rows: usize) {
    match answer.status {
        StatusCode::OK => assert_eq!(answer.rows().len(), rows),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            let seconds: u32 = answer.header("retry-after").parse().unwrap();
            assert!(seconds >= 1, "{}", answer.shown());
            assert!(answer.json()["error"].is_string(), "{}", answer.shown());
        }
        _ => {}
    }
}

async fn ask_for_cached_texts(
    proxy: Door,
    plan: LoadPlan,
    client: usize,
    diary: Arc<Diary>,
    stop: CancellationToken,
) {
    let mut connection = proxy.connect().await;
    let mut pace = steady(plan.pace, client, plan.cached_clients);
    while !stop.is_cancelled() {
        pace.tick().await;
        let asked = Instant::now();
        let answer = connection.embed(&CACHED).await;
        assert_eq!((answer.status, answer.header("x-cache")), (StatusCode::OK, "hit"), "{}", answer.shown());
        diary.add(asked, &answer);
    }
}

/// The ticks of one of `clients`, which take turns. After a request that took long, no burst makes up for those that
/// were not sent.
fn steady(pace: Duration, client: usize, clients: usize) -> tokio::time::Interval {
    let turn = pace.mul_f64(client as f64 / clients as f64);
    let mut pace = interval_at(tokio::time::Instant::now() + turn, pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// What became of some requests.
#[derive(Debug)]
pub struct Figures(Vec<Record>);

impl Figures {
    /// Requests.
    pub fn sent(&self) -> usize {
        self.0.len()
    }

    /// Requests that ended with anything but 200.
    pub fn failed(&self) -> usize {
        self.0.iter().filter(|record| record.status != StatusCode::OK).count()
    }

    /// Requests that ended as overload and unreadiness are to be said: with 429 or 503.
    pub fn refused(&self) -> usize {
        let refusals = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        self.0.iter().filter(|record| refusals.contains(&record.status)).count()
    }

    /// What the slowest request took; 0 where there are none.
    pub fn longest(&self) -> Duration {
        self.quantile(1.0)
    }

    /// The time within which this share of the requests was answered; 0 where there are none.
    fn quantile(&self, share: f64) -> Duration {
        let mut times: Vec<_> = self.0.iter().map(|record| record.took).collect();
        times.sort_unstable();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let place = (times.len() as f64 * share) as usize;
        times.get(place.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// Writes the figures to stderr, where the test runner keeps them.
    pub fn show(self, what: &str) -> Self {
        std::io::stderr().write_all(format!("{what}: {self}\n").as_bytes()).unwrap();
        self
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |share| self.quantile(share).as_secs_f64() * 1e3;
        let (sent, failed) = (self.sent(), self.failed());
        let (p50, p99, max) = (shown(0.5), shown(0.99), shown(1.0));
        write!(f, "{sent} requests, {failed} failed, p50 {p50:.0} ms, p99 {p99:.0} ms, longest {max:.0} ms")
    }
}
