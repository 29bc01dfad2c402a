//! Threads that share the kernels of one pass.
//!
//! ```text
//!  leader    ─▶ kernel: shares 0 … n ─▶ (waits for the last one) ─▶ next kernel ─▶ … ─▶ end
//!  follower  ─▶ takes a share, and another, … ─▶ (spins) ─────────▶ takes a share ─▶ … ─▶ end
//! ```
//! A kernel of a short text takes some microseconds, less than it takes to wake a thread: followers spin between kernels,
//! and only as long as a pass lasts. Whoever is free takes the next share, so a follower that comes late, or that the
//! system has stopped, holds up the share that it has and nothing else; without followers the leader does everything.
//!
//! A [`Helper`] is a follower that comes when it has time, and goes before the pass ends if it has none left. A kernel is
//! divided for those who are there when it begins.

use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::scratch::Scratch;

/// What one thread does with a share.
type Work<'w> = dyn Fn(usize, &mut Scratch) + Sync + 'w;
type Panic = Box<dyn Any + Send>;

/// Turns of a spin before the system is asked whether somebody else wants the core.
const SPINS: u32 = 4096;

/// A kernel's number and how many of its shares nobody has taken yet, in one word, so that both are taken together.
const TICKET_SHARES_BITS: u32 = 16;
const TICKET_SHARES_MAX: u64 = (1 << TICKET_SHARES_BITS) - 1;
/// The ticket after the last kernel.
const ENDED: u64 = u64::MAX << TICKET_SHARES_BITS;

/// Atomics that different threads write lie in cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// How long a helper stays before it is asked again whether it has time.
const HELPS_FOR: Duration = Duration::from_micros(250);

/// The threads of one pass: one leads, the others follow.
pub struct Crew {
    members: usize,
    helpers_max: usize,
    ticket: Apart<AtomicU64>,
    /// Shares that are not done.
    pending: Apart<AtomicUsize>,
    /// Members so far, the leader among them, but for helpers.
    joined: AtomicUsize,
    /// Helpers so far, and those that are there.
    helpers: AtomicUsize,
    helping: AtomicUsize,
    is_led: AtomicBool,
    has_panicked: AtomicBool,
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Panic>>,
}

/// The kernel that is shared at the moment.
#[derive(Clone, Copy)]
struct Job {
    work: *const Work<'static>,
    scratches: *mut Scratch,
}

// SAFETY: the job is written by the leader while nobody has a share, and read by those who have one; its work may run on
// any thread, and each member uses a scratch of its own.
unsafe impl Sync for Crew {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Crew {}

impl Crew {
    /// A crew of `members` threads, the leader among them.
    #[must_use]
    pub fn new(members: usize) -> Self {
        Self::with_helpers(members, 0)
    }

    /// A crew of `members` threads, the leader among them, and no more than so many helpers.
    #[must_use]
    pub fn with_helpers(members: usize, helpers_max: usize) -> Self {
        Self {
            members,
            helpers_max,
            ticket: Apart::default(),
            pending: Apart::default(),
            joined: AtomicUsize::new(1),
            helpers: AtomicUsize::new(0),
            helping: AtomicUsize::new(0),
            is_led: AtomicBool::new(false),
            has_panicked: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
        }
    }

    /// How many threads there may be, the leader among them, but for helpers.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members
    }

    /// How many threads there may be at once: so many scratches are needed.
    #[must_use]
    pub fn most(&self) -> usize {
        self.members + self.helpers_max
    }

    /// How many threads a kernel is divided for: members, also one that comes late, and helpers that are there.
    #[must_use]
    pub fn present(&self) -> usize {
        self.members + self.helping.load(Ordering::Relaxed)
    }

    /// Runs a pass, whose kernels are shared through the [`Team`]; every member and helper needs a scratch. Followers leave
    /// at its end.
    ///
    /// # Panics
    /// If the crew has been led or dismissed before, there are fewer scratches than [`most`](Self::most), or a share panics.
    pub fn lead<R>(&self, scratches: &mut [Scratch], pass: impl FnOnce(&mut Team<'_>) -> R) -> R {
        assert!(!self.is_led.swap(true, Ordering::Relaxed), "a crew has one leader and one pass");
        assert!(scratches.len() >= self.most(), "{} scratches for {}", scratches.len(), self.most());
        let _end = End(self);
        pass(&mut Team { crew: Some(self), scratches })
    }

    /// Sends the followers home, also where no pass was led: what was to lead it has failed.
    pub fn dismiss(&self) {
        self.ticket.0.store(ENDED, Ordering::Release);
    }

    /// Takes shares until the pass ends; returns at once where it has ended or the crew is complete.
    pub fn follow(&self) {
        let member = self.joined.fetch_add(1, Ordering::Relaxed);
        let mut spins = 0;
        while member < self.members && !self.has_ended() {
            if self.take_share(member) {
                spins = 0;
            } else {
                spin(&mut spins);
            }
        }
    }

    /// A follower that comes and goes; `None` if there are enough.
    pub fn helper(&self) -> Option<Helper<'_>> {
        let number = self.helpers.fetch_add(1, Ordering::Relaxed);
        (number < self.helpers_max).then(|| Helper { crew: self, member: self.members + number })
    }

    /// Whether the pass is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ticket.0.load(Ordering::Relaxed) == ENDED
    }

    /// Runs the next share on the thread of `member`; false if there is none.
    fn take_share(&self, member: usize) -> bool {
        let take = |ticket| (ticket & TICKET_SHARES_MAX > 0).then(|| ticket - 1);
        let Ok(ticket) = self.ticket.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) else {
            return false;
        };
        let share = (ticket & TICKET_SHARES_MAX) as usize - 1;
        // SAFETY: the leader wrote the job before the ticket, and writes no other while this share is pending. The work
        // and the scratches are borrowed until then, and no two members have the same number.
        let run = || unsafe {
            let job = (*self.job.get()).unwrap_or_else(|| unreachable!("there is a ticket"));
            (*job.work)(share, &mut *job.scratches.add(member));
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
            self.has_panicked.store(true, Ordering::Relaxed);
        }
        self.pending.0.fetch_sub(1, Ordering::Release);
        true
    }

    /// Runs `work` for every share, on all members that are there; returns when all are done.
    fn each(&self, shares: usize, scratches: &mut [Scratch], work: &Work<'_>) {
        let ticket = self.ticket.0.load(Ordering::Relaxed) & !TICKET_SHARES_MAX;
        assert_ne!(ticket, ENDED, "the crew was dismissed");
        assert!(shares as u64 <= TICKET_SHARES_MAX, "{shares} shares of one kernel");
        // SAFETY: only the lifetime changes. Nobody runs the work after this function, which waits for every share.
        let work = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        // SAFETY: all shares of the job before are done and their members have left it; this is the only leader.
        unsafe { *self.job.get() = Some(Job { work, scratches: scratches.as_mut_ptr() }) };
        self.pending.0.store(shares, Ordering::Relaxed);
        let opened = ticket + TICKET_SHARES_MAX + 1 + shares as u64;
        self.ticket.0.store(opened, Ordering::Release);
        while self.take_share(0) {}
        let mut spins = 0;
        while self.pending.0.load(Ordering::Acquire) > 0 {
            spin(&mut spins);
        }
        // The last share was seen to be done, and with it the flag of any that panicked.
        if self.has_panicked.load(Ordering::Relaxed) {
            let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
            resume_unwind(panic.unwrap_or_else(|| Box::new("a share has panicked")));
        }
    }
}

/// A follower that has time now and then, with a number of its own.
#[derive(Debug)]
pub struct Helper<'c> {
    crew: &'c Crew,
    member: usize,
}

impl Helper<'_> {
    /// Takes shares while the pass lasts and `has_time` says so, which is asked every 250 µs.
    pub fn help(&mut self, mut has_time: impl FnMut() -> bool) {
        self.crew.helping.fetch_add(1, Ordering::Relaxed);
        let (mut spins, mut since) = (0, Instant::now());
        while !self.crew.has_ended() {
            if self.crew.take_share(self.member) {
                spins = 0;
            } else {
                spin(&mut spins);
            }
            if since.elapsed() >= HELPS_FOR {
                if !has_time() {
                    break;
                }
                since = Instant::now();
            }
        }
        self.crew.helping.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("members", &self.members).finish_non_exhaustive()
    }
}

/// The end of a pass, also when it panics.
struct End<'c>(&'c Crew);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.dismiss();
    }
}

fn spin(spins: &mut u32) {
    *spins += 1;
    if spins.is_multiple_of(SPINS) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// Who computes a kernel: one thread, or a crew that shares it. The result is the same to the bit.
#[derive(Debug)]
pub struct Team<'t> {
    crew: Option<&'t Crew>,
    /// One for each member, at least one.
    scratches: &'t mut [Scratch],
}

impl<'t> From<&'t mut Scratch> for Team<'t> {
    /// One thread alone.
    fn from(scratch: &'t mut Scratch) -> Self {
        Self { crew: None, scratches: std::slice::from_mut(scratch) }
    }
}

impl<'t> From<&'t mut Team<'_>> for Team<'t> {
    fn from(team: &'t mut Team<'_>) -> Self {
        Self { crew: team.crew, scratches: team.scratches }
    }
}

impl Team<'_> {
    /// How many threads to divide a kernel for.
    pub(crate) fn members(&self) -> usize {
        self.crew.map_or(1, Crew::present)
    }

    /// What the scratch of each member is like.
    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratches[0]
    }

    /// Runs `work` once for every number below `shares`.
    pub(crate) fn each(&mut self, shares: usize, work: impl Fn(usize, &mut Scratch) + Sync) {
        match self.crew {
            Some(crew) if shares > 1 => crew.each(shares, self.scratches, &work),
            _ => (0..shares).for_each(|share| work(share, &mut self.scratches[0])),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::tier::Tier;

    fn scratches(members: usize) -> Vec<Scratch> {
        (0..members).map(|_| Scratch::new(Tier::detect(), 32, 32)).collect()
    }

    /// Leads `pass` with `members` threads.
    fn led<R>(members: usize, pass: impl FnOnce(&mut Team<'_>) -> R) -> R {
        let crew = Crew::new(members);
        std::thread::scope(|scope| {
            for _ in 1..members {
                scope.spawn(|| crew.follow());
            }
            crew.lead(&mut scratches(members), pass)
        })
    }

    #[test]
    fn every_share_of_every_kernel_is_done_once() {
        for members in 1..5 {
            led(members, |team| {
                for shares in (0..20).cycle().take(2000) {
                    let done: Vec<AtomicU32> = (0..shares).map(|_| AtomicU32::new(0)).collect();
                    team.each(shares, |share, _| {
                        done[share].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
                }
            });
        }
    }

    #[test]
    fn kernel_sees_what_the_one_before_has_written() {
        led(3, |team| {
            let mut values = vec![0_u64; 30];
            for round in 0..2000 {
                let shared = crate::shared::SharedSlice::new(&mut values);
                team.each(30, |share, _| {
                    // SAFETY: each share has a value of its own.
                    unsafe { shared.part(share..share + 1)[0] += 1 };
                });
                assert!(values.iter().all(|value| *value == round + 1));
            }
        });
    }

    #[test]
    fn leader_without_followers_does_everything() {
        let crew = Crew::new(4);
        let done = AtomicU32::new(0);
        crew.lead(&mut scratches(4), |team| {
            team.each(100, |_, _| {
                done.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(done.load(Ordering::Relaxed), 100);
        // The pass is over.
        crew.follow();
    }

    #[test]
    fn panic_of_a_share_reaches_the_leader_after_all_shares_and_ends_the_pass() {
        let done = AtomicU32::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            led(3, |team| {
                team.each(50, |share, _| {
                    done.fetch_add(1, Ordering::Relaxed);
                    assert_ne!(share, 7, "share seven");
                });
            });
        }));
        let message = result.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("share seven"), "{message}");
        assert_eq!(done.load(Ordering::Relaxed), 50);
    }

    #[test]
    fn dismissed_crew_goes_home_without_a_pass() {
        let crew = Crew::new(3);
        std::thread::scope(|scope| {
            scope.spawn(|| crew.follow());
            scope.spawn(|| crew.follow());
            crew.dismiss();
        });
    }

    #[test]
    fn more_followers_than_there_is_room_for_go_home() {
        let crew = Crew::new(2);
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| crew.follow());
            }
            crew.lead(&mut scratches(2), |team| team.each(8, |_, _| {}));
        });
    }

    #[test]
    fn helper_takes_shares_of_a_pass_that_it_came_late_for() {
        let crew = Crew::with_helpers(1, 1);
        let helped = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let leader = std::thread::current().id();
            scope.spawn(|| crew.helper().unwrap().help(|| true));
            crew.lead(&mut scratches(2), |team| {
                while !helped.load(Ordering::Relaxed) {
                    let divided_for = team.members();
                    team.each(50, |_, _| {
                        if std::thread::current().id() != leader {
                            helped.store(true, Ordering::Relaxed);
                        }
                    });
                    assert!(divided_for <= 2);
                }
            });
        });
        assert!(crew.has_ended());
    }

    #[test]
    fn helper_without_time_leaves_a_pass_that_goes_on() {
        let crew = Crew::with_helpers(1, 1);
        let mut helper = crew.helper().unwrap();
        crew.lead(&mut scratches(2), |team| {
            helper.help(|| false);
            assert_eq!(team.members(), 1);
            let done = AtomicU32::new(0);
            team.each(100, |_, _| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.into_inner(), 100);
        });
    }

    #[test]
    fn kernel_is_divided_for_helpers_that_are_there() {
        let crew = Crew::with_helpers(2, 1);
        std::thread::scope(|scope| {
            let mut helper = crew.helper().unwrap();
            crew.lead(&mut scratches(3), |team| {
                assert_eq!(team.members(), 2);
                scope.spawn(move || helper.help(|| true));
                while team.members() < 3 {
                    std::hint::spin_loop();
                }
            });
        });
    }

    #[test]
    fn helpers_are_no_more_than_was_said() {
        let crew = Crew::with_helpers(1, 2);
        let members = [(); 4].map(|()| crew.helper().map(|helper| helper.member));
        assert_eq!(members, [Some(1), Some(2), None, None]);
        assert!(Crew::new(3).helper().is_none());
    }

    #[test]
    #[should_panic(expected = "1 scratches for 2")]
    fn member_without_a_scratch_panics() {
        Crew::new(2).lead(&mut scratches(1), |_| ());
    }
}
