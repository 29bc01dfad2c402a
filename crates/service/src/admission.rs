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
    extract::State as Extracted,
    http::{Request, Response},
    middleware::Next,
};
use protocol::error::{ApiError, ErrorCode};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    deadline::Deadline,
    lifecycle::{Lifecycle, State},
    refusal::{self, Speaks},
};

/// The gate; clones share its permits.
///
/// While the process drains it still passes: a balancer needs up to its check interval to notice, and what arrives in
/// between is served.
#[derive(Debug, Clone)]
pub struct Admission {
    lifecycle: Lifecycle,
    permits: Arc<Semaphore>,
    permits_max: usize,
    timeout_max: Duration,
}

impl Admission {
    /// A gate with `permits_max` requests at once, each answered within `timeout_max`.
    pub fn new(lifecycle: Lifecycle, permits_max: usize, timeout_max: Duration) -> Self {
        Self { lifecycle, permits: Arc::new(Semaphore::new(permits_max)), permits_max, timeout_max }
    }

    fn check_state(&self) -> Result<(), ApiError> {
        match self.lifecycle.state() {
            State::Ready | State::Draining => Ok(()),
            state @ (State::Loading | State::Broken) => {
                Err(ApiError::new(ErrorCode::Unavailable, format!("this replica is {}", state.name())))
            }
        }
    }

    async fn pass(&self, mut request: Request<Body>, next: Next) -> Result<Response<Body>, ApiError> {
        self.check_state()?;
        let deadline = Deadline::of(request.headers(), Instant::now(), self.timeout_max)?;
        let Ok(_permit) = self.permits.try_acquire() else {
            let message = format!("all {} permits are taken", self.permits_max);
            return Err(ApiError::new(ErrorCode::Overloaded, message));
        };
        request.extensions_mut().insert(deadline);
        tokio::time::timeout_at(deadline.0, next.run(request)).await.map_err(|_| {
            ApiError::new(ErrorCode::DeadlineExceeded, "the deadline passed before the answer was ready")
        })
    }
}

/// The middleware: wrap the routes that do work in it, not the probes.
pub async fn admit(
    Extracted(admission): Extracted<Admission>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let speaks = Speaks::of(&request);
    match admission.pass(request, next).await {
        Ok(response) => refusal::surface(response),
        Err(error) => refusal::respond(&error, speaks),
    }
}
