//! An echo server on a TCP engine of its own. The client is `std::net`, on the kernel's side of the TUN device.
//!
//! ```text
//! cargo run --example serve          # in a namespace of its own: no root where user namespaces are allowed
//! ```

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::{net, thread};

use trust::engine::Engine;

fn main() -> io::Result<()> {
    // A device `trust0`: 10.7.0.1 is the kernel's end, 10.7.0.2 ours. The engine stops when it is dropped.
    let engine = Engine::builder().start()?;
    let listener = engine.bind("10.7.0.2:7000")?;
    let client = thread::spawn(client);
    let (mut stream, from) = listener.accept()?;
    println!("{from} has connected");
    let mut buffer = [0; 4_096];
    loop {
        let got = stream.read(&mut buffer)?;
        if got == 0 {
            break;
        }
        println!("{from} says {:?}", String::from_utf8_lossy(&buffer[..got]));
        stream.write_all(&buffer[..got])?;
    }
    stream.shutdown(Shutdown::Write)?;
    let echoed = client.join().map_err(|_| io::Error::other("the client panicked"))??;
    assert_eq!(echoed, "hello");
    Ok(())
}

/// Says hello, and returns what comes back.
fn client() -> io::Result<String> {
    let mut stream = net::TcpStream::connect("10.7.0.2:7000")?;
    stream.write_all(b"hello")?;
    stream.shutdown(Shutdown::Write)?;
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed)?;
    Ok(echoed)
}
