//! Puts this replica up for election, if the flag asks for it: [`stand`], then [`campaign`]. The lease is that of the
//! first pool, whatever their number.

use anyhow::Context;
use prometheus::Registry;
use tokio::sync::watch;

use crate::args::ServeArgs;
use crate::args::pool_flag::PoolFlag;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::health::Readiness;
use crate::leader::{Candidate, lease_name};
use crate::runtime::Tasks;

/// What the kernel calls this machine; in a pod, its name.
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Makes the candidate; nothing is asked of the API yet. Fails without a Kubernetes API to ask.
pub(super) async fn stand(
    args: &ServeArgs,
    cluster: &mut Cluster,
    registry: &Registry,
    clock: Clock,
) -> anyhow::Result<Option<Candidate>> {
    if !args.cluster.ha_enable_leader_election {
        return Ok(None);
    }
    let client = cluster.client().await.context(
        "--ha-enable-leader-election needs a Kubernetes API that keeps the lease; without one leave it out: every replica \
         serves",
    )?;
    let served = args.served();
    let PoolFlag { namespace, name, .. } = served.first().context("an election needs a pool")?;
    let lease = [namespace.clone(), lease_name(namespace, name)];
    Ok(Some(Candidate::new(client, lease, identity(), clock, registry)?))
}

/// Lets the candidate run until the drain, and health tell what comes of it. Who does not know the pool yet could only
/// keep others from serving it, so it waits.
pub(super) fn campaign(
    candidate: Option<Candidate>,
    readiness: Readiness,
    mut synced: watch::Receiver<bool>,
    draining: watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> Readiness {
    let Some(candidate) = candidate else { return readiness };
    let readiness = readiness.elected(candidate.leading());
    tasks.spawn(async move {
        // An error means that the server itself is gone.
        let _ = synced.wait_for(|&synced| synced).await;
        candidate.run(draining).await;
        ("leader election", Ok(()))
    });
    readiness
}

/// A name that no other process has, nor this one when it is started again; it tells people where the leader is.
fn identity() -> String {
    let host = std::fs::read_to_string(HOSTNAME_FILE).or_else(|_| std::env::var("HOSTNAME"));
    let host = host.unwrap_or_default();
    let unique = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    format!("{}_{unique}", host.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_candidates_have_one_name() {
        let [one, other] = [identity(), identity()];
        assert_ne!(one, other);
        let (host, unique) = one.rsplit_once('_').unwrap();
        assert!(!host.is_empty() && !host.contains(char::is_whitespace), "{host:?}");
        assert_eq!(unique.len(), 36, "{unique}");
    }
}
