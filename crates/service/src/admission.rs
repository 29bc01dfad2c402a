//! The outermost gate in front of all work, gRPC and HTTP alike: state, permit, deadline.
//!
//! | refused because | status | retry |
//! |---|---|---|
//! | loading, broken, draining | 503 | on another replica |
//! | no permit is free | 429 | by the caller, after `Retry-After` |
//! | the deadline passed | 504 | no |
//!
//! Dropping the handler at its deadline is what cancels the work: everything below waits on futures that notice.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, Response},
};
use protocol::error::{ApiError, ErrorCode};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::{
    deadline::Deadline,
    gate::Gate,
    lifecycle::{Lifecycle, State},
    refusal::{self, Speaks},
};

/// The gate; clones share its permits.
///
/// While the process drains it still passes: a balancer needs up to its check interval to notice, and what arrives in
/// between is served.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Bounds>);

#[derive(Debug)]
struct Bounds {
    lifecycle: Lifecycle,
    permits: Arc<Semaphore>,
    permits_max: usize,
    timeout_max: Duration,
}

impl Admission {
    /// A gate with `permits_max` requests at once, each answered within `timeout_max`.
    pub fn new(lifecycle: Lifecycle, permits_max: usize, timeout_max: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(permits_max));
        Self(Arc::new(Bounds { lifecycle, permits, permits_max, timeout_max }))
    }
}

impl Bounds {
    fn check_state(&self) -> Result<(), ApiError> {
        match self.lifecycle.state() {
            State::Ready | State::Draining => Ok(()),
            state @ (State::Loading | State::Broken) => {
                Err(ApiError::new(ErrorCode::Unavailable, format!("this replica is {}", state.name())))
            }
        }
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.permits.clone().try_acquire_owned().map_err(|_| {
            ApiError::new(ErrorCode::Overloaded, format!("all {} permits are taken", self.permits_max))
        })
    }
}

/// A request that does work.
#[derive(Debug)]
pub struct Admitted {
    deadline: Deadline,
    speaks: Speaks,
    _permit: OwnedSemaphorePermit,
}

/// For the routes that do work, not for the probes.
impl Gate for Admission {
    type Pass = Admitted;

    fn enter(&self, request: &mut Request<Body>) -> Result<Admitted, ApiError> {
        self.0.check_state()?;
        let deadline = Deadline::of(request.headers(), Instant::now(), self.0.timeout_max)?;
        let permit = self.0.permit()?;
        request.extensions_mut().insert(deadline);
        Ok(Admitted { deadline, speaks: Speaks::of(request), _permit: permit })
    }

    async fn leave(
        pass: Admitted,
        answer: impl Future<Output = Response<Body>> + Send + 'static,
    ) -> Response<Body> {
        match timeout_at(pass.deadline.0, answer).await {
            Ok(response) => refusal::surface(response),
            Err(_) => {
                let message = "the deadline passed before the answer was ready";
                refusal::respond(&ApiError::new(ErrorCode::DeadlineExceeded, message), pass.speaks)
            }
        }
    }
}
