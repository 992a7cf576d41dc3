//! The door of the ext_proc service: [`Gate`] hands each call to the pool that it is for.
//!
//! A look into a table per stream; messages never pass here.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::server::NamedService;

use super::PickerServer;
use crate::pools::Pools;

/// The service of the pools. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    pools: Arc<Pools>,
    /// The pool that all calls are for, whatever they say.
    only: Option<Arc<str>>,
}

impl Gate {
    /// The gate of these pools.
    pub fn new(pools: Arc<Pools>) -> Self {
        Self { pools, only: None }
    }

    /// The gate of the pool `namespace/name` alone, on a port of its own.
    pub fn of_pool(pools: Arc<Pools>, full_name: &str) -> Self {
        Self { pools, only: Some(full_name.into()) }
    }
}

impl NamedService for Gate {
    const NAME: &'static str = <PickerServer as NamedService>::NAME;
}

impl<B> Service<http::Request<B>> for Gate
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let picker = match &self.only {
            Some(full_name) => self.pools.picker_of(full_name),
            None => self.pools.picker(request.uri()),
        };
        let Some(mut picker) = picker else {
            let status = Status::not_found(self.pools.unknown(request.uri()));
            return Box::pin(ready(Ok(status.into_http())));
        };
        picker.call(request)
    }
}
