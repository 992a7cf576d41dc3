//! gRPC health: SERVING while the pool is known and the process is not draining.
//!
//! [`Readiness`] answers on its own plaintext port; as in v1.0.1 without leader election, every service name gets the
//! same answer (the seeds probe `inference-extension`). On the port of the ext_proc service it answers for the names
//! that are there, whatever the pool. `Watch` streams end with the listeners, so that no watcher holds up an exit.

pub mod wire;

use std::collections::HashMap;
use std::pin::Pin;

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use self::service::health_server::{Health, HealthServer};
use self::wire::{HealthListRequest, HealthListResponse};

/// The service as `build.rs` describes it.
mod service {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    tonic::include_proto!("grpc.health.v1.Health");
}

/// Name of the service that a gateway calls.
pub const EXT_PROC: &str = "envoy.service.ext_proc.v3.ExternalProcessor";

/// The health service: a function of watched values.
#[derive(Clone)]
pub struct Readiness {
    /// Names with a status; `None` gives every name the same.
    known: Option<&'static [&'static str]>,
    synced: watch::Receiver<bool>,
    draining: watch::Receiver<bool>,
    stop: watch::Receiver<bool>,
}

impl Readiness {
    /// Makes the service of a pool and a process; once `stop` is true, watchers are sent away.
    pub fn new(
        synced: watch::Receiver<bool>,
        draining: watch::Receiver<bool>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { known: None, synced, draining, stop }
    }

    /// Makes the service for the port of ext_proc: whoever reaches it is served, also without a pool.
    pub fn beside_ext_proc(draining: watch::Receiver<bool>, stop: watch::Receiver<bool>) -> Self {
        let always = watch::Sender::new(true).subscribe();
        Self { known: Some(&["", EXT_PROC]), synced: always, draining, stop }
    }

    /// Wraps it for a tonic server.
    pub fn into_server(self) -> HealthServer<Self> {
        HealthServer::new(self)
    }

    fn knows(&self, service: &str) -> bool {
        self.known.is_none_or(|known| known.contains(&service))
    }

    fn status(&self) -> ServingStatus {
        if *self.synced.borrow() && !*self.draining.borrow() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }

    /// Waits until the status is another than `told`; `None` when there will be none.
    async fn status_other_than(&mut self, told: Option<ServingStatus>) -> Option<ServingStatus> {
        loop {
            // Seen before it is read: a change in between is seen by the next wait.
            self.synced.mark_unchanged();
            self.draining.mark_unchanged();
            let status = self.status();
            if Some(status) != told {
                return Some(status);
            }
            tokio::select! {
                Ok(()) = self.synced.changed() => {}
                Ok(()) = self.draining.changed() => {}
                _ = self.stop.wait_for(|&stop| stop) => return None,
            }
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for Readiness {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if self.knows(&request.get_ref().service) {
            Ok(Response::new(response(self.status())))
        } else {
            Err(Status::not_found("unknown service"))
        }
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let names = self.known.unwrap_or(&[EXT_PROC]).iter();
        let statuses: HashMap<_, _> = names.map(|&name| (name.to_owned(), response(self.status()))).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = self.knows(&request.get_ref().service);
        let watcher = (self.clone(), None);
        let statuses = stream::unfold(watcher, move |(mut health, told)| async move {
            let status = if known {
                health.status_other_than(told).await?
            } else if told.is_none() {
                ServingStatus::ServiceUnknown
            } else {
                // No name becomes known later.
                health.stop.wait_for(|&stop| stop).await.ok();
                return None;
            };
            Some((Ok(response(status)), (health, Some(status))))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    const SERVING: i32 = ServingStatus::Serving as i32;
    const NOT_SERVING: i32 = ServingStatus::NotServing as i32;

    /// The service, and what it watches: synced, draining, stop.
    fn health(beside_ext_proc: bool) -> (Readiness, [watch::Sender<bool>; 3]) {
        let senders = [false; 3].map(watch::Sender::new);
        let [synced, draining, stop] = [0, 1, 2].map(|at| senders[at].subscribe());
        let health = if beside_ext_proc {
            Readiness::beside_ext_proc(draining, stop)
        } else {
            Readiness::new(synced, draining, stop)
        };
        (health, senders)
    }

    fn of(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    async fn check(health: &Readiness, service: &str) -> Result<i32, tonic::Code> {
        health.check(of(service)).await.map(|answer| answer.get_ref().status).map_err(|status| status.code())
    }

    async fn list(health: &Readiness) -> Vec<(String, i32)> {
        let listed = health.list(Request::new(HealthListRequest {})).await.unwrap().into_inner();
        let mut listed: Vec<_> = listed.statuses.into_iter().map(|(name, of)| (name, of.status)).collect();
        listed.sort();
        listed
    }

    const NAMES: [&str; 6] = ["", "liveness", "readiness", "inference-extension", EXT_PROC, "unknown"];

    #[tokio::test]
    async fn row_144_without_leader_election_every_name_answers_alike() {
        for (synced, draining, want) in [
            (false, false, NOT_SERVING),
            (true, false, SERVING),
            (true, true, NOT_SERVING),
            (false, true, NOT_SERVING),
        ] {
            let (health, senders) = health(false);
            senders[0].send_replace(synced);
            senders[1].send_replace(draining);
            for name in NAMES {
                assert_eq!(check(&health, name).await, Ok(want), "{name:?} {synced} {draining}");
            }
            assert_eq!(list(&health).await, [(EXT_PROC.to_owned(), want)], "{synced} {draining}");
        }
    }

    #[tokio::test]
    async fn beside_ext_proc_its_name_and_the_empty_one_serve_until_the_drain() {
        for (synced, draining, want) in
            [(false, false, SERVING), (true, false, SERVING), (true, true, NOT_SERVING)]
        {
            let (health, senders) = health(true);
            senders[0].send_replace(synced);
            senders[1].send_replace(draining);
            for name in NAMES {
                let want = if ["", EXT_PROC].contains(&name) { Ok(want) } else { Err(tonic::Code::NotFound) };
                assert_eq!(check(&health, name).await, want, "{name:?} {synced} {draining}");
            }
            let both = [String::new(), EXT_PROC.to_owned()].map(|name| (name, want));
            assert_eq!(list(&health).await, both, "{synced} {draining}");
        }
    }

    #[tokio::test]
    async fn watchers_are_told_at_once_then_of_changes_and_are_sent_away_at_the_end() {
        let (health, [synced, draining, stop]) = health(false);
        let mut watched = health.watch(of("any")).await.unwrap().into_inner();
        let mut next = || watched.next().now_or_never().map(|next| next.map(|answer| answer.unwrap().status));
        assert_eq!(next(), Some(Some(NOT_SERVING)));
        assert_eq!(next(), None);
        synced.send_replace(true);
        assert_eq!(next(), Some(Some(SERVING)));
        synced.send_replace(false);
        synced.send_replace(true);
        assert_eq!(next(), None, "it is as it was");
        draining.send_replace(true);
        assert_eq!(next(), Some(Some(NOT_SERVING)));
        synced.send_replace(false);
        assert_eq!(next(), None, "nothing changed for the watcher");
        stop.send_replace(true);
        assert_eq!(next(), Some(None));
    }

    #[tokio::test]
    async fn watchers_of_an_unknown_name_are_told_so_and_wait() {
        let (health, [_synced, draining, stop]) = health(true);
        let mut watched = health.watch(of("unknown")).await.unwrap().into_inner();
        let mut next = || watched.next().now_or_never().map(|next| next.map(|answer| answer.unwrap().status));
        assert_eq!(next(), Some(Some(ServingStatus::ServiceUnknown as i32)));
        draining.send_replace(true);
        assert_eq!(next(), None);
        stop.send_replace(true);
        assert_eq!(next(), Some(None));
    }
}
