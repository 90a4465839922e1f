//! [`ServiceFactory`]: a service, to be made once for each shard.

use crate::shard::Service;

/// A service and where it listens: made once for each shard.
pub struct ServiceFactory {
    /// `None`: for connections that the engine opens.
    pub port: Option<u16>,
    /// Makes the instance of one shard.
    pub make: Box<dyn Fn() -> Box<dyn Service> + Send>,
}

impl ServiceFactory {
    /// A service that listens on `port`; `make` makes the instance of each shard.
    #[must_use]
    pub fn new(port: u16, make: impl Fn() -> Box<dyn Service> + Send + 'static) -> Self {
        Self { port: Some(port), make: Box::new(make) }
    }
}

impl std::fmt::Debug for ServiceFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceFactory").field("port", &self.port).finish_non_exhaustive()
    }
}
