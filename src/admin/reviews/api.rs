//! One review, asked of the Kubernetes API until there is an answer: [`Api::ask`].

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls;

use crate::admin::reviews::{BUDGET, Review, Trouble};

/// How often a review is asked at most.
const ATTEMPTS: u32 = 5;

/// The pause before the second time, with up to a fifth more; later ones are half as long again.
const PAUSE: Duration = Duration::from_millis(500);

/// Reviews that are asked at once; more wait. Strangers can have a review for every token they make up.
const AT_ONCE: usize = 8;

/// No review is longer.
const LONGEST_ANSWER: usize = 256 << 10;

/// Asks.
pub(super) struct Api {
    client: Client,
    places: Semaphore,
}

/// What is read of an answer; the rest repeats the question.
#[derive(Deserialize)]
struct Answer<S> {
    status: Option<S>,
}

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self { client, places: Semaphore::new(AT_ONCE) }
    }

    /// The status of the answer to `question`. Asks again after what may pass.
    pub(super) async fn ask<S: DeserializeOwned>(
        &self,
        review: Review,
        question: &impl Serialize,
    ) -> Result<Option<S>, Trouble> {
        timeout(BUDGET, self.attempts(review, json(question))).await.unwrap_or(Err(Trouble::TimedOut))
    }

    async fn attempts<S: DeserializeOwned>(
        &self,
        review: Review,
        question: Bytes,
    ) -> Result<Option<S>, Trouble> {
        let _place = self.places.acquire().await.map_err(|_| Trouble::TimedOut)?;
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS {
            match self.attempt(review, question.clone()).await {
                Err(trouble) if may_pass(&trouble) => {}
                answer => return answer,
            }
            sleep(pause.mul_f64(rand::random_range(1.0..1.2))).await;
            pause = pause.mul_f64(1.5);
        }
        self.attempt(review, question).await
    }

    async fn attempt<S: DeserializeOwned>(
        &self,
        review: Review,
        question: Bytes,
    ) -> Result<Option<S>, Trouble> {
        let request = Request::post(review.path()).header(CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(question)).map_err(|_| Trouble::Unreadable)?;
        let response = self.client.send(request).await.map_err(|error| unreachable(&error))?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::FORBIDDEN => return Err(Trouble::Forbidden(review.resource())),
            StatusCode::UNAUTHORIZED => return Err(Trouble::Unrecognised),
            status => return Err(Trouble::Status(status.as_u16())),
        }
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        let body = body.map_err(|_| Trouble::Unreadable)?.to_bytes();
        // Its error would quote the answer.
        let answer: Answer<S> = serde_json::from_slice(&body).map_err(|_| Trouble::Unreadable)?;
        Ok(answer.status)
    }
}

/// A review as the API reads it.
pub(super) fn json(question: &impl Serialize) -> Bytes {
    serde_json::to_vec(question).expect("reviews are maps of text").into()
}

impl Review {
    fn path(self) -> &'static str {
        match self {
            Self::Token => "/apis/authentication.k8s.io/v1/tokenreviews",
            Self::Access => "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        }
    }
}

/// Whether another attempt may help.
fn may_pass(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Unreachable(_) | Trouble::Unreadable => true,
        Trouble::Status(status) => matches!(status, 408 | 429 | 500..),
        Trouble::Forbidden(_) | Trouble::Unrecognised | Trouble::TimedOut => false,
    }
}

/// What broke, as far as the system or TLS says it. Others may quote what they were about, such as credentials.
fn unreachable(error: &kube::Error) -> Trouble {
    let mut said: Option<Arc<str>> = None;
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<io::Error>() || error.is::<rustls::Error>() {
            said = Some(error.to_string().into());
        }
        cause = error.source();
    }
    Trouble::Unreachable(said)
}
