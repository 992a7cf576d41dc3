//! Asks the Kubernetes API who a caller is and whether they may read a page: [`Reviews::admit`].
//!
//! Two reviews, as the Go EPP makes them: a `TokenReview`, then a `SubjectAccessReview`. Answers are cached; who comes
//! with the same question while it is asked waits for the same answer. Answers are read here and not by the client, which
//! would log what it cannot read, and a review repeats the token.

mod api;
mod flights;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::admin::digest::Digester;
use crate::admin::review_cache::ReviewCache;
use crate::admin::reviews::api::Api;
use crate::admin::reviews::flights::{Flight, Flights};
use crate::clock::Clock;

/// The longest that a caller waits for both reviews: Prometheus waits ten seconds, usually.
const BUDGET: Duration = Duration::from_secs(8);

/// The two kinds of reviews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Review {
    /// Whose token is this?
    Token,
    /// May they read this page?
    Access,
}

/// Why a caller may not read a page.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is no token, or it is nobody's.
    #[error("Unauthorized")]
    Unauthorized,
    /// Somebody, but they may not.
    #[error("Authorization denied for user {user}")]
    Denied {
        /// As the API calls them.
        user: String,
    },
    /// Nobody can say.
    #[error("{}: {trouble}", .review.failed())]
    Trouble {
        /// What was asked.
        review: Review,
        /// Why there is no answer.
        trouble: Trouble,
    },
}

/// Why the API gives no answer. Never holds what it sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Trouble {
    /// It does not let the picker ask.
    #[error(
        "epp may not create {0}: grant its service account the verb create on tokenreviews (authentication.k8s.io) and \
         subjectaccessreviews (authorization.k8s.io)"
    )]
    Forbidden(&'static str),
    /// It does not know the picker.
    #[error("the Kubernetes API does not accept epp's own credentials")]
    Unrecognised,
    /// It answers with another status.
    #[error("the Kubernetes API answers with status {0}")]
    Status(u16),
    /// There is no connection, or it broke; why is for the log.
    #[error("the Kubernetes API cannot be reached")]
    Unreachable(Option<Arc<str>>),
    /// Its answer is no review.
    #[error("the answer of the Kubernetes API is no review")]
    Unreadable,
    /// It takes too long.
    #[error("the Kubernetes API does not answer in time")]
    TimedOut,
}

/// Counts callers by what came of them; clones count together.
#[derive(Clone, Debug)]
pub struct ReviewMetrics {
    allowed: IntCounter,
    unauthenticated: IntCounter,
    denied: IntCounter,
    not_permitted: IntCounter,
    failed: IntCounter,
}

/// Reviews callers.
pub struct Reviews {
    api: Api,
    digester: Digester,
    clock: Clock,
    cache: Mutex<ReviewCache<Arc<UserInfo>>>,
    tokens: Flights<Option<Arc<UserInfo>>>,
    accesses: Flights<bool>,
    /// What was told of either review last, if it is in trouble.
    told: Mutex<[Option<StatusCode>; 2]>,
    metrics: ReviewMetrics,
}

impl Reviews {
    /// Asks through `client`.
    pub fn new(client: kube::Client, metrics: ReviewMetrics) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            api: Api::new(client),
            digester: Digester::new()?,
            clock: Clock::start(),
            cache: Mutex::default(),
            tokens: Flights::new(),
            accesses: Flights::new(),
            told: Mutex::new([None, None]),
            metrics,
        }))
    }

    /// Whether the owner of `token` may do `verb` (a method in lower case) with the page at `path`.
    pub async fn admit(self: &Arc<Self>, token: Option<&str>, path: &str, verb: &str) -> Result<(), Refusal> {
        let admitted = self.reviewed(token, path, verb).await;
        self.metrics.of(&admitted).inc();
        admitted
    }

    async fn reviewed(self: &Arc<Self>, token: Option<&str>, path: &str, verb: &str) -> Result<(), Refusal> {
        let deadline = Instant::now() + BUDGET;
        let token = token.ok_or(Refusal::Unauthorized)?;
        let caller = self.caller(token, deadline).await?.ok_or(Refusal::Unauthorized)?;
        if self.may(&caller, path, verb, deadline).await? {
            return Ok(());
        }
        Err(Refusal::Denied { user: caller.username.clone().unwrap_or_default() })
    }

    /// Whose token this is.
    async fn caller(
        self: &Arc<Self>,
        token: &str,
        deadline: Instant,
    ) -> Result<Option<Arc<UserInfo>>, Refusal> {
        let digest = self.digester.digest(token.as_bytes());
        let cached = self.cache.lock().caller(&digest, self.clock.now());
        if let Some(caller) = cached {
            return Ok(caller);
        }
        let asked = self.tokens.join(digest, || {
            let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: None };
            let (this, question) = (self.clone(), TokenReview { spec, ..TokenReview::default() });
            async move {
                let status: Option<TokenReviewStatus> = this.api.ask(Review::Token, &question).await?;
                let status = status.filter(|status| status.authenticated == Some(true));
                let user = status.and_then(|status| status.user);
                let user = user.filter(|user| user.username.as_ref().is_some_and(|name| !name.is_empty()));
                let caller = user.map(Arc::new);
                this.cache.lock().note_caller(digest, caller.clone(), this.clock.now());
                Ok(caller)
            }
        });
        self.answer(Review::Token, asked, deadline).await
    }

    /// Whether they may.
    async fn may(
        self: &Arc<Self>,
        caller: &UserInfo,
        path: &str,
        verb: &str,
        deadline: Instant,
    ) -> Result<bool, Refusal> {
        let question =
            SubjectAccessReview { spec: access(caller, path, verb), ..SubjectAccessReview::default() };
        let digest = self.digester.digest(&api::json(&question));
        let cached = self.cache.lock().allowed(&digest, self.clock.now());
        if let Some(allowed) = cached {
            return Ok(allowed);
        }
        let asked = self.accesses.join(digest, || {
            let this = self.clone();
            async move {
                let status: Option<SubjectAccessReviewStatus> =
                    this.api.ask(Review::Access, &question).await?;
                let allowed = status.is_some_and(|status| status.allowed && status.denied != Some(true));
                this.cache.lock().note_allowed(digest, allowed, this.clock.now());
                Ok(allowed)
            }
        });
        self.answer(Review::Access, asked, deadline).await
    }

    async fn answer<T: Clone>(
        &self,
        review: Review,
        asked: Flight<T>,
        deadline: Instant,
    ) -> Result<T, Refusal> {
        let answer = timeout_at(deadline, asked).await.unwrap_or(Err(Trouble::TimedOut));
        self.tell(review, answer.as_ref().err());
        answer.map_err(|trouble| Refusal::Trouble { review, trouble })
    }

    /// Logs that a review got into trouble, or out of it: once, not per caller.
    fn tell(&self, review: Review, trouble: Option<&Trouble>) {
        let told = trouble.map(Trouble::status);
        let before = std::mem::replace(&mut self.told.lock()[review as usize], told);
        let review = review.resource();
        match trouble {
            Some(trouble) if before != told => {
                let cause = trouble.cause();
                tracing::warn!(review, reason = %trouble, cause, "callers of the metrics port cannot be reviewed");
            }
            None if before.is_some() => {
                tracing::info!(review, "callers of the metrics port are reviewed again");
            }
            _ => {}
        }
    }
}

/// The question whether this caller may read that page.
fn access(caller: &UserInfo, path: &str, verb: &str) -> SubjectAccessReviewSpec {
    let page = NonResourceAttributes { path: Some(path.to_owned()), verb: Some(verb.to_owned()) };
    SubjectAccessReviewSpec {
        user: caller.username.clone(),
        uid: caller.uid.clone(),
        groups: caller.groups.clone(),
        extra: caller.extra.clone().filter(|extra: &BTreeMap<_, _>| !extra.is_empty()),
        non_resource_attributes: Some(page),
        resource_attributes: None,
    }
}

impl Review {
    /// What RBAC calls it.
    fn resource(self) -> &'static str {
        match self {
            Self::Token => "tokenreviews",
            Self::Access => "subjectaccessreviews",
        }
    }

    /// What the Go EPP says if it comes to nothing.
    fn failed(self) -> &'static str {
        match self {
            Self::Token => "Authentication failed",
            Self::Access => "Authorization failed",
        }
    }
}

impl Trouble {
    fn cause(&self) -> Option<&str> {
        match self {
            Self::Unreachable(cause) => cause.as_deref(),
            _ => None,
        }
    }

    /// What it means for the caller: a right or credentials that are missing, or something that may pass.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Forbidden(_) | Self::Unrecognised => StatusCode::FORBIDDEN,
            Self::Status(_) | Self::Unreachable(_) | Self::Unreadable | Self::TimedOut => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

impl Refusal {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied { .. } => StatusCode::FORBIDDEN,
            Self::Trouble { trouble, .. } => trouble.status(),
        }
    }
}

impl ReviewMetrics {
    /// Registers `epp_metrics_reviews_total{result}`; fails when it is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new("epp_metrics_reviews_total", "Callers that were reviewed, by result.");
        let reviews = IntCounterVec::new(opts, &["result"])?;
        registry.register(Box::new(reviews.clone()))?;
        let of = |result| reviews.with_label_values(&[result]);
        Ok(Self {
            allowed: of("allowed"),
            unauthenticated: of("unauthenticated"),
            denied: of("denied"),
            not_permitted: of("not_permitted"),
            failed: of("failed"),
        })
    }

    fn of(&self, admitted: &Result<(), Refusal>) -> &IntCounter {
        match admitted {
            Ok(()) => &self.allowed,
            Err(Refusal::Unauthorized) => &self.unauthenticated,
            Err(Refusal::Denied { .. }) => &self.denied,
            Err(Refusal::Trouble { trouble: Trouble::Forbidden(_) | Trouble::Unrecognised, .. }) => {
                &self.not_permitted
            }
            Err(Refusal::Trouble { .. }) => &self.failed,
        }
    }
}

#[cfg(test)]
mod tests;
