//! Keeps a list of programs running, and stops them in order.
//!
//! Goals: a program that dies is started again after a growing delay; a request to stop ends them one by one, the last
//! started first, each within a bound; nothing is left behind, whatever happens.
//!
//! Non-goals: knowing what the programs are. The caller brings [`ServiceSpec`]s, a way to see whether a service is ready,
//! and an observer that is told of every change.
//!
//! ```text
//!            start ──▶ wait_ready ──▶ watch ──▶ drain
//!                         │             │  ▲
//!                         ▼             ▼  │ after backoff
//! signals ──▶ Stop ──▶ [ events ] ◀── Exited ◀── one waiting thread per process
//! ```

mod backoff;
mod launch;
pub(crate) mod log;
mod spec;
#[cfg(test)]
mod tests;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use backoff::Backoff;
use launch::Running;
pub(crate) use spec::{Limits, Notice, Probe, Readiness, RestartPolicy, ServiceSpec, StartError, StopHandle};

/// Time between two looks at a service that is not ready yet.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// A killed process ends at once, unless the kernel itself hangs.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// What the threads around the supervisor tell it.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Somebody wants everything to end.
    Stop,
    /// The process of the service with this index has ended; it still has to be reaped.
    Exited(usize),
}

/// How services end: one by one, or all at once because somebody asked a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hurry {
    DrainEach,
    KillAll,
}

enum Stage {
    Idle,
    Running(Running),
    Waiting { restart_at: Instant },
}

struct Service {
    spec: ServiceSpec,
    backoff: Backoff,
    stage: Stage,
}

/// Programs that are kept running.
pub(crate) struct Supervisor<'o> {
    services: Vec<Service>,
    limits: Limits,
    sender: Sender<Event>,
    events: Receiver<Event>,
    observer: Box<dyn FnMut(&Notice) + 'o>,
}

impl<'o> Supervisor<'o> {
    /// A supervisor of `specs`, to be started in this order. Nothing runs yet.
    pub(crate) fn new(specs: Vec<ServiceSpec>, limits: Limits, observer: impl FnMut(&Notice) + 'o) -> Self {
        let (sender, events) = channel();
        let service = |spec| Service { spec, backoff: Backoff::new(limits.restart), stage: Stage::Idle };
        let services = specs.into_iter().map(service).collect();
        Self { services, limits, sender, events, observer: Box::new(observer) }
    }

    /// Lets another thread ask for the end.
    pub(crate) fn stop_handle(&self) -> StopHandle {
        let sender = self.sender.clone();
        // A supervisor that is gone has nothing to stop.
        StopHandle::new(move || sender.send(Event::Stop).unwrap_or(()))
    }

    /// Starts every service.
    ///
    /// # Errors
    /// The first that cannot be started; those before it run until [`Self::drain`].
    pub(crate) fn start(&mut self) -> Result<(), StartError> {
        for index in 0..self.services.len() {
            self.launch(index)
                .map_err(|error| self.start_error(index, format!("cannot be started: {error}")))?;
        }
        Ok(())
    }

    /// Waits until `probe` finds every service ready, or somebody wants the end.
    ///
    /// # Errors
    /// A service that ended meanwhile, or was not ready within `limits.ready_timeout`.
    pub(crate) fn wait_ready(
        &mut self,
        mut probe: impl FnMut(&ServiceSpec) -> Probe,
    ) -> Result<Readiness, StartError> {
        let deadline = Instant::now() + self.limits.ready_timeout;
        let mut said = String::new();
        loop {
            let waiting = self.not_ready(&mut probe);
            let Some((index, state)) = waiting.first() else { return Ok(Readiness::Ready) };
            if Instant::now() >= deadline {
                let timeout = self.limits.ready_timeout;
                return Err(self.start_error(*index, format!("is not ready after {timeout:?}: {state}")));
            }
            self.say_waiting(&waiting, &mut said);
            match self.next_event(Some(Instant::now() + PROBE_INTERVAL)) {
                Some(Event::Stop) => return Ok(Readiness::StopRequested),
                Some(Event::Exited(index)) => {
                    let reason = self.reap(index).unwrap_or_default();
                    return Err(self.start_error(index, format!("ended while it started ({reason})")));
                }
                None => {}
            }
        }
    }

    /// Starts again what dies, until somebody wants the end.
    pub(crate) fn watch(&mut self) {
        loop {
            self.restart_what_is_due();
            match self.next_event(self.next_restart()) {
                Some(Event::Stop) => return,
                Some(Event::Exited(index)) => {
                    if let Some(reason) = self.reap(index) {
                        self.schedule_restart(index, reason);
                    }
                }
                None => {}
            }
        }
    }

    /// Ends every service, the last started first. A request to stop that comes meanwhile kills at once.
    pub(crate) fn drain(&mut self) {
        let mut hurry = Hurry::DrainEach;
        for index in (0..self.services.len()).rev() {
            if let Stage::Running(running) = &self.services[index].stage {
                if hurry == Hurry::DrainEach {
                    running.terminate();
                    self.notify(index, |service| Notice::Draining { service });
                }
                hurry = self.await_end(index, hurry);
            }
            self.services[index].stage = Stage::Idle;
        }
    }

    /// Waits until the service at `index` has ended, and kills it at its bound.
    fn await_end(&mut self, index: usize, mut hurry: Hurry) -> Hurry {
        let mut killed = hurry == Hurry::KillAll;
        let mut deadline = Instant::now() + if killed { KILL_TIMEOUT } else { self.limits.drain_timeout };
        while matches!(self.services[index].stage, Stage::Running(_)) {
            match self.next_event(Some(deadline)) {
                Some(Event::Exited(ended)) => {
                    if let Some(reason) = self.reap(ended) {
                        self.notify(ended, |service| Notice::Stopped { service, reason });
                    }
                    continue;
                }
                Some(Event::Stop) => {
                    hurry = Hurry::KillAll;
                    (0..self.services.len()).for_each(|other| self.kill(other));
                }
                None if killed => break,
                None => self.kill(index),
            }
            killed = true;
            deadline = Instant::now() + KILL_TIMEOUT;
        }
        hurry
    }

    fn kill(&mut self, index: usize) {
        if let Stage::Running(running) = &self.services[index].stage {
            running.kill();
            self.notify(index, |service| Notice::Killed { service });
        }
    }

    fn launch(&mut self, index: usize) -> std::io::Result<()> {
        let sender = self.sender.clone();
        let exited = move || sender.send(Event::Exited(index)).unwrap_or(());
        let running = Running::launch(&self.services[index].spec, exited)?;
        let pid = running.pid();
        self.services[index].stage = Stage::Running(running);
        self.notify(index, |service| Notice::Started { service, pid });
        Ok(())
    }

    /// Collects the ended process of a service; says how it ended. None where it was collected before.
    fn reap(&mut self, index: usize) -> Option<String> {
        let service = &mut self.services[index];
        match std::mem::replace(&mut service.stage, Stage::Idle) {
            Stage::Running(running) => {
                service.backoff.note_uptime(running.uptime());
                Some(running.reap())
            }
            Stage::Idle | Stage::Waiting { .. } => None,
        }
    }

    fn schedule_restart(&mut self, index: usize, reason: String) {
        let delay = self.services[index].backoff.next_delay();
        self.services[index].stage = Stage::Waiting { restart_at: Instant::now() + delay };
        self.notify(index, |service| Notice::Died { service, reason, restart_after: delay });
    }

    fn restart_what_is_due(&mut self) {
        let now = Instant::now();
        for index in 0..self.services.len() {
            if matches!(self.services[index].stage, Stage::Waiting { restart_at } if restart_at <= now)
                && let Err(error) = self.launch(index)
            {
                self.schedule_restart(index, format!("cannot be started: {error}"));
            }
        }
    }

    fn next_restart(&self) -> Option<Instant> {
        let due = |service: &Service| match service.stage {
            Stage::Waiting { restart_at } => Some(restart_at),
            Stage::Idle | Stage::Running(_) => None,
        };
        self.services.iter().filter_map(due).min()
    }

    /// The next event; none where none came before `until`.
    fn next_event(&self, until: Option<Instant>) -> Option<Event> {
        // `self.sender` lives as long as `self.events`, so an error is always the time-out.
        match until {
            None => self.events.recv().ok(),
            Some(until) => self.events.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
        }
    }

    fn not_ready(&self, probe: &mut impl FnMut(&ServiceSpec) -> Probe) -> Vec<(usize, String)> {
        let look = |(index, service): (usize, &Service)| match probe(&service.spec) {
            Probe::Ready => None,
            Probe::NotYet(state) => Some((index, state)),
        };
        self.services.iter().enumerate().filter_map(look).collect()
    }

    /// Tells the observer what is waited for, once per change.
    fn say_waiting(&mut self, waiting: &[(usize, String)], said: &mut String) {
        let name =
            |(index, state): &(usize, String)| format!("{} ({state})", self.services[*index].spec.name);
        let what = waiting.iter().map(name).collect::<Vec<_>>().join(", ");
        if what != *said {
            said.clone_from(&what);
            (self.observer)(&Notice::WaitingFor { what });
        }
    }

    fn notify(&mut self, index: usize, notice: impl FnOnce(String) -> Notice) {
        let notice = notice(self.services[index].spec.name.clone());
        (self.observer)(&notice);
    }

    fn start_error(&self, index: usize, reason: String) -> StartError {
        let spec = &self.services[index].spec;
        StartError { service: spec.name.clone(), reason, log: spec.log.clone() }
    }
}
