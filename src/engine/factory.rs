//! [`ServiceFactory`]: a service, to be made once for each shard.

use crate::shard::Service;

/// A service and where it listens: made once for each shard.
///
/// ```
/// use std::io::Read;
///
/// use trust::device::memory::{MemoryOptions, pair};
/// use trust::engine::{Engine, Pin, ServiceFactory};
/// use trust::shard::{ConnId, Io, Service};
///
/// struct Greeting;
///
/// impl Service for Greeting {
///     fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
///         io.send_static(conn, b"good day");
///         io.close(conn);
///     }
///
///     fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
///         io.consume(conn, io.unread(conn));
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// # let (here, there) = pair(&MemoryOptions::default())?;
/// let greeting = ServiceFactory::new(13, || Box::new(Greeting));
/// let builder = Engine::builder().device(here, 1).address([10, 0, 0, 2].into()).pin(Pin::None);
/// let _server = builder.service(greeting).start()?;
/// # let client = Engine::builder().device(there, 1).address([10, 0, 0, 1].into()).pin(Pin::None).start()?;
/// let mut text = String::new();
/// client.connect("10.0.0.2:13")?.read_to_string(&mut text)?;
/// assert_eq!(text, "good day");
/// # Ok(())
/// # }
/// ```
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
