//! Follows the objects of one kind: lists them, watches from there, lists again when the API has forgotten where that
//! was. [`Follower::run`] is the entry point.
//!
//! kube's own watcher does the same, but does not tell when a watch stands again after a failure, and so cannot say how
//! old a quiet pool's state is; nor does it bound a line. What is known stays when the API fails: nobody is told of
//! objects that are gone until a list or an event says so.

use std::fmt::Display;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::client::Body;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::kinds::Kind;
use super::lines::Lines;
use super::standing::{Off, Standing};
use super::wire::{self, Item};
use crate::cluster;
use crate::discovery::index::Event;
use crate::discovery::index::objects::Told;

/// How long an answer may take, a page of a list to its end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Objects of a page, as Go's client asks for.
const PAGE_OBJECTS: u32 = 500;

/// Longest page: its objects at a size that few reach together.
const MAX_PAGE_BYTES: usize = 256 << 20;

/// Longest error page that is read.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// How long the API is asked to keep a watch open, in seconds; with the margin, how long a connection that died without
/// a word goes unnoticed.
const WATCH_SECONDS: u32 = 60;
const WATCH_MARGIN: Duration = Duration::from_secs(5);

/// Waits before the next request, which grow until a watch tells something or lasts: the first, the longest after a
/// watch that ended or was cut, the longest after a failure.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A watch that lasts so long was none of those that end at once.
const LASTING: Duration = Duration::from_secs(5);

/// Most objects of a kind in one namespace.
const MAX_OBJECTS: usize = 200_000;

/// The wait where a kind is not there or may not be read.
const OFF_WAIT: Duration = Duration::from_secs(60);

/// What a follower tells.
#[derive(Debug)]
pub(super) enum Message {
    /// Something for the index.
    Event(Event),
    /// How the follower with this number stands.
    Standing(usize, Standing),
}

/// Which objects of a kind are followed, as the API takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// Label selector; empty for all.
    pub(super) labels: String,
    /// Field selector; empty for all.
    pub(super) fields: String,
}

/// Follows one kind in one namespace.
pub(super) struct Follower<T> {
    pub(super) client: Client,
    pub(super) kind: Kind<T>,
    pub(super) namespace: String,
    /// Its number.
    pub(super) at: usize,
    /// Whether there is no pool without it.
    pub(super) required: bool,
    pub(super) out: mpsc::Sender<Message>,
}

/// Why something did not work.
#[derive(Debug)]
enum Failure {
    /// The kind is not there, or may not be read.
    Off(Off),
    /// The API no longer knows the version to go on from.
    Expired,
    /// What it sends cannot be read.
    Unreadable(String),
    /// Anything else.
    Other(String),
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    items: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

/// A line of a watch.
#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// `metav1.Status`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

impl<T> Follower<T> {
    /// Follows what `selection` says, if it says something, until nobody listens.
    pub(super) async fn run(self, mut selection: watch::Receiver<Option<Selection>>) {
        loop {
            let now = selection.borrow_and_update().clone();
            let followed = async {
                if let Some(now) = now {
                    self.follow(&now).await;
                } else {
                    self.tell(Message::Standing(self.at, Standing::Idle)).await;
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = followed => return,
                // Who can no longer change it has said the last of it.
                Ok(()) = selection.changed() => {}
            }
        }
    }

    /// Returns when nobody listens.
    async fn follow(&self, selection: &Selection) {
        let mut wait = Wait::default();
        let mut version = None;
        loop {
            let from = match version.take() {
                Some(version) => Ok(version),
                None => self.list(selection).await,
            };
            let outcome = match from {
                Ok(from) => {
                    let mut at = from;
                    let end = self.watch(selection, &mut at, &mut wait).await;
                    version = Some(at);
                    end
                }
                Err(failure) => Err(failure),
            };
            if self.out.is_closed() {
                return;
            }
            if matches!(outcome, Err(Failure::Expired | Failure::Unreadable(_) | Failure::Off(_))) {
                version = None;
            }
            let pause = self.judge(outcome, &mut wait).await;
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
        }
    }

    /// Tells what came of a request; returns how long to wait before the next.
    async fn judge(&self, outcome: Result<(), Failure>, wait: &mut Wait) -> Duration {
        let (standing, pause) = match outcome {
            Ok(()) | Err(Failure::Expired) => return wait.next().min(LONGEST_PAUSE),
            Err(Failure::Off(why)) if self.required => (Standing::Off(why), LONGEST_WAIT),
            Err(Failure::Off(why)) => (Standing::Off(why), OFF_WAIT),
            // A connection may end at any time; one request that fails says nothing yet.
            Err(Failure::Other(_)) if !std::mem::replace(&mut wait.failed, true) => return wait.next(),
            Err(Failure::Other(why) | Failure::Unreadable(why)) => (Standing::Failing(why), wait.next()),
        };
        self.tell(Message::Standing(self.at, standing)).await;
        pause
    }

    /// Tells all objects there are; returns the version that the list is of.
    async fn list(&self, selection: &Selection) -> Result<String, Failure> {
        let mut params = ListParams::default().limit(PAGE_OBJECTS);
        params.label_selector = given(&selection.labels);
        params.field_selector = given(&selection.fields);
        let (mut objects, mut n_listed) = (Vec::new(), 0);
        loop {
            let request = self.request().list(&params).map_err(other)?;
            let read = async {
                let body = self.ask(request).await?;
                Limited::new(body, MAX_PAGE_BYTES).collect().await.map_err(other)
            };
            let page = tokio::time::timeout(ANSWER_TIMEOUT, read).await.map_err(|_| late())??.to_bytes();
            let page: Page = serde_json::from_slice(&page).map_err(unreadable)?;
            objects.extend(page.items.iter().filter_map(|item| self.read(item.get()).object));
            n_listed += page.items.len();
            if n_listed > MAX_OBJECTS {
                return Err(Failure::Other(format!("more than {MAX_OBJECTS} objects")));
            }
            if page.metadata.r#continue.is_empty() {
                self.tell(Message::Event((self.kind.event)(Told::Reset(objects)))).await;
                return Ok(page.metadata.resource_version);
            }
            params.continue_token = Some(page.metadata.r#continue);
        }
    }

    /// Tells events from `version` on, and moves it along; a watch that ended in an orderly way is no failure.
    async fn watch(
        &self,
        selection: &Selection,
        version: &mut String,
        wait: &mut Wait,
    ) -> Result<(), Failure> {
        let mut params = WatchParams::default().timeout(WATCH_SECONDS);
        params.label_selector = given(&selection.labels);
        params.field_selector = given(&selection.fields);
        let request = self.request().watch(&params, version).map_err(other)?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.ask(request)).await;
        let mut lines = Lines::new(answer.map_err(|_| late())??);
        let began = Instant::now();
        wait.failed = false;
        self.tell(Message::Standing(self.at, Standing::Live)).await;
        let silence = Duration::from_secs(WATCH_SECONDS.into()) + WATCH_MARGIN;
        loop {
            let Ok(Some(Ok(line))) = tokio::time::timeout(silence, lines.next()).await else {
                // Whether the API fails or a connection ended, as they do, the next request tells.
                if began.elapsed() > LASTING {
                    *wait = Wait::default();
                }
                return Ok(());
            };
            self.take(&line, version).await?;
            *wait = Wait::default();
        }
    }

    async fn take(&self, line: &[u8], version: &mut String) -> Result<(), Failure> {
        // Going on behind what cannot be read would miss something; a list misses nothing.
        let line: Line<'_> = serde_json::from_slice(line).map_err(unreadable)?;
        let text = line.object.get();
        if line.r#type == "ERROR" {
            let status: Status = serde_json::from_str(text).unwrap_or_default();
            return Err(failure(status.code, status.message));
        }
        if line.r#type == "BOOKMARK" {
            #[derive(Deserialize)]
            struct Bookmark {
                metadata: PageMetadata,
            }
            let bookmark: Bookmark = serde_json::from_str(text).map_err(unreadable)?;
            *version = bookmark.metadata.resource_version;
            return Ok(());
        }
        let deleted = line.r#type == "DELETED";
        let item = self.read(text);
        if !item.version.is_empty() {
            *version = item.version;
        }
        let told = match item.object {
            Some(object) if !deleted => Told::Apply(object),
            _ => Told::Delete(item.name),
        };
        self.tell(Message::Event((self.kind.event)(told))).await;
        Ok(())
    }

    /// Reads an object. One that cannot be read counts as one that is not there.
    fn read(&self, text: &str) -> Item<T> {
        (self.kind.read)(text).unwrap_or_else(|error| {
            let Item { name, version, .. } = wire::name_and_version(text).unwrap_or_default();
            let (resource, error) = (self.kind.name(), error.to_string());
            tracing::warn!(resource, name, error, "an object cannot be read and does not count");
            Item { name, version, object: None }
        })
    }

    fn request(&self) -> kube::core::Request {
        kube::core::Request::new(self.kind.path(&self.namespace))
    }

    async fn ask(&self, request: Request<Vec<u8>>) -> Result<Body, Failure> {
        let sent = self.client.send(request.map(Body::from)).await;
        let response = sent.map_err(|error| Failure::Other(cluster::told(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let page = Limited::new(response.into_body(), MAX_ERROR_BYTES).collect().await;
        let page = page.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let told: Status = serde_json::from_slice(&page).unwrap_or_default();
        let message = if told.message.is_empty() { status.to_string() } else { told.message };
        Err(failure(status.as_u16(), message))
    }

    /// Nobody listens only when everything ends.
    async fn tell(&self, message: Message) {
        let _ = self.out.send(message).await;
    }
}

fn failure(code: u16, message: String) -> Failure {
    match StatusCode::from_u16(code) {
        Ok(StatusCode::GONE) => Failure::Expired,
        Ok(StatusCode::NOT_FOUND) => Failure::Off(Off { forbidden: false, message }),
        Ok(StatusCode::FORBIDDEN) => Failure::Off(Off { forbidden: true, message }),
        _ => Failure::Other(message),
    }
}

fn other(error: impl Display) -> Failure {
    Failure::Other(error.to_string())
}

fn unreadable(error: impl Display) -> Failure {
    Failure::Unreadable(error.to_string())
}

fn late() -> Failure {
    Failure::Other(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
}

fn given(selector: &str) -> Option<String> {
    (!selector.is_empty()).then(|| selector.to_owned())
}

/// Waits that grow.
struct Wait {
    next: Duration,
    /// Whether the last request failed.
    failed: bool,
}

impl Default for Wait {
    fn default() -> Self {
        Self { next: FIRST_WAIT, failed: false }
    }
}

impl Wait {
    fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(LONGEST_WAIT);
        now
    }
}
