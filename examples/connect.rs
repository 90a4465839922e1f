//! A client on a TCP engine of its own, with options set before it connects. The server is `std::net`, on the kernel's side
//! of the TUN device.
//!
//! ```text
//! cargo run --example connect        # in a namespace of its own: no root where user namespaces are allowed
//! ```

use std::io::{self, Read, Write};
use std::time::Duration;
use std::{net, thread};

use trust::engine::Engine;
use trust::net::TcpSocket;

fn main() -> io::Result<()> {
    // A device `trust0`: 10.7.0.1 is the kernel's end, 10.7.0.2 ours. The engine stops when it is dropped.
    let engine = Engine::builder().start()?;
    let kernel = net::TcpListener::bind("10.7.0.1:0")?;
    let address = kernel.local_addr()?;
    let server = thread::spawn(move || -> io::Result<()> {
        let (mut stream, from) = kernel.accept()?;
        stream.write_all(format!("good day, {from}").as_bytes())
    });

    let mut socket = TcpSocket::new(&engine.stack());
    // The first SYN and two more: seven seconds for a host that does not answer.
    socket.options_mut().syn_retries = Some(2);
    let mut stream = socket.connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting)?;
    println!("{address} says {greeting:?}");
    assert_eq!(greeting, format!("good day, {}", stream.local_addr()?));

    // A port on which nobody listens.
    drop(stream);
    server.join().map_err(|_| io::Error::other("the server panicked"))??;
    let refused = engine.connect(address).map(drop);
    println!("and then: {refused:?}");
    assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionRefused));
    Ok(())
}
