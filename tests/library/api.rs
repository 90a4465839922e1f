//! What the public types promise beyond their methods: that they go to other threads, are debuggable, and that errors are
//! errors (the API guidelines' C-SEND-SYNC, C-DEBUG, C-GOOD-ERR, C-COMMON-TRAITS).

use std::error::Error;
use std::fmt::Debug;
use std::hash::Hash;
use std::panic::{RefUnwindSafe, UnwindSafe};

use trust::config::{EngineConfig, ParseSteerError, Steer};
use trust::device::memory::{MemoryDevice, MemoryOptions, MemoryPort};
use trust::device::{AddressError, DeviceError, HostAddress, TunDevice, TunOptions};
use trust::engine::{Engine, EngineError, Handle, Pin, Plan, PlanError, PlanKind};
use trust::flow::{Endpoint, Quad, ShardId};
use trust::net::{EventQueue, Incoming, SocketEvent, SocketLimits, Stack, TcpListener, TcpSocket, TcpStream};
use trust::services::{ParseServiceError, ServiceName, ServiceSpec};
use trust::shard::{ConnectError, Counters, Limits, ListenError, PrefixError};
use trust::tcp::cookie::{ParseSynCookiesError, SynCookies};
use trust::{embed, engine, tcp};

fn shared<T: Send + Sync + Debug>() {}
fn sent<T: Send + Debug>() {}
fn value<T: Send + Sync + Debug + Clone + Eq>() {}
fn copied<T: Send + Sync + Debug + Copy + PartialEq>() {}
fn key<T: Send + Sync + Debug + Copy + Eq + Hash>() {}
fn error<T: Error + Send + Sync + 'static>() {}
fn caught<T: UnwindSafe + RefUnwindSafe>() {}

/// Compiled is passed: the functions ask for what they say and do nothing.
#[test]
fn public_types_keep_their_promises() {
    // Sockets, as std's: between threads, and shared by them.
    shared::<TcpListener>();
    shared::<TcpStream>();
    shared::<TcpSocket>();
    shared::<Incoming<'_>>();
    shared::<Stack>();
    shared::<EventQueue>();
    shared::<Engine>();
    shared::<Handle>();
    shared::<TunDevice>();
    shared::<EngineConfig>();
    shared::<TunOptions>();
    sent::<engine::Builder>();
    sent::<embed::Builder>();
    // One thread at a time.
    sent::<embed::Host>();
    sent::<MemoryDevice>();
    sent::<MemoryPort>();
    sent::<MemoryOptions>();

    value::<Pin>();
    value::<PlanKind>();
    value::<Plan>();
    value::<Steer>();
    value::<SocketLimits>();
    value::<Limits>();
    value::<SocketEvent>();
    copied::<tcp::Config>();
    key::<Endpoint>();
    key::<Quad>();
    key::<ShardId>();
    key::<HostAddress>();
    key::<ServiceName>();
    key::<ServiceSpec>();

    error::<engine::BuildError>();
    error::<embed::BuildError>();
    error::<EngineError>();
    error::<PlanError>();
    error::<DeviceError>();
    error::<PrefixError>();
    error::<AddressError>();
    error::<ConnectError>();
    error::<ListenError>();
    error::<tcp::ConfigError>();
    error::<ParseServiceError>();
    error::<ParseSteerError>();
    error::<ParseSynCookiesError>();
    error::<engine::ParsePinError>();
    error::<engine::ParsePlanError>();

    // As std's: a panic of one thread takes no socket of another with it.
    caught::<TcpStream>();
    caught::<TcpListener>();
}

/// What is shown of an engine, and of what it counts, is what one would ask for.
#[test]
fn debug_is_no_dump() -> std::io::Result<()> {
    let (here, _there) = trust::device::memory::pair(&MemoryOptions::default())?;
    let address = std::net::IpAddr::from([10, 0, 0, 1]);
    let builder = Engine::builder().device(here, 1).address(address).plan(PlanKind::Fused).workers(1).pin(Pin::None);
    assert_eq!(format!("{builder:?}"), "Builder { addresses: [10.0.0.1], plan: Fused, .. }");
    let mut engine = builder.start()?;
    let running = "Engine { addresses: [10.0.0.1], plan: Fused, workers: 1, queues: 1, steering: \"one queue\", ";
    assert_eq!(format!("{engine:?}"), format!("{running}running: true, .. }}"));
    assert_eq!(format!("{:?}", engine.handle()), "Handle { shards: 1 }");
    engine.stop()?;
    assert_eq!(format!("{engine:?}"), format!("{running}running: false, .. }}"));
    assert_eq!(format!("{:?}", Counters::default()), "Counters");
    Ok(())
}

#[cfg(feature = "tokio")]
#[test]
fn streams_of_tokio_go_to_any_task() {
    use trust::net::tokio;
    shared::<tokio::TcpStream>();
    shared::<tokio::TcpListener>();
    shared::<tokio::OwnedReadHalf>();
    shared::<tokio::OwnedWriteHalf>();
    shared::<tokio::ReadHalf<'_>>();
    shared::<tokio::WriteHalf<'_>>();
    error::<tokio::ReuniteError>();
    fn unpinned<T: Unpin>() {}
    unpinned::<tokio::TcpStream>();
    // And so do what waits for them.
    fn goes<T: Send>(_: T) {}
    let _waits = |stream: &tokio::TcpStream, listener: &tokio::TcpListener, interest| {
        goes(stream.ready(interest));
        goes(stream.async_io(interest, || stream.try_read(&mut [0])));
        goes(stream.closed());
        goes(listener.accept());
    };
}

/// Caught: a reader's closure panics. Nothing is taken, and the stream goes on.
#[test]
fn a_panic_while_reading_takes_nothing() -> std::io::Result<()> {
    use std::io::{Read, Write};
    let (here, there) = trust::device::memory::pair(&MemoryOptions::default())?;
    let start = |device, address: &str| {
        let address = address.parse::<std::net::IpAddr>().expect("an address");
        Engine::builder().device(device, 1).address(address).pin(Pin::None).start()
    };
    let (server, client) = (start(here, "10.0.0.1")?, start(there, "10.0.0.2")?);
    let listener = server.bind("10.0.0.1:7")?;
    let mut near = client.connect("10.0.0.1:7")?;
    let (far, _) = listener.accept()?;
    near.write_all(b"octets")?;
    let caught = std::panic::catch_unwind(|| far.read_with(|_| panic!("a reader that is not well")));
    assert!(caught.is_err());
    let mut got = [0; 6];
    (&far).read_exact(&mut got)?;
    assert_eq!(&got, b"octets");
    Ok(())
}

/// What tells of an error begins in lower case where it is no name, ends without a full stop, and has one line. The same
/// is printed where a program's `main` returns the error, or unwraps it: there it is `Debug` that is asked.
#[test]
fn errors_tell_themselves_in_one_line() {
    let errors: Vec<Box<dyn Error>> = vec![
        Box::new("sometimes".parse::<SynCookies>().map(drop).expect_err("no use of cookies")),
        Box::new("sideways".parse::<Steer>().map(drop).expect_err("no steering")),
        Box::new("x".parse::<Pin>().map(drop).expect_err("no CPU")),
        Box::new("x".parse::<PlanKind>().map(drop).expect_err("no plan")),
        Box::new("x".parse::<ServiceSpec>().map(drop).expect_err("no service")),
        Box::new("x".parse::<HostAddress>().map(drop).expect_err("no address")),
        Box::new(PlanError::NoWorkers),
        Box::new(engine::BuildError::from(DeviceError::NodeAccess)),
        Box::new(EngineError::Queues { device: 1, plan: 2 }),
        Box::new(embed::Host::builder().build(tcp::Instant::ZERO).map(drop).expect_err("no address")),
        Box::new(ListenError::NoPort),
        Box::new(ConnectError::NoRoute),
        Box::new(PrefixError(33)),
        Box::new("x".parse::<tcp::CongestionControl>().map(drop).expect_err("no algorithm")),
    ];
    for error in errors {
        let text = error.to_string();
        assert_eq!(format!("{error:?}"), text);
        assert!(!text.is_empty() && !text.ends_with('.') && !text.contains('\n'), "{text:?}");
    }
}
