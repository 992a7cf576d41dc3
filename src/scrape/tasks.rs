//! One task per endpoint, following the list of endpoints.
//!
//! Entry points: [`EndpointTasks::reconcile`] and [`EndpointTasks::restart_panicked`]. Dropping it stops all tasks.
//! What a task does is the caller's.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use epp_framework::endpoint::{Endpoint, EndpointId};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

/// Wait before a task that panicked is started anew; doubles up to the longest.
const RESTART_DELAY: Duration = Duration::from_secs(1);
const LONGEST_RESTART_DELAY: Duration = Duration::from_secs(30);
/// A task that ran this long panics for a new reason.
const SETTLED: Duration = Duration::from_secs(60);

/// The tasks, by endpoint.
pub(super) struct EndpointTasks<S> {
    start: S,
    tasks: JoinSet<Infallible>,
    running: HashMap<EndpointId, Running>,
}

struct Running {
    endpoint: Arc<Endpoint>,
    task: AbortHandle,
    since: Instant,
    /// Panics one shortly after the other.
    panics: u32,
}

impl<S, F> EndpointTasks<S>
where
    S: Fn(Arc<Endpoint>) -> F,
    F: Future<Output = Infallible> + Send + 'static,
{
    /// Makes tasks of what `start` returns; none runs yet.
    pub(super) fn new(start: S) -> Self {
        Self { start, tasks: JoinSet::new(), running: HashMap::new() }
    }

    /// Stops the tasks of endpoints that left, and starts those of endpoints that are new.
    pub(super) fn reconcile(&mut self, endpoints: &[Arc<Endpoint>]) {
        let wanted: HashMap<_, _> = endpoints.iter().map(|endpoint| (endpoint.id, endpoint)).collect();
        self.running.retain(|id, running| {
            let stays = wanted.get(id).is_some_and(|endpoint| Arc::ptr_eq(endpoint, &running.endpoint));
            if !stays {
                running.task.abort();
            }
            stays
        });
        for (id, endpoint) in wanted {
            if !self.running.contains_key(&id) {
                let task = self.tasks.spawn((self.start)(Arc::clone(endpoint)));
                let endpoint = Arc::clone(endpoint);
                self.running.insert(id, Running { endpoint, task, since: Instant::now(), panics: 0 });
            }
        }
    }

    /// Waits until a task panicked, starts it anew after a delay, and names its endpoint. Cancel-safe.
    pub(super) async fn restart_panicked(&mut self) -> Arc<Endpoint> {
        loop {
            let ended = match self.tasks.join_next().await {
                Some(Err(ended)) => ended,
                Some(Ok(never)) => match never {},
                None => pending().await,
            };
            let Some(running) = self.running.values_mut().find(|running| running.task.id() == ended.id())
            else {
                continue;
            };
            running.panics =
                if running.since.elapsed() > SETTLED { 1 } else { running.panics.saturating_add(1) };
            let delay =
                RESTART_DELAY.saturating_mul(1 << (running.panics - 1).min(8)).min(LONGEST_RESTART_DELAY);
            let work = (self.start)(Arc::clone(&running.endpoint));
            running.since = Instant::now() + delay;
            running.task = self.tasks.spawn(async move {
                sleep(delay).await;
                work.await
            });
            return Arc::clone(&running.endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::scrape::tests::endpoint;

    /// Tells of its start and, by being dropped, of its end.
    struct Told(mpsc::UnboundedSender<(u32, &'static str)>, u32);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send((self.1, "end")).ok();
        }
    }

    /// The next event; `None` if there is none for an hour.
    async fn next(events: &mut mpsc::UnboundedReceiver<(u32, &'static str)>) -> Option<(u32, &'static str)> {
        timeout(Duration::from_secs(3600), events.recv()).await.ok()?
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_follow_the_list_of_endpoints() {
        let (told, mut events) = mpsc::unbounded_channel();
        let mut tasks = EndpointTasks::new(|endpoint: Arc<Endpoint>| {
            let told = Told(told.clone(), endpoint.id.slot);
            async move {
                told.0.send((told.1, "start")).ok();
                pending().await
            }
        });
        let [a, b] = [1, 2].map(|slot| endpoint(slot, "127.0.0.1:1".parse().unwrap()));
        tasks.reconcile(from_ref(&a));
        assert_eq!(next(&mut events).await, Some((1, "start")));
        tasks.reconcile(&[a.clone(), b.clone()]);
        assert_eq!(next(&mut events).await, Some((2, "start")));
        tasks.reconcile(from_ref(&b));
        assert_eq!(next(&mut events).await, Some((1, "end")));
        let waited = timeout(Duration::from_secs(3600), tasks.restart_panicked()).await;
        assert!(waited.is_err(), "a stopped task is not started anew");
        assert!(events.try_recv().is_err(), "an endpoint that stays keeps its task");
        drop(tasks);
        assert_eq!(next(&mut events).await, Some((2, "end")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_anew_ever_later() {
        let starts = Arc::new(AtomicU32::new(0));
        let counted = starts.clone();
        let mut tasks = EndpointTasks::new(move |_| {
            let starts = counted.clone();
            async move {
                starts.fetch_add(1, Relaxed);
                panic!("on purpose")
            }
        });
        let endpoint = endpoint(1, "127.0.0.1:1".parse().unwrap());
        tasks.reconcile(from_ref(&endpoint));
        let began = Instant::now();
        for (nth, seconds) in [0, 1, 3, 7, 15, 31, 61, 91].into_iter().enumerate() {
            assert!(Arc::ptr_eq(&tasks.restart_panicked().await, &endpoint));
            assert_eq!(starts.load(Relaxed), u32::try_from(nth).unwrap() + 1);
            assert_eq!(began.elapsed().as_secs(), seconds);
        }
        tasks.reconcile(&[]);
        assert!(timeout(Duration::from_secs(3600), tasks.restart_panicked()).await.is_err());
    }
}
