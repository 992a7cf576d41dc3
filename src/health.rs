//! gRPC health: SERVING while the pool is known and the process is not draining, and leads if there is an election.
//!
//! [`Readiness`] answers on its own plaintext port; as in v1.0.1 without leader election, every service name gets the
//! same answer. With it, `liveness` is always SERVING, so that nobody restarts a follower, and only some names are known;
//! other than v1.0.1, [`SEEDS`] is one of them. On the port of the ext_proc service it answers for the names that are
//! there, whatever the pool. Where there are several pools, `namespace/name` is the health of one of them, and every other
//! name that of all. `Watch` streams end with the listeners, so that no watcher holds up an exit.

pub mod wire;

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;

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

/// What a replica is asked for that may have to be started anew.
pub const LIVENESS: &str = "liveness";

/// What a replica is asked for that may get requests.
pub const READINESS: &str = "readiness";

/// What the probes of the usual manifests ask for, both of them.
pub const SEEDS: &str = "inference-extension";

/// Which names have a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// All, and the same.
    All,
    /// Those of an election.
    Elected,
    /// Those on the port of ext_proc.
    BesideExtProc,
}

impl Names {
    fn knows(self, service: &str) -> bool {
        match self {
            Self::All => true,
            Self::Elected => ["", EXT_PROC, LIVENESS, READINESS, SEEDS].contains(&service),
            Self::BesideExtProc => self.listed().contains(&service),
        }
    }

    fn listed(self) -> &'static [&'static str] {
        match self {
            Self::All => &[EXT_PROC],
            Self::Elected => &[EXT_PROC, LIVENESS, READINESS],
            Self::BesideExtProc => &["", EXT_PROC],
        }
    }
}

/// The health service: a function of watched values.
#[derive(Clone)]
pub struct Readiness {
    names: Names,
    synced: watch::Receiver<bool>,
    /// Whether each of several pools is known, by `namespace/name`.
    pools: Option<watch::Receiver<Arc<BTreeMap<String, bool>>>>,
    leading: watch::Receiver<bool>,
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
        Self { names: Names::All, synced, pools: None, leading: always(), draining, stop }
    }

    /// Makes the service for the port of ext_proc: whoever reaches it is served, also without a pool.
    pub fn beside_ext_proc(draining: watch::Receiver<bool>, stop: watch::Receiver<bool>) -> Self {
        let (synced, leading) = (always(), always());
        Self { names: Names::BesideExtProc, synced, pools: None, leading, draining, stop }
    }

    /// Tells of each of several pools, too, if there are several.
    #[must_use]
    pub fn of_each(self, pools: Option<watch::Receiver<Arc<BTreeMap<String, bool>>>>) -> Self {
        Self { pools, ..self }
    }

    /// Makes it that of one candidate of an election.
    #[must_use]
    pub fn elected(self, leading: watch::Receiver<bool>) -> Self {
        Self { names: Names::Elected, leading, ..self }
    }

    /// Wraps it for a tonic server.
    pub fn into_server(self) -> HealthServer<Self> {
        HealthServer::new(self)
    }

    fn status(&self, service: &str) -> ServingStatus {
        // No other name that is asked for has a slash.
        let pool = self.pools.as_ref().filter(|_| service.contains('/'));
        let pool = pool.map(|pools| pools.borrow().get(service).copied());
        let synced = pool.flatten().unwrap_or_else(|| *self.synced.borrow());
        let ready = || synced && *self.leading.borrow() && !*self.draining.borrow();
        let is_known = pool.map_or_else(|| self.names.knows(service), |pool| pool.is_some());
        if !is_known {
            ServingStatus::ServiceUnknown
        } else if (self.names == Names::Elected && service == LIVENESS) || ready() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }

    /// Waits until the status is another than `told`; `None` when there will be none.
    async fn status_other_than(
        &mut self,
        service: &str,
        told: Option<ServingStatus>,
    ) -> Option<ServingStatus> {
        loop {
            // Seen before it is read: a change in between is seen by the next wait.
            self.synced.mark_unchanged();
            self.leading.mark_unchanged();
            self.draining.mark_unchanged();
            if let Some(pools) = &mut self.pools {
                pools.mark_unchanged();
            }
            let status = self.status(service);
            if Some(status) != told {
                return Some(status);
            }
            let pools = async {
                match &mut self.pools {
                    Some(pools) => pools.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = pools => {}
                Ok(()) = self.synced.changed() => {}
                Ok(()) = self.leading.changed() => {}
                Ok(()) = self.draining.changed() => {}
                _ = self.stop.wait_for(|&stop| stop) => return None,
            }
        }
    }
}

/// True, and never anything else.
fn always() -> watch::Receiver<bool> {
    watch::Sender::new(true).subscribe()
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
        let status = self.status(&request.get_ref().service);
        // With an election, an unknown name is no error: as in v1.0.1.
        if status == ServingStatus::ServiceUnknown && self.names != Names::Elected {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(response(status)))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let pools = self.pools.as_ref().map(|pools| pools.borrow().clone()).unwrap_or_default();
        let names = self.names.listed().iter().copied().chain(pools.keys().map(String::as_str));
        let statuses: HashMap<_, _> =
            names.map(|name| (name.to_owned(), response(self.status(name)))).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watcher = (self.clone(), request.into_inner().service, None);
        // An unknown name is told to be that, once; only that of a pool may become known later.
        let statuses = stream::unfold(watcher, |(mut health, service, told)| async move {
            let status = health.status_other_than(&service, told).await?;
            Some((Ok(response(status)), (health, service, Some(status))))
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

    /// The service, and what it watches: synced, draining, stop, leading.
    fn health(names: Names) -> (Readiness, [watch::Sender<bool>; 4]) {
        let senders = [false; 4].map(watch::Sender::new);
        let [synced, draining, stop, leading] = [0, 1, 2, 3].map(|at| senders[at].subscribe());
        let health = match names {
            Names::All => Readiness::new(synced, draining, stop),
            Names::Elected => Readiness::new(synced, draining, stop).elected(leading),
            Names::BesideExtProc => Readiness::beside_ext_proc(draining, stop),
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
            let (health, senders) = health(Names::All);
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
            let (health, senders) = health(Names::BesideExtProc);
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
        let (health, [synced, draining, stop, _leading]) = health(Names::All);
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
    async fn row_144_with_leader_election_liveness_always_serves_and_readiness_takes_the_lease() {
        for (synced, leading, draining, ready) in [
            (false, false, false, NOT_SERVING),
            (true, false, false, NOT_SERVING),
            (false, true, false, NOT_SERVING),
            (true, true, false, SERVING),
            (true, true, true, NOT_SERVING),
            (false, false, true, NOT_SERVING),
        ] {
            let (health, senders) = health(Names::Elected);
            senders[0].send_replace(synced);
            senders[1].send_replace(draining);
            senders[3].send_replace(leading);
            for (name, want) in [
                ("liveness", SERVING),
                ("readiness", ready),
                ("", ready),
                (EXT_PROC, ready),
                // Other than there, lest the usual probes fail everywhere.
                ("inference-extension", ready),
                ("unknown", ServingStatus::ServiceUnknown as i32),
                ("Readiness", ServingStatus::ServiceUnknown as i32),
            ] {
                assert_eq!(check(&health, name).await, Ok(want), "{name:?} {synced} {leading} {draining}");
            }
            let want = [(EXT_PROC, ready), ("liveness", SERVING), ("readiness", ready)];
            assert_eq!(list(&health).await, want.map(|(name, status)| (name.to_owned(), status)));
        }
    }

    #[tokio::test]
    async fn each_of_several_pools_is_told_by_its_name() {
        let (health, [synced, draining, _stop, _leading]) = health(Names::All);
        let each = |states: &[(&str, bool)]| {
            Arc::new(
                states.iter().map(|&(name, synced)| (name.to_owned(), synced)).collect::<BTreeMap<_, _>>(),
            )
        };
        let pools = watch::Sender::new(each(&[("d/a", true), ("d/b", false)]));
        let health = health.of_each(Some(pools.subscribe()));
        let checked = async || {
            let mut found = Vec::new();
            for name in ["", "inference-extension", "d/a", "d/b", "d/c"] {
                found.push(check(&health, name).await);
            }
            found
        };
        let unknown = Err(tonic::Code::NotFound);
        let want = [NOT_SERVING, NOT_SERVING, SERVING, NOT_SERVING].map(Ok);
        assert_eq!(checked().await, [&want[..], &[unknown]].concat());
        let mut watched = health.watch(of("d/b")).await.unwrap().into_inner();
        let mut next = || watched.next().now_or_never().map(|next| next.map(|answer| answer.unwrap().status));
        assert_eq!((next(), next()), (Some(Some(NOT_SERVING)), None));
        pools.send_replace(each(&[("d/a", true), ("d/b", true)]));
        synced.send_replace(true);
        assert_eq!((next(), next()), (Some(Some(SERVING)), None));
        assert_eq!(checked().await, [&[Ok(SERVING); 4][..], &[unknown]].concat());
        let listed = [(EXT_PROC, SERVING), ("d/a", SERVING), ("d/b", SERVING)];
        let listed = listed.map(|(name, status)| (name.to_owned(), status));
        assert_eq!(list(&health).await, [&listed[1..], &listed[..1]].concat());
        pools.send_replace(each(&[("d/a", true)]));
        assert_eq!(next(), Some(Some(ServingStatus::ServiceUnknown as i32)), "it was removed");
        draining.send_replace(true);
        assert_eq!(check(&health, "d/a").await, Ok(NOT_SERVING));
    }

    #[tokio::test]
    async fn watchers_are_told_who_leads() {
        let (health, [synced, draining, stop, leading]) = health(Names::Elected);
        synced.send_replace(true);
        let mut ready = health.watch(of("readiness")).await.unwrap().into_inner();
        let mut alive = health.watch(of("liveness")).await.unwrap().into_inner();
        let mut next = || {
            [&mut ready, &mut alive].map(|watched| {
                watched.next().now_or_never().map(|next| next.map(|answer| answer.unwrap().status))
            })
        };
        assert_eq!(next(), [Some(Some(NOT_SERVING)), Some(Some(SERVING))]);
        leading.send_replace(true);
        assert_eq!(next(), [Some(Some(SERVING)), None]);
        leading.send_replace(false);
        assert_eq!(next(), [Some(Some(NOT_SERVING)), None]);
        leading.send_replace(true);
        draining.send_replace(true);
        assert_eq!(next(), [None, None], "it is as it was");
        stop.send_replace(true);
        assert_eq!(next(), [Some(None), Some(None)]);
    }

    #[tokio::test]
    async fn watchers_of_an_unknown_name_are_told_so_and_wait() {
        for names in [Names::Elected, Names::BesideExtProc] {
            watch_an_unknown_name(names).await;
        }
    }

    async fn watch_an_unknown_name(names: Names) {
        let (health, [_synced, draining, stop, _leading]) = health(names);
        let mut watched = health.watch(of("unknown")).await.unwrap().into_inner();
        let mut next = || watched.next().now_or_never().map(|next| next.map(|answer| answer.unwrap().status));
        assert_eq!(next(), Some(Some(ServingStatus::ServiceUnknown as i32)));
        draining.send_replace(true);
        assert_eq!(next(), None);
        stop.send_replace(true);
        assert_eq!(next(), Some(None));
    }
}
