//! What changes, as a stream of lines: entry point [`Watch::stream`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use serde_json::json;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, Interval};

use super::Cluster;
use super::faults::{Delivery, FaultsSeen, Order};
use super::kinds::Kind;
use super::object::Object;
use super::selector::Selector;
use super::status::Refusal;
use super::store::{Ended, Event, Store};

/// How often a watch that asked for it is told how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_millis(500);

/// How long events are gathered where they are to be told in another order.
const GATHER: Duration = Duration::from_millis(20);

/// What is watched.
pub(super) struct Wanted {
    pub(super) kind: Arc<Kind>,
    pub(super) selector: Selector,
    /// From which version on; without one, what is there comes first.
    pub(super) since: Option<u64>,
    /// Whether a bookmark tells where what is there ends.
    pub(super) tell_initial_end: bool,
    pub(super) bookmarks: bool,
    pub(super) lasts: Duration,
}

/// One open watch.
pub(super) struct Watch {
    cluster: Arc<Cluster>,
    faults: Option<FaultsSeen>,
    wanted: Wanted,
    first: Vec<u8>,
    /// Everything up to this version was sent.
    sent: u64,
    told: u64,
    changes: Receiver<u64>,
    bookmark: Interval,
    deadline: Instant,
    over: bool,
}

enum Wake {
    Cut,
    Deadline,
    Bookmark,
    Change,
}

impl Watch {
    /// The body of the answer.
    pub(super) fn stream(cluster: Arc<Cluster>, wanted: Wanted, faults: Option<FaultsSeen>) -> Body {
        let mut first = Vec::new();
        let (changes, sent) = {
            let store = cluster.store.lock();
            let sent = wanted.since.unwrap_or_else(|| {
                for object in store.select(&wanted.kind.qualified(), &wanted.selector) {
                    line("ADDED", &object, &wanted.kind, &mut first);
                }
                store.version()
            });
            (store.changes(), sent)
        };
        if wanted.tell_initial_end {
            bookmark(&wanted.kind, sent, true, &mut first);
        }
        let bookmark = tokio::time::interval(BOOKMARK_EVERY);
        let deadline = Instant::now() + wanted.lasts;
        let (told, over) = (sent, false);
        let watch = Self { cluster, faults, wanted, first, sent, told, changes, bookmark, deadline, over };
        Body::from_stream(futures_util::stream::unfold(watch, async |mut watch| {
            let lines = watch.next().await?;
            Some((lines, watch))
        }))
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        while !self.over {
            if let Some(faults) = &mut self.faults {
                faults.while_hung().await;
            }
            let mut lines = std::mem::take(&mut self.first);
            self.changes.borrow_and_update();
            self.gather(&mut lines);
            if !lines.is_empty() {
                return Some(Ok(lines.into()));
            }
            match self.wake().await {
                Wake::Cut => {
                    self.over = true;
                    return Some(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                Wake::Change if self.delivery().order != Order::AsItHappened => {
                    tokio::time::sleep(GATHER).await;
                }
                Wake::Deadline | Wake::Bookmark if self.wanted.bookmarks && self.told < self.sent => {
                    self.told = self.sent;
                    bookmark(&self.wanted.kind, self.sent, false, &mut self.first);
                }
                Wake::Change | Wake::Bookmark => {}
                Wake::Deadline => self.over = true,
            }
        }
        None
    }

    async fn wake(&mut self) -> Wake {
        let faults = &mut self.faults;
        let cut = async {
            match faults {
                Some(faults) => faults.cut().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = cut => Wake::Cut,
            () = tokio::time::sleep_until(self.deadline) => Wake::Deadline,
            _ = self.changes.changed() => Wake::Change,
            _ = self.bookmark.tick() => Wake::Bookmark,
        }
    }

    fn delivery(&self) -> Delivery {
        self.faults.as_ref().map(FaultsSeen::delivery).unwrap_or_default()
    }

    /// Writes what happened since the last time, or why nothing more can be told.
    fn gather(&mut self, lines: &mut Vec<u8>) {
        let delivery = self.delivery();
        let (events, version) = {
            let store: &Store = &self.cluster.store.lock();
            (store.events(&self.wanted.kind, self.sent), store.version())
        };
        let events = match events {
            Ok(events) => events,
            Err(Ended::Gone) => {
                self.over = true;
                return;
            }
            Err(Ended::Forgotten(oldest)) => {
                self.over = true;
                let status = Refusal::expired(self.sent, oldest).to_json();
                lines.extend_from_slice(json!({ "type": "ERROR", "object": status }).to_string().as_bytes());
                return lines.push(b'\n');
            }
        };
        self.sent = self.sent.max(version);
        let mut told: Vec<_> = events.iter().filter_map(|event| self.seen(event)).collect();
        reorder(&mut told, delivery.order);
        for (word, object) in told {
            for _ in 0..=usize::from(delivery.twice) {
                line(word, &object, &self.wanted.kind, lines);
            }
        }
    }

    /// What an event is to one who sees only what the selector selects.
    fn seen(&self, event: &Event) -> Option<(&'static str, Arc<Object>)> {
        let selector = &self.wanted.selector;
        let is = !event.deleted && selector.matches(&event.object.value);
        let previous = event.previous.as_ref().filter(|previous| selector.matches(&previous.value));
        match (is, previous) {
            (true, None) => Some(("ADDED", event.object.clone())),
            (true, Some(_)) => Some(("MODIFIED", event.object.clone())),
            (false, Some(_)) if event.deleted => Some(("DELETED", event.object.clone())),
            // It left the selection: it is shown as it was in it.
            (false, Some(previous)) => {
                Some(("DELETED", Arc::new(Object::new(previous.value.clone(), event.object.version))))
            }
            (false, None) => None,
        }
    }
}

/// Moves deletions to the front or to the end, as far as the order of each object's own events allows.
fn reorder(told: &mut [(&'static str, Arc<Object>)], order: Order) {
    let mut swapped = order != Order::AsItHappened;
    while swapped {
        swapped = false;
        for at in 1..told.len() {
            let (left, right) = (told[at - 1].0 == "DELETED", told[at].0 == "DELETED");
            let wrong = if order == Order::DeletionsFirst { right && !left } else { left && !right };
            if wrong && told[at - 1].1.key() != told[at].1.key() {
                told.swap(at - 1, at);
                swapped = true;
            }
        }
    }
}

fn line(word: &str, object: &Object, kind: &Kind, into: &mut Vec<u8>) {
    into.extend_from_slice(format!(r#"{{"type":"{word}","object":"#).as_bytes());
    object.write(kind, into);
    into.extend_from_slice(b"}\n");
}

fn bookmark(kind: &Kind, version: u64, initial_end: bool, into: &mut Vec<u8>) {
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if initial_end {
        metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
    }
    let object = json!({ "kind": kind.name, "apiVersion": kind.api_version(), "metadata": metadata });
    into.extend_from_slice(json!({ "type": "BOOKMARK", "object": object }).to_string().as_bytes());
    into.push(b'\n');
}
